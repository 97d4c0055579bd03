"""Trials that train nothing: they sleep, or not even that, and leave real rows. For measuring the scheduler."""

import os
import time
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from jobs import registry
from jobs.data.datasets import load_dataset
from jobs.data.subsets import draw_subset
from jobs.evaluation import Tally
from jobs.finetune import Evaluation, Finetuning
from jobs.networks import Network, SmallResNet
from jobs.provenance import History
from jobs.specs import FinetuneSpec
from jobs.weights import SourceWeights

SECONDS_VARIABLE = "DELTASWEEP_BENCHMARK_SECONDS"
"""Seconds that a trial sleeps for each trained image (images times epochs); 0: it does nothing at all."""


def duration(spec: FinetuneSpec) -> float:
    """Seconds that a trial sleeps."""
    return float(os.environ[SECONDS_VARIABLE]) * spec.images * spec.epochs


@lru_cache(maxsize=1)
def _network() -> Network:
    """What every trial leaves as trained: its digest is part of its rows."""
    return Network(SmallResNet(10), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class StandIn(Finetuning):
    """Finished after one batch, which sleeps; its evaluations are invented."""

    def __init__(self, spec: FinetuneSpec, weights: SourceWeights) -> None:
        self.spec = spec
        self.weights = weights
        self.device = torch.device("cpu")
        self.data = load_dataset(
            spec.dataset, registry.architecture(registry.source(spec.source).architecture).image_size
        )
        self.network = _network()
        self.subset = draw_subset(self.data.train.labels_N, spec.images, spec.seed)
        self.evaluations: list[Evaluation] = []
        self.epoch, self.batch, self.tally, self.seconds = 1, 0, Tally(), 0.0
        self.passed_over = set()
        self._before = History()

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def advance(self, pause: Callable[[], bool] = lambda: False) -> None:
        if pause():
            return
        self.seconds = duration(self.spec)
        if self.seconds:
            time.sleep(self.seconds)
        self.evaluations = [
            Evaluation(epoch, 0.1, 50.0, 1.5, 40.0 + self.spec.seed % 7, 1.5, self.seconds)
            for epoch in self.spec.evaluated_epochs
        ]
        self.epoch = self.spec.epochs + 1


def open_stand_in(spec: FinetuneSpec, weights: SourceWeights, device: torch.device) -> StandIn:
    """In place of ``jobs.finetune.open_finetuning``."""
    return StandIn(spec, weights)
