"""The sources of a results root in one order, so that each has the same look wherever the root is shown."""

from collections.abc import Iterable

from analysis.paired.contrasts import newest_studies
from jobs.kind import kinds
from jobs.results import Store, read_launches, read_trials, recorded_studies, schema
from jobs.results.reader import trial_files
from jobs.study.model import Study


def source_names(found: Iterable[str], studies: Iterable[Study]) -> list[str]:
    """Return the sources that results or the grid or a section of a study name, sorted: their places are their looks.

    A study's sources have their looks before they have results.
    """
    parts = [part for study in studies for part in (study.grid, *study.sections.values())]
    return sorted({*found, *(name for part in parts for name in getattr(part, "source", ()))})


def sources_in(store: Store) -> list[str]:
    """Return the ``source_names`` of a root: of its results of all kinds, and of the newest versions of its studies."""
    with_source = [kind for kind in kinds() if "source" in schema(kind).names and trial_files(store, kind)]
    columns = (read_trials(store, kind, ["source"], encoded=True)["source"] for kind in with_source)
    found = {name for column in columns for name in column.unique().to_pylist() if name is not None}
    return source_names(found, newest_studies(recorded_studies(store), read_launches(store)))
