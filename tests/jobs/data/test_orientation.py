"""EXIF orientation: how images are turned, how a card records it, and how a results root treats it."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from analysis.figures.pictures import images_at_hand
from jobs.catalog.catalog import packaged_datasets
from jobs.catalog.dataset_card import DatasetCard
from jobs.data.datasets import cached_dataset, load_dataset
from jobs.data.describe import describe
from jobs.data.raw import FolderPart
from jobs.errors import Code, ResultsConflict
from jobs.results import open_store, pin
from jobs.study.model import Study
from orchestrator.study.name_conflicts import require_same_names
from tests.jobs.data import made
from tests.support import refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write(tmp_path / "insects", made.folder_files())


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
def test_upright_images_are_nothing_to_tell(folder: Path, orientation: int, form: str) -> None:
    """The same holds for orientations without a meaning."""
    path = folder / "train/bee" / f"a.{form.lower()}"
    path.write_bytes(made.oriented(orientation, form))
    described = describe(folder, "insects")
    assert (described.notes, described.turned, described.card.exif_orientation) == ([], 0, "ignored")
    assert_read_as_pillow_turns(path)


def assert_read_as_pillow_turns(path: Path) -> None:
    """Also check the size reported before decoding; with ignored orientation, an image is read as stored."""
    part = FolderPart((path,), np.zeros(1, np.int64), colour=True, upright=True)
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert (part.image(0).tobytes(), part.image(0).size) == (upright.tobytes(), upright.size)
    assert part.size(0) == upright.size
    with Image.open(path) as image:
        stored, as_stored = image.convert("RGB"), part._replace(upright=False)
    assert (as_stored.image(0).tobytes(), as_stored.size(0)) == (stored.tobytes(), stored.size)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_orientation(folder: Path, orientation: int, form: str) -> None:
    """Images are turned and mirrored as in Pillow if the card says so, which is the default."""
    path = folder / "train/bee" / f"a.{form.lower()}"
    path.write_bytes(made.oriented(orientation, form))
    assert_read_as_pillow_turns(path)
    applied, ignored = describe(folder, "insects"), describe(folder, "insects", "ignored")
    assert (applied.turned, ignored.turned) == (1, 1)
    assert (applied.card.exif_orientation, ignored.card.exif_orientation) == ("applied", "ignored")
    assert [note.partition(" (")[0] for note in applied.notes] == [
        "1 image: rotated or mirrored according to EXIF orientation"
    ]
    assert "read as stored" in ignored.notes[0]
    assert applied.card.model_copy(update={"exif_orientation": "ignored"}) == ignored.card
    images = {}
    for described in (applied, ignored):
        cached_dataset.cache_clear()
        data = load_dataset(described.card, 16)
        images[described.card.exif_orientation] = data.train.images_NCHW[:]
        assert data.sha256 == described.card.shown_digest(described.card.sha256 or "")
    place = sorted(path.name for path in (folder / "train/bee").iterdir()).index(path.name) + 3
    same = [bool((one == other).all()) for one, other in zip(*images.values(), strict=True)]
    assert [index for index, equal in enumerate(same) if not equal] == [place]
    cached_dataset.cache_clear()


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("of_xmp", [False, True])
def test_pillow_turns_tiff_itself(folder: Path, orientation: int, of_xmp: bool) -> None:
    """Such an image is upright with either card, which is reported, and no reason for another card."""
    path = folder / "train/bee/a.tif"
    xmp = {700: XMP.replace(b'"6"', f'"{orientation}"'.encode())}
    path.write_bytes(made.encoded("TIFF", made.RGB, tiffinfo=xmp) if of_xmp else made.oriented(orientation, "TIFF"))
    assert_read_as_pillow_turns(path)
    with Image.open(path) as image:
        turned = image.convert("RGB")
    upright = FolderPart((path,), np.zeros(1, np.int64), colour=True, upright=True).image(0)
    assert upright.tobytes() == turned.tobytes()
    assert (turned.size == made.RGB.size) == (orientation < 5)
    applied, ignored = describe(folder, "insects"), describe(folder, "insects", "ignored")
    assert applied == ignored
    assert applied.turned == 0
    (note,) = applied.notes
    assert note.startswith("1 image: in TIFF, rotated or mirrored")


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<a xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></x:xmpmeta>'
)


def late_png(first: bytes = b"", last: bytes = b"") -> bytes:
    """Return a PNG with chunks before and after its pixels."""
    data = made.encoded("PNG", made.RGB)
    start, end = data.index(b"IDAT") - 4, data.rindex(b"IEND") - 4
    return data[:start] + first + data[start:end] + last + data[end:]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def exif(tag: int, value: int | str) -> bytes:
    said = Image.Exif()
    said[tag] = value
    return said.tobytes().removeprefix(b"Exif\0\0")


LATE_XMP = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
SAID_ELSEWHERE = {
    "XMP of JPEG": ("a.jpg", made.encoded("JPEG", made.RGB, xmp=XMP)),
    "XMP of WebP": ("a.webp", made.encoded("WEBP", made.RGB, xmp=XMP)),
    "EXIF behind the pixels": ("a.png", late_png(last=chunk(b"eXIf", exif(274, 6)))),
    "XMP behind the pixels": ("a.png", late_png(last=LATE_XMP)),
    "XMP behind the pixels, EXIF of something else": ("a.png", late_png(chunk(b"eXIf", exif(305, "me")), LATE_XMP)),
}


@pytest.mark.parametrize("place", SAID_ELSEWHERE)
def test_an_orientation_that_is_said_elsewhere(folder: Path, place: str) -> None:
    """The orientation is applied to the image and to the size read before it, and the image is counted as turned."""
    name, data = SAID_ELSEWHERE[place]
    (folder / "train/bee" / name).write_bytes(data)
    assert_read_as_pillow_turns(folder / "train/bee" / name)
    assert FolderPart((folder / "train/bee" / name,), np.zeros(1, np.int64), True, True).size(0) == made.RGB.size[::-1]
    assert describe(folder, "insects").turned == 1


def torn_jpeg() -> bytes:
    data = bytearray(made.oriented(6))
    at = data.index(b"Exif\0\0") + 6
    data[at : at + 8] = b"XX\0*\xff\xff\xff\xff"
    return bytes(data)


def torn_png() -> bytes:
    """Return a PNG with EXIF as ImageMagick writes it, hexadecimal digits as text, but invalid."""
    info = PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n8\nnot hexadecimal\n")
    return made.encoded("PNG", made.RGB, pnginfo=info)


@pytest.mark.parametrize("torn", [torn_jpeg, torn_png])
def test_a_torn_exif_turns_nothing(folder: Path, torn: Callable[[], bytes]) -> None:
    """The image itself is intact, and was always readable."""
    path = folder / "train/bee/a.jpg"
    path.write_bytes(torn())
    assert describe(folder, "insects").turned == 0
    part = FolderPart((path,), np.zeros(1, np.int64), colour=True, upright=True)
    assert part.size(0) == part.image(0).size == made.RGB.size


def test_copies_are_told_by_what_is_shown_of_them(folder: Path) -> None:
    """One photograph, stored sideways for training and upright for testing: lossless, as PNG."""
    (folder / "train/bee/a.png").write_bytes(made.oriented(6, "PNG"))
    (folder / "test/bee/a.png").write_bytes(made.encoded("PNG", made.RGB.transpose(Image.Transpose.ROTATE_270)))
    assert any("training image" in note for note in describe(folder, "insects").notes)
    assert not any("training image" in note for note in describe(folder, "insects", "ignored").notes)


def test_a_root_has_one_of_both_under_a_name(folder: Path, tmp_path: Path) -> None:
    (folder / "train/bee/a.jpg").write_bytes(made.oriented(6))
    cards = [describe(folder, "insects", how).card for how in ("ignored", "applied")]
    digests = [card.shown_digest(card.sha256 or "") for card in cards]
    assert digests[0] == cards[0].sha256, "as before there was the choice"
    store = open_store(str(tmp_path / "root"))
    pin(store, "datasets", "insects", digests[0])
    with refused(Code.OTHER_DIGEST, "insects", *digests, kind=ResultsConflict):
        pin(store, "datasets", "insects", digests[1])
    study = Study.model_validate(
        {
            "name": "own",
            "grid": {"source": ["fmnist_natural"], "dataset": ["insects"], "blocks": [0]},
            "schedule": [{"images": [-1], "epochs": 1, "seeds": 1, "evaluate_every": 1}],
            "datasets": {"insects": cards[1].model_dump(exclude={"name"})},
        }
    )
    with refused(Code.OTHER_DIGEST, "insects", *digests, kind=ResultsConflict):
        require_same_names(study, store)


def test_a_report_finds_the_images_that_were_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are turned if the card says so; no images are shown of a variant that loses information."""
    (folder / "train/bee/a.jpg").write_bytes(made.oriented(6))
    card = describe(folder, "insects").card
    for changes, found in (({}, True), ({"exif_orientation": "ignored"}, True), ({"low_resolution": 8}, False)):
        changed = card.model_copy(update=changes)
        images_at_hand.cache_clear()
        monkeypatch.setitem(packaged_datasets(), "insects", changed)
        raw = images_at_hand("insects", changed.shown_digest(card.sha256 or ""))
        assert (raw is not None) == found
        assert images_at_hand("insects", "0" * 64) is None
        if raw is not None:
            assert isinstance(raw.train, FolderPart)
            assert raw.train.upright == (changes == {})
    images_at_hand.cache_clear()


def test_which_cards_have_an_orientation_and_an_aspect() -> None:
    """A choice without effect is refused, because it would give the same images another digest."""
    fields = packaged_datasets()["digits"].model_dump() | {"name": "mine"}
    with pytest.raises(ValueError, match="exif_orientation only for image files"):
        DatasetCard(**fields, exif_orientation="applied")
    with pytest.raises(ValueError, match="has neither"):
        DatasetCard(**fields, aspect="kept")
    card = DatasetCard(**{**packaged_datasets()["caltech101_lowres32"].model_dump(), "exif_orientation": "applied"})
    digests = {
        card.model_copy(update=changes).shown_digest("0" * 64)
        for changes in ({}, {"exif_orientation": "ignored"}, {"aspect": "kept"}, {"low_resolution": None})
    }
    assert len(digests) == 4


# golden: the digests that finished trials have pinned
@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("caltech101", "0000000000000000"),
        ("caltech101_lowres32", "144eb97df93c19bf"),
        ("caltech101_lowpass", "240413afb9fdae60"),
        ("digits_conflict", "8498168b57367264"),
    ],
)
def test_digests_of_today_s_cards_stay(name: str, begin: str) -> None:
    assert packaged_datasets()[name].shown_digest("0" * 64).startswith(begin)
