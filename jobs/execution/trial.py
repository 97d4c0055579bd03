"""Base of trials in progress: a position, pauses between any two batches, and resuming from a checkpoint."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from jobs.catalog.catalog import Catalog
from jobs.execution.determinism import deterministic
from jobs.execution.device_kind import device_kind
from jobs.execution.gpu_memory import refusals
from jobs.execution.metrics import RunningMetrics
from jobs.networks.network import Network
from jobs.provenance import History, packages
from jobs.results import Store
from jobs.specs.trial import TrialSpec
from jobs.system.progress import progressed


class TrialRow(Protocol):
    """Numbers that a trial computed, as a named tuple: one row of its result."""

    def _asdict(self) -> dict[str, Any]: ...
    def _replace(self, *, seconds: float) -> Self: ...


SpecT = TypeVar("SpecT", bound=TrialSpec)
RowT = TypeVar("RowT", bound=TrialRow)


class Pin(NamedTuple):
    """The digest that a name must have in a results root.

    ``what`` is ``sources``, ``datasets``, or, for a study's own cards and builder files, ``cards/sources``,
    ``cards/datasets``, ``cards/architectures`` or ``cards/builders``.
    """

    what: str
    name: str
    sha256: str


class Trial(ABC, Generic[SpecT, RowT]):
    """A trial in progress.

    It passes over its images one or more times and can be paused between any two batches. Its numbers depend only on
    its spec, not on where it was paused; they are equal on one device kind with the same torch and torchvision
    (docs/explanation/architecture.md).
    """

    evaluation: ClassVar[Callable[..., TrialRow]]
    """The kind's row type, used to read rows from a checkpoint."""

    def __init__(self, spec: SpecT, network: Network, device: torch.device) -> None:
        """Set the trial to its start."""
        self.spec = spec
        self.network = network
        network.precision = spec.recipe.precision
        self.device = device
        self.epoch = 1
        self.batch = 0
        self.batches = self._batches_of(self.epoch)
        self.tally = RunningMetrics()
        self.evaluations: list[RowT] = []
        self.seconds = 0.0
        self.passed_over = set[str]()
        """Skipped checkpoints; they are deleted when the trial saves its own."""
        self._before = History()

    @classmethod
    @abstractmethod
    def open(cls, store: Store, spec: SpecT, catalog: Catalog, device: torch.device) -> Self:
        """Load what a trial needs and set it to its start.

        The caller has already checked that the trial is possible (``jobs.possible``).

        Raises:
            MissingData, DamagedFile: if its weights or images are missing or damaged.
        """

    @property
    def device_kind(self) -> str:
        """Device kind on which it is computed now."""
        return device_kind(self.device, self.spec.recipe, self.operations)

    @property
    def operations(self) -> tuple[str, ...]:
        """Names in ``jobs.execution.operations.OPERATIONS``: what it computes beyond what every trial does."""
        return (*self.spec.recipe.operations, *self.network.operations)

    @property
    def own_history(self) -> History:
        """Device kinds and packages that have computed the trial; the current ones are last."""
        return self._before.then(History((self.device_kind,), (json.dumps(packages()),)))

    @property
    def history(self) -> History:
        """Everything that computed its numbers; the history of a trained network that it reads comes first."""
        return self.own_history

    @property
    @abstractmethod
    def pins(self) -> tuple[Pin, ...]:
        """Digests of what the trial reads; a results root accepts one digest per name."""

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, object]:
        """Columns that all its rows share, besides those of the spec: what was read, and how much of it."""

    @property
    @abstractmethod
    def epochs(self) -> int:
        """Number of passes over its images."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that the trial changes, by name; checkpoints also store position, sums and rows."""

    def trained_tensors(self) -> dict[str, Tensor] | None:
        """Return all current tensors of the network, with torchvision's names; None if the trial trains none."""
        return None

    @abstractmethod
    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the result of ``tensors`` from another position.

        Raises:
            ValueError: if a tensor is missing or has another shape; the trial is unchanged.
        """

    @abstractmethod
    def _batches_of(self, epoch: int) -> list[Tensor]:
        """Return the image indices of each batch of an epoch (from 1)."""

    @abstractmethod
    def _run_batch(self) -> Sequence[RowT]:
        """Run the next batch; return the rows that it completes. Their ``seconds`` are set later."""

    @property
    def done(self) -> bool:
        return self.epoch > self.epochs

    @property
    def position(self) -> tuple[int, int]:
        """Epoch (from 1) and batch (from 0) of the next step."""
        return self.epoch, self.batch

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Run until the trial is done, or until ``pause()``, called between batches, returns true.

        Raises:
            WorkspaceRefused: if the numbers of a batch may depend on what shares the GPU.
        """
        with deterministic(self.spec.recipe):
            while not self.done and not pause():
                started = time.monotonic()
                rows = self._run_batch()
                refusals.require_none(self.device)
                self.finish_batch(time.monotonic() - started, rows)

    def restore(
        self,
        tensors: Mapping[str, Tensor],
        *,
        epoch: int,
        batch: int,
        tally: RunningMetrics,
        evaluations: list[RowT],
        seconds: float,
        history: History,
    ) -> Self:
        """Restore the state of a trial of the same spec.

        Args:
            tensors: result of ``tensors``.
            history: device kinds and packages that had computed that trial.

        Raises:
            ValueError: if a tensor is missing or has another shape; the trial is unchanged.
        """
        self._load(tensors)
        self.go_to(epoch, batch)
        self.tally, self.evaluations, self.seconds, self._before = tally, evaluations, seconds, history
        return self

    def go_to(self, epoch: int, batch: int) -> None:
        """Set the next batch: epoch (from 1) and batch (from 0)."""
        self.epoch, self.batch, self.batches = epoch, batch, self._batches_of(epoch)

    @property
    def ends_epoch(self) -> bool:
        """Whether the next batch is the last of its epoch."""
        return self.batch + 1 == len(self.batches)

    def finish_batch(self, seconds: float, rows: Sequence[RowT]) -> None:
        """Record a finished batch and move to the next one.

        Args:
            seconds: time spent on the batch, and on evaluations after it.
            rows: rows completed by the batch.
        """
        progressed()
        ended = self.ends_epoch
        self.seconds += seconds
        self.batch += 1
        self.evaluations += [row._replace(seconds=self.seconds) for row in rows]
        if ended:
            self.tally = RunningMetrics()
            self.go_to(self.epoch + 1, 0)


def require_shapes(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Require tensors to include all wanted names with the wanted shapes.

    Raises:
        ValueError: naming those that are missing or have another shape.
    """
    if names := [name for name, t in wanted.items() if name not in found or found[name].shape != t.shape]:
        raise ValueError(f"expected tensors of the trial's shapes; missing or of another shape: {', '.join(names)}")
