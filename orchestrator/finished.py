"""What trials of a study leave for others of it, and which need not run. No torch."""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from jobs import registry
from jobs.results import Store, all_done, damaged, with_weights
from jobs.specs import AnySpec, ExaminationSpec, FinetuneSpec, Numerics, PretrainSpec
from orchestrator.older_numerics import NONE_OLDER, OPTION, accepts, named


class Standing(NamedTuple):
    """What a root has of a study's trials."""

    done: set[str]
    """Trials that need not run."""
    older: dict[str, Numerics]
    """Trials whose results are of older numerics alone, each with the latest of these that are others today: they ran
    before numbers of their kind, or of the network that they look at, were changed on purpose, and are compared only
    among themselves.
    """
    damaged: Mapping[str, str] = MappingProxyType({})
    """Trials whose result is torn, or no file, each with what to do. They are not done, and cannot be run while it is
    there: nothing is put in the place of a result.
    """

    @property
    def accepted(self) -> int:
        """How many of those of older numerics count as done."""
        return len(self.older.keys() & self.done)

    @property
    def about_damaged(self) -> list[str]:
        """What a person is told of damaged results, a line each."""
        return [f"damaged: {trial}: {said}" for trial, said in sorted(self.damaged.items())]

    def about_older(self, accept: Numerics) -> str | None:
        """What a person is told of trials of older numerics; None: there are none.

        Args:
            accept: as it was asked for.
        """
        if not self.older:
            return None
        counts = sorted(Counter(named([of]) for of in self.older.values()).items())
        numbers = ", ".join(f"{count:,} of numerics {of}" for of, count in counts)
        said = [
            f"{len(self.older):,} trials have results of older numerics alone ({numbers}), made before numbers of "
            "their kind were changed on purpose; they stay, and are compared only among themselves"
        ]
        if self.accepted:
            as_asked = named(of for trial, of in self.older.items() if trial in self.done)
            said.append(f"{self.accepted:,} of them count as done here, as asked: from {as_asked} on")
        refused = [of for of in self.older.values() if not accepts(accept, of)]
        needed = len(self.older) - len(refused) - self.accepted
        if needed:
            said.append(f"{needed:,} of them run again all the same: their weights are still to be read")
        if refused:
            options = f"{OPTION} {named(refused, f' {OPTION} ')}"
            said.append(f"{len(refused):,} of them run again, unless {options} counts them as done")
        return ". ".join(said)


def standing(store: Store, specs: Mapping[str, AnySpec], accept: Numerics = NONE_OLDER) -> Standing:
    """What of a study's trials stands, by one listing.

    A trial need not run when its result stands, and so do the weights that the study still reads: of every source that
    the study makes, and of fine-tuned trials that are yet to be examined. Where they are gone the trial runs again; its
    result stands (design, section 4).

    Args:
        specs: all trials of the study, by id.
        accept: results of these numerics, or of later ones, count, too (``accepted_numerics``). What such a trial has
            left is not read under today's id: where its weights are, it runs again.
    """
    there = all_done(store)
    older = _older(there, specs, accept)
    done = there & specs.keys() | {trial for trial, numerics in older.items() if accepts(accept, numerics)}
    torn: dict[str, str] = {}
    for kind in {spec.kind for spec in specs.values()}:
        torn |= damaged(store, kind, (trial for trial in there & specs.keys() if specs[trial].kind == kind))
    done -= torn.keys()
    read = {trial for trial, spec in specs.items() if isinstance(spec, PretrainSpec)}
    read |= examined(spec for trial, spec in specs.items() if trial not in done)
    return Standing(done - (read - with_weights(store)) if read else done, older, torn)


def finished(store: Store, specs: Mapping[str, AnySpec], accept: Numerics = NONE_OLDER) -> set[str]:
    """The trials that need not run; as ``standing``."""
    return standing(store, specs, accept).done


def _older(there: set[str], specs: Mapping[str, AnySpec], accept: Numerics) -> dict[str, Numerics]:
    """Of several results of one trial the latest, and rather one that is accepted."""
    found = {}
    for trial, spec in specs.items():
        numerics = [] if trial in there else [of for older, of in spec.older_ids.items() if older in there]
        if numerics:
            found[trial] = max(numerics, key=lambda of: (accepts(accept, of), min(of.values())))
    return found


def examined(specs: Iterable[AnySpec]) -> set[str]:
    """The ids of the fine-tuned trials that these look at."""
    networks = [spec.network for spec in specs if isinstance(spec, ExaminationSpec)]
    return {network.trial_id for network in networks if isinstance(network, FinetuneSpec)}


def made_by(specs: Iterable[AnySpec]) -> dict[str, str]:
    """The sources that trials make, each with the id of the trial that does."""
    made = {spec.trial_id for spec in specs if isinstance(spec, PretrainSpec)}
    cards = {name: card for name, card in registry.sources().items() if card.pretrain is not None}
    return {name: i for name, card in cards.items() if (i := card.pretrain_spec().trial_id) in made}


def source_read(spec: AnySpec) -> str | None:
    """The source whose weights a trial reads; None for one that reads none, or those of a fine-tuned trial."""
    match spec:
        case FinetuneSpec():
            return spec.source
        case ExaminationSpec():
            return spec.network if isinstance(spec.network, str) else None
        case _:
            return None


def unready(store: Store, specs: Mapping[str, AnySpec], trials: Iterable[str]) -> dict[str, str]:
    """The trials that wait for weights which another trial of the study has not left, and why they cannot run now."""
    made, ready = made_by(specs.values()), all_done(store) & with_weights(store)
    found = {}
    for trial in trials:
        spec = specs[trial]
        if isinstance(spec, ExaminationSpec) and isinstance(spec.network, FinetuneSpec):
            if (of := spec.network.trial_id) not in ready:
                found[trial] = f"the trial that it examines has not left its weights yet ({of})"
        elif (source := source_read(spec)) in made and made[source] not in ready:
            found[trial] = f"its source {source} is not trained yet ({made[source]})"
    return found
