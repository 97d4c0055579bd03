"""Merging several results roots into one, as if all trials had run in it.

The roots that are read are not changed. Results of the same trial are compared as in a commit: equal numbers are one
result; different numbers from the same device kind are a conflict, which is kept and reported. Before anything is
written, pins are compared: roots in which a name refers to different weights, images or cards cannot be merged.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

from jobs.errors import Code, InvalidRequest, Mistake, Place, ResultsConflict
from jobs.kind import kinds
from jobs.provenance import code_version
from jobs.results.commit import Committed, place, same_numbers
from jobs.results.failures import Failure, read_failures, record_failure
from jobs.results.launches import Launch, read_launch, read_launches, write_launch
from jobs.results.layout import (
    MOST_CHECKPOINT_BYTES,
    MOST_WEIGHTS_BYTES,
    launch_key,
    log_key,
    output_key,
    trained_weights_key,
    trial_id_of,
    trial_key,
)
from jobs.results.local_store import LocalStore
from jobs.results.opening import begin, require_root
from jobs.results.parquet import Read, decode_trial
from jobs.results.pins import read_pin
from jobs.results.reader import trial_files
from jobs.results.records import MOST_BYTES
from jobs.results.root_record import is_begun
from jobs.results.schema import most_bytes
from jobs.results.store import Store, require_present
from jobs.results.studies import recorded_studies
from jobs.results.trained import made_again_key
from jobs.system.commands import command

_PINS = ("sources", "datasets", "cards")
"""Folders with pins."""
_BROUGHT = ("studies", "conflicts", "failures", "launches", "weights", "logs", "checkpoints")
"""Other folders that are merged besides results."""


class Merged(NamedTuple):
    """The outcome of a merge."""

    trials: int
    """Number of new results."""
    already_there: int
    """Number of results that already existed, with the same numbers or from another device kind."""
    conflicts: list[str]
    """Trials with different numbers from the same device kind; the first root's result is kept."""
    other_devices: int
    """How many of ``already_there`` have different numbers from another device kind or version of torch; they remain
    only in their original roots.
    """
    examinations_left_out: list[str]
    """Diagnostic trials of a network that is not in the merged root, because its trial has different numbers there.
    They remain only in their original roots.
    """


def merge(roots: Sequence[Store], target: Store) -> Merged:
    """Merge the contents of several roots into another root, which may be new. Merging again changes nothing.

    If several roots have a trial, the first one's result and weights are kept; diagnostic results of other weights are
    left out and reported. Failed attempts get consecutive numbers, the most recent record of a launch is kept, and
    checkpoints of unfinished trials are copied. The index is not merged; the next launch, or ``compact``, builds it.

    Raises:
        InvalidRequest: if there is nothing to merge, a root does not exist, or a launch is running in one of them.
        ResultsConflict: if a name refers to different things in two roots; all such names are listed, and nothing is
            written.
        DamagedFile: naming a file of a root that cannot be read; nothing is written.
        StorageFailure: if a storage fails; merging again continues.
    """
    _require_apart(roots, target)
    for root in roots:
        require_root(root)
        _require_begun(root)
    for root in (*roots, target):
        _require_quiet(root)
    _require_same_pins([*roots, target])
    _require_same_studies([*roots, target])
    by_root = [_results(root) for root in (*roots, target)][:-1]  # validate every file before anything is written
    begin(target)
    for root, results in zip(roots, by_root, strict=True):
        _bring_outputs(root, target, results)
    outcomes: list[tuple[str, Committed, bool]] = []
    left_out: list[str] = []
    for root, results in zip(roots, by_root, strict=True):
        for key in _below(root, *_PINS, "studies"):
            target.create(key, _read(root, key))
        others: set[str] = set()
        for kind, trial_id, key in results:
            if _network_of(root, kind, trial_id, key) in others:
                left_out.append(trial_id)
                continue
            outcomes.append(_bring(root, target, kind, trial_id, key))
            if not outcomes[-1][2]:
                others.add(trial_id)
        for key in _below(root, "conflicts"):
            target.create(key, _read(root, key))
        _bring_failures(root, target)
        _bring_launches(root, target)
        brought = {trial_id for _, trial_id, _ in results}
        for key in _below(root, "weights"):
            if key.removeprefix("weights/").rpartition(".")[0] not in brought:
                target.create(key, _read(root, key))
        of_failures = {key.replace("failures/", "logs/").removesuffix(".json") for key in _below(root, "failures")}
        for key in _below(root, "logs"):
            if key.rpartition(".")[0] not in of_failures:
                target.create(key, _read(root, key))
    for root in roots:
        _bring_checkpoints(root, target)
    return Merged(
        examinations_left_out=left_out,
        trials=sum(outcome is Committed.NEW for _, outcome, _ in outcomes),
        already_there=sum(outcome is Committed.ALREADY_THERE for _, outcome, _ in outcomes),
        conflicts=[trial for trial, outcome, _ in outcomes if outcome is Committed.CONFLICT],
        other_devices=sum(outcome is Committed.ALREADY_THERE and not same for _, outcome, same in outcomes),
    )


def _require_apart(roots: Sequence[Store], target: Store) -> None:
    if not roots:
        raise InvalidRequest(Code.MISSING_KEY, "expected at least one results root to merge; got none", key="ROOT")
    names = [root.uri for root in roots]
    repeated = [
        root.uri
        for number, root in enumerate(roots)
        if any(_within(root, other) or _within(other, root) for other in (*roots[:number], target))
    ]
    if repeated:
        raise InvalidRequest(
            Code.REPEATED,
            "expected different results roots to merge and to merge into, none inside another; got "
            f"{', '.join(names)} into {target.uri}. Fix: give each root once, and a different one with --results",
            file=repeated[0],
            key="--results" if any(_within(r, target) or _within(target, r) for r in roots) else "ROOT",
        )


def _within(inner: Store, outer: Store) -> bool:
    """Return whether one root is the same as, or inside, the other, however their paths are written."""
    if isinstance(inner, LocalStore) and isinstance(outer, LocalStore):
        return inner.directory.resolve().is_relative_to(outer.directory.resolve())
    return f"{inner.uri}/".startswith(f"{outer.uri}/")


def _require_begun(root: Store) -> None:
    """Refuse a directory that is not a results root, or one with results of an unknown kind, which would be lost."""
    if not is_begun(root):
        raise InvalidRequest(
            Code.NO_ROOT, f"expected a results root; {root.uri} is not one. Fix: check its name", file=root.uri
        )
    for _ in _below(root, *_PINS, *_BROUGHT):
        pass  # report anything that is not a file before anything is written
    for key in _below(root, "trials"):
        if "/" in key.removeprefix("trials/") and key.split("/")[1] not in kinds():
            raise InvalidRequest(
                Code.NEWER_VERSION,
                f"{root.uri}/{key} is a result of a kind that DeltaSweep {code_version()} does not know, and would not "
                "be merged. Fix: install the package that provides the kind; or merge with the version that wrote it, "
                "or later; or move it away",
                file=f"{root.uri}/{key}",
            )


def _require_same_studies(roots: Iterable[Store]) -> None:
    known: dict[str, tuple[bytes, str]] = {}
    for root in roots:
        for key in _below(root, "studies"):
            text, where = known.setdefault(key, (_read(root, key), root.uri))
            if _read(root, key) != text:
                raise ResultsConflict(
                    Code.OTHER_DIGEST,
                    f"the study record {key} differs between {where} and {root.uri}, and only one version of its "
                    "contrasts can be kept. Fix: keep these roots separate, or rename one study and launch it again",
                    file=f"{root.uri}/{key}",
                )


def _network_of(root: Store, kind: str, trial_id: str, key: str) -> str | None:
    """Return the id of the fine-tuning trial whose network a diagnostic trial used; None if there is none."""
    table = _result(root, kind, trial_id, key).table
    found: str | None = table["finetuned"][0].as_py() if "finetuned" in table.column_names else None
    return found


def _require_quiet(root: Store) -> None:
    """Refuse a root in which a launch is running, or one that has a damaged record of a launch."""
    now = datetime.now(UTC)
    alive = [launch for launch in read_launches(root) if launch.alive(now)]
    if alive:
        raise InvalidRequest(
            Code.IN_USE,
            f"a root must not change while it is merged; {alive[0].told} is running in {root.uri}. Fix: stop it, or "
            f"wait until it is done ({command('status', '--results', root.uri)})",
            file=root.uri,
        )


def _require_same_pins(roots: Iterable[Store]) -> None:
    """Require that every name has the same digest in all roots that pin it."""
    known: dict[str, tuple[str, str]] = {}
    wrong = []
    for root in roots:
        for key in sorted(_below(root, *_PINS)):
            digest = read_pin(root, key)
            first, where = known.setdefault(key, (digest, root.uri))
            if digest != first:
                said = f"{key.removesuffix('.json')} is {first[:12]} in {where} and {digest[:12]} in {root.uri}"
                wrong.append(Mistake(Code.OTHER_DIGEST, Place(f"{root.uri}/{key}"), said))
    if wrong:
        raise ResultsConflict(
            Code.OTHER_DIGEST,
            "expected each name to have the same digest in all roots, because results of different weights or images "
            f"under one name would be indistinguishable; {'; '.join(mistake.message for mistake in wrong)}. Fix: keep "
            "these roots separate",
            file=wrong[0].place.file,
            mistakes=wrong,
        )


def _results(root: Store) -> list[tuple[str, str, str]]:
    """Return kind, id and key of every result of a root, after checking that results and records can be read."""
    results = []
    for kind in kinds():
        for trial_id, key in sorted(trial_files(root, kind).items()):
            _result(root, kind, trial_id, key)
            results.append((kind, trial_id, key))
    recorded_studies(root)
    read_failures(root)
    return results


def _bring(root: Store, target: Store, kind: str, trial_id: str, key: str) -> tuple[str, Committed, bool]:
    """Merge one result with its trial's weights.

    Returns:
        The trial's id, the outcome, and whether the numbers in the target are those of this result.
    """
    # as when a trial commits: the record of retrained weights first, then the weights, then the result
    left = [
        (key, data) for key in (made_again_key(trial_id), trained_weights_key(trial_id)) if (data := _maybe(root, key))
    ]
    if left and _maybe(target, trial_key(kind, trial_id)) is None:
        for name, data in left:
            target.replace(name, data)  # existing files belong to no result
    outcome = place(target, kind, trial_id, _read(root, key))
    same = outcome is Committed.NEW or same_numbers(
        _result(target, kind, trial_id, trial_key(kind, trial_id)), _result(root, kind, trial_id, key), kind
    )
    if same and _maybe(target, trained_weights_key(trial_id)) is None:
        for name, data in left:
            target.create(name, data)
    return trial_id, outcome, same


def _bring_outputs(root: Store, target: Store, results: Iterable[tuple[str, str, str]]) -> None:
    """Bring what the attempts printed that finished a trial, before failed attempts get numbers beside them."""
    with_output = {key.split("/")[1] for key in _below(root, "logs") if key.endswith(".out")}
    for kind, trial_id, key in results:
        if trial_id in with_output and _maybe(target, trial_key(kind, trial_id)) is None:
            printed = output_key(trial_id, _result(root, kind, trial_id, key).table["attempt"][0].as_py())
            if (data := _maybe(root, printed)) is not None:
                target.create(printed, data)


def _bring_failures(root: Store, target: Store) -> None:
    """Bring failed attempts, with their logs and what they printed, under numbers that are free."""
    known: dict[Failure, int] = {}
    for failure in read_failures(target):
        known[failure._replace(attempt=0)] = failure.attempt
    for failure in read_failures(root):
        trial_id, before = failure.trial_id, failure.attempt
        printed = _maybe(root, output_key(trial_id, before))
        if (number := known.get(failure._replace(attempt=0))) is None:
            log = _maybe(root, log_key(trial_id, before)) or b""
            free = next(
                n
                for n in count(before)
                if _maybe(target, log_key(trial_id, n)) is None
                and _maybe(target, output_key(trial_id, n)) in (None, printed)
            )
            number = record_failure(target, failure._replace(attempt=free), log.decode(errors="replace"))
        if printed is not None:
            target.create(output_key(trial_id, number), printed)


def _bring_launches(root: Store, target: Store) -> None:
    for launch in read_launches(root):
        if _latest(target, launch) is launch:
            write_launch(target, launch)


def _latest(target: Store, launch: Launch) -> Launch:
    try:
        known = read_launch(target, launch_key(launch.launch))
    except FileNotFoundError:
        return launch
    return max(
        known, launch, key=lambda record: (record.ended_at is not None, datetime.fromisoformat(record.heartbeat_at))
    )


def _bring_checkpoints(root: Store, target: Store) -> None:
    done = {trial_id_of(key) for kind in kinds() for key in trial_files(target, kind).values()}
    for key in _below(root, "checkpoints"):
        if key.split("/")[1] not in done:
            target.create(key, _read(root, key))


def _result(root: Store, kind: str, trial_id: str, key: str) -> Read:
    return decode_trial(require_present(root, key, _LISTED, most_bytes(kind)), kind, trial_id, f"{root.uri}/{key}")


def _below(root: Store, *folders: str) -> Iterator[str]:
    for folder in folders:
        yield from sorted(root.keys(folder))


_LISTED = "a file that was listed"
_MOST = {"weights": MOST_WEIGHTS_BYTES, "checkpoints": MOST_CHECKPOINT_BYTES}
"""The largest sizes by folder, where they are not those of a result or a record."""


def _read(root: Store, key: str) -> bytes:
    return require_present(root, key, _LISTED, _most(key))


def _maybe(root: Store, key: str) -> bytes | None:
    try:
        return root.read_within(key, _most(key))
    except FileNotFoundError:
        return None


def _most(key: str) -> int:
    folder, _, inside = key.partition("/")
    if folder in ("trials", "conflicts") and (kind := inside.partition("/")[0]) in kinds():
        return most_bytes(kind)
    return _MOST.get(folder, MOST_BYTES)
