"""Whether a trial can exist, as far as the registry knows: asked before anything is loaded. No torch."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from math import floor

from jobs import registry
from jobs.dense import dense_rows
from jobs.errors import Code, InvalidRequest, Mistake, Place
from jobs.registry import DatasetCard
from jobs.registry.categories import in_categories, same_labels
from jobs.registry.costs import last_layer_inputs
from jobs.results.layout import NAME_BYTES
from jobs.specs import (
    ALL,
    MOST_DECOMPOSED,
    MOST_DENSE,
    AnySpec,
    AttackSpec,
    Decomposition,
    ExaminationSpec,
    FinetuneSpec,
    InfluenceSpec,
    Measure,
    PretrainSpec,
    ShapeBiasSpec,
    ThreatModel,
    VisualizeSpec,
)

_LONGEST_SUFFIX = ".safetensors"


def problems(spec: AnySpec) -> list[Mistake]:
    """Every rule that the trial breaks, with the field that breaks it; an empty list means that it can be run."""
    return _unnameable(spec) or _impossibilities(spec)


def _unnameable(spec: AnySpec) -> list[Mistake]:
    """Files of a trial are named by its id, and that by what it is of."""
    if len(f"{spec.trial_id}{_LONGEST_SUFFIX}".encode()) <= NAME_BYTES:
        return []
    field, name = ("architecture", spec.architecture) if isinstance(spec, PretrainSpec) else ("source", spec.source)
    said = f"{field}: a name on disk has at most {NAME_BYTES} bytes, and a trial of {name!r} and {spec.dataset!r} more"
    return [Mistake(Code.WRONG_NAME, Place(key=field), f"{said}. Fix: shorten one of the two")]


def _impossibilities(spec: AnySpec) -> list[Mistake]:
    match spec:
        case PretrainSpec():
            return _pretraining(spec)
        case FinetuneSpec():
            return _finetuning(spec)
        case AttackSpec():
            return _knowing(spec, unknown_labels) or [
                *_within_test_set(spec.dataset, spec.test_images),
                *_empty_band(spec.threat, registry.source(spec.source).architecture),
            ]
        case InfluenceSpec():
            tuned = spec.network
            return _knowing(spec, unknown_labels) or _impossible(
                *weighing(tuned.source, tuned.dataset, tuned.images, spec.measure, spec.top, spec.decomposition)
            )
        case ShapeBiasSpec():
            return _knowing(spec, undecidable)
        case VisualizeSpec():
            return _examined(spec) or [
                *_within_test_set(spec.dataset, spec.test_images),
                *_impossible(*beyond_features(spec.source, spec.unit)),
            ]
        case ExaminationSpec():
            return _examined(spec)


def _impossible(*found: str) -> list[Mistake]:
    """Rules that values break together; each begins with the name of its field."""
    return [Mistake(Code.IMPOSSIBLE_TRIAL, Place(key=said.partition(":")[0]), said) for said in found]


def _as_found(error: InvalidRequest) -> Mistake:
    return Mistake(error.code, error.place, str(error))


def _pretraining(spec: PretrainSpec) -> list[Mistake]:
    """Architecture and dataset are in the registry; perturbations have a frequency to be of."""
    found = []
    for known, name in ((registry.architecture, spec.architecture), (registry.dataset, spec.dataset)):
        try:
            known(name)
        except InvalidRequest as error:
            found.append(_as_found(error))
    if found:
        return found
    card = registry.dataset(spec.dataset)
    return [*([] if card.train else _impossible(no_training(card))), *_empty_band(spec.threat, spec.architecture)]


def _empty_band(threat: ThreatModel, architecture: str) -> list[Mistake]:
    """Why no perturbation of the network's images lies in a band: there is no whole number of cycles in it."""
    half = registry.architecture(architecture).image_size / 2
    if threat.band is None or threat.band[0] == 0 or floor(threat.band[1] * half) > floor(threat.band[0] * half):
        return []
    return _impossible(
        f"band: of images of {2 * half:.0f} pixels no frequency is above {threat.band[0] * half:g} and up to "
        f"{threat.band[1] * half:g} cycles; it is {list(threat.band)}"
    )


def _finetuning(spec: FinetuneSpec) -> list[Mistake]:
    """Source and dataset are in the registry; the subset is not larger than the training set
    and not smaller than the number of labels; there are as many blocks as are to be fine-tuned.
    """
    found = []
    try:
        card = registry.dataset(spec.dataset)
        if not card.train:
            found += _impossible(no_training(card))
        elif card.labels < 2:
            found += _impossible(
                f"dataset: there is something to tell apart where there are two labels or more; {card.name} has "
                f"{card.labels}"
            )
        elif spec.images != ALL and not card.labels <= spec.images <= card.train:
            found += _impossible(
                f"images: a subset of {spec.dataset} has {card.labels} (one image a label) to {card.train} images, "
                f"or -1 for all; it is {spec.images}"
            )
    except InvalidRequest as error:
        found.append(_as_found(error))
    try:
        architecture = registry.source(spec.source).architecture
        blocks = registry.architecture(architecture).blocks
        if spec.blocks > blocks:
            found += _impossible(f"blocks: {spec.source} ({architecture}) has {blocks} blocks; asked for {spec.blocks}")
    except InvalidRequest as error:
        found.append(_as_found(error))
    return found


def no_training(card: DatasetCard) -> str:
    """Why nothing is fine-tuned on a dataset."""
    return f"dataset: all {card.test} images of {card.name} are for testing; nothing can be trained on them"


def _examined(spec: ExaminationSpec) -> list[Mistake]:
    """What is examined can exist and has weights, and there is such a dataset."""
    if isinstance(spec.network, FinetuneSpec) and (found := _finetuning(spec.network)):
        return found
    try:
        registry.dataset(spec.dataset)
        if isinstance(spec.network, str) and registry.source(spec.network).random:
            return _impossible(
                f"network: {spec.source} is drawn from each trial's seed; examine trials fine-tuned from it"
            )
    except InvalidRequest as error:
        return [_as_found(error)]
    return []


def _knowing(spec: ExaminationSpec, mismatch: Callable[[DatasetCard, DatasetCard], str | None]) -> list[Mistake]:
    """What is examined can exist, has weights, and fits the images that it is shown.

    Args:
        mismatch: why a network that knows one dataset's labels cannot be shown another's images, or None.
    """
    if found := _examined(spec):
        return found
    try:
        source, shown = registry.source(spec.source), registry.dataset(spec.dataset)
        known = registry.dataset(source.test_dataset if isinstance(spec.network, str) else spec.network.dataset)
    except InvalidRequest as error:
        return [_as_found(error)]
    said = mismatch(known, shown)
    return [] if said is None else _impossible(f"dataset: {said}")


def unknown_labels(known: DatasetCard, shown: DatasetCard) -> str | None:
    """Why a network that knows the labels of one dataset has no accuracy on another's images; None: it has."""
    if same_labels(known, shown):
        return None
    theirs = str(shown.labels) if known.labels != shown.labels else "others, by their names (`label_names`)"
    return (
        f"a network is shown images of the labels that it knows; it knows the {known.labels} of {known.name}, "
        f"{shown.name} has {theirs}"
    )


def undecidable(known: DatasetCard, shown: DatasetCard) -> str | None:
    """Why a network that knows the labels of one dataset decides nothing between shape and texture of another's images;
    None: it does.
    """
    if not shown.conflicting:
        made = ", ".join(name for name, card in registry.datasets().items() if card.conflicting)
        return f"shape bias is asked of images whose cues conflict, as those of {made}; {shown.name} has none"
    if in_categories(known, shown):
        return None
    return unknown_labels(known, shown)


def _within_test_set(dataset: str, asked: int) -> list[Mistake]:
    card = registry.datasets().get(dataset)
    if card is not None and asked > card.test:
        return _impossible(f"test_images: {dataset} has {card.test} to be shown; asked for {asked}")
    return []


def beyond_features(source: str, unit: int) -> list[str]:
    """Why a network's penultimate layer has no such feature."""
    architecture = registry.source(source).architecture
    features = last_layer_inputs(architecture) - 1
    if unit >= features:
        return [f"unit: {source} ({architecture}) has the features 0 to {features - 1}; asked for {unit}"]
    return []


def weighing(
    source: str, dataset: str, images: int, measure: Measure, top: int, decomposition: Decomposition = "eigh"
) -> list[str]:
    """Why the training images of a network cannot be weighed: more asked for than there are, or a matrix too large.

    Args:
        images: size of its training subset; -1: the whole set.
        decomposition: of the pseudo-inverse.
    """
    card = registry.dataset(dataset)
    used = card.train if images == ALL else images
    found = []
    if top > used:
        found.append(f"top: of {used} training images {top} cannot be kept")
    rows = dense_rows(source, dataset, images, measure)
    if measure == "pseudo-inverse" and rows > (most := MOST_DECOMPOSED[decomposition]):
        found.append(
            f"measure: the Hessian is held whole up to {most} rows by {decomposition}; {source} on {dataset} has "
            f"{rows}; use influence, which does not make it"
        )
    if measure == "fisher" and rows > MOST_DENSE:
        found.append(f"measure: fisher compares up to {MOST_DENSE} training images; there are {used}; use influence")
    return found


def require_possible(spec: AnySpec) -> None:
    """Refuse a trial that cannot exist.

    Raises:
        InvalidRequest: with every rule that it breaks.
    """
    if found := problems(spec):
        raise _refusal(f"trial {spec.trial_id} cannot be run", found)


def require_all_possible(specs: Iterable[AnySpec]) -> None:
    """Refuse trials some of which cannot exist.

    Raises:
        InvalidRequest: with every rule that one of them breaks.
    """
    broken = Counter(mistake for spec in specs for mistake in problems(spec))
    if broken:
        counted = [
            mistake._replace(message=f"{mistake.message} ({count:,} of them)") for mistake, count in broken.items()
        ]
        raise _refusal("the study has trials that cannot be run", counted)


def _refusal(rule: str, mistakes: Sequence[Mistake]) -> InvalidRequest:
    """The error that tells mistakes, each on a line; its code and place are those of the first."""
    lines = "\n".join(f"- {mistake.message}" for mistake in mistakes)
    first = mistakes[0]
    return InvalidRequest(first.code, f"{rule}:\n{lines}", key=first.place.key, mistakes=mistakes)


def whole_set_as_all(spec: FinetuneSpec) -> FinetuneSpec:
    """The same trial with a size equal to the whole training set written as -1, so that it has one id."""
    card = registry.datasets().get(spec.dataset)
    if card is not None and spec.images == card.train:
        return spec.model_copy(update={"images": ALL})
    return spec
