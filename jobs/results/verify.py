"""Everything that can be found wrong in a results root, all of it, with what to do."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from jobs import yaml_values
from jobs.errors import DamagedFile, InvalidRequest
from jobs.provenance import HISTORY_COLUMNS, history_of
from jobs.results.consistency import Contradiction, contradictions, spec_of
from jobs.results.failures import Failure, read_failure
from jobs.results.index import read_compacted, read_index
from jobs.results.launches import STALE_SECONDS, Launch, read_launch
from jobs.results.layout import (
    COMPACT,
    CURRENT,
    IMPORTED,
    MOST_CHECKPOINT_BYTES,
    MOST_WEIGHTS_BYTES,
    checkpoint_digest,
    compacted_at,
    imported_in_conflict,
    is_checkpoint,
    launch_key,
    log_key,
    trained_weights_key,
    trial_id_at,
    trial_id_of,
    trial_key,
    trials_prefix,
)
from jobs.results.local_store import TEMPORARY, is_temporary
from jobs.results.parquet import DamagedResult, Problem, decode_trial, rows_digest
from jobs.results.pins import read_pin, wrong_pin
from jobs.results.reader import foreign
from jobs.results.records import reason
from jobs.results.schema import kinds, most_bytes
from jobs.results.store import Store, require_present
from jobs.results.studies import StudyRecord, read_study
from jobs.results.trained import made_again_key, read_made_again, require_trained
from jobs.specs import FinetuneSpec, numerics_of
from jobs.study import Study

_READERS = 16
_FOLDERS = (
    *("trials", *(trials_prefix(kind) for kind in kinds())),
    *("cards", "checkpoints", "conflicts", "datasets", "failures", "launches", "logs", "sources", "studies"),
    *("weights", COMPACT, TEMPORARY),
)
_STALE_AFTER = timedelta(days=1)
_MAKES_SOURCES = "pretrain"
_PINNED = (
    ("sources", "source", "weights_sha256"),
    ("sources", "source", "network_sha256"),
    ("datasets", "dataset", "dataset_sha256"),
)
"""Folder of the pins, column of the name, column of the digest."""


class Finding(NamedTuple):
    """One thing about one file."""

    problem: Problem
    key: str
    """The file, relative to the root."""
    advice: str
    """What is wrong, with the full path, and what to do."""


class _Trial(NamedTuple):
    """A result that can be read: what is kept of it while others are."""

    key: str
    trial_id: str
    row: dict[str, Any]
    """Its first, but for lists and images."""
    digest: str
    """Of all of them, as today's schema has them."""
    contradictions: tuple[Contradiction, ...]


def verify(store: Store, planned: Iterable[str] | None = None) -> list[Finding]:
    """Read a whole root and report everything that is wrong, or worth knowing (``Problem.harmless``).

    Nothing is changed. A finding never keeps another from being found. While trials run or compactions are
    at work, what is just being written can show up as a leftover; it is gone when asked again.

    Args:
        planned: the ids of all trials that any study wants; None: do not look for unplanned ones.

    Returns:
        Findings in order of key.

    Raises:
        StorageFailure: when the storage itself fails.
    """
    finished: set[str] = set()
    findings = [*_strangers(store), *_outside_kinds(store), *_names_of_others(store)]
    tuned: dict[str, FinetuneSpec] = {}
    for kind in kinds():  # fine-tuned trials before those that look at them
        trials, found = _read_all(store, kind, tuned)
        if kind == FinetuneSpec.kind:
            tuned = _tuned(trials)
        findings += [
            *found,
            *_impossible(store, trials),
            *_trained(store, kind, trials),
            *_pins(store, trials),
            *_mixed(store, trials),
            *_older(store, kind, trials),
            *_index(store, kind, trials),
        ]
        finished |= _done(store, kind)
    findings += _current(store)
    if planned is not None:
        findings += _unplanned(store, finished - set(planned))
    findings += [*_conflicts(store), *_records(store), *_misnamed(store), *_checkpoints(store, finished)]
    findings += [*_temporaries(store), *_weights(store)]
    return sorted(set(findings), key=lambda finding: (finding.key, finding.problem))


def _strangers(store: Store) -> Iterator[Finding]:
    """What is no file where one must be, and no folder: links, named pipes, files in place of folders."""
    found: dict[str, DamagedFile] = {}
    for folder in _FOLDERS:
        found = {**store.survey(folder).strangers, **found}
    for key, error in found.items():
        if key not in (COMPACT, CURRENT):  # of the index, which says more about them
            yield Finding(Problem.FOREIGN, key, str(error))


def _keys(store: Store, folder: str) -> list[str]:
    """All keys of a folder; what is in the way of others is found by ``_strangers``."""
    return store.survey(folder).keys


def _done(store: Store, kind: str) -> set[str]:
    """The ids of the finished trials that can be found."""
    ids = (trial_id_at(key, kind) for key in _keys(store, trials_prefix(kind)))
    return {trial_id for trial_id in ids if trial_id is not None}


def _names_of_others(store: Store) -> Iterator[Finding]:
    """Where files are removed, those whose names DeltaSweep does not give: they stay."""
    owned: dict[str, Callable[[str], bool]] = {
        COMPACT: lambda key: key == CURRENT or compacted_at(key) is not None,
        "checkpoints": is_checkpoint,
        TEMPORARY: is_temporary,
    }
    for folder, is_own in owned.items():
        for key in _keys(store, folder):
            if not is_own(key):
                yield Finding(
                    Problem.FOREIGN,
                    key,
                    f"{store.uri}/{key} has not the name of a file that DeltaSweep puts there: it is not read, and "
                    "never removed. Move it away",
                )


def _outside_kinds(store: Store) -> Iterator[Finding]:
    for key in _keys(store, "trials"):
        if key not in _FOLDERS and not any(key.startswith(f"{trials_prefix(kind)}/") for kind in kinds()):
            yield Finding(Problem.FOREIGN, key, str(foreign(store, key)))


def _read_all(store: Store, kind: str, tuned: Mapping[str, FinetuneSpec]) -> tuple[list[_Trial], list[Finding]]:
    """Every trial file of a kind: those that can be read, and what is wrong with the others."""

    def read(key: str) -> _Trial | Finding:
        try:
            return _read(store, kind, key, tuned)
        except DamagedResult as error:
            return Finding(error.problem, key, str(error))
        except DamagedFile as error:
            return Finding(Problem.FOREIGN, key, str(error))

    with ThreadPoolExecutor(_READERS) as pool:
        results = list(pool.map(read, sorted(_keys(store, trials_prefix(kind)))))
    return [r for r in results if isinstance(r, _Trial)], [r for r in results if isinstance(r, Finding)]


def _read(store: Store, kind: str, key: str, tuned: Mapping[str, FinetuneSpec]) -> _Trial:
    trial_id = trial_id_at(key, kind)
    data = require_present(store, key, "a result that was listed", most_bytes(kind))
    if trial_id is not None:
        table = decode_trial(data, kind, trial_id, f"{store.uri}/{key}").table
        small = [field.name for field in table.schema if not pa.types.is_nested(field.type) and field.name != "image"]
        row = table.select(small).slice(0, 1).to_pylist()[0]
        return _Trial(key, trial_id, row, rows_digest(table), tuple(contradictions(kind, trial_id, table, tuned)))
    try:
        decode_trial(data, kind, trial_id_of(key), f"{store.uri}/{key}")
    except DamagedResult as error:
        raise foreign(store, key) from error
    raise DamagedResult(
        Problem.MISNAMED,
        f"{store.uri}/{key} is the result of {trial_id_of(key)} in a folder where nobody looks for it; "
        "move it to the folder named by the first two digits of its hash, or away",
        file=f"{store.uri}/{key}",
    )


def _tuned(trials: list[_Trial]) -> dict[str, FinetuneSpec]:
    """The specs of these fine-tuned trials, by id; those that have none are found by their contradictions."""
    found = {}
    for trial in trials:
        if trial.row["origin"] == "run" and not trial.contradictions:
            spec = spec_of(FinetuneSpec.kind, trial.row, {})
            if isinstance(spec, FinetuneSpec):
                found[trial.trial_id] = spec
    return found


def _impossible(store: Store, trials: list[_Trial]) -> Iterator[Finding]:
    for trial in trials:
        if trial.contradictions:
            said = "; ".join(f"{one.column}: {one.said}" for one in trial.contradictions)
            yield Finding(
                Problem.IMPOSSIBLE,
                trial.key,
                f"{store.uri}/{trial.key} cannot be the result of its trial ({said}): it was changed since it was "
                "written, or by what wrote it. Move it away and resume: its trial runs again",
            )


def _trained(store: Store, kind: str, trials: list[_Trial]) -> Iterator[Finding]:
    """Kept weights against what their trials left."""
    there = set(_keys(store, "weights"))
    for trial in trials:
        key = trained_weights_key(trial.trial_id)
        if "trained_sha256" not in trial.row or key not in there:
            continue
        try:
            sha256 = hashlib.sha256(store.read_within(key, MOST_WEIGHTS_BYTES)).hexdigest()
            require_trained(store, kind, trial.trial_id, sha256)
        except FileNotFoundError:
            continue  # removed since it was listed
        except DamagedFile as error:
            yield Finding(Problem.OTHER_WEIGHTS, key, str(error))


def _pins(store: Store, trials: list[_Trial]) -> Iterator[Finding]:
    pinned: dict[str, str | None] = {}
    for trial in trials:
        for folder, name_column, digest_column in _PINNED:
            name, digest = trial.row.get(name_column), trial.row.get(digest_column)
            if name is None or digest is None or (digest_column == "network_sha256" and trial.row["finetuned"]):
                continue
            key = f"{folder}/{name}.json"
            if key not in pinned:
                pinned[key] = _pin(store, key)
            if pinned[key] and digest != pinned[key]:
                yield Finding(
                    Problem.OTHER_DIGEST,
                    trial.key,
                    f"{store.uri}/{trial.key} was made with {name} of sha256 {digest}, the root has pinned "
                    f"{pinned[key]} ({key}); results of both cannot be compared. Move away those that are not wanted",
                )


def _mixed(store: Store, trials: list[_Trial]) -> Iterator[Finding]:
    for trial in trials:
        kind, packages = (trial.row[name] for name in HISTORY_COLUMNS)
        if history_of(kind, packages).mixed:
            yield Finding(
                Problem.MIXED,
                trial.key,
                f"{store.uri}/{trial.key} was computed on {kind}, by {packages}: a run on one kind of device may have "
                "other numbers. `on_other_device: restart` in a study's resources keeps its trials on one",
            )


def _older(store: Store, kind: str, trials: list[_Trial]) -> Iterator[Finding]:
    """Of numerics before today's: of the trial's own kind, or of the fine-tuned network that it looks at."""
    for trial in trials:
        row = trial.row
        own, tuned = row["numerics"], row.get("finetuned_numerics")
        if row.get("finetuned") is not None and tuned is None:
            tuned = FinetuneSpec.first_numerics  # 0.1.0's say nothing, and are all of it
        both = ((kind, own), (FinetuneSpec.kind, tuned))
        older = [f"{of}:{number}" for of, number in both if number and number < numerics_of(of)]
        if older:
            yield Finding(
                Problem.OLDER_NUMERICS,
                trial.key,
                f"{store.uri}/{trial.key} is of numerics {' and '.join(older)}: numbers of its kind, or of its "
                "network's, were changed on purpose since. It stays, and is compared only with its like; a launch runs "
                f"its trial again, unless --accept-numerics {' --accept-numerics '.join(older)}",
            )


def _pin(store: Store, key: str) -> str | None:
    """The pinned digest; None when nothing readable is pinned (an unreadable pin is found by ``_records``)."""
    try:
        return read_pin(store, key)
    except (FileNotFoundError, DamagedFile):
        return None


def _index(store: Store, kind: str, trials: list[_Trial]) -> Iterator[Finding]:
    """The compacted file against the trial files."""
    try:
        found = read_compacted(store, kind)
        entry = read_index(store).get(kind)
    except DamagedFile as error:
        yield Finding(Problem.DAMAGED_INDEX, COMPACT, str(error))
        return
    if found is None or entry is None:
        return
    compacted = found.table
    for trial_id in sorted(set(compacted["trial_id"].unique().to_pylist()) - _done(store, kind)):
        yield Finding(
            Problem.WITHOUT_FILE,
            entry.file,
            f"{store.uri}/{entry.file} has the trial {trial_id}, whose own file is gone: its rows are not read, and "
            "resume runs it again. Bring its file back, or compact to forget it",
        )
    if _differs(compacted, trials):
        yield Finding(
            Problem.DAMAGED_INDEX,
            entry.file,
            f"{store.uri}/{entry.file} has other rows than the trial files, which were changed by hand since; delete "
            f"{store.uri}/{COMPACT} and compact again",
        )


def _differs(compacted: pa.Table, trials: list[_Trial]) -> bool:
    """Whether a trial has other rows in the index than in its file."""
    files = {trial.trial_id: trial.digest for trial in trials}
    ids = compacted["trial_id"].combine_chunks()
    runs = pc.run_end_encode(ids)
    start = 0
    for trial_id, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        if trial_id in files and rows_digest(compacted.slice(start, end - start)) != files[trial_id]:
            return True
        start = end
    return False


def _current(store: Store) -> Iterator[Finding]:
    try:
        read_index(store)
    except DamagedFile as error:
        yield Finding(Problem.DAMAGED_INDEX, CURRENT, str(error))


def _unplanned(store: Store, trials: set[str]) -> Iterator[Finding]:
    for kind in kinds():
        for key in _keys(store, trials_prefix(kind)):
            if trial_id_at(key, kind) in trials and not trial_id_of(key).startswith(IMPORTED):
                yield Finding(
                    Problem.UNPLANNED, key, f"no planned trial asks for {store.uri}/{key}; it stays and can be queried"
                )


def _conflicts(store: Store) -> Iterator[Finding]:
    for key in _keys(store, "conflicts"):
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


def _records(store: Store) -> Iterator[Finding]:
    readers: dict[str, Callable[[Store, str], object]] = {
        "failures": read_failure,
        "launches": read_launch,
        "studies": read_study,
        "sources": read_pin,
        "datasets": read_pin,
        "cards": read_pin,
    }
    for folder, read in readers.items():
        for key in _keys(store, folder):
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


def _misnamed(store: Store) -> Iterator[Finding]:
    """Logs and pins whose names nobody looks for."""
    for key in _keys(store, "logs"):
        _, *of = key.removesuffix(".log").split("/")
        if len(of) != 2 or not of[1].isdecimal() or key != log_key(of[0], int(of[1])):
            yield Finding(Problem.MISNAMED, key, f"{store.uri}/{key} has not the name of a log; move it away")
    for key in [*_keys(store, "sources"), *_keys(store, "datasets")]:
        try:
            wrong = wrong_pin(store, key)
        except (DamagedFile, FileNotFoundError):
            continue  # an unreadable one is found as a record
        if wrong:
            yield Finding(Problem.MISNAMED, key, f"{store.uri}/{key} {wrong}")


def _checkpoints(store: Store, finished: set[str]) -> Iterator[Finding]:
    for key in _keys(store, "checkpoints"):
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


def _weights(store: Store) -> Iterator[Finding]:
    """Sources that were made here must be here: fine-tuning reads them."""
    there = set(_keys(store, "weights"))
    for trial_id in sorted(_done(store, _MAKES_SOURCES)):
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


def _temporaries(store: Store) -> Iterator[Finding]:
    for key in store.stale(_STALE_AFTER):
        yield Finding(
            Problem.STALE_TEMPORARY,
            key,
            f"{store.uri}/{key} was left by a killed process; `deltasweep compact` removes it",
        )
