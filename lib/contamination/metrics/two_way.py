"""Means over replicates and test images: an interval that covers new trainings and new images alike.

A score of n training seeds on m test images has two sources of error: another seed gives another model, other images
are easier or harder for all of them. Most of the spread between runs on one test set is the finiteness of that set
(Jordan, "Calibrated chaos", ICLR 2024). Seeds and images are crossed, so that neither averages the other one out (Owen
& Eckles, Annals of Applied Statistics 2012): more seeds leave the error of the images as it is, and an interval over
seeds alone covers the less the more there are.
"""

import math
from typing import NamedTuple

import numpy as np

from contamination.metrics.intervals import FEWEST, Interval

FEWEST_IMAGES = 10  # test images on which replicates err or differ: fewer leave too little to estimate a variance from
# A t value is skewed, for a mean and its estimated variance go together. To test a mean with the variance that belongs
# to that mean undoes it: at a quantile z to first order, with (2 z^2 + 1) / (3 z^2) of the slope (from the expansion of
# Johnson, JASA 1978), which is 0.75 at 95 % two-sided and 0.79 at 95 % one-sided.
SLOPE_SHARE = 0.75


class Estimate(NamedTuple):
    """A mean over replicates and test images, with what its error is made of.

    error: standard error. df: its degrees of freedom. error_replicates, error_images: the standard errors that each
    factor alone is the cause of; they and what is left over, a training's luck with an image, add up as squares.
    slope: how fast the variance of the mean changes with the mean, its third cumulant over its variance.
    differing: images whose values are not all the commonest value, as those on which a replicate errs; `images` is 0
    for a measure that has no values of images.
    """

    mean: float
    error: float
    df: float
    replicates: int
    images: int
    error_replicates: float
    error_images: float
    slope: float = 0.0
    differing: int = 0

    @property
    def why_none(self) -> str:
        """Why there is no interval, in words; empty where there is one."""
        if self.replicates < FEWEST:
            return f"{self.replicates} replicate{'s' if self.replicates > 1 else ''}, no interval"
        if self.images and self.differing < FEWEST_IMAGES:
            return f"values differ on only {self.differing} of {self.images} test images, no interval"
        return "" if self.error > 0 else f"all {self.replicates} replicates equal, no interval"

    def interval(self, confidence: float = 0.95, floor: float = -math.inf, ceiling: float = math.inf) -> Interval:
        """Where the mean of all replicates on all images lies; n: replicates. No ends, NaN, where `why_none` says why.

        The means that a t test does not reject whose variance changes with the mean: for the share of errors of
        independent images Wilson's interval, nearly. floor, ceiling: what the measure cannot leave.
        """
        from scipy import special  # not stats, which takes a second to load

        if self.why_none:
            return Interval(self.mean, math.nan, math.nan, self.replicates)
        quantile = float(special.stdtrit(self.df, (1 + confidence) / 2))
        shift = quantile**2 * SLOPE_SHARE * self.slope / 2
        half = math.hypot(quantile * self.error, shift)
        low, high = max(floor, self.mean + shift - half), min(ceiling, self.mean + shift + half)
        return Interval(self.mean, low, high, self.replicates)

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided, of a mean of `null`; 1 where there is no interval, for then nothing is shown."""
        return min(1.0, 2 * min(self.one_sided(null, side="above"), self.one_sided(null, side="below")))

    def one_sided(self, margin: float, *, side: str) -> float:
        """The p-value that shows a mean `above` or `below` the margin; 1 where there is no interval.

        Raises ValueError for another side.
        """
        from scipy import special

        if side not in ("above", "below"):
            raise ValueError(f"side {side!r} is not known: give above or below")
        if self.why_none:
            return 1.0
        distance = self.mean - margin if side == "above" else margin - self.mean
        variance = self.error**2 + SLOPE_SHARE * self.slope * (margin - self.mean)
        if variance <= 0:  # a margin that values of such skewness cannot have as their mean
            return float(distance < 0)
        return float(special.stdtr(self.df, -distance / math.sqrt(variance)))


def estimate(values: np.ndarray) -> Estimate:
    """The mean of values of replicates on images they share, as of a two-way random model.

    values: float (replicates, images): one row per training seed, one column per test image, such as 1 for right and 0
    for wrong, or the difference of two arms for the same seed and image.

    y = mean + replicate + image + rest, without a second observation of a pair. The variance of the mean is
    (MS_replicates + MS_images - MS_rest) / (replicates * images), each component cut off at 0, its degrees of freedom
    those of Satterthwaite (Biometrics Bulletin 1946). Raises ValueError for values that are not finite or have another
    shape.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"an estimate needs finite values (replicates, images), got shape {values.shape}")
    n, m = values.shape
    mean, (of_replicates, of_images, of_rest) = values.mean(), mean_squares(values)
    replicates, images = max(0.0, of_replicates - of_rest), max(0.0, of_images - of_rest)
    total = replicates + images + of_rest
    spread = _over(of_replicates**2, n - 1) + _over(of_images**2, m - 1) + _over(of_rest**2, (n - 1) * (m - 1))
    by_image = values.mean(axis=0) - mean
    cumulant = _over((by_image**3).sum(), (m - 1) * (m - 2)) / m  # of the mean over images, unbiased
    return Estimate(
        mean=float(mean),
        error=math.sqrt(total / (n * m)),
        df=_over(total**2, spread),
        replicates=n,
        images=m,
        error_replicates=math.sqrt(replicates / (n * m)),
        error_images=math.sqrt(images / (n * m)),
        slope=_over(cumulant, total / (n * m)),
        differing=_differing(values),
    )


def estimate_over(values: np.ndarray) -> Estimate:
    """The mean of a measure that has no values of images, as a Fréchet distance, over replicates alone.

    values: float (replicates,). Raises ValueError for values that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"an estimate needs finite values (replicates,), got shape {values.shape}")
    n = len(values)
    equal = n == 1 or np.ptp(values) == 0  # rounding gives equal values a spread
    error = 0.0 if equal else float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(float(values.mean()), error, n - 1, n, 0, error, 0.0)


def mean_squares(values: np.ndarray) -> tuple[float, float, float]:
    """Mean squares of the rows, the columns and the rest of a table, float (rows, columns); 0 without freedom."""
    n, m = values.shape
    rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    mean = values.mean()
    rest = values - rows - columns + mean
    return (
        _over(m * ((rows - mean) ** 2).sum(), n - 1),
        _over(n * ((columns - mean) ** 2).sum(), m - 1),
        _over((rest**2).sum(), (n - 1) * (m - 1)),
    )


def _over(above: float, below: float) -> float:
    return float(above / below) if below > 0 else 0.0


def _differing(values: np.ndarray) -> int:
    """Images whose values are not all the commonest of all."""
    distinct, counts = np.unique(values, return_counts=True)
    return int((values != distinct[counts.argmax()]).any(axis=0).sum())
