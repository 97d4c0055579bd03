"""Studies of texture and shape: sources on other images of their labels, decisions on conflicting cues, a launch."""

from pathlib import Path

import pytest
from rich.console import Console

import analysis
from jobs.errors import Code
from jobs.kinds.attack.spec import AttackSpec
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.shape_bias.spec import ShapeBiasSpec
from jobs.results import open_store, read_trials
from jobs.specs.canonical import digest
from jobs.study.expand import expand
from jobs.verification.verify import verify
from orchestrator.launching.launch import launch
from orchestrator.planning.gpus import gpu
from orchestrator.planning.plan import make_plan
from orchestrator.planning.stages import stages_of
from orchestrator.study.history import planned_trials
from orchestrator.study.load import load_study, parse_study
from tests.jobs.data import made
from tests.orchestrator.support import check, mistakes

pytestmark = pytest.mark.usefixtures("without_ray")

QUIET = Console(quiet=True)
STUDY = """\
name: shapes
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [3]}
schedule:
  - {images: [30], epochs: 1, seeds: 2, evaluate_every: 1}
shape_bias:
  source: [natural]
  finetuned: {images: [30], seeds: 1}
  dataset: [digits_conflict]
"""
SMALL = STUDY.replace("  source: [natural]\n", "")
STYLED = """\
name: styled
attack:
  source: [natural, sin]
  dataset: [stylized-imagenet]
"""


def test_fine_tuned_networks_and_sources_are_asked() -> None:
    study = parse_study(SMALL, "s.yaml")
    found = [spec for spec in expand(study) if isinstance(spec, ShapeBiasSpec)]
    tuned = {s.trial_id for s in expand(study) if isinstance(s, FinetuneSpec) and s.seed == 20_000_000}
    assert {s.network.trial_id for s in found if isinstance(s.network, FinetuneSpec)} == tuned
    assert {(s.dataset, s.seed) for s in found} == {("digits_conflict", 20_000_000)}
    paper = [s for s in expand(load_study("paper-shape-bias")) if isinstance(s, ShapeBiasSpec)]
    assert {s.network for s in paper} == {"natural", "l2_eps3", "linf_eps4", "linf_eps8", "sin", "in_sin"}
    assert {(s.dataset, s.seed) for s in paper} == {("cue-conflict", 20_000_000)}
    again = parse_study(study.resolved(), "resolved.yaml")
    assert [spec.trial_id for spec in expand(again)] == [spec.trial_id for spec in expand(study)]
    stages = stages_of(study, {s.trial_id: s for s in expand(study)}, [s.trial_id for s in expand(study)])
    assert [stage.retention.weights for stage in stages] == [True, False, False], "networks that are asked keep weights"
    plan = make_plan(study, expand(study), set(), set(), gpu("A10G"))
    assert (plan.trials, plan.images_evaluated) == (4 + 2, (4 + 2) * 797)


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "values"),
    [
        ("  finetuned: {images: [30], seeds: 1}\n", "", Code.MISSING_KEY, "", ["(source)", "(finetuned)"]),
        ("dataset: [digits_conflict]", "dataset: [digits]", Code.IMPOSSIBLE_TRIAL, ".dataset[0]", ["digits"]),
        (
            "dataset: [digits_conflict]",
            "dataset: [cue-conflict]",
            Code.IMPOSSIBLE_TRIAL,
            ".dataset[0]",
            ["10 of digits", "cue-conflict has 16"],
        ),
        (
            "dataset: [digits_conflict]",
            "dataset: [digit_conflict]",
            Code.UNKNOWN_NAME,
            ".dataset[0]",
            ["'digit_conflict'"],
        ),
        (
            "dataset: [digits_conflict]",
            "dataset: [digits_conflict, digits_conflict]",
            Code.REPEATED,
            ".dataset[1]",
            ["'digits_conflict'"],
        ),
        ("  dataset: [digits_conflict]\n", "", Code.MISSING_KEY, ".dataset", []),
        (
            "finetuned: {images: [30], seeds: 1}",
            "finetuned: {images: [30], seeds: 3}",
            Code.IMPOSSIBLE_TRIAL,
            ".finetuned.seeds",
            ["2 seeds", "got 3"],
        ),
        (
            "finetuned: {images: [30], seeds: 1}",
            "finetuned: {images: [30], seed: 1}",
            Code.UNKNOWN_KEY,
            ".finetuned.seed",
            ["did you mean 'seeds'?"],
        ),
        ("shape_bias:\n", "shape_bias:\n  top: 3\n", Code.UNKNOWN_KEY, ".top", []),
        (
            "shape_bias:\n",
            "shape_bias:\n  source: [fmnist_natural]\n",
            Code.IMPOSSIBLE_TRIAL,
            ".dataset[0]",
            ["10 of fmnist", "digits_conflict has other label names"],
        ),
        ("shape_bias:\n", "shape_bias:\n  source: [nobody]\n", Code.UNKNOWN_NAME, ".source[0]", ["'nobody'"]),
        (
            "shape_bias:\n",
            "shape_bias:\n  source: [random_init_resnet35-w8]\n",
            Code.IMPOSSIBLE_TRIAL,
            ".source[0]",
            ["random_init_resnet35-w8", "seed"],
        ),
    ],
)
def test_mistakes(old: str, new: str, code: Code, key: str, values: list[object]) -> None:
    assert SMALL.count(old) == 1
    found = mistakes(SMALL.replace(old, new))
    (meant,) = [one for one in found if (one.code, one.place.key) == (code, f"shape_bias{key}")]
    check(meant, code, f"shape_bias{key}", *values)


def test_every_mismatch_is_told_once_with_its_place() -> None:
    (found,) = mistakes(STUDY)
    values = ("1000 of imagenet", "digits_conflict has 10")
    check(found, Code.IMPOSSIBLE_TRIAL, "shape_bias.dataset[0]", *values, line=8)


def test_nothing_is_fine_tuned_where_all_images_are_for_testing() -> None:
    text = SMALL.replace("dataset: [digits], blocks", "dataset: [cue-conflict], blocks")
    (found,) = mistakes(text.split("shape_")[0])
    check(found, Code.IMPOSSIBLE_TRIAL, "grid.dataset[0]", "1280 images", "cue-conflict", line=2)


def test_sources_are_evaluated_on_other_images_of_their_labels() -> None:
    found = expand(parse_study(STYLED, "s.yaml"))
    assert [(s.network, s.dataset, s.threat.constraint) for s in found if isinstance(s, AttackSpec)] == [
        ("natural", "stylized-imagenet", "none"),
        ("sin", "stylized-imagenet", "none"),
    ]
    (wrong,) = mistakes(STYLED.replace("[stylized-imagenet]", "[cue-conflict]"))
    check(wrong, Code.IMPOSSIBLE_TRIAL, "attack.dataset[0]", "1000 of imagenet", "cue-conflict has 16")
    (wrong,) = mistakes(STYLED.replace("[natural, sin]", "[fmnist_natural]").replace("stylized-imagenet", "kmnist"))
    check(
        wrong,
        Code.IMPOSSIBLE_TRIAL,
        "attack.dataset[0]",
        "10 of fmnist",
        "kmnist has other label names",
        "`label_names`",
    )
    (wrong,) = mistakes(STYLED + "  test_images: 50001\n")
    check(wrong, Code.IMPOSSIBLE_TRIAL, "attack.test_images", "stylized-imagenet", "1 to 50000", "50001")


def test_table_1a_has_both_readings() -> None:
    found = expand(load_study("paper-table1a"))
    clean = [s for s in found if isinstance(s, AttackSpec)]
    assert {(s.network, s.dataset, s.threat.steps, s.test_images) for s in clean} == {
        ("natural", "stylized-imagenet", 0, -1),
        ("l2_eps3", "stylized-imagenet", 0, -1),
    }
    tuned = [s for s in found if isinstance(s, FinetuneSpec)]
    assert {(s.source, s.blocks) for s in tuned} == {(name, k) for name in ("natural", "l2_eps3") for k in (0, 3)}
    assert {(s.dataset, s.images, s.epochs) for s in tuned} == {("stylized-imagenet", -1, 3)}
    assert len(found) == 22
    steps = 3 * -(-1_281_167 // 128)
    assert steps == pytest.approx(150 * 25_600 / 128, rel=0.01), "as many as Table 4's largest subsets take"


def test_the_miniature_shares_trials_with_the_full_demo() -> None:
    found = expand(load_study("demo-shape"))
    tuned = {s.trial_id for s in found if isinstance(s, FinetuneSpec)}
    assert len(tuned) == len(found) - len(tuned) == 20
    assert len(tuned & {s.trial_id for s in expand(load_study("demo-full"))}) == 10


@pytest.mark.usefixtures("no_figure_files")
def test_a_launch_fine_tunes_and_asks(tmp_path: Path) -> None:
    study, store = parse_study(SMALL, "s.yaml"), open_store(tmp_path / "root")
    summary = launch(study, store, QUIET)
    assert (summary.planned, summary.done, summary.failed) == (6, 6, {})
    assert [finding for finding in verify(store, planned_trials(store)) if not finding.problem.harmless] == []
    rows = read_trials(store, "shape_bias").to_pylist()
    assert len(rows) == 2 * 797
    # the value of the view, compared with a count of the rows
    sql = """
        SELECT source, 100 * avg((decision = shape)::INT) AS bias FROM cue_conflicts
        WHERE shape <> texture AND decision IN (shape, texture) GROUP BY source"""
    found = {row["source"]: row["bias"] for row in analysis.query(tmp_path / "root", sql).to_pylist()}
    for source in ("fmnist_natural", "fmnist_l2_eps1"):
        mine = [row for row in rows if row["source"] == source]
        shape = sum(row["decision"] == row["shape"] for row in mine)
        texture = sum(row["decision"] == row["texture"] for row in mine)
        assert found[source] == pytest.approx(100 * shape / (shape + texture))
    assert "Diagnostics: shape bias" in analysis.report(tmp_path / "root").read_text()


@pytest.mark.usefixtures("no_figure_files")
def test_a_source_on_stylized_images_before_and_after(tmp_path: Path) -> None:
    """Table 1a in miniature.

    A source is trained on one folder, then examined and fine-tuned on another with the same label names.
    """
    cards = []
    for name, part in (("plain", "test"), ("styled", "val")):
        files = {path.replace("test/", f"{part}/"): content for path, content in made.folder_files(test=2).items()}
        made.write(tmp_path / name, files)
        sizes = "train: 9, test: 6, labels: 3, colour: true, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]"
        names = digest(["ant", "bee", "cat"])
        cards.append(f"  {name}: {{{sizes}, folder: {tmp_path / name}, label_names: {names}}}\n")
    text = f"""\
name: table
datasets:
{"".join(cards)}
sources:
  own:
    architecture: resnet35-w8
    trained_on: plain
    constraint: none
    epsilon: 0
    mean: [0.5, 0.5, 0.5]
    std: [0.25, 0.25, 0.25]
    pretrain: {{seed: 1, epochs: 1, steps: 0}}
pretrain: {{source: [own]}}
grid: {{source: [own], dataset: [styled], blocks: [0, 3]}}
schedule:
  - {{images: [-1], epochs: 1, seeds: 1, evaluate_every: 1}}
attack: {{source: [own], dataset: [styled]}}
bundle: blocks
"""
    study, store = parse_study(text, "table.yaml"), open_store(tmp_path / "root")
    summary = launch(study, store, QUIET)
    assert (summary.planned, summary.done, summary.failed) == (4, 4, {})
    (before,) = read_trials(store, "attack").to_pylist()
    assert (before["source"], before["dataset"], before["test_images_used"]) == ("own", "styled", 6)
    analysis.report(tmp_path / "root")
    rows = [line.split(",") for line in (tmp_path / "root" / "report" / "table1a.csv").read_text().splitlines()]
    after = {row["blocks"]: row["test_accuracy"] for row in read_trials(store, "finetune").to_pylist()}
    accuracies = [f"{value:.2f}" for value in (before["accuracy"], after[0], after[3])]
    assert [(row[2], row[5]) for row in rows[1:]] == list(
        zip(("nothing", "FC layer", "3 blocks"), accuracies, strict=True)
    )
