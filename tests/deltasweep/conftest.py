"""Fixtures of the tests of the package ``deltasweep``: a finished root, launches without Ray, one Ray cluster."""

from pathlib import Path

import pytest

import deltasweep as ds
from tests.deltasweep.support import small
from tests.jobs.fixtures import short_tests
from tests.orchestrator.fixtures import one_ray, without_ray
from tests.orchestrator.in_process import replace_ray

__all__ = ["finished", "one_ray", "short_tests", "without_ray"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results root of the small study, which was launched without Ray."""
    root = tmp_path_factory.mktemp("finished") / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DELTASWEEP_HOME", str(root.with_name("home")))
        replace_ray(patch, tmp_path_factory.mktemp("errors"))
        assert ds.launch(small(), root, quiet=True).status == "done"
    return root
