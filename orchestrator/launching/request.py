"""What users ask of a launch, on the command line or in Python. Imports neither Ray nor torch."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.planning import gpus

if TYPE_CHECKING:
    from orchestrator.launching.options import Options, Spending

HANG_AFTER_MINUTES = RetryPolicy().hang_after_minutes


class LaunchRequest(NamedTuple):
    """The options of a launch as users give them."""

    address: str | None = None
    max_trials: int | None = None
    retry_quarantined: bool = False
    max_cost: float | None = None
    max_hours: float | None = None
    hang_after: float = HANG_AFTER_MINUTES
    gpu: str | None = None
    """GPU type of the cluster, for ``max_cost`` and the live page. None: for the first, the cluster is asked."""
    price: float | None = None
    accept_numerics: list[str] | None = None
    builders: list[Path] | None = None
    ui: bool = False
    """Whether to serve the live page on this machine."""

    def spending(self) -> "Spending | None":
        """Return the spending limit, or None if there is none.

        Raises:
            InvalidRequest: If the GPU or its price is unknown, or an amount or a price is not above 0.
        """
        from orchestrator.launching.budget import require_amount
        from orchestrator.launching.options import Spending
        from orchestrator.launching.prices import of_gpu

        chosen = gpus.gpu(self.gpu, self.price)
        if self.max_cost is None:
            return None
        require_amount(self.max_cost)
        if self.price is not None:
            return Spending(self.max_cost, chosen.highest)
        return Spending(self.max_cost, None if self.gpu is None else of_gpu(chosen))

    def options(self) -> "Options":
        """Return the options for ``launching.launch``. Raises InvalidRequest if an option is invalid."""
        from orchestrator.launching.budget import require_hours, require_trials
        from orchestrator.launching.options import Options
        from orchestrator.planning.older_numerics import accepted_numerics

        policy = RetryPolicy(hang_after_minutes=self.hang_after)
        if self.max_trials is not None:
            require_trials(self.max_trials)
        if self.max_hours is not None:
            require_hours(self.max_hours, policy.stop_grace_seconds)
        return Options(
            address=self.address,
            max_trials=self.max_trials,
            retry_quarantined=self.retry_quarantined,
            spending=self.spending(),
            accept_numerics=accepted_numerics(self.accept_numerics or ()),
            max_hours=self.max_hours,
            retry_policy=policy,
        )
