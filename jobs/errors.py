"""The exceptions that DeltaSweep raises on purpose.

::

    DeltaSweepError                 anything below; the command line prints its message and exits with 2
    ├── InvalidRequest (ValueError) what the user asked for cannot be: the rule, the value, the remedy
    ├── MissingData                 a file the request needs is not on this machine
    ├── DamagedFile                 a file is there but is not what its name promises
    ├── ResultsConflict             the results root already holds something that contradicts this
    └── StorageFailure (OSError)    a results root or this machine's disk cannot be read or written: full, refused

Everything else that escapes is a bug and keeps its traceback.
"""


class DeltaSweepError(Exception):
    """Base of all expected errors; the message is written for the person at the terminal."""


class InvalidRequest(DeltaSweepError, ValueError):
    """A value breaks a rule. The message gives the rule, the value received and the remedy."""


class MissingData(DeltaSweepError):
    """Weights or images are needed that are not on this machine. The message says how to get them."""


class DamagedFile(DeltaSweepError):
    """A file cannot be read as what it should be. The message names its path and what to do."""


class ResultsConflict(DeltaSweepError):
    """The results root pins something else under the same name (a digest, a trial id)."""


class StorageFailure(DeltaSweepError, OSError):
    """The storage below a results root, or this machine's disk, refuses or does not answer.

    What stood there stands; nothing is half written.

    An OSError, because it is the machine's fault and not the trial's: the same call may succeed later.
    """
