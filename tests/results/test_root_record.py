"""The root record: written with the first file in a root; a newer version's layout is refused with its version."""

import json
from pathlib import Path

import pytest

import analysis
from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.provenance import code_version
from jobs.results import Store, begin, commit, open_store, pin, require_layout, root_record
from jobs.results.root_record import KEY, LAYOUT, read_root
from tests.results.support import KIND, rows
from tests.support import refused

NEWER = json.dumps({"layout": LAYOUT + 1, "made_by": "9.8.7", "made_at": "2030-01-01T00:00:00+00:00"}).encode()


def test_an_empty_root_says_who_made_it(any_store: Store) -> None:
    assert read_root(any_store) is None
    begin(any_store)
    found = read_root(any_store)
    assert found is not None
    assert (found.layout, found.made_by) == (LAYOUT, code_version())
    begin(any_store)
    assert read_root(any_store) == found


def test_a_root_that_another_version_made_is_left_as_it_is(any_store: Store) -> None:
    """A root without a record was written by 0.1.0."""
    commit(any_store, KIND, rows(1))
    begin(any_store)
    assert read_root(any_store) is None


def test_what_is_no_part_of_a_root_is_not_looked_at(tmp_path: Path) -> None:
    for name in (".DS_Store", "README.md", "_tmp/left", "report/index.html", "compact/CURRENT.json", "lost+found/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    store = open_store(tmp_path)
    begin(store)
    assert read_root(store) is not None


@pytest.mark.parametrize("more", [{"features": ["x"]}, {"made_at": None}, {"made_by": 3}])
def test_a_newer_record_may_say_anything_else(more: dict[str, object], any_store: Store) -> None:
    any_store.create(KEY, json.dumps({"layout": LAYOUT + 1, "made_by": "9.8.7", **more}).encode())
    with refused(Code.NEWER_VERSION, f"version {LAYOUT + 1}", kind=InvalidRequest):
        begin(any_store)


@pytest.mark.parametrize("made", [True, False])
def test_a_version_that_changes_the_layout_says_so_in_roots_that_are_there(
    made: bool, any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From then on older versions refuse these roots."""
    if made:
        begin(any_store)
    commit(any_store, KIND, rows(1))
    monkeypatch.setattr(root_record, "LAYOUT", LAYOUT + 1)
    begin(any_store)
    monkeypatch.undo()
    by = code_version() if made else "0.1.0"
    with refused(Code.NEWER_VERSION, f"DeltaSweep {by}", kind=InvalidRequest):
        require_layout(any_store)


def test_a_newer_layout_is_refused_by_name_and_nothing_is_written(any_store: Store) -> None:
    any_store.create(KEY, NEWER)
    before = sorted(any_store.keys(""))
    for refuses in (require_layout, begin):
        values = (any_store.uri, "DeltaSweep 9.8.7", f"version {LAYOUT + 1}", f"DeltaSweep {code_version()}")
        with refused(Code.NEWER_VERSION, *values, kind=InvalidRequest, file=any_store.uri):
            refuses(any_store)
    assert sorted(any_store.keys("")) == before


def test_analysis_refuses_a_newer_layout(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, KIND, rows(1))
    store.create(KEY, NEWER)
    for asks in (
        lambda: analysis.query(tmp_path, "SELECT 1"),
        lambda: analysis.deltas(tmp_path),
        lambda: analysis.report(tmp_path),
    ):
        with refused(Code.NEWER_VERSION, "9.8.7", kind=InvalidRequest, file=store.uri):
            asks()


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"layout": "1", "made_by": "x", "made_at": "y"}', b'{"layout": 0}', b"\xff"]
)
def test_a_record_that_cannot_be_read(text: bytes, any_store: Store) -> None:
    any_store.create(KEY, text)
    file = f"{any_store.uri}/{KEY}"
    with refused(Code.DAMAGED_RECORD, file, kind=DamagedFile, file=file):
        begin(any_store)


def test_a_commit_alone_makes_no_record(store: Store) -> None:
    """Only a launch writes the record; an actor only commits its result."""
    pin(store, "datasets", "digits", "0" * 64)
    assert read_root(store) is None
