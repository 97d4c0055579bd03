"""Which studies' steps a plan times unasked."""

import pytest

from jobs.kind import workload
from jobs.study.expand import expand
from orchestrator.planning.timed_steps import are_quick, batch_on_processor, timed_as
from orchestrator.study.load import load_study, parse_study

STUDY = """\
name: rates
grid: {{source: [fmnist_natural], dataset: [digits], blocks: [1, 2], recipe: {{learning_rate: {rates}}}}}
schedule: [{{images: [50], epochs: 1, seeds: 2, evaluate_every: 1}}]
"""


@pytest.mark.parametrize(("name", "quick"), [("demo", True), ("demo-full", True), ("paper", False)])
def test_small_networks_are_quick(name: str, quick: bool) -> None:
    study = load_study(name)
    assert are_quick(expand(study), study.catalog) == quick


@pytest.mark.parametrize(("name", "images"), [("demo", 128), ("paper", 16)])
def test_batches_are_those_of_trials_unless_the_network_is_large(name: str, images: int) -> None:
    study = load_study(name)
    assert {batch_on_processor(workload(spec, study.catalog)) for spec in expand(study)} == {images}


@pytest.mark.parametrize(("recipes", "quick"), [(5, True), (60, False)])
def test_many_kinds_of_steps_take_long(recipes: int, quick: bool) -> None:
    study = parse_study(STUDY.format(rates=[0.001 * rate for rate in range(1, recipes + 1)]), "study.yaml")
    specs = expand(study)
    assert len({timed_as(spec, study.catalog) for spec in specs}) == 2 * recipes
    assert are_quick(specs, study.catalog) == quick
