"""GPUs side by side."""

import pytest

from jobs.errors import Code, InvalidRequest
from jobs.study.expand import expand
from orchestrator.planning.compare import COLUMNS, chosen, compare, rows
from orchestrator.planning.gpu_table import GpuCard, packaged_table
from orchestrator.planning.gpus import gpu
from orchestrator.planning.plan import make_plan
from orchestrator.study.load import load_study
from tests.support import present, refused

STUDY = load_study("paper-table2")
PLAN = make_plan(STUDY, expand(STUDY), set(), set(), gpu())


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
