"""Several processes that share the batches of one training: one GPU each, or the CPU in tests.

The first replica is the trial itself: it decides, evaluates, and writes checkpoints. The others are started by it for
the length of one ``advance`` and get everything from it, so a restarted trial starts them where it stands. Every
gradient is part of one flat tensor, summed in one call: the order of sums does not depend on when the trial was
restarted, as it would with the buckets of ``DistributedDataParallel``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from jobs import registry
from jobs.errors import Code, InvalidRequest
from jobs.evaluation import Tally
from jobs.specs import PretrainSpec

if TYPE_CHECKING:
    from jobs.pretrain import Pretraining

_MODULE = "jobs.replica"
_MEETING_TIME = timedelta(minutes=5)
_PATIENCE = timedelta(hours=24)
"""The others wait while the first evaluates; one that dies is noticed at once, by its closed connections."""


_NEWS_SECONDS = 5
"""Its connections close a little before a process that dies can be asked what it died of."""


class ReplicaFailure(RuntimeError):
    """Another replica of a trial ended with an error of its own, with what it printed last."""


class ReplicaLost(OSError):
    """Another replica of a trial was killed: its machine's fault and not the trial's."""


class Part(NamedTuple):
    """One replica's part of a batch."""

    images: slice
    weight: float
    """Its share of the batch, 0 to 1. 0: the batch has fewer images than there are replicas; this one does an image
    that another does, too, and it is not counted."""


class Replicas:
    """One process's place among those that share a training. ``count`` 1: it does everything itself."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count
        self._group: Any = None

    @property
    def joined(self) -> bool:
        """Whether it has met the others."""
        return self._group is not None

    @property
    def leading(self) -> bool:
        return self.rank == 0

    def part_of(self, images: int) -> Part:
        """This replica's part of a batch; the first replicas have the larger parts."""
        if self.rank >= images:
            return Part(slice(0, 1), 0.0)
        size, larger = divmod(images, self.count)
        start = self.rank * size + min(self.rank, larger)
        size += self.rank < larger
        return Part(slice(start, start + size), size / images)

    def average(self, network: nn.Module, weight: float) -> None:
        """Make every gradient the mean over the whole batch, and every statistic that of the first replica.

        Args:
            weight: of this replica's part, over which its gradients are means.
        """
        if self.count == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = _flatten(gradients).mul_(weight)
        dist.all_reduce(flat, group=self._group)
        _unflatten(flat, gradients)
        self._broadcast([b for b in network.buffers() if b.is_floating_point()])

    def total(self, tally: Tally) -> Tally:
        """The sum of all replicas' tallies."""
        if self.count == 1:
            return tally
        sums = torch.tensor([tally.images, tally.correct, tally.loss], dtype=torch.float64)
        dist.all_reduce(sums, group=self._group)
        return Tally(int(sums[0]), int(sums[1]), float(sums[2]))

    def agree(self, pause: bool) -> bool:
        """What the first replica says, on all of them."""
        flag = torch.tensor([int(pause)])
        dist.broadcast(flag, 0, group=self._group)
        return bool(flag[0])

    def bring_together(self, trial: "Pretraining") -> None:
        """Bring every replica to where the first one stands."""
        place = torch.tensor([trial.epoch, trial.batch, int(bool(trial.optimizer.state))])
        dist.broadcast(place, 0, group=self._group)
        epoch, batch, stepped = place.tolist()
        if not self.leading:
            trial.go_to(epoch, batch)
            if stepped:
                for parameter in trial.trained_parameters.values():
                    trial.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        self._broadcast([tensor for tensor in trial.tensors().values() if tensor.is_floating_point()])

    def join(self, meeting: Path, device: torch.device) -> None:
        """Meet the others at a file; all of them must come."""
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
        flat = _flatten(tensors)
        dist.broadcast(flat, 0, group=self._group)
        _unflatten(flat, tensors)


ALONE = Replicas()


@contextmanager
def replicas_of(spec: PretrainSpec, device: torch.device) -> Iterator[Replicas]:
    """Start the other replicas of a trial, and end them on the way out. Yields the first one's place.

    Raises:
        InvalidRequest: when there are fewer GPUs than replicas.
        ReplicaFailure, ReplicaLost, MemoryError: when another one ends before the first does.
    """
    first = Replicas(0, spec.recipe.replicas)
    if device.type == "cuda" and torch.cuda.device_count() < first.count:
        raise InvalidRequest(
            Code.CLUSTER_TOO_SMALL,
            f"{first.count} replicas need {first.count} GPUs on one machine; here {torch.cuda.device_count()} can be "
            "used. Ask for them in the study's resources, or lower the recipe's replicas",
            key="replicas",
        )
    with tempfile.TemporaryDirectory(prefix="deltasweep-replicas-") as folder:
        others = [_Other(Path(folder), spec, device, rank) for rank in range(1, first.count)]
        try:
            _wait_for(others)
            first.join(Path(folder) / "meeting", device)
            yield first
        except RuntimeError as error:  # what torch raises when a connection closes
            reason = _reason(others) if first.joined else None
            if reason is None:
                raise
            raise reason from error
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            for other in others:
                other.end()


class _Other:
    """A replica started by the first one, seen from there."""

    def __init__(self, folder: Path, spec: PretrainSpec, device: torch.device, rank: int) -> None:
        self.ready = folder / f"{rank}.ready"
        self.printed = folder / f"{rank}.log"
        order = {
            "spec": spec.model_dump(mode="json"),
            "cards": registry.cards_in_use().model_dump(mode="json"),
            "device": device.type,
            "rank": rank,
            "ready": str(self.ready),
            "meeting": str(folder / "meeting"),
            "parent": os.getpid(),
        }
        path = folder / f"{rank}.json"
        path.write_text(json.dumps(order), encoding="utf-8")
        with self.printed.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, str(path)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the first one, which tells the others
            )

    def reason(self) -> Exception | None:
        """Why it ended with an error; None when it did not."""
        code = self.process.poll()
        if not code:
            return None
        last = self.printed.read_text(encoding="utf-8", errors="replace")[-2000:]
        if code < 0:
            return ReplicaLost(f"another replica was killed by signal {-code}; it printed last:\n{last}")
        if "OutOfMemoryError" in last or "can't allocate memory" in last:
            return MemoryError(f"another replica had too little memory; it printed last:\n{last}")
        return ReplicaFailure(f"another replica ended with {code}; it printed last:\n{last}")

    def end(self) -> None:
        """It leaves by itself when the first one does; one that hangs is killed."""
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _wait_for(others: Iterable[_Other]) -> None:
    for other in others:
        while not other.ready.exists():
            if (reason := other.reason()) is not None:
                raise reason
            time.sleep(0.05)


def _reason(others: Iterable[_Other]) -> Exception | None:
    """Why another replica ended, if one has; None when all are there: then the first one's error is its own."""
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
