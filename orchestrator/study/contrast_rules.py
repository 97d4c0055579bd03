"""Rules of the contrasts that a study declares; those of sources, blocks and epochs also hold for equivalences."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypeVar

from jobs.errors import Code
from jobs.specs.contrast import Contrast, EvaluatedEpoch
from jobs.specs.equivalence import Equivalence
from jobs.study.model import ScheduleRow
from jobs.system.printable import listing, shown
from jobs.system.similar import close_matches
from orchestrator.study.mistaken import Mistaken
from orchestrator.study.raw_values import Violations, items, repeated
from orchestrator.study.understand import STAND_IN, usable
from orchestrator.study.yaml_lines import Location

D = TypeVar("D", Contrast, Equivalence)

_Arm: TypeAlias = tuple[str, int]
"""A source and its number of blocks."""
_OWN_FAMILY = "the study's own"
_MOST_ROWS = 20
"""The number of rows of the schedule that a message describes."""


def contrast_violations(raw: dict[str, Any], schedule: Sequence[ScheduleRow], mistaken: Mistaken) -> Violations:
    """Yield contrasts of sources, blocks and epochs that the study does not have, and repeated comparisons.

    Args:
        schedule: the rows of the study, as far as they have no mistakes.
        mistaken: the locations of mistakes in the file.
    """
    trained = Trained(raw, schedule, mistaken)
    contrasts = usable_items(raw, "contrasts", Contrast, mistaken)
    for location, contrast in contrasts.items():
        depths = [((*location, "baseline_blocks"), contrast.baseline_blocks)]
        yield from trained.violations(location, contrast, depths)
    yield from _compared_twice(without_mistakes(contrasts, mistaken), trained.last_epochs)


def usable_items(raw: dict[str, Any], key: str, model: type[D], mistaken: Mistaken) -> dict[Location, D]:
    """Return the usable parts of a list of declarations, by location; none if there is a mistake in the list itself."""
    found: dict[Location, D] = {}
    for location, written in items(raw, (key,)) if (key,) not in mistaken else ():
        with suppress(LookupError):
            found[location] = usable(model, written, location, mistaken)
    return found


def without_mistakes(declared: Mapping[Location, D], mistaken: Mistaken) -> dict[Location, D]:
    """Return the declarations that have no mistake in them."""
    return {place: one for place, one in declared.items() if not mistaken.within(place)}


class _InGrid(NamedTuple):
    """A list of the grid."""

    values: list[Any]
    known: set[Any]
    unclear: list[str]
    """Its items with mistakes."""
    readable: bool

    def may_have(self, value: object) -> bool:
        """Whether the list may have a value once the mistakes in it are fixed: it cannot be read, or one of its items
        with mistakes resembles the value.
        """
        return value in self.known or not self.readable or bool(close_matches(str(value), self.unclear))


class Trained:
    """What the grid and the schedule of a study train, for declarations that refer to it."""

    def __init__(self, raw: dict[str, Any], schedule: Sequence[ScheduleRow], mistaken: Mistaken) -> None:
        """Read the grid and the schedule.

        Args:
            schedule: the rows of the study, as far as they have no mistakes.
            mistaken: the locations of mistakes in the file.
        """
        rhythm = ((), ("epochs",), ("evaluate_every",))
        unclear = any(at[:1] == ("schedule",) and at[2:] in rhythm for at in mistaken)
        self._rows = [] if unclear else schedule
        self.last_epochs = {row.epochs for row in self._rows}
        self._raw = raw
        self._mistaken = mistaken
        self._sources, self._blocks = (self._listed(key) for key in ("source", "blocks"))
        self._is_evaluated = cache(lambda epoch: any(_evaluates(row, epoch) for row in self._rows))

    def violations(
        self,
        location: Location,
        declared: Contrast | Equivalence,
        depths: Sequence[tuple[Location, int | None]] = (),
    ) -> Violations:
        """Yield the sources, blocks and epoch of a declaration that the study does not have.

        Nothing is said about values that mistakes in the grid may be the reason for.

        Args:
            depths: blocks besides those in ``blocks``, with their locations.
        """
        for key in ("source", "baseline"):
            name = getattr(declared, key)
            if name != STAND_IN and not self._sources.may_have(name):
                message = f"{shown(name)} is not a source of this study's grid ({listing(self._sources.values)})"
                yield (*location, key), Code.UNKNOWN_NAME, message
        blocks = items(self._raw, (*location, "blocks"))
        yield from repeated(blocks)
        for place, depth in [*blocks, *depths]:
            if place not in self._mistaken and depth is not None and not self._blocks.may_have(depth):
                message = f"{shown(depth)} is not among this study's blocks ({shown(self._blocks.values)})"
                yield place, Code.IMPOSSIBLE_TRIAL, message
        if self._rows and declared.epoch != "last" and not self._is_evaluated(declared.epoch):
            message = (
                f"expected an epoch after which a row of the schedule evaluates ({self._evaluated()}); got "
                f"{declared.epoch}. Fix: name one of these, or change evaluate_every"
            )
            yield (*location, "epoch"), Code.IMPOSSIBLE_TRIAL, message

    def _listed(self, key: str) -> _InGrid:
        written = items(self._raw, ("grid", key))
        values = [value for _, value in written]
        unclear = [
            value if isinstance(value, str) else shown(value)
            for location, value in written
            if location in self._mistaken
        ]
        readable = ("grid",) not in self._mistaken and ("grid", key) not in self._mistaken
        return _InGrid(values, {value for value in values if isinstance(value, str | int | float)}, unclear, readable)

    def _evaluated(self) -> str:
        rows = dict.fromkeys(map(_evaluated, islice(self._rows, _MOST_ROWS)))
        return "; ".join([*rows, *(["..."] * (len(self._rows) > _MOST_ROWS))])


def same_epochs(epoch: EvaluatedEpoch, last_epochs: Collection[int]) -> set[EvaluatedEpoch]:
    """Return the values of ``epoch`` that mean the same evaluation in some row of the schedule.

    Args:
        last_epochs: the lengths of the rows.
    """
    if epoch == "last":
        return {epoch, *last_epochs}
    return {epoch, "last"} if epoch in last_epochs else {epoch}


def _compared_twice(contrasts: Mapping[Location, Contrast], last_epochs: Collection[int]) -> Violations:
    """Yield repeated contrasts, comparisons in two families, and comparisons in both directions.

    A repeated comparison would enlarge the family of Holm's correction, and the reversed comparison is the same test.
    A cell has one corrected p-value, so a comparison is in one family only.
    """
    families: dict[object, dict[EvaluatedEpoch, dict[str, object]]] = {}
    directed: dict[tuple[_Arm, _Arm], dict[EvaluatedEpoch, object]] = {}
    seen: set[Contrast] = set()
    for location, contrast in contrasts.items():
        if contrast in seen:
            yield location, Code.REPEATED, "this contrast is declared twice"
        seen.add(contrast)
        family, epoch = contrast.family or _OWN_FAMILY, contrast.epoch
        equal = same_epochs(epoch, last_epochs)
        others: dict[str, object] = {}
        turned: list[object] = []
        for blocks in contrast.blocks:
            baseline_blocks = blocks if contrast.baseline_blocks is None else contrast.baseline_blocks
            source, baseline = (contrast.source, blocks), (contrast.baseline, baseline_blocks)
            compared = families.setdefault(frozenset({source, baseline}), {})
            turned += [at for other, at in directed.get((baseline, source), {}).items() if other in equal]
            directed.setdefault((source, baseline), {}).setdefault(epoch, location[-1])
            for other, named in compared.items():
                if other in equal:
                    others |= {name: at for name, at in named.items() if name != family}
            compared.setdefault(epoch, {}).setdefault(family, location[-1])
        if turned and not others:
            message = (
                f"expected each comparison in one direction, since the reversed one is the same test; got contrast "
                f"{turned[0]} with source and baseline exchanged. Fix: leave out one"
            )
            yield location, Code.REPEATED, message
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
    epochs = range(1, row.epochs, row.evaluate_every)
    first = [*map(str, epochs[:3]), *(["..."] if len(epochs) > 3 else []), str(row.epochs)]
    return f"images {listing(row.images)}: {', '.join(first)}"
