"""What a frozen trunk makes of images, computed once: where its statistics are fixed, and the images always the same.

Those of the test set, and of a whole training set, lie in files of this machine, for all trials with the same trunk
(``jobs.machine_cache``); those of a drawn subset are in its trial's memory. With ``frozen_batchnorm: batch`` the trunk
drifts, and augmented images are never the same twice: for them it runs on each batch.
"""

import math
import warnings
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import PIL
import torch
from torch import Tensor

from jobs.batches import to_input
from jobs.canonical import digest
from jobs.device_kind import device_kind
from jobs.evaluation import evaluating
from jobs.home import activations_directory
from jobs.machine_cache import Array, MachineCache, StoredArray
from jobs.numerics import memory_format
from jobs.specs import ALL, MOST_KEPT_BYTES, Execution

if TYPE_CHECKING:
    from jobs.finetune import Finetuning

LIMIT_VARIABLE = "DELTASWEEP_ACTIVATIONS_GB"

_DEFAULT_LIMIT_GB = 64
_TYPE = np.dtype(np.float32)


class Activations:
    """Activations N x C x H x W at a cut, or features N x C where all blocks are frozen, of images in their order."""

    def __init__(self, stored: Array | StoredArray, channels_last: bool, device: torch.device) -> None:
        """Wrap what a trunk has computed.

        Args:
            stored: N x H x W x C with ``channels_last``, N x C x H x W, or N x C.
            device: where the parts that are asked for go.
        """
        self._stored = stored
        self._channels_last = channels_last
        self._device = device

    def part(self, images: slice | Tensor) -> Tensor:
        """A part of them, laid out as the trunk lays them out."""
        x = torch.from_numpy(self._stored[images.numpy() if isinstance(images, Tensor) else images]).to(self._device)
        return x.permute(0, 3, 1, 2) if self._channels_last else x


class Kept(NamedTuple):
    """What a trial need not compute again; None: the trunk runs on each batch."""

    train: Activations | None = None
    test: Activations | None = None


def kept_activations(trial: "Finetuning", below: "Finetuning | None" = None) -> Kept:
    """Compute, or find, what a trial's trunk makes of its images: in the order of the set, ``evaluation_batch_size`` at
    a time.

    Whether there are any of its training images follows from its spec alone, those of the test set are what computing
    them again gives to the last bit: that a file is there, or cannot be, changes no number.

    Args:
        trial: its frozen statistics are what they stay.
        below: a trial with the first blocks of this trunk, whose activations are gone on from.
    """
    if not trial.spec.keeps_activations:
        return Kept()
    test = _Passes(trial, below, "test", torch.arange(len(trial.data.test.labels_N))).from_file()
    if trial.augmented:
        return Kept(test=test)
    train = _Passes(trial, below, "train", trial.subset)
    if train.bytes > MOST_KEPT_BYTES:
        return Kept(test=test)
    shared = train.from_file() if trial.spec.images == ALL else None
    return Kept(shared or train.in_memory(), test)


class _Passes:
    """A trunk's passes over images of one part of a dataset."""

    def __init__(
        self, trial: "Finetuning", below: "Finetuning | None", part: Literal["train", "test"], images: Tensor
    ) -> None:
        """Pass one image, to see what comes of it.

        Args:
            images: indices into the part, at least one.
        """
        # a file that is found damaged is made again while the trial that reads it is there
        self._trial: Finetuning = weakref.proxy(trial)
        self._part = part
        self._images = images
        self._start_cut = below.cut if below else None
        self._start: Activations | None = getattr(below.kept(), part) if below else None
        self._form = memory_format(trial.spec.recipe)
        one = next(self._chunks(1))
        self._shape = (len(images), *one.shape[1:])
        self._channels_last = one.ndim == 4 and self._form == torch.channels_last

    @property
    def bytes(self) -> int:
        return int(math.prod(self._shape)) * _TYPE.itemsize

    def in_memory(self) -> Activations:
        stored = np.empty(self._shape, _TYPE)
        first = 0
        for chunk in self._chunks():
            stored[first : first + len(chunk)] = chunk
            first += len(chunk)
        return Activations(stored, self._channels_last, self._trial.device)

    def from_file(self) -> Activations | None:
        """None where there cannot be a file, with a warning."""
        cache = MachineCache(activations_directory(), LIMIT_VARIABLE, _DEFAULT_LIMIT_GB)
        try:
            stored = cache.array(self._name(), self._shape, _TYPE, self._chunks)
        except OSError as error:
            warnings.warn(
                f"activations of the {self._part} images of {self._trial.data.name} are not shared, and each trial "
                f"computes its own, since {cache.directory} cannot keep them: {error}",
                stacklevel=2,
            )
            return None
        return Activations(stored, self._channels_last, self._trial.device)

    @torch.no_grad()
    def _chunks(self, most: int | None = None) -> Iterator[Array]:
        """All of them in order, or the first few, as they are stored."""
        trial = self._trial
        assert trial.cut is not None
        positions = torch.arange(len(self._images))[:most]
        for part in torch.split(positions, trial.spec.recipe.evaluation_batch_size):
            with evaluating(trial.network):
                if self._start_cut is not None and self._start is not None:
                    x = trial.network.between(self._start.part(part), self._start_cut, trial.cut)
                else:
                    images_NCHW = getattr(trial.data, self._part).images_NCHW[self._images[part]]
                    x = trial.network.trunk(to_input(images_NCHW, trial.device, self._form), trial.cut)
            if x.ndim == 4 and self._form == torch.channels_last:
                x = x.permute(0, 2, 3, 1)
            yield x.contiguous().cpu().numpy()

    def _name(self) -> str:
        """Equal exactly when every bit is: whatever may change one is in it."""
        trial, recipe = self._trial, self._trial.spec.recipe
        assert trial.cut is not None
        content = {
            "numerics": trial.spec.numerics,
            "trunk": trial.network.trunk_digest(trial.cut),
            "cut": trial.cut,
            "dataset": trial.data.sha256,
            "images": list(getattr(trial.data, self._part).images_NCHW.shape),
            "batch": recipe.evaluation_batch_size,
            "execution": {name: getattr(recipe, name) for name in Execution.model_fields},
            "versions": [torch.__version__, PIL.__version__],
            "device": device_kind(trial.device, recipe),
        }
        return f"{trial.data.name}-{self._part}-cut{trial.cut}-{digest(content)[:32]}"
