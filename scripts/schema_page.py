"""Write docs/reference/schema.md: every column of every kind of results, from the schema itself.

    python -m scripts.schema_page

A test checks that the page is current.
"""

from pathlib import Path

import pyarrow as pa

from jobs.kind import kinds
from jobs.results.schema import (
    columns,
    numbering,
    releases,
    version,
    view,
)
from jobs.specs.columns import Column

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "schema.md"
ROLES = {
    "identity": "follows from the spec",
    "number": "follows from running the spec: equal in every run on one kind of device",
    "measured": "differs from run to run: time, place, versions",
}
_HEAD = """\
# Results columns

<!-- Written by `python -m scripts.schema_page` from the kinds' columns.py; change them there. -->

A results root consists of plain files: no server, no lock-in. A finished trial is one Parquet file,
`trials/KIND/XX/TRIAL_ID.parquet`, with a row for each evaluation (or test image, or ball) and the trial's own columns
repeated. `XX` are the first two digits of the hash at the end of its id. The file's metadata contain `deltasweep_kind`,
`deltasweep_schema` (the version of the kind's schema) and, from 0.2.0 on, `deltasweep_version` (the writer's); each
field's metadata contain its role, unit and description.

Everything under `compact/` is an index that may be deleted; `checkpoints/` saves time and contains no result; `_tmp/`
is ignored. The other files of a root are described in [the results root](../explanation/results-root.md).

A release may add columns. DeltaSweep reads files of every version: in older ones, later columns are null, or have the
value that the table below gives. A file of a newer version is an error, which names the version that wrote it.

| role | meaning for the trial |
| --- | --- |
"""
NEVER_AVERAGED = {
    "source": "the networks that are compared",
    "blocks": "how much of the network is fine-tuned",
    "epochs": "the length of the trials",
    "recipe": "how they are trained",
    "numerics": "the version of the code's numbers; null for imported trials, which this keeps apart",
}
"""The columns in which trials must agree for a mean over them to mean anything, besides dataset and size."""

_AVERAGED = """
## What is never averaged

A root may have trials of several studies. A mean over trials is one of equal settings only if these columns are
grouped by, or fixed in `WHERE`, besides `dataset` and `images`; in pairs they are equal. `deltasweep deltas` takes care
of this.

"""
_READ = """
## Reading a root without DeltaSweep

Each of these computes the mean accuracy of each source, dataset and size at the last epoch of its trials. Files of
several versions differ in columns: read their union.

DuckDB:

```python
import duckdb

files = "demo-results/trials/finetune/*/*.parquet"
found = duckdb.sql(f\"\"\"
    SELECT source, dataset, blocks, images, epochs, recipe, numerics, avg(test_accuracy) AS accuracy
    FROM read_parquet('{files}', union_by_name = true)
    WHERE epoch = epochs AND origin = 'run' GROUP BY ALL ORDER BY ALL
\"\"\").fetchall()
```

polars:

```python
import polars as pl

files = pl.scan_parquet("demo-results/trials/finetune/*/*.parquet", missing_columns="insert", extra_columns="ignore")
last = files.filter(pl.col("epoch") == pl.col("epochs"), pl.col("origin") == "run")
cell = ["source", "dataset", "blocks", "images", "epochs", "recipe", "numerics"]
found = last.group_by(cell).agg(accuracy=pl.col("test_accuracy").mean()).sort(cell).collect().rows()
```

pandas:

```python
from pathlib import Path

import pandas as pd

files = sorted(Path("demo-results/trials/finetune").glob("*/*.parquet"))
rows = pd.concat([pd.read_parquet(file) for file in files])
last = rows[(rows["epoch"] == rows["epochs"]) & (rows["origin"] == "run")]
cell = ["source", "dataset", "blocks", "images", "epochs", "recipe", "numerics"]
found = list(last.groupby(cell, as_index=False)["test_accuracy"].mean().itertuples(index=False, name=None))
```
"""


def page() -> str:
    """Return the whole page."""
    roles = "\n".join(f"| {role} | {meaning} |" for role, meaning in ROLES.items())
    apart = "\n".join(f"- `{name}`: {why}" for name, why in NEVER_AVERAGED.items())
    return f"{_HEAD}{roles}\n{_AVERAGED}{apart}\n{_READ}{''.join(map(_section, kinds()))}"


def _section(kind: str) -> str:
    written = ", ".join(f"{number} ({release})" for number, release in sorted(releases(kind).items()))
    lines = [
        f"\n## {kind}: view `{view(kind)}`\n",
        f"One row for each `{numbering(kind)}` of a trial. Version of the schema: {version(kind)}; readable versions: "
        f"{written}. Numerics: {kinds()[kind].spec.numerics_version}.\n",
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
    """Describe the value of a column in rows of older files."""
    if column.fill is None:
        return ""
    where = f" where {' is '.join(column.fill_where)}" if column.fill_where else ""
    return f" (before: {column.fill}{where})"


def _type(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
