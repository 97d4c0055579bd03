"""The kind ``finetune``: the last blocks of a source are trained on a random subset of a target."""

from collections.abc import Sequence
from typing import Any

from jobs.catalog.catalog import Catalog
from jobs.kind import Kind, ResultRow, Stage, Workload
from jobs.kinds.finetune.columns import ROWS
from jobs.kinds.finetune.preprocessing import crops_whole
from jobs.kinds.finetune.problems import problems
from jobs.kinds.finetune.sharing import SHARING
from jobs.kinds.finetune.spec import FinetuneSpec, images_used
from jobs.kinds.training.rows import contradictions


def workload(spec: FinetuneSpec, catalog: Catalog) -> Workload:
    """Count the training subset in every epoch, and the whole test set after each evaluated epoch."""
    return Workload(
        architecture=catalog.architecture_of(spec.source),
        gradient_blocks=spec.blocks,
        batch_size=spec.recipe.batch_size,
        evaluation_batch_size=spec.recipe.evaluation_batch_size,
        images_trained=images_used(spec, catalog) * spec.epochs,
        images_evaluated=catalog.dataset(spec.dataset).test * spec.evaluations,
        checkpoint_blocks=spec.blocks,
        state_numbers=spec.recipe.state_numbers,
        whole_training_images=crops_whole(spec, catalog),
    )


def row_numbers(first: ResultRow, numbers: Sequence[Any]) -> Sequence[Any]:
    """Return the evaluated epochs."""
    step, epochs = first["evaluate_every"] or 1, first["epochs"]
    if not 1 <= len(numbers) <= epochs or step < 1:
        return []
    return sorted({*range(1, min(epochs, step * len(numbers)) + 1, step), epochs})


KIND = Kind(
    spec=FinetuneSpec,
    stage=Stage.TRANSFER,
    rows=ROWS,
    workload=workload,
    problems=problems,
    row_numbers=row_numbers,
    contradictions=contradictions,
    trial="jobs.kinds.finetune.trial:Finetuning",
    sharing=SHARING,
)
