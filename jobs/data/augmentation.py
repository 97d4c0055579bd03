"""Augmentation as in the paper's released code: independent draws per image, whole batches at once on the device.

Random crop of the padded image, horizontal flip, colour jitter, rotation (docs/decisions/released-code.md). The results
are equal, byte for byte, to those of torchvision's transforms on PIL images of mode RGB or L: PIL computes with
integers and float32, and this module repeats its operations one by one. Each operation is rounded separately and sums
over pixels are exact, so results do not depend on the device. (A build of PIL with fused multiply-add, as compilers for
ARM may do, can differ by one grey level.)

Shape suffixes: N images, C channels (3, or 1 for grey images), H height, W width, P pixels.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from jobs.data.whole_image import WholeImages

_PADDING = 4  # black pixels added on each side before the image is cropped to its original size
_JITTER = 0.25  # brightness, contrast and saturation change by a factor in [1 - 0.25, 1 + 0.25]
_DEGREES = 2.0  # rotation by an angle in [-2, 2] degrees
_BRIGHTNESS, _CONTRAST, _SATURATION = range(3)
_CACHED_PIXELS = 1 << 18  # pixels processed together on a CPU, few enough to stay in its cache between operations
_MANY = 1 << 48  # so large that the remainder modulo a few thousand positions is uniform to 1 in 1e11
_ONE = 1 << 16  # 1 in PIL's fixed-point format, which has 16 fractional bits


class Draws(NamedTuple):
    """The random draws for each image of a batch; tensors on the CPU."""

    corners_N2: Tensor
    """Row and column of the crop's top-left corner in the padded image, integers from 0 to 8."""
    flipped_N: Tensor
    factors_N3: Tensor
    """Factors of brightness, contrast and saturation, float32."""
    order_N3: Tensor
    """Which of the three factors is applied first, second and third."""
    degrees_N: Tensor
    """Rotation angle, counter-clockwise, float32."""


def draw(images: int, generator: torch.Generator) -> Draws:
    """Draw independently for this many images."""
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
    """Crop chosen images, anywhere in the padded image, to the network's input size.

    Along the longer side the corner is drawn uniformly from all positions; square images are cropped at the corner in
    ``draws``.

    Args:
        draws: one draw per chosen image.
        generator: one number is drawn per image, whether or not the image is square.

    Returns:
        The crops, N x C x S x S, and the draws with the crop removed, to be passed to ``augment``.
    """
    along_N, across_N = images.places(chosen_N, draws.corners_N2)
    beside_N = images.beside(chosen_N)
    drawn_N = torch.randint(_MANY, (len(chosen_N),), generator=generator)
    along_N = torch.where(beside_N > 0, drawn_N % (beside_N + 2 * _PADDING + 1), along_N)
    cropped_NCHW = images.crops(chosen_N, along_N - _PADDING, across_N - _PADDING)
    return cropped_NCHW, draws._replace(corners_N2=torch.full_like(draws.corners_N2, _PADDING))


def augment(images_NCHW: Tensor, draws: Draws) -> Tensor:
    """Crop, flip, jitter and rotate uint8 images N x C x H x W as drawn; return uint8 on the same device.

    A grey image gives the same result as three equal channels would; the saturation factor has no effect on it.
    """
    count, _, height, width = images_NCHW.shape
    # on a CPU, whole batches would take two to five times as long (224 pixels, batches of 128 and 200)
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
    """Return crop and flip as affine maps, in the format of ``_moved``."""
    top_N, left_N = ((corner_N - _PADDING) * _ONE for corner_N in draws.corners_N2.unbind(1))
    zero_N, one_N = torch.zeros_like(top_N), torch.full_like(top_N, _ONE)
    step_N = torch.where(draws.flipped_N, -one_N, one_N)
    start_N = torch.where(draws.flipped_N, left_N + (width - 1) * _ONE, left_N)
    return torch.stack([step_N, zero_N, start_N, zero_N, one_N, top_N], dim=1).to(torch.int32)


def _turn(degrees: float, width: int, height: int) -> list[int]:
    """Return a rotation about the centre, rounded like PIL's ``rotate``, in the format of ``_moved``."""
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
    """Apply an affine map to each image without interpolation; pixels from outside the image are black.

    Args:
        maps_N6: a, b, c, d, e, f in units of 2**-16: the pixel at (x, y) is taken from column ax + by + c and row
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
    """Change brightness, contrast and saturation in each image's order.

    Each change is PIL's ``blend`` of the image with its version at factor 0: black, its mean grey, or its greyscale
    version. Every number is an integer or rounded as in PIL; products are never fused with sums.
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
    """Return the mean pixel of each image, halves rounded up; exact, because the sum of a row is below 2**24."""
    sum_N111 = grey_N1HW.sum(3, keepdim=True).sum(2, keepdim=True, dtype=torch.float64)
    return (sum_N111 / grey_N1HW[0].numel() + 0.5).floor().to(torch.float32)


def _grey(images_NCHW: Tensor) -> Tensor:
    """Return PIL's luma in [0, 255]; grey images are returned as they are.

    float32 is exact, because all intermediate values are integers below 2**24.
    """
    if images_NCHW.shape[1] == 1:
        return images_NCHW
    red_N1HW, green_N1HW, blue_N1HW = torch.split(images_NCHW, 1, dim=1)
    luma_N1HW: Tensor = red_N1HW * 19595 + green_N1HW * 38470 + blue_N1HW * 7471 + 32768
    return luma_N1HW.div_(_ONE).floor_()
