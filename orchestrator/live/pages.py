"""The pages of the live page and their parts. A part is a section that is replaced as a whole when it changes."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

from jinja2 import Environment
from markupsafe import Markup, escape
from starlette.exceptions import HTTPException

from analysis.statistics.paired_t import FEW_VALUES
from analysis.web.templates import environment as templates_in
from analysis.words import depth_text, size_text
from jobs.provenance import code_version
from jobs.system.printable import one_line, printable
from orchestrator.live import svg
from orchestrator.live.charts import interval_words, points
from orchestrator.live.contents import Contents
from orchestrator.live.failures import failures_of, log_of
from orchestrator.live.heatmap import Row
from orchestrator.live.objects import Reading
from orchestrator.live.once import Once
from orchestrator.live.overview import Cell as Shown
from orchestrator.live.overview import Overview, cell_key, overview
from orchestrator.live.studies import States
from orchestrator.live.trial import trial_view
from orchestrator.live.watch import Moment, Watch
from orchestrator.process.numbers_as_text import duration

_TEMPLATES = Path(__file__).parent / "templates"
_KEPT = 64
"""Views whose parts are kept for other viewers."""

Asked = Mapping[str, str]
"""What the address asks for, by name: its path's parameters and its query."""


class Part(NamedTuple):
    html: str
    digest: str


class Page(NamedTuple):
    """A page: its address, the names of its parts, and what their templates show."""

    name: str
    path: str
    about: str
    asks: Mapping[str, str]
    """What its address may ask for, with a description of each."""
    parts: tuple[str, ...]
    view: Callable[[Watch, Contents, Asked, Reading], Mapping[str, object]]
    """Raises ``LookupError``, with words for the reader, if there is no such thing."""


def _overview(watch: Watch, contents: Contents, asked: Asked, _: Reading) -> Mapping[str, object]:
    view: Overview = overview(watch, contents, asked)
    own = view.standing
    state_of = States(contents, watch.plan).name if own is None else own.state_of
    return {**view._asdict(), "failures": failures_of(contents, state_of, known=own is not None)}


def _failures(watch: Watch, contents: Contents, asked: Asked, read: Reading) -> Mapping[str, object]:
    state_of = States(contents, watch.plan).name
    log = log_of(contents, state_of, asked.get("log", ""), read)
    return {"failures": failures_of(contents, state_of)._replace(log=log)}


PAGES = (
    Page(
        "overview",
        "/",
        "a study: what runs, its cells, machines, deltas and curves, and the latest failures",
        {
            "study": "name of the study; by default the one launched last",
            "cell": "cell whose curves are shown, as `DATASET.IMAGES.BLOCKS`",
            "blocks": "fine-tuned blocks of the deltas; by default those of the first contrast",
            "recipe": "digest of one of the grid's recipes; by default the first",
        },
        ("troubles", "now", "map", "machines", "deltas", "curves", "lately"),
        _overview,
    ),
    Page(
        "failures",
        "/failures",
        "the failed attempts of the root, and a log",
        {"log": "failure whose log is shown, as `TRIAL/ATTEMPT`; by default the latest, whichever that is"},
        ("list", "log"),
        _failures,
    ),
    Page(
        "trial",
        "/trial/{trial}",
        "a trial: its state, curve, spec, recipe, provenance and failed attempts",
        {},
        ("trial",),
        trial_view,
    ),
)
"""All pages. `/events` before a page's path is the stream of its updates."""


class _Rendered(NamedTuple):
    parts: dict[str, Part]
    only: int | None
    """The number of the only look for which they are right; None: they are as long as the stamp is the same."""


class Pages:
    """Renders pages; parts of one view are rendered once for all its viewers. May be used by several threads."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._kept: Once[_Rendered] = Once(_KEPT)

    def whole(self, page: Page, parameters: Mapping[str, str], asked: Asked) -> str:
        """Return a whole page, with its parts as they are now.

        Raises:
            HTTPException: if there is no such page.
        """
        parts = self.parts(page, parameters, asked)
        moment = self._watch.moment
        events = f"/events{quote(page.path.format(**parameters).rstrip('/'))}?{urlencode(dict(asked))}"
        return _filled(
            "page.html",
            page=page.name,
            parts={name: (Markup(part.html), part.digest) for name, part in parts.items()},
            events=events,
            uri=self._watch.store.uri,
            at=moment.contents.at if moment.contents else None,
            trouble=moment.trouble,
            version=code_version(),
        )

    def parts(self, page: Page, parameters: Mapping[str, str], asked: Asked) -> dict[str, Part]:
        """Return the parts of a page by name, as they are now.

        Raises:
            HTTPException: if there is no such page.
        """
        moment = self._watch.moment
        if moment.contents is None:
            raise HTTPException(503, moment.trouble or "the results root has not been read yet")
        every = {**asked, **parameters}
        key = moment.stamp, page.name, tuple(sorted(every.items()))
        render = partial(self._rendered, page, moment, moment.contents, every)
        found = self._kept.get(key, render)
        if found.only is not None and found.only < moment.number:
            self._kept.forget(key, found)
            found = self._kept.get(key, render)
        return found.parts

    def _rendered(self, page: Page, moment: Moment, contents: Contents, asked: Asked) -> _Rendered:
        read = Reading(self._watch.objects, contents, moment.number)
        try:
            values = page.view(self._watch, contents, asked, read)
        except LookupError as error:
            raise HTTPException(404, str(error.args[0])) from error
        texts = {name: _filled(f"{page.name}_{name}.html", **values) for name in page.parts}
        parts = {name: Part(text, hashlib.sha256(text.encode()).hexdigest()[:12]) for name, text in texts.items()}
        return _Rendered(parts, moment.number if read.passing else None)

    def error(self, words: str) -> str:
        """Return a page that says why there is nothing to see."""
        return _filled("error.html", words=words, uri=self._watch.store.uri, version=code_version())


def _filled(template: str, **values: object) -> str:
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """Return the templates, with their filters."""
    templates = templates_in(_TEMPLATES)
    templates.filters |= {
        "duration": duration,
        "line": lambda text: one_line(str(text)),
        "printable": lambda text: printable(str(text)),
        "images": size_text,
        "blocks": depth_text,
        "points": points,
        "interval": interval_words,
        "at": _time,
        "trial_link": lambda trial: f"/trial/{quote(trial, safe='')}",
        "query": _query,
        "share": lambda part, whole: f"{100 * part / whole:.1f} %" if whole else "",
    }
    templates.globals |= {"key": svg.key, "bar": bar, "map_cells": map_cells, "few_values": FEW_VALUES}
    return templates


def _time(text: str | None) -> Markup:
    """Return a time element; the script shows it in the viewer's own time zone."""
    known = one_line(text or "")
    return Markup('<time datetime="{}">{}</time>').format(known, known[:16].replace("T", " "))


def _query(asked: Asked, **changes: object) -> str:
    """Return the query of an address with some values changed; None removes one."""
    values = {**asked, **changes}
    return "?" + urlencode({name: value for name, value in values.items() if value not in (None, "")})


def bar(counts: Iterable[tuple[str, int]], label: str) -> Markup:
    """Return a bar of adjacent parts, each as wide as its count.

    Args:
        counts: class and count of each part.
    """
    pairs = [*counts]
    total = sum(count for _, count in pairs) or 1
    parts, at = [], 0.0
    for classes, count in pairs:
        width = 1000 * count / total
        if count:
            width = max(width, 2.0)
            parts.append(
                Markup('<rect class="{}" x="{:.2f}" width="{:.2f}" height="10"/>').format(
                    classes, min(at, 998.0), width
                )
            )
        at += width
    return Markup(
        '<svg class="bar" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(label, Markup("").join(parts))


def map_cells(row: Row, asked: Asked, here: Shown | None) -> Markup:
    """Return the cells of a row of the heat map. A template would take 20 ms longer for a thousand of them.

    Args:
        here: the cell whose curves are shown.
    """
    address = str(escape(_query(asked, cell="CELL")))
    parts = []
    for cell in row.cells:
        if cell is None:
            parts.append("<td></td>")
            continue
        _, blocks, dataset, images = cell.place
        key = cell_key(dataset, images, blocks)
        classes = f"l{cell.level}{' r' if cell.running else ''}{' f' if cell.failed else ''}"
        classes += " here" if here is not None and here.key == key else ""
        more = f"<b> {cell.running} running</b>" if cell.running else ""
        more += f"<b> {cell.failed} failed</b>" if cell.failed else ""
        link = address.replace("CELL", quote(key, safe=""))
        text = f"<span>{cell.done}/{cell.planned}</span>{more}"
        parts.append(f'<td class="{classes}"><a href="{link}#curves-title">{text}</a></td>')
    return Markup("".join(parts))
