"""Distances between feature sets: against published formulas and packages, with every convention pinned."""

import contextlib
import io

import numpy as np
import pytest
import torch
from contamination.metrics import distributions
from contamination.metrics.intervals import resampling, share_interval
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

torch.set_num_threads(1)
MEASURES = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
sizes = st.integers(7, 60)
seeds = st.integers(0, 10_000)


def values(real, generated, k: int = 5) -> dict:
    return {row["metric"]: row["value"] for row in distributions.compare(real, generated, k)}


def draw(seed: int, count: int, width: int, clusters: int = 0) -> np.ndarray:
    """Gaussian features, around the origin or around as many centers."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, width))
    if clusters:
        features = 0.1 * features + rng.normal(size=(clusters, width))[rng.integers(clusters, size=count)]
    return features


def plain_neighbors(real, generated, k: int) -> dict:
    """The four definitions word by word, on distances without rounding between equal pairs."""
    radii = [np.sort(cdist(features, features), axis=1)[:, k] for features in (real, generated)]
    across = cdist(real, generated)
    inside = across < radii[0][:, None]
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": (across < radii[1]).any(axis=1).mean(),
        "density": inside.sum(axis=0).mean() / k,
        "coverage": (across.min(axis=1) < radii[0]).mean(),
    }


def plain_replicate(real, generated, drawn, k: int) -> dict:
    """The measures of one replicate, whose images stand in rows as often as drawn. drawn: row numbers of both sets."""
    rows, columns = drawn
    radii = [np.sort(cdist(features, features), axis=1)[:, k] for features in (real, generated)]
    across = cdist(real, generated)
    inside = (across < radii[0][:, None])[np.ix_(rows, columns)]

    def kernel(first, second):
        return (first @ second.T / first.shape[1] + 1) ** 3

    def within(features, chosen):
        return kernel(features[chosen], features[chosen])[chosen[:, None] != chosen].mean()

    between = kernel(real[rows], generated[columns]).mean()
    return {
        "frechet_distance": scipy_frechet(real[rows], generated[columns]),
        "kernel_distance": within(real, rows) + within(generated, columns) - 2 * between,
        "precision": inside.any(axis=0).mean(),
        "recall": (across < radii[1])[np.ix_(rows, columns)].any(axis=1).mean(),
        "density": inside.sum(axis=0).mean() / k,
        "coverage": inside.any(axis=1).mean(),
    }


def scipy_frechet(real, generated) -> float:
    covariances = [np.cov(features, rowvar=False) for features in (real, generated)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    shift = real.mean(axis=0) - generated.mean(axis=0)
    return shift @ shift + np.trace(covariances[0] + covariances[1] - 2 * root)


@given(seeds, st.integers(40, 80), st.integers(40, 80), st.integers(2, 12))
@settings(max_examples=30)
def test_frechet_distance_is_the_formula_with_a_matrix_square_root(seed, n, m, width):
    real, generated = draw(seed, n, width), 0.5 + 1.5 * draw(seed + 1, m, width)
    assert distributions.frechet_distance(real, generated) == pytest.approx(scipy_frechet(real, generated), abs=1e-9)


class Flatten(torch.nn.Module):
    num_features = 12

    def forward(self, images):
        return images.flatten(1)


def test_frechet_distance_is_that_of_torchmetrics():
    real, generated = torch.from_numpy(draw(0, 90, 12)), torch.from_numpy(draw(1, 70, 12, clusters=3))
    reference = FrechetInceptionDistance(feature=Flatten(), input_img_size=(3, 2, 2)).set_dtype(torch.float64)
    reference.update(real.view(-1, 3, 2, 2), real=True)
    reference.update(generated.view(-1, 3, 2, 2), real=False)
    assert distributions.frechet_distance(real, generated) == pytest.approx(reference.compute().item(), rel=1e-9)


def test_fewer_images_than_features_cost_no_accuracy():
    real = draw(0, 20, 64)
    assert distributions.frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    turned = np.zeros((20, 128))
    turned[:, 64:] = real
    real = np.pad(real, ((0, 0), (0, 64)))  # in spaces at right angles the covariances have no root in common
    spread = np.trace(np.cov(real, rowvar=False)) + np.trace(np.cov(turned, rowvar=False))
    shift = np.square(real.mean(axis=0) - turned.mean(axis=0)).sum()
    assert distributions.frechet_distance(real, turned) == pytest.approx(spread + shift, rel=1e-12)


@given(seeds, sizes, st.integers(1, 12), st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=30)
def test_frechet_distance_is_never_negative_and_the_same_both_ways(seed, count, width, scale):
    real, generated = scale * draw(seed, count, width), scale * draw(seed + 1, count, width)
    there, back = (distributions.frechet_distance(*pair) for pair in ((real, generated), (generated, real)))
    assert there == pytest.approx(back, rel=1e-9) and there >= 0
    assert 0 <= distributions.frechet_distance(real, real) <= 1e-12 * np.square(real).sum()


def test_frechet_distance_of_ood_gaussians_approaches_the_squared_shift():
    real, generated = draw(0, 20_000, 8), draw(1, 20_000, 8)
    assert distributions.frechet_distance(real, generated + 3) == pytest.approx(8 * 9, rel=0.02)
    assert distributions.frechet_distance(real, 3 * generated) == pytest.approx(8 * (3 - 1) ** 2, rel=0.02)


@given(seeds, st.integers(2, 60), st.integers(1, 12))
@settings(max_examples=30)
def test_kernel_distance_is_that_of_torchmetrics_over_all_images(seed, count, width):
    real, generated = torch.from_numpy(draw(seed, count, width)), torch.from_numpy(1 + draw(seed + 1, count, width))
    reference = poly_mmd(real, generated).item()
    assert distributions.kernel_distance(real, generated) == pytest.approx(reference, rel=1e-9, abs=1e-9)


@given(seeds, st.integers(2, 20), st.integers(2, 20), st.integers(1, 8))
@settings(max_examples=30)
def test_kernel_distance_of_unequal_sets_is_the_unbiased_sum_over_pairs(seed, n, m, width):
    real, generated = draw(seed, n, width), draw(seed + 1, m, width)

    def mean(first, second, pairs):
        return np.mean([(first[i] @ second[j] / width + 1) ** 3 for i, j in pairs])

    def distinct(count):
        return [(i, j) for i in range(count) for j in range(count) if i != j]

    across = mean(real, generated, [(i, j) for i in range(n) for j in range(m)])
    expected = mean(real, real, distinct(n)) + mean(generated, generated, distinct(m)) - 2 * across
    assert distributions.kernel_distance(real, generated) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.medium
@given(seeds, sizes, sizes, st.integers(1, 16), st.integers(1, 5), st.integers(0, 4))
@settings(max_examples=40)
def test_neighbors_are_those_of_prdc(seed, n, m, width, k, clusters):
    real, generated = draw(seed, n, width, clusters), draw(seed, m, width, clusters) + 0.05
    with contextlib.redirect_stdout(io.StringIO()):
        reference = compute_prdc(real, generated, nearest_k=k)
    assert distributions.neighbors(real, generated, k=k) == pytest.approx(reference, rel=1e-12)


@pytest.mark.medium
@given(seeds, sizes, sizes, st.integers(1, 3), st.integers(1, 5), st.integers(1, 70))
def test_copies_and_ties_are_outside_whatever_the_block(seed, n, m, width, k, block):
    # Few whole numbers give many ties; as multiples of pi far from 0 they give matrix products something to round.
    rng = np.random.default_rng(seed)
    real, generated = (rng.integers(4, size=(count, width)) for count in (n, m))
    if (np.sort(cdist(real, real), axis=1)[:, k] > 0).any():
        found = distributions.neighbors(np.pi * real + 100, np.pi * generated + 100, k=k, block=block)
        assert found == pytest.approx(plain_neighbors(real, generated, k), rel=1e-12)


@pytest.mark.medium
@given(seeds, sizes, st.integers(1, 70))
@settings(max_examples=30)
def test_block_size_and_row_order_change_nothing(seed, count, block):
    real, generated = draw(seed, count, 6, clusters=2), draw(seed + 1, 2 * count, 6)
    whole = distributions.neighbors(real, generated)
    assert distributions.neighbors(real, generated, block=block) == whole
    parts = distributions.kernel_distance(real, generated, block=block)
    assert parts == pytest.approx(distributions.kernel_distance(real, generated), rel=1e-9, abs=1e-12)
    rng = np.random.default_rng(seed)
    assert values(rng.permutation(real), rng.permutation(generated)) == pytest.approx(
        values(real, generated), rel=1e-9, abs=1e-9
    )


@given(seeds, sizes, sizes, st.integers(1, 5), st.integers(1, 70))
@settings(max_examples=30)
def test_replicates_are_the_measures_of_the_drawn_images_whatever_the_block(seed, n, m, k, block):
    real, generated = draw(seed, n, 3), 0.5 + 1.5 * draw(seed + 1, m, 3)
    pair = torch.from_numpy(real), torch.from_numpy(generated)
    counts = distributions.draw_counts(*pair, 4, seed)
    found = distributions.frechet_values(*pair, counts) | distributions.kernel_values(*pair, counts, block)
    found |= distributions.neighbor_values(*pair, counts, k, block)
    for column in range(5):
        drawn = [np.repeat(np.arange(len(each)), each[:, column].int().numpy()) for each in counts]
        expected = plain_replicate(real, generated, drawn, k)
        # SciPy's root of a product of nearly singular covariances keeps half of the digits.
        replicate = {name: values[column] for name, values in found.items()}
        assert replicate == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert replicate["kernel_distance"] == pytest.approx(expected["kernel_distance"], rel=1e-9, abs=1e-9)


def test_replicates_of_fewer_images_than_features_are_as_accurate():
    real, generated = torch.from_numpy(draw(0, 12, 40)), torch.from_numpy(1 + draw(1, 15, 40))
    counts = distributions.draw_counts(real, generated, 10, 0)
    found = distributions.frechet_values(real, generated, counts)["frechet_distance"]
    for value, *columns in zip(found, *(each.T for each in counts), strict=True):
        rows = [torch.arange(len(each)).repeat_interleave(each.int()) for each in columns]
        assert value == pytest.approx(distributions.frechet_distance(real[rows[0]], generated[rows[1]]), rel=1e-9)


def test_the_sets_are_drawn_apart_and_as_resampling_draws_them():
    real, generated = torch.zeros(30, 2), torch.zeros(30, 2)
    counts = distributions.draw_counts(real, generated, 5, [3, 1])
    assert [each.int().tolist() for each in counts] == [
        resampling(30, 5, seed=[3, 1, side]).tolist() for side in (0, 1)
    ]


def intervals(real, generated, k: int = 5, replicates: int = 100, seed: int = 0) -> dict:
    scores, absent = distributions.compare_with_intervals(real, generated, k, replicates, seed, 0.95)
    assert not absent
    return {row["metric"]: row for row in scores}


@given(seeds, sizes, sizes, st.integers(1, 12), st.sampled_from([np.float64, np.float32, np.uint8]))
@settings(max_examples=20)
def test_the_value_with_an_interval_is_exactly_the_value_without_and_lies_inside(seed, n, m, width, kind):
    real, generated = ((20 * draw(seed + shift, count, width) + 99).astype(kind) for shift, count in ((0, n), (1, m)))
    scores = list(intervals(real, generated, replicates=20, seed=seed).values())
    points = [{name: row[name] for name in ("metric", "value", "n")} for row in scores]
    assert points == distributions.compare(real, generated)
    assert all(row["low"] <= row["value"] <= row["high"] for row in scores)
    assert all(row["low"] >= 0 for row in scores if row["metric"] != "kernel_distance")
    assert all(row["high"] <= 1 for row in scores if row["metric"] in ("precision", "recall", "coverage"))


@pytest.mark.medium
def test_intervals_cover_the_mean_over_independent_draws_and_are_as_wide_as_its_scatter():
    def make(seed: int) -> tuple:
        return draw(2 * seed, 150, 4), 1.5 * draw(2 * seed + 1, 150, 4)

    independent = [list(values(*make(seed)).values()) for seed in range(1000, 1200)]
    truth, scatter = np.mean(independent, axis=0), np.std(independent, axis=0)
    rows = [intervals(*make(trial), replicates=100, seed=trial).values() for trial in range(40)]
    low, high = (np.array([[row[end] for row in each] for each in rows]) for end in ("low", "high"))
    covered = ((low <= truth) & (truth <= high)).sum(axis=0)
    assert (covered >= 34).all(), dict(zip(MEASURES, covered, strict=True))
    width = (high - low).mean(axis=0) / (2 * 1.96 * scatter)
    # Recall is nearly 1 here; the replicates, which have fewer balls, scatter more than it does.
    expected = {name: pytest.approx(3 if name == "recall" else 1, rel=0.3) for name in MEASURES}
    assert dict(zip(MEASURES, width, strict=True)) == expected


def test_intervals_of_equal_sets_touch_the_best_and_those_of_sets_apart_do_not():
    real = draw(0, 100, 8)
    same, apart = intervals(real, real.copy()), intervals(real, real + 100)
    for name in ("frechet_distance", "kernel_distance"):
        assert same[name]["low"] <= 1e-9 and same[name]["high"] < 0.1 * apart[name]["low"]
    for name in ("precision", "recall", "coverage"):
        assert same[name]["high"] == 1 and same[name]["low"] > 0.8
        assert apart[name]["low"] == 0 and apart[name]["high"] < 0.1


def test_a_share_that_no_replicate_changes_has_the_interval_of_as_many_independent_images():
    found = intervals(draw(0, 200, 4), draw(1, 60, 4) + 100)
    assert (found["density"]["low"], found["density"]["high"]) == (0, 0)
    for name, count in {"precision": 60, "recall": 200, "coverage": 200}.items():
        assert (found[name]["low"], found[name]["high"]) == (0, pytest.approx(share_interval(0, count).high))


def test_intervals_tell_a_collapsed_set_from_one_that_is_not():
    rng = np.random.default_rng(0)
    centers = 10 * rng.normal(size=(10, 8))
    real, other = (np.repeat(centers, 15, axis=0) + rng.normal(size=(150, 8)) for _ in range(2))
    collapsed, whole = intervals(real, centers[:1] + rng.normal(size=(150, 8))), intervals(real, other)
    for name in ("recall", "coverage"):
        assert collapsed[name]["high"] < whole[name]["low"]
    for name in ("frechet_distance", "kernel_distance"):
        assert collapsed[name]["low"] > whole[name]["high"]
    assert collapsed["precision"]["high"] > 0.9


def test_one_tensor_given_twice_is_compared_as_two_equal_sets():
    features = torch.from_numpy(draw(0, 40, 3))
    for block in (7, 2048):
        found = distributions.neighbors(features, features, block=block)
        assert found == distributions.neighbors(features, features.clone(), block=block)
        distance = distributions.kernel_distance(features, features, block=block)
        assert distance == pytest.approx(distributions.kernel_distance(features, features.clone()), rel=1e-9)


def test_neighbors_far_from_the_origin_are_the_same():
    real, generated = draw(0, 60, 6), draw(1, 60, 6)
    assert distributions.neighbors(real + 1e6, generated + 1e6) == distributions.neighbors(real, generated)


def test_a_collapsed_set_is_precise_and_recalls_little_a_scattered_one_the_reverse():
    rng = np.random.default_rng(0)
    centers = 10 * rng.normal(size=(10, 8))
    real = np.repeat(centers, 30, axis=0) + rng.normal(size=(300, 8))
    collapsed = centers[:1] + rng.normal(size=(300, 8))
    scattered = np.concatenate([real[::10] + 0.01, 40 * rng.normal(size=(270, 8))])
    few_modes, noise = values(real, collapsed), values(real, scattered)
    assert few_modes["precision"] > 0.8 and few_modes["recall"] < 0.15 and few_modes["coverage"] < 0.15
    assert noise["precision"] < 0.2 and noise["recall"] > 0.8


def test_a_set_that_repeats_the_real_images_is_perfect():
    real = draw(0, 100, 8)
    found = values(real, real[::-1].copy())
    assert found["frechet_distance"] == pytest.approx(0, abs=1e-9)
    # k balls around each image, its own among them; the k-th neighbor itself lies on the edge, so outside.
    assert [found[name] for name in ("precision", "recall", "density", "coverage")] == [1, 1, 1, 1]


def test_one_image_over_and_over_recalls_nothing():
    real = draw(0, 50, 4)
    found = values(real, np.repeat(real.mean(axis=0, keepdims=True), 50, axis=0))
    assert found["recall"] == 0 and found["precision"] == 1
    assert found["frechet_distance"] == pytest.approx(np.trace(np.cov(real, rowvar=False)), rel=1e-9)


def test_every_measure_has_a_row_that_counts_the_generated_images():
    rows = distributions.compare(torch.from_numpy(draw(0, 30, 4)).float(), draw(1, 20, 4).astype(np.float16))
    assert [row["metric"] for row in rows] == list(MEASURES)
    assert all(row["n"] == 20 and isinstance(row["value"], float) and np.isfinite(row["value"]) for row in rows)


def test_features_are_compared_as_numbers_of_any_type_and_left_alone():
    real, generated = (np.random.default_rng(seed).integers(0, 255, size=(40, 6), dtype=np.uint8) for seed in (0, 1))
    before = real.copy()
    as_floats = values(real.astype(np.float64), torch.from_numpy(generated).double())
    assert values(real, generated) == pytest.approx(as_floats, rel=1e-9)
    assert np.array_equal(real, before)


BROKEN = draw(0, 20, 4)
BROKEN[[3, 7], 0] = np.nan, np.inf


@pytest.mark.parametrize(
    ("real", "generated", "told"),
    [
        (draw(0, 5, 4), draw(1, 20, 4), "5 real images are too few: give at least 6"),
        (draw(0, 20, 4), draw(1, 0, 4), "0 generated images are too few"),
        (draw(0, 20, 4), BROKEN, "2 of 20 generated images have features that are not finite"),
        (draw(0, 20, 4), draw(1, 20, 5), "real images have 4 features, generated images 5"),
        (draw(0, 20, 4)[:, :0], draw(1, 20, 4), r"not of shape \(20, 0\)"),
        (draw(0, 20, 4).ravel(), draw(1, 20, 4), r"not of shape \(80,\)"),
        (np.ones((20, 4)), draw(1, 20, 4), "each of the 20 real images has the features of at least 5 others"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(real, generated, told):
    with pytest.raises(ValueError, match=told) as caught:
        distributions.neighbors(real, generated)
    assert "\n" not in str(caught.value)


NEIGHBORS = MEASURES[2:]


@pytest.mark.parametrize(
    ("real", "generated", "missing", "told"),
    [
        (draw(0, 5, 4), draw(1, 20, 4), NEIGHBORS, "5 real images are too few: give at least 6"),
        (draw(0, 20, 4), draw(1, 5, 4), NEIGHBORS, "5 generated images are too few: give at least 6"),
        (np.ones((20, 4)), draw(1, 20, 4), NEIGHBORS, "each of the 20 real images has the features of at least 5"),
        (draw(0, 20, 4), draw(1, 1, 4), MEASURES, "1 generated images are too few: give at least 2"),
        (draw(0, 0, 4), draw(1, 20, 4), MEASURES, "0 real images are too few: give at least 2"),
    ],
)
def test_a_measure_that_needs_more_is_absent_with_its_reason_and_the_others_stay(real, generated, missing, told):
    scores, absent = distributions.compare_with_intervals(real, generated, 5, 10, 0, 0.95)
    assert tuple(row["metric"] for row in scores) == tuple(name for name in MEASURES if name not in missing)
    assert tuple(row["metric"] for row in absent) == tuple(missing)
    assert all(row["reason"].startswith(told) and "\n" not in row["reason"] for row in absent)


def test_a_kernel_distance_whose_replicates_have_no_pair_is_absent():
    scores, absent = distributions.compare_with_intervals(draw(0, 2, 4), draw(1, 20, 4), 1, 50, 0, 0.95)
    assert [row["metric"] for row in absent] == ["kernel_distance"]
    assert absent[0]["reason"].startswith("2 images are too few: ")
    assert len(scores) == 5 and all(np.isfinite([row["low"], row["high"]]).all() for row in scores)


def test_constant_generated_images_are_measured():
    found = intervals(draw(0, 50, 4), np.zeros((50, 4)))
    assert found["recall"]["value"] == 0 and found["recall"]["high"] < 0.1 and found["frechet_distance"]["low"] > 1


@pytest.mark.parametrize(("generated", "told"), [(BROKEN, "2 of 20 generated"), (draw(1, 20, 5), "use one network")])
def test_features_that_make_no_sense_raise_with_and_without_classes(generated, told):
    labels = np.zeros(20, dtype=int)
    with pytest.raises(ValueError, match=told):
        distributions.compare_with_intervals(draw(0, 20, 4), generated, 5, 10, 0, 0.95)
    with pytest.raises(ValueError, match=told):
        distributions.compare_classes(draw(0, 20, 4), generated, labels, labels, ["one"], 5, 10, 0, 0.95)


def test_classes_are_compared_within_themselves_and_what_one_lacks_is_absent():
    real, generated = draw(0, 60, 3), draw(1, 50, 3)
    labels = np.arange(60) % 3, np.arange(50) % 2 * 3  # 20 real images of one, two, three; 25 generated of one and four
    names = ["one", "two", "three", "four"]
    scores, absent = distributions.compare_classes(real, generated, *labels, names, 5, 20, 7, 0.95)
    points = distributions.compare(real[labels[0] == 0], generated[labels[1] == 0])
    assert [(row["metric"], row["value"], row["n"]) for row in scores] == [
        (f"{row['metric']} of one", row["value"], 25) for row in points
    ]
    assert [row["metric"] for row in absent] == [f"{name} of {label}" for label in names[1:] for name in MEASURES]
    assert {row["reason"] for row in absent if row["metric"].endswith(("two", "three"))} == {
        "0 generated images are too few: give at least 2"
    }
    assert absent[-1]["reason"] == "0 real images are too few: give at least 2"


def test_classes_of_the_same_images_are_drawn_apart():
    real, generated = (np.tile(draw(seed, 20, 3), (2, 1)) for seed in (0, 1))
    labels = np.repeat([0, 1], 20)
    scores, _ = distributions.compare_classes(real, generated, labels, labels, ["one", "two"], 5, 20, 7, 0.95)
    first, second = scores[0], scores[len(MEASURES)]
    assert first["value"] == second["value"] and first["high"] != second["high"]


def test_the_order_of_the_classes_images_changes_nothing_but_rounding():
    real, generated, labels = draw(0, 60, 3), draw(1, 60, 3), np.arange(60) % 2
    mixed = np.concatenate([np.flatnonzero(labels == label) for label in (1, 0)])  # each class in its own order
    names = ["one", "two"]
    found, again = (
        distributions.compare_classes(real[rows], generated[rows], labels[rows], labels[rows], names, 5, 20, 7, 0.95)[0]
        for rows in (np.arange(60), mixed)
    )
    assert found == again


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.zeros(19, dtype=int), "20 real images need as many labels, not labels of shape"),
        (np.repeat([0, 2], 10), "real labels go from 0 to 2, but there are 2 classes"),
        (np.repeat([-1, 0], 10), "real labels go from -1 to 0"),
    ],
)
def test_labels_that_fit_no_image_or_no_class_are_told_in_one_line(labels, told):
    right = np.zeros(20, dtype=int)
    with pytest.raises(ValueError, match=told) as caught:
        distributions.compare_classes(draw(0, 20, 4), draw(1, 20, 4), labels, right, ["one", "two"], 5, 10, 0, 0.95)
    assert "\n" not in str(caught.value)
