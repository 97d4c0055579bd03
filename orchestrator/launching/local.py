"""Running one trial in this process, for debugging. The numbers are the same as under Ray."""

from collections.abc import Mapping
from typing import NamedTuple

from rich.console import Console

from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.execution.attempt import attempt_trial, open_trial
from jobs.execution.commit import Attempt
from jobs.execution.device import default_device
from jobs.kind import workload
from jobs.networks.describe import require_own_described
from jobs.results import Store, begin, next_attempt, record_study, require_layout
from jobs.results.layout import trial_key
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching.preparation import tell_converted
from orchestrator.planning.dependencies import completion_of, networks_needed
from orchestrator.planning.stages import retention_of
from orchestrator.process.numbers_as_text import numbers_of
from orchestrator.study.name_conflicts import require_same_names


class LocalRun(NamedTuple):
    """How the trial ended."""

    trial: str
    status: str
    """``committed``, or ``done`` if its result existed before."""


def run_locally(study: Study, trial: str, store: Store, console: Console) -> LocalRun:
    """Run a trial from its last checkpoint and commit its result.

    Args:
        trial: Trial id, or the hash at its end.

    Raises:
        InvalidRequest: If the study has no such trial, or trials cannot use the network of its architecture.
        DamagedFile: If its result exists and is damaged.
        ResultsConflict: If a source or dataset name of the study refers to something else in the root.
    """
    specs = {spec.trial_id: spec for spec in expand(study)}
    spec = _find(study, specs, trial)
    require_layout(store)
    require_same_names(study, store)
    known = completion_of(store, specs)
    if spec.trial_id in known.damaged:
        remedy = known.damaged[spec.trial_id]
        raise DamagedFile(Code.DAMAGED_RESULT, remedy, file=f"{store.uri}/{trial_key(spec.kind, spec.trial_id)}")
    if spec.trial_id in known.done:
        console.print(f"{spec.trial_id} is already done")
        return LocalRun(spec.trial_id, "done")
    require_own_described([workload(spec, study.catalog).architecture.name], study.catalog)
    if spec.source_read is not None:
        tell_converted([study.catalog.source(spec.source_read)], study.catalog, console)
    opened = open_trial(store, spec, study.catalog, default_device())
    begin(store)
    record_study(store, study.name, study.digest, study.resolved())
    ended = attempt_trial(
        store,
        opened,
        Attempt(next_attempt(store, spec.trial_id)),
        retention_of(study, spec, networks_needed(specs.values())),
        on_evaluation=lambda row: console.print(numbers_of(row._asdict())),
    )
    for note in ended.notes:
        console.print(f"Note: {note}", markup=False)
    console.print(f"{spec.trial_id}: {ended.status}")
    return LocalRun(spec.trial_id, ended.status.value)


def _find(study: Study, specs: Mapping[str, TrialSpec], trial: str) -> TrialSpec:
    matching = [spec for name, spec in specs.items() if trial in (name, name.rsplit("-", 1)[1])]
    if not matching:
        example = next(iter(specs))
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"study {study.name} has no trial {trial!r}; an example of its ids is {example}",
            key="--trial",
        )
    return matching[0]
