"""Weights of torchvision and timm by name: what is fetched, the card that is printed, and what pins the file.

torchvision's own enumeration names a file of a server on loopback, and the hub's own library asks a hub on loopback.
"""

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
import torchvision.models
import yaml
from safetensors.torch import save
from torch import Tensor
from torchvision.models import ShuffleNet_V2_X1_0_Weights

from jobs.catalog.catalog import PACKAGED, Cards, Catalog, how_to_get
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, DamagedFile, DeltaSweepError, InvalidRequest, MissingData
from jobs.models.fetch import fetch_source
from jobs.models.fetch_published import card_text, fetch_by_name
from jobs.models.fetched import Fetched
from jobs.models.published import FileAtUrl, published_weights
from jobs.models.weight_files import Standing, read_card, standing, weights_path
from jobs.models.weights import load_source
from jobs.paths import weights_directory
from tests.jobs.hubs import Hub, hub
from tests.jobs.mirrors import Mirror, mirror
from tests.jobs.released import RunsCode
from tests.jobs.support import built, damage
from tests.support import present, refused

NAME = "torchvision:shufflenet_v2_x1_0.IMAGENET1K_V1"
TIMM = "timm:efficientnet_b0.ra_in1k"
REPOSITORY, COMMIT, LATER = "timm/efficientnet_b0.ra_in1k", "a" * 40, "b" * 40
TRUSTED = "no digest was known: this file is trusted on first use"


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


@pytest.fixture
def served() -> Iterator[Mirror]:
    with mirror() as server:
        yield server


@pytest.fixture(scope="module")
def shufflenet() -> dict[str, Tensor]:
    return dict(built("shufflenet_v2_x1_0", 1000).state_dict())


@pytest.fixture(scope="module")
def efficientnet() -> dict[str, Tensor]:
    return dict(built("timm.efficientnet_b0", 1000).state_dict())


def saved(tensors: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def publish(data: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch, digits: str | None = None) -> str:
    """Make torchvision's enumeration name this file of the server. Returns its name."""
    name = f"shufflenetv2_x1-{digits or sha256(data)[:10]}.pth"
    served.files[name] = data
    monkeypatch.setattr(ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1.value, "url", f"{served.url}/{name}")
    return name


@pytest.fixture
def published(shufflenet: dict[str, Tensor], served: Mirror, monkeypatch: pytest.MonkeyPatch) -> bytes:
    data = saved(shufflenet)
    publish(data, served, monkeypatch)
    return data


@pytest.fixture
def hosted(efficientnet: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        server.publish(REPOSITORY, COMMIT, "model.safetensors", save(efficientnet))
        yield server


def fetch(name: str, source: str | None = None, **options: Any) -> tuple[SourceCard, Fetched]:
    return fetch_by_name(name, source, PACKAGED, lambda *_: None, **options)


def again(card: SourceCard, **options: Any) -> Fetched:
    """Fetch by a study's card."""
    load_source.cache_clear()
    catalog = Catalog(Cards(sources={card.name: card}))
    return fetch_source(card.name, catalog, lambda *_: None, **options)


def left() -> list[str]:
    files = weights_directory().rglob("*") if weights_directory().exists() else []
    return sorted(path.name for path in files if path.is_file() and path.suffix != ".lock")


# --- torchvision ---


def test_weights_of_torchvision(published: bytes, shufflenet: dict[str, Tensor]) -> None:
    card, found = fetch(NAME)
    prefix = sha256(published)[:10]
    assert (found.was_here, found.original_sha256) == (False, sha256(published))
    assert found.known_beforehand == f"sha256 {prefix} (torchvision, in the file's name)"
    assert (card.name, card.architecture, card.trained_on) == (
        "shufflenet_v2_x1_0.imagenet1k_v1",
        "shufflenet_v2_x1_0",
        "imagenet",
    )
    assert (card.published, card.weights_sha256) == (NAME, sha256(published))
    assert (card.mean, card.std) == PACKAGED.dataset("imagenet").channel_statistics()
    assert present(card.expected).clean == 69.362
    assert card.constraint == "none"
    assert not card.carries_normalizer
    tensors = load_source(card).tensors
    assert tensors.keys() == shufflenet.keys()
    assert all(torch.equal(tensors[key], tensor) for key, tensor in shufflenet.items())
    assert left() == [f"{card.file_stem}.json", f"{card.file_stem}.safetensors"], "the download is not kept"
    assert standing(card) is Standing.FETCHED


def test_the_card_that_is_printed_is_the_card(published: bytes) -> None:
    card, _ = fetch(NAME, "mine")
    text = card_text([card])
    assert Cards.model_validate(yaml.safe_load(text)).sources == {"mine": card}
    assert [line.strip() for line in text.splitlines()[-2:]] == [
        f"published: {NAME}",
        f"weights_sha256: {sha256(published)}",
    ]


def test_by_the_name_or_the_card_it_is_fetched_once(published: bytes, served: Mirror) -> None:
    card, _ = fetch(NAME)
    other, found = fetch(NAME, "mine")
    assert found.was_here
    assert other == card.model_copy(update={"name": "mine"})
    assert again(other).was_here
    assert len(served.asked) == 1


def test_the_first_fetch_pins_the_file(published: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher replaces the file: a machine without it, which has the card, refuses the new one."""
    card, first = fetch(NAME)
    changed = saved({key: tensor + 1 for key, tensor in torch.load(io.BytesIO(published)).items()})
    publish(changed, served, monkeypatch)
    assert fetch(NAME)[1].original_sha256 == sha256(published), "what was fetched first stays"
    first.path.unlink()
    with refused(Code.DAMAGED_DOWNLOAD, sha256(published), sha256(changed), kind=DamagedFile):
        again(card)
    new, _ = fetch(NAME, replace=True)
    assert new.weights_sha256 == sha256(changed)
    assert weights_path(new) != weights_path(card)
    assert fetch(NAME)[0] == new


def test_a_card_gets_the_file_on_another_machine(published: bytes) -> None:
    card, found = fetch(NAME, "mine")
    before = found.path.read_bytes()
    found.path.unlink()
    found.path.with_suffix(".json").unlink()
    assert standing(card) is Standing.MISSING
    assert how_to_get(card) == "deltasweep models fetch mine --study STUDY"
    made = again(card)
    assert (made.was_here, made.known_beforehand) == (False, "sha256 as in the study")
    assert made.path.read_bytes() == before


def test_weights_that_are_here_are_verified(published: bytes) -> None:
    card, found = fetch(NAME)
    data = bytearray(found.path.read_bytes())
    data[-1] ^= 1
    found.path.write_bytes(bytes(data))
    for look in (lambda: again(card), lambda: fetch(NAME)):
        load_source.cache_clear()
        with refused(Code.DAMAGED_WEIGHTS, found.path, kind=DamagedFile, file=found.path):
            look()
    assert not again(card, replace=True).was_here
    assert again(card).was_here


def test_a_file_with_other_digits_than_its_name(
    shufflenet: dict[str, Tensor], served: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(shufflenet)
    name = publish(data, served, monkeypatch, digits="0123abcd")
    with refused(Code.DAMAGED_DOWNLOAD, name, "0123abcd", sha256(data), kind=DamagedFile):
        fetch(NAME)
    assert left() == []


def test_a_file_without_digits_in_its_name(published: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    served.files["weights.pth"] = published
    monkeypatch.setattr(ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1.value, "url", f"{served.url}/weights.pth")
    card, found = fetch(NAME)
    assert (found.known_beforehand, card.weights_sha256) == (TRUSTED, sha256(published))


def test_a_file_that_a_killed_process_left_is_not_taken_for_the_published_one(
    published: bytes, served: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.files["weights.pth"] = published
    monkeypatch.setattr(ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1.value, "url", f"{served.url}/weights.pth")
    for folder in ("downloads", f"downloads/{NAME.replace(':', '.')}"):
        path = weights_directory() / folder / "weights.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"another file")
    assert fetch(NAME)[0].weights_sha256 == sha256(published)


def test_a_mirror_is_asked_instead(published: bytes, served: Mirror) -> None:
    (name,) = served.files
    with mirror(files={f"models/{name}": published}) as other:
        card, _ = fetch(NAME, mirror=f"{other.url}/models/")
        assert present(read_card(weights_path(card)))["original"]["url"] == f"{other.url}/models/{name}"
    assert served.asked == []


def test_of_two_that_fetch_at_once_one_downloads(published: bytes, served: Mirror) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: fetch(NAME)[1], range(2)))
    assert sorted(one.was_here for one in found) == [False, True]
    assert len(served.asked) == 1


def test_a_pickle_that_runs_code(served: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(saved({"model": RunsCode(tmp_path / "it-ran")}), served, monkeypatch)
    with refused(Code.DAMAGED_WEIGHTS, kind=DamagedFile):
        fetch(NAME)
    assert not (tmp_path / "it-ran").exists()
    assert left() == []


def test_weights_of_another_network(
    shufflenet: dict[str, Tensor], served: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = dict(list(shufflenet.items())[:-1])
    publish(saved(some), served, monkeypatch)
    with refused(Code.DAMAGED_WEIGHTS, "fc.bias", kind=DamagedFile):
        fetch(NAME)
    assert left() == []


# --- names ---


@pytest.mark.parametrize(
    ("name", "code", "values"),
    [
        ("torchvision:shufflenet_v2_x1_0", Code.UNKNOWN_NAME, [NAME]),
        ("torchvision:resnet50.IMAGENET1K_V9", Code.UNKNOWN_NAME, ["torchvision:resnet50.IMAGENET1K_V2"]),
        ("torchvision:resnet51.IMAGENET1K_V1", Code.UNKNOWN_NAME, ["torchvision:resnet50"]),
        ("torchvision:fcn_resnet50.COCO_WITH_VOC_LABELS_V1", Code.UNKNOWN_NAME, ["a classification network"]),
        ("torchvision:regnet_y_400mf.IMAGENET1K_V2", Code.UNKNOWN_NAME, ["torchvision:resnet18", "models describe"]),
        ("timm:efficientnet_b0.nope", Code.UNKNOWN_NAME, [TIMM]),
        ("timm:efficientnet_b00", Code.UNKNOWN_NAME, ["timm:efficientnet_b0"]),
        ("timm:vit_small_patch16_224.dino", Code.WRONG_VALUE, ["a last layer"]),
        ("timm:../etc.passwd", Code.UNKNOWN_NAME, ["timm:vit_small_patch16_224"]),
        ("hub:resnet18", Code.UNKNOWN_NAME, ["torchvision:resnet18.IMAGENET1K_V1"]),
    ],
)
def test_names_that_cannot_be_fetched(name: str, code: Code, values: list[str]) -> None:
    with refused(code, *values, kind=InvalidRequest, key="NAME"):
        fetch(name)
    assert left() == []


def test_every_weights_of_torchvision_s_classification_networks_have_a_name() -> None:
    for network in torchvision.models.list_models(module=torchvision.models):
        for member in torchvision.models.get_model_weights(network).__members__:
            about = published_weights(f"torchvision:{network}.{member}")
            assert isinstance(about.file, FileAtUrl)
            assert about.file.name.startswith(f"{about.file.name.rpartition('-')[0]}-{about.file.sha256_prefix}.")
            assert made(published=about.name, expected=about.expected, mean=about.mean, std=about.std)


def test_every_weights_of_timm_s_packaged_networks_have_a_name_or_a_refusal() -> None:
    """Those without a last layer are refused; the tag of each is part of its complete name."""
    for name, architecture in PACKAGED.architectures.items():
        if not architecture.builder.startswith("timm:"):
            continue
        for tagged in timm.list_pretrained(f"{architecture.builder.removeprefix('timm:')}.*"):
            if not present(timm.get_pretrained_cfg(tagged)).num_classes:
                with refused(Code.WRONG_VALUE, tagged, kind=InvalidRequest, key="NAME"):
                    published_weights(f"timm:{tagged}")
                continue
            about = published_weights(f"timm:{tagged}")
            assert (about.name, about.builder) == (f"timm:{tagged}", architecture.builder), name
            assert (about.trained_on == "imagenet") == tagged.partition("_384")[0].endswith("in1k")


@pytest.mark.parametrize("source", ["natural", "Mine", "../mine", "-"])
def test_names_of_the_source_that_cannot_be(source: str, published: bytes, served: Mirror) -> None:
    with refused(Code.WRONG_NAME, repr(source), kind=InvalidRequest, key="--as"):
        fetch(NAME, source)
    assert served.asked == []


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with refused(Code.UNUSABLE_PACKAGE, TIMM, "pip install 'deltasweep[timm]'", kind=MissingData):
        fetch(TIMM)


# --- timm and the hub ---


def test_weights_of_timm(hosted: Hub, efficientnet: dict[str, Tensor]) -> None:
    card, found = fetch("timm:efficientnet_b0")
    data = hosted.files[f"{REPOSITORY}@{COMMIT}"]["model.safetensors"]
    about = present(timm.get_pretrained_cfg(TIMM.removeprefix("timm:")))
    assert (card.published, card.weights_sha256) == (f"{TIMM}@{COMMIT}", sha256(data))
    assert (card.name, card.architecture, card.trained_on) == (
        "efficientnet_b0.ra_in1k",
        "timm.efficientnet_b0",
        "imagenet",
    )
    assert (card.mean, card.std, card.licence) == (about.mean, about.std, f"{about.license} (timm)")
    assert card.expected is None, "timm's configuration has no accuracy"
    assert found.known_beforehand == f"sha256 {sha256(data)} (the hub)"
    tensors = load_source(card).tensors
    assert all(torch.equal(tensors[key], tensor) for key, tensor in efficientnet.items())
    facts = present(read_card(found.path))["original"]
    assert facts["url"] == f"{hosted.url}/{REPOSITORY}/resolve/{COMMIT}/model.safetensors"
    assert Cards.model_validate(yaml.safe_load(card_text([card]))).sources == {card.name: card}


def test_the_hub_s_cache_keeps_the_file(hosted: Hub, tmp_path: Path) -> None:
    card, found = fetch(TIMM)
    cached = list((tmp_path / "hub").rglob("model.safetensors"))
    assert len(cached) == 1
    found.path.unlink()
    hosted.asked.clear()
    assert not again(card).was_here
    assert hosted.asked == [], "a commit in the cache is not asked for"


def test_the_first_fetch_pins_the_commit(hosted: Hub, efficientnet: dict[str, Tensor], tmp_path: Path) -> None:
    card, found = fetch(TIMM)
    changed = save({key: tensor + 1 for key, tensor in efficientnet.items()})
    hosted.publish(REPOSITORY, LATER, "model.safetensors", changed)
    assert fetch(TIMM) == (card, found._replace(was_here=True))
    (tmp_path / "hub").rename(tmp_path / "elsewhere")
    found.path.unlink()
    assert again(card).original_sha256 == card.weights_sha256, "another machine gets the same commit"
    new, _ = fetch(TIMM, replace=True)
    assert (new.published, new.weights_sha256) == (f"{TIMM}@{LATER}", sha256(changed))
    assert fetch(f"{TIMM}@{COMMIT}")[0] == card
    assert fetch(TIMM)[0] == new


def test_a_commit_with_another_file_is_refused(hosted: Hub, efficientnet: dict[str, Tensor], tmp_path: Path) -> None:
    card, found = fetch(TIMM)
    found.path.unlink()
    (tmp_path / "hub").rename(tmp_path / "elsewhere")
    changed = save({key: tensor + 1 for key, tensor in efficientnet.items()})
    hosted.publish(REPOSITORY, COMMIT, "model.safetensors", changed)
    with refused(Code.OTHER_DIGEST, str(card.weights_sha256), sha256(changed), kind=MissingData):
        again(card)


def test_a_file_that_is_not_the_one_that_the_hub_announced(hosted: Hub) -> None:
    hosted.announced = "0" * 64
    data = hosted.files[f"{REPOSITORY}@{COMMIT}"]["model.safetensors"]
    with refused(Code.DAMAGED_DOWNLOAD, "0" * 64, sha256(data), kind=DamagedFile):
        fetch(TIMM)
    assert left() == []


def test_a_damaged_file_in_the_hub_s_cache(hosted: Hub, tmp_path: Path) -> None:
    """Without all the files that the message names, the command downloads it again."""
    card, found = fetch(TIMM)
    found.path.unlink()
    (link,) = (tmp_path / "hub").rglob("model.safetensors")
    blob = link.resolve()
    assert blob != link
    damage(blob, -1)
    with refused(Code.DAMAGED_DOWNLOAD, link, blob, card.weights_sha256, kind=DamagedFile, file=link):
        again(card)
    for file in (link, blob):
        file.unlink()
    assert again(card).original_sha256 == card.weights_sha256


def test_a_file_that_repositories_of_the_hub_share(hosted: Hub, tmp_path: Path) -> None:
    """The hub's library can store a file under a digest of another sort, and link the repository's file to it."""
    card, found = fetch(TIMM)
    found.path.unlink()
    (link,) = (tmp_path / "hub").rglob("model.safetensors")
    blob, shared = link.resolve(), tmp_path / "hub" / "blobs" / ("5" * 64)
    shared.parent.mkdir()
    blob.rename(shared)
    blob.symlink_to(shared)
    assert again(card).original_sha256 == card.weights_sha256
    weights_path(card).unlink()
    damage(shared, -1)
    with refused(Code.DAMAGED_DOWNLOAD, link, blob, shared, kind=DamagedFile, file=link):
        again(card)


def test_a_repository_without_safetensors(hosted: Hub, efficientnet: dict[str, Tensor]) -> None:
    """The state dict is read without executing code, as every checkpoint."""
    hosted.publish(REPOSITORY, COMMIT, "pytorch_model.bin", saved(efficientnet))
    card, _ = fetch(TIMM)
    assert present(read_card(weights_path(card)))["original"]["file"] == "pytorch_model.bin"


def test_a_pickle_of_the_hub_that_runs_code(hosted: Hub, tmp_path: Path) -> None:
    hosted.publish(REPOSITORY, COMMIT, "pytorch_model.bin", saved({"model": RunsCode(tmp_path / "it-ran")}))
    with refused(Code.DAMAGED_WEIGHTS, kind=DamagedFile):
        fetch(TIMM)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    ("refusal", "values"),
    [
        ((403, "GatedRepo"), ["accept its terms", "hf auth login"]),
        ((404, "RepoNotFound"), ["no public repository", "hf auth login"]),
        ((401, "RepoNotFound"), ["no public repository", "hf auth login"]),
        ((404, "RevisionNotFound"), ["no commit", "after @"]),
        ((404, "EntryNotFound"), ["none of the files model.safetensors, pytorch_model.bin"]),
        ((403, ""), ["403", "HF_HUB_OFFLINE"]),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_what_the_hub_refuses(refusal: tuple[int, str], values: list[str], hosted: Hub) -> None:
    hosted.refused = refusal
    with refused(Code.NO_DOWNLOAD, TIMM, f"{hosted.url}/{REPOSITORY}", *values, kind=MissingData, key="NAME"):
        fetch(TIMM)
    assert left() == []


def test_without_a_network(hosted: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with refused(Code.NO_DOWNLOAD, TIMM, "HF_HUB_OFFLINE", huggingface_hub.constants.HF_HUB_CACHE, kind=MissingData):
        fetch(TIMM)
    assert hosted.asked == []


def test_without_a_network_the_hub_s_cache_suffices(hosted: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    card, found = fetch(TIMM)
    found.path.unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch(TIMM)[0] == card


def test_a_mirror_of_the_hub_is_set_for_its_library(hosted: Hub) -> None:
    with refused(Code.WRONG_VALUE, "HF_ENDPOINT", kind=InvalidRequest, key="--mirror"):
        fetch(TIMM, mirror="http://127.0.0.1:9")


# --- cards ---


def made(**changes: Any) -> SourceCard:
    card = {
        "name": "mine",
        "architecture": "resnet18",
        "trained_on": "imagenet",
        "constraint": "none",
        "epsilon": 0,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "published": NAME,
        "weights_sha256": "1" * 64,
    }
    return SourceCard.model_validate({**card, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights_sha256": None}, f"deltasweep models fetch {NAME}"),
        ({"published": None}, "exactly one of pretrain, release, weights, published and random"),
        ({"weights": "mine.pt"}, "mine has weights and published"),
        ({"random": True}, "mine has published and random"),
        ({"bundled": True}, "published or bundled"),
        ({"published": "resnet18"}, "published"),
        ({"published": "torchvision:resnet18"}, "published"),
        ({"published": "timm:../x"}, "published"),
        ({"published": f"timm:x.y@{'a' * 39}"}, "published"),
    ],
)
def test_cards_with_mistakes(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="validation error") as caught:
        made(**changes)
    assert words in str(caught.value)


def test_the_name_of_the_converted_file_depends_on_the_file_and_the_network() -> None:
    stems = {made().file_stem}
    for changes in ({"weights_sha256": "2" * 64}, {"architecture": "resnet50"}, {"trained_on": "digits"}):
        stems.add(made(**changes).file_stem)
    assert len(stems) == 4
    same = {"name": "other", "mean": [0.1, 0.1, 0.1], "licence": "CC0", "constraint": "l2", "epsilon": 1}
    assert made(**same).file_stem == made().file_stem


def test_every_name_of_timm_s_weights_on_the_hub_can_be_in_a_card() -> None:
    for name in timm.list_pretrained():
        assert made(published=f"timm:{name}@{COMMIT}").published == f"timm:{name}@{COMMIT}"


def test_errors_say_what_was_asked_for(hosted: Hub) -> None:
    hosted.refused = (404, "RepoNotFound")
    with pytest.raises(DeltaSweepError, match=TIMM):
        again(made(published=f"{TIMM}@{COMMIT}", architecture="timm.efficientnet_b0"))


def test_a_network_that_a_study_describes_can_be_fetched(published: bytes) -> None:
    """An architecture counts by its builder, whatever its name."""
    mine = PACKAGED.architecture("shufflenet_v2_x1_0").model_copy(update={"name": "a-shuffle"})
    catalog = Catalog(Cards(architectures={"a-shuffle": mine}))
    assert fetch_by_name(NAME, None, catalog, lambda *_: None)[0].architecture == "a-shuffle"
