"""Writing the report of a results root: figures, tables and one self-contained page."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.evaluations.reading import open_results
from analysis.figures.drawing.model import Figure
from analysis.figures.drawing.render import drawing
from analysis.output.formats import spreadsheet
from analysis.page.directory import report_directory, written_into
from analysis.page.render import Head, render
from analysis.page.results import Results, read
from analysis.page.section import Content, Drawings, Section
from analysis.page.sections import (
    confound,
    curves,
    equivalences,
    failures,
    headlines,
    kinds,
    not_shown,
    nothing_yet,
    paper_figures,
    provenance,
    published,
    tables,
    what_was_run,
)
from analysis.tables.markup import save as save_table
from analysis.web.picture import pictures
from jobs.provenance import code_version

SECTIONS: tuple[Section, ...] = (
    nothing_yet.contents,
    headlines.contents,
    what_was_run.contents,
    not_shown.contents,
    equivalences.contents,
    curves.contents,
    paper_figures.contents,
    published.contents,
    confound.contents,
    kinds.contents,
    tables.contents,
    failures.contents,
    provenance.contents,
)
"""The sections in the order of the page. Each section decides from the results what it shows, which may be nothing."""

_PAGE = "index.html"


def report(root: str | Path, out: str | Path | None = None, compare_paper: bool = False) -> Path:
    """Write ``index.html``, and beside it the figures (PNG, SVG, PDF) and tables (CSV, Markdown, LaTeX) of a root.

    Args:
        out: a directory; None: ``report`` in the root or, for a root in an object store, ``NAME-report`` in the
            current directory, with the last part of the root's address as NAME.
        compare_paper: compare own means with Table 7 of the paper, and Figures 2 and 3 with the published trials if
            these are imported.

    Returns:
        The path of ``index.html``.

    Raises:
        InvalidRequest: when the root does not exist or ``out`` is not a writable directory; nothing is created.
        ResultsConflict: as ``deltas``; nothing is created.
        StorageFailure: when writing fails later.
        DamagedFile: for a file that is not a valid result.
    """
    store = open_results(root)
    directory = report_directory(store, out)
    with _in_one_go():
        results = read(store, compare_paper)
        shown = contents(results)
        drawings = draw(results, shown)
        text = render(head(results), shown, drawings)
        with written_into(directory) as folder:
            _write(folder, shown, drawings)
            (folder / _PAGE).write_text(text, encoding="utf-8")
    return directory / _PAGE


def contents(results: Results) -> list[Content]:
    """Compute everything that the page shows."""
    return [content for section in SECTIONS for content in section(results)]


def head(results: Results) -> Head:
    """Return what the head of the page says."""
    studies = list(dict.fromkeys(record.name for record in results.studies))
    return Head(results.store.uri, studies, len(results.finished), results.newest, code_version())


def draw(results: Results, shown: Sequence[Content]) -> Drawings:
    """Draw every figure, by name. A series has the same look in all figures."""
    return {figure.name: drawing(replace(figure, names=results.names)) for figure in _figures(shown)}


@contextmanager
def _in_one_go() -> Iterator[None]:
    """Disable garbage collection and use Python strings in pandas.

    A report keeps what it creates until its end, so garbage collection would find nothing, and pandas is faster with
    Python's strings than with Arrow's. Together they save a tenth of the CPU time, measured with 80 and
    with 14,400 trials.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with pd.option_context("mode.string_storage", "python"):
            yield
    finally:
        if collecting:
            gc.enable()


def _figures(shown: Sequence[Content]) -> Iterator[Figure]:
    return (figure for content in shown for figure in content.figures)


def _write(folder: Path, shown: Sequence[Content], drawings: Drawings) -> None:
    """Write the files beside the page."""
    for drawn in drawings.values():
        drawn.save(folder)
        _save_numbers(drawn.figure.table(), folder / f"{drawn.figure.name}.csv")
    for exhibit in (exhibit for content in shown for exhibit in content.pictures):
        _save_numbers(exhibit.numbers, folder / f"{exhibit.name}.csv")
        if exhibit.png is not None:
            (folder / f"{exhibit.name}.png").write_bytes(exhibit.png)
    for name, svg in (item for content in shown for item in content.drawings.items()):
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        for form, made in pictures(svg).items():
            (folder / f"{name}.{form}").write_bytes(made)
    for table in (table for content in shown for table in content.tables):
        save_table(table, folder)


def _save_numbers(numbers: pd.DataFrame, path: Path) -> None:
    known = numbers.astype(object).where(numbers.notna(), None)
    rows = known.itertuples(index=False, name=None)
    path.write_text(spreadsheet([*map(str, numbers.columns)], rows), encoding="utf-8")
