"""How long trials take, from timing a few real steps on this machine's device."""

import torch

from jobs.numerics import device_kind
from jobs.specs import AnySpec, PretrainSpec
from jobs.stopwatch import Rates, measure
from orchestrator.plan import Seconds, images_evaluated, images_trained, network_of


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
            rates[key] = measure(*network_of(spec), spec.recipe, device)

    def seconds(spec: AnySpec) -> float:
        rate = rates[(*network_of(spec), spec.recipe)]
        # a step of an attack is a forward pass, and a backward pass to the image of about the same length
        attack = 2 * rate.evaluated * (spec.threat.steps if isinstance(spec, PretrainSpec) else 0)
        return images_trained(spec) * (rate.trained + attack) + images_evaluated(spec) * rate.evaluated

    batches = ", ".join(str(batch) for batch in sorted({rate.batch for rate in rates.values()}))
    return f"measured here on {device_kind(device)}, batches of {batches}, one trial at a time", seconds
