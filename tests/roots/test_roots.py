"""Roots written by released versions: this version reads, counts and resumes each as the release itself did."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import kinds
from tests.results.growth import COUNT, NOTE, grown
from tests.roots.answers import answers, command, digest_of, resumed

ROOTS = Path(__file__).parent
RELEASES = sorted(path.name for path in ROOTS.iterdir() if path.is_dir() and path.name[0].isdigit())


class Release(NamedTuple):
    """A root as a release left it, that release's answers about it, and this version's answers."""

    kept: Path
    expected: dict[str, Any]
    found: dict[str, Any]


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    kept, copy = ROOTS / request.param, tmp_path_factory.mktemp("roots") / request.param
    expected = json.loads((ROOTS / f"{request.param}.expected.json").read_text())
    assert digest_of(kept) == expected["files"], "a root is as its release wrote it, for ever"
    shutil.copytree(kept, copy)
    asked = [answer["sql"] for answer in expected["queries"]]
    yield Release(kept, expected, answers(copy, asked))
    assert digest_of(kept) == expected["files"], "these tests have written into the root itself"


def test_reading_changes_nothing(release: Release) -> None:
    assert release.found["files"] == release.expected["files"]


def test_every_trial_has_the_id_and_the_recipe_digests_that_it_had(release: Release) -> None:
    for name, study in release.expected["studies"].items():
        assert release.found["studies"][name]["trials"] == study["trials"], name


def test_studies_have_the_digests_that_they_had(release: Release) -> None:
    for name, study in release.expected["studies"].items():
        assert study["digest"] == study["recorded"]
        assert release.found["studies"][name]["digest"] == study["digest"], name


def test_nothing_that_is_done_is_planned_anew(release: Release) -> None:
    told = ("trials", "done", "pending", "quarantined", "images_trained", "images_evaluated")
    for name, study in release.expected["studies"].items():
        assert _of(release.found["studies"][name]["plan"], told) == _of(study["plan"], told), name


def test_the_status_is_what_it_was(release: Release) -> None:
    assert _of(release.found["status"], release.expected["status"]) == release.expected["status"]


def test_queries_have_the_rows_that_they_had(release: Release) -> None:
    for found, answer in zip(release.found["queries"], release.expected["queries"], strict=True):
        assert answer["rows"], answer["sql"]
        assert found == answer


def test_deltas_are_what_they_were(release: Release) -> None:
    for asked, cells in release.expected["deltas"].items():
        assert any(cell["n_pairs"] > 1 for cell in cells)
        for found, cell in zip(release.found["deltas"][asked], cells, strict=True):
            # SciPy does not guarantee the last bits
            assert _near(_of(found, cell), cell, rel=1e-9), cell


def test_the_same_is_found_wrong(release: Release) -> None:
    assert release.found["verify"]["found"] == release.expected["verify"]["found"]
    assert release.found["verify"]["code"] == release.expected["verify"]["code"]


def test_nothing_of_that_changes_when_columns_are_added_and_numbers_change(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two releases later, each kind has two more columns, and fine-tuning has other numerics."""
    copy = tmp_path / "root"
    shutil.copytree(release.kept, copy)
    asked = [answer["sql"] for answer in release.expected["queries"]]
    with ExitStack() as later:
        for kind in kinds():
            later.enter_context(grown(kind, [NOTE], [COUNT]))
        found = answers(copy, asked)
        assert found["queries"] == release.expected["queries"]
        assert found["studies"] == release.found["studies"]
        assert (found["deltas"], found["verify"]["found"]) == (
            release.found["deltas"],
            release.found["verify"]["found"],
        )
        monkeypatch.setattr(FinetuneSpec, "numerics_version", FinetuneSpec.numerics_version + 1)
        risen = answers(copy, asked)
        assert risen["queries"] == release.expected["queries"]
        assert risen["deltas"] == release.found["deltas"]
        status = json.loads(command(copy, "status", "--json")[1])
        accepted = json.loads(command(copy, "status", "--json", "--accept-numerics", "2")[1])
    then = release.found["status"]
    assert status["done"] + status["older_numerics"] == accepted["done"] == then["done"]


def test_failures_and_their_logs_are_read(release: Release) -> None:
    assert release.found["failures"] == release.expected["failures"]
    assert release.found["logs"].keys() == release.expected["logs"].keys()
    for trial, log in release.found["logs"].items():
        assert "Traceback (most recent call last)" in log, trial


def test_the_trial_in_progress_is_gone_on_with(release: Release, tmp_path: Path) -> None:
    """The trial is resumed from its checkpoint.

    Its result says that the device kind and the packages of its beginning are unknown.
    """
    (begun,) = release.expected["checkpoints"]
    assert release.found["checkpoints"] == [begun]
    root = tmp_path / "root"
    shutil.copytree(release.kept, root)
    found, expected = resumed(root), release.expected["resumed"]
    for told in ("trial_id", "ending", "notes", "evaluated", "checkpoints"):
        assert found[told] == expected[told], told
    assert begun["epoch"] > 1
    for epoch, (row, before) in enumerate(zip(found["rows"], expected["rows"], strict=True), start=1):
        now = _of(row, before)
        # other device kinds give other last bits in the later epochs, and may classify an image or two differently
        assert now == before if epoch < begun["epoch"] else _near(now, before, rel=1e-2, points=0.5), epoch
    if begun["history"] is None:
        for column in ("device_kind", "packages"):
            assert found[column].startswith("unknown -> "), column
    then, now = release.expected["status"], json.loads(command(root, "status", "--json")[1])
    assert (now["done"], now["pending"]) == (then["done"] + 1, then["pending"] - 1)


def test_what_every_root_has(release: Release) -> None:
    """Ensures that every release's root contains what the tests above check."""
    files = {path.relative_to(release.kept).as_posix() for path in release.kept.rglob("*") if path.is_file()}
    for folder in ("cards", "checkpoints", "compact", "conflicts", "datasets", "failures", "launches", "logs"):
        assert any(file.startswith(f"{folder}/") for file in files), folder
    assert ("root.json" in files) == (release.kept.name != "0.1.0"), "who made it"
    kinds = {file.split("/")[1] for file in files if file.startswith("trials/")}
    assert kinds >= {"attack", FinetuneSpec.kind, "influence", "pretrain", "shape_bias", "visualize"}
    weights = {file.split("/")[1].split("-")[0] for file in files if file.startswith("weights/")}
    assert weights == {"finetune", "pretrain"}
    assert any("/imported-" in file for file in files)
    index = json.loads((release.kept / "compact" / "CURRENT.json").read_text())
    for kind, entry in index["kinds"].items():
        assert 0 < entry["trials"] < sum(file.startswith(f"trials/{kind}/") for file in files), kind


def _of(found: Mapping[str, Any], names: Any) -> dict[str, Any]:
    """Return only the keys that existed then; later versions may add more."""
    return {name: found[name] for name in names}


def _near(found: Mapping[str, Any], then: Mapping[str, Any], rel: float, points: float = 0.0) -> bool:
    """Return whether all values are equal, with tolerance for floats, and for accuracies up to ``points`` points."""

    def near(name: str, value: object) -> object:
        if not isinstance(value, float):
            return value
        return pytest.approx(value, rel=rel, abs=points if name.endswith("accuracy") else None)

    return all(found[name] == near(name, value) for name, value in then.items())
