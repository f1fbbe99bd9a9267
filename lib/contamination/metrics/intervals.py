"""Intervals: over seeds, of shares, over resampled images, of differences."""

import math
from typing import NamedTuple

import numpy as np

FEWEST = 3  # values that an interval is given for: one of two values is seven times as wide as one of five
ADVISED = 5


class Interval(NamedTuple):
    """A mean with its confidence interval over n values.

    The ends are NaN where there is none: for fewer than `FEWEST` values, and for values that are all equal, whose
    spread of 0 says that the measure is too coarse for them, and not that the mean is certain.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def is_given(self) -> bool:
        return not math.isnan(self.low)

    @property
    def why_none(self) -> str:
        """Why the ends are missing, in words."""
        if self.n >= FEWEST:
            return f"{self.n} seeds that hardly differ, no interval"
        return f"{self.n} seed{'s' if self.n > 1 else ''}, no interval"

    def times(self, factor: float) -> "Interval":
        """In another unit; factor: positive."""
        return Interval(factor * self.mean, factor * self.low, factor * self.high, self.n)

    def score(self, metric: str) -> dict:
        """As a row of a record's scores: metric, value, n, low, high."""
        return {"metric": metric, "value": self.mean, "n": self.n, "low": self.low, "high": self.high}


def interval(values, confidence: float = 0.95, *, floor: float = -math.inf, ceiling: float = math.inf) -> Interval:
    """Student's t interval of the mean of independent values (one per seed).

    floor, ceiling: what the measure cannot leave, and so what the interval is cut off at.
    """
    from scipy import stats

    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"an interval needs finite values, got {values.tolist()}")
    mean = float(values.mean())
    if len(values) < FEWEST or np.ptp(values) == 0:
        return Interval(mean, math.nan, math.nan, len(values))
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return Interval(mean, max(floor, mean - float(half)), min(ceiling, mean + float(half)), len(values))


def share_interval(count: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a share, `count` of n independent images: never without width, even for none or all."""
    from scipy import stats

    if n < 1:
        raise ValueError("a share needs at least one image")
    ends = stats.binomtest(count, n).proportion_ci(confidence, method="wilson")
    return Interval(count / n, float(ends.low), float(ends.high), n)


def resampling(count: int, replicates: int, *, seed) -> np.ndarray:
    """How often each of `count` images stands in each bootstrap sample: int64 (count, 1 + replicates).

    Column 0 is the set itself, all ones. seed: an integer or a list of them.
    """
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=replicates)
    return np.hstack([np.ones((count, 1), dtype=np.int64), drawn.T])


def bootstrap_interval(
    values, n: int, *, confidence: float = 0.95, floor: float = -math.inf, ceiling: float = math.inf
):
    """The interval of a measure of n images, whose values on the columns of `resampling` are given.

    The quantiles of the replicates about their own mean, laid about the value of the set itself: drawing images twice
    shifts most measures of sets, and this takes the shift out again. floor, ceiling: what the measure cannot leave.
    """
    value, replicates = float(values[0]), np.asarray(values[1:], dtype=np.float64)
    if not np.isfinite(values).all() or len(replicates) < 2:
        raise ValueError("a bootstrap interval needs two finite replicates or more")
    low, high = value + np.quantile(replicates - replicates.mean(), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, min(value, max(floor, float(low))), max(value, min(ceiling, float(high))), n)


def difference(first: Interval, second: Interval) -> Interval:
    """Interval of `second - first` for two independent estimates with intervals of any shape; n is the smaller one.

    The distances to the ends add up as squares (Zou & Donner, Statistics in Medicine 2008, "MOVER"). Where the two
    share images it is rather too wide than too narrow.
    """
    gap = second.mean - first.mean
    down = math.hypot(second.mean - second.low, first.high - first.mean)
    up = math.hypot(second.high - second.mean, first.mean - first.low)
    return Interval(gap, gap - down, gap + up, min(first.n, second.n))
