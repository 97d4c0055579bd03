"""Augmentation as released: each image its own draws, whole batches at once on the device.

Random crop of the padded image, horizontal flip, colour jitter, rotation (design, section 9). The results are
those of torchvision's transforms on PIL images of mode RGB or L, to the last byte: PIL computes in whole numbers and
single floats, and so does this, operation by operation. Each is rounded by itself and sums over pixels are exact, so
that devices cannot differ. (A PIL compiled to fuse products with sums, as compilers for ARM may, can differ in a grey
level.)

Shape suffixes: N images, C channels (3, or 1 of grey images), H height, W width.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jobs.data.whole import WholeImages

_PADDING = 4  # pixels of black around an image before it is cropped to its size again
_JITTER = 0.25  # brightness, contrast and saturation change by a factor in [1 - 0.25, 1 + 0.25]
_DEGREES = 2.0  # rotation by an angle in [-2, 2]
_BRIGHTNESS, _CONTRAST, _SATURATION = range(3)
_CACHED_PIXELS = 1 << 18  # of a CPU's cache: what a pass over so many images' pixels leaves there is found by the next
_MANY = 1 << 48  # a remainder of a whole number below it is any of some thousand places as often, but for 1 in 1e11
_ONE = 1 << 16  # PIL's fixed point: 16 bits behind the binary point


class Draws(NamedTuple):
    """What happens to each image of a batch; tensors on the CPU."""

    corners_N2: Tensor
    """Row and column of the crop's corner in the padded image, whole numbers from 0 to 8."""
    flipped_N: Tensor
    factors_N3: Tensor
    """Of brightness, contrast and saturation, float32."""
    order_N3: Tensor
    """Which of the three factors comes first, second and third."""
    degrees_N: Tensor
    """Counter-clockwise, float32."""


def draw(images: int, generator: torch.Generator) -> Draws:
    """Independent draws for so many images."""
    return Draws(
        corners_N2=torch.randint(2 * _PADDING + 1, (images, 2), generator=generator),
        flipped_N=torch.rand(images, generator=generator) < 0.5,
        factors_N3=torch.empty(images, 3).uniform_(1 - _JITTER, 1 + _JITTER, generator=generator),
        order_N3=torch.rand(images, 3, generator=generator).argsort(dim=1),
        degrees_N=torch.empty(images).uniform_(-_DEGREES, _DEGREES, generator=generator),
    )


def crops_of_whole(
    images: WholeImages, chosen_N: Tensor, draws: Draws, generator: torch.Generator
) -> tuple[Tensor, Draws]:
    """Some images' crops of the size that networks take, N x C x S x S, from anywhere in the padded images; and the
    draws without the crop, for what is then left to ``augment``.

    Along the longer side a corner is drawn among all places, each as often; square images are cropped as drawn.

    Args:
        draws: for as many images as are chosen.
        generator: draws one number an image, whether its sides differ or not.
    """
    along_N, across_N = images.places(chosen_N, draws.corners_N2)
    beside_N = images.beside(chosen_N)
    drawn_N = torch.randint(_MANY, (len(chosen_N),), generator=generator)
    along_N = torch.where(beside_N > 0, drawn_N % (beside_N + 2 * _PADDING + 1), along_N)
    cropped_NCHW = images.crops(chosen_N, along_N - _PADDING, across_N - _PADDING)
    return cropped_NCHW, draws._replace(corners_N2=torch.full_like(draws.corners_N2, _PADDING))


def augment(images_NCHW: Tensor, draws: Draws) -> Tensor:
    """Crop, flip, jitter and rotate bytes N x C x H x W as drawn; bytes on the same device.

    A grey image comes out as its three equal channels would; changing its saturation changes nothing.
    """
    count, _, height, width = images_NCHW.shape
    # whole batches would take a CPU two to five times as long (224 pixels, batches of 128 and 200)
    part = max(1, _CACHED_PIXELS // (height * width)) if images_NCHW.device.type == "cpu" else count
    parts = zip(torch.split(images_NCHW, part), *(torch.split(drawn, part) for drawn in draws), strict=True)
    return torch.cat([_augmented(images, Draws(*drawn)) for images, *drawn in parts])


def _augmented(images_NCHW: Tensor, draws: Draws) -> Tensor:
    height, width = images_NCHW.shape[2:]
    cropped_NCHW = _moved(images_NCHW, _crops(draws, width))
    jittered_NCHW = _jittered(cropped_NCHW, draws)
    turns = [_turn(degrees, width, height) for degrees in draws.degrees_N.tolist()]
    return _moved(jittered_NCHW, torch.tensor(turns, dtype=torch.int32))


def _crops(draws: Draws, width: int) -> Tensor:
    """The crop and the flip as affine maps, in the form that ``_moved`` takes."""
    top_N, left_N = ((corner_N - _PADDING) * _ONE for corner_N in draws.corners_N2.unbind(1))
    zero_N, one_N = torch.zeros_like(top_N), torch.full_like(top_N, _ONE)
    step_N = torch.where(draws.flipped_N, -one_N, one_N)
    start_N = torch.where(draws.flipped_N, left_N + (width - 1) * _ONE, left_N)
    return torch.stack([step_N, zero_N, start_N, zero_N, one_N, top_N], dim=1).to(torch.int32)


def _turn(degrees: float, width: int, height: int) -> list[int]:
    """A rotation around the middle as PIL's ``rotate`` rounds it, in the form that ``_moved`` takes."""
    angle = -math.radians(degrees % 360.0)
    cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x = -cosine * (width / 2) - sine * (height / 2) + width / 2
    y = sine * (width / 2) - cosine * (height / 2) + height / 2
    middle_of_first_pixel = x + cosine * 0.5 + sine * 0.5, y - sine * 0.5 + cosine * 0.5
    return [
        math.floor(number * _ONE + 0.5)
        for number in (cosine, sine, middle_of_first_pixel[0], -sine, cosine, middle_of_first_pixel[1])
    ]


def _moved(images_NCHW: Tensor, maps_N6: Tensor) -> Tensor:
    """Each pixel from where its image's affine map says, without interpolation; black where that is outside.

    Args:
        maps_N6: a, b, c, d, e, f in units of 2**-16: the pixel at (x, y) comes from column ax + by + c and row
            dx + ey + f, both rounded down.
    """
    count, channels, height, width = images_NCHW.shape
    maps_6N11 = maps_N6.to(images_NCHW.device).T[:, :, None, None]
    x_W = torch.arange(width, dtype=torch.int32, device=images_NCHW.device)
    y_H1 = torch.arange(height, dtype=torch.int32, device=images_NCHW.device)[:, None]
    column_NHW, row_NHW = ((a * x_W + (b * y_H1 + c)) >> 16 for a, b, c in (maps_6N11[:3], maps_6N11[3:]))
    inside_NHW = (column_NHW >= 0) & (column_NHW < width) & (row_NHW >= 0) & (row_NHW < height)
    place_NHW = torch.where(inside_NHW, row_NHW * width + column_NHW, 0).to(torch.int64)
    place_NCP = place_NHW.view(count, 1, -1).expand(-1, channels, -1)
    found_NCP = images_NCHW.flatten(2).gather(2, place_NCP)
    return found_NCP.view_as(images_NCHW).mul_(inside_NHW[:, None])


def _jittered(images_NCHW: Tensor, draws: Draws) -> Tensor:
    """Brightness, contrast and saturation in each image's order.

    Each is PIL's ``blend`` of the image with what it would be at factor 0: black, its mean grey, or its grey
    pixels. Every number here is whole or rounded as PIL rounds it; products are never fused with sums.
    """
    x_NCHW = images_NCHW.to(torch.float32)
    for place in range(3):
        kind_N111 = draws.order_N3[:, place, None, None, None]
        factor_N111 = draws.factors_N3.gather(1, draws.order_N3)[:, place, None, None, None].to(x_NCHW.device)
        grey_N1HW = _grey(x_NCHW)
        mean_N111 = _rounded_mean(grey_N1HW)
        without_N1HW = torch.where((kind_N111 == _CONTRAST).to(x_NCHW.device), mean_N111, grey_N1HW)
        without_N1HW = without_N1HW * (kind_N111 != _BRIGHTNESS).to(x_NCHW.device)
        x_NCHW = x_NCHW.sub_(without_N1HW).mul_(factor_N111).add_(without_N1HW).clamp_(0, 255).floor_()
    return x_NCHW.to(torch.uint8)


def _rounded_mean(grey_N1HW: Tensor) -> Tensor:
    """The mean pixel of each image, halves rounded up; exact, because a row's sum is below 2**24."""
    sum_N111 = grey_N1HW.sum(3, keepdim=True).sum(2, keepdim=True, dtype=torch.float64)
    return (sum_N111 / grey_N1HW[0].numel() + 0.5).floor().to(torch.float32)


def _grey(images_NCHW: Tensor) -> Tensor:
    """PIL's luma in [0, 255]; a grey image is its own. Whole numbers below 2**24 all the way: float32 is exact."""
    if images_NCHW.shape[1] == 1:
        return images_NCHW
    red_N1HW, green_N1HW, blue_N1HW = torch.split(images_NCHW, 1, dim=1)
    luma_N1HW: Tensor = red_N1HW * 19595 + green_N1HW * 38470 + blue_N1HW * 7471 + 32768
    return luma_N1HW.div_(_ONE).floor_()
