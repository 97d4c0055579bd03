"""The console of code that a notebook or a program runs, rather than a command."""

import logging
import sys
import warnings
from typing import Any

from orchestrator.process.terminal import Terminal


class Notebook(Terminal):
    """A console whose output goes to a notebook, where a line can be replaced."""

    def __init__(self, **options: Any) -> None:
        super().__init__(force_jupyter=False, **options)
        # imported later, Ray and tqdm would advise to install ipywidgets, which nothing here uses
        logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", "IProgress not found")
        self._handle: Any = None

    def replace(self, line: str) -> None:
        """Show a line in the cell's output, in place of the one before."""
        if self.quiet:
            return
        shown = {"text/plain": line}
        if self._handle is None:
            self._handle = sys.modules["IPython"].display.display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


def console(quiet: bool) -> Terminal:
    """Return the console for standard output: that of a notebook, if one runs this code, else of a terminal or file."""
    return Notebook(quiet=quiet) if _in_notebook() else Terminal(quiet=quiet, force_jupyter=False)


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this code. IPython in a terminal has none."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")
