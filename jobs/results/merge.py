"""Joining results roots: what several have found out, in one, as if one had found out all of it.

The roots that are read stay as they are. What two of them hold under one name is compared as a commit would: equal
numbers are one result; other numbers, from one kind of device, are a conflict, which is kept and named. Before anything
is written, names are held against each other: two roots in which a name stands for other weights or images, or for
another card, cannot be joined.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from jobs.errors import Code, InvalidRequest, Mistake, Place, ResultsConflict
from jobs.provenance import code_version
from jobs.results.commit import Committed, place, same_numbers
from jobs.results.failures import Failure, read_failure, record_failure
from jobs.results.launches import Launch, read_launch, read_launches, write_launch
from jobs.results.layout import log_key, trained_weights_key, trial_id_of, trial_key
from jobs.results.local_store import LocalStore
from jobs.results.opening import begin, require_root
from jobs.results.parquet import Read, decode_trial
from jobs.results.pins import read_pin
from jobs.results.reader import trial_files
from jobs.results.root_record import is_begun
from jobs.results.schema import kinds
from jobs.results.store import Store, require_present
from jobs.results.studies import read_study
from jobs.results.trained import made_again_key

_PINS = ("sources", "datasets", "cards")
"""Folders of digests that names stand for."""
_BROUGHT = ("studies", "conflicts", "failures", "launches", "weights", "logs", "checkpoints")
"""Folders of what is brought along besides results."""


class Merged(NamedTuple):
    """What a merge brought into the root."""

    trials: int
    """Results that were not there."""
    already_there: int
    """Results that were there, with the same numbers, or those of another kind of device."""
    conflicts: list[str]
    """Trials that the roots have other numbers of, from one kind of device: the first root's stand."""
    other_devices: int
    """Of those already there: results with other numbers from another kind of device, or by another torch. They stay
    in the roots that they came from.
    """
    examinations_left_out: list[str]
    """Trials that looked at a network which does not stand in the new root: there, a trial of its id has other numbers.
    They stay in the roots that they came from.
    """


def merge(roots: Sequence[Store], target: Store) -> Merged:
    """Bring everything that the roots hold into another, which may be new. Merging again changes nothing.

    Of a trial that several have the first one's result stands, and with it the weights that it left; what other roots
    found out about other weights is left out, and named. Failed
    attempts are numbered on, of a launch the record that heard of it last counts, checkpoints of trials that are not
    done come along. The index is not merged: the next launch, or `compact`, makes it.

    Raises:
        InvalidRequest: when there is nothing to join, a root is not there, or a launch is at work on one of them.
        ResultsConflict: when a name stands for one thing in one root and for another in the next; all such names are
            told, and nothing is written.
        DamagedFile: naming a file of a root that cannot be read; nothing is written.
        StorageFailure: when a storage fails; merging again goes on.
    """
    _require_apart(roots, target)
    for root in roots:
        require_root(root)
        _require_begun(root)
        _require_quiet(root)
    _require_same_pins([*roots, target])
    _require_same_studies([*roots, target])
    found = [_results(root) for root in (*roots, target)][:-1]  # every file is read once before the first is written
    begin(target)
    outcomes: list[tuple[str, Committed, bool]] = []
    left_out: list[str] = []
    for root, results in zip(roots, found, strict=True):
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
            if trial_id_of(key).removesuffix(".safetensors") not in brought:
                target.create(key, _read(root, key))
        for key in _below(root, "logs"):  # those of failures have come with them
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
        raise InvalidRequest(Code.MISSING_KEY, "a merge joins one root or more into another; none is named", key="ROOT")
    names = [root.uri for root in roots]
    repeated = [
        root.uri
        for number, root in enumerate(roots)
        if any(_within(root, other) or _within(other, root) for other in (*roots[:number], target))
    ]
    if repeated:
        raise InvalidRequest(
            Code.REPEATED,
            "the roots of a merge and the one that they go into are different places, none inside another; got "
            f"{', '.join(names)} into {target.uri}. Fix: name each once, and a new place with --results",
            file=repeated[0],
            key="--results" if any(_within(r, target) or _within(target, r) for r in roots) else "ROOT",
        )


def _within(inner: Store, outer: Store) -> bool:
    """Whether one root is, or lies in, the other, whichever way both are written."""
    if isinstance(inner, LocalStore) and isinstance(outer, LocalStore):
        return inner.directory.resolve().is_relative_to(outer.directory.resolve())
    return f"{inner.uri}/".startswith(f"{outer.uri}/")


def _require_begun(root: Store) -> None:
    """A directory of something else has nothing to join; a kind that this version does not know must not be lost."""
    if not is_begun(root):
        raise InvalidRequest(
            Code.NO_ROOT, f"expected a results root; {root.uri} has nothing of one. Fix: check its name", file=root.uri
        )
    for _ in _below(root, *_PINS, *_BROUGHT):
        pass  # what is no file is named before anything is written
    for key in _below(root, "trials"):
        if "/" in key.removeprefix("trials/") and key.split("/")[1] not in kinds():
            raise InvalidRequest(
                Code.NEWER_VERSION,
                f"{root.uri}/{key} is a result of a kind that DeltaSweep {code_version()} does not know, and would be "
                "left behind. Fix: merge by the version that wrote it, or later; or move it away",
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
                    f"the study record {key} has one text in {where} and another in {root.uri}; of its contrasts only "
                    "one could be kept. Fix: keep these roots apart, or rename the study of one and launch it again",
                    file=f"{root.uri}/{key}",
                )


def _network_of(root: Store, kind: str, trial_id: str, key: str) -> str | None:
    """The fine-tuned trial that a trial looked at."""
    table = _result(root, kind, trial_id, key).table
    found: str | None = table["finetuned"][0].as_py() if "finetuned" in table.column_names else None
    return found


def _require_quiet(root: Store) -> None:
    now = datetime.now(UTC)
    alive = [launch for launch in read_launches(root) if launch.alive(now)]
    if alive:
        raise InvalidRequest(
            Code.IN_USE,
            f"a root that is merged must not change meanwhile; {alive[0].told} works on {root.uri}. Fix: stop it, or "
            "wait until it is done (deltasweep status)",
            file=root.uri,
        )


def _require_same_pins(roots: Iterable[Store]) -> None:
    """Of every name that roots have pinned: one digest. What cannot be read is named by ``read_pin``."""
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
            "names that stand for different things cannot be joined: results of both under one name could not be told "
            f"apart. {'; '.join(mistake.message for mistake in wrong)}. Fix: keep these roots apart",
            file=wrong[0].place.file,
            mistakes=wrong,
        )


def _results(root: Store) -> list[tuple[str, str, str]]:
    """Kind, id and key of every result of a root, each of which can be read; so can its records."""
    found = []
    for kind in kinds():
        for trial_id, key in sorted(trial_files(root, kind).items()):
            _result(root, kind, trial_id, key)
            found.append((kind, trial_id, key))
    for key in _below(root, "studies"):
        read_study(root, key)
    for key in _below(root, "failures"):
        read_failure(root, key)
    return found


def _bring(root: Store, target: Store, kind: str, trial_id: str, key: str) -> tuple[str, Committed, bool]:
    """One result, and what its trial left; whether the numbers that stand are its own."""
    # what says that the weights were made again goes before them, and they before the result, as a trial leaves them
    left = [
        (key, data) for key in (made_again_key(trial_id), trained_weights_key(trial_id)) if (data := _maybe(root, key))
    ]
    if left and _maybe(target, trial_key(kind, trial_id)) is None:
        for name, data in left:
            target.replace(name, data)  # what lies there is nobody's
    outcome = place(target, kind, trial_id, _read(root, key))
    same = outcome is Committed.NEW or same_numbers(
        _result(target, kind, trial_id, trial_key(kind, trial_id)), _result(root, kind, trial_id, key), kind
    )
    if same and _maybe(target, trained_weights_key(trial_id)) is None:
        for name, data in left:
            target.create(name, data)
    return trial_id, outcome, same


def _bring_failures(root: Store, target: Store) -> None:
    known: dict[str, list[Failure]] = {}
    for key in _below(target, "failures"):
        failure = read_failure(target, key)
        known.setdefault(failure.trial_id, []).append(failure._replace(attempt=0))
    for failure in sorted(read_failure(root, key) for key in _below(root, "failures")):
        if failure._replace(attempt=0) not in known.get(failure.trial_id, []):
            log = _maybe(root, log_key(failure.trial_id, failure.attempt)) or b""
            record_failure(target, failure, log.decode(errors="replace"))


def _bring_launches(root: Store, target: Store) -> None:
    for key in _below(root, "launches"):
        launch = read_launch(root, key)
        if _latest(target, key, launch) is launch:
            write_launch(target, launch)


def _latest(target: Store, key: str, launch: Launch) -> Launch:
    try:
        known = read_launch(target, key)
    except FileNotFoundError:
        return launch
    return max(known, launch, key=lambda one: (one.ended_at is not None, datetime.fromisoformat(one.heartbeat_at)))


def _bring_checkpoints(root: Store, target: Store) -> None:
    done = {trial_id_of(key) for kind in kinds() for key in trial_files(target, kind).values()}
    for key in _below(root, "checkpoints"):
        if key.split("/")[1] not in done:
            target.create(key, _read(root, key))


def _result(root: Store, kind: str, trial_id: str, key: str) -> Read:
    return decode_trial(_read(root, key), kind, trial_id, f"{root.uri}/{key}")


def _below(root: Store, *folders: str) -> Iterator[str]:
    for folder in folders:
        yield from sorted(root.keys(folder))


def _read(root: Store, key: str) -> bytes:
    return require_present(root, key, "a file that was listed")


def _maybe(root: Store, key: str) -> bytes | None:
    try:
        return root.read(key)
    except FileNotFoundError:
        return None
