"""What a study needs: work, time, money, memory and disk."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deltasweep import html
from deltasweep.roots import Root, known_root, open_root
from jobs.system.given import number

if TYPE_CHECKING:
    from deltasweep.models import StudyOrName
    from orchestrator.planning.study_plan import StudyPlan


class Plan:
    """The size and cost of a study. Work, time and money are those of the pending trials, memory that of all."""

    def __init__(self, made: "StudyPlan") -> None:
        self._made = made

    @property
    def study(self) -> str:
        """The study's name."""
        return self._made.plan.study

    @property
    def trials(self) -> int:
        """The number of the study's trials."""
        return self._made.plan.trials

    @property
    def done(self) -> int:
        """How many of them are done in the results root."""
        return self._made.plan.done

    @property
    def pending(self) -> int:
        """How many a launch would run."""
        return self._made.plan.pending

    @property
    def operations(self) -> float:
        """Floating-point operations."""
        return self._made.plan.flops.total

    @property
    def hours(self) -> float:
        """Hours of one GPU; of this machine's processor where ``measure`` timed it, because there is no GPU."""
        return self._made.plan.gpu_hours

    @property
    def seconds_here(self) -> float | None:
        """Seconds until a launch on this machine ends; None unless ``measure`` timed its processor. Starting Ray,
        reading images, inverting matrices and conjugate gradients are not counted.
        """
        return self._made.plan.seconds_here

    @property
    def dollars(self) -> float | None:
        """US dollars at the on-demand price; None if no price is known, or the hours are a processor's."""
        return self._made.plan.on_demand

    @property
    def spot_dollars(self) -> float | None:
        """US dollars at the spot price, without the work lost to preemptions; None as for ``dollars``."""
        return self._made.plan.spot

    @property
    def memory(self) -> float:
        """Bytes of GPU memory that the largest trial (or bundle) needs."""
        return self._made.plan.memory

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as ``deltasweep plan --json`` prints it: bytes, hours, US dollars, operations."""
        return {**self._made.plan.plain(), "about_processor": self._made.about_processor}

    def __repr__(self) -> str:
        return self._made.text

    def _repr_html_(self) -> str:
        head, *lines = self._made.lines
        named = [(name, rest) for name, colon, rest in (line.partition(": ") for line in lines) if colon]
        others = [line for line in lines if ": " not in line]
        return html.block(
            html.paragraph(head, bold=True), html.facts(named), *map(html.remark, [*others, *self._made.remarks])
        )


def plan(
    study: "StudyOrName",
    results: Root = None,
    *,
    gpu: str | None = None,
    price: float | None = None,
    measure: bool = False,
    accept_numerics: Sequence[str] = (),
) -> Plan:
    """Estimate the work, time, money, memory and disk that a study needs, as ``deltasweep plan`` does.

    Args:
        study: a study, the name of a packaged one, or the path of a study file.
        results: a results root, whose finished trials are not counted as work; by default ``$DELTASWEEP_RESULTS``, if
            it is set.
        gpu: GPU type for estimates; by default A10G, or the GPU of this machine if ``measure`` times its steps.
        price: US dollars per GPU-hour; by default a list price.
        measure: time real training steps on this machine, on its processor if it has no GPU.
        accept_numerics: ``[KIND:]N``: count results of older numerics versions as done, from N on.

    Raises:
        InvalidRequest: if the study has mistakes, or an option is wrong.
        ResultsConflict: if a name of the study stands for something else in the root.
    """
    from deltasweep.models import model_of
    from orchestrator.planning.gpu_request import GpuRequest
    from orchestrator.planning.older_numerics import accepted_numerics
    from orchestrator.planning.study_plan import plan_study

    request = GpuRequest(gpu, None, None, None, number(price, "--price"), None, None, measure)
    accept = accepted_numerics(accept_numerics)
    root = known_root(results)
    return Plan(plan_study(model_of(study), open_root(root) if root else None, request, accept))
