"""Studies recorded by a newer version: named as such, with the version, and never called damaged."""

import json
from pathlib import Path

import pytest

from jobs.errors import Code
from jobs.provenance import code_version
from jobs.results import begin, open_store, record_study, write_launch
from jobs.results.launches import timestamp
from jobs.results.layout import study_key
from jobs.study.model import Study
from orchestrator.launching.heartbeat import new_launch
from orchestrator.study.earlier import earlier_versions
from orchestrator.study.history import recorded_study
from orchestrator.study.load import parse_study
from tests.orchestrator.support import Command
from tests.support import refused

STUDY = """\
name: mine
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 3, seeds: 3, evaluate_every: 1}]
contrasts: [{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [0]}]
"""
NEWER = {
    "flavour": f"{STUDY}flavour: sweet\n",
    "recipe.flavour": f"{STUDY}recipe: {{flavour: sweet}}\n",
    "contrasts.0.weighting": STUDY.replace("blocks: [0]}]", "blocks: [0], weighting: equal}]"),
}
"""Studies with a key that this version does not know, by the key."""


@pytest.mark.parametrize("key", NEWER)
def test_resume_names_the_version_that_can_read_it(key: str, tmp_path: Path) -> None:
    store, study = open_store(tmp_path / "root"), parse_study(STUDY, "mine.yaml")
    begin(store)
    record_study(store, study.name, study.digest, NEWER[key])
    record = new_launch(study.name, study.digest)
    write_launch(store, record._replace(code_version="9.8.7", ended_at=timestamp()))
    file = f"{store.uri}/{study_key(study.name, study.digest)}"
    with refused(
        Code.NEWER_VERSION, key, f"DeltaSweep {code_version()} does not", "DeltaSweep 9.8.7 launched", file=file
    ):
        recorded_study(store, None)
    (message,) = earlier_versions(store, study_with(seeds=4), {}).about
    assert "DeltaSweep 9.8.7 launched it. Fix: install that version, or a later one" in message


def study_with(seeds: int) -> Study:
    return parse_study(STUDY.replace("seeds: 3", f"seeds: {seeds}"), "mine.yaml")


def test_a_damaged_record_is_still_damaged(tmp_path: Path) -> None:
    store, study = open_store(tmp_path / "root"), parse_study(STUDY, "mine.yaml")
    begin(store)
    record_study(store, study.name, study.digest, study.resolved())
    write_launch(store, new_launch(study.name, study.digest))
    key = study_key(study.name, study.digest)
    store.replace(key, STUDY.replace("blocks: [0]}]", "blocks: [zero], flavour: sweet}]").encode())
    with refused(Code.DAMAGED_RECORD, key, file=f"{store.uri}/{key}"):
        recorded_study(store, None)


def test_a_study_that_no_command_could_read_again_is_not_recorded(tmp_path: Path) -> None:
    store = open_store(tmp_path / "root")
    with refused(Code.WRONG_VALUE, "4,000,000"):
        record_study(store, "mine", "0" * 16, f"name: {'x' * 4_000_000}")
    assert list(store.keys("studies")) == []


def test_an_unknown_key_of_a_file_may_be_a_newer_one(deltasweep: Command) -> None:
    (deltasweep.folder / "mine.yaml").write_text(f"{STUDY}flavour: sweet\n", encoding="utf-8")
    error = json.loads(deltasweep("plan", "mine.yaml", "--json").message)["error"]
    assert (error["code"], error["key"], error["line"]) == (Code.UNKNOWN_KEY.value, "flavour", 5)
    assert f"A version after DeltaSweep {code_version()} may have it" in error["message"]
