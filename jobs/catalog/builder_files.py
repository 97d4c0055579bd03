"""Builder files: a user's own Python files with functions that build networks. No torch; nothing is executed here.

The card of an architecture names one as ``FILE.py:FUNCTION``, without its folder. Its code runs only if its user names
the file on the command line (``--builder``): the text then travels with the ``Catalog``, never in a study or a root.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from jobs.errors import Code, InvalidRequest
from jobs.paths import expanded
from jobs.system.files import FileTooLarge, NotAFile, read_file

MOST_BYTES = 100_000
"""Largest size of a builder file, which is part of the configuration of every actor."""
_BUILDER = re.compile(r"(?P<file>[A-Za-z0-9_][A-Za-z0-9_.-]*\.py):(?P<function>[^\W\d]\w*)")


def file_and_function(builder: str) -> tuple[str, str] | None:
    """Return the name of the builder file and of its function; None if the builder is not one of a file."""
    match = _BUILDER.fullmatch(builder)
    return (match["file"], match["function"]) if match else None


def sha256_of(text: str) -> str:
    """Return the sha256 of a builder file with this text."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_builders(paths: Iterable[Path]) -> dict[str, str]:
    """Read builder files: their texts, by file name.

    Raises:
        InvalidRequest: if one is not a Python file in UTF-8, or two have the same name.
    """
    found: dict[str, str] = {}
    for path in (expanded(path, "--builder") for path in paths):
        if file_and_function(f"{path.name}:f") is None:
            raise InvalidRequest(
                Code.WRONG_NAME,
                "expected a Python file with a name of letters, digits, '.', '_' and '-' that ends in .py; got "
                f"{path}. Fix: rename it",
                file=path,
                key="--builder",
            )
        text = _text(path)
        if found.setdefault(path.name, text) != text:
            raise InvalidRequest(
                Code.REPEATED,
                f"expected builder files with different names; got another {path.name}. Fix: rename one of them",
                file=path,
                key="--builder",
            )
    return found


def _text(path: Path) -> str:
    try:
        return read_file(path, MOST_BYTES).decode("utf-8")
    except FileNotFoundError as error:
        raise InvalidRequest(
            Code.NO_SUCH_FILE, f"there is no builder file {path}. Fix: correct the path", file=path, key="--builder"
        ) from error
    except (OSError, NotAFile, FileTooLarge, UnicodeDecodeError) as error:
        raise InvalidRequest(
            Code.UNREADABLE_FILE, f"expected a Python file in UTF-8; {path}: {error}", file=path, key="--builder"
        ) from error
