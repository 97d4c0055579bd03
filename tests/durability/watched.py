"""The kind ``watched``: fine-tuning whose batches are traced and disturbed. No torch.

The folder ``installed`` registers it in every process that has both that folder and this repository on its PYTHONPATH.
"""

from pathlib import Path
from typing import ClassVar

from jobs.kinds.finetune.spec import FinetuneSpec
from tests.another_finetuning import another_finetuning

PYTHONPATH = [str(Path(__file__).parent / "installed"), str(Path(__file__).parents[2])]
CONTROL = "DELTASWEEP_TEST_CONTROL"
"""The variable that names the folder where trials write their trace and read their instructions."""


class WatchedSpec(FinetuneSpec):
    kind: ClassVar[str] = "watched"


KIND = another_finetuning(WatchedSpec, "tests.durability.watched_trial:WatchedTrial")
