"""Activations of a frozen trunk that are computed once, if its statistics are fixed and the images always the same.

Activations of the test set, and of a whole training set, are in files on this machine that all trials with the same
trunk share (``jobs.data.array_cache``); those of a drawn subset are in its trial's memory. With ``frozen_batchnorm:
batch`` the trunk drifts, and augmented images differ in every epoch: in these cases the trunk runs on each batch.
"""

import math
import warnings
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import PIL
import torch
from torch import Tensor

from jobs.data.array_cache import Array, MachineCache, StoredArray
from jobs.data.batches import to_device, to_input
from jobs.data.datasets import Dataset
from jobs.errors import DeltaSweepError
from jobs.execution.determinism import memory_format
from jobs.execution.device_kind import device_kind
from jobs.execution.gpu_memory import refusals
from jobs.execution.metrics import evaluating
from jobs.kinds.finetune.spec import MOST_KEPT_BYTES, FinetuneSpec
from jobs.networks.folding import Fold, folded
from jobs.networks.network import Network
from jobs.paths import activations_directory
from jobs.specs.base import ALL
from jobs.specs.canonical import digest
from jobs.specs.optimizers import Execution

LIMIT_VARIABLE = "DELTASWEEP_ACTIVATIONS_GB"

_DEFAULT_LIMIT_GB = 64
_STORED_AS: Mapping[torch.dtype, tuple[np.dtype[Any], torch.dtype]] = {
    torch.float32: (np.dtype(np.float32), torch.float32),
    torch.float16: (np.dtype(np.float16), torch.float16),
    torch.bfloat16: (np.dtype(np.int16), torch.int16),
}
"""Types of stored numbers, in numpy and in torch; numpy has no bfloat16."""


class Activations:
    """Activations at a cut, or features N x D if all blocks are frozen, in the order of the images."""

    def __init__(
        self, stored: Array | StoredArray, channels_last: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Wrap the output of a trunk.

        Args:
            stored: N x H x W x C if ``channels_last``, else in the shape that the network gives them.
            dtype: in which the trunk computed them.
            device: device to which requested parts are copied.
        """
        self._stored = stored
        self._channels_last = channels_last
        self._dtype = dtype
        self._device = device

    def part(self, images: slice | Tensor) -> Tensor:
        """Return the activations of some images, in the trunk's memory layout."""
        stored = torch.from_numpy(self._stored[images.numpy() if isinstance(images, Tensor) else images])
        x = to_device(stored.view(self._dtype), self._device)
        return x.permute(0, 3, 1, 2) if self._channels_last else x


class FrozenTrunk(Protocol):
    """The part of a trial that this module uses; its trunk gives the same output for an image every time."""

    spec: FinetuneSpec
    network: Network
    data: Dataset
    device: torch.device
    subset: Tensor
    augmented: bool

    @property
    def cut(self) -> int | None: ...
    def kept(self) -> "CachedActivations": ...
    def folds(self) -> tuple[Fold, ...]: ...


class CachedActivations(NamedTuple):
    """Stored activations of a trial. None means that the trunk runs on each batch."""

    train: Activations | None = None
    test: Activations | None = None


def kept_activations(trial: FrozenTrunk, below: FrozenTrunk | None = None) -> CachedActivations:
    """Compute or look up a trial's activations, in the order of the set, ``evaluation_batch_size`` images at a time.

    Whether training images have stored activations depends only on the spec. Those of the test set equal recomputed
    ones bit for bit, so it changes no number whether their file exists or can be written.

    Args:
        trial: its frozen statistics are final.
        below: a trial with the first blocks of this trunk, whose activations are the starting point.
    """
    if not trial.spec.keeps_activations:
        return CachedActivations()
    test = _Passes(trial, below, "test", torch.arange(len(trial.data.test.labels_N))).from_file()
    if trial.augmented:
        return CachedActivations(test=test)
    train = _Passes(trial, below, "train", trial.subset)
    if train.bytes > MOST_KEPT_BYTES:
        return CachedActivations(test=test)
    shared = train.from_file() if trial.spec.images == ALL else None
    return CachedActivations(shared or train.in_memory(), test)


class _Passes:
    """Passes of a trunk over images of one split of a dataset."""

    def __init__(
        self, trial: FrozenTrunk, below: FrozenTrunk | None, part: Literal["train", "test"], images: Tensor
    ) -> None:
        """Pass one image, to determine the shape of its activations.

        Args:
            images: indices into the split, at least one.
        """
        # a proxy, because a damaged file is recomputed while the trial that reads it still exists
        self._trial: FrozenTrunk = weakref.proxy(trial)
        self._part = part
        self._images = images
        self._start_cut = below.cut if below else None
        self._start: Activations | None = getattr(below.kept(), part) if below else None
        self._form = memory_format(trial.spec.recipe)
        one = next(self._outputs(1))
        self._channels_last = _is_channels_last(one)
        self._dtype = one.dtype
        self._numpy, self._torch = _STORED_AS[one.dtype]
        self._shape = (len(images), *(one.permute(0, 2, 3, 1) if self._channels_last else one).shape[1:])

    @property
    def bytes(self) -> int:
        return int(math.prod(self._shape)) * self._numpy.itemsize

    def in_memory(self) -> Activations:
        stored = np.empty(self._shape, self._numpy)
        first = 0
        for chunk in self._chunks():
            stored[first : first + len(chunk)] = chunk
            first += len(chunk)
        return Activations(stored, self._channels_last, self._dtype, self._trial.device)

    def from_file(self) -> Activations | None:
        """Return activations from a file; None, with a warning, if the file cannot be written."""
        cache = MachineCache(activations_directory(), LIMIT_VARIABLE, _DEFAULT_LIMIT_GB)
        try:
            stored = cache.array(self._name(), self._shape, self._numpy, self._chunks)
        except DeltaSweepError:  # of the images, or of the activations that they are computed from
            raise
        except OSError as error:
            warnings.warn(
                f"activations of the {self._part} images of {self._trial.data.name} are not shared, and each trial "
                f"computes its own, because they cannot be stored in {cache.directory}: {error}",
                stacklevel=2,
            )
            return None
        return Activations(stored, self._channels_last, self._dtype, self._trial.device)

    def _chunks(self) -> Iterator[Array]:
        """Yield all activations in order, in the stored layout."""
        for x in self._outputs():
            stored = (x.permute(0, 2, 3, 1) if self._channels_last else x).contiguous().cpu()
            yield stored.view(self._torch).numpy()

    @torch.inference_mode()
    def _outputs(self, most: int | None = None) -> Iterator[Tensor]:
        """Yield all activations in order, or the first ``most``."""
        trial = self._trial
        assert trial.cut is not None
        positions = torch.arange(len(self._images))[:most]
        folds = trial.folds() if self._part == "test" else ()
        for part in torch.split(positions, trial.spec.recipe.evaluation_batch_size):
            with evaluating(trial.network), folded(folds):
                if self._start_cut is not None and self._start is not None:
                    x = trial.network.between(self._start.part(part), self._start_cut, trial.cut)
                else:
                    images_NCHW = getattr(trial.data, self._part).images_NCHW[self._images[part]]
                    x = trial.network.trunk(to_input(images_NCHW, trial.device, self._form), trial.cut)
            refusals.require_none(trial.device)  # before other trials read it from a file
            yield x

    def _name(self) -> str:
        """Return a file name that is equal only for equal activations: it covers everything that can change a bit."""
        trial, recipe = self._trial, self._trial.spec.recipe
        assert trial.cut is not None
        chosen = {name: getattr(recipe, name) for name in Execution.model_fields}
        folds = self._part == "test" and recipe.evaluation == "folded"
        operations = (*Execution(**chosen).operations, *(["folded"] if folds else []), *trial.network.operations)
        content: dict[str, object] = {
            "numerics": trial.spec.numerics_version,
            "trunk": trial.network.trunk_digest(trial.cut),
            "cut": trial.cut,
            "dataset": trial.data.sha256,
            "images": list(getattr(trial.data, self._part).images_NCHW.shape),
            "batch": recipe.evaluation_batch_size,
            "execution": chosen,
            "versions": [torch.__version__, PIL.__version__],
            "device": device_kind(trial.device, recipe, operations),
        }
        if folds:
            content["evaluation"] = recipe.evaluation
        return f"{trial.data.name}-{self._part}-cut{trial.cut}-{digest(content)[:32]}"


def _is_channels_last(x: Tensor) -> bool:
    """Return whether activations are N x C x H x W with the channels innermost in memory."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
