"""A changed study: trials finished by earlier versions are reported before anything runs, and never stop a launch."""

import io
import json
import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console

from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import Store, begin, open_store, record_study, write_launch
from jobs.results.layout import study_key, trial_key
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching import preparation
from orchestrator.launching.heartbeat import new_launch
from orchestrator.launching.launch import launch
from orchestrator.planning.status import describe, status_of
from orchestrator.study import earlier
from orchestrator.study.differences import differences
from orchestrator.study.earlier import Earlier, earlier_versions
from orchestrator.study.load import load_study, parse_study
from tests.orchestrator.support import Command

STUDY = """
name: mine
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits, digits_lowres5], blocks: [0]}
schedule: [{images: [20, 40], epochs: 3, seeds: 3, evaluate_every: 1}]
recipe: as-released
resources: {gpu: 0.25, cpu: 1}
"""


def study(*replacements: tuple[str, str], text: str = STUDY) -> Study:
    for old, new in replacements:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return parse_study(text, "mine.yaml")


def recorded(store: Store, version: Study, finished: Iterable[TrialSpec]) -> None:
    """Write a root as after a launch of this version that finished these of its trials."""
    begin(store)
    record_study(store, version.name, version.digest, version.resolved())
    for spec in finished:
        store.create(trial_key(spec.kind, spec.trial_id), b"its rows")
    record = new_launch(version.name, version.digest)
    write_launch(store, record._replace(ended_at=record.started_at))


def looked(store: Store, version: Study) -> Earlier:
    return earlier_versions(store, version, {spec.trial_id: spec for spec in expand(version)})


def of(version: Study, **choices: object) -> list[TrialSpec]:
    """Return the trials of a version that have these choices."""
    return [spec for spec in expand(version) if all(getattr(spec, key) == value for key, value in choices.items())]


AS_PUBLISHED = ["transforms (as-released; here as-published)", "normalization (as-released; here source)"]


@pytest.mark.parametrize(
    ("change", "left_out", "told"),
    [
        (("recipe: as-released", "recipe: as-published"), {}, AS_PUBLISHED),
        (("recipe: as-released", "recipe: {base: as-released, tf32: true}"), {}, ["tf32 (false; here true)"]),
        (("digits, digits_", "digits_"), {"dataset": "digits"}, ["dataset (digits; here digits_lowres5)"]),
        (("fmnist_natural, ", ""), {"source": "fmnist_natural"}, ["source (fmnist_natural; here fmnist_l2_eps1)"]),
        (("seeds: 3", "seeds: 2"), {"seed": 20_200_000}, ["seed (20200000; here 20000000, 20100000)"]),
        (("images: [20, 40]", "images: [20, 80]"), {"images": 40}, ["images (40; here 20, 80)"]),
        (("epochs: 3", "epochs: 6"), {}, ["epochs (3; here 6)"]),
        (("blocks: [0]", "blocks: [3, 1]"), {}, ["blocks (0; here 1, 3)"]),
    ],
)  # fmt: skip
def test_what_is_no_part_of_the_study_any_more(
    change: tuple[str, str], left_out: dict[str, object], told: list[str], store: Store
) -> None:
    before, now = study(), study(change)
    recorded(store, before, expand(before))
    found = looked(store, now)
    assert found.trials == {spec.trial_id for spec in of(before, **left_out)}
    (line,) = found.about
    assert f"{len(found.trials)} finished trials of an earlier version of" in line
    assert f"they differ in {', '.join(told)}." in line
    assert before.digest in line
    file = f"{store.uri}/{study_key(before.name, before.digest)}"
    assert line.endswith(f": deltasweep launch {file} --results {store.uri}"), "no packaged study has them"
    assert expand(load_study(file)) == expand(before)


@pytest.mark.parametrize(
    "change",
    [
        ("seeds: 3", "seeds: 4"),
        ("gpu: 0.25", "gpu: 0.5"),
        ("name: mine", "name: mine\ndescription: mine"),
        ("recipe: as-released", "recipe: as-published"),
    ],
)
def test_nothing_is_told_where_nothing_is_left_out(change: tuple[str, str], store: Store) -> None:
    """More seeds or another share of a GPU; and another recipe before anything is finished."""
    before = study()
    recorded(store, before, [] if "recipe" in change[0] else expand(before))
    assert looked(store, study(change)) == Earlier()


def test_only_what_is_finished_counts_and_once(store: Store) -> None:
    """Two earlier versions share trials; a version with another name is another study."""
    first, second = study(), study(("gpu: 0.25", "gpu: 0.5"))
    finished = expand(first)[:5]
    recorded(store, first, finished[:3])
    recorded(store, second, finished)
    now = study(("recipe: as-released", "recipe: as-published"))
    assert looked(store, now).trials == {spec.trial_id for spec in finished}
    other = study(("name: mine", "name: other"), ("recipe: as-released", "recipe: as-published"))
    assert looked(store, other) == Earlier()


def test_versions_that_only_together_have_the_trials_are_told_with_their_shares(store: Store) -> None:
    """The version with the most trials comes first, then those with the missing ones, limited to a readable number."""
    versions = [study(("epochs: 3", f"epochs: {epochs}")) for epochs in (4, 5, 6, 7, 8)]
    for number, version in enumerate(versions):
        recorded(store, version, expand(version)[: 9 - number])
    (line,) = looked(store, study()).about
    assert "35 finished trials of earlier versions of study mine" in line
    commands = line.partition("To continue with them: ")[2]
    told = [
        f"deltasweep launch {store.uri}/{study_key(one.name, one.digest)} --results {store.uri} ({9 - number} of them)"
        for number, one in enumerate(versions)
    ]
    assert commands == ", ".join([*told[:3], "and 2 more versions"])


def test_a_trial_is_one(store: Store) -> None:
    before = study()
    recorded(store, before, expand(before)[:1])
    (line,) = looked(store, study(("epochs: 3", "epochs: 6"))).about
    assert line.startswith("1 finished trial of an earlier version of study mine (")
    assert "is not part of this one; it differs in epochs (3; here 6)." in line
    assert "To continue with it: " in line


def test_what_is_to_be_launched_can_be_pasted(tmp_path: Path, store: Store) -> None:
    """The command is quoted for a shell; a study file in an object store is not a file on this machine."""
    before, now = study(), study(("epochs: 3", "epochs: 6"))
    spaced = open_store(tmp_path / "my results")
    recorded(spaced, before, expand(before))
    (line,) = looked(spaced, now).about
    *_, file, option, root = shlex.split(line)
    assert (expand(load_study(file)), option, root) == (expand(before), "--results", spaced.uri)

    recorded(store, before, expand(before))
    if "://" in store.uri:
        assert f"deltasweep launch a copy here of {store.uri}/" in looked(store, now).about[0]


def test_versions_that_differ_in_placement_alone_are_expanded_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each expansion takes half a second for 14,400 trials, in every plan and status."""
    expanded: list[Study] = []

    def counted(version: Study) -> list[TrialSpec]:
        expanded.append(version)
        return expand(version)

    monkeypatch.setattr(earlier, "expand", counted)
    for share in ("0.1", "0.2", "0.3"):
        for epochs in ("3", "6"):
            version = study(("gpu: 0.25", f"gpu: {share}"), ("epochs: 3", f"epochs: {epochs}"))
            recorded(store, version, expand(version)[:2])
    assert len(looked(store, study()).trials) == 2
    assert [one.schedule[0].epochs for one in expanded] == [6]


def test_a_packaged_study_that_has_them_all_is_named(store: Store) -> None:
    """The motivating case: until 0.2.0, `paper` was what `paper-as-released` is now; the smallest match is named."""
    before = load_study("paper-as-released").model_copy(update={"name": "paper"})
    now = load_study("paper")
    recorded(store, before, of(before, dataset="cifar10", images=100, blocks=9, source="linf_eps8"))
    found = looked(store, now)
    assert len(found.trials) == 20
    (line,) = found.about
    assert f"they differ in {', '.join(AS_PUBLISHED)}." in line
    assert line.endswith(f"launch paper-as-released --results {store.uri}")


def test_the_smallest_packaged_study_is_named(store: Store) -> None:
    before = load_study("paper-confound").model_copy(update={"name": "paper"})
    finished = of(before, dataset="cifar10", recipe=load_study("paper-as-released").recipe)
    recorded(store, before, finished)
    (line,) = looked(store, load_study("paper")).about
    assert f"{len(finished)} finished trials" in line
    assert "launch paper-confound --results" in line, "paper-as-released has them, too, among 14,400"


def test_networks_that_are_looked_at_differ_as_their_trials_do(store: Store) -> None:
    attack = "attack: {finetuned: {images: [20], seeds: 1}, test_images: 8, balls: []}"
    before = study(text=f"{STUDY}{attack}")
    now = study(("recipe: as-released", "recipe: as-published"), text=f"{STUDY}{attack}")
    recorded(store, before, expand(before))
    (line,) = looked(store, now).about
    assert line.count("transforms (as-released; here as-published)") == 1
    assert f"they differ in {', '.join(AS_PUBLISHED)}." in line


def test_a_choice_that_only_some_trials_have() -> None:
    """A field that a spec gained later is reported if it is not at its default in either version."""
    balls = "attack: {{source: [fmnist_natural], test_images: 8, balls: [{{constraint: {0}, epsilon: [1]}}]}}"
    l2, low, high, both = (
        expand(study(text=f"{STUDY}{balls.format(ball)}"))[-1:]
        for ball in (
            "l2, steps: 2",
            "fourier, steps: 2, band: [0, 0.25]",
            "fourier, steps: 2, band: [0.25, 1]",
            "fourier, steps: 2, band: [0, 0.5]",
        )
    )
    assert differences(l2, high) == "threat.constraint (l2; here fourier), threat.band (default; here [0.25, 1.0])"
    assert differences(high, l2) == "threat.constraint (fourier; here l2), threat.band ([0.25, 1.0]; here default)"
    assert differences(low, [*l2, *high]) == "threat.band ([0.0, 0.25]; here [0.25, 1.0], default)"
    assert differences(both, [*l2, *high, *low]).endswith("here [0.0, 0.25], [0.25, 1.0], default)")


def test_differences_that_no_single_choice_tells() -> None:
    specs = [spec for spec in expand(study()) if isinstance(spec, FinetuneSpec)]
    here = [s for s in specs if (s.dataset == "digits") == (s.source == "fmnist_natural")]
    there = [s for s in specs if s not in here]
    assert differences(there, here) == "how their choices are combined"
    attacked = expand(study(text=f"{STUDY}attack: {{source: [fmnist_natural], test_images: 8, balls: []}}"))[-1:]
    assert differences(attacked, here) == "kind (attack; here finetune)"
    assert differences(attacked, []) == "kind (attack; here none)"


@pytest.mark.parametrize("text", ["name: [", "name: mine\ngrid: 3\n", "{}", "name: mine\nmore: 1\nless: 2\n"])
def test_a_version_that_cannot_be_read_is_told(text: str, store: Store) -> None:
    before, now = study(), study(("recipe: as-released", "recipe: as-published"))
    recorded(store, before, expand(before)[:2])
    key = study_key(now.name, "0123456789abcdef")
    store.create(key, text.encode())
    unread, line = looked(store, now).about
    assert f"{store.uri}/{key}" in unread
    assert len(unread.splitlines()) == 1
    assert "\\u" not in unread
    assert "2 finished trials" in line


class Reached(Exception):
    """Raised in place of the first thing that a launch starts or writes."""


def test_launch_plan_and_status_tell_it_before_anything_runs(
    tmp_path: Path, deltasweep: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    store = open_store(root)
    before, now = study(), study(("recipe: as-released", "recipe: as-published"))
    recorded(store, before, expand(before)[:4])
    (line,) = looked(store, now).about
    assert "4 finished trials" in line

    file = tmp_path / "mine.yaml"
    file.write_text(now.resolved(), encoding="utf-8")
    assert line in deltasweep("plan", str(file), "--results", str(root)).out.replace("\n", " ")
    assert json.loads(deltasweep("plan", str(file), "--results", str(root), "--json").out)["earlier_versions_done"] == 4
    assert json.loads(deltasweep("plan", str(file), "--json").out)["earlier_versions_done"] == 0

    def reached(*_: object) -> None:
        raise Reached

    monkeypatch.setattr(preparation, "_pins", reached)
    said = io.StringIO()
    with pytest.raises(Reached):
        launch(now, store, Console(file=said, width=10_000))
    assert line in said.getvalue().splitlines()

    assert status_of(store, before).earlier == Earlier()
    recorded(store, now, [])
    status = status_of(store, now)
    assert line in describe(status)
    assert status.counts()["earlier_versions_done"] == 4
    assert status_of(store, now, thorough=False).earlier == Earlier(), "not every five seconds"
