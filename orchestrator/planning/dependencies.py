"""Dependencies between the trials of a study, and which trials need not run. No torch."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from types import MappingProxyType
from typing import NamedTuple

from jobs.catalog.catalog import Catalog
from jobs.kind import kinds, sources_made
from jobs.results import Store, all_done, damaged, with_weights
from jobs.specs.trial import Numerics, TrialSpec
from orchestrator.planning.older_numerics import NONE_OLDER, OPTION, accepts, named


class Completion(NamedTuple):
    """State of a study's trials in a results root."""

    done: set[str]
    """Trials that need not run."""
    older: dict[str, Numerics]
    """Trials that only have results with older numerics versions, each with the latest of these. They ran before the
    numbers of their kind, or of the network that they examine, were changed on purpose, and are only compared with each
    other.
    """
    damaged: Mapping[str, str] = MappingProxyType({})
    """Remedies by trial id, for trials whose result is damaged or not a file. They are not done and cannot run while
    the damaged result exists, because results are never overwritten.
    """

    @property
    def accepted(self) -> int:
        """Number of trials with older numerics that count as done."""
        return len(self.older.keys() & self.done)

    @property
    def about_damaged(self) -> list[str]:
        """Descriptions of damaged results, one line each."""
        return [f"damaged: {trial}: {remedy}" for trial, remedy in sorted(self.damaged.items())]

    def about_older(self, accept: Numerics) -> str | None:
        """Describe the trials with older numerics; None if there are none.

        Args:
            accept: The accepted numerics as requested.
        """
        if not self.older:
            return None
        counts = sorted(Counter(named([of]) for of in self.older.values()).items())
        numbers = ", ".join(f"{count:,} of numerics {of}" for of, count in counts)
        sentences = [
            f"{len(self.older):,} trials have only results of older numerics ({numbers}), from before the numbers of "
            "their kind were changed on purpose. They are kept and are compared only among themselves"
        ]
        if self.accepted:
            as_asked = named(of for trial, of in self.older.items() if trial in self.done)
            sentences.append(f"{self.accepted:,} of them count as done, as requested: from {as_asked} on")
        refused = [of for of in self.older.values() if not accepts(accept, of)]
        needed = len(self.older) - len(refused) - self.accepted
        if needed:
            sentences.append(f"{needed:,} of them run again anyway, because other trials need their weights")
        if refused:
            options = f"{OPTION} {named(refused, f' {OPTION} ')}"
            sentences.append(f"{len(refused):,} of them run again unless {options} is given")
        return ". ".join(sentences)


def completion_of(store: Store, specs: Mapping[str, TrialSpec], accept: Numerics = NONE_OLDER) -> Completion:
    """Determine which trials of a study are done, from one listing of the root.

    A trial need not run if its result exists and so do the weights that the study still reads: those of every source
    that the study trains, and those of fine-tuning trials yet to be examined. If such weights are missing, the trial
    runs again and its result is kept (docs/decisions/results-root.md).

    Args:
        specs: All trials of the study, by id.
        accept: The oldest numerics versions whose results also count (``accepted_numerics``). Weights of such a trial
            are not found under its current id, so a trial whose weights are needed runs again.
    """
    there = all_done(store)
    torn: dict[str, str] = {}
    for kind in {spec.kind for spec in specs.values()}:
        torn |= damaged(store, kind, (trial for trial in there & specs.keys() if specs[trial].kind == kind))
    return completion(specs, there, torn, lambda: with_weights(store), accept)


def completion(
    specs: Mapping[str, TrialSpec],
    there: Set[str],
    torn: Mapping[str, str],
    weights: Callable[[], Set[str]],
    accept: Numerics = NONE_OLDER,
) -> Completion:
    """Determine the state of a study's trials (see ``completion_of``) from what is known of the root.

    Args:
        there: Trials whose result exists.
        torn: Those of the study's trials whose result is damaged, with remedies.
        weights: Returns the trials whose weights exist. Called only if a trial depends on that.
    """
    older = _older(there, specs, accept)
    done = there & specs.keys() | {trial for trial, numerics in older.items() if accepts(accept, numerics)}
    done -= torn.keys()
    keeping = {name for name, kind in kinds().items() if kind.keeps_weights}
    read = {trial for trial, spec in specs.items() if spec.kind in keeping}
    read |= networks_needed(spec for trial, spec in specs.items() if trial not in done)
    return Completion(done - (read - weights()) if read else done, older, torn)


def completed(store: Store, specs: Mapping[str, TrialSpec], accept: Numerics = NONE_OLDER) -> set[str]:
    """Return the trials that need not run (see ``completion_of``)."""
    return completion_of(store, specs, accept).done


def _older(there: Set[str], specs: Mapping[str, TrialSpec], accept: Numerics) -> dict[str, Numerics]:
    """Return the latest result of each trial, with a preference for accepted ones."""
    latest = {}
    for trial, spec in specs.items():
        numerics = [] if trial in there else [of for older, of in spec.older_ids.items() if older in there]
        if numerics:
            latest[trial] = max(numerics, key=lambda of: (accepts(accept, of), min(of.values())))
    return latest


def networks_needed(specs: Iterable[TrialSpec]) -> set[str]:
    """Return the ids of the fine-tuning trials that these trials examine."""
    return {spec.trial_read.trial_id for spec in specs if spec.trial_read is not None}


def unmet_dependencies(
    store: Store, specs: Mapping[str, TrialSpec], trials: Iterable[str], catalog: Catalog
) -> dict[str, str]:
    """Return the trials that need weights which another trial of the study has not written yet, with the reason."""
    made, ready = sources_made(specs.values(), catalog), all_done(store) & with_weights(store)
    unmet = {}
    for trial in trials:
        spec = specs[trial]
        if spec.trial_read is not None and (of := spec.trial_read.trial_id) not in ready:
            unmet[trial] = f"the trial that it examines has not written its weights yet ({of})"
        elif (source := spec.source_read) in made and made[source] not in ready:
            unmet[trial] = f"its source {source} is not trained yet ({made[source]})"
    return unmet
