"""However Ray reports that an actor is lost, only its own trials fail, and the round goes on."""

import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayActorError, RayError, RayTaskError

from jobs.results import FailureKind, open_store, read_failures
from jobs.system.memory import Memory
from orchestrator.failures.failure_classification import record_crash
from orchestrator.ray_tune.local_ray import scarce_memory
from orchestrator.ray_tune.lost_actors import let_tune_survive, lost

TRIAL = "finetune-digits-fmnist_natural-k3-n50-s20000000-57a7d01b543f969a"
FULL = OutOfMemoryError("2 worker(s) were killed due to the node running low on memory.\nTop 10 memory users: ...")  # type: ignore[no-untyped-call]
GONE = NodeDiedError("the node is dead")  # type: ignore[no-untyped-call]


DIED = ActorDiedError()


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("error", [FULL, GONE, DIED])
def test_the_actor_fails_and_its_resources_are_free(error: RayError, starts: bool) -> None:
    let_tune_survive()
    let_tune_survive()
    freed: list[Any] = []
    heard: list[tuple[str, Exception]] = []

    def free(acquired_resource: Any) -> None:
        freed.append(acquired_resource)

    resources: Any = SimpleNamespace(free_resources=free)
    manager: Any = RayActorManager(resources)
    actor = TrackedActor(1, on_error=lambda _, error: heard.append(("actor", error)))
    manager._live_actors_to_ray_actors_resources[actor] = (object(), "its share")
    if starts:
        manager._actor_start_failed(actor, error)
    else:
        manager._actor_task_failed(
            TrackedActorTask(actor, on_error=lambda _, error: heard.append(("step", error))), error
        )
    assert freed == ["its share"]
    assert not ray.is_initialized()
    assert not manager.live_actors
    assert [what for what, _ in heard] == (["actor"] if starts else ["actor", "step"])
    assert all(isinstance(told, RayActorError) and str(told) == str(error) for _, told in heard)


def test_a_full_machine_is_recorded_as_such(tmp_path: Any) -> None:
    store = open_store(tmp_path / "root")
    for error in (FULL, GONE):
        record_crash(store, TRIAL, "launch", pickle.loads(pickle.dumps(lost(error))))  # Tune writes it to a file
    first, second = sorted(read_failures(store), key=lambda failure: failure.attempt)
    assert (first.kind, second.kind) == (FailureKind.MEMORY, FailureKind.INFRASTRUCTURE)
    assert first.reason == "2 worker(s) were killed due to the node running low on memory."


def test_errors_of_trials_stay_what_they_are() -> None:
    raised = RayTaskError("step", "traceback", ValueError("of the trial"))  # type: ignore[no-untyped-call]
    own = ValueError("not of Ray")
    assert lost(raised) is raised
    assert lost(own) is own
    assert lost(DIED) is DIED


@pytest.mark.parametrize(("free", "warned"), [(1.8, False), (1.7, True), (0.2, True)])
def test_a_machine_too_full_for_one_actor_is_told_before_ray_kills_it(
    free: float, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_memory_usage_threshold", raising=False)
    monkeypatch.delenv("RAY_memory_monitor_refresh_ms", raising=False)
    said = scarce_memory(Memory(int(free * 1e9), int(23e9)))
    assert [line for line in said if f"{free} of 23.0 GB" in line and "Fix: end other programs" in line] == said
    assert bool(said) == warned


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, "1.0"),
        ({"memory_usage_threshold": "0.9"}, "2.0"),
        ({"memory_usage_threshold": "0.98"}, "0.4"),
        ({"memory_usage_threshold": "1.0"}, None),
        ({"memory_usage_threshold": "much"}, "1.0"),
        ({"min_memory_free_bytes": "500000000"}, "0.5"),
        ({"min_memory_free_bytes": "5000000000"}, "1.0"),
        ({"min_memory_free_bytes": "-1"}, "1.0"),
        ({"memory_monitor_refresh_ms": "0"}, None),
        ({"memory_monitor_refresh_ms": "1000"}, "1.0"),
    ],
    ids=str,
)
def test_the_warning_follows_the_settings_of_rays_memory_monitor(
    settings: dict[str, str], kept: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("memory_usage_threshold", "min_memory_free_bytes", "memory_monitor_refresh_ms"):
        monkeypatch.delenv(f"RAY_{name}", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(f"RAY_{name}", value)
    said = scarce_memory(Memory(int(0.9e9), int(20e9)))
    assert [f"while fewer than {kept} GB are" in line for line in said] == ([] if kept is None else [True])
