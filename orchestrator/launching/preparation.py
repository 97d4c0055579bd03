"""Preparation of a launch: which trials to run in which order, and whether all their inputs are available."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.console import Console

from jobs.catalog.catalog import Catalog
from jobs.catalog.source_card import SourceCard
from jobs.data.datasets import load_dataset
from jobs.execution.trial import Pin
from jobs.kind import kind_of, sources_made, workload
from jobs.kinds.source_weights import source_weights
from jobs.models.conversion import about_original
from jobs.models.own_weights import convert_own
from jobs.models.weight_files import read_card
from jobs.networks.describe import require_own_described
from jobs.possible import require_all_possible
from jobs.results import Store, all_done, quarantined, read_failures, with_weights
from jobs.specs.trial import TrialSpec
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching.options import Options
from orchestrator.planning.bundles import Bundling, bundled
from orchestrator.planning.dependencies import completion_of
from orchestrator.planning.flops import bundle_flops
from orchestrator.planning.stages import StageTrials, stages_of
from orchestrator.study.earlier import earlier_versions
from orchestrator.study.name_conflicts import require_same_names


class Preparation(NamedTuple):
    """The trials of a launch and their inputs."""

    specs: Mapping[str, TrialSpec]
    """All trials of the study, by id."""
    stages: Sequence[StageTrials]
    """The trials to run, in order."""
    operations: Mapping[str, float]
    """Floating-point operations of each trial; those of a bundle have equal shares of the bundle's."""
    bundling: Bundling
    catalog: Catalog
    """The packaged cards and those of the study."""
    done: set[str]
    """Trials that need not run."""
    quarantined: set[str]
    """Trials that this launch leaves in quarantine."""
    damaged: Mapping[str, str]
    """Remedies by trial id, for trials whose result is damaged or not a file."""
    pins: Sequence[Pin]
    """Digests of all existing inputs of its trials."""


def prepare(study: Study, store: Store, console: Console, options: Options) -> Preparation:
    """Determine the pending trials of a study: those that are not done, damaged or quarantined.

    Nothing is written to the root. Own checkpoint files are converted on this machine.

    Raises:
        InvalidRequest, MissingData, DamagedFile, ResultsConflict: If the study cannot run here.
    """
    specs = {spec.trial_id: spec for spec in expand(study)}
    require_all_possible(specs.values(), study.catalog)
    require_same_names(study, store)
    known = completion_of(store, specs, options.accept_numerics)
    if about_older := known.about_older(options.accept_numerics):
        console.print(f"{about_older}.", markup=False)
    for line in (*earlier_versions(store, study, specs).about, *known.about_damaged):
        console.print(line, markup=False)
    settled = known.done | known.damaged.keys()
    blocked = set() if options.retry_quarantined else _quarantined(store, options) & specs.keys() - settled
    bundles = bundled(specs.values(), study.bundle)
    operations = {
        spec.trial_id: total / len(bundle)
        for bundle, total in ((bundle, bundle_flops(bundle, study.catalog).total) for bundle in bundles)
        for spec in bundle
    }
    stays = settled | blocked
    pending = [trial for trial in _in_running_order(bundles, operations) if trial not in stays][: options.max_trials]
    if study.keep_weights and (without := _without_weights(store, specs, known.done, study.catalog)):
        console.print(
            f"{len(without)} trials are done but their weights were not kept: they ran before keep_weights was set."
        )
    to_make = {name for name, trial in sources_made(specs.values(), study.catalog).items() if trial not in known.done}
    return Preparation(
        specs,
        stages_of(study, specs, pending),
        operations,
        study.bundle,
        study.catalog,
        known.done,
        blocked,
        known.damaged,
        sorted(_pins(store, [specs[trial] for trial in pending], study.catalog, to_make, console)),
    )


def tell_converted(cards: Iterable[SourceCard], catalog: Catalog, console: Console) -> None:
    """Convert the sources' own checkpoint files that were not converted yet, and print what was converted.

    Raises:
        MissingData, DamagedFile: see ``jobs.models.own_weights.convert_own``.
    """
    for card in cards:
        if path := convert_own(card, catalog):
            original = (read_card(path) or {})["original"]
            console.print(f"Converted the weights of {card.name}: {about_original(original)}.", markup=False)


def _without_weights(store: Store, specs: Mapping[str, TrialSpec], completed: set[str], catalog: Catalog) -> set[str]:
    """Return the completed trials whose trained weights are not in the root."""
    gone = all_done(store) & completed - with_weights(store)
    return {trial for trial in gone if workload(specs[trial], catalog).checkpoint_blocks is not None}


def _quarantined(store: Store, options: Options) -> set[str]:
    return quarantined(read_failures(store), options.retry_policy.quarantine_after)


def _in_running_order(bundles: Sequence[Sequence[TrialSpec]], operations: Mapping[str, float]) -> list[str]:
    """Sort trials by stage (sources first, examinations last), then longest first so that no long trial or bundle
    starts last, then by dataset, seed, and source or network: trials that are compared run one after another, so that
    the first pairs come early and a launch that stops leaves whole pairs. Trials of a bundle are adjacent.
    """

    def place(bundle: Sequence[TrialSpec]) -> tuple[object, ...]:
        first = bundle[0]
        longest = sum(operations[spec.trial_id] for spec in bundle)
        return kind_of(first).stage, -longest, first.dataset, first.seed, first.subject[1]

    return [spec.trial_id for bundle in sorted(bundles, key=place) for spec in bundle]


def _pins(store: Store, specs: Sequence[TrialSpec], catalog: Catalog, to_make: set[str], console: Console) -> set[Pin]:
    """Load every source and dataset once, so that a missing file is one error now instead of a failure per trial.

    Args:
        to_make: Sources that the study itself has yet to train. They are skipped.
    """
    sources = {spec.source_read for spec in specs} - {None, *to_make}
    cards = [catalog.source(name) for name in sources if name is not None]
    tell_converted(cards, catalog, console)
    pins = {Pin("sources", card.name, source_weights(store, card, catalog).sha256) for card in cards}
    works = [(spec.dataset, workload(spec, catalog)) for spec in specs]
    require_own_described((work.architecture.name for _, work in works), catalog)
    sizes = {(name, work.architecture.image_size, work.whole_training_images) for name, work in works}
    for name, size, whole in sizes:
        data = load_dataset(catalog.dataset(name), size, whole_training=whole)
        pins.add(Pin("datasets", name, data.sha256))
    return pins
