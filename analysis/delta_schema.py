"""The columns of the deltas table (design, section 5), with units where they have one."""

import json
from collections.abc import Sequence

import pyarrow as pa

_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()
_POINTS = {"unit": "percentage points"}

DELTAS = pa.schema(
    [
        pa.field("source", _TEXT),
        pa.field("baseline", _TEXT),
        pa.field("dataset", _TEXT),
        pa.field("blocks", _INT, metadata={"unit": "blocks"}),
        pa.field("baseline_blocks", _INT, metadata={"unit": "blocks"}),
        pa.field("images", _INT, metadata={"unit": "images"}),
        pa.field("epoch", _INT, metadata={"unit": "epochs"}),
        pa.field("epochs", _INT, metadata={"unit": "epochs"}),
        pa.field("recipe", _TEXT),
        pa.field("numerics", _INT),
        pa.field("origin", _TEXT),
        pa.field("n_pairs", _INT, metadata={"unit": "pairs"}),
        pa.field("n_unpaired", _INT, metadata={"unit": "trials"}),
        pa.field("mean_delta", _FLOAT, metadata=_POINTS),
        pa.field("ci_low", _FLOAT, metadata=_POINTS),
        pa.field("ci_high", _FLOAT, metadata=_POINTS),
        pa.field("ci_low_simultaneous", _FLOAT, metadata=_POINTS),
        pa.field("ci_high_simultaneous", _FLOAT, metadata=_POINTS),
        pa.field("p_value", _FLOAT),
        pa.field("p_holm", _FLOAT),
        pa.field("method", _TEXT),
    ],
    metadata={"deltasweep_table": "deltas"},
)
"""The columns of ``deltas`` (design, section 5): no two rows agree in all of those before ``n_pairs``.

``blocks`` are the source's fine-tuned blocks; ``baseline_blocks`` are others only where a study declared a comparison
of two depths of one source. ``epochs`` is the length of the trials, ``numerics`` 0 for imported ones.
"""


def is_deltas(schema: pa.Schema) -> bool:
    """Whether a table came out of ``analysis.deltas``: the terminal then shows it its own way."""
    return (schema.metadata or {}).get(b"deltasweep_table") == b"deltas"


def with_notes(table: pa.Table, notes: Sequence[str]) -> pa.Table:
    """The table with sentences about it in the metadata of its schema."""
    if not notes:
        return table
    return table.replace_schema_metadata(
        {**(table.schema.metadata or {}), b"deltasweep_notes": json.dumps(list(notes))}
    )


def notes(schema: pa.Schema) -> list[str]:
    """What ``with_notes`` kept."""
    return [str(note) for note in json.loads((schema.metadata or {}).get(b"deltasweep_notes", b"[]"))]
