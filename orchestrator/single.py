"""One trial of a study in this process: the same numbers as under Ray, with a debugger at hand."""

from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console

from jobs import registry
from jobs.attempts import attempt_trial, open_trial
from jobs.errors import Code, DamagedFile, InvalidRequest
from jobs.expansion import expand
from jobs.records import Attempt
from jobs.results import Store, begin, next_attempt, record_study, require_layout
from jobs.results.layout import trial_key
from jobs.specs import AnySpec
from jobs.study import Study
from orchestrator.finished import examined, standing
from orchestrator.names import require_same_names
from orchestrator.phases import keeping_of


def run_single(study: Study, trial: str, store: Store, console: Console) -> None:
    """Run a trial, named by its id or the hash at its end, from its last checkpoint, and commit it.

    Raises:
        InvalidRequest: when the study has no such trial.
        DamagedFile: when its result is there and torn.
        ResultsConflict: when a name of the study stands for something else in the root.
    """
    specs = {spec.trial_id: spec for spec in expand(study)}
    spec = _find(study, specs, trial)
    require_layout(store)
    require_same_names(study, store)
    known = standing(store, specs)
    if spec.trial_id in known.damaged:
        said = known.damaged[spec.trial_id]
        raise DamagedFile(Code.DAMAGED_RESULT, said, file=f"{store.uri}/{trial_key(spec.kind, spec.trial_id)}")
    if spec.trial_id in known.done:
        console.print(f"{spec.trial_id} is done already")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with registry.using(study.cards):
        opened = open_trial(store, spec, device)
        begin(store)
        ended = attempt_trial(
            store,
            opened,
            Attempt(next_attempt(store, spec.trial_id)),
            keeping_of(study, spec, examined(specs.values())),
            on_evaluation=lambda row: console.print(_words(row._asdict())),
        )
    record_study(store, study.name, study.digest, study.resolved())
    for note in ended.notes:
        console.print(f"Note: {note}", markup=False)
    console.print(f"{spec.trial_id}: {ended.ending}")


def _words(row: dict[str, Any]) -> str:
    """The numbers of a row; lists and pictures are for queries."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.6g}" for name, value in row.items() if isinstance(value, int | float)
    )


def _find(study: Study, specs: Mapping[str, AnySpec], trial: str) -> AnySpec:
    found = [spec for name, spec in specs.items() if trial in (name, name.rsplit("-", 1)[1])]
    if not found:
        example = next(iter(specs))
        raise InvalidRequest(
            Code.UNKNOWN_NAME,
            f"study {study.name} has no trial {trial!r}; its ids look like {example}",
            key="--trial",
        )
    return found[0]
