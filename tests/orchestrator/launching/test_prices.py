"""The price of a launch's limit on spending: the user's, that of the GPU that the user names, or of the cluster's."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from jobs.errors import Code
from jobs.results import done, open_store, read_launches
from orchestrator.launching import launch as launching
from orchestrator.launching.launch import launch
from orchestrator.launching.options import Options, Spending
from orchestrator.launching.prices import about_limit, of_cluster, priced
from orchestrator.launching.request import LaunchRequest
from orchestrator.planning.gpu_table import Device, GpusUnknown, packaged_table
from orchestrator.planning.gpus import gpu
from orchestrator.study.load import parse_study
from tests.orchestrator.in_process import replace_ray
from tests.support import present, refused

H100, A10G = Device("NVIDIA H100 80GB HBM3", 85e9), Device("NVIDIA A10G", 24e9)
STUDY = parse_study(
    """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [30], epochs: 1, seeds: 2, evaluate_every: 1}]
""",
    "mini.yaml",
)


def asks_nobody() -> Sequence[Device]:
    raise AssertionError


# --- as asked ---


def test_a_given_price_or_gpu_is_taken_without_asking_the_cluster() -> None:
    yours = present(LaunchRequest(max_cost=200.0, price=1.2).spending())
    assert (priced(yours, asks_nobody).dollars, priced(yours, asks_nobody).about) == (1.2, "your price")
    named = present(LaunchRequest(max_cost=200.0, gpu="h100").spending())
    highest = max(price.dollars for price in packaged_table()["H100"].prices if price.kind == "on-demand")
    assert priced(named, asks_nobody).dollars == highest > present(gpu("H100").on_demand).dollars
    assert "H100 SXM5 on demand: Google Cloud a3-highgpu-1g, " in priced(named, asks_nobody).about
    with refused(Code.MISSING_KEY, "no price of RTX6000-Ada", key="--price"):
        LaunchRequest(max_cost=200.0, gpu="RTX6000-Ada").spending()
    assert LaunchRequest().spending() is None


def test_without_either_the_cluster_is_asked() -> None:
    spending = present(LaunchRequest(max_cost=200.0).spending())
    assert priced(spending, lambda: [H100]) == priced(present(LaunchRequest(max_cost=1, gpu="H100").spending()), list)


# --- of the cluster ---


def test_the_highest_price_of_the_gpus_of_a_cluster() -> None:
    assert of_cluster([A10G]).dollars == 1.006
    assert of_cluster([A10G, H100, A10G]) == of_cluster([H100])


def test_a_cluster_without_gpus_is_billed_as_before_and_says_so() -> None:
    price = of_cluster([])
    assert price.dollars == present(gpu().highest).dollars
    assert price.about.startswith("the cluster has no GPUs; assumed: the highest known price of A10G")


@pytest.mark.parametrize("name", ["NVIDIA H100 PCIe", "NVIDIA B200", "NVIDIA A100-SXM4-40GB MIG 3g.20gb"])
def test_a_gpu_that_the_table_does_not_have(name: str) -> None:
    with refused(Code.MISSING_KEY, "--price or --gpu", name, "Fix: ", key="--price"):
        of_cluster([A10G, Device(name, 85e9)])


def test_a_gpu_without_a_price() -> None:
    with refused(Code.MISSING_KEY, "no price of RTX6000-Ada", key="--price"):
        of_cluster([Device("NVIDIA RTX 6000 Ada Generation", 51e9)])


def test_a_cluster_that_cannot_say_what_it_has() -> None:
    def unknown() -> Sequence[Device]:
        raise GpusUnknown("no machine of this cluster can run trials yet")

    with refused(Code.MISSING_KEY, "--price or --gpu", "no machine", "Fix: ", key="--price"):
        priced(Spending(200.0, None), unknown)


# --- in a launch ---


def launched(folder: Path, patch: pytest.MonkeyPatch, devices: list[Device], most: float) -> tuple[str, str]:
    """Return what a launch printed, and why it stopped."""
    replace_ray(patch, folder)
    patch.setattr(launching, "cluster_gpus", lambda: devices)
    text = io.StringIO()
    console = Console(file=text, width=1000)
    summary = launch(STUDY, open_store(folder / "root"), console, Options(spending=Spending(most, None)))
    return text.getvalue(), summary.stop_reason or ""


@pytest.mark.usefixtures("short_tests")
def test_a_launch_prints_the_price_and_counts_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, reason = launched(tmp_path, monkeypatch, [A10G, H100], 0.1)
    assert about_limit(Spending(0.1, None), of_cluster([H100])) in said
    assert said.index("Spending limit: $0.10, at $11 per hour") < said.index("0/2")
    assert "of $0.10, at $11 per hour for each GPU" in reason


@pytest.mark.usefixtures("short_tests")
def test_no_trial_runs_at_an_unknown_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(Code.MISSING_KEY, "NVIDIA B200", key="--price"):
        launched(tmp_path, monkeypatch, [Device("NVIDIA B200", 190e9)], 200.0)
    store = open_store(tmp_path / "root")
    assert done(store, "finetune") == set()
    assert [launch.ended_at is not None for launch in read_launches(store)] == [True]
