"""Intervals against SciPy and by coverage."""

import math

import numpy as np
import pytest
from contamination.statistics import interval, paired_difference
from scipy import stats


def test_the_interval_is_students():
    values = [0.91, 0.93, 0.90, 0.95, 0.92]
    found = interval(values, 0.9)
    low, high = stats.t.interval(0.9, 4, np.mean(values), stats.sem(values))
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((np.mean(values), low, high, 5))


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [interval(rng.normal(3, 1, 5)) for _ in range(2000)]
    assert np.mean([each.low <= 3 <= each.high for each in found]) == pytest.approx(0.95, abs=0.015)


def test_one_value_has_no_interval():
    assert math.isnan(interval([0.5]).low) and interval([0.5]).n == 1


@pytest.mark.parametrize("values", [[], [0.5, math.nan]])
def test_no_interval_of_nothing_or_of_what_is_no_number(values):
    with pytest.raises(ValueError, match="needs finite values"):
        interval(values)


def test_pairing_cancels_what_a_seed_does_to_both():
    first = {0: 0.80, 1: 0.90, 2: 0.70}
    second = {2: 0.65, 1: 0.85, 0: 0.75, 9: 0.1}
    found = paired_difference(first, second)
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((-0.05, -0.05, -0.05, 3))
