"""The contents of a report before drawing: its figures, pictures and tables by name."""

from typing import NamedTuple

import pandas as pd

from analysis.figures.drawing.model import Figure
from analysis.figures.exhibits import Exhibit
from analysis.page.report import contents
from analysis.page.results import read
from analysis.tables.model import Table
from jobs.results import Store


class Reported(NamedTuple):
    """Contents by name."""

    data: pd.DataFrame
    figures: dict[str, Figure]
    pictures: dict[str, Exhibit]
    tables: dict[str, Table]


def reported(store: Store) -> Reported:
    """Return everything that the report of a root shows."""
    results = read(store)
    shown = contents(results)
    return Reported(
        results.data,
        {figure.name: figure for content in shown for figure in content.figures},
        {picture.name: picture for content in shown for picture in content.pictures},
        {table.name: table for content in shown for table in content.tables},
    )
