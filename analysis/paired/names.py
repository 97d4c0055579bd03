"""The sources of a results root in one order, so that each has the same look wherever the root is shown.

What cannot be read names nothing here: that is no reason to show no figure.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from analysis.paired.contrasts import newest_versions
from analysis.paired.studies import study_of
from jobs.errors import DamagedFile
from jobs.kind import kinds
from jobs.results import Store, StudyRecord, read_trials, readable_launches, readable_studies, schema

SOURCE = "source"


def has_source(kind: str) -> bool:
    """Return whether the results of a kind name a source."""
    return SOURCE in schema(kind).names


def sources_of(record: StudyRecord) -> frozenset[str]:
    """Return the sources that the grid or a section of a study names; none if this version cannot read it.

    They have their looks before they have results.
    """
    try:
        study = study_of(record)
    except DamagedFile:
        return frozenset()
    parts = (study.grid, *study.sections.values())
    return frozenset(name for part in parts for name in getattr(part, SOURCE, ()))


def sources_in(store: Store, already_read: Mapping[str, Iterable[str | None]] = MappingProxyType({})) -> list[str]:
    """Return the sources that results of all kinds or the newest versions of studies name, sorted.

    Their places are their looks.

    Args:
        already_read: by kind, the sources of its results where the caller has read them.
    """
    columns = (already_read[kind] if kind in already_read else _read(store, kind) for kind in kinds())
    found = {name for column in columns for name in column if name is not None}
    versions = newest_versions(readable_studies(store), readable_launches(store))
    return sorted(found.union(*map(sources_of, versions)))


def _read(store: Store, kind: str) -> list[str | None]:
    if not has_source(kind):
        return []
    rows = read_trials(store, kind, [SOURCE], encoded=True, skip_damaged=True)
    return list(rows[SOURCE].unique().to_pylist())
