"""Executing notebooks without leaving files in the user's home."""

from pathlib import Path

import pytest

_VARIABLES = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "MPLCONFIGDIR", "TMPDIR")


def keep_files_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Jupyter, IPython, matplotlib and temporary files use subfolders of a folder."""
    for variable in _VARIABLES:
        made = folder / variable.lower()
        made.mkdir()
        monkeypatch.setenv(variable, str(made))
