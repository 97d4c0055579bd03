"""Training a source with an own architecture, whose builder file the user has named."""

import pytest
import torch

from jobs.catalog.builder_files import sha256_of
from jobs.catalog.catalog import Cards, Catalog
from jobs.data.datasets import Dataset
from jobs.errors import Code, InvalidRequest
from jobs.kinds.pretrain.data_parallel import ReplicaFailure, Replicas
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.pretrain.trial import Pretraining
from jobs.networks.describe import describe
from jobs.specs.recipes import PretrainRecipe
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.jobs.own_networks import BUILDER, MY_NET, MY_VIT, NAME
from tests.jobs.support import CPU
from tests.support import refused

NATURAL = ThreatModel(constraint=Constraint.NONE, epsilon=0)


def own(builders: dict[str, str]) -> Catalog:
    return Catalog(Cards(architectures={"mine": describe("mine", BUILDER, 32, MY_NET)}), builders)


@pytest.mark.slow(25)
def test_replicas_are_sent_the_builder_file(digits: Dataset) -> None:
    """Without it they could not build the network."""
    recipe = PretrainRecipe(replicas=2, batch_size=500)
    spec = PretrainSpec(architecture="mine", dataset="digits", threat=NATURAL, seed=3, epochs=1, recipe=recipe)
    catalog = own({NAME: MY_NET})
    trial = Pretraining(spec, digits, CPU, catalog)
    trial.advance()
    assert trial.done
    assert ("cards/builders", NAME, sha256_of(MY_NET)) in trial.pins
    trial = Pretraining(spec, digits, CPU, catalog)
    trial.catalog = own({})
    with pytest.raises(ReplicaFailure, match=f"--builder {NAME}"):
        trial.advance()


@pytest.mark.parametrize("rows", [1, 4], ids=["images", "windows of images"])
def test_replicas_draw_their_part_of_what_one_draws(rows: int, digits: Dataset) -> None:
    """A layer may have several rows per image, in the order of the images."""
    recipe = PretrainRecipe(replicas=2, batch_size=5)
    spec = PretrainSpec(architecture="mine", dataset="digits", threat=NATURAL, seed=3, epochs=1, recipe=recipe)
    whole, *parts = (
        Pretraining(spec, digits, CPU, own({NAME: MY_NET}), Replicas(rank, count))
        for rank, count in [(0, 1), (0, 2), (1, 2)]
    )
    for _ in range(2):  # the second draw in this batch, too
        drawn = [trial._uniform("drop", (rows * images, 7)) for trial, images in zip(parts, (3, 2), strict=True)]
        assert torch.equal(whole._uniform("drop", (rows * 5, 7)), torch.cat(drawn))


def test_a_network_whose_draws_replicas_cannot_divide_is_refused_before_it_trains(digits: Dataset) -> None:
    """Dropout of activations with tokens before images."""
    given = "self.drop(self.mlp(self.norm2(x)))"
    text = MY_VIT.replace(given, "self.drop(self.mlp(self.norm2(x)).transpose(0, 1)).transpose(0, 1)")
    assert text != MY_VIT
    catalog = Catalog(Cards(architectures={"mine": describe("mine", BUILDER, 32, text)}), {NAME: text})

    def opened(replicas: int) -> Pretraining:
        recipe = PretrainRecipe(replicas=replicas)
        spec = PretrainSpec(architecture="mine", dataset="digits", threat=NATURAL, seed=3, epochs=1, recipe=recipe)
        return Pretraining(spec, digits, CPU, catalog)

    assert opened(1).position == (1, 0)
    with refused(Code.UNUSABLE_NETWORK, "mine", "blocks.0.drop", "17 rows", kind=InvalidRequest, key="replicas"):
        opened(2)
