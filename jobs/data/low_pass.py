"""Images with reduced texture: lower resolution, or fewer frequencies (Section 5 and Table 2 of the paper)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Degradation(NamedTuple):
    """How images are degraded before a network sees them; no degradation by default."""

    low_resolution: int | None = None
    """Images are downscaled to this many pixels per side, then upscaled to the network's input size."""
    low_pass: float | None = None
    """The fraction of the frequencies in each direction, the highest, that is zeroed at the network's input size."""
    aspect_kept: bool = False
    """True: ``low_resolution`` is the shorter side, or the whole image is filtered, and then cropped. False: images are
    cropped to their centre square first, if squares are asked for.
    """


def kept_frequencies(height: int, width: int, share: float) -> npt.NDArray[np.bool_]:
    """Return the mask of the H x W frequencies (u, v) that a low pass keeps: those with
    max(|u|, |v|) <= (1 - share) S / 2, in the order of ``numpy.fft.fft2``.

    For images that are not square, S is the height for u and the width for v, so the cut-off in cycles per pixel is
    the same in both directions. u and v range from -S/2 to S/2 cycles per image, so a share of 32/224 at 224 pixels
    keeps frequencies up to 96: 193 of 224 in each direction (a real image allows only an odd number), 37,249 of 50,176.
    The other 12,927 are 25.8 %.
    """
    rows_H, columns_W = (np.abs(np.fft.fftfreq(size, 1 / size)) <= (1 - share) * size / 2 for size in (height, width))
    kept: npt.NDArray[np.bool_] = np.logical_and.outer(rows_H, columns_W)
    return kept


def low_pass(pixels_CHW: npt.NDArray[np.uint8], share: float) -> npt.NDArray[np.uint8]:
    """Zero all frequencies of each channel but ``kept_frequencies``; clip the result to [0, 255] and round it."""
    height, width = pixels_CHW.shape[1:]
    kept = kept_frequencies(height, width, share)
    filtered = np.fft.ifft2(np.fft.fft2(pixels_CHW.astype(np.float64)) * kept).real
    rounded: npt.NDArray[np.uint8] = np.rint(filtered.clip(0, 255)).astype(np.uint8)
    return rounded
