"""Numbers of replicates against textbook values and against simulated studies."""

import numpy as np
import pytest
from contamination.metrics import power
from contamination.metrics.power import Spread, larger_design, power_of, replicates_needed, spread_of
from contamination.metrics.two_way import estimate, estimate_over
from hypothesis import given
from hypothesis import strategies as st

variances = st.floats(0.01, 5)
spreads = st.builds(Spread, variances, variances, variances, st.just(300))


@pytest.mark.parametrize(("effect", "replicates"), [(1.0, 10), (0.5, 34), (0.8, 15)])
def test_without_images_it_is_the_paired_t_test(effect, replicates):
    """Sample sizes of a paired t test at 80 % power, two-sided 5 % (Cohen's tables, G*Power)."""
    assert replicates_needed(Spread(1.0, 0.0, 0.0, 0), effect, images=0) == replicates


@given(spreads, st.floats(0.05, 1), st.integers(3, 50), st.integers(20, 2000))
def test_power_grows_with_replicates_images_and_harm(spread, harm, replicates, images):
    known = power_of(spread, harm, replicates=replicates, images=images)
    assert 0 <= known <= 1 + 1e-9
    assert power_of(spread, harm, replicates=2 * replicates, images=images) >= known - 0.005
    assert power_of(spread, harm, replicates=replicates, images=2 * images) >= known - 0.005
    assert power_of(spread, 1.5 * harm, replicates=replicates, images=images) >= known - 1e-6


@given(st.integers(0, 2**32 - 1))
def test_the_variances_give_the_errors_back(seed):
    rng = np.random.default_rng(seed)
    found = estimate(rng.normal(size=(5, 1)) + rng.normal(size=(1, 40)) + rng.normal(size=(5, 40)))
    spread = spread_of(found)
    whole = spread.replicates / 5 + spread.between_images / 40 + spread.rest / 200
    assert whole == pytest.approx(found.error**2) and spread.images == 40
    of_seeds = spread_of(estimate_over(rng.normal(size=6)))
    assert (of_seeds.between_images, of_seeds.rest, of_seeds.images) == (0, 0, 0)


def test_the_number_is_the_smallest_with_enough_power():
    spread = Spread(4e-4, 0.01, 0.03, 600)
    number = replicates_needed(spread, 0.02, images=600)
    assert power_of(spread, 0.02, replicates=number, images=600) >= power.POWER
    assert power_of(spread, 0.02, replicates=number - 1, images=600) < power.POWER
    assert replicates_needed(Spread(0.0, 0.0, 0.0, 600), 0.02, images=600) == 3


def test_images_that_are_too_few_cannot_be_made_up_for_by_replicates():
    spread = Spread(1e-5, 0.04, 0.03, 300)
    assert replicates_needed(spread, 0.02, images=300) is None
    design = larger_design(spread, 0.02)
    assert design.images > 300
    enough, fewer = (
        power_of(spread, 0.02, replicates=design.replicates, images=design.images - less) for less in (0, 1)
    )
    assert enough >= power.POWER > fewer
    assert larger_design(Spread(100.0, 0.04, 0.03, 300), 0.02) is None  # replicates differ too much


@pytest.mark.medium
def test_simulated_studies_show_the_harm_as_often():
    spread, harm, rng = Spread(4e-4, 0.01, 0.03, 300), 0.03, np.random.default_rng(0)
    number, shown = replicates_needed(spread, harm, images=300), 0
    for _ in range(1500):
        values = rng.normal(-harm, 0.02, (number, 1)) + rng.normal(0, 0.1, (1, 300))
        shown += estimate(values + rng.normal(0, 0.03**0.5, (number, 300))).p_value() < 0.05
    expected = power_of(spread, harm, replicates=number, images=300)
    assert shown / 1500 == pytest.approx(expected, abs=0.04)


def test_a_variance_of_few_replicates_is_hardly_known():
    assert power.variance_known_to(5) == pytest.approx((0.359, 8.26), abs=0.01)
