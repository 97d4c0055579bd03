"""Image folders in practice: misplaced files, and images that are not read as they look."""

import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.catalog.catalog import Cards, Catalog, packaged_datasets
from jobs.data.describe import describe
from jobs.data.raw import FolderPart, opened
from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.possible import require_possible
from jobs.specs.recipes import PretrainRecipe
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.jobs.data import made
from tests.jobs.data.made import RGB, encoded, oriented
from tests.jobs.support import finetune_spec
from tests.support import refused

FILES = made.folder_files()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write(tmp_path / "insects", FILES)


def odd(folder: Path, *values: object, file: Path | None = None) -> None:
    """Require that the folder is refused and the problem reported, without a traceback, whatever the names are."""
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=file):
        describe(folder, "insects")


# --- misplaced files ---


@pytest.mark.parametrize("place", ["train", "train/ant", "test/ant"])
@pytest.mark.parametrize("name", [b"caf\xe9.png", b"\xff\xfe", b"\x80.jpg"])
def test_names_that_are_no_text(folder: Path, place: str, name: bytes) -> None:
    (Path(os.fsdecode(os.fsencode(folder / place) + b"/" + name))).mkdir()
    odd(folder, "UTF-8", folder / place, name.decode(errors="backslashreplace"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.symlink_to("nowhere"), "a link whose target does not exist"),
        (lambda path: path.symlink_to(path), "a link whose target does not exist"),
        (lambda path: path.mkdir(), "a folder"),
        (os.mkfifo, "a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
        (lambda path: path.symlink_to(".."), "a folder"),
    ],
)
def test_what_is_called_an_image_and_is_none(folder: Path, make: Callable[[Path], None], words: str) -> None:
    path = folder / "train/ant/a.png"
    make(path)
    odd(folder, path, words, file=path)


@pytest.mark.parametrize("name", ["notes.txt", "image", "a.gif", "a.PNG.part", "a.heic"])
def test_files_that_are_not_named_as_images(folder: Path, name: str) -> None:
    path = folder / "test/bee" / name
    path.write_bytes(b"x")
    odd(folder, path, ".png, .jpg", file=path)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
@pytest.mark.parametrize("suffix", [".pbm", ".pgm", ".ppm", ".pnm"])
def test_all_names_of_pnm(folder: Path, mode: str, suffix: str) -> None:
    path = folder / f"train/bee/a{suffix}"
    path.write_bytes(encoded("PPM", RGB.convert(mode)))
    described = describe(folder, "insects")
    assert (described.card.train, described.notes) == (10, [])


@pytest.mark.parametrize("name", ["Thumbs.db", ".DS_Store", "._0.png", "desktop.ini", ".nfs0001"])
@pytest.mark.parametrize("place", ["", "train", "train/ant"])
def test_hidden_files_are_nobody_s(folder: Path, name: str, place: str) -> None:
    (folder / place / name).write_bytes(b"x")
    assert describe(folder, "insects").card.train == 9


@pytest.mark.parametrize(
    ("part", "called"),
    [
        ("train", "Train"),
        ("train", "TRAIN"),
        ("train", "training"),
        ("test", "Test"),
        ("test", "testing"),
        ("test", "validation"),
        ("test", "Val"),
        ("test", "valid"),
    ],
)
def test_parts_by_another_name(folder: Path, part: str, called: str) -> None:
    (folder / part).rename(folder / called)
    odd(folder, "train/LABEL/*", "val", f"rename {called} to {part}", file=folder / part)


def test_val_is_a_name_of_the_test_part(folder: Path) -> None:
    before = describe(folder, "insects").card
    (folder / "test").rename(folder / "val")
    after = describe(folder, "insects").card
    assert (after.train, after.test) == (before.train, before.test)


@pytest.mark.parametrize(
    ("beside", "held_out", "note"),
    [
        (["val/ant/0.png"], "test", "only train and test are: val"),
        (["validation/ant/0.png", "extra/a/x.png"], "val", "only train and val are: extra, validation"),
        (["loose.png", "notes.txt", ".hidden/a.png"], "test", "only train and test are: loose.png"),
        ([f"{i}.jpg" for i in range(7)], "test", "0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 2 more"),
    ],
)
def test_images_beside_the_parts_are_told(folder: Path, beside: list[str], held_out: str, note: str) -> None:
    (folder / "test").rename(folder / held_out)
    before = describe(folder, "insects")
    assert before.notes == []
    made.write(folder, dict.fromkeys(beside, b"not read"))
    after = describe(folder, "insects")
    assert after.card == before.card
    assert [note in said for said in after.notes] == [True]


def test_names_beside_the_parts_may_be_no_text(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).mkdir()
    assert describe(folder, "insects").notes == [r"not read, because only train and test are: caf\xe9"]


def test_a_path_that_is_no_text(folder: Path) -> None:
    """No study file can name it."""
    above = Path(os.fsdecode(os.fsencode(folder.parent) + b"/caf\xe9"))
    above.mkdir()
    folder.rename(above / "insects")
    told = rf"{folder.parent}/caf\xe9/insects"
    with refused(
        Code.WRONG_PLACE, f"expected a path in UTF-8; got {told}. Fix: rename", kind=InvalidRequest, file=told
    ):
        describe(above / "insects")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_part_is_taken_for_the_whole_folder(folder: Path, part: str) -> None:
    odd(folder / part, f"Fix: use the folder of both parts: deltasweep data describe {folder}")


def test_a_folder_of_labels_named_like_a_part_is_to_be_divided(folder: Path) -> None:
    """Without test images beside it, it is not a part."""
    (folder / "test").rename(folder / "other")
    odd(folder / "train", f"deltasweep data split {folder}/train --out DIR")


@pytest.mark.parametrize("name", [None, "digits"])
def test_names_of_packaged_datasets_are_refused(folder: Path, name: str | None) -> None:
    """``plan`` would refuse the card."""
    if name is None:
        folder = folder.rename(folder.parent / "Imagenet")
    with refused(Code.WRONG_NAME, "packaged", "Fix: choose a name with --name", kind=InvalidRequest, key="--name"):
        describe(folder, name)


@pytest.mark.parametrize("make", [lambda path: None, os.mkdir, lambda path: path.write_bytes(b"x"), os.mkfifo])
def test_what_is_no_image_folder(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "none")
    odd(tmp_path / "none", tmp_path / "none", "train/LABEL/*")


def test_images_without_labels(folder: Path) -> None:
    path = folder / "train/a.png"
    path.write_bytes(FILES["train/ant/0.png"])
    odd(folder, path, "one per label", file=path)


def test_a_label_without_images(folder: Path) -> None:
    (folder / "train/wasp").mkdir()
    odd(folder, "no images", file=folder / "train/wasp")


@pytest.mark.parametrize("place", ["train/ant", "train/ant/0.png"])
def test_what_may_not_be_read(folder: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulates another user, because root may read everything."""

    def refuse(path: Path, *args: object, **kwargs: object) -> object:
        if path == folder / place:
            raise PermissionError(13, "Permission denied", str(path))
        return before(path, *args, **kwargs)

    owner, name = (Path, "iterdir") if (folder / place).is_dir() else (os, "open")
    before = getattr(owner, name)
    monkeypatch.setattr(owner, name, refuse)
    odd(folder, folder / place, "Permission denied", file=folder / place)


def test_one_label_is_no_task(tmp_path: Path) -> None:
    files = {name: data for name, data in FILES.items() if "/ant/" in name}
    folder = made.write(tmp_path / "ants", files)
    with refused(Code.WRONG_VALUE, "ant", folder, kind=InvalidRequest, key="labels"):
        describe(folder, "ants")
    card = packaged_datasets()["digits"].model_copy(update={"name": "ones", "labels": 1})
    nothing = ThreatModel(constraint=Constraint.NONE, epsilon=0)
    choices = {"architecture": "resnet35-w8", "threat": nothing, "recipe": PretrainRecipe(), "seed": 1, "epochs": 1}
    for spec in (finetune_spec(dataset="ones"), PretrainSpec.model_validate({"dataset": "ones", **choices})):
        with refused(Code.IMPOSSIBLE_TRIAL, "ones has 1", kind=InvalidRequest, key="dataset"):
            require_possible(spec, Catalog(Cards(datasets={"ones": card})))


# --- images that are not read as they look ---


DEEP_PPM = b"P6 2 1 65535\n" + bytes(range(12))


def deep_png() -> bytes:
    """Return a PNG with 16 bits per RGB channel, which Pillow reads but does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(range(i, i + 12)) for i in (0, 50))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


ODD = {
    **{f"orientation {n}": (f"a{n}.jpg", oriented(n), "EXIF") for n in range(2, 9)},
    "16 bits of RGB": ("a.png", deep_png(), "upper 8"),
    "16 bits of RGB in PNM": ("a.ppm", DEEP_PPM, "scaled to 8"),
    "12 bits of RGB in PNM as text": ("a.ppm", b"P3 # of 12 bits\n#\n1 1 # and\n4095 1 2 4000\n", "scaled to 8"),
    "CMYK": ("a.jpg", encoded("JPEG", RGB.convert("CMYK")), "CMYK"),
    "transparent": ("a.png", encoded("PNG", RGB.convert("RGBA")), "transparent"),
    "a transparent palette": ("a.png", encoded("PNG", RGB.convert("P"), transparency=0), "transparent"),
    "animated": ("a.png", encoded("PNG", RGB, save_all=True, append_images=[RGB.rotate(90)]), "several frames"),
    "animated WebP": ("a.webp", encoded("WEBP", RGB, save_all=True, append_images=[RGB.rotate(90)]), "several frames"),
    "damaged EXIF": ("a.jpg", encoded("JPEG", RGB, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12"), "warning from Pillow"),
    "a panorama": ("a.png", encoded("PNG", Image.new("RGB", (1, 65))), "whole-image"),
    "a panorama that lies": ("a.png", encoded("PNG", Image.new("RGB", (131, 2))), "whole-image"),
    "pages": ("a.tif", encoded("TIFF", RGB, save_all=True, append_images=[RGB]), "several frames"),
}


@pytest.mark.parametrize("kind", ODD)
def test_images_that_are_read_otherwise_than_they_look_are_told(folder: Path, kind: str) -> None:
    name, data, words = ODD[kind]
    assert describe(folder, "insects").notes == []
    (folder / "train/bee" / name).write_bytes(data)
    (note,) = describe(folder, "insects").notes
    assert words in note
    assert note.startswith("1 image: ")
    assert f"train/bee/{name}" in note


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_grey_images_are_refused(folder: Path, mode: str) -> None:
    """Otherwise they would be clipped at 255 instead of scaled."""
    path = folder / "train/bee/a.tif"
    path.write_bytes(encoded("TIFF", Image.new(mode, (4, 4), 300)))
    odd(folder, path, "at most 8 bits", mode, file=path)


@pytest.mark.parametrize(
    ("copy", "words"),
    [
        ("test/ant/a.png", "training"),
        ("test/bee/a.png", "training"),
        ("train/bee/a.png", "another label"),
        ("train/ant/a.png", "the same label"),
    ],
)
@pytest.mark.parametrize("again", [False, True], ids=["the file", "its pixels"])
def test_an_image_that_is_there_twice_is_told(folder: Path, copy: str, words: str, again: bool) -> None:
    original = folder / "train/ant/0.png"
    data = original.read_bytes()
    with Image.open(original) as image:
        (folder / copy).write_bytes(encoded("BMP", image) if again else data)
    (note,) = describe(folder, "insects").notes
    assert words in note
    assert f"({copy} and train/ant/0.png)" in note


def test_pillow_s_warnings_are_told_with_their_file(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    (folder / "test/bee/a.jpg").write_bytes(ODD["damaged EXIF"][1])
    (note,) = describe(folder, "insects").notes
    assert "(test/bee/a.jpg: Corrupt EXIF data" in note
    assert not recwarn.list


def test_many_odd_images_are_one_note(folder: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (folder / "train/bee" / name).write_bytes(
            encoded("JPEG", RGB.rotate(90 * (name == "b.jpg"), expand=True).convert("CMYK"))
        )
    assert describe(folder, "insects").notes == [
        "2 images: in CMYK, converted to RGB without a colour profile (train/bee/a.jpg, ...)"
    ]


def test_a_panorama_within_the_bound_is_nothing_to_tell(folder: Path) -> None:
    (folder / "train/bee/a.png").write_bytes(encoded("PNG", Image.new("RGB", (2, 128))))
    assert describe(folder, "insects").notes == []


def test_labels_that_are_not_tested_are_told(folder: Path) -> None:
    (folder / "test/cat/0.png").unlink()
    (folder / "test/cat").rmdir()
    assert describe(folder, "insects").notes == ["no test images for the labels cat"]


# --- files that are not images, or contain more than they seem ---


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"<html>Sign in</html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"/annex/objects/SHA256E-s9--0.png\n", "git annex get"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as an image"),
        (b"\0\0\0\x18ftypheix\0\0\0\0", "HEIC image, the default of iPhones). Fix: convert it to JPEG"),
        (b"\0\0\0\x18ftyphevc\0\0\0\0", "a HEIC image"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0", "a HEIC or AVIF image sequence"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF image). Fix: convert it to JPEG"),
        (encoded("JPEG2000", RGB), "a JPEG 2000 image). Fix: convert it to PNG or JPEG"),
        (encoded("JPEG2000", RGB, no_jp2=True), "a JPEG 2000 image"),
        (b"\0\0\1\0\1\0", "in none of the formats PNG, JPEG, BMP, WEBP, PPM, TIFF, GIF). Fix: convert it to PNG or"),
        (FILES["train/ant/0.png"][:60], "cannot be read as an image"),
        (FILES["train/ant/1.jpg"][:-200], "cannot be read as an image"),
    ],
)
def test_a_file_that_is_no_image_is_said_to_be_what_it_is(folder: Path, data: bytes, words: str) -> None:
    path = folder / "train/bee/a.png"
    path.write_bytes(data)
    odd(folder, path, words, file=path)


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_an_image_of_more_pixels_than_memory_holds(folder: Path, side: int) -> None:
    path = folder / "train/bee/a.png"
    data = bytearray(FILES["train/ant/0.png"])
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    odd(folder, path, file=path)


IMAGES = [encoded(form, RGB) for form in ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF")] + [DEEP_PPM, deep_png()]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_image_is_an_image_or_one_error(data: st.DataObject, tmp_path: Path) -> None:
    changed = bytearray(data.draw(st.sampled_from(IMAGES)))
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.png"
    path.write_bytes(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    with suppress(DamagedFile):
        image = FolderPart((path,), np.zeros(1, np.int64), colour=True).image(0)
        assert image.mode == "RGB"
    with suppress(DamagedFile), opened(path) as again:
        again.getexif()
