"""Accuracy and loss over a whole set."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jobs.execution import metrics
from jobs.execution.metrics import RunningMetrics, evaluate

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
LABELS = torch.tensor([0, 1, 0])


def test_tally_weights_batches_by_their_images() -> None:
    tally = RunningMetrics()
    for part in (slice(0, 2), slice(2, 3)):
        loss = nn.functional.cross_entropy(LOGITS[part], LABELS[part])
        tally.add(LOGITS[part], LABELS[part], loss)
    assert tally.sums[:2] == (3, 2)
    assert tally.accuracy_percent == pytest.approx(200 / 3)
    # by hand: ln(1 + e^-2) twice, ln(1 + e^2) once
    assert tally.mean_loss == pytest.approx((0.126928 * 2 + 2.126928) / 3, abs=1e-5)


def test_evaluation_runs_in_evaluation_mode_and_puts_every_mode_back() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.train()
    model[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes: list[tuple[bool, bool, bool]] = []
    model.register_forward_hook(
        lambda *_: modes.append((model[0].training, model[2].training, torch.is_grad_enabled()))
    )
    tally = evaluate(model, iter([(LOGITS, LABELS), (LOGITS, LABELS)]))
    assert tally.sums.images == 6
    assert modes == [(False, False, False)] * 2
    assert (model.training, model[0].training, model[1].training, model[2].training) == (True, False, True, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_diverged_network_has_a_loss_that_is_not_a_number() -> None:
    tally = RunningMetrics()
    logits = torch.full((2, 2), float("nan"))
    tally.add(logits, LABELS[:2], nn.functional.cross_entropy(logits, LABELS[:2]))
    assert tally.mean_loss != tally.mean_loss


RNG = torch.Generator().manual_seed(0)
BATCHES = [
    (torch.randn(5, 3, generator=RNG), torch.randint(3, (5,), generator=RNG))
    for _ in range(3 * metrics._MOST_WAITING + 1)
]


def add(tally: RunningMetrics, logits_NK: Tensor, labels_N: Tensor) -> None:
    tally.add(logits_NK, labels_N, nn.functional.cross_entropy(logits_NK, labels_N))


def test_sums_do_not_depend_on_when_they_are_read() -> None:
    """As in a checkpoint in the middle of an epoch, which another instance continues."""
    alone, read, resumed = RunningMetrics(), RunningMetrics(), RunningMetrics()
    images, correct, loss = 0, 0, 0.0
    for logits_NK, labels_N in BATCHES:
        for tally in (alone, read, resumed):
            add(tally, logits_NK, labels_N)
        images += 5
        correct += int((logits_NK.argmax(1) == labels_N).sum())
        loss += float(nn.functional.cross_entropy(logits_NK, labels_N)) * 5
        assert read.sums == (images, correct, loss)
        resumed = RunningMetrics(*resumed.sums)
    assert alone.sums == read.sums == resumed.sums == (images, correct, loss)


def test_numbers_stay_on_the_device_until_they_are_read_or_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading one makes the process wait for a GPU."""
    read: list[str] = []

    def noted(name: str) -> Callable[[Tensor], Any]:
        function = getattr(Tensor, name)

        def noting(x: Tensor) -> Any:
            read.append(name)
            return function(x)

        return noting

    for name in ("__int__", "__float__", "__bool__", "item", "tolist", "cpu"):
        monkeypatch.setattr(Tensor, name, noted(name))
    tally = RunningMetrics()
    for number, batch in enumerate(BATCHES, start=1):
        add(tally, *batch)
        assert len(read) == number // metrics._MOST_WAITING * 2 * metrics._MOST_WAITING
    assert tally.sums.images == 5 * len(BATCHES)
    assert len(read) == 2 * len(BATCHES)


def test_waiting_numbers_keep_no_graph() -> None:
    """That of a plugin's trial, for one, which may pass its loss as it is."""
    tally = RunningMetrics()
    add(tally, LOGITS.clone().requires_grad_(), LABELS)
    assert [batch.mean_loss.requires_grad for batch in tally._waiting] == [False]
