"""What fine-tuning trials share in an actor and store on a machine, and its cost. No torch."""

from collections.abc import Iterable, Sequence

from jobs.catalog.catalog import Catalog
from jobs.catalog.costs import Flops, activation_bytes, flops_evaluated_image, flops_trained_image
from jobs.kind import Sharing, workload
from jobs.kinds.finetune.preprocessing import augments, normalizer
from jobs.kinds.finetune.spec import MOST_KEPT_BYTES, FinetuneSpec, apart_from_blocks, images_used
from jobs.specs.base import ALL
from jobs.specs.optimizers import Execution


def bundle_flops(bundle: Sequence[FinetuneSpec], catalog: Catalog, there: set[object]) -> Flops:
    """Return the FLOPs of trials that share an actor.

    What is frozen in several of them runs once per batch; if its statistics are fixed, once per image
    (``jobs.kinds.finetune.activation_cache``).

    Args:
        there: files written by earlier trials, as pairs of split and ``kept_of_tests``; the files that these trials
            write are added.
    """
    tuned = sorted(bundle, key=lambda spec: _trunk(spec, catalog))
    works = [workload(spec, catalog) for spec in tuned]
    heads = [(work.images_trained, flops_trained_image(work.architecture, work.gradient_blocks)) for work in works]
    return Flops(
        trunk=_trained_trunk(tuned, catalog, there),
        head_forward=sum(images * flops.head_forward for images, flops in heads),
        head_backward=sum(images * flops.head_backward for images, flops in heads),
        evaluation=_evaluation(tuned, catalog, there),
    )


def kept_bytes(specs: Iterable[FinetuneSpec], catalog: Catalog) -> int:
    """Return the bytes of all trials' activation files: test images and whole training sets."""
    files = {file: spec for spec in specs if spec.keeps_activations for file in _files(spec, catalog)}
    return sum(
        (catalog.dataset(spec.dataset).test if split == "test" else images_used(spec, catalog))
        * _kept_of_image(spec, catalog)
        for (split, _), spec in files.items()
    )


def _files(spec: FinetuneSpec, catalog: Catalog) -> list[tuple[str, object]]:
    """Return the activation files that a trial writes or reads: split and ``kept_of_tests``."""
    kept = kept_of_tests(spec, catalog)
    return [("test", kept), *([("train", kept)] if _shares_training(spec, catalog) else [])]


def kept_of_tests(spec: FinetuneSpec, catalog: Catalog) -> object:
    """Return a key that is equal for trials that share activations of the test set."""
    recipe, source = spec.recipe, catalog.source(spec.source)
    own: tuple[int, ...] = (spec.seed,) if source.random else ()
    if recipe.frozen_batchnorm == "calibrated":
        own = (spec.seed, spec.images, recipe.batch_size)
    execution = tuple(getattr(recipe, name) for name in Execution.model_fields)
    statistics = normalizer(recipe, source, catalog.dataset(spec.dataset))
    ways = recipe.frozen_batchnorm, recipe.evaluation
    return spec.source, spec.dataset, spec.blocks, *ways, statistics, execution, own


def _trained_trunk(tuned: Sequence[FinetuneSpec], catalog: Catalog, there: set[object]) -> float:
    """Return the FLOPs of the trunk on training images.

    It runs once per image where activations are stored, and else in each batch, up to the deepest cut.

    Args:
        tuned: trials of a bundle, largest heads first.
    """
    has_statistics = catalog.architecture_of(tuned[-1].source).running_statistics
    calibrates = has_statistics and tuned[-1].recipe.frozen_batchnorm == "calibrated"
    once = _trunk(tuned[-1], catalog) if calibrates else 0
    each_batch = below = 0
    for spec in tuned:
        if _keeps_training(spec, catalog):
            file = ("train", kept_of_tests(spec, catalog))
            once += 0 if file in there else _trunk(spec, catalog) - below
            below = _trunk(spec, catalog)
            there |= {file} if _shares_training(spec, catalog) else set()
        else:
            each_batch, below = _trunk(spec, catalog), 0
    work = workload(tuned[-1], catalog)
    return images_used(tuned[-1], catalog) * once + work.images_trained * each_batch


def _evaluation(tuned: Sequence[FinetuneSpec], catalog: Catalog, there: set[object]) -> float:
    """Return the FLOPs of passes over the test set, through trunk and heads."""
    work = workload(tuned[-1], catalog)
    forward = flops_evaluated_image(work.architecture)
    once = each_time = below = 0
    for spec in tuned:
        if spec.keeps_activations:
            file = ("test", kept_of_tests(spec, catalog))
            once += 0 if file in there else _trunk(spec, catalog) - below
            below = _trunk(spec, catalog)
            there.add(file)
        else:
            each_time = _trunk(spec, catalog)
    each_time += sum(forward - _trunk(spec, catalog) for spec in tuned)
    return catalog.dataset(tuned[-1].dataset).test * once + work.images_evaluated * each_time


def _keeps_training(spec: FinetuneSpec, catalog: Catalog) -> bool:
    if not spec.keeps_activations or augments(spec, catalog):
        return False
    return images_used(spec, catalog) * _kept_of_image(spec, catalog) <= MOST_KEPT_BYTES


def _shares_training(spec: FinetuneSpec, catalog: Catalog) -> bool:
    """Return whether all trials with this trunk store their training images' activations in one file."""
    return spec.images == ALL and _keeps_training(spec, catalog)


def _kept_of_image(spec: FinetuneSpec, catalog: Catalog) -> int:
    """Return the bytes of one image's activations at the trial's cut."""
    return activation_bytes(catalog.architecture_of(spec.source), spec.blocks, spec.recipe.number_bytes)


def _trunk(spec: FinetuneSpec, catalog: Catalog) -> int:
    """Return the FLOPs of the frozen part on one image."""
    return int(flops_trained_image(catalog.architecture_of(spec.source), spec.blocks).trunk)


SHARING = Sharing(
    bundle="jobs.kinds.finetune.bundle:Bundle", key=apart_from_blocks, flops=bundle_flops, kept_bytes=kept_bytes
)
