"""Verification of a whole results root: every problem, with its fix."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import DamagedFile
from jobs.kind import INSTALL_IT, NOT_INSTALLED, Contradiction, kinds
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.provenance import HISTORY_COLUMNS, history_of
from jobs.results.index import read_compacted, read_index
from jobs.results.layout import (
    COMPACT,
    CURRENT,
    IMPORTED,
    MOST_WEIGHTS_BYTES,
    compacted_at,
    is_checkpoint,
    kind_at,
    trained_weights_key,
    trial_id_at,
    trial_id_of,
    trials_prefix,
)
from jobs.results.limits import MemoryBudget, Turn
from jobs.results.local_store import TEMPORARY, is_temporary
from jobs.results.parquet import decode_trial
from jobs.results.pins import read_pin
from jobs.results.problems import DamagedResult, Finding, Problem
from jobs.results.reader import foreign
from jobs.results.rows_digest import rows_digest
from jobs.results.schema import most_bytes
from jobs.results.store import Store, require_present
from jobs.results.trained import require_trained
from jobs.verification.contradictions import contradictions, spec_of
from jobs.verification.records import (
    checkpoints,
    conflicts,
    finished_trials,
    keys_in,
    misnamed,
    records,
    temporaries,
    weights,
)

_READERS = 16
_FOLDERS = (
    *("trials", *(trials_prefix(kind) for kind in kinds())),
    *("cards", "checkpoints", "conflicts", "datasets", "failures", "launches", "logs", "sources", "studies"),
    *("weights", COMPACT, TEMPORARY),
)
_PINNED = (
    ("sources", "source", "weights_sha256"),
    ("sources", "source", "network_sha256"),
    ("datasets", "dataset", "dataset_sha256"),
)
"""Folder of the pins, column with the name, column with the digest."""


class _Trial(NamedTuple):
    """A readable result, reduced to what the checks need."""

    key: str
    trial_id: str
    row: dict[str, Any]
    """The first row, without lists and images."""
    digest: str
    """The digest of all rows in the current schema."""
    contradictions: tuple[Contradiction, ...]


def verify(store: Store, planned: Iterable[str] | None = None) -> list[Finding]:
    """Read a whole root and report everything that is wrong or noteworthy (``Problem.harmless``).

    Nothing is changed, and one finding does not hide another. During trials or compactions, files that are being
    written may be reported as leftovers; a second call no longer reports them.

    Args:
        planned: the ids of the trials of all studies; None: do not report unplanned trials.

    Returns:
        Findings in order of key.

    Raises:
        StorageFailure: if the storage fails.
    """
    finished: set[str] = set()
    findings = [*_strangers(store), *_outside_kinds(store), *_names_of_others(store)]
    tuned: dict[str, FinetuneSpec] = {}
    for kind in kinds():  # fine-tuning trials come before diagnostics of their networks
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
        finished |= finished_trials(store, kind)
    findings += _current(store)
    if planned is not None:
        findings += _unplanned(store, finished - set(planned))
    findings += [*conflicts(store), *records(store), *misnamed(store), *checkpoints(store, finished)]
    findings += [*temporaries(store), *weights(store)]
    return sorted(set(findings), key=lambda finding: (finding.key, finding.problem))


def _strangers(store: Store) -> Iterator[Finding]:
    """Report entries that are neither files nor folders, and files in place of folders."""
    by_key: dict[str, DamagedFile] = {}
    for folder in _FOLDERS:
        by_key = {**store.survey(folder).strangers, **by_key}
    for key, error in by_key.items():
        if key not in (COMPACT, CURRENT):  # the checks of the index report these
            yield Finding(Problem.FOREIGN, key, str(error))


def _names_of_others(store: Store) -> Iterator[Finding]:
    """Report files with unexpected names in the folders from which DeltaSweep removes files; they are not removed."""
    owned: dict[str, Callable[[str], bool]] = {
        COMPACT: lambda key: key == CURRENT or compacted_at(key) is not None,
        "checkpoints": is_checkpoint,
        TEMPORARY: is_temporary,
    }
    for folder, is_own in owned.items():
        for key in keys_in(store, folder):
            if not is_own(key):
                yield Finding(
                    Problem.FOREIGN,
                    key,
                    f"{store.uri}/{key} does not have the name of a file that DeltaSweep writes there: it is neither "
                    "read nor removed. Fix: move it away",
                )


def _outside_kinds(store: Store) -> Iterator[Finding]:
    unknown = Counter[str]()
    for key in keys_in(store, "trials"):
        if key in _FOLDERS or any(key.startswith(f"{trials_prefix(kind)}/") for kind in kinds()):
            continue
        if (kind := kind_at(key)) is not None:
            unknown[kind] += 1
        else:
            yield Finding(Problem.FOREIGN, key, str(foreign(store, key)))
    for kind, trials in unknown.items():
        key = trials_prefix(kind)
        yield Finding(
            Problem.UNKNOWN_KIND,
            key,
            f"{store.uri}/{key} has {trials:,} results of the kind {kind!r}, {NOT_INSTALLED}: they were not checked. "
            f"{INSTALL_IT}",
        )


def _read_all(store: Store, kind: str, tuned: Mapping[str, FinetuneSpec]) -> tuple[list[_Trial], list[Finding]]:
    """Read every trial file of a kind; return the readable ones, and findings for the others."""
    budget = MemoryBudget(store.uri)

    def read(key: str) -> _Trial | Finding:
        try:
            with budget.turn() as turn:
                return _read(store, kind, key, tuned, turn)
        except DamagedResult as error:
            return Finding(error.problem, key, str(error))
        except DamagedFile as error:
            return Finding(Problem.FOREIGN, key, str(error))

    with ThreadPoolExecutor(_READERS) as pool:
        results = list(pool.map(read, sorted(keys_in(store, trials_prefix(kind)))))
    return [r for r in results if isinstance(r, _Trial)], [r for r in results if isinstance(r, Finding)]


def _read(store: Store, kind: str, key: str, tuned: Mapping[str, FinetuneSpec], turn: Turn) -> _Trial:
    trial_id = trial_id_at(key, kind)
    data = turn.read(partial(require_present, store, key, "a result that was listed"), most_bytes(kind))
    if trial_id is not None:
        table = decode_trial(data, kind, trial_id, f"{store.uri}/{key}", turn=turn).table
        small = [field.name for field in table.schema if not pa.types.is_nested(field.type) and field.name != "image"]
        row = table.select(small).slice(0, 1).to_pylist()[0]
        return _Trial(key, trial_id, row, rows_digest(table), tuple(contradictions(kind, trial_id, table, tuned)))
    try:
        decode_trial(data, kind, trial_id_of(key), f"{store.uri}/{key}", turn=turn)
    except DamagedResult as error:
        raise foreign(store, key) from error
    raise DamagedResult(
        Problem.MISNAMED,
        f"{store.uri}/{key} is the result of {trial_id_of(key)} in a folder where it is never read. "
        "Fix: move it to the folder named by the first two digits of its hash, or out of the root",
        file=f"{store.uri}/{key}",
    )


def _tuned(trials: list[_Trial]) -> dict[str, FinetuneSpec]:
    """Return the specs of the given fine-tuning trials by id, except for trials with contradictions."""
    specs = {}
    for trial in trials:
        if trial.row["origin"] == "run" and not trial.contradictions:
            spec = spec_of(FinetuneSpec.kind, trial.row, {})
            if isinstance(spec, FinetuneSpec):
                specs[trial.trial_id] = spec
    return specs


def _impossible(store: Store, trials: list[_Trial]) -> Iterator[Finding]:
    for trial in trials:
        if trial.contradictions:
            reasons = "; ".join(
                f"{contradiction.column}: {contradiction.message}" for contradiction in trial.contradictions
            )
            yield Finding(
                Problem.IMPOSSIBLE,
                trial.key,
                f"{store.uri}/{trial.key} cannot be the result of its trial ({reasons}): it was changed after it was "
                "written, or written incorrectly. Fix: move it away and resume; its trial runs again",
            )


def _trained(store: Store, kind: str, trials: list[_Trial]) -> Iterator[Finding]:
    """Compare kept weights with the digests that their trials recorded."""
    there = set(keys_in(store, "weights"))
    for trial in trials:
        key = trained_weights_key(trial.trial_id)
        if "trained_sha256" not in trial.row or key not in there:
            continue
        try:
            sha256 = store.sha256_within(key, MOST_WEIGHTS_BYTES)
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
                    f"{store.uri}/{trial.key} was computed with {name} of sha256 {digest}, but the root has pinned "
                    f"{pinned[key]} ({key}); their results are not comparable. Fix: move away the results that are not "
                    "wanted",
                )


def _mixed(store: Store, trials: list[_Trial]) -> Iterator[Finding]:
    for trial in trials:
        kind, packages = (trial.row[name] for name in HISTORY_COLUMNS)
        if history_of(kind, packages).mixed:
            yield Finding(
                Problem.MIXED,
                trial.key,
                f"{store.uri}/{trial.key} was computed on {kind}, with {packages}: a run on a single device kind may "
                "give other numbers. `on_other_device: restart` in a study's resources keeps each trial on one",
            )


def _older(store: Store, kind: str, trials: list[_Trial]) -> Iterator[Finding]:
    """Report trials with older numerics: of the trial's own kind, or of the kind of the network that it examines."""
    for trial in trials:
        row = trial.row
        own, tuned = row["numerics"], row.get("finetuned_numerics")
        if row.get("finetuned") is not None and tuned is None:
            tuned = FinetuneSpec.first_numerics_version  # version 0.1.0 had only this one, and did not record it
        both = ((kind, own), (FinetuneSpec.kind, tuned))
        older = [f"{of}:{number}" for of, number in both if number and number < kinds()[of].spec.numerics_version]
        if older:
            yield Finding(
                Problem.OLDER_NUMERICS,
                trial.key,
                f"{store.uri}/{trial.key} has numerics {' and '.join(older)}: the numbers of its kind, or of its "
                "network's kind, were changed deliberately since. It is kept, and is comparable only within the same "
                f"numerics; a launch runs its trial again, unless --accept-numerics "
                f"{' --accept-numerics '.join(older)} is given",
            )


def _pin(store: Store, key: str) -> str | None:
    """Return the pinned digest; None if there is no readable pin (``records`` reports unreadable pins)."""
    try:
        return read_pin(store, key)
    except (FileNotFoundError, DamagedFile):
        return None


def _index(store: Store, kind: str, trials: list[_Trial]) -> Iterator[Finding]:
    """Compare the compacted file with the trial files."""
    try:
        found = read_compacted(store, kind)
        entry = read_index(store).get(kind)
    except DamagedFile as error:
        yield Finding(Problem.DAMAGED_INDEX, COMPACT, str(error))
        return
    if found is None or entry is None:
        return
    compacted = found.table
    for trial_id in sorted(set(compacted["trial_id"].unique().to_pylist()) - finished_trials(store, kind)):
        yield Finding(
            Problem.WITHOUT_FILE,
            entry.file,
            f"{store.uri}/{entry.file} contains the trial {trial_id}, whose own file is missing: its rows are not "
            "read, and resume runs it again. Fix: restore its file, or compact to drop it from the index",
        )
    if _differs(compacted, trials):
        yield Finding(
            Problem.DAMAGED_INDEX,
            entry.file,
            f"{store.uri}/{entry.file} has other rows than the trial files, which were changed since. Fix: delete "
            f"{store.uri}/{COMPACT} and compact again",
        )


def _differs(compacted: pa.Table, trials: list[_Trial]) -> bool:
    """Return whether the rows of any trial in the index differ from those in its file."""
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
        for key in keys_in(store, trials_prefix(kind)):
            if trial_id_at(key, kind) in trials and not trial_id_of(key).startswith(IMPORTED):
                yield Finding(
                    Problem.UNPLANNED,
                    key,
                    f"no recorded study contains the trial of {store.uri}/{key}; it is kept and can be queried",
                )
