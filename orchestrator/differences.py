"""In what some trials are others than those of a study, in words. No torch."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from jobs.specs import AnySpec, plain

Choices: TypeAlias = Mapping[str, str]
"""All that a trial's numbers follow from, as text by dotted key. Later fields are there while they have another value
than their default.
"""
Values: TypeAlias = dict[str, set[str]]

_HOW = {"recipe", "epochs", "evaluate_every"}
"""How a trial is run; every other key says which trial it is."""
_SHOWN = 3
_UNSAID = "default"


def differences(trials: Iterable[AnySpec], others: Iterable[AnySpec]) -> str:
    """By which choices the trials are not among the others, each with its values there and here.

    A trial is compared with the nearest on the same images of the same network, where the others have one, and else
    against all values that the others have.
    """
    same: dict[tuple[str, ...], list[Choices]] = {}
    of_kind: dict[str, list[Choices]] = {}
    for spec in others:
        choices = _choices(spec)
        same.setdefault(_which(choices), []).append(choices)
        of_kind.setdefault(spec.kind, []).append(choices)
    known = {kind: _values(choices) for kind, choices in of_kind.items()}
    there: Values = {}
    here: Values = {}
    for spec in trials:
        choices = _choices(spec)
        if run_otherwise := same.get(_which(choices)):
            values = min((_values([other]) for other in run_otherwise), key=lambda of: len(_apart(choices, of)))
        else:
            values = known.get(spec.kind, {"kind": set(of_kind)})
        for key in _apart(choices, values) if spec.kind in of_kind else ["kind"]:
            there.setdefault(_name(key), set()).add(choices.get(key, _UNSAID))
            here.setdefault(_name(key), set()).update(values.get(key, {_UNSAID}))
    told = [f"{name} ({some(there[name])}; here {some(here[name]) or 'none'})" for name in there]
    return ", ".join(told) or "how their choices are combined"


def some(values: Iterable[str]) -> str:
    """The first few in order, and how many more there are."""
    ordered = sorted(values, key=lambda value: (len(value), value) if value.isdecimal() else (0, value))
    more = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _choices(spec: AnySpec) -> Choices:
    found: dict[str, str] = {}

    def add(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                add(f"{prefix}{key}.", value)
            else:
                found[prefix + key] = str(value).lower() if isinstance(value, bool | None) else str(value)

    add("", plain(spec))
    return found


def _which(choices: Choices) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in choices.items() if _HOW.isdisjoint(key.split(".")))


def _values(of: Iterable[Choices]) -> Values:
    """What each choice is in any of them."""
    listed = list(of)
    keys = dict.fromkeys(key for choices in listed for key in choices)
    return {key: {choices.get(key, _UNSAID) for choices in listed} for key in keys}


def _apart(choices: Choices, values: Values) -> list[str]:
    """The keys of choices that are none of the values."""
    keys = dict.fromkeys((*choices, *values))
    return [key for key in keys if choices.get(key, _UNSAID) not in values.get(key, {_UNSAID})]


def _name(key: str) -> str:
    """As a study file has it: of the network that is looked at, and of the recipe, the choice alone."""
    return key.removeprefix("network.").removeprefix("recipe.")
