"""Finished trials of earlier versions of a study, which the study as it is now does not have. No torch.

A study's file changes, and so do packaged studies: another recipe, fewer seeds, a dataset less. What finished under the
same name stays in the root; that it is no part of the study any more is told before anything runs.
"""

import shlex
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple, TypeAlias

from jobs.errors import DamagedFile, InvalidRequest
from jobs.expansion import expand
from jobs.printable import one_line
from jobs.results import Store, all_done
from jobs.results.layout import study_key
from jobs.results.studies import read_study
from jobs.specs import AnySpec, FinetuneSpec, Recipe
from jobs.study import Study
from orchestrator.differences import differences, some
from orchestrator.study_files import load_study, packaged_studies, parse_study

Specs: TypeAlias = Mapping[str, AnySpec]
"""By trial id."""

_PLACEMENT = {"name", "description", "contrasts", "resources", "bundle", "keep_weights", "checkpoint_every"}
"""Of a study, no part of what any trial is."""
_COMMANDS = 3


class Earlier(NamedTuple):
    """Finished trials of earlier versions of a study that are no part of it now."""

    trials: frozenset[str] = frozenset()
    about: tuple[str, ...] = ()
    """What a person is told of them, a line each."""


def earlier_versions(store: Store, study: Study, specs: Specs) -> Earlier:
    """Look for other versions of the study that the root has recorded, and for what of them is finished.

    A version that cannot be read stops nothing: it is told, since what it has finished cannot be known.

    Args:
        specs: all trials of the study as it is now.
    """
    told: list[str] = []
    left_out: dict[str, Specs] = {}
    expanded: dict[str, Specs] = {_asks(study): {}}
    for key in sorted({*store.keys(f"studies/{study.name}")} - {study_key(study.name, study.digest)}):
        try:
            record = read_study(store, key)
            version = parse_study(record.text, f"{store.uri}/{key}", recorded=True)
        except (DamagedFile, InvalidRequest) as error:
            why = "; ".join(line.strip() for line in str(error).splitlines())
            told.append(f"An earlier version of study {study.name} cannot be read, nor what it has finished: {why}")
            continue
        if (asked := _asks(version)) not in expanded:
            expanded[asked] = {spec.trial_id: spec for spec in expand(version) if spec.trial_id not in specs}
        left_out[record.digest] = expanded[asked]
    there = all_done(store) if any(left_out.values()) else set()
    finished = {digest: {i: spec for i, spec in of.items() if _stands(spec, there)} for digest, of in left_out.items()}
    finished = {digest: of for digest, of in finished.items() if of}
    trials = {trial: spec for of in finished.values() for trial, spec in of.items()}
    if trials:
        many, are, they, them = ("trials", "are", "they differ", "them")
        if len(trials) == 1:
            many, are, they, them = ("trial", "is", "it differs", "it")
        versions = "an earlier version" if len(finished) == 1 else "earlier versions"
        told.append(
            f"{len(trials):,} finished {many} of {versions} of study {study.name} ({some(finished)}) {are} no part of "
            f"this one; {they} in {differences(trials.values(), specs.values())}. Nothing is removed. To go on with "
            f"{them}: {_going_on(store, study, finished, _packaged(trials))}"
        )
    return Earlier(frozenset(trials), tuple(map(one_line, told)))


def _asks(study: Study) -> str:
    """All that the ids of a study's trials follow from: versions that differ elsewhere are expanded once."""
    return study.model_dump_json(exclude=_PLACEMENT)


def _stands(spec: AnySpec, there: set[str]) -> bool:
    return not there.isdisjoint((spec.trial_id, *spec.older_ids))


def _packaged(trials: Specs) -> str | None:
    """The smallest packaged study that has all of these trials, if one has."""
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
    """False where the grid alone tells that some of it is not fine-tuned: large studies take a second to expand."""
    datasets = study.grid.dataset if study.grid is not None else ()
    return tuned <= set(product(datasets, study.recipes))


def _going_on(store: Store, study: Study, finished: Mapping[str, Specs], packaged: str | None) -> str:
    """What to launch: one study that has all the trials, or recorded versions that together do."""
    if packaged is not None:
        return _launch(packaged, store)
    rest, said = {trial for of in finished.values() for trial in of}, list[str]()
    while rest:
        digest = max(sorted(finished), key=lambda digest: len(rest & finished[digest].keys()))
        here = rest & finished[digest].keys()
        command = _launch(f"{store.uri}/{study_key(study.name, digest)}", store)
        said.append(command if len(here) == len(rest) and not said else f"{command} ({len(here):,} of them)")
        rest -= here
    more = len(said) - _COMMANDS
    return ", ".join(said[:_COMMANDS]) + (f", and {more:,} more versions" if more > 0 else "")


def _launch(study: str, store: Store) -> str:
    copy = "a copy here of " if "://" in study else ""  # a study is read from this machine's files
    return f"deltasweep launch {copy}{shlex.quote(study)} --results {shlex.quote(store.uri)}"
