"""Fetching published source models from a mirror on loopback: damaged or wrong files, and the files left behind."""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData
from jobs.kinds.pretrain.check_source import expectation
from jobs.models.fetch import fetch_source
from jobs.models.fetched import Fetched
from jobs.models.weight_files import Standing, standing
from jobs.models.weights import SourceWeights, load_source
from jobs.paths import weights_directory
from tests.jobs.mirrors import Mirror, mirror
from tests.jobs.released import RunsCode, attacker_state, register, resnet_of, save_robustness
from tests.packaged import packaged_weights
from tests.support import refused


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


@pytest.fixture
def served() -> Iterator[Mirror]:
    with mirror() as server:
        yield server


def checkpoint(tensors: dict[str, Tensor], folder: Path) -> bytes:
    return save_robustness(folder / "made.pt", attacker_state(resnet_of(tensors))).read_bytes()


@pytest.fixture
def published(served: Mirror, weights: SourceWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """``tiny`` as published, with its digest known in advance."""
    data = checkpoint(weights.tensors, tmp_path)
    served.files["tiny.pt"] = data
    known(data, served, monkeypatch)
    return data


def known(data: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch, **release: Any) -> None:
    digest = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "known_from": "us"}
    register(monkeypatch, release={"urls": [f"{served.url}/tiny.pt"], **digest, **release})


def fetch(**options: Any) -> Fetched:
    return fetch_source("tiny", PACKAGED, lambda *_: None, **options)


def not_fetched(code: Code, *values: object, **options: Any) -> None:
    kind = MissingData if code is Code.NO_DOWNLOAD else DamagedFile
    with refused(code, *values, kind=kind, file=weights_directory() / "downloads" / "tiny" / "tiny.pt"):
        fetch(**options)
    assert left() == [], "nothing half-done is left"
    assert standing(PACKAGED.source("tiny")) is Standing.MISSING


def left() -> list[str]:
    files = weights_directory().rglob("*") if weights_directory().exists() else []
    return sorted(path.name for path in files if path.is_file() and path.suffix != ".lock")


def test_a_published_source(published: bytes, weights: SourceWeights, served: Mirror) -> None:
    seen: list[tuple[int, int | None]] = []
    found = fetch_source("tiny", PACKAGED, lambda here, total: seen.append((here, total)))
    assert seen[-1] == (len(published), len(published))
    assert (found.was_here, found.original_sha256) == (False, hashlib.sha256(published).hexdigest())
    assert found.known_beforehand == f"sha256 {found.original_sha256} (us)"
    assert all(torch.equal(packaged_weights("tiny").tensors[key], tensor) for key, tensor in weights.tensors.items())
    assert left() == ["tiny.json", "tiny.safetensors"], "the download is not kept twice"
    facts = json.loads((weights_directory() / "tiny.json").read_text(encoding="utf-8"))
    assert facts["original"]["url"] == f"{served.url}/tiny.pt"
    assert standing(PACKAGED.source("tiny")) is Standing.FETCHED


def test_what_is_here_is_not_fetched_again(published: bytes, served: Mirror) -> None:
    fetch()
    served.files.clear()
    asked = len(served.asked)
    assert fetch().was_here
    assert len(served.asked) == asked


def test_what_is_here_is_verified(published: bytes) -> None:
    path = fetch().path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    load_source.cache_clear()
    values = (path, hashlib.sha256(data).hexdigest())
    with refused(Code.DAMAGED_WEIGHTS, *values, kind=DamagedFile, file=path):
        fetch()
    load_source.cache_clear()
    assert not fetch(replace=True).was_here
    assert fetch().was_here


def test_a_mirror_is_asked_instead(published: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with mirror(files={"models/tiny.pt": published}) as other:
        register(
            monkeypatch, release={"sha256": hashlib.sha256(published).hexdigest(), "urls": ["http://127.0.0.1:9/x"]}
        )
        assert not fetch(mirror=f"{other.url}/models/").was_here


def test_a_download_that_breaks_is_continued(published: bytes, served: Mirror) -> None:
    served.cut_after, served.cut_only_once = 1000, True
    fetch()
    assert served.ranges_asked == [None, "bytes=1000-"]


def test_a_truncated_download(published: bytes, served: Mirror) -> None:
    """The connection closes at the cut: the received part is kept, and completed by the next call."""
    served.cut_after, served.ranges = 1000, False
    values = ("tiny.pt", served.url, "1,000", f"{len(published):,}")
    with refused(Code.NO_DOWNLOAD, *values, kind=MissingData):
        fetch()
    assert set(left()) <= {"tiny.pt.part"}
    assert standing(PACKAGED.source("tiny")) is Standing.MISSING
    served.cut_after = None
    assert not fetch().was_here


def test_a_truncated_file_whose_digest_nobody_knows(
    published: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror itself has half a file and reports that length, so that torch's reader detects the damage."""
    register(monkeypatch, release={"urls": [f"{served.url}/tiny.pt"]})
    served.files["tiny.pt"] = published[: len(published) // 2]
    not_fetched(Code.DAMAGED_WEIGHTS, "tiny.pt")


def test_a_wrong_checksum(published: bytes, served: Mirror) -> None:
    served.files["tiny.pt"] = published[:-1] + bytes([published[-1] ^ 1])
    digests = (hashlib.sha256(data).hexdigest() for data in (published, served.files["tiny.pt"]))
    not_fetched(Code.DAMAGED_DOWNLOAD, *digests)


@pytest.mark.parametrize("digits", [8, 20])
def test_a_digest_that_is_known_in_part(
    digits: int, published: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = hashlib.sha256(published).hexdigest()[:digits]
    known(published, served, monkeypatch, sha256=None, size=None, sha256_prefix=prefix)
    assert fetch().known_beforehand == f"sha256 {prefix} (us)"


def test_a_wrong_checksum_that_is_known_in_part(
    published: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(published, served, monkeypatch, sha256=None, sha256_prefix="0123abcd")
    not_fetched(Code.DAMAGED_DOWNLOAD, "tiny.pt", "0123abcd (us)", hashlib.sha256(published).hexdigest())


def test_a_swapped_file(
    published: bytes, served: Mirror, other_weights: SourceWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A valid checkpoint of another source is refused by a known digest, or by the one recorded at first use."""
    other = checkpoint(other_weights.tensors, tmp_path)
    served.files["tiny.pt"] = other
    not_fetched(Code.DAMAGED_DOWNLOAD, "tiny.pt", served.url)
    register(monkeypatch, release={"urls": [f"{served.url}/tiny.pt"]})
    served.files["tiny.pt"] = published
    fetch()
    known(other, served, monkeypatch)
    path = weights_directory() / "tiny.safetensors"
    digests = [hashlib.sha256(data).hexdigest() for data in (published, other)]
    with refused(Code.OTHER_DIGEST, path, *digests, "--replace", kind=InvalidRequest, file=path, key="--replace"):
        fetch()


def test_a_digest_that_nobody_knows_is_recorded(
    published: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, release={"urls": [f"{served.url}/tiny.pt"]})
    found = fetch()
    assert found.original_sha256 == hashlib.sha256(published).hexdigest()
    assert found.known_beforehand == "no digest was known: this file is trusted on first use"
    assert fetch().original_sha256 == found.original_sha256


@pytest.mark.parametrize("abandoned", ["downloads/tiny.pt", "downloads/tiny/tiny.pt"])
def test_a_file_that_nobody_can_verify_is_not_taken_for_the_published_one(
    abandoned: str,
    published: bytes,
    served: Mirror,
    other_weights: SourceWeights,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Its name is that of the published file. A process that was killed left it, or another source's file."""
    register(monkeypatch, release={"urls": [f"{served.url}/tiny.pt"]})
    path = weights_directory() / abandoned
    path.parent.mkdir(parents=True)
    path.write_bytes(checkpoint(other_weights.tensors, tmp_path))
    assert fetch().original_sha256 == hashlib.sha256(published).hexdigest()


def test_two_sources_whose_files_have_one_name(
    published: bytes, served: Mirror, other_weights: SourceWeights, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = checkpoint(other_weights.tensors, tmp_path)
    served.files["other/tiny.pt"] = other
    register(monkeypatch, release={"urls": [f"{served.url}/tiny.pt"]})
    register(monkeypatch, name="other", release={"urls": [f"{served.url}/other/tiny.pt"]})
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: fetch_source(name, PACKAGED, lambda *_: None), ["tiny", "other"]))
    assert [one.original_sha256 for one in found] == [hashlib.sha256(data).hexdigest() for data in (published, other)]


def test_a_pickle_that_runs_code(served: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"model": RunsCode(tmp_path / "it-ran")}, tmp_path / "evil.pt")
    served.files["tiny.pt"] = (tmp_path / "evil.pt").read_bytes()
    known(served.files["tiny.pt"], served, monkeypatch)
    not_fetched(Code.DAMAGED_WEIGHTS, "tiny.pt", f"{os.system.__module__}.system")
    assert not (tmp_path / "it-ran").exists()


def test_a_checkpoint_of_another_architecture(served: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import resnet18

    file = save_robustness(tmp_path / "r18.pt", attacker_state(resnet18(num_classes=10)))
    served.files["tiny.pt"] = file.read_bytes()
    known(served.files["tiny.pt"], served, monkeypatch)
    not_fetched(Code.DAMAGED_WEIGHTS, "resnet35-w8", "'tiny'")


def test_another_format(
    served: Mirror, weights: SourceWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a normalizer, nothing shows that it is the robust model."""
    torch.save(weights.tensors, tmp_path / "plain.pt")
    served.files["tiny.pt"] = (tmp_path / "plain.pt").read_bytes()
    register(monkeypatch, release={"urls": [f"{served.url}/tiny.pt"]})
    not_fetched(Code.DAMAGED_WEIGHTS, "robustness", "'tiny'", "torchvision")


def test_a_mirror_that_does_not_have_it(published: bytes, served: Mirror) -> None:
    not_fetched(Code.NO_DOWNLOAD, f"{served.url}/nowhere/tiny.pt", "HTTP 404", mirror=f"{served.url}/nowhere")


def test_of_two_that_fetch_at_once_one_downloads(published: bytes, served: Mirror) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: fetch(), range(2)))
    assert sorted(one.was_here for one in found) == [False, True]
    assert len(served.asked) == 1


def test_a_replacement_that_fails_leaves_what_was_here(published: bytes, served: Mirror) -> None:
    path = fetch().path
    before = path.read_bytes()
    served.files["tiny.pt"] = b"<html>"
    with refused(Code.DAMAGED_DOWNLOAD, kind=DamagedFile):
        fetch(replace=True)
    assert path.read_bytes() == before
    assert packaged_weights("tiny").sha256 == hashlib.sha256(before).hexdigest()


@pytest.mark.parametrize(
    ("name", "code", "value"),
    [
        ("fmnist_natural", Code.WRONG_VALUE, "'fmnist_natural'"),
        ("random_init", Code.WRONG_VALUE, "'random_init'"),
        ("pgd1_l2_eps3", Code.WRONG_VALUE, "deltasweep models train pgd1_l2_eps3 --out"),
        ("nat", Code.UNKNOWN_NAME, "'nat'"),
    ],
)
def test_sources_that_nobody_publishes(name: str, code: Code, value: str) -> None:
    with refused(code, value, kind=InvalidRequest, key="source"):
        fetch_source(name, PACKAGED, lambda *_: None)


def test_another_study_s_source_of_the_name_is_not_taken_for_it(
    published: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no digest is known, the sources are distinguished by file name."""
    register(monkeypatch, release={"urls": [f"{served.url}/tiny.pt"]})
    path = fetch().path
    served.files["other.pt"] = published
    register(monkeypatch, release={"file": "other.pt", "urls": [f"{served.url}/other.pt"]})
    with refused(Code.OTHER_DIGEST, "tiny.pt", "other.pt", kind=InvalidRequest, file=path, key="--replace"):
        fetch()
    assert not fetch(replace=True).was_here


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"5",
        b"null",
        b"{}",
        b'{"sha256": 5}',
        b'{"sha256": "0", "original": "tiny.pt"}',
        b'{"sha256": "0", "original": {"sha256": [], "known_beforehand": "us"}}',
        b'{"sha256": "0", "clean_accuracy": "high"}',
        b'{"sha256": "0", "clean_accuracy": NaN}',
        b'{"sha256": "0", "adversarial_accuracy": {"l2": 3}}',
        b'{"sha256": "0", "adversarial_accuracy": [{"constraint": "l7"}]}',
        b"[" * 100_000,
        b'{"sha256": ' * 100_000,
        b'{"sha256": "\xff"}',
        b'{"sha256": "0", "more": "' + b"x" * 10_000_000 + b'"}',
    ],
    ids=lambda text: text[:50].decode("latin1"),
)
def test_a_card_of_another_kind_is_one_error(published: bytes, text: bytes) -> None:
    card = fetch().path.with_suffix(".json")
    card.write_bytes(text)
    load_source.cache_clear()
    for look in (
        fetch,
        lambda: standing(PACKAGED.source("tiny")),
        lambda: packaged_weights("tiny"),
        lambda: expectation(PACKAGED.source("tiny")),
    ):
        with refused(Code.DAMAGED_RECORD, card, kind=DamagedFile, file=card):
            look()
