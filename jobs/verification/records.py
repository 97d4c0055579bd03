"""Checks of everything in a results root except results: records, logs, checkpoints, weights, temporary files."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.kind import INSTALL_IT, KIND_NAME, NOT_INSTALLED, kinds
from jobs.results.failures import Failure, read_failure
from jobs.results.launches import STALE_SECONDS, Launch, read_launch
from jobs.results.layout import (
    MOST_CHECKPOINT_BYTES,
    checkpoint_digest,
    imported_in_conflict,
    is_checkpoint,
    log_key,
    output_key,
    trained_weights_key,
    trial_id_at,
    trial_key,
    trials_prefix,
)
from jobs.results.parquet import decode_trial
from jobs.results.pins import read_pin, wrong_pin
from jobs.results.problems import DamagedResult, Finding, Problem
from jobs.results.records import MisnamedRecord, reason
from jobs.results.schema import most_bytes
from jobs.results.store import Store
from jobs.results.studies import StudyRecord, of_newer_version, read_study, unknown_keys
from jobs.results.trained import made_again_key, read_made_again
from jobs.study.model import Study, unknown_sections
from jobs.system import safe_yaml
from jobs.system.commands import command

_STALE_AFTER = timedelta(days=1)


def keys_in(store: Store, folder: str) -> list[str]:
    """Return all keys in a folder; ``verify`` reports entries that are not files separately."""
    return store.survey(folder).keys


def finished_trials(store: Store, kind: str) -> set[str]:
    """Return the ids of a kind's finished trials, ignoring files with other names."""
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
                f"{store.uri}/{key} was imported with different numbers than {store.uri}/{standing}, under the same "
                "names: two imports disagree, and the second of these files is the one that is read. Fix: compare the "
                "two, and the CSV files that they came from; remove the first once the difference is explained"
            )
        else:
            advice = (
                f"{store.uri}/{key} has different numbers than the finished trial with the same id, although device "
                "kind, torch and torchvision are the same: a trial was not reproducible. Fix: compare the "
                "code_version of the two files; remove this one once the difference is explained"
            )
        yield Finding(Problem.CONFLICT, key, advice)


def _wrong_conflict(store: Store, key: str) -> Finding | None:
    """Check that a conflict's name matches its contents."""
    _, *of = key.removesuffix(".parquet").split("/")
    file = f"{store.uri}/{key}"
    if len(of) != 3 or not KIND_NAME.fullmatch(of[0]) or not key.endswith(".parquet"):
        return Finding(
            Problem.FOREIGN, key, f"expected only results under {store.uri}/conflicts; got {file}. Fix: move it away"
        )
    kind, trial_id, digest = of
    if kind not in kinds():
        return None
    try:
        data = store.read_within(key, most_bytes(kind))
        decode_trial(data, kind, trial_id, file)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        problem = error.problem if isinstance(error, DamagedResult) else Problem.WRONG_CONTENT
        return Finding(problem, key, f"{error} (it is a recorded conflict, and no trial depends on it)")
    if (found := hashlib.sha256(data).hexdigest()[:16]) != digest:
        said = f"{file} has the digest {found}, not the one in its name: it was changed. Fix: remove it"
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
            except MisnamedRecord as error:
                yield Finding(Problem.MISNAMED, key, str(error))
            except DamagedFile as error:
                newer = error.code is Code.NEWER_VERSION
                yield Finding(Problem.WRONG_VERSION if newer else Problem.UNREADABLE_RECORD, key, str(error))
            except FileNotFoundError:
                continue  # removed since it was listed


def _wrong_record(store: Store, key: str, record: object) -> Finding | None:
    """Check that the times of a readable record are not in the future, and that a study matches its name."""
    file = f"{store.uri}/{key}"
    match record:
        case Launch():
            return _ahead(key, file, record.started_at, record.heartbeat_at, record.ended_at)
        case Failure():
            return _ahead(key, file, record.failed_at)
        case StudyRecord():
            return _wrong_study(key, file, record)
    return None


def _ahead(key: str, file: str, *times: str | None) -> Finding | None:
    """Report times in the future, with which a launch would appear to be running."""
    now = datetime.now(UTC)
    for time in times:
        try:
            ahead = time is not None and (datetime.fromisoformat(time) - now).total_seconds() > STALE_SECONDS
        except (ValueError, TypeError):
            return Finding(
                Problem.UNREADABLE_RECORD, key, f"{file} contains {time!r}, which is not a valid time. Fix: remove it"
            )
        if ahead:
            said = f"{file} contains the time {time}, which is after now ({now.isoformat(timespec='seconds')})"
            return Finding(
                Problem.IN_FUTURE,
                key,
                f"{said}. Fix: correct the machines' clocks; remove it only if it was altered, and no launch runs that "
                "wrote it",
            )
    return None


def _wrong_study(key: str, file: str, record: StudyRecord) -> Finding | None:
    try:
        values = safe_yaml.load(record.text)
        unknown = unknown_sections(values)
        study = Study.model_validate({key: value for key, value in values.items() if key not in unknown})
    except (ValidationError, InvalidRequest, ValueError) as error:
        if newer := unknown_keys(error):
            return Finding(Problem.WRONG_VERSION, key, str(of_newer_version(file, newer)))
        message = (
            f"{file} is not a study that this DeltaSweep can read ({reason(error)[:500]}): a newer version wrote it, or"
        )
        return Finding(
            Problem.UNREADABLE_RECORD,
            key,
            f"{message} it was changed. Fix: launch the study's file again, then remove this file",
        )
    if unknown and study.name == record.name:
        return Finding(
            Problem.UNKNOWN_KIND,
            key,
            f"{file} has a section of a kind {NOT_INSTALLED} ({', '.join(unknown)}), so its trials are unknown. "
            f"{INSTALL_IT}",
        )
    if (study.name, study.digest) == (record.name, record.digest):
        return None
    return Finding(
        Problem.MISNAMED,
        key,
        f"{file} is the study {study.name} with digest {study.digest}, not the one in its path: it was changed after "
        "it was recorded, and resume would run other trials. Fix: launch the study's file again, then remove this file",
    )


def misnamed(store: Store) -> Iterator[Finding]:
    """Report logs, and pins of sources and datasets, whose names do not match their contents or are never looked up."""
    for key in keys_in(store, "logs"):
        _, *of = key.rpartition(".")[0].split("/")
        names = (log_key, output_key)
        if len(of) != 2 or not of[1].isdecimal() or key not in [name(of[0], int(of[1])) for name in names]:
            yield Finding(
                Problem.MISNAMED, key, f"{store.uri}/{key} does not have the name of a log. Fix: move it away"
            )
    for key in [*keys_in(store, "sources"), *keys_in(store, "datasets")]:
        try:
            wrong = wrong_pin(store, key)
        except (DamagedFile, FileNotFoundError):
            continue  # ``records`` reports unreadable pins
        if wrong:
            yield Finding(Problem.MISNAMED, key, f"{store.uri}/{key} {wrong}")


def checkpoints(store: Store, finished: set[str]) -> Iterator[Finding]:
    for key in keys_in(store, "checkpoints"):
        if is_checkpoint(key) and key.split("/")[1] in finished:
            yield Finding(
                Problem.LEFTOVER_CHECKPOINT,
                key,
                f"{store.uri}/{key} belongs to a trial that is done, and may be removed",
            )
        elif (digest := checkpoint_digest(key)) is not None:
            try:
                found = store.sha256_within(key, MOST_CHECKPOINT_BYTES)
            except FileNotFoundError:
                continue
            except DamagedFile as error:
                yield Finding(Problem.DAMAGED_CHECKPOINT, key, str(error))
                continue
            if not found.startswith(digest):
                said = f"{store.uri}/{key} has the digest {found[: len(digest)]}, not the one in its name: it is"
                yield Finding(
                    Problem.DAMAGED_CHECKPOINT,
                    key,
                    f"{said} ignored, and its trial resumes from the previous checkpoint, or from the start",
                )


def weights(store: Store) -> Iterator[Finding]:
    """Check that trained sources have their weights, which fine-tuning reads, and that nothing else is with them."""
    there = set(keys_in(store, "weights"))
    retention = [name for name, kind in kinds().items() if kind.keeps_weights]
    made = [(kind, trial_id) for kind in retention for trial_id in sorted(finished_trials(store, kind))]
    for kind, trial_id in made:
        if (key := trained_weights_key(trial_id)) not in there:
            result = trial_key(kind, trial_id)
            yield Finding(
                Problem.WITHOUT_WEIGHTS,
                result,
                f"{store.uri}/{result} is the result of a trained source whose weights are missing ({key}). Fix: "
                "restore them, or launch its study again, which retrains them",
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
                Problem.FOREIGN, key, f"expected only trained weights here; got {store.uri}/{key}. Fix: move it away"
            )


def temporaries(store: Store) -> Iterator[Finding]:
    for key in store.stale(_STALE_AFTER):
        yield Finding(
            Problem.STALE_TEMPORARY,
            key,
            f"{store.uri}/{key} was left by a killed process; {command('compact', '--results', store.uri)} removes it",
        )
