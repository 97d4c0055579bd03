"""Checks of a result's rows against its trial: the id, the spec, and the result's own counts. No torch."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from jobs.kind import Contradiction, ResultRow, kinds
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.provenance import UNKNOWN, parts_of
from jobs.results.launches import CLOCKS_DIFFER
from jobs.results.records import reason
from jobs.results.schema import columns, numbering, varying
from jobs.specs.base import ALL
from jobs.specs.canonical import canonical_json, digest
from jobs.specs.growth import is_later
from jobs.specs.threat_model import Constraint
from jobs.specs.trial import TrialSpec, recipe_digest

IMPORTED = "imported"
_OF_IMPORTED = ("source", "dataset", "images", "blocks", "seed", "epochs")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHORTENED = re.compile(r"fourier:.*\d{6}")
"""A Fourier band whose numbers may be rounded in the column, which has six digits."""


def imported_id(row: ResultRow) -> str:
    """Return the id of an imported trial, which differs from those of specs, because these begin with their kind."""
    identity = {name: row[name] for name in _OF_IMPORTED}
    name = "{dataset}-{source}-k{blocks}-n{images}-s{seed}".format(**identity)
    return f"{IMPORTED}-{name}-{digest({'origin': IMPORTED, **identity})[:16]}"


def contradictions(
    kind: str, trial_id: str, table: pa.Table, tuned: Mapping[str, FinetuneSpec]
) -> Iterator[Contradiction]:
    """Yield every contradiction in a result's rows.

    Args:
        table: the rows, ordered by number, with the columns of the current schema.
        tuned: the known fine-tuning trials by id, whose networks diagnostic trials examine.
    """
    yield from _inconstant(kind, table)
    for column in columns(kind):
        rule = _rule(column.name, column.unit)
        if rule is not None:
            yield from _broken(column.name, rule, table[column.name].to_pylist())
    rows = table.to_pylist()
    first = rows[0]
    if first["origin"] == IMPORTED:
        yield from _imported(trial_id, rows)
        return
    spec = None
    try:
        spec = spec_of(kind, first, tuned)
    except (ValidationError, ValueError, TypeError, OverflowError) as error:
        yield Contradiction(
            "recipe_json", f"the identity columns are not those of a valid trial: {reason(error)[:300]}"
        )
    else:
        yield from _identity(kind, trial_id, first, spec)
    for check in (_numbers, _counts, _times):
        yield from check(kind, rows)
    yield from kinds()[kind].contradictions(rows, spec)


def spec_of(kind: str, row: ResultRow, tuned: Mapping[str, FinetuneSpec]) -> TrialSpec | None:
    """Return the spec in a row's identity columns; None if it cannot be determined.

    It cannot be determined for a diagnostic trial whose fine-tuning trial is unknown, or if the recipe has fields that
    this version does not know because a newer one wrote it.

    Raises:
        ValueError: if the columns are not those of a valid spec.
    """
    spec = kinds()[kind].spec
    fields = spec.model_fields
    try:
        recipe = json.loads(row["recipe_json"])
    except RecursionError as error:
        raise ValueError("recipe_json is nested too deeply") from error
    if not isinstance(recipe, dict):
        raise ValueError("recipe_json is not an object")  # noqa: TRY004  # about the file
    known = fields["recipe"].annotation
    if isinstance(known, type) and recipe.keys() - known.model_fields.keys():
        return None
    given = {name for name in fields if name in row and not (row[name] is None and is_later(fields[name]))}
    values: dict[str, Any] = {name: row[name] for name in given} | {"recipe": recipe}
    if "network" in fields:
        if row["finetuned"] is not None and row["finetuned"] not in tuned:
            return None
        values["network"] = row["source"] if row["finetuned"] is None else tuned[row["finetuned"]]
    return spec.model_validate({**values, **spec.parts_of(row)})


def _identity(kind: str, trial_id: str, row: ResultRow, spec: TrialSpec | None) -> Iterator[Contradiction]:
    """Check that the id and the columns are those of the spec."""
    if row["origin"] != "run":
        yield Contradiction("origin", f"expected run or imported as the origin; got {row['origin']!r}")
    if spec is None:
        yield from _of_unknown_network(kind, trial_id, row)
        return
    of_network = row.get("finetuned_numerics") or FinetuneSpec.first_numerics_version
    numerics = {FinetuneSpec.kind: of_network, kind: row["numerics"]}
    expected = f"{spec.prefix}-{digest(spec.identity_by(numerics))[:16]}"
    if expected != trial_id and not _SHORTENED.fullmatch(str(row.get("constraint"))):
        yield Contradiction(
            "trial_id", f"expected the id that the identity columns determine; they are those of {expected}"
        )
    own = {
        **spec.choices,
        "recipe": recipe_digest(spec.recipe),
        "recipe_json": canonical_json(spec.recipe.model_dump(mode="json")),
    }
    for name in own.keys() - {"finetuned", "finetuned_numerics"}:
        if row[name] != own[name]:
            yield Contradiction(name, f"expected {name} to be {own[name]!r}; got {row[name]!r}")


def _of_unknown_network(kind: str, trial_id: str, row: ResultRow) -> Iterator[Contradiction]:
    """Compare the names in a diagnostic trial's ids with its columns; its fine-tuning trial is not in the root.

    The hashes in the ids cannot be checked then.
    """
    if row.get("finetuned") is None:
        return
    network = f"{row['source']}-k{row['blocks']}-n{row['images']}-s{row['finetuned_seed']}"
    tuned_on = row.get("finetuned_dataset", row["dataset"])
    for name, value, begins, between in (
        ("finetuned", row["finetuned"], f"{FinetuneSpec.kind}-{tuned_on}-{network}", ""),
        ("trial_id", trial_id, f"{kind}-{row['dataset']}-{network}", "(-.+)?"),
    ):
        if not re.fullmatch(f"{re.escape(begins)}{between}-[0-9a-f]{{16}}", value):
            yield Contradiction(name, f"expected {begins}-... from the identity columns; got {value!r}")


def _imported(trial_id: str, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    if (expected := imported_id(rows[0])) != trial_id:
        yield Contradiction("trial_id", f"expected the id of an imported trial with these columns: {expected}")
    if rows[0]["recipe"] != IMPORTED:
        yield Contradiction("recipe", f"expected the recipe {IMPORTED} of imported trials; got {rows[0]['recipe']!r}")
    if (last := max(row["epoch"] for row in rows)) != rows[0]["epochs"]:
        yield Contradiction("epoch", f"expected the last evaluation after epoch {rows[0]['epochs']}; got {last}")


def _inconstant(kind: str, table: pa.Table) -> Iterator[Contradiction]:
    for column in columns(kind):
        if column.name not in varying(kind) and len(pc.unique(table[column.name])) != 1:
            found = pc.unique(table[column.name]).to_pylist()[:3]
            yield Contradiction(column.name, f"expected the same {column.name} in all rows; got {found}")


# --- rules of single values ---


class _Rule(NamedTuple):
    words: str
    holds: Callable[[Any], bool]


_RULES: dict[str, _Rule] = {
    "percent": _Rule("a percentage from 0 to 100", lambda value: 0 <= value <= 100),
    "nats": _Rule("a loss of 0 or more, or NaN", lambda value: math.isnan(value) or value >= 0),
    "seconds": _Rule("a time of 0 s or more", lambda value: 0 <= value < math.inf),
}
"""Rules by unit."""
_DIGEST = _Rule("a sha256 of 64 hexadecimal digits", lambda value: _SHA256.fullmatch(value) is not None)
_NAMED: dict[str, _Rule] = {
    "attempt": _Rule("a number of 1 or more", lambda value: value >= 1),
    "device_kind": _Rule("the name of a device kind", bool),
    "host": _Rule("a host name", bool),
    "code_version": _Rule("a version", bool),
    "packages": _Rule("versions as JSON", lambda value: all(map(_is_versions, parts_of(value)))),
    **{
        name: _Rule("a number of 1 or more", lambda value: value >= 1)
        for name in ("images_used", "test_images_used", "image_size", "network_labels")
    },
    **{
        name: _Rule("a number of 0 or more", lambda value: value >= 0)
        for name in ("test_image", "test_label", "predicted_label", "matrix_norm", "distance", "epsilon")
    },
    "source_epsilon": _Rule("a radius of 0 or more", lambda value: 0 <= value < math.inf),
    "source_constraint": _Rule("one of none, l2, linf, gaussian, fourier", lambda value: value in set(Constraint)),
}


def _is_versions(text: str) -> bool:
    if text == UNKNOWN:
        return True
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _rule(name: str, unit: str) -> _Rule | None:
    if name.endswith("_sha256"):
        return _DIGEST
    return _NAMED.get(name) or _RULES.get(unit)


def _broken(name: str, rule: _Rule, values: list[Any]) -> Iterator[Contradiction]:
    for number, value in enumerate(values):
        if value is not None and not rule.holds(value):
            yield Contradiction(name, f"expected {name} to be {rule.words}; row {number} has {str(value)[:100]!r}")
            return


# --- rules across rows ---


def _numbers(kind: str, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    """Check that the result has exactly the expected rows."""
    name, first = numbering(kind), rows[0]
    numbers = [row[name] for row in rows]
    expected = list(kinds()[kind].row_numbers(first, numbers))
    if numbers != expected:
        said = f"{numbers[:10]}{'...' if len(numbers) > 10 else ''}"
        yield Contradiction(name, f"expected one row for each {name} of the trial; got {len(numbers)} rows: {said}")


def _counts(kind: str, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    """Check that requested and used sizes agree, and that accuracies are fractions of a whole number of images."""
    first = rows[0]
    for asked, used in (("images", "images_used"), ("test_images", "test_images_used")):
        if used in first and first.get(asked) not in (None, ALL) and first[asked] != first[used]:
            yield Contradiction(used, f"{asked} is {first[asked]}, so {used} must be equal; got {first[used]}")
    of = {
        "test_accuracy": first.get("test_images"),
        "adversarial_accuracy": first.get("test_images"),
        "train_accuracy": first.get("images_used"),
        "robust_accuracy": first.get("test_images_used"),
        "accuracy": first.get("test_images_used", 0) * first.get("restarts", 1),
    }
    for name, images in of.items():
        for row in rows:
            if images and row.get(name) is not None and not _share(row[name], images):
                yield Contradiction(name, f"{name} must be a whole number of images out of {images:,}; got {row[name]}")
                break
    if "robust_accuracy" in first and not first["robust_accuracy"] <= first["accuracy"]:
        yield Contradiction("robust_accuracy", "the accuracy over all restarts cannot exceed the mean over restarts")


def _share(percent: float, images: int) -> bool:
    count = percent * images / 100
    return math.isfinite(count) and math.isclose(count, round(count), rel_tol=1e-9, abs_tol=1e-7)


def _times(kind: str, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    text = rows[0]["finished_at"]
    if text is None:
        return
    try:
        finished = datetime.fromisoformat(text)
        ahead = finished - datetime.now(UTC)
    except (ValueError, TypeError):
        yield Contradiction("finished_at", f"expected ISO 8601 with an offset from UTC; got {text[:100]!r}")
        return
    if ahead > timedelta(seconds=CLOCKS_DIFFER):
        yield Contradiction("finished_at", f"expected a time in the past; got {text}")
