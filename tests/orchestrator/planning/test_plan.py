"""The size and cost of a study."""

import csv
import gzip
import re
from collections.abc import Collection
from itertools import permutations
from statistics import median
from types import SimpleNamespace

import pytest
import torch

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.costs import Flops, flops_evaluated_image, flops_trained_image, memory, parameters
from jobs.errors import Code, InvalidRequest
from jobs.execution.device_kind import device_name
from jobs.kind import workload
from jobs.kinds.finetune.profiling import Rates
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.influence.spec import InfluenceSpec
from jobs.specs.recipes import Recipe
from jobs.specs.section import Resources
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.system.memory import GPU_RUNTIME_BYTES
from orchestrator.launching.budget import Budget, TimeLimit
from orchestrator.planning import profile
from orchestrator.planning.compare import compare, on_a_gpu
from orchestrator.planning.flops import bundle_flops, kept_bytes, study_flops, trial_flops
from orchestrator.planning.gpu_shares import SPARE, bundle_memory, even_share
from orchestrator.planning.gpus import gpu
from orchestrator.planning.makespan import makespan
from orchestrator.planning.plan import (
    DENSE_RATE,
    Measured,
    Plan,
    checkpoint_bytes,
    make_plan,
)
from orchestrator.planning.plan_text import amount, describe
from orchestrator.planning.profile import profile_trials
from orchestrator.planning.stages import stages_of
from orchestrator.study.load import load_study, parse_study
from tests.machine import authors_trials
from tests.orchestrator.support import Uniting
from tests.support import finetune_specs, present, refused

DEMO = load_study("demo")
STAGES = """
name: stages
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 2, evaluate_every: 1}]
attack:
  finetuned: {images: [20], seeds: 2}
  test_images: 64
  balls: [{constraint: l2, epsilon: [0.5], steps: 1}]
"""


def spec(**changes: object) -> FinetuneSpec:
    values = {"source": "natural", "dataset": "cifar10", "blocks": 3, "images": 100, "seed": 1, "epochs": 100}
    return FinetuneSpec.model_validate({**values, "evaluate_every": 20, "recipe": Recipe(), **changes})


def planned(study: Study, done: Collection[str] = (), quarantined: Collection[str] = ()) -> Plan:
    return make_plan(study, expand(study), set(done), set(quarantined), gpu())


def test_images_trained_and_evaluated() -> None:
    assert workload(spec(), PACKAGED).images_trained == 100 * 100
    assert workload(spec(images=-1), PACKAGED).images_trained == 50_000 * 100
    assert workload(spec(), PACKAGED).images_evaluated == 10_000 * 6  # epochs 1, 21, 41, 61, 81, 100


def test_operations_of_a_trial_by_hand() -> None:
    """ResNet-50: forward 8.18 GFLOP an image, of which layer4 1.62; its backward twice that, less 0.41 of its input."""
    flops = trial_flops(spec(), PACKAGED)
    assert flops.evaluation == pytest.approx(60_000 * 8.18e9, rel=0.01)
    assert flops.trunk == pytest.approx(10_000 * (8.18e9 - 1.62e9), rel=0.01)
    assert flops.head_forward == pytest.approx(10_000 * 1.62e9, rel=0.01)
    assert flops.head_backward == pytest.approx(10_000 * (2 * 1.62e9 - 0.41e9), rel=0.01)
    assert flops.attack == 0
    totals = [trial_flops(spec(blocks=blocks), PACKAGED).total for blocks in (0, 3, 9, -1)]
    assert totals == sorted(set(totals))
    assert trial_flops(spec(blocks=-1), PACKAGED).trunk == 0


def test_a_plan_adds_up() -> None:
    specs = expand(DEMO)
    plan = planned(DEMO)
    assert (plan.trials, plan.done, plan.pending, plan.quarantined) == (len(specs), 0, len(specs), 0)
    assert plan.images_trained == sum(workload(s, PACKAGED).images_trained for s in specs)
    assert plan.images_evaluated == sum(workload(s, PACKAGED).images_evaluated for s in specs)
    assert plan.flops.total == pytest.approx(sum(trial_flops(s, PACKAGED).total for s in specs))
    (rate,) = plan.rates
    assert rate == plan.gpu.reached("float32")
    assert plan.gpu_hours == pytest.approx(plan.flops.total / rate.flops / 3600)
    assert plan.flops_by_format == {"float32": plan.flops.total}


def test_what_is_done_costs_nothing_more() -> None:
    specs = expand(DEMO)
    finished = {s.trial_id for s in specs[:30]} | {"finetune-of-another-study-0123456789abcdef"}
    plan = planned(DEMO, finished)
    assert (plan.trials, plan.done, plan.pending) == (len(specs), 30, len(specs) - 30)
    assert plan.images_trained == sum(workload(s, PACKAGED).images_trained for s in specs[30:])
    everything = planned(DEMO, {s.trial_id for s in specs})
    assert (everything.pending, everything.images_trained, everything.flops.total, everything.gpu_hours) == (0, 0, 0, 0)
    assert "0 pending" in describe(everything, DEMO)


def test_what_is_done_is_not_put_together_again_for_every_trial() -> None:
    """Which took 15 s of a plan of 14,400 trials, nearly all of them done."""
    specs, before = expand(DEMO), Uniting.unions
    make_plan(DEMO, specs, Uniting(spec.trial_id for spec in specs[:30]), set(), gpu("A10G"))
    assert 0 < Uniting.unions - before < 10


@pytest.mark.parametrize(("name", "ratio"), [("paper", 1.69), ("paper-table4", 1.73)])
def test_bundles_save_what_the_arithmetic_says(name: str, ratio: float) -> None:
    """The ratios of docs/decisions/bundles.md."""
    study = load_study(name).model_copy(update={"bundle": "blocks"})
    together, alone = planned(study), planned(study.model_copy(update={"bundle": "none"}))
    assert together.flops_alone == alone.flops_alone == alone.flops.total
    assert alone.flops.total / together.flops.total == pytest.approx(ratio, rel=0.02)
    assert alone.gpu_hours / together.gpu_hours == pytest.approx(ratio, rel=0.02)
    counts = [(plan.trials, plan.pending, plan.images_trained, plan.images_evaluated) for plan in (together, alone)]
    assert counts[0] == counts[1]
    assert "times less work than running each trial alone" in describe(together, study)
    assert "bundles" not in describe(alone, study.model_copy(update={"bundle": "none"}))


def test_operations_of_a_bundle_by_hand() -> None:
    """Blocks 0 and 3 of ResNet-50.

    All but the FC layer runs once; layer4 (1.62 GFLOP) runs forward again for blocks 3.
    """
    bundle = [spec(blocks=0), spec(blocks=3)]
    flops = bundle_flops(bundle, PACKAGED)
    assert flops.trunk == trial_flops(bundle[0], PACKAGED).trunk == pytest.approx(10_000 * 8.18e9, rel=0.01)
    assert flops.head_forward == pytest.approx(10_000 * 1.62e9, rel=0.01)
    assert flops.head_backward == sum(trial_flops(each, PACKAGED).head_backward for each in bundle)
    assert flops.evaluation == pytest.approx(60_000 * (8.18e9 + 1.62e9), rel=0.01)
    assert bundle_flops([*bundle, spec(blocks=-1)], PACKAGED).total == pytest.approx(
        flops.total + trial_flops(spec(blocks=-1), PACKAGED).total
    ), "the whole network shares nothing"
    assert bundle_flops(bundle[1:], PACKAGED) == trial_flops(bundle[1], PACKAGED)


def grey(mode: str, **changes: object) -> FinetuneSpec:
    return spec(dataset="mnist", recipe={"frozen_batchnorm": mode}, **changes)


RESNET50 = PACKAGED.architecture("resnet50")
TRUNK_0, TRUNK_3 = (flops_trained_image(RESNET50, blocks).trunk for blocks in (0, 3))
FORWARD = flops_evaluated_image(RESNET50)


def test_operations_with_activations_that_are_kept_by_hand() -> None:
    """100 grey images for 100 epochs, 10,000 test images after 6 of them: the frozen part runs once per image."""
    seeds = [grey("source", seed=seed, blocks=0) for seed in (1, 2)]
    flops = study_flops([[each] for each in seeds], PACKAGED)
    assert flops.trunk == 2 * 100 * TRUNK_0
    assert flops.evaluation == 10_000 * TRUNK_0 + 2 * 60_000 * (FORWARD - TRUNK_0)
    assert flops.head_backward == 2 * trial_flops(seeds[0], PACKAGED).head_backward
    assert kept_bytes(seeds, PACKAGED) == 10_000 * 2048 * 4
    bundle = [grey("source", blocks=0), grey("source", blocks=3), grey("source", blocks=-1)]
    flops = study_flops([bundle], PACKAGED)
    assert flops.trunk == 100 * TRUNK_0, "blocks 0 goes on from the activations of blocks 3"
    assert flops.evaluation == 10_000 * TRUNK_0 + 60_000 * (3 * FORWARD - TRUNK_0 - TRUNK_3)


def test_a_calibrated_trunk_is_its_trials_own() -> None:
    seeds = [grey("calibrated", seed=seed) for seed in (1, 2)]
    flops = study_flops([[each] for each in seeds], PACKAGED)
    assert flops.trunk == 2 * (100 + 100) * TRUNK_3, "once to calibrate, once to keep"
    assert flops.evaluation == 2 * (10_000 * TRUNK_3 + 60_000 * (FORWARD - TRUNK_3))
    assert kept_bytes(seeds, PACKAGED) == 2 * 10_000 * 1024 * 14 * 14 * 4


def test_without_batchnorm_nothing_is_calibrated() -> None:
    """The trunk of a vision transformer runs once, to keep its activations."""
    card = PACKAGED.architecture("vit6-d64")
    assert not card.running_statistics
    calibrated, kept = (grey(mode, source="fmnist_vit6_natural") for mode in ("calibrated", "source"))
    assert trial_flops(calibrated, PACKAGED).trunk == trial_flops(kept, PACKAGED).trunk > 0


@pytest.mark.parametrize(
    ("sources", "blocks", "recipe", "told"),
    [
        ("fmnist_vit6_natural, fmnist_vit6_l2_eps1", 3, "batch", True),
        ("fmnist_vit6_natural", 3, "calibrated", True),
        ("fmnist_vit6_natural", 3, "source", False),
        ("fmnist_vit6_natural", -1, "batch", False),
        ("fmnist_vit6_natural, fmnist_natural", 3, "batch", False),
    ],
)
def test_a_plan_says_what_is_quickest_without_batchnorm(sources: str, blocks: int, recipe: str, told: bool) -> None:
    """Not if some networks have it: their numbers would be others."""
    study = parse_study(
        f"name: without\ngrid: {{source: [{sources}], dataset: [digits], blocks: [{blocks}]}}\n"
        "schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]\n"
        f"recipe: {{frozen_batchnorm: {recipe}}}\n",
        "without.yaml",
    )
    assert ("note: without BatchNorm" in describe(planned(study), study)) == told


def test_activations_are_not_kept_of_augmented_images_nor_of_too_many() -> None:
    colour = spec(recipe=Recipe(frozen_batchnorm="source"))
    assert study_flops([[colour]], PACKAGED).trunk == 10_000 * TRUNK_3
    as_published = spec(dataset="mnist", recipe=Recipe(frozen_batchnorm="source", transforms="as-published"))
    assert study_flops([[as_published]], PACKAGED).trunk == 10_000 * TRUNK_3
    assert study_flops([[grey("source", images=12_800)]], PACKAGED).trunk == 12_800 * 100 * TRUNK_3, "10 GB"
    assert study_flops([[grey("source", images=12_800, blocks=0)]], PACKAGED).trunk == 12_800 * TRUNK_0, "105 MB"


def test_activations_are_kept_once_for_recipes_that_normalise_alike() -> None:
    """A robust source uses its own statistics in either recipe; the learning rate has no effect on them."""

    def tuned(source: str, **choices: object) -> FinetuneSpec:
        recipe = Recipe.model_validate({"frozen_batchnorm": "source", **choices})
        return spec(source=source, dataset="mnist", recipe=recipe)

    alike = [
        tuned("l2_eps3"),
        tuned("l2_eps3", learning_rate=0.05),
        tuned("l2_eps3", normalization="as-released"),
        tuned("l2_eps3", batch_size=64),
    ]
    apart = [
        tuned("l2_eps3", normalization="target"),
        tuned("natural"),
        tuned("natural", normalization="as-released"),
        tuned("l2_eps3", evaluation_batch_size=64),
    ]
    size = 10_000 * 1024 * 14 * 14 * 4
    assert kept_bytes(alike, PACKAGED) == size
    assert kept_bytes([*alike, *apart], PACKAGED) == 5 * size
    assert study_flops([[each] for each in alike], PACKAGED).evaluation == 10_000 * TRUNK_3 + 4 * 60_000 * (
        FORWARD - TRUNK_3
    )


def test_activations_of_a_whole_training_set_are_kept_once() -> None:
    seeds = [grey("source", images=-1, blocks=0, seed=seed) for seed in (1, 2)]
    assert study_flops([[each] for each in seeds], PACKAGED).trunk == 60_000 * TRUNK_0
    assert kept_bytes(seeds, PACKAGED) == 70_000 * 2048 * 4


@pytest.mark.parametrize("mode", ["source", "calibrated"])
def test_bytes_of_activations_do_not_depend_on_the_order_of_trials(mode: str) -> None:
    """Subsets share their test images with the whole set, whose own activations are in a file only if not augmented."""
    few, whole, augmented = (
        spec(dataset="mnist", blocks=0, images=images, recipe={"frozen_batchnorm": mode, "transforms": transforms})
        for images, transforms in ((100, "none"), (-1, "none"), (-1, "as-published"))
    )
    tests = 2 if mode == "calibrated" else 1  # a subset has its own statistics
    for specs in permutations((few, whole, augmented)):
        assert kept_bytes(specs, PACKAGED) == (60_000 + tests * 10_000) * 2048 * 4


def test_a_plan_says_what_matrices_take_that_are_held_whole() -> None:
    """The paper's own study has 20,490 rows, for the pseudo-inverse by both decompositions.

    The JSON output also includes small matrices.
    """
    study = load_study("paper-influence")
    plan = planned(study)
    (by_svd, by_eigh, kernel) = plan.plain()["matrices"]
    for one, by, matrices, operations in ((by_svd, "svd", 7, 1.055e14), (by_eigh, "eigh", 4, 6.54e13)):
        assert (one["measure"], one["decomposition"], one["rows"]) == ("pseudo-inverse", by, 20_490)
        assert one["trials"] == 10
        assert one["bytes"] == matrices * 8 * 20_490**2
        assert one["operations"] == pytest.approx(operations, rel=0.01)
        assert one["core_hours"] == pytest.approx(one["operations"] / DENSE_RATE / 3600)
    assert (kernel["measure"], kernel["decomposition"], kernel["rows"]) == ("fisher", None, 3200)
    assert kernel["trials"] == 10
    text = describe(plan, study)
    said = [line for line in text.splitlines() if line.startswith("matrices: ")]
    expected = (
        ("svd", "24 GB", "106 TFLOP in float64", "2 hours"),
        ("eigh", "13 GB", "65.4 TFLOP in float64", "1.2 hours"),
    )
    for line, (by, *values) in zip(said, expected, strict=True):
        for value in (f"pseudo-inverse by {by}, 10 trials", "20,490 rows", *values):
            assert value in line
    assert "more than one A10G has)" in said[0], "24 GB, of which CUDA takes some"
    assert "has)" not in said[1], "an A10G has as much"
    small = make_plan(study, expand(study), set(), set(), gpu("T4")._replace(memory=8e9))
    assert "more than one T4 has" in describe(small, study)


def test_matrices_of_what_is_done_take_nothing_more() -> None:
    study = load_study("paper-influence")
    done = {spec.trial_id for spec in expand(study) if "pseudo-inverse" in spec.trial_id}
    assert [one.measure for one in planned(study, done).matrices] == ["fisher"]
    assert "matrices: " not in describe(planned(study, done), study), "33 MB are not worth a line"
    assert planned(DEMO).matrices == ()


@pytest.mark.parametrize("measures", [(), ("influence",), ("fisher",), ("pseudo-inverse",), ("influence", "fisher")])
def test_a_plan_names_the_work_that_its_times_leave_out(measures: Collection[str]) -> None:
    study = load_study("paper-influence")
    others = [spec for spec in expand(study) if isinstance(spec, InfluenceSpec) and spec.measure not in measures]
    plan = planned(study, {spec.trial_id for spec in others})
    words = ["conjugate gradients"] * ("influence" in measures)
    words += ["inverting matrices"] * bool({"fisher", "pseudo-inverse"}.intersection(measures))
    assert [*plan.uncounted] == [*plan.plain()["uncounted"]] == words
    (line,) = (line for line in describe(plan, study).split("\n") if line.startswith("time: "))
    assert line.partition("; without ")[2] == " and ".join(words)
    here = describe(plan._replace(on_processor=True, seconds_here=60.0), study)
    assert f"; without {', '.join(['reading images', *words])} and starting Ray)" in here
    assert (f"; without {' and '.join(words)} (--gpu" in on_a_gpu(plan)) == bool(words)


def test_an_examination_holds_no_more_images_than_it_is_shown() -> None:
    study = load_study("paper-figure1b")
    plan = planned(study)
    assert plan.gpu_share < 0.33 == study.resources.gpu
    assert "too little" not in describe(plan, study)


def test_a_plan_says_what_share_auto_is() -> None:
    """The memory of the largest actor, rounded up to an even share of the card; matrices are part of it."""
    study = load_study("paper").model_copy(update={"resources": Resources(gpu="auto")})
    plan = planned(study)
    assert plan.gpu_auto >= plan.gpu_share > 1 / (1 + round(1 / plan.gpu_auto))
    assert f"gpu: auto, which is {plan.gpu_auto:g} of one A10G" in describe(plan, study)
    assert plan.plain()["gpu_auto"] == plan.gpu_auto
    influence = planned(load_study("paper-influence"))
    assert influence.actor_memory > max(influence.memory, influence.matrices[0].bytes)
    (card,) = compare(plan, [gpu("H100")])
    assert card.gpu_auto == pytest.approx(1 / card.trials_per_card, abs=1e-4)


SECTIONS = """
name: sections
grid: {source: [natural], dataset: [cifar10], blocks: [0]}
schedule: [{images: [100, -1], epochs: 1, seeds: 1, evaluate_every: 1}]
resources: {gpu: 0.5}
recipe: {precision: PRECISION}
influence:
  finetuned: {images: [100], seeds: 1}
  measures: [pseudo-inverse]
  decomposition: eigh
  resources: {gpu: GPU}
"""


def memory_lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.startswith("memory")]


@pytest.mark.parametrize(
    ("asked", "card", "ends"),
    [
        ("0.25", 24, "its section requests gpu: 0.25, which is too little: use 0.74 or more, or auto"),
        ("0.8", 24, "its section requests gpu: 0.8"),
        ("auto", 24, "its section requests gpu: auto, which is 1 of one A10G"),
        ("auto", 8, "its section requests gpu: auto. One A10G is too small: use a larger GPU"),
        ("0", 24, "its section requests no GPU"),
    ],
)
def test_each_stage_has_its_memory_and_share(asked: str, card: float, ends: str) -> None:
    """The influence matrix takes most of the memory of its trials, and none of the others'."""
    study = parse_study(SECTIONS.replace("GPU", asked).replace("PRECISION", "float32"), "sections.yaml")
    specs = expand(study)
    plan = make_plan(study, specs, set(), set(), gpu("A10G", memory_gb=card))
    by_id = {spec.trial_id: spec for spec in specs}
    assert [stage.memory for stage in plan.stages] == [one.memory for one in stages_of(study, by_id, [*by_id])]
    assert [stage["auto"] for stage in plan.plain()["stages"]] == [
        even_share(stage.memory, card * 1e9) for stage in plan.stages
    ]
    *tuned, examined = memory_lines(describe(plan, study))
    assert all(line.startswith("memory of finetune") for line in tuned)
    assert examined.startswith("memory of influence: about 18 GB per trial, ")
    assert examined.endswith(ends)


@pytest.mark.parametrize("share", [0.2501, 0.254, 0.255, 0.26, 0.29, 0.998])
def test_a_share_that_is_advised_is_enough(share: float) -> None:
    """And no more than a hundredth of a GPU too much."""
    plan = planned(DEMO)

    def said(requested: float) -> str:
        stages = tuple(stage._replace(share=share, requested=requested) for stage in plan.stages)
        return describe(plan._replace(stages=stages), DEMO)

    advised = present(re.search("([0-9.]+) of one A10G; .* which is too little: use ([0-9.]+) or more", said(0.25)))
    assert advised[1] == advised[2]
    assert share <= float(advised[2]) < share + 0.011
    assert "too little" not in said(float(advised[2]))


@pytest.mark.parametrize("gpu_asked", ["auto", "0.5"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_card_that_is_too_small_is_told_whatever_is_asked(gpu_asked: str, precision: str) -> None:
    text = SECTIONS[: SECTIONS.index("influence:")].replace("PRECISION", precision).replace("gpu: 0.5", "gpu: GPU")
    study = parse_study(text.replace("GPU", gpu_asked), "small.yaml")
    plan = make_plan(study, expand(study), set(), set(), gpu("T4", memory_gb=1))
    (line,) = memory_lines(describe(plan, study))
    assert f"requests gpu: {gpu_asked}. One T4 is too small: use a larger GPU" in line
    assert ("precision: bfloat16" in line) == (precision == "float32")


def test_a_plan_says_what_kept_activations_save_and_take() -> None:
    study = DEMO.model_copy(update={"recipe": Recipe(frozen_batchnorm="source")})
    text = describe(planned(study), study)
    assert "cached activations: " in text
    assert "kB of activations" in text or "MB of activations" in text


def test_bytes_of_examinations_are_near_those_that_were_measured() -> None:
    """Files of `demo-full` and `demo-shape`: 223 kB; 47 to 49 kB; 24 kB."""
    full = {spec.kind: spec for spec in [*expand(load_study("demo-full")), *expand(load_study("demo-shape"))]}
    for kind, measured in {"influence": 223_000, "visualize": 48_000, "shape_bias": 24_400}.items():
        assert workload(full[kind], PACKAGED).result_bytes == pytest.approx(measured, rel=0.35), kind


def test_whole_training_images_take_the_room_of_photographs() -> None:
    """They are stored in addition to the squares if a study requests both; the test images are stored once."""
    study = load_study("paper-table2")
    specs = expand(study)
    squares = [
        spec.model_copy(update={"recipe": Recipe()})
        for spec in specs
        if isinstance(spec, FinetuneSpec) and spec.dataset == "caltech101_lowpass_aspect"
    ]
    images = 3 * 224 * 224
    assert make_plan(study, specs, set(), set(), gpu()).images_at_rest == 2 * (3030 * 4 // 3 + 5647) * images
    both = make_plan(study, [*specs, *squares], set(), set(), gpu()).images_at_rest
    assert both == (2 * (3030 * 4 // 3 + 5647) + 3030) * images


def test_quarantined_trials_are_not_pending() -> None:
    specs = expand(DEMO)
    ids = [s.trial_id for s in specs]
    plan = planned(DEMO, set(ids[:10]), {ids[9], ids[10], "finetune-of-another-study-0123456789abcdef"})
    assert (plan.done, plan.quarantined, plan.pending) == (10, 1, len(specs) - 11)
    assert plan.images_trained == sum(workload(s, PACKAGED).images_trained for s in specs[11:])


def test_the_plan_in_words() -> None:
    study = load_study("paper")
    text = describe(planned(study), study)
    assert text.startswith("paper: 14,400 trials: 0 done, 14,400 pending, 0 quarantined\n")
    # docs/decisions/bundles.md: 194 EFLOP naive, 114 in bundles; here with an FC layer of 1,000 labels
    assert "115 EFLOP" in text
    assert "bundles: 1.69 times less work" in text
    assert "AWS g5.xlarge, list price in us-east-1" in text
    assert "too little" not in text, "the packaged study asks for enough of its GPU"


def test_prices_can_be_the_user_s() -> None:
    assert present(gpu("T4").on_demand).dollars == 0.526
    own = gpu("T4", price=2.0)
    assert (present(own.on_demand).dollars, present(own.spot).dollars) == (2.0, 0.8)
    assert "your price" in own.prices_from
    assert present(gpu("T4", spot_price=0.1).spot).dollars == 0.1
    with refused(Code.UNKNOWN_NAME, "'T5'", "T4, V100, A10", kind=InvalidRequest, key="--gpu"):
        gpu("T5")
    with refused(Code.WRONG_VALUE, "above 0", "got 0.0", kind=InvalidRequest, key="--price"):
        gpu("T4", price=0.0)
    with refused(Code.WRONG_VALUE, "above 0", "got nan", kind=InvalidRequest, key="--spot-price"):
        gpu("T4", spot_price=float("nan"))


def test_money_follows_hours_and_price() -> None:
    plan = make_plan(DEMO, expand(DEMO), set(), set(), gpu("T4", 2.0, 0.5))
    assert plan.on_demand == pytest.approx(2.0 * plan.gpu_hours)
    assert plan.spot == pytest.approx(0.5 * plan.gpu_hours)
    assert plan.plain()["cost_spot"] == plan.spot


def test_memory_grows_with_what_is_trained_and_with_batches() -> None:
    """ResNet-50 at 224 pixels keeps about 100 MB per image when all of it is trained."""
    sizes = [memory(RESNET50, [blocks], 128, 1) for blocks in (0, 1, 3, 9, -1)]
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == pytest.approx(128 * 1.0e8, rel=0.2)
    assert memory(RESNET50, [0], 1, 256) == pytest.approx(256 * 1.1e7, rel=0.1)


def test_a_bundle_needs_its_largest_trial_and_the_other_heads() -> None:
    """Weights, gradients and momentum of each head; the trunk and one step's activations only once."""
    together = memory(RESNET50, [0, 1, 3, 9], 128, 256)
    largest = memory(RESNET50, [9], 128, 256)
    heads = 4 * 3 * sum(parameters(RESNET50, blocks) for blocks in (0, 1, 3))
    assert largest < together < sum(memory(RESNET50, [blocks], 128, 256) for blocks in (0, 1, 3, 9))
    assert together == pytest.approx(largest + heads, rel=0.05)


def test_memory_and_checkpoints_depend_on_what_the_optimizer_keeps() -> None:
    """Per trained parameter SGD keeps one number, without momentum none, AdamW two."""
    trained = parameters(RESNET50, 3)
    works = [
        workload(spec(recipe=recipe), PACKAGED) for recipe in (Recipe(momentum=0), Recipe(), Recipe(optimizer="adamw"))
    ]
    assert [checkpoint_bytes(work) for work in works] == [2 * 4 * numbers * trained for numbers in (1, 2, 3)]
    plain, momentum, adamw = (bundle_memory([work]) for work in works)
    assert momentum - plain == adamw - momentum == SPARE * 4 * trained
    assert momentum == GPU_RUNTIME_BYTES + SPARE * memory(RESNET50, [3], 128, 256)


def test_measuring_times_the_steps_that_the_trials_consist_of() -> None:
    specs = expand(DEMO)
    measured = profile_trials(specs, PACKAGED)
    where, seconds = measured.about, measured.seconds
    assert where.startswith(f"measured here on {device_name(torch.device('cpu'))}, batches of ")
    one = seconds(specs[0])
    assert 0.01 < one < 120
    (first,) = finetune_specs(specs[:1])
    longer = first.model_copy(update={"epochs": 2 * first.epochs})
    assert 1.5 * one < seconds(longer) < 2.5 * one
    plan = make_plan(DEMO, specs, set(), set(), gpu(), measured)
    assert plan.gpu_hours == pytest.approx(sum(map(seconds, specs)) / 3600)
    assert plan.rates == ()
    assert where in describe(plan, DEMO)


def test_on_a_gpu_the_measurement_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "default_device", lambda: torch.device("cuda", 0))
    monkeypatch.setattr(profile, "device_name", lambda device: "NVIDIA L4, sm_89")
    monkeypatch.setattr(profile, "measure", lambda *_: Rates(trained=0.01, evaluated=0.001))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=24 * 10**9))
    measured = profile_trials(expand(DEMO), PACKAGED)
    assert measured.about.startswith("measured here on NVIDIA L4, sm_89, batches of ")
    assert (measured.cores, measured.gpu) == (0, ("NVIDIA L4", 24 * 10**9))


def test_hours_of_a_processor_have_no_price() -> None:
    specs = expand(DEMO)
    plan = make_plan(DEMO, specs, set(), set(), gpu(), Measured("measured here on a processor", lambda _: 36.0, 4))
    assert plan.gpu_hours == pytest.approx(len(specs) / 100)
    assert (plan.on_demand, plan.spot) == (None, None)
    found = plan.plain()
    assert (found["on_processor"], found["cost_on_demand"], found["cost_spot"]) == (True, None, None)
    text = describe(plan, DEMO)
    assert "hours of this processor, measured here on a processor" in text
    assert [word for word in ("$", "GPU-hours", "A10G") if word in text] == []
    on_gpu = make_plan(DEMO, specs, set(), set(), gpu(), Measured("measured here on a GPU", lambda _: 36.0))
    assert on_gpu.on_demand == pytest.approx(on_gpu.gpu_hours * 1.006)


def test_the_time_of_a_launch_here_counts_the_trials_that_run_side_by_side() -> None:
    specs = expand(DEMO)

    def seconds(cores: int, pending: int = len(specs), cpu: float = 1.0) -> float | None:
        study = DEMO.model_copy(update={"resources": DEMO.resources.model_copy(update={"cpu": cpu})})
        done = {one.trial_id for one in specs[pending:]}
        return make_plan(study, specs, done, set(), gpu(), Measured("by a test", lambda _: 36.0, cores)).seconds_here

    assert seconds(1) == pytest.approx(len(specs) * 36)
    assert seconds(4) == pytest.approx(len(specs) * 36 / 4)
    assert seconds(4, pending=10) == pytest.approx(3 * 36), "the last round has two trials"
    assert seconds(4, cpu=2.0) == pytest.approx(len(specs) * 36 / 2)
    assert seconds(2, cpu=4.0) == pytest.approx(len(specs) * 36), "a trial runs, even if it asks for more cores"
    assert seconds(64, pending=2) == pytest.approx(36)
    assert seconds(0) is None, "measured on a GPU"


@pytest.mark.parametrize(("cores", "cpu", "used"), [(1, 1, 1), (2, 1, 2), (4, 1, 4), (8, 1, 8), (8, 4, 8), (8, 8, 4)])
def test_trials_share_the_cores_of_their_threads(cores: int, cpu: float, used: int) -> None:
    """Trials of 36 s of processor time in four threads: 9 s, if there is a core for each."""
    resources = DEMO.resources.model_copy(update={"cpu": cpu})
    study = DEMO.model_copy(update={"recipe": Recipe(threads=4), "resources": resources})
    specs = expand(study)[:32]
    plan = make_plan(study, specs, set(), set(), gpu(), Measured("by a test", lambda _: 9.0, cores))
    assert plan.seconds_here == pytest.approx(len(specs) * 36 / used)
    assert plan.side_by_side == max(1, cores // cpu)


def test_bundles_are_what_runs_side_by_side() -> None:
    grid = present(DEMO.grid).model_copy(update={"blocks": (0, 1, 3)})
    study = DEMO.model_copy(update={"bundle": "blocks", "grid": grid})
    specs = expand(study)
    plan = make_plan(study, specs, set(), set(), gpu(), Measured("by a test", lambda _: 36.0, 64))
    saved = plan.flops.total / plan.flops_alone
    assert plan.side_by_side == len(specs) // 3
    assert plan.seconds_here == pytest.approx(3 * 36 * saved)
    assert f"{len(specs) // 3} bundles side by side" in describe(plan, study)


def test_a_stage_begins_when_the_one_before_has_ended() -> None:
    study = parse_study(STAGES, "study.yaml")
    specs = expand(study)
    seconds = {"finetune": 10.0, "attack": 1.0}
    plan = make_plan(study, specs, set(), set(), gpu(), Measured("by a test", lambda spec: seconds[spec.kind], 16))
    assert [len([spec for spec in specs if spec.kind == kind]) for kind in seconds] == [4, 8]
    assert plan.side_by_side == 8
    assert plan.seconds_here == pytest.approx(11)


def test_the_longest_task_comes_first() -> None:
    assert makespan([1, 1, 1, 1, 1, 5], 2) == 5
    assert makespan([2, 2, 2, 3, 3], 2) == 7
    assert makespan([1], 3) == 1
    assert makespan([], 3) == 0


def test_small_amounts_are_not_zero() -> None:
    assert [amount(dollars) for dollars in (0, 0.0002, 0.005001, 4771.97)] == [
        "about $0.00",
        "less than $0.01",
        "about $0.01",
        "about $4,771.97",
    ]


MIXED = """\
name: mixed
grid: {source: [natural], dataset: [cifar10], blocks: [3], recipe: {tf32: [false, true]}}
schedule:
- {images: [100], epochs: 10, seeds: 1, evaluate_every: 10}
"""


def test_each_trial_takes_hours_at_the_rate_of_its_own_recipe() -> None:
    study = parse_study(MIXED, "mixed.yaml")
    (plain, tf32) = expand(study)
    flops = trial_flops(plain, PACKAGED).total
    assert (plain.recipe.tf32, tf32.recipe.tf32) == (False, True)
    for name in ("A100", "V100"):
        plan = make_plan(study, [plain, tf32], set(), set(), gpu(name))
        assert plan.flops_by_format == {"float32": flops, "tf32": flops}
        rates = {rate.format: rate.flops for rate in plan.rates}
        assert plan.gpu_hours == pytest.approx((flops / rates["float32"] + flops / rates["tf32"]) / 3600)
        assert plan.plain()["gpu"]["rate"] == pytest.approx(2 / (1 / rates["float32"] + 1 / rates["tf32"]))
        # V100 computes both alike, A100 does not
        assert (rates["tf32"] > 2 * rates["float32"]) == (name == "A100")
    text = describe(plan, study)
    assert "rate in float32 of V100 SXM2: 9.04 TFLOP/s" in text
    assert "rate in tf32 of V100 SXM2: 9.04 TFLOP/s, no units for TF32" in text
    only = make_plan(study, [plain, tf32], {plain.trial_id}, set(), gpu("A100"))
    assert [rate.format for rate in only.rates] == ["tf32"]


def test_the_estimate_stands_in_one_ratio_to_the_authors_own_seconds() -> None:
    """At each trial's own epochs.

    The authors' GPU is unknown, but it can be checked that the ratio is nearly constant.
    """
    trials = authors_trials("published_trials.csv.gz", "estimates beside the seconds that the authors' trials took")
    with gzip.open(trials, "rt") as file:
        rows = list(csv.DictReader(file))
    last: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("source", "dataset", "blocks", "images", "seed"))
        if key not in last or int(row["epoch"]) > int(last[key]["epoch"]):
            last[key] = row
    cells: dict[tuple[int, int, int], list[float]] = {}
    for row in last.values():
        images, blocks, epochs = (int(row[name]) for name in ("images", "blocks", "epoch"))
        if images > 25_600 or epochs < 30:
            continue
        estimate = trial_flops(
            spec(dataset=row["dataset"], blocks=blocks, images=images, epochs=epochs, evaluate_every=20), PACKAGED
        )
        cells.setdefault((images, blocks, epochs), []).append(estimate.total / float(row["seconds"]))
    rates = {cell: median(found) for cell, found in cells.items()}
    middle = median(rates.values())
    assert len(rates) > 30
    assert 2.2e12 < middle < 2.6e12, "operations a second of the authors' trials"
    assert all(0.8 < rate / middle < 1.25 for rate in rates.values()), rates


# --- budgets ---


def test_a_budget_stops_before_it_is_passed() -> None:
    now = [0.0]
    billed = [2.0]
    budget = Budget(10.0, 3.0, lambda: billed[0], 60.0, clock=lambda: now[0])  # six dollars an hour
    now[0] = 3600.0
    assert budget.spend() is None
    assert budget.spent == pytest.approx(6.0)
    billed[0] = 4.0  # the cluster has grown: twelve dollars an hour from now on
    now[0] += 900.0
    assert budget.spend() is None
    assert budget.spent == pytest.approx(9.0)
    now[0] += 240.0  # 9.80, plus the minute for stopping trials, which is paid for as well
    assert "about $9.80 of $10.00" in str(budget.spend())
    assert budget.spent < 10.0


@pytest.mark.parametrize("most", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_above_nothing(most: float) -> None:
    with refused(Code.WRONG_VALUE, "--max-cost", "above 0", most, kind=InvalidRequest, key="--max-cost"):
        Budget(most, 1.0, lambda: 1.0, 60.0)


def test_a_time_limit_stops_a_minute_before_its_hours_have_passed() -> None:
    now = [50.0]
    limit = TimeLimit(2.0, 60.0, clock=lambda: now[0])
    now[0] += 7139.0
    assert limit.spend() is None
    now[0] += 1.0
    assert "--max-hours 2" in str(limit.spend())


@pytest.mark.parametrize("hours", [0.0, -1.0, 1 / 60, float("nan"), float("inf")])
def test_a_time_limit_is_longer_than_trials_take_to_leave(hours: float) -> None:
    with refused(Code.WRONG_VALUE, "60 s", hours, kind=InvalidRequest, key="--max-hours"):
        TimeLimit(hours, 60.0)


@pytest.mark.parametrize("name", ["demo", "paper-influence"])
@pytest.mark.parametrize("times", [1, 1e6])
def test_no_number_of_a_plan_has_a_power_of_ten(name: str, times: float) -> None:
    study = load_study(name)
    plan = make_plan(study, expand(study), set(), set(), gpu("H100", price=5e3))
    larger = plan._replace(
        gpu_hours=times * plan.gpu_hours,
        flops=Flops(times * plan.flops.total),
        stages=tuple(stage._replace(memory=times * stage.memory) for stage in plan.stages),
        matrices=tuple(one._replace(operations=times * one.operations) for one in plan.matrices),
    )
    for one in (larger, larger._replace(on_processor=True, seconds_here=1.0)):
        text = describe(one, study)
        assert re.findall("[0-9]e[-+]?[0-9]", text) == []
        assert ("less than 0.001" in text) == (one.gpu_hours < 0.001) == (name == "demo" and times == 1)


def test_a_trial_that_no_gpu_of_its_name_holds() -> None:
    small = make_plan(DEMO, expand(DEMO), set(), set(), gpu("X", memory_gb=0.1, tflops=2))
    assert small.gpu_share > 1
    assert "One X is too small: use a larger GPU" in describe(small, DEMO)
    assert "or more" not in describe(small, DEMO)
