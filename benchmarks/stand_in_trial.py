"""Trials that train nothing: they sleep or do nothing, and commit rows.

Everything around them is real: launch, actors, attempts, pins, listing of checkpoints, commit.
"""

import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

from benchmarks.stand_ins import SECONDS_VARIABLE, duration
from jobs.catalog.catalog import Catalog
from jobs.data.datasets import load_dataset
from jobs.data.subsets import draw_subset
from jobs.execution.metrics import RunningMetrics
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Evaluation, Finetuning
from jobs.kinds.source_weights import source_weights
from jobs.models.weights import SourceWeights
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from jobs.provenance import History
from jobs.results import Store


@lru_cache(maxsize=1)
def _network() -> Network:
    """Return the network that every trial presents as trained, since its digest is part of the rows."""
    return Network(resnet35_w8(10), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class StandIn(Finetuning):
    """A trial of one batch, which sleeps, with synthetic evaluations."""

    def __init__(self, spec: FinetuneSpec, weights: SourceWeights, catalog: Catalog) -> None:
        self.spec = spec
        self.weights = weights
        self.catalog = catalog
        self.device = torch.device("cpu")
        self.data = load_dataset(catalog.dataset(spec.dataset), catalog.image_size(spec.source))
        self.network = _network()
        self.subset = draw_subset(self.data.train.labels_N, spec.images, spec.seed)
        self.evaluations: list[Evaluation] = []
        self.epoch, self.batch, self.tally, self.seconds = 1, 0, RunningMetrics(), 0.0
        self.passed_over = set()
        self._before = History()

    @classmethod
    def open(cls, store: Store, spec: FinetuneSpec, catalog: Catalog, device: torch.device) -> Self:
        return cls(spec, source_weights(store, catalog.source(spec.source), catalog), catalog)

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        if pause():
            return
        self.seconds = duration(self.spec, float(os.environ[SECONDS_VARIABLE]))
        if self.seconds:
            time.sleep(self.seconds)
        self.evaluations = [
            Evaluation(epoch, 0.1, 50.0, 1.5, 40.0 + self.spec.seed % 7, 1.5, self.seconds)
            for epoch in self.spec.evaluated_epochs
        ]
        self.epoch = self.spec.epochs + 1
