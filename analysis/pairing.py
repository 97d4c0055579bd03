"""Pairing the trials of two arms by explicit keys: the ground that every delta stands on.

Two trials pair when everything but the arm is equal: dataset, blocks, images, seed, epoch, length of
the trial, recipe, numerics and origin. They then trained on the same images in the same order.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pandas as pd

from analysis.comparisons import Comparison
from analysis.frames import UNRECORDED
from jobs.errors import Code, ResultsConflict

CELL = ("dataset", "blocks", "images", "epoch", "epochs", "recipe", "numerics", "origin")
"""What two paired trials share besides the seed. Pairs that share it are one cell: one row of deltas."""

DEPTH = "baseline_blocks"
"""Fine-tuned blocks of the baseline: those of the source, but for comparisons of two depths of one source."""

KEYS = ("source", "baseline", *CELL, DEPTH)
"""What tells the rows of deltas apart."""

_ARM = ("trial_id", "test_accuracy", "subset_sha256", "images_used")


class Pairing(NamedTuple):
    """Two arms, matched. Both frames are in order of cell (and seed), whatever the order of the input."""

    pairs: pd.DataFrame
    """The keys, ``seed``, ``difference`` in percentage points (left minus right), and the trials' ids."""
    counts: pd.DataFrame
    """One row a cell that either arm has: the keys, ``images_used``, ``n_pairs``, ``n_unpaired``."""


def pair(left: pd.DataFrame, right: pd.DataFrame, keys: Sequence[str] = CELL) -> Pairing:
    """Match the evaluations of two arms on ``keys`` and the seed.

    Args:
        left, right: evaluations of one arm each, one row per trial and epoch.

    Raises:
        ResultsConflict: when an arm holds two trials under one key, or two trials of one seed trained on
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


def pair_all(rows: pd.DataFrame, arms: Iterable[Comparison], of_all_depths: pd.DataFrame | None = None) -> Pairing:
    """The pairings of several comparisons, with their names as further keys; counts in order of ``KEYS``.

    Args:
        rows: evaluations of all sources.
        arms: at least one.
        of_all_depths: where comparisons of two depths find theirs, when ``rows`` are narrowed to some; None: ``rows``.
    """
    chosen = list(arms)
    alike = [(one.source, one.baseline) for one in chosen if one.depths is None]
    named = pd.DataFrame(alike, columns=["source", "baseline"], dtype=rows["source"].dtype)
    left, right = (
        rows.merge(named, on="source"),
        rows.rename(columns={"source": "baseline"}).merge(named, on="baseline"),
    )
    arms_of = [[arm.assign(**{DEPTH: arm["blocks"]})] for arm in (left, right)]
    for one in chosen:
        if one.depths is not None:
            found = _two_depths(rows if of_all_depths is None else of_all_depths, one.source, one.depths)
            names = {"source": one.source, "baseline": one.baseline, DEPTH: one.depths[1]}
            for arm, part in zip(arms_of, found, strict=True):
                arm.append(part.assign(**names))
    return pair(*map(pd.concat, arms_of), KEYS)


def _two_depths(rows: pd.DataFrame, source: str, depths: tuple[int, int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The evaluations of a source at two depths; the second under the name of the first, so that they pair."""
    mine = rows[rows["source"] == source]
    first, second = (mine[mine["blocks"] == depth] for depth in depths)
    return first, second.assign(blocks=depths[0])


def _anonymous(arm: pd.DataFrame, on: list[str], stand_in: int) -> pd.DataFrame:
    """The columns that a merge needs; unrecorded seeds differ between the arms, so they never match."""
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
        f"each arm of a comparison has one trial a seed; {len(twice)} evaluations share theirs with another. "
        f"First: {what}: {' and '.join(first['trial_id'])}. They differ in accuracy or subset, so they are not the "
        "same training (an import beside another one, or a result that was not repeatable): keep them in separate "
        "results roots, or move the files of one aside",
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
        f"trials of one seed train on one subset in both arms; {len(different)} pairs did not. First: "
        f"{first['trial_id_left']} used the subset {first['subset_sha256_left'][:12]}, {first['trial_id_right']} "
        f"used {first['subset_sha256_right'][:12]}. They come from different data under one name: keep them in "
        "separate results roots",
        key="subset_sha256",
    )
