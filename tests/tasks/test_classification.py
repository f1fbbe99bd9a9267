"""Classification: training however images are read, scores against reference formulas, names of models."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.mixtures import mixing
from contamination.networks import timm_models
from contamination.tasks import classification
from contamination.training.reader import InMemoryImages
from PIL import Image
from safetensors.torch import save_file
from sklearn import metrics as reference

RECIPE = classification.Train(steps=6, batch_size=5, learning_rate=1e-3).model_dump() | {
    "architecture": "resnet10t",
    "options": {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1], "stem_width": 4},
    "image_size": 16,
}
CPU = torch.device("cpu")


@pytest.fixture
def model():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return timm_models.build(RECIPE["architecture"], RECIPE["options"], classes=4)


@pytest.fixture
def layout(tmp_path, monkeypatch):
    """Two classes of twelve images: half of them photographs, read in place, and half PNG of the study's size."""
    torch.set_num_threads(1)
    for name in ("notebooks", "parameters"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    rng, images = np.random.default_rng(0), []
    for number in range(12):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40 + number, 50)).save(tmp_path / f"{number}.jpg", quality=95)
        images.append({"path": f"{number}.jpg"} if number % 2 else {"bytes": image_tables.encode(pixels)})
    columns = {"id": [f"image {number}" for number in range(12)], "label": np.arange(12) // 6, "severity": [0] * 12}
    table = pa.table({"image": pa.array(images, type=image_tables.IMAGE), **columns})
    for split in ("train", "test"):
        image_tables.save(Layout("outputs/tiny").real(split), table, class_names=json.dumps(["a", "b"]))
    return Layout("outputs/tiny")


def trained(layout, **changes):
    return classification.train(RECIPE | changes, image_tables.read(layout.real("train")), layout, 0, CPU)[
        0
    ].state_dict()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.medium
def test_training_is_the_same_whether_images_are_held_or_read_anew_and_by_how_many_threads(layout):
    held = trained(layout)
    assert same(held, trained(layout, memory_gib=0.0))
    assert same(held, trained(layout, memory_gib=0.0, threads=3))
    assert not same(held, trained(layout, crop="random"))


@pytest.mark.medium
def test_training_on_random_crops_is_a_function_of_the_seed_and_not_of_threads_or_memory(layout):
    first = trained(layout, crop="random")
    assert same(first, trained(layout, crop="random", threads=3, memory_gib=0.0))


@pytest.mark.parametrize("changes", [{}, {"memory_gib": 0.0}, {"crop": "random", "threads": 2}])
def test_an_image_that_breaks_off_stops_training_in_one_line_with_its_name(layout, changes):
    file = layout.root.parent.parent / "7.jpg"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"^image 7 cannot be decoded \(.*\): replace or remove it$"):
        trained(layout, **changes)


@pytest.mark.medium
def test_predictions_do_not_depend_on_the_threads_that_read(layout, tmp_path, monkeypatch):
    monkeypatch.setattr(timm_models, "BATCH", 5)
    save_file(trained(layout), tmp_path / "weights.safetensors")
    monkeypatch.setattr(classification.sources, "ood_sets", lambda layout: [])
    found = [
        classification.evaluate(
            {"calibration_bins": 15, "threads": threads}, RECIPE, tmp_path / "weights.safetensors", layout, 0, CPU
        )
        for threads in (1, 3)
    ]
    assert found[0][0] == found[1][0] and found[0][1].equals(found[1][1]) and found[0][1].num_rows == 12


@pytest.mark.medium
def test_training_learns_what_can_be_learned():
    torch.manual_seed(0)
    labels = torch.arange(40) % 2
    pixels = (labels * 200).to(torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16).contiguous()
    model = timm_models.build(RECIPE["architecture"], RECIPE["options"], classes=2)
    recipe = RECIPE | {"steps": 40, "learning_rate": 1e-2}
    fitted, _ = classification.fit_labels(model, InMemoryImages(pixels), labels, recipe, 0, CPU)
    assert (timm_models.predict(fitted, [pixels], device=CPU).argmax(dim=1) == labels).all()


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
    whole, parts = (timm_models.predict(model, pixels.split(size), device=CPU) for size in (20, 3))
    assert torch.allclose(whole, parts, atol=1e-5) and math.isclose(float(whole.sum()), 20, rel_tol=1e-5)


@pytest.mark.parametrize("architecture", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
def test_any_timm_name_is_known(architecture):
    timm_models.known_architecture(architecture)


def test_an_unknown_architecture_is_one_clear_line_with_close_names():
    with pytest.raises(ValueError, match=r"timm has no model 'resnet81'; close names: .*resnet18"):
        timm_models.known_architecture("resnet81")


def test_the_baseline_learns_shapes_from_the_real_images_that_are_left_whatever_their_colors(tmp_path):
    layout, rng = Layout(tmp_path), np.random.default_rng(0)
    for split in ("train", "test"):
        images, labels = [], np.arange(40) % 2
        for label in labels:
            front, back = rng.integers(120, 256, 3), rng.integers(0, 60, 3)
            pixels = np.broadcast_to(back, (16, 16, 3)).copy()
            pixels[4:12, slice(2, 6) if label else slice(10, 14)] = front
            images.append({"bytes": image_tables.encode(pixels.astype(np.uint8))})
        columns = {"id": [str(n) for n in range(40)], "label": labels, "caption": [""] * 40}
        table = pa.table({"image": pa.array(images, type=image_tables.IMAGE), **columns})
        image_tables.save(layout.real(split), table, class_names=json.dumps(["a", "b"]))
    manifest = mixing.mix(labels, "dropped", source="none", ratio=0.8, seed=0)
    tables = {"train": [layout.real("train")]}
    mixing.write_manifest(layout.mixture("dropped", "none", 0.8, [0]) / "seed-0.parquet", manifest, tables=tables)
    recipe = {
        "arm": "dropped",
        "source": "none",
        "ratio": 0.8,
        "seeds": [0],
        "draws": [],
        "slots": [],
        "image_size": 16,
    }
    test = image_tables.read(layout.real("test"))
    assert manifest.num_rows == 8
    assert classification.baseline(recipe, layout, seed=0, test=test) == [
        {"metric": "svm_accuracy", "value": 1.0, "n": 40}
    ]
    assert classification.baseline(recipe | {"arm": "generated"}, layout, seed=0, test=test) == []
