"""The answers to declared equivalences for readers: one block of cells for each, and what follows from it."""

import pyarrow as pa

from analysis.output.deltas_text import identity_text, interval_text, pairs_text, signed_text
from analysis.output.layout import Layout
from analysis.paired.equivalence import NOTE, Answer, answers
from analysis.paired.schema import notes

_IDENTITY = ("dataset", "blocks", "images", "epoch", "other_choices")
NONE = "No recorded study declares an equivalence."


def equivalences_layouts(table: pa.Table) -> list[Layout]:
    """Lay out the table of ``analysis.equivalences``, a block for each answer; 100 characters suffice."""
    blocks = [_block(answer) for answer in answers(table)]
    return [*blocks, Layout({}, frozenset(), notes=(*notes(table.schema), NOTE if blocks else NONE))]


def _block(answer: Answer) -> Layout:
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
    return Layout(columns, frozenset(right), title, (answer.conclusion, *answer.methods))
