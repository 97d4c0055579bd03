"""Accuracy against the radius of the ball that test images are moved in, of sources and of what was fine-tuned."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.figures.model import FEW, POINTS, Figure, Panel
from analysis.figures.points import mean_points
from jobs.specs import ALL, Constraint

COLUMNS = (
    "trial_id",
    "source",
    "finetuned",
    "blocks",
    "images",
    "finetuned_epochs",
    "finetuned_recipe",
    "dataset",
    "seed",
    "recipe",
    "numerics",
    "constraint",
    "epsilon",
    "steps",
    "step_scale",
    "start",
    "restarts",
    "test_images",
    "test_images_used",
    "robust_accuracy",
)
NETWORKS = ("dataset", "blocks", "images", "finetuned_epochs", "finetuned_recipe")
"""What the networks of one row of panels have in common."""

_IMAGES = ("test_images", "test_images_used", "seed", "recipe", "numerics")
"""What clean and attacked images of one curve have in common besides the network."""

_MEANING = (
    "Images are in [0, 1]; every restart counts, the worst stands. At 0 the images are clean. An attack gives an upper "
    "bound: a better one may find more."
)

_SEARCH = ("steps", "step_scale", "start", "restarts")
_BALLS = {Constraint.L2.value: ("L2", 1.0), Constraint.LINF.value: ("Linf", 255.0)}
"""Name of a ball, and the parts of a unit in which its radius is told."""

_BAND = f"{Constraint.FOURIER.value}:"


def attack_figure(attacks: pd.DataFrame) -> Figure | None:
    """Accuracy under attack against epsilon, a panel for each ball and each kind of network; None without any attack.

    Args:
        attacks: rows of the kind ``attack`` with ``COLUMNS``. Those on clean images begin the curve of every ball.
    """
    rows = attacks.sort_values(list(COLUMNS), kind="stable", ignore_index=True)
    panels = list(_panels(rows))
    if not panels:
        return None
    searches = rows[rows["steps"] > 0][[*_SEARCH, "test_images_used"]].drop_duplicates().to_dict("records")
    return Figure(
        name="attacks",
        title="Accuracy under attack",
        caption="Share of test images that stay right however PGD moves them within epsilon: an upper bound.",
        panels=tuple(panels),
        notes=(f"Attacks: {'; '.join(_search_words(search) for search in searches)}",),
        intervals=f"{_MEANING} {FEW}",
    )


def _panels(rows: pd.DataFrame) -> Iterator[Panel]:
    for _, shown in rows.groupby(list(NETWORKS), sort=True, dropna=False):  # a source has but the dataset
        bands = sorted({name for name in shown["constraint"] if name.startswith(_BAND)})
        for constraint, (ball, unit) in {**_BALLS, **{name: (_band_words(name), 1.0) for name in bands}}.items():
            attacked = shown[shown["constraint"] == constraint]
            if attacked.empty:
                continue
            clean = shown[shown["constraint"] == Constraint.NONE.value].drop(columns=list(_SEARCH))
            beginnings = attacked[["source", *_IMAGES, *_SEARCH]].drop_duplicates()
            curves = pd.concat([clean.merge(beginnings, on=["source", *_IMAGES]), attacked], ignore_index=True)
            told = ball if unit == 1 else f"{ball} in {unit:.0f}ths"
            title = f"{network_words(shown.iloc[0].to_dict(), rows)}: {told}"
            yield Panel(title=title, quantity="accuracy", against="epsilon", points=_points(curves, unit), by="source")


def _band_words(constraint: str) -> str:
    return f"L2, frequencies {constraint.removeprefix(_BAND)}"


def _points(rows: pd.DataFrame, unit: float) -> pd.DataFrame:
    table = mean_points(rows, ["source", *_IMAGES, *_SEARCH], "epsilon", "robust_accuracy")
    several = len(table[[*_IMAGES, *_SEARCH]].drop_duplicates()) > 1
    words = [_search_words(row) if several else "" for row in table.to_dict("records")]
    made = table.assign(
        series=table["source"],
        arm=table["source"],
        variant=words,
        x=table["epsilon"] * unit,
        whole=table["test_images"] == ALL,
    )
    return made[list(POINTS)]


def network_words(row: Mapping[Any, Any], rows: pd.DataFrame) -> str:
    """Which networks an examination is of; how they were fine-tuned, too, where ``rows`` have several ways."""
    if pd.isna(row["finetuned"]):
        return f"{row['dataset']}, sources"
    blocks, images = (
        f"all {name}" if row[name] == ALL else f"{row[name]:,.0f} {name}" for name in ("blocks", "images")
    )
    ways = {"finetuned_epochs": "{:.0f} epochs", "finetuned_recipe": "recipe {}"}
    told = [words.format(row[name]) for name, words in ways.items() if rows[name].nunique() > 1]
    return ", ".join([row["dataset"], blocks, images, *told])


def _search_words(row: Mapping[Any, Any]) -> str:
    start = "zero" if row["start"] == "zero" else "a random point"
    return (
        f"PGD({row['steps']}) from {start}, steps of {row['step_scale']:g} epsilon / {row['steps']}, "
        f"restarts: {row['restarts']}, {row['test_images_used']:,} images"
    )
