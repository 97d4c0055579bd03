"""Resizing as in the paper's code, and the files that contain resized images."""

import errno
import gzip
import hashlib
import multiprocessing
import os
import re
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision import transforms

from jobs.data import array_cache
from jobs.data import resize as module
from jobs.data.datasets import cached_dataset
from jobs.data.raw import MOST_ASPECT, FolderPart, RawPart
from jobs.data.resize import resized
from jobs.errors import Code, DamagedFile, InvalidRequest, StorageFailure
from jobs.kinds.finetune.trial import Finetuning
from jobs.system.memory import Memory
from tests.jobs.data import made
from tests.jobs.support import CPU, damage, finetune_spec, make_weights, numbers
from tests.machine import with_dev_full
from tests.packaged import packaged_dataset
from tests.support import refused


def grey(count: int = 5, side: int = 28, seed: int = 0) -> RawPart:
    return RawPart(made.random_images(count, side, side, 1, seed=seed), np.zeros(count, np.int64))


def colour(count: int = 5, side: int = 32) -> RawPart:
    return RawPart(made.random_images(count, side, side, 3), np.zeros(count, np.int64))


def files() -> list[Path]:
    directory = module._directory()
    return sorted(path for path in directory.iterdir() if path.suffix != ".lock") if directory.is_dir() else []


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every dataset as too large for memory."""
    monkeypatch.setattr(module, "_IN_MEMORY_BYTES", 0)


def pixels(images: module.Images) -> npt.NDArray[np.uint8]:
    return images[:].numpy()


# --- the bytes ---


def test_digits_at_32_pixels() -> None:
    """Golden bytes, equal to torchvision's AVX2 resizing of byte tensors, which DeltaSweep used at first."""
    images_NCHW = packaged_dataset("digits", 32).train.images_NCHW
    digest = hashlib.sha256(images_NCHW[:].numpy().tobytes()).hexdigest()
    assert digest.startswith("bc9d04449017c3b9")


@pytest.mark.parametrize("part", [grey(), colour(), grey(side=64), colour(side=100)])
@pytest.mark.parametrize("size", [32, 224])
def test_square_images_are_resized_as_torchvision_resizes_pil_images(part: RawPart, size: int) -> None:
    released = transforms.Resize(size)
    expected = [np.atleast_3d(np.asarray(released(part.image(i)))).transpose(2, 0, 1) for i in range(5)]
    assert np.array_equal(pixels(resized(part, size, "x")), np.stack(expected))


def test_other_images_are_resized_by_their_shorter_side_and_cut_to_the_centre(tmp_path: Path) -> None:
    sizes = [(300, 200), (200, 300), (31, 400), (224, 225), (224, 224)]
    images = {f"{i}.png": made.image_bytes(*size, seed=i) for i, size in enumerate(sizes)}
    folder = made.write(tmp_path, images)
    part = FolderPart(tuple(folder / name for name in images), np.zeros(5, np.int64), colour=True)
    released = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(64)])
    expected = [np.asarray(released(Image.open(path))).transpose(2, 0, 1) for path in part.paths]
    assert np.array_equal(pixels(resized(part, 64, "x")), np.stack(expected))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("short", [1, 2, 7, 33, 64])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size", [32, 63])
def test_lines_have_the_centres_of_their_whole_enlargement(
    mode: str, short: int, turned: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 10_000)
    released = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    for long in range(MOST_ASPECT * short, MOST_ASPECT * short + 3 * short + 3, 1 + short * 2 // 3):
        pixels_HWC = made.random_images(1, short, long, 3, seed=long)[0]
        whole = Image.fromarray(pixels_HWC.transpose(1, 0, 2) if turned else pixels_HWC).convert(mode)
        assert np.array_equal(np.asarray(module.resize(whole, size)), np.asarray(released(whole)))


@pytest.mark.parametrize("shape", [(20_000, 1), (1, 20_000)])
def test_a_line_takes_no_gigabytes(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, before = [], Image.Image.resize

    def spy(image: Image.Image, size: tuple[int, int], *how: Any) -> Image.Image:
        sizes.append(size[0] * size[1])
        return before(image, size, *how)

    monkeypatch.setattr(Image.Image, "resize", spy)
    assert module.resize(Image.new("RGB", shape, (7, 8, 9)), 32).getcolors() == [(32 * 32, (7, 8, 9))]
    assert max(sizes) <= module._AT_ONCE


def test_images_of_the_size_asked_for_are_left_alone() -> None:
    part = colour()
    assert np.array_equal(pixels(resized(part, 32, "x")), part.images_NHWC.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("part", [grey(1100), colour(1100)])
@pytest.mark.usefixtures("on_disk")
def test_in_memory_and_on_disk_are_the_same(part: RawPart, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = resized(part, 40, "x")
    assert len(files()) == 1
    monkeypatch.setattr(module, "_IN_MEMORY_BYTES", 1 << 30)
    assert np.array_equal(pixels(stored), pixels(resized(part, 40, "x")))


# --- the files ---


def test_few_images_make_no_files() -> None:
    cached_dataset.cache_clear()
    packaged_dataset("digits", 32)
    assert files() == []


@pytest.mark.usefixtures("on_disk")
def test_a_file_is_written_once_and_read_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pixels(resized(grey(), 32, "x"))
    monkeypatch.setattr(module, "resize", lambda *_: pytest.fail("resized again"))
    assert np.array_equal(pixels(resized(grey(), 32, "x")), first)


@pytest.mark.usefixtures("on_disk")
def test_other_content_size_and_shape_have_files_of_their_own() -> None:
    resized(grey(), 32, "x")
    assert not np.array_equal(pixels(resized(grey(seed=1), 32, "y")), pixels(resized(grey(), 32, "x")))
    assert resized(grey(), 40, "x").shape == (5, 1, 40, 40)
    assert len(files()) == 3


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"not numpy at all"])
@pytest.mark.usefixtures("on_disk")
def test_a_file_that_is_not_whole_is_written_again(damage: bytes) -> None:
    first = pixels(resized(grey(), 32, "x"))
    files()[0].write_bytes(damage)
    with pytest.warns(UserWarning, match=r"x-32px-.*\.npy is damaged"):
        assert np.array_equal(pixels(resized(grey(), 32, "x")), first)


@pytest.mark.usefixtures("on_disk")
def test_a_file_cut_off_is_written_again() -> None:
    first = pixels(resized(grey(), 32, "x"))
    files()[0].write_bytes(files()[0].read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"x-32px-.*\.npy is damaged"):
        assert np.array_equal(pixels(resized(grey(), 32, "x")), first)


@pytest.mark.usefixtures("on_disk")
def test_writing_to_a_tensor_does_not_reach_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    made.use(monkeypatch, "fmnist", train=6, test=4)
    folder = made.write(Path(os.environ["DELTASWEEP_HOME"]) / "data/fmnist", made.idx_files())
    assert folder.is_dir()
    cached_dataset.cache_clear()
    data = packaged_dataset("fmnist", 32)
    before = data.train.images_NCHW[:]
    data.train.images_NCHW[:].zero_()
    cached_dataset.cache_clear()
    assert len(files()) == 2
    assert torch.equal(packaged_dataset("fmnist", 32).train.images_NCHW[:], before)
    cached_dataset.cache_clear()


@pytest.mark.usefixtures("on_disk")
def test_an_image_that_cannot_be_decoded_leaves_no_file(tmp_path: Path) -> None:
    images = {"0.png": made.image_bytes(30, 30, seed=0), "1.png": made.image_bytes(30, 30, seed=1)[:200]}
    folder = made.write(tmp_path / "images", images)
    part = FolderPart(tuple(folder / name for name in images), np.zeros(2, np.int64), colour=True)
    with refused(Code.DAMAGED_DATA, folder / "1.png", kind=DamagedFile, file=folder / "1.png"):
        resized(part, 32, "x")
    assert files() == []


@pytest.mark.usefixtures("on_disk")
def test_a_disk_that_fails_while_images_are_decoded_is_no_failure_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.write(tmp_path / "images", {"0.png": made.image_bytes(30, 30, seed=0)})
    part = FolderPart((folder / "0.png",), np.zeros(1, np.int64), colour=True)

    def fails(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("jobs.data.raw.open_file", fails)
    monkeypatch.setattr("jobs.data.resize.machine_memory", lambda: Memory(1000, 10**12))
    with refused(Code.STORAGE, os.strerror(errno.EIO), kind=StorageFailure, file=folder / "0.png"):
        resized(part, 32, "x")
    assert files() == []


def _resize(home: str, both_ready: Barrier) -> str:
    os.environ["DELTASWEEP_HOME"] = home
    module._IN_MEMORY_BYTES = 0
    both_ready.wait(60)
    return hashlib.sha256(pixels(resized(grey(2000), 64, "x")).tobytes()).hexdigest()


def _resize_in_process(home: str, both_ready: Barrier, queue: "multiprocessing.Queue[str]") -> None:
    queue.put(_resize(home, both_ready))


@pytest.mark.usefixtures("on_disk")
def test_two_processes_at_once() -> None:
    """This process and another one."""
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[str] = context.Queue()
    home, both_ready = os.environ["DELTASWEEP_HOME"], context.Barrier(2)
    other = context.Process(target=_resize_in_process, args=(home, both_ready, queue))
    other.start()
    digests = {_resize(home, both_ready), queue.get(timeout=60)}
    other.join()
    expected = np.concatenate([module._resize_all(grey(2000), range(2000), 64)])
    assert digests == {hashlib.sha256(expected.tobytes()).hexdigest()}
    assert [path.suffix for path in files()] == [".npy"]


# --- bounds ---


@pytest.mark.usefixtures("on_disk")
def test_the_file_not_used_for_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 5 * 32 * 32
    monkeypatch.setenv("DELTASWEEP_CACHE_GB", str((2 * size + 1000) / 1e9))
    for age, key in enumerate(("a", "b")):
        resized(grey(), 32, key)
        path = next(path for path in files() if path.name.startswith(f"{key}-"))
        os.utime(path, (1000 + age, 1000 + age))
    resized(grey(), 32, "a")  # used again
    resized(grey(), 32, "c")
    assert [path.name[0] for path in files()] == ["a", "c"]


@pytest.mark.usefixtures("on_disk")
def test_more_than_the_limit_is_held_in_memory_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    resized(grey(), 32, "kept")
    monkeypatch.setenv("DELTASWEEP_CACHE_GB", "0.000006")
    with pytest.warns(
        UserWarning, match=r"kept in memory, .* 45,090 bytes are needed, more than the limit \$DELTASWEEP_CACHE_GB"
    ):
        images = resized(grey(10), 67, "x")
    assert images.shape == (10, 1, 67, 67)
    assert [path.name.split("-")[0] for path in files()] == ["kept"]


@pytest.mark.usefixtures("on_disk")
def test_a_limit_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASWEEP_CACHE_GB", "much")
    variable = "$DELTASWEEP_CACHE_GB"
    with refused(Code.WRONG_VALUE, variable, "'much'", kind=InvalidRequest, key=variable):
        resized(grey(), 32, "x")


@pytest.mark.usefixtures("on_disk")
def test_images_that_fit_nowhere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet at 224 pixels is 193 GB: loading it into memory without a check would crash the process."""
    monkeypatch.setenv("DELTASWEEP_CACHE_GB", "0.000001")
    monkeypatch.setattr("jobs.data.resize.machine_memory", lambda: Memory(1000, 10**12))
    variable, place = "$DELTASWEEP_CACHE_GB", module._directory()
    values = ("my-set", "0 GB", place, variable, "$DELTASWEEP_HOME")
    with refused(Code.STORAGE, *values, kind=StorageFailure, file=place, key=variable):
        resized(grey(), 32, "my-set-0123456789abcdef-train")


@pytest.mark.usefixtures("on_disk")
def test_a_home_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"resized images are kept in memory, because .* cannot be used"):
        images = resized(grey(), 32, "x")
    assert np.array_equal(pixels(images), module._resize_all(grey(), range(5), 32))


@pytest.mark.usefixtures("on_disk")
def test_a_home_that_cannot_be_written_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pixels(resized(grey(), 32, "x"))
    monkeypatch.setattr(array_cache, "FileLock", lambda path: pytest.fail(f"{path} is not to be written"))
    monkeypatch.setattr(os, "utime", lambda path, ns: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert np.array_equal(pixels(resized(grey(), 32, "x")), first)


@with_dev_full
@pytest.mark.usefixtures("on_disk")
def test_a_disk_that_fills_up_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        images = resized(grey(), 32, "x")
    assert np.array_equal(pixels(images), module._resize_all(grey(), range(5), 32))
    assert files() == []


@pytest.mark.usefixtures("on_disk")
def test_images_are_read_again_from_their_files_when_what_was_resized_is_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are not kept in memory beside the resized images."""
    made.use(monkeypatch, "fmnist", train=6, test=4)
    made.write(Path(os.environ["DELTASWEEP_HOME"]) / "data/fmnist", made.idx_files())
    cached_dataset.cache_clear()
    data = packaged_dataset("fmnist", 32)
    before = [part.images_NCHW[:] for part in (data.train, data.test)]
    for path in files():
        damage(path, -100)
    for part, images_NCHW in zip((data.train, data.test), before, strict=True):
        with pytest.warns(UserWarning, match=r"fmnist-.*\.npy is damaged"):
            assert torch.equal(part.images_NCHW[torch.arange(len(images_NCHW))], images_NCHW)
    cached_dataset.cache_clear()


@pytest.mark.usefixtures("on_disk")
def test_images_that_have_changed_are_not_resized_under_the_digest_of_the_original_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made.use(monkeypatch, "fmnist", train=6, test=4)
    folder = made.write(Path(os.environ["DELTASWEEP_HOME"]) / "data/fmnist", made.idx_files())
    cached_dataset.cache_clear()
    data = packaged_dataset("fmnist", 32)
    other = made.idx_bytes(made.random_images(6, 28, 28, seed=9))
    made.write(folder, {"train-images-idx3-ubyte.gz": gzip.compress(other)})
    for path in files():
        damage(path, -100)
    for part in (data.train, data.test):
        with (
            pytest.warns(UserWarning, match="is damaged"),
            refused(Code.DAMAGED_DATA, "'fmnist'", data.sha256, kind=DamagedFile, file=folder, key="sha256"),
        ):
            part.images_NCHW[:]
    assert files() == []
    cached_dataset.cache_clear()


@pytest.mark.usefixtures("on_disk")
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_bit_that_flips_in_the_middle_of_a_trial_changes_no_number(part: str) -> None:
    """For any flipped bit, even though the trial's process has read the file before."""
    cached_dataset.cache_clear()
    trials = [
        Finetuning(finetune_spec(dataset="digits", epochs=2), weights, packaged_dataset("digits", 32), CPU)
        for weights in [make_weights(seed=1)] * 2
    ]
    trials[0].advance()
    trials[1].advance(lambda: trials[1].epoch == 2)
    (path,) = [path for path in files() if f"-{part}-" in path.name]
    with path.open("r+b") as file:
        content = bytearray(file.read())
        content[256 : -(1 << 14)] = bytes(byte ^ 64 for byte in content[256 : -(1 << 14)])
        file.seek(0)
        file.write(content)
    with pytest.warns(UserWarning, match=f"{re.escape(path.name)} is damaged"):
        trials[1].advance()
    assert numbers(trials[1]) == numbers(trials[0])
    cached_dataset.cache_clear()
