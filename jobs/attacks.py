"""Perturbations of images inside a ball: projected gradient descent and Gaussian noise.

Equations (1) to (5) of the paper (Section 3 and A.2). Steps and projections are those of the
``robustness`` library; its loops are not used because they only run on CUDA.
"""

import torch
from robustness.attack_steps import AttackerStep, L2Step, LinfStep
from torch import Tensor, nn

from jobs.specs import Constraint, ThreatModel

_STEPS: dict[Constraint, type[AttackerStep]] = {
    Constraint.L2: L2Step,
    Constraint.LINF: LinfStep,
}


def perturb(
    model: nn.Module, images_NCHW: Tensor, labels_N: Tensor, threat: ThreatModel, generator: torch.Generator
) -> Tensor:
    """Images moved as the threat model says; each stays in its ball and in [0, 1].

    The model is evaluated in the mode it is in: callers that train put it into evaluation mode first,
    as the ``robustness`` library does.

    Args:
        model: images N x C x H x W in [0, 1] to logits N x K.
        images_NCHW: the centres of the balls, in [0, 1].
        labels_N: the labels whose loss is raised.
        threat: constraint, radius, and how to search.
        generator: drawn from only by Gaussian noise.
    """
    if threat.constraint is Constraint.NONE:
        return images_NCHW
    if threat.constraint is Constraint.GAUSSIAN:
        return _gaussian(images_NCHW, threat.epsilon, generator)
    return _pgd(model, images_NCHW, labels_N, threat)


def _pgd(model: nn.Module, images_NCHW: Tensor, labels_N: Tensor, threat: ThreatModel) -> Tensor:
    """PGD(k) from a zero start: k times equation (4); the last iterate is returned."""
    centre = images_NCHW.detach().contiguous()
    step = _STEPS[threat.constraint](centre, threat.epsilon, threat.step_size)
    x = centre
    for _ in range(threat.steps):
        x = x.clone().detach().requires_grad_(True)
        loss = nn.functional.cross_entropy(model(x), labels_N)
        (gradient,) = torch.autograd.grad(loss, [x])
        with torch.no_grad():
            # L2Step flattens with view(), which a channels_last gradient does not allow
            x = step.project(step.step(x, gradient.contiguous()))
    return x.detach()


def _gaussian(images_NCHW: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    """N(0, 1) noise per pixel, projected on the L2 ball of radius epsilon (Section 7, A.10)."""
    centre = images_NCHW.detach().contiguous()
    noise = torch.randn(centre.shape, generator=generator, dtype=centre.dtype).to(centre.device)
    return L2Step(centre, epsilon, 0.0).project(centre + noise)  # type: ignore[no-any-return]
