"""Holm against closed testing; shares in order by the errors of simulated studies."""

import itertools

import numpy as np
import pytest
from contamination.metrics.multiplicity import harm_shown_from, holm, largest_harmless
from contamination.metrics.two_way import estimate, estimate_over
from hypothesis import given
from hypothesis import strategies as st
from support import simulated_scores

STUDIES = 1000
MOST = 0.05 + 3 * (0.05 * 0.95 / STUDIES) ** 0.5  # and three standard errors of the simulation


def closed_testing(p_values: list[float]) -> list[float]:
    """Adjusted by definition: the largest Bonferroni value of all sets of comparisons that a comparison is in."""
    places = range(len(p_values))
    sets = [chosen for size in places for chosen in itertools.combinations(places, size + 1)]
    of_set = {chosen: min(1.0, len(chosen) * min(p_values[place] for place in chosen)) for chosen in sets}
    return [max(of_set[chosen] for chosen in sets if place in chosen) for place in places]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p_values):
    assert holm(p_values) == pytest.approx(closed_testing(p_values))


def test_holm_of_nothing_is_nothing_and_of_one_is_itself():
    assert holm([]) == [] and holm([0.03]) == [0.03]


def around(mean: float, spread: float = 0.001):
    """An estimate that is a little uncertain."""
    return estimate_over(mean + spread * np.array([-1.0, 0.0, 1.0, 0.5, -0.5]))


LOSSES = [(0.2, around(-0.0003)), (0.4, around(-0.012)), (0.8, around(-0.05)), (0.9, around(-0.015))]


def test_shares_are_harmless_up_to_the_first_that_is_not_shown():
    assert largest_harmless(LOSSES, margin=0.02, confidence=0.95) == 0.4  # not 0.9, which comes after a failure
    assert largest_harmless(LOSSES, margin=0.1, confidence=0.95) == 0.9
    assert largest_harmless(LOSSES, margin=0.0005, confidence=0.95) is None
    assert largest_harmless([], margin=0.02, confidence=0.95) is None


def test_harm_is_shown_from_a_share_on_at_all_larger_ones():
    assert harm_shown_from(LOSSES, confidence=0.95) == 0.4
    assert harm_shown_from(LOSSES, margin=0.01, confidence=0.95) == 0.4
    assert harm_shown_from(LOSSES, margin=0.02, confidence=0.95) is None  # 0.9 comes first
    assert harm_shown_from(LOSSES[:3], margin=0.02, confidence=0.95) == 0.8


def test_the_order_of_the_list_is_of_no_account():
    assert largest_harmless(LOSSES[::-1], margin=0.02, confidence=0.95) == 0.4
    assert harm_shown_from(LOSSES[::-1], confidence=0.95) == 0.4


def test_a_share_without_interval_is_shown_to_be_nothing():
    unknown = [(0.4, estimate_over(np.array([-0.001, -0.001])))]
    assert largest_harmless([LOSSES[0], *unknown, LOSSES[3]], margin=0.02, confidence=0.95) == 0.2
    assert harm_shown_from([*unknown, LOSSES[3]], confidence=0.95) == 0.9


def test_a_margin_of_nothing_or_less_is_refused():
    with pytest.raises(ValueError, match="margin 0: give a loss above 0"):
        largest_harmless(LOSSES, margin=0, confidence=0.95)
    with pytest.raises(ValueError, match="margin -1: give a loss of 0 or more"):
        harm_shown_from(LOSSES, margin=-1, confidence=0.95)


# Errors in simulated studies


def study(rng, losses: list[float]) -> list[tuple]:
    """Normal values of several arms on the same images minus one clean arm: 6 replicates, 60 images."""
    shared = rng.normal(0, 0.05, (6, 1)) + rng.normal(0, 0.2, (1, 60)) + rng.normal(0, 0.3, (6, 60))
    arms = []
    for share, loss in enumerate(losses):
        own = rng.normal(0, 0.02 * (1 + share), (6, 1)) + rng.normal(0, 0.1, (1, 60)) + rng.normal(0, 0.3, (6, 60))
        arms.append((share, estimate(own - loss - shared)))
    return arms


@pytest.mark.medium
def test_holm_finds_a_difference_where_there_is_none_in_at_most_one_study_of_twenty():
    rng = np.random.default_rng(0)
    wrong = [min(holm([found.p_value() for _, found in study(rng, [0.0] * 5)])) < 0.05 for _ in range(STUDIES)]
    assert 0.005 < np.mean(wrong) < MOST


@pytest.mark.medium
@pytest.mark.parametrize("losses", [[0.1, 0.1, 0.1, 0.1], [0.0, 0.05, 0.1, 0.3], [0.0, 0.1, 0.0, 0.1]])
def test_a_harmful_share_is_called_harmless_in_at_most_one_study_of_twenty(losses):
    rng, first = np.random.default_rng(0), losses.index(0.1)  # the smallest share whose loss is the margin
    answers = [largest_harmless(study(rng, losses), margin=0.1, confidence=0.95) for _ in range(STUDIES)]
    assert np.mean([answer is not None and answer >= first for answer in answers]) < MOST


@pytest.mark.medium
@pytest.mark.parametrize("losses", [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.1, 0.5], [0.2, 0.0, 0.2, 0.3]])
def test_harm_is_shown_from_a_harmless_share_on_in_at_most_one_study_of_twenty(losses):
    rng, last = np.random.default_rng(0), max(share for share, loss in enumerate(losses) if loss == 0)
    answers = [harm_shown_from(study(rng, losses), confidence=0.95) for _ in range(STUDIES)]
    assert np.mean([answer is not None and answer <= last for answer in answers]) < MOST


@pytest.mark.medium
@pytest.mark.parametrize(("replicates", "images"), [(5, 138), (5, 600), (10, 300)])
def test_rare_errors_are_skewed_and_a_loss_at_the_margin_is_called_harmless_in_at_most_one_study_of_twelve(
    replicates, images
):
    """What the skewness of replicates adds, which 5 of them do not tell; a t test is wrong in up to one of eight."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(STUDIES):
        first, second = simulated_scores.two_arms(rng, (0.995, 0.975), replicates=replicates, images=images)
        wrong += largest_harmless([(0.2, estimate(second - first))], margin=0.02, confidence=0.95) is not None
    assert wrong / STUDIES < 1 / 12
