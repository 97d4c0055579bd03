"""Durations of trials, from timing a few real steps on this machine's device."""

import torch

from jobs.catalog.catalog import Catalog
from jobs.execution.device import default_device
from jobs.execution.device_kind import device_name
from jobs.kind import workload
from jobs.kinds.finetune.profiling import Rates, measure
from jobs.specs.optimizers import TrainingRecipe
from jobs.specs.trial import TrialSpec
from jobs.system.processor import cores
from orchestrator.planning.gpu_table import Device
from orchestrator.planning.plan import Measured
from orchestrator.planning.timed_steps import STEPS, Timed, batch_on_processor, timed_as


def profile_trials(specs: list[TrialSpec], catalog: Catalog) -> Measured:
    """Time each kind of step that the trials consist of, on this machine's GPU or else its processor."""
    device = default_device()
    rates: dict[Timed, Rates] = {}
    timed: set[int] = set()
    for spec in specs:
        key = timed_as(spec, catalog)
        if key not in rates:
            work = workload(spec, catalog)
            recipe = _training(spec, work.batch_size)
            batch = recipe.batch_size if device.type == "cuda" else batch_on_processor(work)
            rates[key] = measure(work.architecture, work.gradient_blocks, recipe, device, batch, STEPS)
            timed.add(batch)

    def seconds(spec: TrialSpec) -> float:
        work = workload(spec, catalog)
        rate = rates[timed_as(spec, catalog)]
        forward = work.images_evaluated + 2 * work.attack_steps
        return work.images_trained * rate.trained + forward * rate.evaluated

    batches = ", ".join(map(str, sorted(timed)))
    about = f"measured here on {device_name(device)}, batches of {batches}, one trial at a time"
    if device.type != "cuda":
        return Measured(about, seconds, cores())
    memory = torch.cuda.get_device_properties(device).total_memory
    return Measured(about, seconds, gpu=Device(torch.cuda.get_device_name(device), memory))


def _training(spec: TrialSpec, batch_size: int) -> TrainingRecipe:
    """Return the recipe of a trial, or for a trial that trains nothing, a training recipe with the same batches."""
    if isinstance(spec.recipe, TrainingRecipe):
        return spec.recipe
    return TrainingRecipe(**spec.recipe.model_dump(), batch_size=batch_size)
