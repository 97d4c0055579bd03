"""What plans and launches say of this machine's processor, where trials in 16 bits run on it. No torch."""

from collections.abc import Iterable, Iterator

from jobs.catalog.catalog import Catalog
from jobs.kind import workload
from jobs.specs.trial import TrialSpec
from jobs.system.processor import Format16, features, units_for

_FORMATS: tuple[Format16, ...] = ("bfloat16", "float16")

_EMULATED: dict[Format16, str] = {"bfloat16": "4.5", "float16": "18"}
"""How many times the processor time of float32 training took without units for a format (docs/how-to/precision.md)."""


def without_units(specs: Iterable[TrialSpec], catalog: Catalog) -> list[str]:
    """Return a sentence for each 16-bit format of the trials that this processor emulates, wholly or in training.

    Empty if the operating system does not tell the processor's features.
    """
    trains: dict[Format16, bool] = {}
    for spec in specs:
        form = spec.recipe.precision
        if form != "float32" and not trains.get(form):
            trains[form] = workload(spec, catalog).images_trained > 0
    known = features() if trains else frozenset()
    return list(_sentences(trains, known)) if known else []


def _sentences(trains: dict[Format16, bool], known: frozenset[str]) -> Iterator[str]:
    for form in _FORMATS:
        if form not in trains:
            continue
        units = units_for(form, known)
        if not units:
            yield (
                f"This processor has no units for {form} and emulates it: training ResNet-50 took "
                f"{_EMULATED[form]} times the processor time of float32 where this was measured."
            )
        elif units == {"avx512_fp16"} and trains[form]:
            yield (
                "This processor's units for float16 (avx512_fp16) do not compute the gradients of convolutions' "
                "weights, which are emulated: they took more than 100 times the processor time of float32 where this "
                "was measured."
            )
