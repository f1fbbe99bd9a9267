"""The arithmetic of scores: paired by seed and by test image, wherever these are known."""

import numpy as np
import pandas as pd
import pytest
from contamination.report import results, scores
from contamination.report.scores import Scores
from hypothesis import given
from hypothesis import strategies as st


def random_scores(seed: int, seeds: int = 3, images: int = 20) -> Scores:
    outcomes = {each: np.random.default_rng([seed, each]).random(images) < 0.7 for each in range(seeds)}
    return Scores({each: float(right.mean()) for each, right in outcomes.items()}, outcomes)


@given(st.integers(0, 999), st.integers(0, 999))
def test_a_difference_is_that_of_every_seed_and_image(first, second):
    one, other = random_scores(first), random_scores(second)
    change = one.minus(other)
    for seed in one.values:
        assert change.values[seed] == pytest.approx(one.values[seed] - other.values[seed])
        expected = one.images[seed].astype(int) - other.images[seed].astype(int)
        assert (change.images[seed] == expected).all()
        assert change.images[seed].mean() == pytest.approx(change.values[seed])
    assert one.minus(other).mean == pytest.approx(-other.minus(one).mean)


def test_only_seeds_that_both_have_are_compared():
    one, other = random_scores(0, seeds=3), random_scores(1, seeds=5)
    assert set(other.minus(one).values) == set(other.minus(one).images) == {0, 1, 2}


def test_pairing_cancels_what_a_seed_does_to_both():
    first = {0: 0.80, 1: 0.90, 2: 0.70}
    second = {2: 0.65, 1: 0.85, 0: 0.75, 9: 0.1}
    found = Scores(second, {}).minus(Scores(first, {})).interval(0.95)
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((-0.05, -0.05, -0.05, 3))


def test_without_the_images_of_one_side_a_change_is_over_seeds_alone():
    one, other = random_scores(0), random_scores(1)._replace(images={})
    assert not one.minus(other).images and one.minus(other).estimate().images == 0
    assert one.estimate().images == 20


def test_scores_on_other_images_are_not_paired_image_by_image():
    assert not random_scores(0).minus(random_scores(0, images=7)).images


def test_the_mean_over_points_is_that_of_every_seed():
    parts = [random_scores(each) for each in range(4)]
    for seed, value in scores.mean(parts).values.items():
        assert value == pytest.approx(np.mean([part.values[seed] for part in parts]))


def test_rows_in_percent_keep_their_intervals():
    one = random_scores(0)
    rows = pd.DataFrame({"seed": list(one.values), "draw": 0, "slots": 0, "value": list(one.values.values())})
    rows[scores.PER_IMAGE] = list(one.images.values())
    share = scores.of_rows(rows).interval(0.95, bounds=scores.SHARE)
    percent = scores.of_rows(results.in_percent(rows)).interval(0.95, bounds=(0, 100))
    assert percent == pytest.approx(share.times(100))


def test_an_interval_over_images_is_wider_than_one_over_seeds_that_agree():
    right = np.arange(200) < 160
    agreeing = [np.where(np.arange(200) < seed, ~right, right) for seed in range(3)]  # 160, 159 and 158 of 200
    over_both = Scores({seed: float(each.mean()) for seed, each in enumerate(agreeing)}, dict(enumerate(agreeing)))
    both, alone = (each.interval(0.95) for each in (over_both, over_both._replace(images={})))
    assert both.high - both.low > 2 * (alone.high - alone.low)
