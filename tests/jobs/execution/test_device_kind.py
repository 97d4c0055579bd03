"""Device kinds: equal names only for equal bits, and the results of a trial that ran on several kinds."""

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from jobs.execution import device_kind as kinds
from jobs.execution import operations
from jobs.execution.determinism import deterministic
from jobs.execution.device_kind import PROBE_VERSION, _digest, _digest_of, device_kind, device_name, probe
from jobs.execution.operations import OPERATIONS, Operation
from jobs.execution.probe import CLASSIFIERS, CONVOLUTIONS, Numbers, fixed_numbers
from jobs.networks.arithmetic import FORMATS
from jobs.provenance import history_of
from jobs.results import Problem, Store, mixed_trials, read_trials
from jobs.results.layout import checkpoints_prefix
from jobs.specs.optimizers import Execution, Precision
from jobs.specs.recipes import Recipe
from jobs.specs.section import OnOtherDevice
from jobs.system.processor import cpu_name
from jobs.verification.verify import verify
from tests.jobs.made_kinds import SWITCHES, made_kind
from tests.jobs.part_of_a_trial import Part, computed, run_part, spec
from tests.jobs.support import CPU
from tests.machine import not_proved

OTHER_PROCESSOR = "run the tests on a processor whose libraries have a choice of code"


def test_a_name_says_model_instruction_set_and_probe() -> None:
    name = device_kind(CPU, Execution())
    assert name.startswith(f"{device_name(CPU)} (probe 1: ")
    assert torch.backends.cpu.get_cpu_capability().lower() in name
    assert " -> " not in name


FILLING: Any = torch.utils.deterministic  # a module of properties, which mypy does not see
LINUX = {
    "vendor_id": "GenuineIntel",
    "cpu family": "6",
    "model": "143",
    "model name": "Intel(R) Xeon(R) Platinum 8488C",
}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (LINUX, "Intel Xeon Platinum 8488C (GenuineIntel family 6 model 143)"),
        (
            {**LINUX, "model name": "Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", "model": "79"},
            "Intel Xeon CPU E5-2686 v4 (GenuineIntel family 6 model 79)",
        ),
        (
            {**LINUX, "model name": "QEMU Virtual CPU version 2.5+"},
            "QEMU Virtual CPU version 2.5+ (GenuineIntel family 6 model 143)",
        ),
        ({"cpu family": "6", "model name": "a -> b"}, "a - b (? family 6 model ?)"),
    ],
)
def test_names_of_processors(told: dict[str, str], expected: str) -> None:
    assert cpu_name(told) == expected


@pytest.mark.parametrize("told", [{}, {"cpu family": "6"}, {"CPU part": "0xd4f", "CPU implementer": "0x41"}])
def test_a_processor_of_which_little_is_told_has_a_name(told: dict[str, str]) -> None:
    assert cpu_name(told).strip()
    assert ("part 0xd4f" in cpu_name(told)) == ("CPU part" in told)


def test_what_the_probe_computes_has_a_version() -> None:
    """When changing an operation, a shape or the fixed numbers, raise ``PROBE_VERSION`` and update this test."""
    asked = [*map(tuple, CONVOLUTIONS), *CLASSIFIERS, *probe(CPU, Execution()), float(fixed_numbers(4).sum())]
    assert PROBE_VERSION == 1
    assert hashlib.sha256(repr(asked).encode()).hexdigest()[:16] == "54bce897f858a86f"


def test_what_further_operations_compute_has_versions() -> None:
    """When changing an operation, raise its version and update this test; additions change no other entry."""
    numbers = Numbers(fixed_numbers(1 << 18))
    computed = {
        name: [_about(tensor) for tensor in operation.compute(numbers)]
        for name, operation in OPERATIONS.items()
        if name not in FORMATS  # those compute the probe's operations again
    }
    assert {name: (OPERATIONS[name].version, len(found), found[-3:]) for name, found in computed.items()} == {
        "adamw": (1, 24, [((24, 16, 3, 3), "3333"), ((2048, 10), "2.042e+04"), ((7,), "6.785")]),
        "attention": (1, 12, [((1, 4, 197, 64), "1420"), ((1, 4, 197, 64), "1125"), ((1, 4, 197, 64), "1129")]),
        "cosine": (1, 5, [((100,), "50"), ((150,), "75"), ((1000,), "500")]),
        "folded": (
            *(1, 86),
            [((1, 512, 4, 4), "1.705e+07"), ((1, 512, 4, 4), "2.612e+07"), ((1, 512, 4, 4), "2.503e+07")],
        ),
        "grouped-convolution": (
            *(1, 18),
            [((4, 64, 14, 14), "1.589e+06"), ((4, 64, 14, 14), "1.591e+06"), ((64, 4, 3, 3), "1.754e+06")],
        ),
        "group-norm": (1, 24, [((2, 96, 5, 5), "4699"), ((96,), "5373"), ((96,), "4370")]),
        "layer-norm": (1, 12, [((2, 17, 1003), "3.266e+04"), ((1003,), "3.485e+04"), ((1003,), "3.21e+04")]),
        "other-activation": (
            *(1, 14),
            [((37, 1031), "1.113e+04"), ((37, 1031), "3.497e+04"), ((37, 1031), "1.111e+04")],
        ),
        "smooth-activation": (1, 10, [((37, 1031), "1.358e+04"), ((37, 1031), "1.121e+04"), ((37, 1031), "1710")]),
    }


def _about(tensor: Tensor) -> tuple[tuple[int, ...], str]:
    """Return a tensor's shape and its squared norm to four digits, which are the same on all devices."""
    return tuple(tensor.shape), f"{float(tensor.detach().double().square().sum()):.4g}"


def test_a_kind_names_the_further_operations_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials without them keep the name that they had; other bits of an operation are another kind."""
    plain = device_kind(CPU, Execution())
    assert plain == device_kind(CPU, Recipe(), Recipe().operations)
    both = device_kind(CPU, Execution(), ("cosine", "adamw"))
    assert re.fullmatch(re.escape(plain[:-1]) + r", adamw 1: [0-9a-f]{12}, cosine 1: [0-9a-f]{12}\)", both)
    assert both == device_kind(CPU, Execution(), Recipe(optimizer="adamw", schedule="cosine").operations)
    assert history_of(both, '{"torch": "2"}').device_kinds == (both,)

    other = Operation(1, lambda numbers: iter((numbers.of(3).nextafter(numbers.of(3) + 1),)))
    again = Operation(1, lambda numbers: iter((numbers.of(3),)))
    names = set()
    for operation in (other, again):
        _digest_of.cache_clear()
        monkeypatch.setitem(vars(operations)["OPERATIONS"], "cosine", operation)
        names.add(device_kind(CPU, Execution(), ("cosine",)))
    _digest_of.cache_clear()
    assert len(names) == 2


def test_beside_a_gpu_the_processor_computes_only_what_trials_compute_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors without units for float16 emulate it slowly. A GPU that is only named stands for one."""
    asked: list[tuple[str, torch.device]] = []

    def digest_of(name: str, device: torch.device, execution: Execution) -> str:
        asked.append((name, device))
        return name

    monkeypatch.setattr(kinds, "_digest", lambda device, execution: "probe")
    monkeypatch.setattr(kinds, "_digest_of", digest_of)
    monkeypatch.setattr(kinds, "device_name", lambda device: device.type)
    gpu = torch.device("cuda", 0)
    further = Recipe(optimizer="adamw", schedule="cosine", precision="float16").operations
    assert device_kind(gpu, Execution(), further) == "cuda (probe, adamw, float16), cpu (probe, cosine)"
    assert sorted(asked) == [("adamw", gpu), ("cosine", CPU), ("float16", gpu)]
    assert device_kind(CPU, Execution(), further) == "cpu (probe, adamw, cosine, float16)"
    assert device_kind(gpu, Execution()) == "cuda (probe), cpu (probe)"


@pytest.mark.parametrize("precision", list(FORMATS))
def test_a_kind_covers_the_precision(precision: Precision) -> None:
    """The operations of networks are computed again in that precision, and so are further ones."""
    mixed = Execution(precision=precision)
    plain, named = device_kind(CPU, Execution()), device_kind(CPU, mixed, mixed.operations)
    assert re.fullmatch(re.escape(plain[:-1]) + rf", {precision} 1: [0-9a-f]{{12}}\)", named)
    assert device_kind(CPU, mixed, ("attention",)) != device_kind(CPU, Execution(), ("attention",))


def switches() -> list[object]:
    """Return all process state that the probe changes temporarily."""
    return [
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        FILLING.fill_uninitialized_memory,
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.random.get_rng_state().tolist(),
    ]


def test_the_probe_is_the_same_whenever_it_is_asked_and_leaves_nothing_behind() -> None:
    before = switches()
    first = probe(CPU, Execution())
    assert switches() == before
    with torch.no_grad():
        assert probe(CPU, Execution()) == first
        assert not torch.is_grad_enabled()


def test_new_tensors_are_not_filled_while_a_trial_runs() -> None:
    """Filling is part of deterministic algorithms, takes time, and changes no number."""
    with deterministic(Execution()):
        assert torch.are_deterministic_algorithms_enabled()
        assert not FILLING.fill_uninitialized_memory
    assert FILLING.fill_uninitialized_memory


def test_what_is_no_choice_of_bits_is_no_part_of_a_kind() -> None:
    """One probe covers both memory formats, and is independent of training choices."""
    _digest.cache_clear()
    kinds = {
        device_kind(CPU, Execution()),
        device_kind(CPU, Recipe(learning_rate=0.5, batch_size=3)),
        device_kind(CPU, Execution(memory_format="contiguous", evaluation_batch_size=7)),
    }
    assert len(kinds) == 1
    assert _digest.cache_info().misses == 1, "computed once a process"


@pytest.fixture(scope="module")
def other_kind() -> Iterator[ProcessPoolExecutor]:
    """A process that computes with other code paths: on most processors another device kind."""
    with made_kind(SWITCHES[0]) as pool:
        yield pool


@pytest.mark.parametrize(
    "switch",
    [pytest.param(switch, marks=pytest.mark.slow) for switch in SWITCHES[1:3]],
    ids="-".join,
)
def test_where_bits_differ_kinds_do(switch: dict[str, str], other_kind: ProcessPoolExecutor) -> None:
    with made_kind(switch) as third_kind:
        asked = third_kind.submit(computed), other_kind.submit(computed)
        found = [computed(), *(each.result() for each in asked)]
    for (kind, numbers), (another, others) in combinations(found, 2):
        assert kind != another or numbers == others
    if len({kind for kind, _ in found}) < 3:
        not_proved("that kinds of device differ where bits do", OTHER_PROCESSOR)


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
    assert history_of(kind, packages).mixed is mixed


# --- a trial that resumes on another device kind ---


def with_state(data: bytes, **changes: object) -> bytes:
    """Return a checkpoint with other parts of its state; None removes a part."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    state = json.loads(header["__metadata__"]["state"]) | changes
    header["__metadata__"]["state"] = json.dumps({name: value for name, value in state.items() if value is not None})
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def named(key: str, data: bytes) -> str:
    """Return the name of a checkpoint with these bytes at the position of ``key``."""
    return f"{key.rsplit('-', 1)[0]}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"


class Attempts(NamedTuple):
    """Attempts at trials of one root, on this device kind and on another."""

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


def require_another(there: Part, here: Part) -> None:
    if there.kind == here.kind:
        not_proved("a trial that goes on elsewhere", OTHER_PROCESSOR)


def kinds_of(store: Store) -> set[str]:
    return set(read_trials(store, "finetune", ["device_kind"])["device_kind"].to_pylist())


@pytest.mark.parametrize("blocks", [(3,), (0, 3)], ids=["alone", "bundle"])
def test_a_trial_resumed_on_another_kind_says_both(blocks: tuple[int, ...], store: Store, attempts: Attempts) -> None:
    there = attempts.there(*blocks, batches=4)
    assert there.ends == ["stopped"] * len(blocks)
    here = attempts.here(*blocks)
    assert here.ends == ["committed"] * len(blocks)
    require_another(there, here)
    assert kinds_of(store) == {f"{there.kind} -> {here.kind}"}
    assert mixed_trials(store) == {spec(depth).trial_id for depth in blocks}
    findings = [finding for finding in verify(store) if finding.problem is Problem.MIXED]
    assert len(findings) == len(blocks)
    assert all(finding.problem.harmless for finding in findings)

    attempts.here(*blocks)  # again, entirely on this kind: other numbers, and no conflict
    assert not list(store.keys("conflicts"))
    assert kinds_of(store) == {f"{there.kind} -> {here.kind}"}, "what was committed first stands"


def test_a_trial_of_a_bundle_that_joins_later_has_its_own_history(store: Store, attempts: Attempts) -> None:
    there, here = attempts.there(0, batches=2), attempts.here(0, 3)
    require_another(there, here)
    rows = read_trials(store, "finetune", ["blocks", "device_kind"]).to_pylist()
    assert {(row["blocks"], row["device_kind"]) for row in rows} == {
        (0, f"{there.kind} -> {here.kind}"),
        (3, here.kind),
    }


def test_a_trial_may_ask_to_stay_on_its_kind(store: Store, attempts: Attempts) -> None:
    there, here = attempts.there(3, batches=4), attempts.here(3, rule="restart")
    require_another(there, here)
    (note,) = here.notes
    assert there.kind in note
    assert "on_other_device" in note
    assert kinds_of(store) == {here.kind}
    assert mixed_trials(store) == set()


def test_a_trial_that_began_again_keeps_what_it_saves(store: Store, attempts: Attempts) -> None:
    """Skipped checkpoints are at later batches, and are removed to make room for the trial's own."""
    for _ in range(2):
        there = attempts.there(3, batches=2)
    elsewhere = set(store.keys(checkpoints_prefix(spec(3).trial_id)))
    assert len(elsewhere) == 2
    here = attempts.here(3, batches=1, rule="restart")
    require_another(there, here)
    own = set(store.keys(checkpoints_prefix(spec(3).trial_id)))
    assert len(own) == 1
    assert not own & elsewhere
    assert attempts.here(3, batches=1, rule="restart").notes == []
    assert len(set(store.keys(checkpoints_prefix(spec(3).trial_id))) - own) == 1, "it went on"
    assert attempts.here(3, rule="restart").ends == ["committed"]
    assert kinds_of(store) == {here.kind}


@pytest.mark.parametrize("history", [5, [["a"], 5], [["a"]], [["a"], ["b"], ["c"]]])
def test_a_checkpoint_whose_history_is_none_is_passed_over(history: object, store: Store, attempts: Attempts) -> None:
    attempts.here(3, batches=4)
    (key,) = store.keys(checkpoints_prefix(spec(3).trial_id))
    rewritten = with_state(store.read(key), history=history)
    store.delete(key)
    store.replace(named(key, rewritten), rewritten)
    here = attempts.here(3)
    assert len(here.notes) == 1
    assert kinds_of(store) == {here.kind}


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
    rewritten = with_state(store.read(key), history=None)
    store.delete(key)
    store.replace(named(key, rewritten), rewritten)
    here = attempts.here(3)
    assert kinds_of(store) == {f"unknown -> {here.kind}"}
    (packages,) = set(read_trials(store, "finetune", ["packages"])["packages"].to_pylist())
    assert packages.startswith("unknown -> {")
    assert mixed_trials(store) == {spec(3).trial_id}
