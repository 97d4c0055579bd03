"""Rules of the equivalences that a study declares."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from jobs.errors import Code
from jobs.specs.contrast import EvaluatedEpoch
from jobs.specs.equivalence import Equivalence
from jobs.specs.recipes import Recipe
from jobs.study.model import ScheduleRow
from jobs.system.printable import listing
from orchestrator.study.contrast_rules import Trained, same_epochs, usable_items, without_mistakes
from orchestrator.study.mistaken import Mistaken
from orchestrator.study.raw_values import Violations
from orchestrator.study.yaml_lines import Location

_SIDES = ("recipe", "against")


def equivalence_violations(
    raw: dict[str, Any],
    schedule: Sequence[ScheduleRow],
    recipes: Callable[[], Sequence[Recipe]],
    mistaken: Mistaken,
) -> Violations:
    """Yield equivalences of sources, blocks, epochs and recipes that the study does not have, and repeated ones.

    Args:
        schedule: the rows of the study, as far as they have no mistakes.
        recipes: returns the recipes of the study; called only if what they are made of has no mistakes.
        mistaken: the locations of mistakes in the file.
    """
    trained = Trained(raw, schedule, mistaken)
    declared = usable_items(raw, "equivalences", Equivalence, mistaken)
    complete = without_mistakes(declared, mistaken)
    known = not any(at[:1] == ("recipe",) or at == ("grid",) or at[:2] == ("grid", "recipe") for at in mistaken)
    there = recipes() if known and declared else ()
    for location, equivalence in declared.items():
        yield from trained.violations(location, equivalence)
        if known:
            yield from _other_recipes(location, equivalence, there, location in complete)
    yield from _declared_twice(complete, trained.last_epochs)


def _other_recipes(
    location: Location, equivalence: Equivalence, recipes: Sequence[Recipe], complete: bool
) -> Violations:
    """Yield the choices that no recipe of the study has, else the reason why recipes cannot be compared."""
    unknown = False
    for side in _SIDES:
        for key, value in getattr(equivalence, side).items():
            there = list(dict.fromkeys(getattr(recipe, key) for recipe in recipes))
            if value not in there:
                unknown = True
                message = (
                    f"expected a value that a recipe of this study has ({listing(there)}); got {value}. "
                    f"Fix: add it to grid.recipe.{key}, or name another"
                )
                yield (*location, side, key), Code.IMPOSSIBLE_TRIAL, message
    if complete and not unknown:
        yield from _not_compared(location, equivalence, recipes)


def _not_compared(location: Location, equivalence: Equivalence, recipes: Sequence[Recipe]) -> Violations:
    """Yield choices that no recipe has together, else other choices in which the recipes of the two sides differ."""
    pairs = equivalence.sides(recipes)
    sides = zip(*pairs, strict=True) if pairs else ((), ())
    others = [[equivalence.others(one) for one in side if one is not None] for side in sides]
    for side, there in zip(_SIDES, others, strict=True):
        if not there:
            choices = ", ".join(f"{key}: {value}" for key, value in getattr(equivalence, side).items())
            message = (
                f"expected choices that one recipe of this study has together; got {choices}, which none has. Fix: "
                "change one of them"
            )
            yield (*location, side), Code.IMPOSSIBLE_TRIAL, message
    if all(others) and any(None in pair for pair in pairs):
        with_recipe, with_against = ({choice for choices in there for choice in choices} for there in others)
        differing = ", ".join(dict(sorted(with_recipe ^ with_against, key=str)))
        message = (
            "expected recipes that differ only in the choices of recipe and against; those of this study also differ "
            f"in {differing}. Fix: name these choices in both, with the values of either side"
        )
        yield location, Code.IMPOSSIBLE_TRIAL, message


def _declared_twice(equivalences: Mapping[Location, Equivalence], last_epochs: Collection[int]) -> Violations:
    """Yield repeated comparisons, since each has one margin. Swapped sources or recipes only change the sign."""
    seen: dict[tuple[object, ...], dict[EvaluatedEpoch, object]] = {}
    for location, one in equivalences.items():
        sources = frozenset({one.source, one.baseline})
        recipes = frozenset(frozenset(choices.items()) for choices in (one.recipe, one.against))
        equal = same_epochs(one.epoch, last_epochs)
        same = [
            first
            for blocks in one.blocks
            for epoch, first in seen.get((sources, recipes, blocks), {}).items()
            if epoch in equal
        ]
        if same:
            message = (
                f"expected each comparison once, with one margin; got one of equivalence {same[0]} again. Fix: leave "
                "it out of one of them"
            )
            yield location, Code.REPEATED, message
        for blocks in one.blocks:
            seen.setdefault((sources, recipes, blocks), {})[one.epoch] = location[-1]
