"""Division of a folder of labelled images, ``LABEL/*``, into training and test images. No torch."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from jobs.data.folders import images_by_label
from jobs.data.raw import opened, unreadable
from jobs.errors import Code, DamagedFile, DeltaSweepError, InvalidRequest, StorageFailure, raise_together
from jobs.paths import expanded
from jobs.system.commands import command
from jobs.system.files import open_file

Parts = dict[str, dict[str, list[Path]]]
"""The images of each label in ``train`` and in ``test``."""


def split(
    folder: Path, out: Path, test: float, progress: Callable[[int, int], object] = lambda done, total: None
) -> Parts:
    """Copy the images of ``folder/LABEL/*`` to ``out/train/LABEL/*`` and ``out/test/LABEL/*``.

    The bytes of an image decide about its part: equal files are in the same part, and images that are added later
    leave all others where they are. They are copied, because links would break when either folder is moved.

    Args:
        folder: the folder of labels.
        out: the folder to create; it is created whole or not at all.
        test: the expected share of test images, in (0, 1).
        progress: called after each image with the number of images that have been copied, and of all images.

    Returns:
        The images, by part and label.

    Raises:
        InvalidRequest: if the share is not in (0, 1), ``out`` exists, is in ``folder`` or cannot be created, or a label
            has no images in one of the parts.
        DamagedFile: if ``folder`` contains other entries than labels with images.
        StorageFailure: if the images cannot be written.
    """
    folder, out = expanded(folder).resolve(), expanded(out, "--out").resolve()
    if not 0 < test < 1:
        raise InvalidRequest(
            Code.WRONG_VALUE, f"expected a share of test images between 0 and 1; got {test:g}", key="--test"
        )
    if (folder / "train").is_dir():
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected a folder with one folder per label; {folder} has train, so its images seem to be divided "
            f"already. Fix: describe it with {command('data', 'describe', folder)}, or divide its training images with "
            f"{command('data', 'split', folder / 'train', '--out', 'OUT')}",
            file=folder,
        )
    images = images_by_label(folder, "LABEL/*")
    _require_new(out, folder)
    parts = _divided(images, test)
    try:
        _copy(parts, out, progress)
    except OSError as error:
        raise StorageFailure(
            Code.STORAGE,
            f"the images cannot be copied to {out} ({error}). Fix: make room, or choose another folder with --out",
            file=out,
        ) from error
    return parts


def _require_new(out: Path, folder: Path) -> None:
    if out.exists() or out.is_relative_to(folder):
        where = "exists; nothing in it is replaced" if out.exists() else f"is in {folder}, where it would be a label"
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected a new folder outside of {folder}; {out} {where}. Fix: choose another --out",
            file=out,
            key="--out",
        )


def _divided(images: dict[str, list[Path]], test: float) -> Parts:
    parts: Parts = {part: {label: [] for label in images} for part in ("train", "test")}
    damaged: list[DeltaSweepError] = []
    for label, paths in images.items():
        for path in paths:
            try:
                with opened(path):  # links could lead to anything, which would be copied
                    pass
                parts["test" if _place(path) < test else "train"][label].append(path)
            except DamagedFile as error:
                damaged.append(error)
    raise_together(damaged)
    problems = [
        InvalidRequest(
            Code.WRONG_VALUE,
            f"expected images of each label in both parts; {label} would have {len(parts['train'][label])} training "
            f"and {len(parts['test'][label])} test images. Fix: add images of {label}, or change --test",
            file=images[label][0].parent,
            key="--test",
        )
        for label in images
        if not (parts["train"][label] and parts["test"][label])
    ]
    raise_together(problems)
    return parts


def _place(path: Path) -> float:
    """Return a number in [0, 1), uniformly distributed, that depends only on the bytes of an image."""
    try:
        with open_file(path) as file:
            content = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise unreadable(path, error) from error
    return int.from_bytes(hashlib.sha256(b"split/" + content).digest()[:6]) / 2**48


def _copy(parts: Parts, out: Path, progress: Callable[[int, int], object]) -> None:
    """Copy to a folder beside ``out`` that gets its name when it is complete."""
    total, done = sum(len(paths) for labels in parts.values() for paths in labels.values()), 0
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        whole = Path(temporary) / out.name
        for part, labels in parts.items():
            for label, paths in labels.items():
                (whole / part / label).mkdir(parents=True)
                for path in paths:
                    shutil.copyfile(path, whole / part / label / path.name)
                    done += 1
                    progress(done, total)
        whole.rename(out)
