"""What trials take in floating-point operations, alone, in bundles, and with activations that are kept. No torch."""

from collections.abc import Iterable, Sequence

from jobs import registry
from jobs.recipes import augments, normaliser
from jobs.registry.costs import Flops, activation_bytes, flops_evaluated_image, flops_trained_image
from jobs.specs import ALL, MOST_KEPT_BYTES, AnySpec, Execution, FinetuneSpec
from orchestrator.work import attack_steps, images_evaluated, images_trained, images_used, network_of


def trial_flops(spec: AnySpec) -> Flops:
    """Floating-point operations of a trial that keeps nothing, by what they are for.

    A step of an attack is a forward pass and a backward pass to the image alone, about as much again.
    """
    architecture, blocks = network_of(spec)
    forward = flops_evaluated_image(architecture)
    image = flops_trained_image(architecture, blocks)
    trained = images_trained(spec)
    return Flops(
        trunk=trained * image.trunk,
        head_forward=trained * image.head_forward,
        head_backward=trained * image.head_backward,
        evaluation=images_evaluated(spec) * forward,
        attack=attack_steps(spec) * 2 * forward,
    )


def study_flops(bundles: Iterable[Sequence[AnySpec]]) -> Flops:
    """Operations of all bundles on one machine, one after another: what is kept of test images is computed for the
    first that needs it. Each further machine would compute it once more.
    """
    total = Flops()
    there: set[object] = set()
    for bundle in bundles:
        total = total.plus(bundle_flops(bundle, there))
    return total


def bundle_flops(bundle: Sequence[AnySpec], there: set[object] | None = None) -> Flops:
    """Operations of trials that share an actor: what is frozen in several of them runs once (design, section 6), and
    where its statistics stay as they are, once an image (``jobs.activations``).

    Args:
        there: files that trials before have made, by ``kept_of_tests`` and part; those of these are added.
    """
    tuned = [spec for spec in bundle if isinstance(spec, FinetuneSpec)]
    if not tuned:
        return trial_flops(bundle[0])
    alone = [trial_flops(spec) for spec in tuned]
    tuned.sort(key=_trunk)
    there = set() if there is None else there
    return Flops(
        trunk=_trained_trunk(tuned, there),
        head_forward=sum(flops.head_forward for flops in alone),
        head_backward=sum(flops.head_backward for flops in alone),
        evaluation=_evaluation(tuned, there),
    )


def kept_bytes(specs: Iterable[AnySpec]) -> int:
    """Bytes of the files of all trials: of test images, and of whole training sets."""
    keeping = {kept_of_tests(spec): spec for spec in specs if isinstance(spec, FinetuneSpec) and spec.keeps_activations}
    return sum(
        (registry.dataset(spec.dataset).test + _shares_training(spec) * images_used(spec))
        * activation_bytes(*network_of(spec))
        for spec in keeping.values()
    )


def kept_of_tests(spec: FinetuneSpec) -> object:
    """Equal for trials that find each other's activations of the test set."""
    recipe, source = spec.recipe, registry.source(spec.source)
    own: tuple[int, ...] = (spec.seed,) if source.random else ()
    if recipe.frozen_batchnorm == "calibrated":
        own = (spec.seed, spec.images, recipe.batch_size)
    execution = tuple(getattr(recipe, name) for name in Execution.model_fields)
    statistics = normaliser(recipe, source, registry.dataset(spec.dataset))
    return spec.source, spec.dataset, spec.blocks, recipe.frozen_batchnorm, statistics, execution, own


def _trained_trunk(tuned: Sequence[FinetuneSpec], there: set[object]) -> float:
    """Of what is frozen, on training images: once an image where it is kept, else in each batch, to the deepest cut.

    Args:
        tuned: trials of a bundle, the largest heads first.
    """
    calibrates = tuned[-1].recipe.frozen_batchnorm == "calibrated"
    once = _trunk(tuned[-1]) if calibrates else 0
    each_batch = below = 0
    for spec in tuned:
        if _keeps_training(spec):
            file = ("train", kept_of_tests(spec))
            once += 0 if file in there else _trunk(spec) - below
            below = _trunk(spec)
            there |= {file} if _shares_training(spec) else set()
        else:
            each_batch, below = _trunk(spec), 0
    return images_used(tuned[-1]) * once + images_trained(tuned[-1]) * each_batch


def _evaluation(tuned: Sequence[FinetuneSpec], there: set[object]) -> float:
    """Of passes over the test set, the trunk's and the heads'."""
    forward = flops_evaluated_image(network_of(tuned[-1])[0])
    once = each_time = below = 0
    for spec in tuned:
        if spec.keeps_activations:
            file = ("test", kept_of_tests(spec))
            once += 0 if file in there else _trunk(spec) - below
            below = _trunk(spec)
            there.add(file)
        else:
            each_time = _trunk(spec)
    each_time += sum(forward - _trunk(spec) for spec in tuned)
    return registry.dataset(tuned[-1].dataset).test * once + images_evaluated(tuned[-1]) * each_time


def _keeps_training(spec: FinetuneSpec) -> bool:
    size = activation_bytes(*network_of(spec)) if spec.keeps_activations else 0
    return spec.keeps_activations and not augments(spec) and images_used(spec) * size <= MOST_KEPT_BYTES


def _shares_training(spec: FinetuneSpec) -> bool:
    """Whether all trials with this trunk keep their training images in one file."""
    return spec.images == ALL and _keeps_training(spec)


def _trunk(spec: FinetuneSpec) -> int:
    """Operations of what is frozen on one image."""
    return int(flops_trained_image(*network_of(spec)).trunk)
