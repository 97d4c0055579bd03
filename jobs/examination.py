"""What the kinds that look at a network as it is share: the network, its images, and what their rows say of both."""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from jobs import registry
from jobs.data.datasets import Dataset
from jobs.networks import Network
from jobs.numerics import memory_format
from jobs.provenance import History
from jobs.randomness import Purpose, generator
from jobs.recipes import normaliser
from jobs.results import Store
from jobs.results.trained import require_trained
from jobs.specs import ALL, ExaminationSpec
from jobs.transfer import with_weights
from jobs.trial import Pin, Row, Trial
from jobs.weights import source_weights, trained_weights


class Examined(NamedTuple):
    """A network that is not trained any more."""

    network: Network
    sha256: str
    """Of its file."""
    history: History = History()
    """What trained it, where a trial of the root did: what is found out about it follows from that, too."""


SpecT = TypeVar("SpecT", bound=ExaminationSpec)
RowT = TypeVar("RowT", bound=Row)


class Examination(Trial[SpecT, RowT]):
    """A trial in progress that changes no network: it is in evaluation mode, its parameters have no gradients."""

    def __init__(self, spec: SpecT, examined: Examined, data: Dataset, device: torch.device) -> None:
        """Set the trial to its start.

        Args:
            data: the spec's dataset at the size that the network takes.
        """
        self.examined = examined
        self.data = data
        network = examined.network.to(device).to(memory_format=memory_format(spec.recipe))
        super().__init__(spec, network.eval().requires_grad_(False), device)

    @property
    def history(self) -> History:
        return self.examined.history.then(self.own_history)

    @property
    def pins(self) -> tuple[Pin, ...]:
        source, dataset = self.spec.network, self.spec.dataset
        names = [source] if isinstance(source, str) else []
        return (
            *(Pin("sources", name, self.examined.sha256) for name in names),
            Pin("datasets", dataset, self.data.sha256),
            *(Pin(*own) for own in registry.own_digests(names, [dataset])),
        )

    @property
    def facts(self) -> Mapping[str, object]:
        source = registry.source(self.spec.source)
        return {
            "source_constraint": source.constraint.value,
            "source_epsilon": source.epsilon,
            "network_sha256": self.examined.sha256,
            "dataset_sha256": self.data.sha256,
        }


def examined_network(store: Store, spec: ExaminationSpec) -> Examined:
    """The network that an examination is of, behind the normaliser that it was trained with.

    Raises:
        MissingData, DamagedFile: when its weights are not here, or not what they should be.
    """
    source = registry.source(spec.source)
    if isinstance(spec.network, str):
        weights = source_weights(store, spec.network)
        resnet = with_weights(spec.network, source.architecture, weights)
        return Examined(Network(resnet, source.mean, source.std), weights.sha256)
    weights = trained_weights(store, spec.network.trial_id)
    resnet = with_weights(spec.network.trial_id, source.architecture, weights)
    statistics = normaliser(spec.network.recipe, source, registry.dataset(spec.network.dataset))
    made = require_trained(store, spec.network.kind, spec.network.trial_id, weights.sha256)
    return Examined(Network(resnet, *statistics), weights.sha256, made)


def drawn_images(available: int, count: int, seed: int) -> Tensor:
    """Indices of the test images that are shown, ascending; equal for all networks that are asked with a seed."""
    if count == ALL:
        return torch.arange(available)
    return torch.randperm(available, generator=generator(seed, Purpose.SUBSET))[:count].sort().values
