"""CIFAR's batches: the same numbers as torchvision's reader, and no pickle that executes code."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from jobs.data import cifar
from jobs.data.raw import RawPart
from jobs.data.readers import read_raw
from jobs.errors import Code, DamagedFile, MissingData
from tests.jobs.data import made
from tests.support import refused


@pytest.fixture(params=["cifar10", "cifar100"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def card_of(monkeypatch: pytest.MonkeyPatch, name: str, members: dict[str, bytes]) -> Any:
    return made.use(monkeypatch, name, train=6, test=4, members=made.known(members))


@pytest.mark.filterwarnings("ignore:dtype:")  # a numpy warning about how the original batches name the byte type
def test_same_images_and_labels_as_torchvision(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = made.cifar_members(name)
    raw = read_raw(card_of(monkeypatch, name, members), made.write(tmp_path, members))
    reader = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[name]
    monkeypatch.setattr(reader, "_check_integrity", lambda self: True)
    monkeypatch.setattr(reader, "_load_meta", lambda self: None)
    for part, train in ((raw.train, True), (raw.test, False)):
        assert isinstance(part, RawPart)
        theirs = reader(tmp_path, train=train)
        assert np.array_equal(part.images_NHWC, theirs.data)
        assert part.labels_N.tolist() == theirs.targets
        assert part.image(0).tobytes() == theirs[0][0].tobytes()


class RunsCode:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused_even_with_its_own_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    members = made.cifar_members("cifar10")
    trace = tmp_path / "it ran"
    evil = {"data": RunsCode(trace), "labels": [0]}
    members["cifar-10-batches-py/data_batch_3"] = pickle.dumps(evil, protocol)
    card = card_of(monkeypatch, "cifar10", members)
    file = tmp_path / "cifar-10-batches-py/data_batch_3"
    with refused(Code.DAMAGED_DATA, file, "it refers to ", kind=DamagedFile, file=file):
        read_raw(card, made.write(tmp_path, members))
    assert not trace.exists()
    pickle.loads(members["cifar-10-batches-py/data_batch_3"])
    assert trace.exists(), "the pickle of this test must run code where nothing refuses it"


def test_a_swapped_batch_is_named_before_it_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = made.cifar_members("cifar10")
    card = card_of(monkeypatch, "cifar10", members)
    folder = made.write(tmp_path, members | {"cifar-10-batches-py/test_batch": b"no pickle at all"})
    file = folder / "cifar-10-batches-py/test_batch"
    with refused(Code.DAMAGED_DATA, file, "should have", kind=DamagedFile, file=file):
        read_raw(card, folder)


def test_a_missing_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = made.cifar_members("cifar10")
    card = card_of(monkeypatch, "cifar10", members)
    del members["cifar-10-batches-py/data_batch_5"]
    file = tmp_path / "cifar-10-batches-py/data_batch_5"
    with refused(Code.MISSING_DATA, file, kind=MissingData, file=file):
        read_raw(card, made.write(tmp_path, members))


ROWS = made.random_images(6, 3072)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (pickle.dumps([1, 2]), "`data`"),
        (made.python2_pickle({"data": ROWS}), "`data`"),
        (made.python2_pickle({"data": ROWS, "labels": [0] * 5}), "`data`"),
        (made.python2_pickle({"data": ROWS[:, :9], "labels": [0] * 6}), "`data`"),
        (made.python2_pickle({"data": ROWS, "labels": ["0"] * 6}), "`data`"),
        (made.python2_pickle({"data": ROWS.astype(np.float32), "labels": [0] * 6}), "'f4'"),
        (made.python2_pickle({"data": ROWS.astype(object), "labels": [0] * 6}), "'O8'"),
        (made.python2_pickle({"data": ROWS, "labels": [0] * 6})[:-9], ""),
        (b"", ""),
        (b"<html>", ""),
    ],
)
def test_other_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, value: str) -> None:
    members = made.cifar_members("cifar100") | {"cifar-100-python/train": content}
    file = tmp_path / "cifar-100-python/train"
    with refused(Code.DAMAGED_DATA, file, value, kind=DamagedFile, file=file):
        read_raw(card_of(monkeypatch, "cifar100", members), made.write(tmp_path, members))


def test_an_array_that_begins_with_a_size_takes_no_memory(tmp_path: Path) -> None:
    """NumPy pickles an empty array and then its contents; a file of a few bytes could ask for any amount."""
    batch = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000\nI3072\ntS'b'\ntR."
    (tmp_path / "batch").write_bytes(batch)
    with refused(Code.DAMAGED_DATA, "begins with the shape (1000000000, 3072)", kind=DamagedFile):
        cifar._read_batch(tmp_path / "batch")
