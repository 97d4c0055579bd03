"""The paper's numbers, from the trials that its authors published."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from analysis.evaluations.frames import at_epoch, frame
from analysis.paired.contrasts import Comparison, Declared
from analysis.paired.table import delta_cells

ROBUST = ("l2_eps3", "linf_eps4", "linf_eps8")


@pytest.fixture(scope="module")
def data(published: pa.Table) -> pd.DataFrame:
    return frame(published)


@pytest.fixture(scope="module")
def cells(data: pd.DataFrame) -> pd.DataFrame:
    chosen = [Comparison(source, "natural") for source in ROBUST]
    return delta_cells(data, chosen, Declared(()))


def small(rows: pd.DataFrame, images: str = "images") -> pd.DataFrame:
    return (
        rows[(rows["blocks"] == 3) & rows[images].between(1, 1600)] if "blocks" in rows else rows[rows[images] <= 1600]
    )


def test_cell_means_are_table_7(data: pd.DataFrame, table7: pd.DataFrame) -> None:
    means = small(at_epoch(data, "last")).groupby(["dataset", "images", "source"])["test_accuracy"].mean()
    printed = small(table7, "training_images").set_index(["dataset", "training_images", "source"])
    both = means.to_frame("ours").join(printed.rename_axis(["dataset", "images", "source"]), how="inner")
    assert len(both) == len(means) == 65
    assert (both["ours"] - both["test_accuracy_percent"]).abs().max() <= 0.01


def test_deltas_are_differences_of_table_7(cells: pd.DataFrame, table7: pd.DataFrame) -> None:
    printed = table7.pivot(index=["dataset", "training_images"], columns="source", values="test_accuracy_percent")
    checked = 0
    for row in small(cells[cells["n_pairs"] > 0]).itertuples():
        of: dict[object, float] = printed.loc[[(row.dataset, row.images)]].iloc[0].to_dict()
        assert row.mean_delta == pytest.approx(of[row.source] - of["natural"], abs=0.02)
        assert row.n_pairs == 10
        checked += 1
    assert checked == 45


def test_intervals_are_scipys(cells: pd.DataFrame, data: pd.DataFrame) -> None:
    last = at_epoch(data, "last")
    for row in small(cells[cells["n_pairs"] > 1]).itertuples():
        of = last[(last["dataset"] == row.dataset) & (last["blocks"] == 3) & (last["images"] == row.images)]
        left, right = (of[of["source"] == name].set_index("seed")["test_accuracy"] for name in (row.source, "natural"))
        seeds = sorted(set(left.index) & set(right.index))
        oracle = stats.ttest_rel(left[seeds], right[seeds])
        interval = oracle.confidence_interval(0.95)
        assert (row.ci_low, row.ci_high) == pytest.approx((interval.low, interval.high), abs=1e-9)
        assert row.p_value == pytest.approx(oracle.pvalue, rel=1e-7)


def test_holm_is_statsmodels_over_all_cells_asked_for(cells: pd.DataFrame) -> None:
    from statsmodels.stats.multitest import multipletests

    tested = cells[cells["p_value"].notna()]
    np.testing.assert_allclose(tested["p_holm"], multipletests(tested["p_value"], method="holm")[1], rtol=1e-12)
    assert set(tested["method"].str.extract(r"(Holm.*)")[0]) == {f"Holm over {len(tested)} imported cells asked for"}


def test_every_trial_is_paired_or_counted(cells: pd.DataFrame, data: pd.DataFrame) -> None:
    last = at_epoch(data, "last")
    for source in ROBUST:
        mine = cells[cells["source"] == source]
        arms = last[last["source"].isin([source, "natural"])]
        assert 2 * mine["n_pairs"].sum() + mine["n_unpaired"].sum() == len(arms)
