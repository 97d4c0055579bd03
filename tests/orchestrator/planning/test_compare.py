"""GPUs side by side."""

import pytest

from jobs.errors import Code, InvalidRequest
from jobs.study.expand import expand
from orchestrator.planning.compare import COLUMNS, chosen, compare, rows
from orchestrator.planning.gpu_shares import even_share
from orchestrator.planning.gpu_table import GpuCard, packaged_table
from orchestrator.planning.gpus import gpu
from orchestrator.planning.plan import make_plan
from orchestrator.planning.plan_text import describe
from orchestrator.study.load import load_study, parse_study
from tests.support import present, refused

STUDY = load_study("paper-table2")
PLAN = make_plan(STUDY, expand(STUDY), set(), set(), gpu())
TRAINED = """\
name: trained
sources:
  own:
    architecture: resnet35-w8
    trained_on: digits
    constraint: none
    epsilon: 0
    mean: [0.305, 0.305, 0.305]
    std: [0.3753, 0.3753, 0.3753]
    pretrain: {seed: 1, epochs: 1, steps: 0, recipe: {batch_size: 512}}
pretrain:
  source: [own]
grid: {source: [own], dataset: [digits], blocks: [0]}
schedule: [{images: [30], epochs: 1, seeds: 1, evaluate_every: 1}]
"""


def test_each_gpu_has_the_hours_dollars_and_trials_of_its_own_plan() -> None:
    found = compare(PLAN, [gpu(name) for name in packaged_table()])
    assert {one.gpu.name for one in found} == set(packaged_table())
    for one in found:
        plan = make_plan(STUDY, expand(STUDY), set(), set(), one.gpu)
        assert one.hours == pytest.approx(plan.gpu_hours)
        assert one.trials_per_card == int(one.gpu.memory / plan.memory)
        assert one.trials_per_card * plan.gpu_share <= 1
        assert (one.on_demand.dollars if one.on_demand else None) == plan.on_demand
        assert (one.spot.dollars if one.spot else None) == plan.spot


def test_the_lowest_cost_comes_first_and_unknown_costs_last() -> None:
    found = compare(PLAN, [gpu(name) for name in packaged_table()])
    known = [one.on_demand.dollars for one in found if one.on_demand]
    assert known == sorted(known)
    assert [one.gpu.name for one in found if one.on_demand is None] == ["RTX6000-Ada"] == [found[-1].gpu.name]
    (a100,) = compare(PLAN, [gpu("A100")])
    assert present(a100.on_demand).offer.place == "Lambda gpu_1x_a100_sxm4", "the lower of two clouds"


def test_a_gpu_without_a_rate_or_room_says_so() -> None:
    table = {"own": GpuCard(memory_gb=1, rates={})}
    (found,) = compare(PLAN, [gpu("own", table=table)])
    assert (found.hours, found.on_demand, found.trials_per_card) == (None, None, 0)
    assert "own in float32" in found.problem
    (row,) = rows([found])
    assert len(row) == len(COLUMNS)
    assert ("too large" in row, found.problem in row) == (True, True)
    assert found.plain()["gpu_hours"] is None


def test_names_are_separated_by_commas() -> None:
    own = gpu("A100", price=1.0)
    assert chosen("L4, A100,L4", own) == [gpu("L4"), own]
    assert [one.name for one in chosen("all", own)] == list(packaged_table())
    assert [one.name for one in chosen("L4", own)] == ["L4"]
    assert [one.name for one in chosen("L4", own, besides=True)] == ["A100", "L4"]
    with refused(Code.UNKNOWN_NAME, "'A1000'", "A100", kind=InvalidRequest):
        chosen("A100,A1000", own)
    with refused(Code.WRONG_VALUE, "all", "A100", kind=InvalidRequest, key="--compare"):
        chosen(" ,", own)


def test_all_may_stand_among_names() -> None:
    assert [one.name for one in chosen("T4,all", gpu())] == list(packaged_table())
    assert {one.name for one in chosen("all,A100", gpu())} == set(packaged_table())


@pytest.mark.parametrize("sources", [False, True], ids=["matrices", "training of a source"])
def test_trials_a_card_are_those_of_the_largest_stage(sources: bool) -> None:
    """A card is too small for a study in the table exactly where its plan says so of a stage."""
    study = parse_study(TRAINED, "trained.yaml") if sources else load_study("paper-influence")
    plan = make_plan(study, expand(study), set(), set(), gpu())
    largest = max(plan.stages, key=lambda stage: stage.memory)
    assert largest.kind == ("pretrain" if sources else "influence")
    assert plan.actor_memory == largest.memory > plan.memory
    for share in (0.4, 0.9, 1.1):
        card = gpu("X", memory_gb=largest.memory / share / 1e9, tflops=2)
        (found,) = compare(plan, [card])
        own = make_plan(study, expand(study), set(), set(), card)
        assert found.trials_per_card == int(1 / share)
        assert ("One X is too small" in describe(own, study)) == (found.trials_per_card == 0)
        assert (found.gpu_auto, own.gpu_auto) == (even_share(largest.memory, card.memory),) * 2
