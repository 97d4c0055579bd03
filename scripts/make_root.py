"""Write a small results root with the code that is first on the path. tests/roots keeps such a root of every release.

    PYTHONPATH=CHECKOUT python scripts/make_root.py OUT

It works with any version from 0.1.0 on, because it only uses what all of them provide. Trials run in this process
without Ray, which writes nothing to a root itself. Launch records are written as a launch writes them.
tests/roots/README.md describes the contents of the root.
"""

import getpass
import os
import re
import shutil
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

HOST, USER = "example", "ada"
os.environ["DELTASWEEP_HOME"] = tempfile.mkdtemp(prefix="make-root-")
_HIDDEN = {socket.gethostname(), str(Path.home()), str(Path.cwd()), sys.prefix, os.environ["DELTASWEEP_HOME"], "/tmp/"}
"""Strings of this machine that must not occur in the root."""
socket.gethostname = lambda: HOST
getpass.getuser = lambda: USER

# imported after the host name was replaced
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402

import jobs  # noqa: E402
import jobs.results as results  # noqa: E402
from analysis import import_trials  # noqa: E402
from jobs.execution.attempt import (  # type: ignore[attr-defined]  # noqa: E402  # where every version has it
    AttemptStatus,
    RetentionPolicy,
    attempt_trial,
    open_trial,
)
from jobs.execution.bundles import attempt_bundle  # noqa: E402
from jobs.execution.commit import Attempt  # noqa: E402
from jobs.kinds.finetune.spec import FinetuneSpec  # noqa: E402
from jobs.results import (  # noqa: E402
    Committed,
    Failure,
    FailureKind,
    Launch,
    Store,
    commit,
    compact,
    next_attempt,
    open_store,
    read_trials,
    record_failure,
    record_study,
    write_launch,
)
from jobs.results.launches import timestamp  # noqa: E402
from jobs.specs.trial import TrialSpec  # noqa: E402
from jobs.study.expand import expand  # noqa: E402
from jobs.study.model import Study  # noqa: E402
from orchestrator.launching.heartbeat import new_launch  # noqa: E402
from orchestrator.launching.local import run_locally  # noqa: E402
from orchestrator.planning.dependencies import completed, networks_needed  # noqa: E402
from orchestrator.planning.stages import retention_of  # noqa: E402
from orchestrator.study.load import parse_study  # noqa: E402

CPU = torch.device("cpu")
QUIET = Console(quiet=True)

LOOKS = """\
name: looks
description: One fine-tuned network, and every way to look at it.
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule:
  - {images: [12], epochs: 2, seeds: 1, evaluate_every: 1}
recipe: {frozen_batchnorm: source, batch_size: 8}
attack:
  finetuned: {images: [12], seeds: 1}
  test_images: 8
  balls:
    - {constraint: fourier, epsilon: [1/2], steps: 2, band: [0, 1/4]}
influence: {finetuned: {images: [12], seeds: 1}, damping: 0.01, top: 1}
shape_bias: {finetuned: {images: [12], seeds: 1}, dataset: [digits_conflict]}
visualize: {finetuned: {images: [12], seeds: 1}, dataset: digits, units: [3], test_images: 1, step_size: 0.5, steps: 2}
resources: {gpu: 0.25, cpu: 1}
"""
FIRST = """\
name: first
description: Two sources, two seeds. One of its trials is that of `looks`.
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
schedule:
  - {images: [12], epochs: 2, seeds: 2, evaluate_every: 1}
recipe: {frozen_batchnorm: source, batch_size: 8}
contrasts:
  - {source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [0]}
resources: {gpu: 0.25, cpu: 1}
"""
_NOTHING_LEFT = {"learning_rate": 2.0**-100, "weight_decay": 2.0**100, "momentum": 0.0, "batch_size": 1000}
"""After one step with this recipe all weights are 0, which Git compresses well. A trained network of this architecture
takes 1.4 MB.
"""
OWN = f"""\
name: own
description: >
  A source of the study's own, a dataset of its own, and what is made of both. The source's recipe leaves its weights
  at 0, so that they take little room where they are packed; what it knows is nothing.
sources:
  digits_fourier:
    architecture: resnet35-w8
    trained_on: digits
    constraint: fourier
    epsilon: 0.5
    band: [0, 1/4]
    mean: [0.305, 0.305, 0.305]
    std: [0.3753, 0.3753, 0.3753]
    pretrain: {{seed: 1, epochs: 1, steps: 1, recipe: {_NOTHING_LEFT}}}
datasets:
  blurred: {{of: digits, low_pass: 1/4}}
pretrain: {{source: [digits_fourier], resources: {{gpu: 1, cpu: 1}}}}
grid: {{source: [digits_fourier], dataset: [blurred], blocks: [0]}}
schedule:
  - {{images: [12], epochs: 1, seeds: 1, evaluate_every: 1}}
attack: {{source: [digits_fourier], test_images: 8}}
"""
PAIRS = """\
name: pairs
description: Bundles; begun, failed and interrupted. Another recipe, most of it the default.
grid: {source: [fmnist_l2_eps1], dataset: [digits], blocks: [0, 1]}
schedule:
  - {images: [20], epochs: 2, seeds: 4, evaluate_every: 1}
recipe: {batch_size: 8}
bundle: blocks
checkpoint_every: 1
resources: {gpu: 0.25, cpu: 1}
"""
IMPORTED = """\
source,dataset,images,blocks,seed,epoch,test_accuracy,train_accuracy
l2_eps3,cifar10,100,0,20000000,1,61.5,48.0
l2_eps3,cifar10,100,0,20000000,21,63.25,100.0
"""


def main() -> None:
    (out,) = map(Path, sys.argv[1:])
    assert not out.exists(), f"{out} already exists; roots in tests/roots are never rewritten"
    torch.set_num_threads(1)
    store = open_store(out)
    if (
        begin := getattr(results, "begin", None)
    ) is not None:  # since 0.2.0, a root records the version that created it
        begin(store)
    looks, first, own, pairs = (_study(text) for text in (LOOKS, FIRST, OWN, PAIRS))
    with _launched(store, looks) as launch:
        _run(store, looks, launch)
    with _launched(store, first) as launch:
        _run(store, first, launch, lambda spec: spec.seed == 20_000_000)
    compact(store, FinetuneSpec.kind)
    compact(store, "attack")
    # results from here on are not in the index
    for trial in _pending(store, first):
        run_locally(first, trial, store, QUIET)
    with _launched(store, own) as launch:
        _run(store, own, launch)
    _pairs(store, pairs)
    _import(store)
    _contradict(store, expand(first)[0])
    _tidy(out)
    print(f"{Path(jobs.__file__).parent.parent}: {sum(1 for path in out.rglob('*') if path.is_file())} files in {out}")


def _study(text: str) -> Study:
    return parse_study(text, "study.yaml")


@contextmanager
def _launched(store: Store, study: Study) -> Iterator[Launch]:
    """Write a launch's records as `orchestrator.launching.launch` does."""
    launch = new_launch(study.name, study.digest)
    record_study(store, study.name, study.digest, study.resolved())
    write_launch(store, launch)
    yield launch
    write_launch(store, launch._replace(heartbeat_at=timestamp(), ended_at=timestamp()))


def _pending(store: Store, study: Study) -> list[str]:
    specs = {spec.trial_id: spec for spec in expand(study)}
    standing = completed(store, specs)
    return [trial for trial in specs if trial not in standing]


def _run(store: Store, study: Study, launch: Launch, chosen: Callable[[TrialSpec], bool] = lambda _: True) -> None:
    """Run the pending trials of a study, in bundles if it declares them."""
    pending = set(_pending(store, study))
    bundles: dict[object, list[TrialSpec]] = {}
    for spec in expand(study):
        if spec.trial_id in pending and chosen(spec):
            bundled = study.bundle == "blocks" and isinstance(spec, FinetuneSpec)
            bundles.setdefault(spec.model_copy(update={"blocks": -1}) if bundled else spec, []).append(spec)
    for specs in bundles.values():
        _attempt(store, study, specs, launch, lambda: False, _raise)


def _raise(trial: str, error: Exception) -> NoReturn:
    raise error


def _attempt(
    store: Store,
    study: Study,
    specs: list[TrialSpec],
    launch: Launch,
    stop: Callable[[], bool],
    failed: Callable[[str, Exception], None],
) -> None:
    retention = retention_of(study, specs[0], networks_needed(expand(study)))
    attempts = {spec.trial_id: Attempt(next_attempt(store, spec.trial_id), launch.launch) for spec in specs}
    ended = attempt_bundle(store, specs, study.catalog, CPU, attempts, retention, stop, failed)
    assert all(one.status is AttemptStatus.COMMITTED and not one.notes for one in ended.values()), ended


def _pairs(store: Store, study: Study) -> None:
    """Write a finished bundle, a trial with an infrastructure failure, a quarantined one and one of a killed launch."""
    specs = [spec for spec in expand(study) if isinstance(spec, FinetuneSpec)]
    lost, quarantined, left = (
        next(spec for spec in specs if (spec.seed, spec.blocks) == (20_000_000 + 100_000 * seed, blocks))
        for seed, blocks in ((1, 1), (2, 0), (1, 0))
    )
    with _launched(store, study) as launch:
        _run(store, study, launch, lambda spec: spec.seed == 20_000_000)
        _fail(store, study, lost, launch, OSError("the storage went away"), FailureKind.INFRASTRUCTURE)
        for _ in range(2):
            _fail(store, study, quarantined, launch, ValueError("the loss is no number"), FailureKind.ERROR)
    killed = new_launch(study.name, study.digest)
    write_launch(store, killed._replace(in_flight=(left.trial_id,)))
    trial = open_trial(store, left, study.catalog, CPU)
    ended = attempt_trial(
        store,
        trial,
        Attempt(next_attempt(store, left.trial_id), killed.launch),
        RetentionPolicy(checkpoint_every=1),
        stop=lambda: trial.epoch > 1,
    )
    assert (ended.status, trial.position) == (AttemptStatus.STOPPED, (2, 0))


def _fail(store: Store, study: Study, spec: TrialSpec, launch: Launch, error: Exception, kind: FailureKind) -> None:
    """Record an attempt that raises an error when it polls for a stop, before the first batch."""

    def stop() -> bool:
        raise error.with_traceback(None)

    def failed(trial: str, error: Exception) -> None:
        failure = Failure(
            trial_id=trial,
            attempt=next_attempt(store, trial),
            kind=kind,
            error=type(error).__name__,
            reason=str(error),
            host=HOST,
            launch=launch.launch,
            failed_at=timestamp(),
        )
        log = "".join(traceback.format_exception(error))
        record_failure(store, failure, re.sub(r'File ".*?((?:jobs|scripts)/\w+\.py)"', r'File "\1"', log))

    _attempt(store, study, [spec], launch, stop, failed)


def _import(store: Store) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "theirs.csv"
        file.write_text(IMPORTED)
        assert import_trials(file, store.uri).new == 1


def _contradict(store: Store, spec: TrialSpec) -> None:
    """Commit a trial again with different numbers."""
    rows = [row for row in read_trials(store, spec.kind).to_pylist() if row["trial_id"] == spec.trial_id]
    again = [{**row, "test_loss": row["test_loss"] + 0.125, "finished_at": timestamp()} for row in rows]
    assert commit(store, spec.kind, again) is Committed.CONFLICT


def _tidy(out: Path) -> None:
    """Remove locks and temporary files, and check that nothing identifies this machine."""
    shutil.rmtree(out / "_tmp", ignore_errors=True)
    shutil.rmtree(os.environ["DELTASWEEP_HOME"], ignore_errors=True)
    for path in sorted(out.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file():
            text = _text(path)
            found = [word for word in _HIDDEN if re.search(rf"(?<!\w){re.escape(word)}", text)]
            assert not found, f"{path} has {found}"


def _text(path: Path) -> str:
    """Return the text in a file."""
    match path.suffix:
        case ".parquet":
            table = pq.read_table(path)
            texts = [column for column in table.columns if pa.types.is_string(column.type)]
            return " ".join(str(value) for column in texts for value in column.unique().to_pylist())
        case ".safetensors":
            data = path.read_bytes()
            return data[8 : 8 + int.from_bytes(data[:8], "little")].decode()
        case _:
            return path.read_text()


if __name__ == "__main__":
    main()
