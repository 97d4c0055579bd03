"""Files of a released version stay valid whatever later releases add at once.

They may add columns, a field deep in the recipe, a kind of trial, and new numerics of one kind.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from rich.console import Console

import analysis
from jobs.execution import commit
from jobs.kinds.attack.spec import AttackSpec
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import Store, all_done, done, kinds, open_store, recorded_studies
from jobs.specs.trial import recipe_digest
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.verification.verify import verify
from orchestrator.launching.launch import launch
from orchestrator.planning.status import status_of
from orchestrator.study.history import planned_trials, recorded_study
from orchestrator.study.load import parse_study
from tests.analysis.reported import Reported, reported
from tests.orchestrator.in_process import replace_ray
from tests.results.growth import COUNT, NOTE, grown
from tests.roots.answers import answers
from tests.roots.later import ConfidenceSpec, Mixing, add_kind, recipe_grown

ROOTS = Path(__file__).parent
RELEASES = sorted(path.name for path in ROOTS.iterdir() if path.is_dir() and path.name[0].isdigit())
QUIET = Console(quiet=True)
SECTION = "confidence: {finetuned: {images: [12], seeds: 1}}\n"
CELL = ("source", "baseline", "dataset", "blocks", "images", "epochs", "recipe", "numerics")


class Old(NamedTuple):
    """A copy of a release's root, as given to a later release's code, and the answers of the release's own code."""

    root: Path
    store: Store
    expected: dict[str, Any]
    reported: Reported
    """The contents of the report by the code without the additions."""


class Release(NamedTuple):
    """The root of a release, and its report by the code without the additions."""

    root: Path
    expected: dict[str, Any]
    reported: Reported


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Run all tests of a release with the code of a later one."""
    folder = tmp_path_factory.mktemp("later")
    root = folder / "root"
    shutil.copytree(ROOTS / request.param, root)
    identity, expected = commit._identity, json.loads((ROOTS / f"{request.param}.expected.json").read_text())
    before = reported(open_store(root))
    with ExitStack() as later, pytest.MonkeyPatch.context() as patch:
        for kind in kinds():
            later.enter_context(grown(kind, [NOTE], [COUNT]))
        patch.setattr(commit, "_identity", lambda spec: {**identity(spec), "note": "by a later release", "count": 1})
        later.enter_context(recipe_grown())
        add_kind(patch)
        replace_ray(patch, folder)
        yield Release(root, expected, before)


@pytest.fixture
def old(release: Release, tmp_path: Path) -> Old:
    root = tmp_path / "old"
    shutil.copytree(release.root, root)
    return Old(root, open_store(root), release.expected, release.reported)


def recorded(old: Old, name: str, more: str = "") -> Study:
    """Return a study of the root, as its release recorded it, with a user's additions."""
    written = old.expected["studies"][name]["recorded"]
    (record,) = [record for record in recorded_studies(old.store) if record.digest == written]
    return parse_study(record.text + more, name)


def ids(study: Study) -> set[str]:
    return {spec.trial_id for spec in expand(study)}


def test_nothing_is_another_than_it_was(old: Old) -> None:
    found = answers(old.root, [answer["sql"] for answer in old.expected["queries"]])
    assert found["files"] == old.expected["files"]
    assert found["queries"] == old.expected["queries"]
    assert found["verify"]["found"] == old.expected["verify"]["found"]
    assert found["checkpoints"] == old.expected["checkpoints"]
    for name, then in old.expected["studies"].items():
        assert {key: found["studies"][name][key] for key in ("digest", "trials")} == {
            "digest": then["recorded"],
            "trials": then["trials"],
        }
    same_cells(found["deltas"]["--study first"], old.expected["deltas"]["--study first"])
    same_cells(found["deltas"]["--baseline fmnist_natural"], old.expected["deltas"]["--baseline fmnist_natural"])


def same_cells(found: list[dict[str, Any]], then: list[dict[str, Any]]) -> None:
    for now, before in zip(found, then, strict=True):
        for name, value in before.items():
            assert now[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value), name


def test_the_status_adds_up_and_a_report_has_its_figures(old: Old) -> None:
    counts = status_of(old.store, recorded_study(old.store, None)).counts()
    assert {name: counts[name] for name in old.expected["status"]} == old.expected["status"]
    parts = [counts[name] for name in ("done", "running", "pending", "failed", "quarantined")]
    assert sum(int(str(part)) for part in parts) == counts["planned"]
    now, then = reported(old.store), old.reported
    pd.testing.assert_frame_equal(now.data, then.data)
    assert now.pictures.keys() == then.pictures.keys()
    assert any(name.startswith("figure1b") for name in now.pictures)
    for name in ("attacks", "influences", "shape-bias"):
        panels = [found.figures[name].panels for found in (now, then)]
        assert len(panels[0]) == len(panels[1]) > 0
        for new, old_one in zip(*panels, strict=True):
            pd.testing.assert_frame_equal(new.points, old_one.points)


def test_what_was_pending_runs_and_nothing_else(old: Old) -> None:
    """The trial in progress is resumed from its checkpoint: of its two epochs, the first is the old release's."""
    study, before, standing = recorded(old, "pairs"), files(old.root), all_done(old.store)
    (blocked,) = status_of(old.store, study).quarantined
    summary = launch(study, old.store, QUIET)
    assert (summary.done, set(summary.failed)) == (len(ids(study)) - 1, {blocked})
    assert all_done(old.store) - standing == ids(study) - standing - {blocked}
    assert {name: data for name, data in files(old.root).items() if name in before} == before
    (begun,) = {key["trial_id"] for key in old.expected["checkpoints"]}
    sql = "SELECT trial_id, note, count, epoch, attempt FROM evaluations ORDER BY trial_id, epoch"
    rows = analysis.query(old.root, sql).to_pylist()
    assert {row["trial_id"] for row in rows if row["note"] is None} == standing & {row["trial_id"] for row in rows}
    assert {(row["note"], row["count"]) for row in rows} == {(None, 7), ("by a later release", 1)}
    assert [row["epoch"] for row in rows if row["trial_id"] == begun] == [1, 2]


def files(root: Path) -> dict[str, bytes]:
    """Return the results of a root."""
    return {path.name: path.read_bytes() for path in (root / "trials").rglob("*.parquet")}


def test_old_and_new_arms_pair(old: Old) -> None:
    """A source that only the later release has run is paired with the baseline that only the old one has."""
    study, standing, before = recorded(old, "first"), all_done(old.store), cells(old.root)
    assert study.grid is not None
    grid = study.grid.model_copy(update={"source": (*study.grid.source, "fmnist_linf_eps4")})
    more = study.model_copy(update={"name": "more", "grid": grid})
    assert launch(more, old.store, QUIET).done == len(ids(more))
    new = all_done(old.store) - standing
    assert new == ids(more) - ids(study)
    (cell,) = analysis.deltas(old.root, baseline="fmnist_natural", source="fmnist_linf_eps4").to_pylist()
    assert (cell["n_pairs"], cell["n_unpaired"]) == (len(new), 0) == (2, 0)
    same_cells(cells(old.root), before)


def test_another_value_of_the_field_is_another_trial(old: Old) -> None:
    study = recorded(old, "first")
    recipe = study.recipe.model_copy(update={"mixing": Mixing(alpha=0.5)})
    other = study.model_copy(update={"recipe": recipe})
    assert recipe_digest(recipe) != recipe_digest(study.recipe)
    assert ids(other).isdisjoint(ids(study))
    assert not status_of(old.store, other).done
    assert parse_study(other.resolved(), "other").digest == other.digest != study.digest


def test_a_new_kind_of_trial_runs_beside_the_old_ones(old: Old) -> None:
    kind, standing = ConfidenceSpec.kind, all_done(old.store)
    study = recorded(old, "looks", SECTION)
    added = ids(study) - ids(recorded(old, "looks"))
    assert status_of(old.store, study).pending == len(added) == 1
    assert launch(study, old.store, QUIET).done == len(ids(study))
    assert all_done(old.store) - standing == added == done(old.store, kind)
    (row, *_) = rows = analysis.query(old.root, "SELECT * FROM confidences ORDER BY test_image").to_pylist()
    assert (len(rows), row["finetuned"] in standing) == (4, True)
    assert all(10 <= row["confidence"] <= 100 for row in rows)
    assert analysis.query(old.root, "SELECT confidence FROM confidences").schema.field(0).metadata == {
        b"unit": b"percent"
    }
    harmful = [finding for finding in verify(old.store, planned_trials(old.store)) if not finding.problem.harmless]
    assert [[one.problem.value, one.key] for one in harmful] == [
        found for found in old.expected["verify"]["found"] if found in [[one.problem.value, one.key] for one in harmful]
    ]
    assert not launch(study, old.store, QUIET).left


@pytest.mark.parametrize("kind", [FinetuneSpec, AttackSpec])
def test_other_numbers_are_apart(
    kind: type[FinetuneSpec | AttackSpec], old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those trials of ``first`` and ``looks`` whose numerics rose run again, and pair among themselves."""
    root, store = old.root, old.store
    then = {tuple(cell[name] for name in CELL): cell for cell in cells(root)}
    monkeypatch.setattr(kind, "numerics_version", kind.numerics_version + 1)
    name = "first" if kind is FinetuneSpec else "looks"
    study = recorded(old, name)
    rise = {spec.trial_id for spec in expand(study) if isinstance(spec, kind)}
    counts = status_of(store, study).counts()
    assert counts["older_numerics"] == len(rise)
    assert status_of(store, study, accept={kind.kind: kind.numerics_version - 1}).pending == 0
    standing = all_done(store)
    assert launch(study, store, QUIET).done == counts["planned"]
    assert all_done(store) - standing == rise
    now = {tuple(cell[name] for name in CELL): cell for cell in cells(root)}
    assert {key: now[key] for key in then} == then, "what stood is what it was"
    news = [cell for key, cell in now.items() if key not in then]
    assert [(cell["numerics"], cell["n_pairs"]) for cell in news] == (
        [(FinetuneSpec.numerics_version, 2)] if kind is FinetuneSpec else []
    )
    if kind is AttackSpec:
        sql = "SELECT numerics, count(*) AS n FROM attacks WHERE finetuned_seed IS NOT NULL GROUP BY ALL ORDER BY ALL"
        assert [row["numerics"] for row in analysis.query(root, sql).to_pylist()] == [1, 2]


def cells(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = analysis.deltas(root, study="first").to_pylist()
    return found
