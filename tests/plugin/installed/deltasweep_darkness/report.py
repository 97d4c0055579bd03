"""The section of the report: accuracy by brightness, for every source's networks."""

from collections.abc import Iterator

import pandas as pd

from analysis.figures.drawing.axis import Axis, percent
from analysis.figures.drawing.model import BARS, FEW_APART, POINTS, Figure, Panel
from analysis.figures.exhibits import KindExhibits, Topic, figure_topic
from analysis.figures.networks import NETWORKS, network_words
from analysis.statistics.grouped import curve_means

COLUMNS = ("source", "finetuned", *NETWORKS, "test_images", "level", "brightness", "accuracy")
ACCURACY = percent("accuracy", "accuracy in the dark")
BRIGHTNESS = Axis(column="brightness", label="brightness", unit="share")


def darkness_figure(rows: pd.DataFrame) -> Figure:
    """Return the figure, with a panel for each kind of network and a series for each source.

    Args:
        rows: Rows of the kind ``darkness``, with ``COLUMNS``.
    """
    kinds = rows.groupby([*NETWORKS, "test_images"], sort=True, dropna=False)
    return Figure(
        name="darkness",
        title="Accuracy on dark images",
        caption="Test images are multiplied by a number; 1: they are as they are.",
        panels=tuple(_panel(shown, rows) for _, shown in kinds),
        shades=BARS,
        intervals=FEW_APART,
    )


def _panel(shown: pd.DataFrame, rows: pd.DataFrame) -> Panel:
    steps = sorted(set(shown["brightness"]), reverse=True)
    places = shown.assign(x=[steps.index(bright) for bright in shown["brightness"]])
    points = curve_means(places, ["source"], "x", "accuracy")
    points = points.assign(series=points["source"], arm=points["source"], variant="", whole=False)
    return Panel(
        title=network_words(shown.iloc[0].to_dict(), rows),
        quantity=ACCURACY,
        against=BRIGHTNESS,
        by="source",
        points=points[list(POINTS)],
        ticks=tuple(f"{bright:.2g}" for bright in steps),
    )


def _topics(rows: pd.DataFrame) -> Iterator[Topic]:
    words = ("networks", "source", "variant", "brightness")
    columns = (*words, "accuracy", "low", "high", "trials")
    yield figure_topic(darkness_figure(rows), "", columns, words)


SECTION = KindExhibits(columns=COLUMNS, topics=_topics)
