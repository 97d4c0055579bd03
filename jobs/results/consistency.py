"""What the rows of a result must be, given its trial: whatever its id, its spec and its own counts imply. No torch."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from jobs.canonical import canonical_json, digest
from jobs.growth import is_later
from jobs.provenance import UNKNOWN, parts_of
from jobs.results.launches import CLOCKS_DIFFER
from jobs.results.records import reason
from jobs.results.schema import columns, numbering, varying
from jobs.specs import (
    ALL,
    AnySpec,
    AttackSpec,
    Constraint,
    FinetuneSpec,
    InfluenceSpec,
    PretrainSpec,
    ShapeBiasSpec,
    VisualizeSpec,
    recipe_digest,
    spec_class,
)

IMPORTED = "imported"
_OF_IMPORTED = ("source", "dataset", "images", "blocks", "seed", "epochs")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHORTENED = re.compile(r"fourier:.*\d{6}")
"""A band whose numbers the column may not tell to the last digit; six are written."""

Row = Mapping[str, Any]


class Contradiction(NamedTuple):
    """What cannot be so."""

    column: str
    said: str
    """The rule, and what the file has."""


def imported_id(row: Row) -> str:
    """The id of a trial that ran elsewhere, which no spec can have: those begin with their kind."""
    identity = {name: row[name] for name in _OF_IMPORTED}
    name = "{dataset}-{source}-k{blocks}-n{images}-s{seed}".format(**identity)
    return f"{IMPORTED}-{name}-{digest({'origin': IMPORTED, **identity})[:16]}"


def contradictions(
    kind: str, trial_id: str, table: pa.Table, tuned: Mapping[str, FinetuneSpec]
) -> Iterator[Contradiction]:
    """Everything in a result's rows that cannot be.

    Args:
        table: with the columns of today's schema, in order of their number.
        tuned: fine-tuned trials by id, as far as they are known: those that examinations are of.
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
    try:
        spec = spec_of(kind, first, tuned)
    except (ValidationError, ValueError, TypeError, OverflowError) as error:
        yield Contradiction("recipe_json", f"no trial has these identity columns: {reason(error)[:300]}")
    else:
        yield from _identity(kind, trial_id, first, spec)
        yield from _learning_rates(spec, rows)
    for check in (_numbers, _counts, _lists, _times):
        yield from check(kind, rows)


def spec_of(kind: str, row: Row, tuned: Mapping[str, FinetuneSpec]) -> AnySpec | None:
    """The spec that a row's identity columns tell; None where nobody here can know it.

    That of an examination whose fine-tuned trial is not known, and one whose recipe has fields that this version has
    not: a newer one wrote it.

    Raises:
        ValueError: when there can be no such spec.
    """
    spec = spec_class(kind)
    fields = spec.model_fields
    try:
        recipe = json.loads(row["recipe_json"])
    except RecursionError as error:
        raise ValueError("recipe_json is nested too deeply") from error
    if not isinstance(recipe, dict):
        raise ValueError("recipe_json is no object")  # noqa: TRY004  # of what the file holds
    known = fields["recipe"].annotation
    if isinstance(known, type) and recipe.keys() - known.model_fields.keys():
        return None
    said = {name for name in fields if name in row and not (row[name] is None and is_later(fields[name]))}
    values: dict[str, Any] = {name: row[name] for name in said} | {"recipe": recipe}
    if "network" in fields:
        if row["finetuned"] is not None and row["finetuned"] not in tuned:
            return None
        values["network"] = row["source"] if row["finetuned"] is None else tuned[row["finetuned"]]
    if "threat" in fields:
        values["threat"] = _threat(row)
    return spec.model_validate(values)


def _threat(row: Row) -> dict[str, Any]:
    constraint, _, band = str(row["constraint"]).partition(":")
    values = {name: row[name] for name in ("epsilon", "steps", "step_scale", "start")}
    found = {**values, "constraint": constraint}
    if constraint == Constraint.FOURIER:
        low, _, high = band.partition("-")
        found["band"] = (float(low), float(high))
    return found


def _identity(kind: str, trial_id: str, row: Row, spec: AnySpec | None) -> Iterator[Contradiction]:
    """The id follows from the spec, and the columns are the spec's."""
    if row["origin"] != "run":
        yield Contradiction("origin", f"origin is run or imported; it is {row['origin']!r}")
    if spec is None:
        yield from _of_unknown_network(kind, trial_id, row)
        return
    of_network = row.get("finetuned_numerics") or FinetuneSpec.first_numerics
    numerics = {FinetuneSpec.kind: of_network, kind: row["numerics"]}
    expected = f"{spec.prefix}-{digest(spec.identity_by(numerics))[:16]}"
    if expected != trial_id and not _SHORTENED.fullmatch(str(row.get("constraint"))):
        yield Contradiction(
            "trial_id", f"a trial's id follows from its spec; the identity columns are those of {expected}"
        )
    own = {
        **spec.choices,
        "recipe": recipe_digest(spec.recipe),
        "recipe_json": canonical_json(spec.recipe.model_dump(mode="json")),
    }
    for name in own.keys() - {"finetuned", "finetuned_numerics"}:
        if row[name] != own[name]:
            yield Contradiction(name, f"the trial's {name} is {own[name]!r}; it says {row[name]!r}")


def _of_unknown_network(kind: str, trial_id: str, row: Row) -> Iterator[Contradiction]:
    """Of an examination whose fine-tuned trial is not in the root: names are compared with columns, hashes are not."""
    if row.get("finetuned") is None:
        return
    network = f"{row['source']}-k{row['blocks']}-n{row['images']}-s{row['finetuned_seed']}"
    tuned_on = row.get("finetuned_dataset", row["dataset"])
    for name, value, begins, between in (
        ("finetuned", row["finetuned"], f"{FinetuneSpec.kind}-{tuned_on}-{network}", ""),
        ("trial_id", trial_id, f"{kind}-{row['dataset']}-{network}", "(-.+)?"),
    ):
        if not re.fullmatch(f"{re.escape(begins)}{between}-[0-9a-f]{{16}}", value):
            yield Contradiction(name, f"the identity columns are those of {begins}-...; it is {value!r}")


def _imported(trial_id: str, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    if (expected := imported_id(rows[0])) != trial_id:
        yield Contradiction("trial_id", f"an imported trial's id follows from what it is: {expected}")
    if rows[0]["recipe"] != IMPORTED:
        yield Contradiction("recipe", f"the recipe of an imported trial is {IMPORTED}; it says {rows[0]['recipe']!r}")
    if (last := max(row["epoch"] for row in rows)) != rows[0]["epochs"]:
        yield Contradiction("epoch", f"its last evaluation is after epoch {rows[0]['epochs']}; it has {last}")


def _inconstant(kind: str, table: pa.Table) -> Iterator[Contradiction]:
    for column in columns(kind):
        if column.name not in varying(kind) and len(pc.unique(table[column.name])) != 1:
            found = pc.unique(table[column.name]).to_pylist()[:3]
            yield Contradiction(column.name, f"all rows of a trial have one {column.name}; these have {found}")


# --- rules of single values ---


class _Rule(NamedTuple):
    words: str
    holds: Callable[[Any], bool]


_RULES: dict[str, _Rule] = {
    "percent": _Rule("a percentage from 0 to 100", lambda value: 0 <= value <= 100),
    "nats": _Rule("a loss of 0 or more, or not a number", lambda value: math.isnan(value) or value >= 0),
    "seconds": _Rule("a time of 0 s or more", lambda value: 0 <= value < math.inf),
}
"""By unit."""
_DIGEST = _Rule("a sha256: 64 hexadecimal digits", lambda value: _SHA256.fullmatch(value) is not None)
_NAMED: dict[str, _Rule] = {
    "attempt": _Rule("a number from 1", lambda value: value >= 1),
    "device_kind": _Rule("the name of a kind of device", bool),
    "host": _Rule("a host's name", bool),
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
            yield Contradiction(name, f"{name} is {rule.words}; row {number} has {str(value)[:100]!r}")
            return


# --- what rows say together ---


def _numbers(kind: str, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    """Which rows there are."""
    name, first = numbering(kind), rows[0]
    found = [row[name] for row in rows]
    expected = found
    if kind == FinetuneSpec.kind:
        step = first["evaluate_every"] or 1
        if not 1 <= len(rows) <= first["epochs"] or step < 1:
            expected = []
        else:
            expected = sorted({*range(1, min(first["epochs"], step * len(rows)) + 1, step), first["epochs"]})
    elif kind == PretrainSpec.kind:
        expected = list(range(1, len(rows) + 1)) if len(rows) == first["epochs"] else []
    elif kind in (InfluenceSpec.kind, ShapeBiasSpec.kind):
        expected = list(range(len(rows)))
    elif kind == VisualizeSpec.kind:
        expected = found if len(rows) == first["test_images"] else []
    elif kind == AttackSpec.kind:
        expected = found[:1]
    if found != expected:
        said = f"{found[:10]}{'...' if len(found) > 10 else ''}"
        yield Contradiction(
            name, f"the trial has a row for each {name} that it is to have; it has {len(found)}: {said}"
        )


def _counts(kind: str, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    """Sizes that are asked for and used; accuracies are shares of a whole number of images."""
    first = rows[0]
    for asked, used in (("images", "images_used"), ("test_images", "test_images_used")):
        if used in first and first.get(asked) not in (None, ALL) and first[asked] != first[used]:
            yield Contradiction(used, f"{asked} is {first[asked]}, so that is {used}; it is {first[used]}")
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
                yield Contradiction(name, f"{name} is that of a whole number of {images:,} images; it is {row[name]}")
                break
    if "robust_accuracy" in first and not first["robust_accuracy"] <= first["accuracy"]:
        yield Contradiction("robust_accuracy", "images that are right in every restart are no more than in each")
    if kind in (FinetuneSpec.kind, PretrainSpec.kind):
        seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
        if seconds != sorted(seconds):
            yield Contradiction("seconds", f"the time spent on a trial grows from row to row; it is {seconds[:10]}")


def _share(percent: float, images: int) -> bool:
    count = percent * images / 100
    return math.isfinite(count) and math.isclose(count, round(count), rel_tol=1e-9, abs_tol=1e-7)


def _learning_rates(spec: AnySpec | None, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    if not isinstance(spec, FinetuneSpec | PretrainSpec):
        return
    for row in rows:
        rate = spec.recipe.learning_rate_at(row["epoch"], spec.epochs)
        if row["learning_rate"] != rate:
            said = f"the recipe's learning rate in epoch {row['epoch']} is {rate}; it says {row['learning_rate']}"
            yield Contradiction("learning_rate", said)
            return


def _lists(kind: str, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    """Columns of lists, and images."""
    for row in rows:
        if "train_images" in row:
            wanted, images = min(row["top"], row["images_used"]), row["train_images"]
            for name in ("train_images", "train_labels", "values"):
                if len(row[name]) != wanted:
                    yield Contradiction(name, f"expected {wanted} training images a row; got {len(row[name])}")
                    return
            if len(set(images)) != len(images) or min(images, default=0) < 0 or min(row["train_labels"], default=0) < 0:
                yield Contradiction("train_images", "training images and their labels are counted from 0, each once")
                return
            ordered = sorted(row["values"], reverse=row["measure"] == "fisher")
            if not any(map(math.isnan, row["values"])) and row["values"] != ordered:
                yield Contradiction("values", "what helps most, or is most alike, is first")
                return
            if (row["cells"] is None) != (row["cell_labels"] is None) or len(row["cells"] or []) != len(
                row["cell_labels"] or []
            ):
                yield Contradiction("cells", "there is a mean for each label of a group")
                return
        if "image" in row and len(row["image"]) != 3 * row["image_size"] ** 2:
            said = f"an image of {row['image_size']} pixels a side has {3 * row['image_size'] ** 2:,} bytes"
            yield Contradiction("image", f"{said}; it has {len(row['image']):,}")
            return


def _times(kind: str, rows: list[dict[str, Any]]) -> Iterator[Contradiction]:
    text = rows[0]["finished_at"]
    if text is None:
        return
    try:
        finished = datetime.fromisoformat(text)
        ahead = finished - datetime.now(UTC)
    except (ValueError, TypeError):
        yield Contradiction("finished_at", f"a time is ISO 8601 with its offset from UTC; it is {text[:100]!r}")
        return
    if ahead > timedelta(seconds=CLOCKS_DIFFER):
        yield Contradiction("finished_at", f"a result is finished by now; it says {text}")
