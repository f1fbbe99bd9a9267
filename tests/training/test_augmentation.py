"""RandAugment: timm's operations at timm's levels, drawn for an image and its visit alone."""

import collections
import random

import numpy as np
import pytest
import torch
from contamination.training import augmentation
from contamination.training.augmentation import Operation, RandAugment
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data import auto_augment

RECIPE = {"randaugment": 9.0, "randaugment_operations": 2, "randaugment_std": 0.5}
TIMM = {"img_mean": augmentation.FILL, "interpolation": Image.Resampling.BICUBIC}


@pytest.fixture(scope="module")
def photograph():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((56, 48), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8))


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_the_operations_are_those_of_timm():
    theirs = auto_augment.rand_augment_transform("rand-m9-mstd0.5-inc1", dict(TIMM)).ops
    assert tuple(each.name for each in theirs) == augmentation.OPERATIONS
    assert {each.prob for each in theirs} == {augmentation.TAKEN}


@pytest.mark.parametrize("name", augmentation.OPERATIONS)
@pytest.mark.parametrize("magnitude", [0, 3, 7.5, 9, 9.99])
@pytest.mark.parametrize("sign", [1, -1])
def test_every_operation_is_timms_at_the_same_magnitude_pixel_by_pixel(photograph, monkeypatch, name, magnitude, sign):
    monkeypatch.setattr(random, "random", lambda: 0.5 - sign / 4)  # above one half timm takes the negative
    theirs = auto_augment.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=TIMM)(photograph)
    ours = RandAugment(RECIPE).apply(Operation(name, magnitude / 10, sign), photograph)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", augmentation.OPERATIONS)
def test_the_greatest_magnitude_works(photograph, name):
    """timm's posterize keeps no bit there, which Pillow 13 refuses."""
    changed = RandAugment(RECIPE).apply(Operation(name, 1.0, 1), photograph)
    assert changed.size == photograph.size and changed.mode == "RGB"


@pytest.mark.medium
def test_all_of_it_changes_images_as_much_as_timm_does(photograph):
    """Mean absolute difference from the image, over draws; their deviation tells how near two means must be."""
    theirs = auto_augment.rand_augment_transform("rand-m7-mstd0.5-inc1", dict(TIMM))
    pixels = np.asarray(photograph).astype(int)
    random.seed(0)
    np.random.seed(0)  # timm draws from both
    far = np.array([np.abs(np.asarray(theirs(photograph)) - pixels).mean() for _ in range(1500)])
    change = RandAugment(RECIPE | {"randaugment": 7.0})
    changed = [change(as_tensor(photograph), [0, number]).permute(1, 2, 0).numpy() for number in range(1500)]
    ours = np.array([np.abs(each - pixels).mean() for each in changed])
    assert abs(ours.mean() - far.mean()) < 4 * np.hypot(ours.std(), far.std()) / np.sqrt(1500)
    assert abs((ours == 0).mean() - (far == 0).mean()) < 0.06


def test_draws_follow_the_recipe():
    drawn = [augmentation.draw(RECIPE | {"randaugment": 5.0}, [1, number]) for number in range(4000)]
    assert {len(each) for each in drawn} == {0, 1, 2}
    operations = [each for several in drawn for each in several]
    levels = np.array([each.level for each in operations])
    assert abs(len(operations) / 4000 - 1) < 0.05
    assert abs(levels.mean() - 0.5) < 0.005 and abs(levels.std() - 0.05) < 0.003
    assert abs(np.mean([each.sign for each in operations])) < 0.07
    counts = collections.Counter(each.name for each in operations)
    assert set(counts) == set(augmentation.OPERATIONS) and min(counts.values()) > 0.75 * len(operations) / 15


@given(st.floats(0, 10), st.floats(0, 5), st.integers(0, 99))
def test_no_level_is_outside_of_what_the_operations_are_made_for(magnitude, deviation, seed):
    recipe = {"randaugment": magnitude, "randaugment_operations": 4, "randaugment_std": deviation}
    assert all(0 <= each.level <= 1 and each.sign in (1, -1) for each in augmentation.draw(recipe, [seed]))


def test_what_becomes_of_an_image_depends_on_the_key_alone(photograph):
    change, image = RandAugment(RECIPE), as_tensor(photograph)
    first = [change(image, [0, 1, number]) for number in range(30)]
    torch.manual_seed(5)
    again = [change(image, [0, 1, number]) for number in reversed(range(30))][::-1]
    assert all(one.equal(other) for one, other in zip(first, again, strict=True))
    assert len({one.numpy().tobytes() for one in first}) > 15
    assert image.equal(as_tensor(photograph))  # it stays as it was


@pytest.mark.parametrize("count", [1, 6])
def test_images_keep_their_form(photograph, count):
    change = RandAugment(RECIPE | {"randaugment_operations": count})
    changed = change(as_tensor(photograph), [3])
    assert changed.shape == (3, 48, 56) and changed.dtype == torch.uint8
