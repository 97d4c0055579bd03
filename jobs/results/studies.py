"""The studies recorded in a results root, with the contrasts and equivalences that they declare."""

from contextlib import suppress
from typing import NamedTuple

import yaml
from pydantic import TypeAdapter

from jobs.errors import Code, DamagedFile
from jobs.results.layout import study_key
from jobs.results.records import reason
from jobs.results.store import Store
from jobs.specs.contrast import Contrast
from jobs.specs.equivalence import Equivalence
from jobs.system import safe_yaml

_MOST_BYTES = 1 << 20
"""Maximum size of a resolved study; the largest packaged study takes 4 kB."""


class StudyRecord(NamedTuple):
    """A launched study: its fully resolved file, and what it declared in advance."""

    name: str
    digest: str
    text: str
    contrasts: tuple[Contrast, ...]
    equivalences: tuple[Equivalence, ...] = ()


def record_study(store: Store, name: str, digest: str, text: str) -> None:
    """Store the resolved study file; recording the same study again only repairs the record if it is damaged."""
    key = study_key(name, digest)
    if not store.create(key, text.encode()) and not _readable(store, key):
        store.replace(key, text.encode())


def recorded_studies(store: Store) -> list[StudyRecord]:
    """Return all studies of a root, in order of name and digest.

    Raises:
        DamagedFile: naming a record that cannot be read.
    """
    return [read_study(store, key) for key in sorted(store.keys("studies"))]


def readable_studies(store: Store) -> list[StudyRecord]:
    """Return the studies of a root whose records can be read, for what decides only names and looks."""
    found = []
    for key in sorted(store.survey("studies").keys):
        with suppress(DamagedFile, FileNotFoundError):
            found.append(read_study(store, key))
    return found


def read_study(store: Store, key: str) -> StudyRecord:
    """Read one study.

    Raises:
        DamagedFile: naming the record, if it cannot be read.
    """
    try:
        _, name, file = key.split("/")
        text = store.read_within(key, _MOST_BYTES).decode()
        values = safe_yaml.load(text)
        contrasts = TypeAdapter(tuple[Contrast, ...]).validate_python(values.get("contrasts", []))
        equivalences = TypeAdapter(tuple[Equivalence, ...]).validate_python(values.get("equivalences", []))
    except (ValueError, AttributeError, yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)  # the position of a YAML syntax error
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"{store.uri}/{key} is not a study record ({reason(error)}). Fix: launch the study's file again, then "
            "remove this file if it is still reported; resume and what the study declared depend on it",
            file=f"{store.uri}/{key}",
            line=mark.line + 1 if mark else None,
        ) from error
    return StudyRecord(name, file.removesuffix(".yaml"), text, contrasts, equivalences)


def _readable(store: Store, key: str) -> bool:
    try:
        read_study(store, key)
    except DamagedFile:
        return False
    return True
