"""The files for Ray's cluster launcher, checked against Ray's own schema and bootstrap code and against the project."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.local.config import bootstrap_local
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[3]
AWS = ROOT / "cluster.yaml"
CLUSTERS = ROOT / "orchestrator" / "clusters"
LAUNCHER_FILES = [AWS, CLUSTERS / "gcp.yaml", CLUSTERS / "local.yaml"]
ALL_FILES = [*LAUNCHER_FILES, CLUSTERS / "rayjob.yaml"]

each_launcher_file = pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.stem)
each_file = pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


@each_launcher_file
def test_it_passes_rays_schema(path: Path) -> None:
    validate_config(prepare_config(load(path)))


def test_rays_schema_would_refuse_a_wrong_key() -> None:
    with pytest.raises(jsonschema.ValidationError, match="nonsense"):
        validate_config(prepare_config({**load(AWS), "nonsense": 1}))


@pytest.fixture
def bootstrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the configuration that Ray's own AWS code derives from the file, with moto in place of the cloud."""
    (tmp_path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "fake")
    with mock_aws():
        config: dict[str, Any] = bootstrap_aws(prepare_config(load(AWS)))  # type: ignore[no-untyped-call]  # untyped in Ray
        return config


def test_aws_workers_are_spot_and_the_head_is_not(bootstrapped: dict[str, Any]) -> None:
    types = bootstrapped["available_node_types"]
    head = types.pop(bootstrapped["head_node_type"])
    assert "InstanceMarketOptions" not in head["node_config"]
    assert head["max_workers"] == 0
    assert len(types) == 2, "a second type is the way out when the first is not to be had"
    assert all(t["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} for t in types.values())
    assert all(t["min_workers"] == 0 and t["resources"]["GPU"] == 1 for t in types.values())


def test_aws_machines_come_with_keys_network_and_imdsv2(bootstrapped: dict[str, Any]) -> None:
    for name, node_type in bootstrapped["available_node_types"].items():
        node = node_type["node_config"]
        assert node["KeyName"], name
        assert node["SubnetIds"], name
        assert node["SecurityGroupIds"], name
        assert node["MetadataOptions"]["HttpTokens"] == "required", name


def test_googles_machines_have_the_driver_and_python_that_the_pinned_torch_needs() -> None:
    """CUDA 13 needs NVIDIA's driver 580, and the project needs Python 3.11; Ubuntu 24.04 has 3.12."""
    assert str(torch.version.cuda).startswith("13.")
    for node_type in load(CLUSTERS / "gcp.yaml")["available_node_types"].values():
        (disk,) = node_type["node_config"]["disks"]
        assert disk["initializeParams"]["sourceImage"].endswith("-ubuntu-2404-nvidia-580")


def test_local_machines_are_all_used() -> None:
    config = bootstrap_local(prepare_config(load(CLUSTERS / "local.yaml")))
    node_type = config["available_node_types"]["local.cluster.node"]
    assert node_type["min_workers"] == node_type["max_workers"] == len(config["provider"]["worker_ips"])


@each_launcher_file
def test_the_dashboard_is_on_loopback_and_ray_wants_the_token(path: Path) -> None:
    config = load(path)
    (head,) = config["head_start_ray_commands"]
    assert "--dashboard-host=127.0.0.1" in head
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])
    assert "0.0.0.0" not in path.read_text(encoding="utf-8")


@each_file
def test_no_machine_sends_usage_statistics(path: Path) -> None:
    """Only the head would send them, but every process of Ray is told not to."""
    text = path.read_text(encoding="utf-8")
    config = load(path)
    if path in LAUNCHER_FILES:
        (head,) = config["head_start_ray_commands"]
        assert "--disable-usage-stats" in head
        assert any("export" in c and "RAY_USAGE_STATS_ENABLED=0" in c for c in config["setup_commands"])
        return
    groups = [config["spec"]["rayClusterSpec"]["headGroupSpec"], *config["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    assert groups[0]["rayStartParams"]["disable-usage-stats"] == "true"
    containers = [container for group in groups for container in group["template"]["spec"]["containers"]]
    assert all({"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"] for container in containers)
    assert text.count("RAY_USAGE_STATS_ENABLED") == len(containers)


@each_launcher_file
def test_ray_on_workers_blocks_under_the_supervisor(path: Path) -> None:
    commands = load(path)["worker_start_ray_commands"]
    assert "orchestrator.nodes.supervisor --name ray -- ray start --block" in commands[0]
    assert all(command.startswith("python -m orchestrator.nodes.supervisor") for command in commands)


@pytest.mark.parametrize(("path", "cloud"), [(AWS, "aws"), (CLUSTERS / "gcp.yaml", "gcp")])
def test_spot_workers_watch_for_the_notice(path: Path, cloud: str) -> None:
    (watcher,) = [c for c in load(path)["worker_start_ray_commands"] if "orchestrator.nodes.spot_watcher" in c]
    assert f"--cloud {cloud} --address $RAY_HEAD_IP:6379" in watcher


@each_launcher_file
def test_the_projects_own_wheel_is_installed(path: Path) -> None:
    config = load(path)
    wheel = f"deltasweep-{version('deltasweep')}-py3-none-any.whl"
    assert config["file_mounts"][f"~/{wheel}"] == f"dist/{wheel}"
    assert config["file_mounts"]["~/constraints.txt"] == "dist/constraints.txt"
    packages, own = [command for command in config["setup_commands"] if "pip install" in command][:2]
    assert "--no-deps --require-hashes --requirement ~/constraints.txt" in packages
    assert own.endswith(f"--no-deps ~/{wheel}")


def test_the_rayjob_has_the_projects_ray() -> None:
    spec = load(CLUSTERS / "rayjob.yaml")["spec"]
    (locked,) = re.findall(r"^ray(?:\[.*?\])?==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert spec["rayClusterSpec"]["rayVersion"] == locked, "what the cluster's machines install"
    containers = [
        container
        for group in (spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    ]
    assert all(container["image"].endswith(f":{version('deltasweep')}") for container in containers)
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}


@each_file
def test_no_secret_stands_in_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8").lower()
    assert not [
        word for word in ("secret_access_key", "aws_access_key_id", "password", "ray_auth_token=") if word in text
    ]
