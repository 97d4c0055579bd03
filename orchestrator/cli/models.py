"""``deltasweep models``: list, fetch, convert, check and train the source models that a study can name, and describe
networks.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.table import Column, Table

from jobs.errors import Code, DeltaSweepError, InvalidRequest, MissingData, raise_together
from jobs.paths import RESULTS_VARIABLE, expanded
from jobs.system.commands import command
from orchestrator.cli.options import Builders, Json, Quiet, as_arguments, path
from orchestrator.cli.output import notes, out, print_json, print_table, tell_failed
from orchestrator.process.signals import stop_requests
from orchestrator.study.cards import Known, known_catalog

if TYPE_CHECKING:
    from jobs.catalog.source_card import SourceCard
    from jobs.kinds.pretrain.check_source import Measurement
    from jobs.kinds.training.trial import Evaluated
    from jobs.study.model import Study

models = typer.Typer(help="Manage source models.", no_args_is_help=True)


@models.command("list")
def list_models(study: Known = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """List the source models that a study can name and the state of their weights on this machine."""
    from jobs.models.weight_files import Standing, standing
    from jobs.paths import weights_directory

    catalog = known_catalog(study)
    known = [(name, card, standing(card)) for name, card in catalog.sources.items()]
    if as_json:
        print_json([_plain(name, card, state, catalog.image_size(name)) for name, card, state in known])
        return
    table = Table(
        Column("source", no_wrap=True),
        *("architecture", "pixels", "trained on", "constraint", "epsilon", "weights"),
        box=box.SIMPLE,
    )
    for name, card, state in known:
        epsilon = f"{card.epsilon:.4g}" if card.epsilon else "-"
        where = f"{state}: {_way(card)} it" if state is Standing.MISSING else state.value
        pixels = str(catalog.image_size(name))
        table.add_row(name, card.architecture, pixels, card.trained_on, card.constraint, epsilon, where)
    print_table(table)
    of_study = as_arguments(study=study)
    fetch = command("models", "fetch", "NAME", *of_study)
    train = command("models", "train", "NAME", *of_study, "--out", weights_directory())
    notes.print(f"To fetch: {fetch}\nTo train: {train}")


def _way(card: "SourceCard") -> str:
    """Return how missing weights are obtained: the verb."""
    return "train" if card.pretrain else "convert" if card.weights else "fetch"


def _plain(name: str, card: "SourceCard", state: str, image_size: int) -> dict[str, object]:
    training = {"trained_on": card.trained_on, "constraint": card.constraint, "epsilon": card.epsilon}
    network = {"architecture": card.architecture, "image_size": image_size}
    return {"source": name, **network, **training, "weights": state, "verb": _way(card)}


@models.command()
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Sources to fetch; or weights by the names of torchvision and timm: torchvision:NAME.WEIGHTS, "
            "timm:NAME[.TAG].",
            metavar="NAME",
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="Also accept sources that this study defines; without names, fetch all sources its trials read.",
            metavar="STUDY",
        ),
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Base URL of the files, used instead of the published location.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Fetch again and replace existing weights.")] = False,
    builder: Builders = None,
    source: Annotated[
        str | None,
        typer.Option("--as", help="Name of the source in the card of weights of torchvision or timm.", metavar="NAME"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download published source models, verify them and convert them to safetensors.

    A study's own checkpoint files are converted, too. For weights of torchvision or timm, the card of the source is
    printed, to be copied to a study file.
    """
    from jobs.catalog.catalog import how_to_get
    from jobs.models.conversion import about_original
    from jobs.models.fetch import fetch_source
    from jobs.models.fetch_published import card_text, fetch_by_name
    from jobs.models.weight_files import read_card
    from orchestrator.cli.exit_codes import ExitCode
    from orchestrator.cli.progress_bars import download_bars
    from orchestrator.study.load import load_study

    failed: list[DeltaSweepError] = []
    loaded = None if study is None else load_study(study, builder)
    catalog = known_catalog(None, builder) if loaded is None else loaded.catalog
    wanted, trained = (list(dict.fromkeys(names)), []) if names else _read_by(loaded)
    _require_one_to_name(source, wanted)
    cards: list[SourceCard] = []
    made: list[dict[str, object]] = []
    try:
        for name in wanted:
            try:
                with download_bars(notes) as bars:
                    if ":" in name:
                        card, fetched = fetch_by_name(name, source, catalog, bars(name), mirror=mirror, replace=replace)
                        cards.append(card)
                    else:
                        fetched = fetch_source(name, catalog, bars(name), mirror=mirror, replace=replace)
            except DeltaSweepError as error:
                failed.append(error)
                continue
            own = ":" not in name and catalog.source(name).weights is not None
            what = "converted" if own else "fetched and converted"
            made.append({"source": name, "path": str(fetched.path), "was_here": fetched.was_here})
            notes.print(f"{name}: {'already on this machine' if fetched.was_here else what}, {fetched.path}")
            if own:
                notes.print(f"  own file: {about_original((read_card(fetched.path) or {})['original'])}")
            else:
                notes.print(f"  published file: sha256 {fetched.original_sha256}; {fetched.known_beforehand}")
    except KeyboardInterrupt:
        notes.print("Interrupted. Run the same command again to continue.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if cards and not as_json:
        out.print("For a study file:\n\n" + card_text(cards), soft_wrap=True, markup=False, highlight=False, end="")
    failed += [
        MissingData(Code.MISSING_WEIGHTS, f"{card.name} is not published; train it with: {how_to_get(card)}")
        for card in trained
    ]
    if loaded is not None and not names and not wanted and not failed:
        notes.print(f"All sources of {study} are on this machine.")
    raise_together(failed)
    if as_json:
        print_json({"sources": made, "cards": card_text(cards) if cards else ""})


def _require_one_to_name(source: str | None, wanted: list[str]) -> None:
    if source is not None and (len(wanted) != 1 or ":" not in wanted[0]):
        raise InvalidRequest(
            Code.WRONG_NAME,
            f"expected --as with the name of one set of weights of torchvision or timm; got {', '.join(wanted)}. Fix: "
            "fetch that one alone, or leave out --as",
            key="--as",
        )


def _read_by(study: "Study | None") -> "tuple[list[str], list[SourceCard]]":
    """Return the sources that a study's trials read and that are missing here: names to get, cards to train.

    Raises:
        InvalidRequest: If there is no study.
    """
    from jobs.models.weight_files import Standing, standing
    from jobs.study.expand import sources_read

    if study is None:
        raise InvalidRequest(
            Code.MISSING_KEY,
            "expected source names or --study STUDY; got neither (see `deltasweep models list`)",
            key="NAME",
        )
    absent = (Standing.MISSING, Standing.AS_FILE)
    missing = [card for name in sources_read(study) if standing(card := study.catalog.source(name)) in absent]
    return [card.name for card in missing if not card.pretrain], [card for card in missing if card.pretrain]


@models.command()
def convert(
    file: Annotated[
        Path, typer.Argument(parser=path, help="Checkpoint file: torchvision, robustness, DataParallel or safetensors.")
    ],
    name: Annotated[str, typer.Option("--as", help="Name of the source.", metavar="NAME")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace existing weights.")] = False,
    study: Known = None,
    builder: Builders = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert a checkpoint file to safetensors and check that it fits the source.

    Code in the checkpoint is never executed.
    """
    from jobs.models.conversion import about_original, convert_source
    from jobs.models.weight_files import read_card

    path = convert_source(file, name, known_catalog(study, builder), replace=replace)
    original = (read_card(path) or {})["original"]
    notes.print(f"Weights: {path}\nOriginal: {about_original(original)}\n{original['known_beforehand']}")
    if as_json:
        print_json({"source": name, "path": str(path), "original": original})


@models.command()
def check(
    name: Annotated[str, typer.Argument(help="A source whose weights are on this machine.")],
    data: Annotated[
        Path | None, typer.Option(parser=path, help="Folder with the test images of the source's dataset.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Measure on a fixed random sample of this many test images.")
    ] = None,
    constraint: Annotated[
        Literal["l2", "linf"] | None, typer.Option(help="Norm of the attack, instead of the published attacks.")
    ] = None,
    epsilon: Annotated[
        str | None, typer.Option(help="Radius of the attack, for images in [0, 1]: 3, 4/255, ...")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of PGD steps.")] = 20,
    study: Known = None,
    builder: Builders = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a source's clean and adversarial accuracy and compare it with the expected values."""
    from jobs.execution.device import default_device
    from jobs.kinds.pretrain.check_source import CONFIDENCE, attack_in, check_source, expectation

    if (constraint is None) != (epsilon is None):
        raise InvalidRequest(
            Code.MISSING_KEY,
            "expected both --constraint and --epsilon, or neither",
            key="--epsilon" if epsilon is None else "--constraint",
        )
    attack = attack_in(constraint, epsilon, steps) if constraint and epsilon else None
    measured = []
    data = None if data is None else expanded(data, "--data")
    catalog = known_catalog(study, builder)
    expected = expectation(catalog.source(name))
    (notes if as_json else out).print(
        f"{name}, {'no expected accuracy' if expected is None else f'expected: {expected.origin}'}"
    )
    for measurement in check_source(name, catalog, default_device(), data_directory=data, images=images, attack=attack):
        measured.append(measurement)
        (notes if as_json else out).print(_measured(measurement, CONFIDENCE))
    if as_json:
        origin = None if expected is None else expected.origin
        print_json({"source": name, "expected_from": origin, "measured": [one.plain() for one in measured]})
    if any(measurement.agrees is False for measurement in measured):
        tell_failed("The weights are not those of this source, or the evaluation differs from the original one.")
        raise typer.Exit(1)


def _measured(measurement: "Measurement", confidence: float) -> str:
    low, high = measurement.interval
    what = (
        "clean"
        if measurement.threat is None
        else (f"PGD({measurement.threat.steps}), {measurement.threat.ball} {measurement.threat.epsilon:.4g}")
    )
    on = (
        f"{measurement.images:,} of {measurement.available:,} images, {confidence:.0%} interval {low:.2f} to {high:.2f}"
    )
    whole = f"all {measurement.images:,} images"
    verdict = {True: "agrees", False: "DOES NOT AGREE", None: "nothing to compare with"}[measurement.agrees]
    expected = "" if measurement.expected is None else f"expected {measurement.expected:.2f} %, "
    return f"{what}: {expected}measured {measurement.accuracy:.2f} % ({whole if low == high else on}): {verdict}"


@models.command()
def train(
    name: Annotated[str, typer.Argument(help="A source whose card describes its training.")],
    folder: Annotated[
        Path, typer.Option("--out", parser=path, help="Output folder for the weights and the card.")
    ] = Path("weights"),
    data: Annotated[
        Path | None, typer.Option(parser=path, help="Folder with the files of the source's dataset.")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(
            help="Results root for checkpoints; by default OUT/training.", metavar="ROOT", envvar=RESULTS_VARIABLE
        ),
    ] = None,
    study: Known = None,
    builder: Builders = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a source model from random initialization.

    Run the same command again to resume an interrupted training.
    """
    from jobs.execution.device import default_device
    from jobs.kinds.pretrain.train_source import train_source

    def show(after: "Evaluated") -> None:
        notes.print(
            f"epoch {after.epoch}: test accuracy {after.test_accuracy:.2f} %; on training images (perturbed in "
            f"adversarial training) accuracy {after.train_accuracy:.2f} %, loss {after.train_loss:.4f}"
        )

    folder = expanded(folder, "--out")
    data = None if data is None else expanded(data, "--data")
    with stop_requests() as stop:
        weights = train_source(name, folder, known_catalog(study, builder), results, data, default_device(), stop, show)
    if weights is None:
        notes.print("Interrupted; a checkpoint was saved. Run the same command again to resume.")
        raise typer.Exit(130)
    notes.print(f"Weights: {weights}")
    if as_json:
        print_json({"source": name, "path": str(weights)})


@models.command()
def describe(
    builder: Annotated[
        str,
        typer.Argument(
            help="What builds the network: torchvision:NAME, timm:NAME or FILE.py:FUNCTION, whose code is run.",
            metavar="BUILDER",
        ),
    ],
    image_size: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Pixels per side; by default the size that the network is made for."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", help="Name of the architecture; by default from the builder.", metavar="NAME")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--out", parser=path, help="Write the card to this file, and print its parts.", metavar="FILE"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Divide a network into its blocks, check that trials can use it, and print its card.

    A study file names the card under `architectures`.
    """
    from jobs.catalog.architecture_files import card_text
    from orchestrator.cli.architectures import describe_network, parts_table, require_place, write_card

    if file is not None:
        file = expanded(file, "--out")
        require_place(file)  # before counting, which takes minutes for large networks
    card = describe_network(builder, image_size, name)
    text = card_text(card)
    if file is not None:
        write_card(text, file)
    if as_json:
        print_json({"architecture": card.name, "file": None if file is None else str(file), "card": text})
    elif file is None:
        out.print(text, end="")
    else:
        print_table(parts_table(card))
        notes.print(f"Card: {file}. To use it in a study file:\narchitectures:\n  {card.name}: {file}")
