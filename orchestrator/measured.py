"""How long trials take, from timing a few real steps on this machine's device."""

import torch

from jobs.device_kind import device_name
from jobs.specs import AnySpec, Sgd
from jobs.stopwatch import Rates, measure
from orchestrator.plan import Seconds
from orchestrator.work import attack_steps, batch_size, images_evaluated, images_trained, network_of


def measured_seconds(specs: list[AnySpec]) -> tuple[str, Seconds]:
    """Time each kind of step that the trials consist of.

    Returns:
        What was measured on, and the seconds of a trial alone on that device.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rates: dict[object, Rates] = {}
    for spec in specs:
        key = (*network_of(spec), spec.recipe)
        if key not in rates:
            rates[key] = measure(*network_of(spec), _training(spec), device)

    def seconds(spec: AnySpec) -> float:
        rate = rates[(*network_of(spec), spec.recipe)]
        forward = images_evaluated(spec) + 2 * attack_steps(spec)
        return images_trained(spec) * rate.trained + forward * rate.evaluated

    batches = ", ".join(str(batch) for batch in sorted({rate.batch for rate in rates.values()}))
    return f"measured here on {device_name(device)}, batches of {batches}, one trial at a time", seconds


def _training(spec: AnySpec) -> Sgd:
    """The recipe of a trial, or that of training in the same batches for one that trains nothing."""
    if isinstance(spec.recipe, Sgd):
        return spec.recipe
    return Sgd(**spec.recipe.model_dump(), batch_size=batch_size(spec))
