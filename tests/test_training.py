"""The training loop: equal effort in every arm, a function of the seed, one clear line when it fails."""

import re

import numpy as np
import pytest
import torch
from contamination import training
from contamination.reader import Held
from hypothesis import given
from hypothesis import strategies as st

RECIPE = {
    "steps": 6,
    "batch_size": 5,
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "schedule": "one_cycle",
    "ema_decay": 0.0,
    "mixed_precision": True,
    "threads": 1,
}
STILL = {"shift": 0.0, "rotation": 0.0, "scale": 0.0, "flip": False}
CPU = torch.device("cpu")


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 30))
def test_a_set_of_any_size_gives_the_same_number_of_full_batches(count, batch_size, steps):
    made = list(training.batches(count, batch_size, steps, 0))
    assert [len(batch) for batch in made] == [batch_size] * steps
    visits = np.bincount(np.concatenate(made), minlength=count)
    assert visits.max() - visits.min() <= 1 + batch_size // count


def fit(seed=0, **changes):
    """A small network with batch normalisation learns four classes of random images of two by two pixels."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    images = torch.randint(0, 256, (20, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(20) % 4
    model = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 4))

    def loss(model, pixels, index):
        return torch.nn.functional.cross_entropy(model(training.normalise(pixels).flatten(1)), targets[index])

    return training.fit(model, loss, Held(images), RECIPE | changes, seed, CPU)


def test_training_is_a_function_of_the_seed():
    first, again, other = fit(0)[0], fit(0)[0], fit(1)[0]
    equal = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(equal)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_learning_rate_ends_near_zero_and_never_exceeds_the_recipe(schedule):
    rates = [line["rate"] for line in fit(schedule=schedule, steps=40)[1]]
    assert max(rates) <= RECIPE["learning_rate"] * (1 + 1e-6)
    assert rates[-1] < 0.02 * RECIPE["learning_rate"]


def test_the_history_counts_the_images_seen():
    assert fit()[1][-1]["images_seen"] == 30


def test_an_average_of_the_weights_is_another_model_with_the_same_buffers():
    plain, average = fit()[0].state_dict(), fit(ema_decay=0.9)[0].state_dict()
    assert plain.keys() == average.keys()
    assert not torch.equal(plain["3.weight"], average["3.weight"])


def test_a_loss_that_is_no_number_stops_with_step_and_rate():
    with pytest.raises(ValueError, match=r"loss is \w+ at step \d+, learning rate .*; last good state: .*; lower"):
        fit(learning_rate=1e30, steps=40)


def test_the_step_of_the_first_bad_loss_and_the_last_good_one_are_named():
    weight = torch.nn.Linear(1, 1)
    calls = []

    def loss(model, pixels, index):
        calls.append(index)
        return model(torch.ones(1, 1)).sum() * (float("inf") if len(calls) == 27 else 1.0)

    rates = [line["rate"] for line in fit(steps=60)[1]]  # a line for every third step; the rate falls from step to step
    with pytest.raises(ValueError) as caught:
        training.fit(weight, loss, Held(torch.zeros(20, 3, 1, 1)), RECIPE | {"steps": 60}, 0, CPU)
    found = re.match(
        r"loss is -?(inf|nan) at step 27, learning rate (\S+); last good state: loss \S+ at step 24;", str(caught.value)
    )
    assert found and float(found[2]) == pytest.approx(rates[8], rel=0.01)


def test_augmentation_of_nothing_is_the_identity():
    images = torch.rand(3, 3, 16, 16)
    same = training.augment(images, STILL, torch.Generator().manual_seed(0))
    assert torch.allclose(images, same, atol=1e-5)


def test_flipping_mirrors_some_images_and_only_left_to_right():
    images = torch.rand(40, 3, 8, 8)
    flipped = training.augment(images, STILL | {"flip": True}, torch.Generator().manual_seed(0))
    mirrored = [torch.allclose(a.flip(-1), b, atol=1e-5) for a, b in zip(images, flipped, strict=True)]
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(images, flipped, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True)) and 5 < sum(mirrored) < 35


def test_a_shift_never_exceeds_its_limit():
    images = torch.zeros(200, 1, 20, 20)
    images[:, :, 10, 10] = 1
    moved = training.augment(images, STILL | {"shift": 0.2}, torch.Generator().manual_seed(0))
    rows = (moved.sum(dim=(1, 3)) * torch.arange(20)).sum(dim=1) / moved.sum(dim=(1, 2, 3))
    assert 3 < (rows - 10).abs().max() <= 4.01
