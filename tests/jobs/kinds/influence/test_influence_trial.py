"""Trials of the kind ``influence``: rows compared with a dense matrix computation, pauses, and how rows are stored."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import cross_entropy

import analysis
from analysis.output.formats import parquet, text
from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset, ImageSet
from jobs.data.subsets import draw_subset
from jobs.errors import Code, InvalidRequest, MissingData, StorageFailure
from jobs.execution.attempt import AttemptStatus, attempt_trial, open_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.diagnostic.trial import ExaminedNetwork
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.influence.hessian import Examples, Hessian, PseudoInverse
from jobs.kinds.influence.spec import InfluenceSpec
from jobs.kinds.influence.trial import InfluenceTrial
from jobs.kinds.influence.workload import matrix
from jobs.networks.network import Network
from jobs.networks.small import resnet35_w8
from jobs.results import Committed, Store, commit, compact, open_store, read_trials, schema
from jobs.results.compaction import Compaction
from jobs.results.problems import Problem
from jobs.system.memory import Memory
from jobs.verification.verify import verify
from tests.jobs.support import CPU, finetune_spec
from tests.packaged import packaged_weights
from tests.results.rows import DEVICE_KIND, PACKAGES
from tests.support import present, refused

NEVER = RetentionPolicy(checkpoint_every=10**9)
IMAGES, TESTS, DAMPING = 100, 90, 1e-2


def influence(measure: str = "influence", **changes: Any) -> InfluenceSpec:
    """Return a spec for a network fine-tuned on 100 digits."""
    inverts = measure == "pseudo-inverse"
    network = changes.pop("network", finetune_spec(images=IMAGES))
    values = {
        "network": network,
        "dataset": network.dataset,
        "seed": network.seed,
        "damping": 0.0 if inverts else DAMPING,
        "cutoff_absolute": 0.0 if inverts else None,
        "cutoff_relative": 1e-6 if inverts else None,
        "top": 3,
    }
    return InfluenceSpec.model_validate({"measure": measure, "recipe": {}, **values, **changes})


@pytest.fixture(scope="module")
def network() -> Network:
    """A bundled source in place of a fine-tuned network, because any network will do."""
    card, resnet = PACKAGED.source("fmnist_l2_eps1"), resnet35_w8(10)
    resnet.load_state_dict(packaged_weights("fmnist_l2_eps1").tensors)
    return Network(resnet, card.mean, card.std).eval()


@pytest.fixture(scope="session")
def few(digits: Dataset) -> Dataset:
    """All training images, and the first test images: more of them than fit in one block."""
    return digits._replace(test=ImageSet(digits.test.images_NCHW[:TESTS], digits.test.labels_N[:TESTS]))


def started(spec: InfluenceSpec, network: Network, data: Dataset) -> InfluenceTrial:
    return InfluenceTrial(spec, ExaminedNetwork(network, "0" * 64), data, CPU)


def last_layer(network: Network, images: ImageSet, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the last layer's inputs, the labels, and the logits; recorded with a hook."""
    seen: list[Tensor] = []
    hook = network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        logits_NK = network(images.images_NCHW[chosen].float().div(255).expand(-1, 3, -1, -1))
    hook.remove()
    return seen[0].double(), images.labels_N[chosen], logits_NK


def cut(labels: list[int]) -> list[list[int]]:
    """Return the images of each of ten labels in ten groups, or each image alone if there are fewer."""
    of = [[image for image, label in enumerate(labels) if label == one] for one in sorted(set(labels))]
    pieces = [min(10, len(images)) for images in of]
    return [
        [image for place, image in enumerate(images) if place * most // len(images) == piece]
        for images, most in zip(of, pieces, strict=True)
        for piece in range(most)
    ]


SLOW = pytest.mark.slow  # a matrix of 2,570 rows is inverted


@pytest.mark.parametrize(
    "measure", [pytest.param("influence", marks=SLOW), pytest.param("pseudo-inverse", marks=SLOW), "fisher"]
)
def test_rows_are_those_of_a_dense_computation(measure: str, network: Network, few: Dataset) -> None:
    """Gradients from autograd, the Hessian from Kronecker products, numpy's inverse, and a sort of the whole matrix."""
    trial = started(influence(measure), network, few)
    trial.advance()
    subset = draw_subset(few.train.labels_N, IMAGES, 7)
    train_ND, train_labels, _ = last_layer(network, few.train, subset)
    test_ND, test_labels, test_logits = last_layer(network, few.test, torch.arange(TESTS))
    fc_KJ = torch.cat([network.fc.weight, network.fc.bias[:, None]], 1).detach().double()

    def loss(at_P: Tensor, x_D: Tensor, label: Tensor) -> Tensor:
        at_KJ = at_P.view_as(fc_KJ)
        return cross_entropy(at_KJ[:, :-1] @ x_D + at_KJ[:, -1], label)

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
    train_NP, test_MP = (
        gradients(fc_KJ.flatten(), x, y) for x, y in ((train_ND, train_labels), (test_ND, test_labels))
    )
    if measure == "fisher":
        curved_PP = train_NP.T @ train_NP / IMAGES
    else:
        x_NJ = torch.cat([train_ND, torch.ones(IMAGES, 1)], 1)
        p_NK = (x_NJ @ fc_KJ.T).softmax(1)
        curved_PP = sum(torch.kron(p.diag() - p.outer(p), x.outer(x)) for p, x in zip(p_NK, x_NJ, strict=True)) / IMAGES
    damped_PP = curved_PP + trial.spec.damping * torch.eye(len(curved_PP))
    if measure == "pseudo-inverse":
        solved_PN = torch.from_numpy(np.linalg.pinv(damped_PP.numpy(), rcond=1e-6, hermitian=True)) @ train_NP.T
    else:
        solved_PN = torch.from_numpy(np.linalg.solve(damped_PP.numpy(), train_NP.T.numpy()))
    sign = 1 if measure == "fisher" else -1
    expected_MN = sign * (test_MP @ solved_PN)
    order_MT = (-sign * expected_MN).argsort(dim=1)[:, :3]
    assert [row.test_image for row in trial.evaluations] == list(range(TESTS))
    assert [row.train_images for row in trial.evaluations] == subset[order_MT].tolist()
    assert [row.train_labels for row in trial.evaluations] == few.train.labels_N[subset][order_MT].tolist()
    values_MT = torch.tensor([row.values for row in trial.evaluations], dtype=torch.float64)
    torch.testing.assert_close(values_MT, expected_MN.gather(1, order_MT), rtol=1e-3, atol=0)
    assert [row.test_label for row in trial.evaluations] == few.test.labels_N[:TESTS].tolist()
    assert [row.predicted_label for row in trial.evaluations] == test_logits.argmax(1).tolist()
    losses_M = cross_entropy(test_logits, test_labels, reduction="none")
    assert [row.test_loss for row in trial.evaluations] == pytest.approx(losses_M.tolist(), rel=1e-4, abs=1e-6)
    (norm,) = {row.matrix_norm for row in trial.evaluations}
    assert norm == pytest.approx(float(expected_MN.norm()), rel=1e-4)
    rows = sorted((row for row in trial.evaluations if row.cells), key=lambda row: (row.test_label, row.test_image))
    tests_of, images_of = cut([row.test_label for row in trial.evaluations]), cut(train_labels.tolist())
    assert [row.test_image for row in rows] == [images[0] for images in tests_of]
    for row, tests in zip(rows, tests_of, strict=True):
        assert row.cell_labels == [int(train_labels[images[0]]) for images in images_of]
        means = [float(expected_MN[tests][:, images].mean()) for images in images_of]
        scale = max(abs(mean) for mean in means)
        assert row.cells == pytest.approx(means, rel=1e-3, abs=1e-3 * scale)


@pytest.mark.parametrize(("by", "images"), [("eigh", IMAGES), ("svd", TESTS - 10)])
def test_a_hessian_is_inverted_as_the_spec_says(
    by: str, images: int, network: Network, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inverse is not symmetric: training images must be on its left, even if there are fewer of them."""
    asked = list[dict[str, object]]()
    made_PP = torch.randn(2570, 2570, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def made(_: Hessian, **options: object) -> PseudoInverse:
        asked.append(options)
        return PseudoInverse(made_PP.T, made_PP)

    monkeypatch.setattr("jobs.kinds.influence.trial.pseudo_inverse", made)
    tuned = finetune_spec(images=images)
    spec = influence("pseudo-inverse", network=tuned, cutoff_absolute=1e-20, decomposition=by)
    trial = started(spec, network, few)
    trial.advance()
    assert asked == [{"absolute": 1e-20, "relative": 1e-6, "decomposition": by}]
    subset = draw_subset(few.train.labels_N, images, 7)
    fc = network.fc
    train, test = (
        Examples.of(fc, *last_layer(network, shown, chosen)[:2]).gradients(slice(None)).flatten(1)
        for shown, chosen in ((few.train, subset), (few.test, torch.arange(TESTS)))
    )
    expected = float((train @ made_PP @ test.T).norm())
    assert trial.evaluations[0].matrix_norm == pytest.approx(expected, rel=1e-3)
    smallest_M = (-(train @ made_PP @ test.T)).min(0).values
    assert [row.values[0] for row in trial.evaluations] == pytest.approx(smallest_M.tolist(), rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("measure", ["influence", "fisher"])
def test_pauses_change_nothing(measure: str, store: Store, network: Network, few: Dataset) -> None:
    """Stopped after each block, and resumed from a checkpoint by another attempt, to the last bit."""
    spec = influence(measure)
    whole = started(spec, network, few)
    assert len(whole.batches) == 2, "90 test images are two blocks"
    whole.advance()
    asked = iter([False, True])
    ended = attempt_trial(store, started(spec, network, few), Attempt(), NEVER, lambda: next(asked))
    assert ended.status is AttemptStatus.STOPPED
    assert attempt_trial(store, started(spec, network, few), Attempt(2), NEVER).status is AttemptStatus.COMMITTED
    rows = read_trials(store, "influence").to_pylist()
    assert {row["attempt"] for row in rows} == {2}
    for row, expected in zip(rows, whole.evaluations, strict=True):
        assert [row[name] for name in expected._fields[:-1]] == list(expected[:-1])


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    """Two invented rows of one trial, with every column filled."""
    made = {"string": "x", "int64": 1, "double": 0.5, "list<element: int64>": [5, 3], "list<item: int64>": [5, 3]}
    kinds = {**made, "list<element: double>": [-2.5, 0.5], "list<item: double>": [-2.5, 0.5]}
    row = {field.name: kinds[str(field.type)] for field in schema("influence")}
    row |= {"device_kind": DEVICE_KIND, "packages": PACKAGES, "finetuned_numerics": FinetuneSpec.numerics_version}
    return [{**row, "trial_id": "influence-x-0123456789abcdef", "test_image": number} for number in (1, 0)]


def test_lists_of_images_are_kept_compared_and_compacted_like_numbers(rows: list[dict[str, Any]], store: Store) -> None:
    other = [{**row, "trial_id": "influence-y-0123456789abcdef"} for row in rows]
    assert commit(store, "influence", rows) is Committed.NEW
    assert commit(store, "influence", rows[::-1]) is Committed.ALREADY_THERE
    assert compact(store, "influence").written
    assert commit(store, "influence", other) is Committed.NEW
    for encoded in (False, True):
        found = read_trials(store, "influence", encoded=encoded)
        assert found["test_image"].to_pylist() == [0, 1, 0, 1]
        assert found["train_images"].to_pylist() == [[5, 3]] * 4
        assert found["values"].to_pylist() == [[-2.5, 0.5]] * 4
    assert {finding.problem for finding in verify(store)} == {Problem.IMPOSSIBLE}, "its rows are invented, no more"
    assert compact(store, "influence") == Compaction(trials=2, rows=4, written=True)
    assert {finding.problem for finding in verify(store)} == {Problem.IMPOSSIBLE}, "the index holds what the files do"
    changed = [{**row, "train_images": [5, 4]} for row in rows]
    assert commit(store, "influence", changed) is Committed.CONFLICT
    problems = [finding.problem for finding in verify(store)]
    assert [problem for problem in problems if problem is not Problem.IMPOSSIBLE] == [Problem.CONFLICT]


def test_lists_in_queries(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    commit(open_store(tmp_path), "influence", rows)
    found = analysis.query(tmp_path, "SELECT test_image, train_images, values FROM influences WHERE values[1] < -2")
    assert text(found, "csv") == 'test_image,train_images,values\n0,"[5, 3]","[-2.5, 0.5]"\n1,"[5, 3]","[-2.5, 0.5]"\n'
    assert json.loads(text(found, "json"))[0] == {"test_image": 0, "train_images": [5, 3], "values": [-2.5, 0.5]}
    assert "[5, 3]" in text(found, "table")
    assert pq.read_table(io.BytesIO(parquet(found))).to_pylist() == found.to_pylist()
    matches = "SELECT count(*) AS n FROM influences WHERE train_labels[1] = test_label"
    assert analysis.query(tmp_path, matches)["n"].to_pylist() == [0]


def test_a_fine_tuned_trial_is_examined_by_its_kept_weights(store: Store) -> None:
    """Predictions are those of the trial's last epoch, and the images examined are its training images."""
    tuned = finetune_spec({"normalization": "target"}, images=60, epochs=2)
    spec = influence(network=tuned, top=2)
    attempt_trial(
        store, open_trial(store, tuned, PACKAGED, CPU), Attempt(), RetentionPolicy(checkpoint_every=10, weights=True)
    )
    attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), NEVER)
    rows, last = read_trials(store, "influence").to_pylist(), read_trials(store, "finetune").to_pylist()[-1]
    right = sum(row["predicted_label"] == row["test_label"] for row in rows)
    assert 100 * right / len(rows) == last["test_accuracy"]
    assert {(row["finetuned"], row["images_used"], row["subset_sha256"]) for row in rows} == {
        (tuned.trial_id, 60, last["subset_sha256"])
    }
    assert (rows[0]["source"], rows[0]["measure"], rows[0]["damping"]) == ("fmnist_l2_eps1", "influence", DAMPING)
    assert rows[0]["cutoff_absolute"] is None
    assert [len(rows[0][name]) for name in ("train_images", "train_labels", "values")] == [2, 2, 2]


def test_the_id_follows_from_what_is_examined_and_how() -> None:
    specs = [
        influence(),
        influence("fisher"),
        influence("pseudo-inverse"),
        influence("pseudo-inverse", cutoff_absolute=1e-20),
        influence("pseudo-inverse", decomposition="svd"),
        influence(damping=0.1),
        influence(top=4),
        influence(network=finetune_spec(images=IMAGES, seed=8)),
    ]
    assert len({spec.trial_id for spec in specs}) == len(specs)
    assert specs[1].trial_id.startswith("influence-digits-fmnist_l2_eps1-k3-n100-s7-fisher-")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"network": "fmnist_natural"}, "network"),
        ({"dataset": "fmnist"}, "target dataset of the fine-tuning trial, digits; got dataset fmnist"),
        ({"damping": 0.0}, "got measure influence and damping 0.0"),
        ({"measure": "pseudo-inverse"}, "a damping of 0 for pseudo-inverse"),
        (
            {"cutoff_absolute": 0.0, "cutoff_relative": 0.0},
            "both cut-offs for pseudo-inverse, and none for other measures",
        ),
        ({"decomposition": "svd"}, "a decomposition for pseudo-inverse only; got measure influence"),
        (
            {"measure": "fisher", "decomposition": "svd"},
            "pseudo-inverse only; got measure fisher and decomposition svd",
        ),
        ({"decomposition": "qr"}, "'eigh' or 'svd'"),
    ],
)
def test_what_no_influence_is(changes: dict[str, Any], expected: str) -> None:
    values = influence().model_dump()
    with pytest.raises(ValidationError, match=expected):
        InfluenceSpec.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("spec", "key", "values"),
    [
        (influence(top=101), "top", (100, 101)),
        (influence(network=finetune_spec(images=3)), "images", ("digits", 10, 1000, 3)),
        (
            influence("pseudo-inverse", network=finetune_spec(source="natural", dataset="cifar100", images=100)),
            "measure",
            (32766, "natural", "cifar100", 204900, "influence"),
        ),
        (influence("fisher", network=finetune_spec(dataset="cifar10", images=40_000)), "measure", (32766, 40000)),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_loaded(
    spec: InfluenceSpec, key: str, values: tuple[object, ...], store: Store
) -> None:
    with refused(Code.IMPOSSIBLE_TRIAL, spec.trial_id, *values, kind=InvalidRequest, key=key):
        open_trial(store, spec, PACKAGED, CPU)


@pytest.mark.parametrize(
    ("measure", "images", "changes", "rows", "needed"),
    [
        ("pseudo-inverse", 3200, {}, "20,490", 4 * 8 * 20_490**2),
        ("pseudo-inverse", 3200, {"decomposition": "svd"}, "20,490", 7 * 8 * 20_490**2),
        ("fisher", 20_000, {}, "20,000", 3 * 8 * 20_000**2),
    ],
)
def test_a_machine_of_too_little_memory_says_so_before_anything_is_loaded(
    measure: str,
    images: int,
    changes: dict[str, str],
    rows: str,
    needed: int,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The paper's own size. With exactly the memory needed it continues, and only reports the missing network."""
    spec = influence(measure, network=finetune_spec(source="natural", dataset="cifar10", images=images), **changes)
    monkeypatch.setattr("jobs.kinds.influence.trial.machine_memory", lambda: Memory(needed - 1, 16 * 10**9))
    values = (spec.trial_id, rows, f"{needed / 1e9:.1f} GB", "16.0 GB", "Fix: ")
    with refused(Code.OUT_OF_MEMORY, *values, kind=StorageFailure, key="measure"):
        open_trial(store, spec, PACKAGED, CPU)
    monkeypatch.setattr("jobs.kinds.influence.trial.machine_memory", lambda: Memory(needed, 16 * 10**9))
    with pytest.raises(MissingData):
        open_trial(store, spec, PACKAGED, CPU)


def test_conjugate_gradients_need_no_such_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.kinds.influence.trial.machine_memory", lambda: Memory(0, 0))
    with pytest.raises(MissingData):
        open_trial(
            store, influence(network=finetune_spec(source="natural", dataset="cifar10", images=3200)), PACKAGED, CPU
        )


def test_what_a_matrix_takes_by_hand() -> None:
    """ResNet-50 with 10 labels: 2,048 features and the bias.

    Inversion takes 20/3 n^3 by eigenvectors (4/3 + 4/3 + 2 + 2) and 34/3 n^3 by singular vectors (8/3 + 8/3 + 4 + 2);
    creating the matrix takes 4 N n^2, and each image 2 n^2.
    """
    tuned = finetune_spec(source="natural", dataset="cifar10", images=3200)
    held = present(matrix(influence("pseudo-inverse", network=tuned), PACKAGED))
    assert (held.rows, held.bytes) == (2049 * 10, 4 * 8 * 20_490**2)
    assert held.operations == pytest.approx(20 / 3 * 20_490**3 + (4 + 2) * 3200 * 20_490**2)
    svd = present(matrix(influence("pseudo-inverse", network=tuned, decomposition="svd"), PACKAGED))
    assert (svd.rows, svd.bytes) == (2049 * 10, 7 * 8 * 20_490**2)
    assert svd.operations == pytest.approx(34 / 3 * 20_490**3 + (4 + 2) * 3200 * 20_490**2)
    fisher = present(matrix(influence("fisher", network=tuned), PACKAGED))
    assert (fisher.rows, fisher.bytes) == (3200, 3 * 8 * 3200**2)
    gram, solved = 2 * 3200**2 * 2059, 2 * (3200 + 2059) * 3200 * 10_000
    assert fisher.operations == pytest.approx(3200**3 / 3 + gram + solved)
    assert matrix(influence(network=tuned), PACKAGED) is None
