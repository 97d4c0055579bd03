"""Numbers of a kind that were changed on purpose.

Existing results stay readable, reported and separate, and count as done only on request.
"""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import analysis
from jobs.errors import Code, InvalidRequest
from jobs.kinds.attack.spec import AttackSpec
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import Problem, done, open_store
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.verification.verify import verify
from orchestrator.launching.launch import launch
from orchestrator.launching.options import Options
from orchestrator.planning.older_numerics import accepted_numerics
from orchestrator.planning.status import describe, status_of
from orchestrator.study.history import planned_trials
from orchestrator.study.load import parse_study
from tests.analysis.reported import reported
from tests.orchestrator.in_process import replace_ray
from tests.orchestrator.support import Command
from tests.support import refused

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
    """A root of the study, written before the numbers of fine-tuning changed."""
    replace_ray(monkeypatch, tmp_path)
    root = tmp_path / "root"
    assert launch(study, open_store(root), Console(quiet=True)).done == TUNED + ATTACKED
    monkeypatch.setattr(FinetuneSpec, "numerics_version", FinetuneSpec.numerics_version + 1)
    return root


OLDER = FinetuneSpec.numerics_version


def test_an_id_of_older_numerics_is_what_it_was(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    then = {spec.trial_id for spec in expand(study)}
    assert all(spec.older_ids == {} for spec in expand(study)), "no release wrote older ones"
    monkeypatch.setattr(FinetuneSpec, "numerics_version", OLDER + 1)
    assert {name for spec in expand(study) for name in spec.older_ids} == then
    assert all(of == {"finetune": OLDER} for spec in expand(study) for of in spec.older_ids.values())
    assert then.isdisjoint(spec.trial_id for spec in expand(study))
    monkeypatch.setattr(AttackSpec, "numerics_version", 2)
    attack = next(spec for spec in expand(study) if isinstance(spec, AttackSpec))
    either_or_both = [{"attack": 1}, {"finetune": OLDER}, {"attack": 1, "finetune": OLDER}]
    assert all(of in either_or_both for of in attack.older_ids.values())
    assert len(attack.older_ids) == len(either_or_both)


def test_they_are_pending_and_told(study: Study, before: Path) -> None:
    status = status_of(open_store(before), study)
    counts = status.counts()
    assert (counts["done"], counts["pending"]) == (0, TUNED + ATTACKED)
    assert (counts["older_numerics"], counts["accepted_numerics"]) == (TUNED + ATTACKED, 0)
    assert f"8 of numerics finetune:{OLDER}" in describe(status)
    assert f"--accept-numerics finetune:{OLDER}" in describe(status)
    store = open_store(before)
    findings = verify(store, planned_trials(store))
    assert {finding.problem for finding in findings} == {Problem.OLDER_NUMERICS}
    assert len(findings) == TUNED + ATTACKED, "those that look at such a network, too"


@pytest.mark.parametrize(
    ("asked", "accepted"),
    [
        ([f"{OLDER}"], TUNED + ATTACKED),
        ([f"{OLDER + 1}"], 0),
        ([f"finetune:{OLDER}"], TUNED + ATTACKED),
        ([f"finetune:{OLDER + 1}"], 0),
        (["attack:1"], 0),
        (["attack:1", f"finetune:{OLDER + 1}", f"finetune:{OLDER}"], TUNED + ATTACKED),
        ([f"{OLDER + 1}", f"finetune:{OLDER}"], TUNED + ATTACKED),
    ],
)
def test_they_are_done_when_asked(asked: list[str], accepted: int, study: Study, before: Path) -> None:
    status = status_of(open_store(before), study, accept=accepted_numerics(asked))
    counts = status.counts()
    assert (counts["done"], counts["pending"]) == (accepted, TUNED + ATTACKED - accepted)
    assert counts["accepted_numerics"] == accepted
    assert (f"count as done, as requested: from finetune:{OLDER} on" in describe(status)) == bool(accepted)


def test_one_of_two_kinds_is_accepted(study: Study, before: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds have changed.

    A result that depends on both counts as done only if both are accepted, whatever number each has.
    """
    monkeypatch.setattr(AttackSpec, "numerics_version", 2)
    found = {}
    for asked in ((), ("attack:1",), (f"finetune:{OLDER}",), ("attack:1", f"finetune:{OLDER}"), ("1",)):
        status = status_of(open_store(before), study, accept=accepted_numerics(asked))
        found[asked] = (len(status.done), describe(status))
    # two networks are trained again because their attacks run again
    assert [done for done, _ in found.values()] == [0, 0, TUNED - 2, TUNED + ATTACKED, TUNED + ATTACKED]
    both = f"--accept-numerics attack:1 --accept-numerics finetune:{OLDER}"
    for asked in ((), ("attack:1",), (f"finetune:{OLDER}",)):
        assert f"unless {both} is given" in found[asked][1], "what it asks for is enough"
    assert f"4 of numerics attack:1 and finetune:{OLDER}, 4 of numerics finetune:{OLDER}" in found[()][1]
    assert f"as requested: from attack:1 and finetune:{OLDER} on" in found[("1",)][1]


def test_of_two_older_results_the_accepted_one_counts(
    study: Study, before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run has other numerics of fine-tuning, and the attack's old ones."""
    store = open_store(before)
    assert launch(study, store, Console(quiet=True)).done == TUNED + ATTACKED
    monkeypatch.setattr(AttackSpec, "numerics_version", 2)
    assert len(status_of(store, study).done) == TUNED
    assert len(status_of(store, study, accept=accepted_numerics(["attack:1"])).done) == TUNED + ATTACKED


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("fintune:2", Code.UNKNOWN_NAME),
        ("Finetune:2", Code.UNKNOWN_NAME),
        (":2", Code.UNKNOWN_NAME),
        ("finetune:2:2", Code.UNKNOWN_NAME),
        ("finetune:1", Code.WRONG_VALUE),
        ("finetune:99", Code.WRONG_VALUE),
        ("finetune:", Code.WRONG_VALUE),
        ("finetune", Code.WRONG_VALUE),
        ("attack:2", Code.WRONG_VALUE),
        ("0", Code.WRONG_VALUE),
        ("-1", Code.WRONG_VALUE),
        ("99", Code.WRONG_VALUE),
        ("\N{SUPERSCRIPT TWO}", Code.WRONG_VALUE),
        ("", Code.WRONG_VALUE),
    ],
)
def test_numerics_that_no_release_had(text: str, code: Code) -> None:
    with refused(code, repr(text), kind=InvalidRequest, key="--accept-numerics"):
        accepted_numerics([f"{OLDER}", text])


@pytest.mark.parametrize("verb", [("plan", "nothing"), ("launch", "nothing"), ("resume",), ("status",)])
def test_wrong_numerics_are_refused_before_anything_is_looked_at(verb: tuple[str, ...], deltasweep: Command) -> None:
    told = deltasweep(*verb, "--results", "nowhere", "--accept-numerics=finetune:99")
    assert (told.code, "finetune:99" in told.message) == (2, True)


def test_a_launch_that_accepts_them_runs_nothing_and_says_so(study: Study, before: Path) -> None:
    said = io.StringIO()
    store = open_store(before)
    standing = {kind: done(store, kind) for kind in ("finetune", "attack")}
    summary = launch(study, store, Console(file=said, width=300), Options(accept_numerics={"finetune": OLDER}))
    assert (summary.done, summary.left, summary.failed) == (TUNED + ATTACKED, 0, {})
    assert f"8 trials have only results of older numerics (8 of numerics finetune:{OLDER})" in said.getvalue()
    assert "8 of them count as done, as requested" in said.getvalue()
    assert {kind: done(store, kind) for kind in standing} == standing


def test_a_launch_runs_them_again_beside_what_stands(study: Study, before: Path) -> None:
    said = io.StringIO()
    store = open_store(before)
    standing = done(store, "finetune")
    assert launch(study, store, Console(file=said, width=300)).done == TUNED + ATTACKED
    assert f"8 of them run again unless --accept-numerics finetune:{OLDER}" in said.getvalue()
    assert standing < done(store, "finetune")
    assert len(done(store, "finetune")) == 2 * TUNED
    rows = analysis.deltas(before).to_pylist()
    assert sorted((row["numerics"], row["n_pairs"], row["n_unpaired"]) for row in rows) == [
        (OLDER, 2, 0),
        (OLDER + 1, 2, 0),
    ], "never paired across"
    assert status_of(store, study).counts()["older_numerics"] == 0, "today's stand, too"


def test_networks_of_other_numerics_are_other_networks_in_figures(study: Study, before: Path) -> None:
    """The kind that examines them has the same numerics throughout."""
    store = open_store(before)
    old = reported(store).figures["attacks"]
    assert launch(study, store, Console(quiet=True)).done == TUNED + ATTACKED
    both = reported(store).figures["attacks"]
    assert len(both.panels) == 2 * len(old.panels)
    assert {panel.points["n"].max() for panel in both.panels} == {panel.points["n"].max() for panel in old.panels}
    assert any(f"numerics {OLDER}" in panel.title for panel in both.panels), [panel.title for panel in both.panels]


def test_a_network_that_is_still_to_be_examined_is_trained_by_today_s_numbers(study: Study, before: Path) -> None:
    """The old weights are stored under the old id, so an accepted result alone cannot be examined."""
    store = open_store(before)
    for key in list(store.keys("trials/attack")):
        store.delete(key)
    accept = {"finetune": OLDER}
    status = status_of(store, study, accept=accept)
    assert (len(status.done), status.pending) == (2, 2 + ATTACKED)
    assert "2 of them run again anyway" in describe(status)
    assert launch(study, store, Console(quiet=True), Options(accept_numerics=accept)).done == TUNED + ATTACKED


def test_commands_say_it(study: Study, before: Path, deltasweep: Command, tmp_path: Path) -> None:
    (deltasweep.folder / "risen.yaml").write_text(STUDY)
    root = ("--results", str(before))
    for verb in (("plan", "risen.yaml"), ("status",)):
        for accept, done_now in ((None, 0), (f"{OLDER}", TUNED + ATTACKED), (f"finetune:{OLDER}", TUNED + ATTACKED)):
            extra = ("--accept-numerics", accept) if accept else ()
            told = json.loads(deltasweep(*verb, *root, *extra, "--json").out)
            assert (told["done"], told["older_numerics"], told["accepted_numerics"]) == (done_now, 8, done_now)
    assert "8 of them count as done" in deltasweep("plan", "risen.yaml", *root, "--accept-numerics", str(OLDER)).out
    launched = deltasweep("launch", "risen.yaml", *root, "--accept-numerics", str(OLDER))
    assert (launched.code, "8 of 8 trials are done" in launched.out) == (0, True)
    assert deltasweep("status", *root, "--accept-numerics", "0").code == 2
