"""One trial of a study in this process: the same numbers as under Ray, with a debugger at hand."""

import torch
from rich.console import Console

from jobs.errors import InvalidRequest
from jobs.finetune import Finetuning, open_finetuning
from jobs.records import Attempt, commit_finetuning
from jobs.results import Committed, Store, done, next_attempt, require_writable
from jobs.specs import FinetuneSpec
from orchestrator.expansion import expand
from orchestrator.study import Study


def run_single(study: Study, trial: str, store: Store, console: Console) -> None:
    """Run a trial, named by its id or the hash at its end, and commit it.

    Raises:
        InvalidRequest: when the study has no such trial.
    """
    spec = _find(study, trial)
    if spec.trial_id in done(store, spec.kind):
        console.print(f"{spec.trial_id} is done already")
        return
    require_writable(store)
    running = open_finetuning(spec, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    for _ in range(len(spec.evaluated_epochs)):
        _to_next_evaluation(running)
        last = running.evaluations[-1]
        console.print(f"epoch {last.epoch}: test accuracy {last.test_accuracy:.2f} %")
    outcome = commit_finetuning(store, running, Attempt(next_attempt(store, spec.trial_id)))
    console.print(f"{spec.trial_id}: {_SAYS[outcome]}")


def _to_next_evaluation(running: Finetuning) -> None:
    before = len(running.evaluations)
    running.advance(pause=lambda: len(running.evaluations) > before)


_SAYS = {
    Committed.NEW: "committed",
    Committed.ALREADY_THERE: "was committed by another process meanwhile",
    Committed.CONFLICT: "another process committed other numbers meanwhile; these are in conflicts/",
}


def _find(study: Study, trial: str) -> FinetuneSpec:
    found = [spec for spec in expand(study) if trial in (spec.trial_id, spec.trial_id.rsplit("-", 1)[1])]
    if not found:
        example = expand(study)[0].trial_id
        raise InvalidRequest(f"study {study.name} has no trial {trial!r}; its ids look like {example}")
    return found[0]
