"""Descriptions of how some trials differ from those of a study. No torch."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from jobs.kind import plain
from jobs.specs.trial import TrialSpec

Choices: TypeAlias = Mapping[str, str]
"""Everything that determines a trial's numbers, as text by dotted key. Fields of later versions are included only while
their value differs from the default.
"""
Values: TypeAlias = dict[str, set[str]]

_HOW = {"recipe", "epochs", "evaluate_every"}
"""Keys for how a trial is run; all other keys identify the trial."""
_SHOWN = 3
_DEFAULT = "default"


def differences(trials: Iterable[TrialSpec], others: Iterable[TrialSpec]) -> str:
    """Describe the choices by which the trials differ from the others, each with its values there and here.

    A trial is compared with the most similar one on the same images and network. If the others have none, it is
    compared with all values that they have.
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
        if same_trial := same.get(_which(choices)):
            values = min((_values([other]) for other in same_trial), key=lambda of: len(_apart(choices, of)))
        else:
            values = known.get(spec.kind, {"kind": set(of_kind)})
        for key in _apart(choices, values) if spec.kind in of_kind else ["kind"]:
            there.setdefault(_name(key), set()).add(choices.get(key, _DEFAULT))
            here.setdefault(_name(key), set()).update(values.get(key, {_DEFAULT}))
    choices_in_words = [f"{name} ({some(there[name])}; here {some(here[name]) or 'none'})" for name in there]
    return ", ".join(choices_in_words) or "how their choices are combined"


def some(values: Iterable[str]) -> str:
    """Return the first few values in order, and the number of the remaining ones."""
    ordered = sorted(values, key=lambda value: (len(value), value) if value.isdecimal() else (0, value))
    more = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _choices(spec: TrialSpec) -> Choices:
    choices: dict[str, str] = {}

    def add(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                add(f"{prefix}{key}.", value)
            else:
                choices[prefix + key] = str(value).lower() if isinstance(value, bool | None) else str(value)

    add("", plain(spec))
    return choices


def _which(choices: Choices) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in choices.items() if _HOW.isdisjoint(key.split(".")))


def _values(of: Iterable[Choices]) -> Values:
    """Return all values of each choice."""
    listed = list(of)
    keys = dict.fromkeys(key for choices in listed for key in choices)
    return {key: {choices.get(key, _DEFAULT) for choices in listed} for key in keys}


def _apart(choices: Choices, values: Values) -> list[str]:
    """Return the keys of the choices whose value is not among the given ones."""
    keys = dict.fromkeys((*choices, *values))
    return [key for key in keys if choices.get(key, _DEFAULT) not in values.get(key, {_DEFAULT})]


def _name(key: str) -> str:
    """Return the key as in a study file, without the prefix of the examined network or the recipe."""
    return key.removeprefix("network.").removeprefix("recipe.")
