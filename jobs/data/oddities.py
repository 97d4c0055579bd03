"""What is odd about the images of a folder, told by ``data describe``: trials read them without a word. No torch."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from jobs.data.raw import FolderPart, Raw, RawPart, opened
from jobs.files import open_file

_UPRIGHT = 1
_ORIENTATION = 274  # the tag, of EXIF as of TIFF
_BITS_PER_SAMPLE = 258  # TIFF's tag
_PNG_DEPTH_AT = 24  # of the header chunk, which is the first: behind signature, length, name, width and height


def notes(folder: Path, raw: Raw) -> list[str]:
    """A sentence for each kind of oddity, with how many images have it and the first of them.

    Args:
        folder: what paths are told from.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    seen: dict[str, tuple[str, int, Path]] = {}
    for name, part in (("training", raw.train), ("test", raw.test)):
        for path, label in zip(_paths(part), part.labels_N.tolist(), strict=True):
            with opened(path) as image:
                for oddity in _oddities(image, path):
                    found[oddity].append(path)
                pixels = hashlib.sha256(repr(image.size).encode() + image.convert("RGB").tobytes()).hexdigest()
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
    return [*said, *([f"no test images of the labels {', '.join(untested)}"] if untested else [])]


def _paths(part: RawPart | FolderPart) -> tuple[Path, ...]:
    return part.paths if isinstance(part, FolderPart) else ()


def _oddities(image: Image.Image, path: Path) -> Iterator[str]:
    """Each as a predicate of images."""
    if image.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT:
        yield "are to be turned or mirrored by their EXIF, and are read as they are stored (exiftran -ai turns them)"
    if getattr(image, "n_frames", 1) > 1:
        yield "have several frames, of which the first is read"
    if _bits(image, path) > 8:
        yield "have more than 8 bits a channel, of which the upper 8 are read"
    if image.mode == "CMYK":
        yield "are in CMYK, and are made RGB without a colour profile"
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        yield "are transparent in places, where what lies below is read"


def _bits(image: Image.Image, path: Path) -> int:
    """A channel's bits in the file; Pillow's mode says those after decoding."""
    if image.format == "PNG":
        with open_file(path) as file:
            return file.read(_PNG_DEPTH_AT + 1)[-1]
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, 8)
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8
