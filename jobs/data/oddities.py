"""What is odd about the images of a folder, told by ``data describe``: trials read them without a word. No torch."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from jobs.data.raw import FolderPart, Raw, opened, turn_of
from jobs.files import open_file

_BITS_PER_SAMPLE = 258  # TIFF's tag
_PNG_DEPTH_AT = 24  # of the header chunk, which is the first: behind signature, length, name, width and height
_COLOUR_PNM = (b"P3", b"P6")
_PNM_HEADER = 4096  # bytes in which a header is looked for; comments may lie between its numbers
_STORED = "are to be turned or mirrored by their EXIF orientation, and are read as they are stored"
_TURNED = "are turned or mirrored by their EXIF orientation"


class Oddities(NamedTuple):
    """What is odd about the images of a folder."""

    said: list[str]
    """A sentence for each kind, with how many images have it and the first of them."""
    turned: int
    """Images whose EXIF asks for them to be turned or mirrored."""


def oddities(folder: Path, raw: Raw) -> Oddities:
    """Look at every image as it is read.

    Args:
        folder: what paths are told from.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    seen: dict[str, tuple[str, int, Path]] = {}
    for name, part in (("training", raw.train), ("test", raw.test)):
        assert isinstance(part, FolderPart)
        for index, (path, label) in enumerate(zip(part.paths, part.labels_N.tolist(), strict=True)):
            with opened(path) as image:
                for oddity in _oddities(image, path, part.upright):
                    found[oddity].append(path)
            shown = part.image(index)
            pixels = hashlib.sha256(repr(shown.size).encode() + shown.tobytes()).hexdigest()
            first_in, first_label, first = seen.setdefault(pixels, (name, label, path))
            if first_in != name:
                found["show the same as a training image, so that testing is on what was trained on"].append(path)
            elif first_label != label:
                found[f"show the same as a {name} image of another label"].append(path)
            elif first != path:
                found[f"show the same as another {name} image of their label"].append(path)
    said = [
        f"{len(paths):,} image{'s' if len(paths) > 1 else ''} {oddity}: {paths[0].relative_to(folder)}"
        f"{', ...' if len(paths) > 1 else ''}"
        for oddity, paths in found.items()
    ]
    tested = set(raw.test.labels_N.tolist())
    untested = [name for number, name in enumerate(raw.names) if number not in tested]
    said += [f"no test images of the labels {', '.join(untested)}"] if untested else []
    return Oddities(said, len(found[_TURNED]) + len(found[_STORED]))


def _oddities(image: Image.Image, path: Path, upright: bool) -> Iterator[str]:
    """Each as a predicate of images."""
    if turn_of(image) is not None:
        yield _TURNED if upright else _STORED
    if getattr(image, "n_frames", 1) > 1:
        yield "have several frames, of which the first is read"
    if _bits(image, path) > 8:
        yield (
            "have more than 8 bits a channel, and are scaled to 8"
            if image.format == "PPM"
            else "have more than 8 bits a channel, of which the upper 8 are read"
        )
    if image.mode == "CMYK":
        yield "are in CMYK, and are made RGB without a colour profile"
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        yield "are transparent in places, where what lies below is read"


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
