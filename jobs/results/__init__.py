"""Results at rest: schema, layout, commit, and the one reader. Imports no torch; everybody uses it."""

from jobs.results.commit import Committed, commit, pin, require_pin
from jobs.results.failures import Failure, FailureKind, next_attempt, quarantined, read_failures, record_failure
from jobs.results.launches import Launch, read_launches, write_launch
from jobs.results.reader import done, read_trials
from jobs.results.schema import Role, comparable_columns, schema
from jobs.results.store import LocalStore, Store, open_store, require_writable
from jobs.results.studies import StudyRecord, record_study, recorded_studies

__all__ = [
    "Committed",
    "Failure",
    "FailureKind",
    "Launch",
    "LocalStore",
    "Role",
    "Store",
    "StudyRecord",
    "commit",
    "comparable_columns",
    "done",
    "next_attempt",
    "open_store",
    "pin",
    "quarantined",
    "read_failures",
    "read_launches",
    "read_trials",
    "record_failure",
    "record_study",
    "recorded_studies",
    "require_pin",
    "require_writable",
    "schema",
    "write_launch",
]
