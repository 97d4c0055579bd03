"""What was run: the progress of the recorded studies, and the finished trials."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from analysis.evaluations.frames import whole_last
from analysis.page.results import Results
from analysis.page.section import Content
from analysis.paired.studies import study_of
from analysis.words import depth_text
from jobs.results import StudyRecord
from jobs.specs.base import ALL
from jobs.specs.contrast import Contrast
from jobs.study.expand import expand


class Progress(NamedTuple):
    """The progress of a study in this root."""

    study: str
    digest: str
    description: str
    planned: int
    done: int
    contrasts: tuple[str, ...]

    @property
    def share(self) -> float:
        return self.done / self.planned if self.planned else 0


def contents(results: Results) -> Iterator[Content]:
    """Studies with their progress, and an overview of the trials."""
    if not results.data.empty:
        values = {
            "studies": [progress(record, results.finished) for record in results.studies],
            "counts": _counts(results.trials),
            "grid": [(name, _values(results.trials[name].to_pylist())) for name in _GRID],
        }
        yield Content(title="What was run", template="what_was_run.html", values=values)


_GRID = ("source", "dataset", "blocks", "images")


def progress(record: StudyRecord, finished: Collection[str]) -> Progress:
    """Count the trials of a recorded study, and how many of them are finished.

    Args:
        finished: the ids of the root's finished trials, of all kinds.
    """
    study = study_of(record)
    planned = {spec.trial_id for spec in expand(study)}
    contrasts = tuple(map(_in_words, record.contrasts))
    return Progress(
        record.name, record.digest, study.description.strip(), len(planned), len(planned & set(finished)), contrasts
    )


def _in_words(contrast: Contrast) -> str:
    depths = " and ".join(map(depth_text, contrast.blocks))
    arms = f"{contrast.source} minus {contrast.baseline}, {depths}"
    if contrast.baseline_blocks is not None:
        arms = f"{contrast.source}: {depths} minus {depth_text(contrast.baseline_blocks)}"
    when = "last epoch" if contrast.epoch == "last" else f"epoch {contrast.epoch}"
    return ", ".join([arms, when, *([f"family {contrast.family}"] if contrast.family is not None else [])])


def _counts(trials: pa.Table) -> str:
    """Describe the number of trials, and the time that they took if it is known."""
    own = sum(origin != "imported" for origin in trials["origin"].to_pylist())
    counts = (("finished own trial{}", own), ("imported trial{}", trials.num_rows - own))
    parts = [f"{count:,} {name.format('' if count == 1 else 's')}" for name, count in counts if count]
    seconds = sum(value or 0 for value in trials["seconds"].to_pylist())
    if seconds:
        time = f"{seconds / 3600:,.1f} hours" if seconds >= 360 else f"{seconds:,.0f} seconds"
        parts.append(f"{time} of trial time")
    return ", ".join(parts)


def _values(values: Sequence[Any]) -> str:
    return ", ".join(
        "all" if value == ALL else f"{value:,}" if isinstance(value, int) else value
        for value in sorted(set(values), key=whole_last)
    )
