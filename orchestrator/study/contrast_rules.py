"""Rules of the contrasts that a study declares; those of sources, blocks and epochs also hold for equivalences."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, TypeVar

from jobs.errors import Code
from jobs.specs.contrast import Contrast, EvaluatedEpoch
from jobs.specs.equivalence import Equivalence
from jobs.study.model import ScheduleRow
from orchestrator.study.raw_values import Violations, items, repeated
from orchestrator.study.understand import STAND_IN, usable
from orchestrator.study.yaml_lines import Location

D = TypeVar("D", Contrast, Equivalence)

_OWN_FAMILY = "the study's own"


def contrast_violations(
    raw: dict[str, Any], schedule: Sequence[ScheduleRow], mistaken: Sequence[Location]
) -> Violations:
    """Yield contrasts of sources, blocks and epochs that the study does not have, and repeated comparisons.

    Args:
        schedule: the rows of the study, as far as they have no mistakes.
        mistaken: the locations of mistakes in the file.
    """
    rows = rows_with_epochs(schedule, mistaken)
    contrasts = usable_items(raw, "contrasts", Contrast, mistaken)
    for location, contrast in contrasts.items():
        depths = [((*location, "baseline_blocks"), contrast.baseline_blocks)]
        yield from outside_the_study(raw, location, contrast, rows, mistaken, depths)
    yield from _compared_twice(without_mistakes(contrasts, mistaken), {row.epochs for row in rows})


def rows_with_epochs(schedule: Sequence[ScheduleRow], mistaken: Sequence[Location]) -> Sequence[ScheduleRow]:
    """Return the rows of the schedule; none if a mistake leaves open after which epochs they evaluate."""
    rhythm = ((), ("epochs",), ("evaluate_every",))
    return [] if any(at[:1] == ("schedule",) and at[2:] in rhythm for at in mistaken) else schedule


def usable_items(raw: dict[str, Any], key: str, model: type[D], mistaken: Sequence[Location]) -> dict[Location, D]:
    """Return the usable parts of a list of declarations, by location."""
    found = {}
    for location, written in items(raw, (key,)):
        with suppress(LookupError):
            found[location] = usable(model, written, location, mistaken)
    return found


def without_mistakes(declared: Mapping[Location, D], mistaken: Sequence[Location]) -> dict[Location, D]:
    """Return the declarations that have no mistake in them."""
    return {place: one for place, one in declared.items() if not any(at[:2] == place for at in mistaken)}


def outside_the_study(
    raw: dict[str, Any],
    location: Location,
    declared: Contrast | Equivalence,
    rows: Sequence[ScheduleRow],
    mistaken: Sequence[Location],
    depths: Sequence[tuple[Location, int | None]] = (),
) -> Violations:
    """Yield the sources, blocks and epoch of a declaration that the study does not have.

    Nothing is said about values that mistakes in the grid may be the reason for.

    Args:
        depths: blocks besides those in ``blocks``, with their locations.
    """
    grid = {key: [value for _, value in items(raw, ("grid", key))] for key in ("source", "blocks")}
    for key in ("source", "baseline"):
        name = getattr(declared, key)
        if name not in (*grid["source"], STAND_IN) and _is_sure(name, raw, "source", mistaken):
            message = f"{name!r} is not a source of this study's grid ({', '.join(map(str, grid['source']))})"
            yield (*location, key), Code.UNKNOWN_NAME, message
    blocks = items(raw, (*location, "blocks"))
    yield from repeated(blocks)
    for place, depth in [*blocks, *depths]:
        if place not in mistaken and depth not in (*grid["blocks"], None) and _is_sure(depth, raw, "blocks", mistaken):
            message = f"{depth} is not among this study's blocks ({grid['blocks']})"
            yield place, Code.IMPOSSIBLE_TRIAL, message
    if rows and declared.epoch != "last" and not any(_evaluates(row, declared.epoch) for row in rows):
        evaluated = "; ".join(dict.fromkeys(map(_evaluated, rows)))
        message = (
            f"expected an epoch after which a row of the schedule evaluates ({evaluated}); got {declared.epoch}. "
            "Fix: name one of these, or change evaluate_every"
        )
        yield (*location, "epoch"), Code.IMPOSSIBLE_TRIAL, message


def _is_sure(value: object, raw: dict[str, Any], key: str, mistaken: Sequence[Location]) -> bool:
    """Whether a value would be absent from a list of the grid even without the mistakes there: the list can be read,
    and none of its items with mistakes resembles the value.
    """
    unclear = [str(item) for location, item in items(raw, ("grid", key)) if location in mistaken]
    return not {("grid",), ("grid", key)} & {*mistaken} and not get_close_matches(str(value), unclear)


def same_epochs(epoch: EvaluatedEpoch, last_epochs: Collection[int]) -> set[EvaluatedEpoch]:
    """Return the values of ``epoch`` that mean the same evaluation in some row of the schedule.

    Args:
        last_epochs: the lengths of the rows.
    """
    if epoch == "last":
        return {epoch, *last_epochs}
    return {epoch, "last"} if epoch in last_epochs else {epoch}


def _compared_twice(contrasts: Mapping[Location, Contrast], last_epochs: Collection[int]) -> Violations:
    """Yield repeated contrasts, and comparisons in two families.

    A repeated comparison would enlarge the family of Holm's correction. A cell has one corrected p-value, so a
    comparison is in one family only; the reversed comparison is the same test.
    """
    families: dict[tuple[object, object], dict[str, object]] = {}
    seen: set[Contrast] = set()
    for location, contrast in contrasts.items():
        if contrast in seen:
            yield location, Code.REPEATED, "this contrast is declared twice"
        seen.add(contrast)
        family, epoch = contrast.family or _OWN_FAMILY, contrast.epoch
        equal = same_epochs(epoch, last_epochs)
        others: dict[str, object] = {}
        for blocks in contrast.blocks:
            baseline_blocks = blocks if contrast.baseline_blocks is None else contrast.baseline_blocks
            arms = frozenset({(contrast.source, blocks), (contrast.baseline, baseline_blocks)})
            for other in equal:
                others |= {name: at for name, at in families.get((arms, other), {}).items() if name != family}
            families.setdefault((arms, epoch), {}).setdefault(family, location[-1])
        for other_family, first in list(others.items())[:1]:
            message = (
                "expected each comparison in one family, since a cell has one corrected p-value; got a comparison of "
                f"contrast {first} in the family {other_family!r}, here in {family!r}. Fix: leave it out of one"
            )
            yield location, Code.REPEATED, message


def _evaluates(row: ScheduleRow, epoch: int) -> bool:
    """Whether trials of a row are evaluated after an epoch."""
    return epoch == row.epochs or epoch in range(1, row.epochs, row.evaluate_every)


def _evaluated(row: ScheduleRow) -> str:
    """Describe the epochs after which trials of a row are evaluated."""
    first = range(1, row.epochs, row.evaluate_every)
    shown = [*map(str, first[:3]), *(["..."] if len(first) > 3 else []), str(row.epochs)]
    return f"images {', '.join(map(str, row.images))}: {', '.join(shown)}"
