"""What the names of a study's own sources and datasets stand for in a results root. No torch.

The id of a fine-tuning trial has the names alone: two studies that give one name to two things would share results.
"""

from jobs import registry
from jobs.errors import Code, ResultsConflict
from jobs.results import Store, pinned, read_trials, require_pin
from jobs.specs import PretrainSpec
from jobs.study import Study


def require_same_names(study: Study, store: Store) -> None:
    """Hold the cards that a study brings along against what the root's results were made with.

    Raises:
        ResultsConflict: when results of another source, or of another dataset, stand under one of the names.
        DamagedFile: when what the root knows cannot be read.
    """
    for name, dataset in study.datasets.items():
        if dataset.sha256 is not None:
            require_pin(store, "datasets", name, dataset.shown_digest(dataset.sha256))
    made = _made(store) if study.sources else {}
    with registry.using(study.cards):
        for name, source in study.sources.items():
            if source.pretrain is None or source.bundled:
                continue
            here, known = source.pretrain_spec().trial_id, pinned(store, "sources", name)
            others = sorted(trial for trial, sha256 in made.items() if sha256 == known)
            if others and made.get(here) != known:
                raise ResultsConflict(
                    Code.OTHER_DIGEST,
                    f"in {store.uri} there are results of a source {name!r} that was made by {others[0]}; this study "
                    f"makes another, by {here}, and results of both under one name could not be told apart. Give it "
                    "another name, or use another results root",
                    file=store.uri,
                    key=f"sources.{name}",
                )
        for what, name, sha256 in registry.own_digests(study.sources, study.datasets):
            if pinned(store, what, name) not in (None, sha256):
                section = what.split("/")[1]
                raise ResultsConflict(
                    Code.OTHER_DIGEST,
                    f"in {store.uri} there are results of {name!r} under another card among the {section} "
                    "(normaliser, colour, network or threat model differ), and results of both under one name could "
                    "not be told apart. Give it another name, or use another results root",
                    file=store.uri,
                    key=f"{section}.{name}",
                )


def _made(store: Store) -> dict[str, str]:
    """The trials that have made a source, each with the sha256 of its weights."""
    rows = read_trials(store, PretrainSpec.kind, ["trial_id", "trained_sha256"]).to_pylist()
    return {row["trial_id"]: row["trained_sha256"] for row in rows}
