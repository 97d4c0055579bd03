"""``deltasweep models describe``: the card of a network."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Column, Table

from jobs.errors import Code, InvalidRequest
from jobs.specs.base import NAME_PATTERN
from orchestrator.cli.output import err, notes

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
    _tell(f"Image size: {image_size} x {image_size} pixels ({why})")
    return describe(name, builder, image_size, code, _tell)


def _tell(line: str) -> None:
    """Print a line on standard error, since standard output is the card."""
    if not notes.quiet:
        err.print(line)


def _without_folder(builder: str) -> tuple[str, str | None]:
    """Return the builder as in a card, and the text of its file if it is in one.

    Raises:
        InvalidRequest: if it is a path without a function, or there is no such file.
    """
    from jobs.catalog.builder_files import file_and_function, read_builders

    path, _, function = builder.rpartition(":")
    if not path.endswith(".py"):
        if builder.endswith(".py"):
            raise InvalidRequest(
                Code.UNKNOWN_NAME,
                f"expected a builder FILE.py:FUNCTION; got {builder!r}. Fix: add the function that builds the network, "
                "such as my_net.py:build",
                key="builder",
            )
        return builder, None
    file = Path(path)
    texts = read_builders([file])
    if file_and_function(f"{file.name}:{function}") is None:
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"expected the name of a function after {file.name}:; got {function!r}. Fix: correct it",
            key="builder",
        )
    return f"{file.name}:{function}", texts[file.name]


def default_name(builder: str) -> str:
    """Return the name of an architecture by its builder: ``my_net.build`` for ``my_net.py:build``."""
    package, _, name = builder.partition(":")
    return f"{package.removesuffix('.py')}.{name}".lower().lstrip("._-")


_OF_CARDS = (b"builder", b"stem", b"blocks")
"""Keys of every card."""


def require_place(file: Path) -> None:
    """Require that a card can be written to a file: a new one in a folder that exists, or a card.

    Raises:
        InvalidRequest: if not.
    """
    from jobs.system.files import read_file

    with _explained(file):
        if not file.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        # at the beginning of a line: a study with a card in it is no card
        if file.exists() and not all(re.search(rb"^%b:" % key, read_file(file), re.MULTILINE) for key in _OF_CARDS):
            raise InvalidRequest(
                Code.WRONG_PLACE,
                f"expected a new file, or an architecture's card to replace; {file} is another file. Fix: choose "
                "another name",
                file=file,
                key="--out",
            )


def write_card(text: str, file: Path) -> None:
    """Write a card to a file, or replace the card in it; after an error the file is as before.

    Raises:
        InvalidRequest: if it cannot be written.
    """
    from jobs.system.files import write_files

    with _explained(file):
        write_files({file: text.encode()})


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
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
