"""What `--submit` refuses before it contacts anything; a real submission is in tests/cluster."""

import socket

import pytest

from jobs.errors import Code, InvalidRequest
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.failures.versions import VersionsDiffer, require_same, versions
from orchestrator.ray_tune import submit
from orchestrator.ray_tune.submit import require_submittable
from orchestrator.ray_tune.tuner import require_answer
from tests.support import refused


@pytest.mark.parametrize("address", [None, "auto", "10.0.0.1:6379", "ray://10.0.0.1:10001"])
def test_only_a_dashboard_takes_jobs(address: str | None) -> None:
    code = Code.MISSING_KEY if address is None else Code.WRONG_VALUE
    values = ("--submit", "--address http://", f"got {address}")
    with refused(code, *values, kind=InvalidRequest, file=address or "", key="--address"):
        require_submittable(address, "s3://bucket/root")


def test_a_stopped_driver_is_given_longer_than_its_trials() -> None:
    assert RetryPolicy.stop_grace_seconds < submit._STOP_SECONDS


@pytest.mark.parametrize("root", ["demo-results", "./root", "~/root"])
def test_a_root_that_only_this_machine_has(root: str) -> None:
    values = ("--submit", "s3://, gs://", f"got {root}")
    with refused(Code.WRONG_PLACE, *values, kind=InvalidRequest, file=root, key="--results"):
        require_submittable("http://127.0.0.1:8265", root)


@pytest.mark.parametrize("root", ["s3://bucket/root", "gs://bucket/root", "/shared/root"])
def test_a_root_that_every_machine_finds(root: str) -> None:
    assert require_submittable("http://127.0.0.1:8265", root) == "http://127.0.0.1:8265"


def test_a_dashboard_is_no_cluster_address() -> None:
    address = "http://127.0.0.1:8265"
    values = (address, "--submit", "HOST:6379")
    with refused(Code.WRONG_VALUE, *values, kind=InvalidRequest, file=address, key="--address"):
        require_answer(address)


def test_the_same_versions_work_together() -> None:
    require_same(versions())


@pytest.mark.parametrize("name", ["deltasweep", "ray", "torch"])
def test_another_version_is_named_with_its_machine(name: str) -> None:
    with pytest.raises(VersionsDiffer, match=rf"{socket.gethostname()} has {name} .* \(the driver has 0\.0\.9\)"):
        require_same({**versions(), name: "0.0.9"})


def test_an_optional_package_may_be_missing_but_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without timm runs the trials of all other networks."""
    here = versions()
    assert "timm" in here
    require_same({name: version for name, version in here.items() if name != "timm"})
    with pytest.raises(VersionsDiffer, match="timm"):
        require_same({**here, "timm": "0.0.9"})
    monkeypatch.setattr(
        "orchestrator.failures.versions.versions", lambda: {name: here[name] for name in here if name != "timm"}
    )
    require_same(here)


def test_a_package_that_the_driver_lacks_differs() -> None:
    with pytest.raises(VersionsDiffer, match="ray"):
        require_same({name: version for name, version in versions().items() if name != "ray"})
