"""What users ask of a plan's GPU, on the command line or in Python. No torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jobs.errors import Code, InvalidRequest
from jobs.system import nvidia
from orchestrator.planning import gpus
from orchestrator.planning.gpu_table import Device, table_with
from orchestrator.planning.processor import without_units
from orchestrator.planning.timed_steps import are_quick

if TYPE_CHECKING:
    from jobs.catalog.catalog import Catalog
    from jobs.specs.trial import TrialSpec


_UNKNOWN = (
    "time on this machine: unknown until --measure times real steps on its processor (seconds for small networks, "
    "minutes for large ones)"
)


class GpuRequest(NamedTuple):
    """The options about GPUs as users give them."""

    name: str | None
    memory_gb: float | None
    tflops: float | None
    table: Path | None
    price: float | None
    spot_price: float | None
    compare: str | None
    measure: bool | None
    """Whether to time real steps on this machine; None: if ``measures`` says so."""

    def chosen(self) -> gpus.Gpu:
        """Return the GPU of the plan.

        Raises:
            InvalidRequest: If options contradict each other, a name is unknown, or a number or the table is wrong.
        """
        self._require_fitting()
        return gpus.gpu(
            self.name,
            self.price,
            self.spot_price,
            memory_gb=self.memory_gb,
            tflops=self.tflops,
            table=table_with(self.table),
        )

    def measured_on(self, device: Device) -> gpus.Gpu:
        """Return the GPU of a plan whose hours were measured on this machine's GPU: that one, unless one is named."""
        if self.name is not None:
            return self.chosen()
        table = table_with(self.table)
        return gpus.gpu_of_machine(*device, self.price, self.spot_price, memory_gb=self.memory_gb, table=table)

    def compared(self, own: gpus.Gpu) -> list[gpus.Gpu]:
        """Return the GPUs to compare with the plan's own; raises InvalidRequest as ``chosen``."""
        from orchestrator.planning.compare import chosen

        besides = self.name is not None or own.name == gpus.OWN_GPU
        return [] if self.compare is None else chosen(self.compare, own, besides=besides)

    def measures(self, pending: Sequence["TrialSpec"], catalog: "Catalog") -> bool:
        """Whether to time real steps: if asked; or unasked, where trials would run on the processor and it is quick."""
        if self.measure is not None:
            return self.measure
        return self._runs_here() and are_quick(pending, catalog) and not without_units(pending, catalog)

    def _require_fitting(self) -> None:
        if self.compare is not None and self.measure:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                "expected --compare without --measure, which times this machine only; got both. Fix: leave out one",
                key="--compare",
            )
        if self.measure and self.tflops is not None:
            raise InvalidRequest(
                Code.WRONG_VALUE,
                "expected one of --measure and --gpu-tflops; got both. Fix: leave out one",
                key="--gpu-tflops",
            )
        if self.measure and self.name is not None and not nvidia.machine_has_gpu():
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"expected --measure with --gpu only on a machine with a GPU; got --gpu {self.name} on one without. "
                "Fix: leave out --gpu for the hours of this processor, or --measure for the hours of that GPU",
                key="--measure",
            )

    def about_time_here(self) -> str | None:
        """Return what to know of the time on this machine's processor if nothing was timed; None: nothing."""
        return _UNKNOWN if self._runs_here() else None

    def about_processor(self, pending: Iterable["TrialSpec"], catalog: "Catalog") -> list[str]:
        """Return lines about this machine's processor where trials would run on it, because there is no GPU."""
        return without_units(pending, catalog) if self._runs_here() else []

    def _runs_here(self) -> bool:
        """Whether trials would run on this machine's processor: it has no GPU, and no option is about one."""
        about_gpu = (self.name, self.memory_gb, self.tflops, self.table, self.price, self.spot_price, self.compare)
        return all(one is None for one in about_gpu) and not nvidia.machine_has_gpu()
