"""The trials of a study with their states: in a results root, or after a launch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deltasweep import html
from deltasweep.roots import Root, root_of
from deltasweep.tables import Table
from jobs.errors import Code, InvalidRequest
from jobs.results import schema
from orchestrator.planning.trial_states import STATES, TrialState

if TYPE_CHECKING:
    from jobs.specs.trial import TrialSpec
    from orchestrator.planning.status import Status as StatusOfRoot

_COLOURS: Mapping[TrialState, str] = {
    "done": "#2a7f3f",
    "running": "#2f6fb0",
    "failed": "#c0392b",
    "quarantined": "#8e2a20",
    "damaged": "#7d3c98",
    "pending": "#c8c8c8",
}


class Status:
    """The states of a study's trials in a results root. Each trial is in exactly one of them."""

    def __init__(self, now: "StatusOfRoot") -> None:
        self._now = now
        self._states = now.states()

    @property
    def study(self) -> str:
        """The study's name."""
        return self._now.study

    @property
    def planned(self) -> int:
        """The number of the study's trials."""
        return self._now.planned

    @property
    def done(self) -> int:
        """The number of trials with a result."""
        return self.count("done")

    @property
    def failed(self) -> int:
        """The number of failed and quarantined trials."""
        return self.count("failed") + self.count("quarantined")

    def count(self, state: TrialState) -> int:
        """Return the number of trials in a state: done, running, pending, failed, quarantined or damaged.

        Raises:
            InvalidRequest: for an unknown state.
        """
        return len(self.ids(state))

    def ids(self, state: TrialState) -> list[str]:
        """Return the ids of the trials in a state, in the order of the study.

        Raises:
            InvalidRequest: for an unknown state.
        """
        return in_state(self._states, state)

    @property
    def trials(self) -> Table:
        """One row per trial: id, state, why it failed, and what it is."""
        reasons = {trial: failure.signature for trial, failure in self._now.failed.items()} | {**self._now.damaged}
        return trials_table(self._now.specs.values(), self._states, reasons)

    @property
    def cells(self) -> Table:
        """The numbers of trials in each state, one row per cell: trials that differ in nothing but their seeds."""
        return Table(_columns(self._now.cells()))

    def to_dict(self) -> dict[str, object]:
        """Return the status as ``deltasweep status --json`` prints it."""
        return self._now.plain()

    def __repr__(self) -> str:
        from orchestrator.planning.status import describe

        return describe(self._now)

    def _repr_html_(self) -> str:
        return html.block(bar(self._states), *map(html.paragraph, repr(self).split("\n")))


def status(results: Root = None, study: str | None = None, *, accept_numerics: Sequence[str] = ()) -> Status:
    """Return the state of each trial of a study, as ``deltasweep status`` does.

    Args:
        results: a results root; by default ``$DELTASWEEP_RESULTS``.
        study: a study recorded in this root; by default the last one launched.
        accept_numerics: ``[KIND:]N``: count results of older numerics versions as done, from N on.

    Raises:
        InvalidRequest: if the root does not exist, has no study, or none of this name.
    """
    from jobs.results import open_existing
    from orchestrator.planning.older_numerics import accepted_numerics
    from orchestrator.planning.status import status_of
    from orchestrator.study.history import recorded_study

    accept = accepted_numerics(accept_numerics)
    store = open_existing(root_of(results))
    return Status(status_of(store, recorded_study(store, study), accept=accept))


def in_state(states: Mapping[str, TrialState], state: TrialState) -> list[str]:
    """Return the trials in a state.

    Raises:
        InvalidRequest: for an unknown state.
    """
    if state not in STATES:
        raise InvalidRequest(
            Code.UNKNOWN_NAME, f"expected one of the states {', '.join(STATES)}; got {state!r}", key="state"
        )
    return [trial for trial, one in states.items() if one == state]


def trials_table(
    specs: "Iterable[TrialSpec]",
    states: Mapping[str, TrialState] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Table:
    """Return one row per trial: its id, its state and the reason for it if they are given, kind and choices."""
    rows = []
    for spec in specs:
        row: dict[str, object] = {"trial": spec.trial_id}
        if states is not None:
            row |= {"state": states[spec.trial_id], "reason": (reasons or {}).get(spec.trial_id)}
        rows.append(row | {"kind": spec.kind, **spec.choices})
    return Table(_columns(rows))


def _columns(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Return a table with every key of the rows, null where a row has none, with the units of results."""
    kinds = dict.fromkeys(str(row["kind"]) for row in rows)
    fields = {field.name: field for kind in kinds for field in schema(kind)}
    arrays = {
        name: _array([row.get(name) for row in rows]) for name in dict.fromkeys(key for row in rows for key in row)
    }
    described = [
        pa.field(name, array.type, metadata=fields[name].metadata if name in fields else None)
        for name, array in arrays.items()
    ]
    return pa.Table.from_arrays([*arrays.values()], schema=pa.schema(described))


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # numbers beside words
        return pa.array([None if value is None else str(value) for value in values])


def bar(states: Mapping[str, TrialState]) -> str:
    """Return a bar of the states as HTML."""
    counts = {state: sum(one == state for one in states.values()) for state in STATES}
    words = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    parts = "".join(
        f'<span style="flex: {counts[state]}; background: {colour}"></span>'
        for state, colour in _COLOURS.items()
        if counts[state]
    )
    return (
        f'<div role="img" aria-label="{html.text(words)}" title="{html.text(words)}" style="display: flex; '
        f'height: 0.6em; max-width: 40em; margin: 0.4em 0; border-radius: 0.3em; overflow: hidden">{parts}</div>'
    )
