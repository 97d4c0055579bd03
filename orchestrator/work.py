"""What a trial of each kind amounts to, in images. No torch."""

from jobs import registry
from jobs.specs import (
    ALL,
    AnySpec,
    AttackSpec,
    ExaminationSpec,
    FinetuneSpec,
    InfluenceSpec,
    PretrainSpec,
    VisualizeSpec,
)


def network_of(spec: AnySpec) -> tuple[str, int]:
    """A trial's architecture, and the blocks that gradients go through; some examinations' go to the image."""
    match spec:
        case PretrainSpec():
            return spec.architecture, ALL
        case FinetuneSpec():
            return registry.source(spec.source).architecture, spec.blocks
        case AttackSpec() | VisualizeSpec():
            return registry.source(spec.source).architecture, ALL
        case ExaminationSpec():
            return registry.source(spec.source).architecture, 0


def batch_size(spec: AnySpec) -> int:
    """Images that a step of training, or of an examination, is made on at once."""
    match spec:
        case AttackSpec() | VisualizeSpec() if spec.test_images != ALL:
            return min(spec.test_images, spec.recipe.evaluation_batch_size)
        case ExaminationSpec():
            return spec.recipe.evaluation_batch_size
        case _:
            return spec.recipe.batch_size


def images_trained(spec: AnySpec) -> int:
    """Images that steps of training are made on, over all epochs; the steps of an attack on them are not counted."""
    match spec:
        case PretrainSpec():
            return registry.dataset(spec.dataset).train * spec.epochs
        case FinetuneSpec():
            return images_used(spec) * spec.epochs
        case ExaminationSpec():
            return 0


def images_used(spec: FinetuneSpec) -> int:
    """Size of the training subset."""
    return registry.dataset(spec.dataset).train if spec.images == ALL else spec.images


def images_evaluated(spec: AnySpec) -> int:
    """Images passed forward to be measured: test images, over all evaluated epochs or restarts, and for influence the
    training images; what its matrices take is counted apart (``jobs.dense``), conjugate gradients are not.
    """
    test = registry.dataset(spec.dataset).test
    match spec:
        case PretrainSpec():
            return test * spec.epochs
        case FinetuneSpec():
            return test * len(spec.evaluated_epochs)
        case AttackSpec():
            return (test if spec.test_images == ALL else spec.test_images) * spec.restarts
        case InfluenceSpec():
            return test + images_used(spec.network)
        case VisualizeSpec():
            return 2 * spec.test_images
        case ExaminationSpec():
            return test


def attack_steps(spec: AnySpec) -> int:
    """Steps of attacks, each on one image: a pass forward, and one backward to the image of about the same length."""
    match spec:
        case PretrainSpec():
            return images_trained(spec) * spec.threat.steps
        case AttackSpec():
            return images_evaluated(spec) * spec.threat.steps
        case VisualizeSpec():
            return spec.test_images * spec.steps
        case FinetuneSpec() | ExaminationSpec():
            return 0
