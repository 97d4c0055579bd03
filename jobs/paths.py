"""Local directories with files that trials and reports read: ``$DELTASWEEP_HOME``, by default ``~/.cache/deltasweep``.

For a user without a home directory, the default is a folder in the temporary directory.
"""

import os
import tempfile
from pathlib import Path

VARIABLE = "DELTASWEEP_HOME"
RESULTS_VARIABLE = "DELTASWEEP_RESULTS"
"""Names the results root where a user gives none."""


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


def temporary_home() -> Path:
    """Return this user's folder in the temporary directory, which somebody else may have made."""
    return Path(tempfile.gettempdir()) / f"deltasweep-{os.getuid()}"


def _home() -> Path:
    try:
        return Path(os.environ.get(VARIABLE, "~/.cache/deltasweep")).expanduser()
    except RuntimeError:  # a user without a home directory, as in many containers
        return temporary_home()
