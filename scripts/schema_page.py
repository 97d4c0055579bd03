"""Write docs/schema.md: every column of every kind of results, from the schema itself.

    python -m scripts.schema_page

A test holds that the page is what this writes.
"""

from pathlib import Path

import pyarrow as pa

from jobs.results.schema import Column, columns, kinds, numbering, releases, version, view
from jobs.specs import numerics_of

PAGE = Path(__file__).parents[1] / "docs" / "schema.md"
ROLES = {
    "identity": "follows from the spec",
    "number": "follows from running the spec: equal in every run on one kind of device",
    "measured": "differs from run to run: time, place, versions",
}
_HEAD = """\
# The results at rest

<!-- Written by `python -m scripts.schema_page` from jobs/results/schema.py; change it there. -->

A results root is plain files: no server, no lock-in. A finished trial is one Parquet file,
`trials/KIND/XX/TRIAL_ID.parquet`, with a row for each evaluation (or test image, or ball) and the trial's own columns
repeated. `XX` are the first two digits of the hash at the end of its id. The file's metadata say `deltasweep_kind`,
`deltasweep_schema` (the version of the kind's schema) and, from 0.2.0 on, `deltasweep_version` (who wrote it); each
field's metadata say its role, unit and description.

Everything under `compact/` is an index that may be deleted; `checkpoints/` saves time and no result; `_tmp/` is
nobody's. What else lies in a root is in [architecture](architecture.md).

A release may add columns. DeltaSweep reads files of every version: in older ones, later columns are null, or what the
table below says. It refuses newer ones by the name of their release.

| role | what it says of the trial |
| --- | --- |
"""
_READ = """
## Reading a root without DeltaSweep

Each of these gives the mean accuracy of each source, over the last epoch of its trials. Files of several versions
differ in columns: ask for their union. Trials of several `numerics` are not to be averaged or paired with each other,
nor are imported ones (`origin`) with own ones; `deltasweep deltas` sees to it.

DuckDB:

```python
import duckdb

files = "demo-results/trials/finetune/*/*.parquet"
found = duckdb.sql(f\"\"\"
    SELECT source, avg(test_accuracy) AS accuracy FROM read_parquet('{files}', union_by_name = true)
    WHERE epoch = epochs AND origin = 'run' GROUP BY source ORDER BY source
\"\"\").fetchall()
```

polars:

```python
import polars as pl

files = pl.scan_parquet("demo-results/trials/finetune/*/*.parquet", missing_columns="insert", extra_columns="ignore")
last = files.filter(pl.col("epoch") == pl.col("epochs"), pl.col("origin") == "run")
found = last.group_by("source").agg(accuracy=pl.col("test_accuracy").mean()).sort("source").collect().rows()
```

pandas:

```python
from pathlib import Path

import pandas as pd

files = sorted(Path("demo-results/trials/finetune").glob("*/*.parquet"))
rows = pd.concat([pd.read_parquet(file) for file in files])
last = rows[(rows["epoch"] == rows["epochs"]) & (rows["origin"] == "run")]
found = list(last.groupby("source")["test_accuracy"].mean().items())
```
"""


def page() -> str:
    """The whole page."""
    roles = "\n".join(f"| {role} | {meaning} |" for role, meaning in ROLES.items())
    return f"{_HEAD}{roles}\n{_READ}{''.join(map(_section, kinds()))}"


def _section(kind: str) -> str:
    written = ", ".join(f"{number} ({release})" for number, release in sorted(releases(kind).items()))
    lines = [
        f"\n## {kind}: view `{view(kind)}`\n",
        f"One row for each `{numbering(kind)}` of a trial. Today's version of the schema: {version(kind)}; read are "
        f"{written}. Today's numerics: {numerics_of(kind)}.\n",
        "| column | type | unit | role | null | since | meaning |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *map(_line, columns(kind)),
    ]
    return "\n".join(lines) + "\n"


def _line(column: Column) -> str:
    cells = (
        f"`{column.name}`",
        _type(column.type),
        column.unit,
        column.role.value,
        "may be" if column.nullable else "",
        column.since + _before(column),
        column.description,
    )
    return "| " + " | ".join(cells) + " |"


def _before(column: Column) -> str:
    """What the rows of older files have."""
    if column.fill is None:
        return ""
    where = f" where {' is '.join(column.fill_where)}" if column.fill_where else ""
    return f" (before: {column.fill}{where})"


def _type(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
