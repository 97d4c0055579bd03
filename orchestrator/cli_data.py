"""``deltasweep data``: the target datasets that a study can name, and getting them onto this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Column, Table

from jobs import registry, yaml_values
from jobs.errors import Code, DeltaSweepError, InvalidRequest
from orchestrator.study_cards import Known, knowing
from orchestrator.terminal import Terminal, for_tables

if TYPE_CHECKING:
    from jobs.registry import DatasetCard
    from jobs.study import Study

err = Terminal(stderr=True)
data = typer.Typer(help="Target datasets.", no_args_is_help=True)

out = for_tables()


@data.command("list")
def list_datasets(study: Known = None) -> None:
    """List the target datasets that a study can name, and where they are on this machine."""
    columns = ("training images", "test images", "labels", "colour or grey", "on this machine")
    table = Table(Column("dataset", no_wrap=True), *columns, box=box.SIMPLE)
    with knowing(study):
        known = registry.datasets()
    for name, card in known.items():
        sizes = (f"{card.train:,}", f"{card.test:,}", str(card.labels))
        table.add_row(name, *sizes, "colour" if card.colour else "grey", _where(card))
    out.print(table)


def _where(card: "DatasetCard") -> str:
    from jobs.data.places import find

    if card.format is registry.DatasetFormat.DIGITS:
        return "comes with scikit-learn"
    return str(find(card) or "no")


@data.command()
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Datasets.", metavar="NAME")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All datasets of the registry that are published.")] = False,
    study: Annotated[
        str | None,
        typer.Option(help="Know this study's datasets; without names, get all that its trials read.", metavar="STUDY"),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            help="The URL of a folder that has NAME/FILE, instead of where the files are from.",
            envvar="DELTASWEEP_DATA_MIRROR",
            metavar="URL",
        ),
    ] = None,
) -> None:
    """Get datasets onto this machine, verified, so that no trial ever downloads.

    What is here already is only verified. A download that broke is continued by the same command.
    """
    from orchestrator.cli_errors import ExitCode
    from orchestrator.together import raise_together

    failed = []
    try:
        with knowing(study) as loaded:
            for card in _asked_for(names or [], everything, loaded):
                try:
                    _fetch(card, mirror)
                except DeltaSweepError as error:
                    failed.append(error)
    except KeyboardInterrupt:
        out.print("Interrupted; what has come is kept, and the same command goes on from there.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise_together(failed)


def _fetch(card: "DatasetCard", mirror: str | None) -> None:
    from jobs.data.fetch import fetch as fetch_dataset
    from orchestrator.download_bars import download_bars

    with download_bars(out) as bars:
        place = fetch_dataset(card, mirror, bars)
    where = f"in {place}" if place else "comes with scikit-learn"
    out.print(f"{card.name}: {card.train:,} + {card.test:,} images, verified, {where}")


def _asked_for(names: list[str], everything: bool, study: "Study | None") -> list["DatasetCard"]:
    from jobs.expansion import expand

    if (bool(names) or study is not None) == everything:
        raise InvalidRequest(
            Code.WRONG_VALUE if everything else Code.MISSING_KEY,
            "fetch takes either names, or --all, or --study STUDY (`deltasweep data list` has the names)",
            key="NAME",
        )
    if names:
        return [registry.dataset(name) for name in dict.fromkeys(names)]
    if study is not None:
        return [registry.dataset(name) for name in dict.fromkeys(spec.dataset for spec in expand(study))]
    brought = (registry.DatasetFormat.IMAGENET, registry.DatasetFormat.CUE_CONFLICT)
    return [card for card in registry.datasets().values() if card.format not in brought]


@data.command()
def describe(
    folder: Annotated[Path, typer.Argument(help="A folder with train/LABEL/* and test/LABEL/*.")],
    name: Annotated[str | None, typer.Option(help="The dataset's name; by default the folder's.")] = None,
    exif: Annotated[
        registry.ExifOrientation,
        typer.Option(help="What the card says where EXIF turns or mirrors an image: done, or read as it is stored."),
    ] = "applied",
) -> None:
    """Print the card of an image folder, counted and measured, to paste into a study file."""
    from jobs.data.describe import describe as describe_folder

    card, notes, turned = describe_folder(folder, name or folder.resolve().name, exif)
    fields = card.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    if turned:
        fields["exif_orientation"] = card.exif_orientation  # also where it is the default: there was a choice
    out.print(yaml_values.dump({card.name: fields}), end="")
    for note in notes:
        err.print(f"deltasweep: note: {note}")
