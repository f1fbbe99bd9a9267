"""The two-way interval: against closed forms, by its invariances, and by how often it covers in simulated studies."""

import math

import numpy as np
import pytest
from contamination.metrics import two_way
from contamination.metrics.intervals import interval
from contamination.metrics.two_way import estimate, estimate_over
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support import simulated_scores

SIZES = [(3, 138), (3, 600), (5, 300), (10, 138), (10, 600)]  # replicates, images
ACCURACIES = [0.5, 0.9, 0.97, 0.995, 0.999]
STUDIES = 400


def table(seed: int, replicates: int, images: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(replicates, images))


sizes = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(3, 40))


# What it computes


@given(sizes)
def test_mean_squares_add_up_to_the_whole_sum_of_squares(size):
    values = table(*size)
    n, m = values.shape
    rows, columns, rest = two_way.mean_squares(values)
    whole = ((values - values.mean()) ** 2).sum()
    assert (n - 1) * rows + (m - 1) * columns + (n - 1) * (m - 1) * rest == pytest.approx(whole)


@given(sizes)
def test_the_parts_of_the_error_and_what_is_left_add_up_as_squares(size):
    values = table(*size)
    found = estimate(values)
    rest = two_way.mean_squares(values)[2] / values.size
    assert found.error**2 == pytest.approx(found.error_replicates**2 + found.error_images**2 + rest)
    assert (found.mean, found.replicates, found.images) == (pytest.approx(values.mean()), *values.shape)


@given(sizes, st.floats(-5, 5), st.floats(0.1, 10))
def test_another_unit_and_the_order_of_replicates_and_images_change_nothing(size, shift, factor):
    values = table(*size)
    rng = np.random.default_rng(1)
    shuffled = rng.permutation(rng.permutation(values, axis=0), axis=1)
    plain, scaled = estimate(values), estimate(shift + factor * shuffled)
    assert scaled.mean == pytest.approx(shift + factor * plain.mean, abs=1e-6)
    for name in ("error", "error_replicates", "error_images", "slope"):
        assert getattr(scaled, name) == pytest.approx(factor * getattr(plain, name), rel=1e-4, abs=1e-6)
    assert scaled.df == pytest.approx(plain.df, rel=1e-4)


def test_each_factor_alone_gives_students_error():
    """Replicates that agree on all images differ in nothing but images, and the reverse."""
    rng = np.random.default_rng(0)
    images, replicates = rng.normal(size=40), rng.normal(size=6)
    of_images, of_replicates = estimate(np.tile(images, (6, 1))), estimate(np.tile(replicates[:, None], (1, 40)))
    assert (of_images.error, of_images.df) == pytest.approx((stats.sem(images), 39))
    assert (of_replicates.error, of_replicates.df) == pytest.approx((stats.sem(replicates), 5))
    assert of_images.error_replicates == pytest.approx(0, abs=1e-8) == of_replicates.error_images


@pytest.mark.medium
def test_the_variance_is_that_of_repeated_studies():
    """Mean of the estimated variance against the variance of the mean, where no component is near 0."""
    rng, found = np.random.default_rng(0), []
    for _ in range(4000):
        values = rng.normal(0, 1, (5, 1)) + rng.normal(0, 3, (1, 40)) + rng.normal(0, 0.5, (5, 40))
        found.append(estimate(values))
    truth = 1 / 5 + 9 / 40 + 0.25 / 200
    assert np.mean([each.error**2 for each in found]) == pytest.approx(truth, rel=0.03)
    assert np.var([each.mean for each in found]) == pytest.approx(truth, rel=0.06)
    assert np.mean([each.error_images**2 for each in found]) == pytest.approx(9 / 40, rel=0.03)


def test_without_values_of_images_it_is_students():
    values = [0.91, 0.93, 0.90, 0.95, 0.92]
    found = estimate_over(np.array(values))
    assert found.interval(0.9) == pytest.approx(interval(values, 0.9))
    assert found.p_value(0.9) == pytest.approx(stats.ttest_1samp(values, 0.9).pvalue)
    assert found.one_sided(0.9, side="above") == pytest.approx(
        stats.ttest_1samp(values, 0.9, alternative="greater").pvalue
    )
    assert (found.images, found.error_images, found.error) == (0, 0, found.error_replicates)


def test_errors_of_independent_images_that_all_replicates_share_have_wilsons_interval_nearly():
    """Wilson's variance at another mean grows by the whole slope, and this by three quarters of it."""
    right = np.ones((5, 400))
    right[:, :20] = 0
    found = estimate(right).interval(0.95)
    wilson = stats.binomtest(380, 400).proportion_ci(0.95, method="wilson")
    assert found[1:3] == pytest.approx((wilson.low, wilson.high), abs=0.003)
    assert found.mean - found.low > 1.2 * (found.high - found.mean)


# Intervals and tests agree


@given(sizes.filter(lambda size: size[1] >= 3 and size[2] >= 12), st.sampled_from([0.8, 0.9, 0.95]))
def test_an_end_of_the_interval_is_where_the_test_just_rejects(size, confidence):
    found = estimate(np.exp(table(*size)))
    _, low, high, _ = found.interval(confidence)
    assert low < found.mean < high
    assert found.p_value(low) == pytest.approx(1 - confidence, rel=1e-6)
    assert found.p_value(high) == pytest.approx(1 - confidence, rel=1e-6)
    assert found.one_sided(low, side="above") == pytest.approx((1 - confidence) / 2, rel=1e-6)
    assert found.one_sided(high, side="below") == pytest.approx((1 - confidence) / 2, rel=1e-6)


@given(sizes.filter(lambda size: size[1] >= 3 and size[2] >= 12), st.floats(-3, 8), st.floats(0.01, 3))
def test_a_margin_farther_from_the_mean_is_shown_more_clearly(size, margin, step):
    found = estimate(np.exp(table(*size)))
    near, far = (found.one_sided(each, side="below") for each in (margin, margin + step))
    assert far <= near and found.one_sided(margin, side="above") == pytest.approx(1 - near)


def test_an_interval_is_cut_off_at_what_the_measure_cannot_leave():
    right = np.ones((3, 200))
    right[0, :30] = right[1, 20:30] = 0
    free, cut = (estimate(right).interval(0.99, **ends) for ends in ({}, {"floor": 0, "ceiling": 1}))
    assert free.high > 1 and cut == (free.mean, free.low, 1, 3)


@given(st.integers(0, 2**32 - 1))
def test_errors_near_none_and_near_all_are_treated_alike(seed):
    right = (np.random.default_rng(seed).random((4, 150)) > 0.08).astype(float)
    near_one, near_none = (estimate(values).interval(0.95, 0, 1) for values in (right, 1 - right))
    assert near_none[:3] == pytest.approx((1 - near_one.mean, 1 - near_one.high, 1 - near_one.low))


# Where there is none


@pytest.mark.parametrize(
    ("replicates", "wrong", "why"),
    [
        (1, 50, "1 replicate, no interval"),
        (2, 50, "2 replicates, no interval"),
        (5, 9, "values differ on only 9 of 300 test images, no interval"),
        (5, 0, "values differ on only 0 of 300 test images, no interval"),
    ],
)
def test_too_few_replicates_and_too_few_errors_have_no_interval_and_show_nothing(replicates, wrong, why):
    right = np.ones((replicates, 300))
    right[0, :wrong] = 0
    found = estimate(right)
    assert found.why_none == why
    assert not found.interval(0.95).is_given and found.interval(0.95).n == replicates
    assert found.p_value() == 1 == found.one_sided(0.0, side="above")


def test_equal_values_without_images_have_no_interval():
    found = estimate_over(np.array([0.1, 0.1, 0.1]))
    assert found.why_none == "all 3 replicates equal, no interval" and found.p_value() == 1


@pytest.mark.parametrize("values", [[], [1.0, 2.0], [[1.0, math.nan]], [[]]])
def test_no_estimate_of_nothing_or_of_another_shape_or_of_what_is_not_a_number(values):
    with pytest.raises(ValueError, match="needs finite values"):
        estimate(np.array(values))


@pytest.mark.parametrize("values", [[], [1.0, math.inf], [[1.0, 2.0]]])
def test_no_estimate_over_replicates_of_nothing_or_of_what_is_not_a_number(values):
    with pytest.raises(ValueError, match="needs finite values"):
        estimate_over(np.array(values))


def test_another_side_is_refused():
    with pytest.raises(ValueError, match="give above or below"):
        estimate_over(np.array([1.0, 2.0, 3.0])).one_sided(0.0, side="left")


# How often it covers


def simulated(accuracies: tuple[float, float], replicates: int, images: int) -> list[tuple]:
    """Estimates of the first arm's accuracy and of the difference, in many studies."""
    rng, found = np.random.default_rng(0), []
    for _ in range(STUDIES):
        first, second = simulated_scores.two_arms(rng, accuracies, replicates=replicates, images=images)
        found.append((estimate(first), estimate(second - first)))
    return found


def covers(given_interval, truth: float) -> bool:
    return given_interval.low <= truth <= given_interval.high


@pytest.mark.medium
@pytest.mark.parametrize("accuracy", ACCURACIES)
@pytest.mark.parametrize(("replicates", "images"), SIZES)
@pytest.mark.parametrize("loss", [0, 0.02])
def test_what_is_printed_covers_new_replicates_and_new_images(accuracy, replicates, images, loss):
    """93 to 98 % where nearly every study prints one, give or take 3 standard errors of the simulation.

    Where few do, those are the studies that came out unlike the truth; not more than 7 % of all may be wrong then.
    """
    found = simulated((accuracy, accuracy - loss), replicates, images)
    for estimates, truth in zip(zip(*found, strict=True), (accuracy, -loss), strict=True):
        printed = [each.interval(0.95) for each in estimates if not each.why_none]
        right = sum(covers(each, truth) for each in printed)
        error = 3 * math.sqrt(0.05 * 0.95 / STUDIES)
        assert len(printed) - right <= (0.07 + error) * STUDIES
        if len(printed) > 0.9 * STUDIES:
            assert 0.93 - error <= right / len(printed) <= 0.98 + error


@pytest.mark.medium
def test_an_interval_over_replicates_alone_covers_less_the_more_there_are():
    shares = {}
    for replicates in (3, 10):
        rng, hits = np.random.default_rng(0), 0
        for _ in range(STUDIES):
            right, _ = simulated_scores.two_arms(rng, (0.97, 0.97), replicates=replicates, images=300)
            hits += covers(interval(right.mean(axis=1)), 0.97)
        shares[replicates] = hits / STUDIES
    assert shares[10] < 0.75 < shares[3] < 0.93
