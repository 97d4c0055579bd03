"""The Fourier basis as a threat model: bands, Parseval, hand-computed steps, and closed forms for linear networks."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset
from jobs.errors import Code
from jobs.kind import from_plain, plain
from jobs.kinds.attack.spec import AttackSpec
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.pretrain.spec import pretrain_spec as spec_of_source
from jobs.kinds.pretrain.trial import attack_in
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from jobs.perturbations.fourier import BandStep, frequencies_of, in_band
from jobs.perturbations.pgd import draw_noise, perturb
from jobs.possible import problems
from jobs.specs.recipes import PretrainRecipe
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.jobs.support import CPU
from tests.packaged import packaged_weights

BANDS = [(0.0, 0.25), (0.25, 1.0), (0.5, 0.75), (0.0, 1.0)]


def fourier(epsilon: float = 1.0, steps: int = 3, band: tuple[float, float] = (0.0, 0.25), **more: Any) -> ThreatModel:
    return ThreatModel(constraint=Constraint.FOURIER, epsilon=epsilon, steps=steps, band=band, **more)


def images(count: int = 5, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def kept_by_hand(size: int, band: tuple[float, float]) -> np.ndarray:
    """Return the band's mask, S x S, computed one frequency at a time, in the layout of ``numpy.fft.fft2``."""
    kept = np.zeros((size, size), dtype=bool)
    for row in range(size):
        for column in range(size):
            largest = max(min(row, size - row), min(column, size - column))
            kept[row, column] = band[0] * size / 2 < largest <= band[1] * size / 2 or largest == band[0] == 0
    return kept


def outside(x_NCHW: Tensor, band: tuple[float, float]) -> float:
    """Return the largest coefficient outside a band, computed with numpy."""
    spectrum = np.fft.fft2(x_NCHW.double().numpy(), norm="ortho")
    return float(np.abs(spectrum * ~kept_by_hand(x_NCHW.shape[-1], band)).max())


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("size", [32, 9])
def test_the_part_in_a_band_is_numpy_s(band: tuple[float, float], size: int) -> None:
    x_NCHW = images(size=size)
    spectrum = np.fft.fft2(x_NCHW.double().numpy())
    expected = np.fft.ifft2(spectrum * kept_by_hand(size, band))
    assert np.abs(expected.imag).max() < 1e-12, "a band has -f with every f: what is real stays real"
    torch.testing.assert_close(in_band(x_NCHW, band).double(), torch.from_numpy(expected.real), rtol=0, atol=1e-6)


def test_how_many_frequencies_the_lowest_quarter_has() -> None:
    """|u| and |v| up to 4 of 32 pixels: 9 x 9; the highest three quarters have the others."""
    counts = [int(kept_by_hand(32, band).sum()) for band in ((0.0, 0.25), (0.25, 1.0))]
    assert counts == [81, 1024 - 81]
    assert int(frequencies_of(32, (0.0, 0.25), CPU).sum()) == 9 * 5, "half of them, and those that are their own pair"


def test_norms_are_those_of_the_pixels() -> None:
    """Parseval, for the whole and for the parts in two disjoint bands."""
    x_NCHW = images()
    low, high = (in_band(x_NCHW, band) for band in ((0.0, 0.25), (0.25, 1.0)))
    spectrum = np.fft.fft2(x_NCHW.double().numpy(), norm="ortho")
    assert float(x_NCHW.double().norm()) == pytest.approx(np.linalg.norm(spectrum), rel=1e-9)
    torch.testing.assert_close(low + high, x_NCHW)
    assert float((low * high).sum()) == pytest.approx(0, abs=1e-3)
    assert float(low.norm() ** 2 + high.norm() ** 2) == pytest.approx(float(x_NCHW.norm() ** 2), rel=1e-5)


def test_the_part_in_a_band_is_a_projection() -> None:
    x_NCHW, y_NCHW = images(), images().flip(0)
    once = in_band(x_NCHW, (0.25, 0.5))
    torch.testing.assert_close(in_band(once, (0.25, 0.5)), once)
    assert float((once * y_NCHW).sum()) == pytest.approx(float((x_NCHW * in_band(y_NCHW, (0.25, 0.5))).sum()), rel=1e-4)


def test_all_frequencies_are_the_ball_of_pixels(digits: Dataset) -> None:
    """By Parseval, the perturbations are the same up to rounding."""
    network, x_NCHW, labels_N = trained(digits)
    whole = fourier(0.5, band=(0.0, 1.0))
    l2 = ThreatModel(constraint=Constraint.L2, epsilon=0.5, steps=3)
    found, expected = (perturb(network, x_NCHW, labels_N, threat) for threat in (whole, l2))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert not torch.equal(found, x_NCHW)


def trained(digits: Dataset) -> tuple[Network, Tensor, Tensor]:
    card, resnet = PACKAGED.source("fmnist_natural"), resnet35_w8(10)
    resnet.load_state_dict(packaged_weights("fmnist_natural").tensors)
    x_NCHW = digits.test.images_NCHW[:8].float().div(255).expand(-1, 3, -1, -1).contiguous()
    return Network(resnet, card.mean, card.std).eval(), x_NCHW, digits.test.labels_N[:8]


class Linear(nn.Module):
    """Two labels: the logit of the second is the inner product with ``weights_CHW``, that of the first is 0."""

    def __init__(self, weights_CHW: Tensor) -> None:
        super().__init__()
        self.weights_CHW = weights_CHW

    def forward(self, images_NCHW: Tensor) -> Tensor:
        second = (images_NCHW * self.weights_CHW).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(second), second], 1)


def wave(cycles: int, size: int = 32) -> Tensor:
    """Return a cosine along the rows with a norm of 1: sqrt(2 / (3 S^2)) cos, over three channels."""
    rows = torch.cos(2 * math.pi * cycles * torch.arange(size) / size)
    return (math.sqrt(2 / (3 * size**2)) * rows).view(1, 1, size).expand(3, size, size).contiguous()


def test_against_a_linear_network_the_margin_falls_by_epsilon_times_the_norm_in_the_band() -> None:
    """The weights are 3 times a wave of 2 cycles, inside the lowest quarter, plus 4 times one of 10 cycles, outside it.

    The loss of label 0 rises along the weights: by 5 epsilon with all pixels, by 3 epsilon in the lowest quarter, and
    by 4 epsilon in the highest half.
    """
    network = Linear(3 * wave(2) + 4 * wave(10))
    grey, labels = torch.full((4, 3, 32, 32), 0.5), torch.zeros(4, dtype=torch.int64)
    for band, norm in (((0.0, 0.25), 3.0), ((0.5, 1.0), 4.0), ((0.0, 1.0), 5.0), ((0.25, 0.5), 0.0)):
        moved = perturb(network, grey, labels, fourier(0.5, steps=20, band=band))
        rises = (network(moved) - network(grey))[:, 1]
        if norm:
            assert rises.tolist() == pytest.approx([0.5 * norm] * 4, rel=1e-3)
        else:
            assert rises.abs().max() < 1e-3, "neither wave lies in this band"
        assert outside(moved - grey, band) < 1e-5, "no pixel was cut"


def test_one_step_by_hand() -> None:
    """The unit-length gradient in the band: of 3 times a wave inside and 4 times one outside, alpha times the first."""
    centre = torch.full((2, 3, 32, 32), 0.5)
    gradient = (3 * wave(2) + 4 * wave(10)).expand(2, -1, -1, -1).contiguous()
    step = BandStep(centre, 1.0, 0.25, (0.0, 0.25))
    torch.testing.assert_close(step.step(centre, gradient) - centre, 0.25 * wave(2).expand(2, -1, -1, -1))
    torch.testing.assert_close(
        step.project(centre + 3 * wave(2) + 3 * wave(10)), centre + wave(2), msg="the band, then the ball of radius 1"
    )


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("start", ["zero", "random"])
def test_perturbations_stay_in_the_ball_and_in_0_1_and_where_nothing_is_cut_in_the_band(
    band: tuple[float, float], start: str, digits: Dataset
) -> None:
    network, x_NCHW, labels_N = trained(digits)
    threat = fourier(0.7, band=band, start=start)
    noise = draw_noise(threat, tuple(x_NCHW.shape), torch.Generator().manual_seed(3))
    moved = perturb(network, x_NCHW, labels_N, threat, noise)
    norms = (moved - x_NCHW).flatten(1).norm(dim=1)
    assert norms.max() <= 0.7 * (1 + 1e-5)
    assert norms.min() > 0
    assert moved.min() >= 0
    assert moved.max() <= 1
    grey = 0.4 + 0.2 * x_NCHW  # no perturbation of this radius leaves [0, 1]
    between = perturb(network, grey, labels_N, threat, noise)
    assert outside(between - grey, band) < 1e-5
    if band != (0.0, 1.0):
        assert outside(moved - x_NCHW, band) > 1e-3, "cutting to [0, 1] leaves the band: digits are 0 and 1"


def test_a_random_start_lies_on_the_sphere_of_the_band() -> None:
    noise = draw_noise(fourier(start="random"), (6, 3, 32, 32), torch.Generator().manual_seed(3))
    assert noise is not None
    assert noise.flatten(1).norm(dim=1).tolist() == pytest.approx([1.0] * 6, rel=1e-5)
    assert outside(noise, (0.0, 0.25)) < 1e-6
    assert draw_noise(fourier(), (6, 3, 32, 32), torch.Generator()) is None


# --- identity ---


def pretrain(threat: ThreatModel) -> PretrainSpec:
    return PretrainSpec(
        architecture="resnet35-w8", dataset="digits", threat=threat, seed=1, epochs=1, recipe=PretrainRecipe()
    )


def attack(threat: ThreatModel) -> AttackSpec:
    return AttackSpec.model_validate(
        {"network": "fmnist_natural", "dataset": "fmnist", "threat": threat, "seed": 1, "recipe": {}}
    )


def test_other_threat_models_are_written_as_ever() -> None:
    """Their fields, and so the ids of trials, are the same as before bands existed."""
    l2 = ThreatModel(constraint=Constraint.L2, epsilon=1.0, steps=7)
    fields = {"constraint": "l2", "epsilon": 1.0, "steps": 7, "step_scale": 2.5, "start": "zero"}
    assert l2.model_dump(mode="json") == fields
    assert pretrain(l2).identity["spec"]["threat"] == fields
    assert l2.choices == fields
    bundled = spec_of_source(PACKAGED.source("fmnist_l2_eps1"), PACKAGED)
    assert bundled.trial_id == "pretrain-fmnist-resnet35-w8-l2-s20000000-54383ff6e38bb709"


def test_the_id_follows_from_the_band() -> None:
    threats = [fourier(), fourier(band=(0.0, 0.5)), fourier(band=(0.5, 1.0))]
    for made in (pretrain, attack):
        specs = [made(threat) for threat in threats]
        assert len({spec.trial_id for spec in specs}) == 3
        assert [from_plain(plain(spec)).trial_id for spec in specs] == [spec.trial_id for spec in specs]
        assert [spec.choices["constraint"] for spec in specs] == ["fourier:0-0.25", "fourier:0-0.5", "fourier:0.5-1"]
        assert all("band" not in spec.choices for spec in specs)
    assert attack(fourier()).trial_id.startswith("attack-fmnist-fmnist_natural-fourier-1-")


def test_a_source_is_attacked_in_the_ball_that_it_was_trained_in() -> None:
    assert attack_in(Constraint.FOURIER, 1.0, (0.0, 0.25)) == fourier(steps=20)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"band": None}, "a band for fourier only; got constraint fourier and band None"),
        ({"constraint": "l2"}, "a band for fourier only; got constraint l2"),
        ({"band": (0.5, 0.5)}, r"0 <= a < b <= 1; got \[0.5, 0.5\]"),
        ({"band": (-0.1, 0.5)}, r"0 <= a < b <= 1; got \[-0.1, 0.5\]"),
        ({"band": (0.0, 1.5)}, r"0 <= a < b <= 1; got \[0.0, 1.5\]"),
        ({"steps": 0}, "steps of at least 1 for l2, linf and fourier"),
    ],
)
def test_what_no_threat_model_is(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        ThreatModel.model_validate({**fourier().model_dump(), **changes})


def test_a_band_without_a_frequency_is_said_before_anything_is_loaded() -> None:
    """With 32 pixels, 0.8 to 1.28 cycles contain one frequency, 0.16 to 0.8 none."""
    assert problems(pretrain(fourier(band=(0.05, 0.08))), PACKAGED) == []
    (said,) = problems(pretrain(fourier(band=(0.01, 0.05))), PACKAGED)
    assert (said.code, said.place.key) == (Code.IMPOSSIBLE_TRIAL, "band")
    for value in ("32 pixels", "0.16", "0.8 cycles", "[0.01, 0.05]"):
        assert value in said.message
    assert problems(attack(fourier(band=(0.01, 0.05))), PACKAGED) == [said]
