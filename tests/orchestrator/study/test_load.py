"""Study files: all mistakes at once, each with its line and its fix; and the contents of the packaged studies."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, InvalidRequest, Mistake
from jobs.kinds.finetune.preprocessing import augments, normalizer
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.influence.spec import InfluenceSpec
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.specs.recipes import RECIPES, Recipe, named_recipe
from jobs.specs.section import seeds
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.system import safe_yaml
from orchestrator.study.load import load_study, parse_study
from orchestrator.study.packaged_studies import packaged_studies
from orchestrator.study.yaml_lines import Location
from tests.orchestrator.support import check, mistakes
from tests.support import finetune_specs, refused

GOOD = """\
name: mine
grid:
  source: [fmnist_natural, fmnist_l2_eps1]
  dataset: [digits]
  blocks: [0, 3]
schedule:
  - {images: [50, 100], epochs: 30, seeds: 2, evaluate_every: 5}
  - {images: [-1], epochs: 10, seeds: 1, evaluate_every: 5}
recipe: {learning_rate: 0.05}
contrasts:
  - {source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [3]}
resources: {gpu: 0.5, cpu: 1}
"""


def changed(*replacements: tuple[str, str]) -> str:
    """Return the good study with some of its text replaced."""
    text = GOOD
    for old, new in replacements:
        assert text.count(old) == 1, f"{old!r} is in the text once"
        text = text.replace(old, new)
    return text


def study(*replacements: tuple[str, str]) -> Study:
    return parse_study(changed(*replacements), "mine.yaml")


def refusal(text: str) -> list[str]:
    """Return the lines of the error message for a study file."""
    with pytest.raises(InvalidRequest) as caught:
        parse_study(text, "mine.yaml")
    return str(caught.value).splitlines()


def mistake(*replacements: tuple[str, str]) -> Mistake:
    """Return the only mistake of a changed study."""
    (found,) = mistakes(changed(*replacements))
    return found


def ids(*replacements: tuple[str, str]) -> list[str]:
    return [spec.trial_id for spec in expand(study(*replacements))]


@cache
def packaged(name: str) -> list[TrialSpec]:
    """Return the trials of a packaged study."""
    return expand(load_study(name))


@cache
def packaged_tuned(name: str) -> list[FinetuneSpec]:
    """Return the fine-tuning trials of a packaged study."""
    return [spec for spec in packaged(name) if isinstance(spec, FinetuneSpec)]


def tuned(of: Study) -> list[FinetuneSpec]:
    """Return the trials of a study that only fine-tunes."""
    return finetune_specs(expand(of))


# --- good files ---


def test_a_good_file() -> None:
    loaded = study()
    assert loaded.name == "mine"
    assert loaded.recipe == Recipe(learning_rate=0.05)
    assert loaded.resources.gpu == 0.5
    specs = tuned(loaded)
    # 2 sources x 2 depths x (2 sizes x 2 seeds + the whole set once)
    assert len(specs) == len({spec.trial_id for spec in specs}) == 20
    assert Counter(spec.images for spec in specs) == {50: 8, 100: 8, -1: 4}
    assert {spec.seed for spec in specs} == {20_000_000, 20_100_000}
    assert all(spec.recipe == loaded.recipe for spec in specs)


def test_a_recipe_by_name_and_with_other_choices() -> None:
    released = RECIPES["as-released"]
    assert study(("{learning_rate: 0.05}", "as-released")).recipe == released
    assert study(("{learning_rate: 0.05}", "{base: as-released, learning_rate: 0.05}")).recipe == Recipe(
        **(released.model_dump() | {"learning_rate": 0.05})
    )
    assert ids(("learning_rate: 0.05", "base: paper, learning_rate: 0.05")) == ids()


def test_an_unknown_base_is_reported_beside_the_recipe_s_other_mistakes() -> None:
    text = changed(("{learning_rate: 0.05}", "\n  base: table-3\n  momentun: 0.5\n  tf32: maybe"))
    base, momentum, tf32 = mistakes(text)
    check(base, Code.WRONG_VALUE, "recipe.base", "paper", "as-released", "'table-3'", line=10)
    check(momentum, Code.UNKNOWN_KEY, "recipe.momentun", "did you mean 'momentum'?", line=11)
    check(tf32, Code.WRONG_VALUE, "recipe.tf32", "'maybe'", line=12)


def test_seeds_follow_formula_6() -> None:
    assert seeds(1) == [20_000_000]
    assert seeds(4) == [20_000_000, 20_100_000, 20_200_000, 20_300_000]


def test_a_row_s_schedule_is_that_of_its_trials() -> None:
    for spec in tuned(study()):
        expected = (10, 5) if spec.images == -1 else (30, 5)
        assert (spec.epochs, spec.evaluate_every) == expected


def test_a_size_equal_to_the_whole_set_becomes_all() -> None:
    assert ids(("images: [-1]", "images: [1000]")) == ids()


def test_a_resolved_study_parses_back_to_an_equal_one() -> None:
    for loaded in (study(), *(load_study(name) for name in packaged_studies())):
        again = parse_study(loaded.resolved(), "resolved.yaml")
        assert again == loaded
        assert again.digest == loaded.digest
        assert again.resolved() == loaded.resolved()


def test_a_resolved_study_says_every_default() -> None:
    text = load_study("demo").resolved()
    for word in ("momentum", "weight_decay", "frozen_batchnorm", "threads", "epoch: last", "cpu"):
        assert word in text


# --- identity is the grid, the schedule and the recipe ---


@pytest.mark.parametrize(
    "replacement",
    [
        ("name: mine", "name: other"),
        ("name: mine", "name: mine\ndescription: something else"),
        ("{gpu: 0.5, cpu: 1}", "{gpu: 1, cpu: 2}"),
        ("contrasts:\n  - {source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [3]}\n", ""),
        ("name: mine", "name: mine\ncheckpoint_every: 3"),
        ("name: mine", "name: mine\nbundle: blocks"),
    ],
    ids=["name", "description", "resources", "contrasts", "checkpoints", "bundle"],
)
def test_placement_does_not_change_ids(replacement: tuple[str, str]) -> None:
    assert ids(replacement) == ids()
    assert study(replacement).digest != study().digest, "it is another version of the file all the same"


@pytest.mark.parametrize(
    "replacement",
    [
        ("learning_rate: 0.05", "learning_rate: 0.06"),
        ("learning_rate: 0.05", "learning_rate: 0.05, threads: 2"),
        ("epochs: 30, seeds: 2, evaluate_every: 5", "epochs: 31, seeds: 2, evaluate_every: 5"),
        ("epochs: 30, seeds: 2, evaluate_every: 5", "epochs: 30, seeds: 2, evaluate_every: 6"),
    ],
)
def test_what_changes_numbers_changes_ids(replacement: tuple[str, str]) -> None:
    small = {spec.trial_id for spec in tuned(study()) if spec.images != -1}
    assert not small & set(ids(replacement))


def test_a_recipe_written_out_is_the_default_recipe() -> None:
    written = ("{learning_rate: 0.05}", "{learning_rate: 0.05, momentum: 0.9, batch_size: 128}")
    assert ids(written) == ids()


def test_more_seeds_keep_the_trials_there_were() -> None:
    assert set(ids()) < set(ids(("seeds: 2", "seeds: 5")))


# --- several recipes ---

VARIED = ("blocks: [0, 3]", "blocks: [0, 3]\n  recipe: {normalization: [source, target], momentum: [0.9, 0.5]}")


def test_every_combination_of_varied_choices_is_a_recipe() -> None:
    """Choices override the study's own recipe; the trials of each are those of a study with that recipe alone."""
    loaded = study(VARIED)
    assert loaded.recipes == tuple(
        Recipe(learning_rate=0.05, normalization=normalization, momentum=momentum)
        for normalization in ("source", "target")
        for momentum in (0.9, 0.5)
    )
    alone = [
        ids(("learning_rate: 0.05", f"learning_rate: 0.05, normalization: {normalization}, momentum: {momentum}"))
        for normalization in ("source", "target")
        for momentum in (0.9, 0.5)
    ]
    assert sorted(ids(VARIED)) == sorted(trial for one in alone for trial in one)
    assert alone[0] == ids(), "source and 0.9 are the defaults"


def test_what_varies_replaces_what_a_named_recipe_says() -> None:
    named = ("{learning_rate: 0.05}", "as-released")
    varied = study(named, ("blocks: [0, 3]", "blocks: [0, 3]\n  recipe: {normalization: [target]}"))
    assert varied.recipes == (Recipe(**(RECIPES["as-released"].model_dump() | {"normalization": "target"})),)
    assert study(named).recipes == (RECIPES["as-released"],)


@pytest.mark.parametrize(
    ("varied", "code", "key", "values"),
    [
        (
            "{normalisation: [source]}",
            Code.UNKNOWN_KEY,
            ".normalisation",
            ["did you mean 'normalization'?", "valid keys: precision, "],
        ),
        ("{normalization: [source, sourc]}", Code.WRONG_VALUE, ".normalization[1]", ["'as-released'", "'sourc'"]),
        ("{momentum: [0.9, 1.0]}", Code.WRONG_VALUE, ".momentum[1]", ["less than 1;", "1.0"]),
        ("{momentum: [0.9, 0.5, 0.9]}", Code.REPEATED, ".momentum[2]", [0.9]),
        ("{tf32: [false, true, false]}", Code.REPEATED, ".tf32[2]", [False]),
        ("{normalization: source}", Code.WRONG_VALUE, ".normalization", ["'source'"]),
        ("{normalization: []}", Code.WRONG_VALUE, ".normalization", []),
        ("as-released", Code.WRONG_VALUE, "", ["'as-released'"]),
        ("{compile: [false, true]}", Code.WRONG_VALUE, ".compile[1]", ["compiled blocks were not faster"]),
        ("{base: [paper]}", Code.UNKNOWN_KEY, ".base", []),
    ],
)
def test_a_mistake_in_what_varies(varied: str, code: Code, key: str, values: list[object]) -> None:
    found = mistake(("blocks: [0, 3]", f"blocks: [0, 3]\n  recipe: {varied}"))
    check(found, code, f"grid.recipe{key}", *values, line=6)


def test_all_mistakes_in_what_varies_are_told() -> None:
    text = changed(("blocks: [0, 3]", "blocks: [0, 3]\n  recipe: {momentum: 0.9, foo: [1], learning_rate: [x]}"))
    assert [(one.code, one.place.key) for one in mistakes(text)] == [
        (Code.UNKNOWN_KEY, "grid.recipe.foo"),
        (Code.WRONG_VALUE, "grid.recipe.learning_rate[0]"),
        (Code.WRONG_VALUE, "grid.recipe.momentum"),
    ]
    assert refusal(text)[0] == "mine.yaml: 3 mistakes"


@pytest.mark.parametrize(
    ("recipe", "key", "values"),
    [
        ("{optimizer: adamw, momentum: 0.5}", "momentum", ["optimizer: sgd", "0.5", "adamw"]),
        ("{beta1: 0.8}", "beta1", ["optimizer: adamw", "0.8", "sgd"]),
        ("{beta2: 0.9}", "beta2", ["optimizer: adamw"]),
        ("{eps: 0.001}", "eps", ["optimizer: adamw"]),
        ("{schedule: cosine, lr_decay: 0.5}", "lr_decay", ["schedule: steps", "0.5", "cosine"]),
        ("{schedule: cosine, lr_milestones: as-released}", "lr_milestones", ["schedule: steps", "as-released"]),
        ("{min_learning_rate: 0.01}", "min_learning_rate", ["schedule: cosine", "0.01", "steps"]),
        ("{warmup_factor: 0.5}", "warmup_factor", ["warmup_epochs", "0.5"]),
        ("{schedule: cosine, min_learning_rate: 0.2}", "min_learning_rate", ["learning_rate, 0.1", "0.2"]),
        ("{base: as-published, optimizer: adamw, momentum: 0.5}", "momentum", ["optimizer: sgd"]),
    ],
)
def test_a_choice_without_effect_is_refused_at_its_line(recipe: str, key: str, values: list[str]) -> None:
    found = mistake(("recipe: {learning_rate: 0.05}", f"recipe: {recipe}"))
    check(found, Code.WRONG_VALUE, f"recipe.{key}", *values, "Fix: ", line=9)
    assert found.message.count("; got ") == 1


def test_every_choice_without_effect_is_reported() -> None:
    text = changed(("{learning_rate: 0.05}", "{optimizer: adamw, momentum: 0.5, schedule: cosine, lr_decay: 0.5}"))
    assert [one.place.key for one in mistakes(text)] == ["recipe.lr_decay", "recipe.momentum"]


def test_the_defaults_of_choices_without_effect_may_be_written() -> None:
    written = "momentum: 0.9, lr_decay: 0.1, lr_milestones: paper, warmup_factor: 0.01"
    plain = study(("{learning_rate: 0.05}", "{optimizer: adamw, schedule: cosine}"))
    assert study(("{learning_rate: 0.05}", f"{{optimizer: adamw, schedule: cosine, {written}}}")) == plain


def test_choices_of_a_base_give_way_to_another_optimizer_and_schedule() -> None:
    loaded = study(("{learning_rate: 0.05}", "{base: as-released, schedule: cosine}"))
    assert loaded.recipe == Recipe(schedule="cosine", normalization="as-released")
    varied = study(
        ("{learning_rate: 0.05}", "{base: as-released, momentum: 0.5}"),
        ("blocks: [0, 3]", "blocks: [0, 3]\n  recipe: {schedule: [steps, cosine], optimizer: [sgd, adamw]}"),
    )
    released = {"normalization": "as-released"}
    assert varied.recipes == (
        Recipe(**released, lr_milestones="as-released", momentum=0.5),
        Recipe(**released, lr_milestones="as-released", optimizer="adamw"),
        Recipe(**released, schedule="cosine", momentum=0.5),
        Recipe(**released, schedule="cosine", optimizer="adamw"),
    )


@pytest.mark.parametrize(
    ("recipe", "varied", "keys"),
    [
        ("{}", "{optimizer: [sgd, adamw], momentum: [0.9, 0.5]}", ["grid.recipe.momentum[1]"]),
        (
            "{}",
            "{optimizer: [sgd, adamw], beta2: [0.999, 0.99, 0.9]}",
            ["grid.recipe.beta2[1]", "grid.recipe.beta2[2]"],
        ),
        (
            "{schedule: cosine, min_learning_rate: 0.01}",
            "{learning_rate: [0.1, 0.001]}",
            ["recipe.min_learning_rate"],
        ),
    ],
)
def test_varied_choices_must_have_an_effect_in_every_combination(recipe: str, varied: str, keys: list[str]) -> None:
    text = changed(("{learning_rate: 0.05}", recipe), ("blocks: [0, 3]", f"blocks: [0, 3]\n  recipe: {varied}"))
    for found in (text, text + "influence: {finetuned: {images: [50], seeds: 1}, damping: 0.1}\n"):
        assert [one.place.key for one in mistakes(found)] == keys
        assert [one.code for one in mistakes(found)] == [Code.WRONG_VALUE] * len(keys)


def test_a_choice_may_vary_where_it_has_an_effect() -> None:
    for recipe, varied in (
        ("{}", "{optimizer: [adamw], beta2: [0.999, 0.99]}"),
        ("{optimizer: adamw}", "{beta2: [0.999, 0.99]}"),
    ):
        loaded = study(("{learning_rate: 0.05}", recipe), ("blocks: [0, 3]", f"blocks: [0, 3]\n  recipe: {varied}"))
        assert loaded.recipes == (Recipe(optimizer="adamw"), Recipe(optimizer="adamw", beta2=0.99))


def test_choices_without_effect_are_reported_beside_mistakes_elsewhere() -> None:
    varied = ("blocks: [0, 3]", "blocks: [0, 3]\n  recipe: {optimizer: [sgd, adamw], momentum: [0.9, 0.5]}")
    found = mistakes(changed(varied, ("gpu: 0.5", "gpu: -1")))
    assert [one.place.key for one in found] == ["grid.recipe.momentum[1]", "resources.gpu"]
    mistyped = ("blocks: [0, 3]", "blocks: [0, 3]\n  recipe: {optimizer: [sgd, adam], beta2: [0.99]}")
    assert [one.place.key for one in mistakes(changed(mistyped))] == ["grid.recipe.optimizer[1]"]


def test_epochs_must_remain_after_the_warm_up() -> None:
    found = mistake(("{learning_rate: 0.05}", "{warmup_epochs: 10}"))
    check(found, Code.IMPOSSIBLE_TRIAL, "schedule[1].epochs", "warmup_epochs", "10", line=8)
    assert len(study(("{learning_rate: 0.05}", "{warmup_epochs: 9}")).recipes) == 1


def test_a_damping_is_needed_for_networks_trained_by_adamw() -> None:
    """Its weight decay is no L2 penalty. The pseudo-inverse has no damping."""
    text = changed(("blocks: [0, 3]", "blocks: [0, 3]\n  recipe: {optimizer: [sgd, adamw]}"))
    section = "influence: {finetuned: {images: [50], seeds: 1}%s}\n"
    parse_study(text + section % ", damping: 0.1", "mine.yaml")
    parse_study(text + section % ", measures: [pseudo-inverse]", "mine.yaml")
    for measures in ("", ", measures: [fisher]"):
        (found,) = mistakes(text + section % measures)
        check(found, Code.WRONG_VALUE, "", "influence", "damping", "adamw", line=1)


def test_a_damping_is_needed_where_any_recipe_has_no_weight_decay() -> None:
    text = changed(("blocks: [0, 3]", "blocks: [0, 3]\n  recipe: {weight_decay: [0.0005, 0.0]}"))
    weighed = "influence: {finetuned: {images: [50], seeds: 1}%s}\n"
    parse_study(text + weighed % ", damping: 0.1", "mine.yaml")
    (found,) = mistakes(text + weighed % "")
    check(found, Code.WRONG_VALUE, "", "influence", "damping", "weight_decay", "0", line=1)


@pytest.mark.parametrize(("size", "line"), [(-1, 13), (1000, 13)])
def test_as_many_seeds_are_examined_as_the_schedule_has_of_each_size(size: int, line: int) -> None:
    """Of 1,000 digits, the whole set, it has one; of 50 it has two."""
    section = "attack: {finetuned: {images: [%s], seeds: 2}}\n"
    parse_study(GOOD + section % "50, 100", "mine.yaml")
    text = GOOD + section % f"50, {size}"
    (found,) = mistakes(text)
    check(found, Code.IMPOSSIBLE_TRIAL, "attack.finetuned.seeds", f"1 seeds of {size} images", "got 2", line=line)
    assert parse_study(text, "record.yaml", recorded=True).name == "mine", "records of earlier releases stay readable"


# --- mistakes, with their lines ---


def test_all_mistakes_are_reported_at_once_in_order_of_lines() -> None:
    text = changed(
        ("fmnist_l2_eps1]", "fmnist_l2]"),
        ("[digits]", "[digit]"),
        ("blocks: [0, 3]", "blocks: [0, 12]"),
        ("epochs: 30", "epochs: 0"),
        ("learning_rate", "learning_rat"),
        ("baseline: fmnist_natural", "baseline: natural"),
        ("gpu: 0.5", "gpu: -1"),
    )
    found = mistakes(text)
    assert [(one.place.line, one.place.key, one.code) for one in found] == [
        (3, "grid.source[1]", Code.UNKNOWN_NAME),
        (4, "grid.dataset[0]", Code.UNKNOWN_NAME),
        (5, "grid.blocks[1]", Code.IMPOSSIBLE_TRIAL),
        (7, "schedule[0].epochs", Code.WRONG_VALUE),
        (9, "recipe.learning_rat", Code.UNKNOWN_KEY),
        (11, "contrasts[0].baseline", Code.UNKNOWN_NAME),
        (11, "contrasts[0].blocks[0]", Code.IMPOSSIBLE_TRIAL),
        (12, "resources.gpu", Code.WRONG_VALUE),
    ]
    head, *lines = refusal(text)
    assert head == "mine.yaml: 8 mistakes"
    assert lines == [f"  line {one.place.line}: {one.place.key}: {one.message}" for one in found]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("fmnist_l2_eps1]", "fmnist_l2_esp1]", "grid.source[1]"),
        ("source: [fmnist_natural, fmnist_l2_eps1]", "source: fmnist_natural, fmnist_l2_eps1", "grid.source"),
        ("source: [", "sources: [", "grid.source"),
        ("blocks: [0, 3]", "blocks: 3", "grid.blocks"),
        ("blocks: [0, 3]", "blocks: [0, '3']", "grid.blocks[1]"),
    ],
)
def test_contrasts_are_not_blamed_for_a_grid_with_mistakes(old: str, new: str, key: str) -> None:
    keys = [one.place.key for one in mistakes(changed((old, new)))]
    assert key in keys
    assert [at for at in keys if not at.startswith("grid")] == []


@pytest.mark.parametrize(
    ("card", "section"),
    [
        ("{train: 9, test: 3, labels: 3, colour: false, mean: [0.5], std: [0.5], folder: /a}", "datasets"),
        ("{of: fmnist, low_resolution: 8}", "datasets"),
        ("{architecture: resnet18, trained_on: fmnist, constraint: none, weights: a.pt}", "sources"),
        ("{builder: 'a.py:f', image_size: 32}", "architectures"),
    ],
)
def test_a_card_at_the_margin_is_told_where_it_belongs(card: str, section: str) -> None:
    found = mistake(("name: mine", f"fotos: {card}\nname: mine"))
    check(found, Code.UNKNOWN_KEY, "fotos", f"below the line {section}:", line=1)
    assert "package" not in found.message


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "key", "values"),
    [
        ("name: mine", "nam: mine\nname: mine", Code.UNKNOWN_KEY, 1, "nam", ["did you mean 'name'?", "keys: name, "]),
        (
            "  blocks: [0, 3]",
            "  blocks: [0, 3]\n  sources: [x]",
            Code.UNKNOWN_KEY,
            6,
            "grid.sources",
            ["did you mean 'source'?"],
        ),
        (
            "seeds: 2,",
            "seeds: 2, repeats: 3,",
            Code.UNKNOWN_KEY,
            7,
            "schedule[0].repeats",
            ["valid keys: images, epochs,"],
        ),
        (
            "{learning_rate: 0.05}",
            "{momentun: 0.5}",
            Code.UNKNOWN_KEY,
            9,
            "recipe.momentun",
            ["did you mean 'momentum'?"],
        ),
        (
            "{learning_rate: 0.05}",
            "as_released",
            Code.WRONG_VALUE,
            9,
            "recipe",
            ["paper, as-released", "'as_released'"],
        ),
        ("learning_rate: 0.05", "base: x", Code.WRONG_VALUE, 9, "recipe.base", ["paper, as-released", "'x'"]),
        (
            "{learning_rate: 0.05}",
            "{base: paper, momentun: 0.5}",
            Code.UNKNOWN_KEY,
            9,
            "recipe.momentun",
            ["did you mean 'momentum'?"],
        ),
        ("learning_rate: 0.05", "compile: 0", Code.WRONG_VALUE, 9, "recipe.compile", ["got 0"]),
        (
            "baseline: fmnist_n",
            "base: x, baseline: fmnist_n",
            Code.UNKNOWN_KEY,
            11,
            "contrasts[0].base",
            ["did you mean 'baseline'?"],
        ),
        (
            "gpu: 0.5",
            "gpus: 0.5",
            Code.UNKNOWN_KEY,
            12,
            "resources.gpus",
            ["did you mean 'gpu'?", "valid keys: gpu, cpu, on_other_device"],
        ),
        ("name: mine\n", "", Code.MISSING_KEY, 1, "name", []),
        ("epochs: 30, ", "", Code.MISSING_KEY, 7, "schedule[0].epochs", []),
        ("name: mine", "name: My study", Code.WRONG_NAME, 1, "name", ["'.', '_' and '-'", "'My study'"]),
        ("epochs: 30", "epochs: 0", Code.WRONG_VALUE, 7, "schedule[0].epochs", ["equal to 1", "got 0"]),
        ("epochs: 30", "epochs: many", Code.WRONG_VALUE, 7, "schedule[0].epochs", ["integer", "'many'"]),
        ("seeds: 2", "seeds: 0", Code.WRONG_VALUE, 7, "schedule[0].seeds", ["equal to 1", "got 0"]),
        ("learning_rate: 0.05", "learning_rate: .nan", Code.WRONG_VALUE, 9, "recipe.learning_rate", ["finite", "nan"]),
        (
            "learning_rate: 0.05",
            "fc_init: zeros",
            Code.WRONG_VALUE,
            9,
            "recipe.fc_init",
            ["'normal' or 'default'", "'zeros'"],
        ),
        ("cpu: 1", "cpu: 0", Code.WRONG_VALUE, 12, "resources.cpu", ["greater than 0", "got 0"]),
        ("[digits]", "[]", Code.WRONG_VALUE, 4, "grid.dataset", []),
        ("[0, 3]", "[0, 3, -2]", Code.WRONG_VALUE, 5, "grid.blocks[2]", ["-1", "-2"]),
        (
            "[digits]",
            "[digits, digit]",
            Code.UNKNOWN_NAME,
            4,
            "grid.dataset[1]",
            ["'digit'", "did you mean digits?", "data list"],
        ),
    ],
)
def test_one_mistake(old: str, new: str, code: Code, line: int, key: str, values: list[object]) -> None:
    check(mistake((old, new)), code, key, *values, line=line)


def test_an_unknown_source_says_the_nearest_ones() -> None:
    found = mistake(("[fmnist_natural, fmnist_l2_eps1]", "[fmnist_natural, fmnist_l2_eps1, fmnist_l1]"))
    check(
        found, Code.UNKNOWN_NAME, "grid.source[2]", "did you mean fmnist_l2_eps1 or ", "deltasweep models list", line=3
    )
    assert len(found.message) < 200
    own = "mine: {architecture: resnet18, trained_on: fmnist, constraint: none, epsilon: 0, random: true, "
    own += "mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}"
    study_of_own = changed(("fmnist_l2_eps1]", "fmnist_l2_eps1, mina]")) + f"sources:\n  {own}\n"
    (found,) = mistakes(study_of_own)
    check(found, Code.UNKNOWN_NAME, "grid.source[2]", "did you mean mine")


@pytest.mark.parametrize("images", [9, 1001, 0, 5000, -2])
def test_a_subset_too_small_or_too_large(images: int) -> None:
    found = mistake(("[50, 100]", f"[50, {images}]"))
    key = "schedule[0].images[1]"
    check(found, Code.IMPOSSIBLE_TRIAL, key, "digits", "10 images", "1000", "-1", f"got {images}", line=7)


def test_a_subset_is_held_against_every_dataset() -> None:
    found = mistake(("[digits]", "[cifar10, cifar100]"), ("[50, 100]", "[50, 100]"))
    key = "schedule[0].images[0]"
    check(found, Code.IMPOSSIBLE_TRIAL, key, "cifar100", "100 images", "50000", "got 50", line=7)


@pytest.mark.parametrize(("source", "most"), [("fmnist_natural", 11), ("natural", 16)])
def test_blocks_beyond_the_network(source: str, most: int) -> None:
    text = changed(
        ("[fmnist_natural, fmnist_l2_eps1]", f"[{source}]"),
        ("[0, 3]", f"[{most}, {most + 1}, -1]"),
        ("contrasts:\n  - {source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [3]}\n", ""),
    )
    (found,) = mistakes(text)
    check(found, Code.IMPOSSIBLE_TRIAL, "grid.blocks[1]", source, f"{most} blocks", f"got {most + 1}", line=5)


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "values"),
    [
        ("[digits]", "[digits, digits]", 4, "grid.dataset[1]", ["'digits'"]),
        ("[0, 3]", "[0, 3, 0]", 5, "grid.blocks[2]", ["0 is"]),
        ("fmnist_l2_eps1]", "fmnist_l2_eps1, fmnist_natural]", 3, "grid.source[2]", ["'fmnist_natural'"]),
        ("[50, 100]", "[50, 100, 50]", 7, "schedule[0].images[2]", ["50 images", "digits"]),
        ("[-1]", "[-1, 100]", 8, "schedule[1].images[1]", ["100 images", "digits"]),
        ("[50, 100]", "[50, 1000]", 8, "schedule[1].images[0]", ["-1 images", "digits"]),
    ],
)
def test_trials_that_come_twice(old: str, new: str, line: int, key: str, values: list[object]) -> None:
    check(mistake((old, new)), Code.REPEATED, key, *values, line=line)


def test_a_contrast_of_sources_that_are_not_compared() -> None:
    found = mistake(("baseline: fmnist_natural", "baseline: natural"))
    values = ("'natural'", "(fmnist_natural, fmnist_l2_eps1)")
    check(found, Code.UNKNOWN_NAME, "contrasts[0].baseline", *values, line=11)


def test_a_contrast_at_blocks_that_are_not_run() -> None:
    found = mistake(("blocks: [3]", "blocks: [3, 9]"))
    check(found, Code.IMPOSSIBLE_TRIAL, "contrasts[0].blocks[1]", "9 is", "([0, 3])", line=11)


def test_a_contrast_of_a_source_with_itself() -> None:
    found = mistake(("baseline: fmnist_natural", "baseline: fmnist_l2_eps1"))
    check(found, Code.WRONG_VALUE, "contrasts[0]", "two sources", "fmnist_l2_eps1", line=11)


DEEP = "{source: fmnist_l2_eps1, baseline: fmnist_l2_eps1, blocks: [3], baseline_blocks: 0}"


def test_a_contrast_of_two_depths() -> None:
    (one,) = study(("{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [3]}", DEEP)).contrasts
    assert (one.blocks, one.baseline_blocks) == ((3,), 0)
    found = mistake(
        ("{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [3]}", DEEP.replace("_blocks: 0", "_blocks: 9"))
    )
    check(found, Code.IMPOSSIBLE_TRIAL, "contrasts[0].baseline_blocks", "9 is", "([0, 3])", line=11)


def test_depths_are_those_of_one_source() -> None:
    found = mistake(("blocks: [3]}", "blocks: [3], baseline_blocks: 0}"))
    check(found, Code.WRONG_VALUE, "contrasts[0]", "fmnist_l2_eps1", "fmnist_natural", "Fix:", line=11)


def test_sets_of_contrasts_are_families() -> None:
    more = "blocks: [3]}\n  - {source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [0], family: others}"
    assert [one.family for one in study(("blocks: [3]}", more)).contrasts] == [None, "others"]
    assert study(("blocks: [3]}", more)).digest != study().digest


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("blocks: [3]}", "blocks: [3], family: others}"),
        ("blocks: [3], family: some}", "blocks: [0, 3], family: others}"),
        ("blocks: [3], epoch: 6}", "blocks: [3], epoch: 6, family: others}"),
        ("blocks: [3]}", "blocks: [3], epoch: 10, family: others}"),  # the last epoch of a row
        ("blocks: [3], epoch: 30}", "blocks: [3], family: others}"),
    ],
)
def test_a_comparison_in_two_families_is_refused(first: str, second: str) -> None:
    arms = "  - {source: fmnist_l2_eps1, baseline: fmnist_natural, "
    found = mistake(("blocks: [3]}", f"{first}\n{arms}{second}"))
    check(found, Code.REPEATED, "contrasts[1]", "contrast 0", "'others'", "Fix:", line=12)


@pytest.mark.parametrize("epoch", ["6", "last"])
@pytest.mark.parametrize("turned", ["family: others", "family: others, epoch: 6"])
def test_a_comparison_turned_round_is_the_same_test(epoch: str, turned: str) -> None:
    more = f"{{source: fmnist_natural, baseline: fmnist_l2_eps1, blocks: [3], {turned}}}"
    change = ("blocks: [3]}", f"blocks: [3], epoch: {epoch}}}\n  - {more}")
    if (epoch == "6") == ("epoch" in turned):
        check(mistake(change), Code.REPEATED, "contrasts[1]", "contrast 0", "'others'", line=12)
    else:
        study(change)
    deep = "  - {source: fmnist_natural, baseline: fmnist_natural, blocks: [0], baseline_blocks: 3, family: others}"
    arms = "{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [3]}"
    one = "{source: fmnist_natural, baseline: fmnist_natural, blocks: [3], baseline_blocks: 0}"
    check(mistake((arms, f"{one}\n{deep}")), Code.REPEATED, "contrasts[1]", "'others'", line=12)


@pytest.mark.parametrize("same", ["", ", family: some"])
def test_a_comparison_in_both_directions_is_refused_in_one_family_too(same: str) -> None:
    """Its cells would count twice in Holm's correction."""
    more = f"{{source: fmnist_natural, baseline: fmnist_l2_eps1, blocks: [0, 3]{same}"
    found = mistake(("blocks: [3]}", f"blocks: [3]{same}}}\n  - {more}}}"))
    check(found, Code.REPEATED, "contrasts[1]", "one direction", "contrast 0", "Fix:", line=12)
    study(("blocks: [3]}", f"blocks: [3]{same}}}\n  - {more}, epoch: 6}}"))
    one = study()
    (first,) = one.contrasts
    turned = first.model_copy(update={"source": first.baseline, "baseline": first.source})
    text = one.model_copy(update={"contrasts": (first, turned)}).resolved()
    assert parse_study(text, "record.yaml", recorded=True).contrasts == (first, turned), "of an earlier release"


@pytest.mark.parametrize("default", ["epoch: last", "family: null", "baseline_blocks: null", "epoch: last, family: ~"])
def test_a_default_that_is_written_out_makes_no_other_contrast(default: str) -> None:
    arms = "source: fmnist_l2_eps1, baseline: fmnist_natural"
    found = mistake(("blocks: [3]}", f"blocks: [3]}}\n  - {{{arms}, blocks: [3], {default}}}"))
    check(found, Code.REPEATED, "contrasts[1]", "twice", line=12)


def test_what_a_record_declared_stands() -> None:
    """Earlier releases accepted and recorded the same comparison twice if one was written with its defaults."""
    one = study()
    text = one.model_copy(update={"contrasts": one.contrasts * 2}).resolved()
    assert len(parse_study(text, "record.yaml", recorded=True).contrasts) == 2
    assert {one.code for one in mistakes(text)} == {Code.REPEATED}


@pytest.mark.parametrize(
    ("epoch", "said"), [("0", "greater"), ("first", "integer"), ("11.0", "integer"), ("[6]", "integer"), ("{}", "")]
)
def test_a_value_that_is_none_of_several_kinds_is_one_mistake_at_its_own_key(epoch: str, said: str) -> None:
    found = mistake(("blocks: [3]}", f"blocks: [3], epoch: {epoch}}}"))
    check(found, Code.WRONG_VALUE, "contrasts[0].epoch", said, "or input should be 'last'", line=11)


@pytest.mark.parametrize("mistaken", ["epoch: [6]", "epoch: {}", "family: [a]", "family: {}", "baseline_blocks: [1]"])
def test_values_of_another_type_in_a_contrast_are_one_mistake(mistaken: str) -> None:
    assert {one.code for one in mistakes(changed(("blocks: [3]}", f"blocks: [3], {mistaken}}}")))} <= {
        Code.WRONG_VALUE,
        Code.WRONG_NAME,
        Code.IMPOSSIBLE_TRIAL,
    }
    assert mistakes(changed(("blocks: [3]}", f"blocks: [3], {mistaken}}}"), ("images: [-1]", "images: -1")))


def test_an_epoch_that_nothing_evaluates_is_told_with_those_of_each_row() -> None:
    found = mistake(("blocks: [3]}", "blocks: [3], epoch: 12}"))
    rows = ("images 50, 100: 1, 6, 11, ..., 30", "images -1: 1, 6, 10", "got 12", "Fix:")
    check(found, Code.IMPOSSIBLE_TRIAL, "contrasts[0].epoch", *rows, line=11)


def test_packaged_studies_correct_each_claim_by_itself() -> None:
    """The first contrasts declared still form a family of the same cells."""
    for name in ("paper", "paper-table4"):
        contrasts = load_study(name).contrasts
        own = [one for one in contrasts if one.family is None]
        assert len(own) == 3
        assert {(one.blocks, one.epoch, one.baseline_blocks) for one in own} == {((3,), "last", None)}
        assert contrasts[:3] == tuple(own)
    assert {one.epoch for one in load_study("paper").contrasts if one.family == "learning-speed"} == {11, 21}
    depths = {(one.blocks, one.baseline_blocks) for one in load_study("paper").contrasts if one.family == "depth"}
    assert ((3,), 1) in depths


@pytest.mark.parametrize("key", ["name: again", "grid: {}"])
def test_a_key_that_is_there_twice(key: str) -> None:
    (found,) = [one for one in mistakes(GOOD + key + "\n") if one.code is Code.REPEATED]
    check(found, Code.REPEATED, key.split(":")[0], "again in line 13")


def test_a_nested_key_that_is_there_twice() -> None:
    found = mistake(("epochs: 30", "epochs: 30, epochs: 40"))
    check(found, Code.REPEATED, "schedule[0].epochs", "again in line 7", line=7)


@pytest.mark.parametrize(
    ("old", "new", "key", "value"),
    [
        ("blocks: [0, 3]", "blocks: [true, 3]", "grid.blocks[0]", "True"),
        ("images: [50, 100]", "images: [true, 100]", "schedule[0].images[0]", "True"),
        ("images: [50, 100]", "images: [yes, 100]", "schedule[0].images[0]", "'yes'"),
        ("images: [50, 100]", 'images: ["5", 100]', "schedule[0].images[0]", "'5'"),
        ("images: [50, 100]", "images: [5.0, 100]", "schedule[0].images[0]", "5.0"),
        ("blocks: [0, 3]", 'blocks: ["99", 3]', "grid.blocks[0]", "'99'"),
        ("seeds: 2", "seeds: true", "schedule[0].seeds", "True"),
    ],
)
def test_numbers_are_numbers(old: str, new: str, key: str, value: str) -> None:
    """A word, text or fraction in place of an integer must not bypass the rules for numbers."""
    check(mistakes(changed((old, new)))[0], Code.WRONG_VALUE, key, value)


CARD = """
datasets:
  mine:
    {train: 900, test: 300, labels: 3, colour: true, mean: [0, 0.5, 1], std: [0.2, 0.3, 1], folder: /none}
"""
SOURCE = """
sources:
  mine: {architecture: resnet50, trained_on: mine, constraint: none, epsilon: 0, mean: [0, 0.5, 1], std: [0.2, 0.3, 1],
         weights: mine.safetensors, weights_sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}
"""
MINE = GOOD + CARD + SOURCE


@pytest.mark.parametrize(
    ("key", "old", "new", "fix"),
    [
        ("datasets.mine.mean[1]", "0.5", "123.7", "got 123.7. Fix: divide mean and std by 255"),
        ("datasets.mine.mean[1]", "0.5", ".nan", "got nan. Fix: correct it"),
        ("datasets.mine.mean[1]", "0.5", ".inf", "got inf. Fix: correct it"),
        ("datasets.mine.mean[1]", "0.5", "-0.5", "got -0.5. Fix: correct it"),
        ("datasets.mine.std[1]", "0.3", "58.4", "got 58.4. Fix: divide mean and std by 255"),
        ("sources.mine.mean[1]", "0.5", "123.7", "got 123.7. Fix: divide mean and std by 255"),
    ],
)
def test_statistics_are_of_pixels_between_0_and_1(key: str, old: str, new: str, fix: str) -> None:
    """Records keep what earlier versions accepted."""
    before, after = (MINE, "") if key.startswith("sources") else (GOOD + CARD, SOURCE)
    at = before.rindex(old)
    text = f"{before[:at]}{new}{before[at + len(old) :]}{after}"
    (found,) = (one for one in mistakes(text) if one.place.key == key)
    check(found, Code.WRONG_VALUE, key, "expected the", "of pixels in [0, 1]", fix)
    assert parse_study(text, "record.yaml", recorded=True).datasets["mine"].train == 900


def test_statistics_may_be_0_and_1() -> None:
    assert parse_study(MINE, "mine.yaml").sources["mine"].mean == (0, 0.5, 1)


# --- not a study at all ---


@pytest.mark.parametrize("text", ["", "just text", "[1, 2]", "3", "null"])
def test_a_file_that_is_no_mapping(text: str) -> None:
    with refused(Code.UNREADABLE_FILE, "mine.yaml", "name, description, grid, schedule", file="mine.yaml"):
        parse_study(text, "mine.yaml")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: mine\ngrid: [1, 2\n", 3),
        ("name: mine\n\tgrid: 1\n", 2),
        ('name: "mine\n', 2),
        ("name: mine\nname2: a: b\n", 2),
        ("name: *unknown\n", 1),
        ("a: 1\n---\nb: 2\n", 2),
        ("name: !!python/object:os.system x\n", 1),
    ],
)
def test_text_that_is_not_yaml(text: str, line: int) -> None:
    with refused(Code.UNREADABLE_FILE, f"mine.yaml:{line}", kind=InvalidRequest, file="mine.yaml", line=line):
        parse_study(text, "mine.yaml")


@pytest.mark.parametrize("text", ["1: 2\n", "name: mine\ntrue: x\n", "grid: {3: x}\n", "name: \x07\n"])
def test_odd_files_are_refused_and_not_crashed_on(text: str) -> None:
    refusal(text)


@pytest.mark.parametrize("key", ["grid", "schedule", "recipe", "contrasts", "resources"])
@pytest.mark.parametrize("value", ["null", "3", "text", "[1]", "{a: 1}", "[[1]]"])
def test_sections_of_the_wrong_shape_are_refused_and_not_crashed_on(key: str, value: str) -> None:
    lines = GOOD.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
    end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
    text = "\n".join([*lines[:start], f"{key}: {value}", *lines[end:]])
    assert any(one.place.line == start + 1 and one.place.key.startswith(key) for one in mistakes(text))


def sections(model: type[BaseModel], location: Location = ()) -> Iterator[tuple[Location, type[BaseModel]]]:
    """Yield every place in a study file that has keys, at any depth; ``mine`` stands for a card's name."""
    yield location, model
    for key, field in model.model_fields.items():
        steps: Location = (key,)
        annotation: Any = field.annotation
        while annotation is not None:
            origin, parts = get_origin(annotation), [part for part in get_args(annotation) if part is not type(None)]
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                yield from sections(annotation, location + steps)
            inner: dict[Any, Location] = {dict: ("mine",), tuple: (0,)}
            steps += inner.get(origin, ())
            annotation = parts[-1 if origin is dict else 0] if parts else None


SECTIONS = {".".join(map(str, location)): (location, model) for location, model in sections(Study) if location}


def test_the_deepest_sections_are_among_them() -> None:
    assert {"influence.cutoffs.0", "attack.balls.0", "sources.mine.pretrain.recipe", "datasets.mine.files.0"} <= set(
        SECTIONS
    )


@pytest.mark.parametrize("place", SECTIONS)
def test_a_key_that_no_section_has_is_told_with_those_that_it_has(place: str) -> None:
    location, model = SECTIONS[place]
    value: object = {"xyzzy": 1}
    for step in reversed(location):
        value = [value] if isinstance(step, int) else {step: value}
    found = [one for one in mistakes(safe_yaml.dump(value)) if one.place.key.endswith("xyzzy")]
    assert [one.code for one in found] == [Code.UNKNOWN_KEY]
    assert found[0].place.key == place.replace(".0", "[0]") + ".xyzzy"
    listed, _, after = found[0].message.partition("valid keys: ")[2].partition(". A version after ")
    assert listed.removeprefix("base, ") == ", ".join(model.model_fields)
    assert after.endswith(" may have it")


@pytest.mark.parametrize("place", ["schedule", "contrasts", "influence.cutoffs", "attack.balls"])
def test_one_item_where_a_list_is_needed(place: str) -> None:
    value: object = {"xyzzy": 1}
    for step in reversed(place.split(".")):
        value = {step: value}
    (found,) = (one for one in mistakes(safe_yaml.dump(value)) if one.place.key == place)
    assert "expected a list" in found.message


# --- finding files ---


def test_unknown_study() -> None:
    known = "demo, demo-claims, demo-confound, demo-fourier, demo-full, demo-networks, demo-precision, demo-shape, "
    with refused(Code.UNKNOWN_NAME, "'papper'", known, ".yaml", kind=InvalidRequest):
        load_study("papper")


@pytest.mark.parametrize("path", ["nowhere.yaml", "./nowhere", "folder/nowhere.yml"])
def test_study_file_that_is_not_there(path: str) -> None:
    with refused(Code.NO_SUCH_FILE, path, "demo, demo-claims", kind=InvalidRequest, file=path):
        load_study(path)


def test_a_study_by_its_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("studies") / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_study(str(path)) == study()


def test_relative_paths_in_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    """A record of the study could be written, but not read."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    path = folder / "mine.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_study(str(path)) == study()
    path.write_text(GOOD + CARD.replace("/none", "none"), encoding="utf-8")
    with refused(Code.WRONG_PLACE, rf"expected a path in UTF-8; got {tmp_path}/caf\xe9/none", kind=InvalidRequest):
        load_study(str(path))


def test_a_folder_is_no_study(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.mktemp("mine.yaml"))
    with refused(Code.UNREADABLE_FILE, folder, "is a folder", kind=InvalidRequest, file=folder):
        load_study(folder)


def test_a_file_that_is_no_text_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("studies") / "mine.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    with refused(Code.UNREADABLE_FILE, path, "UTF-8", kind=InvalidRequest, file=path):
        load_study(str(path))


# --- packaged studies ---


def test_packaged_studies() -> None:
    assert {"demo", "paper", "paper-table4"} <= set(packaged_studies())
    for name in packaged_studies():
        assert load_study(name).name == name


@pytest.mark.parametrize(
    ("name", "trials"),
    [
        ("paper", 14_400),
        ("paper-as-released", 14_400),
        ("paper-table4", 12_576),
        ("paper-table7", 1_944),
        ("paper-random-init", 900),
        ("paper-attacks", 3_600),
        ("paper-attack-sources", 2),
        ("paper-figure2-small", 90),
        ("paper-table2", 40),
        ("paper-table1b", 9),
        ("paper-confound", 1_080),
    ],
)
def test_the_paper_s_studies_have_the_paper_s_trials(name: str, trials: int) -> None:
    specs = packaged(name)
    assert len(specs) == len({spec.trial_id for spec in specs}) == trials


def test_the_paper_s_grid() -> None:
    """A.3: 4 sources, 6 datasets, k of 0, 1, 3, 9; 20 seeds up to 1,600 images and 10 above."""
    specs = packaged_tuned("paper")
    assert {spec.source for spec in specs} == {"natural", "l2_eps3", "linf_eps4", "linf_eps8"}
    assert {spec.dataset for spec in specs} == {"cifar100", "cifar10", "svhn", "fmnist", "kmnist", "mnist"}
    assert {spec.blocks for spec in specs} == {0, 1, 3, 9}
    per_cell = Counter((spec.dataset, spec.source, spec.blocks, spec.images) for spec in specs)
    for (_, _, _, images), count in per_cell.items():
        assert count == (20 if 0 < images <= 1600 else 10)
    for spec in specs:
        assert spec.epochs == (100 if 0 < spec.images <= 1600 else 150)


def test_table_4_s_seeds() -> None:
    counts = {spec.images: 0 for spec in packaged_tuned("paper-table4")}
    for spec in packaged_tuned("paper-table4"):
        counts[spec.images] += 1
    arms = 4 * 6 * 4
    assert {images: count // arms for images, count in counts.items()} == {
        **dict.fromkeys((100, 200, 400, 800, 1600), 20),
        **dict.fromkeys((3200, 6400), 10),
        **dict.fromkeys((12800, 25600), 5),
        -1: 1,
    }


def test_table_7_s_seeds_and_epochs() -> None:
    """The published schedule (docs/decisions/released-code.md), three blocks, four sources, six datasets."""
    per_size = Counter((spec.images, spec.epochs, spec.evaluate_every) for spec in packaged_tuned("paper-table7"))
    assert {size: count / (4 * 6) for size, count in per_size.items()} == {
        **{(images, 100, 20): 10 for images in (100, 200, 400, 800, 1600)},
        **{(images, 150, 10): 10 for images in (3200, 6400)},
        **{(images, 150, 10): 5 for images in (12800, 25600)},
        (-1, 150, 10): 1,
    }
    assert {spec.blocks for spec in packaged_tuned("paper-table7")} == {3}
    assert load_study("paper-table7").contrasts == tuple(one for one in load_study("paper").contrasts if not one.family)


def test_the_paper_s_studies_share_trials() -> None:
    """A trial that any study has run is never run again (promise 4)."""
    paper, table4, table7 = (
        {spec.trial_id for spec in packaged_tuned(name)} for name in ("paper", "paper-table4", "paper-table7")
    )
    assert table7 < table4 < paper
    for name in ("paper-figure2-small", "paper-figure1b", "paper-influence"):
        assert {spec.trial_id for spec in packaged_tuned(name)} < paper
    from_random = {(spec.dataset, spec.images, spec.seed, spec.epochs) for spec in packaged_tuned("paper-random-init")}
    assert {
        (spec.dataset, spec.images, spec.seed, spec.epochs) for spec in packaged_tuned("paper-table7")
    } < from_random
    attacks = packaged_tuned("paper-attacks")
    assert {spec.trial_id for spec in attacks if spec.source in ("natural", "l2_eps3")} < paper


def test_the_paper_as_released_has_the_trials_that_the_paper_had_until_0_2_0() -> None:
    ids = sorted(spec.trial_id for spec in packaged("paper-as-released"))
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()
    assert digest == "908f31c7921b72e13829c48aa7165bf25341040a4cd6d6d8ef064a153d0eee67"
    assert not set(ids) & {spec.trial_id for spec in packaged("paper")}


def test_the_confound_is_every_way_of_both_choices_and_shares_the_released_one_with_the_paper_as_released() -> None:
    by_way: dict[tuple[str, str], set[str]] = {}
    for spec in packaged_tuned("paper-confound"):
        way = (spec.recipe.normalization, spec.recipe.frozen_batchnorm)
        by_way.setdefault(way, set()).add(spec.trial_id)
    assert {len(trials) for trials in by_way.values()} == {2 * 2 * 3 * 10}
    assert len(by_way) == 9
    paper = {spec.trial_id for spec in packaged("paper-as-released")}
    assert [way for way, trials in by_way.items() if trials & paper] == [("as-released", "batch")]
    assert by_way["as-released", "batch"] < paper
    demo, small = ({spec.trial_id for spec in packaged(name)} for name in ("demo", "demo-confound"))
    assert len(demo & small) == 2 * 5


AS_PUBLISHED = [
    "paper",
    "paper-table4",
    "paper-table7",
    "paper-random-init",
    "paper-attacks",
    "paper-figure1b",
    "paper-figure2-small",
    "paper-influence",
]
"""Studies of what the code of April to August 2020 computed; ``paper-table1a`` and ``paper-table2`` are from autumn."""


@pytest.mark.parametrize("name", AS_PUBLISHED)
def test_the_paper_s_studies_are_run_as_what_made_their_numbers(name: str) -> None:
    assert {spec.recipe for spec in packaged_tuned(name)} == {named_recipe("as-published")}


@pytest.mark.parametrize("name", ["paper-table1a", "paper-table2"])
def test_where_both_recipes_are_the_same_the_recipe_stays(name: str) -> None:
    """The datasets are in colour, and their mean and std are those of the sources, so no number would change."""
    crop = {"paper-table1a": "centre-square", "paper-table2": "whole-image"}[name]
    for spec in packaged_tuned(name):
        assert spec.recipe == RECIPES["as-released"].model_copy(update={"crop": crop})
        source, target = PACKAGED.source(spec.source), PACKAGED.dataset(spec.dataset)
        other = spec.model_copy(update={"recipe": RECIPES["as-published"]})
        assert augments(spec, PACKAGED) == augments(other, PACKAGED)
        assert normalizer(spec.recipe, source, target) == normalizer(other.recipe, source, target)


def test_the_sources_of_section_7_are_made_by_a_study() -> None:
    """A.10: one step of size 6 from zero, and N(0, 1) per pixel, both in the L2 ball of radius 3."""
    pgd1, gaussian = (spec for spec in packaged("paper-attack-sources") if isinstance(spec, PretrainSpec))
    assert (pgd1.threat.constraint, pgd1.threat.steps, pgd1.threat.step_size, pgd1.threat.start) == ("l2", 1, 6, "zero")
    assert (gaussian.threat.constraint, gaussian.threat.epsilon) == ("gaussian", 3)
    assert {spec.recipe.learning_rate for spec in (pgd1, gaussian)} == {0.1}
    assert {spec.recipe.batch_size for spec in (pgd1, gaussian)} == {128}
    made = {"pgd1_l2_eps3", "gaussian_l2_eps3"}
    assert made < {spec.source for spec in packaged("paper-attacks") if isinstance(spec, FinetuneSpec)}


def test_the_demo_is_as_large_as_promised() -> None:
    """At least 40 trials, 5 seeds and 30 epochs each, with bundled models and data."""
    specs = packaged_tuned("demo")
    assert len(specs) >= 40
    assert len({spec.seed for spec in specs}) >= 5
    assert all(spec.epochs >= 30 for spec in specs)
    assert {"fmnist_natural", "fmnist_l2_eps1"} <= {spec.source for spec in specs}


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "values"),
    [
        ("learning_rate: 0.05", "learning_rate: true", Code.WRONG_VALUE, "recipe.learning_rate", ["True"]),
        ("learning_rate: 0.05", 'learning_rate: "0.5"', Code.WRONG_VALUE, "recipe.learning_rate", ["'0.5'"]),
        ("cpu: 1", "cpu: true", Code.WRONG_VALUE, "resources.cpu", ["True"]),
        ("cpu: 1", "cpu: 1, extra: 2", Code.UNKNOWN_KEY, "resources.extra", ["valid keys: gpu, cpu"]),
    ],
)
def test_numbers_are_written_as_numbers(old: str, new: str, code: Code, key: str, values: list[object]) -> None:
    text = """
name: numbers
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [50], epochs: 3, seeds: 1, evaluate_every: 1}]
recipe: {learning_rate: 0.05}
resources: {cpu: 1}
"""
    parse_study(text, "numbers.yaml")
    (found,) = mistakes(text.replace(old, new))
    check(found, code, key, *values)


@pytest.mark.parametrize("epoch", [2, 5, 7, 0, -1])
def test_a_contrast_at_an_epoch_that_nothing_evaluates_is_refused(epoch: int) -> None:
    text = """
name: epochs
grid: {{source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}}
schedule: [{{images: [50], epochs: 6, seeds: 1, evaluate_every: 3}}]
contrasts: [{{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [0], epoch: {epoch}}}]
"""
    for good in (1, 4, 6, "last"):
        parse_study(text.format(epoch=good), "epochs.yaml")
    keys = [one.place.key for one in mistakes(text.format(epoch=epoch))]
    assert keys
    assert all(key.startswith("contrasts[0].epoch") for key in keys), keys


def test_texts_that_break_the_parser_are_one_message() -> None:
    for text in (
        "[" * 3000,
        "[" * 100_000,
        "- " * 100_000,
        "{a: " * 100_000,
        "x" * 5_000_000,
        "a: &a [*a]",
        f"x: {'9' * 5000}",
    ):
        with refused(Code.UNREADABLE_FILE, "broken.yaml", kind=InvalidRequest, file="broken.yaml"):
            parse_study(text, "broken.yaml")


def test_what_becomes_of_checkpoints_from_other_devices_is_placement() -> None:
    """No id changes, and without an explicit choice the study's digest is the same as before the choice existed."""
    plain, continued, restarted = (
        study(("{gpu: 0.5, cpu: 1}", f"{{gpu: 0.5, cpu: 1{choice}}}"))
        for choice in ("", ", on_other_device: continue", ", on_other_device: restart")
    )
    assert plain.digest == continued.digest != restarted.digest
    assert "on_other_device" not in continued.resolved()
    assert parse_study(restarted.resolved(), "study.yaml") == restarted
    assert [spec.trial_id for spec in expand(plain)] == [spec.trial_id for spec in expand(restarted)]


DIGESTS = {
    "demo-fourier": "12fab271d32363b2",
    "demo-full": "e06b2a8e7361a1ed",
    "paper-attack-sources": "aefce8cd1df6bdd8",
}


def test_the_miniatures_share_trials_as_their_descriptions_say() -> None:
    """Also in docs/reference/packaged-studies.md and docs/explanation/why/miniature.md."""
    full = {spec.trial_id for spec in packaged_tuned("demo-full")}
    for name, shared, of in (
        ("demo", 60, 60),
        ("demo-claims", 30, 60),
        ("demo-shape", 10, 20),
        ("demo-fourier", 60, 80),
    ):
        ids = {spec.trial_id for spec in packaged_tuned(name)}
        assert (len(ids & full), len(ids)) == (shared, of)
    told = {
        name: load_study(name).description
        for name in ("demo", "demo-full", "demo-claims", "demo-shape", "demo-fourier")
    }
    assert "The trials of `demo` are among its own" in told["demo-full"]
    assert "60 trials, half of which are those of `demo-full`" in told["demo-claims"]
    assert "Half of the fine-tuned trials are those of `demo-full`" in told["demo-shape"]
    assert "All but 20 of its fine-tuning trials are those of `demo-full`" in told["demo-fourier"]
    influences = [spec for spec in packaged("demo-full") if isinstance(spec, InfluenceSpec)]
    assert {spec.network.images for spec in influences} == {400}, "docs/explanation/why/influence-estimators.md"
    assert 400 not in {spec.images for spec in packaged_tuned("demo")}


def test_digests_of_packaged_studies_are_those_of_0_1_0() -> None:
    """Launches of older versions are found by digest if the study has not changed."""
    assert {name: load_study(name).digest for name in DIGESTS} == DIGESTS


# --- values as in YAML 1.2 ---


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("1E-3", 0.001),
        ("1e3", 1000.0),
        ("1.e-3", 0.001),
        ("1.0e-3", 0.001),
        ("1.0e-03", 0.001),
        (".5", 0.5),
        ("+.5", 0.5),
        ("+5", 5.0),
        ("5.", 5.0),
        ("0.0001", 0.0001),
        ("00.5", 0.5),
        ("0x10", 16.0),
        ("0o10", 8.0),
    ],
)
def test_numbers_of_the_core_schema(written: str, value: float) -> None:
    found = study(("learning_rate: 0.05", f"learning_rate: {written}")).recipe.learning_rate
    assert found == value
    assert isinstance(found, float)


@pytest.mark.parametrize(
    ("written", "value"), [("100", 100), ("+100", 100), ("0x64", 100), ("0o144", 100), ("!!int 100", 100)]
)
def test_whole_numbers_of_the_core_schema(written: str, value: int) -> None:
    assert study(("images: [50, 100]", f"images: [50, {written}]")).schedule[0].images == (50, value)


@pytest.mark.parametrize("written", ["0100", "010", "-0100", "+08", "007", "00"])
@pytest.mark.parametrize("place", ["images: [50, {}]", "images: [{}, 100]"])
def test_a_zero_in_front_is_read_in_two_ways_and_refused(written: str, place: str) -> None:
    text = changed(("images: [50, 100]", place.format(written)))
    line = next(n for n, one in enumerate(text.splitlines(), 1) if written in one)
    values = (f"study.yaml:{line}", written, str(int(written)).removeprefix("+"), "octal")
    with refused(Code.UNREADABLE_FILE, *values, kind=InvalidRequest, line=line):
        parse_study(text, "study.yaml")


@pytest.mark.parametrize("written", ["1e-400", "-0.2E-324", "0.0000001e-330"])
def test_a_number_that_would_be_read_as_0_is_refused(written: str) -> None:
    text = changed(("learning_rate: 0.05", f"learning_rate: {written}"))
    with refused(Code.UNREADABLE_FILE, written, "write 0", kind=InvalidRequest):
        parse_study(text, "study.yaml")


@pytest.mark.parametrize("written", ["0.0", "0e5", "-0.0", ".0"])
def test_numbers_that_are_0(written: str) -> None:
    assert study(("learning_rate: 0.05", f"momentum: {written}")).recipe.momentum == 0


@pytest.mark.parametrize(
    ("old", "new", "key", "values"),
    [
        ("images: [50, 100]", "images: [1_000, 100]", "schedule[0].images[0]", ["'1_000'", "write 1000"]),
        ("images: [50, 100]", "images: [1:30, 100]", "schedule[0].images[0]", ["'1:30'", "write 90"]),
        ("images: [50, 100]", "images: [0b11, 100]", "schedule[0].images[0]", ["'0b11'", "write 3"]),
        ("images: [50, 100]", "images: ['50', 100]", "schedule[0].images[0]", ["'50'", "write 50"]),
        ("images: [50, 100]", "images: [fifty, 100]", "schedule[0].images[0]", ["'fifty'"]),
        ("images: [50, 100]", "images: [~, 100]", "schedule[0].images[0]", ["None"]),
        ("images: [50, 100]", "images: [[50], 100]", "schedule[0].images[0]", ["[50]"]),
        ("images: [50, 100]", "images: 50", "schedule[0].images", ["a list", "write [50]"]),
        ("images: [50, 100]", "images:", "schedule[0].images", ["a list", "null"]),
        ("images: [50, 100]", "images: {50: 100}", "schedule[0].images", []),
        ("dataset: [digits]", "dataset: digits", "grid.dataset", ["a list", "write [digits]"]),
        ("dataset: [digits]", "dataset: [true]", "grid.dataset[0]", ["true or false", "quote it: 'true'"]),
        ("dataset: [digits]", "dataset: [[digits]]", "grid.dataset[0]", ["['digits']"]),
        ("dataset: [digits]", "dataset: [no]", "grid.dataset[0]", ["'no'"]),
        ("dataset: [digits]", "dataset: [~]", "grid.dataset[0]", ["nothing", "quote it: '~'"]),
        ("name: mine", "name: 2026", "name", ["a number", "quote it: '2026'"]),
        ("name: mine", "name: 1e5", "name", ["a number", "quote it: '1e5'"]),
        ("name: mine", "name: True", "name", ["true or false", "quote it: 'True'"]),
        ("name: mine", "name: .inf", "name", ["a number", "quote it: '.inf'"]),
        ("name: mine", "name: mine\nkeep_weights: yes", "keep_weights", ["'yes'", "write true"]),
        ("name: mine", "name: mine\nkeep_weights: off", "keep_weights", ["'off'", "write false"]),
        ("name: mine", "name: mine\nkeep_weights: 1", "keep_weights", ["1"]),
        ("name: mine", "name: mine\nbundel: none", "bundel", ["did you mean 'bundle'?"]),
        ("name: mine", "name: mine\nattack: digits", "attack", ["keys with values", "'digits'"]),
    ],
)
def test_values_that_are_read_otherwise_say_what_to_write(old: str, new: str, key: str, values: list[object]) -> None:
    text = changed((old, new))
    meant = next(one for one in mistakes(text) if one.place.key == key)
    assert [value for value in values if str(value) not in meant.message] == [], meant.message
    assert meant.place.line


@pytest.mark.parametrize(
    "name", ["2026_11", "2026-11-29", "1_000", "no", "off", "y", "1.0.0", "12e", "0b11", "0o8", "e3"]
)
def test_names_that_only_older_readers_take_for_something_else(name: str) -> None:
    found = study(("name: mine", f"name: {name}"))
    assert found.name == name
    assert parse_study(found.resolved(), "r.yaml") == parse_study(found.resolved(), "r.yaml", recorded=True) == found


@pytest.mark.parametrize("name", ["1e5", "0x10", "0o17", "true", "null", "2026", "1.5", "0100"])
def test_texts_that_look_like_something_else_survive_a_record(name: str) -> None:
    found = study(("name: mine", f"name: '{name}'\ndescription: '{name}'"))
    assert (found.name, found.description) == (name, name)
    assert parse_study(found.resolved(), "r.yaml") == parse_study(found.resolved(), "r.yaml", recorded=True) == found


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(st.text(max_size=9) | st.floats(allow_nan=False) | st.integers() | st.booleans() | st.none(), st.lists)
)
def test_what_is_dumped_is_read_alike_by_both_versions(value: object) -> None:
    text = safe_yaml.dump({"a": value})
    assert safe_yaml.load(text) == safe_yaml.load(text, safe_yaml.CoreLoader) == {"a": value}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
        lambda text: f"%YAML 1.2\n---\n{text}...\n".encode(),
    ],
    ids=["BOM", "CRLF", "both", "a document of 1.2"],
)
def test_files_as_other_systems_write_them(change: Callable[[str], bytes], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(change(GOOD))
    assert load_study(str(tmp_path / "mine.yaml")) == study()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "latin-1"])
def test_other_encodings_are_named(encoding: str, tmp_path: Path) -> None:
    text = GOOD.replace("name: mine", "name: mine\ndescription: caf\u00e9")
    data = text.encode(encoding)
    data = b"\xfe\xff" + data if encoding == "utf-16-be" else data
    (tmp_path / "mine.yaml").write_bytes(data)
    with refused(Code.UNREADABLE_FILE, "UTF-8", kind=InvalidRequest, file=tmp_path / "mine.yaml"):
        load_study(str(tmp_path / "mine.yaml"))


# --- recipes of sections ---

EXAMINED = """
name: examined
grid: {source: [fmnist_natural], dataset: [mnist], blocks: [1]}
schedule: [{images: [1600], epochs: 1, seeds: 5, evaluate_every: 1}]
"""


def test_a_section_does_not_take_the_name_of_a_recipe() -> None:
    text = EXAMINED + "recipe: fast\nattack: {finetuned: {images: [1600], seeds: 5}, recipe: fast}\n"
    with refused(Code.WRONG_VALUE, "{precision: bfloat16}; got the name 'fast', which is for fine-tuning. Fix: "):
        parse_study(text, "s.yaml")
    with refused(Code.WRONG_VALUE, "expected keys with values; got 'quick'"):
        parse_study(text.replace("recipe: fast}", "recipe: quick}"), "s.yaml")


def test_the_section_in_the_docs_computes_in_bfloat16() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "precision.md").read_text(encoding="utf-8")
    (example,) = (text for text in page.split("```yaml\n") if text.startswith("recipe: fast\nattack:"))
    specs = expand(parse_study(EXAMINED + example.partition("```")[0], "s.yaml"))
    assert {(spec.kind, spec.recipe.precision) for spec in specs} == {("finetune", "bfloat16"), ("attack", "bfloat16")}
    plain = expand(parse_study(EXAMINED + example.partition("```")[0].replace("recipe: {", "# {"), "s.yaml"))
    assert {spec.recipe.precision for spec in plain if spec.kind == "attack"} == {"float32"}
