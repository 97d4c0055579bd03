"""An actor on a machine that lacks one of the driver's packages."""

import json

import pytest

from orchestrator.failures.versions import VersionsDiffer, versions
from orchestrator.ray_tune.trainable import TrialActor


def test_a_kind_whose_package_is_not_installed_there_is_that_machines_fault() -> None:
    """No trial is charged: the missing package is reported before the trial is read."""
    actor = TrialActor.__new__(TrialActor)
    job = {"versions": {**versions(), "deltasweep-elsewhere": "1.0"}}
    actor.setup({"job": json.dumps(job), "trials": json.dumps([{"kind": "elsewhere"}])})
    with pytest.raises(VersionsDiffer, match=r"deltasweep-elsewhere missing \(the driver has 1\.0\)"):
        actor.step()
