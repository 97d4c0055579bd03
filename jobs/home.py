"""Where a machine keeps what trials and reports read: ``$DELTASWEEP_HOME``, by default ``~/.cache/deltasweep``.

For a user without a home directory, a folder of the temporary directory.
"""

import os
import tempfile
from pathlib import Path

VARIABLE = "DELTASWEEP_HOME"


def data_directory() -> Path:
    """One subdirectory a dataset."""
    return _home() / "data"


def weights_directory() -> Path:
    """Source models that are not part of the package, ``NAME.safetensors``."""
    return _home() / "weights"


def activations_directory() -> Path:
    """What frozen trunks make of whole sets of images (``jobs.activations``)."""
    return _home() / "activations"


def scripts_directory() -> Path:
    """What the pages of reports run (``analysis.page.scripts``)."""
    return _home() / "scripts"


def _home() -> Path:
    try:
        return Path(os.environ.get(VARIABLE, "~/.cache/deltasweep")).expanduser()
    except RuntimeError:  # a user without a home directory, as in many containers
        return Path(tempfile.gettempdir()) / f"deltasweep-{os.getuid()}"
