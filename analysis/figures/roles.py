"""Which source of a results root plays which part in the paper: natural, L2, L-infinity, Gaussian, PGD(1)."""

from enum import StrEnum

import pandas as pd

from jobs.errors import Code, InvalidRequest
from jobs.registry import sources
from jobs.specs import Constraint


class Part(StrEnum):
    """The parts that the paper's figures compare."""

    NATURAL = "natural"
    L2 = "l2"
    LINF_SMALL = "linf, smaller epsilon"
    LINF_LARGE = "linf, larger epsilon"
    PGD1 = "l2 by PGD(1)"
    GAUSSIAN = "gaussian"


_OTHERS = {Part.NATURAL: Constraint.NONE, Part.GAUSSIAN: Constraint.GAUSSIAN}


def cast(data: pd.DataFrame) -> dict[Part, str]:
    """The source of each part that the evaluations have one for.

    Where several would do, the one with most trials plays, then the first by name: a rule that does not
    depend on the order of files.
    """
    trials = data[data["epoch"] == data["epochs"]]
    known = trials.groupby("source").agg(
        constraint=("constraint", "first"), epsilon=("epsilon", "first"), trials=("trial_id", "size")
    )
    known = known[[not _is_random(str(name)) for name in known.index]].copy()
    known["one_step"] = [_is_one_step(str(name)) for name in known.index]
    known = known.sort_index().sort_values("trials", ascending=False, kind="stable")
    parts = {part: _first(known[known["constraint"] == value.value]) for part, value in _OTHERS.items()}
    parts[Part.L2] = _first(known[(known["constraint"] == Constraint.L2.value) & ~known["one_step"]])
    parts[Part.PGD1] = _first(known[(known["constraint"] != Constraint.FOURIER.value) & known["one_step"]])
    linf = known[known["constraint"] == Constraint.LINF.value].sort_values("epsilon", kind="stable")
    if linf["epsilon"].nunique() > 1:
        parts[Part.LINF_SMALL], parts[Part.LINF_LARGE] = str(linf.index[0]), str(linf.index[-1])
    else:
        parts[Part.LINF_SMALL] = _first(linf)
    return {part: source for part, source in parts.items() if source is not None}


def need(parts: dict[Part, str], part: Part) -> str:
    """The source that plays a part. Raises InvalidRequest, naming the parts there are."""
    if part not in parts:
        found = ", ".join(f"{one.value}: {source}" for one, source in parts.items()) or "none"
        raise InvalidRequest(
            Code.NO_ANSWER, f"needs trials of a source for the part {part.value!r}; found are {found}", key="source"
        )
    return parts[part]


def _first(candidates: pd.DataFrame) -> str | None:
    return None if candidates.empty else str(candidates.index[0])


def _is_random(source: str) -> bool:
    """Random initialisation has no constraint either, and is not the natural source."""
    card = sources().get(source)
    return card is not None and card.random


def _is_one_step(source: str) -> bool:
    """Trained by PGD(1): by the card of a known source, by its name otherwise."""
    card = sources().get(source)
    if card is None or card.pretrain is None:
        return "pgd1" in source
    return card.pretrain.steps == 1
