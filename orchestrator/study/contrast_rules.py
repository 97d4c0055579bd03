"""Rules of the contrasts that a study declares."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobs.errors import Code
from jobs.specs.contrast import Contrast
from jobs.study.model import ScheduleRow
from orchestrator.study.raw_values import Violations, items, repeated
from orchestrator.study.understand import STAND_IN, usable
from orchestrator.study.yaml_lines import Location

_OWN_FAMILY = "the study's own"


def contrast_violations(
    raw: dict[str, Any], schedule: Sequence[ScheduleRow], mistaken: Sequence[Location]
) -> Violations:
    """Yield contrasts of sources, blocks and epochs that the study does not have, and repeated comparisons.

    Args:
        schedule: the rows of the study, as far as they have no mistakes.
        mistaken: the locations of mistakes in the file.
    """
    grid = {key: [value for _, value in items(raw, ("grid", key))] for key in ("source", "blocks")}
    rhythm = ((), ("epochs",), ("evaluate_every",))
    rows = [] if any(at[:1] == ("schedule",) and at[2:] in rhythm for at in mistaken) else schedule
    complete: dict[Location, Contrast] = {}
    for location, written in items(raw, ("contrasts",)):
        try:
            contrast = usable(Contrast, written, location, mistaken)
        except LookupError:
            continue
        if not any(at[:2] == location for at in mistaken):
            complete[location] = contrast
        for key in ("source", "baseline"):
            name = getattr(contrast, key)
            if name not in (*grid["source"], STAND_IN):
                message = f"{name!r} is not a source of this study's grid ({', '.join(map(str, grid['source']))})"
                yield (*location, key), Code.UNKNOWN_NAME, message
        blocks = items(raw, (*location, "blocks"))
        yield from repeated(blocks)
        for place, depth in [*blocks, ((*location, "baseline_blocks"), contrast.baseline_blocks)]:
            if place not in mistaken and depth not in (*grid["blocks"], None):
                message = f"{depth} is not among this study's blocks ({grid['blocks']})"
                yield place, Code.IMPOSSIBLE_TRIAL, message
        if rows and contrast.epoch != "last" and not any(_evaluates(row, contrast.epoch) for row in rows):
            evaluated = "; ".join(dict.fromkeys(map(_evaluated, rows)))
            message = (
                f"expected an epoch after which a row of the schedule evaluates ({evaluated}); got {contrast.epoch}. "
                "Fix: name one of these, or change evaluate_every"
            )
            yield (*location, "epoch"), Code.IMPOSSIBLE_TRIAL, message
    yield from _compared_twice(complete, {row.epochs for row in rows})


def _compared_twice(contrasts: Mapping[Location, Contrast], last_epochs: Iterable[int]) -> Violations:
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
        equal = {epoch, *(last_epochs if epoch == "last" else ["last"] if epoch in last_epochs else [])}
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
