"""Irregular images in a folder, which ``data describe`` reports and trials read silently. No torch."""

import hashlib
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from jobs.data.raw import MOST_ASPECT, FolderPart, Raw, opened, turn_of, turned_by_pillow
from jobs.system.files import open_file

_BITS_PER_SAMPLE = 258  # TIFF's tag
_PNG_DEPTH_AT = 24  # offset of the bit depth: after signature, and length, name, width and height of the header chunk
_COLOUR_PNM = (b"P3", b"P6")
_PNM_HEADER = 4096  # bytes searched for the header; there may be comments between its numbers
_STORED = "with an EXIF orientation that is not applied: read as stored"
_TURNED = "rotated or mirrored according to EXIF orientation"
_TURNED_TIFF = "in TIFF, rotated or mirrored according to its orientation, whatever `exif_orientation` is"
_LONG = (
    f"more than {MOST_ASPECT} times as long on one side as on the other, which `crop: whole-image` and `low_pass` with "
    "`aspect: kept` refuse"
)


class Oddities(NamedTuple):
    """Irregularities of the images in a folder."""

    said: list[str]
    """One note per type of irregularity, with the number of images and the first of them."""
    turned: int
    """Number of images whose EXIF orientation rotates or mirrors them."""


def oddities(folder: Path, raw: Raw, after_each: Callable[[], object]) -> Oddities:
    """Inspect every image of a dataset.

    Args:
        folder: paths in notes are relative to this folder.
        after_each: called for each image.
    """
    places_of: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, tuple[str, int, str]] = {}
    for name, part in (("training", raw.train), ("test", raw.test)):
        assert isinstance(part, FolderPart)
        for index, (path, label) in enumerate(zip(part.paths, part.labels_N.tolist(), strict=True)):
            told = str(path.relative_to(folder))
            after_each()
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                with opened(path) as image:
                    for oddity in _oddities(image, path, part.upright):
                        places_of[oddity].append(told)
                shown = part.image(index)
            if warned:
                places_of["with a warning from Pillow"].append(f"{told}: {' '.join(str(warned[0].message).split())}")
            if max(shown.size) > MOST_ASPECT * min(shown.size):
                places_of[_LONG].append(told)
            pixels = hashlib.sha256(repr(shown.size).encode() + shown.tobytes()).hexdigest()
            first_in, first_label, first = seen.setdefault(pixels, (name, label, told))
            both = f"{told} and {first}"
            if first_in != name:
                places_of["identical to a training image, so test data overlaps with training data"].append(both)
            elif first_label != label:
                places_of[f"identical to a {name} image with another label"].append(both)
            elif first != told:
                places_of[f"identical to another {name} image with the same label"].append(both)
    notes = [
        f"{len(places):,} images: {what} ({places[0]}, ...)" if len(places) > 1 else f"1 image: {what} ({places[0]})"
        for what, places in places_of.items()
    ]
    tested = set(raw.test.labels_N.tolist())
    untested = [name for number, name in enumerate(raw.names) if number not in tested]
    notes += [f"no test images for the labels {', '.join(untested)}"] if untested else []
    return Oddities(notes, len(places_of[_TURNED]) + len(places_of[_STORED]))


def _oddities(image: Image.Image, path: Path, upright: bool) -> Iterator[str]:
    """Yield descriptions that fit both one image and several images."""
    if turned_by_pillow(image):
        yield _TURNED_TIFF
    if turn_of(image) is not None:
        yield _TURNED if upright else _STORED
    if getattr(image, "n_frames", 1) > 1:
        yield "with several frames, of which only the first is read"
    if _bits(image, path) > 8:
        yield (
            "with more than 8 bits per channel, scaled to 8"
            if image.format == "PPM"
            else "with more than 8 bits per channel, of which the upper 8 are read"
        )
    if image.mode == "CMYK":
        yield "in CMYK, converted to RGB without a colour profile"
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        yield "with transparency, which is dropped: the colour values of transparent pixels are read"


def _bits(image: Image.Image, path: Path) -> int:
    """Return the bits per channel in the file; Pillow's mode describes the decoded image."""
    if image.format == "PNG":
        with open_file(path) as file:
            return file.read(_PNG_DEPTH_AT + 1)[-1]
    if image.format == "PPM":
        with open_file(path) as file:
            magic, *numbers = re.sub(rb"#[^\r\n]*", b" ", file.read(_PNM_HEADER)).split(maxsplit=4)[:4]
        return int(numbers[2]).bit_length() if magic in _COLOUR_PNM else 8
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, 8)
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8
