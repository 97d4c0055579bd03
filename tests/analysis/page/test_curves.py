"""What the charts of the page begin with, and the numbers behind them."""

import pandas as pd

from analysis.evaluations.frames import frame
from analysis.page.payload import payload
from analysis.page.report import contents
from analysis.page.results import read, with_variant
from analysis.paired.contrasts import Comparison
from jobs.results import LocalStore
from tests.analysis.support import Build, Rows


def test_charts_begin_with_a_depth_that_both_sources_have(build: Build) -> None:
    trials = [
        build.trial(source, 0, 50.0, blocks=blocks) for source, blocks in (("natural", 1), ("l2", 1), ("natural", 3))
    ]
    shown = next(one for one in contents(read(LocalStore(build.root(trials)))) if one.title == "Curves")
    selected = {one.kind: one.selected for one in shown.values["kinds"]}
    assert selected["blocks"] == ["1"]


def halves(build: Build, trials: list[Rows]) -> list[float]:
    data: pd.DataFrame = with_variant(frame(build.table(trials)), {})
    found: list[float] = payload(data, [Comparison("robust", "natural")])["deltas"]["half"]
    return found


def test_only_intervals_of_equal_differences_are_told_as_without_width(build: Build) -> None:
    """Widths are rounded for the page."""
    natural = [50.0, 51.0, 52.0]
    assert halves(build, build.arms(natural, [55.0, 56.0, 57.0])) == [0.0]
    assert halves(build, build.arms(natural, [55.0, 56.0, 57.0001])) == [0.001]
    assert halves(build, build.arms([50.0], [55.0])) == [None]
