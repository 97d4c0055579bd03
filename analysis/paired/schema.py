"""The columns of the tables of deltas and of equivalences, with their units."""

import json
from collections.abc import Sequence

import pyarrow as pa

from analysis.statistics.grouped import CONFIDENCE

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
"""The columns of ``deltas`` (docs/explanation/statistics.md). Rows are unique in the columns before ``n_pairs``.

``blocks`` are the source's fine-tuned blocks; ``baseline_blocks`` differ only where a study declared a comparison
of two depths of one source. ``epochs`` is the length of the trials; ``numerics`` is 0 for imported ones.
"""


EQUIVALENCES = pa.schema(
    [
        pa.field("study", _TEXT),
        pa.field("equivalence", _TEXT),
        pa.field("source", _TEXT),
        pa.field("baseline", _TEXT),
        pa.field("dataset", _TEXT),
        pa.field("blocks", _INT, metadata={"unit": "blocks"}),
        pa.field("images", _INT, metadata={"unit": "images"}),
        pa.field("epoch", _INT, metadata={"unit": "epochs"}),
        pa.field("epochs", _INT, metadata={"unit": "epochs"}),
        pa.field("recipe", _TEXT),
        pa.field("against", _TEXT),
        pa.field("other_choices", _TEXT),
        pa.field("numerics", _INT),
        pa.field("n_pairs", _INT, metadata={"unit": "pairs of deltas"}),
        pa.field("n_unpaired", _INT, metadata={"unit": "seeds"}),
        pa.field("mean_change", _FLOAT, metadata=_POINTS),
        pa.field("ci_low", _FLOAT, metadata=_POINTS),
        pa.field("ci_high", _FLOAT, metadata=_POINTS),
        pa.field("within", _FLOAT, metadata=_POINTS),
        pa.field("excludes_zero", pa.bool_()),
        pa.field("verdict", _TEXT),
        pa.field("method", _TEXT),
    ],
    metadata={"deltasweep_table": "equivalences"},
)
"""The columns of ``equivalences`` (docs/explanation/statistics.md). Rows are unique in the columns before ``n_pairs``.

``equivalence`` describes what the study declared; its rows are answered together. ``recipe`` and ``against`` are
digests; ``other_choices`` describes the choices in which the study's recipes differ besides the declared ones.
``n_unpaired`` counts the seeds with trials in some, but not all, of the four arms. ``within`` is the declared margin.
``ci_low``, ``ci_high`` and ``excludes_zero`` are null below two pairs.
"""


def is_table(schema: pa.Schema, name: str) -> bool:
    """Whether a table was returned by the function ``name`` of ``analysis`` and has a layout for the terminal."""
    return (schema.metadata or {}).get(b"deltasweep_table") == name.encode()


def with_confidence(table: pa.Table, confidence: float) -> pa.Table:
    """Return the table with the confidence of its intervals in the metadata of its schema."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), b"deltasweep_confidence": str(confidence)})


def confidence_of(schema: pa.Schema) -> float:
    """Return the confidence that ``with_confidence`` stored."""
    return float((schema.metadata or {}).get(b"deltasweep_confidence", CONFIDENCE))


def with_notes(table: pa.Table, notes: Sequence[str]) -> pa.Table:
    """Return the table with notes about it in the metadata of its schema."""
    if not notes:
        return table
    return table.replace_schema_metadata(
        {**(table.schema.metadata or {}), b"deltasweep_notes": json.dumps(list(notes))}
    )


def notes(schema: pa.Schema) -> list[str]:
    """Return the notes that ``with_notes`` stored."""
    return [str(note) for note in json.loads((schema.metadata or {}).get(b"deltasweep_notes", b"[]"))]
