"""Images in one folder per label: image folders, Caltech101 with DeltaSweep's own split, and cue-conflict images."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jobs.data.locate import CALTECH101_IMAGES
from jobs.data.normalization_forms import how_to_rename, in_form
from jobs.data.raw import FolderPart, Raw, files_digest, unreadable
from jobs.errors import Code, DamagedFile, raise_together
from jobs.system.commands import command
from jobs.system.file_kinds import what_it_is

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff")
_HEIC = (".heic", ".heif")
_NOT_IMAGES = ("Thumbs.db", "desktop.ini")  # created by Windows; hidden files are ignored too
_CLUTTER = "BACKGROUND_Google"
_TRAINING_IMAGES_A_LABEL = 30  # Section 5 of the paper
_MEANT = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst", "val", "valid", "validation", "dev", "eval", "evaluation"),
}
"""Common names of the two parts, in lower case."""
_NAMES_SHOWN = 5
_FOLDER, _CUES = "train/LABEL/* and test/LABEL/*", "SHAPE/SHAPEn-TEXTUREm.png"  # used in messages


class ImageFolder(NamedTuple):
    """The images of each label in an image folder, by their names; labels are numbered in the order of their names."""

    directory: Path
    train: dict[str, list[Path]]
    test: dict[str, list[Path]]
    problems: list[DamagedFile]
    """What keeps the folder from being read, as far as names show it."""

    @property
    def labels(self) -> list[str]:
        return sorted(self.train.keys() | self.test.keys())

    def parts(self, colour: bool, upright: bool) -> tuple[FolderPart, FolderPart]:
        """Return training and test images, decoded on access.

        Args:
            upright: whether the EXIF orientation of images is applied (in the functions below, too).
        """
        train, test = (_part(self.labels, images, colour, upright) for images in (self.train, self.test))
        return train, test


def list_image_folder(directory: Path) -> ImageFolder:
    """List ``train/LABEL/*`` and ``test/LABEL/*``, or ``val/LABEL/*`` if there is no ``test``.

    Raises:
        DamagedFile: if a part is missing or has no labels, or a folder cannot be read.
    """
    held_out = "test" if (directory / "test").exists() or not (directory / "val").exists() else "val"
    for part in ("train", held_out):
        _require_part(directory, part)
    (train, problems), (test, of_test) = (_listed(directory / part, _FOLDER) for part in ("train", held_out))
    problems += of_test
    if unknown := sorted(test.keys() - train.keys()):
        alike = set(in_form(unknown, "NFC")) <= set(in_form(train, "NFC"))
        fix = "Fix: add training images, or remove the test images of these labels"
        message = (
            f"expected training images of every test label; {directory}/train has none of {', '.join(unknown)}. "
            f"{how_to_rename(directory) if alike else fix}"
        )
        problems.append(DamagedFile(Code.DAMAGED_DATA, message, file=directory / "train"))
    return ImageFolder(directory, train, test, problems)


def read_image_folder(directory: Path, colour: bool, upright: bool = False) -> Raw:
    """Read an image folder, as ``list_image_folder`` lists it; ImageNet and Stylized-ImageNet have the same layout.

    Raises:
        DamagedFile: if a part or a label is missing, or an entry does not have an image's name, is not a regular file,
            or cannot be read; lists all such entries.
    """
    listed = list_image_folder(directory)
    raise_together(listed.problems)
    return _raw(directory, listed.labels, listed.parts(colour, upright))


def read_caltech101(directory: Path, upright: bool = False) -> Raw:
    """Read the 101 labels without the clutter category; 30 images per label, chosen by a hash of their names, are for
    training.
    """
    root = directory / CALTECH101_IMAGES
    images = {label: paths for label, paths in images_by_label(root, _FOLDER).items() if label != _CLUTTER}
    shuffled = {label: sorted(paths, key=lambda path: _place(root, path)) for label, paths in images.items()}
    train = {label: sorted(paths[:_TRAINING_IMAGES_A_LABEL]) for label, paths in shuffled.items()}
    test = {label: sorted(paths[_TRAINING_IMAGES_A_LABEL:]) for label, paths in shuffled.items()}
    labels = sorted(images)
    return _raw(root, labels, [_part(labels, part, True, upright) for part in (train, test)])


def read_cue_conflict(directory: Path, colour: bool, upright: bool = False) -> Raw:
    """Read ``SHAPE/SHAPEn-TEXTUREm.png``, the layout of Geirhos et al. (2019): all are test images, labelled by shape.

    Raises:
        DamagedFile: if an image's name does not consist of its folder as shape and a label as texture.
    """
    images = images_by_label(directory, _CUES)
    names = sorted(images)
    textures = [names.index(_texture(path, names)) for name in names for path in images[name]]
    raw = _raw(directory, names, [_part(names, part, colour, upright) for part in ({}, images)])
    return raw._replace(textures_N=np.array(textures, np.int64))


def _texture(path: Path, names: list[str]) -> str:
    """Return the texture of an image.

    Raises:
        DamagedFile: if the image's name does not contain it.
    """
    shape, stem = path.parent.name, path.stem
    if (texture := _texture_in(stem, shape, names)) is not None:
        return texture
    (stem, shape, *alike) = in_form([stem, shape, *names], "NFC")
    fix = f"Fix: rename it as {_CUES}, or remove it"
    raise DamagedFile(
        Code.DAMAGED_DATA,
        f"the name of {path} does not consist of its shape (its folder) and its texture (one of {', '.join(names)}). "
        f"{fix if _texture_in(stem, shape, alike) is None else how_to_rename(path.parents[1])}",
        file=path,
    )


def _texture_in(stem: str, shape: str, names: list[str]) -> str | None:
    """Return the label at the end of an image's name, before the number of the image; labels may end in digits, too."""
    match = re.fullmatch(rf"{re.escape(shape)}\d*-((.+?)\d*)", stem)
    numbered, shortest = match.groups() if match else ("", "")
    labels = [label for end in range(len(shortest), len(numbered) + 1) if (label := numbered[:end]) in names]
    # results of earlier versions, which knew labels without digits at their end only, are of the shortest
    return shortest if shortest in labels else labels[-1] if labels else None


def _place(root: Path, path: Path) -> bytes:
    return hashlib.sha256(f"caltech101/{path.relative_to(root).as_posix()}".encode()).digest()


def _part(labels: list[str], images: dict[str, list[Path]], colour: bool, upright: bool) -> FolderPart:
    counts = [len(images.get(label, [])) for label in labels]
    paths = tuple(path for label in labels for path in images.get(label, []))
    return FolderPart(paths, np.repeat(np.arange(len(labels)), counts).astype(np.int64), colour, upright)


def _raw(folder: Path, labels: list[str], parts: Sequence[FolderPart]) -> Raw:
    train, test = parts
    return Raw(train, test, files_digest(folder, parts), tuple(labels))


def _require_part(directory: Path, part: str) -> None:
    """Refuse a folder without ``train`` or ``test``, and suggest a folder that may have been meant."""
    if (directory / part).exists():
        return
    if not directory.is_dir():
        what = what_it_is(directory) or "a file"
        raise DamagedFile(
            Code.DAMAGED_DATA, f"{directory} is {what}; expected an image folder with {_FOLDER}", file=directory
        )
    names = [_told(path) for path in _entries(directory)]
    meant = [name for name in names if name.lower() in _MEANT[part]]
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    unsplit = directory if part == "train" else directory / "train"
    remedy = (
        f"rename {meant[0]} to {part}"
        if meant
        else f"if {unsplit} has a folder for each label, let "
        f"{command('data', 'split', unsplit, '--out', 'DIR')} divide their images into training and test images"
    )
    raise DamagedFile(
        Code.DAMAGED_DATA,
        f"{directory / part} does not exist; expected {_FOLDER}, or val for test, in lower case; {directory} has "
        f"{', '.join(names[:_NAMES_SHOWN]) or 'nothing'}{more}. Fix: {remedy}",
        file=directory / part,
    )


def images_by_label(directory: Path, layout: str) -> dict[str, list[Path]]:
    """Return the images in a folder for each label, sorted by name.

    Nothing that might be an image is skipped silently.

    Args:
        layout: the expected layout, for messages.

    Raises:
        DamagedFile: if it is not a folder with folders of images; lists all entries that are something else.
    """
    images, problems = _listed(directory, layout)
    raise_together(problems)
    return images


def _listed(directory: Path, layout: str) -> tuple[dict[str, list[Path]], list[DamagedFile]]:
    """Return the images of each label, and the entries that are something else.

    Raises:
        DamagedFile: if there are no labels, or a folder cannot be read.
    """
    if not directory.is_dir():
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{directory} is {what_it_is(directory) or 'a file'}; expected an image folder with {layout}",
            file=directory,
        )
    entries = _entries(directory)
    rule = f"expected only folders in {directory}, one per label"
    strays = [path for path in entries if not path.is_dir()]
    unlabelled = [path for path in strays if _seems_image(path)]
    problems = [_stray(path, rule, "move it elsewhere") for path in strays if not _seems_image(path)]
    if unlabelled:
        problems.insert(0, _without_label(directory, unlabelled, rule))
    if not entries:
        raise DamagedFile(
            Code.DAMAGED_DATA, f"{directory} has no labels; expected an image folder with {layout}", file=directory
        )
    images: dict[str, list[Path]] = {}
    misnamed: dict[str, list[Path]] = defaultdict(list)
    for label in (path for path in entries if path.is_dir()):
        images[label.name] = []
        for path in (inside := _entries(label)):
            if path.is_dir():
                remedy = "move its images up, or remove it"
                problems.append(_stray(path, "expected no subfolders in a label's folder", remedy))
            elif not path.is_file():
                remedy = "remove it, or put the image there"
                problems.append(_stray(path, "expected images in a label's folder", remedy))
            elif path.suffix.lower() not in _SUFFIXES:
                misnamed[path.suffix.lower()].append(path)
            else:
                images[label.name].append(path)
        if not inside:
            message = f"{label} has no images. Fix: add some, or remove the folder"
            problems.append(DamagedFile(Code.DAMAGED_DATA, message, file=label))
    return images, [*problems, *(_misnamed(suffix, paths) for suffix, paths in misnamed.items())]


def _misnamed(suffix: str, paths: list[Path]) -> DamagedFile:
    """Return the error for files with one suffix that no image has."""
    first, others = paths[0], len(paths) - 1
    which = f"{first} and {others:,} more files of the same suffix are" if others else f"{first} is"
    them = "them" if others else "it"
    remedy = f"convert {them} to JPEG (HEIC is the format of iPhones' photographs by default)"
    return DamagedFile(
        Code.DAMAGED_DATA,
        f"expected images with one of the suffixes {', '.join(_SUFFIXES)}; {which} not. Fix: "
        f"{remedy if suffix in _HEIC else f'convert, rename or remove {them}'}",
        file=first,
    )


def _seems_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def _without_label(directory: Path, images: list[Path], rule: str) -> DamagedFile:
    """Return the error for images that are in no label's folder."""
    others = len(images) - 1
    which = f"{images[0]} and {others:,} more images are" if others else f"{images[0]} is an image"
    return DamagedFile(
        Code.DAMAGED_DATA,
        f"{rule}; {which} in none. Fix: make a folder in {directory} for each label, and move its images there",
        file=images[0],
    )


def _stray(path: Path, rule: str, remedy: str) -> DamagedFile:
    what = what_it_is(path) if path.is_dir() or not path.is_file() else None
    return DamagedFile(Code.DAMAGED_DATA, f"{rule}; {path} is {what or 'another file'}. Fix: {remedy}", file=path)


def _entries(directory: Path) -> list[Path]:
    """Return the entries of a folder, sorted by name, without hidden and system files.

    Raises:
        DamagedFile: if the folder cannot be read, or a name is not valid UTF-8.
    """
    try:
        entries = [path for path in sorted(directory.iterdir()) if not _ignored(path)]
    except OSError as error:
        raise unreadable(directory, error) from error
    for path in entries:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise DamagedFile(
                Code.DAMAGED_DATA,
                f"expected names of labels and images in UTF-8; {directory} contains {_told(path)}. Fix: rename it",
                file=_told(path),
            ) from None
    return entries


def _told(path: Path) -> str:
    """Return a name that can be shown in messages, even if its bytes are not valid UTF-8."""
    return path.name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name in _NOT_IMAGES
