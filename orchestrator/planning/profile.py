"""Durations of trials, from timing a few real steps on this machine's device."""

from jobs.catalog.catalog import Catalog
from jobs.execution.device import default_device
from jobs.execution.device_kind import device_name
from jobs.kind import workload
from jobs.kinds.finetune.profiling import Rates, measure
from jobs.specs.optimizers import TrainingRecipe
from jobs.specs.trial import TrialSpec
from orchestrator.planning.plan import Measured


def profile_trials(specs: list[TrialSpec], catalog: Catalog) -> Measured:
    """Time each kind of step that the trials consist of, on this machine's GPU or else its processor."""
    device = default_device()
    rates: dict[object, Rates] = {}
    for spec in specs:
        work = workload(spec, catalog)
        key = (work.architecture.name, work.gradient_blocks, spec.recipe)
        if key not in rates:
            rates[key] = measure(work.architecture, work.gradient_blocks, _training(spec, work.batch_size), device)

    def seconds(spec: TrialSpec) -> float:
        work = workload(spec, catalog)
        rate = rates[(work.architecture.name, work.gradient_blocks, spec.recipe)]
        forward = work.images_evaluated + 2 * work.attack_steps
        return work.images_trained * rate.trained + forward * rate.evaluated

    batches = ", ".join(str(batch) for batch in sorted({rate.batch for rate in rates.values()}))
    about = f"measured here on {device_name(device)}, batches of {batches}, one trial at a time"
    return Measured(about, seconds, on_processor=device.type != "cuda")


def _training(spec: TrialSpec, batch_size: int) -> TrainingRecipe:
    """Return the recipe of a trial, or for a trial that trains nothing, a training recipe with the same batches."""
    if isinstance(spec.recipe, TrainingRecipe):
        return spec.recipe
    return TrainingRecipe(**spec.recipe.model_dump(), batch_size=batch_size)
