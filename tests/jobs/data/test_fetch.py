"""Fetching from a mirror on loopback: every dataset in its real format, with no partial files left."""

import errno
import gzip
import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from filelock import FileLock, Timeout

from jobs.catalog.catalog import PACKAGED, packaged_datasets
from jobs.catalog.dataset_card import DatasetCard
from jobs.data.datasets import cached_dataset
from jobs.data.fetch import fetch
from jobs.data.locate import find, own_directory
from jobs.data.manifest import record_fetched
from jobs.data.readers import read_raw
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData, StorageFailure
from jobs.kinds.finetune.trial import Finetuning
from jobs.results import LocalStore
from tests.jobs.data import made
from tests.jobs.mirrors import Mirror, mirror
from tests.jobs.support import CPU, finetune_spec
from tests.support import refused

FETCHED = ["cifar10", "cifar100", "svhn", "fmnist", "kmnist", "mnist", "caltech101"]


@pytest.fixture(autouse=True)
def _nothing_of_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.data.locate._DEBIAN", {})


def serve(server: Mirror, name: str, files: dict[str, bytes]) -> str:
    server.files.update({f"{name}/{file}": content for file, content in files.items()})
    return server.url


def get(name: str, server: Mirror) -> Path:
    place = fetch(PACKAGED.dataset(name), server.url, made.silent)
    assert place is not None
    return place


def left_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.suffix != ".lock"}


@pytest.mark.parametrize("name", FETCHED)
def test_fetch_then_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, name)
    card = PACKAGED.dataset(name)
    with refused(Code.MISSING_DATA, f"'{name}'", kind=MissingData, file=own_directory(card)):
        read_raw(card)
    with mirror() as server:
        serve(server, name, files)
        place = get(name, server)
        assert len(server.asked) == len(files)
        get(name, server)
        assert len(server.asked) == len(files), "what is here and verified is not downloaded again"
    assert place == own_directory(card) == find(card)
    raw = read_raw(card)
    assert (len(raw.train.labels_N), len(raw.test.labels_N)) == (card.train, card.test)
    record = json.loads((place / "fetched.json").read_text())
    assert record["sha256"] == raw.sha256
    folders = {member.name.split("/")[0] for member in card.members} or {"101_ObjectCategories"} & left_in(place)
    assert left_in(place) == set(files) | folders | {"fetched.json"}


def test_the_mirrors_of_the_card_are_asked_where_no_other_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, "kmnist")
    with mirror() as broken, mirror(files=dict(files)) as server:
        card = PACKAGED.dataset("kmnist").model_copy(update={"mirrors": (broken.url, server.url)})
        fetch(card, None, made.silent)
    assert len(broken.asked) == len(server.asked) == 4


@pytest.mark.parametrize("name", FETCHED)
def test_the_data_directory_of_another_machine_is_a_mirror(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = made.downloads(monkeypatch, name)
    with mirror() as server:
        serve(server, name, files)
        there = get(name, server)
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "another"))
    assert find(PACKAGED.dataset(name)) is None
    here = fetch(PACKAGED.dataset(name), there.parent.as_uri(), made.silent)
    assert here == tmp_path / "another" / "data" / name
    assert read_raw(PACKAGED.dataset(name)).sha256 == json.loads((there / "fetched.json").read_text())["sha256"]


def test_progress_is_told_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, "kmnist")
    told: dict[str, tuple[int, int | None]] = {}
    with mirror() as server:
        serve(server, "kmnist", files)
        fetch(PACKAGED.dataset("kmnist"), server.url, lambda name: lambda *now: told.__setitem__(name, now))
    assert told == {name: (len(content), len(content)) for name, content in files.items()}


def test_digits_need_no_fetch() -> None:
    assert fetch(PACKAGED.dataset("digits"), "http://127.0.0.1:9", made.silent) is None


@pytest.mark.parametrize("name", FETCHED)
def test_a_truncated_download_leaves_nothing_to_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, name)
    with mirror(cut_after=10) as server:
        serve(server, name, files)
        place = own_directory(PACKAGED.dataset(name))
        with refused(Code.NO_DOWNLOAD, next(iter(files)), place, server.url, kind=MissingData):
            get(name, server)
        assert find(PACKAGED.dataset(name)) is None
        assert all(path.endswith(".part") for path in left_in(own_directory(PACKAGED.dataset(name))))
        server.cut_after = None
        get(name, server)
    assert any(range_ for range_ in server.ranges_asked), "what had come is continued"


@pytest.mark.parametrize("name", FETCHED)
def test_another_file_than_the_card_knows_is_not_kept(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, name)
    with mirror() as server:
        serve(server, name, {file: content + b"x" for file, content in files.items()})
        first, size = next((file, len(content)) for file, content in files.items())
        values = (first, f"{size:,} bytes", f"{size + 1:,}", server.url)
        place = own_directory(PACKAGED.dataset(name)) / first
        with refused(Code.DAMAGED_DOWNLOAD, *values, kind=DamagedFile, file=place):
            get(name, server)
    assert left_in(own_directory(PACKAGED.dataset(name))) == set()


@pytest.mark.parametrize("name", FETCHED)
def test_a_swapped_file_is_named_and_fetched_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, name)
    card = PACKAGED.dataset(name)
    with mirror() as server:
        serve(server, name, files)
        place = get(name, server)
        before = read_raw(card).sha256
        swapped = _swap(name, place)
        with refused(Code.DAMAGED_DATA, swapped, kind=DamagedFile):
            read_raw(card)
        get(name, server)
    assert read_raw(card).sha256 == before


def _swap(name: str, place: Path) -> str:
    """Replace the fetched images by other valid ones of the same number."""
    if name == "caltech101":
        other = made.image_bytes(30, 30, seed=7, form="JPEG")
        made.write(place, {"101_ObjectCategories/label_2/image_0003.jpg": other})
        return "label_2/image_0003.jpg"
    if name.startswith("cifar"):
        member = PACKAGED.dataset(name).members[-1].name
        made.write(place, {member: made.cifar_batch(4, 99, "labels" if name == "cifar10" else "fine_labels")})
        return member.split("/")[-1]
    if name == "svhn":
        file = made.svhn_files()["test_32x32.mat"]
        made.write(place, {"test_32x32.mat": file[:-9] + bytes(9)})
        return "test_32x32.mat"
    images = made.random_images(4, 28, 28, seed=99)
    made.write(place, {"t10k-images-idx3-ubyte.gz": gzip.compress(made.idx_bytes(images))})
    return "t10k-images-idx3-ubyte.gz"


def test_an_image_deleted_or_added_after_the_fetch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of images is unchanged, so only the digest shows the difference."""
    files = made.downloads(monkeypatch, "caltech101")
    with mirror() as server:
        serve(server, "caltech101", files)
        place = get("caltech101", server) / "101_ObjectCategories/label_0"
    (place / "image_0019.jpg").rename(place / "image_0099.jpg")
    values = ("label_0/image_0019.jpg", "label_0/image_0099.jpg", "deltasweep data fetch caltech101")
    with refused(Code.DAMAGED_DATA, *values, kind=DamagedFile, file=own_directory(PACKAGED.dataset("caltech101"))):
        read_raw(PACKAGED.dataset("caltech101"))


def test_no_other_process_changes_the_files_while_they_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, "mnist")
    place = made.write(own_directory(PACKAGED.dataset("mnist")), files)
    recorded: list[Path] = []

    def record(card: DatasetCard, directory: Path, sha256: str) -> None:
        with pytest.raises(Timeout), FileLock(directory / "extract.lock", timeout=0):
            pass
        record_fetched(card, directory, sha256)
        recorded.append(directory)

    monkeypatch.setattr("jobs.data.fetch.record_fetched", record)
    with mirror() as server:
        get("mnist", server)
    assert recorded == [place]
    assert left_in(place) == {*files, "fetched.json"}


# --- archives ---


def archive_of(monkeypatch: pytest.MonkeyPatch, name: str, archive: bytes, **changes: object) -> dict[str, bytes]:
    files = {PACKAGED.dataset(name).files[0].name: archive}
    made.use(monkeypatch, name, files=made.known(files), **changes)
    return files


def not_extracted(name: str, files: dict[str, bytes], *values: object, member: str | None = None) -> None:
    """Require that extraction fails because the archive, or one of its members, is damaged."""
    place = own_directory(PACKAGED.dataset(name))
    with mirror() as server:
        serve(server, name, files)
        file = None if member else place / next(iter(files))
        with refused(Code.DAMAGED_DATA, member or file, *values, kind=DamagedFile, file=file):
            get(name, server)
    assert left_in(place) == set(files), "nothing half extracted"
    assert find(PACKAGED.dataset(name)) is None


def test_members_are_verified_after_extraction(monkeypatch: pytest.MonkeyPatch) -> None:
    members = made.cifar_members("cifar10")
    other = members | {"cifar-10-batches-py/test_batch": made.cifar_batch(4, 99, "labels")}
    files = archive_of(monkeypatch, "cifar10", made.tar_gz(other), members=made.known(members), train=6, test=4)
    not_extracted("cifar10", files, member="cifar-10-batches-py/test_batch")


@pytest.mark.parametrize("cut", [40, 400, 20_000])
def test_an_archive_that_is_cut_off_inside(monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    members = made.cifar_members("cifar100")
    archive = made.tar_gz(members)[:cut]
    files = archive_of(monkeypatch, "cifar100", archive, members=made.known(members), train=6, test=4)
    not_extracted("cifar100", files, "cifar-100-python.tar.gz")


def test_an_archive_without_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    members = made.cifar_members("cifar100")
    archive = made.tar_gz({"cifar-100-python/train": members["cifar-100-python/train"]})
    files = archive_of(monkeypatch, "cifar100", archive, members=made.known(members), train=6, test=4)
    not_extracted("cifar100", files, "cifar-100-python/test")


def test_caltech101_takes_images_only_and_nothing_outside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = {
        "../../evil.jpg": b"x",
        "101_ObjectCategories/../image_0001.jpg": b"x",
        "/tmp/101_ObjectCategories/label_0/image_0500.jpg": b"x",
        "101_ObjectCategories/label_0/notes.txt": b"x",
    }
    archive = made.caltech101_zip(odd | made.caltech101_files())
    files = archive_of(monkeypatch, "caltech101", archive, train=90, test=6)
    with mirror() as server:
        serve(server, "caltech101", files)
        place = get("caltech101", server)
    extracted = {path.relative_to(place).as_posix() for path in place.rglob("*.jpg")}
    assert extracted == set(made.caltech101_files())
    assert not list(tmp_path.rglob("evil.jpg"))


@pytest.mark.parametrize(
    "archive",
    [b"PK no zip", made.tar_gz({"a": b"b"}), made.caltech101_zip({})[:-30]],
    ids=["no archive", "another format", "cut off"],
)
def test_caltech101_in_another_archive(monkeypatch: pytest.MonkeyPatch, archive: bytes) -> None:
    files = archive_of(monkeypatch, "caltech101", archive, train=90, test=6)
    not_extracted("caltech101", files, "caltech-101.zip")


@pytest.mark.parametrize("name", ["cifar10", "caltech101"])
def test_a_disk_that_fills_up_while_extracting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, name)

    def full(source: object, target: BinaryIO) -> None:
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with mirror() as server, monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", full)
        serve(server, name, files)
        directory = own_directory(PACKAGED.dataset(name))
        with refused(Code.STORAGE, directory, "No space left on device", kind=StorageFailure, file=directory):
            get(name, server)
    assert left_in(directory) == set(files)
    assert find(PACKAGED.dataset(name)) is None
    get(name, server)  # the server has stopped; the local archive is enough


def test_what_a_killed_extraction_left_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, "cifar10")
    place = own_directory(PACKAGED.dataset("cifar10"))
    made.write(place / ".extracting-abc", {"cifar-10-batches-py/test_batch": b"half"})
    with mirror() as server:
        serve(server, "cifar10", files)
        get("cifar10", server)
    assert not list(place.glob(".extracting-*"))


# --- files placed by the user ---


def test_packed_files_that_are_there_already_are_verified_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, "mnist")
    place = made.write(own_directory(PACKAGED.dataset("mnist")), files)
    with mirror() as server:
        get("mnist", server)
    assert server.asked == []
    assert (place / "fetched.json").is_file()


def test_unpacked_files_that_nobody_can_verify_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, "mnist")
    images = made.idx_bytes(made.random_images(6, 28, 28, seed=50))
    place = made.write(own_directory(PACKAGED.dataset("mnist")), {"train-images-idx3-ubyte": images})
    with mirror() as server:
        serve(server, "mnist", files)
        file = place / "train-images-idx3-ubyte"
        with refused(Code.DAMAGED_DATA, file, "deltasweep data fetch mnist", kind=DamagedFile, file=file):
            get("mnist", server)
    assert not (place / "fetched.json").exists()


def test_a_record_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, "mnist")
    with mirror() as server:
        serve(server, "mnist", files)
        place = get("mnist", server)
    file = place / "fetched.json"
    file.write_text("{")
    with refused(Code.DAMAGED_RECORD, file, "deltasweep data fetch mnist", kind=DamagedFile, file=file):
        read_raw(PACKAGED.dataset("mnist"))


def test_the_content_s_digest_of_the_card_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fashion-MNIST: the files match their digests, but the images differ from those of the catalogue."""
    files = made.downloads(monkeypatch, "fmnist")
    card = PACKAGED.dataset("fmnist").model_copy(update={"sha256": hashlib.sha256().hexdigest()})
    monkeypatch.setitem(packaged_datasets(), "fmnist", card)
    with mirror() as server:
        serve(server, "fmnist", files)
        with refused(Code.DAMAGED_DATA, "'fmnist'", "e3b0c442", kind=DamagedFile, key="sha256"):
            get("fmnist", server)


def test_reading_is_of_what_was_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, "mnist")
    with mirror() as server:
        serve(server, "mnist", files)
        get("mnist", server)
    raw = read_raw(PACKAGED.dataset("mnist"))
    assert raw.test.image(2).tobytes() == made.random_images(4, 28, 28, seed=1)[2].tobytes()
    assert np.array_equal(raw.train.labels_N, np.arange(6) % made.LABELS)


@pytest.mark.parametrize("name", FETCHED)
def test_a_trial_runs_on_what_was_fetched_and_asks_no_mirror(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = made.downloads(monkeypatch, name)
    store, spec = LocalStore(tmp_path / "root"), finetune_spec(dataset=name, images=4, epochs=1)
    cached_dataset.cache_clear()
    with mirror() as server:
        serve(server, name, files)
        with refused(Code.MISSING_DATA, f"deltasweep data fetch {name}", kind=MissingData):
            Finetuning.open(store, spec, PACKAGED, CPU)
        assert server.asked == []
        get(name, server)
    trial = Finetuning.open(store, spec, PACKAGED, CPU)
    trial.advance()
    assert trial.done
    assert len(trial.data.test.labels_N) == PACKAGED.dataset(name).test
    cached_dataset.cache_clear()


# --- cards of strangers ---


@pytest.mark.parametrize("key", ["files", "members"])
def test_a_variant_does_not_replace_the_files_of_its_original(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made.downloads(monkeypatch, "mnist")
    with mirror() as server:
        serve(server, "mnist", files)
        place = get("mnist", server)
        before = {name: (place / name).read_bytes() for name in left_in(place)}
        other = {"train-images-idx3-ubyte": b"other", "fetched.json": b"other"}
        serve(server, "mnist", other)
        card = PACKAGED.dataset("mnist").model_copy(
            update={"name": "theirs", "of": "mnist", "train": 7, key: made.known(other)}
        )
        with refused(Code.WRONG_VALUE, "'theirs'", "of mnist", key, kind=InvalidRequest, key=key):
            fetch(card, server.url, made.silent)
    assert {name: (place / name).read_bytes() for name in left_in(place)} == before


@pytest.mark.parametrize("name", ["cifar10", "caltech101"])
def test_an_archive_that_would_fill_the_disk_is_not_unpacked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros take a thousandth of their size in an archive."""
    monkeypatch.setattr("jobs.data.fetch._MOST_UNPACKED", 100_000)
    if name == "cifar10":
        content = {"cifar-10-batches-py/data_batch_1": bytes(200_000)}
        files = archive_of(monkeypatch, name, made.tar_gz(content), members=made.known(content), train=6, test=4)
    else:
        content = {"101_ObjectCategories/ant/image_0001.jpg": bytes(200_000)}
        files = archive_of(monkeypatch, name, made.caltech101_zip(content))
    not_extracted(name, files, "100,000 bytes")
