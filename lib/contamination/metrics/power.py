"""How many replicates, and where those do not help how many test images, show a harm of a given size."""

import math
from typing import NamedTuple

from contamination.metrics.intervals import FEWEST
from contamination.metrics.two_way import Estimate

POWER, LEVEL = 0.8, 0.05  # of a two-sided test
MOST = 1000  # replicates


class Spread(NamedTuple):
    """Variances of a difference: between replicates, between images, and of the rest, of one replicate and image.

    images: of the test set; 0 where the images are not known, and `replicates` holds the rest on that test set, too.
    """

    replicates: float
    between_images: float
    rest: float
    images: int


class Design(NamedTuple):
    replicates: int
    images: int


def spread_of(estimate: Estimate) -> Spread:
    """The variances behind an estimate: what its errors would be without the number of replicates and images."""
    n, m = estimate.replicates, max(1, estimate.images)
    left_over = max(0.0, estimate.error**2 - estimate.error_replicates**2 - estimate.error_images**2)
    return Spread(n * estimate.error_replicates**2, m * estimate.error_images**2, n * m * left_over, estimate.images)


def power_of(spread: Spread, harm: float, *, replicates: int, images: int) -> float:
    """The share of studies of a size that show a harm, by the two-way interval or, without images, Student's.

    harm: positive, in the unit of the values. A noncentral t distribution with the degrees of freedom that the true
    variances give (Satterthwaite).
    """
    from scipy import stats

    error, df = _error(spread, replicates, images=images)
    if error == 0:
        return 1.0
    quantile = stats.t.ppf(1 - LEVEL / 2, df)
    return float(stats.nct.sf(quantile, df, harm / error))


def replicates_needed(spread: Spread, harm: float, *, images: int) -> int | None:
    """The fewest replicates on so many images whose power is enough; None where no number up to `MOST` is."""
    return _smallest(lambda number: power_of(spread, harm, replicates=number, images=images), FEWEST, MOST)


def larger_design(spread: Spread, harm: float) -> Design | None:
    """Replicates and test images that show a harm which no number of replicates shows on the images there are.

    Twice the replicates that would do on images without end, and the fewest images that do with these. None where
    replicates differ so much that even then there are too few.
    """
    alone = replicates_needed(spread._replace(between_images=0.0, rest=0.0), harm, images=1)
    if alone is None:
        return None
    number = 2 * alone
    images = _smallest(lambda count: power_of(spread, harm, replicates=number, images=count), 2, 10**9)
    return Design(number, images) if images else None


def variance_known_to(replicates: int) -> tuple[float, float]:
    """Ends of the 95 % interval of a variance between normal replicates, as multiples of the estimate."""
    from scipy import stats

    freedom = replicates - 1
    return freedom / float(stats.chi2.ppf(0.975, freedom)), freedom / float(stats.chi2.ppf(0.025, freedom))


def _error(spread: Spread, replicates: int, *, images: int) -> tuple[float, float]:
    """The standard error of a mean, and its degrees of freedom, as `two_way.estimate` has them."""
    n, m = replicates, max(2, images)
    if not spread.images:
        return math.sqrt(spread.replicates / n), n - 1
    of_replicates, of_images = m * spread.replicates + spread.rest, n * spread.between_images + spread.rest
    total = of_replicates + of_images - spread.rest
    if total == 0:
        return 0.0, n - 1
    spreads = of_replicates**2 / (n - 1) + of_images**2 / (m - 1) + spread.rest**2 / ((n - 1) * (m - 1))
    return math.sqrt(total / (n * m)), total**2 / spreads


def _smallest(power_at, first: int, last: int) -> int | None:
    """The smallest number with enough power, which grows with the number, by halving."""
    if power_at(last) < POWER:
        return None
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if power_at(middle) >= POWER else (middle + 1, last)
    return first
