"""The options of `plan` about GPUs."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from jobs.catalog.catalog import Catalog
from jobs.errors import Code
from jobs.results import commit, open_store
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.system import nvidia
from orchestrator.planning import gpus, profile
from orchestrator.planning.gpu_table import Device
from orchestrator.planning.plan import Measured
from orchestrator.study.load import load_study
from tests.orchestrator.support import Command
from tests.results.rows import result_rows

TABLE = """\
Own:
  memory_gb: 12
  rates:
    float32: {tflops: 5, source: a test, date: 2026-11-30}
  prices:
  - {cloud: Ours, instance: rack, gpus: 1, kind: on-demand, dollars: 2, source: invoice, date: 2026-10-01}
"""

HALF = """\
name: half
grid: {source: [fmnist_natural], dataset: [digits], blocks: [1]}
schedule:
  - {images: [50], epochs: 1, seeds: 1, evaluate_every: 1}
recipe: {precision: bfloat16}
"""


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "machine_has_gpu", lambda: False)


def planned(deltasweep: Command, *options: str) -> dict[str, Any]:
    result = deltasweep("plan", "demo", *options, "--json")
    assert result.code == 0, result.message
    return dict(json.loads(result.out))


def test_the_gpu_decides_the_hours(deltasweep: Command) -> None:
    hours = [planned(deltasweep, "--gpu", name)["gpu_hours"] for name in ("A100", "A10G", "L4", "T4")]
    assert hours == sorted(set(hours))
    assert planned(deltasweep)["gpu"]["name"] == "A10G"


def test_a_gpu_of_the_command_line(deltasweep: Command) -> None:
    plan = planned(deltasweep, "--gpu", "T5", "--gpu-memory", "20", "--gpu-tflops", "11", "--price", "3")
    assert (plan["gpu"]["name"], plan["gpu"]["memory"], plan["gpu"]["rate"]) == ("T5", 20e9, pytest.approx(11e12))
    assert plan["gpu_hours"] == pytest.approx(plan["flops"] / 11e12 / 3600)
    assert plan["cost_on_demand"] == pytest.approx(3 * plan["gpu_hours"])
    beside = planned(
        deltasweep, "--gpu", "T5", "--gpu-memory", "20", "--gpu-tflops", "11", "--price", "3", "--compare", "T4"
    )
    assert {one["gpu"]: one["on_demand"]["price"] for one in beside["compare"]} == {"T5": 3.0, "T4": 0.526}
    unpriced = deltasweep("plan", "demo", "--gpu", "T5", "--gpu-memory", "20", "--gpu-tflops", "11")
    assert "no price of T5 is known. Fix: give --price" in unpriced.out


def test_a_gpu_of_a_table(deltasweep: Command) -> None:
    (deltasweep.folder / "gpus.yaml").write_text(TABLE, encoding="utf-8")
    plan = planned(deltasweep, "--gpus", "gpus.yaml", "--gpu", "Own", "--compare", "Own,A10G")
    assert (plan["gpu"]["name"], plan["gpu"]["rate"]) == ("Own", pytest.approx(5e12))
    assert {one["gpu"] for one in plan["compare"]} == {"Own", "A10G"}
    (deltasweep.folder / "gpus.yaml").write_text(TABLE.replace("memory_gb: 12", "memory: 12"), encoding="utf-8")
    wrong = deltasweep("plan", "demo", "--gpus", "gpus.yaml", "--json")
    error = json.loads(wrong.message)["error"]
    assert (wrong.code, error["code"], error["file"], error["line"]) == (2, Code.MISSING_KEY.value, "gpus.yaml", 1)
    assert [one["key"] for one in error["mistakes"]] == ["Own.memory_gb", "Own.memory"]


def test_a_comparison(deltasweep: Command) -> None:
    plan = planned(deltasweep, "--compare", "H100,A10G,T4")
    assert "compare" not in planned(deltasweep)
    by_name = {one["gpu"]: one for one in plan["compare"]}
    assert set(by_name) == {"H100", "A10G", "T4"}
    assert by_name["A10G"]["gpu_hours"] == pytest.approx(plan["gpu_hours"])
    assert by_name["A10G"]["on_demand"]["dollars"] == pytest.approx(plan["cost_on_demand"])
    assert by_name["A10G"]["spot"]["dollars"] == pytest.approx(plan["cost_spot"])
    assert [by_name[name]["spot"]["assumed"] for name in ("A10G", "T4")] == [False, True]
    assert by_name["H100"]["on_demand"]["place"].startswith("RunPod ")
    assert by_name["H100"]["gpu_hours"] < by_name["A10G"]["gpu_hours"] < by_name["T4"]["gpu_hours"]
    assert by_name["H100"]["trials_per_card"] > by_name["A10G"]["trials_per_card"] > by_name["T4"]["trials_per_card"]
    assert by_name["H100"]["rates"][0]["format"] == "float32"
    text = deltasweep("plan", "demo", "--compare", "H100,A10G,T4").out
    assert all(word in text for word in ("trials a card", "RunPod H100 SXM", "AWS g4dn.xlarge (assumed)", "H100 SXM5"))
    assert [by_name[name]["card"] for name in ("H100", "A10G")] == ["SXM5", None]
    assert "rate in float32 of H100 SXM5: " in deltasweep("plan", "demo", "--gpu", "H100").out


@pytest.mark.parametrize(
    ("options", "code", "key"),
    [
        (["--gpu", "T5"], Code.UNKNOWN_NAME, "--gpu"),
        (["--compare", "A100,T5"], Code.UNKNOWN_NAME, "--gpu"),
        (["--compare", "A100", "--measure"], Code.WRONG_VALUE, "--compare"),
        (["--measure", "--gpu-tflops", "3"], Code.WRONG_VALUE, "--gpu-tflops"),
        (["--measure", "--gpu", "A100"], Code.WRONG_VALUE, "--measure"),
        (["--gpus", "none.yaml"], Code.NO_SUCH_FILE, ""),
    ],
)
def test_options_that_do_not_fit(deltasweep: Command, options: list[str], code: Code, key: str) -> None:
    result = deltasweep("plan", "demo", *options, "--json")
    error = json.loads(result.message)["error"]
    assert (result.code, error["code"], error["key"]) == (2, code.value, key)
    assert "Fix: " in error["message"]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of trials whose steps were timed on a processor with two cores; a trial takes 36 seconds."""
    found = list[int]()

    def profile_trials(specs: Sequence[TrialSpec], catalog: Catalog) -> Measured:
        found.append(len(specs))
        return Measured("measured by a test", lambda _: 36.0, 2)

    monkeypatch.setattr(profile, "profile_trials", profile_trials)
    return found


def test_without_a_gpu_the_plan_begins_with_the_time_on_this_machine(deltasweep: Command, timed: list[int]) -> None:
    head, work, here, on_gpu, *_ = deltasweep("plan", "demo").out.splitlines()
    assert (head.split()[0], work.split(":")[0]) == ("demo:", "pending work")
    assert here.startswith("time on this machine: about 18m 00s, 2 trials side by side (0.6 hours of this processor, ")
    assert "measured by a test" in here
    assert on_gpu.startswith(
        "on a GPU: unknown; the rates are those of ResNet-50 in large batches, and networks as small"
    )
    assert timed == [60]


def test_hours_at_the_rates_of_a_large_network_are_not_those_of_small_ones(deltasweep: Command) -> None:
    small, large = (deltasweep("plan", name, "--gpu", "A10G").out for name in ("demo", "paper-table2"))
    assert ["networks as small as these take longer" in out for out in (small, large)] == [True, False]
    own = deltasweep("plan", "demo", "--gpu", "A10G", "--gpu-tflops", "0.1").out
    assert "take longer" not in own, "the user knows the rate"
    assert planned(deltasweep)["small_networks"] is True


def test_large_networks_that_are_timed_here_have_hours_on_a_gpu(deltasweep: Command, timed: list[int]) -> None:
    out = deltasweep("plan", "paper-table1b", "--measure").out
    assert "on a GPU: about " in out
    assert len(timed) == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--no-measure",),
        ("--json",),
        ("--gpu", "A100"),
        ("--gpu-memory", "20"),
        ("--price", "2"),
        ("--compare", "A100,T4"),
    ],
    ids=" ".join,
)
def test_nothing_is_timed_unasked_where_the_plan_is_for_a_gpu_or_for_programs(
    options: tuple[str, ...], deltasweep: Command, timed: list[int]
) -> None:
    result = deltasweep("plan", "demo", *options)
    assert result.code == 0
    assert ("unknown until --measure" in result.out) == (options == ("--no-measure",))
    assert timed == []


def test_nothing_is_timed_unasked_on_a_machine_with_a_gpu(
    deltasweep: Command, timed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia, "machine_has_gpu", lambda: True)
    assert "on this machine" not in deltasweep("plan", "demo").out
    assert timed == []
    deltasweep("plan", "demo", "--measure")
    assert timed == [60]


@pytest.mark.parametrize(
    ("device", "options", "name", "price"),
    [
        ("NVIDIA H200", (), "H200", gpus.gpu("H200").on_demand),
        ("NVIDIA H200", ("--gpu", "A100"), "A100", gpus.gpu("A100").on_demand),
        ("NVIDIA B200", (), "NVIDIA B200", None),
        ("NVIDIA B200", ("--price", "4"), "NVIDIA B200", gpus.gpu("H200", 4.0).on_demand),
    ],
)
def test_hours_that_were_measured_on_a_gpu_have_its_price(
    device: str,
    options: tuple[str, ...],
    name: str,
    price: gpus.Offer | None,
    deltasweep: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not that of the default GPU; none if there is no entry for it."""
    measured = Measured("measured by a test", lambda _: 36.0, gpu=Device(device, 150e9))
    monkeypatch.setattr(nvidia, "machine_has_gpu", lambda: True)
    monkeypatch.setattr(profile, "profile_trials", lambda specs, catalog: measured)
    plan = planned(deltasweep, "--measure", *options)
    assert (plan["gpu"]["name"], plan["gpu_hours"]) == (name, pytest.approx(0.6))
    assert plan["cost_on_demand"] == (None if price is None else pytest.approx(0.6 * price.dollars))
    out = deltasweep("plan", "demo", "--measure", *options).out
    assert (f"no price of {name} is known. Fix: give --price, in US dollars per GPU-hour, or --gpu" in out) == (
        price is None
    )
    assert "A10G" not in out


def test_networks_that_take_long_to_time_are_timed_if_asked(deltasweep: Command, timed: list[int]) -> None:
    out = deltasweep("plan", "paper-table1b").out.splitlines()
    assert out[2].startswith("time on this machine: unknown until --measure")
    assert out[3].startswith("time: about ")
    assert timed == []
    assert "0.6 hours" not in "".join(out)
    assert planned(deltasweep, "--measure")["on_processor"] is True
    assert timed == [60]


def test_nothing_is_timed_for_a_study_that_is_done(deltasweep: Command, timed: list[int]) -> None:
    (deltasweep.folder / "one.yaml").write_text(HALF.replace("bfloat16", "float32"), encoding="utf-8")
    (spec,) = expand(load_study(str(deltasweep.folder / "one.yaml")))
    commit(open_store(deltasweep.folder / "root"), "finetune", result_rows(spec.trial_id))
    out = deltasweep("plan", "one.yaml", "--results", "root", "--measure").out
    assert "1 done, 0 pending" in out
    assert "on this machine" not in out
    assert timed == []


def test_without_a_gpu_the_plan_says_what_the_processor_has_no_units_for(
    deltasweep: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.planning import processor

    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2"}))
    (deltasweep.folder / "half.yaml").write_text(HALF, encoding="utf-8")
    assert "This processor has no units for bfloat16" in deltasweep("plan", "half.yaml").out
    (said,) = json.loads(deltasweep("plan", "half.yaml", "--json").out)["about_processor"]
    assert "no units for bfloat16" in said
    assert json.loads(deltasweep("plan", "half.yaml", "--json", "--gpu", "T4").out)["about_processor"] == []
    assert "units" not in deltasweep("plan", "demo").out
