"""Trials of the kind ``influence``: the top training images for each test image (paper, Section 6)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.data.batches import to_device, to_input
from jobs.data.datasets import Dataset, ImageSet
from jobs.data.subsets import draw_subset, subset_digest
from jobs.execution.determinism import memory_format
from jobs.execution.gpu_memory import free_memory
from jobs.execution.trial import require_shapes
from jobs.kinds.diagnostic.trial import DiagnosticTrial, ExaminedNetwork
from jobs.kinds.influence.hessian import ConjugateGradients, Examples, Hessian, pseudo_inverse
from jobs.kinds.influence.influence_functions import (
    Block,
    GroupSums,
    Strongest,
    fisher_similarities,
    influences,
    label_groups,
    pooled_features,
    strongest,
)
from jobs.kinds.influence.spec import MATRIX_GROUPS, InfluenceSpec
from jobs.kinds.influence.workload import require_memory
from jobs.results import Store
from jobs.system.memory import Memory, machine_memory

BLOCK = 64
"""Number of images whose products with the inverse are computed at once. Another value changes results within the
solver's tolerance (``ConjugateGradients``), so it is the same for all trials.
"""


class Influential(NamedTuple):
    """A test image, and its top training images by index in the dataset; time in seconds."""

    test_image: int
    test_label: int
    predicted_label: int
    test_loss: float
    train_images: list[int]
    train_labels: list[int]
    values: list[float]
    matrix_norm: float
    """Frobenius norm of the whole training-by-test matrix."""
    cells: list[float] | None
    """If this is the first test image of its group: the group's means over each group of training images."""
    cell_labels: list[int] | None
    """Labels of these groups of training images."""
    seconds: float


class _Opened(NamedTuple):
    """State computed from all images when a trial starts or resumes; not part of checkpoints."""

    logits_MK: Tensor
    blocks: Iterator[Block]


class InfluenceTrial(DiagnosticTrial[InfluenceSpec, Influential]):
    """An influence trial in progress: one pass over the training-by-test matrix, a ``Block`` at a time."""

    evaluation = Influential

    def __init__(
        self,
        spec: InfluenceSpec,
        examined: ExaminedNetwork,
        data: Dataset,
        device: torch.device,
        catalog: Catalog = PACKAGED,
    ) -> None:
        self.subset = draw_subset(data.train.labels_N, spec.network.images, spec.network.seed)
        self._top = strongest([], len(self.subset), len(data.test.labels_N), spec.top, largest=_largest(spec))
        train_labels_N, test_labels_M = data.train.labels_N[self.subset], data.test.labels_N
        self._picture = GroupSums(
            label_groups(train_labels_N, MATRIX_GROUPS), label_groups(test_labels_M, MATRIX_GROUPS)
        )
        self._opened: _Opened | None = None
        super().__init__(spec, examined, data, device, catalog)

    @classmethod
    def open(cls, store: Store, spec: InfluenceSpec, catalog: Catalog, device: torch.device) -> Self:
        """Open a trial like ``DiagnosticTrial.open``, after checking the memory.

        Raises:
            StorageFailure: if this machine has too little memory for its matrix; checked before anything is loaded.
        """
        require_memory(spec, catalog, _memory_of(device))
        return super().open(store, spec, catalog, device)

    @property
    def facts(self) -> Mapping[str, object]:
        return {
            **super().facts,
            "images_used": len(self.subset),
            "subset_sha256": subset_digest(self.subset),
        }

    @property
    def epochs(self) -> int:
        return 1

    def tensors(self) -> dict[str, Tensor]:
        """Return the top training images, and the reduced matrix, so far."""
        return {**self._top._asdict(), "sums_HG": self._picture.sums_HG, "squares": self._picture.squares}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        require_shapes(self.tensors(), tensors)
        self._top, self._opened = Strongest(tensors["images_MT"], tensors["values_MT"]), None
        self._picture.sums_HG, self._picture.squares = tensors["sums_HG"], tensors["squares"]

    def _batches_of(self, epoch: int) -> list[Tensor]:
        """Return positions along which blocks are cut: in the smaller set, or for fisher in the test set."""
        tests = len(self.data.test.labels_N)
        images = tests if self.spec.measure == "fisher" else min(tests, len(self.subset))
        return list(torch.split(torch.arange(images), BLOCK))

    def _run_batch(self) -> Sequence[Influential]:
        if self._opened is None:
            self._opened = self._open()
        block = next(self._opened.blocks)
        self._picture.add(block)
        self._top = strongest(
            [block],
            len(self.subset),
            len(self._top.images_MT),
            self.spec.top,
            largest=_largest(self.spec),
            before=self._top,
        )
        return self._rows(self._opened.logits_MK) if self.ends_epoch else []

    def _open(self) -> _Opened:
        """Compute the features of all images; start the matrix's blocks at the next batch."""
        spec, fc, start = self.spec, self.network.fc, self.batch * BLOCK
        train_ND, train_labels_N = self._features(self.data.train, self.subset)
        test_MD, test_labels_M = self._features(self.data.test, torch.arange(len(self.data.test.labels_N)))
        train, test = Examples.of(fc, train_ND, train_labels_N), Examples.of(fc, test_MD, test_labels_M)
        match spec.measure:
            case "influence":
                solve = ConjugateGradients(Hessian(train, spec.damping))
                blocks = influences(train, test, solve, block=BLOCK, start=start)
            case "pseudo-inverse":
                assert spec.cutoff_absolute is not None
                assert spec.cutoff_relative is not None
                inverse = pseudo_inverse(
                    Hessian(train, 0.0),
                    absolute=spec.cutoff_absolute,
                    relative=spec.cutoff_relative,
                    decomposition=spec.decomposition,
                )
                blocks = influences(train, test, inverse, transposed=inverse.transposed, block=BLOCK, start=start)
            case "fisher":
                blocks = fisher_similarities(train, test, spec.damping, block=BLOCK, start=start)
        with torch.no_grad():
            return _Opened(fc(test_MD).cpu(), blocks)

    def _features(self, images: ImageSet, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the FC layer's inputs for some images, and their labels."""
        recipe = self.spec.recipe
        return pooled_features(
            self.network,
            (
                (
                    to_input(images.images_NCHW[part], self.device, memory_format(recipe)),
                    to_device(images.labels_N[part], self.device),
                )
                for part in torch.split(chosen, recipe.evaluation_batch_size)
            ),
        )

    def _rows(self, logits_MK: Tensor) -> list[Influential]:
        labels_M = self.data.test.labels_N
        images_MT = self.subset[self._top.images_MT]
        columns = (
            labels_M,
            logits_MK.argmax(1),
            nn.functional.cross_entropy(logits_MK, labels_M, reduction="none"),
            images_MT,
            self.data.train.labels_N[images_MT],
            self._top.values_MT,
        )
        picture, norm = self._picture, self._picture.norm
        cells = dict(zip(picture.test.firsts_G.tolist(), picture.means.tolist(), strict=True))
        labels = picture.train.labels_G.tolist()
        return [
            Influential._make(
                (test_image, *row, norm, cells.get(test_image), labels if test_image in cells else None, 0.0)
            )
            for test_image, row in enumerate(zip(*(column.tolist() for column in columns), strict=True))
        ]


def _largest(spec: InfluenceSpec) -> bool:
    """Return whether the largest values come first (similarity); for influence, the smallest values help most."""
    return spec.measure == "fisher"


def _memory_of(device: torch.device) -> Memory:
    """Return this process's memory of the GPU; for the CPU, that of the machine."""
    return free_memory(device) if device.type == "cuda" else machine_memory()
