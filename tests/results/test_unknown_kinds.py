"""Results of kinds that no installed package adds are reported and kept, and do not affect the rest of the root."""

import hashlib

import pytest

from jobs.results import Finding, Problem, Store, all_done, unknown_kinds
from jobs.verification.verify import verify

RESULT = "trials/probe/ab/probe-x-ab00000000000000.parquet"
STUDY = """
name: mine
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
"""


def found(store: Store) -> list[tuple[Problem, str]]:
    return [(finding.problem, finding.key) for finding in verify(store)]


def test_results_are_counted_by_kind(store: Store) -> None:
    store.create(RESULT, b"anything")
    store.create(RESULT.replace("ab", "ac"), b"anything")
    assert unknown_kinds(store) == {"probe": 2}
    assert all_done(store) == set()


def test_results_are_one_thing_to_know(store: Store) -> None:
    store.create(RESULT, b"anything")
    store.create(RESULT.replace("ab", "ac"), b"anything")
    (finding,) = verify(store)
    assert (finding.problem, finding.key, finding.problem.harmless) == (Problem.UNKNOWN_KIND, "trials/probe", True)
    assert "2 results of the kind 'probe'" in finding.advice


@pytest.mark.parametrize(
    "key",
    [
        "trials/probe/notes.txt",
        "trials/probe/ab/probe-x-cd00000000000000.parquet",
        "trials/Probe/ab/probe-x-ab00000000000000.parquet",
        "trials/probe-x-ab00000000000000.parquet",
    ],
)
def test_what_is_no_result_of_any_kind_is_foreign(store: Store, key: str) -> None:
    store.create(key, b"anything")
    assert unknown_kinds(store) == {}
    assert found(store) == [(Problem.FOREIGN, key)]


def test_a_study_with_a_section_of_one_is_no_damaged_record(store: Store) -> None:
    key = "studies/mine/0123456789abcdef.yaml"
    store.create(key, f"{STUDY}probe: {{depth: 3}}\n".encode())
    (finding,) = verify(store)
    assert (finding.problem, finding.key) == (Problem.UNKNOWN_KIND, key)
    assert "(probe)" in finding.advice


@pytest.mark.parametrize("more", ["bundle: [no]\n", "probe: {depth: 3}\nbundle: [no]\n", "probe: 3\nbundle: [no]\n"])
def test_one_that_is_wrong_besides_is_a_damaged_record(store: Store, more: str) -> None:
    key = "studies/mine/0123456789abcdef.yaml"
    store.create(key, f"{STUDY}{more}".encode())
    assert found(store) == [(Problem.UNREADABLE_RECORD, key)]


@pytest.mark.parametrize(
    "more", ["probe: 3\n", "Probe: {depth: 3}\n", "contrasts: [{source: a, baseline: b, blocks: [0], probe: 3}]\n"]
)
def test_keys_that_are_no_sections_are_those_of_a_newer_version(store: Store, more: str) -> None:
    key = "studies/mine/0123456789abcdef.yaml"
    store.create(key, f"{STUDY}{more}".encode())
    (finding,) = verify(store)
    assert (finding.problem, finding.key) == (Problem.WRONG_VERSION, key)
    assert "remove" not in finding.advice, "nothing is wrong with it"
    assert "Fix: install that version, or a later one" in finding.advice


def test_what_was_kept_of_a_conflict_is_a_conflict(store: Store) -> None:
    digest = hashlib.sha256(b"other").hexdigest()[:16]
    key = f"conflicts/probe/probe-x-ab00000000000000/{digest}.parquet"
    store.create(key, b"other")
    findings: list[Finding] = verify(store)
    assert [(finding.problem, finding.key) for finding in findings] == [(Problem.CONFLICT, key)]
