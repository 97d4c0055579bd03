"""Recorded golden numbers: by device kind, by torch version, and by the numerics of the kind that computes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision

from tests.golden.cases import CASES, Values

FILE = Path(__file__).with_name("rows.json")


class Row(NamedTuple):
    """The numbers of a case on one device kind, with one pair of torch and torchvision."""

    case: str
    device_kind: str
    versions: tuple[str, str]
    values: Values


def rows(case: str) -> list[Row]:
    """Return the rows of a case with the kind's current numerics, for every device kind and torch."""
    return [
        Row(case, machine["device_kind"], (machine["torch"], machine["torchvision"]), machine["cases"][case]["values"])
        for machine in _machines()
        if machine["cases"].get(case, {}).get("numerics") == CASES[case].numerics
    ]


def own_row(case: str) -> Row | None:
    """Return the row of this device kind and this torch, which must match to the last digit, or None."""
    own = (CASES[case].device_kind, versions())
    return next((row for row in rows(case) if (row.device_kind, row.versions) == own), None)


def closest_rows(case: str) -> list[Row]:
    """Return the rows that must match within tolerances: those of this torch, or if it has none, all others."""
    recorded = rows(case)
    return [row for row in recorded if row.versions == versions()] or recorded


def add_rows() -> Iterator[Row]:
    """Compute all cases that are possible here, and replace the rows of their device kinds with theirs."""
    cases = {name: case for name, case in CASES.items() if case.possible}
    torch_version, torchvision_version = versions()
    machines = _machines()
    for name, case in cases.items():
        own = {"device_kind": case.device_kind, "torch": torch_version, "torchvision": torchvision_version}
        here = next((machine for machine in machines if own.items() <= machine.items()), None)
        if here is None:
            machines.append(here := {**own, "cases": {}})
        values = case.compute()
        here["cases"][name] = {"numerics": case.numerics, "values": values}
        yield Row(name, case.device_kind, versions(), values)
    FILE.write_text(json.dumps(sorted(machines, key=_order), indent=1) + "\n", encoding="utf-8")


def _order(machine: dict[str, Any]) -> tuple[str, str]:
    return machine["torch"], machine["device_kind"]


def _machines() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
    return found


def versions() -> tuple[str, str]:
    """Return the versions of torch and torchvision without build tags, whose effect on bits the device kind covers."""
    return torch.__version__.partition("+")[0], torchvision.__version__.partition("+")[0]
