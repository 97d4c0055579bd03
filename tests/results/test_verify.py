"""Everything wrong with a root is reported, each with its path and its fix; no finding hides another."""

import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.errors import Code, DamagedFile
from jobs.provenance import code_version
from jobs.results import LocalStore, Problem, Store, commit, compact, pin, read_trials, schema
from jobs.results.layout import CURRENT, checkpoint_key, trial_key
from jobs.results.parquet import encode
from jobs.results.reader import read_files
from jobs.verification.verify import verify
from tests.results.support import KIND, held, once, rows, trial
from tests.support import refused


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "root")
    for number in range(8):
        commit(store, KIND, rows(number))
    pin(store, "sources", "fmnist_l2_eps1", "a" * 64)
    pin(store, "datasets", "digits", "d" * 64)
    return store


def found(store: Store, planned: set[str] | None = None) -> dict[str, Problem]:
    return {finding.key: finding.problem for finding in verify(store, planned)}


def parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    data: bytes = buffer.getvalue().to_pybytes()
    return data


def versioned(table: pa.Table, version: str) -> bytes:
    return parquet(table.replace_schema_metadata({"deltasweep_kind": KIND, "deltasweep_schema": version}))


def test_a_good_root_has_no_findings(any_store: Store) -> None:
    for number in (1, 2):
        commit(any_store, KIND, rows(number))
    compact(any_store, KIND)
    assert verify(any_store, {trial(1), trial(2)}) == []
    assert verify(any_store) == []


TABLE = pa.Table.from_pylist(rows(1), schema=schema(KIND))
DAMAGES: dict[str, tuple[bytes, Problem, Code, tuple[object, ...]]] = {
    "empty": (b"", Problem.TORN, Code.DAMAGED_RESULT, ("resume",)),
    "cut short": (encode(TABLE)[:-20], Problem.TORN, Code.DAMAGED_RESULT, ("resume",)),
    "text": (b"not a result", Problem.TORN, Code.DAMAGED_RESULT, ("resume",)),
    "older": (versioned(TABLE, "0"), Problem.WRONG_VERSION, Code.DAMAGED_RESULT, ("version 0", KIND)),
    "newer": (
        versioned(TABLE, "99"),
        Problem.WRONG_VERSION,
        Code.NEWER_VERSION,
        ("version 99", KIND, f"DeltaSweep {code_version()}"),
    ),
    "foreign Parquet": (parquet(pa.table({"a": [1]})), Problem.WRONG_CONTENT, Code.DAMAGED_RESULT, (KIND,)),
    "no metadata": (parquet(TABLE.replace_schema_metadata(None)), Problem.WRONG_CONTENT, Code.DAMAGED_RESULT, ()),
    "another trial": (
        encode(pa.Table.from_pylist(rows(2), schema=schema(KIND))),
        Problem.WRONG_CONTENT,
        Code.DAMAGED_RESULT,
        (trial(2),),
    ),
    "no rows": (encode(schema(KIND).empty_table()), Problem.WRONG_CONTENT, Code.DAMAGED_RESULT, ()),
    "an epoch twice": (
        encode(pa.concat_tables([TABLE, TABLE])),
        Problem.DUPLICATE_ROWS,
        Code.DAMAGED_RESULT,
        ("epoch", "resume"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_named_by_reader_and_verify(store: LocalStore, damage: str) -> None:
    data, problem, code, values = DAMAGES[damage]
    key = trial_key(KIND, trial(1))
    store.replace(key, data)
    file = f"{store.uri}/{key}"
    with refused(code, file, *values, kind=DamagedFile, file=file):
        read_trials(store, KIND)
    assert found(store) == {key: problem}


def test_any_flipped_byte_is_found_or_harmless(store: LocalStore) -> None:
    key = trial_key(KIND, trial(1))
    good = store.read(key)
    files = {trial(1): key}
    before = read_files(store, KIND, files)
    for position in range(0, len(good), 149):
        store.replace(key, good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :], durable=False)
        try:
            table = read_files(store, KIND, files)
        except DamagedFile:
            continue
        assert table.equals(before), f"byte {position} changed the numbers unnoticed"


def test_everything_is_found_at_once(store: LocalStore) -> None:
    keys = [trial_key(KIND, trial(number)) for number in range(8)]
    compact(store, KIND)
    store.replace(keys[0], b"")
    store.replace(keys[1], versioned(TABLE, "99"))
    store.delete(keys[2])
    store.replace(keys[3], encode(pa.Table.from_pylist(rows(3, weights_sha256="b" * 64), schema=schema(KIND))))
    misplaced = f"trials/{KIND}/zz/{trial(2)}.parquet"
    store.create(misplaced, encode(pa.Table.from_pylist(rows(2), schema=schema(KIND))))
    commit(store, KIND, rows(4, test_accuracy=1.0))
    foreign = ["trials/notes.txt", f"trials/{KIND}/notes.txt", f"trials/{KIND}/00/{trial(0)}.parquet.bak"]
    records = ["failures/x/1.json", "launches/x.json", "studies/x/y.yaml", "sources/x.json"]
    for key in [*foreign, *records]:
        store.create(key, b"[")
    checkpoint = checkpoint_key(trial(5), 1, 0, "0" * 16)
    store.create(checkpoint, b"state")
    store.create(checkpoint_key("of-a-trial-that-runs", 1, 0, hashlib.sha256(b"state").hexdigest()[:16]), b"state")
    of_others = [f"checkpoints/{trial(5)}/e1.safetensors", "compact/20200101T000000Z-notes/x.parquet", "_tmp/notes"]
    for key in of_others:
        store.create(key, b"another's")
    stale = store.directory / "_tmp" / ("0" * 32)
    stale.write_bytes(b"")
    os.utime(stale, (0, 0))
    (conflict,) = store.keys("conflicts")
    compacted = json.loads(store.read(CURRENT))["kinds"][KIND]["file"]
    findings = verify(store, {trial(number) for number in range(8) if number != 6})
    assert [(finding.problem, finding.key) for finding in findings if finding.key == compacted] == [
        (Problem.DAMAGED_INDEX, compacted),
        (Problem.WITHOUT_FILE, compacted),
    ]
    assert {finding.key: finding.problem for finding in findings if finding.key != compacted} == {
        keys[0]: Problem.TORN,
        keys[1]: Problem.WRONG_VERSION,
        keys[3]: Problem.OTHER_DIGEST,
        keys[6]: Problem.UNPLANNED,
        misplaced: Problem.MISNAMED,
        conflict: Problem.CONFLICT,
        **dict.fromkeys([*foreign, *of_others], Problem.FOREIGN),
        **dict.fromkeys(records, Problem.UNREADABLE_RECORD),
        checkpoint: Problem.LEFTOVER_CHECKPOINT,
        f"_tmp/{stale.name}": Problem.STALE_TEMPORARY,
    }
    assert all(store.uri in finding.advice for finding in findings)
    assert {f.problem for f in findings if f.problem.harmless} == {
        Problem.UNPLANNED,
        Problem.LEFTOVER_CHECKPOINT,
        Problem.STALE_TEMPORARY,
    }


def test_a_conflict_of_imports_is_not_called_a_trial_that_cannot_be_reproduced(store: LocalStore) -> None:
    imported = f"imported-{trial(1)}"
    for accuracy in (51.0, 52.0):
        changed = [{**row, "trial_id": imported, "test_accuracy": accuracy} for row in rows(1)]
        commit(store, KIND, changed)
    commit(store, KIND, rows(2, test_accuracy=1.0))
    store.create("conflicts/notes.txt", b"")
    own, of_imports = (
        next(f.advice for f in verify(store) if f.key.startswith(f"conflicts/{KIND}/{which}-"))
        for which in ("finetune", "imported")
    )
    assert "not reproducible" in own
    assert "two imports disagree" in of_imports
    assert f"{store.uri}/{trial_key(KIND, imported)}" in of_imports
    assert "reproducible" not in of_imports
    assert "packages" not in of_imports


def test_a_foreign_file_is_named_by_the_reader_and_counts_for_nothing(store: LocalStore) -> None:
    store.create(f"trials/{KIND}/notes", b"")
    file = f"{store.uri}/trials/{KIND}/notes"
    with refused(Code.DAMAGED_RESULT, file, kind=DamagedFile, file=file):
        read_trials(store, KIND)
    store.delete(f"trials/{KIND}/notes")
    assert held(read_trials(store, KIND)) == once(set(range(8)))


def test_a_damaged_index_is_found(store: LocalStore) -> None:
    compact(store, KIND)
    store.replace(CURRENT, b"{")
    assert set(found(store).values()) == {Problem.DAMAGED_INDEX}
