"""Whether generated images show their class: counted as a judge says, never by a judge that has learned the images."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from contamination import sources
from contamination.base import files, image_tables
from contamination.base.layout import Layout
from contamination.base.settings import read_settings
from contamination.metrics import colors, intervals
from contamination.metrics.fidelity import class_fidelity
from contamination.networks import judges
from contamination.sources import digits
from contamination.tasks import classification
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

pytestmark = pytest.mark.medium

CPU = torch.device("cpu")
CLASSES = ["one", "two", "three"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_fidelity_is_the_share_confirmed_over_all_and_within_each_class_that_has_images(pairs):
    predicted, labels = np.array(pairs).T
    scores = {score["metric"]: score for score in class_fidelity(predicted, labels, classes=CLASSES)}
    assert scores["class_fidelity"]["value"] == pytest.approx(np.mean(predicted == labels))
    assert set(scores) == {"class_fidelity", *(f"class_fidelity of {CLASSES[label]}" for label in labels)}
    for label in set(labels):
        score = scores[f"class_fidelity of {CLASSES[label]}"]
        chosen = labels == label
        assert score["n"] == chosen.sum() and score["value"] == pytest.approx(np.mean(predicted[chosen] == label))
        assert score["low"] <= score["value"] <= score["high"] and score["low"] < score["high"]


def test_as_many_predictions_as_labels_are_needed():
    with pytest.raises(ValueError, match="2 predictions and 3 labels"):
        class_fidelity([0, 1], [0, 1, 2], classes=CLASSES)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """The digits, and a judge of a few steps."""
    torch.set_num_threads(1)
    made = Layout(tmp_path_factory.mktemp("fidelity"))
    sources.prepare(made, {"source": "digits", "image_size": 16}, 0)
    settings = classification.Auxiliary(steps=150).model_dump()
    network, _, scores = classification.prepare(settings, made, 0, CPU)
    folder = made.auxiliary("classification")
    files.write_json(folder / files.RECORD, {"settings": settings, "scores": scores})
    weights = {name: weight.contiguous() for name, weight in network.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    return made


def test_the_judge_is_scored_on_training_images_that_it_has_not_learned(layout):
    (score,) = files.read_json(layout.auxiliary("classification") / files.RECORD)["scores"]
    assert score["split"] == "train" and score["n"] == 600
    judge, real = judges.load("", layout, CPU), image_tables.read(layout.real("train"))
    again = np.mean(judge.classify(real) == real["label"].to_numpy())
    assert again == pytest.approx(score["value"]) and again > 0.5


def test_wrong_labels_lower_fidelity_by_their_share_and_the_judge_stays_as_good_as_it_is(layout):
    judge, real = judges.load("", layout, CPU), image_tables.read(layout.real("train"))
    labels = real["label"].to_numpy().copy()
    labels[:200] = (labels[:200] + 1) % 10
    wrong = real.set_column(real.column_names.index("label"), "label", pa.array(labels))
    scores, absent = judges.fidelity(
        judge, "planted", images=wrong, real=real, classes=list(digits.CLASS_NAMES), confidence=0.95
    )
    found = {score["metric"]: score["value"] for score in scores}
    right = judge.classify(real) == real["label"].to_numpy()
    assert not absent
    assert found["class_fidelity_of_real"] == pytest.approx(right.mean())
    assert found["class_fidelity"] == pytest.approx(np.mean(judge.classify(real) == labels))
    assert found["class_fidelity"] < found["class_fidelity_of_real"] - 0.2


def test_a_judge_is_not_asked_about_the_pool_that_it_has_learned(layout):
    judge, pool = judges.load("", layout, CPU), image_tables.read(layout.real("pool"))
    scores, absent = judges.fidelity(
        judge, "pool", images=pool, real=pool, classes=list(digits.CLASS_NAMES), confidence=0.95
    )
    assert {score["metric"].split(" of ")[0] for score in scores} == {"class_fidelity_of_real"}
    assert absent == [{"metric": "class_fidelity", "reason": "auxiliary-resnet10t has learned from these images"}]


def test_a_published_judge_knows_classes_by_their_wordnet_ids():
    from timm.data import ImageNetInfo

    known = ImageNetInfo("imagenet1k").label_names()
    assert [known[row] for row in judges.outputs_of(["n01440764", "n03394916"], known)] == ["n01440764", "n03394916"]
    with pytest.raises(ValueError, match=r"does not know class tench \(one of 2\)"):
        judges.outputs_of(["tench", "n01440764", "hen"], known)


def test_a_study_with_classes_needs_a_judge():
    auxiliary = read_settings(classification.Auxiliary, {"architecture": "resnet11"})
    for name, own in (("", None), ("", auxiliary), ("resnet11", None)):
        with pytest.raises(ValueError, match=r"(judge|auxiliary)"):
            judges.check(name, own)


# Colors


def painted(seed, by_class: bool):
    """The train digits painted anew: in colors by chance, or every class in its own."""
    split = digits.splits(16, seed)["train"]
    pixels, labels = split["pixels"], split["label"]
    if by_class:
        rng = np.random.default_rng(seed)
        ground = np.array(list(digits.BACKGROUNDS.values()))[labels % 6].astype(float) + 12 * (labels // 6)[:, None]
        strokes = pixels.mean(axis=3, keepdims=True)
        pixels = np.clip(ground[:, None, None] + strokes / 2 + rng.normal(0, 2, (len(labels), 1, 1, 3)), 0, 255)
    return pixels.astype(np.uint8), labels


def test_two_colors_are_those_that_a_digit_was_painted_in():
    strokes = np.zeros((1, 8, 8))
    strokes[:, 1:7, 3:5] = 1
    one = {"white": (245, 245, 245)}, {"red": (95, 15, 20)}
    pixels, _ = digits.paint(strokes, 16, np.random.default_rng(0), *one)
    (found,) = colors.two_colors(pixels)
    assert np.abs(found - [95, 15, 20, 245, 245, 245]).max() < 4 * digits.COLOR_JITTER


def test_colors_by_chance_do_not_give_the_class_away_and_planted_ones_do():
    pixels, labels = painted(0, by_class=False)
    by_chance = colors.class_from_colors(colors.two_colors(pixels), labels, seed=0)
    pixels, labels = painted(0, by_class=True)
    planted = colors.class_from_colors(colors.two_colors(pixels), labels, seed=0)
    assert by_chance.high < 0.2 < 0.8 < planted.low
    assert isinstance(planted, intervals.Interval) and planted.n == len(labels)


def test_colors_of_classes_with_fewer_images_than_folds_are_refused():
    with pytest.raises(ValueError, match="a class has 1 images, and 5 folds need as many"):
        colors.class_from_colors(np.zeros((7, 6)), np.array([0] * 6 + [1]), seed=0)


def test_the_metrics_of_a_record_are_json(layout):
    scores = class_fidelity(np.array([0, 1]), np.array([0, 2]), classes=CLASSES)
    assert json.loads(json.dumps(scores)) == scores
