"""Numbers of a kind that were changed on purpose: what stands is readable, told, apart, and done only when asked."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import analysis
from analysis.page.report import gather
from jobs.expansion import expand
from jobs.results import Problem, done, open_store, verify
from jobs.specs import AttackSpec, FinetuneSpec
from jobs.study import Study
from orchestrator.launch import Options, launch
from orchestrator.recorded import planned_trials
from orchestrator.status import describe, status_of
from orchestrator.study_files import parse_study
from tests.orchestrator.in_process import replace_ray
from tests.orchestrator.support import Command
from tests.support import present

pytestmark = pytest.mark.usefixtures("short_tests")

STUDY = """\
name: risen
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
schedule:
  - {images: [20], epochs: 1, seeds: 2, evaluate_every: 1}
attack: {finetuned: {images: [20], seeds: 1}, test_images: 8, balls: [{constraint: l2, epsilon: [0.5], steps: 1}]}
contrasts: [{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [0]}]
"""
TUNED, ATTACKED = 4, 4


@pytest.fixture(scope="module")
def study() -> Study:
    return parse_study(STUDY, "risen.yaml")


@pytest.fixture
def before(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of the study from before numbers of fine-tuning changed."""
    replace_ray(monkeypatch, tmp_path)
    root = tmp_path / "root"
    assert launch(study, open_store(root), Console(quiet=True)).done == TUNED + ATTACKED
    monkeypatch.setattr(FinetuneSpec, "numerics", FinetuneSpec.numerics + 1)
    return root


OLDER = FinetuneSpec.numerics


def test_an_id_of_older_numerics_is_what_it_was(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    then = {spec.trial_id for spec in expand(study)}
    assert all(spec.older_ids == {} for spec in expand(study)), "no release wrote older ones"
    monkeypatch.setattr(FinetuneSpec, "numerics", OLDER + 1)
    assert {name for spec in expand(study) for name in spec.older_ids} == then
    assert {of for spec in expand(study) for of in spec.older_ids.values()} == {OLDER}
    assert then.isdisjoint(spec.trial_id for spec in expand(study))
    monkeypatch.setattr(AttackSpec, "numerics", 2)
    attack = next(spec for spec in expand(study) if isinstance(spec, AttackSpec))
    assert sorted(attack.older_ids.values()) == [1, 1, OLDER], "either rose, or both"


def test_they_are_pending_and_told(study: Study, before: Path) -> None:
    status = status_of(open_store(before), study)
    counts = status.counts()
    assert (counts["done"], counts["pending"]) == (0, TUNED + ATTACKED)
    assert (counts["older_numerics"], counts["accepted_numerics"]) == (TUNED + ATTACKED, 0)
    assert f"8 of numerics {OLDER}" in describe(status)
    assert f"--accept-numerics {OLDER}" in describe(status)
    store = open_store(before)
    findings = verify(store, planned_trials(store))
    assert {finding.problem for finding in findings} == {Problem.OLDER_NUMERICS}
    assert len(findings) == TUNED + ATTACKED, "those that look at such a network, too"


@pytest.mark.parametrize(("accept", "accepted"), [(OLDER, TUNED + ATTACKED), (OLDER + 1, 0)])
def test_they_are_done_when_asked(accept: int, accepted: int, study: Study, before: Path) -> None:
    status = status_of(open_store(before), study, accept=accept)
    counts = status.counts()
    assert (counts["done"], counts["pending"]) == (accepted, TUNED + ATTACKED - accepted)
    assert counts["accepted_numerics"] == accepted
    assert ("count as done here, as asked" in describe(status)) == bool(accepted)


def test_a_launch_that_accepts_them_runs_nothing_and_says_so(study: Study, before: Path) -> None:
    said = io.StringIO()
    store = open_store(before)
    standing = {kind: done(store, kind) for kind in ("finetune", "attack")}
    summary = launch(study, store, Console(file=said, width=300), Options(accept_numerics=OLDER))
    assert (summary.done, summary.left, summary.failed) == (TUNED + ATTACKED, 0, {})
    assert f"8 trials have results of older numerics alone (8 of numerics {OLDER})" in said.getvalue()
    assert "8 of them count as done here, as asked" in said.getvalue()
    assert {kind: done(store, kind) for kind in standing} == standing


def test_a_launch_runs_them_again_beside_what_stands(study: Study, before: Path) -> None:
    said = io.StringIO()
    store = open_store(before)
    standing = done(store, "finetune")
    assert launch(study, store, Console(file=said, width=300)).done == TUNED + ATTACKED
    assert f"8 of them run again, unless --accept-numerics {OLDER}" in said.getvalue()
    assert standing < done(store, "finetune")
    assert len(done(store, "finetune")) == 2 * TUNED
    rows = analysis.deltas(before).to_pylist()
    assert sorted((row["numerics"], row["n_pairs"], row["n_unpaired"]) for row in rows) == [
        (OLDER, 2, 0),
        (OLDER + 1, 2, 0),
    ], "never paired across"
    assert status_of(store, study).counts()["older_numerics"] == 0, "today's stand, too"


def test_networks_of_other_numerics_are_other_networks_in_figures(study: Study, before: Path) -> None:
    """The kind that looks at them has one numerics all along."""
    store = open_store(before)
    old = present(gather(store).attacks)
    assert launch(study, store, Console(quiet=True)).done == TUNED + ATTACKED
    both = present(gather(store).attacks)
    assert len(both.panels) == 2 * len(old.panels)
    assert {panel.points["n"].max() for panel in both.panels} == {panel.points["n"].max() for panel in old.panels}
    assert any(f"numerics {OLDER}" in panel.title for panel in both.panels), [panel.title for panel in both.panels]


def test_a_network_that_is_still_to_be_examined_is_trained_by_today_s_numbers(study: Study, before: Path) -> None:
    """Its weights of old lie under its old id: an accepted result alone is nothing to examine."""
    store = open_store(before)
    for key in list(store.keys("trials/attack")):
        store.delete(key)
    status = status_of(store, study, accept=OLDER)
    assert (len(status.done), status.pending) == (2, 2 + ATTACKED)
    assert "2 of them run again all the same" in describe(status)
    assert launch(study, store, Console(quiet=True), Options(accept_numerics=OLDER)).done == TUNED + ATTACKED


def test_commands_say_it(study: Study, before: Path, deltasweep: Command, tmp_path: Path) -> None:
    (deltasweep.folder / "risen.yaml").write_text(STUDY)
    root = ("--results", str(before))
    for verb in (("plan", "risen.yaml"), ("status",)):
        for accept, done_now in ((None, 0), (OLDER, TUNED + ATTACKED)):
            extra = ("--accept-numerics", str(accept)) if accept else ()
            told = json.loads(deltasweep(*verb, *root, *extra, "--json").out)
            assert (told["done"], told["older_numerics"], told["accepted_numerics"]) == (done_now, 8, done_now)
    assert "8 of them count as done" in deltasweep("plan", "risen.yaml", *root, "--accept-numerics", str(OLDER)).out
    launched = deltasweep("launch", "risen.yaml", *root, "--accept-numerics", str(OLDER))
    assert (launched.code, "8 of 8 trials are done" in launched.out) == (0, True)
    assert deltasweep("status", *root, "--accept-numerics", "0").code == 2
