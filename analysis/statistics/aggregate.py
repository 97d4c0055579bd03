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


def interquartile_mean(strata: Mapping[str, Floats]) -> float:
    """The mean of the middle half of all differences, every stratum counting by its pairs."""
    return float(stats.trim_mean(np.concatenate(list(strata.values())), 0.25))


def probability_of_improvement(strata: Mapping[str, Floats]) -> float:
    """How often a pair's difference is above 0, ties half, averaged over strata; 0.5 means no difference."""
    return float(np.mean([np.mean((values > 0) + 0.5 * (values == 0)) for values in strata.values()]))


def stratified_bootstrap(
    statistic: Callable[[Mapping[str, Floats]], float],
    strata: Mapping[str, Floats],
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 2_000,
) -> Estimate:
    """``statistic`` with a percentile interval: pairs are resampled with replacement within each stratum.

    Args:
        strata: paired differences by stratum (dataset), each with at least two.
    """
    ordered = {name: strata[name] for name in sorted(strata)}
    drawn = [
        statistic({name: rng.choice(values, len(values)) for name, values in ordered.items()}) for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(statistic(ordered), float(low), float(high))
