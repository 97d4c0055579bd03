"""Recorded golden numbers: by device kind, by torch version, and by the numerics of the kind that computes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision

from jobs.execution.device_kind import device_kind
from tests.golden.cases import CASES, CPU, Values

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
    own = (device_kind(CPU, CASES[case].execution), versions())
    return next((row for row in rows(case) if (row.device_kind, row.versions) == own), None)


def closest_rows(case: str) -> list[Row]:
    """Return the rows that must match within tolerances: those of this torch, or if it has none, all others."""
    recorded = rows(case)
    return [row for row in recorded if row.versions == versions()] or recorded


def add_rows() -> Iterator[Row]:
    """Compute all cases that are possible here, and replace the rows of this device kind with theirs."""
    cases = {name: case for name, case in CASES.items() if case.possible}
    found: dict[str, dict[str, Any]] = {
        name: {"numerics": case.numerics, "values": case.compute()} for name, case in cases.items()
    }
    here = {device_kind(CPU, case.execution) for case in cases.values()}
    assert len(here) == 1, "one row holds cases of one number of threads and one precision"
    kind = here.pop()
    torch_version, torchvision_version = versions()
    own = {"device_kind": kind, "torch": torch_version, "torchvision": torchvision_version}
    others = [machine for machine in _machines() if any(machine[name] != value for name, value in own.items())]
    before: dict[str, Any] = next((machine["cases"] for machine in _machines() if machine not in others), {})
    machines = [*others, {**own, "cases": before | found}]
    FILE.write_text(json.dumps(sorted(machines, key=_order), indent=1) + "\n", encoding="utf-8")
    for name in cases:
        yield Row(name, kind, versions(), found[name]["values"])


def _order(machine: dict[str, Any]) -> tuple[str, str]:
    return machine["torch"], machine["device_kind"]


def _machines() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else []
    return found


def versions() -> tuple[str, str]:
    """Return the versions of torch and torchvision without build tags, whose effect on bits the device kind covers."""
    return torch.__version__.partition("+")[0], torchvision.__version__.partition("+")[0]
