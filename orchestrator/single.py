"""One trial of a study in this process: the same numbers as under Ray, with a debugger at hand."""

import torch
from rich.console import Console

from jobs import registry
from jobs.attempts import attempt_trial, open_trial
from jobs.errors import InvalidRequest
from jobs.expansion import expand
from jobs.records import Attempt
from jobs.results import Store, done, next_attempt, record_study, require_writable, without_weights
from jobs.specs import AnySpec
from jobs.study import Study
from orchestrator.names import require_same_names
from orchestrator.phases import keeping_of


def run_single(study: Study, trial: str, store: Store, console: Console) -> None:
    """Run a trial, named by its id or the hash at its end, from its last checkpoint, and commit it.

    Raises:
        InvalidRequest: when the study has no such trial.
        ResultsConflict: when a name of the study stands for something else in the root.
    """
    spec = _find(study, trial)
    require_same_names(study, store)
    if spec.trial_id in done(store, spec.kind) - without_weights(store):
        console.print(f"{spec.trial_id} is done already")
        return
    require_writable(store)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with registry.using(study.cards):
        ended = attempt_trial(
            store,
            open_trial(store, spec, device),
            Attempt(next_attempt(store, spec.trial_id)),
            keeping_of(study, spec.kind),
            on_evaluation=lambda e: console.print(f"epoch {e.epoch}: test accuracy {e.test_accuracy:.2f} %"),
        )
    record_study(store, study.name, study.digest, study.resolved())
    for note in ended.notes:
        console.print(f"Note: {note}", markup=False)
    console.print(f"{spec.trial_id}: {ended.ending}")


def _find(study: Study, trial: str) -> AnySpec:
    found = [spec for spec in expand(study) if trial in (spec.trial_id, spec.trial_id.rsplit("-", 1)[1])]
    if not found:
        example = expand(study)[0].trial_id
        raise InvalidRequest(f"study {study.name} has no trial {trial!r}; its ids look like {example}")
    return found[0]
