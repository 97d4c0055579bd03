"""Consistency checks on the rows of a trial that trained a network. No torch."""

from collections.abc import Iterator, Sequence
from math import isclose

from jobs.kind import Contradiction, ResultRow
from jobs.kinds.training.spec import TrainingSpec


def contradictions(rows: Sequence[ResultRow], spec: TrainingSpec | None) -> Iterator[Contradiction]:
    """Check that time increases from row to row, and that learning rates are the recipe's."""
    seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
    if seconds != sorted(seconds):
        yield Contradiction("seconds", f"expected time that increases from row to row; got {seconds[:10]}")
    if spec is None:
        return
    for row in rows:
        if not 1 <= row["epoch"] <= spec.epochs:
            return  # an error that is reported elsewhere
        rate = spec.recipe.learning_rate_at(row["epoch"], spec.epochs)
        if not _same(row["learning_rate"], rate, spec):
            message = f"expected the recipe's learning rate in epoch {row['epoch']}, {rate}; got {row['learning_rate']}"
            yield Contradiction("learning_rate", message)
            return


def _same(found: float | None, expected: float, spec: TrainingSpec) -> bool:
    """Whether a row has the recipe's learning rate. Cosines have other last bits with another C library."""
    if spec.recipe.schedule == "cosine" and found is not None:
        return isclose(found, expected, rel_tol=1e-9)
    return found == expected
