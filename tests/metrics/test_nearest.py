"""Nearest neighbors against brute force; near-duplicates: copies are found, chance is what was asked for."""

import numpy as np
import pytest
import torch
from contamination.metrics.intervals import Interval, difference
from contamination.metrics.nearest import near_duplicates, nearest, small_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

torch.set_num_threads(1)
seeds = st.integers(0, 10_000)
sizes = st.integers(1, 40)
blocks = st.integers(1, 50)


def draw(seed: int, count: int, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width))


@pytest.mark.medium
@given(seeds, sizes, sizes, st.integers(1, 12), blocks, st.sampled_from([0.0, 1e6]))
def test_the_nearest_is_that_of_brute_force(seed, n, m, width, block, offset):
    queries, references = draw(seed, n, width) + offset, draw(seed + 1, m, width) + offset
    distances, rows = nearest(queries, references, block=block)
    plain = cdist(queries, references)
    assert distances.dtype == np.float64 and rows.dtype == np.int64
    assert np.array_equal(rows, plain.argmin(axis=1))
    assert distances == pytest.approx(plain.min(axis=1), rel=1e-12)


@pytest.mark.medium
@given(seeds, sizes, sizes, st.integers(1, 3), blocks)
def test_of_references_equally_near_the_first_is_named_whatever_the_block(seed, n, m, width, block):
    # Few numbers give many ties; quarters are exact, but their mean and so the matrix product have to be rounded.
    rng = np.random.default_rng(seed)
    queries, references = (rng.integers(4, size=(count, width)) for count in (n, m))
    distances, rows = nearest(queries / 4 + 100, references / 4 + 100, block=block)
    plain = cdist(queries, references)
    assert np.array_equal(rows, plain.argmin(axis=1))
    assert distances == pytest.approx(plain.min(axis=1) / 4, rel=1e-12, abs=0)


@pytest.mark.medium
@given(seeds, sizes, blocks)
@settings(max_examples=30)
def test_block_size_and_order_change_nothing_to_the_last_digit(seed, count, block):
    queries, references = draw(seed, count), draw(seed + 1, 2 * count)
    distances, rows = nearest(queries, references)
    order = np.random.default_rng(seed).permutation(2 * count)
    shuffled, places = nearest(queries, references[order], block=block)
    assert np.array_equal(shuffled, distances) and np.array_equal(order[places], rows)


@pytest.mark.parametrize("gap", [1e-3, 1e-9, 1e-15])
def test_a_copy_is_at_distance_zero_even_beside_almost_a_copy(gap):
    images = draw(0, 30, 200)
    references = np.concatenate([images * (1 + gap), images])
    distances, rows = nearest(images, references)
    assert (distances == 0).all() and np.array_equal(rows, np.arange(30, 60))


def test_all_alike_is_at_distance_zero_from_the_first():
    distances, rows = nearest(np.full((50, 4), 0.1), np.full((70, 4), 0.1), block=16)
    assert (distances == 0).all() and (rows == 0).all()


def test_features_of_any_type_are_compared_as_numbers_and_left_alone():
    queries, references = (np.random.default_rng(seed).integers(0, 256, (20, 5), dtype=np.uint8) for seed in (0, 1))
    expected = nearest(queries.astype(np.float64), references.astype(np.float64))
    assert all(map(np.array_equal, nearest(torch.from_numpy(queries), references), expected))
    halves = nearest(torch.from_numpy(queries).half(), torch.from_numpy(references).float())
    assert all(map(np.array_equal, halves, expected))


BROKEN = draw(0, 20)
BROKEN[[3, 7], 0] = np.nan, np.inf


@pytest.mark.parametrize(
    ("queries", "references", "told"),
    [
        (BROKEN, draw(1, 9), "2 of 20 queries have features that are not finite"),
        (draw(1, 9), BROKEN, "2 of 20 references have features that are not finite"),
        (draw(1, 0), draw(1, 9), "0 queries and 9 references"),
        (draw(1, 9), draw(1, 0), "9 queries and 0 references"),
        (draw(1, 9).ravel(), draw(1, 9), r"not of shape \(54,\)"),
        (draw(1, 9, 5), draw(1, 9), "queries have 5 features, references 6"),
    ],
)
def test_what_has_no_neighbors_is_told_in_one_line(queries, references, told):
    with pytest.raises(ValueError, match=told) as caught:
        nearest(queries, references)
    assert "\n" not in str(caught.value)


def pixels(seed: int, count: int, size: int) -> torch.Tensor:
    images = np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
    return torch.from_numpy(images)


def test_small_images_keep_their_pixels():
    images = pixels(0, 4, 16)
    small = small_pixels(images)
    assert small.dtype == torch.float32 and torch.equal((255 * small).round().byte(), images.flatten(1))


def test_larger_images_are_averaged_over_areas():
    images = pixels(0, 300, 12)
    means = images.double().unflatten(2, (4, 3)).unflatten(4, (4, 3)).mean(dim=(3, 5)) / 255
    assert small_pixels(images, 4).numpy() == pytest.approx(means.flatten(1).numpy(), abs=1e-6)
    assert small_pixels(pixels(0, 2, 50)).shape == (2, 3 * 32 * 32)
    assert small_pixels(torch.full((2, 3, 50, 50), 255, dtype=torch.uint8)).numpy() == pytest.approx(1)


def found_in(*sets, **options):
    """The flags, the pairs and the scores by metric of `near_duplicates`."""
    scores, absent, pairs = near_duplicates(*sets, **options)
    assert not absent
    return pairs["copy"], pairs, {each["metric"]: each for each in scores}


def test_copies_are_found_and_noise_is_not():
    targets, ordinary = small_pixels(pixels(0, 100, 8)), small_pixels(pixels(1, 200, 8))
    generated = torch.cat([targets[[7, 3, 3]], small_pixels(pixels(2, 40, 8))])
    flags, pairs, scores = found_in(generated, ordinary, targets)
    assert flags[:3].all() and pairs["row"][:3].tolist() == [7, 3, 3] and (pairs["distance"][:3] == 0).all()
    assert flags[3:].sum() <= 2
    share = scores["near_duplicates"]
    assert share["n"] == 43 and share["value"] == flags.mean() and share["low"] < share["value"] < share["high"]


def test_almost_copies_are_found():
    images = pixels(0, 100, 8)
    noisy = (images.int() + torch.randint(-9, 10, images.shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 255
    )
    sets = (small_pixels(noisy.byte()), small_pixels(pixels(1, 200, 8)), small_pixels(images))
    flags, pairs, _ = found_in(*sets)
    assert flags.all() and np.array_equal(pairs["row"], np.arange(100))


@given(seeds, st.integers(100, 150), st.sampled_from([0.01, 0.05, 0.29, 0.9]))
@settings(max_examples=30)
def test_flagged_is_what_is_nearer_than_all_but_the_quantile_of_the_others(seed, count, quantile):
    generated, ordinary, targets = draw(seed, 60, 3), draw(seed + 1, count, 3), draw(seed + 2, 30, 3)
    flags, _, scores = found_in(generated, ordinary, targets, quantile=quantile)
    own, others = (cdist(images, targets).min(axis=1) for images in (generated, ordinary))
    # as a rank test says it: among the others and itself, the share that is at least as near
    shares = (1 + (others[None] <= own[:, None]).sum(axis=1)) / (count + 1)
    assert np.array_equal(flags, shares <= quantile + 1e-9)
    usual = scores["near_duplicates_of_real"]
    assert usual["low"] < quantile < usual["high"] and usual["n"] == count
    again, _, _ = found_in(generated, ordinary, targets[::-1].copy(), quantile=quantile)
    assert np.array_equal(again, flags)


@pytest.mark.medium
def test_ordinary_real_images_are_near_duplicates_as_often_as_was_asked_for_and_not_suspicious():
    shares, suspicious = [], 0
    for seed in range(100):
        _, _, scores = found_in(*draw(seed, 600, 4).reshape(3, 200, 4), quantile=0.05)
        usual, share = (
            Interval(*(scores[metric][name] for name in ("value", "low", "high", "n")))
            for metric in ("near_duplicates_of_real", "near_duplicates")
        )
        shares.append(share.mean)
        suspicious += difference(usual, share).low > 0
    assert np.mean(shares) == pytest.approx(0.05, abs=0.01) and suspicious <= 8


def test_the_image_at_the_threshold_is_no_near_duplicate():
    ordinary, targets = draw(1, 119), draw(2, 30)
    flags, pairs, _ = found_in(ordinary, ordinary, targets, quantile=0.05)
    assert flags.sum() == 5 and pairs["distance"][flags].max() < np.sort(pairs["distance"])[5]


def test_a_copy_is_a_near_duplicate_even_where_ordinary_images_are_copies_too():
    targets = draw(0, 50)
    generated = np.concatenate([targets[:5], draw(1, 5)])
    flags, _, _ = found_in(generated, targets[np.arange(200) % 50], targets)
    assert flags.tolist() == 5 * [True] + 5 * [False]


def test_images_of_one_color_are_copies_of_each_other_and_of_no_other():
    blank = np.full((120, 6), 0.3)
    assert found_in(blank, blank, blank)[0].all()
    assert not found_in(blank + 0.5, blank, blank)[0].any()


@pytest.mark.parametrize("quantile", [0, 1, -0.1, 1.2])
def test_a_quantile_that_is_no_share_is_refused_in_one_line(quantile):
    with pytest.raises(ValueError, match=f"quantile {quantile:g} is not allowed") as caught:
        near_duplicates(draw(0, 9), draw(1, 200), draw(2, 9), quantile)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("count", "quantile"), [(1, 0.01), (98, 0.01), (0, 0.5)])
def test_where_too_few_real_images_tell_what_is_usual_the_share_is_absent_and_the_pairs_stay(count, quantile):
    targets = draw(1, 9)
    generated = np.concatenate([draw(0, 9), targets[:2]])
    scores, absent, pairs = near_duplicates(generated, draw(2, count), targets, quantile)
    assert scores == [] and [each["metric"] for each in absent] == ["near_duplicates"]
    assert f"{count} real images cannot tell what distance only a share of {quantile:g}" in absent[0]["reason"]
    distances, rows = nearest(generated, targets)
    assert np.array_equal(pairs["distance"], distances) and np.array_equal(pairs["row"], rows)
    assert pairs["copy"].tolist() == 9 * [False] + 2 * [True]


def test_ninety_nine_real_images_are_enough_for_one_in_a_hundred():
    ordinary, targets = draw(1, 99), draw(2, 9)
    flags, pairs, _ = found_in(draw(0, 9), ordinary, targets)
    assert np.array_equal(flags, pairs["distance"] < nearest(ordinary, targets)[0].min())
    with pytest.raises(ValueError, match="0 queries and 9 references: give at least one of each"):
        near_duplicates(draw(0, 0), ordinary, targets)
