"""The interface to Ray Tune: connect to Ray, size the actors, and run a round of trials in one Tuner."""

import json
import logging
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.job_config import JobConfig

from jobs.errors import Code, DeltaSweepError, InvalidRequest, StorageFailure
from jobs.kind import plain
from jobs.paths import make_home_absolute
from jobs.specs.section import Resources
from jobs.specs.trial import TrialSpec
from jobs.system.processor import cores
from orchestrator.process.signals import unchanged_signals
from orchestrator.ray_tune.callbacks import KeepsHandlers, NoReport, Reporter, RoundObserver, StopWhenAllLeft
from orchestrator.ray_tune.local_ray import prepare_machine, require_own_packages
from orchestrator.ray_tune.lost_actors import let_tune_survive
from orchestrator.ray_tune.reachable import of_cluster, require_ray, require_same_ray
from orchestrator.ray_tune.search import FirstWaiting, InOrder
from orchestrator.ray_tune.trainable import TrialActor

# Tune's own state is never read back (docs/decisions/ray-tune.md), so it is written as rarely as possible. Its loggers,
# which write a folder of files per trial, stay off, and so do its signal handler and messages.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
    # pending trials that an autoscaler sees; Tune's default is 200 for a grid but 1 for a searcher such as `InOrder`
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

Share = dict[str, float]
"""Resources of one actor: amounts by Ray's resource names."""


class OwnJob(JobConfig):
    """A job whose workers import installed packages and those of ``PYTHONPATH`` only.

    By default, Ray's workers import whatever is in the directory in which the driver runs, and in that of its script,
    before installed packages: files of strangers, if a study came with some. Ray leaves these directories out of jobs
    that have a directory of their own.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        return True


class _Membership:
    """Connection to Ray, which the first launch of this process opens and the last one closes.

    If Ray was started here, Linux kills its processes when the thread that started them ends. That thread therefore
    waits for the launches of other threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._launches = 0

    @contextmanager
    def held(self, address: str | None) -> Iterator[None]:
        with self._lock:
            own = self._launches > 0 or not ray.is_initialized()
            first = own and not self._launches
            if first:
                try:
                    connect(address)
                except BaseException:
                    ray.shutdown()
                    raise
            self._launches += own
        try:
            yield
        finally:
            with self._lock:
                self._launches -= own
                if own and not self._launches:
                    ray.shutdown()
                    self._lock.notify_all()
                elif first and threading.current_thread() is not threading.main_thread():
                    self._lock.wait_for(lambda: not self._launches)


_membership = _Membership()


def connected(address: str | None) -> AbstractContextManager[None]:
    """Connect to Ray for the duration of a launch, unless the calling process has already joined it."""
    return _membership.held(address)


def require_answer(address: str | None) -> None:
    """Check within seconds that ``connect`` can join a cluster and that it has this process's version of Ray.

    Raises:
        InvalidRequest: If not.
    """
    if not ray.is_initialized():
        require_ray(_address(address))
        require_same_ray(_address(address))
        return
    require_own_packages(Path.cwd())
    if address is not None:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"this process has already joined Ray, and launches run there; got --address {address}. Fix: omit it, or "
            "call ray.shutdown() first",
            file=address,
            key="--address",
        )


def _address(given: str | None) -> str:
    """Return HOST:PORT of a cluster, ``auto``, or ``local``."""
    return given or os.environ.get("RAY_ADDRESS") or "local"


def starts_here(address: str | None) -> bool:
    """Return whether a launch at this address, which has not connected yet, will start Ray on this machine."""
    return _address(address) == "local" and not ray.is_initialized()


def connect(address: str | None) -> None:
    """Join the cluster at ``address`` or ``$RAY_ADDRESS``, or start Ray on this machine if neither is set.

    Unlike ``ray.init()``, this never joins a cluster only because it was the last one started on this machine.

    Raises:
        InvalidRequest: If no cluster responds, its version differs, or Ray cannot start workers here.
        StorageFailure: If this machine has no usable directory for Ray's files.
    """
    _prepare_tune()
    address = _address(address)
    if address == "local" and any(map(str.isspace, sys.executable)):
        raise InvalidRequest(
            Code.NO_CLUSTER,
            "expected a path to Python without spaces, because Ray starts its workers in a shell that splits paths; "
            f"got {sys.executable}. Fix: create the environment elsewhere (make VENV=/path/without/spaces), or join a "
            "cluster with --address",
            file=sys.executable,
            key="--address",
        )
    here: dict[str, Any] = {}
    if address == "local":
        make_home_absolute()
        # Ray itself would count cores that this process may not use
        here = {"include_dashboard": False, "num_cpus": cores(), **prepare_machine()}
        if not torch.cuda.is_available():
            here["num_gpus"] = 0  # Ray would count GPUs for which torch has no driver, or was built without CUDA
    try:
        with of_cluster(address), unchanged_signals():  # Ray installs its own handler of SIGTERM
            ray.init(address=address, job_config=OwnJob(), log_to_driver=False, logging_level=logging.ERROR, **here)
    except SystemExit as ended:  # raised by that handler
        raise KeyboardInterrupt from ended
    except ConnectionError as error:
        raise InvalidRequest(
            Code.NO_CLUSTER, f"no Ray cluster responds at {address}: {error}", file=address, key="--address"
        ) from error
    except OSError as error:
        raise _machine_fails("Ray cannot start", error) from error
    except Exception as error:
        # Ray raises bare exceptions if one of its processes does not start in time
        if type(error) not in (RuntimeError, Exception):
            raise
        where = "start on this machine" if address == "local" else f"connect this process at {address}"
        raise InvalidRequest(Code.NO_CLUSTER, f"Ray did not {where}: {error}", file=address, key="--address") from error


def _prepare_tune() -> None:
    """Set what Tune reads from the environment, and silence it."""
    os.environ.update(_ENVIRONMENT)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def share_of(resources: Resources, say: Callable[[str], object]) -> Share:
    """Return the resources that an actor requests from Ray: only CPUs if no machine that runs trials has a GPU.

    If no machine of the cluster has CPUs (an idle head node that waits for workers), the full share is requested,
    because this demand makes an autoscaler add machines.

    Args:
        say: Called with a message if the share was reduced or no machine is available yet.

    Raises:
        InvalidRequest: If no machine is large enough, so that the study would wait forever.
    """
    assert not isinstance(resources.gpu, str), "gpu: auto is resolved before"
    whole = {"CPU": resources.cpu} | ({"GPU": resources.gpu} if resources.gpu else {})
    workers = [node for node in _nodes() if node.get("CPU", 0) > 0]
    if not workers:
        say(f"No machine of this cluster can run trials yet; requesting machines with {whole}.")
        return whole
    if any(node.get("GPU", 0) > 0 for node in workers) or not resources.gpu:
        wanted = whole
    else:
        say("This cluster has no GPUs; trials run on CPUs.")
        wanted = {"CPU": resources.cpu}
    if largest_multiple(wanted) < 1:
        largest = {name: max(node.get(name, 0) for node in workers) for name in wanted}
        raise InvalidRequest(
            Code.CLUSTER_TOO_SMALL,
            f"a trial requests {wanted} on one machine; the largest amounts of any machine are {largest}. "
            "Fix: lower the study's resources",
            key="resources",
        )
    return wanted


def largest_multiple(share: Share) -> int:
    """Return the largest multiple of the share (``multiple_of``) that any machine of the cluster can give to one actor.

    0: no machine has even the share itself.
    """

    def of(node: dict[str, float]) -> int:
        if any(node.get(name, 0) < amount for name, amount in share.items()):
            return 0
        grows = _growing(share)
        return math.ceil(1 / share[grows]) if _is_part_of_gpu(share) else int(node[grows] / share[grows])

    return max(map(of, _nodes()), default=0)


def multiple_of(share: Share, times: int) -> Share:
    """Return a share grown for a trial that ran out of memory, so that fewer run beside it.

    GPUs grow, if it has any, and CPUs otherwise. A part of a GPU becomes at most a whole one.
    """
    grows = _growing(share)
    amount = share[grows] * times
    return share | {grows: min(1.0, amount) if _is_part_of_gpu(share) else amount}


def _growing(share: Share) -> str:
    return "GPU" if "GPU" in share else "CPU"


def _is_part_of_gpu(share: Share) -> bool:
    return share.get("GPU", 1) < 1


def billed_units() -> float:
    """Return the current number of GPUs in the cluster, or of machines if it has no GPUs."""
    nodes = _nodes()
    return sum(node.get("GPU", 0) for node in nodes) or len(nodes)


def run_round(
    bundles: Sequence[Sequence[TrialSpec]], job: dict[str, Any], share: Share, observer: RoundObserver
) -> None:
    """Run the trials in one Tuner. Outcomes are reported to ``observer`` and written to the results root.

    If Tune ends early, for whatever reason, some trials have no outcome.

    Args:
        bundles: Trials that share an actor; usually one.
        job: Configuration of every actor besides its trials (see ``TrialActor``).
    """
    # as text, because Tune deep-copies each trial's configuration and encodes it again whenever it writes its state
    encoded = json.dumps(job)
    configurations = [{"trials": json.dumps([plain(spec) for spec in bundle]), "job": encoded} for bundle in bundles]
    _prepare_tune()  # the calling process may have joined Ray itself
    let_tune_survive()
    with _scratch() as scratch, unchanged_signals((signal.SIGINT, signal.SIGUSR1)) as handlers:
        tune.Tuner(
            tune.with_resources(TrialActor, tune.PlacementGroupFactory([share])),
            tune_config=tune.TuneConfig(
                search_alg=InOrder(configurations),
                scheduler=FirstWaiting(),
                num_samples=len(configurations),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=observer.launch,
                storage_path=scratch,
                verbose=0,
                progress_reporter=NoReport(),
                stop=StopWhenAllLeft(observer),
                callbacks=[KeepsHandlers(handlers), Reporter(observer)],
                # checkpoints are stored by trial id in the results root, not in Tune's storage
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        ).fit()


@contextmanager
def _scratch() -> Iterator[str]:
    """Create a temporary folder for Tune's own state, which is never read.

    Raises:
        StorageFailure: If this machine's disk, rather than the results root, fails during the round.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="deltasweep-tune-", ignore_cleanup_errors=True) as folder:
            yield folder
    except DeltaSweepError:
        raise
    except OSError as error:
        raise _machine_fails("Ray Tune cannot write its state", error) from error


def _machine_fails(what: str, error: OSError) -> StorageFailure:
    where = tempfile.gettempdir()
    return StorageFailure(
        Code.STORAGE,
        f"{what} on this machine: {error}. Finished trials are kept. Fix: free some space in {where}, or set TMPDIR "
        "(and RAY_TMPDIR) to a directory with free space; then resume",
        file=error.filename or where,
    )


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
