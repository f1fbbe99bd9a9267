"""Classification: equal effort in every arm, scores against reference formulas."""

import math

import numpy as np
import pytest
import torch
from contamination.tasks import classification
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

RECIPE = {
    "architecture": "resnet10t",
    "options": {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1], "stem_width": 4},
    "image_size": 16,
    "steps": 6,
    "batch_size": 5,
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
    "schedule": "one_cycle",
    "label_smoothing": 0.1,
    "shift": 0.1,
    "rotation": 10.0,
    "scale": 0.1,
    "flip": False,
    "ema_decay": 0.0,
    "mixed_precision": True,
}
CPU = torch.device("cpu")


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 30))
def test_a_set_of_any_size_gives_the_same_number_of_full_batches(count, batch_size, steps):
    made = list(classification.batches(count, batch_size, steps, 0))
    assert [len(batch) for batch in made] == [batch_size] * steps
    visits = np.bincount(np.concatenate(made), minlength=count)
    assert visits.max() - visits.min() <= 1 + batch_size // count


def fit(seed=0, **changes):
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    recipe = RECIPE | changes
    pixels = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    model = classification.build(recipe["architecture"], recipe["options"], 4)
    return classification.fit(model, pixels, torch.arange(20) % 4, recipe, seed, CPU)


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
    assert not torch.equal(plain["fc.weight"], average["fc.weight"])


def test_a_loss_that_is_no_number_stops_with_step_and_rate():
    with pytest.raises(ValueError, match=r"loss is nan at step \d+, learning rate .*: lower the learning rate"):
        fit(learning_rate=1e30, steps=40)


def test_augmentation_of_nothing_is_the_identity():
    images = torch.rand(3, 3, 16, 16)
    same = classification.augment(images, 0, 0, 0, False, torch.Generator().manual_seed(0))
    assert torch.allclose(images, same, atol=1e-5)


def test_flipping_mirrors_some_images_and_only_left_to_right():
    images = torch.rand(40, 3, 8, 8)
    flipped = classification.augment(images, 0, 0, 0, True, torch.Generator().manual_seed(0))
    mirrored = [torch.allclose(a.flip(-1), b, atol=1e-5) for a, b in zip(images, flipped, strict=True)]
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(images, flipped, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True)) and 5 < sum(mirrored) < 35


def test_a_shift_never_exceeds_its_limit():
    images = torch.zeros(200, 1, 20, 20)
    images[:, :, 10, 10] = 1
    moved = classification.augment(images, 0.2, 0, 0, False, torch.Generator().manual_seed(0))
    rows = (moved.sum(dim=(1, 3)) * torch.arange(20)).sum(dim=1) / moved.sum(dim=(1, 2, 3))
    assert 3 < (rows - 10).abs().max() <= 4.01


@pytest.fixture
def predicted():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.dirichlet([0.5] * 4, 300)).float(), torch.from_numpy(rng.integers(0, 4, 300))


def test_scores_agree_with_scikit_learn(predicted):
    probabilities, labels = predicted
    scores = {each["metric"]: each for each in classification.score(probabilities, labels, list("abcd"), 15)}
    guesses = probabilities.argmax(dim=1)
    assert scores["accuracy"]["value"] == pytest.approx(reference.accuracy_score(labels, guesses))
    expected = reference.log_loss(labels, probabilities.double())
    assert scores["negative_log_likelihood"]["value"] == pytest.approx(expected, rel=1e-4)
    recalls = reference.recall_score(labels, guesses, average=None)
    assert [scores[f"accuracy of {name}"]["value"] for name in "abcd"] == pytest.approx(recalls.tolist())
    assert sum(scores[f"accuracy of {name}"]["n"] for name in "abcd") == scores["accuracy"]["n"] == 300


def test_the_calibration_error_is_the_expected_one(predicted):
    probabilities, labels = predicted
    confidence, guess = (each.numpy() for each in probabilities.max(dim=1))
    correct = guess == labels.numpy()
    bins = np.minimum((confidence * 15).astype(int), 14)
    expected = sum(
        abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins)
    )
    scores = {each["metric"]: each["value"] for each in classification.score(probabilities, labels, list("abcd"), 15)}
    assert scores["calibration_error"] == pytest.approx(expected, abs=1e-5)


def test_a_class_missing_from_the_test_set_has_no_accuracy():
    scores = classification.score(torch.eye(3)[:2], torch.tensor([0, 1]), list("abc"), 15)
    assert "accuracy of c" not in {each["metric"] for each in scores}


def test_batch_size_changes_no_prediction():
    model = fit()[0]
    pixels = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    whole, parts = (classification.predict(model, pixels, CPU, size) for size in (20, 3))
    assert torch.allclose(whole, parts, atol=1e-5) and math.isclose(float(whole.sum()), 20, rel_tol=1e-5)


@pytest.mark.parametrize("architecture", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_any_timm_name_is_known(architecture):
    classification.check(architecture)


def test_an_unknown_architecture_is_one_clear_line_with_close_names():
    with pytest.raises(ValueError, match=r"timm has no model 'resnet81'; close names: .*resnet18"):
        classification.check("resnet81")
