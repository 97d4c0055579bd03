"""Random resized crops for training source models from random initialization."""

import math

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


def random_resized_crops(images_NCHW: Tensor, generator: torch.Generator) -> Tensor:
    """Crop each image like torchvision's ``RandomResizedCrop`` and flip it with probability 1/2.

    The windows have shares of the area of these images. In pretraining these are centre squares at the network's size,
    where torchvision's own training crops original photographs: what is outside the square is not seen, and crops are
    enlarged from fewer pixels.

    Args:
        images_NCHW: uint8 images; the crops have the same size.
        generator: the source of all draws.
    """
    size = list(images_NCHW.shape[-2:])
    crops = []
    for image_CHW in images_NCHW:
        top, left, height, width = _window(size[0], size[1], generator)
        crop = transforms.resized_crop(image_CHW, top, left, height, width, size, antialias=True)
        crops.append(crop.flip(-1) if torch.rand((), generator=generator) < 0.5 else crop)
    return torch.stack(crops)


def _window(height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a window with 8 to 100 % of the area and an aspect ratio of 3:4 to 4:3."""
    low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
    for _ in range(_TRIES):
        area_share, ratio_share, *place = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        area = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * area_share)
        ratio = math.exp(low + (high - low) * ratio_share)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(place[0] * (height - h + 1)), int(place[1] * (width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side
