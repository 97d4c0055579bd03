"""``deltasweep models describe``: the card of a network."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Column, Table

from jobs.errors import Code, InvalidRequest
from jobs.specs.base import NAME_PATTERN
from orchestrator.cli.output import err

if TYPE_CHECKING:
    from jobs.catalog.architecture_card import Architecture


def describe_network(builder: str, image_size: int | None, name: str | None) -> "Architecture":
    """Return the card of a builder's network; progress is printed on standard error.

    Args:
        builder: as in a card, but a builder file has its folder.
        image_size: in pixels per side; None: the size that the network is made for.
        name: of the architecture; None: derived from the builder.

    Raises:
        InvalidRequest: if the builder or its file is unknown, or trials cannot use its network.
        MissingData: if the package that has the builder is not installed.
    """
    from jobs.networks.describe import describe
    from jobs.networks.image_sizes import image_size_of

    builder, code = _without_folder(builder)
    name = name or default_name(builder)
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise InvalidRequest(
            Code.WRONG_NAME,
            f"expected a name of lower-case letters, digits, '.', '_' and '-'; got {name!r}. Fix: choose another name "
            "with --as",
            key="--as",
        )
    why = "--image-size"
    if image_size is None:
        image_size, why = image_size_of(builder)
    err.print(f"Image size: {image_size} x {image_size} pixels ({why})")
    return describe(name, builder, image_size, code, err.print)


def _without_folder(builder: str) -> tuple[str, str | None]:
    """Return the builder as in a card, and the text of its file if it is in one."""
    from jobs.catalog.builder_files import file_and_function, read_builders

    path, colon, function = builder.rpartition(":")
    file = Path(path)
    if not colon or file_and_function(f"{file.name}:{function}") is None:
        return builder, None
    return f"{file.name}:{function}", read_builders([file])[file.name]


def default_name(builder: str) -> str:
    """Return the name of an architecture by its builder: ``my_net.build`` for ``my_net.py:build``."""
    package, _, name = builder.partition(":")
    return f"{package.removesuffix('.py')}.{name}".lower().lstrip("._-")


def write_card(text: str, file: Path) -> None:
    """Write a card to a file, or replace the card in it.

    Raises:
        InvalidRequest: if the file is not a card, or cannot be written.
    """
    from jobs.system.files import read_file

    try:
        if file.exists() and b"builder:" not in read_file(file):
            raise InvalidRequest(
                Code.WRONG_PLACE,
                f"expected a new file, or an architecture's card to replace; {file} is another file. Fix: choose "
                "another name",
                file=file,
                key="--out",
            )
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected a file that can be written; {file}: {error.strerror or error}. Fix: choose another path",
            file=file,
            key="--out",
        ) from error


def parts_table(architecture: "Architecture") -> Table:
    """Return the parts of a network with their costs; blocks are numbered from the end, as in ``blocks: k``."""
    table = Table(
        Column("blocks: k", justify="right"),
        "modules",
        Column("parameters", justify="right"),
        Column("MFLOPs", justify="right"),
        box=box.SIMPLE,
    )
    places = [(str(len(architecture.blocks) - i), block.modules, block) for i, block in enumerate(architecture.blocks)]
    rows = [
        ("", "stem", architecture.stem),
        *places,
        ("", "tail", architecture.tail),
        ("0", architecture.fc.modules, architecture.fc),
    ]
    for number, modules, part in rows:
        table.add_row(number, modules, f"{part.parameters:,}", f"{part.flops / 1e6:,.1f}")
    return table
