"""A trial is a pure function of its spec: to the last digit, however and wherever it runs.

See docs/decisions/trial-ids.md.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
import torch

from jobs.data.datasets import Dataset
from jobs.kinds.finetune.trial import Finetuning
from jobs.models.weights import SourceWeights
from jobs.results import comparable_columns
from tests.jobs.support import CPU, finetune_spec, finetuned, numbers, trial_rows

ROOT = Path(__file__).parents[4]

IN_ANOTHER_PROCESS = """
import json, torch
from jobs.data.datasets import ImageSet
from jobs.results import comparable_columns
from tests.packaged import packaged_dataset
from tests.jobs.support import finetune_spec, finetuned, make_weights, trial_rows

torch.manual_seed(12345)
digits = packaged_dataset("digits", 32)
few = digits._replace(
    train=ImageSet(digits.train.images_NCHW[:64], digits.train.labels_N[:64]),
    test=ImageSet(digits.test.images_NCHW[:64], digits.test.labels_N[:64]),
)
rows = trial_rows(finetuned(finetune_spec(), make_weights(seed=1), few))
print(json.dumps([{name: row[name] for name in comparable_columns("finetune")} for row in rows]))
"""


@pytest.fixture(scope="module")
def reference(weights: SourceWeights, few_digits: Dataset) -> Finetuning:
    """One uninterrupted run, with which others are compared."""
    return finetuned(finetune_spec(), weights, few_digits)


@pytest.fixture
def _threads_put_back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def assert_same(trial: Finetuning, reference: Finetuning) -> None:
    """Require equal rows and equal networks, buffers included."""
    assert numbers(trial) == numbers(reference)
    state = trial.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in reference.network.state_dict().items())


def test_two_runs_in_one_process(reference: Finetuning, weights: SourceWeights, few_digits: Dataset) -> None:
    assert_same(finetuned(finetune_spec(), weights, few_digits), reference)


def test_a_run_in_another_process(reference: Finetuning) -> None:
    """Run with another number of threads in the environment and another hash seed."""
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "77"}
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [{name: row[name] for name in comparable_columns("finetune")} for row in trial_rows(reference)]
    assert json.loads(done.stdout) == expected


def test_other_trials_before_and_between(
    reference: Finetuning, weights: SourceWeights, other_weights: SourceWeights, few_digits: Dataset
) -> None:
    """As in a reused actor: trials share a process and alternate in it."""
    trial = Finetuning(finetune_spec(), weights, few_digits, CPU)
    other = Finetuning(finetune_spec(source="fmnist_natural", blocks=0, seed=9), other_weights, few_digits, CPU)
    while not trial.done:
        trial.advance(one_batch())
        other.advance(one_batch())
    assert_same(trial, reference)


def one_batch() -> Callable[[], bool]:
    """Return a pause after one batch; it is checked before each."""
    answers = cycle([False, True])
    return lambda: next(answers)


def test_paused_at_every_batch(reference: Finetuning, weights: SourceWeights, few_digits: Dataset) -> None:
    trial = Finetuning(finetune_spec(), weights, few_digits, CPU)
    batches = 0
    while not trial.done:
        trial.advance(one_batch())
        batches += 1
    assert batches == 4 * 3, "four epochs of three batches, one a call"
    assert_same(trial, reference)


def test_a_pause_at_once_does_nothing(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = Finetuning(finetune_spec(), weights, few_digits, CPU)
    trial.advance(pause=lambda: True)
    assert (trial.epoch, trial.batch, trial.evaluations) == (1, 0, [])


def test_a_finished_trial_does_not_go_on(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = finetuned(finetune_spec(epochs=1), weights, few_digits)
    before = numbers(trial), {name: tensor.clone() for name, tensor in trial.network.state_dict().items()}
    trial.advance()
    assert numbers(trial) == before[0]
    assert all(torch.equal(before[1][name], tensor) for name, tensor in trial.network.state_dict().items())


@pytest.mark.usefixtures("_threads_put_back")
@pytest.mark.parametrize("outside", [1, 2, 3])
def test_threads_outside(outside: int, reference: Finetuning, weights: SourceWeights, few_digits: Dataset) -> None:
    torch.set_num_threads(outside)
    assert_same(finetuned(finetune_spec(), weights, few_digits), reference)
    assert torch.get_num_threads() == outside, "put back afterwards"


@pytest.mark.usefixtures("_threads_put_back")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_recipe_s_numerics_hold_while_training_and_evaluating(
    threads: int, weights: SourceWeights, few_digits: Dataset
) -> None:
    torch.set_num_threads(3)
    trial = Finetuning(
        finetune_spec({"threads": threads, "batch_size": 16}, images=10, epochs=1), weights, few_digits, CPU
    )
    seen = []
    trial.network.register_forward_hook(
        lambda *_: seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
    )
    trial.advance()
    assert seen == [(threads, True)] * 2, "one training batch, one test batch"
    assert torch.get_num_threads() == 3
    assert not torch.are_deterministic_algorithms_enabled()


def test_numerics_are_put_back_after_an_error(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = Finetuning(finetune_spec({"threads": 2}), weights, few_digits, CPU)

    def fail() -> bool:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        trial.advance(pause=fail)
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()


def test_global_random_state_has_no_influence(
    reference: Finetuning, weights: SourceWeights, few_digits: Dataset
) -> None:
    for outside in (0, 1):
        torch.manual_seed(outside)
        assert_same(finetuned(finetune_spec(), weights, few_digits), reference)


def test_training_and_evaluating_draw_nothing_from_global_state(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = Finetuning(finetune_spec(), weights, few_digits, CPU)
    before = torch.get_rng_state()
    trial.advance()
    assert torch.equal(torch.get_rng_state(), before)


def test_setting_up_a_trial_touches_nothing_global(weights: SourceWeights, few_digits: Dataset) -> None:
    """As ``Finetuning`` documents: a trial must not change the random numbers of other code in the process."""
    before = torch.get_rng_state()
    Finetuning(finetune_spec(), weights, few_digits, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_changes_the_result(reference: Finetuning, weights: SourceWeights, few_digits: Dataset) -> None:
    other = numbers(finetuned(finetune_spec(seed=8), weights, few_digits))
    assert all(a.test_loss != b.test_loss for a, b in zip(numbers(reference), other, strict=True))


def test_the_seed_changes_the_result_on_the_whole_set(weights: SourceWeights, few_digits: Dataset) -> None:
    """With the same images, the FC layer and the order still differ."""
    first, second = (
        numbers(finetuned(finetune_spec(images=-1, seed=s, epochs=1), weights, few_digits)) for s in (1, 2)
    )
    assert first[0].test_loss != second[0].test_loss


@pytest.mark.parametrize("recipe", [{"learning_rate": 0.05}, {"frozen_batchnorm": "source"}, {"batch_size": 10}])
def test_the_recipe_changes_the_result(
    recipe: dict[str, object], reference: Finetuning, weights: SourceWeights, few_digits: Dataset
) -> None:
    assert numbers(finetuned(finetune_spec(recipe), weights, few_digits)) != numbers(reference)


def test_evaluating_more_often_changes_nothing_else(
    reference: Finetuning, weights: SourceWeights, few_digits: Dataset
) -> None:
    """Evaluation does not change modes or BatchNorm statistics."""
    seldom = finetuned(finetune_spec(evaluate_every=4), weights, few_digits)
    assert [evaluation.epoch for evaluation in seldom.evaluations] == [1, 4]
    assert numbers(seldom) == [numbers(reference)[0], numbers(reference)[3]]


def test_the_source_s_tensors_are_never_written_to(few_digits: Dataset, weights: SourceWeights) -> None:
    """They are cached and shared by all trials of a process."""
    before = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    finetuned(finetune_spec(blocks=-1), weights, few_digits)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights.tensors.items())


# --- rows ---


def test_rows_say_what_was_trained_and_measured(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = finetuned(finetune_spec(epochs=6, evaluate_every=2, images=30), weights, few_digits)
    assert [row.epoch for row in trial.evaluations] == [1, 3, 5, 6]
    assert [row.learning_rate for row in trial.evaluations] == pytest.approx([0.1, 0.01, 0.001, 0.001])
    for row in trial.evaluations:
        assert (row.test_accuracy * 64 / 100) == pytest.approx(round(row.test_accuracy * 64 / 100), abs=1e-9)
        assert (row.train_accuracy * 30 / 100) == pytest.approx(round(row.train_accuracy * 30 / 100), abs=1e-9)
        assert 0 <= row.test_accuracy <= 100
        assert 0 <= row.train_accuracy <= 100
    seconds = [row.seconds for row in trial.evaluations]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_losses_are_means_over_images_and_not_over_batches(weights: SourceWeights, few_digits: Dataset) -> None:
    """With a learning rate near zero, the training loss is that of the unchanged network."""
    recipe = {"learning_rate": 1e-12, "weight_decay": 0.0, "frozen_batchnorm": "source", "batch_size": 16}
    trial = Finetuning(finetune_spec(recipe, blocks=0, epochs=1), weights, few_digits, CPU)
    images = few_digits.train.images_NCHW[trial.subset].float().div(255).expand(-1, 3, -1, -1)
    labels = few_digits.train.labels_N[trial.subset]
    with torch.no_grad():
        logits = trial.network.eval()(images)
        expected = float(torch.nn.functional.cross_entropy(logits, labels))
        accuracy = 100 * float((logits.argmax(1) == labels).float().mean())
    trial.advance()
    assert trial.evaluations[0].train_loss == pytest.approx(expected, rel=1e-5)
    assert trial.evaluations[0].train_accuracy == pytest.approx(accuracy)
