"""A growing schema: older files stay readable, newer ones are refused by release, and each trial is present once."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import analysis
from jobs.errors import Code, DamagedFile
from jobs.provenance import code_version
from jobs.results import (
    Committed,
    DamagedIndexWarning,
    LocalStore,
    Problem,
    Store,
    begin,
    commit,
    compact,
    comparable_columns,
    done,
    kinds,
    open_store,
    read_trials,
    schema,
)
from jobs.results.index import read_compacted
from jobs.results.layout import trial_key
from jobs.results.parquet import decode, encode
from jobs.results.rows_digest import rows_digest
from jobs.results.schema import columns, releases, version
from jobs.specs.columns import Column, Role, RowSchema
from jobs.verification.verify import verify
from tests.results.growth import COUNT, NOTE, WORD, grown
from tests.results.support import KIND, MemoryStore, held, once, rows, trial
from tests.support import refused

NOW = version(KIND)
FIRST, SECOND = (NOTE, COUNT), (WORD,)
ADDED = {"note": None, "count": 7, "word": "none"}
"""The values that fill older files."""


@contextmanager
def release(number: int) -> Iterator[None]:
    """Simulate the code of this version (0), or of a later release."""
    with grown(KIND, *(FIRST, SECOND)[:number]):
        yield


def grown_rows(number: int, at: int) -> list[dict[str, object]]:
    """Return a trial's rows as a release writes them."""
    values = {"note": f"trial {number}", "count": number, "word": f"word {number}"}
    names = [column.name for added in (FIRST, SECOND)[:at] for column in added]
    return [{**row, **{name: values[name] for name in names}} for row in rows(number)]


def test_a_column_of_a_release_without_a_version_of_the_schema_is_refused() -> None:
    """Otherwise the column would be silently missing from every file.

    Columns older than the kind are present from its start.
    """
    old, new = (
        Column(name, pa.int64(), Role.NUMBER, "", since=since) for name, since in (("a", "0.1.0"), ("b", "0.3.0"))
    )
    assert RowSchema((old, new), "a", "view", {1: "0.2.0", 2: "0.3.0"}).at(1) == (old,)
    assert RowSchema((old, new), "a", "view", {1: "0.3.0"}).at() == (old, new)
    with pytest.raises(ValueError, match=r"\['b'\]"):
        RowSchema((old, new), "a", "view", {1: "0.2.0"}).at()


def test_every_column_says_when_it_came_and_what_older_files_have() -> None:
    for kind in kinds():
        known = set(releases(kind).values())
        for column in columns(kind):
            assert column.since in known, (kind, column.name)
            if column.since != min(releases(kind).items())[1]:
                assert column.nullable or column.fill is not None, (kind, column.name)
        assert len(columns(kind)) == len(schema(kind)), "a column of an unknown release would be left out"


def test_no_schema_is_of_a_release_after_this_version() -> None:
    """A reader reports which release wrote a newer file, so files must not claim a schema of a future release."""

    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split(".")[:3]]

    newest = max((release for kind in kinds() for release in releases(kind).values()), key=numbers)
    here = metadata.version("deltasweep")
    assert numbers(newest) <= numbers(here)
    root = Path(__file__).parents[1] / "roots" / newest
    assert root.is_dir() != (here == f"{newest}.dev0"), "a release has a root; what comes before it has none"


@pytest.mark.parametrize("item", ["item", "element"])
@pytest.mark.parametrize("as_dictionary", [False, True])
def test_the_digest_of_rows_is_the_same_for_every_version_of_arrow_and_of_this(item: str, as_dictionary: bool) -> None:
    """Files contain the digest permanently. Versions of Arrow name the values of a list differently."""
    text = pa.array(["a", None, "bc"])
    lists = pa.array([[1, 2], None, []], pa.list_(pa.field(item, pa.int64())))
    values = {
        "text": text.dictionary_encode() if as_dictionary else text,
        "number": pa.array([1.5, float("nan"), -0.0]),
        "count": pa.array([1, None, 3]),
        "said": pa.array([True, False, None]),
        "lists": lists,
    }
    assert rows_digest(pa.table(values)) == "8be1fe9a62e5c010b7a56d86874bee7f6ccd5486881d4ce56463edf0753a0537"


@pytest.mark.parametrize("encoded", [False, True])
def test_older_files_are_filled(store: Store, encoded: bool) -> None:
    commit(store, KIND, rows(1))
    with release(2):
        commit(store, KIND, grown_rows(2, 2))
        table = read_trials(store, KIND, encoded=encoded)
        found = table.select(["seed", *ADDED]).to_pylist()
        assert table.column_names == schema(KIND).names
    assert (
        found
        == [{"seed": 1, **ADDED}] * 2
        + [
            {"seed": 2, "note": "trial 2", "count": 2, "word": "word 2"},
        ]
        * 2
    )


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(
    ("column", "value"), [(WORD._replace(nullable=True), "none"), (COUNT._replace(nullable=True), 7)]
)
def test_older_files_are_filled_where_another_column_says_so(
    store: Store, column: Column, value: object, encoded: bool
) -> None:
    """This also holds if that other column is not requested, and in the index."""
    commit(store, KIND, rows(1))
    commit(store, KIND, [{**row, "source": "other"} for row in rows(2)])
    name, source = column.name, rows(1)[0]["source"]
    with grown(KIND, [column._replace(fill_where=("source", str(source)))]):
        for _ in range(2):
            assert read_trials(store, KIND, [name], encoded=encoded)[name].to_pylist() == [value] * 2 + [None] * 2
            found = read_trials(store, KIND, encoded=encoded)
            assert found.select(["source", name]).to_pylist() == [
                *[{"source": source, name: value}] * 2,
                *[{"source": "other", name: None}] * 2,
            ]
            assert found.column_names == schema(KIND).names
            compact(store, KIND)


def test_what_decides_a_fill_is_text_that_all_older_files_have() -> None:
    for kind in kinds():
        first = schema(kind, min(releases(kind)))
        for column in columns(kind):
            if column.fill_where is not None:
                assert column.nullable
                assert column.fill is not None
                assert pa.types.is_string(first.field(column.fill_where[0]).type), (kind, column.name)


def test_what_older_files_have_is_read_as_before(store: Store) -> None:
    commit(store, KIND, rows(1))
    before = read_trials(store, KIND)
    with release(2):
        assert read_trials(store, KIND, before.column_names).equals(before)
        assert read_trials(store, KIND, ["count"]).to_pylist() == [{"count": 7}] * 2


def test_a_newer_file_is_refused_by_the_name_of_its_release(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with release(1):
        monkeypatch.setattr("jobs.results.parquet.code_version", lambda: "0.4.0")
        commit(store, KIND, grown_rows(1, 1))
        monkeypatch.undo()
    values = ("DeltaSweep 0.4.0", f"version {NOW + 1}", KIND, f"DeltaSweep {code_version()}", f"up to {NOW}")
    file = f"{store.uri}/{trial_key(KIND, trial(1))}"
    with refused(Code.NEWER_VERSION, file, *values, kind=DamagedFile, file=file):
        read_trials(store, KIND)
    (finding,) = verify(store)
    assert finding.problem is Problem.WRONG_VERSION
    assert done(store, KIND) == {trial(1)}, "it is paid for, and not run again"


@pytest.mark.parametrize("number", ["0", "-1", "1.0", "one", "\N{SUPERSCRIPT TWO}"])
def test_a_version_that_no_release_wrote(number: str, store: Store) -> None:
    commit(store, KIND, rows(1))
    store.replace(trial_key(KIND, trial(1)), said_to_be(store, number))
    file = f"{store.uri}/{trial_key(KIND, trial(1))}"
    with refused(Code.DAMAGED_RESULT, file, f"version {number}", "expected one of 1", kind=DamagedFile, file=file):
        read_trials(store, KIND)


@pytest.mark.parametrize(("written", "said"), [(0, NOW + 1), (1, NOW), (1, NOW + 2), (2, NOW + 1)])
def test_a_file_that_lies_about_its_version(written: int, said: int, store: Store) -> None:
    with release(written):
        commit(store, KIND, grown_rows(1, written))
    store.replace(trial_key(KIND, trial(1)), said_to_be(store, str(said)))
    file = f"{store.uri}/{trial_key(KIND, trial(1))}"
    with release(2), refused(Code.DAMAGED_RESULT, file, f"version {said}", kind=DamagedFile, file=file):
        read_trials(store, KIND)


def said_to_be(store: Store, version: str) -> bytes:
    """Return the result of trial 1 as a file that claims another version."""
    table = pq.read_table(io.BytesIO(store.read(trial_key(KIND, trial(1)))))
    metadata = {**(table.schema.metadata or {}), b"deltasweep_schema": version.encode()}
    return encode(table.replace_schema_metadata(metadata))


def test_a_compacted_file_of_an_older_version_is_read_and_made_again(store: Store) -> None:
    commit(store, KIND, rows(1))
    compact(store, KIND)
    with release(1):
        assert read_trials(store, KIND, ["count"]).to_pylist() == [{"count": 7}] * 2
        assert compact(store, KIND).written
        assert not compact(store, KIND).written
        compacted = read_compacted(store, KIND)
        assert compacted is not None
        assert (compacted.version, compacted.table["count"].to_pylist()) == (version(KIND), [7, 7])
        assert [finding for finding in verify(store) if not finding.problem.harmless] == []


def test_a_compacted_file_of_a_newer_version_is_passed_over_with_a_word(store: Store) -> None:
    """The index is another version's, over results that this version wrote."""
    commit(store, KIND, rows(1))
    with release(1):
        compact(store, KIND)
    with pytest.warns(DamagedIndexWarning, match=f"with version {NOW + 1} of the finetune schema"):
        assert held(read_trials(store, KIND)) == once({1})
    assert compact(store, KIND).written
    assert held(read_trials(store, KIND)) == once({1})


def test_an_older_version_leaves_no_old_rows_in_a_newer_index(store: Store) -> None:
    """It cannot see whether the index contains a trial whose file was removed."""
    commit(store, KIND, rows(1))
    with release(1):
        compact(store, KIND)
    store.delete(trial_key(KIND, trial(1)))
    begin(store)
    commit(store, KIND, rows(1, test_accuracy=75.0))
    with release(1):
        assert set(read_trials(store, KIND)["test_accuracy"].to_pylist()) == {75.0}


def test_a_commit_compares_what_both_versions_have(store: Store) -> None:
    commit(store, KIND, rows(1))
    with release(2):
        assert commit(store, KIND, grown_rows(1, 2)) is Committed.ALREADY_THERE
        again = [{**row, "test_loss": 9.0} for row in grown_rows(1, 2)]
        assert commit(store, KIND, again) is Committed.CONFLICT
        assert commit(store, KIND, grown_rows(2, 2)) is Committed.NEW
        other = [{**row, "count": 9} for row in grown_rows(2, 2)]
        assert commit(store, KIND, other) is Committed.CONFLICT, "of one version, all is compared"
        assert "count" in comparable_columns(KIND)
        assert "count" not in comparable_columns(KIND, 1)


def test_everything_reads_a_root_of_several_versions(tmp_path: Path) -> None:
    root = tmp_path / "root"
    store = LocalStore(root)
    for number in (1, 2):
        commit(store, KIND, rows(number))
    compact(store, KIND)
    with release(1):
        for number in (3, 4):
            commit(store, KIND, grown_rows(number, 1))
        sql = "SELECT seed, count FROM trials ORDER BY seed"
        assert [tuple(row.values()) for row in analysis.query(root, sql).to_pylist()] == [
            (1, 7),
            (2, 7),
            (3, 3),
            (4, 4),
        ]
        assert len(analysis.query(root, "SELECT * FROM evaluations")) == 8
        assert analysis.report(root).is_file()
        assert [finding for finding in verify(store) if not finding.problem.harmless] == []
        assert compact(store, KIND).trials == 4
        assert held(read_trials(open_store(root), KIND)) == once({1, 2, 3, 4})


def test_a_filled_column_of_text_is_encoded_like_any_other() -> None:
    data = encode(pa.Table.from_pylist(rows(1), schema=schema(KIND)))
    with release(2):
        table = decode(data, KIND, "file", ["word", "note", "seed"], encoded=True).table
        assert str(table.schema.field("word").type) == "dictionary<values=string, indices=int32, ordered=0>"
        assert pc.unique(table["word"].cast(pa.string())).to_pylist() == ["none"]


NUMBERS, RELEASES = st.integers(0, 5), st.integers(0, 2)


class Growing(RuleBasedStateMachine):
    """A root shared by machines of several releases, in any order.

    An older launch may still be running on it when a newer one has started. A release at least as new as all results
    has each trial once; an older one refuses and reports the newer version.
    """

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.written: dict[int, int] = {}
        """Number of a trial to the release that committed it."""

    @property
    def newest(self) -> int:
        return max(self.written.values(), default=0)

    @rule(number=NUMBERS, by=RELEASES)
    def commit(self, number: int, by: int) -> None:
        with release(by):
            if self.written.get(number, 0) > by:
                with refused(Code.NEWER_VERSION, trial(number), kind=DamagedFile):
                    commit(self.store, KIND, grown_rows(number, by))
                return
            expected = Committed.ALREADY_THERE if number in self.written else Committed.NEW
            assert commit(self.store, KIND, grown_rows(number, by)) is expected
            self.written.setdefault(number, by)

    @rule(by=RELEASES)
    def compact(self, by: int) -> None:
        with release(by), index_of_any_release():
            if by < self.newest:
                before = self.objects()
                with refused(Code.NEWER_VERSION, kind=DamagedFile):
                    compact(self.store, KIND)
                assert self.objects() == before
                return
            assert compact(self.store, KIND).trials == len(self.written)
            found = read_compacted(self.store, KIND)
            assert found is None or found.version == version(KIND)

    @rule()
    def delete_the_index(self) -> None:
        for key in list(self.store.keys("compact")):
            self.store.delete(key)

    @rule(by=RELEASES, name=st.sampled_from(["seed", "test_loss", "packages"]), encoded=st.booleans())
    def read_a_part(self, by: int, name: str, encoded: bool) -> None:
        names = ["seed", "epoch", name, *(["count"] if by else [])]
        with release(by), index_of_any_release():
            if by >= self.newest:
                found = read_trials(self.store, KIND, list(dict.fromkeys(names)), encoded=encoded)
                assert held(found) == once(set(self.written))

    @invariant()
    def each_trial_is_there_once_with_what_its_release_knew(self) -> None:
        assert done(self.store, KIND) == {trial(number) for number in self.written}
        assert list(self.store.keys("conflicts")) == []
        for by in range(3):
            with release(by), index_of_any_release():
                if by < self.newest:
                    with refused(Code.NEWER_VERSION, kind=DamagedFile):
                        read_trials(self.store, KIND)
                    continue
                table = read_trials(self.store, KIND)
            assert held(table) == once(set(self.written))
            for row in table.to_pylist():
                own = grown_rows(row["seed"], self.written[row["seed"]])[0]
                names = [name for name in ADDED if name in table.column_names]
                assert [row[name] for name in names] == [own.get(name, ADDED[name]) for name in names]

    def objects(self) -> dict[str, bytes]:
        return {key: self.store.read(key) for key in self.store.keys("")}


@contextmanager
def index_of_any_release() -> Iterator[None]:
    """Ignore the warning that a newer index is skipped, which another test covers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedIndexWarning)
        yield


Growing.TestCase.settings = settings(max_examples=20, stateful_step_count=10, deadline=None)
TestGrowing = Growing.TestCase
