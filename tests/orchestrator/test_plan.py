"""What a study amounts to."""

import pytest

from jobs.expansion import expand
from jobs.specs import FinetuneSpec, Recipe
from orchestrator.plan import describe, images_evaluated, images_trained, make_plan, trial_flops
from orchestrator.study_files import load_study

DEMO = load_study("demo")


def spec(**changes: object) -> FinetuneSpec:
    values = {"source": "natural", "dataset": "cifar10", "blocks": 3, "images": 100, "seed": 1, "epochs": 100}
    return FinetuneSpec.model_validate({**values, "evaluate_every": 20, "recipe": Recipe(), **changes})


def test_images_trained_and_evaluated() -> None:
    assert images_trained(spec()) == 100 * 100
    assert images_trained(spec(images=-1)) == 50_000 * 100
    assert images_evaluated(spec()) == 10_000 * 6  # epochs 1, 21, 41, 61, 81, 100


def test_operations_of_a_trial_by_hand() -> None:
    """ResNet-50: forward 8.18 GFLOP an image, of which layer4 1.62; backward of the head about twice its forward."""
    assert trial_flops(spec()) == pytest.approx(10_000 * (8.18e9 + 2 * 1.62e9) + 60_000 * 8.18e9, rel=0.01)
    assert (
        trial_flops(spec(blocks=0)) < trial_flops(spec()) < trial_flops(spec(blocks=9)) < trial_flops(spec(blocks=-1))
    )


def test_a_plan_adds_up() -> None:
    specs = expand(DEMO)
    plan = make_plan(DEMO, specs, set(), set())
    assert (plan.trials, plan.done, plan.pending, plan.quarantined) == (len(specs), 0, len(specs), 0)
    assert plan.images_trained == sum(images_trained(s) for s in specs)
    assert plan.images_evaluated == sum(images_evaluated(s) for s in specs)
    assert plan.flops == pytest.approx(sum(trial_flops(s) for s in specs))


def test_what_is_done_costs_nothing_more() -> None:
    specs = expand(DEMO)
    finished = {s.trial_id for s in specs[:30]} | {"finetune-of-another-study-0123456789abcdef"}
    plan = make_plan(DEMO, specs, finished, set())
    assert (plan.trials, plan.done, plan.pending) == (len(specs), 30, len(specs) - 30)
    assert plan.images_trained == sum(images_trained(s) for s in specs[30:])
    everything = make_plan(DEMO, specs, {s.trial_id for s in specs}, set())
    assert (everything.pending, everything.images_trained, everything.flops, everything.gpu_hours) == (0, 0, 0, 0)


def test_quarantined_trials_are_not_pending() -> None:
    specs = expand(DEMO)
    ids = [s.trial_id for s in specs]
    plan = make_plan(DEMO, specs, set(ids[:10]), {ids[9], ids[10], "finetune-of-another-study-0123456789abcdef"})
    assert (plan.done, plan.quarantined, plan.pending) == (10, 1, len(specs) - 11)
    assert plan.images_trained == sum(images_trained(s) for s in specs[11:])


def test_the_plan_in_words() -> None:
    study = load_study("paper")
    text = describe(make_plan(study, expand(study), set(), set()))
    assert text.startswith("paper: 14,400 trials: 0 done, 14,400 pending, 0 quarantined\n")
    # Section 6 of the design: 194 EFLOP naive
    assert "1.976e+05 PFLOP" in text
