"""Over several datasets at once: interquartile mean and probability of improvement, both paired.

After Agarwal et al. (2021), whose ``rliable`` resamples runs of each task; here a task is a dataset and a
run is a pair, so what is resampled keeps source and baseline of one seed together.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.statistics.paired_t import Floats


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float


def interquartile_mean(strata: Mapping[str, Floats]) -> Floats:
    """The mean of the middle half of all differences, every stratum counting by its pairs.

    Args:
        strata: differences along the last axis; any axes before it are those of the result.
    """
    return np.asarray(stats.trim_mean(np.concatenate(list(strata.values()), axis=-1), 0.25, axis=-1))


def probability_of_improvement(strata: Mapping[str, Floats]) -> Floats:
    """How often a pair's difference is above 0, ties half, averaged over strata; 0.5 means no difference.

    Args:
        strata: differences along the last axis; any axes before it are those of the result.
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
    """``statistic`` with a percentile interval: pairs are resampled with replacement within each stratum.

    Args:
        statistic: of differences along the last axis, as those above.
        strata: paired differences by stratum (dataset), each with at least two.
    """
    ordered = {name: strata[name] for name in sorted(strata)}
    drawn = {name: rng.choice(values, (resamples, len(values))) for name, values in ordered.items()}
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistic(drawn), [tail, 1 - tail])
    return Estimate(float(statistic(ordered)), float(low), float(high))
