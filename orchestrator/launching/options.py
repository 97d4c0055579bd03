"""Options of a launch. None of them changes a result."""

from collections.abc import Callable
from typing import NamedTuple

from jobs.specs.trial import Numerics
from jobs.system.commands import command
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.planning.gpus import Offer
from orchestrator.planning.older_numerics import NONE_OLDER


class Spending(NamedTuple):
    """Spending limit of a launch, in US dollars."""

    most: float
    price: Offer | None
    """Per hour of one GPU of the cluster, or of one machine if it has no GPUs. None: that of the cluster's GPUs
    (``prices.of_cluster``).
    """


class Options(NamedTuple):
    """Options of a launch besides its study and results root."""

    address: str | None = None
    """Address of a Ray cluster. If None, Ray is started on this machine and stopped afterwards."""
    max_trials: int | None = None
    """Maximum number of pending trials to run."""
    retry_quarantined: bool = False
    spending: Spending | None = None
    accept_numerics: Numerics = NONE_OLDER
    """The oldest numerics versions whose results count as done (``older_numerics``)."""
    max_hours: float | None = None
    """Time limit in hours, including the minute in which trials save and exit."""
    retry_policy: RetryPolicy = RetryPolicy()
    live_page: Callable[[], str] | None = None
    """Returns where the live page of the root is, which exists by then. If None, the command that serves it."""


def page_command(root: str) -> str:
    """Return the command that serves the live page of a results root."""
    return command("ui", "--results", root)
