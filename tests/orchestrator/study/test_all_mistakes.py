"""All mistakes of a study file at once: each actual mistake at its place, and no others."""

from dataclasses import replace
from typing import cast

import pytest

from jobs.errors import InvalidRequest
from jobs.kind import Kind, kinds
from jobs.kinds.attack.spec import AttackSpec
from jobs.specs.trial import TrialSpec
from orchestrator.study.load import parse_study
from orchestrator.study.understand import STAND_IN

GRID = "grid: {source: [fmnist_natural], dataset: [digits], blocks: [3]}"
SCHEDULE = "schedule: [{images: [50], epochs: 3, seeds: 2, evaluate_every: 1}]"
OWN = (
    "sources: {mine: {architecture: resnet35-w8, trained_on: digits, constraint: none, epsilon: 0, "
    "mean: [0.3050, 0.3050, 0.3050], std: [0.3753, 0.3753, 0.3753], pretrain: {seed: 1, epochs: 1, steps: 0}}}"
)
RELEASED = OWN.replace("pretrain: {seed: 1, epochs: 1, steps: 0}", "release: {file: a, format: torchvision, urls: []}")


def keys(*parts: str) -> list[str | None]:
    with pytest.raises(InvalidRequest) as raised:
        parse_study("\n".join(("name: mine", *parts)), "mine.yaml")
    assert STAND_IN not in str(raised.value)
    return [mistake.place.key for mistake in raised.value.mistakes]


@pytest.mark.parametrize(
    ("grid", "schedule", "expected"),
    [
        (GRID, SCHEDULE.replace("50", "99999999999"), "schedule[0].images[0]"),
        (GRID.replace("3]", "99999999999]"), SCHEDULE, "grid.blocks[0]"),
    ],
)
def test_numbers_that_no_trial_takes(grid: str, schedule: str, expected: str) -> None:
    assert keys(grid, schedule) == [expected]


def test_a_kind_that_refuses_values_as_it_makes_trials_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise trials would be missing without any message until the launch."""

    def refusing(section: object, tuned: object, catalog: object) -> list[TrialSpec]:
        return [AttackSpec.model_validate({})]

    monkeypatch.setitem(cast(dict[str, Kind], kinds()), "attack", replace(kinds()["attack"], expand=refusing))
    assert keys("attack: {source: [fmnist_natural]}") == ["attack"]
    assert keys("attack: {source: [fmnist_natura]}") == ["attack.source[0]"], "only where nothing else says why"


def test_fine_tuned_trials_of_a_study_that_fine_tunes_nothing() -> None:
    assert keys("attack: {source: [fmnist_natural], finetuned: {images: [50], seeds: 1}}") == [
        "attack.finetuned.images[0]"
    ]


@pytest.mark.parametrize(
    "row",
    [
        "{images: [50x], epochs: 3, seeds: 2, evaluate_every: 1}",
        "{images: [50], epochs: 3, seeds: 2x, evaluate_every: 1}",
        "{images: [50], epochs: 3x, seeds: 2, evaluate_every: 1}",
        "{images: [50], epochs: 3, seeds: 2, evaluate_every: 1x}",
        "fifty",
    ],
)
def test_what_a_schedule_with_mistakes_may_have_is_not_missed(row: str) -> None:
    schedule, attack = f"schedule: [{row}]", "attack: {finetuned: {images: [50], seeds: 2}}"
    assert len(keys(GRID, schedule, attack)) == 1


def test_sizes_are_checked_beside_other_mistakes() -> None:
    grid, schedule = (
        GRID.replace("blocks: [3]", "blocks: [x]"),
        SCHEDULE.replace("50", "3").replace("seeds: 2", "seeds: x"),
    )
    assert keys(grid, schedule) == ["grid.blocks[0]", "schedule[0].images[0]", "schedule[0].seeds"]


@pytest.mark.parametrize(
    "section",
    ["{finetuned: 5}", "{finetuned: {images: [x], seeds: 1}}", "{source: {a: 1}, dataset: [fmnist]}", "{source: [1]}"],
)
def test_what_has_a_mistake_is_not_called_absent(section: str) -> None:
    assert len(keys(GRID, SCHEDULE, f"attack: {section}")) == 1


def test_names_of_packaged_sources_and_datasets_do_not_hide_mistakes() -> None:
    grid = GRID.replace("fmnist_natural", "nope").replace("digits", "nope")
    assert keys(
        grid,
        SCHEDULE,
        "attack: {source: [fmnist_natural], dataset: [digits], test_images: 100000}",
        "visualize: {source: [fmnist_natural], dataset: digits, units: [99999]}",
    ) == ["grid.dataset[0]", "grid.source[0]", "attack.dataset[0]", "attack.test_images", "visualize.units[0]"]


def test_a_schedule_s_mistakes_hide_none_of_other_rules() -> None:
    sections = ("pretrain: {source: [natural]}", "attack: {finetuned: {images: [50], seeds: 1}, dataset: [digits]}")
    assert keys("grid: nope", "schedule: [nope]", *sections) == [
        "grid",
        "schedule[0]",
        "pretrain.source[0]",
        "attack.dataset",
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "key"),
    [
        ("constraint: none", "constraint: any", "constraint"),
        ("resnet35-w8", "resnet1", "architecture"),
        ("trained_on: digits", "trained_on: nope", "trained_on"),
    ],
)
def test_a_card_s_mistake_is_told_once_and_hides_none(right: str, wrong: str, key: str) -> None:
    others = ["pretrain: {source: [mine, natural]}", "attack: {source: [mine]}", GRID.replace("fmnist_natural", "mine")]
    assert keys(OWN.replace(right, wrong), *others, SCHEDULE) == [f"sources.mine.{key}", "pretrain.source[1]"]


ROBUST = OWN.replace("constraint: none, epsilon: 0,", "constraint: l2, epsilon: 0.5,").replace("steps: 0", "steps: 1")


@pytest.mark.parametrize("section", ["", "pretrain: {source: [mine]}"])
@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("steps: 1", "steps: 1, step_scale: 9.0", ["sources.mine.pretrain.step_scale"]),
        ("steps: 1", "steps: 0", ["sources.mine.pretrain"]),
        ("epochs: 1", "epochs: 0", ["sources.mine.pretrain.epochs"]),
        ("constraint: l2", "constraint: l22", ["sources.mine.constraint"]),
        ("steps: 1", "steps: one", ["sources.mine.pretrain.steps"]),
    ],
)
def test_how_a_source_is_trained_is_checked_whether_or_not_the_study_trains_it(
    section: str, right: str, wrong: str, expected: list[str]
) -> None:
    assert keys(ROBUST.replace(right, wrong), GRID.replace("fmnist_natural", "mine"), SCHEDULE, section) == expected


@pytest.mark.parametrize("dataset", ["", ", dataset: [digits]"])
def test_labels_of_no_known_dataset(dataset: str) -> None:
    own = RELEASED.replace("trained_on: digits", "trained_on: nope")
    assert keys(own, f"attack: {{source: [mine]{dataset}}}") == ["attack.source[0]"]


def test_keys_that_are_no_texts() -> None:
    odd = "datasets: {1: {}, 1.5: {}, null: 3}\nsources: {[a]: 1}".replace("{[a]: 1}", "{1.5: {trained_on: [a]}}")
    assert "schedule[0].images[0]" in keys(odd, GRID, SCHEDULE.replace("50", "5"))
