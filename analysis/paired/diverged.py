"""Trials whose loss became NaN or infinite. They count in deltas like all others, which is said wherever deltas are."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.words import counted

LOSSES = ("test_loss", "train_loss")


def diverged_among(pairs: pd.DataFrame, evaluations: pa.Table) -> list[str]:
    """Return a clause on the diverged trials among pairs; empty if there are none.

    Args:
        pairs: ``pairing.Pairing.pairs``.
        evaluations: rows with ``trial_id`` and ``LOSSES``; unrecorded losses do not count.
    """
    wrong = [pc.fill_null(pc.invert(pc.is_finite(evaluations[name])), False) for name in LOSSES]
    diverged = set(evaluations["trial_id"].filter(pc.or_(*wrong)).to_pylist())
    number = len(diverged & {*pairs["trial_id_left"], *pairs["trial_id_right"]})
    verb = "is" if number == 1 else "are"
    return [f"{counted(number, 'trial')} with a loss that is not finite (diverged) {verb} among the pairs"] * bool(
        number
    )
