"""From an exception to the failure record of a trial."""

import socket
import traceback
from datetime import UTC, datetime

from jobs.records import Attempt
from jobs.results import Failure, Store, record_failure
from jobs.specs import TrialSpec


def record(store: Store, spec: TrialSpec, attempt: Attempt, error: BaseException) -> None:
    """Keep why an attempt failed, with its traceback as the log."""
    failure = Failure(
        trial_id=spec.trial_id,
        attempt=attempt.number,
        error=type(error).__name__,
        reason=str(error),
        host=socket.gethostname(),
        launch=attempt.launch,
        failed_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    record_failure(store, failure, "".join(traceback.format_exception(error)))
