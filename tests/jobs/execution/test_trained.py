"""Kept weights are those of the trial that trained them: what its result records, and what is read later."""

import hashlib
import json
from collections.abc import Callable

import pyarrow as pa
import pytest
from safetensors.torch import load, save

from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, DamagedFile
from jobs.execution.attempt import attempt_trial, open_trial
from jobs.execution.commit import Attempt
from jobs.execution.retention import RetentionPolicy
from jobs.kinds.attack.spec import AttackSpec
from jobs.kinds.attack.trial import AdversarialEvaluation
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.finetune.trial import Finetuning
from jobs.models import weights as module
from jobs.results import Problem, Store, commit, read_trials, schema, with_weights
from jobs.results.layout import trained_weights_key, trial_key
from jobs.results.parquet import encode
from jobs.results.trained import made_again_key
from jobs.verification.verify import verify
from tests.jobs.support import CPU, finetune_spec
from tests.support import refused

pytestmark = pytest.mark.usefixtures("short_tests")

NEVER = RetentionPolicy(checkpoint_every=10**6)
KEEP = RetentionPolicy(checkpoint_every=10**6, weights=True)
TUNED = finetune_spec(epochs=1)
ATTACK = AttackSpec.model_validate(
    {"network": TUNED, "dataset": "digits", "seed": 1, "recipe": {}, "threat": {"constraint": "none", "epsilon": 0.0}}
)
KEY = trained_weights_key(TUNED.trial_id)


@pytest.fixture(autouse=True)
def _read_anew() -> None:
    """Simulate that each test runs in a new process."""
    module.weights_in_root.cache_clear()


def run(store: Store, spec: FinetuneSpec | AttackSpec = TUNED, retention: RetentionPolicy = KEEP) -> None:
    attempt_trial(store, open_trial(store, spec, PACKAGED, CPU), Attempt(), retention)


def said(store: Store) -> str:
    (digest,) = set(read_trials(store, "finetune")["trained_sha256"].to_pylist())
    assert isinstance(digest, str)
    return digest


def test_a_result_says_which_network_its_trial_left_whether_it_is_kept_or_not(store: Store) -> None:
    run(store, retention=NEVER)
    assert with_weights(store) == set()
    digest = said(store)
    run(store)
    assert hashlib.sha256(store.read(KEY)).hexdigest() == digest
    assert list(store.keys("weights")) == [KEY]


def flip(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place:][1:]


def other_network(data: bytes) -> bytes:
    return save({name: tensor + 1 for name, tensor in load(data).items()})


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit of the first tensor": flip(20_000),
    "the last bit": flip(-1),
    "the header": flip(40),
    "cut short": lambda data: data[:-4],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"\0",
    "of another network": other_network,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_that_are_not_the_trials_are_refused_by_whoever_reads_them_and_named(damage: str, store: Store) -> None:
    run(store)
    store.replace(KEY, DAMAGES[damage](store.read(KEY)))
    file = f"{store.uri}/{KEY}"
    with refused(Code.DAMAGED_WEIGHTS, file, said(store), kind=DamagedFile, file=file):
        open_trial(store, ATTACK, PACKAGED, CPU)
    assert [(finding.problem, finding.key) for finding in verify(store)] == [(Problem.OTHER_WEIGHTS, KEY)]
    store.delete(KEY)
    run(store)
    run(store, ATTACK, NEVER)
    assert verify(store) == []


def test_weights_of_a_result_that_does_not_say_are_read_as_ever(store: Store) -> None:
    """Results of 0.1.0 and 0.2.0 do not record it."""
    run(store)
    key = trial_key("finetune", TUNED.trial_id)
    table = read_trials(store, "finetune").drop_columns(["trained_sha256"]).cast(schema("finetune", 1))
    store.replace(key, encode(table))
    store.replace(KEY, other_network(store.read(KEY)))
    open_trial(store, ATTACK, PACKAGED, CPU)
    store.delete(key)
    open_trial(store, ATTACK, PACKAGED, CPU)


def test_a_network_that_was_made_again_and_became_another_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was trained again elsewhere: an invented device kind, and another learning rate that gives other bits."""
    run(store, retention=NEVER)
    elsewhere = "another device (probe 1: 0123456789ab)"
    monkeypatch.setattr(Finetuning, "device_kind", elsewhere)
    monkeypatch.setattr(Finetuning, "learning_rate", 0.3)
    run(store)
    monkeypatch.undo()
    made = hashlib.sha256(store.read(KEY)).hexdigest()
    assert made != said(store)
    assert json.loads(store.read(made_again_key(TUNED.trial_id)))["sha256"] == made
    assert list(store.keys("conflicts")) == []
    assert with_weights(store) == {TUNED.trial_id}
    examined = open_trial(store, ATTACK, PACKAGED, CPU)
    assert isinstance(examined, AdversarialEvaluation)
    assert examined.examined.sha256 == made
    assert examined.history.device_kinds[0] == elsewhere, "what computed the network that is looked at"
    assert verify(store) == []
    module.weights_in_root.cache_clear()
    store.replace(KEY, flip(-1)(store.read(KEY)))
    with refused(Code.DAMAGED_WEIGHTS, made, said(store), file=f"{store.uri}/{KEY}"):
        open_trial(store, ATTACK, PACKAGED, CPU)


def test_a_second_run_leaves_the_network_of_the_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two launches have run the trial on two kinds of device, and the first one's network has been examined."""
    run(store)
    kept, examined = store.read(KEY), open_trial(store, ATTACK, PACKAGED, CPU)
    module.weights_in_root.cache_clear()
    monkeypatch.setattr(Finetuning, "device_kind", "another device (probe 1: 0123456789ab)")
    monkeypatch.setattr(Finetuning, "learning_rate", 0.3)
    run(store)
    monkeypatch.undo()
    assert store.read(KEY) == kept
    assert list(store.keys("weights")) == [KEY]
    again = open_trial(store, ATTACK, PACKAGED, CPU)
    assert isinstance(again, AdversarialEvaluation)
    assert isinstance(examined, AdversarialEvaluation)
    assert again.examined.sha256 == examined.examined.sha256 == said(store)
    assert verify(store) == []


def test_two_runs_on_one_kind_of_device_must_leave_one_network(store: Store) -> None:
    run(store)
    rows = read_trials(store, "finetune").to_pylist()
    commit(store, "finetune", [{**row, "trained_sha256": "0" * 64} for row in rows])
    assert len(list(store.keys("conflicts"))) == 1
    commit(
        store, "finetune", [{**row, "trained_sha256": "1" * 64, "device_kind": "other (probe 1: 0)"} for row in rows]
    )
    assert len(list(store.keys("conflicts"))) == 1


def test_the_column_is_null_in_older_files(store: Store) -> None:
    run(store)
    table = read_trials(store, "finetune")
    assert table.schema.field("trained_sha256").nullable
    older = table.drop_columns(["trained_sha256"]).cast(schema("finetune", 1))
    store.replace(trial_key("finetune", TUNED.trial_id), encode(older))
    assert set(read_trials(store, "finetune")["trained_sha256"].to_pylist()) == {None}
    assert pa.types.is_string(table.schema.field("trained_sha256").type)
