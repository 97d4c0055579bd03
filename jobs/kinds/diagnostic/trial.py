"""Base of trials that examine a network without training it: the network, its images, and the shared columns."""

from collections.abc import Mapping
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.data.datasets import Dataset, load_dataset
from jobs.data.device_images import kept_on
from jobs.execution.determinism import memory_format
from jobs.execution.seeding import Purpose, generator
from jobs.execution.trial import Pin, Trial, TrialRow
from jobs.kinds.diagnostic.spec import DiagnosticSpec
from jobs.kinds.finetune.preprocessing import normalizer
from jobs.kinds.finetune.transfer import with_weights
from jobs.kinds.source_weights import source_weights, trained_weights
from jobs.networks.network import Network
from jobs.provenance import History
from jobs.results import Store
from jobs.results.trained import require_trained
from jobs.specs.base import ALL


class ExaminedNetwork(NamedTuple):
    """A network that is no longer trained."""

    network: Network
    sha256: str
    """sha256 of its file."""
    history: History = History()
    """Device kinds and packages that trained it, if a trial of the root did; the results depend on them, too."""


SpecT = TypeVar("SpecT", bound=DiagnosticSpec)
RowT = TypeVar("RowT", bound=TrialRow)


class DiagnosticTrial(Trial[SpecT, RowT]):
    """A trial in progress that does not change its network: evaluation mode, no parameter gradients."""

    def __init__(
        self,
        spec: SpecT,
        examined: ExaminedNetwork,
        data: Dataset,
        device: torch.device,
        catalog: Catalog = PACKAGED,
    ) -> None:
        """Set the trial to its start.

        Args:
            data: the spec's dataset at the network's input size.
        """
        self.catalog = catalog
        self.examined = examined
        self.data = data
        network = examined.network.to(device).to(memory_format=memory_format(spec.recipe))
        super().__init__(spec, network.eval().requires_grad_(False), device)

    @classmethod
    def open(cls, store: Store, spec: SpecT, catalog: Catalog, device: torch.device) -> Self:
        examined = examined_network(store, spec, catalog)
        data = kept_on(device, load_dataset(catalog.dataset(spec.dataset), catalog.image_size(spec.source)))
        return cls(spec, examined, data, device, catalog)

    @property
    def history(self) -> History:
        return self.examined.history.then(self.own_history)

    @property
    def pins(self) -> tuple[Pin, ...]:
        source, dataset = self.spec.network, self.spec.dataset
        names = [source] if isinstance(source, str) else []
        architecture = self.catalog.source(self.spec.source).architecture
        return (
            *(Pin("sources", name, self.examined.sha256) for name in names),
            Pin("datasets", dataset, self.data.sha256),
            *(Pin(*own) for own in self.catalog.own_digests(names, [dataset], [architecture])),
        )

    @property
    def facts(self) -> Mapping[str, object]:
        source = self.catalog.source(self.spec.source)
        return {
            "source_constraint": source.constraint.value,
            "source_epsilon": source.epsilon,
            "network_sha256": self.examined.sha256,
            "dataset_sha256": self.data.sha256,
        }


def examined_network(store: Store, spec: DiagnosticSpec, catalog: Catalog) -> ExaminedNetwork:
    """Load the network to examine, with the normalizer it was trained with.

    Raises:
        MissingData, DamagedFile: if its weights are missing or damaged.
    """
    source, architecture = catalog.source(spec.source), catalog.architecture_of(spec.source)
    if isinstance(spec.network, str):
        weights = source_weights(store, source, catalog)
        parts = with_weights(spec.network, architecture, weights)
        return ExaminedNetwork(Network(parts, source.mean, source.std), weights.sha256)
    weights = trained_weights(store, spec.network)
    parts = with_weights(spec.network.trial_id, architecture, weights)
    statistics = normalizer(spec.network.recipe, source, catalog.dataset(spec.network.dataset))
    made = require_trained(store, spec.network.kind, spec.network.trial_id, weights.sha256)
    return ExaminedNetwork(Network(parts, *statistics), weights.sha256, made)


def drawn_images(available: int, count: int, seed: int) -> Tensor:
    """Draw the indices of test images to show, in ascending order; equal for all networks with the same seed."""
    if count == ALL:
        return torch.arange(available)
    return torch.randperm(available, generator=generator(seed, Purpose.SUBSET))[:count].sort().values
