"""The studies that a results root has seen, as far as their results are concerned: the contrasts."""

from typing import NamedTuple

import yaml
from pydantic import TypeAdapter

from jobs import yaml_values
from jobs.errors import Code, DamagedFile
from jobs.results.layout import study_key
from jobs.results.records import reason
from jobs.results.store import Store
from jobs.specs import Contrast

_MOST_BYTES = 1 << 20
"""Of a resolved study; the largest that is packaged has 4 kB."""


class StudyRecord(NamedTuple):
    """A launched study: its fully resolved file and the contrasts it declared beforehand."""

    name: str
    digest: str
    text: str
    contrasts: tuple[Contrast, ...]


def record_study(store: Store, name: str, digest: str, text: str) -> None:
    """Keep the resolved study file; recording the same study again changes nothing, or repairs a damaged record."""
    key = study_key(name, digest)
    if not store.create(key, text.encode()) and not _readable(store, key):
        store.replace(key, text.encode())


def recorded_studies(store: Store) -> list[StudyRecord]:
    """All studies of a root, in order of name and digest.

    Raises:
        DamagedFile: naming a record that cannot be read.
    """
    return [read_study(store, key) for key in sorted(store.keys("studies"))]


def read_study(store: Store, key: str) -> StudyRecord:
    """One study. Raises DamagedFile, naming it, when it cannot be read."""
    try:
        _, name, file = key.split("/")
        text = store.read_within(key, _MOST_BYTES).decode()
        contrasts = TypeAdapter(tuple[Contrast, ...]).validate_python(yaml_values.load(text).get("contrasts", []))
    except (ValueError, AttributeError, yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)  # of YAML that cannot be parsed
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"{store.uri}/{key} is not a study record ({reason(error)}); launch the study's file again, then remove "
            "this one if it is still named: resume and the contrasts that were declared depend on it",
            file=f"{store.uri}/{key}",
            line=mark.line + 1 if mark else None,
        ) from error
    return StudyRecord(name, file.removesuffix(".yaml"), text, contrasts)


def _readable(store: Store, key: str) -> bool:
    try:
        read_study(store, key)
    except DamagedFile:
        return False
    return True
