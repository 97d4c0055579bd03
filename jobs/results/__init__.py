"""Results at rest: schema, layout, commit, and the one reader. Imports no torch; everybody uses it."""

from jobs.results.commit import Committed, commit, pin
from jobs.results.reader import done, read_trials
from jobs.results.schema import Role, comparable_columns, schema
from jobs.results.store import LocalStore, Store, open_store, require_writable
from jobs.results.studies import StudyRecord, record_study, recorded_studies

__all__ = [
    "Committed",
    "LocalStore",
    "Role",
    "Store",
    "StudyRecord",
    "commit",
    "comparable_columns",
    "done",
    "open_store",
    "pin",
    "read_trials",
    "record_study",
    "recorded_studies",
    "require_writable",
    "schema",
]
