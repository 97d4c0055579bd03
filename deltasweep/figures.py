"""Figures of a results root: its deltas, and those of the paper."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from analysis.figures.drawing.model import Figure as Data
from analysis.figures.drawing.render import Drawing, drawing
from analysis.figures.drawing.style import WIDTH_INCHES
from deltasweep.roots import Root, root_of
from deltasweep.tables import Table
from jobs.errors import Code, InvalidRequest
from jobs.paths import expanded
from jobs.system.given import whole
from jobs.system.printable import one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_FORMATS = ("png", "svg", "pdf")


class Figure:
    """A drawn figure, 5.5 inches wide, which notebooks show."""

    def __init__(self, data: Data) -> None:
        self._data = data

    @property
    def title(self) -> str:
        """The line above the figure."""
        return self._data.title

    @property
    def caption(self) -> str:
        """What the figure shows, and remarks on these results."""
        return self._data.words

    @property
    def table(self) -> Table:
        """All numbers of the figure, one row per point."""
        return Table(pa.Table.from_pandas(self._data.table(), preserve_index=False))

    @property
    def matplotlib(self) -> "Canvas":
        """The figure of matplotlib (``matplotlib.figure.Figure``), to change it."""
        return self._drawing.canvas

    def save(self, path: str | Path) -> Path:
        """Write the figure, in the format of the file's ending: .png, .svg or .pdf.

        Raises:
            InvalidRequest: if the ending is another one, or the file cannot be written.
        """
        file = expanded(path)
        form = file.suffix.removeprefix(".").lower()
        if form not in _FORMATS:
            raise InvalidRequest(
                Code.WRONG_PLACE,
                f"expected a file that ends in .png, .svg or .pdf; got {path}. Fix: change its name",
                file=path,
                key="path",
            )
        drawn = self._drawing.rendered(form)
        try:
            file.write_bytes(drawn)
        except OSError as error:
            raise InvalidRequest(
                Code.WRONG_PLACE,
                f"expected a file that can be written; {file}: {error.strerror}. Fix: choose another path",
                file=file,
                key="path",
            ) from error
        return file

    @cached_property
    def _drawing(self) -> Drawing:
        return drawing(self._data)

    def __repr__(self) -> str:
        return one_line(f"<Figure {self._data.name}: {self.title}>")

    def _repr_svg_(self) -> str:
        return self._drawing.rendered("svg").decode()

    def _repr_png_(self) -> "tuple[bytes, dict[str, int]]":
        return self._drawing.rendered("png"), {"width": round(96 * WIDTH_INCHES)}


def figure(
    results: Root = None,
    name: str | int = "deltas",
    *,
    baseline: str | None = None,
    study: str | None = None,
    source: str | Sequence[str] | None = None,
    dataset: str | Sequence[str] | None = None,
    blocks: int | Sequence[int] | None = None,
) -> Figure:
    """Return a figure of the results.

    ``deltas`` shows the deltas by number of training images, with a panel for each comparison and number of blocks:
    those of ``ds.deltas`` at the last epoch. The other names are the numbers of the paper's figures: 2, 3, 4, 5, 8, 10
    and 11.

    Args:
        results: a results root; by default ``$DELTASWEEP_RESULTS``.
        name: ``deltas``, or the number of a figure of the paper.
        baseline: a source, for ``deltas``; by default the baselines of the study's contrasts.
        study: only cells and contrasts of this study.
        source, dataset, blocks: only these; -1 means all blocks. ``source`` applies to ``deltas``.

    Raises:
        InvalidRequest: if the root does not exist, a name is unknown, or the results lack what the figure shows.
    """
    from analysis.evaluations.frames import COLUMNS, frame, where
    from analysis.evaluations.lengths import with_lengths
    from analysis.evaluations.reading import open_results, recipes_in_words
    from analysis.figures.deltas import deltas_figure
    from analysis.figures.paper import FIGURES, names_of
    from analysis.figures.paper import figure as paper_figure
    from analysis.figures.roles import known_from
    from analysis.paired.contrasts import comparisons, declared_in, lengths_in, of_compared, of_study
    from analysis.paired.names import sources_in
    from jobs.kind import GRID_KIND
    from jobs.results import read_trials, readable_launches, readable_studies

    name = str(whole(name))
    if name != "deltas" and name not in FIGURES:
        raise InvalidRequest(
            Code.UNKNOWN_NAME, f"expected one of the figures deltas, {', '.join(FIGURES)}; got {name!r}", key="name"
        )
    store = open_results(root_of(results))
    data = frame(read_trials(store, GRID_KIND, [*COLUMNS]))
    names = names_of(data, sources_in(store))
    if study is not None:
        data = of_study(data, store, study)
    data = where(data, dataset=dataset, blocks=blocks)
    if name in FIGURES:
        data = with_lengths(data, lengths_in(store))
        words = recipes_in_words(store, set(data["recipe"]))
        versions = [record for record in readable_studies(store) if study in (None, record.name)]
        known = known_from(versions, readable_launches(store))
        return Figure(replace(paper_figure(name, data, words, known), names=names))
    chosen = comparisons(data, baseline, declared_in(store, study))
    if source is not None:
        wanted = set(where(data, source=source)["source"])
        chosen = [comparison for comparison in chosen if comparison.source in wanted]
    data = with_lengths(of_compared(data, chosen) if chosen else data, lengths_in(store))
    words = recipes_in_words(store, set(data["recipe"]))
    return Figure(replace(deltas_figure(data, chosen, words), names=names))
