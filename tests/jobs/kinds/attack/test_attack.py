"""Adversarial evaluation: known closed-form worst cases, attacks of other libraries, and pauses."""

from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from jobs.catalog.catalog import PACKAGED, Cards, Catalog, packaged_datasets
from jobs.data.datasets import Dataset, ImageSet
from jobs.errors import Code, InvalidRequest, MissingData
from jobs.execution.attempt import AttemptStatus, attempt_trial, open_trial
from jobs.execution.checkpoints import restore_checkpoint, save_checkpoint
from jobs.execution.commit import Attempt, rows
from jobs.execution.device_kind import device_kind
from jobs.execution.metrics import evaluate
from jobs.execution.retention import RetentionPolicy
from jobs.execution.seeding import Purpose, generator
from jobs.kinds.attack.spec import AttackSpec
from jobs.kinds.attack.trial import AdversarialEvaluation, UnderAttack
from jobs.kinds.diagnostic.trial import ExaminedNetwork
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Finetuning
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from jobs.perturbations.pgd import draw_noise, perturb
from jobs.provenance import History
from jobs.results import Committed, Store, commit, comparable_columns, mixed_trials, pinned, read_trials
from jobs.results.layout import trained_weights_key
from jobs.specs.canonical import digest
from jobs.specs.optimizers import Execution
from jobs.specs.threat_model import Constraint, ThreatModel
from tests.jobs.data import made
from tests.jobs.support import CPU, finetune_spec, moved_by_robustness
from tests.packaged import packaged_weights
from tests.support import refused

NEVER = RetentionPolicy(checkpoint_every=10**9)
CLEAN = ThreatModel(constraint=Constraint.NONE, epsilon=0.0)
L2 = ThreatModel(constraint=Constraint.L2, epsilon=0.25, steps=5)
LINF = ThreatModel(constraint=Constraint.LINF, epsilon=2 / 255, steps=5)
RANDOM = ThreatModel(constraint=Constraint.LINF, epsilon=2 / 255, steps=2, start="random")


@pytest.fixture(autouse=True)
def _same_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let digits act as other images of Fashion-MNIST's labels."""
    for name in ("fmnist", "digits"):
        card = PACKAGED.dataset(name).model_copy(update={"label_names": "1" * 64})
        monkeypatch.setitem(packaged_datasets(), name, card)


def attack(threat: ThreatModel = L2, **changes: Any) -> AttackSpec:
    """A small evaluation: the bundled natural source on digits."""
    values = {
        "network": "fmnist_natural",
        "dataset": "digits",
        "seed": 7,
        "recipe": Execution(evaluation_batch_size=24),
    }
    return AttackSpec(threat=threat, **{**values, **changes})


@pytest.fixture
def network() -> Network:
    """The bundled natural source, for gradients of a trained network instead of noise."""
    card, resnet = PACKAGED.source("fmnist_natural"), resnet35_w8(10)
    resnet.load_state_dict(packaged_weights("fmnist_natural").tensors)
    return Network(resnet, card.mean, card.std).eval()


@pytest.fixture(scope="session")
def guessed(digits: Dataset) -> Dataset:
    """64 digits with the labels that the natural source of Fashion-MNIST predicts, every fourth one wrong.

    The accuracy under attack is then neither unchanged nor zero.
    """
    card, resnet = PACKAGED.source("fmnist_natural"), resnet35_w8(10)
    resnet.load_state_dict(packaged_weights("fmnist_natural").tensors)
    images_NCHW = digits.test.images_NCHW[:64]
    with torch.no_grad():
        x_NCHW = images_NCHW[:].float().div(255).expand(-1, 3, -1, -1)
        labels_N = Network(resnet, card.mean, card.std).eval()(x_NCHW).argmax(1)
    labels_N[::4] = (labels_N[::4] + 1) % 10
    return digits._replace(test=ImageSet(images_NCHW, labels_N))


def evaluated(spec: AttackSpec, network: nn.Module, data: Dataset) -> UnderAttack:
    trial = AdversarialEvaluation(spec, ExaminedNetwork(cast(Network, network), "0" * 64), data, CPU)
    trial.advance()
    (row,) = trial.evaluations
    return row


# --- hand-computed: a linear model ---


class Linear(nn.Module):
    """A network with two labels and logits (0, w x + b), whose distance to the decision boundary is known."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(pixels, 2)
        rng = torch.Generator().manual_seed(3)
        with torch.no_grad():
            self.fc.weight.copy_(torch.stack([torch.zeros(pixels), torch.randn(pixels, generator=rng)]))
            self.fc.bias.copy_(torch.tensor([0.0, -0.5 * float(self.fc.weight[1].sum())]))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.fc(images_NCHW.flatten(1))
        return logits_NK


@pytest.mark.parametrize("constraint", [Constraint.L2, Constraint.LINF])
@pytest.mark.parametrize("epsilon", [0.01, 0.03, 0.1])
def test_the_worst_case_of_a_linear_model(constraint: Constraint, epsilon: float, digits: Dataset) -> None:
    """The margin falls by exactly epsilon times the dual norm of the weights, however the ball is searched.

    Pixels are far enough from 0 and 1 that the ball is not clipped.
    """
    rng = torch.Generator().manual_seed(0)
    images_NCHW = torch.randint(90, 166, (50, 3, 4, 4), generator=rng, dtype=torch.uint8)
    labels_N = torch.arange(50) % 2
    model = Linear(48)
    with torch.no_grad():
        score_N = model(images_NCHW[:].float().div(255))[:, 1].double()
        dual = model.fc.weight[1].double().norm(p=2 if constraint is Constraint.L2 else 1)
    margin_N = torch.where(labels_N == 1, score_N, -score_N)
    worst_N = margin_N - epsilon * dual
    assert worst_N.abs().min() > 1e-4, "no image is on the border"
    data = digits._replace(test=ImageSet(images_NCHW, labels_N))
    worst_loss = float(nn.functional.softplus(-worst_N).mean())
    for steps in (1, 7):
        found = evaluated(attack(ThreatModel(constraint=constraint, epsilon=epsilon, steps=steps)), model, data)
        assert found.accuracy == found.robust_accuracy == 100 * float((worst_N > 0).double().mean())
        assert found.loss == pytest.approx(worst_loss, rel=1e-4)
    random = ThreatModel(constraint=constraint, epsilon=epsilon, steps=20, start="random")
    assert 0.99 * worst_loss < evaluated(attack(random), model, data).loss < (1 + 1e-4) * worst_loss
    clean = evaluated(attack(CLEAN), model, data)
    assert clean.accuracy == 100 * float((margin_N > 0).double().mean())
    assert clean.accuracy > found.accuracy


# --- other libraries ---


@pytest.mark.parametrize("threat", [L2, LINF], ids=["l2", "linf"])
def test_as_the_robustness_library(
    threat: ThreatModel, network: Network, guessed: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same algorithm, from zero, last iterate, in the same batch: equal accuracies and losses."""
    monkeypatch.setattr(Tensor, "cuda", lambda self, *args, **kwargs: self)  # the reference's loop requires it
    x_NCHW = guessed.test.images_NCHW[:].float().div(255).expand(-1, 3, -1, -1).contiguous()
    moved = moved_by_robustness(network, x_NCHW, guessed.test.labels_N, threat)
    expected = evaluate(network, iter([(moved, guessed.test.labels_N)]))
    whole = Execution(evaluation_batch_size=64, memory_format="contiguous")
    found = evaluated(attack(threat, recipe=whole), network, guessed)
    assert 0 < found.accuracy < 75
    assert found.accuracy == found.robust_accuracy == expected.accuracy_percent
    assert found.loss == pytest.approx(expected.mean_loss, rel=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # foolbox imports scipy.ndimage.filters
@pytest.mark.parametrize("threat", [L2, LINF], ids=["l2", "linf"])
def test_as_foolbox(threat: ThreatModel, network: Network, guessed: Dataset) -> None:
    """Its PGD has the same steps and projections, with other floating-point operations."""
    import foolbox

    kind = {Constraint.L2: foolbox.attacks.L2PGD, Constraint.LINF: foolbox.attacks.LinfPGD}[threat.constraint]
    oracle = kind(abs_stepsize=threat.step_size, steps=threat.steps, random_start=False)
    x_NCHW = guessed.test.images_NCHW[:].float().div(255).expand(-1, 3, -1, -1).contiguous()
    model = foolbox.models.pytorch.PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, _, fooled_N = oracle(model, x_NCHW, guessed.test.labels_N, epsilons=threat.epsilon)
    found = evaluated(attack(threat), network, guessed)
    assert 0 < found.accuracy < 75
    assert found.accuracy == 100 * float((~fooled_N).double().mean())


# --- restarts, subsets, pauses ---


def test_of_all_restarts_the_worst_counts(network: Network, guessed: Dataset) -> None:
    """Compared by hand: each restart's images, from the generator of its pass and batch."""
    found = evaluated(attack(RANDOM, restarts=3), network, guessed)
    right = []
    for restart in (1, 2, 3):
        parts = []
        for batch, part in enumerate(torch.split(torch.arange(64), 24)):
            x_NCHW = guessed.test.images_NCHW[part].float().div(255).expand(-1, 3, -1, -1)
            noise = draw_noise(RANDOM, tuple(x_NCHW.shape), generator(7, Purpose.PERTURBATION, restart, batch))
            labels_N = guessed.test.labels_N[part]
            with torch.no_grad():
                parts.append(network(perturb_with(network, x_NCHW, labels_N, noise)).argmax(1) == labels_N)
        right.append(torch.cat(parts))
    right_RN = torch.stack(right)
    assert found.accuracy == pytest.approx(100 * float(right_RN.double().mean()))
    assert found.robust_accuracy == pytest.approx(100 * float(right_RN.all(0).double().mean()))
    assert found.robust_accuracy <= found.accuracy


def perturb_with(network: Network, x_NCHW: Tensor, labels_N: Tensor, noise: Tensor | None) -> Tensor:
    with torch.enable_grad():
        return perturb(network, x_NCHW, labels_N, RANDOM, noise)


def test_clean_images_are_those_of_every_evaluation(network: Network, guessed: Dataset) -> None:
    found = evaluated(attack(CLEAN), network, guessed)
    assert found.accuracy == found.robust_accuracy == 75


def test_the_same_random_part_for_every_ball(network: Network, digits: Dataset) -> None:
    def chosen(spec: AttackSpec) -> Tensor:
        return AdversarialEvaluation(spec, ExaminedNetwork(network, "0" * 64), digits, CPU).chosen

    some = chosen(attack(L2, test_images=20))
    assert len(some.unique()) == 20  # type: ignore[no-untyped-call]  # untyped in torch
    assert torch.equal(some, chosen(attack(RANDOM, test_images=20, restarts=2)))
    assert not torch.equal(some, chosen(attack(L2, test_images=20, seed=8)))
    assert torch.equal(chosen(attack(L2)), torch.arange(len(digits.test.labels_N)))


def test_pauses_change_nothing(store: Store) -> None:
    """Stopped between any two batches of any restart, and resumed from a checkpoint by another attempt."""
    spec = attack(RANDOM, restarts=2, test_images=60)
    whole = open_trial(store, spec, PACKAGED, CPU)
    whole.advance()
    for number in range(1, 6):
        asked = iter([False, True])
        ended = attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(number), NEVER, asked.__next__)
        assert ended.status is AttemptStatus.STOPPED
    assert (
        attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(6), NEVER).status
        is AttemptStatus.COMMITTED
    )
    (row,) = read_trials(store, "attack").to_pylist()
    (expected,) = whole.evaluations
    assert (row["accuracy"], row["robust_accuracy"], row["loss"]) == expected[:3]
    assert row["attempt"] == 6
    assert list(store.keys("checkpoints")) == []


def test_a_checkpoint_of_another_network_is_passed_over(network: Network, digits: Dataset, store: Store) -> None:
    """The weights of a fine-tuned trial may have been regenerated on another device kind."""
    spec = attack(RANDOM, restarts=2, test_images=60)
    first, other = (AdversarialEvaluation(spec, ExaminedNetwork(network, letter * 64), digits, CPU) for letter in "ab")
    asked = iter([False, True])
    first.advance(lambda: next(asked))
    save_checkpoint(store, first)
    (note,) = restore_checkpoint(store, other)
    assert "a" * 64 in note
    assert other.position == (1, 0)


# --- examined networks ---


def test_a_fine_tuned_trial_is_attacked_by_its_kept_weights(store: Store) -> None:
    """Clean accuracy is that of the trial's last epoch; only the trial's weights file is read."""
    tuned = finetune_spec({"normalization": "target"}, images=60, epochs=2)
    spec = attack(CLEAN, network=tuned)
    file = f"{store.uri}/{trained_weights_key(tuned.trial_id)}"
    with refused(Code.MISSING_WEIGHTS, tuned.trial_id, store.uri, kind=MissingData, file=file):
        AdversarialEvaluation.open(store, spec, PACKAGED, CPU)
    attempt_trial(
        store, open_trial(store, tuned, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=10, weights=True)
    )
    attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), NEVER)
    (row,) = read_trials(store, "attack").to_pylist()
    last = read_trials(store, "finetune").to_pylist()[-1]
    assert row["accuracy"] == last["test_accuracy"]
    assert row["loss"] == pytest.approx(last["test_loss"], rel=1e-5)
    assert row["test_images_used"] == last["test_images"]
    assert (row["source"], row["source_constraint"], row["source_epsilon"]) == ("fmnist_l2_eps1", "l2", 1.0)
    assert (row["finetuned"], row["blocks"], row["images"], row["finetuned_seed"]) == (tuned.trial_id, 3, 60, 7)
    assert row["network_sha256"] != last["weights_sha256"]


ELSEWHERE = History(("another processor (probe 1: 0123456789ab)",), ('{"torch": "2.14.1", "torchvision": "0.29.1"}',))


def test_what_trained_the_network_is_part_of_the_history(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack still resumes from its own checkpoint, even with the option to stay on one device kind."""
    tuned = finetune_spec(source="fmnist_natural", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(Finetuning, "history", ELSEWHERE)
        attempt_trial(store, open_trial(store, tuned, PACKAGED, CPU), Attempt(), NEVER._replace(weights=True))
    retention = RetentionPolicy(checkpoint_every=1, checkpoint_batches=1, on_other_device="restart")
    spec, asked = attack(CLEAN, network=tuned, dataset="digits"), count()
    stopped = attempt_trial(
        store, open_trial(store, spec, PACKAGED, CPU), Attempt(), retention, lambda: next(asked) == 3
    )
    assert stopped.status is AttemptStatus.STOPPED
    assert attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), retention).notes == []
    here = device_kind(CPU, spec.recipe)
    (kinds,) = read_trials(store, "attack", ["device_kind"])["device_kind"].to_pylist()
    assert kinds == f"{ELSEWHERE.device_kinds[0]} -> {here}"
    assert mixed_trials(store) == {spec.trial_id}


def test_of_a_network_that_was_trained_again_other_numbers_are_no_conflict(store: Store) -> None:
    tuned = finetune_spec(source="fmnist_natural", epochs=1)
    attempt_trial(store, open_trial(store, tuned, PACKAGED, CPU), Attempt(), NEVER._replace(weights=True))
    trial = open_trial(store, attack(CLEAN, network=tuned), PACKAGED, CPU)
    trial.advance()
    (row,) = rows(trial, Attempt())
    assert commit(store, "attack", [row]) is Committed.NEW
    others = {**row, "accuracy": 1.0, "robust_accuracy": 1.0}
    assert commit(store, "attack", [{**others, "network_sha256": "1" * 64}]) is Committed.ALREADY_THERE
    assert commit(store, "attack", [others]) is Committed.CONFLICT


def test_a_source_is_pinned_and_its_row_says_so(store: Store) -> None:
    attempt_trial(store, open_trial(store, attack(L2, test_images=30), PACKAGED, CPU), Attempt(), NEVER)
    (row,) = read_trials(store, "attack").to_pylist()
    assert (
        row["network_sha256"] == packaged_weights("fmnist_natural").sha256 == pinned(store, "sources", "fmnist_natural")
    )
    assert (row["finetuned"], row["blocks"], row["constraint"], row["epsilon"]) == (None, None, "l2", 0.25)
    assert {"trial_id", "epsilon", "robust_accuracy"} <= set(comparable_columns("attack"))


def test_a_source_has_an_accuracy_on_other_images_of_its_labels(
    tmp_path: Path, network: Network, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder, as Stylized-ImageNet is for ImageNet's sources: labels are compared by name, not only by number."""
    labels = [f"garment {number}" for number in range(10)]
    pixels_NHW = made.random_images(20, 32, 32, seed=1)
    for number, pixels_HW in enumerate(pixels_NHW):
        for part in ("train", "val"):
            path = tmp_path / "styled" / part / labels[number // 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels_HW).save(path)
    fmnist = PACKAGED.dataset("fmnist").model_copy(update={"label_names": digest(labels)})
    monkeypatch.setitem(packaged_datasets(), "fmnist", fmnist)
    fields = {"train": 20, "test": 20, "labels": 10, "colour": False, "mean": [0.5], "std": [0.25]}
    card = {**fields, "folder": str(tmp_path / "styled"), "label_names": digest(labels)}
    known = Catalog(Cards.model_validate({"datasets": {"styled": card}}))
    attempt_trial(store, open_trial(store, attack(CLEAN, dataset="styled"), known, CPU), Attempt(), NEVER)
    (row,) = read_trials(store, "attack").to_pylist()
    x_NCHW = torch.from_numpy(pixels_NHW).float().div(255)[:, None].expand(-1, 3, -1, -1)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(network(x_NCHW), torch.arange(20) // 2)
    assert row["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert (row["dataset"], row["finetuned"], row["test_images_used"]) == ("styled", None, 20)
    others = {"datasets": {"styled": {**card, "label_names": digest(labels[::-1])}}}
    with refused(Code.IMPOSSIBLE_TRIAL, "fmnist", "styled", "`label_names`", kind=InvalidRequest, key="dataset"):
        open_trial(store, attack(CLEAN, dataset="styled"), Catalog(Cards.model_validate(others)), CPU)


def test_the_id_follows_from_what_is_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = finetune_spec()
    specs = [
        attack(),
        attack(network="fmnist_l2_eps1"),
        attack(network=tuned),
        attack(network=finetune_spec(seed=8)),
        attack(network=finetune_spec({"learning_rate": 0.2})),
        attack(LINF),
        attack(test_images=20),
    ]
    assert len({spec.trial_id for spec in specs}) == len(specs)
    assert attack().trial_id.startswith("attack-digits-fmnist_natural-l2-0.25-")
    assert attack(network=tuned).trial_id.startswith("attack-digits-fmnist_l2_eps1-k3-n20-s7-l2-0.25-")
    before = attack(network=tuned).trial_id
    monkeypatch.setattr(FinetuneSpec, "numerics_version", 99)
    assert attack(network=tuned).trial_id != before, "other numbers of the fine-tuning are another network"
    assert attack().trial_id == specs[0].trial_id


@pytest.mark.parametrize(
    ("changes", "code", "key", "values"),
    [
        (
            {"network": "random_init_resnet35-w8"},
            Code.IMPOSSIBLE_TRIAL,
            "network",
            ("network: random_init_resnet35-w8",),
        ),
        ({"network": "nothing"}, Code.UNKNOWN_NAME, "source", ("'nothing'", "deltasweep models list")),
        ({"dataset": "cifar100"}, Code.IMPOSSIBLE_TRIAL, "dataset", ("10 of fmnist", "cifar100 has 100")),
        ({"dataset": "kmnist"}, Code.IMPOSSIBLE_TRIAL, "dataset", ("10 of fmnist", "kmnist", "`label_names`")),
        (
            {"network": finetune_spec(dataset="cifar100", images=100)},
            Code.IMPOSSIBLE_TRIAL,
            "dataset",
            ("100 of cifar100", "digits has 10"),
        ),
        ({"network": finetune_spec(images=3)}, Code.IMPOSSIBLE_TRIAL, "images", ("digits", 10, 1000, 3)),
        ({"test_images": 10**6}, Code.IMPOSSIBLE_TRIAL, "test_images", ("digits", 10**6)),
    ],
)
def test_what_cannot_be_examined(
    changes: dict[str, Any], code: Code, key: str, values: tuple[object, ...], store: Store
) -> None:
    spec = attack(**changes)
    with refused(code, spec.trial_id, *values, kind=InvalidRequest, key=key):
        open_trial(store, spec, PACKAGED, CPU)


def test_restarts_that_draw_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"with random draws \(start random, or gaussian\); got 2"):
        attack(L2, restarts=2)
    assert attack(ThreatModel(constraint=Constraint.GAUSSIAN, epsilon=0.5), restarts=2).restarts == 2
