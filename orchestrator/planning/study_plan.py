"""The plan of a study in a results root, with everything that is said beside its numbers. No torch, unless measured."""

from typing import NamedTuple

from jobs.possible import require_all_possible
from jobs.results import Store, quarantined, read_failures
from jobs.specs.trial import Numerics
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.failures.retry_policy import RetryPolicy
from orchestrator.planning.compare import on_a_gpu
from orchestrator.planning.dependencies import Completion, completion_of
from orchestrator.planning.gpu_request import GpuRequest
from orchestrator.planning.older_numerics import NONE_OLDER
from orchestrator.planning.plan import Plan, make_plan
from orchestrator.planning.plan_text import describe
from orchestrator.study.earlier import Earlier, earlier_versions
from orchestrator.study.name_conflicts import require_same_names
from orchestrator.study.own_images import changed_own_images
from orchestrator.study.own_weights import absent_own_weights


class StudyPlan(NamedTuple):
    """A plan and its text."""

    plan: Plan
    lines: list[str]
    """The plan for a reader."""
    about: list[str]
    """Remarks on trials in the results root and on files."""
    about_processor: list[str]
    """Remarks on this machine's processor."""

    @property
    def remarks(self) -> list[str]:
        return [*self.about, *self.about_processor]

    @property
    def text(self) -> str:
        return "\n".join([*self.lines, *self.remarks])


def plan_study(study: Study, store: Store | None, request: GpuRequest, accept: Numerics = NONE_OLDER) -> StudyPlan:
    """Plan a study: what a launch would run, and its cost.

    Args:
        store: The results root whose finished trials need not run; None: all trials run.
        accept: The oldest numerics whose results count as done (``accepted_numerics``).

    Raises:
        InvalidRequest: If a trial cannot exist, or the options about GPUs are invalid.
        ResultsConflict: If a source or dataset name of the study refers to something else in the root.
    """
    offer = request.chosen()
    known, blocked, earlier = Completion(set(), {}), set[str](), Earlier()
    specs = expand(study)
    require_all_possible(specs, study.catalog)
    if store is not None:
        require_same_names(study, store)
        by_id = {spec.trial_id: spec for spec in specs}
        known, earlier = completion_of(store, by_id, accept), earlier_versions(store, study, by_id)
        blocked = quarantined(read_failures(store), RetryPolicy.quarantine_after)
    pending = [spec for spec in specs if spec.trial_id not in known.done]
    measured = None
    if pending and request.measures(pending, study.catalog):
        from orchestrator.planning.profile import profile_trials

        measured = profile_trials(pending, study.catalog)
        if measured.gpu is not None:
            offer = request.measured_on(measured.gpu)
    made = make_plan(study, specs, known.done, blocked, offer, measured, known.older, known.damaged, earlier.trials)
    about_here = on_a_gpu(made) if made.on_processor else request.about_time_here() if pending else None
    of_processor = request.about_processor(pending, study.catalog)
    of_files = [*absent_own_weights(study), *changed_own_images(study, (spec.dataset for spec in specs))]
    about = [*earlier.about, *known.about_damaged, *of_files]
    text = describe(made, study, known.about_older(accept), about_here)
    return StudyPlan(made, text.split("\n"), about, of_processor)
