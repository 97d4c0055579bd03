"""Where a dataset's files are on this machine, and which they are. No torch."""

from collections.abc import Sequence
from pathlib import Path

from jobs.data import idx
from jobs.download import Expected
from jobs.errors import Code, DamagedFile, MissingData
from jobs.home import data_directory
from jobs.registry import DataFile, DatasetCard, DatasetFormat

CALTECH101_IMAGES = "101_ObjectCategories"

_DEBIAN = {"fmnist": Path("/usr/share/datasets/fashion-mnist")}  # apt-get install dataset-fashion-mnist


def own_directory(card: DatasetCard) -> Path:
    """Where ``data fetch`` puts a dataset's files."""
    return data_directory() / card.files_of


def find(card: DatasetCard, directory: Path | None = None) -> Path | None:
    """The directory that has a dataset's files, or at least one of them; None where there is none.

    Args:
        directory: where to look; by default the image folder itself, ``own_directory``, and Debian's packages.
    """
    candidates = [directory] if directory else _candidates(card)
    return next((place for place in candidates if any(_present(card, place))), None)


def require(card: DatasetCard, directory: Path | None = None) -> Path:
    """The directory that has a dataset's files.

    Raises:
        MissingData: when they are nowhere.
    """
    found = find(card, directory)
    if found is not None:
        return found
    places = [directory] if directory else _candidates(card)
    looked = ", ".join(map(str, places))
    if card.folder is not None:
        raise MissingData(
            Code.MISSING_DATA,
            f"dataset {card.name!r} is an image folder that is not on this machine (looked for {_layout(card)} in "
            f"{looked}); put it there, or correct `folder` in its card",
            file=places[0],
            key="folder",
        )
    if card.format in (DatasetFormat.IMAGENET, DatasetFormat.CUE_CONFLICT):
        copy = "train/LABEL/* and test/LABEL/*" if card.train else "SHAPE/SHAPEn-TEXTUREm.png"
        raise MissingData(
            Code.MISSING_DATA,
            f"dataset {card.name!r} is not on this machine (looked for {_layout(card)} in {looked}), and is not "
            f"fetched by DeltaSweep; put your own copy there, as {copy}",
            file=places[0],
        )
    debian = ", or on Debian: apt-get install dataset-fashion-mnist" if card.files_of in _DEBIAN else ""
    raise MissingData(
        Code.MISSING_DATA,
        f"dataset {card.name!r} is not on this machine (looked in {looked}); fetch it: "
        f"deltasweep data fetch {card.name}{debian}",
        file=places[0],
    )


def require_unchanged(directory: Path, files: Sequence[DataFile]) -> None:
    """Hold files against what is known of them, before anything reads them.

    Raises:
        MissingData: when one is not there.
        DamagedFile: when one is another.
    """
    for file in files:
        path = directory / file.name
        if not path.is_file():
            raise MissingData(Code.MISSING_DATA, f"{path} is not there; fetch the dataset again", file=path)
        if problem := Expected(file.sha256, file.md5, file.size).problem(path):
            raise DamagedFile(
                Code.DAMAGED_DATA,
                f"{path} {problem}: it was cut off or swapped; remove it and fetch the dataset again",
                file=path,
            )


def _candidates(card: DatasetCard) -> list[Path]:
    if card.folder is not None:
        return [Path(card.folder)]
    return [own_directory(card), *([_DEBIAN[card.files_of]] if card.files_of in _DEBIAN else [])]


def _layout(card: DatasetCard) -> str:
    """What is looked for in a folder that the user brings."""
    return "a folder for each shape" if card.format is DatasetFormat.CUE_CONFLICT else "train/ and test/ or val/"


def _present(card: DatasetCard, directory: Path) -> list[Path]:
    """What of a dataset is in a directory; lock files and partial downloads do not count."""
    match card.format:
        case DatasetFormat.IMAGE_FOLDER | DatasetFormat.IMAGENET:
            wanted = [directory / "train", directory / "test", directory / "val"]
        case DatasetFormat.CUE_CONFLICT:
            wanted = [path for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []
        case DatasetFormat.CALTECH101:
            wanted = [directory / CALTECH101_IMAGES]
        case DatasetFormat.IDX:
            wanted = [directory / name for stem in idx.FILES for name in (stem, f"{stem}.gz")]
        case _:
            wanted = [directory / file.name for file in card.members or card.files]
    return [path for path in wanted if path.exists()]
