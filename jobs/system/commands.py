"""Commands of this program in messages, as they can be pasted into a shell. No torch."""

import shlex

from jobs.system.printable import one_line


def command(*arguments: object) -> str:
    """Return a command line of ``deltasweep`` for a reader, on one line.

    Arguments are quoted where a shell would take them apart or run a part of them; names and paths may come from
    strangers. Placeholders in capitals, such as STUDY, need no quotes.
    """
    return one_line(shlex.join(["deltasweep", *map(str, arguments)]))
