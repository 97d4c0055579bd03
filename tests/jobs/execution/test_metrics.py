"""Accuracy and loss over a whole set."""

import pytest
import torch
from torch import nn

from jobs.execution.metrics import RunningMetrics, evaluate

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
LABELS = torch.tensor([0, 1, 0])


def test_tally_weights_batches_by_their_images() -> None:
    tally = RunningMetrics()
    for part in (slice(0, 2), slice(2, 3)):
        loss = nn.functional.cross_entropy(LOGITS[part], LABELS[part])
        tally.add(LOGITS[part], LABELS[part], loss)
    assert tally.images == 3
    assert tally.correct == 2
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
    assert tally.images == 6
    assert modes == [(False, False, False)] * 2
    assert (model.training, model[0].training, model[1].training, model[2].training) == (True, False, True, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_diverged_network_has_a_loss_that_is_not_a_number() -> None:
    tally = RunningMetrics()
    logits = torch.full((2, 2), float("nan"))
    tally.add(logits, LABELS[:2], nn.functional.cross_entropy(logits, LABELS[:2]))
    assert tally.mean_loss != tally.mean_loss
