"""The released code's transforms, as torchvision's own functions on PIL images, one image at a time."""

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.transforms import functional as transforms

from jobs.data.augmentation import Draws

_GREYS = 255 / 16  # scikit-learn's digits have 17 greys
_JITTER = (transforms.adjust_brightness, transforms.adjust_contrast, transforms.adjust_saturation)


def to_pil(image_CHW: Tensor) -> Image.Image:
    """Return bytes C x H x W as a PIL image: mode L for one channel, RGB for three."""
    image_HWC = image_CHW.permute(1, 2, 0).numpy()
    return Image.fromarray(image_HWC[..., 0] if len(image_CHW) == 1 else image_HWC)


def augmented(image: Image.Image, draws: Draws, index: int) -> Image.Image:
    """Apply RandomCrop(size, padding=4), RandomHorizontalFlip, ColorJitter, RandomRotation, as drawn for one image."""
    width, height = image.size
    top, left = draws.corners_N2[index].tolist()
    image = transforms.crop(transforms.pad(image, [4, 4, 4, 4], fill=0), top, left, height, width)
    if draws.flipped_N[index]:
        image = transforms.hflip(image)
    for which in draws.order_N3[index].tolist():
        image = _JITTER[which](image, draws.factors_N3[index, which].item())
    rotated: Image.Image = transforms.rotate(image, draws.degrees_N[index].item(), fill=0)
    return rotated


def all_augmented(images_NCHW: Tensor, draws: Draws) -> Tensor:
    """Return bytes N x C x H x W, with each image passed through ``augmented``."""
    images = [augmented(to_pil(image_CHW), draws, index) for index, image_CHW in enumerate(images_NCHW)]
    return torch.stack([transforms.pil_to_tensor(image) for image in images])


def digits(images_NCHW: Tensor) -> list[Image.Image]:
    """Return scikit-learn's digits, resized by PIL, matched to the given images by their bytes.

    Raises:
        KeyError: The given images were resized differently.
    """
    raw = np.rint(load_digits().images * _GREYS).astype(np.uint8)
    resized = [transforms.resize(Image.fromarray(image), list(images_NCHW.shape[2:])) for image in raw]
    by_bytes = {image.tobytes(): image for image in resized}
    return [by_bytes[image_CHW.numpy().tobytes()] for image_CHW in images_NCHW]
