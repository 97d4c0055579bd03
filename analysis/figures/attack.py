"""Accuracy under attack by radius, for sources and for networks fine-tuned from them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from analysis.figures.drawing.axis import ACCURACY, Axis
from analysis.figures.drawing.model import FEW, POINTS, Figure, Panel
from analysis.figures.exhibits import KindExhibits, Topic, figure_topic
from analysis.figures.networks import NETWORKS, network_words
from analysis.statistics.grouped import curve_means
from analysis.tables.before_and_after import table1a
from analysis.tables.model import Table
from jobs.specs.base import ALL
from jobs.specs.threat_model import Constraint

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
_IMAGES = ("test_images", "test_images_used", "seed", "recipe", "numerics")
"""Columns in which the clean and the attacked rows of one curve agree, besides those that identify the network."""
_OF_EVALUATION = ("seed", "recipe", "numerics")
"""Those of them that the words on a search leave out."""

_EPSILON = Axis(column="epsilon", label="epsilon")
_MEANING = (
    "Pixel values are in [0, 1]; the worst result over all restarts counts. At epsilon 0 the images are clean. The "
    "accuracy under attack is an upper bound on robust accuracy: a stronger attack may lower it further."
)

_SEARCH = ("steps", "step_scale", "start", "restarts")
_BALLS = {Constraint.L2.value: ("L2", 1.0), Constraint.LINF.value: ("Linf", 255.0)}
"""Displayed name of each ball, and the factor from epsilon to the displayed radius (255: in 255ths)."""

_BAND = f"{Constraint.FOURIER.value}:"


def attack_figure(attacks: pd.DataFrame) -> Figure | None:
    """Return accuracy under attack by epsilon, with one panel per ball and type of network; None if there is no attack.

    Args:
        attacks: rows of the kind ``attack`` with ``COLUMNS``. Rows on clean images are the first point of every
            ball's curve.
    """
    rows = attacks.sort_values(list(COLUMNS), kind="stable", ignore_index=True)
    panels = list(_panels(rows))
    if not panels:
        return None
    searches = rows[rows["steps"] > 0][[*_SEARCH, "test_images_used"]].drop_duplicates().to_dict("records")
    return Figure(
        name="attacks",
        title="Accuracy under attack",
        caption="Share of test images still classified correctly under PGD within radius epsilon: an upper bound on "
        "robust accuracy.",
        panels=tuple(panels),
        notes=(f"Attacks: {'; '.join(_search_words(search) for search in searches)}",),
        intervals=f"{_MEANING} {FEW}",
    )


def _panels(rows: pd.DataFrame) -> Iterator[Panel]:
    drawn = list(_balls(rows))
    choices = [*_IMAGES, *_SEARCH]
    several = any(len(ball.rows[choices].drop_duplicates()) > 1 for ball in drawn)
    varying = [name for name in _OF_EVALUATION if any(ball.rows[name].nunique() > 1 for ball in drawn)]
    for ball in drawn:
        points = _points(ball, several, varying)
        yield Panel(title=ball.title, quantity=ACCURACY, against=_EPSILON, points=points, by="source")


class _Ball(NamedTuple):
    """The attacks of one panel."""

    title: str
    rows: pd.DataFrame
    """The rows on clean images are the beginning of each curve."""
    unit: float
    """Factor from epsilon to the displayed radius."""


def _balls(rows: pd.DataFrame) -> Iterator[_Ball]:
    for _, shown in rows.groupby(list(NETWORKS), sort=True, dropna=False):  # sources: null in all keys but dataset
        bands = sorted({name for name in shown["constraint"] if name.startswith(_BAND)})
        for constraint, (ball, unit) in {**_BALLS, **{name: (_band_words(name), 1.0) for name in bands}}.items():
            attacked = shown[shown["constraint"] == constraint]
            if attacked.empty:
                continue
            clean = shown[shown["constraint"] == Constraint.NONE.value].drop(columns=list(_SEARCH))
            beginnings = attacked[["source", *_IMAGES, *_SEARCH]].drop_duplicates()
            curves = pd.concat([clean.merge(beginnings, on=["source", *_IMAGES]), attacked], ignore_index=True)
            ball_words = ball if unit == 1 else f"{ball} in {unit:.0f}ths"
            yield _Ball(f"{network_words(shown.iloc[0].to_dict(), rows)}: {ball_words}", curves, unit)


def _band_words(constraint: str) -> str:
    return f"L2, frequencies {constraint.removeprefix(_BAND)}"


def _points(ball: _Ball, several: bool, varying: Sequence[str]) -> pd.DataFrame:
    """Return the points of a panel.

    Args:
        several: whether any panel has several attacks, which all panels then name.
        varying: columns that distinguish attacks besides their search.
    """
    table = curve_means(ball.rows, ["source", *_IMAGES, *_SEARCH], "epsilon", "robust_accuracy")
    words = [
        ", ".join([_search_words(row), *(f"{name} {row[name]}" for name in varying)]) if several else ""
        for row in table.to_dict("records")
    ]
    points = table.assign(
        series=table["source"],
        arm=table["source"],
        variant=words,
        x=table["epsilon"] * ball.unit,
        whole=table["test_images"] == ALL,
    )
    return points[list(POINTS)]


def _search_words(row: Mapping[Any, Any]) -> str:
    start = "zero" if row["start"] == "zero" else "random"
    return (
        f"PGD({row['steps']}), {start} start, step size {row['step_scale']:g} epsilon / {row['steps']}, "
        f"restarts: {row['restarts']}, {row['test_images_used']:,} images"
    )


def _topics(attacks: pd.DataFrame) -> Iterator[Topic]:
    figure = attack_figure(attacks)
    if figure is not None:
        words = ("networks and ball", "source", "attack")
        columns = (*words, "epsilon", "accuracy", "low", "high", "trials")
        yield figure_topic(figure, "Table 1b of the paper", columns, words)


def _tables(attacks: pd.DataFrame, evaluations: pd.DataFrame) -> Iterator[Table]:
    table = table1a(evaluations, attacks)
    if table is not None:
        yield table


SECTION = KindExhibits(columns=COLUMNS, topics=_topics, tables=_tables)
