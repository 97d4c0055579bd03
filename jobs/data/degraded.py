"""Images with less texture: fewer pixels, or fewer frequencies (Section 5 and Table 2 of the paper)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Degradation(NamedTuple):
    """What images lose before a network sees them; nothing by default."""

    low_resolution: int | None = None
    """They are reduced to so many pixels a side, then enlarged to the network's size."""
    low_pass: float | None = None
    """At the network's size, this share of the frequencies of each direction, the highest, is zeroed."""
    aspect_kept: bool = False
    """Images of low resolution have so many pixels on their shorter side; otherwise the centre square alone is left."""


def kept_frequencies(height: int, width: int, share: float) -> npt.NDArray[np.bool_]:
    """Which of H x W frequencies (u, v), as ``numpy.fft.fft2`` lays them out, a low pass keeps: those with
    max(|u|, |v|) <= (1 - share) S / 2.

    Of images that are not square, S is their height for u and their width for v: in cycles a pixel the border is one.
    u and v run from -S/2 to S/2 cycles an image, so a share of 32/224 at 224 pixels keeps those up to 96: 193 of 224 in
    each direction (a real image allows no even number of them), 37,249 of 50,176. The 12,927 others are 25.8 %.
    """
    rows_H, columns_W = (np.abs(np.fft.fftfreq(size, 1 / size)) <= (1 - share) * size / 2 for size in (height, width))
    kept: npt.NDArray[np.bool_] = np.logical_and.outer(rows_H, columns_W)
    return kept


def low_pass(pixels_CHW: npt.NDArray[np.uint8], share: float) -> npt.NDArray[np.uint8]:
    """Zero all other frequencies of each channel's discrete Fourier transform. What comes back is cut to 0 to 255 and
    rounded.
    """
    height, width = pixels_CHW.shape[1:]
    kept = kept_frequencies(height, width, share)
    filtered = np.fft.ifft2(np.fft.fft2(pixels_CHW.astype(np.float64)) * kept).real
    rounded: npt.NDArray[np.uint8] = np.rint(filtered.clip(0, 255)).astype(np.uint8)
    return rounded
