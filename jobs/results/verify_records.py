"""What can be found wrong in a results root beside its results: records, logs, checkpoints, weights, leftovers."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from jobs import yaml_values
from jobs.errors import DamagedFile, InvalidRequest
from jobs.results.failures import Failure, read_failure
from jobs.results.launches import STALE_SECONDS, Launch, read_launch
from jobs.results.layout import (
    MOST_CHECKPOINT_BYTES,
    checkpoint_digest,
    imported_in_conflict,
    is_checkpoint,
    launch_key,
    log_key,
    trained_weights_key,
    trial_id_at,
    trial_key,
    trials_prefix,
)
from jobs.results.parquet import decode_trial
from jobs.results.pins import read_pin, wrong_pin
from jobs.results.problems import DamagedResult, Finding, Problem
from jobs.results.records import reason
from jobs.results.schema import kinds, most_bytes
from jobs.results.store import Store
from jobs.results.studies import StudyRecord, read_study
from jobs.results.trained import made_again_key, read_made_again
from jobs.study import Study

_STALE_AFTER = timedelta(days=1)
_MAKES_SOURCES = "pretrain"


def keys_in(store: Store, folder: str) -> list[str]:
    """All keys of a folder; what is in the way of others is found by ``verify``."""
    return store.survey(folder).keys


def finished_trials(store: Store, kind: str) -> set[str]:
    """The ids of the finished trials that can be found."""
    ids = (trial_id_at(key, kind) for key in keys_in(store, trials_prefix(kind)))
    return {trial_id for trial_id in ids if trial_id is not None}


def conflicts(store: Store) -> Iterator[Finding]:
    for key in keys_in(store, "conflicts"):
        if (wrong := _wrong_conflict(store, key)) is not None:
            yield wrong
            continue
        standing = imported_in_conflict(key)
        if standing:
            advice = (
                f"{store.uri}/{key} was imported with other numbers than {store.uri}/{standing}, under the same names: "
                "two imports disagree, and the second of these files is the one that is read. Compare the two, and the "
                "CSV files that they came from; remove the first when it is explained"
            )
        else:
            advice = (
                f"{store.uri}/{key} holds other numbers than the finished trial of that id, from the same kind of "
                "device, torch and torchvision: a trial was not reproducible. Compare the two files' code_version; "
                "remove this one when it is explained"
            )
        yield Finding(Problem.CONFLICT, key, advice)


def _wrong_conflict(store: Store, key: str) -> Finding | None:
    """What is kept of a conflict has the name of its content."""
    _, *of = key.removesuffix(".parquet").split("/")
    file = f"{store.uri}/{key}"
    if len(of) != 3 or of[0] not in kinds() or not key.endswith(".parquet"):
        return Finding(
            Problem.FOREIGN, key, f"only results lie under {store.uri}/conflicts; {file} is none. Move it away"
        )
    kind, trial_id, digest = of
    try:
        data = store.read_within(key, most_bytes(kind))
        decode_trial(data, kind, trial_id, file)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        problem = error.problem if isinstance(error, DamagedResult) else Problem.WRONG_CONTENT
        return Finding(problem, key, f"{error} (it was kept aside, and no trial depends on it)")
    if (found := hashlib.sha256(data).hexdigest()[:16]) != digest:
        said = f"{file} has the digest {found}, not that of its name; it was changed since. Remove it"
        return Finding(Problem.WRONG_CONTENT, key, said)
    return None


def records(store: Store) -> Iterator[Finding]:
    readers: dict[str, Callable[[Store, str], object]] = {
        "failures": read_failure,
        "launches": read_launch,
        "studies": read_study,
        "sources": read_pin,
        "datasets": read_pin,
        "cards": read_pin,
    }
    for folder, read in readers.items():
        for key in keys_in(store, folder):
            try:
                if (wrong := _wrong_record(store, key, read(store, key))) is not None:
                    yield wrong
            except DamagedFile as error:
                yield Finding(Problem.UNREADABLE_RECORD, key, str(error))
            except FileNotFoundError:
                continue  # removed since it was listed


def _wrong_record(store: Store, key: str, record: object) -> Finding | None:
    """Of a record that can be read: whether it is what its name says, and of a time that has come."""
    file = f"{store.uri}/{key}"
    match record:
        case Launch():
            if launch_key(record.launch) != key:
                said = f"{file} is the record of launch {record.launch!r}, not of the one that its name says; remove it"
                return Finding(Problem.MISNAMED, key, said)
            return _ahead(key, file, record.started_at, record.heartbeat_at, record.ended_at)
        case Failure():
            return _ahead(key, file, record.failed_at)
        case StudyRecord():
            return _wrong_study(key, file, record)
    return None


def _ahead(key: str, file: str, *times: str | None) -> Finding | None:
    """A record of the future: a launch that says so would be taken for alive."""
    now = datetime.now(UTC)
    for time in times:
        try:
            ahead = time is not None and (datetime.fromisoformat(time) - now).total_seconds() > STALE_SECONDS
        except (ValueError, TypeError):
            return Finding(Problem.UNREADABLE_RECORD, key, f"{file} has the time {time!r}, which is none; remove it")
        if ahead:
            said = f"{file} says {time}, which has not come; now it is {now.isoformat(timespec='seconds')}"
            return Finding(
                Problem.IN_FUTURE, key, f"{said}. Fix: set the clocks of machines right, or remove it if it was altered"
            )
    return None


def _wrong_study(key: str, file: str, record: StudyRecord) -> Finding | None:
    try:
        study = Study.model_validate(yaml_values.load(record.text))
    except (ValidationError, InvalidRequest, ValueError) as error:
        said = (
            f"{file} is not a study that this DeltaSweep knows ({reason(error)[:500]}): a newer one wrote it, or it was"
        )
        return Finding(Problem.UNREADABLE_RECORD, key, f"{said} changed. Launch the study's file again, then remove it")
    if (study.name, study.digest) == (record.name, record.digest):
        return None
    return Finding(
        Problem.MISNAMED,
        key,
        f"{file} is the study {study.name} of digest {study.digest}, not the one that its name says: it was changed "
        "since it was recorded, and resume would run other trials. Launch the study's file again, then remove this one",
    )


def misnamed(store: Store) -> Iterator[Finding]:
    """Logs and pins whose names nobody looks for."""
    for key in keys_in(store, "logs"):
        _, *of = key.removesuffix(".log").split("/")
        if len(of) != 2 or not of[1].isdecimal() or key != log_key(of[0], int(of[1])):
            yield Finding(Problem.MISNAMED, key, f"{store.uri}/{key} has not the name of a log; move it away")
    for key in [*keys_in(store, "sources"), *keys_in(store, "datasets")]:
        try:
            wrong = wrong_pin(store, key)
        except (DamagedFile, FileNotFoundError):
            continue  # an unreadable one is found as a record
        if wrong:
            yield Finding(Problem.MISNAMED, key, f"{store.uri}/{key} {wrong}")


def checkpoints(store: Store, finished: set[str]) -> Iterator[Finding]:
    for key in keys_in(store, "checkpoints"):
        if is_checkpoint(key) and key.split("/")[1] in finished:
            yield Finding(
                Problem.LEFTOVER_CHECKPOINT,
                key,
                f"{store.uri}/{key} belongs to a trial that is done; it may be removed",
            )
        elif (digest := checkpoint_digest(key)) is not None:
            try:
                found = hashlib.sha256(store.read_within(key, MOST_CHECKPOINT_BYTES)).hexdigest()
            except FileNotFoundError:
                continue
            except DamagedFile as error:
                yield Finding(Problem.DAMAGED_CHECKPOINT, key, str(error))
                continue
            if not found.startswith(digest):
                said = f"{store.uri}/{key} has the digest {found[: len(digest)]}, not that of its name: it is passed"
                yield Finding(
                    Problem.DAMAGED_CHECKPOINT,
                    key,
                    f"{said} over, and its trial goes on from the one before it, or from its start",
                )


def weights(store: Store) -> Iterator[Finding]:
    """Sources that were made here must be here: fine-tuning reads them."""
    there = set(keys_in(store, "weights"))
    for trial_id in sorted(finished_trials(store, _MAKES_SOURCES)):
        if (key := trained_weights_key(trial_id)) not in there:
            result = trial_key(_MAKES_SOURCES, trial_id)
            yield Finding(
                Problem.WITHOUT_WEIGHTS,
                result,
                f"{store.uri}/{result} is the result of a source whose weights are gone ({key}): put them back, or "
                "launch its study again: they are made again",
            )
    for key in sorted(there):
        trial_id, _, ends = key.removeprefix("weights/").rpartition(".")
        if ends == "json" and key == made_again_key(trial_id):
            try:
                read_made_again(store, trial_id)
            except DamagedFile as error:
                yield Finding(Problem.UNREADABLE_RECORD, key, str(error))
        elif key != trained_weights_key(trial_id):
            yield Finding(
                Problem.FOREIGN, key, f"only trained weights lie there; {store.uri}/{key} is none. Move it away"
            )


def temporaries(store: Store) -> Iterator[Finding]:
    for key in store.stale(_STALE_AFTER):
        yield Finding(
            Problem.STALE_TEMPORARY,
            key,
            f"{store.uri}/{key} was left by a killed process; `deltasweep compact` removes it",
        )
