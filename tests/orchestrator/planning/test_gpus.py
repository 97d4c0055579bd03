"""Rates and prices of GPUs: what is measured, what is assumed, and what a user defines."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.costs import flops_trained_image
from jobs.errors import Code, InvalidRequest
from orchestrator.planning.compare import chosen
from orchestrator.planning.gpu_table import Format, GpuCard, Price, Rate, named_after, packaged_table, table_with
from orchestrator.planning.gpus import RESNET50_FLOPS, SPOT, format_of, gpu, gpu_of_machine
from tests.support import present, refused

FORMATS: tuple[Format, ...] = ("float32", "tf32", "bfloat16", "float16")


def measured(**rates: float) -> GpuCard:
    """Return a GPU with measured rates in TFLOP/s by format."""
    found = {form: Rate(tflops=tflops, source="a test", date="2026-11-30") for form, tflops in rates.items()}
    return GpuCard.model_validate({"memory_gb": 10, "rates": found})


# --- rates ---


@pytest.mark.parametrize("form", FORMATS)
def test_larger_gpus_are_faster_in_every_format(form: Format) -> None:
    ordered = ("T4", "L4", "A10G", "A100", "A100-80GB", "H100", "H200")
    rates = [gpu(name).reached(form).flops for name in ordered]
    assert all(slower < faster for slower, faster in pairwise(rates)), dict(zip(ordered, rates, strict=True))


def test_images_per_second_become_the_operations_that_plans_count() -> None:
    """Three forward passes, less the gradient of the images, which no step computes."""
    counted = flops_trained_image(PACKAGED.architecture("resnet50"), -1).total
    assert counted == pytest.approx(RESNET50_FLOPS, rel=0.02)
    assert gpu("V100").reached("float32").flops == 369 * RESNET50_FLOPS


@pytest.mark.parametrize("name", packaged_table())
def test_every_rate_says_what_it_rests_on(name: str) -> None:
    for form in FORMATS:
        rate = gpu(name).reached(form)
        assert rate.flops > 1e12
        assert rate.assumed == ("assumed" in rate.about), rate.about
        assert "measured: " in rate.about, "each rests on a measurement"
        assert any(year in rate.about for year in ("2021-", "2022-", "2023-", "2024-")), rate.about


def test_every_rate_and_price_has_a_source_and_a_date() -> None:
    for name, card in packaged_table().items():
        assert card.rates, name
        others = (one for rate in card.rates.values() for one in rate.others)
        dated = [(one.source, one.date) for group in (card.rates.values(), others) for one in group]
        for source, date in [*dated, *((one.source, one.date) for one in card.prices)]:
            assert source, name
            assert "2020-01" < date <= "2026-11-30", name


def test_prices_are_of_more_than_one_cloud() -> None:
    prices = [price for card in packaged_table().values() for price in card.prices]
    assert {"AWS", "Google Cloud", "Lambda", "RunPod"} <= {price.cloud for price in prices}
    assert {price.kind for price in prices} == {"on-demand", "spot"}


def test_the_rate_depends_on_precision_and_tf32() -> None:
    assert [format_of("float32", tf32) for tf32 in (False, True)] == ["float32", "tf32"]
    assert [format_of(precision, tf32) for precision in ("bfloat16", "float16") for tf32 in (False, True)] == [
        "bfloat16",
        "bfloat16",
        "float16",
        "float16",
    ]
    a100 = [gpu("A100").reached(form).flops for form in ("float32", "tf32", "float16")]
    assert a100 == sorted(set(a100))


@pytest.mark.parametrize("name", ["V100", "T4"])
def test_gpus_without_units_compute_as_in_float32(name: str) -> None:
    plain, tf32, bfloat16 = (gpu(name).reached(form) for form in ("float32", "tf32", "bfloat16"))
    assert plain.flops == tf32.flops == bfloat16.flops < gpu(name).reached("float16").flops
    assert tf32.about.startswith("no units for TF32")
    assert bfloat16.about.startswith("no units for bfloat16")


@pytest.mark.parametrize(("known", "other"), [("float16", "bfloat16"), ("bfloat16", "float16")])
def test_where_one_16_bit_format_is_measured_the_other_is_assumed_equal(known: Format, other: Format) -> None:
    card = measured(**{known: 5.0})
    found = gpu("own", table={"own": card})
    assert found.reached(known).assumed is False
    assert (found.reached(other).flops, found.reached(other).assumed) == (5e12, True)
    assert found.reached(other).about.startswith(f"assumed: as in {known}")


def test_float32_without_tensor_cores_takes_the_time_of_tf32_and_of_the_peak() -> None:
    """12 TFLOP/s in TF32 and a peak of 6 TFLOP/s: 1/12 + 1/6 = 1/4."""
    card = measured(tf32=12.0).model_copy(update={"fp32_tflops": 6.0})
    found = gpu("own", table={"own": card}).reached("float32")
    assert found.flops == pytest.approx(4e12)
    assert found.assumed
    assert "peak of 6 TFLOP/s" in found.about


def test_the_same_sum_is_near_the_measured_rate_where_there_is_one() -> None:
    """V100 has tensor cores for float16, and a measured rate in float32: 8.9 TFLOP/s by the sum, 9.0 measured."""
    float32, float16 = gpu("V100").reached("float32"), gpu("V100").reached("float16")
    peak = 1e12 * present(gpu("V100").card.fp32_tflops)
    assert not float32.assumed
    assert 1 / (1 / float16.flops + 1 / peak) == pytest.approx(float32.flops, rel=0.05)


def test_a_rate_relative_to_another_gpu() -> None:
    relative = Rate(of="other", times=0.5, because="half the bandwidth", source="data sheets", date="2026-11-30")
    table = {"other": measured(tf32=10.0), "own": GpuCard(memory_gb=10, rates={"tf32": relative})}
    found = gpu("own", table=table).reached("tf32")
    assert (found.flops, found.assumed) == (5e12, True)
    assert "0.5 times other (half the bandwidth)" in found.about


@pytest.mark.parametrize(
    ("card", "form"),
    [
        (measured(tf32=5.0), "float32"),  # no peak to derive it from
        (measured(float32=5.0), "tf32"),
        (measured(float32=5.0, tf32=6.0), "bfloat16"),
    ],
)
def test_a_rate_that_is_not_known_is_not_made_up(card: GpuCard, form: Format) -> None:
    with refused(Code.MISSING_KEY, "own", form, "--gpu-tflops", "--gpus", kind=InvalidRequest, key="--gpu-tflops"):
        gpu("own", table={"own": card}).reached(form)


# --- a GPU of the command line ---


def test_a_gpu_defined_by_memory_and_rate() -> None:
    own = gpu("T5", memory_gb=20, tflops=11)
    assert own.memory == 20e9
    assert {own.reached(form).flops for form in FORMATS} == {11e12}
    assert "your --gpu-tflops" in own.reached("tf32").about
    assert (own.on_demand, own.spot, own.highest) == (None, None, None)
    assert gpu(memory_gb=20, tflops=11).name == "own GPU", "not the default, whose prices would not be its own"
    assert [gpu().name, gpu(memory_gb=20).name, gpu(tflops=11).name] == ["A10G"] * 3


def test_memory_and_rate_replace_those_of_a_known_gpu() -> None:
    larger = gpu("V100", memory_gb=32)
    assert (larger.memory, larger.reached("float32")) == (32e9, gpu("V100").reached("float32"))
    faster = gpu("V100", tflops=12)
    assert (faster.memory, faster.reached("float32").flops, faster.on_demand) == (16e9, 12e12, gpu("V100").on_demand)


@pytest.mark.parametrize(("memory_gb", "tflops"), [(None, None), (20.0, None), (None, 11.0)])
def test_an_unknown_gpu_needs_both(memory_gb: float | None, tflops: float | None) -> None:
    with refused(
        Code.UNKNOWN_NAME,
        "'T5'",
        "A100-80GB",
        "--gpu-memory",
        "--gpu-tflops",
        "--gpus",
        kind=InvalidRequest,
        key="--gpu",
    ):
        gpu("T5", memory_gb=memory_gb, tflops=tflops)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_memory_and_rate_are_above_0(value: float) -> None:
    with refused(Code.WRONG_VALUE, "above 0", value, kind=InvalidRequest, key="--gpu-memory"):
        gpu("T4", memory_gb=value)
    with refused(Code.WRONG_VALUE, "above 0", value, kind=InvalidRequest, key="--gpu-tflops"):
        gpu("T4", tflops=value)


# --- prices ---


def price(cloud: str, dollars: float, kind: str = "on-demand") -> Price:
    values = {"cloud": cloud, "instance": "large", "gpus": 1, "kind": kind, "dollars": dollars}
    return Price.model_validate({**values, "source": "a list", "date": "2026-11-30"})


def test_the_lowest_price_is_taken_and_limits_on_spending_assume_the_highest() -> None:
    card = measured(float32=5.0).model_copy(update={"prices": (price("AWS", 3.0), price("Lambda", 2.0))})
    found = gpu("own", table={"own": card})
    assert (present(found.on_demand).dollars, present(found.on_demand).place) == (2.0, "Lambda large")
    assert present(found.highest).dollars == 3.0
    assert gpu("own", price=1.0, table={"own": card}).highest == gpu("own", price=1.0, table={"own": card}).on_demand


def test_a_known_spot_price_comes_before_an_assumed_one() -> None:
    card = measured(float32=5.0)
    listed = card.model_copy(update={"prices": (price("AWS", 3.0), price("RunPod", 2.5, "spot"))})
    assert present(gpu("own", table={"own": listed}).spot).dollars == 2.5
    assumed = gpu("own", table={"own": card.model_copy(update={"prices": (price("AWS", 3.0),)})}).spot
    assert (present(assumed).dollars, present(assumed).assumed) == (3.0 * SPOT, True)
    no_spot = card.model_copy(update={"prices": (price("Lambda", 3.0),)})
    assert gpu("own", table={"own": no_spot}).spot is None, "Lambda sells none"
    dearer = card.model_copy(update={"prices": (price("AWS", 3.0), price("Lambda", 1.0))})
    assert gpu("own", table={"own": dearer}).spot is None, "an assumption is no reason to pay more"


def test_a_spot_price_above_the_lowest_price_on_demand_does_not_count() -> None:
    card = measured(float32=5.0)
    for dollars, counts in ((1.5, False), (1.0, False), (0.9, True)):
        prices = (price("AWS", 3.0), price("Lambda", 1.0), price("AWS", dollars, "spot"))
        found = gpu("own", table={"own": card.model_copy(update={"prices": prices})})
        assert (found.spot is not None) == counts
    only_spot = card.model_copy(update={"prices": (price("AWS", 3.0, "spot"),)})
    assert present(gpu("own", table={"own": only_spot}).spot).dollars == 3.0
    assert present(gpu("own", spot_price=9.0, table={"own": only_spot}).spot).dollars == 9.0, "as the user says"
    for name in packaged_table():
        known = gpu(name)
        assert known.spot is None or known.spot.dollars < present(known.on_demand).dollars, name


def test_prices_of_the_user_are_called_that() -> None:
    own = gpu("A10G", price=2.0)
    assert (present(own.on_demand).about, present(own.spot).about) == ("your price", "assumed 40% of your price")
    assert "assumed 40% of the price of AWS g4dn.xlarge" in present(gpu("T4").spot).about


# --- names ---


@pytest.mark.parametrize(("written", "name"), [("a100", "A100"), ("rtx6000-ADA", "RTX6000-Ada"), ("T4", "T4")])
def test_names_are_known_in_any_case(written: str, name: str) -> None:
    assert gpu(written) == gpu(name)
    assert [one.name for one in chosen(f"{written},{name}", gpu("L4"))] == [name]


def test_names_that_may_have_been_meant_are_told() -> None:
    with refused(Code.UNKNOWN_NAME, "did you mean RTX4090", kind=InvalidRequest, key="--gpu"):
        gpu("rtx4080")


# --- a user's table ---

OWN = """\
T4:
  memory_gb: 16
  rates:
    float32: {tflops: 4.5, source: own benchmark, date: 2026-11-30}
B200:
  memory_gb: 180
  rates:
    tf32: {of: H100, times: 1.5, because: two benchmarks, source: my notes, date: 2026-11}
  prices:
  - {cloud: Ours, instance: rack, gpus: 8, kind: on-demand, dollars: 4, source: invoice, date: 2026-10-01}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "gpus.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_user_s_table_is_merged_over_the_packaged_one(tmp_path: Path) -> None:
    table = table_with(written(tmp_path, OWN))
    assert set(table) == {*packaged_table(), "B200"}
    assert gpu("T4", table=table).reached("float32").flops == 4.5e12
    assert gpu("T4", table=table).on_demand is None, "the entry is replaced as a whole"
    assert gpu("B200", table=table).reached("tf32").flops == 1.5 * gpu("H100").reached("tf32").flops
    assert present(gpu("B200", table=table).on_demand).place == "Ours rack"
    assert gpu("A10G", table=table).card == gpu("A10G").card
    assert table_with(None) == packaged_table()


REPLACED = """\
A10:
  memory_gb: 24
  rates: {float32: {tflops: 5.9, source: a test, date: 2026-11-30}}
V100:
  memory_gb: 16
  rates: {float16: {tflops: 9, source: a test, date: 2026-11-30}}
RTX6000-Ada:
  memory_gb: 48
  rates:
    tf32: {of: A100, times: 0.7, because: a guess, source: a test, date: 2026-11-30}
    float16: {of: A100, times: 0.7, because: a guess, source: a test, date: 2026-11-30}
"""


def test_a_name_in_another_case_is_the_same_gpu(tmp_path: Path) -> None:
    table = table_with(written(tmp_path, OWN.replace("T4:", "t4:")))
    assert set(table) == {*packaged_table(), "B200"}
    assert gpu("T4", table=table).reached("float32").flops == 4.5e12
    path = written(tmp_path, OWN.replace("B200:", "t4:"))
    with refused(Code.REPEATED, "expected each GPU once", "T4", kind=InvalidRequest, file=path, key="t4"):
        table_with(path)


def test_packaged_rates_are_relative_to_packaged_ones_whatever_a_user_replaces(tmp_path: Path) -> None:
    table = table_with(written(tmp_path, REPLACED))
    relative = [(name, form) for name, card in packaged_table().items() for form, rate in card.rates.items() if rate.of]
    assert {"A10G", "T4", "L4", "L40S"} == {name for name, _ in relative}
    for name, form in relative:
        assert gpu(name, table=table, memory_gb=12).reached(form) == gpu(name).reached(form)
    assert gpu("RTX6000-Ada", table=table).reached("tf32").flops == 0.7 * gpu("A100").reached("tf32").flops


def test_the_table_in_the_docs_is_a_table(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "estimate-cost.md").read_text(encoding="utf-8")
    (text,) = re.findall("```yaml\n(.+?)```", page, re.DOTALL)
    found = gpu("A10G", table=table_with(written(tmp_path, text)))
    assert found.reached("float32").flops == 5.9e12
    assert present(found.spot).dollars == 0.45


def test_all_mistakes_of_a_user_s_table_are_told_with_their_lines(tmp_path: Path) -> None:
    text = (
        OWN.replace("memory_gb: 16", "memory_gb: -16").replace("tflops: 4.5, ", "").replace("dollars: 4", "dolars: 4")
    )
    path = written(tmp_path, text)
    with pytest.raises(InvalidRequest) as caught:
        table_with(path)
    told = [(one.code, one.place.line, one.place.key) for one in caught.value.mistakes]
    assert told == [
        (Code.WRONG_VALUE, 2, "T4.memory_gb"),
        (Code.WRONG_VALUE, 4, "T4.rates.float32"),
        (Code.MISSING_KEY, 10, "B200.prices.0.dollars"),
        (Code.UNKNOWN_KEY, 10, "B200.prices.0.dolars"),
    ]
    assert all("expected" in one.message and "Fix: " in one.message for one in caught.value.mistakes)
    assert "got -16" in caught.value.mistakes[0].message


@pytest.mark.parametrize(
    ("old", "new", "code", "key"),
    [
        ("of: H100", "of: H101", Code.UNKNOWN_NAME, "B200.rates.tf32.of"),
        ("of: H100", "of: L4", Code.UNKNOWN_NAME, "B200.rates.tf32.of"),  # which is itself relative
        ("times: 1.5, ", "", Code.WRONG_VALUE, "B200.rates.tf32"),
        ("times: 1.5", "times: 1.5, tflops: 3", Code.WRONG_VALUE, "B200.rates.tf32"),
        ("tf32:", "fp32:", Code.WRONG_VALUE, "B200.rates.fp32.[key]"),
        ("date: 2026-11}", "date: November}", Code.WRONG_VALUE, "B200.rates.tf32.date"),
        ("source: my notes, ", "", Code.MISSING_KEY, "B200.rates.tf32.source"),
        ("B200:", "T4:", Code.REPEATED, "T4"),
    ],
)
def test_a_mistake_in_a_user_s_table(tmp_path: Path, old: str, new: str, code: Code, key: str) -> None:
    path = written(tmp_path, OWN.replace(old, new))
    with refused(code, "expected", "Fix: ", kind=InvalidRequest, file=path, key=key):
        table_with(path)


@pytest.mark.parametrize(("text", "code"), [("- A10G\n", Code.UNREADABLE_FILE), ("A10G: [", Code.UNREADABLE_FILE)])
def test_a_user_s_table_that_is_no_table(tmp_path: Path, text: str, code: Code) -> None:
    path = written(tmp_path, text)
    with refused(code, kind=InvalidRequest, file=path):
        table_with(path)


def test_a_user_s_table_that_is_not_there(tmp_path: Path) -> None:
    with refused(Code.NO_SUCH_FILE, "none.yaml", "Fix: ", kind=InvalidRequest, file=tmp_path / "none.yaml"):
        table_with(tmp_path / "none.yaml")


# --- the GPU of this machine ---


@pytest.mark.parametrize(
    ("device", "gigabytes", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", 85.1, "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", 42.4, "A100"),
        ("A100-SXM-80GB", 85.1, "A100-80GB"),
        ("NVIDIA A100 80GB PCIe", 85.1, None),
        ("NVIDIA A100-PCIE-40GB", 42.4, None),
        ("Tesla V100-PCIE-16GB", 17.0, None),
        ("Tesla V100-FHHL-16GB", 17.0, None),
        ("NVIDIA A10G", 24.1, "A10G"),
        ("NVIDIA A10", 24.1, "A10"),
        ("NVIDIA H200", 150.0, "H200"),
        ("NVIDIA H100 80GB HBM3", 85.0, "H100"),
        ("NVIDIA H100 PCIe", 85.0, None),
        ("NVIDIA H100 NVL", 100.0, None),
        ("NVIDIA H200 NVL", 150.0, None),
        ("GRID A100-10C", 10.7, None),
        ("NVIDIA A100-40C", 42.4, None),
        ("NVIDIA A10-24Q", 24.1, None),
        ("Tesla T4", 15.8, "T4"),
        ("Tesla V100-SXM2-32GB", 34.1, "V100"),
        ("NVIDIA L4", 23.6, "L4"),
        ("NVIDIA L40S", 47.7, "L40S"),
        ("NVIDIA GeForce RTX 4090", 25.4, "RTX4090"),
        ("NVIDIA RTX 6000 Ada Generation", 51.0, "RTX6000-Ada"),
        ("NVIDIA L40", 47.7, None),
        ("NVIDIA GH200 480GB", 102.0, None),
        ("NVIDIA B200", 190.0, None),
        ("NVIDIA RTX A1000", 8.0, None),
        ("Quadro RTX 6000", 25.2, None),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 21.0, None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 17.1, None),
        ("NVIDIA GeForce RTX 4090 D", 25.4, None),
    ],
)
def test_the_entry_of_a_machine_s_gpu(device: str, gigabytes: float, name: str | None) -> None:
    assert named_after(device, 1e9 * gigabytes, packaged_table()) == name


def test_an_entry_with_the_whole_name_of_a_device_comes_first() -> None:
    slice_of_a100 = "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
    table = {**packaged_table(), slice_of_a100: measured(float32=3)}
    assert named_after(slice_of_a100, 21e9, table) == slice_of_a100


@pytest.mark.parametrize(
    ("own", "card", "device", "named"),
    [
        ("H100-PCIe", None, "NVIDIA H100 PCIe", True),
        ("A100-PCIe-80GB", None, "NVIDIA A100 80GB PCIe", True),
        ("H100", "PCIe", "NVIDIA H100 PCIe", True),
        ("H100", "PCIe", "NVIDIA H100 NVL", False),
        ("A100", "PCIe", "NVIDIA A100-SXM4-40GB", False),
        ("A100", None, "NVIDIA A100-SXM4-40GB", True),
        ("A100", None, "NVIDIA A100-PCIE-40GB", False),
        ("MI300X", None, "AMD Instinct MI300X", True),
        ("RTX3090", None, "NVIDIA GeForce RTX 3090", True),
        ("RTX3090", None, "NVIDIA GeForce RTX 3090 Ti", False),
        ("RTX6000", None, "NVIDIA RTX 6000 Ada Generation", False),
    ],
)
def test_a_user_s_entry_of_a_form_factor(own: str, card: str | None, device: str, named: bool) -> None:
    table = {own: measured(float32=3).model_copy(update={"card": card})}
    assert named_after(device, 50e9, table) == (own if named else None)
    if named and own not in packaged_table():
        assert named_after(device, 50e9, {**packaged_table(), **table}) == own


@pytest.mark.parametrize("name", ["V100", "A100", "A100-80GB", "H100", "H200"])
def test_entries_are_of_one_form_factor(name: str) -> None:
    """Cards of several form factors have this name; rates and prices are of one of them."""
    card = packaged_table()[name]
    assert card.card is not None
    assert not [price.instance for price in card.prices if "PCIe" in price.instance]
    assert (gpu(name).model, gpu(name, tflops=3).model) == (f"{name} {card.card}", name)


def test_hours_of_this_machine_have_the_price_and_the_memory_of_its_gpu() -> None:
    known = gpu_of_machine("NVIDIA H200", 150e9)
    assert (known.name, known.memory, known.on_demand) == ("H200", 150e9, gpu("H200").on_demand)
    other = gpu_of_machine("NVIDIA B200", 190e9)
    assert (other.name, other.memory, other.on_demand, other.spot) == ("NVIDIA B200", 190e9, None, None)
    priced = gpu_of_machine("NVIDIA B200", 190e9, 4.0, memory_gb=180)
    assert (present(priced.on_demand).dollars, priced.memory) == (4.0, 180e9)
