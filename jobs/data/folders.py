"""Images in folders, one a label: any image folder, Caltech101 with the split that DeltaSweep gives it, and images of
conflicting cues.
"""

import hashlib
import re
from pathlib import Path

import numpy as np

from jobs.data.places import CALTECH101_IMAGES
from jobs.data.raw import FolderPart, Raw, files_digest, unreadable
from jobs.errors import Code, DamagedFile
from jobs.file_kinds import what_it_is

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff")
_NOT_IMAGES = ("Thumbs.db", "desktop.ini")  # what Windows leaves behind; hidden files are left out too
_CLUTTER = "BACKGROUND_Google"
_TRAINING_IMAGES_A_LABEL = 30  # Section 5 of the paper
_MEANT = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst", "val", "valid", "validation", "dev", "eval", "evaluation"),
}
"""What people call the parts, in small letters."""
_NAMES_SHOWN = 5
_FOLDER, _CUES = "train/LABEL/* and test/LABEL/*", "SHAPE/SHAPEn-TEXTUREm.png"  # as messages tell them


def read_image_folder(directory: Path, colour: bool, upright: bool = False) -> Raw:
    """``train/LABEL/*`` and ``test/LABEL/*``, or ``val/LABEL/*`` where there is no ``test``, as ImageNet and
    Stylized-ImageNet come; the labels are numbered in the order of their names.

    Args:
        upright: images are turned and mirrored as their EXIF asks, here as below.

    Raises:
        DamagedFile: when a part or a label is missing, or something in it is no image by its name, no regular file, or
            cannot be read.
    """
    held_out = "test" if (directory / "test").exists() or not (directory / "val").exists() else "val"
    for part in ("train", held_out):
        _require_part(directory, part)
    train, test = (_images_by_label(directory / part, _FOLDER) for part in ("train", held_out))
    if unknown := sorted(test.keys() - train.keys()):
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"every label has training images; {directory}/train has none of {', '.join(unknown)}",
            file=directory / "train",
        )
    labels = sorted(train)
    return _raw(directory, labels, train, test, colour, upright)


def read_caltech101(directory: Path, upright: bool = False) -> Raw:
    """The 101 labels without the clutter; 30 images of each are for training, which follows from their names."""
    root = directory / CALTECH101_IMAGES
    images = {label: paths for label, paths in _images_by_label(root, _FOLDER).items() if label != _CLUTTER}
    shuffled = {label: sorted(paths, key=lambda path: _place(root, path)) for label, paths in images.items()}
    train = {label: sorted(paths[:_TRAINING_IMAGES_A_LABEL]) for label, paths in shuffled.items()}
    test = {label: sorted(paths[_TRAINING_IMAGES_A_LABEL:]) for label, paths in shuffled.items()}
    return _raw(root, sorted(images), train, test, True, upright)


def read_cue_conflict(directory: Path, colour: bool, upright: bool = False) -> Raw:
    """``SHAPE/SHAPEn-TEXTUREm.png``, as Geirhos et al. (2019) give them: all are for testing, labelled by shape.

    Raises:
        DamagedFile: when an image is not named after its folder and another.
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
            f"{path} is to be named by its shape, which is its folder, and its texture, one of {', '.join(names)}, as "
            f"{_CUES}; rename or remove it",
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
    """Refuse a folder without ``train`` or ``test``, naming what may be meant as it."""
    if (directory / part).exists():
        return
    if not directory.is_dir():
        what = what_it_is(directory) or "a file"
        raise DamagedFile(Code.DAMAGED_DATA, f"{directory} is {what}; an image folder has {_FOLDER}", file=directory)
    names = [_told(path) for path in _entries(directory)]
    meant = [name for name in names if name.lower() in _MEANT[part]]
    remedy = f"rename {meant[0]} to {part}" if meant else f"it has {', '.join(names[:_NAMES_SHOWN]) or 'nothing'}"
    raise DamagedFile(
        Code.DAMAGED_DATA,
        f"{directory / part} is not there; an image folder has {_FOLDER}, or val for test, in small letters: {remedy}",
        file=directory / part,
    )


def _images_by_label(directory: Path, layout: str) -> dict[str, list[Path]]:
    """The images of each label, by name; nothing that might be one is left out in silence."""
    if not directory.is_dir():
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"{directory} is {what_it_is(directory) or 'a file'}; an image folder has {layout}",
            file=directory,
        )
    entries = _entries(directory)
    for path in entries:
        if not path.is_dir():
            raise _stray(path, f"{directory} has one folder a label and nothing else", "remove it")
    if not entries:
        raise DamagedFile(Code.DAMAGED_DATA, f"{directory} has no labels; an image folder has {layout}", file=directory)
    images = {label.name: _entries(label) for label in entries}
    for label, paths in images.items():
        for path in paths:
            if path.is_dir():
                raise _stray(path, "a label's folder has images and no folders", "move its images up, or remove it")
            if not path.is_file():
                raise _stray(path, "a label's folder has images", "remove it, or put the image there")
            if path.suffix.lower() not in _SUFFIXES:
                rule = f"images are known by their names ({', '.join(_SUFFIXES)})"
                raise _stray(path, rule, "convert, rename or remove it")
        if not paths:
            raise DamagedFile(
                Code.DAMAGED_DATA,
                f"{directory / label} has no images; add some or remove it",
                file=directory / label,
            )
    return images


def _stray(path: Path, rule: str, remedy: str) -> DamagedFile:
    what = what_it_is(path) if path.is_dir() or not path.is_file() else None
    return DamagedFile(Code.DAMAGED_DATA, f"{rule}; {path} is {what or 'another file'}: {remedy}", file=path)


def _entries(directory: Path) -> list[Path]:
    """What is in a folder, by name, but for what is nobody's.

    Raises:
        DamagedFile: when the folder cannot be read, or a name is no text.
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
                f"names of labels and images are text in UTF-8; in {directory} there is {_told(path)}: rename it",
                file=_told(path),
            ) from None
    return entries


def _told(path: Path) -> str:
    """A name as messages can show it, whatever its bytes are."""
    return path.name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name in _NOT_IMAGES
