"""The worth of a generated image in real ones: planted rates, exact without noise and covered with it."""

import math

import numpy as np
import pytest
from contamination.metrics.exchange_rate import exchange_rate
from hypothesis import given
from hypothesis import strategies as st

COUNTS = [60, 120, 360, 480, 600]


def score(images: float) -> float:
    return 0.5 + 0.07 * math.log(images)


def exact(counts=COUNTS, seeds: int = 5) -> dict[int, np.ndarray]:
    return {count: np.full(seeds, score(count)) for count in counts}


@given(st.floats(0.01, 0.9), st.sampled_from([60, 120]))
def test_a_planted_rate_is_found(rate, real):
    scores = np.full(5, score(real + rate * (600 - real)))
    found = exchange_rate(exact(), real, 600 - real, scores)
    assert found.mean == pytest.approx(rate, abs=1e-9)
    assert found.low - 1e-9 <= found.mean <= found.high + 1e-9 and found.high - found.low < 0.01  # no noise


def test_an_image_that_harms_has_a_rate_below_zero():
    found = exchange_rate(exact(), 120, 480, np.full(5, score(72)))
    assert found.mean == pytest.approx(-0.1)


def test_outside_of_the_ruler_there_is_no_rate():
    for images in (59, 601):
        assert exchange_rate(exact(), 120, 480, np.full(5, score(images))) is None
    assert exchange_rate(exact([60, 480]), 120, 480, np.full(5, score(500))) is None


def test_an_upper_end_outside_of_the_ruler_is_no_interval_and_a_lower_one_is_cut_off():
    spread = np.array([-0.05, -0.02, 0.0, 0.02, 0.05])
    assert exchange_rate(exact(), 120, 480, score(550) + spread) is None
    found = exchange_rate(exact(), 120, 480, score(75) + spread)
    assert found.low == -0.25 < found.mean < found.high


def test_too_few_seeds_have_a_rate_without_interval():
    found = exchange_rate(exact(seeds=2), 120, 480, np.full(2, score(216)))
    assert found.mean == pytest.approx(0.2) and not found.is_given and found.n == 2


def test_noise_that_lets_the_ruler_fall_is_smoothed():
    ruler = exact() | {480: np.full(5, score(600) + 0.001), 600: np.full(5, score(600) - 0.001)}
    found = exchange_rate(ruler, 60, 540, np.full(5, score(120)))
    assert found.mean == pytest.approx(60 / 540)


@pytest.mark.parametrize(
    ("ruler", "seeds"),
    [({600: np.ones(5)}, 5), (exact(), 4), (exact() | {60: np.ones(3)}, 5), ({0: np.ones(5), 60: np.ones(5)}, 5)],
)
def test_a_ruler_of_one_number_and_seeds_that_differ_are_refused(ruler, seeds):
    with pytest.raises(ValueError, match="needs two numbers of real images"):
        exchange_rate(ruler, 60, 540, np.full(seeds, 0.8))


@pytest.mark.medium
@pytest.mark.parametrize(("seeds", "rate"), [(3, 0.15), (5, 0.15), (5, 0.0), (10, 0.3)])
def test_the_interval_covers_the_planted_rate(seeds, rate):
    """Seeds that shift all arms alike, and noise of each arm that grows where few real images are left."""
    rng, hits, studies = np.random.default_rng(0), 0, 300
    for _ in range(studies):
        shared = rng.normal(0, 0.005, seeds)
        ruler = {count: score(count) + shared + rng.normal(0, 0.6 / count**0.8, seeds) for count in COUNTS}
        scores = score(120 + rate * 480) + shared + rng.normal(0, 0.01, seeds)
        found = exchange_rate(ruler, 120, 480, scores)
        hits += found.low <= rate <= found.high
    assert 0.9 <= hits / studies <= 0.99
