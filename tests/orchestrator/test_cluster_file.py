"""The cluster launcher's file at the repository's root, against Ray's own schema."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


def test_the_cluster_file_passes_rays_schema() -> None:
    validate_config(prepare_config(yaml.safe_load(CLUSTER.read_text())))


def test_rays_schema_would_refuse_a_wrong_key() -> None:
    with pytest.raises(jsonschema.ValidationError, match="nonsense"):
        validate_config(prepare_config({**yaml.safe_load(CLUSTER.read_text()), "nonsense": 1}))


def test_the_dashboard_is_not_open_to_the_world() -> None:
    commands = " ".join(yaml.safe_load(CLUSTER.read_text())["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in commands
    assert "0.0.0.0" not in CLUSTER.read_text()
