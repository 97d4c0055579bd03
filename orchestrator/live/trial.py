"""The page of one trial: its spec, curve, provenance and failures."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from markupsafe import Markup

from jobs.kind import kinds, plain
from jobs.provenance import UNKNOWN, history_of, parts_of
from jobs.results import Failure, Role
from jobs.results.progress import Progress
from jobs.results.schema import columns, numbering
from jobs.specs.trial import TrialSpec
from jobs.system.printable import one_line
from orchestrator.live.charts import trial_chart
from orchestrator.live.contents import Contents
from orchestrator.live.failures import text_of, words_of
from orchestrator.live.objects import Reading
from orchestrator.live.studies import States
from orchestrator.live.watch import Watch
from orchestrator.planning.trial_logs import done_attempt, running_attempt

_CURVES = ("test_accuracy", "train_accuracy")
_MOST_ROWS, _MOST_TEXT, _MOST_ATTEMPTS = 200, 300, 20
_TABLE = (int, float, str, bool, type(None))


class Fact(NamedTuple):
    """A line of a list of facts."""

    name: str
    value: str
    unit: str = ""


class TrialView(NamedTuple):
    """The values of the template of a trial."""

    trial_id: str
    state: str
    kind: str
    why_no_rows: str
    """Why its result cannot be shown; empty if it can, or if there is none."""
    spec: list[Fact]
    recipe: list[Fact]
    facts_of_result: list[Fact]
    provenance: list[Fact]
    device_kinds: list[str]
    mixed: bool
    progress: Progress | None
    epochs: int | None
    columns: list[str]
    rows: list[list[str]]
    """Of its result, or of its checkpoint while it runs; text."""
    more_rows: int
    chart: Markup | None
    printed: str
    """By the running attempt, or the one that finished, as far as it is in the root."""
    attempts: list[tuple[Failure, str, str]]
    """Failed attempts, the latest first: each with its error on one line, and what it printed with its log."""


def trial_view(watch: Watch, contents: Contents, asked: Mapping[str, str], read: Reading) -> Mapping[str, object]:
    """Return the values of a trial's page.

    Raises:
        LookupError: if nothing in the root mentions the trial.
    """
    trial = asked["trial"]
    spec, state = States(contents, watch.plan).planned(trial)
    kind = contents.results.get(trial) or (spec.kind if spec else "")
    failed = [failure for failure in reversed(contents.failures) if failure.trial_id == trial]
    if not (kind or failed or trial in contents.damaged):
        raise LookupError("no study of this results root plans this trial, and nothing in the root mentions it")
    rows: list[dict[str, Any]] = []
    why = contents.damaged.get(trial, "")
    if trial in contents.results:
        found = read.result(kind, trial)
        rows, why = ([], found) if isinstance(found, str) else (found.to_pylist(), "")
    progress = contents.running.get(trial)
    shown = rows or list(progress.evaluations if progress else ())
    names = _varying(kind, shown)
    first = rows[0] if rows else {}
    history = history_of(first.get("device_kind"), first.get("packages"))
    view = TrialView(
        trial,
        state or ("done" if trial in contents.results else "damaged" if why else "not planned"),
        kind,
        why,
        _spec(spec, first, kind),
        _recipe(spec, first),
        _facts(kind, first, names),
        _provenance(history.packages if rows else (), first),
        list(history.device_kinds) if rows else list(progress.device_kinds if progress else ()),
        bool(rows) and history.mixed,
        progress,
        getattr(spec, "epochs", None),
        names,
        [[_text(row.get(name)) for name in names] for row in shown[:_MOST_ROWS]],
        max(len(shown) - _MOST_ROWS, 0),
        _chart(trial, shown, not rows),
        _printed(trial, kind, rows, contents, read),
        [(failure, words_of(failure), text_of(failure, read)) for failure in failed[:_MOST_ATTEMPTS]],
    )
    return view._asdict()


def _printed(trial: str, kind: str, rows: list[dict[str, Any]], contents: Contents, read: Reading) -> str:
    """Return what the attempt that finished printed, or, with its position, one that is running."""
    if rows:
        return done_attempt(trial, kind, rows, lambda key: read.text(key, rows[-1].get("finished_at") or "")).output
    launch = next((one for one in contents.live if trial in one.in_flight), None)
    if launch is None or trial in contents.results:
        return ""
    attempt = 1 + max((one.attempt for one in contents.failures if one.trial_id == trial), default=0)
    progress = contents.running.get(trial)
    position = None if progress is None else (progress.epoch, progress.batch)
    return running_attempt(trial, attempt, launch, position, read.text).body


def _varying(kind: str, rows: list[dict[str, Any]]) -> list[str]:
    """Return the columns of the table of rows: the row number, and what differs between rows."""
    if not rows:
        return []
    number = numbering(kind) if kind in kinds() else "epoch"
    names = [name for name, value in rows[0].items() if isinstance(value, _TABLE) and name != number]
    differ = [name for name in names if len({repr(row.get(name)) for row in rows}) > 1 or name in _CURVES]
    return [number, *differ]


def _spec(spec: TrialSpec | None, row: Mapping[str, Any], kind: str) -> list[Fact]:
    if spec is not None:
        values = plain(spec)
        return [Fact(name, _text(value)) for name, value in values.items() if name not in ("recipe", "kind")]
    identity = [column for column in columns(kind) if column.role is Role.IDENTITY] if kind in kinds() and row else []
    left_out = ("trial_id", "recipe", "recipe_json", numbering(kind) if identity else "")
    return [
        Fact(column.name, _text(row.get(column.name)), column.unit)
        for column in identity
        if column.name not in left_out
    ]


def _recipe(spec: TrialSpec | None, row: Mapping[str, Any]) -> list[Fact]:
    try:
        values = spec.recipe.model_dump(mode="json") if spec is not None else json.loads(row.get("recipe_json") or "{}")
    except (ValueError, RecursionError):
        return []
    return [Fact(str(name), _text(value)) for name, value in values.items()] if isinstance(values, dict) else []


def _facts(kind: str, row: Mapping[str, Any], varying: Iterable[str]) -> list[Fact]:
    """Return the numbers that all rows of a result share."""
    if not row:
        return []
    numbers = [column for column in columns(kind) if column.role is Role.NUMBER and column.name not in varying]
    return [Fact(one.name, _text(row.get(one.name)), one.unit) for one in numbers if row.get(one.name) is not None]


def _provenance(packages: Iterable[str], row: Mapping[str, Any]) -> list[Fact]:
    if not row:
        return []
    names = ("host", "attempt", "launch", "finished_at", "code_version", "origin", "numerics")
    found = [Fact(name, _text(row.get(name))) for name in names if row.get(name) not in (None, "")]
    return found + [Fact("packages", _packages(part)) for text in packages for part in parts_of(text)]


def _packages(text: str) -> str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _text(text)
    return (
        ", ".join(f"{name} {_text(version)}" for name, version in found.items()) if isinstance(found, dict) else UNKNOWN
    )


def _chart(trial: str, rows: list[dict[str, Any]], running: bool) -> Markup | None:
    lines = {}
    for name in _CURVES:
        points = [
            (row["epoch"], float(row[name]))
            for row in rows
            if isinstance(row.get("epoch"), int) and isinstance(row.get(name), int | float) and 0 <= row[name] <= 100
        ]
        if points:
            lines[name.replace("_", " ")] = points
    return (
        trial_chart(lines, f"Accuracy of {trial} by epoch; the table below has the numbers.", running)
        if lines
        else None
    )


def _text(value: object) -> str:
    """Format a value of a stranger's file: short, on one line."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e-3 or abs(value) >= 1e5 else f"{value:.4f}".rstrip("0").rstrip(".")
    text = json.dumps(value) if isinstance(value, dict | list | bool) else str(value)
    return one_line(text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}...")
