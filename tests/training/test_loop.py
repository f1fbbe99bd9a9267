"""The training loop: equal effort in every arm, a function of the seed, one clear line when it fails."""

import re

import numpy as np
import pytest
import torch
from contamination.generators import text_to_image
from contamination.training import loop, mixup
from contamination.training.reader import InMemoryImages
from contamination.training.settings import Optimization
from hypothesis import example, given
from hypothesis import strategies as st

RECIPE = Optimization(steps=6, batch_size=5, learning_rate=1e-3).model_dump()
STILL = {"shift": 0.0, "rotation": 0.0, "scale": 0.0, "flip": False}
CPU = torch.device("cpu")


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 30))
def test_a_set_of_any_size_gives_the_same_number_of_full_batches(count, batch_size, steps):
    made = list(loop.batches(count, batch_size, steps=steps, seed=0))
    assert [len(batch) for batch, _ in made] == [batch_size] * steps
    visits = np.bincount(np.concatenate([batch for batch, _ in made]), minlength=count)
    assert visits.max() - visits.min() <= 1


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 30))
def test_an_epoch_is_one_visit_to_every_image(count, batch_size, steps):
    made = zip(*loop.batches(count, batch_size, steps=steps, seed=0), strict=True)
    positions, epochs = (np.concatenate(each) for each in made)
    for epoch in range(epochs[-1]):
        assert sorted(positions[epochs == epoch]) == list(range(count))


@given(st.integers(1, 50), st.integers(1, 30), st.data())
def test_the_batches_after_some_are_those_that_would_have_come(count, steps, data):
    done = data.draw(st.integers(0, steps))
    rest = list(loop.batches(count, 4, steps=steps, seed=0, done=done))
    whole = list(loop.batches(count, 4, steps=steps, seed=0))[done:]
    assert all(np.array_equal(a, b) for a, b in zip(rest, whole, strict=True))


@given(st.integers(1, 3), st.integers(1, 4))
def test_parts_and_processes_share_a_batch_out(parts, count):
    batch_size = 2 * parts * count
    shared = [
        list(loop.split_batches(loop.batches(30, batch_size, steps=3, seed=0), parts, p, count)) for p in range(count)
    ]
    whole = np.stack([batch for batch, _ in loop.batches(30, batch_size, steps=3, seed=0)])
    # By part, then process: that is how random numbers are shared out, too.
    found = [np.concatenate([share[step][0] for share in shared]) for step in range(3 * parts)]
    assert np.array_equal(np.concatenate(found), whole.ravel())


def test_random_numbers_of_several_processes_are_together_those_of_one():
    whole, *own = loop.SharedRandom(5, CPU), *(loop.SharedRandom(5, CPU, process, 3) for process in range(3))
    for draw in (
        lambda draws, n: draws.uniform(n, 2),
        lambda draws, n: draws.normal(n, 4),
        lambda draws, n: draws.integers(9, n),
    ):
        assert torch.equal(draw(whole, 6), torch.cat([draw(each, 2) for each in own]))
    assert torch.equal(whole.uniform(5, 6, images=1), torch.cat([each.uniform(5, 2, images=1) for each in own], dim=1))
    assert len({each.together().random() for each in (whole, *own)}) == 1


def fit(seed=0, **changes):
    """A small network with batch normalization learns four classes of random images of two by two pixels."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    images = torch.randint(0, 256, (20, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(20) % 4
    model = torch.nn.Sequential(torch.nn.Linear(12, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 4))

    def loss(model, pixels, index, draws):
        return torch.nn.functional.cross_entropy(model(loop.normalize(pixels).flatten(1)), targets[index])

    return loop.fit(model, loss, images=InMemoryImages(images), recipe=RECIPE | changes, seed=seed, device=CPU)


def test_training_is_a_function_of_the_seed():
    first, again, other = fit(0)[0], fit(0)[0], fit(1)[0]
    equal = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(equal)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_learning_rate_ends_near_zero_and_never_exceeds_the_recipe(schedule):
    rates = [line["learning_rate"] for line in fit(schedule=schedule, steps=40)[1]]
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

    def loss(model, pixels, index, draws):
        calls.append(index)
        return model(torch.ones(1, 1)).sum() * (float("inf") if len(calls) == 27 else 1.0)

    rates = [
        line["learning_rate"] for line in fit(steps=60)[1]
    ]  # a line for every third step; the rate falls from step to step
    with pytest.raises(ValueError) as caught:
        loop.fit(
            weight,
            loss,
            images=InMemoryImages(torch.zeros(20, 3, 1, 1)),
            recipe=RECIPE | {"steps": 60},
            seed=0,
            device=CPU,
        )
    found = re.match(
        r"loss is -?(inf|nan) at step 27, learning rate (\S+); last good state: loss \S+ at step 24;", str(caught.value)
    )
    assert found and float(found[2]) == pytest.approx(rates[8], rel=0.01)


def test_augmentation_of_nothing_is_the_identity():
    images = torch.rand(3, 3, 16, 16)
    for still in (STILL, STILL | {"shift": 1e-9}):
        assert torch.allclose(images, loop.augment(images, still, loop.SharedRandom(0, CPU)), atol=1e-5)


def test_flipping_mirrors_some_images_and_only_left_to_right():
    images = torch.rand(40, 3, 8, 8)
    flipped = loop.augment(images, STILL | {"flip": True}, loop.SharedRandom(0, CPU))
    mirrored = [torch.allclose(a.flip(-1), b, atol=1e-5) for a, b in zip(images, flipped, strict=True)]
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(images, flipped, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True)) and 5 < sum(mirrored) < 35


def test_a_shift_never_exceeds_its_limit():
    images = torch.zeros(200, 1, 20, 20)
    images[:, :, 10, 10] = 1
    moved = loop.augment(images, STILL | {"shift": 0.2}, loop.SharedRandom(0, CPU))
    rows = (moved.sum(dim=(1, 3)) * torch.arange(20)).sum(dim=1) / moved.sum(dim=(1, 2, 3))
    assert 3 < (rows - 10).abs().max() <= 4.01


@pytest.mark.slow
def test_a_compiled_model_learns_the_same():
    plain, compiled = fit(steps=40)[1], fit(steps=40, compiled=True)[1]
    assert [line["loss"] for line in compiled] == pytest.approx([line["loss"] for line in plain], rel=1e-4)


def test_moves_are_as_exact_in_mixed_precision_as_without():
    images = torch.rand(4, 3, 64, 64)
    moves = {"shift": 0.1, "rotation": 10.0, "scale": 0.1, "flip": True}
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loop.augment(images, moves, loop.SharedRandom(0, CPU))
    assert torch.equal(mixed, loop.augment(images, moves, loop.SharedRandom(0, CPU)))


LARGEST = float(np.nextafter(np.float32(1), np.float32(0)))


@given(st.integers(1, 4096), st.floats(0, LARGEST, width=32))
def test_a_random_fraction_never_becomes_a_position_beyond_the_last(count, fraction):
    fractions = torch.tensor([0.0, fraction, LARGEST, 1.0])
    positions = loop.index_below(fractions, count)
    assert positions.dtype == torch.int64 and positions.tolist()[::2] == [0, count - 1] and positions[3] == count - 1
    assert 0 <= positions[1] <= count - 1


@given(st.integers(1, 2048), st.integers(1, 4000))
def test_noise_levels_stay_within_the_schedule_where_all_random_numbers_are_the_largest(count, levels):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *shape, generator: torch.full(shape, LARGEST))
        found = text_to_image.noise_levels(count, levels, generator=torch.Generator())
    assert int(found.min()) >= 0 and int(found.max()) == levels - 1


@example(35, 0.8999999761581421)
@given(st.integers(1, 64), st.floats(0, 1, width=32))
def test_what_is_erased_keeps_its_length_where_the_random_place_is_the_largest(side, share):
    place = torch.tensor([0.0, LARGEST, 1.0])
    pixels = mixup._stretch(torch.full((3,), share), place, side)
    length = float(np.float32(share) * np.float32(side))  # as torch multiplies: in float64 a half may be a little less
    assert pixels.sum(dim=1).tolist() == [round(length)] * 3 or length % 1 == 0.5
    assert not share or not round(length) or pixels[1, -1]
