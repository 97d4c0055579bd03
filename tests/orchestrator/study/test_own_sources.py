"""Studies with their own cards that train their sources first: files, plan, launch, resume."""

import shutil
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load

from jobs.catalog.catalog import packaged_datasets
from jobs.catalog.costs import parameters
from jobs.errors import Code, MissingData, ResultsConflict
from jobs.kind import workload
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.results import Failure, FailureKind, Problem, all_done, open_store, read_trials, record_failure
from jobs.results.layout import trained_weights_key, trial_key
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.verification.verify import verify
from orchestrator.launching.launch import launch
from orchestrator.launching.local import run_locally
from orchestrator.planning.gpus import gpu
from orchestrator.planning.plan import Measured, make_plan
from orchestrator.planning.stages import stages_of
from orchestrator.study.history import planned_trials, recorded_study
from orchestrator.study.load import parse_study
from orchestrator.study.name_conflicts import require_same_names
from tests.orchestrator.support import check, mistakes
from tests.support import refused

pytestmark = pytest.mark.usefixtures("without_ray", "short_tests")

STUDY = """\
name: own
sources:
  digits_l2: &own
    architecture: resnet35-w8
    trained_on: digits
    constraint: l2
    epsilon: 0.5
    mean: [0.305, 0.305, 0.305]
    std: [0.3753, 0.3753, 0.3753]
    pretrain: {seed: 1, epochs: 1, steps: 1, recipe: {learning_rate: 0.02}}
  digits_natural: {<<: *own, constraint: none, epsilon: 0, pretrain: {seed: 1, epochs: 1, steps: 0}}
pretrain:
  source: [digits_natural, digits_l2]
  resources: {gpu: 1, cpu: 1}
grid: {source: [digits_natural, digits_l2, fmnist_natural], dataset: [digits], blocks: [0]}
schedule:
  - {images: [30], epochs: 2, seeds: 1, evaluate_every: 1}
"""


def changed(*replacements: tuple[str, str]) -> str:
    text = STUDY
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_a_recorded_study_keeps_a_name_that_a_release_gave_to_a_packaged_source() -> None:
    """A new study must choose another name; a recorded one goes on with its own source."""
    text = STUDY.replace("digits_l2", "resnet18_l2_eps3")
    (found,) = mistakes(text)
    check(found, Code.WRONG_NAME, "sources.resnet18_l2_eps3", "packaged")
    study = parse_study(text, "study.yaml", recorded=True)
    assert study.catalog.source("resnet18_l2_eps3").architecture == "resnet35-w8"


def test_a_recorded_study_keeps_a_step_scale_without_effect() -> None:
    text = changed(("steps: 0}", "steps: 0, step_scale: 3.0}"))
    made = [spec for spec in expand(parse_study(text, "own.yaml", recorded=True)) if isinstance(spec, PretrainSpec)]
    assert [spec.threat.step_scale for spec in made] == [3.0, 2.5]


def test_a_recorded_study_keeps_a_source_that_nothing_can_train() -> None:
    """Earlier releases looked at its training only if the study trained it."""
    section = "pretrain:\n  source: [digits_natural, digits_l2]\n  resources: {gpu: 1, cpu: 1}\n"
    text = changed(("steps: 1,", "steps: 1, step_scale: 9.0,"), (section, ""))
    assert parse_study(text, "own.yaml", recorded=True).catalog.source("digits_l2").pretrain is not None
    (mistake,) = mistakes(text)
    check(mistake, Code.WRONG_VALUE, "sources.digits_l2.pretrain.step_scale")


def study(*replacements: tuple[str, str]) -> Study:
    return parse_study(changed(*replacements), "own.yaml")


def test_sources_come_first() -> None:
    assert [type(spec) for spec in expand(study())] == [PretrainSpec] * 2 + [FinetuneSpec] * 3
    assert len({spec.trial_id for spec in expand(study())}) == 5


def test_the_resolved_file_gives_the_same_trials() -> None:
    again = parse_study(study().resolved(), "resolved.yaml")
    assert [spec.trial_id for spec in expand(again)] == [spec.trial_id for spec in expand(study())]
    assert again.digest == study().digest


def test_a_study_that_only_makes_sources() -> None:
    text = STUDY[: STUDY.index("grid:")]
    assert [spec.kind for spec in expand(parse_study(text, "own.yaml"))] == ["pretrain"] * 2


def test_how_a_source_is_made_is_part_of_its_id() -> None:
    before = {spec.trial_id for spec in expand(study()) if isinstance(spec, PretrainSpec)}
    for old, new in (
        ("seed: 1", "seed: 2"),
        ("epsilon: 0.5", "epsilon: 0.6"),
        ("steps: 1", "steps: 2"),
        ("0.02", "0.03"),
        ("steps: 1,", "steps: 1, start: random,"),
        ("{learning_rate: 0.02}", "{learning_rate: 0.02, replicas: 2}"),
        ("{learning_rate: 0.02}", "{learning_rate: 0.02, transforms: random-resized-crop}"),
    ):
        after = {spec.trial_id for spec in expand(study((old, new))) if isinstance(spec, PretrainSpec)}
        assert len(before & after) == 1, (old, new)


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "values"),
    [
        ("digits_l2: &own", "natural: &own", Code.WRONG_NAME, "sources.natural", ["natural"]),
        ("digits_l2: &own", "Digits: &own", Code.WRONG_NAME, "sources.Digits", ["'.', '_' and '-'", "'Digits'"]),
        (
            "resnet35-w8",
            "resnet36",
            Code.UNKNOWN_NAME,
            "sources.digits_l2.architecture",
            ["'resnet36'", "known: ", "resnet50"],
        ),
        (
            "trained_on: digits",
            "trained_on: imagination",
            Code.UNKNOWN_NAME,
            "sources.digits_l2.trained_on",
            ["'imagination'"],
        ),
        (
            "[digits_natural, digits_l2]\n  res",
            "[digits_natural, digits_linf]\n  res",
            Code.UNKNOWN_NAME,
            "pretrain.source[1]",
            ["'digits_linf'"],
        ),
        (
            "[digits_natural, digits_l2]\n  res",
            "[fmnist_natural]\n  res",
            Code.IMPOSSIBLE_TRIAL,
            "pretrain.source[0]",
            ["fmnist_natural"],
        ),
        (
            "[digits_natural, digits_l2]\n  res",
            "[natural]\n  res",
            Code.WRONG_VALUE,
            "pretrain.source[0]",
            ["'natural'"],
        ),
        (
            "steps: 1,",
            "steps: 0,",
            Code.WRONG_VALUE,
            "sources.digits_l2.pretrain",
            ["l2, linf and fourier", "at least 1"],
        ),
        (
            "steps: 1,",
            "steps: 1, step_scale: 9.0,",
            Code.WRONG_VALUE,
            "sources.digits_l2.pretrain.step_scale",
            ["step_scale", "less than 4", "got 9.0"],
        ),
        (
            "steps: 0}",
            "steps: 0, step_scale: 3.0}",
            Code.WRONG_VALUE,
            "pretrain.source[0]",
            ["digits_natural", "step_scale", "constraint none", "3.0"],
        ),
        ("epsilon: 0.5", "epsilon: 4/0", Code.WRONG_VALUE, "sources.digits_l2.epsilon", ["4/255", "got '4/0'"]),
        ("epsilon: 0.5", "epsilon: four", Code.WRONG_VALUE, "sources.digits_l2.epsilon", ["4/255", "got 'four'"]),
        (
            "[0.305, 0.305, 0.305]",
            "[0.3, 0.3, 0.3]",
            Code.IMPOSSIBLE_TRIAL,
            "sources.digits_l2.mean",
            ["mean of digits", "[0.305, 0.305, 0.305]", "got [0.3, 0.3, 0.3]"],
        ),
        (
            "[0.3753, 0.3753, 0.3753]",
            "[0.3, 0.0, 0.3]",
            Code.WRONG_VALUE,
            "sources.digits_l2.std[1]",
            ["greater than 0", "got 0.0"],
        ),
        ("epsilon: 0.5", "radius: 0.5", Code.UNKNOWN_KEY, "sources.digits_l2.radius", []),
        (
            "steps: 1,",
            "stepps: 1,",
            Code.UNKNOWN_KEY,
            "sources.digits_l2.pretrain.stepps",
            ["did you mean 'steps'?", "valid keys: seed, epochs, steps"],
        ),
        (
            "learning_rate: 0.02",
            "learning_rat: 0.02",
            Code.UNKNOWN_KEY,
            "sources.digits_l2.pretrain.recipe.learning_rat",
            ["did you mean 'learning_rate'?"],
        ),
        (
            "{gpu: 1, cpu: 1}",
            "{gpus: 1, cpu: 1}",
            Code.UNKNOWN_KEY,
            "pretrain.resources.gpus",
            ["did you mean 'gpu'?", "valid keys: gpu, cpu"],
        ),
        (
            "{learning_rate: 0.02}",
            "{batch_size: 2, replicas: 3}",
            Code.WRONG_VALUE,
            "sources.digits_l2.pretrain.recipe",
            ["2", "3"],
        ),
    ],
)
def test_mistakes_are_named_with_their_place(old: str, new: str, code: Code, key: str, values: list[object]) -> None:
    found = mistakes(changed((old, new)))
    (meant,) = [one for one in found if (one.code, one.place.key) == (code, key)]
    check(meant, code, key, *values)
    assert all(one.place.line for one in found)


def test_sources_of_one_study_have_phases_by_their_replicas() -> None:
    own = study(("{learning_rate: 0.02}", "{learning_rate: 0.02, replicas: 2}"))
    specs = {spec.trial_id: spec for spec in expand(own)}
    stages = stages_of(own, specs, list(specs))
    assert [(len(stage.trials), stage.resources.gpu, stage.resources.cpu) for stage in stages] == [
        (1, 2, 2),
        (1, 1, 1),
        (3, 0.25, 1),
    ]


def test_sources_stay_on_their_kind_of_device_if_the_study_says_so() -> None:
    own = study(("{learning_rate: 0.02}", "{learning_rate: 0.02, replicas: 2}"))
    section = own.sections["pretrain"]
    resources = section.resources.model_copy(update={"on_other_device": "restart"})
    own = own.model_copy(update={"pretrain": section.model_copy(update={"resources": resources})})
    specs = {spec.trial_id: spec for spec in expand(own)}
    stages = stages_of(own, specs, list(specs))
    assert [stage.retention.on_other_device for stage in stages] == ["restart", "restart", "continue"]
    assert stages[0].resources.gpu == 2


@pytest.mark.parametrize(("cores", "seconds"), [(1, 36 + 36), (2, 18 + 36), (8, 18 + 36)])
def test_replicas_share_the_time_of_a_training(cores: int, seconds: float) -> None:
    own = study(("{learning_rate: 0.02}", "{learning_rate: 0.02, replicas: 2}"))
    sources = [spec for spec in expand(own) if isinstance(spec, PretrainSpec)]
    measured = Measured("by a test", lambda _: 36.0, cores)
    assert make_plan(own, sources, set(), set(), gpu(), measured).seconds_here == pytest.approx(seconds)


def test_the_plan_counts_the_weights_that_are_kept() -> None:
    """Those of sources always, like ``commit_trial``."""
    made = study()
    works = {spec: workload(spec, made.catalog) for spec in expand(made)}
    files = sum(work.result_bytes for work in works.values())
    weights = {spec: 4 * parameters(work.architecture) for spec, work in works.items()}
    sources = sum(size for spec, size in weights.items() if isinstance(spec, PretrainSpec))
    assert make_plan(made, works, set(), set(), gpu()).results == files + sources
    keeps = study(("name: own", "name: own\nkeep_weights: true"))
    assert make_plan(keeps, works, set(), set(), gpu()).results == files + sum(weights.values())


def test_the_plan_counts_the_steps_of_attacks() -> None:
    (natural, l2) = (
        make_plan(s, expand(s), set(), set(), gpu()).flops.total
        for s in (
            parse_study(STUDY[: STUDY.index("grid:")].replace("[digits_natural, digits_l2]", f"[{name}]"), "own")
            for name in ("digits_natural", "digits_l2")
        )
    )
    # training takes a forward pass and a backward pass of about twice that; each step of the attack as much as two
    # forward passes
    assert l2 / natural == pytest.approx(5 / 3, rel=0.2)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own") / "root"
    summary = launch(study(), open_store(root), Console(quiet=True))
    assert (summary.planned, summary.done, summary.failed) == (5, 5, {})
    return root


def test_a_launch_makes_sources_and_fine_tunes_them(launched: Path) -> None:
    store = open_store(launched)
    made = read_trials(store, "pretrain").to_pandas()
    finetuned = read_trials(store, "finetune").to_pandas()
    assert set(made["constraint"]) == {"none", "l2"}
    assert set(finetuned["source"]) == {"digits_natural", "digits_l2", "fmnist_natural"}
    own = finetuned[finetuned["source"] != "fmnist_natural"]
    assert set(own["weights_sha256"]) == set(made["trained_sha256"]), "what was made is what was fine-tuned"
    assert dict(zip(own["source"], own["constraint"], strict=True)) == {"digits_natural": "none", "digits_l2": "l2"}
    for trial in made["trial_id"]:
        assert "fc.weight" in load(store.read(trained_weights_key(trial)))
    assert list(store.keys("checkpoints")) == []


def test_one_name_stands_for_one_source_in_a_root(launched: Path) -> None:
    """A trial's id contains only its source's name: results of another source must not be taken for this study's."""
    store = open_store(launched)
    before = sorted(store.keys(""))
    other = study(("epsilon: 0.5", "epsilon: 0.6"))
    key = "sources.digits_l2"
    with refused(
        Code.OTHER_DIGEST, "'digits_l2'", "trained by pretrain-", kind=ResultsConflict, file=store.uri, key=key
    ):
        launch(other, store, Console(quiet=True))
    with refused(Code.OTHER_DIGEST, "digits_l2", kind=ResultsConflict, file=store.uri, key=key):
        run_locally(other, expand(other)[-1].trial_id, store, Console(quiet=True))
    assert sorted(store.keys("")) == before, "nothing was made or recorded"
    require_same_names(parse_study(other.resolved().replace("digits_l2", "digits_l2_eps06"), "renamed.yaml"), store)


def test_a_source_without_results_may_be_made_another_way(tmp_path: Path) -> None:
    """Its name can be reused as long as nothing was fine-tuned from it."""
    store = open_store(tmp_path / "root")
    make = next(spec for spec in expand(study()) if isinstance(spec, PretrainSpec))
    run_locally(study(), make.trial_id, store, Console(quiet=True))
    require_same_names(study(("epochs: 1, steps: 0", "epochs: 2, steps: 0")), store)


def test_one_name_stands_for_one_dataset_in_a_root(launched: Path) -> None:
    card = packaged_datasets()["digits"].model_copy(update={"name": "mine", "sha256": "0" * 64})
    store = open_store(launched)
    own = study().model_copy(update={"datasets": {"mine": card}})
    require_same_names(own, store)
    store.create("datasets/mine.json", f'{{"name": "mine", "sha256": "{"1" * 64}"}}'.encode())
    with refused(Code.OTHER_DIGEST, "'mine'", "datasets", kind=ResultsConflict, file=f"{store.uri}/datasets/mine.json"):
        require_same_names(own, store)
    store.delete("datasets/mine.json")


def test_what_a_card_says_beside_weights_and_images_holds_in_a_root(launched: Path) -> None:
    """Mean and std change numbers, but a trial's id contains only names (promise 1)."""
    store = open_store(launched)
    require_same_names(study(), store)
    card = study().sources["digits_natural"]
    other = study().model_copy(
        update={"sources": {**study().sources, "digits_natural": card.model_copy(update={"mean": (0.4, 0.4, 0.4)})}}
    )
    key = "sources.digits_natural"
    with refused(
        Code.OTHER_DIGEST, "'digits_natural'", "card", "sources", kind=ResultsConflict, file=store.uri, key=key
    ):
        require_same_names(other, store)
    with refused(Code.OTHER_DIGEST, "'digits_natural'", "card", kind=ResultsConflict, file=store.uri, key=key):
        launch(other, store, Console(quiet=True))


def test_the_root_alone_knows_the_study(launched: Path) -> None:
    store = open_store(launched)
    assert planned_trials(store) == all_done(store)
    again = recorded_study(store, None)
    assert launch(again, store, Console(quiet=True)).done == 5


def test_a_source_whose_weights_were_removed_is_made_again(launched: Path, tmp_path: Path) -> None:
    """A job that needs missing weights schedules their trial again (docs/decisions/results-root.md)."""
    root = tmp_path / "root"
    shutil.copytree(launched, root)
    store = open_store(root)
    make, finetune = (
        next(spec for spec in expand(study()) if spec.trial_id.startswith(prefix))
        for prefix in ("pretrain-digits-resnet35-w8-none", "finetune-digits-digits_natural")
    )
    store.delete(trained_weights_key(make.trial_id))
    store.delete(trial_key("finetune", finetune.trial_id))
    result = trial_key("pretrain", make.trial_id)
    assert [(f.key, f.problem) for f in verify(store) if not f.problem.harmless] == [(result, Problem.WITHOUT_WEIGHTS)]
    with refused(
        Code.MISSING_WEIGHTS,
        f"run its trial {make.trial_id}",
        kind=MissingData,
        file=f"{store.uri}/{trained_weights_key(make.trial_id)}",
    ):
        run_locally(study(), finetune.trial_id, store, Console(quiet=True))
    standing = store.read(result)
    summary = launch(study(), store, Console(quiet=True))
    assert (summary.done, summary.failed) == (5, {})
    assert store.read(result) == standing, "the result stands, its weights are back"
    assert list(store.keys("conflicts")) == []
    weights = trained_weights_key(make.trial_id)
    assert store.read(weights) == open_store(launched).read(weights)
    assert [f for f in verify(store) if not f.problem.harmless] == []


def test_a_trial_whose_source_was_not_made_says_so(tmp_path: Path) -> None:
    """In one process, missing weights are an error; in a launch, the trial fails for this reason and others go on."""
    store = open_store(tmp_path / "root")
    specs = expand(study())
    finetune = next(spec for spec in specs if isinstance(spec, FinetuneSpec) and spec.source == "digits_l2")
    with refused(Code.MISSING_WEIGHTS, "digits_l2", kind=MissingData):
        run_locally(study(), finetune.trial_id, store, Console(quiet=True))
    make = next(spec for spec in specs if isinstance(spec, PretrainSpec) and spec.threat.steps)
    for attempt in (1, 2):
        record_failure(
            store,
            Failure(
                trial_id=make.trial_id,
                attempt=attempt,
                kind=FailureKind.ERROR,
                error="ValueError",
                reason="ValueError: as the test says",
                host="here",
                launch="before",
                failed_at=f"2026-01-01T00:00:0{attempt}+00:00",
            ),
            "log",
        )
    summary = launch(study(), store, Console(quiet=True))
    assert summary.done == 3
    assert summary.failed.keys() == {make.trial_id, finetune.trial_id}
    assert f"its source digits_l2 is not trained yet ({make.trial_id})" in summary.failed[finetune.trial_id]


@pytest.mark.parametrize("length", [200, 230, 260])
def test_names_too_long_for_a_disk_are_one_mistake_of_a_study(length: int) -> None:
    name = "l" * length
    (mistake,) = mistakes(STUDY.replace("digits_l2", name))
    check(mistake, Code.WRONG_NAME, "grid.source[1]", name, "digits", "255", line=15)


def test_names_that_just_fit_are_run(tmp_path: Path) -> None:
    fits = parse_study(STUDY.replace("digits_l2", "l" * 170), "own.yaml")
    assert launch(fits, open_store(tmp_path / "root"), Console(quiet=True)).left == 0
