"""The studies recorded in a results root, with the contrasts and equivalences that they declare."""

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.provenance import code_version
from jobs.results.launches import Launch, readable_launches
from jobs.results.layout import study_key
from jobs.results.records import read_listed, reason
from jobs.results.store import Store
from jobs.specs.contrast import Contrast
from jobs.specs.equivalence import Equivalence
from jobs.system import safe_yaml
from jobs.system.printable import listing

_MOST_BYTES = safe_yaml.MOST_CHARACTERS
"""Maximum size of a resolved study; the largest packaged study takes 4 kB."""


class StudyRecord(NamedTuple):
    """A launched study: its fully resolved file, and what it declared in advance."""

    name: str
    digest: str
    text: str
    contrasts: tuple[Contrast, ...]
    equivalences: tuple[Equivalence, ...] = ()


class _Declared(BaseModel):
    """What a study's file declares, of all of its keys."""

    contrasts: tuple[Contrast, ...] = ()
    equivalences: tuple[Equivalence, ...] = ()


def record_study(store: Store, name: str, digest: str, text: str) -> None:
    """Store the resolved study file; recording the same study again only repairs the record if it is damaged.

    Raises:
        InvalidRequest: if the file is larger than those that are read.
    """
    key, data = study_key(name, digest), text.encode()
    if len(data) > _MOST_BYTES:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected a study of at most {_MOST_BYTES:,} bytes with all its values; {name} has {len(data):,}. Fix: "
            "divide it into several studies",
        )
    if not store.create(key, data) and not _readable(store, key):
        store.replace(key, data)


def recorded_studies(store: Store) -> list[StudyRecord]:
    """Return all studies of a root, in order of name and digest.

    Raises:
        DamagedFile: naming a record that cannot be read.
    """
    return read_listed(store, "studies", read_study)


def readable_studies(store: Store) -> list[StudyRecord]:
    """Return the studies of a root whose records can be read, for what decides only names and looks."""
    found = []
    for key in sorted(store.survey("studies").keys):
        with suppress(DamagedFile, FileNotFoundError):
            found.append(read_study(store, key))
    return found


def unlaunched(records: Iterable[StudyRecord], launches: Iterable[Launch]) -> list[StudyRecord]:
    """Return the studies of which there is no launch: all their trials ran by themselves (``deltasweep run``)."""
    launched = {launch.study for launch in launches}
    return [record for record in records if record.name not in launched]


def read_study(store: Store, key: str) -> StudyRecord:
    """Read one study.

    Raises:
        DamagedFile: naming the record, if it cannot be read; its code says whether a newer version wrote it.
    """
    try:
        _, name, file = key.split("/")
        text = store.read_within(key, _MOST_BYTES).decode()
        values = safe_yaml.load(text)
        declared = _Declared.model_validate(values)
    except (ValueError, AttributeError, yaml.YAMLError, RecursionError) as error:
        if unknown := unknown_keys(error):
            versions = launched_by(store, name, file.removesuffix(".yaml"))
            raise of_newer_version(f"{store.uri}/{key}", unknown, versions) from error
        mark = getattr(error, "problem_mark", None)  # the position of a YAML syntax error
        raise DamagedFile(
            Code.DAMAGED_RECORD,
            f"{store.uri}/{key} is not a study record ({reason(error)}). Fix: launch the study's file again, then "
            "remove this file if it is still reported; resume and what the study declared depend on it",
            file=f"{store.uri}/{key}",
            line=mark.line + 1 if mark else None,
        ) from error
    return StudyRecord(name, file.removesuffix(".yaml"), text, declared.contrasts, declared.equivalences)


def unknown_keys(error: Exception) -> list[str]:
    """Return the keys that this version does not know, if a record has no other mistake; otherwise nothing."""
    found = error.errors() if isinstance(error, ValidationError) else []
    unknown = [".".join(map(str, one["loc"])) for one in found if one["type"] == "extra_forbidden"]
    return unknown if len(unknown) == len(found) else []


def launched_by(store: Store, name: str, digest: str) -> list[str]:
    """Return the versions of DeltaSweep that launched a recorded study."""
    launches = [launch for launch in readable_launches(store) if (launch.study, launch.digest) == (name, digest)]
    return sorted({launch.code_version for launch in launches})


def of_newer_version(file: str, keys: Iterable[str], versions: Iterable[str] = ()) -> DamagedFile:
    """Return the error for a recorded study with keys that this version does not know.

    Studies are checked before they are recorded, so these keys are no mistakes.

    Args:
        file: the record.
        versions: those that launched it, as far as they are known.
    """
    by = " and ".join(versions)
    return DamagedFile(
        Code.NEWER_VERSION,
        f"{file} has keys that DeltaSweep {code_version()} does not know ({listing(keys)}); "
        f"{f'DeltaSweep {by}' if by else 'a newer version'} launched it. Fix: install that version, or a later one",
        file=file,
    )


def _readable(store: Store, key: str) -> bool:
    try:
        read_study(store, key)
    except DamagedFile:
        return False
    return True
