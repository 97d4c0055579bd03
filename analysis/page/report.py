"""Writing the report of a results root."""

import html
from pathlib import Path

import pandas as pd

from analysis.delta_table import deltas
from analysis.delta_text import deltas_text
from analysis.evaluations import open_results
from analysis.figures.paper import FIGURES, figure
from analysis.figures.render import save
from analysis.frames import frame
from jobs.errors import InvalidRequest
from jobs.results import LocalStore, Store, read_trials


def report(root: str | Path, out: str | Path | None = None, compare_paper: bool = False) -> Path:
    """Write ``index.html`` and the figures (PNG, SVG, PDF) of a results root.

    Args:
        out: a directory; None: ``report`` in the root, when that is a local directory.

    Returns:
        The path of ``index.html``.

    Raises:
        InvalidRequest: when there is no such root, or no ``out`` for a root in an object store.
    """
    store = open_results(root)
    directory = _directory(store, out)
    directory.mkdir(parents=True, exist_ok=True)
    data = frame(read_trials(store, "finetune"))
    drawn = _draw(data, directory)
    body = [f"<h1>DeltaSweep: {html.escape(store.uri)}</h1>"]
    if data.empty:
        body.append("<p>No trial has finished yet.</p>")
    else:
        body.append(f"<pre>{html.escape(deltas_text(deltas(root)))}</pre>")
    body += [f"<figure>{(directory / f'{name}.svg').read_text(encoding='utf-8')}</figure>" for name in drawn]
    page = directory / "index.html"
    page.write_text(f"<!doctype html><meta charset='utf-8'><title>DeltaSweep</title>{''.join(body)}", encoding="utf-8")
    return page


def _directory(store: Store, out: str | Path | None) -> Path:
    if out is not None:
        return Path(out).expanduser()
    if isinstance(store, LocalStore):
        return store.directory / "report"
    raise InvalidRequest(
        f"the report of a root in an object store needs a local directory; name one with --out ({store.uri})"
    )


def _draw(data: pd.DataFrame, directory: Path) -> list[str]:
    """Draw what the results allow; the names of the figures drawn."""
    drawn = []
    for name in FIGURES:
        try:
            made = figure(name, data)
        except InvalidRequest:
            continue
        save(made, directory)
        drawn.append(made.name)
    return drawn
