"""Which source is compared with which: what was asked for, what a study declared, or what is obvious."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis.studies import PLACE, planned_cells, planned_places
from jobs import registry
from jobs.errors import Code, InvalidRequest
from jobs.results import Launch, Store, StudyRecord, read_launches, recorded_studies
from jobs.specs import Constraint, Contrast


class Comparison(NamedTuple):
    """``source`` minus ``baseline``."""

    source: str
    baseline: str


class Version(NamedTuple):
    """What one recorded version of a study declared before its trials ran."""

    contrasts: tuple[Contrast, ...]
    cells: frozenset[tuple[object, ...]]
    """Of that study: values of ``analysis.studies.CELL``."""


class Family(NamedTuple):
    """All cells of all contrasts of a study: they are corrected together."""

    study: str
    versions: tuple[Version, ...]


class Declared(NamedTuple):
    """What studies declared before their trials ran, in order of their names."""

    families: tuple[Family, ...]

    @property
    def contrasts(self) -> list[Contrast]:
        """Those of all studies."""
        return [one for family in self.families for version in family.versions for one in version.contrasts]


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
    families = [
        Family(name, tuple(Version(one.contrasts, planned_cells(one)) for one in found))
        for name in ([study] if study is not None else names)
        if (found := [one for one in _newest(name, records, launches) if one.contrasts])
    ]
    return Declared(tuple(families))


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


def comparisons(data: pd.DataFrame, asked: str | None, known: Declared) -> list[Comparison]:
    """All sources against the baselines: that asked for, else those of the contrasts, else the natural source.

    Own and imported trials never pair, so each origin has baselines of its own; one that has none is compared with
    those of the others, which counts its trials as unpaired. Where two sources are each other's baseline by contrasts,
    only the declared direction is kept.

    Raises:
        InvalidRequest: for an unknown baseline, or when none follows from the data.
    """
    sources = sorted(set(data["source"]))
    if asked is not None:
        return _against(sources, [_known_baseline(asked, sources)])
    directed = {(contrast.source, contrast.baseline) for contrast in known.contrasts}
    declared = {contrast.baseline for contrast in known.contrasts}
    origins = [rows for _, rows in data.groupby("origin")]
    bases = [_baselines(rows, declared) for rows in origins]
    everywhere = sorted(set().union(*bases))
    if not everywhere:
        raise InvalidRequest(Code.NO_ANSWER, _no_baseline(data, sources), key="--baseline")
    pairs = {
        pair
        for rows, found in zip(origins, bases, strict=True)
        for pair in _against(sorted(set(rows["source"])), found or everywhere)
    }
    ordered = sorted(pairs, key=lambda pair: (pair.baseline, pair.source))
    return [pair for pair in ordered if (pair.baseline, pair.source) not in directed or pair in directed]


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
