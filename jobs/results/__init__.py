"""Results at rest: schema, layout, commit, and the one reader. Imports no torch; everybody uses it."""

from jobs.results.commit import Committed, commit, pin
from jobs.results.failures import Failure, next_attempt, read_failures, record_failure
from jobs.results.reader import done, read_trials
from jobs.results.schema import Role, comparable_columns, schema
from jobs.results.store import LocalStore, Store, open_store, require_writable
from jobs.results.studies import StudyRecord, record_study, recorded_studies

__all__ = [
    "Committed",
    "Failure",
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
    "read_failures",
    "read_trials",
    "record_failure",
    "record_study",
    "recorded_studies",
    "require_writable",
    "schema",
]
