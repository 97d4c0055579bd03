"""What users ask of a plan's GPU, on the command line or in Python. No torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jobs.errors import Code, InvalidRequest
from orchestrator.planning import gpus
from orchestrator.planning.gpu_table import table_with

if TYPE_CHECKING:
    from jobs.catalog.catalog import Catalog
    from jobs.specs.trial import TrialSpec


class GpuRequest(NamedTuple):
    """The options about GPUs as users give them."""

    name: str | None
    memory_gb: float | None
    tflops: float | None
    table: Path | None
    price: float | None
    spot_price: float | None
    compare: str | None
    measure: bool

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

    def compared(self, own: gpus.Gpu) -> list[gpus.Gpu]:
        """Return the GPUs to compare with the plan's own; raises InvalidRequest as ``chosen``."""
        from orchestrator.planning.compare import chosen

        besides = self.name is not None or own.name == gpus.OWN_GPU
        return [] if self.compare is None else chosen(self.compare, own, besides=besides)

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
        if self.measure and self.name is not None and not gpus.machine_has_gpu():
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"expected --measure with --gpu only on a machine with a GPU; got --gpu {self.name} on one without. "
                "Fix: leave out --gpu for the hours of this processor, or --measure for the hours of that GPU",
                key="--measure",
            )

    def about_processor(self, pending: Iterable["TrialSpec"], catalog: "Catalog") -> list[str]:
        """Return lines about this machine's processor where trials would run on it, because there is no GPU."""
        from orchestrator.planning.processor import without_units

        defined = self.name is not None or (self.memory_gb is not None and self.tflops is not None)
        if defined or gpus.machine_has_gpu():
            return []
        to_measure = "This machine has no GPU: --measure times real steps and gives the hours of its processor."
        return [*([] if self.measure else [to_measure]), *without_units(pending, catalog)]
