"""``deltasweep models``: the source models that a study can name, and making them."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.table import Column, Table

from jobs.errors import Code, DeltaSweepError, InvalidRequest, MissingData
from orchestrator.signals import stop_signals_to
from orchestrator.study_cards import Known, knowing
from orchestrator.terminal import for_tables

if TYPE_CHECKING:
    from jobs.registry import SourceCard
    from jobs.source_check import Measurement
    from jobs.study import Study
    from jobs.training import Evaluated

models = typer.Typer(help="Source models.", no_args_is_help=True)

out = for_tables()


@models.command("list")
def list_models(study: Known = None) -> None:
    """List the source models that a study can name, and what of them is on this machine."""
    from jobs import registry
    from jobs.home import weights_directory
    from jobs.source_files import Standing, standing

    with knowing(study):
        known = [(name, card, standing(card)) for name, card in registry.sources().items()]
    table = Table(
        Column("source", no_wrap=True), "architecture", "trained on", "constraint", "epsilon", "weights", box=box.SIMPLE
    )
    for name, card, found in known:
        epsilon = f"{card.epsilon:.4g}" if card.epsilon else "-"
        verb = "train" if card.pretrain else "fetch"
        where = f"{found}: {verb} it" if found is Standing.MISSING else found.value
        table.add_row(name, card.architecture, card.trained_on, card.constraint, epsilon, where)
    out.print(table)
    of_study = "" if study is None else f" --study {study}"
    out.print(
        f"deltasweep models fetch NAME{of_study}; deltasweep models train NAME{of_study} --out {weights_directory()}"
    )


@models.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Sources; with --study its own as well.", metavar="NAME")
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Know this study's sources; without names, fetch all that its trials read.", metavar="STUDY"),
    ] = None,
    mirror: Annotated[str | None, typer.Option(help="A URL below which the files lie, for the published one.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of other weights.")] = False,
) -> None:
    """Download published source models, verify them and convert them to safetensors."""
    from jobs.source_fetch import fetch_source
    from orchestrator.cli_errors import ExitCode
    from orchestrator.download_bars import download_bars
    from orchestrator.together import raise_together

    failed: list[DeltaSweepError] = []
    with knowing(study) as loaded:
        wanted, trained = (list(dict.fromkeys(names)), []) if names else _read_by(loaded)
        try:
            for name in wanted:
                try:
                    with download_bars(out) as bars:
                        found = fetch_source(name, bars(name), mirror=mirror, replace=replace)
                except DeltaSweepError as error:
                    failed.append(error)
                    continue
                what = "is here already" if found.was_here else "fetched and converted"
                out.print(f"{name}: {what}, {found.path}")
                out.print(f"  published file: sha256 {found.original_sha256}; {found.known_beforehand}")
        except KeyboardInterrupt:
            out.print("Interrupted; the same command goes on from there.")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        failed += [
            MissingData(Code.MISSING_WEIGHTS, f"{card.name} is not published; make it with: {card.how_to_get}")
            for card in trained
        ]
    if loaded is not None and not names and not wanted and not failed:
        out.print(f"All sources of {study} are on this machine.")
    raise_together(failed)


def _read_by(study: "Study | None") -> "tuple[list[str], list[SourceCard]]":
    """The sources that a study's trials read and this machine lacks: those to fetch, and those that have to be trained.

    Raises:
        InvalidRequest: when there is no study.
    """
    from jobs import registry
    from jobs.expansion import sources_read
    from jobs.source_files import Standing, standing

    if study is None:
        raise InvalidRequest(
            Code.MISSING_KEY,
            "fetch takes the names of sources (see `deltasweep models list`), or --study STUDY",
            key="NAME",
        )
    missing = [card for name in sources_read(study) if standing(card := registry.source(name)) is Standing.MISSING]
    return [card.name for card in missing if card.release], [card for card in missing if card.pretrain]


@models.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A checkpoint: torchvision, robustness, DataParallel or safetensors.")],
    name: Annotated[str, typer.Option("--as", help="The source that it is.", metavar="NAME")],
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of other weights.")] = False,
    study: Known = None,
) -> None:
    """Turn a checkpoint file into safetensors, without running anything in it, and check that it fits the source."""
    from jobs.conversion import convert_source
    from jobs.source_files import read_card

    with knowing(study):
        path = convert_source(file, name, replace=replace)
    original = (read_card(path) or {})["original"]
    how = f" ({original['taken_from']})" if original["taken_from"] else ""
    out.print(f"Weights: {path}")
    out.print(f"A {original['format']} checkpoint{how}, sha256 {original['sha256']}")
    out.print(original["known_beforehand"])


@models.command()
def check(
    name: Annotated[str, typer.Argument(help="A source that is on this machine.")],
    data: Annotated[Path | None, typer.Option(help="The folder with the source dataset's test images.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Measure on so many test images, drawn once.")] = None,
    constraint: Annotated[Literal["l2", "linf"] | None, typer.Option(help="Attack in this ball instead.")] = None,
    epsilon: Annotated[str | None, typer.Option(help="Its radius, for images in [0, 1]: 3, 4/255, ...")] = None,
    steps: Annotated[int, typer.Option(min=1, help="k of PGD(k).")] = 20,
    study: Known = None,
) -> None:
    """Measure a source's accuracy, on clean images and under attack, against what is said of it."""
    import torch

    from jobs.source_check import CONFIDENCE, attack_in, check_source, expectation

    if (constraint is None) != (epsilon is None):
        raise InvalidRequest(
            Code.MISSING_KEY,
            "an attack has a --constraint and an --epsilon; give both or neither",
            key="--epsilon" if epsilon is None else "--constraint",
        )
    attack = attack_in(constraint, epsilon, steps) if constraint and epsilon else None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    agreements = []
    with knowing(study):
        said = expectation(name)
        out.print(f"{name}, {'nothing is said of it' if said is None else f'expected: {said.origin}'}")
        for found in check_source(name, device, data_directory=data, images=images, attack=attack):
            agreements.append(found.agrees)
            out.print(_measured(found, CONFIDENCE))
    if False in agreements:
        out.print("It is not the source that it should be, or not evaluated as it was there.")
        raise typer.Exit(1)


def _measured(found: "Measurement", confidence: float) -> str:
    low, high = found.interval
    what = (
        "clean"
        if found.threat is None
        else (f"PGD({found.threat.steps}), {found.threat.ball} {found.threat.epsilon:.4g}")
    )
    on = f"{found.images:,} of {found.available:,} images, {confidence:.0%} interval {low:.2f} to {high:.2f}"
    whole = f"all {found.images:,} images"
    verdict = {True: "agrees", False: "DOES NOT AGREE", None: "nothing to compare with"}[found.agrees]
    expected = "" if found.expected is None else f"expected {found.expected:.2f} %, "
    return f"{what}: {expected}measured {found.accuracy:.2f} % ({whole if low == high else on}): {verdict}"


@models.command()
def train(
    name: Annotated[str, typer.Argument(help="A source that DeltaSweep trains.")],
    folder: Annotated[Path, typer.Option("--out", help="Where weights and card go.")] = Path("weights"),
    data: Annotated[Path | None, typer.Option(help="The folder with the source dataset's files.")] = None,
    results: Annotated[
        str | None, typer.Option(help="The results root that keeps checkpoints; by default OUT/training.")
    ] = None,
    study: Known = None,
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
    with knowing(study), stopping_on_signals() as stop:
        weights = train_source(name, folder, results, data, device, stop, show)
    if weights is None:
        out.print("Interrupted; saved. The same command goes on from here.")
        raise typer.Exit(130)
    out.print(f"Weights: {weights}")


@contextmanager
def stopping_on_signals() -> Iterator[Callable[[], bool]]:
    """Yields whether a signal asked to stop; the second one interrupts at once."""
    came: list[signal.Signals] = []

    def handle(number: signal.Signals) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    with stop_signals_to(handle):
        yield lambda: bool(came)
