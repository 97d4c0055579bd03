"""The sources of a results root by their role in the paper: natural, L2, L-infinity, Gaussian, PGD(1)."""

from enum import StrEnum

import pandas as pd

from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, InvalidRequest
from jobs.specs.threat_model import Constraint


class Role(StrEnum):
    """The roles that the paper's figures compare."""

    NATURAL = "natural"
    L2 = "l2"
    LINF_SMALL = "linf, smaller epsilon"
    LINF_LARGE = "linf, larger epsilon"
    PGD1 = "l2 by PGD(1)"
    GAUSSIAN = "gaussian"


_OTHERS = {Role.NATURAL: Constraint.NONE, Role.GAUSSIAN: Constraint.GAUSSIAN}


def cast(data: pd.DataFrame) -> dict[Role, str]:
    """Return the source for each role for which the evaluations have one.

    Among several candidates, the source with most trials is chosen, then the first by name, so that the choice does
    not depend on the order of files.
    """
    trials = data[data["epoch"] == data["epochs"]]
    known = trials.groupby("source").agg(
        constraint=("constraint", "first"), epsilon=("epsilon", "first"), trials=("trial_id", "size")
    )
    known = known[[not _is_random(str(name)) for name in known.index]].copy()
    known["one_step"] = [_is_one_step(str(name)) for name in known.index]
    known = known.sort_index().sort_values("trials", ascending=False, kind="stable")
    parts = {part: _first(known[known["constraint"] == value.value]) for part, value in _OTHERS.items()}
    parts[Role.L2] = _first(known[(known["constraint"] == Constraint.L2.value) & ~known["one_step"]])
    parts[Role.PGD1] = _first(known[(known["constraint"] != Constraint.FOURIER.value) & known["one_step"]])
    linf = known[known["constraint"] == Constraint.LINF.value]
    parts[Role.LINF_SMALL] = _first(linf[linf["epsilon"] == linf["epsilon"].min()])
    if linf["epsilon"].nunique() > 1:
        parts[Role.LINF_LARGE] = _first(linf[linf["epsilon"] == linf["epsilon"].max()])
    return {part: source for part, source in parts.items() if source is not None}


def need(parts: dict[Role, str], part: Role) -> str:
    """Return the source with a role. Raises InvalidRequest, listing the available roles."""
    if part not in parts:
        played = ", ".join(f"{role.value}: {source}" for role, source in parts.items()) or "none"
        raise InvalidRequest(
            Code.NO_ANSWER, f"needs trials of a source in the role {part.value!r}; available: {played}", key="source"
        )
    return parts[part]


def _first(candidates: pd.DataFrame) -> str | None:
    return None if candidates.empty else str(candidates.index[0])


def _is_random(source: str) -> bool:
    """Whether a source is random initialization, which has no constraint either but is not the natural source."""
    card = PACKAGED.sources.get(source)
    return card is not None and card.random


def _is_one_step(source: str) -> bool:
    """Whether a source was trained with PGD(1), judged by its card if it is known, by its name otherwise."""
    card = PACKAGED.sources.get(source)
    if card is None or card.pretrain is None:
        return "pgd1" in source
    return card.pretrain.steps == 1
