"""Plan, launch and analyse studies from Python: scripts, threads and notebooks.

::

    import deltasweep as ds

    study = ds.Study("first.yaml")
    study.plan()
    ds.launch(study, "results")
    ds.deltas("results")

Everything here is what the command ``deltasweep`` does, under the same words. ``results`` is a results root: a
directory, or an ``s3://`` or ``gs://`` prefix; by default ``$DELTASWEEP_RESULTS``. Each name loads its module on first
use, so that the import is cheap.
"""

from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltasweep.figures import Figure, figure
    from deltasweep.launches import Launched, launch
    from deltasweep.plans import Plan, plan
    from deltasweep.studies import Study
    from deltasweep.tables import Table, deltas, query
    from deltasweep.trials import Status, status
    from jobs.errors import (
        DamagedFile,
        DeltaSweepError,
        InvalidRequest,
        MissingData,
        ResultsConflict,
        RootGone,
        StorageFailure,
    )

_HOMES = {
    "deltasweep.studies": ("Study",),
    "deltasweep.plans": ("Plan", "plan"),
    "deltasweep.launches": ("Launched", "launch"),
    "deltasweep.trials": ("Status", "status"),
    "deltasweep.tables": ("Table", "deltas", "query"),
    "deltasweep.figures": ("Figure", "figure"),
    "jobs.errors": (
        "DamagedFile",
        "DeltaSweepError",
        "InvalidRequest",
        "MissingData",
        "ResultsConflict",
        "RootGone",
        "StorageFailure",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DamagedFile",
    "DeltaSweepError",
    "Figure",
    "InvalidRequest",
    "Launched",
    "MissingData",
    "Plan",
    "ResultsConflict",
    "RootGone",
    "Status",
    "StorageFailure",
    "Study",
    "Table",
    "deltas",
    "figure",
    "launch",
    "plan",
    "query",
    "status",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = getattr(import_module(_HOME[name]), name)
    return globals()[name]


def __dir__() -> list[str]:
    return __all__


def _require_own_packages() -> None:
    """Raise ImportError, naming the file, if a file of the user's would be imported instead of one of our packages."""
    # by its path, because the name orchestrator may lead to the user's file
    spec = spec_from_file_location(
        "deltasweep.own_packages", Path(__file__).parents[1] / "orchestrator" / "own_packages.py"
    )
    assert spec is not None
    assert spec.loader is not None
    check = module_from_spec(spec)
    spec.loader.exec_module(check)
    if message := check.other_package():
        raise ImportError(f"deltasweep: {message}")


_require_own_packages()
