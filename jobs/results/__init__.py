"""The results root: schema, layout, commit and reading of results. Used by all packages; no torch."""

from jobs.kind import kinds
from jobs.results.commit import Committed, commit
from jobs.results.compaction import Compaction, compact
from jobs.results.failures import Failure, FailureKind, next_attempt, quarantined, read_failures, record_failure
from jobs.results.launches import Launch, read_launches, readable_launches, write_launch
from jobs.results.local_store import LocalStore
from jobs.results.merge import Merged, merge
from jobs.results.mixed import mixed_trials
from jobs.results.opening import begin, open_existing, open_store, require_root, root_exists
from jobs.results.pins import pin, pinned, require_pin
from jobs.results.problems import Finding, Problem
from jobs.results.reader import (
    DamagedIndexWarning,
    all_done,
    damaged,
    done,
    read_trials,
    uncovered,
    unknown_kinds,
    with_weights,
)
from jobs.results.root_record import require_layout
from jobs.results.schema import comparable_columns, schema
from jobs.results.store import Store
from jobs.results.studies import StudyRecord, readable_studies, record_study, recorded_studies
from jobs.specs.columns import Role

__all__ = [
    "Committed",
    "Compaction",
    "DamagedIndexWarning",
    "Failure",
    "FailureKind",
    "Finding",
    "Launch",
    "LocalStore",
    "Merged",
    "Problem",
    "Role",
    "Store",
    "StudyRecord",
    "all_done",
    "begin",
    "commit",
    "compact",
    "comparable_columns",
    "damaged",
    "done",
    "kinds",
    "merge",
    "mixed_trials",
    "next_attempt",
    "open_existing",
    "open_store",
    "pin",
    "pinned",
    "quarantined",
    "read_failures",
    "read_launches",
    "read_trials",
    "readable_launches",
    "readable_studies",
    "record_failure",
    "record_study",
    "recorded_studies",
    "require_layout",
    "require_pin",
    "require_root",
    "root_exists",
    "schema",
    "uncovered",
    "unknown_kinds",
    "with_weights",
    "write_launch",
]
