"""Options of ``plan`` that choose, define and compare GPUs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from orchestrator.cli.options import path
from orchestrator.planning import gpus

if TYPE_CHECKING:
    from orchestrator.planning.compare import Compared

PlanGpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="NAME",
        help="GPU type for estimates: one that --compare all lists, or that --gpus or --gpu-memory with --gpu-tflops "
        f"defines; by default {gpus.DEFAULT_GPU}, or the GPU of this machine if its steps are timed.",
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
        parser=path,
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


def comparison_table(compared: list["Compared"]) -> Table:
    """Return a table of GPUs."""
    from orchestrator.planning.compare import COLUMNS, rows

    table = Table(*COLUMNS, box=box.SIMPLE)
    for row in rows(compared):
        table.add_row(*row)
    return table
