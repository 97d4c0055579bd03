"""Whether a trial can exist, as far as the registry knows: asked before anything is loaded. No torch."""

from jobs import registry
from jobs.errors import InvalidRequest
from jobs.specs import ALL, FinetuneSpec, PretrainSpec


def problems(spec: FinetuneSpec | PretrainSpec) -> list[str]:
    """Every rule that the trial breaks, in words; an empty list means that it can be run."""
    return _finetuning(spec) if isinstance(spec, FinetuneSpec) else _pretraining(spec)


def _pretraining(spec: PretrainSpec) -> list[str]:
    """Architecture and dataset are in the registry."""
    found = []
    for known, name in ((registry.architecture, spec.architecture), (registry.dataset, spec.dataset)):
        try:
            known(name)
        except InvalidRequest as error:
            found.append(str(error))
    return found


def _finetuning(spec: FinetuneSpec) -> list[str]:
    """Source and dataset are in the registry; the subset is not larger than the training set
    and not smaller than the number of labels; there are as many blocks as are to be fine-tuned.
    """
    found = []
    try:
        card = registry.dataset(spec.dataset)
        if spec.images != ALL and not card.labels <= spec.images <= card.train:
            found.append(
                f"images: a subset of {spec.dataset} has {card.labels} (one image a label) to {card.train} images, "
                f"or -1 for all; it is {spec.images}"
            )
    except InvalidRequest as error:
        found.append(str(error))
    try:
        architecture = registry.source(spec.source).architecture
        blocks = registry.architecture(architecture).blocks
        if spec.blocks > blocks:
            found.append(f"blocks: {spec.source} ({architecture}) has {blocks} blocks; asked for {spec.blocks}")
    except InvalidRequest as error:
        found.append(str(error))
    return found


def require_possible(spec: FinetuneSpec | PretrainSpec) -> None:
    """Refuse a trial that cannot exist.

    Raises:
        InvalidRequest: with every rule that it breaks.
    """
    if found := problems(spec):
        raise InvalidRequest(f"trial {spec.trial_id} cannot be run:\n" + "\n".join(f"- {line}" for line in found))


def whole_set_as_all(spec: FinetuneSpec) -> FinetuneSpec:
    """The same trial with a size equal to the whole training set written as -1, so that it has one id."""
    card = registry.datasets().get(spec.dataset)
    if card is not None and spec.images == card.train:
        return spec.model_copy(update={"images": ALL})
    return spec
