"""The share that a ratio really replaces: recorded, told where it is not the ratio, refused where it is none."""

import numpy as np
import pytest
from contamination.mixtures import mixing, shares
from hypothesis import assume, given
from hypothesis import strategies as st

FIVE = [5, 5, 5]
some_labels = st.lists(st.integers(0, 6), min_size=1, max_size=200).map(np.array)


@given(some_labels, st.floats(0, 1), st.integers(0, 2**31))
def test_it_is_the_share_of_slots_that_lose_their_image(labels, ratio, seed):
    taken, share = mixing.replaced(labels, ratio, seed=seed), shares.of(labels, ratio)
    assert share.all == pytest.approx(taken.mean())
    by_class = [taken[labels == label].mean() for label in np.unique(labels)]
    assert (share.lowest, share.highest) == pytest.approx((min(by_class), max(by_class)))


@given(some_labels, st.floats(0, 1), st.floats(0, 1))
def test_two_ratios_are_refused_just_where_their_mixtures_are_the_same(labels, one, other):
    assume(one != other)
    masks = [mixing.replaced(labels, ratio, seed=0) for ratio in (one, other)]
    same = bool((masks[0] == masks[1]).all())
    pairs = list(zip((one, other), masks, strict=True))
    none = any((ratio > 0 and not mask.any()) or (ratio < 1 and mask.all()) for ratio, mask in pairs)
    if same or none:
        with pytest.raises(ValueError, match=r"same mixtures|replaces no image|leaves no real image"):
            shares.check([one, other], np.bincount(labels).tolist())
    else:
        shares.check([one, other], np.bincount(labels).tolist())


def test_a_ratio_that_replaces_nothing_is_refused_with_the_smallest_that_does():
    with pytest.raises(ValueError, match=r"ratio 0\.05 replaces no image: the largest class has 5, .* ratio is 0\.1$"):
        shares.check([0, 0.05, 0.1], FIVE)


def test_a_ratio_below_1_that_replaces_everything_is_refused():
    with pytest.raises(ValueError, match=r"ratio 0\.90 leaves no real image: classes have 5 images at most; write 1"):
        shares.check([0, 0.9], FIVE)


def test_two_ratios_of_one_mixture_are_refused_with_the_share_of_both():
    with pytest.raises(ValueError, match=r"ratios 0\.10 and 0\.20 give the same mixtures: each replaces 20 %"):
        shares.check([0, 0.1, 0.2], FIVE)


def test_what_is_not_the_ratio_and_what_empties_a_class_is_told():
    assert shares.remarks([0, 0.2, 0.3, 1], FIVE) == ["ratio 0.30 replaces 40 % of the real images"]
    assert shares.remarks([0, 0.9], [5, 10]) == [
        "ratio 0.90 replaces 93.3 % (90 to 100 % by class) of the real images",
        "ratio 0.90 leaves 1 of 2 classes without a real image",
    ]
