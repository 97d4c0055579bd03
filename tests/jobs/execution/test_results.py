"""Stored results: the schema is self-describing, a trial is committed once, and every damaged file is reported."""

import io
import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.catalog.catalog import PACKAGED
from jobs.data.datasets import Dataset
from jobs.errors import Code, DamagedFile, InvalidRequest, ResultsConflict
from jobs.execution.commit import Attempt, commit_trial, rows
from jobs.models.weights import SourceWeights
from jobs.results import (
    Committed,
    Role,
    Store,
    begin,
    commit,
    comparable_columns,
    done,
    open_store,
    pin,
    read_trials,
    schema,
)
from jobs.results.layout import pin_key, trial_key
from jobs.specs.canonical import canonical_json
from jobs.specs.trial import recipe_digest
from tests.jobs.support import finetune_spec, finetuned, trial_rows
from tests.results.rows import DEVICE_KIND, result_rows
from tests.support import refused

TRIAL = "finetune-x-0123456789abcdef"
KEY = "trials/finetune/01/finetune-x-0123456789abcdef.parquet"


# --- schema ---


def test_every_field_has_role_and_description() -> None:
    for field in schema("finetune"):
        metadata = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert Role(metadata["role"]) in Role, field.name
        assert metadata["description"], field.name
        assert "unit" in metadata, field.name


@pytest.mark.parametrize(
    ("name", "role", "unit"),
    [
        ("trial_id", "identity", ""),
        ("images", "identity", "images"),
        ("epoch", "identity", "epochs"),
        ("test_accuracy", "number", "percent"),
        ("train_loss", "number", "nats"),
        ("seconds", "measured", "seconds"),
        ("device_kind", "measured", ""),
    ],
)
def test_roles_and_units(name: str, role: str, unit: str) -> None:
    metadata = schema("finetune").field(name).metadata
    assert metadata[b"role"].decode() == role
    assert metadata[b"unit"].decode() == unit


def test_the_columns_of_the_design_are_there() -> None:
    wanted = (
        "trial_id source constraint epsilon blocks dataset images images_used seed epoch test_accuracy test_loss "
        "train_accuracy train_loss learning_rate recipe origin code_version weights_sha256 subset_sha256 device_kind "
        "seconds host attempt"
    )
    assert set(wanted.split()) <= set(schema("finetune").names)


def test_comparable_columns_leave_out_what_is_measured() -> None:
    columns = comparable_columns("finetune")
    assert {"trial_id", "epoch", "test_accuracy", "test_loss", "subset_sha256", "weights_sha256"} <= set(columns)
    assert not {"seconds", "host", "attempt", "device_kind", "finished_at", "launch", "code_version"} & set(columns)


def test_the_file_on_disk_carries_the_metadata(store: Store) -> None:
    commit(store, "finetune", result_rows())
    read = pq.read_schema(io.BytesIO(store.read(KEY)))
    assert read.names == schema("finetune").names
    assert read.field("seconds").metadata[b"unit"] == b"seconds"
    assert read.field("seconds").metadata[b"role"] == b"measured"


# --- commit ---


def test_a_commit_makes_a_trial_done(store: Store) -> None:
    assert done(store, "finetune") == set()
    assert commit(store, "finetune", result_rows()) is Committed.NEW
    assert list(store.keys("trials")) == [KEY]
    assert done(store, "finetune") == {TRIAL}
    assert read_trials(store, "finetune").to_pylist() == result_rows()


def test_the_same_numbers_again_are_no_conflict(store: Store) -> None:
    commit(store, "finetune", result_rows())
    first = store.read(KEY)
    again = result_rows(seconds=9.0, host="there", attempt=2, finished_at="later", launch="l", code_version="9")
    assert commit(store, "finetune", again) is Committed.ALREADY_THERE
    assert store.read(KEY) == first, "what was there first is untouched"
    assert list(store.keys("conflicts")) == []


def test_the_same_rows_in_another_order_are_no_conflict(store: Store) -> None:
    commit(store, "finetune", result_rows())
    assert commit(store, "finetune", result_rows()[::-1]) is Committed.ALREADY_THERE


def test_two_diverged_runs_agree(store: Store) -> None:
    diverged = result_rows(test_loss=math.nan, train_loss=math.inf)
    assert commit(store, "finetune", diverged) is Committed.NEW
    assert commit(store, "finetune", diverged) is Committed.ALREADY_THERE
    assert list(store.keys("conflicts")) == []


def test_a_diverged_run_and_one_that_is_not_disagree(store: Store) -> None:
    commit(store, "finetune", result_rows(test_loss=math.nan))
    assert commit(store, "finetune", result_rows()) is Committed.CONFLICT


@pytest.mark.parametrize(
    "changes",
    [
        {"test_accuracy": 50.5},
        {"test_loss": math.nextafter(1.5, 2)},
        {"subset_sha256": "t" * 64},
        {"weights_sha256": "v" * 64},
        {"test_loss": None},
    ],
)
def test_other_numbers_are_kept_aside(store: Store, changes: dict[str, Any]) -> None:
    commit(store, "finetune", result_rows())
    first = store.read(KEY)
    assert commit(store, "finetune", result_rows(**changes)) is Committed.CONFLICT
    assert store.read(KEY) == first
    (conflict,) = store.keys("conflicts")
    assert conflict.startswith(f"conflicts/finetune/{TRIAL}/")
    kept = pq.read_table(io.BytesIO(store.read(conflict))).to_pylist()
    assert kept == result_rows(**changes)
    assert read_trials(store, "finetune").to_pylist() == result_rows(), "conflicts are not results"


def test_fewer_rows_are_other_numbers(store: Store) -> None:
    commit(store, "finetune", result_rows())
    assert commit(store, "finetune", result_rows()[:1]) is Committed.CONFLICT


def test_every_other_result_is_kept_once(store: Store) -> None:
    commit(store, "finetune", result_rows())
    for accuracy in (51.0, 52.0, 51.0):
        assert commit(store, "finetune", result_rows(test_accuracy=accuracy)) is Committed.CONFLICT
    assert len(list(store.keys("conflicts"))) == 2


ANOTHER_KIND = DEVICE_KIND.replace("0123", "3210")
WAYS: dict[str, dict[str, Any]] = {
    "another kind": {"device_kind": ANOTHER_KIND},
    "two kinds": {"device_kind": f"{DEVICE_KIND} -> {ANOTHER_KIND}"},
    "away and back": {"device_kind": f"{DEVICE_KIND} -> {ANOTHER_KIND} -> {DEVICE_KIND}"},
    "begun by an older version": {
        "device_kind": f"unknown -> {DEVICE_KIND}",
        "packages": 'unknown -> {"torch": "2.14.1"}',
    },
    "named by an older version": {"device_kind": "cpu-avx512"},
    "a GPU named by an older version": {"device_kind": "NVIDIA L4, cpu-avx2"},
    "not told": {"device_kind": None},
    "another torch": {"packages": '{"torch": "2.15.0", "torchvision": "0.29.1"}'},
    "another torchvision": {"packages": '{"torch": "2.14.1", "torchvision": "0.30.0"}'},
    "two torch": {"packages": '{"torch": "2.14.1", "torchvision": "0.29.1"} -> {"torch": "2.15.0"}'},
    "packages that are no JSON": {"packages": "a stranger's words"},
    "packages of another type": {"packages": "[1, 2]"},
    "versions of another type": {"packages": '{"torch": ["2"]}'},
    "packages without end": {"packages": "[" * 100_000},
}
"""Changes after which a result does not have the same single device kind, torch and torchvision as ``result_rows``."""


@pytest.mark.parametrize("way", WAYS)
def test_other_numbers_are_no_conflict_where_equality_is_not_promised(store: Store, way: str) -> None:
    commit(store, "finetune", result_rows())
    other = result_rows(test_loss=1.500001, **WAYS[way])
    assert commit(store, "finetune", other) is Committed.ALREADY_THERE
    assert list(store.keys("conflicts")) == []
    assert read_trials(store, "finetune").to_pylist() == result_rows(), "the first stands"


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way not in ("another kind", "another torch", "another torchvision")]
)
def test_of_two_results_that_ran_on_more_or_unknown_kinds_none_contradicts_the_other(store: Store, way: str) -> None:
    commit(store, "finetune", result_rows(**WAYS[way]))
    assert commit(store, "finetune", result_rows(test_loss=1.500001, **WAYS[way])) is Committed.ALREADY_THERE
    assert list(store.keys("conflicts")) == []


def test_a_newer_numpy_does_not_excuse_other_numbers(store: Store) -> None:
    commit(store, "finetune", result_rows())
    versions = '{"torch": "2.14.1", "torchvision": "0.29.1", "numpy": "2.5"}'
    assert commit(store, "finetune", result_rows(test_loss=1.500001, packages=versions)) is Committed.CONFLICT
    assert (
        commit(store, "finetune", result_rows(test_loss=1.6, packages=f"{versions} -> {versions}"))
        is Committed.CONFLICT
    )


@pytest.mark.parametrize("name", ["test_accuracy", "images_used", "origin"])
def test_rows_without_a_required_value_are_never_written(store: Store, name: str) -> None:
    with pytest.raises((pa.ArrowException, ValueError)):
        commit(store, "finetune", result_rows("finetune-x-0123456789abcdef", **{name: None}))
    assert list(store.keys("trials")) == []


def test_rows_of_two_trials_are_never_written(store: Store) -> None:
    with pytest.raises(ValueError, match="too many values"):
        commit(store, "finetune", [*result_rows(), *result_rows("finetune-x-fedcba9876543210")])
    assert list(store.keys("trials")) == []


# --- pins ---


def test_the_first_pin_decides(store: Store) -> None:
    pin(store, "sources", "natural", "a" * 64)
    pin(store, "sources", "natural", "a" * 64)
    pin(store, "datasets", "natural", "b" * 64)
    pin(store, "sources", "other", "b" * 64)
    values = (store.uri, "'natural'", "sources", "a" * 64, "b" * 64)
    file = f"{store.uri}/{pin_key('sources', 'natural')}"
    with refused(Code.OTHER_DIGEST, *values, kind=ResultsConflict, file=file):
        pin(store, "sources", "natural", "b" * 64)
    pin(store, "sources", "natural", "a" * 64)


# --- reading ---


def test_reading_nothing(store: Store) -> None:
    table = read_trials(store, "finetune")
    assert table.num_rows == 0
    assert table.schema.names == schema("finetune").names


def test_rows_come_in_order_of_trial_and_epoch(store: Store) -> None:
    ids = [f"finetune-x-{digit * 16}" for digit in "c0a"]
    for trial in ids:
        commit(store, "finetune", result_rows(trial)[::-1])
    table = read_trials(store, "finetune")
    found = list(zip(table["trial_id"].to_pylist(), table["epoch"].to_pylist(), strict=True))
    assert found == [(trial, epoch) for trial in sorted(ids) for epoch in (1, 2)]


def write_table(store: Store, table: pa.Table, key: str = KEY) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    store.create(key, buffer.getvalue())


def damaged(store: Store, *values: object, key: str = KEY, column: str | None = None) -> AbstractContextManager[None]:
    """Require that the result of the key is refused, with its full path."""
    file = f"{store.uri}/{key}"
    return refused(Code.DAMAGED_RESULT, file, *values, kind=DamagedFile, file=file, key=column)


def good_table() -> pa.Table:
    return pa.Table.from_pylist(result_rows(), schema=schema("finetune"))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no parquet " * 100])
def test_a_file_that_is_not_parquet_is_named(store: Store, data: bytes) -> None:
    commit(store, "finetune", result_rows("finetune-x-ffffffffffffffff"))
    store.create(KEY, data)
    with damaged(store):
        read_trials(store, "finetune")


def test_a_file_cut_off_is_named(store: Store) -> None:
    commit(store, "finetune", result_rows())
    data = store.read(KEY)
    store.replace(KEY, data[: len(data) // 2])
    with damaged(store):
        read_trials(store, "finetune")


def test_a_file_with_flipped_bits_in_its_data_is_named(store: Store) -> None:
    commit(store, "finetune", result_rows())
    data = bytearray(store.read(KEY))
    data[4:400] = bytes(byte ^ 0xFF for byte in data[4:400])
    store.replace(KEY, bytes(data))
    with damaged(store):
        read_trials(store, "finetune")


def test_a_foreign_parquet_file_is_named(store: Store) -> None:
    write_table(store, pa.table({"a": [1]}))
    with damaged(store, "finetune"):
        read_trials(store, "finetune")
    columns = pa.table({"a": [1]}).replace_schema_metadata(schema("finetune").metadata)
    store.delete(KEY)
    write_table(store, columns)
    with damaged(store, "['trial_id', ", "['a']", column="trial_id"):
        read_trials(store, "finetune")


def test_a_file_with_a_column_missing_is_named(store: Store) -> None:
    write_table(store, good_table().drop_columns(["test_loss"]))
    with damaged(store, "missing ['test_loss']", "unknown none", column="test_loss"):
        read_trials(store, "finetune")


def test_a_file_with_a_column_too_many_is_named(store: Store) -> None:
    write_table(store, good_table().append_column("extra", pa.array([1, 2])))
    with damaged(store, "missing none", "unknown ['extra']", column="extra"):
        read_trials(store, "finetune")


def test_a_file_with_a_column_of_another_type_is_named(store: Store) -> None:
    table = good_table()
    place = table.schema.get_field_index("test_accuracy")
    write_table(store, table.set_column(place, "test_accuracy", pa.array(["good", "bad"])))
    with damaged(store):
        read_trials(store, "finetune")


def test_a_file_under_another_trial_s_name_is_named(store: Store) -> None:
    commit(store, "finetune", result_rows())
    wrong = "finetune-x-00000000000000ff"
    store.create(trial_key("finetune", wrong), store.read(KEY))
    with damaged(store, f"['{TRIAL}']", key=trial_key("finetune", wrong), column="trial_id"):
        read_trials(store, "finetune")


def test_an_empty_table_is_named(store: Store) -> None:
    write_table(store, schema("finetune").empty_table())
    with damaged(store):
        read_trials(store, "finetune")


def test_columns_in_another_order_are_the_same_result(store: Store) -> None:
    table = good_table()
    write_table(store, table.select(table.column_names[::-1]))
    assert read_trials(store, "finetune").to_pylist() == result_rows()


def test_a_damaged_file_is_reported_when_its_trial_is_committed_again(store: Store) -> None:
    store.create(KEY, b"damaged")
    with damaged(store):
        commit(store, "finetune", result_rows())


# --- roots ---


@pytest.mark.parametrize("below", ["file", "file/below", "file/below/further"])
def test_a_root_that_is_a_file_or_below_one(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    file = tmp_path / "file"
    with refused(Code.WRONG_PLACE, file, kind=InvalidRequest, file=file, key="--results"):
        open_store(tmp_path / below)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


def test_a_root_that_cannot_be_written() -> None:
    """The kernel lets no user create a folder here, not even root."""
    root = "/proc/nowhere/root"
    with refused(Code.ROOT_NOT_WRITABLE, root, "--results", kind=InvalidRequest, file=root, key="--results"):
        begin(open_store(root))


def test_a_root_that_is_begun_holds_its_record_alone(store: Store, tmp_path: Path) -> None:
    begin(store)
    assert [path.name for path in (tmp_path / "root").rglob("*") if path.is_file()] == ["root.json"]


def test_a_relative_root_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors have working directories of their own."""
    monkeypatch.chdir(tmp_path)
    assert open_store("here").uri == str(tmp_path / "here")


# --- from a trial to its rows ---


def test_a_trial_s_rows(weights: SourceWeights, few_digits: Dataset) -> None:
    trial = finetuned(finetune_spec(epochs=3, evaluate_every=2), weights, few_digits)
    found = rows(trial, Attempt(number=4, launch="l"))
    assert [row["epoch"] for row in found] == [1, 3]
    for row in found:
        assert set(row) == set(schema("finetune").names)
        assert row["trial_id"] == trial.spec.trial_id
        assert (row["source"], row["dataset"], row["blocks"]) == ("fmnist_l2_eps1", "digits", 3)
        assert (row["images"], row["images_used"], row["test_images"]) == (20, 20, 64)
        assert (row["constraint"], row["epsilon"]) == ("l2", 1.0)
        assert row["recipe"] == recipe_digest(trial.spec.recipe)
        assert row["recipe_json"] == canonical_json(trial.spec.recipe.model_dump(mode="json"))
        assert (row["origin"], row["numerics"]) == ("run", 2)
        assert (row["weights_sha256"], row["dataset_sha256"]) == (weights.sha256, few_digits.sha256)
        assert (row["attempt"], row["launch"]) == (4, "l")
        assert float(str(row["seconds"])) > 0


def test_the_whole_set_says_how_many_images_it_is(weights: SourceWeights, few_digits: Dataset) -> None:
    (row,) = trial_rows(finetuned(finetune_spec(images=-1, epochs=1), weights, few_digits))
    assert (row["images"], row["images_used"]) == (-1, 64)


def test_committing_a_trial_pins_its_source_and_dataset(
    store: Store, weights: SourceWeights, other_weights: SourceWeights, few_digits: Dataset
) -> None:
    trial = finetuned(finetune_spec(epochs=1), weights, few_digits)
    assert commit_trial(store, trial, Attempt()) is Committed.NEW
    assert done(store, "finetune") == {trial.spec.trial_id}
    other = finetuned(finetune_spec(epochs=1, seed=8), other_weights, few_digits)
    file = f"{store.uri}/{pin_key('sources', 'fmnist_l2_eps1')}"
    with refused(Code.OTHER_DIGEST, "fmnist_l2_eps1", other_weights.sha256, kind=ResultsConflict, file=file):
        commit_trial(store, other, Attempt())
    changed = finetuned(finetune_spec(epochs=1, seed=8), weights, few_digits._replace(sha256="0" * 64))
    file = f"{store.uri}/{pin_key('datasets', 'digits')}"
    with refused(Code.OTHER_DIGEST, "digits", "0" * 64, kind=ResultsConflict, file=file):
        commit_trial(store, changed, Attempt())
    assert done(store, "finetune") == {trial.spec.trial_id}, "a refused trial leaves nothing"


def test_committing_a_trial_twice(store: Store, weights: SourceWeights, few_digits: Dataset) -> None:
    spec = finetune_spec(epochs=1)
    commit_trial(store, finetuned(spec, weights, few_digits), Attempt())
    again = finetuned(spec, weights, few_digits)
    assert commit_trial(store, again, Attempt(number=2)) is Committed.ALREADY_THERE


def test_the_registry_s_facts_are_those_of_the_source() -> None:
    assert PACKAGED.source("fmnist_l2_eps1").constraint.value == "l2"
