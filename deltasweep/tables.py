"""Tables of results, and the two that results roots are asked for: deltas and answers to SQL."""

import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from deltasweep import html
from deltasweep.roots import Root, root_of
from jobs.errors import Code, InvalidRequest

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from analysis.output.layout import Layout

_LEAST_WIDTH = 100
"""In characters; suffices for deltas."""


class Table:
    """An Arrow table with the units of its columns, which notebooks and terminals show readably.

    It is an Arrow stream, too: polars, DuckDB and pyarrow read it without a copy, as in ``polars.DataFrame(t)``.
    ``Table(arrow)`` shows any Arrow table in the same way, such as those of the package ``analysis``.

    As in pandas, ``len(t)`` is the number of rows, while ``t["name"]``, ``"name" in t`` and ``for name in t`` are about
    columns. ``t.arrow.to_pylist()`` is a list of rows.
    """

    def __init__(self, arrow: "pa.Table") -> None:
        self._arrow = arrow

    @property
    def arrow(self) -> "pa.Table":
        """The table itself (``pyarrow.Table``)."""
        return self._arrow

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [*map(str, self.arrow.column_names)]

    @property
    def units(self) -> dict[str, str]:
        """The units by column, such as ``percentage points``; columns without a unit are left out."""
        from analysis.sql.units import units

        return units(self.arrow.schema)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the table as a pandas frame."""
        frame: pd.DataFrame = self.arrow.to_pandas()
        return frame

    def to_polars(self) -> "pl.DataFrame":
        """Return the table as a polars frame.

        Raises:
            InvalidRequest: if polars, which DeltaSweep does not depend on, is not installed.
        """
        try:
            import polars as pl
        except ModuleNotFoundError as error:
            raise InvalidRequest(
                Code.UNUSABLE_PACKAGE,
                "expected the package polars for to_polars(); it is not installed. Fix: pip install polars, or use "
                "to_pandas()",
                key="polars",
            ) from error
        return pl.DataFrame(self.arrow)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.arrow.num_rows)

    def __iter__(self) -> Iterator[str]:
        """Return an iterator over the names of the columns, as of a frame of pandas."""
        return iter(self.columns)

    def __contains__(self, column: object) -> bool:
        """Return whether there is a column of this name."""
        return column in self.columns

    def __getitem__(self, column: str) -> "pa.ChunkedArray":
        """Return a column by its name (``pyarrow.ChunkedArray``).

        Raises:
            InvalidRequest: if there is none of this name.
        """
        if column not in self.columns:
            raise InvalidRequest(
                Code.UNKNOWN_NAME, f"unknown column {column!r}; known: {', '.join(self.columns)}", key=str(column)
            )
        return self.arrow[column]

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return the table as a stream of the Arrow C interface."""
        return self.arrow.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        from analysis.output import formats

        width = max(_LEAST_WIDTH, shutil.get_terminal_size().columns)
        return formats.laid_out([layout.within(width) for layout in self._layouts()], width).rstrip("\n")

    def _repr_html_(self) -> str:
        shown = [
            part
            for layout in self._layouts()
            for part in (
                *([html.paragraph(layout.title)] if layout.title else []),
                *([html.table(layout.columns, layout.right, layout.units)] if layout.columns else []),
                *map(html.remark, layout.notes),
            )
        ]
        size = (
            f"{len(self):,} rows, {len(self.columns)} columns; .to_pandas() and .to_polars() have every row and digit"
        )
        return html.block(*shown, html.remark(size))

    def _layouts(self) -> "list[Layout]":
        from analysis.output import formats

        return formats.layouts(self.arrow, html.MOST_ROWS)


def deltas(
    results: Root = None,
    baseline: str | None = None,
    study: str | None = None,
    *,
    source: str | Sequence[str] | None = None,
    dataset: str | Sequence[str] | None = None,
    blocks: int | Sequence[int] | None = None,
    images: int | Sequence[int] | None = None,
    epoch: int | str | None = None,
) -> Table:
    """Return accuracy deltas with confidence intervals, one row per cell, as ``deltasweep deltas`` does.

    Deltas and bounds are in percentage points. Holm's correction covers all cells of the contrasts that a study
    declares, whatever is selected here.

    Args:
        results: a results root; by default ``$DELTASWEEP_RESULTS``.
        baseline: a source; by default the baselines of the study's contrasts.
        study: only cells and contrasts of this study.
        source, dataset, blocks, images: only these; -1 means all blocks, or the whole training set.
        epoch: a number, ``last`` or ``all``; by default the last epoch and the epochs of declared contrasts.

    Raises:
        InvalidRequest: if the root does not exist or has no finished trial, a name is unknown, or no baseline follows
            from the data.
        ResultsConflict: if trials contradict each other.
    """
    import analysis

    table = analysis.deltas(
        root_of(results),
        baseline,
        study,
        epoch=epoch,
        source=source,
        dataset=dataset,
        blocks=blocks,
        images=images,
    )
    return Table(table)


def query(results: Root = None, sql: str | None = None, *, timeout: float | None = None) -> Table:
    """Return the answer to one SQL query over the results, as ``deltasweep query`` does.

    Columns that the query passes on keep their units.

    Args:
        results: a results root; by default ``$DELTASWEEP_RESULTS``, as in ``query(sql="SELECT ...")``.
        sql: one SELECT statement over the views ``trials``, ``evaluations``, ``failures`` and those of other kinds.
        timeout: time limit in seconds; by default there is none.

    Raises:
        InvalidRequest: if the root does not exist, the SQL is invalid or does more than read, or the time is over.
        StorageFailure: if the query needs more than half of this machine's memory.
    """
    import analysis

    if sql is None:
        raise InvalidRequest(
            Code.MISSING_KEY,
            "expected query(results, sql), or query(sql=...) with the root in $DELTASWEEP_RESULTS; got no sql. Fix: "
            "add it",
            key="sql",
        )
    return Table(analysis.query(root_of(results), sql, timeout=timeout))
