"""Perturbations of images inside a ball: projected gradient descent and Gaussian noise.

Equations (1) to (5) of the paper (Section 3 and A.2). Steps and projections are those of the ``robustness`` library;
its loops run only on CUDA and are not used.
"""

from collections.abc import Callable

import torch
from robustness.attack_steps import AttackerStep, L2Step, LinfStep
from torch import Tensor, nn

from jobs.data.batches import to_device
from jobs.networks.network import Network
from jobs.perturbations.fourier import BandStep, in_band
from jobs.specs.optimizers import Precision
from jobs.specs.threat_model import Constraint, ThreatModel
from jobs.system.progress import progressed

_MOST_SCALE = 2.0**16

_STEPS: dict[Constraint, type[AttackerStep]] = {
    Constraint.L2: L2Step,
    Constraint.LINF: LinfStep,
}


def perturb(
    model: nn.Module, images_NCHW: Tensor, labels_N: Tensor, threat: ThreatModel, noise_NCHW: Tensor | None = None
) -> Tensor:
    """Perturb images according to a threat model; the result stays in the ball and in [0, 1].

    The model is evaluated in its current mode. Callers that train put it into evaluation mode first, as the
    ``robustness`` library does.

    Args:
        model: maps images N x C x H x W in [0, 1] to logits N x K.
        images_NCHW: centres of the balls, in [0, 1].
        labels_N: labels whose loss is maximized.
        threat: constraint, radius and search parameters.
        noise_NCHW: result of ``draw_noise`` for these images.
    """
    if threat.constraint is Constraint.NONE:
        return images_NCHW
    centre = images_NCHW.detach().contiguous()
    noise = None if noise_NCHW is None else to_device(noise_NCHW, centre.device)
    if threat.constraint is Constraint.GAUSSIAN:
        assert noise is not None, "Gaussian noise was not drawn"
        return L2Step(centre, threat.epsilon, 0.0).project(centre + noise)  # type: ignore[no-any-return]
    start = centre if noise is None else (centre + threat.epsilon * noise).clamp(0, 1)
    return _pgd(model, centre, start, labels_N, threat)


def draw_noise(threat: ThreatModel, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
    """Draw the noise that a threat model needs for images of ``shape`` (N x C x H x W); None if it needs none.

    Gaussian: N(0, 1) per pixel (Section 7, A.10). Random start: uniform in [-1, 1] per pixel for linf and on the
    unit sphere for l2, as in the ``robustness`` library; on the unit sphere of the band for fourier.
    """
    if threat.constraint is Constraint.GAUSSIAN:
        return torch.randn(shape, generator=generator)
    if threat.start == "zero":
        return None
    if threat.constraint is Constraint.LINF:
        return torch.rand(shape, generator=generator).mul(2).sub(1)
    direction = torch.randn(shape, generator=generator)
    if threat.band is not None:
        direction = in_band(direction, threat.band)
    norms_N: Tensor = direction.flatten(1).norm(dim=1)
    return direction / norms_N.view(-1, 1, 1, 1)


def ascend(
    objective: Callable[[Tensor], Tensor],
    start_NCHW: Tensor,
    step: AttackerStep,
    steps: int,
    precision: Precision = "float32",
) -> Tensor:
    """Take ``steps`` projected gradient ascent steps, equation (4), and return the last iterate.

    Args:
        objective: maps images N x C x H x W to a scalar.
        precision: that of the network in the objective.
    """
    x = start_NCHW
    for _ in range(steps):
        progressed()
        x = x.clone().detach().requires_grad_(True)
        gradient = _gradient(objective(x), x, precision)
        with torch.no_grad():
            # L2Step flattens with view(), which fails for channels_last gradients
            x = step.project(step.step(x, gradient.contiguous()))
    return x.detach()


def _gradient(objective: Tensor, x: Tensor, precision: Precision) -> Tensor:
    """Return the gradient of a scalar with respect to images.

    In float16, small gradients would be rounded to 0 and large ones overflow: there the objective is multiplied by the
    largest power of 2, up to 65,536, for which the gradient is finite. If there is none, because an image overflows
    even without it, each image has the gradient of the largest one for which its own is finite.
    """
    if precision != "float16":
        return torch.autograd.grad(objective, [x])[0]
    scale, of_each_NCHW = _MOST_SCALE, torch.full_like(x, torch.nan)
    while True:
        gradient = torch.autograd.grad(objective * scale, [x], retain_graph=True)[0] / scale
        if bool(gradient.isfinite().all()):
            return gradient
        finite_N111 = of_each_NCHW.flatten(1).isfinite().all(1).view(-1, 1, 1, 1)
        of_each_NCHW = torch.where(finite_N111, of_each_NCHW, gradient)
        if scale == 1:
            return of_each_NCHW
        scale /= 2


def _pgd(model: nn.Module, centre: Tensor, start: Tensor, labels_N: Tensor, threat: ThreatModel) -> Tensor:
    """Run PGD(k) from ``start``, maximizing the cross-entropy of the labels."""
    if threat.band is None:
        step = _STEPS[threat.constraint](centre, threat.epsilon, threat.step_size)
    else:
        step = BandStep(centre, threat.epsilon, threat.step_size, threat.band)
    precision = model.precision if isinstance(model, Network) else "float32"
    return ascend(lambda x: nn.functional.cross_entropy(model(x), labels_N), start, step, threat.steps, precision)
