"""Layers that draw: dropout and stochastic depth with numbers that follow from the trial."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from jobs.errors import Code, InvalidRequest
from jobs.networks.drawing import DrawingLayer, replace_drawing_layers
from tests.jobs.networks.shrunk import opened, spec_of
from tests.jobs.support import numbers


class Recorded:
    """Draws from a generator, and records what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[int, ...]]] = []
        self.drawn: list[Tensor] = []

    def __call__(self, path: str, shape: Sequence[int]) -> Tensor:
        self.asked.append((path, tuple(shape)))
        self.drawn.append(torch.rand(tuple(shape), generator=torch.Generator().manual_seed(len(self.asked))))
        return self.drawn[-1]


def replaced(layer: nn.Module) -> tuple[Any, Recorded]:
    """Return a network with this layer, replaced, in training mode."""
    network, recorded = nn.Sequential(nn.Identity(), layer).train(), Recorded()
    replace_drawing_layers(network)
    for module in network.modules():
        if isinstance(module, DrawingLayer):
            module.draw = recorded
    return network, recorded


X_NCHW = torch.rand(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)) + 1


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Dropout(0.3), (6, 4, 3, 3)),
        (nn.Dropout2d(0.3), (6, 4, 1, 1)),
        (StochasticDepth(0.3, "row"), (6, 1, 1, 1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_dropped_or_scaled_by_numbers_of_the_trial(layer: nn.Module, shape: tuple[int, ...]) -> None:
    network, recorded = replaced(layer)
    before = torch.get_rng_state()
    found = network(X_NCHW)
    assert torch.equal(before, torch.get_rng_state())
    assert recorded.asked == [("1", shape)]
    (drawn,) = recorded.drawn
    kept = (drawn >= 0.3).expand(X_NCHW.shape)
    assert 0 < int(kept.sum()) < kept.numel()
    assert torch.equal(found[~kept], torch.zeros(int((~kept).sum())))
    torch.testing.assert_close(found[kept], X_NCHW[kept] / 0.7)


def test_a_share_of_p_is_dropped() -> None:
    network, _ = replaced(nn.Dropout(0.25))
    assert float((network(torch.ones(200, 1000)) == 0).float().mean()) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_or_everything_is_dropped(p: float) -> None:
    network, recorded = replaced(nn.Dropout(p))
    assert torch.equal(network(X_NCHW), X_NCHW if p == 0 else torch.zeros_like(X_NCHW))
    assert len(recorded.asked) == int(p)


def test_evaluation_and_frozen_layers_draw_nothing() -> None:
    network, recorded = replaced(nn.Dropout(0.5))
    assert torch.equal(network.eval()(X_NCHW), X_NCHW)
    network.train()
    network[1].frozen = True
    assert torch.equal(network(X_NCHW), X_NCHW)
    assert recorded.asked == []


def test_stochastic_depth_of_a_whole_batch_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="mode batch in 1") as error:
        replaced(StochasticDepth(0.3, "batch"))
    assert error.value.code == Code.UNUSABLE_NETWORK


@pytest.mark.parametrize("blocks", [0, 1, 3, -1])
def test_only_trained_layers_of_a_trial_draw(blocks: int) -> None:
    """Stochastic depth of convnext_tiny: the first block has probability 0; the other 17 draw if they are trained."""
    trial, asked = opened("convnext_tiny", spec_of("convnext_tiny", blocks, epochs=1)), Recorded()
    trial.network.draw_from(asked)
    trial.advance()
    trained = {0: 0, 1: 1, 3: 3, -1: 17}[blocks]
    assert len(asked.asked) == 2 * trained, "two batches"
    assert len({path for path, _ in asked.asked}) == trained


def test_numbers_follow_from_seed_position_and_path() -> None:
    first, again, other = (opened("convnext_tiny", spec_of("convnext_tiny", 3, seed=seed)) for seed in (7, 7, 8))
    before = torch.get_rng_state()
    for trial in (first, again):
        trial.advance()
    assert torch.equal(before, torch.get_rng_state()), "global state is left alone"
    assert numbers(first) == numbers(again)
    drawn = set()
    for trial in (again, other):
        for position in ((1, 0), (1, 1), (2, 0)):
            trial.go_to(*position)
            for path in ("features.7.1", "features.7.2"):
                layers = [m for m in trial.network.model.modules() if isinstance(m, DrawingLayer)]
                assert layers[0].draw is not None
                drawn.add(tuple(layers[0].draw(path, (4, 1, 1, 1)).flatten().tolist()))
    assert len(drawn) == 2 * 3 * 2


LAYERS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
SHAPES = ((40, 30), (40, 30, 20), (40, 30, 20, 10), (40, 30, 6, 5, 4))


@pytest.mark.filterwarnings("ignore:dropout")
@pytest.mark.parametrize(
    ("kind", "shape"),
    [(kind, shape) for kind in LAYERS for shape in SHAPES if kind is not nn.Dropout1d or len(shape) < 4],
    ids=lambda value: value.__name__ if isinstance(value, type) else len(value),
)
def test_values_are_dropped_together_as_by_torch(kind: type[nn.Module], shape: tuple[int, ...]) -> None:
    """Whatever the number of dimensions: tokens N x L x D, for one, have another than images."""
    network, _ = replaced(kind(0.5))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        theirs = kind(0.5)(torch.ones(shape))
    assert apart(network(torch.ones(shape))) == apart(theirs)


def apart(x: Tensor) -> list[bool]:
    """Return whether values differ along each dimension."""
    return [bool((x != x.select(dimension, 0).unsqueeze(dimension)).any()) for dimension in range(x.ndim)]


class AlwaysDrops(nn.Dropout):
    """Dropout in evaluation, too."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.p, True)


class Renamed(nn.Dropout):
    pass


def test_a_derived_layer_is_replaced_only_if_it_computes_the_same() -> None:
    assert isinstance(replaced(AlwaysDrops(0.5))[0][1], AlwaysDrops)
    assert isinstance(replaced(Renamed(0.5))[0][1], DrawingLayer)


def test_a_layer_that_draws_twice_in_a_batch_draws_other_numbers() -> None:
    """Both branches of a block of Swin use one layer. The first draw is the one of a layer that draws once."""
    trial = opened("convnext_tiny", spec_of("convnext_tiny", 3))
    draw = next(m for m in trial.network.model.modules() if isinstance(m, DrawingLayer)).draw
    assert draw is not None

    def drawn(position: tuple[int, int]) -> list[list[float]]:
        trial.go_to(*position)
        return [draw(path, (4,)).tolist() for path in ("one", "one", "other")]

    first, second, other = drawn((1, 0))
    assert len({tuple(numbers) for numbers in (first, second, other)}) == 3
    next_batch = drawn((1, 1))
    assert not {*map(tuple, next_batch)} & {*map(tuple, (first, second, other))}
    assert drawn((1, 0)) == [first, second, other], "again in the same order"
