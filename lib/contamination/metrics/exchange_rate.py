"""How many real images one generated image is worth, measured on the curve of the arm whose slots are left empty."""

import math

import numpy as np

from contamination.metrics.intervals import FEWEST, Interval

GRID = 2001  # numbers of real images that are tested, in equal ratios: 0.1 % apart on a ruler from 60 to 600


def exchange_rate(
    ruler: dict[int, np.ndarray], real: int, generated: int, scores: np.ndarray, *, confidence: float = 0.95
) -> Interval | None:
    """rho: `generated` generated images beside `real` real ones give what rho * generated more real ones would.

    ruler: number of real images -> scores, float (seeds,), of training on them alone. scores: float (seeds,), of the
    same seeds, of training on the mixture. Between its numbers the ruler is straight over their logarithm; its means
    are replaced by the rising ones nearest to them (isotonic). None where the mean score, or the upper end of the
    interval, is outside of the ruler: there is nothing to compare with.

    The interval is made of the numbers of real images whose scores a paired t test over seeds does not tell from those
    of the mixture (Fieller's way), so that the ruler's own error is in it; a lower end below the ruler is no real image
    at all. It covers training seeds, not other test images or generators, and has no ends (NaN) for fewer than
    `intervals.FEWEST`. Raises ValueError for a ruler of fewer than two numbers and where seeds differ in number.
    """
    from scipy import optimize, stats

    counts, seeds = sorted(ruler), len(scores)
    if len(counts) < 2 or counts[0] < 1 or any(len(ruler[count]) != seeds for count in counts):
        raise ValueError("an exchange rate needs two numbers of real images or more, with scores of the same seeds")
    curves = np.array([ruler[count] for count in counts], dtype=np.float64)
    rising = optimize.isotonic_regression(curves.mean(axis=1)).x
    if not rising[0] <= np.mean(scores) <= rising[-1]:
        return None
    worth = math.exp(np.interp(np.mean(scores), rising, np.log(counts)))
    if seeds < FEWEST:
        return Interval((worth - real) / generated, math.nan, math.nan, seeds)

    grid = np.geomspace(counts[0], counts[-1], GRID)
    differences = scores - np.array([np.interp(np.log(grid), np.log(counts), curve) for curve in curves.T]).T
    errors = differences.std(axis=1, ddof=1) / math.sqrt(seeds)
    alike = np.abs(differences.mean(axis=1)) <= stats.t.ppf((1 + confidence) / 2, seeds - 1) * errors
    if alike[-1]:
        return None
    ends = np.append(grid[alike], worth)
    low, high = 0.0 if alike[0] else float(ends.min()), float(ends.max())
    return Interval((worth - real) / generated, (low - real) / generated, (high - real) / generated, seeds)
