"""Pairing the trials of two arms by explicit keys, the basis of every delta.

Two trials pair when everything but the arm is equal: dataset, blocks, images, seed, epoch, length of
the trial, recipe, numerics and origin. They were then trained on the same images in the same order.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from analysis.evaluations.frames import UNRECORDED
from analysis.paired.contrasts import Comparison
from jobs.errors import Code, ResultsConflict

CELL = ("dataset", "blocks", "images", "epoch", "epochs", "recipe", "numerics", "origin")
"""Keys that two paired trials share besides the seed. Pairs that agree in them form one cell, a row of the deltas."""

DEPTH = "baseline_blocks"
"""Fine-tuned blocks of the baseline: equal to the source's, except when comparing two depths of one source."""

KEYS = ("source", "baseline", *CELL, DEPTH)
"""The columns that identify a row of the deltas."""

_ARM = ("trial_id", "test_accuracy", "subset_sha256", "images_used")


class Pairing(NamedTuple):
    """Two matched arms. Both frames are sorted by cell (and seed), regardless of the order of the input."""

    pairs: pd.DataFrame
    """The keys, ``seed``, ``difference`` in percentage points (left minus right), and the trials' ids."""
    counts: pd.DataFrame
    """One row per cell of either arm: the keys, ``images_used``, ``n_pairs``, ``n_unpaired``."""


def pair(left: pd.DataFrame, right: pd.DataFrame, keys: Sequence[str] = CELL) -> Pairing:
    """Match the evaluations of two arms on ``keys`` and the seed.

    Args:
        left, right: evaluations of one arm each, one row per trial and epoch.

    Raises:
        ResultsConflict: when an arm has two trials with the same keys, or two trials of one seed were trained on
            different subsets.
    """
    on = [*keys, "seed"]
    for arm in (left, right):
        _require_unique(arm, on)
    merged = _anonymous(left, on, -1).merge(
        _anonymous(right, on, -2), on=on, how="outer", suffixes=("_left", "_right"), indicator=True
    )
    merged = merged.sort_values(on, kind="stable", ignore_index=True)
    both = merged["_merge"] == "both"
    _require_same_subsets(merged[both])
    merged["difference"] = merged["test_accuracy_left"] - merged["test_accuracy_right"]
    merged["images_used"] = merged["images_used_left"].fillna(merged["images_used_right"]).astype("int64")
    counts = (
        merged.assign(n_pairs=both, n_unpaired=~both)
        .groupby(list(keys), as_index=False, sort=True)
        .agg(images_used=("images_used", "first"), n_pairs=("n_pairs", "sum"), n_unpaired=("n_unpaired", "sum"))
    )
    return Pairing(
        merged.loc[both, [*on, "difference", "trial_id_left", "trial_id_right"]].reset_index(drop=True), counts
    )


def cells_with_pairs(left: pd.DataFrame, right: pd.DataFrame, keys: Sequence[str] = CELL) -> pd.DataFrame:
    """Return the cells, rows of ``keys``, in which the evaluations of two arms have pairs; faster than ``pair``."""
    on = [*keys, "seed"]
    both = _anonymous(left, on, -1)[on].merge(_anonymous(right, on, -2)[on], on=on)
    return both[list(keys)].drop_duplicates(ignore_index=True)


def pair_all(rows: pd.DataFrame, arms: Iterable[Comparison], of_all_depths: pd.DataFrame | None = None) -> Pairing:
    """Pair several comparisons, with source and baseline as additional keys; counts are sorted by ``KEYS``.

    Args:
        rows: evaluations of all sources.
        arms: at least one comparison.
        of_all_depths: evaluations for comparisons of two depths, when ``rows`` are limited to some depths; None:
            ``rows``.
    """
    chosen = list(arms)
    alike = [(comparison.source, comparison.baseline) for comparison in chosen if comparison.depths is None]
    named = pd.DataFrame(alike, columns=["source", "baseline"], dtype=rows["source"].dtype)
    left = [rows.merge(named, on="source")]
    right = [rows.rename(columns={"source": "baseline"}).merge(named, on="baseline")]
    for arms_of_one in (left, right):
        arms_of_one[0][DEPTH] = arms_of_one[0]["blocks"]
    every = rows if of_all_depths is None else of_all_depths
    for comparison in chosen:
        if comparison.depths is not None:
            first, second = _two_depths(every, comparison.source, comparison.depths)
            left.append(_named(first, comparison, comparison.depths[1]))
            right.append(_named(second, comparison, comparison.depths[1]))
    return pair(pd.concat(left), pd.concat(right), KEYS)


def _named(arm: pd.DataFrame, comparison: Comparison, depth: int) -> pd.DataFrame:
    return arm.assign(source=comparison.source, baseline=comparison.baseline, **{DEPTH: depth})


def _two_depths(rows: pd.DataFrame, source: str, depths: tuple[int, int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the evaluations of a source at two depths; the second labelled with the first depth, so that they pair."""
    mine = rows[rows["source"] == source]
    first, second = (mine[mine["blocks"] == depth] for depth in depths)
    return first, second.assign(blocks=depths[0])


def _anonymous(arm: pd.DataFrame, on: list[str], stand_in: int) -> pd.DataFrame:
    """Keep the columns needed for the merge; unrecorded seeds get different values per arm, so they never match."""
    arm = arm[[*on, *_ARM]]
    return arm.assign(seed=arm["seed"].where(arm["seed"] != UNRECORDED, stand_in))


def _require_unique(arm: pd.DataFrame, on: list[str]) -> None:
    recorded = arm[arm["seed"] != UNRECORDED]
    twice = recorded[recorded.duplicated(on, keep=False)]
    if twice.empty:
        return
    first = twice.sort_values([*on, "trial_id"]).iloc[:2]
    what = ", ".join(f"{name} {first.iloc[0][name]}" for name in on)
    raise ResultsConflict(
        Code.NOT_PAIRED,
        f"expected one trial per seed in each arm of a comparison; {len(twice)} evaluations are not unique. "
        f"First: {what}: {' and '.join(first['trial_id'])}. They differ in accuracy or subset, so they are not the "
        "same training (two imports, or a result that is not reproducible). Fix: keep them in "
        "separate results roots, or move the files of one elsewhere",
        key="trial_id",
    )


def _require_same_subsets(pairs: pd.DataFrame) -> None:
    left, right = pairs["subset_sha256_left"], pairs["subset_sha256_right"]
    different = pairs[left.notna() & right.notna() & (left != right)]
    if different.empty:
        return
    first = different.iloc[0]
    raise ResultsConflict(
        Code.NOT_PAIRED,
        f"expected trials of one seed to use the same subset in both arms; {len(different)} pairs do not. First: "
        f"{first['trial_id_left']} used the subset {first['subset_sha256_left'][:12]}, {first['trial_id_right']} "
        f"used {first['subset_sha256_right'][:12]}. They come from different data with the same name. Fix: keep them "
        "in separate results roots",
        key="subset_sha256",
    )
