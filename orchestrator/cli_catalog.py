"""``deltasweep models``: the source models that a study can name, and making them."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from jobs.training import Evaluated

models = typer.Typer(help="Source models.", no_args_is_help=True)

# into a pipe or a file nothing is cut to the width of a terminal that is not there
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


@models.command("list")
def list_models() -> None:
    """List the source models that a study can name."""
    from jobs import registry

    table = Table(
        Column("source", no_wrap=True), "architecture", "trained on", "constraint", "epsilon", "weights", box=box.SIMPLE
    )
    for name, card in registry.sources().items():
        epsilon = f"{card.epsilon:.4g}" if card.epsilon else "-"
        where = "bundled" if card.bundled else "elsewhere"
        table.add_row(name, card.architecture, card.trained_on, card.constraint, epsilon, where)
    out.print(table)


@models.command()
def train(
    name: Annotated[str, typer.Argument(help="A source that DeltaSweep trains.")],
    folder: Annotated[Path, typer.Option("--out", help="Where weights and card go.")] = Path("weights"),
    data: Annotated[Path | None, typer.Option(help="The folder with the source dataset's files.")] = None,
    results: Annotated[
        str | None, typer.Option(help="The results root that keeps checkpoints; by default OUT/training.")
    ] = None,
) -> None:
    """Train a source model from random initialisation; the same command goes on with what was interrupted."""
    import torch

    from jobs.source_training import train_source

    def show(after: "Evaluated") -> None:
        out.print(
            f"epoch {after.epoch}: test accuracy {after.test_accuracy:.2f} %; on training images (perturbed, if the "
            f"source is) accuracy {after.train_accuracy:.2f} %, loss {after.train_loss:.4f}"
        )

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with stopping_on_signals() as stop:
        weights = train_source(name, folder, results, data, device, stop, show)
    if weights is None:
        out.print("Interrupted; saved. The same command goes on from here.")
        raise typer.Exit(130)
    out.print(f"Weights: {weights}")


@contextmanager
def stopping_on_signals() -> Iterator[Callable[[], bool]]:
    """Yields whether SIGINT or SIGTERM came; the second SIGINT interrupts at once."""
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
