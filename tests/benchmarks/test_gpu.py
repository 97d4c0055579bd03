"""The script for a GPU machine: it runs here with few images, and needs nothing but what its requirements list."""

import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from benchmarks.gpu import memory
from benchmarks.gpu.__main__ import measured
from benchmarks.gpu.machine import REHEARSAL, Found, Machine, OutOfTime, for_each
from benchmarks.gpu.memory import Limited
from benchmarks.gpu.processes import at_once
from benchmarks.gpu.trials import finish, rates
from benchmarks.rows import Row, beside
from jobs.execution.gpu_memory import refusals
from tests.benchmarks import in_processes
from tests.jobs.support import CPU

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "benchmarks" / "gpu" / "requirements.txt"

IMPORTED = """
import sys
from importlib.machinery import PathFinder

class Without:
    def find_spec(self, name, path=None, target=None):
        return None if name in {refused} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without()
import benchmarks.gpu.__main__
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def pins(file: Path) -> dict[str, str]:
    """Return the versions that a file of requirements pins, by name."""
    lines = file.read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line.removesuffix("\\")) for line in lines if line and line[0] not in "# "]
    return {one.name.lower(): str(one.specifier) for one in pinned}


def listed() -> set[str]:
    return {name.replace("-", "_") for name in pins(REQUIREMENTS)}


def required_by(distribution: str) -> set[str]:
    """Return the names of a distribution and of all that it requires here."""
    found, waiting = set[str](), [distribution]
    while waiting:
        name = waiting.pop().lower().replace("-", "_")
        if name not in found:
            found.add(name)
            try:
                needed = map(Requirement, requires(name) or [])
            except PackageNotFoundError:  # for another system
                continue
            waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def test_the_list_of_wheels_is_what_is_imported() -> None:
    """Nothing else can be imported: no Ray, no pandas."""
    there = listed() | required_by("torch") | required_by("torchvision")
    of = {
        module: {one.lower().replace("-", "_") for one in names} for module, names in packages_distributions().items()
    }
    refused = {module for module, names in of.items() if not names & (there | {"deltasweep"})}
    assert {"ray", "pandas", "cloudpickle"} <= refused
    done = run("-c", IMPORTED.format(refused=refused))
    assert done.returncode == 0, done.stderr
    imported = {name for module in done.stdout.split() for name in of.get(module, ())}
    assert listed() <= imported


@pytest.mark.slow(400)
@pytest.mark.timeout(1500)
def test_a_rehearsal_without_a_gpu(tmp_path: Path) -> None:
    """Every part runs, and what a processor can show holds: equal bits of runs, bundles, resumes and processes."""
    out = tmp_path / "gpu.json"
    done = run("-m", "benchmarks.gpu", "--rehearse", "--seconds", "3600", "--out", str(out))
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["missing"] == {
        "peak_memory": "RuntimeError: only a GPU tells its memory",
        "starved": "RuntimeError: only a GPU's memory can be limited",
    }
    words = ("equal", "compute", "change")
    checked = {row["name"]: row["holds"] for row in found["rows"] if any(word in row["name"] for word in words)}
    assert len(checked) == 3 * 4 + 4 + 2 + 1
    assert all(checked.values()), checked


def test_the_wheels_have_the_versions_that_passed_the_tests() -> None:
    """They are installed as they are, and pydantic accepts one version of its core."""
    tested = pins(ROOT / "constraints.txt")
    assert pins(REQUIREMENTS) == {name: tested[name] for name in pins(REQUIREMENTS)}


def machine(seconds: float = 3600, device: torch.device = CPU) -> Machine:
    return Machine(device, REHEARSAL, None, time.monotonic() + seconds)


def first(machine: Machine) -> Iterator[Row]:
    yield beside("a", [1.0])
    raise RuntimeError("the card is full")


def second(machine: Machine) -> Iterator[Row]:
    yield beside("b", [2.0])
    yield beside("c", [3.0])


def test_every_row_is_kept_at_once_whatever_becomes_of_the_others() -> None:
    kept: list[tuple[str, dict[str, str]]] = []

    def keep(rows: Sequence[Row], missing: Mapping[str, str]) -> None:
        kept.append(("".join(row.name for row in rows), dict(missing)))

    measured(machine(), (first, second), keep)
    problem = {"first": "RuntimeError: the card is full"}
    assert kept[:4] == [("a", {}), ("a", problem), ("ab", problem), ("abc", problem)]
    kept.clear()
    measured(machine(seconds=-1), (first, second), keep)
    assert kept[-1] == ("", {"first": "out of time", "second": "out of time"})


def found(parts: Sequence[Callable[[Machine], Iterator[Found]]], seconds: float = 3600) -> tuple[str, dict[str, str]]:
    """Return the names of the rows that these parts measure, and what is missing."""
    kept: list[tuple[str, dict[str, str]]] = []
    measured(
        machine(seconds), parts, lambda rows, missing: kept.append(("".join(row.name for row in rows), dict(missing)))
    )
    return kept[-1]


def test_a_part_that_the_gpu_refused_memory_spoils_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workspaces were refused without an error, then a tensor."""
    refused = [0]
    monkeypatch.setattr(refusals, "_count", lambda device: refused[0])
    monkeypatch.setattr(refusals, "_raised", 0)
    monkeypatch.setattr(refusals, "_card_full", False)

    def starving(machine: Machine) -> Iterator[Row]:
        refused[0] += 3
        yield beside("a", [1.0])
        raise torch.OutOfMemoryError("CUDA out of memory")

    def doubtful(machine: Machine) -> Iterator[Row]:
        refused[0] += 1
        refusals.require_none(machine.device)
        yield beside("b", [1.0])

    def trial(machine: Machine) -> Iterator[Row]:
        refusals.require_none(machine.device)
        yield beside("c", [1.0])

    names, missing = found((starving, doubtful, trial))
    assert (names, list(missing)) == ("ac", ["starving", "doubtful"])
    assert missing["starving"] == "OutOfMemoryError: CUDA out of memory"
    assert missing["doubtful"].startswith("WorkspaceRefused: expected enough GPU memory")


def test_a_format_that_does_not_fit_costs_the_others_nothing() -> None:
    def rows(machine: Machine, name: str, choices: Mapping[str, Any]) -> Iterator[Row]:
        if choices["large"]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield beside(name, [1.0])

    def formats(machine: Machine) -> Iterator[Found]:
        return for_each(machine, "formats", rows, {"a": {"large": True}, "b": {"large": False}, "c": {"large": False}})

    assert found((formats,)) == ("bc", {"formats, a": "OutOfMemoryError: CUDA out of memory"})


def endless(machine: Machine) -> Iterator[Row]:
    while True:
        yield beside("e", rates(machine, 1, lambda: time.sleep(0.02)))


def test_a_part_ends_when_the_time_is_over() -> None:
    names, missing = found((second, endless, second), seconds=2)
    assert missing == {"endless": "out of time", "second": "out of time"}
    assert names.startswith("bc")


def test_a_trial_ends_when_the_time_is_over() -> None:
    class Endless:
        done = False

        def advance(self, pause: Callable[[], bool]) -> None:
            while not pause():
                time.sleep(0.01)

    with pytest.raises(OutOfTime):
        finish(machine(seconds=0.1), Endless())  # type: ignore[arg-type]  # all that is needed of a trial


def test_results_of_processes_come_in_the_order_of_their_arguments() -> None:
    assert at_once(in_processes.squared, [(3,), (1,), (2,)], 300) == [9, 1, 4]
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("work", "problem"),
    [
        (in_processes.fail_first, "ValueError: the first one fails"),
        (in_processes.die_first, "a process ended with exit status -9, without a result"),
    ],
    ids=["fails", "dies"],
)
def test_a_process_that_fails_ends_those_that_wait_for_it(work: Callable[..., None], problem: str) -> None:
    together = multiprocessing.get_context("spawn").Barrier(3)
    with pytest.raises(RuntimeError, match=problem):
        at_once(work, [(place, together) for place in range(3)], 300)
    assert multiprocessing.active_children() == []


def test_processes_that_take_too_long_are_ended() -> None:
    with pytest.raises(TimeoutError, match="expected 2 processes to end within 1 s"):
        at_once(in_processes.hang, [(), ()], 1)
    assert multiprocessing.active_children() == []


EQUAL, OTHER, FAILED = Limited("a", "", 1000), Limited("b", "", 1000), Limited("", "WorkspaceRefused", 1000)


@pytest.mark.parametrize(
    ("outcomes", "enough", "right"),
    [
        ([EQUAL, EQUAL, FAILED, FAILED], True, True),
        ([FAILED, FAILED, FAILED, FAILED], False, True),
        ([EQUAL, EQUAL, OTHER, FAILED], True, False),
    ],
    ids=["as it should", "fails with enough memory", "other numbers"],
)
def test_a_trial_with_too_little_memory(
    outcomes: list[Limited], enough: bool, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int | None] = []
    found = iter([EQUAL, *outcomes])

    def limited(machine: Machine, limit: int | None) -> Limited:
        limits.append(limit)
        return next(found)

    monkeypatch.setattr(memory, "_limited", limited)
    rows = list(memory.starved(machine(device=torch.device("cuda", 0))))
    assert limits == [None, 1100, 900, 750, 600]
    assert [row.holds for row in rows if row.holds is not None] == [enough, right]
    assert [row.ratio for row in rows if row.holds is None] == [float(one is EQUAL) for one in outcomes]
    assert [row.name.rpartition(": ")[2] for row in rows if row.holds is None] == [
        {EQUAL: "equal numbers", OTHER: "OTHER NUMBERS", FAILED: "WorkspaceRefused"}[one] for one in outcomes
    ]


def test_without_a_gpu_it_says_what_to_do() -> None:
    done = run("-m", "benchmarks.gpu")
    if "CUDA" not in done.stdout:
        assert done.returncode == 1
        assert "expected a GPU that torch sees; got none. Fix:" in done.stderr
