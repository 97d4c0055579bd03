"""Images in one folder per label: image folders, Caltech101 with DeltaSweep's own split, and cue-conflict images."""

import hashlib
import re
from pathlib import Path

import numpy as np

from jobs.data.locate import CALTECH101_IMAGES
from jobs.data.raw import FolderPart, Raw, files_digest, unreadable
from jobs.errors import Code, DamagedFile
from jobs.system.file_kinds import what_it_is

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff")
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


def read_image_folder(directory: Path, colour: bool, upright: bool = False) -> Raw:
    """Read ``train/LABEL/*`` and ``test/LABEL/*``, or ``val/LABEL/*`` if there is no ``test``, as in ImageNet and
    Stylized-ImageNet; labels are numbered in the order of their names.

    Args:
        upright: whether the EXIF orientation of images is applied (in the functions below, too).

    Raises:
        DamagedFile: if a part or a label is missing, or an entry does not have an image's name, is not a regular file,
            or cannot be read.
    """
    held_out = "test" if (directory / "test").exists() or not (directory / "val").exists() else "val"
    for part in ("train", held_out):
        _require_part(directory, part)
    train, test = (_images_by_label(directory / part, _FOLDER) for part in ("train", held_out))
    if unknown := sorted(test.keys() - train.keys()):
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"expected training images of every test label; {directory}/train has none of {', '.join(unknown)}. Fix: "
            "add training images, or remove the test images of these labels",
            file=directory / "train",
        )
    labels = sorted(train)
    return _raw(directory, labels, train, test, colour, upright)


def read_caltech101(directory: Path, upright: bool = False) -> Raw:
    """Read the 101 labels without the clutter category; 30 images per label, chosen by a hash of their names, are for
    training.
    """
    root = directory / CALTECH101_IMAGES
    images = {label: paths for label, paths in _images_by_label(root, _FOLDER).items() if label != _CLUTTER}
    shuffled = {label: sorted(paths, key=lambda path: _place(root, path)) for label, paths in images.items()}
    train = {label: sorted(paths[:_TRAINING_IMAGES_A_LABEL]) for label, paths in shuffled.items()}
    test = {label: sorted(paths[_TRAINING_IMAGES_A_LABEL:]) for label, paths in shuffled.items()}
    return _raw(root, sorted(images), train, test, True, upright)


def read_cue_conflict(directory: Path, colour: bool, upright: bool = False) -> Raw:
    """Read ``SHAPE/SHAPEn-TEXTUREm.png``, the layout of Geirhos et al. (2019): all are test images, labelled by shape.

    Raises:
        DamagedFile: if an image's name does not consist of its folder as shape and a label as texture.
    """
    images = _images_by_label(directory, _CUES)
    names = sorted(images)
    textures = [names.index(_texture(path, names)) for name in names for path in images[name]]
    return _raw(directory, names, {}, images, colour, upright)._replace(textures_N=np.array(textures, np.int64))


def _texture(path: Path, names: list[str]) -> str:
    shape = path.parent.name
    match = re.fullmatch(rf"{re.escape(shape)}\d*-(.+?)\d*", path.stem)
    if match is None or match[1] not in names:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"the name of {path} does not consist of its shape (its folder) and its texture (one of "
            f"{', '.join(names)}). Fix: rename it as {_CUES}, or remove it",
            file=path,
        )
    return match[1]


def _place(root: Path, path: Path) -> bytes:
    return hashlib.sha256(f"caltech101/{path.relative_to(root).as_posix()}".encode()).digest()


def _raw(
    folder: Path,
    labels: list[str],
    train: dict[str, list[Path]],
    test: dict[str, list[Path]],
    colour: bool,
    upright: bool,
) -> Raw:
    parts = [
        FolderPart(
            tuple(path for label in labels for path in images.get(label, [])),
            np.repeat(np.arange(len(labels)), [len(images.get(label, [])) for label in labels]).astype(np.int64),
            colour,
            upright,
        )
        for images in (train, test)
    ]
    return Raw(parts[0], parts[1], files_digest(folder, parts), tuple(labels))


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
    remedy = f"rename {meant[0]} to {part}" if meant else f"it has {', '.join(names[:_NAMES_SHOWN]) or 'nothing'}"
    raise DamagedFile(
        Code.DAMAGED_DATA,
        f"{directory / part} does not exist; expected {_FOLDER}, or val for test, in lower case: {remedy}",
        file=directory / part,
    )


def _images_by_label(directory: Path, layout: str) -> dict[str, list[Path]]:
    """Return the images of each label, sorted by name; nothing that might be an image is skipped silently."""
    if not directory.is_dir():
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{directory} is {what_it_is(directory) or 'a file'}; expected an image folder with {layout}",
            file=directory,
        )
    entries = _entries(directory)
    for path in entries:
        if not path.is_dir():
            raise _stray(path, f"expected only folders in {directory}, one per label", "remove it")
    if not entries:
        raise DamagedFile(
            Code.DAMAGED_DATA, f"{directory} has no labels; expected an image folder with {layout}", file=directory
        )
    images = {label.name: _entries(label) for label in entries}
    for label, paths in images.items():
        for path in paths:
            if path.is_dir():
                raise _stray(path, "expected no subfolders in a label's folder", "move its images up, or remove it")
            if not path.is_file():
                raise _stray(path, "expected images in a label's folder", "remove it, or put the image there")
            if path.suffix.lower() not in _SUFFIXES:
                rule = f"expected images with one of the suffixes {', '.join(_SUFFIXES)}"
                raise _stray(path, rule, "convert, rename or remove it")
        if not paths:
            raise DamagedFile(
                Code.DAMAGED_DATA,
                f"{directory / label} has no images. Fix: add some, or remove the folder",
                file=directory / label,
            )
    return images


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
