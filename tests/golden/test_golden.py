"""Golden numbers: met to the last digit where there is a row of this kind of device, within a fixed distance elsewhere.

They change on purpose only, together with the kind's ``numerics``; ``python -m scripts.add_golden_rows`` adds rows.
"""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations

import pytest

from jobs.device_kind import device_kind
from tests.golden.cases import CASES, CPU, Values
from tests.golden.rows import row_of_this_machine, rows

KINDS = 3
"""The spread that tolerances are fixed from is over so many kinds at least."""


@pytest.fixture(scope="module")
def computed() -> Callable[[str], Values]:
    """What a case gives here, computed once."""
    return cache(lambda name: CASES[name].compute())


OTHER_SOURCES = [name for name in CASES if name.startswith("clean accuracy")][2:]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in OTHER_SOURCES else name for name in CASES]
)
def test_golden_numbers(name: str, computed: Callable[[str], Values], unproven: Callable[[str], None]) -> None:
    case = CASES[name]
    if not case.possible:
        pytest.skip(f"clean accuracies of the bundled sources: deltasweep data fetch {case.needs}")
    found, own = computed(name), row_of_this_machine(name)
    if own is not None:
        assert found == own.values
        return
    unproven(
        f"golden numbers to the last digit: {device_kind(CPU, case.execution)} has no row, so they were compared "
        "within the spread of other kinds; `python -m scripts.add_golden_rows` adds it"
    )
    recorded = rows(name)
    assert recorded, f"{name} has no row of this numerics and this torch: python -m scripts.add_golden_rows"
    for row in recorded:
        for number, distance, tolerance in distances(found, row.values, case.tolerances):
            assert distance <= tolerance, f"{number} of {name} against that of {row.device_kind}"


@pytest.mark.parametrize("name", CASES)
def test_tolerances_come_from_the_spread_over_several_kinds(name: str) -> None:
    recorded = rows(name)
    assert len({row.device_kind for row in recorded}) >= KINDS
    for one, other in combinations(recorded, 2):
        for number, distance, tolerance in distances(one.values, other.values, CASES[name].tolerances):
            assert distance <= tolerance, f"{number} of {one.device_kind} and {other.device_kind}"


@pytest.mark.parametrize("name", [name for name in CASES if "accuracy" not in name])
def test_two_runs_on_one_machine_are_equal_to_the_last_bit(name: str, computed: Callable[[str], Values]) -> None:
    assert CASES[name].compute() == computed(name)


def distances(found: Values, row: Values, tolerances: Values) -> Iterator[tuple[str, float, float]]:
    """Name, distance and tolerance of each number that a row has."""
    for name, expected in row.items():
        for epoch, (value, wanted, tolerance) in enumerate(
            zip(found[name], expected, tolerances[name], strict=True), start=1
        ):
            size = abs(wanted) if name.endswith("loss") else 1.0
            yield f"{name}, epoch {epoch}", abs(value - wanted) / size, tolerance
