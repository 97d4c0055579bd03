"""Images in the Fourier basis: the orthonormal discrete Fourier transform of each channel, and bands of it."""

import torch
from robustness.attack_steps import L2Step
from torch import Tensor

Band = tuple[float, float]
"""(a, b): the frequencies (u, v) with a S/2 < max(|u|, |v|) <= b S/2 cycles an image of S pixels a side. The mean,
(0, 0), belongs to the bands that begin at 0.
"""


def in_band(images_NCHW: Tensor, band: Band) -> Tensor:
    """The part of square images that lies in a band: their orthogonal projection on it.

    The basis is orthonormal: by Parseval's theorem L2 norms and inner products are those of the pixels, and this part
    of a gradient with respect to the pixels is the gradient with respect to the frequencies of the band.
    """
    size = images_NCHW.shape[-1]
    kept = frequencies_of(size, band, images_NCHW.device)
    spectrum = torch.fft.rfft2(images_NCHW, norm="ortho") * kept
    part_NCHW: Tensor = torch.fft.irfft2(spectrum, s=(size, size), norm="ortho")
    return part_NCHW


def frequencies_of(size: int, band: Band, device: torch.device) -> Tensor:
    """Which frequencies a band has: true or false, S x (S // 2 + 1), as ``torch.fft.rfft2`` lays them out."""
    u = torch.fft.fftfreq(size, 1 / size, device=device).abs()
    v = torch.fft.rfftfreq(size, 1 / size, device=device)
    largest = torch.maximum(u[:, None], v[None, :])
    low, high = (edge * size / 2 for edge in band)
    within = (largest > low) & (largest <= high)
    return within | (largest == 0) if low == 0 else within


class BandStep(L2Step):  # type: ignore[misc]  # the library ships no types
    """Steps in an L2 ball of frequencies of a band, in the robustness library's terms.

    The gradient in these frequencies, of unit length, times the step size is added; a perturbation is projected on the
    band, then on the ball. The cut to [0, 1] comes last, as for the other balls: it lengthens no perturbation, but
    where it cuts, a part of the perturbation leaves the band.
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
