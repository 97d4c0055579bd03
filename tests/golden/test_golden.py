"""Golden numbers match to the last digit on recorded device kinds and torch versions, elsewhere within tolerances.

They only change on purpose, together with the kind's ``numerics``; ``python -m scripts.add_golden_rows`` adds rows.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest

from tests.golden import rows as golden_rows
from tests.golden.cases import CASES, Case, Values
from tests.golden.rows import closest_rows, own_row, rows
from tests.machine import fashion_mnist

KINDS = 3
"""Minimum number of device kinds in the spread from which tolerances are fixed."""


@pytest.fixture(scope="module")
def computed() -> Callable[[str], Values]:
    """The numbers of a case on this machine, computed once."""
    return cache(lambda name: CASES[name].compute())


OTHER_SOURCES = [name for name in CASES if name.startswith("clean accuracy")][2:]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in OTHER_SOURCES else name for name in CASES]
)
def test_golden_numbers(name: str, computed: Callable[[str], Values], unproven: Callable[[str], None]) -> None:
    case = CASES[name]
    if not case.possible:
        fashion_mnist("clean accuracies of the bundled sources")
    found, own = computed(name), own_row(name)
    if own is not None:
        assert found == own.values
        return
    machine = f"{case.device_kind} with torch {golden_rows.versions()[0]}"
    unproven(
        f"golden numbers to the last digit: {machine} has no row, so they were compared "
        "within the spread of others; `python -m scripts.add_golden_rows` adds it"
    )
    recorded = closest_rows(name)
    assert recorded, f"{name} has no row of this numerics: python -m scripts.add_golden_rows"
    for row in recorded:
        for number, distance, tolerance in distances(found, row.values, case.tolerances):
            assert distance <= tolerance, (
                f"{number} of {name} against that of {row.device_kind} with torch {row.versions[0]}"
            )


@pytest.mark.parametrize("name", CASES)
def test_tolerances_come_from_the_spread_over_several_kinds(name: str) -> None:
    recorded = rows(name)
    for torch in {row.versions for row in recorded}:
        assert len({row.device_kind for row in recorded if row.versions == torch}) >= KINDS
    for one, other in combinations(recorded, 2):
        for number, distance, tolerance in distances(one.values, other.values, CASES[name].tolerances):
            assert distance <= tolerance, f"{number} of {one.device_kind} and {other.device_kind}"


@pytest.mark.parametrize(
    ("kind", "torch", "own", "closest"),
    [
        ("a", "2.11", 1.0, [1.0, 2.0]),
        ("b", "2.11", 2.0, [1.0, 2.0]),
        ("a", "2.14", 3.0, [3.0]),
        ("b", "2.14", None, [3.0]),
        ("c", "2.11", None, [1.0, 2.0]),
        ("a", "2.12", None, [1.0, 2.0, 3.0]),
    ],
)
def test_the_rows_that_a_machine_is_compared_with(
    kind: str, torch: str, own: float | None, closest: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own row to the last digit; otherwise rows of its torch within tolerances; otherwise all others.

    Rows of older numerics are never used.
    """
    name = "finetune, batch"
    now = CASES[name].numerics
    machines = [
        {"device_kind": kind, "torch": torch, "torchvision": "0", "cases": {name: {"numerics": of, "values": values}}}
        for kind, torch, of, values in [
            ("a", "2.11", now, {"test_loss": [1.0]}),
            ("b", "2.11", now, {"test_loss": [2.0]}),
            ("a", "2.14", now, {"test_loss": [3.0]}),
            ("a", "2.12", now - 1, {"test_loss": [4.0]}),
        ]
    ]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(machines), encoding="utf-8")
    monkeypatch.setattr(golden_rows, "FILE", file)
    monkeypatch.setattr(golden_rows, "versions", lambda: (torch, "0"))
    monkeypatch.setattr(Case, "device_kind", property(lambda case: kind))
    found = own_row(name)
    assert (found and found.values["test_loss"]) == (own and [own])
    assert [row.values["test_loss"] for row in closest_rows(name)] == [[value] for value in closest]


def test_another_torch_is_compared_within_tolerances(
    computed: Callable[[str], Values], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line reports what was not proved, and numbers beyond the tolerance fail."""
    monkeypatch.setattr(golden_rows, "versions", lambda: ("2.11.0", "0.26.0"))
    name, said = "finetune, source", list[str]()
    test_golden_numbers(name, computed, said.append)
    assert len(said) == 1
    far = {number: [value * (1 + 1e-4) for value in values] for number, values in computed(name).items()}
    with pytest.raises(AssertionError, match="loss"):
        test_golden_numbers(name, lambda name: far, said.append)


@pytest.mark.parametrize("name", [name for name in CASES if "accuracy" not in name])
def test_two_runs_on_one_machine_are_equal_to_the_last_bit(name: str, computed: Callable[[str], Values]) -> None:
    assert CASES[name].compute() == computed(name)


def distances(found: Values, row: Values, tolerances: Values) -> Iterator[tuple[str, float, float]]:
    """Yield the name, distance and tolerance of each number in a row."""
    for name, expected in row.items():
        for epoch, (value, wanted, tolerance) in enumerate(
            zip(found[name], expected, tolerances[name], strict=True), start=1
        ):
            size = abs(wanted) if name.endswith("loss") else 1.0
            yield f"{name}, epoch {epoch}", abs(value - wanted) / size, tolerance
