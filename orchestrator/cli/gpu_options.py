"""Options of ``plan`` that choose, define and compare GPUs."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich import box
from rich.table import Table

from jobs.errors import Code, InvalidRequest
from orchestrator.planning import gpus
from orchestrator.planning.gpu_table import table_with

if TYPE_CHECKING:
    from jobs.catalog.catalog import Catalog
    from jobs.specs.trial import TrialSpec
    from orchestrator.planning.compare import Compared

PlanGpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="NAME",
        help="GPU type for estimates: one that --compare all lists, or that --gpus or --gpu-memory with --gpu-tflops "
        f"defines; by default {gpus.DEFAULT_GPU}.",
    ),
]
GpuMemory = Annotated[float | None, typer.Option(metavar="GB", help="Memory of the GPU, in 10^9 bytes.")]
GpuTflops = Annotated[
    float | None,
    typer.Option(
        metavar="N",
        help="TFLOP/s that training reaches on the GPU, in every precision; data sheets state several times as much.",
    ),
]
GpuTable = Annotated[
    Path | None,
    typer.Option(
        "--gpus",
        metavar="FILE",
        help="YAML file with GPUs, their rates and prices, besides or in place of the packaged ones "
        "(see docs/how-to/estimate-cost.md).",
    ),
]
Compare = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="Also compare these GPUs, separated by commas, or all: hours, dollars, trials a card."
    ),
]
SpotPrice = Annotated[
    float | None,
    typer.Option(help="US dollars per GPU-hour on spot machines; by default the lowest known or assumed price."),
]


class GpuRequest(NamedTuple):
    """The options about GPUs as given on the command line."""

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


def comparison_table(compared: list["Compared"]) -> Table:
    """Return a table of GPUs."""
    from orchestrator.planning.compare import COLUMNS, rows

    table = Table(*COLUMNS, box=box.SIMPLE)
    for row in rows(compared):
        table.add_row(*row)
    return table
