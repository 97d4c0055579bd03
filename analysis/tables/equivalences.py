"""The answers to declared equivalences: one table for each, with a row per cell."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from analysis.paired.equivalence import NOTE, Answer, answers
from analysis.paired.schema import notes
from analysis.tables.model import Table, TableRow
from analysis.words import interval, signed
from jobs.specs.base import ALL

_NUMBERS = ("blocks", "images", "epoch", "pairs", "unpaired seeds", "change", "95 % interval")


def equivalence_tables(table: pa.Table) -> tuple[Table, ...]:
    """Return a table for each answer in ``analysis.equivalences``, whose notes state the conclusion."""
    remarks = notes(table.schema)
    return tuple(_table(number, answer, remarks) for number, answer in enumerate(answers(table), start=1))


def _table(number: int, answer: Answer, remarks: Sequence[str]) -> Table:
    others = any(cell["other_choices"] for cell in answer.cells)
    columns = ("dataset", *_NUMBERS[:3], *(["other choices"] if others else []), *_NUMBERS[3:], "excludes 0", "verdict")
    return Table(
        name=f"equivalence-{number}",
        title=f"Change of deltas (percentage points), declared by {answer.study}: {answer.equivalence}",
        columns=columns,
        rows=tuple(_row(cell, others) for cell in answer.cells),
        numbers=frozenset(_NUMBERS),
        notes=(answer.conclusion, *remarks, NOTE, *answer.methods),
    )


def _row(cell: dict[str, Any], others: bool) -> TableRow:
    return (
        cell["dataset"],
        *("all" if cell[name] == ALL else f"{cell[name]:,}" for name in ("blocks", "images", "epoch")),
        *([cell["other_choices"]] if others else []),
        str(cell["n_pairs"]),
        str(cell["n_unpaired"]),
        signed(cell["mean_change"]),
        interval(cell["ci_low"], cell["ci_high"]),
        cell["excludes"],
        cell["verdict"],
    )
