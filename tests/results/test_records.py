"""Records of failures: none is lost, also when two drivers fail at the same attempt."""

from jobs.results import Failure, FailureKind, Store, next_attempt, read_failures, record_failure
from jobs.results.layout import log_key

FAILURE = Failure("x-1", 1, FailureKind.ERROR, "ValueError", "no", "here", "launch", "2026-01-01T00:00:00+00:00")


def test_two_failures_of_one_attempt_are_both_kept(any_store: Store) -> None:
    record_failure(any_store, FAILURE, "first log")
    record_failure(any_store, FAILURE._replace(host="there"), "second log")
    assert [(failure.attempt, failure.host) for failure in read_failures(any_store)] == [(1, "here"), (2, "there")]
    assert any_store.read(log_key("x-1", 2)) == b"second log"
    assert next_attempt(any_store, "x-1") == 3
