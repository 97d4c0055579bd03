"""Which source is compared with which: what was asked for, what a study declared, or what is obvious."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis.studies import PLACE, planned_cells, planned_places
from jobs import registry
from jobs.errors import Code, InvalidRequest
from jobs.results import Launch, Store, StudyRecord, read_launches, recorded_studies
from jobs.specs import ALL, Constraint, Contrast


class Comparison(NamedTuple):
    """``source`` minus ``baseline``, at equal blocks unless ``depths`` says otherwise."""

    source: str
    baseline: str
    depths: tuple[int, int] | None = None
    """Fine-tuned blocks of source and baseline, where these are one source."""

    @property
    def words(self) -> str:
        """As in ``l2 minus natural``, or ``l2 at blocks 3 minus 1``."""
        if self.depths is None:
            return f"{self.source} minus {self.baseline}"
        ours, other = ("all" if depth == ALL else str(depth) for depth in self.depths)
        return f"{self.source} at blocks {ours} minus {other}"


class Planned(NamedTuple):
    """A contrast, and the cells that the version of a study that declared it plans to evaluate for it."""

    contrast: Contrast
    cells: frozenset[tuple[object, ...]]
    """Values of ``analysis.studies.CELL``."""


class Family(NamedTuple):
    """Contrasts of a study whose cells are corrected together."""

    study: str
    name: str | None
    """None: the study's own set."""
    planned: tuple[Planned, ...]

    @property
    def words(self) -> str:
        """Whose contrasts these are."""
        return self.study if self.name is None else f"{self.study} ({self.name})"


class Declared(NamedTuple):
    """What studies declared before their trials ran, in order of their names; of each its own family first."""

    families: tuple[Family, ...]

    @property
    def contrasts(self) -> list[Contrast]:
        """Those of all studies, of studies' own families first."""
        own_first = sorted(self.families, key=lambda family: family.name is not None)
        return [one.contrast for family in own_first for one in family.planned]


def declared(records: Sequence[StudyRecord], launches: Sequence[Launch], study: str | None = None) -> Declared:
    """The families of all recorded studies, or of the one named ``study``.

    Of a study recorded in several versions, the newest launched one counts; all of them, where none was launched.

    Args:
        launches: oldest first.

    Raises:
        InvalidRequest: for a study that the root has not seen.
    """
    names = sorted({record.name for record in records})
    if study is not None:
        _require_seen(study, names)
    chosen = [study] if study is not None else names
    return Declared(tuple(family for name in chosen for family in _families(name, _newest(name, records, launches))))


def _families(study: str, versions: Sequence[StudyRecord]) -> list[Family]:
    """The study's own first, the others in the order in which they are declared."""
    found: dict[str | None, list[Planned]] = {None: []}
    for version in versions:
        cells = planned_cells(version)
        for one in version.contrasts:
            found.setdefault(one.family, []).append(Planned(one, cells[one.epoch]))
    return [Family(study, name, tuple(planned)) for name, planned in found.items() if planned]


def declared_in(store: Store, study: str | None = None) -> Declared:
    """``declared``, from a results root."""
    return declared(recorded_studies(store), read_launches(store), study)


def of_study(data: pd.DataFrame, store: Store, study: str) -> pd.DataFrame:
    """The evaluations of our own at the points that a study plans, whichever study ran them and with which seeds.

    Raises:
        InvalidRequest: for a study that the root has not seen, or of which no trial is finished.
    """
    records = recorded_studies(store)
    _require_seen(study, sorted({record.name for record in records}))
    versions = _newest(study, records, read_launches(store))
    points = frozenset().union(*map(planned_places, versions))
    planned = pd.DataFrame(sorted(points, key=str), columns=list(PLACE))
    own = data[data["origin"] != "imported"].merge(planned, on=list(PLACE), how="inner")
    if own.empty:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"no trial of the study {study} has finished yet; `deltasweep resume --study {study}` goes on with it",
            file=store.uri,
            key="--study",
        )
    return own


def _require_seen(study: str, names: Sequence[str]) -> None:
    if study not in names:
        known = f"it has seen {', '.join(names)}" if names else "it has seen none"
        raise InvalidRequest(Code.UNKNOWN_NAME, f"the results root has seen no study {study!r}; {known}", key="--study")


def _newest(name: str, records: Sequence[StudyRecord], launches: Sequence[Launch]) -> list[StudyRecord]:
    versions = {record.digest: record for record in records if record.name == name}
    launched = [one.digest for one in launches if one.study == name and one.digest in versions]
    return [versions[launched[-1]]] if launched else list(versions.values())


def comparisons(data: pd.DataFrame, asked: str | None, known: Declared, required: bool = True) -> list[Comparison]:
    """All sources against the baselines: that asked for, else those of the contrasts, else the natural source.

    Own and imported trials never pair, so each origin has baselines of its own; one that has none is compared with
    those of the others, which counts its trials as unpaired. Of contrasts in a named family their own two sources are
    compared, and no others with their baseline. Where two sources are each other's baseline by contrasts, only the
    declared direction is kept.

    Args:
        required: whether it is an error that no baseline follows from the data.

    Raises:
        InvalidRequest: for an unknown baseline, or when none follows from the data.
    """
    sources = sorted(set(data["source"]))
    if asked is not None:
        return _against(sources, [_known_baseline(asked, sources)])
    between = [one for one in known.contrasts if one.baseline_blocks is None]
    directed = {Comparison(one.source, one.baseline) for one in between}
    declared = {one.baseline for one in between if one.family is None}
    named = {Comparison(one.source, one.baseline) for one in between if one.family is not None}
    origins = [rows for _, rows in data.groupby("origin")]
    bases = [_baselines(rows, declared) for rows in origins]
    everywhere = sorted(set().union(*bases))
    pairs = {pair for pair in named if {pair.source, pair.baseline} <= set(sources)}
    if not everywhere and not pairs and required:
        raise InvalidRequest(Code.NO_ANSWER, _no_baseline(data, sources), key="--baseline")
    pairs |= {
        pair
        for rows, found in zip(origins, bases, strict=True)
        for pair in _against(sorted(set(rows["source"])), found or everywhere)
    }
    ordered = sorted(pairs, key=lambda pair: (pair.baseline, pair.source))
    return [pair for pair in ordered if _turned(pair) not in directed or pair in directed]


def between_depths(data: pd.DataFrame, asked: str | None, known: Declared) -> list[Comparison]:
    """The declared comparisons of two depths of one source, as far as there are trials of both.

    Args:
        asked: the only source that may be the baseline; None: any.
    """
    there = set(zip(data["source"], data["blocks"], strict=True))
    declared = {pair for one in known.contrasts if one.baseline_blocks is not None for pair in compared(one)}
    return sorted(
        pair
        for pair in declared
        if pair.depths is not None
        and asked in (None, pair.baseline)
        and {(pair.source, depth) for depth in pair.depths} <= there
    )


def compared(contrast: Contrast) -> list[Comparison]:
    """What a contrast compares."""
    if contrast.baseline_blocks is None:
        return [Comparison(contrast.source, contrast.baseline)]
    return [
        Comparison(contrast.source, contrast.baseline, (depth, contrast.baseline_blocks)) for depth in contrast.blocks
    ]


def sets(known: Declared) -> dict[Comparison, str]:
    """The names of the families that comparisons are of which no study's own family has; of several the first."""
    own = {pair for one in known.contrasts if one.family is None for pair in compared(one)}
    named = [(pair, one.family) for one in known.contrasts if one.family is not None for pair in compared(one)]
    return {pair: name for pair, name in reversed(named) if pair not in own}


def _turned(pair: Comparison) -> Comparison:
    return Comparison(pair.baseline, pair.source)


def _baselines(rows: pd.DataFrame, declared: set[str]) -> list[str]:
    """Of one origin: the declared baselines that it has, else its only natural source; maybe none."""
    found = sorted(declared & set(rows["source"]))
    natural = natural_sources(rows)
    return found or (natural if len(natural) == 1 else [])


def natural_sources(data: pd.DataFrame) -> list[str]:
    """The sources trained without a constraint, in order of name; random initialisation is not trained."""
    found = set(data.loc[data["constraint"] == Constraint.NONE.value, "source"])
    return sorted(found - {name for name, card in registry.sources().items() if card.random})


def _against(sources: Sequence[str], baselines: Sequence[str]) -> list[Comparison]:
    return [Comparison(source, base) for base in baselines for source in sources if source != base]


def _known_baseline(asked: str, sources: Sequence[str]) -> str:
    if asked not in sources:
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"the baseline must be a source with results; {asked!r} is not among: {', '.join(sources)}",
            key="--baseline",
        )
    return asked


def _no_baseline(data: pd.DataFrame, sources: Sequence[str]) -> str:
    natural = natural_sources(data)
    found = "none is" if not natural else f"{len(natural)} are ({', '.join(natural)})"
    return (
        f"without --baseline it is the study's contrasts' or the only source with constraint none; {found}. "
        f"Name one with --baseline, of: {', '.join(sources)}"
    )
