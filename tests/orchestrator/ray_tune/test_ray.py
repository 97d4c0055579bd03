"""Launches with real Ray on this machine give the same numbers as one process, for every share and kind."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from jobs.errors import Code, InvalidRequest
from jobs.results import comparable_columns, open_store, read_trials
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.verification.verify import verify
from orchestrator.launching.launch import launch
from orchestrator.launching.options import Options, Spending
from orchestrator.planning.gpus import gpu
from orchestrator.ray_tune.tuner import largest_multiple, share_of
from orchestrator.study.history import planned_trials
from orchestrator.study.load import parse_study
from tests.orchestrator.in_process import replace_ray
from tests.support import refused

pytestmark = pytest.mark.slow

QUIET = Console(quiet=True)
STUDY = """
name: mini
grid:
  source: [fmnist_natural]
  dataset: [digits]
  blocks: [0, 3]
schedule:
  - {{images: [30], epochs: 4, seeds: 2, evaluate_every: 2}}
resources: {{gpu: 0.25, cpu: {cpu}}}
checkpoint_every: 1
"""
EVERYTHING = """\
name: everything
sources:
  digits_l2:
    architecture: resnet35-w8
    trained_on: digits
    constraint: l2
    epsilon: 0.5
    mean: [0.305, 0.305, 0.305]
    std: [0.3753, 0.3753, 0.3753]
    pretrain: {seed: 1, epochs: 1, steps: 1}
pretrain: {source: [digits_l2]}
grid: {source: [digits_l2, fmnist_natural], dataset: [digits], blocks: [0, 3]}
schedule:
  - {images: [30], epochs: 2, seeds: 1, evaluate_every: 1}
bundle: blocks
attack:
  source: [digits_l2]
  finetuned: {images: [30], seeds: 1}
  test_images: 20
  balls: [{constraint: l2, epsilon: [0.25], steps: 2}]
influence: {finetuned: {images: [30], seeds: 1}, measures: [influence, fisher], damping: 0.01, top: 3}
visualize: {finetuned: {images: [30], seeds: 1}, dataset: digits, units: [3], test_images: 2, steps: 3}
shape_bias: {finetuned: {images: [30], seeds: 1}, dataset: [digits_conflict]}
resources: {gpu: 0.25, cpu: 1}
"""
KINDS = ("pretrain", "finetune", "attack", "influence", "visualize", "shape_bias")


def mini(cpu: float = 1) -> Study:
    return parse_study(STUDY.format(cpu=cpu), "mini.yaml")


def numbers(root: Path, kind: str) -> pa.Table:
    """Return everything in a root's trials that two runs must agree on."""
    return read_trials(open_store(root), kind).select(comparable_columns(kind))


def without_ray(study: Study, root: Path) -> Path:
    """Launch the study in this process and return its root."""
    errors = root.with_name("errors")
    errors.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        replace_ray(patch, errors)
        summary = launch(study, open_store(root), QUIET)
    assert (summary.failed, summary.left) == ({}, 0)
    return root


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return without_ray(mini(), tmp_path_factory.mktemp("alone") / "root")


@pytest.mark.slow(80)
@pytest.mark.usefixtures("one_ray")
@pytest.mark.parametrize("cpu", [0.5, pytest.param(1, marks=pytest.mark.sample), 2])
def test_numbers_do_not_depend_on_ray_or_the_share(cpu: float, alone: Path, tmp_path: Path) -> None:
    """With half a core each, four trials run concurrently; with two cores, one runs alone."""
    summary = launch(mini(cpu), open_store(tmp_path), QUIET)
    assert (summary.planned, summary.done, summary.failed, summary.left) == (4, 4, {}, 0)
    assert numbers(tmp_path, "finetune").equals(numbers(alone, "finetune"))


@pytest.mark.slow(310)
@pytest.mark.usefixtures("one_ray")
def test_every_kind_of_trial_has_the_numbers_of_one_process(tmp_path: Path) -> None:
    """A source is trained and fine-tuned in bundles, and each network is examined in every way, stage by stage."""
    study, root = parse_study(EVERYTHING, "everything.yaml"), tmp_path / "root"
    store = open_store(root)
    assert {spec.kind for spec in expand(study)} == set(KINDS)
    summary = launch(study, store, QUIET)
    assert (summary.failed, summary.left, summary.done) == ({}, 0, len(expand(study)))
    assert [finding for finding in verify(store, planned_trials(store)) if not finding.problem.harmless] == []
    alone = without_ray(study, tmp_path / "alone")
    for kind in KINDS:
        assert numbers(root, kind).equals(numbers(alone, kind)), kind
    assert set(store.keys("weights")) == set(open_store(alone).keys("weights"))


@pytest.mark.usefixtures("one_ray")
def test_a_launch_stops_before_it_costs_too_much(tmp_path: Path) -> None:
    """The minute for stopping trials is paid for as well: at ten dollars an hour it costs more than a dime."""
    summary = launch(mini(), open_store(tmp_path), QUIET, Options(spending=Spending(0.1, gpu(price=10.0).highest)))
    assert summary.stop_reason is not None
    assert summary.stop_reason.startswith("the spending limit was reached: about $0.0")
    assert (summary.failed, summary.interrupted) == ({}, False)
    assert summary.done < summary.planned


@pytest.fixture
def logical_gpu() -> Iterator[None]:
    """A cluster of one machine, which Ray believes to have four CPUs and one GPU."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 1})
    ray.init(address=cluster.address, logging_level=logging.ERROR)
    yield
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]  # untyped in Ray


@pytest.mark.usefixtures("logical_gpu")
def test_shares_on_a_cluster_with_a_gpu() -> None:
    said: list[str] = []
    share = share_of(mini().resources, said.append)
    assert share == {"CPU": 1, "GPU": 0.25}
    assert largest_multiple(share) == 4
    with refused(Code.CLUSTER_TOO_SMALL, "'CPU': 5", kind=InvalidRequest, key="resources"):
        share_of(mini(cpu=5).resources, said.append)
    assert said == []
