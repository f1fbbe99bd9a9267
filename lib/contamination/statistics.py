"""Intervals over seeds."""

import math
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean with its confidence interval over n values; the ends are NaN for fewer than two values."""

    mean: float
    low: float
    high: float
    n: int


def interval(values, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values (one per seed)."""
    from scipy import stats

    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"an interval needs finite values, got {values.tolist()}")
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan, len(values))
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return Interval(mean, mean - float(half), mean + float(half), len(values))


def paired_difference(first: dict[int, float], second: dict[int, float], confidence: float = 0.95) -> Interval:
    """Interval of `second - first` over the seeds that both have: pairing cancels what a seed does to both."""
    seeds = sorted(first.keys() & second.keys())
    return interval([second[seed] - first[seed] for seed in seeds], confidence)
