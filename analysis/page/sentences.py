"""What the headline deltas of one comparison show, in a sentence."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import pandas as pd

from analysis.evaluations.lengths import lengths_text
from analysis.paired.studies import CELL
from analysis.paired.unpaired import without_pair
from analysis.statistics.paired_t import FEW_VALUES, ROUNDING
from analysis.words import counted, delta_text, in_a_sentence, of_few, without_width

Cell: TypeAlias = tuple[object, ...]
"""Values of ``analysis.paired.studies.CELL``."""


def sentence(cells: pd.DataFrame, unfinished: Sequence[Cell] = ()) -> str:
    """Return what the cells show, with what limits it.

    An interval that contains zero shows no difference; that it shows equality is never said.

    Args:
        cells: ``delta_cells`` of one comparison, blocks and epoch, also those without a pair.
        unfinished: further cells that the declaring study plans.
    """
    paired = cells[cells["n_pairs"] > 0]
    known = paired[paired["ci_low"].notna()]
    clauses = [*_shown(known), *_corrected(known), *_limits(paired, known)]
    clauses += without_pair(cells["no_pair"])
    if unfinished:
        waiting = f"{counted(len(unfinished), 'planned cell')}{_of_other_length(cells, unfinished)}"
        clauses.append(f"{waiting} {_verb(len(unfinished), 'has')} no trial yet")
    return in_a_sentence(clauses)


def _of_other_length(cells: pd.DataFrame, unfinished: Sequence[Cell]) -> str:
    """Return the lengths of planned cells if the trials of a cell so far have another one."""
    place, epochs = [CELL.index(name) for name in CELL if name != "epochs"], CELL.index("epochs")
    there = set(cells[[CELL[at] for at in place]].itertuples(index=False, name=None))
    other = any(tuple(cell[at] for at in place) in there for cell in unfinished)
    return f" of {lengths_text(int(str(cell[epochs])) for cell in unfinished)}" if other else ""


def _shown(known: pd.DataFrame) -> Iterator[str]:
    """Describe the cells with an interval."""
    above, below = known[known["ci_low"] > 0], known[known["ci_high"] < 0]
    rest = known[(known["ci_low"] <= 0) & (known["ci_high"] >= 0)]
    found = [(word, part) for word, part in (("higher", above), ("lower", below)) if len(part)]
    of = len(known)
    if found:
        first, *more = (
            f"{word} in {_of(len(part), of)}, by {_reach(part['mean_delta'].abs())} (95 % interval "
            f"{'above' if word == 'higher' else 'below'} zero)"
            for word, part in found
        )
        yield f"test accuracy is {', '.join([first, *more])}"
        if len(rest):
            yield f"no difference is shown in {_the_rest(len(rest))}, where the interval contains zero"
    elif of:
        reach = f"from {delta_text(known['ci_low'].min())} to {delta_text(known['ci_high'].max())} points"
        if of == 1:
            yield f"no difference is shown: the 95 % interval, {reach}, contains zero"
        else:
            cells = _of(of, of)
            yield f"no difference is shown: the 95 % interval contains zero in {cells}; the intervals reach {reach}"


def _corrected(known: pd.DataFrame) -> Iterator[str]:
    corrected = known[known["p_holm"].notna()]
    if len(corrected):
        differ = int((corrected["p_holm"] < 0.05).sum())
        families = families_text(corrected["family"])
        yield f"after Holm correction over {families}, {differ} of {len(corrected)} differ at the 5 % level"


def families_text(families: Iterable[str]) -> str:
    """Return the families over which p-values are corrected; empty if there is none."""
    return " and ".join(sorted({family.replace(" asked for", "") for family in families}))


def _limits(paired: pd.DataFrame, known: pd.DataFrame) -> Iterator[str]:
    few = known[known["n_pairs"] < FEW_VALUES]
    if len(few):
        yield of_few([*few["n_pairs"]], "" if len(few) == len(known) else f" in {counted(len(few), 'cell')}")
    if equal := int((known["ci_high"] - known["ci_low"] < ROUNDING).sum()):
        yield without_width(equal, "cell")
    single = paired[paired["ci_low"].isna()]
    if len(single):
        ends = dict.fromkeys(map(delta_text, (single["mean_delta"].min(), single["mean_delta"].max())))
        cells = f"{counted(len(single), 'cell')} {_verb(len(single), 'has')}"
        yield f"{cells} a single pair ({' to '.join(ends)} points) and no interval, which shows nothing"


def _reach(values: "pd.Series[float]") -> str:
    """Return the smallest and the largest value, or the only one, in points."""
    return " to ".join(dict.fromkeys(f"{value:.2f}" for value in (values.min(), values.max()))) + " points"


def _of(part: int, whole: int) -> str:
    if whole == 1:
        return "the only cell"
    return f"all {whole:,} cells" if part == whole else f"{part:,} of {whole:,} cells"


def _the_rest(number: int) -> str:
    return "the other cell" if number == 1 else f"the other {number:,} cells"


def _verb(number: int, verb: str) -> str:
    return verb if number == 1 else {"has": "have"}[verb]
