"""Local directories with files that trials and reports read: ``$DELTASWEEP_HOME``, by default ``~/.cache/deltasweep``.

For a user without a home directory, the default is a folder in the temporary directory.
"""

import os
import tempfile
from pathlib import Path

from jobs.errors import Code, InvalidRequest

VARIABLE = "DELTASWEEP_HOME"
RESULTS_VARIABLE = "DELTASWEEP_RESULTS"
"""Names the results root where a user gives none."""


def expanded(path: str | Path, key: str = "") -> Path:
    """Return a path with its leading ``~`` expanded, as shells do unless it is quoted or follows ``--option=``.

    Args:
        key: the option or environment variable that gives the path.

    Raises:
        InvalidRequest: if this machine has no such user, or the user has no home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InvalidRequest(
            Code.WRONG_PLACE,
            f"expected the home directory of a user of this machine; got {path} ({error}). Fix: write the full path",
            file=path,
            key=key,
        ) from error


def require_utf8(path: Path) -> None:
    """Refuse a path that is not valid UTF-8, since no study file or record can contain it.

    Raises:
        InvalidRequest: if it is not; its message shows the other bytes escaped.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        told = str(path).encode(errors="surrogateescape").decode(errors="backslashreplace")
        raise InvalidRequest(
            Code.WRONG_PLACE, f"expected a path in UTF-8; got {told}. Fix: rename the folder", file=told
        ) from None


def data_directory() -> Path:
    """Return the directory of datasets, with one subdirectory per dataset."""
    return _home() / "data"


def weights_directory() -> Path:
    """Return the directory of source models that are not part of the package, as ``NAME.safetensors``."""
    return _home() / "weights"


def activations_directory() -> Path:
    """Return the directory of cached activations of frozen trunks (``jobs.kinds.finetune.activation_cache``)."""
    return _home() / "activations"


def live_directory() -> Path:
    """Return the directory that says which live pages this machine serves, where this user can write it
    (``orchestrator.live.own_folder``).
    """
    return _home() / "live"


def make_home_absolute() -> None:
    """Make ``$DELTASWEEP_HOME`` absolute in this process's environment, since actors inherit it and run elsewhere."""
    if home := os.environ.get(VARIABLE, "").strip():
        os.environ[VARIABLE] = str(expanded(home, VARIABLE).absolute())


def temporary_home() -> Path:
    """Return this user's folder in the temporary directory, which somebody else may have made."""
    return Path(tempfile.gettempdir()) / f"deltasweep-{os.getuid()}"


def _home() -> Path:
    if home := os.environ.get(VARIABLE, "").strip():
        return expanded(home, VARIABLE)
    try:
        return Path("~/.cache/deltasweep").expanduser()
    except RuntimeError:  # a user without a home directory, as in many containers
        return temporary_home()
