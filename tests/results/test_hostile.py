"""Any content of a root is read correctly or reported in one error, within bounded memory, or the machine is blamed."""

import contextlib
import errno
import io
import json
import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.errors import Code, DamagedFile, DeltaSweepError, StorageFailure
from jobs.results import (
    DamagedIndexWarning,
    Failure,
    FailureKind,
    LocalStore,
    Problem,
    Store,
    commit,
    compact,
    damaged,
    kinds,
    mixed_trials,
    pin,
    read_failures,
    read_launches,
    read_trials,
    record_failure,
    recorded_studies,
    require_layout,
    schema,
    write_launch,
)
from jobs.results.launches import Launch, timestamp
from jobs.results.layout import (
    CURRENT,
    checkpoint_key,
    conflict_key,
    failure_key,
    launch_key,
    pin_key,
    study_key,
    trained_weights_key,
    trial_key,
)
from jobs.results.parquet import decode, decode_trial, encode, signed
from jobs.results.pins import pinned
from jobs.results.schema import KIND_KEY, most_rows
from jobs.verification.verify import verify
from tests.results.support import KIND, rows, trial
from tests.support import refused

KEY = trial_key(KIND, trial(1))
TABLE = pa.Table.from_pylist(rows(1), schema=schema(KIND))


def written(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def repeated(table: pa.Table, count: int, **changes: pa.Array) -> pa.Table:
    """Return the table's first row repeated ``count`` times, which takes almost no space in a file."""
    arrays = {field.name: changes.get(field.name, pa.repeat(table[field.name][0], count)) for field in table.schema}
    return pa.Table.from_arrays(
        [arrays[name].cast(table.schema.field(name).type) for name in arrays], schema=table.schema
    )


@contextlib.contextmanager
def memory_of(more: int) -> Iterator[None]:
    """Limit this process to ``more`` additional bytes of memory; larger allocations fail."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def apart() -> Iterator[Executor]:
    """A separate process with limited memory, because a limit in this process would make other code fail as well."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context) as executor:
        yield executor


def refusal(store: Store) -> tuple[Code, str]:
    """Return the code and file of the error of a reader with 1 GiB."""
    with memory_of(1 << 30), pytest.raises(DamagedFile) as caught:
        read_trials(store, KIND)
    return caught.value.code, str(caught.value.place.file)


def findings(store: Store) -> set[tuple[Problem, str]]:
    """Return what ``verify`` reports with 1 GiB."""
    with memory_of(1 << 30):
        return {(finding.problem, finding.key) for finding in verify(store)}


def read_all(store: Store) -> None:
    """Run every reader with 1 GiB; only DeltaSweep's own errors and warnings are allowed."""
    with memory_of(1 << 30):
        for read in READERS:
            with contextlib.suppress(DeltaSweepError, DamagedIndexWarning):
                read(store)


# --- results that are larger than they look ---


def distinct(count: int) -> pa.Array:
    return pa.array(np.arange(count))


def whole(count: int, **changes: pa.Array) -> pa.Table:
    return repeated(TABLE, count, epoch=distinct(count), **changes)


def repeated_text(count: int) -> bytes:
    """A megabyte in each row: stored once in the file, and never expanded in this process."""
    table, text = whole(count), pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), ["x" * 1_000_000])
    at = table.column_names.index("host")
    table = table.set_column(at, pa.field("host", text.type), text).replace_schema_metadata(table.schema.metadata)
    return written(table, store_schema=False, compression="zstd")


BOMBS: dict[str, Callable[[], bytes]] = {
    "a million equal rows": lambda: written(repeated(TABLE, 1_000_000), row_group_size=1_000_000),
    "more rows than epochs": lambda: written(whole(most_rows(KIND) + 1)),
    "a text that repeats": lambda: repeated_text(10_000),
    "hundreds of row groups": lambda: written(whole(20_000), row_group_size=20),
    "a footer of megabytes": lambda: written(
        TABLE.replace_schema_metadata({**(TABLE.schema.metadata or {}), "x": "y" * (3 << 20)})
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_a_result_takes_is_known_before_it_is_read(name: str, apart: Executor, tmp_path: Path) -> None:
    data = BOMBS[name]()
    assert len(data) < 40 << 20
    store = LocalStore(tmp_path / "root")
    store.create(KEY, data)
    file = f"{store.uri}/{KEY}"
    assert apart.submit(refusal, store).result() == (Code.DAMAGED_RESULT, file), name
    assert {key for _, key in apart.submit(findings, store).result()} == {KEY}


@pytest.mark.parametrize(
    "key",
    [
        *(KEY, launch_key("x"), "root.json", CURRENT, study_key("a", "b"), failure_key("x-1", 1)),
        checkpoint_key(trial(1), 1, 0, "0123456789abcdef"),
        conflict_key(KIND, trial(1), "0123456789abcdef"),
    ],
)
def test_a_file_of_a_terabyte_is_not_read(key: str, apart: Executor, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    store.create(key, b"{")
    os.truncate(store.directory / key, 1 << 40)
    apart.submit(read_all, store).result()
    assert {named for _, named in apart.submit(findings, store).result()} <= {key, "compact"}


def test_weights_of_a_terabyte_are_not_read(apart: Executor, tmp_path: Path) -> None:
    store, key = LocalStore(tmp_path / "root"), trained_weights_key(trial(1))
    commit(store, KIND, rows(1))
    store.create(key, b"{")
    os.truncate(store.directory / key, 1 << 40)
    assert (Problem.OTHER_WEIGHTS, key) in apart.submit(findings, store).result()


def test_an_index_of_more_rows_than_it_says_is_passed_over(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    commit(store, KIND, rows(1))
    compact(store, KIND)
    record = json.loads(store.read(CURRENT))
    record["kinds"][KIND]["rows"] += 1
    store.replace(CURRENT, json.dumps(record).encode())
    with pytest.warns(UserWarning, match="rows"):
        assert len(read_trials(store, KIND)) == 2
    assert Problem.DAMAGED_INDEX in {finding.problem for finding in verify(store)}


# --- records ---

READERS: list[Callable[[Store], object]] = [
    read_launches,
    read_failures,
    recorded_studies,
    require_layout,
    lambda store: pinned(store, "sources", "x"),
    lambda store: pinned(store, "datasets", "x"),
    lambda store: read_trials(store, KIND),
    mixed_trials,
    lambda store: compact(store, KIND),
    lambda store: damaged(store, KIND, [trial(1)]),
]
PLACES = [
    *(launch_key("x"), failure_key("x-1", 1), study_key("a", "b"), "root.json", pin_key("sources", "x")),
    *(pin_key("datasets", "x"), CURRENT, KEY, f"weights/{trial(1)}.json", f"weights/{trial(1)}.safetensors"),
    *(f"checkpoints/{trial(2)}/e000001-b000000-0123456789abcdef.safetensors", f"conflicts/{KIND}/{trial(1)}/0.parquet"),
    *("logs/x-1/1.log", "trials/x", "cards/sources/x.json"),
]
LAUNCH = Launch("x", "s", "d", "ada", "here", timestamp(), "0", {}, timestamp())
FAILURE = Failure("x-1", 1, FailureKind.ERROR, "E", "no", "here", "l", timestamp())
SOUND = {
    launch_key("x"): json.dumps(LAUNCH._asdict()),
    failure_key("x-1", 1): json.dumps(FAILURE._asdict()),
    pin_key("sources", "x"): json.dumps({"name": "x", "sha256": "a" * 64}),
    "root.json": json.dumps({"layout": 1, "made_by": "0.3.0", "made_at": timestamp()}),
    CURRENT: json.dumps({"version": 1, "kinds": {}}),
}
WRONG_JSON: dict[str, Callable[[str], str]] = {
    "nested": lambda _: "[" * 100_000 + "]" * 100_000,
    "nested objects": lambda _: '{"a":' * 100_000 + "1" + "}" * 100_000,
    "nested inside": lambda text: f'{text[:-1]}, "in_flight": {"[" * 100_000}{"]" * 100_000}}}',
    "a list": lambda text: f"[{text}]",
    "a number": lambda _: "7",
    "a text": json.dumps,
    "nothing": lambda _: "null",
    "not a number": lambda text: f'{text[:-1]}, "x": NaN}}',
    "infinite": lambda text: f'{text[:-1]}, "layout": -Infinity}}',
    "a key twice": lambda text: f"{text[:-1]}, {text[1:]}",
    "a number of 10,000 digits": lambda text: f'{text[:-1]}, "layout": {"9" * 10_000}}}',
    "half": lambda text: text[: len(text) // 2],
    "another encoding": lambda text: text.encode("utf-16-le").decode("latin-1"),
    "half a pair": lambda text: text.replace('"', '"\\ud800', 1),
    "values in order": lambda text: json.dumps(list(json.loads(text).values())),
}


@pytest.mark.parametrize("wrong", WRONG_JSON)
@pytest.mark.parametrize("key", SOUND)
def test_json_of_another_form_is_one_error(key: str, wrong: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "root")
    store.create(key, SOUND[key].encode())
    require_all_readable(store, [])
    store.replace(key, WRONG_JSON[wrong](SOUND[key]).encode("utf-8", errors="surrogatepass"))
    if key == "root.json":
        file = f"{store.uri}/{key}"
        with refused(Code.DAMAGED_RECORD, file, kind=DamagedFile):
            require_layout(store)
    elif key == CURRENT:
        assert Problem.DAMAGED_INDEX in {finding.problem for finding in verify(store)}
    else:
        require_all_readable(store, [key])


def require_all_readable(store: Store, wrong: list[str]) -> None:
    """Require that all readers report exactly the wrong files."""
    errors = []
    for read in READERS:
        try:
            read(store)
        except DamagedFile as error:
            errors.append(error)
    assert [str(error) for error in errors if "\n" in str(error) or len(str(error)) > 5_000] == []
    named = {error.place.file for error in errors}
    assert named == {f"{store.uri}/{key}" for key in wrong}
    assert [finding.key for finding in verify(store) if not finding.problem.harmless] == wrong


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*LAUNCH._fields, "sha256"]), inner),
    max_leaves=10,
)
contents = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda text, at, byte: text.encode()[:at] + bytes([byte]) + text.encode()[at + 1 :],
        st.sampled_from(list(SOUND.values())),
        st.integers(0, 100),
        st.integers(0, 255),
    ),
    st.builds(
        lambda at, byte: (data := encode(signed(TABLE, KIND)))[:at] + bytes([byte]) + data[at + 1 :],
        st.integers(0, 20_000) | st.integers(-2_000, -1),
        st.integers(0, 255),
    ),
    st.builds(lambda end: encode(TABLE)[:end], st.integers(0, 20_000)),
    st.builds(
        lambda name, value: written(TABLE.set_column(TABLE.column_names.index(name), name, pa.array([value, value]))),
        st.sampled_from(TABLE.column_names),
        st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(PLACES), data=contents)
def test_anything_anywhere_is_read_or_named(key: str, data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = LocalStore(tmp_path_factory.mktemp("fuzz") / "root")
    store.create(key, data)
    for read in READERS:
        with contextlib.suppress(DamagedFile, DamagedIndexWarning):
            read(store)
    for finding in verify(store):
        assert store.uri in finding.advice


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_result_whose_byte_is_another_gives_its_rows_or_is_named(data: st.DataObject) -> None:
    whole = encode(signed(TABLE, KIND))
    place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    flipped = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
    with contextlib.suppress(DamagedFile):
        assert decode_trial(flipped, KIND, trial(1), "x").table.equals(TABLE)


def test_a_page_is_compared_with_its_checksum_where_no_digest_of_rows_is() -> None:
    """As in files of versions before 0.3.0."""
    whole = encode(TABLE)
    group = pq.ParquetFile(io.BytesIO(whole)).metadata.row_group(0)
    for column in map(group.column, range(group.num_columns)):
        pages = column.dictionary_page_offset or column.data_page_offset
        last = pages + column.total_compressed_size - 1
        flipped = whole[:last] + bytes([whole[last] ^ 1]) + whole[last + 1 :]
        with pytest.raises(DamagedFile):
            decode(flipped, KIND, column.path_in_schema)


def test_a_result_says_its_kind() -> None:
    """Two kinds might have the same columns in the future."""
    other = next(kind for kind in kinds() if kind != KIND)
    metadata = {**(TABLE.schema.metadata or {}), KIND_KEY.encode(): other.encode()}
    with pytest.raises(DamagedFile, match=f"kind {other}"):
        decode(encode(TABLE.replace_schema_metadata(metadata)), KIND, "x")


# --- this machine ---

OF_THE_MACHINE: list[BaseException] = [
    pa.ArrowMemoryError("malloc of size 64 failed"),
    MemoryError(),
    *(OSError(code, os.strerror(code)) for code in (errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ENOMEM)),
]


@pytest.mark.parametrize("error", OF_THE_MACHINE, ids=repr)
def test_what_fails_on_this_machine_says_nothing_of_the_file(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 3, without advice to move an intact file away; ``verify`` behaves the same."""
    store = LocalStore(tmp_path / "root")
    commit(store, KIND, rows(1))

    def fails(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(pq, "ParquetFile", fails)
        for read in (
            lambda: read_trials(store, KIND),
            lambda: verify(store),
            lambda: decode(encode(TABLE), KIND, "x"),
        ):
            with pytest.raises(StorageFailure) as caught:
                read()
            assert caught.value.code in (Code.STORAGE, Code.OUT_OF_MEMORY)
            assert "move" not in str(caught.value)
    assert verify(store) == []


@pytest.mark.parametrize("error", OF_THE_MACHINE, ids=repr)
def test_a_record_that_cannot_be_read_now_is_not_called_damaged(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "root")
    write_launch(store, LAUNCH)
    record_failure(store, FAILURE, "log")
    pin(store, "sources", "x", "a" * 64)

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("jobs.results.local_store.open_file", fails)
    for read in (read_launches, read_failures, lambda store: pinned(store, "sources", "x")):
        with pytest.raises((StorageFailure, MemoryError)) as caught:
            read(store)
        assert isinstance(caught.value, StorageFailure), "with its remedy"
        assert "remove" not in str(caught.value)
