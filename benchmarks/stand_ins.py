"""The kind ``stand_in``: a substitute for fine-tuning, for measuring the scheduler. No torch.

The folder ``installed`` registers the kind in every process with that folder and this repository on its PYTHONPATH.
"""

import os
from pathlib import Path
from typing import ClassVar

from jobs.kinds.finetune.spec import FinetuneSpec
from tests.another_finetuning import another_finetuning

PYTHONPATH = [str(Path(__file__).parent / "installed"), str(Path(__file__).parents[1])]
SECONDS_VARIABLE = "DELTASWEEP_BENCHMARK_SECONDS"
"""Environment variable: seconds that a trial sleeps per trained image (images times epochs); 0 for no-op trials."""


class StandInSpec(FinetuneSpec):
    kind: ClassVar[str] = "stand_in"


KIND = another_finetuning(StandInSpec, "benchmarks.stand_in_trial:StandIn")


def environment(seconds_an_image: float = 0.0) -> dict[str, str]:
    """Return the environment for processes in which the kind is registered."""
    path = os.pathsep.join([*PYTHONPATH, os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, SECONDS_VARIABLE: str(seconds_an_image)}


def duration(spec: FinetuneSpec, seconds_an_image: float) -> float:
    """Return the seconds that a trial sleeps."""
    return seconds_an_image * spec.images * spec.epochs
