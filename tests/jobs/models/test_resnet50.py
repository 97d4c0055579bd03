"""ResNet-50 at 224 pixels with random weights: a real trial of the paper's dimensions, for each k of the paper."""

import math

import pytest
import torch
from sklearn.datasets import load_sample_images

from jobs.data.datasets import Dataset, ImageSet
from jobs.kinds.finetune.transfer import head_modules
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.networks.builders import initialize
from jobs.specs.recipes import RECIPES
from tests.jobs.support import CPU, built, finetune_spec


@pytest.fixture(scope="module")
def weights() -> SourceWeights:
    network = built("resnet50", 1000)
    initialize(network, torch.Generator().manual_seed(1))
    return SourceWeights({name: t.detach().clone() for name, t in network.state_dict().items()}, "random")


@pytest.fixture(scope="module")
def photographs() -> Dataset:
    """12 training and 10 test patches, 224 x 224, with invented labels."""
    images = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images]
    patches = torch.stack([images[i % 2][:, 9 * i : 9 * i + 224, 19 * i : 19 * i + 224] for i in range(22)])
    labels_N = torch.arange(22) % 10
    return Dataset("cifar10", ImageSet(patches[:12], labels_N[:12]), ImageSet(patches[12:], labels_N[12:]), "patches")


@pytest.mark.parametrize("blocks", [0, 1, 3, pytest.param(9, marks=pytest.mark.slow)])
def test_one_epoch(blocks: int, weights: SourceWeights, photographs: Dataset) -> None:
    recipe = RECIPES["as-released"].model_dump() | {"batch_size": 8}
    spec = finetune_spec(recipe, source="l2_eps3", dataset="cifar10", blocks=blocks, images=12, epochs=1)
    trial = Finetuning(spec, weights, photographs, CPU)
    before = trial.network.fc.weight.detach().clone()
    trial.advance()
    (row,) = trial.evaluations
    assert math.isfinite(row.train_loss)
    assert math.isfinite(row.test_loss)
    assert 0 <= row.test_accuracy <= 100
    assert not torch.equal(trial.network.fc.weight, before)
    trained = {id(p) for module in head_modules(trial.network, blocks) for p in module.parameters()}
    for name, parameter in trial.network.model.named_parameters():
        if not name.startswith("fc."):
            assert torch.equal(parameter, weights.tensors[name]) != (id(parameter) in trained), name
    assert int(trial.network.model.bn1.num_batches_tracked) == 2, "frozen BatchNorm drifts as released"


@pytest.mark.slow
@torch.no_grad()
def test_kept_activations_are_those_of_each_batch_within_a_hundred_thousandth(
    weights: SourceWeights, photographs: Dataset
) -> None:
    """Relative to the largest activation, as in the guide; test activations are equal to the last bit."""
    recipe = {"frozen_batchnorm": "source", "transforms": "none"}
    for blocks in (0, 3):
        spec = finetune_spec(recipe, source="natural", dataset="cifar10", blocks=blocks, images=12)
        trial = Finetuning(spec, weights, photographs, CPU)
        kept = trial.kept()
        assert kept.train is not None
        assert kept.test is not None
        assert trial.cut is not None
        trial.network.eval()
        assert torch.equal(kept.test.part(slice(10)), trial.network.trunk(trial.test_images(slice(10)), trial.cut))
        batch = torch.tensor([7, 2, 11, 5, 3])
        expected = trial.network.trunk(trial.training_images(batch), trial.cut)
        assert (kept.train.part(batch) - expected).abs().max() < 1e-5 * expected.abs().max()
