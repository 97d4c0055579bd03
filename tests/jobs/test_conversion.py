"""From published checkpoints to safetensors: every format, and everything that must not get through."""

import argparse
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cox.utils import Parameters
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet18

from jobs import registry
from jobs.conversion import convert_source
from jobs.errors import Code, DamagedFile, InvalidRequest, MissingData, StorageFailure
from jobs.home import weights_directory
from jobs.networks import BUILDERS, initialise
from jobs.registry import SourceCard
from jobs.source_files import Standing, standing
from jobs.weights import SourceWeights, load_source
from tests.jobs.released import MEAN, RunsCode, attacker_state, register, resnet_of, save_robustness
from tests.jobs.support import make_weights
from tests.support import refused


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> SourceCard:
    return register(monkeypatch)


@pytest.fixture
def state(weights: SourceWeights) -> dict[str, Tensor]:
    """What the robustness library saves of the miniature."""
    return attacker_state(resnet_of(weights.tensors))


def assert_converted(weights: SourceWeights, name: str = "tiny") -> None:
    loaded = load_source(name).tensors
    assert set(loaded) == set(weights.tensors)
    assert all(torch.equal(loaded[key], tensor) for key, tensor in weights.tensors.items())


def assert_nothing_written() -> None:
    assert not weights_directory().exists() or list(weights_directory().iterdir()) == []


def not_converted(path: Path, *values: object, key: str = "") -> None:
    with refused(Code.DAMAGED_WEIGHTS, path, *values, kind=DamagedFile, file=path, key=key):
        convert_source(path, "tiny")
    assert_nothing_written()


# --- formats ---


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_checkpoint_of_robustness(
    zipped: bool, state: dict[str, Tensor], weights: SourceWeights, tmp_path: Path
) -> None:
    assert {key.split(".")[1] for key in state} == {"normalizer", "model", "attacker"}
    convert_source(save_robustness(tmp_path / "a.pt", state, zipped), "tiny")
    assert_converted(weights)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_robustness_saves_besides_is_read_without_its_classes(
    zipped: bool, state: dict[str, Tensor], weights: SourceWeights, tmp_path: Path
) -> None:
    more = {
        "args": Parameters({"eps": 3}),
        "namespace": argparse.Namespace(attack_steps=20),
        "nat_prec1": np.float64(57.9),
        "adv_prec1": np.float32(35.1),
        "best": torch.tensor(1.0),
    }
    convert_source(save_robustness(tmp_path / "a.pt", state, zipped, **more), "tiny")
    assert_converted(weights)


def write_torchvision(path: Path, tensors: dict[str, Tensor]) -> None:
    torch.save(tensors, path)


def write_data_parallel(path: Path, tensors: dict[str, Tensor]) -> None:
    """As torch's ImageNet example does, which the SIN models come from."""
    state = {f"module.{key}": tensor for key, tensor in tensors.items()}
    torch.save({"epoch": 60, "arch": "resnet50", "state_dict": state, "best_prec1": torch.tensor(60.2)}, path)


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, path)


@pytest.mark.parametrize(
    ("write", "form"),
    [(write_torchvision, "torchvision"), (write_data_parallel, "data-parallel"), (write_safetensors, "safetensors")],
)
def test_other_formats(
    write: Callable[[Path, dict[str, Tensor]], None], form: str, weights: SourceWeights, tmp_path: Path
) -> None:
    write(tmp_path / "file", weights.tensors)
    path = convert_source(tmp_path / "file", "tiny")
    assert_converted(weights)
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["original"]["format"] == form


def test_a_checkpoint_from_before_batchnorm_counted(weights: SourceWeights, tmp_path: Path) -> None:
    """torch 0.4.1 introduced the counters; torch itself fills them with zero, and no number depends on them."""
    old = {key: tensor for key, tensor in weights.tensors.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    path = convert_source(tmp_path / "old.pth", "tiny")
    assert_converted(weights)
    assert "has none" in json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["batchnorm_counters"]


def test_the_real_resnet50(tmp_path: Path) -> None:
    """A ResNet-50 as MadryLab publishes it: as large as the hub's file, which has the optimiser's momentum too."""
    source = registry.source("hf_linf_eps4")
    resnet = BUILDERS["resnet50"](1000)
    initialise(resnet, torch.Generator().manual_seed(1))
    momentum = {i: {"momentum_buffer": torch.zeros_like(p.detach())} for i, p in enumerate(resnet.parameters())}
    state = attacker_state(resnet, source.mean, source.std)
    file = save_robustness(tmp_path / "resnet50.ckpt", state, optimizer={"state": momentum})
    assert source.release is not None
    assert file.stat().st_size == pytest.approx(source.release.size, rel=0.001)
    path = convert_source(file, "hf_linf_eps4")
    assert path.stat().st_size == pytest.approx(102_540_000, rel=0.001)
    assert_converted(SourceWeights(dict(resnet.state_dict()), ""), "hf_linf_eps4")


def test_the_card_says_where_it_comes_from(card: SourceCard, state: dict[str, Tensor], tmp_path: Path) -> None:
    file = save_robustness(tmp_path / "mine.pt", state)
    assert standing(card) is Standing.MISSING
    path = convert_source(file, "tiny")
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["name"] == "tiny"
    assert facts["sha256"] == load_source("tiny").sha256
    assert facts["licence"] == "CC0"
    assert facts["original"]["file"] == "mine.pt"
    assert facts["original"]["bytes"] == file.stat().st_size
    assert facts["original"]["known_beforehand"] == "no digest was known: this file is trusted on first use"
    assert facts["code_version"]
    assert standing(card) is Standing.CONVERTED


def test_a_file_that_is_not_the_published_one_is_said_to_be_another(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor], tmp_path: Path
) -> None:
    register(monkeypatch, release={"sha256": "0" * 64, "known_from": "us"})
    path = convert_source(save_robustness(tmp_path / "a.pt", state), "tiny")
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["original"]["known_beforehand"].startswith("another file than the registry's, whose sha256 is 000")


# --- code in a checkpoint ---


def pickled(payload: dict[str, Any], path: Path) -> None:
    path.write_bytes(pickle.dumps(payload["args"], protocol=2))


@pytest.mark.parametrize(
    "write",
    [
        torch.save,
        lambda payload, path: torch.save(payload, path, _use_new_zipfile_serialization=False),
        pickled,
    ],
    ids=["zip", "before torch 1.6", "bare pickle"],
)
def test_a_pickle_that_would_run_code_is_refused_and_not_run(
    write: Callable[[Any, Path], None], state: dict[str, Tensor], tmp_path: Path
) -> None:
    write({"model": state, "args": RunsCode(tmp_path / "it-ran")}, tmp_path / "evil.pt")
    not_converted(tmp_path / "evil.pt", f"{os.system.__module__}.system", "torch.save(")
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__, open])
def test_builtins_that_run_code_are_refused(function: Any, state: dict[str, Tensor], tmp_path: Path) -> None:
    class Calls:
        def __reduce__(self) -> tuple[Any, ...]:
            return function, (f"open({str(tmp_path / 'it-ran')!r}, 'w')", "w")

    torch.save({"model": state, "args": Calls()}, tmp_path / "evil.pt")
    not_converted(tmp_path / "evil.pt", f"{function.__name__} ", "torch.save(")
    assert not (tmp_path / "it-ran").exists()


def test_what_may_be_read_is_what_could_before(state: dict[str, Tensor], tmp_path: Path) -> None:
    """The types that a conversion allows are not allowed to the rest of the process afterwards."""
    convert_source(save_robustness(tmp_path / "a.pt", state), "tiny")
    torch.save(argparse.Namespace(a=1), tmp_path / "b.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "b.pt", weights_only=True)


# --- files that are damaged, or something else ---


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off(zipped: bool, share: float, state: dict[str, Tensor], tmp_path: Path) -> None:
    file = save_robustness(tmp_path / "a.pt", state, zipped)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    not_converted(file)


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>Sign in</html>", b"\x80\x02.", b"\x00" * 5000, b"PK\x03\x04" + b"x" * 5000, bytes(range(256)) * 9],
)
def test_a_file_of_another_kind(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(data)
    not_converted(tmp_path / "page")


def test_safetensors_that_are_cut_off(weights: SourceWeights, tmp_path: Path) -> None:
    save_file(weights.tensors, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(data[:-100])
    not_converted(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({}, ""),
        ([], ""),
        (torch.zeros(3), ""),
        ({"model": {}}, ""),
        ({"epoch": 3}, "epoch"),
        (5, ""),
        ({"model": 5}, "model"),
    ],
)
def test_a_checkpoint_without_tensors(content: object, key: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    not_converted(tmp_path / "a.pt", key or "'model'", key=key)


def test_no_file(tmp_path: Path) -> None:
    file = tmp_path / "nowhere.pt"
    with refused(Code.NO_SUCH_FILE, file, kind=MissingData, file=file):
        convert_source(file, "tiny")


# --- checkpoints of another network ---


def test_another_architecture(tmp_path: Path) -> None:
    torch.save(resnet18(num_classes=10).state_dict(), tmp_path / "resnet18.pth")
    shapes = "conv1.weight (64, 3, 7, 7) for (8, 3, 3, 3)"
    not_converted(tmp_path / "resnet18.pth", "resnet35-w8", "'tiny'", "(layer1.0.conv3.weight", shapes)


def test_another_architecture_of_robustness(tmp_path: Path) -> None:
    file = save_robustness(tmp_path / "r18.pt", attacker_state(resnet18(num_classes=10)))
    not_converted(file, "resnet35-w8", "'tiny'")


def test_another_number_of_labels(tmp_path: Path) -> None:
    torch.save(make_weights(1, labels=7).tensors, tmp_path / "a.pth")
    not_converted(tmp_path / "a.pth", "2 ", "(fc.weight (7, 256) for (10, 256), fc.bias (7,) for (10,))")


@pytest.mark.parametrize("name", ["conv1.weight", "layer3.5.bn2.running_var", "layer2.0.bn1.num_batches_tracked"])
def test_a_missing_tensor_is_named(name: str, weights: SourceWeights, tmp_path: Path) -> None:
    torch.save({key: tensor for key, tensor in weights.tensors.items() if key != name}, tmp_path / "a.pth")
    not_converted(tmp_path / "a.pth", "1 ", f"({name})")


def test_a_tensor_too_many_is_named(weights: SourceWeights, tmp_path: Path) -> None:
    torch.save({**weights.tensors, "layer5.weight": torch.zeros(1)}, tmp_path / "a.pth")
    not_converted(tmp_path / "a.pth", "1 ", "(layer5.weight)")


@pytest.mark.parametrize(
    ("change", "value", "key"),
    [
        (lambda t: t.half(), "(layer1.0.conv1.weight torch.float16)", ""),
        (lambda t: t.double(), "(layer1.0.conv1.weight torch.float64)", ""),
        (lambda t: t.to_sparse(), "(layer1.0.conv1.weight torch.float32)", ""),
        (lambda t: t.to("meta"), "(layer1.0.conv1.weight torch.float32)", ""),
        (lambda t: t.clone().fill_(float("nan")), "layer1.0.conv1.weight", "layer1.0.conv1.weight"),
        (lambda t: t.clone().fill_(float("inf")), "layer1.0.conv1.weight", "layer1.0.conv1.weight"),
    ],
)
def test_numbers_that_are_not_float32_or_not_finite(
    change: Callable[[Tensor], Tensor], value: str, key: str, weights: SourceWeights, tmp_path: Path
) -> None:
    tensors = dict(weights.tensors)
    tensors["layer1.0.conv1.weight"] = change(tensors["layer1.0.conv1.weight"])
    torch.save(tensors, tmp_path / "a.pth")
    not_converted(tmp_path / "a.pth", value, key=key)


# --- what robustness adds ---


def test_another_normaliser(weights: SourceWeights, tmp_path: Path) -> None:
    file = save_robustness(tmp_path / "a.pt", attacker_state(resnet_of(weights.tensors), (0.5, 0.5, 0.5)))
    not_converted(file, "new_mean", [0.5, 0.5, 0.5], [0.31, 0.32, 0.33], key="new_mean")


def test_another_spread(weights: SourceWeights, tmp_path: Path) -> None:
    file = save_robustness(tmp_path / "a.pt", attacker_state(resnet_of(weights.tensors), MEAN, (0.21, 0.22, 0.2301)))
    not_converted(file, "new_std", [0.21, 0.22, 0.2301], [0.21, 0.22, 0.23], key="new_std")


@pytest.mark.parametrize("key", ["module.normalizer.new_mean", "module.attacker.normalize.new_std"])
def test_a_normaliser_that_is_missing(key: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    del state[key]
    not_converted(save_robustness(tmp_path / "a.pt", state), "new_mean", "new_std")


def test_a_normaliser_that_is_not_a_number(state: dict[str, Tensor], tmp_path: Path) -> None:
    state["module.normalizer.new_mean"] = torch.full((3, 1, 1), float("nan"))
    not_converted(save_robustness(tmp_path / "a.pt", state), "'tiny'", "[nan, nan, nan]", key="new_mean")


def test_an_attacker_with_another_normaliser(state: dict[str, Tensor], tmp_path: Path) -> None:
    state["module.attacker.normalize.new_mean"] = torch.zeros(3, 1, 1)
    not_converted(save_robustness(tmp_path / "a.pt", state), "attacker", "'tiny'", [0.0, 0.0, 0.0], key="new_mean")


def test_an_attacker_with_another_network(state: dict[str, Tensor], tmp_path: Path) -> None:
    changed = state["module.attacker.model.layer3.2.conv2.weight"].clone()
    changed[0, 0, 0, 0] += 1e-6
    state["module.attacker.model.layer3.2.conv2.weight"] = changed
    not_converted(save_robustness(tmp_path / "a.pt", state), "attacker", "layer3.2.conv2.weight")


def test_an_attacker_with_half_a_network(state: dict[str, Tensor], tmp_path: Path) -> None:
    del state["module.attacker.model.fc.bias"]
    not_converted(save_robustness(tmp_path / "a.pt", state), "attacker", "fc.bias")


def test_a_checkpoint_without_the_attacker(state: dict[str, Tensor], weights: SourceWeights, tmp_path: Path) -> None:
    """What is left when somebody saved the tensors that are needed."""
    kept = {key: tensor for key, tensor in state.items() if ".attacker." not in key}
    convert_source(save_robustness(tmp_path / "a.pt", kept), "tiny")
    assert_converted(weights)


def test_tensors_that_robustness_does_not_save(state: dict[str, Tensor], tmp_path: Path) -> None:
    state["module.head.weight"] = torch.zeros(1)
    not_converted(save_robustness(tmp_path / "a.pt", state), "head.weight", key="head.weight")


# --- a name stands for one set of weights ---


def test_other_weights_are_not_replaced_unasked(
    weights: SourceWeights, other_weights: SourceWeights, tmp_path: Path
) -> None:
    torch.save(weights.tensors, tmp_path / "one.pth")
    torch.save(other_weights.tensors, tmp_path / "other.pth")
    path = convert_source(tmp_path / "one.pth", "tiny")
    convert_source(tmp_path / "one.pth", "tiny")
    before = path.read_bytes()
    values = (path, hashlib.sha256(before).hexdigest(), "--replace")
    with refused(Code.OTHER_DIGEST, *values, kind=InvalidRequest, file=path, key="--replace"):
        convert_source(tmp_path / "other.pth", "tiny")
    assert path.read_bytes() == before
    assert_converted(weights)
    load_source.cache_clear()
    convert_source(tmp_path / "other.pth", "tiny", replace=True)
    assert_converted(other_weights)


@pytest.mark.parametrize("name", ["fmnist_natural", "random_init"])
def test_names_that_take_no_weights(name: str, tmp_path: Path) -> None:
    with refused(Code.WRONG_NAME, f"'{name}'", kind=InvalidRequest, key="--as"):
        convert_source(tmp_path / "a.pt", name)


def test_a_disk_that_is_full_leaves_nothing(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_robustness(tmp_path / "a.pt", state)
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write(path, data[:10])
        if ".safetensors" in path.name:
            raise OSError(28, "No space left on device")
        return len(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    target = weights_directory() / "tiny.safetensors"
    with refused(Code.STORAGE, target, "No space left on device", kind=StorageFailure, file=target):
        convert_source(file, "tiny")
    assert_nothing_written()
