"""Finished trials of earlier versions of a study that the current version does not have. No torch.

Study files change, and so do packaged studies: another recipe, fewer seeds, one dataset fewer. Results under the same
name stay in the root. Those that are no longer part of the study are reported before anything runs.
"""

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple, TypeAlias

from jobs.errors import DamagedFile, InvalidRequest
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.results import Store, all_done
from jobs.results.layout import study_key
from jobs.results.studies import read_study
from jobs.specs.recipes import Recipe
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.system.commands import command
from jobs.system.printable import one_line
from orchestrator.study.differences import differences, some
from orchestrator.study.history import parse_recorded
from orchestrator.study.load import load_study
from orchestrator.study.packaged_studies import packaged_studies

Specs: TypeAlias = Mapping[str, TrialSpec]
"""Specs by trial id."""

_PLACEMENT = {
    *("name", "description", "contrasts", "equivalences"),
    *("resources", "bundle", "keep_weights", "checkpoint_every"),
}
"""Keys of a study that no trial depends on."""
_COMMANDS = 3


class Earlier(NamedTuple):
    """Finished trials of earlier versions of a study that are not part of it now."""

    trials: frozenset[str] = frozenset()
    about: tuple[str, ...] = ()
    """Messages about them, one line each."""


def earlier_versions(store: Store, study: Study, specs: Specs) -> Earlier:
    """Find other recorded versions of the study in the root, and their finished trials.

    A version that cannot be read is reported and otherwise ignored: its finished trials are unknown.

    Args:
        specs: all trials of the current study.
    """
    messages: list[str] = []
    left_out: dict[str, Specs] = {}
    expanded: dict[str, Specs] = {_trials_of(study): {}}
    for key in sorted({*store.keys(f"studies/{study.name}")} - {study_key(study.name, study.digest)}):
        try:
            record = read_study(store, key)
            version = parse_recorded(store, record)
            if (contents := _trials_of(version)) not in expanded:
                expanded[contents] = {spec.trial_id: spec for spec in expand(version) if spec.trial_id not in specs}
        except (DamagedFile, InvalidRequest) as error:
            why = "; ".join(line.strip() for line in str(error).splitlines())
            messages.append(
                f"An earlier version of study {study.name} cannot be read, so its finished trials are unknown: {why}"
            )
            continue
        left_out[record.digest] = expanded[contents]
    there = all_done(store) if any(left_out.values()) else set()
    finished = {
        digest: {i: spec for i, spec in of.items() if _finished(spec, there)} for digest, of in left_out.items()
    }
    finished = {digest: of for digest, of in finished.items() if of}
    trials = {trial: spec for of in finished.values() for trial, spec in of.items()}
    if trials:
        many, are, they, them = ("trials", "are", "they differ", "them")
        if len(trials) == 1:
            many, are, they, them = ("trial", "is", "it differs", "it")
        versions = "an earlier version" if len(finished) == 1 else "earlier versions"
        messages.append(
            f"{len(trials):,} finished {many} of {versions} of study {study.name} ({some(finished)}) {are} not part of "
            f"this one; {they} in {differences(trials.values(), specs.values())}. Nothing is removed. To continue with "
            f"{them}: {_commands(store, study, finished, _packaged(trials))}"
        )
    return Earlier(frozenset(trials), tuple(map(one_line, messages)))


def _trials_of(study: Study) -> str:
    """Return all values that determine the ids of a study's trials. Versions with equal values are expanded once."""
    return study.model_dump_json(exclude=_PLACEMENT)


def _finished(spec: TrialSpec, there: set[str]) -> bool:
    return not there.isdisjoint((spec.trial_id, *spec.older_ids))


def _packaged(trials: Specs) -> str | None:
    """Return the smallest packaged study that has all of these trials; None if there is none."""
    tuned = {(spec.dataset, spec.recipe) for spec in trials.values() if isinstance(spec, FinetuneSpec)}
    sizes = {}
    for name in packaged_studies():
        packaged = load_study(name)
        if not _may_have(packaged, tuned):
            continue
        ids = {spec.trial_id for spec in expand(packaged)}
        if trials.keys() <= ids:
            sizes[name] = len(ids)
    return min(sizes, key=lambda name: sizes[name], default=None)


def _may_have(study: Study, tuned: set[tuple[str, Recipe]]) -> bool:
    """Return False if the grid alone shows that trials are missing, since expanding a large study takes a second."""
    datasets = study.grid.dataset if study.grid is not None else ()
    return tuned <= set(product(datasets, study.recipes))


def _commands(store: Store, study: Study, finished: Mapping[str, Specs], packaged: str | None) -> str:
    """Return the commands that launch a study with all the trials, or recorded versions that together have them."""
    if packaged is not None:
        return _launch(packaged, store)
    rest, commands = {trial for of in finished.values() for trial in of}, list[str]()
    while rest:
        digest = max(sorted(finished), key=lambda digest: len(rest & finished[digest].keys()))
        here = rest & finished[digest].keys()
        launched = _launch(f"{store.uri}/{study_key(study.name, digest)}", store)
        commands.append(launched if len(here) == len(rest) and not commands else f"{launched} ({len(here):,} of them)")
        rest -= here
    more = len(commands) - _COMMANDS
    return ", ".join(commands[:_COMMANDS]) + (f", and {more:,} more versions" if more > 0 else "")


def _launch(study: str, store: Store) -> str:
    launched = command("launch", study, "--results", store.uri)
    if "://" in study:  # a study is read from this machine's files
        return launched.replace("launch ", "launch a copy here of ", 1)
    return launched
