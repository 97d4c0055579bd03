"""The sources of a results root by their role in the paper: natural, L2, L-infinity, Gaussian, PGD(1)."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from analysis.paired.contrasts import newest_versions
from analysis.paired.pairing import cells_with_pairs
from analysis.paired.studies import own_cards
from jobs.catalog.catalog import PACKAGED
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, InvalidRequest
from jobs.results import Launch, StudyRecord
from jobs.specs.contrast import Contrast
from jobs.specs.threat_model import Constraint


class Role(StrEnum):
    """The roles that the paper's figures compare."""

    NATURAL = "natural"
    L2 = "l2"
    LINF_SMALL = "linf, smaller epsilon"
    LINF_LARGE = "linf, larger epsilon"
    PGD1 = "l2 by PGD(1)"
    GAUSSIAN = "gaussian"


class Known(NamedTuple):
    """What studies say of the sources of a root."""

    contrasts: Sequence[Contrast] = ()
    """Those that matter more come first."""
    sources: Mapping[str, SourceCard] = MappingProxyType({})
    """The cards that studies define, besides the packaged ones."""


NOTHING = Known()


def known_from(records: Sequence[StudyRecord], launches: Sequence[Launch]) -> Known:
    """Return what studies say of sources: contrasts of their newest versions, those in no named family first.

    Args:
        launches: oldest first.
    """
    contrasts = [contrast for version in newest_versions(records, launches) for contrast in version.contrasts]
    return Known(sorted(contrasts, key=lambda contrast: contrast.family is not None), own_cards(records).sources)


_OTHERS = {Role.NATURAL: Constraint.NONE, Role.GAUSSIAN: Constraint.GAUSSIAN}


def cast(data: pd.DataFrame, known: Known = NOTHING) -> dict[Role, str]:
    """Return the source for each role for which the evaluations have one, all of one architecture as far as known.

    The natural and the L2 source are those of the first declared contrast of two such sources that has pairs. Without
    one, the architecture is that of which such sources have pairs, and otherwise the one with most trials. Among its
    candidates, the source with most trials is chosen, then the first by name, so that the choice does not depend on
    the order of files.
    """
    last = data[data["epoch"] == data["epochs"]]
    sources = _sources(last, known.sources)
    for l2, natural in _declared(sources, known.contrasts):
        if _have_pairs(last, l2, natural):
            alike = _of(sources, str(sources.at[natural, "architecture"]))
            return _parts(alike) | {Role.NATURAL: natural, Role.L2: l2}
    architectures = [name for name in sources["architecture"].unique() if name] or [""]
    troupes = [_parts(_of(sources, architecture)) for architecture in architectures]
    return max(troupes, key=lambda parts: _weight(parts, sources, last))


def _sources(last: pd.DataFrame, own: Mapping[str, SourceCard]) -> pd.DataFrame:
    """Return the sources, those with most trials first; an unknown architecture is empty.

    Random initialization is left out: it has no constraint either, but is not the natural source.
    """
    known = last.groupby("source").agg(
        constraint=("constraint", "first"), epsilon=("epsilon", "first"), trials=("trial_id", "size")
    )
    cards = {str(name): PACKAGED.sources.get(str(name)) or own.get(str(name)) for name in known.index}
    known = known[[card is None or not card.random for card in cards.values()]].copy()
    known["one_step"] = [_is_one_step(name, cards[name]) for name in known.index]
    known["architecture"] = [card.architecture if (card := cards[name]) else "" for name in known.index]
    return known.sort_index().sort_values("trials", ascending=False, kind="stable")


def _of(sources: pd.DataFrame, architecture: str) -> pd.DataFrame:
    """Return the sources that may have an architecture."""
    return sources[sources["architecture"].isin([architecture, ""])] if architecture else sources


def _parts(known: pd.DataFrame) -> dict[Role, str]:
    parts = {part: _first(known[known["constraint"] == value.value]) for part, value in _OTHERS.items()}
    parts[Role.L2] = _first(_l2(known))
    parts[Role.PGD1] = _first(known[(known["constraint"] != Constraint.FOURIER.value) & known["one_step"]])
    linf = known[known["constraint"] == Constraint.LINF.value]
    parts[Role.LINF_SMALL] = _first(linf[linf["epsilon"] == linf["epsilon"].min()])
    if linf["epsilon"].nunique() > 1:
        parts[Role.LINF_LARGE] = _first(linf[linf["epsilon"] == linf["epsilon"].max()])
    return {part: source for part, source in parts.items() if source is not None}


def _l2(known: pd.DataFrame) -> pd.DataFrame:
    return known[(known["constraint"] == Constraint.L2.value) & ~known["one_step"]]


def _declared(known: pd.DataFrame, contrasts: Sequence[Contrast]) -> Iterator[tuple[str, str]]:
    """Yield the declared pairs of an L2 source and a natural one."""
    l2, natural = set(_l2(known).index), set(known.index[known["constraint"] == _OTHERS[Role.NATURAL].value])
    for contrast in contrasts:
        if contrast.source in l2 and contrast.baseline in natural:
            yield contrast.source, contrast.baseline


def _have_pairs(last: pd.DataFrame, source: str, baseline: str) -> bool:
    left, right = (last[last["source"] == name] for name in (source, baseline))
    return not cells_with_pairs(left, right).empty


def _weight(parts: Mapping[Role, str], sources: pd.DataFrame, last: pd.DataFrame) -> tuple[bool, int]:
    """Return whether the parts have pairs of L2 and natural, and their number of trials."""
    pair = Role.L2 in parts and Role.NATURAL in parts and _have_pairs(last, parts[Role.L2], parts[Role.NATURAL])
    return pair, int(sources.loc[[*parts.values()], "trials"].sum())


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


def _is_one_step(source: str, card: SourceCard | None) -> bool:
    """Whether a source was trained with PGD(1), judged by its card if that is known, by its name otherwise."""
    if card is None or card.pretrain is None:
        return "pgd1" in source
    return card.pretrain.steps == 1
