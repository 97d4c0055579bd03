"""Names with accents in two Unicode normalization forms: different names, as ever, but the message says so."""

import unicodedata
from pathlib import Path

import pytest

from jobs.catalog.dataset_card import DatasetCard
from jobs.data.normalization_forms import FORMS, Form
from jobs.data.readers import read_raw
from jobs.errors import Code, DamagedFile
from jobs.specs.canonical import digest
from tests.jobs.data import made
from tests.support import refused

BEETLE, OTHER = "k\N{LATIN SMALL LETTER A WITH DIAERESIS}fer", "kz"
"""Labels whose order depends on the form."""


def files(form: Form, *labels: str, image: str = "0") -> dict[str, bytes]:
    """Return the files of an image folder whose names are in a normalization form."""
    named = {}
    for name, content in made.folder_files().items():
        new = name.replace("ant", labels[0]).replace("bee", labels[1]).replace("0.png", f"{image}.png")
        named[unicodedata.normalize(form, new)] = content
    return named


def card(folder: Path, **changes: object) -> DatasetCard:
    fields = {"name": "mine", "train": 9, "test": 3, "labels": 3, "colour": True, "folder": str(folder), **changes}
    return DatasetCard(**{"mean": (0.5,) * 3, "std": (0.25,) * 3, **fields})


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", ["label_names", "sha256"])
def test_names_of_labels(key: str, form: Form, tmp_path: Path) -> None:
    wrong: Form = "NFD" if form == "NFC" else "NFC"
    raw = read_raw(card(made.write(tmp_path / "right", files(form, BEETLE, OTHER))))
    known = {"label_names": digest(raw.names), "sha256": raw.sha256}
    folder = made.write(tmp_path / "wrong", files(wrong, BEETLE, OTHER))
    command = f"--{form.lower()} --notest {folder}"
    with refused(Code.DAMAGED_DATA, "normalization form", command, kind=DamagedFile, file=folder, key=key):
        read_raw(card(folder, **{key: known[key]}))


@pytest.mark.parametrize("form", FORMS)
def test_names_of_images(form: Form, tmp_path: Path) -> None:
    wrong: Form = "NFD" if form == "NFC" else "NFC"
    raw = read_raw(card(made.write(tmp_path / "right", files(form, "ant", "bee", image=BEETLE))))
    folder = made.write(tmp_path / "wrong", files(wrong, "ant", "bee", image=BEETLE))
    known = card(folder, sha256=raw.sha256, label_names=digest(raw.names))
    command = f"--{form.lower()} --notest {folder}"
    with refused(Code.DAMAGED_DATA, "normalization form", command, kind=DamagedFile, file=folder, key="sha256"):
        read_raw(known)
    made.write(folder, {"test/cat/1.jpg": made.image_bytes(9, 9, seed=1, form="JPEG")})
    with pytest.raises(DamagedFile) as caught:
        read_raw(known.model_copy(update={"test": 4}))
    assert "normalization" not in str(caught.value), "another image is another dataset"


def test_labels_of_training_and_test_images(tmp_path: Path) -> None:
    training = {name: data for name, data in files("NFC", BEETLE, OTHER).items() if name.startswith("train")}
    test = {name: data for name, data in files("NFD", BEETLE, OTHER).items() if name.startswith("test")}
    made.write(tmp_path, training | test)
    values = ("normalization form", f"--nfc --notest {tmp_path}")
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=tmp_path / "train"):
        read_raw(card(tmp_path))


def test_textures(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, BEETLE) for form in FORMS)
    image = made.image_bytes(9, 9, seed=1)
    names = (f"{composed}/{composed}1-cat1.png", f"cat/cat1-{decomposed}1.png")
    made.write(tmp_path, dict.fromkeys(names, image))
    conflicting = card(tmp_path, format="cue-conflict", train=0, test=2, labels=2)
    values = ("normalization form", f"--nfc --notest {tmp_path}")
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=tmp_path / names[1]):
        read_raw(conflicting)
