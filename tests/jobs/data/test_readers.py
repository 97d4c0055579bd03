"""Reading SVHN, Caltech101 and image folders in their real formats, and what is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision
from PIL import Image

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.dataset_card import DatasetCard
from jobs.data.raw import FolderPart, RawPart
from jobs.data.readers import read_raw
from jobs.errors import Code, DamagedFile, MissingData
from tests.jobs.data import made
from tests.support import refused

# --- SVHN ---


def svhn_card(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> DatasetCard:
    return made.use(monkeypatch, "svhn", train=6, test=4, files=made.known(files))


def test_svhn_same_images_and_labels_as_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.svhn_files()
    raw = read_raw(svhn_card(monkeypatch, files), made.write(tmp_path, files))
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda self: True)
    for part, split in ((raw.train, "train"), (raw.test, "test")):
        assert isinstance(part, RawPart)
        theirs = torchvision.datasets.SVHN(tmp_path, split)
        assert np.array_equal(part.images_NHWC.transpose(0, 3, 1, 2), theirs.data)
        assert part.labels_N.tolist() == theirs.labels.tolist()
    assert raw.test.labels_N.tolist() == [0, 1, 2, 0], "ten stands for the digit zero"


def matlab(**content: np.ndarray) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, content)  # type: ignore[arg-type]  # also accepts file objects
    return file.getvalue()


IMAGES_HWCN = made.random_images(32, 32, 3, 6)


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"<html>", ("`X`", "`y`")),
        (b"", ("`X`", "`y`")),
        (matlab(X=IMAGES_HWCN), ("`X`", "`y`")),
        (matlab(X=IMAGES_HWCN, y=np.ones((5, 1))), ("5 labels", (32, 32, 3, 6))),
        (matlab(X=IMAGES_HWCN.astype(float), y=np.ones((6, 1))), ("float64", "6 labels")),
        (made.svhn_files()["train_32x32.mat"][:-50], ()),
    ],
)
def test_svhn_other_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, values: tuple[object, ...]
) -> None:
    files = made.svhn_files() | {"train_32x32.mat": content}
    file = tmp_path / "train_32x32.mat"
    with refused(Code.DAMAGED_DATA, file, *values, kind=DamagedFile, file=file):
        read_raw(svhn_card(monkeypatch, files), made.write(tmp_path, files))


def test_svhn_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = svhn_card(monkeypatch, made.svhn_files())
    folder = made.write(tmp_path, made.svhn_files(train=5))
    file = folder / "train_32x32.mat"
    with refused(Code.DAMAGED_DATA, file, "should have", kind=DamagedFile, file=file):
        read_raw(card, folder)


# --- Caltech101 ---


@pytest.fixture
def caltech101(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DatasetCard, Path]:
    card = made.use(monkeypatch, "caltech101", train=90, test=6)
    return card, made.write(tmp_path / "caltech101", made.caltech101_files())


def names(part: RawPart | FolderPart) -> list[str]:
    assert isinstance(part, FolderPart)
    return [f"{path.parent.name}/{path.name}" for path in part.paths]


def test_caltech101_has_thirty_training_images_a_label_and_no_clutter(caltech101: tuple[DatasetCard, Path]) -> None:
    raw = read_raw(*caltech101)
    assert np.bincount(raw.train.labels_N).tolist() == [30, 30, 30]
    assert np.bincount(raw.test.labels_N).tolist() == [2, 2, 2]
    everything = [name.removeprefix("101_ObjectCategories/") for name in made.caltech101_files()]
    assert sorted(names(raw.train) + names(raw.test)) == sorted(n for n in everything if "BACKGROUND" not in n)
    assert [name.split("/")[0] for name in names(raw.test)] == [f"label_{i}" for i in raw.test.labels_N]


def test_caltech101_is_split_by_names_alone(caltech101: tuple[DatasetCard, Path]) -> None:
    """The order of a hash of the names, the same on every machine."""
    assert names(read_raw(*caltech101).test) == [
        "label_0/image_0019.jpg",
        "label_0/image_0026.jpg",
        "label_1/image_0001.jpg",
        "label_1/image_0026.jpg",
        "label_2/image_0004.jpg",
        "label_2/image_0006.jpg",
    ]


def test_caltech101_grey_images_are_colour_ones(caltech101: tuple[DatasetCard, Path]) -> None:
    raw = read_raw(*caltech101)
    with Image.open(caltech101[1] / "101_ObjectCategories/label_1/image_0002.jpg") as image:
        assert image.mode == "L"
    index = names(raw.train).index("label_1/image_0002.jpg")
    assert raw.train.image(index).mode == "RGB"


def test_caltech101_with_an_image_missing(caltech101: tuple[DatasetCard, Path]) -> None:
    card, folder = caltech101
    (folder / "101_ObjectCategories/label_1/image_0001.jpg").unlink()
    values = ("'caltech101'", "90 training and 6 test", "90 and 5")
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=folder, key="test"):
        read_raw(card, folder)


# --- image folders ---


def folder_card(folder: Path, **changes: object) -> DatasetCard:
    fields = {"name": "mine", "train": 9, "test": 3, "labels": 3, "colour": True, "folder": str(folder), **changes}
    channels = 3 if fields["colour"] else 1
    return DatasetCard(**{"mean": (0.5,) * channels, "std": (0.25,) * channels, **fields})


def test_image_folder_labels_are_numbered_by_name(tmp_path: Path) -> None:
    files = made.folder_files() | {"train/bee/.DS_Store": b"", "train/Thumbs.db": b"", "test/cat/Thumbs.db": b""}
    raw = read_raw(folder_card(made.write(tmp_path, files)))
    assert names(raw.train)[2:4] == ["ant/2.png", "bee/0.png"]
    assert raw.train.labels_N.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert raw.test.labels_N.tolist() == [0, 1, 2]
    with Image.open(tmp_path / "train/bee/0.png") as image:
        assert raw.train.image(3).tobytes() == image.tobytes()


def test_a_grey_image_folder(tmp_path: Path) -> None:
    raw = read_raw(folder_card(made.write(tmp_path, made.folder_files(mode="L")), colour=False))
    assert raw.train.image(0).mode == "L"


def test_image_folder_s_digest_covers_names_content_and_split(tmp_path: Path) -> None:
    files = made.folder_files()
    other_content = files | {"train/ant/0.png": files["train/ant/2.png"], "train/ant/2.png": files["train/ant/0.png"]}
    other_label = {("train/bee/9.png" if name == "train/ant/0.png" else name): c for name, c in files.items()}
    other_split = {("test/ant/9.png" if name == "train/ant/2.png" else name): c for name, c in files.items()}
    folders = {f"{i}": made.write(tmp_path / f"{i}", f) for i, f in enumerate((files, other_content, other_label))}
    folders["3"] = made.write(tmp_path / "3", other_split)
    digests = [read_raw(folder_card(folder)).sha256 for name, folder in folders.items() if name != "3"]
    digests.append(read_raw(folder_card(folders["3"], train=8, test=4)).sha256)
    assert len(set(digests)) == 4
    again = made.write(tmp_path / "elsewhere", files)
    assert read_raw(folder_card(again)).sha256 == digests[0]


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        ({"train": 8}, ("8 training and 3 test", "9 and 3", "new name")),
        ({"labels": 4}, ("4 labels from 0 to 3", "3 in the training set")),
        ({"labels": 2}, ("2 labels from 0 to 1", "3 in the training set")),
        ({"sha256": "0" * 64}, ("0" * 64,)),
    ],
)
def test_an_image_folder_that_is_not_as_its_card_says(
    tmp_path: Path, changes: dict[str, object], values: tuple[object, ...]
) -> None:
    (key,) = changes
    with refused(Code.DAMAGED_DATA, "'mine'", *values, kind=DamagedFile, file=tmp_path, key=key):
        read_raw(folder_card(made.write(tmp_path, made.folder_files()), **changes))


@pytest.mark.parametrize(
    ("extra", "file", "value"),
    [
        ({"train/ant/notes.txt": b"x"}, "train/ant/notes.txt", "notes.txt"),
        ({"train/ant/more/0.png": b"x"}, "train/ant/more", "more"),
        ({"train/0.png": b"x"}, "train/0.png", "0.png"),
        ({"test/dog/0.png": b"x"}, "train", "dog"),
        ({"train/dog/.hidden": b""}, "train/dog", "dog"),
    ],
)
def test_what_is_no_image_folder(tmp_path: Path, extra: dict[str, bytes], file: str, value: str) -> None:
    with refused(Code.DAMAGED_DATA, (tmp_path / file).parent, value, kind=DamagedFile, file=tmp_path / file):
        read_raw(folder_card(made.write(tmp_path, made.folder_files() | extra)))


def test_an_image_folder_without_a_part(tmp_path: Path) -> None:
    files = {name: content for name, content in made.folder_files().items() if name.startswith("train/")}
    values = (tmp_path / "test", "train/LABEL/*")
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=tmp_path / "test"):
        read_raw(folder_card(made.write(tmp_path, files)))


def test_an_image_folder_that_is_not_here(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    values = ("'mine'", "train/", "test/", "val/", nowhere, "`folder`")
    with refused(Code.MISSING_DATA, *values, kind=MissingData, file=nowhere, key="folder"):
        read_raw(folder_card(nowhere))


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        made.image_bytes(300, 300, seed=1)[:5000],
        made.image_bytes(300, 300, seed=1, form="JPEG")[:5000],
    ],
)
def test_an_image_that_cannot_be_decoded(tmp_path: Path, content: bytes) -> None:
    raw = read_raw(folder_card(made.write(tmp_path, made.folder_files() | {"train/bee/0.png": content})))
    file = tmp_path / "train/bee/0.png"
    with refused(Code.DAMAGED_DATA, file, kind=DamagedFile, file=file):
        raw.train.image(3)


def test_an_image_of_sixteen_bits_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 20), 40_000, dtype=np.uint16)).save(file, "PNG")
    raw = read_raw(folder_card(made.write(tmp_path, made.folder_files() | {"train/bee/0.png": file.getvalue()})))
    image = tmp_path / "train/bee/0.png"
    with refused(Code.DAMAGED_DATA, image, "8 bits", kind=DamagedFile, file=image):
        raw.train.image(3)


# --- cards ---


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"folder": ""}, "at least 1 character"),
        ({"folder": None}, "a folder for image folders only; 'mine' has none"),
        ({"format": "idx"}, "a folder for image folders only; 'mine' has /mine"),
        ({"mean": (0.5,)}, "colour datasets to have 3 means and stds, one per channel; 'mine' has 1 and 3"),
        ({"colour": False}, "grey datasets to have 1 means and stds"),
        (
            {"files": ({"name": "a"},), "folder": None, "format": "idx"},
            "a sha256 or an md5 for each file; 'a' has neither",
        ),
    ],
)
def test_cards_that_cannot_be(changes: dict[str, object], says: str) -> None:
    fields = {"name": "mine", "train": 9, "test": 3, "labels": 3, "colour": True, "folder": "/mine"}
    with pytest.raises(ValueError, match=says):
        DatasetCard(**{"mean": (0.5,) * 3, "std": (0.25,) * 3, **fields, **changes})


def test_every_file_of_the_registry_can_be_held_against_its_digest() -> None:
    brought = ("digits", "imagenet", "stylized-imagenet", "cue-conflict")  # or part of scikit-learn
    for card in PACKAGED.datasets.values():
        assert bool(card.files) == bool(card.mirrors) == (card.files_of not in brought)
        for file in card.files + card.members:
            assert [len(digest or "") for digest in (file.sha256, file.md5)] in ([64, 32], [0, 32]), file.name
            assert file.size is not None or file in card.members


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fmnist", "kmnist", "svhn"])
def test_digests_of_the_registry_are_torchvision_s(name: str) -> None:
    card, theirs = PACKAGED.dataset(name), torchvision.datasets
    md5 = {file.name.split("/")[-1]: file.md5 for file in card.files + card.members}
    if name.startswith("cifar"):
        reader = {"cifar10": theirs.CIFAR10, "cifar100": theirs.CIFAR100}[name]
        assert md5 == dict([*reader.train_list, *reader.test_list, [reader.filename, reader.tgz_md5]])
    elif name == "svhn":
        assert md5 == {row[1]: row[2] for split, row in theirs.SVHN.split_list.items() if split != "extra"}
    else:
        readers = {"mnist": theirs.MNIST, "fmnist": theirs.FashionMNIST, "kmnist": theirs.KMNIST}
        assert md5 == dict(readers[name].resources)
