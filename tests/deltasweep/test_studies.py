"""Studies from Python are those of study files: the same trials, the same mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import deltasweep as ds
from jobs.errors import Code, InvalidRequest
from tests.deltasweep.support import KEYS, small
from tests.support import refused

FILE = """
name: small
grid: {source: [fmnist_natural, fmnist_l2_eps1], dataset: [digits], blocks: [0]}
schedule: [{images: [20, 40], epochs: 1, seeds: 2, evaluate_every: 1}]
contrasts: [{source: fmnist_l2_eps1, baseline: fmnist_natural, blocks: [0]}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_values_mean_what_the_file_means(file: Path) -> None:
    of_file, of_values = ds.Study(file), small(description="")
    assert of_values.yaml() == of_file.yaml()
    assert of_values.trials["trial"].equals(of_file.trials["trial"])
    assert (of_values.name, len(of_values), len(ds.Study("demo"))) == ("small", 8, 60)


def test_a_study_survives_its_own_yaml(tmp_path: Path) -> None:
    for name in ("demo", "demo-precision", "paper-influence"):
        path = tmp_path / "again.yaml"
        path.write_text(ds.Study(name).yaml(), encoding="utf-8")
        assert ds.Study(path).yaml() == ds.Study(name).yaml()


@pytest.mark.parametrize(
    "images", [(20, 40), range(20, 41, 20), np.array([20, 40]), pd.Series([20, 40]), [np.int64(20), 40]]
)
def test_numbers_may_come_from_numpy_and_pandas(images: Any) -> None:
    given = small(schedule=[{**KEYS["schedule"][0], "images": images}])
    assert given.trials["trial"].equals(small().trials["trial"])


def test_values_that_are_changed_later_change_no_study() -> None:
    sources = ["fmnist_natural"]
    study = small(grid={**KEYS["grid"], "source": sources}, contrasts=[])
    sources.append("fmnist_l2_eps1")
    assert len(study) == 4


def test_other_values_for_some_keys(file: Path) -> None:
    pilot = ds.Study(file, name="pilot", schedule=[{**KEYS["schedule"][0], "seeds": 1}])
    assert (pilot.name, len(pilot)) == ("pilot", 4)
    assert set(pilot.trials["trial"].to_pylist()) < set(small().trials["trial"].to_pylist())
    assert ds.Study(small(), name="again").trials["trial"].equals(small().trials["trial"])


def test_mistakes_are_the_same_and_all_at_once_without_lines(file: Path) -> None:
    file.write_text(FILE.replace("blocks: [0]}\nsch", "block: [0]}\nsch").replace("[20, 40]", "[20, x]"))
    with pytest.raises(InvalidRequest) as in_file:
        ds.Study(file)
    grid = {**KEYS["grid"], "block": [0]}
    del grid["blocks"]
    with pytest.raises(InvalidRequest) as in_values:
        small(grid=grid, schedule=[{**KEYS["schedule"][0], "images": [20, "x"]}])
    ours = {(one.code, one.place.key, one.message) for one in in_values.value.mistakes}
    assert ours == {(one.code, one.place.key, one.message) for one in in_file.value.mistakes}
    assert len(ours) == 3
    assert {(one.place.file, one.place.line) for one in in_values.value.mistakes} == {("", None)}
    assert "line" not in str(in_values.value)
    assert str(in_values.value).startswith("the study: 3 mistakes\n  grid.block: unknown key")


def test_what_is_no_study() -> None:
    with refused(Code.MISSING_KEY, "Study('demo')", kind=InvalidRequest, key="study"):
        ds.Study()
    with refused(Code.UNKNOWN_NAME, "did you mean demo?", kind=InvalidRequest):
        ds.Study("dmeo")
    with refused(Code.WRONG_VALUE, "keys with values", kind=InvalidRequest, key="grid"):
        small(grid=object(), contrasts=[])
    with refused(Code.UNKNOWN_KEY, "did you mean 'schedule'?", kind=InvalidRequest, key="shedule"):
        small(shedule=[])


def test_relative_paths_start_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    card = {"architecture": "resnet35-w8", "trained_on": "fmnist", "constraint": "none", "epsilon": 0}
    statistics = {"mean": [0.3, 0.3, 0.3], "std": [0.3, 0.3, 0.3]}
    with refused(Code.NO_SUCH_FILE, tmp_path / "mine.pt", kind=InvalidRequest, key="sources.mine.weights"):
        small(sources={"mine": {**card, **statistics, "weights": Path("mine.pt")}})


def test_what_a_notebook_and_a_terminal_show() -> None:
    study = small()
    assert repr(study) == "<Study small: 8 trials>"
    shown = study._repr_html_()
    assert "Is &lt;b&gt;it&lt;/b&gt; &amp; is it not?" in shown
    for fact in ("8 trials", "fmnist_natural, fmnist_l2_eps1", "20, 40 (1 epoch, 2 seeds)", "fmnist_l2_eps1 minus"):
        assert fact in shown
    assert study.trials.columns[:2] == ["trial", "kind"]
    assert study.trials.units["images"] == "images"


def test_a_builder_file_that_no_architecture_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def build():\n    raise NotImplementedError\n", encoding="utf-8")
    with refused(Code.UNKNOWN_NAME, "mine.py", kind=InvalidRequest, key="--builder"):
        ds.Study("demo", builder=file)
