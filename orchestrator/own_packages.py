"""Whether Python finds DeltaSweep's own packages, or files of the user's with the same names.

``deltasweep`` loads this module by its path, before it knows that the name ``orchestrator`` leads here: only the
standard library is imported.
"""

from importlib.util import find_spec
from pathlib import Path

_NAMES = ("orchestrator", "jobs", "analysis")


def other_package() -> str | None:
    """Return a message about the first file or folder of the user's that is imported instead of one of our packages.

    Nothing of it is executed. None: there is no such file.
    """
    for name in _NAMES:
        spec = find_spec(name)
        found = None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), None)
        if found is None or not _is_own(Path(found), name):
            return (
                f"expected DeltaSweep's own package {name}; {found or 'nothing'} is found instead. Fix: rename it, run "
                "Python in another folder, or take its folder out of PYTHONPATH"
            )
    return None


def _is_own(found: Path, name: str) -> bool:
    own = Path(__file__).parents[1] / name / "__init__.py"
    return found.exists() and found.samefile(own)
