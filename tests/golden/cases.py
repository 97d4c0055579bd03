"""The computations behind golden numbers, and the tolerances for device kinds without a row."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch

from jobs.catalog.catalog import PACKAGED
from jobs.data.batches import in_order
from jobs.data.datasets import Dataset, ImageSet
from jobs.execution.determinism import deterministic
from jobs.execution.device_kind import device_kind
from jobs.execution.metrics import evaluate
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Finetuning
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.pretrain.trial import Pretraining
from jobs.networks.network import Network
from jobs.specs.optimizers import Execution
from jobs.specs.recipes import PretrainRecipe, Recipe
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.jobs.support import built
from tests.machine import FASHION_MNIST
from tests.packaged import packaged_dataset, packaged_weights

CPU = torch.device("cpu")

Values = dict[str, list[float]]
"""Numbers by name, in the order of epochs."""


class Case(NamedTuple):
    """Golden numbers of one computation."""

    numerics: int
    """Numerics of the kind; rows of other numerics are not used."""
    compute: Callable[[], Values]
    tolerances: Values
    """Maximum distance of each number from every row, on device kinds without a row.

    Relative for losses, percentage points for accuracies. Fixed at about three times the spread over six device kinds,
    2026-11-28; ``test_golden`` compares them.
    """
    execution: Execution = Execution()
    operations: tuple[str, ...] = ()
    """What it computes beyond what every trial does."""
    possible: bool = True
    """Whether the machine has the images."""

    @property
    def device_kind(self) -> str:
        """The device kind on which its numbers are the same to the last digit."""
        return device_kind(CPU, self.execution, self.operations)


def golden_digits() -> Dataset:
    """48 training and 48 test digits, every pixel repeated 4 x 4, so that no CPU's resizing affects the bytes."""
    original = packaged_dataset("digits", 8)

    def enlarged(part: ImageSet) -> ImageSet:
        images_NCHW = part.images_NCHW[:48].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        return ImageSet(images_NCHW.contiguous(), part.labels_N[:48])

    return original._replace(train=enlarged(original.train), test=enlarged(original.test))


def _finetuned(frozen_batchnorm: str) -> Values:
    recipe = Recipe(batch_size=8, learning_rate=0.01, frozen_batchnorm=frozen_batchnorm)
    spec = FinetuneSpec(
        source="fmnist_natural",
        dataset="digits",
        blocks=3,
        images=20,
        seed=7,
        epochs=2,
        evaluate_every=1,
        recipe=recipe,
    )
    trial = Finetuning(spec, packaged_weights(spec.source), golden_digits(), CPU)
    trial.advance()
    names = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    return {name: [getattr(row, name) for row in trial.evaluations] for name in names}


def _pretrained(threat: ThreatModel) -> Values:
    spec = PretrainSpec(
        architecture="resnet35-w8",
        dataset="digits",
        threat=threat,
        seed=3,
        epochs=2,
        recipe=PretrainRecipe(batch_size=48, learning_rate=0.01),
    )
    trial = Pretraining(spec, golden_digits(), CPU)
    trial.advance()
    return {"train_loss": [row.train_loss for row in trial.evaluations]}


def _measured(source: str) -> Values:
    """Clean accuracy of a bundled source on its whole test set, which its card also states."""
    card = PACKAGED.source(source)
    resnet = built(card.architecture, 10)
    resnet.load_state_dict(packaged_weights(source).tensors)
    network = Network(resnet, card.mean, card.std).to(memory_format=torch.channels_last)
    assert card.trained_on == "fmnist"
    test = packaged_dataset(card.trained_on, 32, FASHION_MNIST).test
    with deterministic(Execution()):
        measured = evaluate(network, in_order(test, 256, CPU, torch.channels_last))
    return {"clean_accuracy": [measured.accuracy_percent]}


def _cases() -> Iterator[tuple[str, Case]]:
    for mode in ("batch", "calibrated", "source"):
        # batch statistics of 8 images amplify last bits; accuracies are of 20 and 48 images and may change by one image
        losses = ([2e-6, 1e-3], [5e-6, 5e-3]) if mode == "batch" else ([2e-6, 2e-5], [5e-6, 2e-5])
        tolerances = dict(zip(("train_loss", "test_loss"), losses, strict=True))
        tolerances |= {"train_accuracy": [5.01] * 2, "test_accuracy": [2.09] * 2}
        yield f"finetune, {mode}", Case(FinetuneSpec.numerics_version, partial(_finetuned, mode), tolerances)
    # attacks on a fresh network also amplify last bits: a gradient's sign is a step up or down
    threats = {
        ThreatModel(constraint=Constraint.NONE, epsilon=0): [1e-6, 7e-3],
        ThreatModel(constraint=Constraint.L2, epsilon=1.0, steps=2): [5e-3, 7e-2],
        ThreatModel(constraint=Constraint.LINF, epsilon=8 / 255, steps=2): [6e-3, 4e-2],
        ThreatModel(constraint=Constraint.GAUSSIAN, epsilon=1.0): [2e-6, 7e-3],
    }
    for threat, losses_of_epochs in threats.items():
        case = Case(PretrainSpec.numerics_version, partial(_pretrained, threat), {"train_loss": losses_of_epochs})
        yield f"pretrain, {threat.constraint}", case
    for source, card in PACKAGED.sources.items():
        if card.bundled:
            compute, possible = partial(_measured, source), FASHION_MNIST is not None
            further = Network(built(card.architecture, 10), card.mean, card.std).operations
            case = Case(
                PretrainSpec.numerics_version,
                compute,
                {"clean_accuracy": [0.05]},
                operations=further,
                possible=possible,
            )
            yield f"clean accuracy, {source}", case


CASES: dict[str, Case] = dict(_cases())
