"""Which trials a launch runs, and in which order."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from jobs.results import open_store
from jobs.study.model import Study
from orchestrator.launching import preparation
from orchestrator.launching.options import Options
from orchestrator.launching.preparation import Preparation, prepare
from orchestrator.planning.dependencies import completion_of
from orchestrator.study.load import parse_study
from tests.orchestrator.support import Uniting
from tests.support import finetune_specs

STUDY = """
name: order
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [1, 3]}
schedule:
  - {images: [50, 100], epochs: 2, seeds: 2, evaluate_every: 1}
"""


def prepared(folder: Path, study: Study) -> Preparation:
    return prepare(study, open_store(folder / "root"), Console(quiet=True), Options())


def test_the_longest_come_first_and_pairs_one_after_another(tmp_path: Path) -> None:
    """A launch that is stopped leaves pairs, and the first delta is there after two trials."""
    made = prepared(tmp_path, parse_study(STUDY, "study.yaml"))
    (stage,) = made.stages
    specs = finetune_specs(made.specs[trial] for trial in stage.trials)
    assert [made.operations[trial] for trial in stage.trials] == sorted(made.operations.values(), reverse=True)
    for one, other in zip(specs[::2], specs[1::2], strict=True):
        assert {one.source, other.source} == {"fmnist_natural", "fmnist_l2_eps1"}
        assert (one.blocks, one.images, one.seed) == (other.blocks, other.images, other.seed)


def test_trials_of_a_bundle_are_adjacent_and_share_its_operations(tmp_path: Path) -> None:
    alone = prepared(tmp_path, parse_study(STUDY, "study.yaml"))
    made = prepared(tmp_path, parse_study(f"{STUDY}bundle: blocks\n", "study.yaml"))
    (stage,) = made.stages
    specs = finetune_specs(made.specs[trial] for trial in stage.trials)
    for one, other in zip(specs[::2], specs[1::2], strict=True):
        assert (one.source, one.images, one.seed) == (other.source, other.images, other.seed)
        assert {one.blocks, other.blocks} == {1, 3}
        assert made.operations[one.trial_id] == made.operations[other.trial_id]
    assert sum(made.operations.values()) < sum(alone.operations.values())


def test_what_is_done_is_not_put_together_again_for_every_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Uniting()

    def half(*given: Any) -> Any:
        done.update(list(given[1])[::2])
        return completion_of(*given)._replace(done=done)

    monkeypatch.setattr(preparation, "completion_of", half)
    before = Uniting.unions
    made = prepared(tmp_path, parse_study(STUDY, "study.yaml"))
    assert 0 < Uniting.unions - before < 10
    (stage,) = made.stages
    assert set(stage.trials) == made.specs.keys() - done
