"""What is odd about the images of a folder, told by ``data describe``: trials read them without a word. No torch."""

import hashlib
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from jobs.data.raw import MOST_ASPECT, FolderPart, Raw, opened, turn_of
from jobs.files import open_file

_BITS_PER_SAMPLE = 258  # TIFF's tag
_PNG_DEPTH_AT = 24  # of the header chunk, which is the first: behind signature, length, name, width and height
_COLOUR_PNM = (b"P3", b"P6")
_PNM_HEADER = 4096  # bytes in which a header is looked for; comments may lie between its numbers
_STORED = "to be turned or mirrored by EXIF orientation, and read as stored"
_TURNED = "turned or mirrored by EXIF orientation"
_LONG = f"the longer side is more than {MOST_ASPECT} times the shorter, which `crop: whole-image` refuses"


class Oddities(NamedTuple):
    """What is odd about the images of a folder."""

    said: list[str]
    """One for each kind, with how many images have it and the first of them."""
    turned: int
    """Images whose EXIF asks for them to be turned or mirrored."""


def oddities(folder: Path, raw: Raw) -> Oddities:
    """Look at every image as it is read.

    Args:
        folder: what paths are told from.
    """
    found: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, tuple[str, int, str]] = {}
    for name, part in (("training", raw.train), ("test", raw.test)):
        assert isinstance(part, FolderPart)
        for index, (path, label) in enumerate(zip(part.paths, part.labels_N.tolist(), strict=True)):
            told = str(path.relative_to(folder))
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                with opened(path) as image:
                    for oddity in _oddities(image, path, part.upright):
                        found[oddity].append(told)
                shown = part.image(index)
            if warned:
                found["read with a warning of Pillow"].append(f"{told}: {' '.join(str(warned[0].message).split())}")
            if max(shown.size) > MOST_ASPECT * min(shown.size):
                found[_LONG].append(told)
            pixels = hashlib.sha256(repr(shown.size).encode() + shown.tobytes()).hexdigest()
            first_in, first_label, first = seen.setdefault(pixels, (name, label, told))
            both = f"{told} as {first}"
            if first_in != name:
                found["the same as a training image, so that testing is on what was trained on"].append(both)
            elif first_label != label:
                found[f"the same as a {name} image of another label"].append(both)
            elif first != told:
                found[f"the same as another {name} image of that label"].append(both)
    said = [
        f"{len(places):,} images: {what} ({places[0]}, ...)" if len(places) > 1 else f"1 image: {what} ({places[0]})"
        for what, places in found.items()
    ]
    tested = set(raw.test.labels_N.tolist())
    untested = [name for number, name in enumerate(raw.names) if number not in tested]
    said += [f"no test images of the labels {', '.join(untested)}"] if untested else []
    return Oddities(said, len(found[_TURNED]) + len(found[_STORED]))


def _oddities(image: Image.Image, path: Path, upright: bool) -> Iterator[str]:
    """Each as it is said of one image or of many."""
    if turn_of(image) is not None:
        yield _TURNED if upright else _STORED
    if getattr(image, "n_frames", 1) > 1:
        yield "several frames, of which the first is read"
    if _bits(image, path) > 8:
        yield (
            "more than 8 bits a channel, scaled to 8"
            if image.format == "PPM"
            else "more than 8 bits a channel, of which the upper 8 are read"
        )
    if image.mode == "CMYK":
        yield "CMYK, made RGB without a colour profile"
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        yield "transparent in places, where what lies below is read"


def _bits(image: Image.Image, path: Path) -> int:
    """A channel's bits in the file; Pillow's mode says those after decoding."""
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
