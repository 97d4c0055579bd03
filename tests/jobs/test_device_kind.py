"""Kinds of device: equal names only where bits are equal; what a trial leaves that ran on several."""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from jobs.device_kind import _device_kind, device_kind, device_name, probe
from jobs.provenance import is_mixed
from jobs.results import Problem, Store, mixed_trials, read_trials, verify
from jobs.results.layout import checkpoints_prefix
from jobs.specs import Execution, Recipe
from jobs.study import OnOtherDevice
from tests.jobs.made_kinds import SWITCHES, made_kind
from tests.jobs.part_of_a_trial import Part, computed, run_part, spec
from tests.jobs.support import CPU


def test_a_name_says_model_instruction_set_and_probe() -> None:
    name = device_kind(CPU, Execution())
    assert name.startswith(f"{device_name(CPU)} (probe 1: ")
    assert torch.backends.cpu.get_cpu_capability().lower() in name
    assert " -> " not in name


def test_the_probe_is_the_same_whenever_it_is_asked_and_leaves_nothing_behind() -> None:
    torch.manual_seed(1)
    expected, threads = torch.rand(3), torch.get_num_threads()
    torch.manual_seed(1)
    first = probe(CPU, Execution())
    with torch.no_grad():
        assert probe(CPU, Execution()) == first
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_what_is_no_choice_of_bits_is_no_part_of_a_kind() -> None:
    """A probe covers both memory formats, and no choice of training."""
    _device_kind.cache_clear()
    kinds = {
        device_kind(CPU, Execution()),
        device_kind(CPU, Recipe(learning_rate=0.5, batch_size=3)),
        device_kind(CPU, Execution(memory_format="contiguous", evaluation_batch_size=7)),
    }
    assert len(kinds) == 1
    assert _device_kind.cache_info().misses == 1, "computed once a process"


@pytest.fixture(scope="module")
def other_kind() -> Iterator[ProcessPoolExecutor]:
    """A process that computes by other code: on most processors another kind of device."""
    with made_kind(SWITCHES[0]) as pool:
        yield pool


@pytest.mark.parametrize("switch", SWITCHES[1:], ids="-".join)
def test_where_bits_differ_kinds_do(
    switch: dict[str, str], other_kind: ProcessPoolExecutor, unproven: Callable[[str], None]
) -> None:
    with made_kind(switch) as third_kind:
        asked = third_kind.submit(computed), other_kind.submit(computed)
        found = [computed(), *(each.result() for each in asked)]
    for (kind, numbers), (another, others) in combinations(found, 2):
        assert kind != another or numbers == others
    if len({kind for kind, _ in found}) < 3:
        unproven("that kinds of device differ where bits do: needs a processor whose libraries have a choice of code")
        pytest.skip("this processor's libraries have one way of computing")


@pytest.mark.parametrize(
    ("kind", "packages", "mixed"),
    [
        ("A (probe 1: 0)", '{"torch": "2"}', False),
        ("A (probe 1: 0) -> B (probe 1: 1)", '{"torch": "2"}', True),
        ("A (probe 1: 0) -> B (probe 1: 1) -> A (probe 1: 0)", '{"torch": "2"}', True),
        ("unknown -> A (probe 1: 0)", '{"torch": "2"}', True),
        ("A (probe 1: 0)", '{"torch": "2"} -> {"torch": "3"}', True),
        ("A (probe 1: 0)", '{"torch": "2", "numpy": "2"} -> {"torch": "2", "numpy": "3"}', False),
        ("A (probe 1: 0)", "not JSON", False),
        (None, None, False),
    ],
)
def test_trials_are_mixed_by_kind_or_by_torch(kind: str | None, packages: str | None, mixed: bool) -> None:
    assert is_mixed(kind, packages) is mixed


# --- a trial that goes on on another kind of device ---


def without_history(data: bytes) -> bytes:
    """A checkpoint as 0.1.0 wrote it."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    state = json.loads(header["__metadata__"]["state"])
    del state["history"]
    header["__metadata__"]["state"] = json.dumps(state)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def named(key: str, data: bytes) -> str:
    """The name of a checkpoint with these bytes in another's place."""
    return f"{key.rsplit('-', 1)[0]}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"


class Attempts(NamedTuple):
    """Attempts at trials of one root, on this kind of device and on another."""

    root: Path
    home: Path
    elsewhere: ProcessPoolExecutor

    def here(self, *blocks: int, batches: int = 0, rule: OnOtherDevice = "continue") -> Part:
        return run_part(self.root, self.home, blocks, batches, rule)

    def there(self, *blocks: int, batches: int = 0) -> Part:
        return self.elsewhere.submit(run_part, self.root, self.home, blocks, batches).result()


@pytest.fixture
def attempts(
    store: Store, tmp_path: Path, other_kind: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> Attempts:
    monkeypatch.setenv("DELTASWEEP_HOME", str(tmp_path / "home"))
    return Attempts(Path(store.uri), tmp_path / "home", other_kind)


def kinds_of(store: Store) -> set[str]:
    return set(read_trials(store, "finetune", ["device_kind"])["device_kind"].to_pylist())


@pytest.mark.parametrize("blocks", [(3,), (0, 3)], ids=["alone", "bundle"])
def test_a_trial_resumed_on_another_kind_says_both(blocks: tuple[int, ...], store: Store, attempts: Attempts) -> None:
    there = attempts.there(*blocks, batches=4)
    assert there.ends == ["stopped"] * len(blocks)
    here = attempts.here(*blocks)
    assert here.ends == ["committed"] * len(blocks)
    assert there.kind != here.kind
    assert kinds_of(store) == {f"{there.kind} -> {here.kind}"}
    assert mixed_trials(store) == {spec(depth).trial_id for depth in blocks}
    findings = [finding for finding in verify(store) if finding.problem is Problem.MIXED]
    assert len(findings) == len(blocks)
    assert all(finding.problem.harmless for finding in findings)

    attempts.here(*blocks)  # again, all of it on this kind: other numbers, and no conflict
    assert not list(store.keys("conflicts"))
    assert kinds_of(store) == {f"{there.kind} -> {here.kind}"}, "what was committed first stands"


def test_a_trial_of_a_bundle_that_joins_later_has_its_own_history(store: Store, attempts: Attempts) -> None:
    there, here = attempts.there(0, batches=2), attempts.here(0, 3)
    rows = read_trials(store, "finetune", ["blocks", "device_kind"]).to_pylist()
    assert {(row["blocks"], row["device_kind"]) for row in rows} == {
        (0, f"{there.kind} -> {here.kind}"),
        (3, here.kind),
    }


def test_a_trial_may_ask_to_stay_on_its_kind(store: Store, attempts: Attempts) -> None:
    there, here = attempts.there(3, batches=4), attempts.here(3, rule="restart")
    (note,) = here.notes
    assert there.kind in note
    assert "on_other_device" in note
    assert kinds_of(store) == {here.kind}
    assert mixed_trials(store) == set()


def test_a_trial_that_stays_on_its_kind_goes_on_there(store: Store, attempts: Attempts) -> None:
    attempts.here(3, batches=4)
    (key,) = store.keys(checkpoints_prefix(spec(3).trial_id))
    assert attempts.here(3, batches=1, rule="restart").notes == []
    assert sorted(store.keys(checkpoints_prefix(spec(3).trial_id)))[0] == key, "it went on from there"
    assert attempts.here(3, rule="restart").notes == []
    assert kinds_of(store) == {attempts.here(3).kind}


def test_of_an_older_checkpoint_the_kind_is_unknown(store: Store, attempts: Attempts) -> None:
    attempts.here(3, batches=4)
    (key,) = store.keys(checkpoints_prefix(spec(3).trial_id))
    rewritten = without_history(store.read(key))
    store.delete(key)
    store.replace(named(key, rewritten), rewritten)
    here = attempts.here(3)
    assert kinds_of(store) == {f"unknown -> {here.kind}"}
    (packages,) = set(read_trials(store, "finetune", ["packages"])["packages"].to_pylist())
    assert packages.startswith("unknown -> {")
    assert mixed_trials(store) == {spec(3).trial_id}
