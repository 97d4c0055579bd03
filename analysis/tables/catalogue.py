"""Tables 5 and 6: the sources and the datasets that occur in the results."""

import json
from collections.abc import Mapping
from fractions import Fraction
from importlib import resources
from typing import Any

import pandas as pd

from analysis.tables.model import Table
from jobs.catalog.catalog import PACKAGED
from jobs.catalog.dataset_card import DatasetCard
from jobs.catalog.source_card import SourceCard
from jobs.specs.threat_model import Constraint

_UNKNOWN = "?"
_NONE: Mapping[str, Any] = {}


def table5(data: pd.DataFrame, own: Mapping[str, SourceCard] = _NONE) -> Table:
    """Return the source models of the results: how they were trained, and their accuracy on their training dataset.

    Args:
        own: the cards of studies, besides the packaged ones.
    """
    cards = {**PACKAGED.sources, **own}
    rows = [_source_row(name, cards.get(name)) for name in sorted(set(data["source"]))]
    return Table(
        name="table5",
        title="Source models",
        columns=("source", "architecture", "trained on", "constraint", "epsilon", "test accuracy on that dataset (%)"),
        rows=tuple(rows),
        numbers=frozenset({"epsilon", "test accuracy on that dataset (%)"}),
        notes=(f"{_UNKNOWN}: not in the catalogue of DeltaSweep.",) if any(_UNKNOWN in row for row in rows) else (),
    )


def table6(data: pd.DataFrame, own: Mapping[str, DatasetCard] = _NONE) -> Table:
    """Return the target datasets of the results.

    Args:
        own: as in ``table5``.
    """
    cards = {**PACKAGED.datasets, **own}
    return Table(
        name="table6",
        title="Target datasets",
        columns=("dataset", "training images", "test images", "labels", "color or grayscale"),
        rows=tuple(_dataset_row(name, cards.get(name)) for name in sorted(set(data["dataset"]))),
        numbers=frozenset({"training images", "test images", "labels"}),
    )


def _source_row(name: str, card: SourceCard | None) -> tuple[str, ...]:
    if card is None:
        return (name, *[_UNKNOWN] * 5)
    epsilon = "" if card.constraint is Constraint.NONE else radius(card)
    return (name, card.architecture, card.trained_on, card.constraint.value, epsilon, _accuracy(card))


def _dataset_row(name: str, card: DatasetCard | None) -> tuple[str, ...]:
    if card is None:
        return (name, *[_UNKNOWN] * 4)
    return (name, f"{card.train:,}", f"{card.test:,}", f"{card.labels:,}", "color" if card.colour else "grayscale")


def radius(card: SourceCard) -> str:
    """Format epsilon as in papers: L-infinity radii in 255ths."""
    if card.constraint is Constraint.LINF:
        return f"{Fraction(card.epsilon * 255).limit_denominator(10)}/255"
    return f"{card.epsilon:g}"


def _accuracy(card: SourceCard) -> str:
    """Format the accuracy (percent) on the test images of the training dataset; empty if it was not measured."""
    if card.expected and card.test_dataset == card.trained_on:
        return f"{card.expected.clean:.2f}"
    bundled = resources.files("jobs.models").joinpath("bundled", f"{card.name}.json")
    if not bundled.is_file():
        return ""
    return f"{_clean_accuracy(json.loads(bundled.read_text(encoding='utf-8'))):.2f}"


def _clean_accuracy(card: dict[str, object]) -> float:
    return float(str(card["clean_accuracy"]))
