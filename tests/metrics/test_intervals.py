"""Intervals against SciPy and by coverage."""

import math

import numpy as np
import pytest
from contamination.metrics.intervals import (
    Interval,
    bootstrap_interval,
    difference,
    interval,
    resampling,
    share_interval,
)
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


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([0.5], "1 seed, no interval"),
        ([0.5, 0.6], "2 seeds, no interval"),
        ([0.5, 0.5, 0.5], "3 seeds that hardly differ, no interval"),
    ],
)
def test_too_few_values_and_equal_ones_have_no_interval(values, why):
    found = interval(values)
    assert math.isnan(found.low) and math.isnan(found.high) and not found.is_given
    assert (found.n, found.why_none) == (len(values), why)


def test_an_interval_is_cut_off_at_what_the_measure_cannot_leave():
    values = [0.95, 0.99, 1.0]
    free, cut = interval(values), interval(values, floor=0, ceiling=1)
    assert free.high > 1 and cut == (free.mean, free.low, 1, 3)


@pytest.mark.parametrize("values", [[], [0.5, math.nan]])
def test_no_interval_of_nothing_or_of_what_is_no_number(values):
    with pytest.raises(ValueError, match="needs finite values"):
        interval(values)


@pytest.mark.medium
def test_the_interval_of_a_share_covers_it_and_has_width_at_both_ends():
    rng = np.random.default_rng(0)
    found = [share_interval(int(count), 60) for count in rng.binomial(60, 0.1, 2000)]
    assert np.mean([each.low <= 0.1 <= each.high for each in found]) == pytest.approx(0.95, abs=0.02)
    assert share_interval(0, 60).high > 0.01 and share_interval(60, 60).low < 0.99
    with pytest.raises(ValueError, match="at least one image"):
        share_interval(0, 0)


def test_a_bootstrap_sample_has_as_many_images_and_the_first_is_the_set_itself():
    counts = resampling(40, 25, seed=[3, 1])
    assert counts.shape == (40, 26) and (counts[:, 0] == 1).all() and (counts.sum(axis=0) == 40).all()
    assert (counts == resampling(40, 25, seed=[3, 1])).all() and (counts != resampling(40, 25, seed=[3, 2])).any()


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for trial in range(400):
        sample = rng.exponential(2, 80)
        counts = resampling(80, 200, seed=trial)
        found = bootstrap_interval(sample @ counts / 80, 80)
        hits += found.low <= 2 <= found.high
    assert hits / 400 == pytest.approx(0.94, abs=0.03)


def test_a_shift_of_all_replicates_does_not_move_a_bootstrap_interval():
    replicates = np.random.default_rng(0).normal(5, 1, 200)
    found, ood = (bootstrap_interval([5.0, *(replicates + by)], 10) for by in (0, 3))
    assert found == pytest.approx(ood)
    assert bootstrap_interval([0.1, *replicates], 10, floor=0, ceiling=1)[1:3] == (0, 1)


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, math.nan]])
def test_no_bootstrap_interval_of_too_few_or_of_what_is_no_number(values):
    with pytest.raises(ValueError, match="two finite replicates"):
        bootstrap_interval(values, 10)


def test_the_interval_of_a_difference_is_the_normal_one_for_symmetric_ends():
    found = difference(Interval(1.0, 0.7, 1.3, 50), Interval(3.0, 2.6, 3.4, 20))
    assert found == pytest.approx((2.0, 1.5, 2.5, 20))
    lopsided = difference(Interval(0.0, 0.0, 0.3, 50), Interval(1.0, 0.6, 1.0, 50))
    assert lopsided == pytest.approx((1.0, 0.5, 1.0, 50))
