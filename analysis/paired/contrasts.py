"""The comparisons of sources: as requested, as declared by a study, or with the only natural source."""

from collections.abc import Sequence, Set
from contextlib import suppress
from typing import NamedTuple

import pandas as pd

from analysis.evaluations.lengths import PLANNED, Plan
from analysis.paired.studies import PLACE, planned_cells, planned_places, study_of
from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.results import (
    Launch,
    Store,
    StudyRecord,
    read_launches,
    readable_launches,
    readable_studies,
    recorded_studies,
)
from jobs.specs.base import ALL
from jobs.specs.contrast import Contrast
from jobs.specs.equivalence import Equivalence
from jobs.specs.recipes import Recipe
from jobs.specs.threat_model import Constraint
from jobs.study.expand import fine_tuned
from jobs.system.commands import command


class Comparison(NamedTuple):
    """``source`` minus ``baseline``, at equal blocks unless ``depths`` says otherwise."""

    source: str
    baseline: str
    depths: tuple[int, int] | None = None
    """Fine-tuned blocks of source and baseline, where both are the same source."""

    @property
    def words(self) -> str:
        """A description such as ``l2 minus natural`` or ``l2 at blocks 3 minus 1``."""
        if self.depths is None:
            return f"{self.source} minus {self.baseline}"
        ours, other = ("all" if depth == ALL else str(depth) for depth in self.depths)
        return f"{self.source} at blocks {ours} minus {other}"


class Planned(NamedTuple):
    """A contrast, and the cells that the declaring version of a study plans to evaluate for it."""

    contrast: Contrast
    cells: frozenset[tuple[object, ...]]
    """Values of ``analysis.paired.studies.CELL``."""


class Family(NamedTuple):
    """Contrasts of a study whose cells are corrected together."""

    study: str
    name: str | None
    """None for the study's contrasts without a family name."""
    planned: tuple[Planned, ...]

    @property
    def words(self) -> str:
        """The study, and the name of the family if it has one."""
        return self.study if self.name is None else f"{self.study} ({self.name})"


class PlannedEquivalence(NamedTuple):
    """An equivalence, and what the declaring version of a study plans to evaluate for it."""

    study: str
    equivalence: Equivalence
    cells: frozenset[tuple[object, ...]]
    """Values of ``analysis.paired.studies.CELL``."""
    recipes: tuple[Recipe, ...]
    """The recipes of the study."""


class Declared(NamedTuple):
    """The contrasts that studies declared before running, sorted by study; each study's unnamed family comes first."""

    families: tuple[Family, ...]

    @property
    def planned(self) -> list[Planned]:
        """The contrasts of all studies with their cells, those of unnamed families first."""
        own_first = sorted(self.families, key=lambda family: family.name is not None)
        return [planned for family in own_first for planned in family.planned]

    @property
    def contrasts(self) -> list[Contrast]:
        """The contrasts of ``planned``."""
        return [planned.contrast for planned in self.planned]


def declared(records: Sequence[StudyRecord], launches: Sequence[Launch], study: str | None = None) -> Declared:
    """Return the families of all recorded studies, or of the one named ``study``.

    For a study recorded in several versions, only the most recently launched version counts, or all versions if none
    was launched.

    Args:
        launches: oldest first.

    Raises:
        InvalidRequest: for a study that is not recorded in the root.
    """
    chosen = _chosen(records, study)
    return Declared(tuple(family for name in chosen for family in _families(name, _newest(name, records, launches))))


def declared_equivalences(
    records: Sequence[StudyRecord], launches: Sequence[Launch], study: str | None = None
) -> list[PlannedEquivalence]:
    """Return the equivalences of the same versions as in ``declared``, sorted by study.

    Raises:
        InvalidRequest: for a study that is not recorded in the root.
    """
    found = []
    for version in (version for name in _chosen(records, study) for version in _newest(name, records, launches)):
        if version.equivalences:
            cells, recipes = planned_cells(version), study_of(version).recipes
            found += [PlannedEquivalence(version.name, one, cells[one.epoch], recipes) for one in version.equivalences]
    return found


def _chosen(records: Sequence[StudyRecord], study: str | None) -> list[str]:
    """Return the names of all recorded studies, or the one that is named."""
    names = sorted({record.name for record in records})
    if study is None:
        return names
    _require_seen(study, names)
    return [study]


def _families(study: str, versions: Sequence[StudyRecord]) -> list[Family]:
    """Return the study's unnamed family, then the others in the order of their declaration."""
    by_name: dict[str | None, list[Planned]] = {None: []}
    for version in versions:
        cells = planned_cells(version)
        for contrast in version.contrasts:
            by_name.setdefault(contrast.family, []).append(Planned(contrast, cells[contrast.epoch]))
    return [Family(study, name, tuple(planned)) for name, planned in by_name.items() if planned]


def declared_in(store: Store, study: str | None = None) -> Declared:
    """Return the families (see ``declared``) recorded in a results root."""
    return declared(recorded_studies(store), read_launches(store), study)


def of_study(data: pd.DataFrame, store: Store, study: str) -> pd.DataFrame:
    """Return the root's own evaluations at the points that a study plans, whichever study ran them and for any seed.

    Raises:
        InvalidRequest: for a study that is not recorded in the root, or that has no finished trial.
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
            f"no trial of the study {study} has finished yet. Fix: run "
            f"{command('resume', '--study', study, '--results', store.uri)}",
            file=store.uri,
            key="--study",
        )
    return own


def unfinished(finished: Set[str], store: Store, study: str | None = None) -> list[str]:
    """Return a sentence for each study, or the one named ``study``, some of whose fine-tuning trials have no result.

    Args:
        finished: the ids of the root's finished trials.
    """
    records, launches = recorded_studies(store), read_launches(store)
    sentences = []
    for name in _chosen(records, study):
        newest = _newest(name, records, launches)
        planned = {spec.trial_id for version in newest for spec in fine_tuned(study_of(version))}
        if 0 < (done := len(planned & finished)) < len(planned):
            sentences.append(
                f"{done:,} of {len(planned):,} trials of {name} are done: its deltas, intervals and p-values are not "
                "final"
            )
    return sentences


def lengths_in(store: Store) -> Plan:
    """Return a function that reads the lengths planned in a results root, from what can be read of its studies."""
    return lambda: planned_lengths(readable_studies(store), readable_launches(store))


def planned_lengths(records: Sequence[StudyRecord], launches: Sequence[Launch]) -> pd.DataFrame:
    """Return the trials that the newest versions of studies plan, for ``analysis.evaluations.lengths.Plan``.

    Studies that this version cannot read decide nothing.

    Args:
        launches: oldest first.
    """
    names = {record.name for record in records}
    last = {launch.study: place for place, launch in enumerate(launches)}
    planned: dict[tuple[object, ...], int] = {}
    for place, name in enumerate(sorted(names, key=lambda name: (last.get(name, -1), name))):
        for version in _newest(name, records, launches):
            with suppress(DamagedFile):
                planned |= dict.fromkeys(planned_places(version), place)
    places = pd.DataFrame([*planned], columns=list(PLACE))
    return places[list(PLANNED)].assign(launched=pd.Series([*planned.values()], dtype="int64"))


def _require_seen(study: str, names: Sequence[str]) -> None:
    if study not in names:
        known = f"recorded are {', '.join(names)}" if names else "none is recorded"
        raise InvalidRequest(
            Code.UNKNOWN_NAME, f"the study {study!r} is not recorded in the results root; {known}", key="--study"
        )


def _newest(name: str, records: Sequence[StudyRecord], launches: Sequence[Launch]) -> list[StudyRecord]:
    versions = {record.digest: record for record in records if record.name == name}
    launched = [launch.digest for launch in launches if launch.study == name and launch.digest in versions]
    return [versions[launched[-1]]] if launched else list(versions.values())


def newest_versions(records: Sequence[StudyRecord], launches: Sequence[Launch]) -> list[StudyRecord]:
    """Return the records of all studies, in the versions that ``declared`` takes."""
    return [version for name in _chosen(records, None) for version in _newest(name, records, launches)]


def comparisons(data: pd.DataFrame, asked: str | None, known: Declared, required: bool = True) -> list[Comparison]:
    """Compare all sources with the baselines: the requested one, else those of the contrasts, else the natural source.

    The root's own trials and imported ones never pair, so each origin has its own baselines. An origin without one is
    compared with the baselines of the others, so that its trials are counted as unpaired. A contrast in a named family
    only compares its own two sources, and adds no baseline for others. Where contrasts make two sources each other's
    baseline, only the declared direction is kept.

    Args:
        required: whether it is an error if no baseline follows from the data.

    Raises:
        InvalidRequest: for an unknown baseline, or when none follows from the data.
    """
    sources = sorted(set(data["source"]))
    if asked is not None:
        return _against(sources, [_known_baseline(asked, sources)])
    between = [contrast for contrast in known.contrasts if contrast.baseline_blocks is None]
    directed = {Comparison(contrast.source, contrast.baseline) for contrast in between}
    declared = {contrast.baseline for contrast in between if contrast.family is None}
    named = {Comparison(contrast.source, contrast.baseline) for contrast in between if contrast.family is not None}
    origins = [rows for _, rows in data.groupby("origin")]
    bases = [_baselines(rows, declared) for rows in origins]
    everywhere = sorted(set().union(*bases))
    pairs = {pair for pair in named if {pair.source, pair.baseline} <= set(sources)}
    if not everywhere and not pairs and required:
        missing = sorted({name for contrast in between for name in (contrast.source, contrast.baseline)} - {*sources})
        raise InvalidRequest(Code.NO_ANSWER, _no_baseline(data, sources, missing), key="--baseline")
    pairs |= {
        pair
        for rows, own_bases in zip(origins, bases, strict=True)
        for pair in _against(sorted(set(rows["source"])), own_bases or everywhere)
    }
    ordered = sorted(pairs, key=lambda pair: (pair.baseline, pair.source))
    return [pair for pair in ordered if _turned(pair) not in directed or pair in directed]


def of_compared(data: pd.DataFrame, chosen: Sequence[Comparison]) -> pd.DataFrame:
    """Return the evaluations of the compared sources."""
    sources = {name for comparison in chosen for name in (comparison.source, comparison.baseline)}
    return data[data["source"].isin(sources)]


def between_depths(data: pd.DataFrame, asked: str | None, known: Declared) -> list[Comparison]:
    """Return the declared comparisons of two depths of one source for which both depths have trials.

    Args:
        asked: the only source allowed as baseline; None: any.
    """
    there = set(zip(data["source"], data["blocks"], strict=True))
    deep = [contrast for contrast in known.contrasts if contrast.baseline_blocks is not None]
    return sorted(
        pair
        for pair in {pair for contrast in deep for pair in compared(contrast)}
        if pair.depths is not None
        and asked in (None, pair.baseline)
        and {(pair.source, depth) for depth in pair.depths} <= there
    )


def compared(contrast: Contrast) -> list[Comparison]:
    """Return the comparisons that a contrast declares."""
    if contrast.baseline_blocks is None:
        return [Comparison(contrast.source, contrast.baseline)]
    return [
        Comparison(contrast.source, contrast.baseline, (depth, contrast.baseline_blocks)) for depth in contrast.blocks
    ]


def sets(known: Declared) -> dict[Comparison, str]:
    """Return the name of the first family of each comparison that is only in named families."""
    families = [(pair, contrast.family) for contrast in known.contrasts for pair in compared(contrast)]
    own = {pair for pair, name in families if name is None}
    return {pair: name for pair, name in reversed(families) if name is not None and pair not in own}


def _turned(pair: Comparison) -> Comparison:
    return Comparison(pair.baseline, pair.source)


def _baselines(rows: pd.DataFrame, declared: set[str]) -> list[str]:
    """Return the declared baselines that occur in one origin, else its only natural source, if there is exactly one."""
    declared_here = sorted(declared & set(rows["source"]))
    natural = natural_sources(rows)
    return declared_here or (natural if len(natural) == 1 else [])


def natural_sources(data: pd.DataFrame) -> list[str]:
    """Return the sources trained without a constraint, sorted; random initialization does not count as trained."""
    unconstrained = set(data.loc[data["constraint"] == Constraint.NONE.value, "source"])
    return sorted(unconstrained - {name for name, card in PACKAGED.sources.items() if card.random})


def _against(sources: Sequence[str], baselines: Sequence[str]) -> list[Comparison]:
    return [Comparison(source, base) for base in baselines for source in sources if source != base]


def _known_baseline(asked: str, sources: Sequence[str]) -> str:
    if asked not in sources:
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"expected a source with results as the baseline; {asked!r} is not among: {', '.join(sources)}",
            key="--baseline",
        )
    return asked


def _no_baseline(data: pd.DataFrame, sources: Sequence[str], missing: Sequence[str]) -> str:
    """Say why no baseline follows from the data.

    Args:
        missing: sources of declared contrasts that have no finished trial.
    """
    if missing:
        return (
            f"expected finished trials of both sources of a declared contrast; {', '.join(missing)} "
            f"{'has' if len(missing) == 1 else 'have'} none yet. Fix: repeat this later "
            f"({command('status', '--results', 'ROOT')} shows what runs), or name another baseline with --baseline"
        )
    natural = natural_sources(data)
    which = "none" if not natural else f"{len(natural)} ({', '.join(natural)})"
    return (
        f"expected --baseline, a declared contrast, or exactly one source with constraint none; got {which}. "
        f"Fix: name one with --baseline, of: {', '.join(sources)}"
    )
