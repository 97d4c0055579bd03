"""Locating a dataset's files on this machine. No torch."""

import socket
from collections.abc import Sequence
from pathlib import Path

from jobs.catalog.catalog import how_to_fetch
from jobs.catalog.dataset_card import DataFile, DatasetCard, DatasetFormat
from jobs.data import idx
from jobs.errors import Code, DamagedFile, MissingData
from jobs.paths import data_directory
from jobs.system.download import Expected

CALTECH101_IMAGES = "101_ObjectCategories"

_DEBIAN = {"fmnist": Path("/usr/share/datasets/fashion-mnist")}  # apt-get install dataset-fashion-mnist


def own_directory(card: DatasetCard) -> Path:
    """Return the directory where ``data fetch`` puts a dataset's files."""
    return data_directory() / card.files_of


def find(card: DatasetCard, directory: Path | None = None) -> Path | None:
    """Return the directory with a dataset's files, preferably all of them; None if there is none with at least one.

    Args:
        directory: where to look; by default the image folder itself, or ``own_directory`` and Debian's packages.
    """
    places = [directory] if directory else _candidates(card)
    needed = {place: [any(path.exists() for path in paths) for paths in _needed(card, place)] for place in places}
    begun = [place for place in places if any(needed[place])]
    return next((place for place in begun if all(needed[place])), next(iter(begun), None))


def require(card: DatasetCard, directory: Path | None = None) -> Path:
    """Return the directory with a dataset's files.

    Raises:
        MissingData: if they are not found.
    """
    found = find(card, directory)
    if found is not None:
        return found
    places = [directory] if directory else _candidates(card)
    looked = ", ".join(map(str, places))
    if card.folder is not None:
        raise MissingData(
            Code.MISSING_DATA,
            f"the image folder of dataset {card.name!r} is not on {socket.gethostname()} (looked for "
            f"{_layout(card)} in {looked}). Fix: put it there, or correct `folder` in its card; on a cluster, every "
            "machine reads it at this path",
            file=places[0],
            key="folder",
        )
    if card.format in (DatasetFormat.IMAGENET, DatasetFormat.CUE_CONFLICT):
        copy = "train/LABEL/* and test/LABEL/*" if card.train else "SHAPE/SHAPEn-TEXTUREm.png"
        raise MissingData(
            Code.MISSING_DATA,
            f"dataset {card.name!r} is not on this machine (looked for {_layout(card)} in {looked}), and DeltaSweep "
            f"cannot fetch it. Fix: put your own copy there, as {copy}",
            file=places[0],
        )
    debian = ", or on Debian: apt-get install dataset-fashion-mnist" if card.files_of in _DEBIAN else ""
    raise MissingData(
        Code.MISSING_DATA,
        f"dataset {card.name!r} is not on this machine (looked in {looked}). Fix: run {how_to_fetch(card)}{debian}",
        file=places[0],
    )


def require_unchanged(directory: Path, files: Sequence[DataFile]) -> None:
    """Verify sizes and digests of files before anything reads them.

    Raises:
        MissingData: if a file does not exist.
        DamagedFile: if a file differs from the expected one.
    """
    for file in files:
        path = directory / file.name
        if not path.is_file():
            raise MissingData(Code.MISSING_DATA, f"{path} is missing. Fix: fetch the dataset again", file=path)
        if problem := Expected(file.sha256, file.md5, file.size).problem(path):
            raise DamagedFile(
                Code.DAMAGED_DATA,
                f"{path} {problem}: it is truncated or was replaced. Fix: remove it and fetch the dataset again",
                file=path,
            )


def _candidates(card: DatasetCard) -> list[Path]:
    if card.folder is not None:
        return [Path(card.folder)]
    return [own_directory(card), *([_DEBIAN[card.files_of]] if card.files_of in _DEBIAN else [])]


def _layout(card: DatasetCard) -> str:
    """Describe the expected contents of a folder that the user provides."""
    return "one folder per shape" if card.format is DatasetFormat.CUE_CONFLICT else "train/ and test/ or val/"


def _needed(card: DatasetCard, directory: Path) -> list[list[Path]]:
    """Return the files and folders that a dataset has in a directory, each with its alternatives."""
    match card.format:
        case DatasetFormat.IMAGE_FOLDER | DatasetFormat.IMAGENET:
            return [[directory / "train"], [directory / "test", directory / "val"]]
        case DatasetFormat.CUE_CONFLICT:
            return [[path] for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []
        case DatasetFormat.CALTECH101:
            return [[directory / CALTECH101_IMAGES]]
        case DatasetFormat.IDX:
            return [[directory / name for name in (stem, f"{stem}.gz")] for stem in idx.FILES]
        case _:
            return [[directory / file.name] for file in card.members or card.files]
