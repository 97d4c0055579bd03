"""The page's sections, each from data that is already computed."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from analysis.figures.confound import Confound
from analysis.figures.examples import Examples
from analysis.figures.features import Features
from analysis.figures.matrices import Matrices
from analysis.figures.model import Figure
from analysis.page import html, words
from analysis.page.progress import Progress
from analysis.page.provenance import COLUMNS, provenance
from analysis.tables.model import Table
from analysis.words import counted

_CHARTS = {
    "delta-images": "Delta against images",
    "accuracy-images": "Test accuracy against images (baseline dashed)",
    "delta-epoch": "Delta against epoch: learning speed",
    "accuracy-epoch": "Test accuracy against epoch (baseline dashed)",
}

_BANDS = (
    "The lighter shade holds for all sizes of a curve at once (Bonferroni); it is drawn in the charts against images."
)


def nothing_yet(uri: str, failures: int, others: int) -> str:
    """What the page of a root without fine-tuning says; ``others`` counts finished trials of other kinds."""
    what = "No fine-tuning trial" if others else "No trial"
    made = f" {counted(others, 'trial')} of other kinds: `deltasweep query` has a view of each." if others else ""
    failed = f" {counted(failures, 'failed attempt')}: see below." if failures else ""
    said = html.escape(made + failed)
    return f"""<div class="kind"><p><strong>{what} has finished here yet.</strong>{said}</p>
<p>As soon as one has, this page shows accuracy and delta curves, the figures and tables of the paper, and where every
number comes from.</p>
<p>To run trials: <code>deltasweep launch STUDY --results {html.escape(uri)}</code>. To go on with a launch that
stopped: <code>deltasweep resume --results {html.escape(uri)}</code>.</p></div>"""


def headlines(cells: pd.DataFrame, blocks: int) -> str:
    """Headline deltas in words, then as a table."""
    shown = words.headline_cells(cells, blocks)
    said = "".join(_headline(one) for one in words.headlines(shown))
    rows = words.headline_rows(shown)
    numbers = frozenset(words.HEADLINE_COLUMNS) - {"source", "baseline", "dataset", "Holm over", "trials"}
    caption = "Headline deltas of test accuracy in percentage points"
    return "".join(
        [
            html.paragraph("Difference in test accuracy, paired by seed; in brackets what was fine-tuned, and when."),
            f"<ul>{said}</ul>",
            html.paragraph(" ".join(filter(None, [words.unpaired(cells), words.COVERS]))),
            html.details(
                "All headline deltas", html.table("headline-deltas", caption, words.HEADLINE_COLUMNS, rows, numbers)
            ),
        ]
    )


def _headline(one: words.Headline) -> str:
    parts = "".join(f"<li>{html.escape(part)}</li>" for part in one.parts)
    what = f"<strong>{html.escape(one.what)}</strong> ({html.escape(one.where)})"
    return f"<li>{what}: {html.escape(one.verdict)}.<ul>{parts}</ul></li>"


def what_was_run(trials: pa.Table, studies: Sequence[Progress]) -> str:
    """Studies with their progress, and the trials that are there."""
    parts = [_study(one) for one in studies]
    own = sum(origin != "imported" for origin in trials["origin"].to_pylist())
    counts = [("finished trial{} of our own", own), ("imported trial{}", trials.num_rows - own)]
    said = ", ".join(f"{count:,} {name.format('' if count == 1 else 's')}" for name, count in counts if count)
    seconds = sum(value or 0 for value in trials["seconds"].to_pylist())
    time = (
        f", {seconds / 3600:,.1f} hours of trial time" if seconds >= 360 else f", {seconds:,.0f} seconds of trial time"
    )
    names = ("source", "dataset", "blocks", "images")
    grid = "; ".join(f"{name}: {_values(trials[name].to_pylist())}" for name in names)
    return "".join([*parts, html.paragraph(f"In the results: {said}{time if seconds else ''}. {grid}.")])


def _study(one: Progress) -> str:
    share = one.done / one.planned if one.planned else 0
    contrasts = f" Contrasts declared beforehand: {'; '.join(one.contrasts)}." if one.contrasts else ""
    label = f"{one.done:,} of {one.planned:,} trials finished ({share:.0%})"
    bar = f'<span style="width:{share:.1%}"></span>'
    return (
        f"<h3>Study {html.escape(one.study)}</h3>"
        + (html.paragraph(one.description.strip()) if one.description else "")
        + f'<div class="meter" role="img" aria-label="{html.escape(label)}">{bar}</div>'
        + html.paragraph(f"{label}.{contrasts} Version {one.digest}.")
    )


def _values(values: list[Any]) -> str:
    return ", ".join(
        "all" if value == -1 else f"{value:,}" if isinstance(value, int) else value
        for value in sorted(set(values), key=lambda value: (value == -1, value))
    )


def curves(choices: str, any_deltas: bool) -> str:
    """The controls, the four charts and their numbers."""
    note = (
        ""
        if any_deltas
        else html.paragraph("There is no pair of sources to compare yet: only accuracies can be shown.")
    )
    charts = "".join(
        f'<div class="chart"><h3>{html.escape(title)}</h3><div class="plot" id="plot-{name}"></div>'
        + html.details("Numbers of this chart", html.shell(name, title, attributes=f' data-table="{name}"'))
        + "</div>"
        for name, title in _CHARTS.items()
    )
    return (
        f'{note}<form id="choices" class="choices" onsubmit="return false">{choices}</form>'
        f'<p id="said" class="said" role="status"></p><div class="charts">{charts}</div>'
        + html.paragraph(f"{words.COVERS} {_BANDS}")
    )


def figures(drawn: Sequence[Figure], missing: Sequence[str]) -> str:
    """Places for the paper's figures and their numbers, and why others are not there."""
    said = "".join(html.paragraph(words) for words in dict.fromkeys(figure.intervals for figure in drawn))
    shown = said + "".join(_figure(figure) for figure in drawn)
    absent = "".join(f"<li>{html.escape(reason)}</li>" for reason in missing)
    return shown + (f"<h3>Figures these results cannot show</h3><ul>{absent}</ul>" if absent else "")


ATTACKED = ("networks and ball", "source", "attack", "epsilon", "accuracy", "low", "high", "trials")
DECIDED = ("networks", "source", "variant", "category", "shape bias", "low", "high", "trials")
WEIGHED = ("networks and measure", "source", "variant", "k", "of the same label", "low", "high", "trials")


def why(figure: Figure, svg: str, part: str, columns: Sequence[str]) -> str:
    """A figure of what networks were asked as an image of its own, and its numbers.

    Args:
        part: of the paper, or of another, that it is like.
        columns: names for panel, series, variant, x, mean, low, high and n.
    """
    numbers = figure.table()[["panel", "series", "variant", "x", "mean", "low", "high", "n"]]
    rows = [tuple(_short(value) for value in row) for row in numbers.itertuples(index=False)]
    image = _image(figure.title, "image/svg+xml", html.shortened(svg).encode())
    return (
        f"<figure><h3>As {html.escape(part)}: {html.escape(figure.title)}</h3>{image}"
        f"<figcaption>{html.paragraph(f'{figure.words} {figure.intervals}')}</figcaption>"
        + html.details(
            "Numbers of this figure",
            html.table(figure.name, figure.title, columns, rows, frozenset(columns[3:]) - {"category"}),
        )
        + "</figure>"
    )


def confound(one: Confound, svg: str) -> str:
    """Deltas by normalisation and BatchNorm mode, as a figure and with their changes as a table."""
    return beside(one.figure, one.table, svg)


def beside(figure: Figure, table: Table, svg: str) -> str:
    """A figure as an image of its own, and the table that belongs to it."""
    title = figure.title
    image = _image(title, "image/svg+xml", html.shortened(svg).encode())
    caption = f"<figcaption>{html.paragraph(f'{figure.words} {figure.intervals}')}</figcaption>"
    return f"<figure><h3>{html.escape(title)}</h3>{image}{caption}</figure>{paper_table(table)}"


def examples(one: Examples) -> str:
    """What stands first for some test images, as pictures where they are at hand, and as indices."""
    said = (
        "The first test image of each label, and under it the training image that stands first for it by each source's "
        "network of the lowest seed; above each image stands its label. Examples: the curves count all test images."
        + ("" if one.png else " The images are not on this machine as they were shown; the table has their indices.")
    )
    columns = ("source", "test image", "its label", "predicted", "training image", "its label in training", "value")
    return _pictured("Figure 6", one, said, columns)


def matrices(one: Matrices) -> str:
    """All training against all test images as pictures, and how far images of one label stand out as numbers."""
    said = (
        "Every training image (across) on every test image (down), both sorted by label: means over groups of images "
        "of one label, divided by the root mean square of the whole matrix, its norm up to a factor. What helps, or is "
        "alike, is blue. The pictures are of the networks of the lowest seed. The table has all networks: the mean "
        "over cells of one label, over all others, and their difference, with 95 % t intervals from five networks on."
    )
    columns = ("source", "one label", "other labels", "difference", "low", "high", "networks")
    return _pictured("Figure 7a", one, said, columns)


def features(one: Features) -> str:
    """Pictures of what raises features, and how far each rose."""
    said = (
        "Each picture was a seed image, the one of its column, and was moved to raise one feature of the network's "
        f"penultimate layer: {one.way}. Pictures of one row have one unit; units of two sources have nothing to do "
        "with each other. What people see in them is not measured."
        + ("" if one.seeds else " The seed images are not on this machine as they were shown.")
    )
    columns = ("source", "unit", "seed image", "activation before", "after", "distance (L2)")
    return _pictured("Figure 1b", one, said, columns)


def _pictured(part: str, one: Examples | Matrices | Features, said: str, columns: Sequence[str]) -> str:
    """Pictures like a part of the paper, if they could be drawn, with what is to be said of them and their numbers."""
    image = "" if one.png is None else _image(one.title, "image/png", one.png)
    rows = [tuple(_short(value) for value in row) for row in one.numbers.itertuples(index=False)]
    return (
        f"<figure><h3>As {part} of the paper: {html.escape(one.title)}</h3>{image}"
        f"<figcaption>{html.paragraph(said)}</figcaption>"
        + html.details("Numbers of this figure", html.table(one.name, one.title, columns, rows, frozenset(columns[1:])))
        + "</figure>"
    )


def _image(title: str, media: str, data: bytes) -> str:
    """A picture that brings its own bytes, and scrolls where it is wider than the page."""
    words, source = html.escape(title), base64.b64encode(data).decode()
    image = f'<img alt="{words}" src="data:{media};base64,{source}">'
    return f'<div class="wide" tabindex="0" role="region" aria-label="{words}">{image}</div>'


def figure_data(figure: Figure, svg: str) -> dict[str, Any]:
    """A figure's picture and numbers, for the page's script."""
    numbers = figure.table()
    rows = [[_short(value) for value in row] for row in numbers.itertuples(index=False)]
    return {"svg": html.shortened(svg), "columns": list(numbers.columns), "rows": rows}


def _figure(figure: Figure) -> str:
    number = figure.name.removeprefix("figure")
    inner = html.shell(f"{figure.name}-numbers", f"Numbers of figure {number}")
    return (
        f"<figure><h3>As Figure {number} of the paper: {html.escape(figure.title)}</h3>"
        f"{html.picture(figure.name, f'Figure {number}: {figure.title}')}"
        f"<figcaption>{html.paragraph(figure.words)}</figcaption>"
        + html.details(f"Numbers of figure {number}", inner, f' data-figure="{html.escape(figure.name)}"')
        + "</figure>"
    )


def _short(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4f}"
    return str(value)


def paper_table(table: Table) -> str:
    note = html.paragraph(" ".join(table.notes)) if table.notes else ""
    return (
        f"<h3>{html.escape(table.title)}</h3>"
        + html.table(table.name, table.title, table.columns, table.rows, table.numbers, table.best)
        + note
    )


def failures(found: pa.Table) -> str:
    """Failed attempts, newest last; or that there is none."""
    if found.num_rows == 0:
        return html.paragraph("No failed attempt is recorded.")
    columns = [
        name
        for name in ("trial_id", "attempt", "kind", "error", "reason", "host", "failed_at")
        if name in found.column_names
    ]
    rows = [tuple(str(row[name] or "") for name in columns) for row in found.to_pylist()]
    trials = len(set(found["trial_id"].to_pylist()))
    many = f"{counted(found.num_rows, 'failed attempt')} at {counted(trials, 'trial')}."
    said = html.paragraph(f"{many} `deltasweep logs TRIAL` shows a log.")
    return said + html.table("failures", "Failed attempts", columns, rows, frozenset({"attempt"}))


def where_from(trials: pa.Table | None, examined: Mapping[str, pa.Table], mixed: int) -> str:
    """The table of provenance.

    Args:
        mixed: trials that ran on several kinds of device.
    """
    rows = provenance(trials, examined)
    several = (
        f"{counted(mixed, 'trial')} ran on several kinds of device, or by several versions of torch, which the "
        "column device_kind of their results names in order: the same trial on one of them may have other numbers."
    )
    return (html.paragraph(several) if mixed else "") + html.table(
        "provenance", "Where the numbers come from", COLUMNS, rows, frozenset({"trials"})
    )
