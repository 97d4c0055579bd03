"""Studies that examine networks: files, trials, stages, launches, and weights that must be regenerated first."""

import io
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from rich.console import Console

import analysis
from jobs.errors import Code, MissingData, Mistake
from jobs.kinds.attack.spec import AttackSpec
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.influence.spec import InfluenceSpec
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.visualize.spec import VisualizeSpec
from jobs.results import open_store, read_trials
from jobs.results.layout import trained_weights_key, trial_key
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.verification.verify import verify
from orchestrator.launching.launch import launch
from orchestrator.launching.launch_state import LaunchState
from orchestrator.launching.local import run_locally
from orchestrator.planning.gpus import gpu
from orchestrator.planning.plan import make_plan
from orchestrator.planning.stages import stages_of
from orchestrator.planning.status import status_of
from orchestrator.ray_tune import tuner
from orchestrator.study.history import planned_trials
from orchestrator.study.load import load_study, parse_study
from tests.orchestrator.support import check, mistakes
from tests.support import refused

pytestmark = pytest.mark.usefixtures("without_ray")

QUIET = Console(quiet=True)
STUDY = """\
name: attacked
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0, 3]}
schedule:
  - {images: [30, 1000], epochs: 1, seeds: 2, evaluate_every: 1}
attack:
  source: [fmnist_l2_eps1]
  finetuned: {images: [30], seeds: 1}
  test_images: 20
  balls:
    - {constraint: l2, epsilon: [0.25, 1/2], steps: 2}
    - {constraint: linf, epsilon: [2/255], steps: 2, start: random, restarts: 2}
resources: {gpu: 0.25, cpu: 1}
"""
SMALL = STUDY.replace("[30, 1000]", "[30]").replace("source: [fmnist_l2_eps1]\n  finetuned", "finetuned")
"""The part of the study that does not need the images of Fashion-MNIST."""


WEIGHED = """\
name: weighed
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [3]}
schedule:
  - {images: [30], epochs: 1, seeds: 2, evaluate_every: 1}
influence:
  finetuned: {images: [30], seeds: 1}
  measures: [influence, pseudo-inverse, fisher]
  damping: 0.01
  cutoff_relative: 0.05
  top: 3
"""


def mistake(old: str, new: str, study: str = STUDY) -> Mistake:
    """Return the only mistake of the changed study."""
    assert study.count(old) == 1
    (found,) = mistakes(study.replace(old, new))
    return found


def attacks(study: Study) -> list[AttackSpec]:
    return [spec for spec in expand(study) if isinstance(spec, AttackSpec)]


def test_each_network_is_shown_clean_images_and_every_ball() -> None:
    study = parse_study(STUDY, "attacked.yaml")
    found = attacks(study)
    assert len(expand(study)) == 8 + len(found) == 8 + 3 * 4
    assert [spec.kind for spec in expand(study)[-12:]] == ["attack"] * 12, "networks first"
    assert {(s.threat.constraint.value, s.threat.epsilon, s.restarts) for s in found} == {
        ("none", 0.0, 1),
        ("l2", 0.25, 1),
        ("l2", 0.5, 1),
        ("linf", 2 / 255, 2),
    }
    sources = {(s.network, s.dataset) for s in found if isinstance(s.network, str)}
    assert sources == {("fmnist_l2_eps1", "fmnist")}, "on the labels that it was trained on"
    tuned = {s.network.trial_id for s in found if isinstance(s.network, FinetuneSpec)}
    planned = {s.trial_id for s in expand(study) if isinstance(s, FinetuneSpec) and s.images == 30}
    assert len(tuned) == 2, "both depths, one seed"
    assert tuned < planned


def test_balls_of_frequencies() -> None:
    study = parse_study(STUDY.replace("constraint: l2", "constraint: fourier, band: [0, 1/4]"), "attacked.yaml")
    found = {(s.threat.epsilon, s.threat.band) for s in attacks(study) if s.threat.constraint == "fourier"}
    assert found == {(0.25, (0.0, 0.25)), (0.5, (0.0, 0.25))}
    again = parse_study(study.resolved(), "resolved.yaml")
    assert [spec.trial_id for spec in expand(again)] == [spec.trial_id for spec in expand(study)]


def test_the_whole_test_set_has_one_name() -> None:
    study = parse_study(SMALL.replace("test_images: 20", "test_images: 797"), "attacked.yaml")
    assert {spec.test_images for spec in attacks(study)} == {-1}


def test_the_whole_training_set_has_one_name() -> None:
    study = parse_study(STUDY.replace("finetuned: {images: [30]", "finetuned: {images: [1000]"), "attacked.yaml")
    assert {s.network.images for s in attacks(study) if isinstance(s.network, FinetuneSpec)} == {-1}


def test_the_resolved_file_gives_the_same_trials() -> None:
    study = parse_study(STUDY, "attacked.yaml")
    again = parse_study(study.resolved(), "resolved.yaml")
    assert [spec.trial_id for spec in expand(again)] == [spec.trial_id for spec in expand(study)]


def test_what_is_attacked_changes_no_other_trial() -> None:
    with_attack, without = (parse_study(text, "s.yaml") for text in (STUDY, STUDY[: STUDY.index("attack:")]))
    assert {spec.trial_id for spec in expand(without)} < {spec.trial_id for spec in expand(with_attack)}


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "values"),
    [
        ("[fmnist_l2_eps1]", "[fmnist_l3]", Code.UNKNOWN_NAME, "source[0]", ["'fmnist_l3'"]),
        ("[fmnist_l2_eps1]", "[fmnist_l2_eps1, fmnist_l2_eps1]", Code.REPEATED, "source[1]", ["'fmnist_l2_eps1'"]),
        (
            "[fmnist_l2_eps1]",
            "[random_init_resnet35-w8]",
            Code.IMPOSSIBLE_TRIAL,
            "source[0]",
            ["random_init_resnet35-w8", "seed"],
        ),
        (
            "{images: [30], seeds: 1}",
            "{images: [50], seeds: 1}",
            Code.IMPOSSIBLE_TRIAL,
            "finetuned.images[0]",
            ["50 images", "[30, 1000]"],
        ),
        (
            "{images: [30], seeds: 1}",
            "{images: [30], seeds: 3}",
            Code.IMPOSSIBLE_TRIAL,
            "finetuned.seeds",
            ["2 seeds", "got 3"],
        ),
        ("test_images: 20", "test_images: 798", Code.IMPOSSIBLE_TRIAL, "test_images", ["digits", "1 to 797", "798"]),
        ("test_images: 20", "test_images: 0", Code.WRONG_VALUE, "test_images", ["-1", "got 0"]),
        ("test_images: 20", "test_image: 20", Code.UNKNOWN_KEY, "test_image", ["did you mean 'test_images'?"]),
        ("[0.25, 1/2]", "[0.25, 0]", Code.WRONG_VALUE, "balls[0].epsilon[1]", ["greater than 0", "got 0"]),
        ("[0.25, 1/2]", "[]", Code.WRONG_VALUE, "balls[0].epsilon", ["at least 1 item"]),
        (
            "[0.25, 1/2], steps: 2",
            "[0.25, 1/2], steps: 0",
            Code.WRONG_VALUE,
            "balls[0].steps",
            ["equal to 1", "got 0"],
        ),
        (
            "[0.25, 1/2], steps: 2",
            "[0.25, 1/2], steps: 2, restarts: 2",
            Code.WRONG_VALUE,
            "balls[0]",
            ["start random", "got 2"],
        ),
        (
            "[0.25, 1/2], steps: 2",
            "[0.25, 1/2], steps: 2, restart: 2",
            Code.UNKNOWN_KEY,
            "balls[0].restart",
            ["did you mean 'restarts'?"],
        ),
        ("constraint: l2", "constraint: fourier", Code.WRONG_VALUE, "balls[0]", ["band", "constraint fourier"]),
        (
            "constraint: l2",
            "constraint: l2, band: [0, 1/4]",
            Code.WRONG_VALUE,
            "balls[0]",
            ["band", "constraint l2"],
        ),
        (
            "constraint: l2",
            "constraint: fourier, band: [1/4, 0]",
            Code.WRONG_VALUE,
            "balls[0]",
            ["band", "got [0.25, 0.0]"],
        ),
    ],
)
def test_mistakes(old: str, new: str, code: Code, key: str, values: list[object]) -> None:
    check(mistake(old, new), code, f"attack.{key}", *values)


def test_a_variant_of_an_unknown_dataset() -> None:
    found = mistakes(STUDY + "datasets: {blurred: {of: digit, low_resolution: 5}}\n")
    (unknown,) = [one for one in found if one.place.key == "datasets.blurred.of"]
    check(unknown, Code.UNKNOWN_NAME, "datasets.blurred.of", "digits", "'digit'")
    study = parse_study(STUDY + "datasets: {blurred: {of: digits, low_pass: 1/4}}\n", "attacked.yaml")
    assert (study.datasets["blurred"].low_pass, study.datasets["blurred"].labels) == (0.25, 10)
    assert parse_study(study.resolved(), "resolved.yaml").datasets == study.datasets


def test_a_study_may_only_attack_and_has_to_attack_something() -> None:
    alone = "name: a\nattack:\n  source: [fmnist_natural]\n  balls: [{constraint: l2, epsilon: [1], steps: 1}]\n"
    assert [spec.kind for spec in expand(parse_study(alone, "a.yaml"))] == ["attack"] * 2
    (found,) = mistakes(alone.replace("  source: [fmnist_natural]\n", ""))
    check(found, Code.MISSING_KEY, "attack", "(source)", "(finetuned)")


@pytest.mark.parametrize("name", ["demo-fourier", "demo-full", "demo-sources", "paper-table1b"])
def test_packaged_studies(name: str) -> None:
    found = attacks(load_study(name))
    assert found
    if name == "paper-table1b":
        assert {spec.network for spec in found} == {"natural", "sin", "in_sin"}
        assert {spec.dataset for spec in found} == {"imagenet"}
        assert {(s.threat.epsilon, s.threat.steps) for s in found} == {(0.0, 0), (3 / 32, 3), (3 / 16, 3)}
    if name == "demo-fourier":
        tuned = {spec.trial_id for spec in expand(load_study(name)) if isinstance(spec, FinetuneSpec)}
        assert len(tuned - {spec.trial_id for spec in expand(load_study("demo-full"))}) == 20
        assert {s.threat.band for s in found} == {None, (0.0, 0.25), (0.25, 1.0)}
    if name == "demo-full":
        demo = {spec.trial_id for spec in expand(load_study("demo"))}
        assert demo < {spec.trial_id for spec in expand(load_study(name))}


def test_examinations_come_last_and_what_they_wait_for_keeps_its_weights() -> None:
    study = parse_study(STUDY, "attacked.yaml")
    specs = {spec.trial_id: spec for spec in expand(study)}
    stages = stages_of(study, specs, list(specs))
    kinds = [{specs[trial].kind for trial in stage.trials} for stage in stages]
    assert kinds == [{"finetune"}, {"finetune"}, {"attack"}]
    assert [stage.retention.weights for stage in stages] == [True, False, False]
    waited_for = {s.network.trial_id for s in attacks(study) if isinstance(s.network, FinetuneSpec)}
    assert set(stages[0].trials) == waited_for
    assert stages[-1].resources == study.sections["attack"].resources


def test_the_study_says_what_becomes_of_checkpoints_from_other_devices() -> None:
    study = parse_study(
        STUDY.replace("resources: {gpu: 0.25, cpu: 1}", "resources: {gpu: 0.25, cpu: 1, on_other_device: restart}"),
        "attacked.yaml",
    )
    specs = {spec.trial_id: spec for spec in expand(study)}
    rules = [
        (specs[stage.trials[0]].kind, stage.retention.on_other_device) for stage in stages_of(study, specs, list(specs))
    ]
    assert rules == [("finetune", "restart"), ("finetune", "restart"), ("attack", "restart")]


def test_what_later_launches_examine_keeps_its_weights_too() -> None:
    """``--max-trials`` cuts off examinations first, because they come last."""
    study = parse_study(STUDY, "attacked.yaml")
    specs = {spec.trial_id: spec for spec in expand(study)}
    tuned = [trial for trial, spec in specs.items() if isinstance(spec, FinetuneSpec)]
    assert [stage.retention.weights for stage in stages_of(study, specs, tuned)] == [True, False]


def test_a_plan_counts_the_steps_of_attacks() -> None:
    study = parse_study(STUDY, "attacked.yaml")
    specs = expand(study)
    trained = {spec.trial_id for spec in specs if isinstance(spec, FinetuneSpec)}
    made = make_plan(study, specs, trained, set(), gpu("A10G"))
    assert (made.done, made.pending) == (8, 12)
    assert made.images_trained == 0
    # for each of three networks 20 images: clean, two balls of one restart, one ball of two restarts
    assert made.images_evaluated == 3 * 20 * (1 + 1 + 1 + 2)
    # two steps, each with a forward and a backward pass, for each image that is evaluated in a ball
    assert made.flops.attack / made.flops.evaluation == pytest.approx(2 * 2 * 4 / 5)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("attacked") / "root"
    summary = launch(parse_study(SMALL, "attacked.yaml"), open_store(root), QUIET)
    assert (summary.planned, summary.done, summary.failed) == (12, 12, {})
    return root


def test_a_launch_fine_tunes_and_attacks(launched: Path) -> None:
    store = open_store(launched)
    rows = read_trials(store, "attack").to_pylist()
    assert {(row["constraint"], round(row["epsilon"], 4)) for row in rows} == {
        ("none", 0.0),
        ("l2", 0.25),
        ("l2", 0.5),
        ("linf", 0.0078),
    }
    kept = {row["finetuned"] for row in rows}
    assert {key.removeprefix("weights/").removesuffix(".safetensors") for key in store.keys("weights")} == kept
    assert planned_trials(store) == {spec.trial_id for spec in expand(parse_study(SMALL, "attacked.yaml"))}
    assert [finding for finding in verify(store, planned_trials(store)) if not finding.problem.harmless] == []
    sql = "SELECT t.trial_id FROM attacks a JOIN trials t ON a.finetuned = t.trial_id WHERE a.epsilon = 0"
    assert set(analysis.query(launched, sql)["trial_id"].to_pylist()) == kept


def test_removed_weights_come_back_before_an_examination_and_only_then(launched: Path, tmp_path: Path) -> None:
    """A job that needs missing weights schedules their trial again; its result is kept
    (docs/decisions/results-root.md)."""
    root = tmp_path / "root"
    shutil.copytree(launched, root)
    store, study = open_store(root), parse_study(SMALL, "attacked.yaml")
    lost = next(s for s in attacks(study) if isinstance(s.network, FinetuneSpec) and s.threat.steps)
    assert isinstance(lost.network, FinetuneSpec)
    weights, tuned = trained_weights_key(lost.network.trial_id), trial_key("finetune", lost.network.trial_id)
    there, standing = store.read(weights), store.read(tuned)
    store.delete(weights)
    assert launch(study, store, QUIET).done == 12
    assert weights not in set(store.keys("weights")), "nobody reads them any more"
    rows = read_trials(store, "attack")
    store.delete(trial_key("attack", lost.trial_id))
    weights_file = f"{store.uri}/{weights}"
    with refused(Code.MISSING_WEIGHTS, lost.network.trial_id, kind=MissingData, file=weights_file):
        run_locally(study, lost.trial_id, store, QUIET)
    summary = launch(study, store, QUIET)
    assert (summary.done, summary.failed) == (12, {})
    assert store.read(weights) == there
    assert store.read(tuned) == standing
    columns = ["trial_id", "epsilon", "accuracy", "robust_accuracy", "loss", "network_sha256"]
    assert read_trials(store, "attack").select(columns).equals(rows.select(columns))
    assert list(store.keys("conflicts")) == []


def test_a_machine_that_dies_while_it_makes_weights_again_is_no_success(
    launched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial's result is already committed, but the rerun counts as done only once the weights exist."""
    root = tmp_path / "root"
    shutil.copytree(launched, root)
    store, study = open_store(root), parse_study(SMALL, "attacked.yaml")
    lost = next(s for s in attacks(study) if isinstance(s.network, FinetuneSpec) and s.threat.steps)
    assert isinstance(lost.network, FinetuneSpec)
    store.delete(trained_weights_key(lost.network.trial_id))
    store.delete(trial_key("attack", lost.trial_id))
    assert status_of(store, study).counts()["done"] == 10
    run_round, rounds = tuner.run_round, list[list[str]]()

    def dies_first(bundles: Sequence[Sequence[TrialSpec]], job: dict[str, Any], share: Any, state: LaunchState) -> None:
        rounds.append([spec.trial_id for bundle in bundles for spec in bundle])
        if len(rounds) > 1:
            run_round(bundles, job, share, state)
        else:
            state.failed("1", tuple(rounds[0]), ActorDiedError())

    monkeypatch.setattr(tuner, "run_round", dies_first)
    summary = launch(study, store, QUIET)
    assert (summary.done, summary.failed) == (12, {})
    assert rounds == [[lost.network.trial_id], [lost.network.trial_id], [lost.trial_id]]


def test_one_at_a_time_without_ray(tmp_path: Path, launched: Path) -> None:
    store, study = open_store(tmp_path / "root"), parse_study(SMALL, "attacked.yaml")
    spec = next(spec for spec in attacks(study) if spec.restarts == 2)
    assert isinstance(spec.network, FinetuneSpec)
    for trial in (spec.network.trial_id, spec.trial_id):
        run_locally(study, trial, store, QUIET)
    (row,) = read_trials(store, "attack").to_pylist()
    theirs = {row["trial_id"]: row for row in read_trials(open_store(launched), "attack").to_pylist()}
    names = ("accuracy", "robust_accuracy", "loss", "network_sha256", "subset_sha256")
    assert [row[name] for name in names] == [theirs[spec.trial_id][name] for name in names]


def test_a_source_that_the_study_makes_is_attacked_after_it() -> None:
    text = """\
name: own
sources:
  digits_natural:
    architecture: resnet35-w8
    trained_on: digits
    constraint: none
    epsilon: 0
    mean: [0.305, 0.305, 0.305]
    std: [0.3753, 0.3753, 0.3753]
    pretrain: {seed: 1, epochs: 1, steps: 0}
pretrain: {source: [digits_natural]}
attack:
  source: [digits_natural]
  balls: [{constraint: l2, epsilon: [0.5], steps: 2}]
"""
    study = parse_study(text, "own.yaml")
    specs = {spec.trial_id: spec for spec in expand(study)}
    stages = stages_of(study, specs, list(specs))
    assert [type(specs[stage.trials[0]]) for stage in stages] == [PretrainSpec, AttackSpec]


def test_each_fine_tuned_network_is_weighed_by_each_measure() -> None:
    study = parse_study(WEIGHED, "weighed.yaml")
    found = [spec for spec in expand(study) if isinstance(spec, InfluenceSpec)]
    assert {(s.source, s.seed, s.network.seed) for s in found} == {
        (source, 20_000_000, 20_000_000) for source in ("fmnist_natural", "fmnist_l2_eps1")
    }
    assert [(s.measure, s.damping, s.cutoff_absolute, s.cutoff_relative) for s in found[:3]] == [
        ("influence", 0.01, None, None),
        ("pseudo-inverse", 0.0, 0.0, 0.05),
        ("fisher", 0.01, None, None),
    ]
    again = parse_study(study.resolved(), "resolved.yaml")
    assert [spec.trial_id for spec in expand(again)] == [spec.trial_id for spec in expand(study)]
    default = parse_study(WEIGHED.replace("  damping: 0.01\n", ""), "weighed.yaml")
    assert {spec.damping for spec in expand(default) if isinstance(spec, InfluenceSpec)} == {0.0, 5e-4}


def test_images_are_shown_to_sources_alone() -> None:
    found = mistake("attack:\n  finetuned", "attack:\n  dataset: [digits]\n  finetuned", SMALL)
    check(found, Code.IMPOSSIBLE_TRIAL, "attack.dataset", "(source)")


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "values"),
    [
        ("influence:\n", "influence:\n  source: [fmnist_natural]\n", Code.UNKNOWN_KEY, "influence.source", []),
        ("  finetuned: {images: [30], seeds: 1}\n", "", Code.MISSING_KEY, "influence.finetuned", []),
        (
            "finetuned: {images: [30], seeds: 1}",
            "finetuned: {images: [50], seeds: 1}",
            Code.IMPOSSIBLE_TRIAL,
            "influence.finetuned.images[0]",
            ["50 images", "[30]"],
        ),
        (
            "measures: [influence, pseudo-inverse, fisher]",
            "measures: [influence, influence, pseudo-inverse]",
            Code.REPEATED,
            "influence.measures[1]",
            ["'influence'"],
        ),
        ("damping: 0.01", "damping: 0.0", Code.WRONG_VALUE, "influence.damping", ["greater than 0", "got 0.0"]),
        (
            "  damping: 0.01\n  cutoff_relative: 0.05\n  top: 3\n",
            "recipe: {weight_decay: 0.0}\n",
            Code.WRONG_VALUE,
            "",
            ["damping", "weight_decay", "0"],
        ),
        (
            "[influence, pseudo-inverse, fisher]",
            "[influence, fisher]",
            Code.WRONG_VALUE,
            "influence.measures",
            ["cutoff_relative 0.05", "pseudo-inverse", "influence, fisher"],
        ),
        (
            "[influence, pseudo-inverse, fisher]",
            "[pseudo-inverse]",
            Code.WRONG_VALUE,
            "influence.measures",
            ["damping 0.01", "fisher or influence", "pseudo-inverse"],
        ),
        ("top: 3", "top: 31", Code.IMPOSSIBLE_TRIAL, "influence.top", ["30 training images", "31"]),
        ("top: 3", "tops: 3", Code.UNKNOWN_KEY, "influence.tops", ["did you mean 'top'?"]),
    ],
)
def test_mistakes_of_influence(old: str, new: str, code: Code, key: str, values: list[object]) -> None:
    check(mistake(old, new, WEIGHED), code, key, *values)


@pytest.mark.parametrize("measures", ["influence", "pseudo-inverse"])
def test_a_recorded_study_keeps_choices_without_effect(measures: str) -> None:
    """Earlier releases accepted them; they change no id."""
    text = WEIGHED.replace("influence, pseudo-inverse, fisher", measures)
    recorded = expand(parse_study(text, "record.yaml", recorded=True))
    unused = "cutoff_relative: 0.05" if measures == "influence" else "damping: 0.01"
    left = expand(parse_study(text.replace(f"  {unused}\n", ""), "weighed.yaml"))
    assert [spec.trial_id for spec in recorded] == [spec.trial_id for spec in left]


def test_a_misspelt_measure_is_the_only_mistake() -> None:
    check(
        mistake("influence, pseudo-inverse, fisher", "pseudo-invers", WEIGHED),
        Code.WRONG_VALUE,
        "influence.measures[0]",
    )


def test_matrices_that_are_too_large_are_said_before_a_launch() -> None:
    """Matrix sizes beyond LAPACK's index range.

    Whether the memory suffices is only known on the machine that runs the trial.
    """
    large = WEIGHED.replace("digits", "cifar100").replace("[30]", "[40000]").replace("fmnist_natural, ", "natural, ")
    found = mistakes(large.replace("fmnist_l2_eps1", "l2_eps3"))
    check(
        found[-1],
        Code.IMPOSSIBLE_TRIAL,
        "influence.measures[2]",
        "fisher",
        "32766",
        "40000",
        "use the measure influence",
    )
    values = ("32766", "204900", "influence")
    for source, hessian in zip(("l2_eps3", "natural"), found[:-1], strict=True):
        check(hessian, Code.IMPOSSIBLE_TRIAL, "influence.measures[1]", "Hessian", f"{source} on cifar100", *values)
    assert parse_study(large.replace("cifar100", "cifar10").replace("[40000]", "[3200]"), "weighed.yaml")


CUT = WEIGHED.replace("cutoff_relative: 0.05", "cutoffs: [{absolute: 1e-20}, {relative: 0.05}, {}]")


def test_several_cut_offs_are_trials_of_their_own() -> None:
    """Each has the same id as when it is the only one."""
    study = parse_study(CUT, "weighed.yaml")
    found = [spec for spec in expand(study) if isinstance(spec, InfluenceSpec)]
    cuts = [(s.cutoff_absolute, s.cutoff_relative) for s in found if s.measure == "pseudo-inverse"]
    assert cuts == 2 * [(1e-20, 0.0), (0.0, 0.05), (0.0, 0.0)]
    assert len(found) == 2 * (1 + 3 + 1)
    alone = {spec.trial_id for spec in expand(parse_study(WEIGHED, "weighed.yaml"))}
    assert alone < {spec.trial_id for spec in expand(study)}
    again = parse_study(study.resolved(), "resolved.yaml")
    assert again == study
    assert "cutoffs" not in parse_study(WEIGHED, "weighed.yaml").resolved(), "and older versions read it"


BY_SVD = WEIGHED.replace("cutoff_relative: 0.05", "decomposition: svd")


def test_decompositions_are_trials_of_their_own() -> None:
    """The decomposition can be set beside a single cut-off or in each of several.

    With the default decomposition, the id is the same as before the choice existed.
    """

    def inverses(text: str) -> list[InfluenceSpec]:
        specs = expand(parse_study(text, "weighed.yaml"))
        return [spec for spec in specs if isinstance(spec, InfluenceSpec) and spec.measure == "pseudo-inverse"]

    both = WEIGHED.replace(
        "cutoff_relative: 0.05", "cutoffs: [{relative: 1e-10}, {relative: 1e-10, decomposition: svd}]"
    )
    found = inverses(both)
    assert [spec.decomposition for spec in found] == 2 * ["eigh", "svd"]
    assert len({spec.trial_id for spec in found}) == 4
    alone = inverses(BY_SVD)
    assert [spec.trial_id for spec in alone] == [spec.trial_id for spec in found[1::2]]
    plain = inverses(WEIGHED.replace("  cutoff_relative: 0.05\n", ""))
    assert [spec.trial_id for spec in plain] == [spec.trial_id for spec in found[::2]]
    for text in (both, BY_SVD):
        study = parse_study(text, "weighed.yaml")
        assert parse_study(study.resolved(), "resolved.yaml") == study
    explicit = parse_study(WEIGHED.replace("top: 3", "top: 3\n  decomposition: eigh"), "weighed.yaml")
    assert explicit.digest == parse_study(WEIGHED, "weighed.yaml").digest, "and older versions read it"
    others = [s for s in expand(parse_study(both, "weighed.yaml")) if isinstance(s, InfluenceSpec) and s.damping]
    assert {spec.choices["decomposition"] for spec in others} == {None}


@pytest.mark.parametrize(
    ("old", "new", "key", "values"),
    [
        ("pseudo-inverse, ", "", "influence", ["decomposition", "pseudo-inverse", "influence, fisher"]),
        (
            "decomposition: svd",
            "decomposition: svd\n  cutoffs: [{}]",
            "influence",
            ["cutoffs", "decomposition", "both"],
        ),
        ("decomposition: svd", "decomposition: qr", "influence.decomposition", ["'eigh' or 'svd'", "'qr'"]),
        ("decomposition: svd", "decomposition: [svd]", "influence.decomposition", ["'eigh' or 'svd'"]),
        (
            "decomposition: svd",
            "cutoffs: [{decomposition: {a: 1}}]",
            "influence.cutoffs[0].decomposition",
            ["'eigh' or 'svd'"],
        ),
    ],
)
def test_mistakes_of_decompositions(old: str, new: str, key: str, values: list[object]) -> None:
    check(mistake(old, new, BY_SVD), Code.WRONG_VALUE, key, *values)


@pytest.mark.parametrize("asked", ["decomposition: svd", "cutoffs: [{relative: 0.05}, {decomposition: svd}]"])
def test_singular_vectors_of_matrices_between_the_two_bounds_are_refused(asked: str) -> None:
    """14 labels of a ResNet-50: 28,686 rows."""
    own = """\
datasets:
  wide: {colour: true, labels: 14, train: 4000, test: 100, mean: [0, 0, 0], std: [1, 1, 1], folder: /none}
"""
    text = WEIGHED.replace("digits", "wide").replace("cutoff_relative: 0.05", asked) + own
    large = text.replace("fmnist_natural, fmnist_l2_eps1", "natural")
    (found,) = mistakes(large)
    check(found, Code.IMPOSSIBLE_TRIAL, "influence.measures[1]", "26753", "with svd", "28686", "influence")
    assert parse_study(large.replace(asked, "cutoff_relative: 0.05"), "weighed.yaml")


@pytest.mark.parametrize(
    ("old", "new", "values"),
    [
        ("cutoffs:", "cutoff_absolute: 1e-9\n  cutoffs:", ["cutoffs", "cutoff_absolute", "both"]),
        ("pseudo-inverse, ", "", ["cutoffs", "pseudo-inverse", "influence, fisher"]),
        (", {}", ", {absolute: 1e-20, relative: 0.0}", ["twice"]),
    ],
)
def test_mistakes_of_several_cut_offs(old: str, new: str, values: list[object]) -> None:
    check(mistake(old, new, CUT), Code.WRONG_VALUE, "influence", *values)


def test_a_cut_off_is_below_the_largest() -> None:
    found = mistake("{relative: 0.05}", "{relative: 1.0}", CUT)
    check(found, Code.WRONG_VALUE, "influence.cutoffs[1].relative", "less than 1", "got 1.0")


def test_a_launch_fine_tunes_and_weighs_what_it_tuned_on(tmp_path: Path) -> None:
    text = WEIGHED.replace("pseudo-inverse, ", "").replace("  cutoff_relative: 0.05\n", "")
    study, store = parse_study(text, "weighed.yaml"), open_store(tmp_path / "root")
    specs = expand(study)
    plan = make_plan(study, specs, {s.trial_id for s in specs if isinstance(s, FinetuneSpec)}, set(), gpu("A10G"))
    assert (plan.pending, plan.images_trained, plan.images_evaluated) == (4, 0, 4 * (30 + 797))
    summary = launch(study, store, QUIET)
    assert (summary.planned, summary.done, summary.failed) == (8, 8, {})
    assert [finding for finding in verify(store, planned_trials(store)) if not finding.problem.harmless] == []
    joined = "influences JOIN trials USING (subset_sha256, source)"
    sql = f"SELECT measure, count(*) AS n FROM {joined} GROUP BY ALL ORDER BY ALL"
    assert analysis.query(tmp_path / "root", sql).to_pylist() == [
        {"measure": "fisher", "n": 2 * 797},
        {"measure": "influence", "n": 2 * 797},
    ]


def test_the_paper_s_influence_study_shares_trials_with_table_4() -> None:
    found = expand(load_study("paper-influence"))
    tuned = {spec.trial_id for spec in found if isinstance(spec, FinetuneSpec)}
    assert len(tuned) == 10
    assert tuned < {spec.trial_id for spec in expand(load_study("paper-table4"))}
    weighing = [spec for spec in found if isinstance(spec, InfluenceSpec)]
    assert {spec.network.trial_id for spec in weighing} == tuned
    choices = ("measure", "cutoff_absolute", "cutoff_relative", "decomposition")
    assert Counter(tuple(spec.choices[name] for name in choices) for spec in weighing) == {
        ("influence", None, None, None): 10,
        ("pseudo-inverse", 1e-20, 0.0, "svd"): 10,
        ("pseudo-inverse", 0.0, 5e-2, "eigh"): 10,
        ("fisher", None, None, None): 10,
    }


VISUALIZED = """\
name: visualized
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
schedule:
  - {images: [30], epochs: 1, seeds: 2, evaluate_every: 1}
visualize:
  source: [fmnist_linf_eps8]
  finetuned: {images: [30], seeds: 1}
  dataset: digits_lowres5
  units: [3, 255]
  test_images: 2
  step_size: 1/4
  steps: 3
"""


def visualizations(study: Study) -> list[VisualizeSpec]:
    return [spec for spec in expand(study) if isinstance(spec, VisualizeSpec)]


def test_each_network_is_visualized_unit_by_unit() -> None:
    study = parse_study(VISUALIZED, "visualized.yaml")
    found = visualizations(study)
    assert [(s.source, s.unit) for s in found] == [
        (source, unit) for source in ("fmnist_linf_eps8", "fmnist_natural", "fmnist_l2_eps1") for unit in (3, 255)
    ]
    assert {(s.dataset, s.step_size, s.steps, s.epsilon, s.seed) for s in found} == {
        ("digits_lowres5", 0.25, 3, 1000.0, 20_000_000)
    }
    assert [isinstance(s.network, str) for s in found] == [True] * 2 + [False] * 4
    assert {s.trial_id for s in visualizations(parse_study(study.resolved(), "r.yaml"))} == {s.trial_id for s in found}


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "values"),
    [
        ("[fmnist_linf_eps8]", "[fmnist_linf]", Code.UNKNOWN_NAME, "source[0]", ["'fmnist_linf'"]),
        (
            "[fmnist_linf_eps8]",
            "[random_init_resnet35-w8]",
            Code.IMPOSSIBLE_TRIAL,
            "source[0]",
            ["random_init_resnet35-w8", "seed"],
        ),
        ("dataset: digits_lowres5", "dataset: digit", Code.UNKNOWN_NAME, "dataset", ["'digit'"]),
        ("  dataset: digits_lowres5\n", "", Code.MISSING_KEY, "dataset", []),
        ("[3, 255]", "[3, 3]", Code.REPEATED, "units[1]", ["3 is"]),
        ("[3, 255]", "[]", Code.WRONG_VALUE, "units", ["at least 1 item"]),
        ("test_images: 2", "test_images: 65", Code.WRONG_VALUE, "test_images", ["equal to 64", "got 65"]),
        ("test_images: 2", "test_image: 2", Code.UNKNOWN_KEY, "test_image", ["did you mean 'test_images'?"]),
        ("step_size: 1/4", "step_size: 0", Code.WRONG_VALUE, "step_size", ["greater than 0", "got 0"]),
        (
            "{images: [30], seeds: 1}",
            "{images: [31], seeds: 1}",
            Code.IMPOSSIBLE_TRIAL,
            "finetuned.images[0]",
            ["31 images", "[30]"],
        ),
    ],
)
def test_mistakes_of_visualize(old: str, new: str, code: Code, key: str, values: list[object]) -> None:
    check(mistake(old, new, VISUALIZED), code, f"visualize.{key}", *values)


def test_units_that_some_network_lacks_and_nothing_to_visualize() -> None:
    found = mistakes(VISUALIZED.replace("255", "256"))
    for one, name in zip(found, ("fmnist_l2_eps1", "fmnist_linf_eps8", "fmnist_natural"), strict=True):
        values = (f"{name} (resnet35-w8)", "0 to 255", "got 256")
        check(one, Code.IMPOSSIBLE_TRIAL, "visualize.units[1]", *values)
    none = VISUALIZED.replace("  source: [fmnist_linf_eps8]\n  finetuned: {images: [30], seeds: 1}\n", "")
    (nothing,) = mistakes(none)
    check(nothing, Code.MISSING_KEY, "visualize", "(source)", "(finetuned)")
    alone = "name: a\nvisualize: {source: [fmnist_natural], dataset: digits, units: [1, 2]}\n"
    assert [spec.kind for spec in expand(parse_study(alone, "a.yaml"))] == ["visualize"] * 2


def test_a_launch_visualizes_what_it_tuned_and_sources(tmp_path: Path) -> None:
    study, store = parse_study(VISUALIZED, "visualized.yaml"), open_store(tmp_path / "root")
    specs = expand(study)
    plan = make_plan(study, specs, {s.trial_id for s in specs if isinstance(s, FinetuneSpec)}, set(), gpu("A10G"))
    assert (plan.pending, plan.images_trained, plan.images_evaluated) == (6, 0, 6 * 2 * 2)
    assert plan.flops.attack / plan.flops.evaluation == pytest.approx(2 * 3 / 2)
    summary = launch(study, store, QUIET)
    assert (summary.planned, summary.done, summary.failed) == (10, 10, {})
    assert [finding for finding in verify(store, planned_trials(store)) if not finding.problem.harmless] == []
    sql = "SELECT source, unit, finetuned_dataset AS tuned, count(*) AS n FROM visualizations GROUP BY ALL ORDER BY ALL"
    assert [tuple(row.values()) for row in analysis.query(tmp_path / "root", sql).to_pylist()] == [
        (source, unit, tuned, 2)
        for source, tuned in (("fmnist_l2_eps1", "digits"), ("fmnist_linf_eps8", None), ("fmnist_natural", "digits"))
        for unit in (3, 255)
    ]


def test_one_at_a_time_tells_the_numbers_of_rows_with_pictures_and_lists(tmp_path: Path) -> None:
    for text, kind, told in ((VISUALIZED, VisualizeSpec, "activation after"), (WEIGHED, InfluenceSpec, "test loss")):
        study, store = parse_study(text, "one.yaml"), open_store(tmp_path / kind.kind)
        spec = next(spec for spec in expand(study) if isinstance(spec, kind))
        if isinstance(spec.network, FinetuneSpec):
            run_locally(study, spec.network.trial_id, store, QUIET)
        said = io.StringIO()
        run_locally(study, spec.trial_id, store, Console(file=said, width=200))
        assert said.getvalue().count(told) == len(read_trials(store, kind.kind))
        assert "image b'" not in said.getvalue()


def test_the_paper_s_figure_1b_shares_trials_with_the_paper_s_study() -> None:
    found = expand(load_study("paper-figure1b"))
    tuned = {spec.trial_id for spec in found if isinstance(spec, FinetuneSpec)}
    assert len(tuned) == 2
    assert tuned < {spec.trial_id for spec in expand(load_study("paper"))}
    shown = [spec for spec in found if isinstance(spec, VisualizeSpec)]
    assert {spec.network.trial_id for spec in shown if isinstance(spec.network, FinetuneSpec)} == tuned
    assert {(spec.dataset, spec.epsilon, spec.step_size, spec.steps) for spec in shown} == {("svhn", 1000.0, 1.0, 200)}
