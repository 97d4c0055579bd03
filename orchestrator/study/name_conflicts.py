"""Checks that a study's own cards and builder files are those of the same names in a results root. No torch.

The id of a fine-tuning trial contains only the names, so studies that use one name for two things would share results.
"""

from jobs.errors import Code, ResultsConflict
from jobs.kind import source_trial
from jobs.models.weight_files import read_card, weights_path
from jobs.results import Store, pinned, read_trials, require_pin
from jobs.study.model import Study


def require_same_names(study: Study, store: Store) -> None:
    """Compare a study's own cards with those that the root's results were computed with.

    Raises:
        ResultsConflict: when the root has results of another source or dataset under one of the names.
        DamagedFile: when the root's records of them cannot be read.
    """
    for name, dataset in study.datasets.items():
        if dataset.sha256 is not None:
            require_pin(store, "datasets", name, dataset.shown_digest(dataset.sha256))
    own = {name: source for name, source in study.sources.items() if not source.bundled}
    trials = {name: trial for name, source in own.items() if (trial := source_trial(source, study.catalog)) is not None}
    trained = {kind: _trained(store, kind) for kind in {trial.kind for trial in trials.values()}}
    for name, trial in trials.items():
        digests, pinned_digest = trained[trial.kind], pinned(store, "sources", name)
        others = sorted(other for other, sha256 in digests.items() if sha256 == pinned_digest)
        if others and digests.get(trial.trial_id) != pinned_digest:
            raise ResultsConflict(
                Code.OTHER_DIGEST,
                f"{store.uri} has results of a source {name!r} that was trained by {others[0]}; this study trains "
                f"another, by {trial.trial_id}, and results of both under one name could not be distinguished. Fix: "
                "choose another name, or another results root",
                file=store.uri,
                key=f"sources.{name}",
            )
    for name, card in study.sources.items():
        converted = read_card(weights_path(card)) if card.weights_sha256 is not None else None
        if converted is not None:
            require_pin(store, "sources", name, converted["sha256"])
    for what, name, sha256 in study.catalog.own_digests(study.sources, study.datasets, study.architectures):
        if pinned(store, what, name) not in (None, sha256):
            section = what.split("/")[1]
            raise ResultsConflict(
                Code.OTHER_DIGEST,
                _other_builder(store, name, sha256)
                if section == "builders"
                else f"{store.uri} has results of {name!r} under another card among the {section} (normalizer, colour, "
                "network or threat model differ), and results of both under one name could not be distinguished. "
                "Fix: choose another name, or another results root",
                file=store.uri,
                key="--builder" if section == "builders" else f"{section}.{name}",
            )


def _other_builder(store: Store, name: str, sha256: str) -> str:
    return (
        f"{store.uri} has results of networks that another file {name} built: expected sha256 "
        f"{pinned(store, 'cards/builders', name)}; got {sha256}. Fix: restore that file; or, if the present one is "
        "meant, rename it and its architecture, or use another results root"
    )


def _trained(store: Store, kind: str) -> dict[str, str]:
    """Return the finished trials of a kind that trains sources, each with the sha256 of its weights."""
    rows = read_trials(store, kind, ["trial_id", "trained_sha256"]).to_pylist()
    return {row["trial_id"]: row["trained_sha256"] for row in rows}
