"""The deltas table for readers: values that vary are columns, values shared by all rows are in the title."""

from collections.abc import Sequence

import pyarrow as pa

from analysis.output.layout import Layout
from analysis.paired.pairing import DEPTH
from analysis.paired.schema import confidence_of, notes
from analysis.paired.unpaired import without_partner
from analysis.words import counted

_IDENTITY = (
    "source",
    "baseline",
    "dataset",
    "blocks",
    DEPTH,
    "images",
    "epoch",
    "epochs",
    "recipe",
    "numerics",
    "origin",
)
_EMPTY = "-"


def deltas_layout(table: pa.Table) -> Layout:
    """Lay out the table of ``analysis.deltas``; 100 characters suffice.

    Cells without a pair are left out and counted below the table; ``--format csv`` gives every row and digit.
    """
    rows = [row for row in table.to_pylist() if row["n_pairs"] > 0]
    identity = [name for name in _IDENTITY if name != DEPTH or any(row[DEPTH] != row["blocks"] for row in rows)]
    varying = [name for name in identity if len({row[name] for row in rows}) > 1]
    if all(row["epoch"] == row["epochs"] for row in rows):
        varying = [name for name in varying if name != "epochs"]
    named = [name for name in identity if name not in ("epochs", "numerics", *varying)]
    fixed = [f"{name} {identity_text(name, rows[0][name])}" for name in named if rows]
    columns = {name: [identity_text(name, row[name]) for row in rows] for name in varying}
    columns["pairs"] = [pairs_text(row) for row in rows]
    columns["delta"] = [signed_text(row["mean_delta"]) for row in rows]
    columns[f"{100 * confidence_of(table.schema):g} % interval"] = [
        interval_text(row["ci_low"], row["ci_high"]) for row in rows
    ]
    columns["simultaneous"] = [interval_text(row["ci_low_simultaneous"], row["ci_high_simultaneous"]) for row in rows]
    columns["p (Holm)"] = [p_text(row["p_holm"]) for row in rows]
    right = set(columns) - {"source", "baseline", "dataset", "recipe", "origin"}
    title = f"Deltas of test accuracy in percentage points; {', '.join(fixed)}" if fixed else None
    return Layout(columns, frozenset(right), title, (*_notes(table.to_pylist()), *notes(table.schema)))


def p_text(p: float | None) -> str:
    if p is None or p != p:
        return _EMPTY
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def identity_text(name: str, value: object) -> str:
    return "all" if name in ("images", "blocks", DEPTH) and value == -1 else str(value)


def pairs_text(row: dict[str, int]) -> str:
    """Format the number of pairs, followed in brackets by the number of unpaired trials, if any."""
    return f"{row['n_pairs']}" + (f" (+{row['n_unpaired']})" if row["n_unpaired"] else "")


def signed_text(value: float | None) -> str:
    return _EMPTY if value is None or value != value else f"{value:+.2f}"


def interval_text(low: float | None, high: float | None) -> str:
    if low is None or high is None or low != low:
        return _EMPTY
    return f"[{low:+.2f}, {high:+.2f}]"


def _notes(rows: Sequence[dict[str, object]]) -> list[str]:
    notes_below = []
    for method in sorted({str(row["method"]) for row in rows if row["n_pairs"]}):
        notes_below.append(f"{counted(sum(row['method'] == method for row in rows), 'row')}: {method}")
    if partly := sum(bool(row["n_pairs"] and row["n_unpaired"]) for row in rows):
        notes_below.append(f"(+n): {without_partner(partly)}")
    outside = sum(row["p_value"] is not None and row["p_holm"] is None for row in rows)
    if outside:
        notes_below.append(
            f"p (Holm) is left out for {counted(outside, 'cell')} outside the contrasts that studies declare in their "
            "newest versions"
        )
    if alone := sum(not row["n_pairs"] for row in rows):
        left_out = "is left out; --format csv lists it" if alone == 1 else "are left out; --format csv lists them"
        notes_below.append(f"{counted(alone, 'cell')} without a pair {left_out}")
    return notes_below
