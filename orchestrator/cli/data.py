"""``deltasweep data``: list and fetch the target datasets that a study can name; split and describe image folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Column, Table

from jobs.catalog.dataset_card import DatasetFormat, ExifOrientation
from jobs.errors import Code, DeltaSweepError, InvalidRequest, raise_together
from jobs.system import safe_yaml
from jobs.system.commands import command
from orchestrator.cli.options import Json, Quiet, path
from orchestrator.cli.output import err, notes, out, print_json, print_table
from orchestrator.study.cards import Known, known_catalog

if TYPE_CHECKING:
    from jobs.catalog.dataset_card import DatasetCard

data = typer.Typer(help="Manage target datasets.", no_args_is_help=True)


@data.command("list")
def list_datasets(study: Known = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """List the target datasets that a study can name and their location on this machine."""
    cards = known_catalog(study).datasets
    if as_json:
        print_json([_plain(name, card) for name, card in cards.items()])
        return
    columns = ("training images", "test images", "labels", "colour or grey", "on this machine")
    table = Table(Column("dataset", no_wrap=True), *columns, box=box.SIMPLE)
    for name, card in cards.items():
        sizes = (f"{card.train:,}", f"{card.test:,}", str(card.labels))
        table.add_row(name, *sizes, "colour" if card.colour else "grey", _where(card) or "no")
    print_table(table)


def _plain(name: str, card: "DatasetCard") -> dict[str, object]:
    sizes = {"train": card.train, "test": card.test, "labels": card.labels, "colour": card.colour}
    return {"dataset": name, **sizes, "place": _where(card)}


def _where(card: "DatasetCard") -> str | None:
    """Return where a dataset is on this machine; None: nowhere."""
    from jobs.data.locate import find

    if card.format is DatasetFormat.DIGITS:
        return "bundled with scikit-learn"
    place = find(card)
    return None if place is None else str(place)


@data.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Datasets to fetch.", metavar="NAME")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch every published dataset.")] = False,
    study: Annotated[
        str | None,
        typer.Option(
            help="Also accept datasets that this study defines; without names, fetch all datasets its trials read.",
            metavar="STUDY",
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            help="URL of a folder that contains NAME/FILE, used instead of the original download locations.",
            envvar="DELTASWEEP_DATA_MIRROR",
            metavar="URL",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download and verify datasets, so that trials never download anything.

    Datasets that are already on this machine are only verified. Run the
    same command again to continue an interrupted download.
    """
    from orchestrator.cli.exit_codes import ExitCode

    failed, fetched = [], []
    try:
        for card in _asked_for(names or [], everything, study):
            try:
                fetched.append({"dataset": card.name, "place": _fetch(card, mirror)})
            except DeltaSweepError as error:
                failed.append(error)
    except KeyboardInterrupt:
        notes.print("Interrupted. Partial downloads are kept; run the same command again to continue.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise_together(failed)
    if as_json:
        print_json(fetched)


def _fetch(card: "DatasetCard", mirror: str | None) -> str | None:
    """Fetch a dataset; return its folder, None if it is part of a package."""
    from jobs.data.fetch import fetch as fetch_dataset
    from orchestrator.cli.progress_bars import download_bars

    with download_bars(notes) as bars:
        place = fetch_dataset(card, mirror, bars)
    where = f"in {place}" if place else "bundled with scikit-learn"
    notes.print(f"{card.name}: {card.train:,} + {card.test:,} images, verified, {where}")
    return str(place) if place else None


def _asked_for(names: list[str], everything: bool, study: str | None) -> list["DatasetCard"]:
    from jobs.catalog.catalog import PACKAGED
    from jobs.study.expand import expand
    from orchestrator.study.load import load_study

    loaded = None if study is None else load_study(study)
    catalog = PACKAGED if loaded is None else loaded.catalog

    if (bool(names) or study is not None) == everything:
        raise InvalidRequest(
            Code.WRONG_VALUE if everything else Code.MISSING_KEY,
            "expected dataset names or --study STUDY, or --all alone (see `deltasweep data list`)",
            key="NAME",
        )
    if names:
        return [catalog.dataset(name) for name in dict.fromkeys(names)]
    if loaded is not None:
        return [catalog.dataset(name) for name in dict.fromkeys(spec.dataset for spec in expand(loaded))]
    brought = (DatasetFormat.IMAGENET, DatasetFormat.CUE_CONFLICT)
    return [card for card in catalog.datasets.values() if card.format not in brought]


@data.command()
def split(
    folder: Annotated[Path, typer.Argument(parser=path, help="A folder with LABEL/*.")],
    to: Annotated[
        Path, typer.Option("--out", parser=path, help="The folder to create, with train/LABEL/* and test/LABEL/*.")
    ],
    test: Annotated[float, typer.Option(help="Share of test images, between 0 and 1.")] = 0.3,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a folder with one folder per label, divided into training and test images.

    The bytes of each image decide about its part, so equal files are in the
    same part, and images that are added later move no others.
    """
    from jobs.data.split import split as split_folder
    from orchestrator.cli.progress_bars import counting_bar

    with counting_bar(notes, "copying images") as progress:
        parts = split_folder(folder, to, test, progress)
    counts = [
        {"label": label, "train": len(paths), "test": len(parts["test"][label])}
        for label, paths in parts["train"].items()
    ]
    if as_json:
        print_json(counts)
        return
    for count in counts:
        notes.print(f"{count['label']}: {count['train']:,} training images, {count['test']:,} test images")
    notes.print(f"Next: {command('data', 'describe', to)}")


@data.command()
def describe(
    folder: Annotated[Path, typer.Argument(parser=path, help="A folder with train/LABEL/* and test/LABEL/*.")],
    name: Annotated[str | None, typer.Option(help="Name of the dataset; by default like the folder's name.")] = None,
    exif: Annotated[
        ExifOrientation,
        typer.Option(help="EXIF orientation of images: apply it, or ignore it and read the pixels as stored."),
    ] = "applied",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Count and measure an image folder and print its dataset card, to paste into a study file.

    Files that trials could not read are listed, all at once.
    """
    from jobs.data.describe import describe as describe_folder
    from orchestrator.cli.progress_bars import counting_bar

    with counting_bar(notes, "reading images") as progress:
        card, remarks, turned = describe_folder(folder, name, exif, progress)
    fields = card.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    if turned:
        fields["exif_orientation"] = card.exif_orientation  # even if it is the default, since there was a choice
    recorded = card.shown_digest(fields["sha256"])
    if as_json:
        print_json({"dataset": card.name, "card": fields, "dataset_sha256": recorded, "notes": remarks})
        return
    out.print(safe_yaml.dump({"datasets": {card.name: fields}}), end="")
    if recorded != card.sha256:
        out.print(f"# dataset_sha256 of its results: {recorded}")
    for remark in remarks:
        err.print(f"deltasweep: note: {remark}")
