"""Detectors: no slot serves two purposes, nothing is found where nothing is, and what is there is found."""

import numpy as np
import pytest
import torch
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.base.settings import read_settings
from contamination.mixtures.slot_subsets import chosen, parts
from contamination.networks import detectors
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

torch.set_num_threads(1)
CPU = torch.device("cpu")
SIDE = 8
slot_lists = st.lists(st.integers(0, 400), min_size=1, max_size=200).map(np.array)
seeds = st.integers(0, 10_000)
score_lists = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({kind for _, kind in rows}) == 2
)


def settings(**changed) -> dict:
    small = {"options": {"channels": [8, 8, 8, 8], "stem_width": 8}, "steps": 80, "batch_size": 20, "replicates": 50}
    return detectors.Detect(**small | changed).model_dump()


def photographs(seed: int, count: int):
    """Images of one distribution: a few waves with random contrast, and noise. uint8 (n, 3, side, side)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] * 2 * np.pi / SIDE
    phases, contrast = rng.uniform(0, 2 * np.pi, (2, count, 3, 1, 1)), rng.uniform(10, 40, (2, count, 3, 1, 1))
    waves = contrast[0] * np.cos(y + phases[0]) + contrast[1] * np.cos(2 * x + phases[1])
    values = 127 + waves + rng.normal(0, 4, waves.shape)
    return torch.from_numpy(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def checkered(pixels, levels: int = 6):
    """With a pattern of so many levels at the highest frequency, as an upsampling may leave it."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return (pixels.int() + torch.from_numpy(levels * ((x + y) % 2))).clamp(0, 255).byte()


def pairs(real, generated, seed: int = 0) -> detectors.Examples:
    slots = np.tile(np.arange(len(real)), 2)
    kinds = np.repeat([False, True], len(real))
    return detectors.Examples(torch.cat([real, generated]), kinds, slots, parts(slots, seed))


def write(path, pixels, labels, **columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = [image_tables.encode(image) for image in pixels.permute(0, 2, 3, 1).numpy()]
    names = [f"{path.stem}-{i}" for i in range(len(encoded))]
    image_tables.write(path, encoded, columns={"id": names, "label": labels} | columns)


def write_generated(layout, source: str, pixels, labels, slots) -> None:
    """In two shards."""
    half = len(pixels) // 2
    for k, rows in enumerate((slice(0, half), slice(half, None))):
        write(layout.generated(source) / f"shard-{k:05d}.arrow", pixels[rows], labels[rows], slot=slots[rows])


@pytest.fixture
def layout(project) -> Layout:
    """A study of 48 slots with two generated sets, and a pool of 90 images in three classes of unequal size."""
    layout, labels, slots = Layout("outputs/small"), np.arange(48) % 3, np.arange(48)
    write(layout.real("train"), photographs(0, 48), labels)
    write(layout.real("pool"), photographs(1, 90), np.repeat([0, 1, 2], [41, 28, 21]))
    for k, source in enumerate(("one", "two")):
        write_generated(layout, source, photographs(2 + k, 48), labels, slots)
    return layout


@given(slot_lists, seeds)
def test_no_slot_is_in_two_parts_and_the_parts_have_their_sizes(slots, seed):
    purpose = parts(slots, seed)
    members = {name: set(slots[purpose == name].tolist()) for name in ("fit", "calibrate", "test")}
    count = len(set(slots.tolist()))
    assert sum(map(len, members.values())) == count == len(set().union(*members.values()))
    assert len(members["test"]) == count // 2 and 0 <= len(members["calibrate"]) - count / 8 < 1


@given(slot_lists, seeds, st.randoms())
def test_the_part_of_a_slot_depends_on_neither_order_nor_number_of_its_images(slots, seed, random):
    once = dict(zip(slots.tolist(), parts(slots, seed).tolist(), strict=True))
    more = np.array(random.sample([*slots.tolist(), *set(slots.tolist())], len(slots) + len(once)))
    assert parts(more, seed).tolist() == [once[slot] for slot in more.tolist()]


def test_the_seed_chooses_the_parts():
    slots = np.arange(100)
    assert (parts(slots, 0) != parts(slots, 1)).any()


def test_a_slot_has_its_images_of_every_set_in_one_part(layout):
    one, two = (detectors.examples(layout, source, most=1000, seed=3) for source in ("one", "two"))
    assert np.array_equal(one.part, two.part) and np.array_equal(one.part[:48], one.part[48:])
    assert one.slot.tolist() == [*range(48), *range(48)] and not one.generated[:48].any() and one.generated[48:].all()
    assert torch.equal(one.pixels, torch.cat([photographs(0, 48), photographs(2, 48)]))
    assert torch.equal(two.pixels, torch.cat([photographs(0, 48), photographs(3, 48)]))
    shown = one.of("test")
    assert (
        len(shown.slot) == 48
        and (shown.part == "test").all()
        and torch.equal(shown.pixels[0], one.pixels[shown.slot[0]])
    )


@pytest.mark.parametrize("seed", range(4))
def test_half_of_the_pool_stands_for_generated_images_in_every_part_and_class(layout, seed):
    pool = detectors.examples(layout, "pool", most=1000, seed=seed)
    labels = image_tables.read(layout.real("pool"))["label"].to_numpy()
    assert torch.equal(pool.pixels, photographs(1, 90)) and pool.slot.tolist() == list(range(90))
    for part in ("fit", "calibrate", "test"):
        kinds = pool.generated[pool.part == part]
        assert abs(2 * kinds.sum() - len(kinds)) <= 1
        for label in range(3):
            kinds = pool.generated[(pool.part == part) & (labels[pool.slot] == label)]
            assert abs(2 * kinds.sum() - len(kinds)) <= 1


def test_another_seed_takes_another_half_and_the_same_seed_the_same(layout):
    first, again, other = (detectors.examples(layout, "pool", most=1000, seed=seed).generated for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_set_that_is_not_made_for_the_slots_is_one_clear_line(layout):
    pixels, labels, slots = photographs(9, 48), np.arange(48) % 3, np.arange(48)
    with pytest.raises(ValueError, match="generated set none is missing: run 01_generate"):
        detectors.examples(layout, "none", most=1000, seed=0)
    (layout.generated("two") / "shard-00001.arrow").unlink()
    with pytest.raises(ValueError, match=r"two \(24 images\) is not made for the 48 slots of train"):
        detectors.examples(layout, "two", most=1000, seed=0)
    for source, columns in {"order": (pixels, labels, slots[::-1]), "class": (pixels, labels[::-1], slots)}.items():
        write_generated(layout, source, *columns)
        with pytest.raises(ValueError, match=rf"{source} \(48 images\) is not made for the 48 slots of train"):
            detectors.examples(layout, source, most=1000, seed=0)
    write_generated(layout, "more", photographs(9, 60), np.arange(60) % 3, np.arange(60))
    with pytest.raises(ValueError, match="one image each in their order and class"):
        detectors.examples(layout, "more", most=1000, seed=0)


def chance(count: int) -> float:
    """The mean average precision of random scores, half of the images generated, by summing over ranks."""
    pairs_both = (count / 2 - 1) / (count - 1)
    return pairs_both + (1 - pairs_both) * (1 / np.arange(1, count + 1)).sum() / count


@pytest.mark.medium
def test_real_images_against_real_ones_are_at_chance(layout):
    found = []
    for seed in range(40):
        pool = detectors.examples(layout, "pool", most=1000, seed=seed)
        detector = detectors.fit_detector("spectrum", pool, settings=settings(), seed=seed, device=CPU)
        test = pool.of("test")
        scores = detector.evidence(test.pixels)
        found.append(detectors.score(scores, test.generated, test.slot, detector.threshold, 60, seed))
    precisions, accuracies = ([rows[k] for rows in found] for k in (0, 1))
    for rows, expected in ((precisions, chance(45)), (accuracies, 0.5)):
        values = np.array([row["value"] for row in rows])
        assert values.mean() == pytest.approx(expected, abs=3 * values.std() / np.sqrt(40))
        assert np.mean([row["low"] <= expected <= row["high"] for row in rows]) >= 0.8


@pytest.mark.medium
@pytest.mark.parametrize("name, levels", [("spectrum", 6), ("network", 40)])
def test_a_pattern_of_high_frequency_is_found_also_in_a_set_that_was_not_learned(name, levels):
    known = pairs(photographs(0, 120), checkered(photographs(1, 120), levels))
    detector = detectors.fit_detector(name, known, settings=settings(), seed=0, device=CPU)
    for seed in (1, 7):
        test = pairs(photographs(0, 120), checkered(photographs(seed, 120), levels)).of("test")
        rows = detectors.score(detector.evidence(test.pixels), test.generated, test.slot, detector.threshold, 20, 0)
        assert rows[0]["value"] > 0.95 and rows[1]["value"] > 0.85


@pytest.mark.parametrize("name", ["spectrum", "network"])
def test_a_detector_follows_from_its_seed_and_never_sees_the_part_it_is_judged_on(name):
    known, shown = pairs(photographs(0, 40), checkered(photographs(1, 40))), photographs(2, 30)
    recipe = settings(steps=5)
    first = detectors.fit_detector(name, known, settings=recipe, seed=0, device=CPU)
    hidden = known.pixels.clone()
    hidden[known.part == "test"] = 0
    again = detectors.fit_detector(name, known._replace(pixels=hidden), settings=recipe, seed=0, device=CPU)
    assert np.array_equal(first.evidence(shown), again.evidence(shown)) and first.threshold == again.threshold
    hidden[known.part == "calibrate"] = photographs(3, 10)
    other = detectors.fit_detector(name, known._replace(pixels=hidden), settings=recipe, seed=0, device=CPU)
    assert np.array_equal(first.evidence(shown), other.evidence(shown)) and first.threshold != other.threshold
    assert first.evidence(shown).dtype == np.float64 and bool(first.history) == (name == "network")


@pytest.mark.medium
@given(score_lists)
def test_no_other_threshold_has_a_higher_balanced_accuracy(rows):
    scores, kinds = (np.array(column) for column in zip(*rows, strict=True))
    scores = scores.astype(float)

    def accuracy(threshold):
        return metrics.balanced_accuracy_score(kinds, scores > threshold)

    steps = np.unique(scores)
    best = max([0.0, *map(accuracy, (steps[:-1] + steps[1:]) / 2)])
    assert accuracy(detectors.best_threshold(scores, kinds)) == pytest.approx(best if len(steps) > 1 else 0.5)


@pytest.mark.parametrize(
    "scores, kinds, expected",
    [
        ([1, 2, 5, 6], [0, 0, 1, 1], 3.5),
        ([1, 2, 3, 9], [0, 1, 0, 1], 6),  # above 1 and above 9 are as good: 1.5 and 6
        ([1, 2, 3, 4, 5, 6], [0, 1, 0, 1, 0, 1], 3.5),  # 1.5, 3.5 and 5.5 are as good
        ([2, 2, 2], [0, 1, 1], 2),
    ],
)
def test_the_threshold_lies_midway_and_in_the_middle_of_those_as_good(scores, kinds, expected):
    assert detectors.best_threshold(np.array(scores, dtype=float), np.array(kinds, dtype=bool)) == expected


@pytest.mark.medium
@given(seeds, st.integers(6, 40), st.integers(1, 5))
def test_scores_are_those_of_scikit_learn(seed, count, levels):
    rng = np.random.default_rng(seed)
    kinds, slots = np.repeat([False, True], count), np.tile(np.arange(count), 2)
    scores = rng.integers(levels, size=2 * count) + kinds
    rows = {row["metric"]: row for row in detectors.score(scores, kinds, slots, 1.5, 20, seed)}
    called = scores > 1.5
    expected = {
        "average_precision": metrics.average_precision_score(kinds, scores),
        "accuracy": metrics.balanced_accuracy_score(kinds, called),
        "true_positive_rate": metrics.recall_score(kinds, called),
        "false_positive_rate": called[~kinds].mean(),
    }
    assert {name: row["value"] for name, row in rows.items()} == pytest.approx(expected)
    assert [row["n"] for row in rows.values()] == [2 * count, 2 * count, count, count]
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in rows.values())


@pytest.mark.medium
@given(seeds, st.integers(2, 30), st.integers(1, 6))
def test_average_precision_is_that_of_scikit_learn_for_any_weights(seed, count, levels):
    rng = np.random.default_rng(seed)
    kinds, scores = rng.permutation(np.arange(count) % 2 == 0), rng.integers(levels, size=count) / 7
    weights = rng.integers(3, size=(count, 4)) + 1.0 * (np.arange(count) == kinds.argmax())[:, None]  # some are 0
    expected = [metrics.average_precision_score(kinds, scores, sample_weight=column) for column in weights.T]
    assert detectors.average_precisions(scores, kinds, weights=weights) == pytest.approx(expected)


def test_slots_are_drawn_and_not_images():
    rng = np.random.default_rng(0)
    kinds, slots = np.repeat([False, True], 30), np.tile(np.arange(30), 2)
    scores = rng.normal(size=60) + kinds
    once = detectors.score(scores, kinds, slots, 0.5, 200, 0)[0]
    thrice = detectors.score(np.tile(scores, 3), np.tile(kinds, 3), np.tile(slots, 3), 0.5, 200, 0)[0]
    assert [thrice[end] for end in ("value", "low", "high")] == pytest.approx(
        [once[end] for end in ("value", "low", "high")]
    )
    apart = detectors.score(np.tile(scores, 3), np.tile(kinds, 3), np.arange(180), 0.5, 200, 0)[0]
    assert apart["high"] - apart["low"] < 0.8 * (once["high"] - once["low"])


def test_images_that_are_all_told_apart_leave_room_for_doubt():
    kinds, slots = np.repeat([False, True], 50), np.tile(np.arange(50), 2)
    precision, accuracy, hits, false_positives = detectors.score(kinds.astype(float), kinds, slots, 0.5, 20, 0)
    assert precision["value"] == precision["high"] == 1
    assert accuracy["value"] == hits["value"] == 1 and false_positives["value"] == 0
    assert 0.9 < hits["low"] < accuracy["low"] < 1 and 0 < false_positives["high"] < 0.1


def test_images_of_one_color_cannot_be_told_apart_and_break_nothing():
    plain = torch.full((24, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    known = pairs(plain, plain)
    detector = detectors.fit_detector("spectrum", known, settings=settings(), seed=0, device=CPU)
    test = known.of("test")
    scores = detector.evidence(test.pixels)
    rows = detectors.score(scores, test.generated, test.slot, detector.threshold, 20, 0)
    assert np.isfinite(scores).all() and [row["value"] for row in rows[:2]] == [0.5, 0.5]


def test_too_few_slots_or_kinds_are_one_clear_line():
    one = pairs(photographs(0, 1), photographs(1, 1))
    with pytest.raises(ValueError, match="part fit has 0 generated and 0 real images: both are needed"):
        detectors.fit_detector("spectrum", one, settings=settings(), seed=0, device=CPU)
    real = pairs(photographs(0, 20), photographs(1, 20))._replace(generated=np.zeros(40, dtype=bool))
    with pytest.raises(ValueError, match="part fit has 0 generated and 14 real images"):
        detectors.fit_detector("network", real, settings=settings(), seed=0, device=CPU)
    with pytest.raises(ValueError, match="1 slots are too few for an interval"):
        detectors.score(np.array([0.0, 1.0]), np.array([False, True]), np.array([0, 0]), 0.5, 20, 0)
    with pytest.raises(ValueError, match="2 slots are too few for an interval"):
        detectors.score(np.array([0.0, 1.0]), np.array([False, True]), np.array([0, 1]), 0.5, 20, 0)


@pytest.mark.parametrize("wrong", [{"detectors": ["eye"]}, {"detectors": []}, {"replicates": 0}, {"rotation": 10}])
def test_a_wrong_setting_is_one_clear_line(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        read_settings(detectors.Detect, wrong)


def test_with_more_slots_than_asked_for_a_random_part_of_them_is_looked_at(layout):
    assert chosen(5, 5, seed=0).tolist() == [0, 1, 2, 3, 4]
    some = chosen(1000, 100, seed=0)
    assert len(set(some.tolist())) == 100 and (np.diff(some) > 0).all() and some.max() > 500
    assert (some != chosen(1000, 100, seed=1)).any()
    few, pool = (detectors.examples(layout, source, most=20, seed=0) for source in ("one", "pool"))
    assert len(few.pixels) == 40 and (few.slot[:20] == few.slot[20:]).all() and few.generated.sum() == 20
    assert len(pool.pixels) == 20
    whole = detectors.examples(layout, "one", most=1000, seed=0)
    assert (few.pixels[:20] == whole.pixels[few.slot[:20]]).all()


@pytest.mark.parametrize("broken", [[0.1, np.nan, 0.3, 0.4], [0.1, 0.2, np.inf, np.nan]])
def test_scores_that_are_no_numbers_are_refused(broken):
    scores, generated = np.array(broken), np.array([True, False, True, False])
    for judge in (
        lambda: detectors.best_threshold(scores, generated),
        lambda: detectors.score(scores, generated, np.array([0, 0, 1, 1]), 0.0, 20, 0),
    ):
        with pytest.raises(ValueError, match=r"[12] of 4 images have scores that are no finite numbers"):
            judge()
