"""The failed attempts of a root, the latest first, and the log of one of them."""

from typing import NamedTuple

from jobs.errors import DamagedFile
from jobs.results import Failure, Store
from jobs.results.layout import log_key
from jobs.system.printable import one_line, printable
from orchestrator.live.contents import Contents
from orchestrator.live.studies import Standing

_MOST_LOG = 1 << 20
_SHOWN_LOG = 200_000
"""Characters: the end of a longer log."""
_SHOWN = 200


class Shown(NamedTuple):
    """A failed attempt."""

    key: str
    """Stands for it in addresses."""
    failure: Failure
    words: str
    """Error and reason on one line."""
    after: str
    """What became of its trial: done, running, quarantined, or waiting for a retry; empty: of another study."""


class Log(NamedTuple):
    shown: Shown
    text: str
    follows: bool
    """Whether it is the latest failure's, whichever that is."""


class Failures(NamedTuple):
    total: int
    shown: list[Shown]
    """The latest first."""
    log: Log | None


_WORDS = {"failed": "waits for a retry", "pending": "waits", "quarantined": "quarantined"}


def failures_of(
    store: Store, contents: Contents, now: Standing | None, asked: str = "", *, with_log: bool = False
) -> Failures:
    """Return the failed attempts, and the log of one.

    Args:
        now: the states of a study's trials; only its failures are returned. None: all failures.
        asked: key of the failure whose log is read; empty: the latest.

    Raises:
        LookupError: for an unknown key.
    """
    done, running = contents.results, contents.in_flight
    own = [failure for failure in reversed(contents.failures) if now is None or now.state_of(failure.trial_id)]

    def after(trial: str) -> str:
        if trial in done:
            return "done since"
        if trial in running:
            return "running again"
        state = now.state_of(trial) if now is not None else ""
        return _WORDS.get(state, state)

    shown = [_shown(failure, after(failure.trial_id)) for failure in own[:_SHOWN]]
    log = None
    if asked:
        chosen = next((failure for failure in own if _key(failure) == asked), None)
        if chosen is None:
            raise LookupError("this results root has no such failure")
        log = Log(_shown(chosen, after(chosen.trial_id)), read_log(store, chosen), follows=False)
    elif with_log and shown:
        log = Log(shown[0], read_log(store, own[0]), follows=True)
    return Failures(len(own), shown, log)


def _key(failure: Failure) -> str:
    return f"{failure.trial_id}/{failure.attempt}"


def _shown(failure: Failure, after: str) -> Shown:
    return Shown(_key(failure), failure, one_line(f"{failure.error}: {failure.reason}"), after)


def read_log(store: Store, failure: Failure) -> str:
    """Return the end of an attempt's log, printable."""
    try:
        text = store.read_within(log_key(failure.trial_id, failure.attempt), _MOST_LOG).decode(errors="replace")
    except FileNotFoundError:
        return "(its log is not in the root)"
    except DamagedFile as error:
        return f"({error})"
    return printable(text[-_SHOWN_LOG:])
