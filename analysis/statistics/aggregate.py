"""Statistics over several datasets: interquartile mean and probability of improvement, both paired.

After Agarwal et al. (2021), whose ``rliable`` resamples the runs of each task. Here a task is a dataset and a run is a
pair, so that resampling keeps source and baseline of one seed together.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.statistics.paired_t import Floats


class Estimate(NamedTuple):
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


def interquartile_mean(strata: Mapping[str, Floats]) -> Floats:
    """Return the mean of the middle half of all differences; each stratum is weighted by its number of pairs.

    Args:
        strata: differences along the last axis; leading axes are kept in the result.
    """
    return np.asarray(stats.trim_mean(np.concatenate(list(strata.values()), axis=-1), 0.25, axis=-1))


def probability_of_improvement(strata: Mapping[str, Floats]) -> Floats:
    """Return the share of pairs with a difference above 0, averaged over strata; ties count half, 0.5 is no difference.

    Args:
        strata: differences along the last axis; leading axes are kept in the result.
    """
    shares = [np.mean((values > 0) + 0.5 * (values == 0), axis=-1) for values in strata.values()]
    return np.asarray(np.mean(shares, axis=0))


def stratified_bootstrap(
    statistic: Callable[[Mapping[str, Floats]], Floats],
    strata: Mapping[str, Floats],
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 2_000,
) -> Estimate:
    """Return ``statistic`` with a percentile interval; pairs are resampled with replacement within each stratum.

    Args:
        statistic: a function of differences along the last axis, such as those above.
        strata: paired differences by stratum (dataset), at least two in each.
    """
    ordered = {name: strata[name] for name in sorted(strata)}
    drawn = {name: rng.choice(values, (resamples, len(values))) for name, values in ordered.items()}
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistic(drawn), [tail, 1 - tail])
    return Estimate(float(statistic(ordered)), float(low), float(high))
