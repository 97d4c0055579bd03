"""Data parallelism: several processes share the batches of one training, each with one GPU (or the CPU, in tests).

The first replica is the trial itself: it decides when to pause, evaluates and writes checkpoints. It starts the others
for each call of ``advance`` and sends them its state, so they start at the position of a resumed trial. All gradients
are summed as one flat tensor in one call. The order of the sums therefore does not depend on when the trial was
resumed, unlike with the buckets of ``DistributedDataParallel``.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jobs.catalog.catalog import Catalog
from jobs.errors import Code, InvalidRequest
from jobs.execution.gpu_memory import refusals, says_out_of_memory
from jobs.execution.metrics import RunningMetrics
from jobs.execution.optimizers import allocate_state
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.training.trial import Training

_MODULE = "jobs.kinds.pretrain.replica"
_MEETING_TIME = timedelta(minutes=5)
_PATIENCE = timedelta(hours=24)
"""The others wait while the first evaluates. A replica that dies is noticed at once, by its closed connections."""


_NEWS_SECONDS = 5
"""A dying process closes its connections shortly before its exit status is available."""

_END_SECONDS = 60.0
"""When the first replica has ended, the others have nothing left to compute."""

_Sign: TypeAlias = Literal["ready", "done"]
"""What another replica says: that it can connect to the first; that it has computed its part of all batches."""


class ReplicaFailure(RuntimeError):
    """Another replica of a trial failed with an error; the message contains the end of its output."""


class ReplicaLost(OSError):
    """Another replica of a trial was killed: an infrastructure failure, not an error of the trial."""


class BatchShare(NamedTuple):
    """One replica's part of a batch."""

    images: slice
    weight: float
    """Share of the batch, 0 to 1. It is 0 for some replicas if the batch has fewer images than there are replicas;
    these process an image of another replica, which is not counted."""


class SharedData(NamedTuple):
    """The images that all replicas of a training read."""

    directory: Path | None
    """Folder with their files; None: this machine's."""
    sha256: str


class Replicas:
    """A process's place among the replicas of a training. With ``count`` 1 it does everything itself."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count
        self._group: Any = None

    @property
    def joined(self) -> bool:
        """Whether it is connected to the others."""
        return self._group is not None

    @property
    def leading(self) -> bool:
        return self.rank == 0

    def part_of(self, images: int) -> BatchShare:
        """Return this replica's part of a batch; the first replicas have the larger parts."""
        if self.rank >= images:
            return BatchShare(slice(0, 1), 0.0)
        size, larger = divmod(images, self.count)
        start = self.rank * size + min(self.rank, larger)
        size += self.rank < larger
        return BatchShare(slice(start, start + size), size / images)

    def average(self, network: nn.Module, weight: float) -> None:
        """Replace gradients by their means over the whole batch, and statistics by the first replica's.

        Args:
            weight: weight of this replica's part, over which its gradients are means.
        """
        if self.count == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = _flatten(gradients).mul_(weight)
        dist.all_reduce(flat, group=self._group)
        _unflatten(flat, gradients)
        self._broadcast([b for b in network.buffers() if b.is_floating_point()])

    def total(self, tally: RunningMetrics, device: torch.device) -> RunningMetrics:
        """Return the sum of all replicas' running sums. Reading them waits for the GPUs.

        Args:
            device: this replica's own.

        Raises:
            WorkspaceRefused: on all replicas, if the GPU of any has refused a request without an error.
        """
        refused = refusals.silent(device)
        sums = torch.tensor([*tally.sums, refused], dtype=torch.float64)
        dist.all_reduce(sums, group=self._group)
        refusals.require_none(device, others=bool(sums[3]))
        return RunningMetrics(int(sums[0]), int(sums[1]), float(sums[2]))

    def agree(self, pause: bool) -> bool:
        """Return the first replica's value on all of them."""
        flag = torch.tensor([int(pause)])
        dist.broadcast(flag, 0, group=self._group)
        return bool(flag[0])

    def bring_together(self, trial: Training[Any, Any]) -> None:
        """Send the first replica's position and state to all others."""
        place = torch.tensor([trial.epoch, trial.batch, int(bool(trial.optimizer.state))])
        dist.broadcast(place, 0, group=self._group)
        epoch, batch, stepped = place.tolist()
        if not self.leading:
            trial.go_to(epoch, batch)
            if stepped:
                allocate_state(trial.optimizer, trial.trained_parameters)
        tensors = trial.tensors()
        self._broadcast([tensor for tensor in tensors.values() if tensor.is_floating_point()])
        trial.loss_scale.load(tensors)  # the others are the trial's own tensors

    def join(self, meeting: Path, device: torch.device) -> None:
        """Connect to the others through a file; all of them must join."""
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(
            backend,
            init_method=f"file://{meeting}",
            rank=self.rank,
            world_size=self.count,
            timeout=_MEETING_TIME,
        )
        self._group = dist.new_group(backend=backend, timeout=_PATIENCE)

    def _broadcast(self, tensors: list[Tensor]) -> None:
        """Send the first replica's tensors; an optimizer keeps some of its state on the CPU."""
        for device in dict.fromkeys(tensor.device for tensor in tensors):
            there = [tensor for tensor in tensors if tensor.device == device]
            flat = _flatten(there)
            dist.broadcast(flat, 0, group=self._group)
            _unflatten(flat, there)


ALONE = Replicas()


@contextmanager
def replicas_of(spec: PretrainSpec, catalog: Catalog, device: torch.device, data: SharedData) -> Iterator[Replicas]:
    """Start the other replicas of a trial, and end them on exit. Yields the first replica.

    Raises:
        InvalidRequest: if there are fewer GPUs than replicas.
        ReplicaFailure, ReplicaLost, MemoryError: if another replica ends before the first, or fails after it.
    """
    first = Replicas(0, spec.recipe.replicas)
    if device.type == "cuda" and torch.cuda.device_count() < first.count:
        raise InvalidRequest(
            Code.CLUSTER_TOO_SMALL,
            f"expected {first.count} GPUs on one machine for {first.count} replicas; got {torch.cuda.device_count()}. "
            "Fix: request them in the study's resources, or lower the recipe's replicas",
            key="replicas",
        )
    with tempfile.TemporaryDirectory(prefix="deltasweep-replicas-") as folder:
        others = [_Other(Path(folder), spec, catalog, device, data, rank) for rank in range(1, first.count)]
        try:
            _wait_for(others, "ready")
            first.join(Path(folder) / "meeting", device)
            yield first
        except RuntimeError as error:  # raised by torch when a connection is closed
            reason = _reason(others) if first.joined else None
            if reason is None:
                raise
            raise reason from error
        else:
            _wait_for(others, "done", _END_SECONDS)
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            for other in others:
                other.end()


class _Other:
    """Another replica, as seen by the first one, which started it."""

    def __init__(
        self, folder: Path, spec: PretrainSpec, catalog: Catalog, device: torch.device, data: SharedData, rank: int
    ) -> None:
        self.signs: dict[_Sign, Path] = {"ready": folder / f"{rank}.ready", "done": folder / f"{rank}.done"}
        """Files that it creates."""
        self.printed = folder / f"{rank}.log"
        order: dict[str, object] = {
            "spec": spec.model_dump(mode="json"),
            "cards": catalog.own.model_dump(mode="json"),
            "builders": dict(catalog.builders),
            "directory": None if data.directory is None else str(data.directory),
            "data_sha256": data.sha256,
            "device": device.type,
            "rank": rank,
            **{sign: str(path) for sign, path in self.signs.items()},
            "meeting": str(folder / "meeting"),
            "parent": os.getpid(),
        }
        path = folder / f"{rank}.json"
        path.write_text(json.dumps(order), encoding="utf-8")
        with self.printed.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, str(path)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                stdout=log,
                stderr=log,
                start_new_session=True,  # only the first replica receives Ctrl-C; it stops the others
            )

    @property
    def last_output(self) -> str:
        """The end of what it printed."""
        return self.printed.read_text(encoding="utf-8", errors="replace")[-2000:]

    def reason(self) -> Exception | None:
        """Return why it ended with an error; None if it did not."""
        code = self.process.poll()
        if not code:
            return None
        last = self.last_output
        if code < 0:
            return ReplicaLost(f"another replica was killed by signal {-code}; its last output:\n{last}")
        if says_out_of_memory(last):
            return MemoryError(f"another replica had too little memory; its last output:\n{last}")
        return ReplicaFailure(f"another replica ended with exit status {code}; its last output:\n{last}")

    def end(self) -> None:
        """Wait until it exits, which it does after the first one; kill it if it hangs."""
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _wait_for(others: Iterable[_Other], sign: _Sign, seconds: float = math.inf) -> None:
    until = time.monotonic() + seconds
    for other in others:
        while not other.signs[sign].exists():
            if (reason := other.reason()) is not None:
                raise reason
            if time.monotonic() > until:
                raise ReplicaFailure(
                    f"expected another replica to end with the first; it did not within {seconds:g} s; its last "
                    f"output:\n{other.last_output}"
                )
            time.sleep(0.05)


def _reason(others: Iterable[_Other]) -> Exception | None:
    """Return why another replica ended; None if all are running, so that the first one's error is its own."""
    waiting = list(others)
    until = time.monotonic() + _NEWS_SECONDS
    while time.monotonic() < until:
        for other in waiting:
            if (reason := other.reason()) is not None:
                return reason
        time.sleep(0.05)
    return None


def _flatten(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _unflatten(flat: Tensor, tensors: list[Tensor]) -> None:
    start = 0
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
            start += tensor.numel()
