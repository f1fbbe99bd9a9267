"""Classification: scores against reference formulas, shifted test sets, names of models."""

import math

import numpy as np
import pytest
import torch
from contamination.tasks import classification
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


@pytest.fixture
def model():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return classification.build(RECIPE["architecture"], RECIPE["options"], 4)


def test_training_learns_what_can_be_learned():
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    pixels = (labels * 200).to(torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16).contiguous()
    model = classification.build(RECIPE["architecture"], RECIPE["options"], 2)
    fitted, _ = classification.fit_labels(model, pixels, labels, RECIPE | {"steps": 40, "learning_rate": 1e-2}, 0, CPU)
    assert (classification.predict(fitted, pixels, CPU).argmax(dim=1) == labels).all()


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


def test_batch_size_changes_no_prediction(model):
    pixels = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    whole, parts = (classification.predict(model, pixels, CPU, size) for size in (20, 3))
    assert torch.allclose(whole, parts, atol=1e-5) and math.isclose(float(whole.sum()), 20, rel_tol=1e-5)


@pytest.mark.parametrize("architecture", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_any_timm_name_is_known(architecture):
    classification.known_architecture(architecture)


def test_an_unknown_architecture_is_one_clear_line_with_close_names():
    with pytest.raises(ValueError, match=r"timm has no model 'resnet81'; close names: .*resnet18"):
        classification.known_architecture("resnet81")
