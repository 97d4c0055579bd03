"""A trial of the kind ``influence``: which training images stand first for each test image (paper, Section 6)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from jobs import registry
from jobs.batches import to_input
from jobs.checks import require_possible
from jobs.curvature import ConjugateGradients, Examples, Hessian, pseudo_inverse
from jobs.data.datasets import Dataset, ImageSet, load_dataset
from jobs.data.subsets import draw_subset, subset_digest
from jobs.dense import require_memory
from jobs.examination import Examination, Examined, examined_network
from jobs.influence import (
    Block,
    GroupSums,
    Strongest,
    fisher_similarities,
    influences,
    label_groups,
    pooled_features,
    strongest,
)
from jobs.memory import Memory, machine_memory
from jobs.numerics import memory_format
from jobs.results import Store
from jobs.specs import MATRIX_GROUPS, InfluenceSpec
from jobs.trial import require_shapes

BLOCK = 64
"""Images whose products with the inverse are computed at once. Another number changes results within the solver's
tolerance (``ConjugateGradients``), so it stands for all trials.
"""


class Influential(NamedTuple):
    """A test image, and the training images that stand first for it, by index in the dataset; time in seconds."""

    test_image: int
    test_label: int
    predicted_label: int
    test_loss: float
    train_images: list[int]
    train_labels: list[int]
    values: list[float]
    matrix_norm: float
    """Of the whole matrix of training by test images (Frobenius)."""
    cells: list[float] | None
    """Of the first test image of its group: the group's means over each group of training images."""
    cell_labels: list[int] | None
    """Of these groups of training images."""
    seconds: float


class _Opened(NamedTuple):
    """What all images are to the last layer: made when a trial begins or goes on, and in no checkpoint."""

    logits_MK: Tensor
    blocks: Iterator[Block]


class InfluenceTrial(Examination[InfluenceSpec, Influential]):
    """Training images against test images, in progress: one pass over the matrix, a ``Block`` at a time."""

    evaluation = Influential

    def __init__(self, spec: InfluenceSpec, examined: Examined, data: Dataset, device: torch.device) -> None:
        self.subset = draw_subset(data.train.labels_N, spec.network.images, spec.network.seed)
        self._top = strongest([], len(self.subset), len(data.test.labels_N), spec.top, largest=_largest(spec))
        train_labels_N, test_labels_M = data.train.labels_N[self.subset], data.test.labels_N
        self._picture = GroupSums(
            label_groups(train_labels_N, MATRIX_GROUPS), label_groups(test_labels_M, MATRIX_GROUPS)
        )
        self._opened: _Opened | None = None
        super().__init__(spec, examined, data, device)

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
        """The strongest, and the picture, so far."""
        return {**self._top._asdict(), "sums_HG": self._picture.sums_HG, "squares": self._picture.squares}

    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        require_shapes(self.tensors(), tensors)
        self._top, self._opened = Strongest(tensors["images_MT"], tensors["values_MT"]), None
        self._picture.sums_HG, self._picture.squares = tensors["sums_HG"], tensors["squares"]

    def _batches_of(self, epoch: int) -> list[Tensor]:
        """Positions among the images that blocks are cut along: those of the smaller set; fisher: test images."""
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
        """Every image forward, and the blocks of the matrix from the next batch on."""
        spec, fc, start = self.spec, self.network.resnet.fc, self.batch * BLOCK
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
        """What the FC layer takes of some images, and their labels."""
        recipe = self.spec.recipe
        return pooled_features(
            self.network,
            (
                (
                    to_input(images.images_NCHW[part], self.device, memory_format(recipe)),
                    images.labels_N[part].to(self.device),
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
    """Whether the largest values stand first: what is most alike, where influence helps most if it is smallest."""
    return spec.measure == "fisher"


def _memory_of(device: torch.device) -> Memory:
    """Of the GPU, or of the machine for the CPU."""
    return Memory(*torch.cuda.mem_get_info(device)) if device.type == "cuda" else machine_memory()


def open_influence(store: Store, spec: InfluenceSpec, device: torch.device) -> InfluenceTrial:
    """Load what a trial needs and set it to its start.

    Raises:
        InvalidRequest: when the trial cannot exist.
        StorageFailure: when this machine has too little memory for its matrix; asked before anything is loaded.
        MissingData, DamagedFile: when its weights or images are not here, or not what they should be.
    """
    require_possible(spec)
    require_memory(spec, _memory_of(device))
    image_size = registry.architecture(registry.source(spec.source).architecture).image_size
    return InfluenceTrial(spec, examined_network(store, spec), load_dataset(spec.dataset, image_size), device)
