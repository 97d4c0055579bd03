"""Converting published checkpoints to safetensors: every format, and all content that must be rejected."""

import argparse
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from cox.utils import Parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models import resnet18

from jobs.catalog.catalog import PACKAGED, Cards, Catalog
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, DamagedFile, DeltaSweepError, InvalidRequest, MissingData, StorageFailure
from jobs.models.checkpoint_files import read_checkpoint
from jobs.models.conversion import convert, convert_source
from jobs.models.weight_files import Standing, standing
from jobs.models.weights import SourceWeights, load_source
from jobs.networks.builders import build, initialize
from jobs.networks.describe import describe
from jobs.paths import weights_directory
from tests.jobs.own_networks import BUILDER, NAME, after_the_stem
from tests.jobs.released import MEAN, RunsCode, attacker_state, register, resnet_of, save_robustness
from tests.jobs.support import built, make_weights
from tests.machine import with_proc
from tests.packaged import packaged_weights
from tests.support import refused


def saved(content: object, **how: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **how)
    return buffer.getvalue()


NETWORK = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(3)}
FEW = {"model": NETWORK, "epoch": 3}
SMALL = [saved(FEW), saved(FEW, _use_new_zipfile_serialization=False), save_safetensors(NETWORK)]


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> SourceCard:
    return register(monkeypatch)


@pytest.fixture
def state(weights: SourceWeights) -> dict[str, Tensor]:
    """The state that the robustness library saves for the miniature."""
    return attacker_state(resnet_of(weights.tensors))


def assert_converted(weights: SourceWeights, name: str = "tiny") -> None:
    loaded = packaged_weights(name).tensors
    assert set(loaded) == set(weights.tensors)
    assert all(torch.equal(loaded[key], tensor) for key, tensor in weights.tensors.items())


def assert_nothing_written() -> None:
    assert not weights_directory().exists() or list(weights_directory().iterdir()) == []


def not_converted(path: Path, *values: object, key: str = "") -> None:
    with refused(Code.DAMAGED_WEIGHTS, path, *values, kind=DamagedFile, file=path, key=key):
        convert_source(path, "tiny", PACKAGED)
    assert_nothing_written()


# --- formats ---


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_checkpoint_of_robustness(
    zipped: bool, state: dict[str, Tensor], weights: SourceWeights, tmp_path: Path
) -> None:
    assert {key.split(".")[1] for key in state} == {"normalizer", "model", "attacker"}
    convert_source(save_robustness(tmp_path / "a.pt", state, zipped), "tiny", PACKAGED)
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
    convert_source(save_robustness(tmp_path / "a.pt", state, zipped, **more), "tiny", PACKAGED)
    assert_converted(weights)


def write_torchvision(path: Path, tensors: dict[str, Tensor]) -> None:
    torch.save(tensors, path)


def write_data_parallel(path: Path, tensors: dict[str, Tensor]) -> None:
    """Written like torch's ImageNet example, the origin of the SIN models."""
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
    path = convert_source(tmp_path / "file", "tiny", PACKAGED)
    assert_converted(weights)
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["original"]["format"] == form


def test_a_checkpoint_from_before_batchnorm_counted(weights: SourceWeights, tmp_path: Path) -> None:
    """torch 0.4.1 introduced the counters; torch itself fills them with zero, and no number depends on them."""
    old = {key: tensor for key, tensor in weights.tensors.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    path = convert_source(tmp_path / "old.pth", "tiny", PACKAGED)
    assert_converted(weights)
    assert "has none" in json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["batchnorm_counters"]


def test_the_real_resnet50(tmp_path: Path) -> None:
    """A ResNet-50 as published by MadryLab, as large as the hub's file, which also has the optimizer's momentum."""
    source = PACKAGED.source("hf_linf_eps4")
    resnet = built("resnet50", 1000)
    initialize(resnet, torch.Generator().manual_seed(1))
    momentum = {i: {"momentum_buffer": torch.zeros_like(p.detach())} for i, p in enumerate(resnet.parameters())}
    state = attacker_state(resnet, source.mean, source.std)
    file = save_robustness(tmp_path / "resnet50.ckpt", state, optimizer={"state": momentum})
    assert source.release is not None
    assert file.stat().st_size == pytest.approx(source.release.size, rel=0.001)
    path = convert_source(file, "hf_linf_eps4", PACKAGED)
    assert path.stat().st_size == pytest.approx(102_540_000, rel=0.001)
    assert_converted(SourceWeights(dict(resnet.state_dict()), ""), "hf_linf_eps4")


def test_the_card_says_where_it_comes_from(card: SourceCard, state: dict[str, Tensor], tmp_path: Path) -> None:
    file = save_robustness(tmp_path / "mine.pt", state)
    assert standing(card) is Standing.MISSING
    path = convert_source(file, "tiny", PACKAGED)
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["name"] == "tiny"
    assert facts["sha256"] == packaged_weights("tiny").sha256
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
    path = convert_source(save_robustness(tmp_path / "a.pt", state), "tiny", PACKAGED)
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["original"]["known_beforehand"].startswith("not the published file, whose sha256 is 000")


# --- the same network with other names, prefixes or precision ---


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in tensors.items()}


def taken_from(path: Path) -> str:
    found: str = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["original"]["taken_from"]
    return found


@pytest.mark.parametrize(
    "prefix",
    ["net.", "model.", "module.", "encoder.backbone.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.net."],
)
@pytest.mark.parametrize("save", [torch.save, save_file], ids=["torch", "safetensors"])
def test_a_prefix_of_the_whole_network(
    prefix: str, save: Callable[[Any, Path], None], weights: SourceWeights, tmp_path: Path
) -> None:
    """As with Lightning, torch.compile, DataParallel and users' own modules."""
    save(prefixed(prefix, weights.tensors), tmp_path / "a.pt")
    path = convert_source(tmp_path / "a.pt", "tiny", PACKAGED)
    assert_converted(weights)
    bare = prefix.replace("_orig_mod.", "")
    assert taken_from(path) == (f"under {bare}" if bare not in ("", "module.") else "")


def test_wrappers_inside_the_network(weights: SourceWeights, tmp_path: Path) -> None:
    """torch.compile of some of its modules."""
    state = {
        re.sub(r"^layer(\d)\.", r"layer\1._orig_mod.", re.sub("^fc", "_fsdp_wrapped_module.fc", key)): tensor
        for key, tensor in weights.tensors.items()
    }
    assert sum("_orig_mod" in key for key in state) > 20
    torch.save(state, tmp_path / "a.pt")
    convert_source(tmp_path / "a.pt", "tiny", PACKAGED)
    assert_converted(weights)


def test_a_tensor_that_is_there_wrapped_and_not(weights: SourceWeights, tmp_path: Path) -> None:
    torch.save({**weights.tensors, "_orig_mod.fc.bias": torch.zeros(10)}, tmp_path / "a.pt")
    not_converted(tmp_path / "a.pt", "fc.bias", key="_orig_mod.fc.bias")


@pytest.mark.parametrize(
    "place",
    [
        lambda state: {"model": state},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"ema": state, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}},
        lambda state: {"trainer": {"network": {"weights": state}}},
        lambda state: {"model": {"state_dict": prefixed("module.", state), "step": 5}},
        lambda state: {"pytorch-lightning_version": "2", "state_dict": prefixed("net.", state), "callbacks": {}},
    ],
)
def test_wherever_the_network_stands_in_the_file(
    place: Callable[[dict[str, Tensor]], object], weights: SourceWeights, tmp_path: Path
) -> None:
    torch.save(place(weights.tensors), tmp_path / "a.pt")
    convert_source(tmp_path / "a.pt", "tiny", PACKAGED)
    assert_converted(weights)


def test_the_network_is_taken_and_not_its_average(
    weights: SourceWeights, other_weights: SourceWeights, tmp_path: Path
) -> None:
    torch.save({"ema": other_weights.tensors, "model": weights.tensors}, tmp_path / "a.pt")
    path = convert_source(tmp_path / "a.pt", "tiny", PACKAGED)
    assert_converted(weights)
    assert taken_from(path) == "from model, not from ema"


def lightning(tensors: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Any]:
    """The layout of Lightning 2.6's ``Trainer.save_checkpoint`` with its callback for averages."""
    return {
        "epoch": 0,
        "global_step": 2,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": prefixed("model.", tensors),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': None}": {
                "best_model_score": torch.tensor(0.5),
                "best_k_models": {"/x/epoch=0.ckpt": torch.tensor(0.5)},
            }
        },
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}],
        "lr_schedulers": [{"milestones": Counter({1: 1}), "_last_lr": [0.1]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "folder": Path("/data"), "means": np.zeros(3)},
        "averaging_state": {"n_averaged": torch.tensor(2)},
        "current_model_state": prefixed("model.", other),
    }


def timm(tensors: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Any]:
    """The layout of timm 1.0's ``CheckpointSaver`` with averages."""
    return {
        "epoch": 3,
        "arch": "resnet",
        "state_dict": tensors,
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]},
        "version": 2,
        "args": argparse.Namespace(model="resnet", lr=0.1, data_dir=Path("/data"), mean=None, aug=["a", 1]),
        "amp_scaler": {"scale": 65536.0, "_growth_tracker": 1},
        "state_dict_ema": other,
        "metric": np.float64(71.2),
    }


def reference(tensors: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Any]:
    """The layout of torchvision's references, whose averages are those of torch's ``AveragedModel``."""
    return {
        "model": tensors,
        "model_ema": {"n_averaged": torch.tensor(3), **prefixed("module.", other)},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(output_dir="."),
        "numpy": np.random.default_rng(0).bit_generator.random_raw(4),
        "rng": np.random.RandomState(0).get_state(),
        "torch": torch.get_rng_state(),
        "epoch": 1,
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (lightning, "under model.; from state_dict, not from current_model_state"),
        (timm, "from state_dict, not from state_dict_ema"),
        (reference, "from model, not from model_ema"),
    ],
)
def test_checkpoints_of_training_libraries(
    layout: Callable[..., dict[str, Any]],
    said: str,
    zipped: bool,
    weights: SourceWeights,
    other_weights: SourceWeights,
    tmp_path: Path,
) -> None:
    """With the averages of weights beside, and arguments, paths and states of generators, which are not read."""
    content = layout(weights.tensors, other_weights.tensors)
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    path = convert_source(tmp_path / "a.ckpt", "tiny", PACKAGED)
    assert_converted(weights)
    assert taken_from(path) == said


def test_the_averages_alone(weights: SourceWeights, tmp_path: Path) -> None:
    averaged = AveragedModel(resnet_of(weights.tensors))
    torch.save(averaged.state_dict(), tmp_path / "a.pt")
    convert_source(tmp_path / "a.pt", "tiny", PACKAGED)
    assert_converted(weights)


def test_a_compiled_network(weights: SourceWeights, tmp_path: Path) -> None:
    state = cast(nn.Module, torch.compile(resnet_of(weights.tensors))).state_dict()
    torch.save(state, tmp_path / "a.pt")
    assert all(key.startswith("_orig_mod.") for key in state)
    convert_source(tmp_path / "a.pt", "tiny", PACKAGED)
    assert_converted(weights)


def test_a_network_of_arrays_is_refused(weights: SourceWeights, tmp_path: Path) -> None:
    """Arrays are not read, so a network cannot consist of them unnoticed."""
    torch.save({**weights.tensors, "fc.bias": np.zeros(10, "float32")}, tmp_path / "a.pt")
    not_converted(tmp_path / "a.pt", "'fc.bias'", key="fc.bias")


@pytest.mark.parametrize(
    ("content", "places"),
    [
        (lambda one, other: {"teacher": one, "student": other}, ("in teacher", "in student")),
        (lambda one, other: prefixed("net.", one) | prefixed("net_ema.", other), ("net.*", "net_ema.*")),
    ],
)
def test_two_networks_of_which_nothing_says_which(
    content: Callable[..., object],
    places: tuple[str, ...],
    weights: SourceWeights,
    other_weights: SourceWeights,
    tmp_path: Path,
) -> None:
    torch.save(content(weights.tensors, other_weights.tensors), tmp_path / "a.pt")
    not_converted(tmp_path / "a.pt", "2 networks", *places)


def test_tensors_beside_a_prefix_are_not_left_out_unsaid(weights: SourceWeights, tmp_path: Path) -> None:
    """They may be a normalizer, which changes every number."""
    torch.save({**prefixed("net.", weights.tensors), "norm.mean": torch.zeros(3)}, tmp_path / "a.pt")
    not_converted(tmp_path / "a.pt", "'net.'", "norm.mean", key="norm.mean")


@pytest.mark.parametrize("width", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_made_float32(width: torch.dtype, weights: SourceWeights, tmp_path: Path) -> None:
    """Narrower types are converted exactly, which the card records."""
    rounded = {key: t.to(width) if t.is_floating_point() else t for key, t in weights.tensors.items()}
    torch.save(rounded, tmp_path / "a.pt")
    path = convert_source(tmp_path / "a.pt", "tiny", PACKAGED)
    assert_converted(SourceWeights({key: tensor.to(weights.tensors[key].dtype) for key, tensor in rounded.items()}, ""))
    assert taken_from(path) == f"{str(width).removeprefix('torch.')} converted to float32"


def test_a_checkpoint_of_robustness_in_half_precision(
    state: dict[str, Tensor], weights: SourceWeights, tmp_path: Path
) -> None:
    """Its normalizer is rounded like the network."""
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    convert_source(save_robustness(tmp_path / "a.pt", half), "tiny", PACKAGED)
    assert packaged_weights("tiny").tensors["fc.weight"].equal(weights.tensors["fc.weight"].half().float())


# --- code in a checkpoint ---


def advised(path: Path) -> tuple[str, Path]:
    """Return the command that the error recommends, and the file that it writes."""
    with pytest.raises(DamagedFile) as caught:
        convert_source(path, "tiny", PACKAGED)
    said, command = str(caught.value).split(":\npython -c ")
    return command, Path(said.rsplit("convert ", 1)[1])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        lambda net: net,
        lambda net: {"model": net},
        lambda net: {"state_dict": net.state_dict(), "config": Fraction(1, 3)},
        lambda net: {"epoch": 3, "net": net},
    ],
    ids=["a network", "a network in a mapping", "tensors beside an object", "another key"],
)
def test_the_advice_for_a_pickle_with_classes_works(
    content: Callable[[Any], object], zipped: bool, weights: SourceWeights, tmp_path: Path
) -> None:
    file = tmp_path / "it's a $network.pt"
    torch.save(content(resnet_of(weights.tensors)), file, _use_new_zipfile_serialization=zipped)
    command, made = advised(file)
    (code,) = shlex.split(command)
    exec(code, {})
    convert_source(made, "tiny", PACKAGED)
    assert_converted(weights)


def test_a_whole_network_is_said_to_be_one(weights: SourceWeights, tmp_path: Path) -> None:
    """The recommended command can be pasted into a shell."""
    file = tmp_path / "it's a $network.pt"
    torch.save(resnet_of(weights.tensors), file)
    not_converted(file, "a whole object, saved with its class", "jobs.networks.small.SmallResNet")
    command, made = advised(file)
    subprocess.run(f"{shlex.quote(sys.executable)} -c {command}", shell=True, check=True)
    convert_source(made, "tiny", PACKAGED)
    assert_converted(weights)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_the_advice_for_a_torchscript_archive_works(weights: SourceWeights, tmp_path: Path) -> None:
    traced = torch.jit.trace(resnet_of(weights.tensors).eval(), torch.zeros(1, 3, 32, 32))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, tmp_path / "net.pt")
    command, made = advised(tmp_path / "net.pt")
    (code,) = shlex.split(command)
    exec(code, {})
    convert_source(made, "tiny", PACKAGED)
    assert_converted(weights)


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
    """Types allowed during a conversion are not allowed afterwards in the rest of the process."""
    convert_source(save_robustness(tmp_path / "a.pt", state), "tiny", PACKAGED)
    torch.save(argparse.Namespace(a=1), tmp_path / "b.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "b.pt", weights_only=True)


# --- files that are damaged, or not checkpoints ---


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


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tar_of(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("model.pt")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 97\n"
KINDS = {
    "nothing": (b"", "an empty file"),
    "html": (b"<!DOCTYPE html>\n<html><title>Sign in</title></html>", "an HTML page"),
    "html after a comment": (b"\n\n<!-- a comment -->\n<html>", "an HTML page"),
    "lfs": (LFS, "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s97--0123.pt\n", "git annex get"),
    "annex on a branch": (b"../.git/annex/objects/xX/yY/SHA256E-s97--0123/SHA256E-s97--0123.pt\n", "git annex get"),
    "json": (b'{"error": "not found"}', "a JSON file"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML document"),
    "text": (b"Not Found\n", "a text"),
    "gzip": (gzip.compress(b"x" * 999), "a gzip archive"),
    "bzip2": (bz2.compress(b"x" * 999), "a bzip2 archive"),
    "xz": (lzma.compress(b"x" * 999), "an xz archive"),
    "tar": (tar_of(b"x" * 999), "a tar archive"),
    "zip": (zip_of({"model.pt": b"x" * 999}), "a zip archive without data.pkl, with model.pt"),
    "keras": (zip_of({"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": b""}), "a Keras archive"),
    "npz": (zip_of({"a.npy": b"", "b.npy": b""}), "numpy arrays (.npz)"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file (Keras, TensorFlow)"),
    "npy": (b"\x93NUMPY\x01\0" + bytes(99), "a NumPy array"),
    "onnx": (b"\x08\x0a\x12\x07pytorch\x1a\x052.4.0:\x80\x01", "an ONNX model"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG image"),
    "pdf": (b"%PDF-1.7", "a PDF document"),
    "packed": (
        zip_of({"archive/data.pkl": b"x", "archive/data/0": bytes(10**8)}, zipfile.ZIP_DEFLATED),
        "compressed files (archive/data.pkl",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_file_is_said_to_be_what_it_is(kind: str, name: str, tmp_path: Path) -> None:
    data, words = KINDS[kind]
    (tmp_path / name).write_bytes(data)
    not_converted(tmp_path / name, words)


def test_formats_under_the_other_s_name(weights: SourceWeights, tmp_path: Path) -> None:
    torch.save(weights.tensors, tmp_path / "a.safetensors")
    save_file(weights.tensors, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        convert_source(tmp_path / name, "tiny", PACKAGED)
    assert_converted(weights)


def a_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_directory, "a folder"),
        (os.mkfifo, "a named pipe"),
        (lambda path: path.symlink_to("nowhere"), "a link whose target does not exist"),
        (lambda path: path.symlink_to(path), "a link whose target does not exist"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
)
def test_what_is_no_regular_file(make: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    make(tmp_path / "a.pt")
    with refused(Code.NO_SUCH_FILE, words, kind=MissingData, file=tmp_path / "a.pt"):
        convert_source(tmp_path / "a.pt", "tiny", PACKAGED)


# --- files that expand to more than they seem ---


def repeated(shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of this shape stored in four bytes."""
    return torch.zeros(1).as_strided(shape, [0] * len(shape))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "place",
    ["fc.weight", "extra", "module.normalizer.new_mean", "module.attacker.model.fc.weight", "module.model.fc.bias"],
)
def test_tensors_of_more_numbers_than_any_memory_holds(
    place: str, zipped: bool, state: dict[str, Tensor], weights: SourceWeights, tmp_path: Path
) -> None:
    tensors = dict(state if place.startswith("module") else weights.tensors)
    tensors[place] = repeated((10**5, 10**10))
    file = tmp_path / "a.pt"
    torch.save({"model": tensors}, file, _use_new_zipfile_serialization=zipped)
    assert file.stat().st_size < 2_000_000
    named = place.removeprefix("module.").removeprefix("attacker.").removeprefix("model.").removeprefix("normalizer.")
    with pytest.raises(DamagedFile, match=re.escape(named)) as caught:
        convert_source(file, "tiny", PACKAGED)
    assert (caught.value.code, caught.value.place.file) == (Code.DAMAGED_WEIGHTS, str(file))


IN_BOUNDS = """
import resource, sys
from pathlib import Path
import torch
from jobs.catalog.catalog import PACKAGED
from jobs.models.conversion import convert
from jobs.errors import DeltaSweepError
card = PACKAGED.source("fmnist_natural")
here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + 600_000_000,) * 2)
for path in map(Path, sys.argv[1:]):
    try:
        convert(path, card, PACKAGED.architecture(card.architecture), 10)
    except DeltaSweepError as error:
        print(type(error).__name__, error.place.file)
"""


BYTEARRAY = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (10**10).to_bytes(5, "little") + b"\x85R"
"""The beginning of a pickle of thirty bytes that takes ten gigabytes when read."""
ENCODE = b"c_codecs\nencode\n"


def a_pickle(path: Path, *pickles: bytes, before: bytes = b"") -> None:
    """Write an archive with these pickles, in folders a, b, ..., of which torch reads the first file's."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/version", "3\n")
        for folder, data in reversed(list(zip("abc", pickles, strict=False))):
            archive.writestr(f"{folder}/data.pkl", data)
    path.write_bytes(before + path.read_bytes())


def doubled(times: int) -> bytes:
    """Return a pickle of text that is written in hexadecimal digits again and again, each time twice as long."""
    text = b"X\x40\0\0\0" + b"a" * 64
    as_bytes, as_digits = b"X\x06\0\0\0latin1\x86R", b"X\x03\0\0\0hex\x86R"
    return b"\x80\x02" + ENCODE * (times + 1) + text + as_bytes + as_digits * times + b"."


def a_legacy_storage(path: Path) -> None:
    """Write a file from before torch 1.6 that claims to contain a hundred gigabytes."""
    torch.save({"x": torch.zeros(123_457)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    size = (123_457).to_bytes(4, "little")
    assert data.count(b"J" + size) >= 1
    path.write_bytes(data.replace(b"J" + size, b"\x8a\x05" + (25 * 10**9).to_bytes(5, "little")))


@with_proc
def test_files_that_ask_for_memory_get_none(tmp_path: Path) -> None:
    names = ("whole", "truncated", "second", "legacy", "doubled", "storage")
    files = [tmp_path / f"{name}.pt" for name in names]
    a_pickle(files[0], BYTEARRAY + b".")
    a_pickle(files[1], BYTEARRAY)
    a_pickle(files[2], BYTEARRAY + b".", b"\x80\x02}.")
    a_pickle(files[3], b"\x80\x02}.", before=BYTEARRAY + b".")
    a_pickle(files[4], doubled(40))
    a_legacy_storage(files[5])
    ran = subprocess.run(
        [sys.executable, "-c", IN_BOUNDS, *map(str, files)], capture_output=True, text=True, check=True
    )
    assert [line.split() for line in ran.stdout.splitlines()] == [
        *(["DamagedFile", str(file)] for file in files[:-1]),
        ["StorageFailure", str(files[-1])],
    ]


def test_bytes_are_read_in_the_encoding_that_pickles_have_for_them(tmp_path: Path) -> None:
    """Protocol 2, in which torch saves, stores bytes as text in Latin-1."""
    torch.save({"model": {"x": torch.ones(2)}, "note": b"\x00\xff"}, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").sets["model"]["x"].tolist() == [1, 1]
    assert torch.load(tmp_path / "a.pt", weights_only=True)["note"] == b"\x00\xff"


@pytest.mark.parametrize("note", [None, bytearray(b"ab")])
def test_torch_s_own_reader_is_as_before(note: bytearray | None, tmp_path: Path) -> None:
    """A notebook may read other files after one that was converted, or refused."""
    torch.save({"model": {"x": torch.ones(2)}, "note": note}, tmp_path / "a.pt")
    torch.save(bytearray(b"ab"), tmp_path / "b.pt")
    with nullcontext() if note is None else pytest.raises(DamagedFile, match="bytearray"):
        read_checkpoint(tmp_path / "a.pt")
    assert torch.load(tmp_path / "b.pt", weights_only=True) == bytearray(b"ab")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_one_error(data: st.DataObject, tmp_path: Path, card: SourceCard) -> None:
    """Bytes changed anywhere, in either format: the file is refused, or it is the same network with other numbers."""
    original = data.draw(st.sampled_from(SMALL))
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.pt").write_bytes(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    with pytest.raises(DeltaSweepError):  # it is another network anyway
        convert(
            tmp_path / "a.pt",
            card,
            PACKAGED.architecture(card.architecture),
            PACKAGED.dataset(card.test_dataset).labels,
        )


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
        ({"model": {}}, "model"),
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
        convert_source(file, "tiny", PACKAGED)


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
    shapes = "(fc.weight (7, 256) for (10, 256), fc.bias (7,) for (10,))"
    not_converted(tmp_path / "a.pth", "2 ", shapes, "7 labels", "digits", "trained_on")


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
        (lambda t: t.int(), "(layer1.0.conv1.weight torch.int32)", ""),
        (lambda t: t.to(torch.float8_e4m3fn), "(layer1.0.conv1.weight torch.float8_e4m3fn)", ""),
        (lambda t: t.double().fill_(1e300), "layer1.0.conv1.weight", "layer1.0.conv1.weight"),
        (lambda t: t.to_sparse(), "(layer1.0.conv1.weight torch.float32)", ""),
        (lambda t: t.to("meta"), "(layer1.0.conv1.weight torch.float32)", ""),
        (lambda t: t.clone().fill_(float("nan")), "layer1.0.conv1.weight", "layer1.0.conv1.weight"),
        (lambda t: t.clone().fill_(float("inf")), "layer1.0.conv1.weight", "layer1.0.conv1.weight"),
    ],
)
def test_numbers_that_are_not_floating_point_or_not_finite(
    change: Callable[[Tensor], Tensor], value: str, key: str, weights: SourceWeights, tmp_path: Path
) -> None:
    tensors = dict(weights.tensors)
    tensors["layer1.0.conv1.weight"] = change(tensors["layer1.0.conv1.weight"])
    torch.save(tensors, tmp_path / "a.pth")
    not_converted(tmp_path / "a.pth", value, key=key)


@pytest.mark.parametrize("change", [Tensor.int, Tensor.to_sparse])
def test_a_network_in_another_type_is_not_said_to_be_another_network(
    change: Callable[[Tensor], Tensor], weights: SourceWeights, tmp_path: Path
) -> None:
    torch.save({**weights.tensors, "fc.bias": change(weights.tensors["fc.bias"])}, tmp_path / "a.pth")
    not_converted(tmp_path / "a.pth", "save them in float32")


def test_a_network_without_its_last_layer_is_said_to_have_none(weights: SourceWeights, tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in weights.tensors.items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "a.pth")
    not_converted(tmp_path / "a.pth", "no last layer fc", "of zeros")


def test_an_average_that_is_alone_in_a_file_is_said(weights: SourceWeights, tmp_path: Path) -> None:
    torch.save({"state_dict_ema": weights.tensors, "epoch": 3}, tmp_path / "a.pth")
    assert taken_from(convert_source(tmp_path / "a.pth", "tiny", PACKAGED)) == "from state_dict_ema"


def test_infinite_numbers_that_the_network_has_itself(tmp_path: Path) -> None:
    """A mask of attention is a buffer with minus infinity."""
    made = "super().__init__()\n    self.register_buffer('mask', torch.full((4, 1, 1), -torch.inf))"
    text = after_the_stem(f"def __init__(self):\n    {made}\ndef forward(self, x):\n    return x.maximum(self.mask)")
    source = {"architecture": "mine", "trained_on": "digits", "constraint": "none", "epsilon": 0}
    source |= {"mean": [0.3] * 3, "std": [0.4] * 3, "release": {"file": "a", "format": "torchvision", "urls": []}}
    cards = {"sources": {"s": source}, "architectures": {"mine": describe("mine", BUILDER, 32, text)}}
    catalog = Catalog(Cards.model_validate(cards), {NAME: text})
    state = dict(build(catalog.architecture("mine"), 10, torch.Generator()).model.state_dict())
    torch.save(state, tmp_path / "a.pth")
    converted = convert(tmp_path / "a.pth", catalog.source("s"), catalog.architecture("mine"), 10)
    assert torch.equal(converted.tensors["stem.3.mask"], torch.full((4, 1, 1), -torch.inf))
    torch.save({**state, "fc.bias": torch.full((10,), -torch.inf)}, tmp_path / "a.pth")
    with refused(Code.DAMAGED_WEIGHTS, "fc.bias", kind=DamagedFile, file=tmp_path / "a.pth", key="fc.bias"):
        convert(tmp_path / "a.pth", catalog.source("s"), catalog.architecture("mine"), 10)


# --- the parts that robustness adds ---


def test_another_normalizer(weights: SourceWeights, tmp_path: Path) -> None:
    file = save_robustness(tmp_path / "a.pt", attacker_state(resnet_of(weights.tensors), (0.5, 0.5, 0.5)))
    not_converted(file, "new_mean", [0.5, 0.5, 0.5], [0.31, 0.32, 0.33], key="new_mean")


def test_another_spread(weights: SourceWeights, tmp_path: Path) -> None:
    file = save_robustness(tmp_path / "a.pt", attacker_state(resnet_of(weights.tensors), MEAN, (0.21, 0.22, 0.2301)))
    not_converted(file, "new_std", [0.21, 0.22, 0.2301], [0.21, 0.22, 0.23], key="new_std")


@pytest.mark.parametrize("key", ["module.normalizer.new_mean", "module.attacker.normalize.new_std"])
def test_a_normalizer_that_is_missing(key: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    del state[key]
    not_converted(save_robustness(tmp_path / "a.pt", state), "new_mean", "new_std")


def test_a_normalizer_that_is_not_a_number(state: dict[str, Tensor], tmp_path: Path) -> None:
    state["module.normalizer.new_mean"] = torch.full((3, 1, 1), float("nan"))
    not_converted(save_robustness(tmp_path / "a.pt", state), "'tiny'", "[nan, nan, nan]", key="new_mean")


def test_an_attacker_with_another_normalizer(state: dict[str, Tensor], tmp_path: Path) -> None:
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
    """The checkpoint contains only the required tensors, as someone may have saved them."""
    kept = {key: tensor for key, tensor in state.items() if ".attacker." not in key}
    convert_source(save_robustness(tmp_path / "a.pt", kept), "tiny", PACKAGED)
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
    path = convert_source(tmp_path / "one.pth", "tiny", PACKAGED)
    convert_source(tmp_path / "one.pth", "tiny", PACKAGED)
    before = path.read_bytes()
    values = (path, hashlib.sha256(before).hexdigest(), "--replace")
    with refused(Code.OTHER_DIGEST, *values, kind=InvalidRequest, file=path, key="--replace"):
        convert_source(tmp_path / "other.pth", "tiny", PACKAGED)
    assert path.read_bytes() == before
    assert_converted(weights)
    load_source.cache_clear()
    convert_source(tmp_path / "other.pth", "tiny", PACKAGED, replace=True)
    assert_converted(other_weights)


@pytest.mark.parametrize("name", ["fmnist_natural", "random_init"])
def test_names_that_take_no_weights(name: str, tmp_path: Path) -> None:
    with refused(Code.WRONG_NAME, f"'{name}'", kind=InvalidRequest, key="--as"):
        convert_source(tmp_path / "a.pt", name, PACKAGED)


def test_a_disk_that_is_full_leaves_nothing(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_robustness(tmp_path / "a.pt", state)
    written: list[int] = []

    def full(handle: int) -> None:
        written.append(os.fstat(handle).st_size)
        if len(written) == 2:  # the card, then the weights
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    target = weights_directory() / "tiny.safetensors"
    with refused(Code.STORAGE, target, "No space left on device", kind=StorageFailure, file=target):
        convert_source(file, "tiny", PACKAGED)
    assert len(written) == 2
    assert_nothing_written()


@pytest.mark.parametrize("architecture", ["mnasnet1_0", "mobilenet_v2", "shufflenet_v2_x1_0"])
def test_other_networks_of_the_robustness_library(architecture: str, tmp_path: Path) -> None:
    """As the hub's files of these networks are: all of ImageNet's labels, and the normalizer of their cards."""
    name = f"{architecture}_l2_eps3"
    card, network = PACKAGED.source(name), built(architecture, 1000)
    file = save_robustness(tmp_path / "hub.ckpt", attacker_state(network, card.mean, card.std))
    path = convert_source(file, name, PACKAGED, must_be="robustness")
    tensors = load_file(path)
    assert tensors.keys() == network.state_dict().keys()
    assert all(torch.equal(tensors[key], tensor) for key, tensor in network.state_dict().items())
