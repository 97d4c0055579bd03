"""Fourier representation of images: orthonormal discrete Fourier transform of each channel, and frequency bands."""

import torch
from robustness.attack_steps import L2Step
from torch import Tensor

Band = tuple[float, float]
"""(a, b): the frequencies (u, v) with a S/2 < max(|u|, |v|) <= b S/2, in cycles per image of S x S pixels. The mean,
(0, 0), belongs to bands with a = 0.
"""


def in_band(images_NCHW: Tensor, band: Band) -> Tensor:
    """Project square images orthogonally onto a frequency band.

    The basis is orthonormal. By Parseval's theorem, L2 norms and inner products equal those of the pixels, and the
    projected pixel gradient is the gradient with respect to the frequencies of the band.

    Args:
        images_NCHW: N x C x S x S.
    """
    size = images_NCHW.shape[-1]
    kept = frequencies_of(size, band, images_NCHW.device)
    spectrum = torch.fft.rfft2(images_NCHW, norm="ortho") * kept
    part_NCHW: Tensor = torch.fft.irfft2(spectrum, s=(size, size), norm="ortho")
    return part_NCHW


def frequencies_of(size: int, band: Band, device: torch.device) -> Tensor:
    """Return the mask of a band's frequencies: bool, S x (S // 2 + 1), in the layout of ``torch.fft.rfft2``."""
    u = torch.fft.fftfreq(size, 1 / size, device=device).abs()
    v = torch.fft.rfftfreq(size, 1 / size, device=device)
    largest = torch.maximum(u[:, None], v[None, :])
    low, high = (edge * size / 2 for edge in band)
    within = (largest > low) & (largest <= high)
    return within | (largest == 0) if low == 0 else within


class BandStep(L2Step):  # type: ignore[misc]  # the library ships no types
    """PGD step in an L2 ball of the frequencies of a band, with the interface of the robustness library.

    ``step`` adds the gradient with respect to these frequencies, scaled to length ``step_size``. ``project`` projects
    the perturbation onto the band, then onto the ball, and finally clips the image to [0, 1], as for the other balls.
    Clipping never lengthens a perturbation, but it can move part of it out of the band.
    """

    def __init__(self, orig_input: Tensor, eps: float, step_size: float, band: Band) -> None:
        super().__init__(orig_input, eps, step_size)
        self.band = band

    def project(self, x: Tensor) -> Tensor:
        perturbation = in_band(x - self.orig_input, self.band).renorm(p=2, dim=0, maxnorm=self.eps)
        projected: Tensor = (self.orig_input + perturbation).clamp(0, 1)
        return projected

    def step(self, x: Tensor, g: Tensor) -> Tensor:
        stepped: Tensor = super().step(x, in_band(g, self.band))
        return stepped
