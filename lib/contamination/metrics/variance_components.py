"""Where the variance of a score comes from: crossed draws of the generator, slots, training seeds and test images."""

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np

FACTORS = ("draws", "slots", "seeds", "images")


class Component(NamedTuple):
    """One source of variance, with its interval.

    variance: unbiased, and therefore below 0 at times where it is small. The ends are NaN where it has less than one
    degree of freedom, as where it is not above 0: how much there may be is then not known.
    """

    variance: float
    low: float
    high: float
    df: float


def components(values: np.ndarray, *, confidence: float = 0.95) -> dict[tuple[str, ...], Component]:
    """The variance components of each factor and each interaction, by the names of their factors.

    values: float (draws, slots, seeds, images), one observation each; without the last axis for a measure that has no
    values of images. All factors are random and crossed, so the interaction of all of them is the rest.

    The mean square of a set of factors expects the sum, over all sets that contain it, of their components, each times
    the number of levels of the factors it lacks; solved for the components (Searle, Casella & McCulloch, Variance
    Components, 1992, chapter 4). Intervals as Satterthwaite's (Biometrics Bulletin 1946). Raises ValueError for values
    that are not finite or a factor of one level.
    """
    values = np.asarray(values, dtype=np.float64)
    if not 1 < values.ndim <= len(FACTORS) or min(values.shape) < 2 or not np.isfinite(values).all():
        raise ValueError(f"components need finite values of two levels or more of each factor, got {values.shape}")
    squares = {chosen: _mean_square(values, chosen) for chosen in _sets(values.ndim)}
    solved = {chosen: _solve(squares, chosen, values.shape, confidence) for chosen in squares}
    return {tuple(FACTORS[axis] for axis in chosen): component for chosen, component in solved.items()}


def variance_of_mean(found: dict[tuple[str, ...], Component], levels: dict[str, int]) -> float:
    """The variance of a mean over so many levels of each factor, components below 0 left out.

    It tells where more compute is best spent: what one more level of a factor would take away.
    """
    return sum(
        max(0.0, component.variance) / math.prod(levels[factor] for factor in factors)
        for factors, component in found.items()
    )


def _sets(axes: int) -> list[tuple[int, ...]]:
    return [chosen for size in range(1, axes + 1) for chosen in combinations(range(axes), size)]


def _mean_square(values: np.ndarray, chosen: tuple[int, ...]) -> tuple[float, int]:
    """The mean square of a main effect or interaction, and its degrees of freedom."""
    effect = values.mean(axis=tuple(axis for axis in range(values.ndim) if axis not in chosen), keepdims=True)
    for axis in chosen:  # what is left after all effects of fewer of these factors
        effect = effect - effect.mean(axis=axis, keepdims=True)
    freedom = math.prod(values.shape[axis] - 1 for axis in chosen)
    return float((effect**2).sum() * values.size / effect.size / freedom), freedom


def _solve(squares: dict, chosen: tuple[int, ...], shape: tuple[int, ...], confidence: float) -> Component:
    from scipy import stats

    levels = math.prod(size for axis, size in enumerate(shape) if axis not in chosen)
    terms = [
        ((-1) ** (len(more) - len(chosen)) * square / levels, freedom)
        for more, (square, freedom) in squares.items()
        if set(chosen) <= set(more)
    ]
    variance = sum(term for term, _ in terms)
    spread = sum(term**2 / freedom for term, freedom in terms)
    df = variance**2 / spread if variance > 0 else 0.0
    if df < 1:
        return Component(variance, math.nan, math.nan, df)
    low, high = (df * variance / float(stats.chi2.ppf((1 + sign * confidence) / 2, df)) for sign in (1, -1))
    return Component(variance, low, high, df)
