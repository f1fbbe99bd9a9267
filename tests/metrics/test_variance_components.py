"""Planted components are recovered, in every factor and interaction; two factors against the two-way table."""

import math
from itertools import combinations

import numpy as np
import pytest
from contamination.metrics import two_way
from contamination.metrics.variance_components import FACTORS, components, variance_of_mean
from hypothesis import given
from hypothesis import strategies as st

SHAPE = (3, 3, 3, 20)
SETS = [chosen for size in range(1, 5) for chosen in combinations(range(4), size)]
PLANTED = dict.fromkeys(SETS, 0.0)  # by axes
PLANTED |= {(0,): 4.0, (1,): 1.0, (2,): 2.0, (3,): 3.0, (0, 3): 1.5, (1, 2): 0.5, (0, 1, 2, 3): 2.0}


def planted(rng: np.random.Generator) -> np.ndarray:
    """Values of a crossed design with known variances of its factors and interactions."""
    values = np.zeros(SHAPE)
    for chosen, variance in PLANTED.items():
        size = [SHAPE[axis] if axis in chosen else 1 for axis in range(4)]
        values = values + math.sqrt(variance) * rng.standard_normal(size)
    return values


@pytest.mark.medium
def test_planted_components_are_recovered_without_bias():
    rng, studies = np.random.default_rng(0), 600
    found = [components(planted(rng)) for _ in range(studies)]
    for chosen, truth in PLANTED.items():
        estimates = [each[tuple(FACTORS[axis] for axis in chosen)].variance for each in found]
        assert np.mean(estimates) == pytest.approx(truth, abs=4 * np.std(estimates) / math.sqrt(studies))


@pytest.mark.medium
@pytest.mark.parametrize("factor", ["draws", "images"])
def test_an_interval_of_a_component_covers_it(factor):
    rng, truth = np.random.default_rng(1), {"draws": 4.0, "images": 3.0}[factor]
    found = [components(planted(rng))[(factor,)] for _ in range(400)]
    given_ones = [each for each in found if not math.isnan(each.low)]
    assert np.mean([each.low <= truth <= each.high for each in given_ones]) == pytest.approx(0.95, abs=0.03)
    assert len(given_ones) > 350


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(2, 8))
def test_two_factors_are_the_two_way_table(seed, rows, columns):
    values = np.random.default_rng(seed).normal(size=(rows, columns))
    of_rows, of_columns, rest = two_way.mean_squares(values)
    found = components(values)
    assert found["draws",].variance == pytest.approx((of_rows - rest) / columns)
    assert found["slots",].variance == pytest.approx((of_columns - rest) / rows)
    assert found["draws", "slots"].variance == pytest.approx(rest)


def test_the_variance_of_the_mean_is_that_of_the_design_and_falls_with_every_factor():
    found = components(planted(np.random.default_rng(2)))
    levels = dict(zip(FACTORS, SHAPE, strict=True))
    known = variance_of_mean(found, levels)
    assert known == pytest.approx(
        sum(max(0, each.variance) / math.prod(levels[name] for name in names) for names, each in found.items())
    )
    for factor in FACTORS:
        assert variance_of_mean(found, levels | {factor: 2 * levels[factor]}) < known


def test_a_component_that_is_not_found_has_no_interval():
    values = np.tile(np.random.default_rng(0).normal(size=(1, 3, 3, 20)), (3, 1, 1, 1))
    assert components(values)["draws",].variance == pytest.approx(0, abs=1e-12)
    opposed = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert components(opposed)["draws",].variance < 0 and math.isnan(components(opposed)["draws",].low)


@pytest.mark.parametrize("values", [np.ones(5), np.ones((1, 3)), np.array([[1.0, math.nan], [1.0, 2.0]])])
def test_no_components_of_one_level_or_of_what_is_not_a_number(values):
    with pytest.raises(ValueError, match="two levels or more"):
        components(values)
