"""Training source models: deterministic, adversarial as requested, and written with a correct card."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import RandomResizedCrop

import jobs.kinds.pretrain.trial
from jobs.catalog.catalog import PACKAGED, Cards, Catalog, packaged_sources
from jobs.catalog.source_card import SourceCard
from jobs.data.batches import to_input
from jobs.data.datasets import Dataset
from jobs.data.describe import describe
from jobs.data.random_resized_crop import _window, random_resized_crops
from jobs.errors import Code, InvalidRequest
from jobs.execution.attempt import AttemptStatus, attempt_trial
from jobs.execution.commit import Attempt
from jobs.execution.determinism import deterministic
from jobs.execution.gpu_memory import WorkspaceRefused, refusals
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.pretrain import train_source
from jobs.kinds.pretrain.data_parallel import ReplicaFailure, ReplicaLost, Replicas
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.pretrain.spec import pretrain_spec as spec_of_source
from jobs.kinds.pretrain.trial import PretrainEvaluation, Pretraining, adversarial_accuracy, initial_network
from jobs.kinds.training.trial import Evaluated
from jobs.models.weights import load_source
from jobs.networks.arithmetic import FORMATS
from jobs.networks.network import Network
from jobs.perturbations.pgd import draw_noise, perturb
from jobs.provenance import History
from jobs.results import open_store, read_trials
from jobs.results.layout import trained_weights_key
from jobs.results.root_record import LAYOUT
from jobs.specs.optimizers import Precision, TrainingRecipe
from jobs.specs.recipes import PretrainRecipe
from jobs.specs.threat_model import Constraint, ThreatModel
from jobs.verification.verify import verify
from tests.jobs.data import made
from tests.jobs.kinds.pretrain import altered_replica
from tests.jobs.support import CPU
from tests.packaged import packaged_weights
from tests.support import present, refused

NONE = ThreatModel(constraint=Constraint.NONE, epsilon=0)
L2 = ThreatModel(constraint=Constraint.L2, epsilon=1.0, steps=2)
LINF = ThreatModel(constraint=Constraint.LINF, epsilon=8 / 255, steps=2)
GAUSSIAN = ThreatModel(constraint=Constraint.GAUSSIAN, epsilon=1.0)


def pretrain_spec(threat: ThreatModel = L2, epochs: int = 1, seed: int = 3, **recipe: Any) -> PretrainSpec:
    return PretrainSpec(
        architecture="resnet35-w8",
        dataset="digits",
        threat=threat,
        seed=seed,
        epochs=epochs,
        recipe=PretrainRecipe.model_validate({"batch_size": 16, **recipe}),
    )


def trained(spec: PretrainSpec, data: Dataset) -> tuple[Network, list[PretrainEvaluation]]:
    trial = Pretraining(spec, data, CPU)
    trial.advance()
    return trial.network.eval(), [evaluation._replace(seconds=0) for evaluation in trial.evaluations]


def same_network(left: nn.Module, right: nn.Module) -> bool:
    state = right.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in left.state_dict().items())


@pytest.mark.parametrize("threat", [NONE, L2, LINF, GAUSSIAN], ids=lambda threat: threat.constraint.value)
def test_two_runs_are_equal(threat: ThreatModel, few_digits: Dataset) -> None:
    torch.manual_seed(1)
    first, reports = trained(pretrain_spec(threat), few_digits)
    torch.manual_seed(2)
    second, again = trained(pretrain_spec(threat), few_digits)
    assert again == reports
    assert same_network(first, second)


@pytest.fixture(scope="module")
def unattacked(few_digits: Dataset) -> "Made":
    """Return a function that trains each spec once, without the attacks afterwards, which take most of the time."""

    @cache
    def made(threat: ThreatModel = L2, seed: int = 3) -> tuple[Network, list[PretrainEvaluation]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs.kinds.pretrain.trial, "adversarial_accuracy", lambda *_: 0.0)
            return trained(pretrain_spec(threat, seed=seed), few_digits)

    return made


Made = Callable[..., tuple[Network, list[PretrainEvaluation]]]


def test_threads_outside_do_not_matter(unattacked: Made, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.kinds.pretrain.trial, "adversarial_accuracy", lambda *_: 0.0)
    torch.set_num_threads(2)
    try:
        second, _ = trained(pretrain_spec(), few_digits)
    finally:
        torch.set_num_threads(1)
    assert same_network(unattacked()[0], second)


def test_the_seed_matters(unattacked: Made) -> None:
    assert not same_network(unattacked(seed=3)[0], unattacked(seed=4)[0])


def test_the_threat_model_matters(unattacked: Made) -> None:
    losses = [unattacked(threat)[1][0].train_loss for threat in (NONE, L2, LINF, GAUSSIAN)]
    assert len(set(losses)) == 4


def test_all_threat_models_start_from_one_network() -> None:
    """The arms of a comparison differ only in their training."""
    start = initial_network(pretrain_spec(NONE))
    assert all(same_network(start, initial_network(pretrain_spec(threat, epochs=9))) for threat in (L2, LINF, GAUSSIAN))
    assert not same_network(start, initial_network(pretrain_spec(NONE, seed=4)))


def test_the_network_is_normalised_by_its_dataset() -> None:
    network = initial_network(pretrain_spec())
    assert network.mean.flatten().tolist() == pytest.approx([0.3050] * 3)
    assert network.std.flatten().tolist() == pytest.approx([0.3753] * 3)


def test_training_lowers_the_loss(few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """With A.10's learning rate, 0.1, the outcome on 64 images depends on the last bits of the device."""
    monkeypatch.setattr(jobs.kinds.pretrain.trial, "adversarial_accuracy", lambda *_: 0.0)
    _, reports = trained(pretrain_spec(epochs=9, learning_rate=0.02), few_digits)
    assert [report.epoch for report in reports] == list(range(1, 10))
    assert [report.learning_rate for report in reports] == pytest.approx([0.02] * 3 + [0.002] * 3 + [0.0002] * 3)
    assert reports[-1].train_loss < reports[0].train_loss
    assert reports[-1].train_accuracy > reports[0].train_accuracy


def test_attacks_see_evaluation_mode_and_training_sees_their_images(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The robustness library's order: attack in evaluation mode, then one training step on the result."""
    attacked: list[tuple[bool, Tensor]] = []

    def spy(
        model: nn.Module, images_NCHW: Tensor, labels_N: Tensor, threat: ThreatModel, noise: Tensor | None
    ) -> Tensor:
        moved = perturb(model, images_NCHW, labels_N, threat, noise)
        attacked.append((model.training, moved))
        return moved

    monkeypatch.setattr(jobs.kinds.pretrain.trial, "perturb", spy)
    trained_on: list[Tensor] = []
    forward = Network.forward

    def remember(self: Network, images_NCHW: Tensor) -> Tensor:
        if self.training:
            trained_on.append(images_NCHW.detach().clone())
        return forward(self, images_NCHW)

    monkeypatch.setattr(Network, "forward", remember)
    monkeypatch.setattr(jobs.kinds.pretrain.trial, "adversarial_accuracy", lambda *_: 0.0)
    network, _ = trained(pretrain_spec(L2), few_digits)
    assert [training for training, _ in attacked] == [False] * 4
    assert all(torch.equal(moved, seen) for (_, moved), seen in zip(attacked, trained_on, strict=True))
    assert network.model.bn1.num_batches_tracked == 4, "attacks leave the running statistics alone"


def test_every_batch_of_every_epoch_has_noise_of_its_own(few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def spy(threat: ThreatModel, shape: tuple[int, ...], rng: torch.Generator) -> Tensor | None:
        seeds.append(rng.initial_seed())
        return draw_noise(threat, shape, rng)

    trial = Pretraining(pretrain_spec(GAUSSIAN, epochs=3), few_digits, CPU)
    with monkeypatch.context() as patch:
        patch.setattr(jobs.kinds.pretrain.trial, "draw_noise", spy)
        patch.setattr(jobs.kinds.pretrain.trial, "adversarial_accuracy", lambda *_: 0.0)
        trial.advance()
    assert len(seeds) == len(set(seeds)) == 3 * 4


# --- pauses ---


@pytest.mark.parametrize("threat", [L2, GAUSSIAN], ids=lambda threat: threat.constraint.value)
def test_a_source_stopped_at_any_batch_and_gone_on_with_is_the_same(
    threat: ThreatModel, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.kinds.pretrain.trial, "adversarial_accuracy", lambda *_: 0.0)
    spec = pretrain_spec(threat, epochs=2, transforms="random-resized-crop")
    whole, evaluations = trained(spec, few_digits)
    for stop in range(1, 8):
        before = Pretraining(spec, few_digits, CPU)
        before.advance(counted(stop))
        after = Pretraining(spec, few_digits, CPU)
        after.restore(
            before.tensors(),
            epoch=before.epoch,
            batch=before.batch,
            tally=before.tally,
            evaluations=before.evaluations,
            seconds=before.seconds,
            history=before.history,
        )
        after.advance()
        assert same_network(whole, after.network)
        assert [evaluation._replace(seconds=0) for evaluation in after.evaluations] == evaluations


ADAMW: dict[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "backbone_lr_factor": 0.5,
}


def test_a_source_trained_by_adamw_is_the_same_wherever_it_was_stopped(few_digits: Dataset) -> None:
    """Five batches in each of three epochs, through a new trial after every batch."""
    spec = pretrain_spec(NONE, epochs=3, **ADAMW)
    whole = Pretraining(spec, few_digits, CPU)
    whole.advance()
    trial, stops = Pretraining(spec, few_digits, CPU), 0
    while not trial.done:
        trial.advance(counted(1))
        before, trial = trial, Pretraining(spec, few_digits, CPU)
        trial.restore(
            {name: tensor.clone() for name, tensor in before.tensors().items()},
            epoch=before.epoch,
            batch=before.batch,
            tally=before.tally,
            evaluations=before.evaluations,
            seconds=before.seconds,
            history=before.history,
        )
        stops += 1
    assert stops == 3 * len(whole.batches)
    assert [e._replace(seconds=0) for e in trial.evaluations] == [e._replace(seconds=0) for e in whole.evaluations]
    assert [e.learning_rate for e in whole.evaluations] == pytest.approx([0.00003, 0.003, 0.0015])
    mine, expected = trial.tensors(), whole.tensors()
    assert mine.keys() == expected.keys()
    assert {name.partition("/")[0] for name in mine} == {"parameter", "buffer", "step", "exp_avg", "exp_avg_sq"}
    assert [name for name, tensor in mine.items() if not torch.equal(tensor, expected[name])] == []


def counted(batches: int) -> Callable[[], bool]:
    """Return a pause after this many batches."""
    left = [batches + 1]

    def pause() -> bool:
        left[0] -= 1
        return left[0] == 0

    return pause


def test_adversarial_accuracy_is_measured_after_the_last_epoch(few_digits: Dataset) -> None:
    _, evaluations = trained(pretrain_spec(GAUSSIAN, epochs=2), few_digits)
    assert [evaluation.adversarial_accuracy is None for evaluation in evaluations] == [True, False]
    assert trained(pretrain_spec(NONE), few_digits)[1][0].adversarial_accuracy is None


def test_a_source_is_committed_with_its_weights(few_digits: Dataset, tmp_path: Path) -> None:
    store = open_store(tmp_path / "root")
    trial = Pretraining(pretrain_spec(L2, epochs=2), few_digits, CPU)
    assert attempt_trial(store, trial, Attempt(), RetentionPolicy(1, 3)).status is AttemptStatus.COMMITTED
    table = read_trials(store, "pretrain")
    assert table["epoch"].to_pylist() == [1, 2]
    assert set(table["constraint"].to_pylist()) == {"l2"}
    data = store.read(trained_weights_key(trial.spec.trial_id))
    assert set(table["trained_sha256"].to_pylist()) == {hashlib.sha256(data).hexdigest()}
    assert [f for f in verify(store) if not f.problem.harmless] == []
    again = Pretraining(pretrain_spec(L2, epochs=2), few_digits, CPU)
    attempt_trial(store, again, Attempt(2), RetentionPolicy(1))
    assert list(store.keys("conflicts")) == [], "the same numbers, so no conflict"


@pytest.mark.parametrize("precision", list(FORMATS))
def test_sources_in_16_bits(precision: Precision, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is torch's, on images that PGD(2) moved in 16 bits; stopped after each batch, it is the same source."""
    monkeypatch.setattr(jobs.kinds.pretrain.trial, "adversarial_accuracy", lambda *_: 0.0)
    spec = pretrain_spec(L2, precision=precision, learning_rate=0.01, transforms="none")
    trial, network = Pretraining(spec, few_digits, CPU), initial_network(spec)
    network.precision = precision
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=spec.recipe.momentum, weight_decay=spec.recipe.weight_decay
    )
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "float16")
    while not trial.done:
        indices = trial.batches[trial.batch]
        x_NCHW = to_input(few_digits.train.images_NCHW[indices], CPU, torch.channels_last)
        labels_N = few_digits.train.labels_N[indices]
        with deterministic(spec.recipe):
            moved_NCHW = perturb(network.eval(), x_NCHW, labels_N, L2).contiguous(memory_format=torch.channels_last)
            network.train()
            optimizer.zero_grad()
            with torch.autocast("cpu", FORMATS[precision]):
                logits_NK = network.model((moved_NCHW - network.mean) / network.std)
            loss = nn.functional.cross_entropy(logits_NK.float(), labels_N)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
        trial.advance(counted(1))
        assert same_network(network, trial.network)
        trial = Pretraining(spec, few_digits, CPU).restore(
            trial.tensors(),
            epoch=trial.epoch,
            batch=trial.batch,
            tally=trial.tally,
            evaluations=trial.evaluations,
            seconds=trial.seconds,
            history=History(),
        )
    whole, evaluations = trained(spec, few_digits)
    assert same_network(whole, trial.network)
    assert [e._replace(seconds=0) for e in trial.evaluations] == evaluations


# --- replicas ---


def alter_replicas(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the other replicas of this test's trainings."""
    monkeypatch.setattr("jobs.kinds.pretrain.data_parallel._MODULE", altered_replica.__name__)
    monkeypatch.setenv(altered_replica.CHANGE, change)


def replicated(data: Dataset, recipe: dict[str, Any], stops: Sequence[int] = ()) -> Pretraining:
    """Train a source with two processes, stopped and resumed at the given batches."""
    spec = pretrain_spec(L2, epochs=2, replicas=2, **recipe)
    trial = Pretraining(spec, data, CPU)
    for stop in stops:
        trial.advance(counted(stop))
        new = Pretraining(spec, data, CPU)
        trial = new.restore(
            trial.tensors(),
            epoch=trial.epoch,
            batch=trial.batch,
            tally=trial.tally,
            evaluations=trial.evaluations,
            seconds=trial.seconds,
            history=trial.history,
        )
    trial.advance()
    return trial


@pytest.mark.slow(90)
@pytest.mark.parametrize(
    "optimizer",
    [
        {"learning_rate": 0.01},
        ADAMW,
        {"learning_rate": 0.01, "precision": "bfloat16"},
    ],
    ids=["sgd", "adamw", "bfloat16"],
)
def test_two_replicas_make_one_source_wherever_it_was_stopped(
    optimizer: dict[str, Any], digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 digits in batches of 111: the last batch has one image, which the second replica does not count."""
    monkeypatch.setattr(jobs.kinds.pretrain.trial, "adversarial_accuracy", lambda *_: 0.0)
    recipe: dict[str, Any] = {"batch_size": 111, **optimizer}
    whole = replicated(digits, recipe)
    parts = replicated(digits, recipe, stops=(4,))
    assert same_network(whole.network, parts.network)
    assert [e._replace(seconds=0) for e in whole.evaluations] == [e._replace(seconds=0) for e in parts.evaluations]
    alone, evaluations = trained(pretrain_spec(L2, epochs=2, **recipe), digits)
    assert not same_network(alone, whole.network), "BatchNorm sees half a batch"
    assert whole.evaluations[-1].train_loss == pytest.approx(evaluations[-1].train_loss, rel=0.1)


@pytest.mark.slow(60)
def test_two_replicas_scale_their_loss_alike_in_float16(few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images, because processors without units for float16 emulate it."""
    alter_replicas("few images", monkeypatch)
    monkeypatch.setattr(jobs.kinds.pretrain.trial, "adversarial_accuracy", lambda *_: 0.0)
    recipe: dict[str, Any] = {"batch_size": 21, "learning_rate": 0.01, "precision": "float16"}
    whole = replicated(few_digits, recipe)
    parts = replicated(few_digits, recipe, stops=(3,))
    assert same_network(whole.network, parts.network)
    assert whole.loss_scale.tensors() == parts.loss_scale.tensors()
    _, evaluations = trained(pretrain_spec(L2, epochs=2, **recipe), few_digits)
    assert whole.evaluations[-1].train_loss == pytest.approx(evaluations[-1].train_loss, rel=0.1)


def test_parts_of_a_batch() -> None:
    """Every image once; a replica without images processes the first one and counts nothing."""
    for count, images in ((1, 7), (2, 7), (3, 7), (4, 2)):
        parts = [Replicas(rank, count).part_of(images) for rank in range(count)]
        counted_images = [i for part in parts if part.weight for i in range(images)[part.images]]
        assert counted_images == list(range(images))
        assert sum(part.weight for part in parts) == pytest.approx(1)
        assert all(len(range(images)[part.images]) for part in parts)


@pytest.mark.timeout(120)
def test_a_replica_that_cannot_begin_is_named_with_what_it_said(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.kinds.pretrain.data_parallel._MODULE", "jobs.no_such_module")
    with pytest.raises(ReplicaFailure, match="no_such_module"):
        Pretraining(pretrain_spec(replicas=2), few_digits, CPU).advance()


@pytest.mark.timeout(120)
def test_a_replica_that_is_killed_is_the_machine_s_fault(
    few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is an OSError, which a launch retries without charging the trial; the trial resumes where it was."""
    others: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def started(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        others.append(start(*arguments, **options))
        return others[-1]

    monkeypatch.setattr("jobs.kinds.pretrain.data_parallel.subprocess.Popen", started)
    trial = Pretraining(pretrain_spec(replicas=2), few_digits, CPU)

    def kill() -> bool:
        assert os.getpgid(others[0].pid) != os.getpgid(0), "Ctrl-C at a terminal is for the first one alone"
        others[0].kill()
        return False

    with pytest.raises(ReplicaLost, match="killed by signal 9"):
        trial.advance(kill)
    assert not trial.done


@pytest.mark.timeout(120)
def test_a_batch_for_which_the_gpu_of_a_replica_refused_memory_is_not_counted(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter_replicas("refuse", monkeypatch)
    trial = Pretraining(pretrain_spec(NONE, replicas=2), few_digits, CPU)
    with pytest.raises(WorkspaceRefused):
        trial.advance()
    assert trial.position == (1, 0)
    assert trial.tally.sums.images == 0


@pytest.mark.timeout(120)
def test_a_replica_that_fails_when_the_first_has_ended_fails_the_trial(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter_replicas("few images", monkeypatch)
    Pretraining(pretrain_spec(NONE, replicas=2), few_digits, CPU).advance()
    alter_replicas("few images, fail at the end", monkeypatch)
    with pytest.raises(ReplicaFailure, match=altered_replica.AT_THE_END):
        Pretraining(pretrain_spec(NONE, replicas=2), few_digits, CPU).advance()


@pytest.mark.timeout(120)
def test_a_replica_that_goes_on_when_the_first_has_ended_fails_the_trial(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads all digits, so that its epoch has more batches."""
    monkeypatch.setattr("jobs.kinds.pretrain.data_parallel._END_SECONDS", 0.5)
    with pytest.raises(ReplicaFailure, match="expected another replica to end with the first"):
        Pretraining(pretrain_spec(NONE, replicas=2), few_digits, CPU).advance()


@pytest.mark.timeout(120)
def test_replicas_that_have_other_images_do_not_begin(few_digits: Dataset) -> None:
    trial = Pretraining(pretrain_spec(replicas=2), few_digits._replace(sha256="another digest"), CPU)
    with pytest.raises(ReplicaFailure, match=f"another digest; this one reads others, {few_digits.sha256}"):
        trial.advance()
    assert trial.position == (1, 0)


@pytest.mark.timeout(120)
def test_replicas_read_the_folder_that_the_user_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`models train --data DIR`: the images are there, and not where the card says.

    Nor do replicas import anything from the folder in which they are started.
    """
    (tmp_path / "jobs.py").write_text("raise RuntimeError('a stranger')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    folder = made.write(tmp_path / "moved", made.folder_files())
    insects = describe(folder, "insects").card.model_dump(mode="json") | {"folder": str(tmp_path / "nowhere")}
    source = {
        "architecture": "resnet35-w8",
        "trained_on": "insects",
        "constraint": "none",
        "epsilon": 0,
        "mean": insects["mean"],
        "std": insects["std"],
        "pretrain": {"seed": 5, "epochs": 1, "steps": 0, "recipe": {"replicas": 2}},
    }
    own = Cards.model_validate({"sources": {"tiny": source}, "datasets": {"insects": insects}})
    assert train_source.train_source("tiny", tmp_path / "weights", Catalog(own), data_directory=folder)


@pytest.mark.parametrize(
    ("constraint", "pretrain", "values"),
    [
        ("none", {"steps": 0, "step_scale": 3.0}, ("step_scale 3.0", "constraint none", "Fix: leave out step_scale")),
        ("l2", {"steps": 1, "step_scale": 9.0}, ("tiny: step_scale", "less than 4")),
        ("l2", {"steps": 0}, ("tiny", "steps")),
    ],
    ids=["without effect", "impossible", "no steps"],
)
def test_choices_of_a_card_are_checked_before_its_source_is_trained(
    constraint: str, pretrain: dict[str, Any], values: tuple[str, ...], tmp_path: Path
) -> None:
    """A study with a `pretrain` section is refused for them, too."""
    digits = PACKAGED.dataset("digits")
    source = {
        "architecture": "resnet35-w8",
        "trained_on": "digits",
        "constraint": constraint,
        "epsilon": 0 if constraint == "none" else 0.5,
        "mean": digits.channel_statistics()[0],
        "std": digits.channel_statistics()[1],
        "pretrain": {"seed": 5, "epochs": 1, **pretrain},
    }
    own = Cards.model_validate({"sources": {"tiny": source}})
    with refused(Code.WRONG_VALUE, *values, kind=InvalidRequest, key="source"):
        train_source.train_source("tiny", tmp_path / "weights", Catalog(own))
    assert not (tmp_path / "weights").exists()


# --- crops ---


def test_crops_are_of_the_images_and_drawn_from_the_generator(digits: Dataset) -> None:
    images = digits.train.images_NCHW[:8]
    first, again, other = (random_resized_crops(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_windows_have_the_areas_and_ratios_of_torchvision() -> None:
    """Compared with torchvision's own draws: the same ranges, and nearly the same means."""
    rng = torch.Generator().manual_seed(0)
    ours = torch.tensor([_window(224, 224, rng) for _ in range(4000)], dtype=torch.float64)
    torch.manual_seed(0)
    image = torch.zeros(3, 224, 224)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)], dtype=torch.float64
    )
    for windows in (ours, theirs):
        assert (windows[:, 0] + windows[:, 2]).max() <= 224
        assert (windows[:, 1] + windows[:, 3]).max() <= 224
    for column in range(4):
        error = theirs[:, column].std() / 4000**0.5
        assert abs(ours[:, column].mean() - theirs[:, column].mean()) < 5 * error


# --- adversarial accuracy ---


@pytest.fixture(scope="module")
def network(few_digits: Dataset) -> Network:
    return trained(pretrain_spec(NONE, epochs=12, learning_rate=0.02), few_digits)[0]


def test_adversarial_accuracy_is_not_above_the_clean_one(network: Network, few_digits: Dataset) -> None:
    recipe = TrainingRecipe()
    clean = adversarial_accuracy(network, few_digits.train, NONE, recipe, CPU)
    attacked = [
        adversarial_accuracy(network, few_digits.train, ThreatModel(constraint=c, epsilon=e, steps=5), recipe, CPU)
        for c, e in ((Constraint.L2, 0.1), (Constraint.L2, 3.0), (Constraint.LINF, 0.2))
    ]
    assert clean > 90, "the network has learned its 64 images"
    assert attacked[0] <= clean
    assert attacked[1] < 20
    assert attacked[2] < 20


def test_adversarial_accuracy_is_that_of_the_attacked_images(network: Network, few_digits: Dataset) -> None:
    threat = ThreatModel(constraint=Constraint.L2, epsilon=0.6, steps=3)
    x_NCHW = few_digits.train.images_NCHW[:].float().div(255).expand(-1, 3, -1, -1)
    moved = perturb(network, x_NCHW, few_digits.train.labels_N, threat)
    with torch.no_grad():
        right = (network(moved).argmax(1) == few_digits.train.labels_N).float().mean()
    found = adversarial_accuracy(network, few_digits.train, threat, TrainingRecipe(), CPU)
    assert 0 < found < 100
    assert found == pytest.approx(100 * float(right), abs=100 / 64)


def test_adversarial_accuracy_is_refused_if_a_gpu_refused_memory(
    network: Network, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also outside of trials: `models train` writes it into the card, and `models check` prints it."""
    monkeypatch.setattr(refusals, "_count", lambda device: 1)
    with pytest.raises(WorkspaceRefused):
        adversarial_accuracy(network, few_digits.test, L2, TrainingRecipe(), CPU)


def test_adversarial_accuracy_does_not_change_the_network(network: Network, few_digits: Dataset) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    adversarial_accuracy(network, few_digits.test, L2, TrainingRecipe(), CPU)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert all(p.grad is None or not p.grad.any() for p in network.parameters() if not p.requires_grad)


def test_adversarial_accuracy_computes_gradients_for_the_attack_alone(
    network: Network, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluating attacked images needs no gradients; keeping them would double time and memory."""
    modes: list[bool] = []
    forward = Network.forward

    def remember(self: Network, images_NCHW: Tensor) -> Tensor:
        modes.append(torch.is_grad_enabled())
        return forward(self, images_NCHW)

    monkeypatch.setattr(Network, "forward", remember)
    adversarial_accuracy(network, few_digits.test, L2, TrainingRecipe(evaluation_batch_size=32), CPU)
    assert modes == [True, True, False] * 2


def test_adversarial_accuracy_that_fails_leaves_gradients_on(
    network: Network, few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("jobs.execution.metrics.RunningMetrics.add", fail)
    with pytest.raises(MemoryError):
        adversarial_accuracy(network, few_digits.test, L2, TrainingRecipe(), CPU)
    assert torch.is_grad_enabled()


# --- from a name to weights and card ---


@pytest.fixture
def tiny_source(few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> SourceCard:
    """A registered source that takes a second to train."""
    card = SourceCard.model_validate(
        {
            "name": "tiny",
            "architecture": "resnet35-w8",
            "trained_on": "digits",
            "constraint": "linf",
            "epsilon": "4/255",
            "mean": [0.3050] * 3,
            "std": [0.3753] * 3,
            "pretrain": {"seed": 5, "epochs": 1, "steps": 1},
        }
    )
    monkeypatch.setitem(packaged_sources(), "tiny", card)
    monkeypatch.setattr(train_source, "load_dataset", lambda *_: few_digits)
    return card


def test_training_a_source_writes_weights_and_card(
    tiny_source: SourceCard, few_digits: Dataset, tmp_path: Path
) -> None:
    reports: list[Evaluated] = []
    out = tmp_path / "home" / "weights"
    path = train_source.train_source("tiny", out, PACKAGED, on_evaluation=reports.append)
    card = json.loads((out / "tiny.json").read_text(encoding="utf-8"))
    assert path == out / "tiny.safetensors"
    assert sorted(file.name for file in out.iterdir()) == ["tiny.json", "tiny.safetensors", "training"]
    assert card["name"] == "tiny"
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert PretrainSpec.model_validate(card["spec"]) == spec_of_source(tiny_source, PACKAGED)
    assert card["trial_id"] == spec_of_source(tiny_source, PACKAGED).trial_id
    assert card["dataset_sha256"] == few_digits.sha256
    assert card["training"] == [evaluation._asdict() for evaluation in reports]
    assert [(attack["constraint"], attack["epsilon"], attack["steps"]) for attack in card["adversarial_accuracy"]] == [
        ("linf", 4 / 255, 20)
    ]
    assert 0 <= card["adversarial_accuracy"][0]["accuracy"] <= card["clean_accuracy"] <= 100


def test_the_root_of_a_training_says_who_wrote_it_and_one_of_a_newer_layout_is_refused(
    tiny_source: SourceCard, tmp_path: Path
) -> None:
    record = tmp_path / "out" / "training" / "root.json"
    train_source.train_source("tiny", tmp_path / "out", PACKAGED)
    written = json.loads(record.read_text(encoding="utf-8"))
    assert written["layout"] == LAYOUT
    record.write_text(json.dumps(written | {"layout": LAYOUT + 1}), encoding="utf-8")
    with refused(Code.NEWER_VERSION, kind=InvalidRequest):
        train_source.train_source("tiny", tmp_path / "out", PACKAGED)


def test_a_trained_source_loads_as_the_network_that_was_trained(
    tiny_source: SourceCard, few_digits: Dataset, tmp_path: Path
) -> None:
    load_source.cache_clear()
    train_source.train_source("tiny", tmp_path / "home" / "weights", PACKAGED)
    loaded = packaged_weights("tiny")
    load_source.cache_clear()
    network, _ = trained_from_card(tiny_source, few_digits)
    assert set(loaded.tensors) == set(network.model.state_dict())
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in network.model.state_dict().items())


def trained_from_card(card: SourceCard, data: Dataset) -> tuple[Network, list[PretrainEvaluation]]:
    return trained(spec_of_source(card, PACKAGED), data)


def test_training_a_source_again_gives_the_same_file(tiny_source: SourceCard, tmp_path: Path) -> None:
    first = present(train_source.train_source("tiny", tmp_path / "a", PACKAGED)).read_bytes()
    assert present(train_source.train_source("tiny", tmp_path / "b", PACKAGED)).read_bytes() == first
