"""Write docs/reference/architectures.md: the packaged architectures, and which modules their blocks are.

python -m scripts.architectures_page
"""

import re
from pathlib import Path

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.catalog import PACKAGED
from jobs.catalog.costs import flops_evaluated_image, parameters

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "architectures.md"

_HEAD = """# Architectures

<!-- Written by `python -m scripts.architectures_page`. -->

The packaged architectures, as sources name them (`architecture: resnet18`). `blocks: k` fine-tunes the last k blocks,
what follows them (the tail), and the last layer; `blocks: 0` only the last layer, and `blocks: -1` the whole network.
What stands between two blocks, such as a layer that reduces the resolution, belongs to the later one.

Million parameters and billion FLOPs (two per multiply-add) are those of the network with 1,000 labels, for one image.
Names that begin with `timm.` need the extra `timm` (`pip install 'deltasweep[timm]'`).

| architecture | builder | image size | blocks | features | parameters (10⁶) | FLOPs (10⁹) |
| --- | --- | --- | --- | --- | --- | --- |
"""

_BLOCKS = """
## Blocks

From the first to the last, with the names that the library's own code gives its modules. Consecutive numbers are
written as a range.

| architecture | its blocks | last layer |
| --- | --- | --- |
"""


def page() -> str:
    """Return the page."""
    cards = list(PACKAGED.architectures.values())
    return _HEAD + "\n".join(map(_costs, cards)) + "\n" + _BLOCKS + "\n".join(map(_blocks, cards)) + "\n"


def _costs(card: Architecture) -> str:
    cells = (
        f"`{card.name}`",
        f"`{card.builder}`",
        str(card.image_size),
        str(len(card.blocks)),
        f"{card.features:,}",
        f"{parameters(card) / 1e6:.2f}",
        f"{flops_evaluated_image(card) / 1e9:.3g}",
    )
    return f"| {' | '.join(cells)} |"


def _blocks(card: Architecture) -> str:
    return f"| `{card.name}` | {', '.join(f'`{name}`' for name in _ranges(card.block_names))} | `{card.fc.modules}` |"


def _ranges(names: tuple[str, ...]) -> list[str]:
    """Join names that differ only in their last number, which counts up."""
    found: list[tuple[str, int, int]] = []
    for name in names:
        match = re.fullmatch(r"(.*?)(\d+)", name)
        assert match is not None, name
        stem, number = match[1], int(match[2])
        if found and found[-1][0] == stem and found[-1][2] + 1 == number:
            found[-1] = (stem, found[-1][1], number)
        else:
            found.append((stem, number, number))
    return [f"{stem}{first}" if first == last else f"{stem}{first} to {last}" for stem, first, last in found]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
