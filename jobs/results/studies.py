"""The studies that a results root has seen, as far as their results are concerned: the contrasts."""

from typing import NamedTuple

import yaml
from pydantic import TypeAdapter

from jobs.results.layout import study_key
from jobs.results.store import Store
from jobs.specs import Contrast


class StudyRecord(NamedTuple):
    """A launched study: its fully resolved file and the contrasts it declared beforehand."""

    name: str
    digest: str
    text: str
    contrasts: tuple[Contrast, ...]


def record_study(store: Store, name: str, digest: str, text: str) -> None:
    """Keep the resolved study file; recording the same study again changes nothing."""
    store.create(study_key(name, digest), text.encode())


def recorded_studies(store: Store) -> list[StudyRecord]:
    """All studies of a root, in order of name and digest."""
    return [_read(store, key) for key in sorted(store.keys("studies"))]


def _read(store: Store, key: str) -> StudyRecord:
    _, name, file = key.split("/")
    text = store.read(key).decode()
    contrasts = yaml.safe_load(text).get("contrasts", [])
    return StudyRecord(
        name, file.removesuffix(".yaml"), text, TypeAdapter(tuple[Contrast, ...]).validate_python(contrasts)
    )
