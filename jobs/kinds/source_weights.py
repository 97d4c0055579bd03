"""Initial weights of a trial: those of a source, or those that a fine-tuning trial left in the results root."""

from contextlib import suppress

from jobs.catalog.catalog import Catalog
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, MissingData
from jobs.kind import source_trial
from jobs.models.own_weights import load_any
from jobs.models.weight_files import weights_path
from jobs.models.weights import SourceWeights, weights_in_root
from jobs.results import Store
from jobs.results.layout import trained_weights_key
from jobs.specs.trial import TrialSpec


def source_weights(store: Store, card: SourceCard, catalog: Catalog) -> SourceWeights:
    """Return a source's weights for a trial in this root.

    Weights trained by a trial of the root take precedence over this machine's (``load_any``). Bundled sources always
    use the package's weights.

    Raises:
        MissingData, DamagedFile: see ``load_any``.
    """
    made_by = None if card.bundled else source_trial(card, catalog)
    if made_by is not None:
        key = trained_weights_key(made_by.trial_id)
        with suppress(FileNotFoundError):
            return weights_in_root(store.uri, made_by.kind, made_by.trial_id)
        if card.name in catalog.own.sources and not weights_path(card).is_file():
            raise MissingData(
                Code.MISSING_WEIGHTS,
                f"the weights of source {card.name!r} are not in {store.uri} ({key}). Fix: list it under `pretrain` in "
                f"its study and launch that, or run its trial {made_by.trial_id}; deleted weights are trained again",
                file=f"{store.uri}/{key}",
            )
    return load_any(card, catalog)


def trained_weights(store: Store, trial: TrialSpec) -> SourceWeights:
    """Return the network trained by a fine-tuning trial of this root.

    Raises:
        MissingData: if its weights were not kept, or were deleted.
        DamagedFile: if they are not a safetensors file, or not those that the trial left.
    """
    key = trained_weights_key(trial.trial_id)
    try:
        return weights_in_root(store.uri, trial.kind, trial.trial_id)
    except FileNotFoundError as error:
        raise MissingData(
            Code.MISSING_WEIGHTS,
            f"the weights of {trial.trial_id} are not in {store.uri}. Fix: launch the study, or run that trial of it; "
            "trials that another trial of the study examines keep their weights, even if their result exists already",
            file=f"{store.uri}/{key}",
        ) from error
