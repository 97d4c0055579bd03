"""Trials of the kind ``shape_bias``: hand-computed decisions, another implementation, pauses, and refused requests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import analysis
from jobs.catalog.catalog import PACKAGED, Cards, Catalog
from jobs.catalog.categories import categories
from jobs.data.datasets import Cues, Dataset, ImageSet
from jobs.errors import Code, InvalidRequest
from jobs.execution.attempt import AttemptStatus, attempt_trial, open_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.diagnostic.trial import ExaminedNetwork
from jobs.kinds.shape_bias.spec import ShapeBiasSpec
from jobs.kinds.shape_bias.trial import Decision, ShapeBiasTrial, decide
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from jobs.possible import problems
from jobs.results import Store, open_store, read_trials
from jobs.specs.canonical import digest
from jobs.specs.optimizers import Execution
from jobs.verification.verify import verify
from tests.jobs.data import made
from tests.jobs.support import CPU, finetune_spec, make_weights
from tests.packaged import packaged_dataset, packaged_weights
from tests.support import refused

NEVER = RetentionPolicy(checkpoint_every=10**9)
NAMES = list(categories())


def spec(**changes: Any) -> ShapeBiasSpec:
    """Return a spec for a network fine-tuned on digits."""
    values = {"network": finetune_spec(), "dataset": "digits_conflict", "seed": 7, "recipe": Execution()}
    return ShapeBiasSpec(**{**values, **changes})


@pytest.fixture(scope="module")
def network() -> Network:
    """A bundled source in place of a fine-tuned network, because any network will do."""
    card, resnet = PACKAGED.source("fmnist_l2_eps1"), resnet35_w8(10)
    resnet.load_state_dict(packaged_weights("fmnist_l2_eps1").tensors)
    return Network(resnet, card.mean, card.std).eval()


@pytest.fixture(scope="module")
def few() -> Dataset:
    """The first 60 digits in conflict."""
    data = packaged_dataset("digits_conflict", 32)
    assert data.cues is not None
    test = ImageSet(data.test.images_NCHW[:60], data.test.labels_N[:60])
    return data._replace(test=test, cues=data.cues._replace(textures_N=data.cues.textures_N[:60]))


def decided(spec: ShapeBiasSpec, network: Network, data: Dataset) -> list[Decision]:
    trial = ShapeBiasTrial(spec, ExaminedNetwork(network, "0" * 64), data, CPU)
    trial.advance()
    assert trial.done
    return trial.evaluations


def logits_of(probabilities: dict[int, float]) -> Tensor:
    """Return logits of 1,000 labels, 1 x 1000, with these probabilities; the rest is spread over the other labels."""
    rest = (1 - sum(probabilities.values())) / (1000 - len(probabilities))
    found = torch.full((1, 1000), rest, dtype=torch.float64)
    for label, probability in probabilities.items():
        found[0, label] = probability
    return found.log().float()


# --- decisions by hand ---


def test_the_mean_over_a_category_decides_not_the_sum() -> None:
    """Dogs have 109 labels: 0.6 in total is 0.0055 each, less than 0.02 for the knife and 0.015 for two elephants."""
    dogs = dict.fromkeys(categories()["dog"], 0.6 / 109)
    assert NAMES[int(decide(logits_of({**dogs, 499: 0.02}), NAMES))] == "knife"
    assert NAMES[int(decide(logits_of({**dogs, 385: 0.02, 386: 0.01}), NAMES))] == "elephant"
    assert NAMES[int(decide(logits_of({**dogs, 385: 0.01, 386: 0.0005}), NAMES))] == "dog"


def test_labels_of_no_category_count_for_nothing() -> None:
    """The most probable label is the tench (0), which is in no category."""
    assert NAMES[int(decide(logits_of({0: 0.9, 766: 0.01}), NAMES))] == "oven"


def test_of_equals_the_first() -> None:
    assert int(decide(torch.zeros(1, 1000), NAMES)) == 0
    assert int(decide(torch.tensor([[1.0, 3.0, 3.0]]), "abc")) == 1


def test_a_network_of_the_labels_themselves_decides_by_its_largest_logit() -> None:
    logits = torch.tensor([[0.1, 2.0, -1.0], [0.1, 0.2, 0.3]])
    assert decide(logits, "abc").tolist() == [1, 2]


def test_as_numpy_computes_it() -> None:
    """Softmax and means label by label, on many random logits."""
    logits_NL = torch.randn(300, 1000, generator=torch.Generator().manual_seed(0)) * 4
    exponentials = np.exp(logits_NL.numpy().astype(np.longdouble))
    shares = exponentials / exponentials.sum(1, keepdims=True)
    expected = []
    for row in shares:
        means = {name: sum(row[label] for label in labels) / len(labels) for name, labels in categories().items()}
        expected.append(max(means, key=lambda name: means[name]))
    found = [NAMES[place] for place in decide(logits_NL, NAMES).tolist()]
    assert found == expected
    assert len(set(found)) > 10


# --- rows ---


def test_rows_are_what_the_network_says_beside_the_cues(network: Network, few: Dataset) -> None:
    rows = decided(spec(recipe=Execution(evaluation_batch_size=24)), network, few)
    with torch.no_grad():
        said = network(few.test.images_NCHW[:].float().div(255).expand(-1, 3, -1, -1)).argmax(1)
    assert few.cues is not None
    assert [row[:4] for row in rows] == [
        (i, str(shape), str(texture), str(decision))
        for i, (shape, texture, decision) in enumerate(
            zip(few.test.labels_N.tolist(), few.cues.textures_N.tolist(), said.tolist(), strict=True)
        )
    ]
    assert any(row.shape != row.decision != row.texture for row in rows), "some see a third label"


def test_a_network_of_imagenet_s_labels_is_asked_by_category() -> None:
    """Random weights for a thousand labels, on images in the format of Geirhos et al."""
    resnet = resnet35_w8(1000)
    resnet.load_state_dict(make_weights(seed=3, labels=1000).tensors)
    with torch.no_grad():
        resnet.fc.weight.mul_(20)  # so that decisions differ between images
    network = Network(resnet, (0.5,) * 3, (0.1,) * 3).eval()
    images = torch.from_numpy(made.random_images(40, 3, 32, 32))
    images[::2] //= 4
    images[::3, 0] = 255
    labels, textures = torch.arange(40) % 16, torch.arange(40) * 3 % 16
    part = ImageSet(images, labels)
    data = Dataset("cue-conflict", part, part, "0" * 64, Cues(textures, tuple(NAMES)))
    trial = ShapeBiasTrial(
        spec(network="natural", dataset="cue-conflict"), ExaminedNetwork(network, "0" * 64), data, CPU
    )
    trial.advance()
    with torch.no_grad():
        shares = network(images.float().div(255)).double().softmax(1).numpy()
    means = np.stack([shares[:, list(mine)].mean(1) for mine in categories().values()], 1)
    assert [row.decision for row in trial.evaluations] == [NAMES[place] for place in means.argmax(1)]
    assert [row.shape for row in trial.evaluations] == [NAMES[i] for i in labels]
    assert [row.texture for row in trial.evaluations] == [NAMES[i] for i in textures]
    assert trial.facts["network_labels"] == 1000


@pytest.mark.parametrize("stops", [1, 2])
def test_pauses_change_nothing(stops: int, store: Store, network: Network, few: Dataset) -> None:
    """Stopped between batches, and resumed from a checkpoint by another attempt."""
    one = spec(recipe=Execution(evaluation_batch_size=24))
    whole = decided(one, network, few)

    def started() -> ShapeBiasTrial:
        return ShapeBiasTrial(one, ExaminedNetwork(network, "0" * 64), few, CPU)

    for number in range(stops):
        asked = iter([False, True])
        ended = attempt_trial(store, started(), Attempt(number + 1), NEVER, asked.__next__)
        assert ended.status is AttemptStatus.STOPPED
    ended = attempt_trial(store, started(), Attempt(stops + 1), NEVER)
    assert (ended.status, ended.notes) == (AttemptStatus.COMMITTED, [])
    rows = read_trials(store, "shape_bias").to_pylist()
    assert {row["attempt"] for row in rows} == {stops + 1}
    assert [tuple(row[name] for name in Decision._fields[:-1]) for row in rows] == [row[:4] for row in whole]
    assert list(store.keys("checkpoints")) == []
    assert verify(store) == []


def test_a_fine_tuned_trial_is_asked_by_its_kept_weights(tmp_path: Path) -> None:
    """If fine-tuned on the variant itself, its test accuracy is the share decided by shape, counted independently."""
    store = open_store(tmp_path / "root")
    tuned = finetune_spec({"normalization": "target"}, dataset="digits_conflict", images=60, epochs=2)
    attempt_trial(
        store, open_trial(store, tuned, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=10, weights=True)
    )
    attempt_trial(store, open_trial(store, spec(network=tuned), PACKAGED, CPU), Attempt(), NEVER)
    last = read_trials(store, "finetune").to_pylist()[-1]
    sql = """
        SELECT source, finetuned, network_labels, 100 * avg((decision = shape)::INT) AS by_shape, count(*) AS n,
            sum((shape = texture)::INT) AS agreeing
        FROM cue_conflicts GROUP BY ALL"""
    (row,) = analysis.query(tmp_path / "root", sql).to_pylist()
    assert row["by_shape"] == pytest.approx(last["test_accuracy"], abs=1e-9)
    assert (row["source"], row["finetuned"], row["n"], row["agreeing"]) == ("fmnist_l2_eps1", tuned.trial_id, 797, 0)
    assert row["network_labels"] == 10


# --- requests ---


def test_the_id_follows_from_what_is_asked_of_what() -> None:
    specs = [
        spec(),
        spec(network="fmnist_natural", dataset="fmnist_conflict"),
        spec(network=finetune_spec(seed=8)),
        spec(network=finetune_spec(blocks=0)),
        spec(recipe=Execution(evaluation_batch_size=24)),
    ]
    assert len({one.trial_id for one in specs}) == len(specs)
    assert specs[0].trial_id.startswith("shape_bias-digits_conflict-fmnist_l2_eps1-k3-n20-s7-")


@pytest.mark.parametrize(
    ("changes", "key", "values"),
    [
        ({"network": "fmnist_natural"}, "dataset", ("10 of fmnist", "digits_conflict", "`label_names`")),
        ({"network": "natural"}, "dataset", ("1000 of imagenet", "digits_conflict has 10")),
        ({"dataset": "cue-conflict"}, "dataset", ("10 of digits", "cue-conflict has 16")),
        ({"dataset": "digits"}, "dataset", ("digits_conflict, ", "; digits has none")),
        ({"network": "random_init"}, "network", ("network: random_init",)),
        ({"network": finetune_spec(images=3)}, "images", ("digits", 10, 1000, 3)),
    ],
)
def test_what_cannot_be_asked(changes: dict[str, Any], key: str, values: tuple[object, ...], store: Store) -> None:
    asked = spec(**changes)
    with refused(Code.IMPOSSIBLE_TRIAL, asked.trial_id, *values, kind=InvalidRequest, key=key):
        open_trial(store, asked, PACKAGED, CPU)


def test_images_that_nobody_knows(store: Store) -> None:
    with refused(Code.UNKNOWN_NAME, "'nothing'", "deltasweep data list", kind=InvalidRequest, key="dataset"):
        open_trial(store, spec(dataset="nothing"), PACKAGED, CPU)


def test_nothing_is_fine_tuned_on_images_that_are_all_for_testing(store: Store) -> None:
    with refused(Code.IMPOSSIBLE_TRIAL, 1280, "cue-conflict", kind=InvalidRequest, key="dataset"):
        open_trial(store, finetune_spec(dataset="cue-conflict", images=-1), PACKAGED, CPU)


def test_a_network_fine_tuned_on_the_categories_themselves_may_be_asked() -> None:
    """The categories are known by name: sixteen other labels are not the same."""

    def mine(names: str) -> Catalog:
        card = {"train": 160, "test": 16, "labels": 16, "colour": True, "mean": [0.5] * 3, "std": [0.25] * 3}
        own = {"datasets": {"mine": {**card, "folder": "/mine", "label_names": names}}}
        return Catalog(Cards.model_validate(own))

    asked = spec(network=finetune_spec(dataset="mine"), dataset="cue-conflict")
    assert problems(asked, mine(digest(NAMES))) == []
    (said,) = problems(asked, mine(digest(NAMES[::-1])))
    assert (said.code, said.place.key) == (Code.IMPOSSIBLE_TRIAL, "dataset")
    for value in ("16 of mine", "cue-conflict", "`label_names`"):
        assert value in said.message
