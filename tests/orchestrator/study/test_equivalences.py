"""The rules of declared equivalences: each mistake once, at its line."""

import pytest

from jobs.errors import Code
from jobs.specs.recipes import Recipe
from orchestrator.study.load import parse_study
from tests.orchestrator.support import check, mistakes

STUDY = """\
name: mine
grid:
  source: [fmnist_natural, fmnist_l2_eps1]
  dataset: [digits]
  blocks: [0, 3]
  recipe: {precision: [float32, bfloat16], optimizer: [sgd, adamw]}
schedule:
  - {images: [50], epochs: 30, seeds: 2, evaluate_every: 5}
recipe: {momentum: 0.8}
"""
GOOD = (
    "{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [3], recipe: {precision: bfloat16}, "
    "against: {precision: float32}, within: 0.5}"
)


def text(*equivalences: str, study: str = STUDY) -> str:
    """Return the study with these equivalences from line 11 on."""
    return study + "equivalences:\n" + "".join(f"  - {one}\n" for one in equivalences)


def changed(*replacements: tuple[str, str]) -> str:
    one = GOOD
    for old, new in replacements:
        assert one.count(old) == 1
        one = one.replace(old, new)
    return one


def test_a_study_keeps_what_it_declares_and_every_id() -> None:
    plain, one = parse_study(STUDY, "mine.yaml"), parse_study(text(GOOD), "mine.yaml")
    assert plain.digest != one.digest
    again = parse_study(one.resolved(), "record.yaml", recorded=True)
    assert (again.digest, again.equivalences) == (one.digest, one.equivalences)
    assert "equivalences" not in plain.resolved()
    assert one.recipes == plain.recipes


def test_recipes_are_compared_that_differ_in_the_named_choices_only() -> None:
    study = parse_study(text(GOOD), "mine.yaml")
    (equivalence,) = study.equivalences
    sides = equivalence.sides(study.recipes)
    assert len(sides) == 2
    for one, other in sides:
        assert isinstance(one, Recipe)
        assert isinstance(other, Recipe)
        assert [key for key, value in one if value != getattr(other, key)] == ["precision"]
        assert (one.precision, other.precision) == ("bfloat16", "float32")


@pytest.mark.parametrize(
    ("replacements", "code", "key", "values"),
    [
        ([("source: fmnist_l2_eps1", "source: natural")], Code.UNKNOWN_NAME, ".source", ["'natural'"]),
        ([("baseline: fmnist_natural", "baseline: x")], Code.UNKNOWN_NAME, ".baseline", ["'x'"]),
        ([("fmnist_natural", "fmnist_l2_eps1")], Code.WRONG_VALUE, "", ["two sources"]),
        ([("[3]", "[3, 9]")], Code.IMPOSSIBLE_TRIAL, ".blocks[1]", ["9 is", "([0, 3])"]),
        ([("[3]", "[3, 3]")], Code.REPEATED, ".blocks[1]", ["3"]),
        ([("[3]", "[3], epoch: 12")], Code.IMPOSSIBLE_TRIAL, ".epoch", ["1, 6, 11", "got 12"]),
        ([("0.5", "0")], Code.WRONG_VALUE, ".within", ["greater than 0"]),
        ([("0.5", "101")], Code.WRONG_VALUE, ".within", ["100"]),
        ([("0.5", "half")], Code.WRONG_VALUE, ".within", ["half"]),
        ([(", within: 0.5", "")], Code.MISSING_KEY, ".within", ["required"]),
        ([("bfloat16", "bf16")], Code.WRONG_VALUE, ".recipe.precision", ["'bfloat16'", "'bf16'"]),
        ([("bfloat16", "[bfloat16]")], Code.WRONG_VALUE, ".recipe.precision", ["bfloat16"]),
        ([("{precision: bfloat16}", "bfloat16")], Code.WRONG_VALUE, ".recipe", ["bfloat16"]),
        ([("precision: bfloat16", "precison: bfloat16")], Code.UNKNOWN_KEY, ".recipe.precison", ["'precision'"]),
        ([("bfloat16", "float16")], Code.IMPOSSIBLE_TRIAL, ".recipe.precision", ["(float32, bfloat16)", "float16"]),
        ([("bfloat16", "float32")], Code.WRONG_VALUE, "", ["precision: float32", "same"]),
        ([("precision: float32", "evaluation: plain")], Code.WRONG_VALUE, "", ["evaluation, precision"]),
        ([("{precision: bfloat16}", "{}"), ("{precision: float32}", "{}")], Code.WRONG_VALUE, "", ["none"]),
        (
            [("precision: bfloat16", "evaluation: folded"), ("precision: float32", "evaluation: plain")],
            Code.IMPOSSIBLE_TRIAL,
            ".recipe.evaluation",
            ["(plain)", "grid.recipe.evaluation"],
        ),
        (
            [("precision: bfloat16", "optimizer: adamw"), ("precision: float32", "optimizer: sgd")],
            Code.IMPOSSIBLE_TRIAL,
            "",
            ["differ in momentum"],  # adamw has none, so that it is not the only difference
        ),
        (
            [
                ("precision: bfloat16", "optimizer: adamw, momentum: 0.8"),
                ("precision: float32", "optimizer: sgd, momentum: 0.8"),
            ],
            Code.IMPOSSIBLE_TRIAL,
            ".recipe",
            ["optimizer: adamw, momentum: 0.8"],
        ),
    ],
)
def test_each_mistake_is_one_message_at_its_line(
    replacements: list[tuple[str, str]], code: Code, key: str, values: list[str]
) -> None:
    (found,) = mistakes(text(GOOD.replace("[3]", "[0]"), changed(*replacements)))
    check(found, code, f"equivalences[1]{key}", *values, line=12)


def test_choices_that_differ_as_well_may_be_named() -> None:
    named = changed(
        ("precision: bfloat16", "optimizer: adamw, momentum: 0.9"),
        ("precision: float32", "optimizer: sgd, momentum: 0.8"),
    )
    assert len(parse_study(text(named), "mine.yaml").equivalences) == 1


@pytest.mark.parametrize(
    "again",
    [
        GOOD,
        changed(("0.5", "1.0")),
        changed(("[3]", "[0, 3], epoch: 30")),
        changed(("bfloat16", "x"), ("float32", "bfloat16"), ("x", "float32")).replace("x", "float32"),
        changed(("fmnist_l2_eps1", "x"), ("fmnist_natural", "fmnist_l2_eps1"), ("source: x", "source: fmnist_natural")),
    ],
)
def test_a_comparison_has_one_margin(again: str) -> None:
    (found,) = mistakes(text(GOOD, again))
    check(found, Code.REPEATED, "equivalences[1]", "equivalence 0", "Fix:", line=12)


def test_other_epochs_blocks_and_choices_are_other_comparisons() -> None:
    others = [
        changed(("[3]", "[0]")),
        changed(("[3]", "[3], epoch: 6")),
        changed(("bfloat16}", "bfloat16, optimizer: adamw}"), ("float32}", "float32, optimizer: adamw}")),
    ]
    assert len(parse_study(text(GOOD, *others), "mine.yaml").equivalences) == 4


@pytest.mark.parametrize("broken", ["recipe: {momentum: 2.0}", "recipe: [1]"])
def test_mistakes_in_the_recipe_are_not_repeated_here(broken: str) -> None:
    found = mistakes(text(changed(("bfloat16", "float16")), study=STUDY.replace("recipe: {momentum: 0.8}", broken)))
    assert not [one for one in found if one.place.key.startswith("equivalences")]


def test_all_mistakes_are_reported_at_once() -> None:
    several = (
        "{source: a, baseline: fmnist_natural, blocks: [9], epoch: 4, recipe: {precision: x}, against: 3, within: 0}"
    )
    assert [one.place.key for one in mistakes(text(several))] == [
        f"equivalences[0].{key}" for key in ("against", "blocks[0]", "epoch", "recipe.precision", "source", "within")
    ]


@pytest.mark.parametrize("value", ["3", "text", "[1]", "{a: 1}", "[[1]]", "null"])
def test_a_list_of_the_wrong_shape_is_refused(value: str) -> None:
    assert {one.place.line for one in mistakes(STUDY + f"equivalences: {value}\n")} == {10}
