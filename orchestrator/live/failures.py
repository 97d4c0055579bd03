"""The failed attempts of a root, the latest first, and the log of one of them."""

from collections.abc import Callable
from typing import NamedTuple

from jobs.results import Failure
from jobs.system.printable import one_line
from orchestrator.live.contents import Contents
from orchestrator.live.objects import Reading
from orchestrator.planning.trial_logs import failed_attempt

_SHOWN = 200


class Shown(NamedTuple):
    """A failed attempt."""

    key: str
    """Stands for it in addresses."""
    failure: Failure
    words: str
    """Error and reason on one line."""
    after: str
    """What became of its trial: done, running, quarantined, or waiting for a retry; empty: unknown."""


class Log(NamedTuple):
    shown: Shown
    text: str
    follows: bool
    """Whether it is the latest failure's, whichever that is."""


class Failures(NamedTuple):
    total: int
    shown: list[Shown]
    """The latest first."""
    log: Log | None = None


_WORDS = {"done": "done since", "running": "running again", "failed": "waits for a retry", "pending": "waits"}
"""By the state of the trial; the other states say enough."""


def failures_of(contents: Contents, state_of: Callable[[str], str], *, known: bool = False) -> Failures:
    """Return the failed attempts.

    Args:
        state_of: returns the state of a trial; empty: unknown.
        known: whether attempts at trials of unknown state are left out.
    """
    own = [failure for failure in reversed(contents.failures) if not known or state_of(failure.trial_id)]
    return Failures(len(own), [_shown(failure, state_of) for failure in own[:_SHOWN]])


def log_of(contents: Contents, state_of: Callable[[str], str], asked: str, read: Reading) -> Log | None:
    """Return the log of a failed attempt; None: there is none.

    Args:
        state_of: as in ``failures_of``.
        asked: key of the attempt; empty: the latest.

    Raises:
        LookupError: for an unknown key.
    """
    for failure in reversed(contents.failures):
        if asked in ("", _key(failure)):
            return Log(_shown(failure, state_of), text_of(failure, read), follows=not asked)
    if asked:
        raise LookupError("this results root has no such failure")
    return None


def words_of(failure: Failure) -> str:
    """Return error and reason on one line."""
    return one_line(failure.signature)


def text_of(failure: Failure, read: Reading) -> str:
    """Return what a failed attempt printed, and its log."""
    return failed_attempt(failure, lambda key: read.text(key, failure.failed_at)).body


def _key(failure: Failure) -> str:
    return f"{failure.trial_id}/{failure.attempt}"


def _shown(failure: Failure, state_of: Callable[[str], str]) -> Shown:
    state = state_of(failure.trial_id)
    return Shown(_key(failure), failure, words_of(failure), _WORDS.get(state, state))
