"""The answers to declared equivalences for the terminal: one block of cells for each, and what follows from it."""

import pyarrow as pa

from analysis.output.deltas_text import identity_text, interval_text, pairs_text, signed_text
from analysis.output.grid import grid
from analysis.paired.equivalence import NOTE, Answer, answers

_IDENTITY = ("dataset", "blocks", "images", "epoch", "other_choices")
NONE = "No recorded study declares an equivalence.\n"


def equivalences_text(table: pa.Table, width: int) -> str:
    """Format the table of ``analysis.equivalences`` for a terminal of ``width`` characters; 100 suffice."""
    blocks = [_block(answer, width) for answer in answers(table)]
    return "\n".join([*blocks, f"{NOTE}\n"]) if blocks else NONE


def _block(answer: Answer, width: int) -> str:
    cells = answer.cells
    varying = [name for name in _IDENTITY if name == "dataset" or len({cell[name] for cell in cells}) > 1]
    columns = {name.replace("_", " "): [identity_text(name, cell[name]) for cell in cells] for name in varying}
    columns |= {
        "pairs": [pairs_text(cell) for cell in cells],
        "change": [signed_text(cell["mean_change"]) for cell in cells],
        "95 % interval": [interval_text(cell["ci_low"], cell["ci_high"]) for cell in cells],
        "excludes 0": [cell["excludes"] or "-" for cell in cells],
        "verdict": [cell["verdict"] for cell in cells],
    }
    title = f"Equivalence declared by {answer.study}: {answer.equivalence}"
    right = set(columns) - {"dataset", "other choices", "verdict", "excludes 0"}
    return grid(columns, right, width, title) + f"{answer.conclusion}\n"
