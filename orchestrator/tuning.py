"""The seam to Ray Tune: connect, size the actors, run one round of trials through one Tuner, quietly."""

import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import ray
from ray import tune

from jobs.errors import Code, DeltaSweepError, InvalidRequest, StorageFailure
from jobs.specs import AnySpec, plain
from jobs.study import Resources
from orchestrator.local_ray import prepare_machine
from orchestrator.queue import FirstWaiting, InOrder
from orchestrator.reaching import of_cluster, require_ray, require_same_ray
from orchestrator.signals import unchanged_signals
from orchestrator.trainable import TrialActor
from orchestrator.watch import Observer, StopWhenAsked, Watch

# Tune's own state is never read back (design, promise 2), so it is written as rarely as possible, its
# loggers (a folder of files a trial) stay off, and it leaves signals and messages to us.
_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "30",
    # trials that wait for room, which an autoscaler sees: for a queue (`InOrder`) Tune takes one, for a grid 200
    "TUNE_MAX_PENDING_TRIALS_PG": "200",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

Share = dict[str, float]
"""Ray's resource names to amounts: what one actor takes."""


class _Membership:
    """In the Ray that the first launch of this process joined, and that the last one leaves.

    Linux ends the processes of a Ray that is started here with the thread that started them. So that thread waits for
    the launches of others.
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
    """Ray for a launch: what the calling process has joined already, or else ``connect``, and left at the end."""
    return _membership.held(address)


def require_answer(address: str | None) -> None:
    """Find out within seconds whether ``connect`` has something to join, and of this Ray.

    Raises:
        InvalidRequest: when it has not.
    """
    if not ray.is_initialized():
        require_ray(_address(address))
        require_same_ray(_address(address))
    elif address is not None:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"this process has joined a Ray already, and a launch runs there; --address is {address}. Fix: leave it "
            "out, or call ray.shutdown() before",
            file=address,
            key="--address",
        )


def _address(given: str | None) -> str:
    """HOST:PORT of a cluster, ``auto``, or ``local``."""
    return given or os.environ.get("RAY_ADDRESS") or "local"


def connect(address: str | None) -> None:
    """Join the cluster at ``address`` or ``$RAY_ADDRESS``; without either, start Ray on this machine.

    Never what ``ray.init()`` does by itself: joining whatever cluster was last started on this machine.

    Raises:
        InvalidRequest: when no cluster answers, or is of another version, or Ray could start no worker here.
        StorageFailure: when this machine lets Ray keep its files nowhere.
    """
    os.environ.update(_ENVIRONMENT)
    address = _address(address)
    if address == "local" and any(map(str.isspace, sys.executable)):
        raise InvalidRequest(
            Code.NO_CLUSTER,
            "Ray starts its workers by a shell that splits paths at spaces: expected Python in a path without any; got "
            f"{sys.executable}. Fix: make the environment elsewhere (make VENV=/path/without/spaces), or join a "
            "cluster with --address",
            file=sys.executable,
            key="--address",
        )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    here: dict[str, Any] = {"include_dashboard": False, **prepare_machine()} if address == "local" else {}
    try:
        with of_cluster(address), unchanged_signals():  # Ray takes SIGTERM for itself
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except SystemExit as ended:  # and ends the process by it
        raise KeyboardInterrupt from ended
    except ConnectionError as error:
        raise InvalidRequest(
            Code.NO_CLUSTER, f"no Ray cluster answers at {address}: {error}", file=address, key="--address"
        ) from error
    except OSError as error:
        raise _machine_fails("Ray cannot start", error) from error
    except Exception as error:
        # Ray raises bare exceptions where a process of it has not started in time
        if type(error) not in (RuntimeError, Exception):
            raise
        where = "start on this machine" if address == "local" else f"take this process at {address}"
        raise InvalidRequest(
            Code.NO_CLUSTER, f"Ray does not {where}: {error}", file=address, key="--address"
        ) from error


def share_of(resources: Resources, say: Callable[[str], object]) -> Share:
    """What an actor asks Ray for. Without any GPU among machines that run trials, its CPU share alone.

    On a cluster whose machines give no CPU at all (an idle head waiting for its workers) the whole share is asked for:
    that demand is what makes an autoscaler add machines.

    Args:
        say: told what the share came to mean.

    Raises:
        InvalidRequest: when no machine is large enough, so that the study would wait for ever.
    """
    whole = {"CPU": resources.cpu} | ({"GPU": resources.gpu} if resources.gpu else {})
    workers = [node for node in _nodes() if node.get("CPU", 0) > 0]
    if not workers:
        say(f"No machine of this cluster runs trials yet; asking for machines with {whole}.")
        return whole
    if any(node.get("GPU", 0) > 0 for node in workers) or not resources.gpu:
        wanted = whole
    else:
        say("This cluster has no GPU: trials run on CPU shares.")
        wanted = {"CPU": resources.cpu}
    if largest_multiple(wanted) < 1:
        largest = {name: max(node.get(name, 0) for node in workers) for name in wanted}
        raise InvalidRequest(
            Code.CLUSTER_TOO_SMALL,
            f"a trial asks for {wanted} on one machine; the most that any has is {largest}. "
            "Lower the study's resources",
            key="resources",
        )
    return wanted


def largest_multiple(share: Share) -> int:
    """How many times the share the best machine of the cluster could give to one actor."""
    return max((int(min(node.get(name, 0) / amount for name, amount in share.items())) for node in _nodes()), default=0)


def billed_units() -> float:
    """The GPUs that the cluster has now; its machines, where it has no GPU."""
    nodes = _nodes()
    return sum(node.get("GPU", 0) for node in nodes) or len(nodes)


def run_round(bundles: Sequence[Sequence[AnySpec]], job: dict[str, Any], share: Share, watch: Watch) -> None:
    """Run the trials through one Tuner; what became of them is in ``watch`` and in the results root.

    Args:
        bundles: trials that share an actor; most often one.
        job: what every actor is told besides its trials: see ``TrialActor``.
    """
    told = json.dumps(job)
    # as text: Tune copies each trial's configuration deeply, and encodes it again whenever it writes its state
    configurations = [{"trials": json.dumps([plain(spec) for spec in bundle]), "job": told} for bundle in bundles]
    with _scratch() as scratch:
        tune.Tuner(
            tune.with_resources(TrialActor, tune.PlacementGroupFactory([share])),
            tune_config=tune.TuneConfig(
                search_alg=InOrder(configurations),
                scheduler=FirstWaiting(),
                num_samples=len(configurations),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=watch.launch,
                storage_path=scratch,
                verbose=0,
                stop=StopWhenAsked(watch),
                callbacks=[Observer(watch)],
                # our checkpoints lie under the trial id in the results root, not in Tune's storage
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        ).fit()


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder for Tune's own state, which nobody reads.

    Raises:
        StorageFailure: when this machine's disk, and not the results root, fails on the way.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="deltasweep-tune-", ignore_cleanup_errors=True) as folder:
            yield folder
    except DeltaSweepError:
        raise
    except OSError as error:
        raise _machine_fails("Ray Tune cannot keep its state", error) from error


def _machine_fails(what: str, error: OSError) -> StorageFailure:
    where = tempfile.gettempdir()
    return StorageFailure(
        Code.STORAGE,
        f"{what} on this machine: {error}. What was done is kept. Fix: free some space in {where}, or set TMPDIR (and "
        "RAY_TMPDIR) to a directory that has some; then resume",
        file=error.filename or where,
    )


def _nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
