"""Captioning: any caption survives, padding counts for nothing, scores of made-up captions, clear errors."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from contamination.base import files, image_tables
from contamination.base.layout import Layout
from contamination.metrics import captions as metrics
from contamination.networks import caption_words
from contamination.sources import digits
from contamination.study.study import Generated
from contamination.tasks import captioning
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from safetensors.torch import save_file

CPU = torch.device("cpu")
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
REFERENCE = captioning.Auxiliary(steps=2, batch_size=4, **SIZES).model_dump()
RECIPE = captioning.Train(steps=3, batch_size=4).model_dump() | {
    "architecture": "blip",
    "options": SIZES,
    "image_size": 16,
    "model": "blip",
}
ODD = ["", "x" * 5000, "一只猫在雪地上", "<b>dog</b> & \"one\" 'two'", "it costs $x$ or $5 \\frac{", "a\ncat \x00\x03"]


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """Java takes seconds to start, and its metrics are tested elsewhere."""
    monkeypatch.setattr(metrics, "absent", lambda: {"meteor": "not here", "spice": "not here"})


@pytest.fixture
def layout(tmp_path, monkeypatch):
    return make_layout(tmp_path, monkeypatch)


def make_layout(folder, monkeypatch, captions=None):
    """A study's real images and its trained image encoder. captions: take the place of the digits' own, in turn."""
    torch.set_num_threads(1)
    for name in ("notebooks", "parameters"):
        (folder / name).mkdir()
    monkeypatch.chdir(folder)
    layout = Layout("outputs/tiny")
    for split, columns in digits.splits(16, 0).items():
        columns = {name: column[:12] for name, column in columns.items()}
        if captions:
            columns["caption"] = [captions[row % len(captions)] for row in range(12)]
        images = [image_tables.encode(pixels) for pixels in columns.pop("pixels")]
        image_tables.write(layout.real(split), images, columns=columns, class_names=json.dumps(digits.CLASS_NAMES))
    encoder, _, scores = captioning.prepare(REFERENCE, layout, 0, CPU)
    layout.auxiliary("captioning").mkdir(parents=True)
    save_file(encoder.state_dict(), layout.auxiliary("captioning") / "weights.safetensors")
    files.write_json(layout.auxiliary("captioning") / files.RECORD, {"settings": REFERENCE, "scores": scores})
    return layout


def train(layout, seed=0, **changes):
    return captioning.train(RECIPE | changes, image_tables.read(layout.real("train")), layout, seed, CPU)


def evaluate(layout, model, **changes):
    weights = layout.root / "weights.safetensors"
    save_file(model.state_dict(), weights)
    settings = captioning.Evaluate().model_dump()
    return captioning.evaluate(settings, RECIPE | changes, weights, layout, 0, CPU)


def equal(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_training_is_a_function_of_the_seed(layout):
    first, again, other = (train(layout, seed)[0] for seed in (0, 0, 1))
    assert equal(first, again) and not equal(first, other)


@pytest.mark.medium
def test_training_is_the_same_whether_images_are_held_or_read_anew(layout):
    assert equal(train(layout)[0], train(layout, memory_gib=0.0, threads=2)[0])
    held, read = (captioning.prepare(REFERENCE | {"memory_gib": memory}, layout, 0, CPU)[0] for memory in (4.0, 0.0))
    assert equal(held, read)


def test_the_image_encoder_is_a_function_of_the_seed(layout):
    first, again, other = (captioning.prepare(REFERENCE, layout, seed, CPU)[0] for seed in (0, 0, 1))
    assert equal(first, again) and not equal(first, other)


def test_captioning_starts_from_the_image_encoder_and_trains_all_of_it_further(layout):
    start, trained = captioning.build(RECIPE, layout).model, train(layout)[0]
    learned = captioning.prepare(REFERENCE, layout, 0, CPU)[0]
    assert equal(start.vision_model, learned)
    for name, weight in trained.vision_model.named_parameters():
        assert not torch.equal(weight, learned.get_parameter(name)), name


def test_what_is_saved_is_what_was_trained(layout):
    trained = train(layout)[0]
    _, predictions = evaluate(layout, trained)
    captioner = captioning.build(RECIPE, layout)._replace(model=trained)
    pixels = image_tables.decode_all(image_tables.read(layout.real("test")), 16)
    assert predictions["caption"].to_pylist() == captioning.describe(captioner, [pixels], 16, 1, CPU)


@pytest.mark.medium
def test_captions_do_not_depend_on_the_batch_size(layout):
    captioner = captioning.build(RECIPE, layout)._replace(model=train(layout, steps=30)[0])
    pixels = image_tables.decode_all(image_tables.read(layout.real("test")), 16)
    made = [captioning.describe(captioner, pixels.split(size), 16, 1, CPU) for size in (12, 5, 1)]
    assert made[0] == made[1] == made[2]


def test_beam_search_gives_each_image_a_caption_too(layout):
    captioner = captioning.build(RECIPE, layout)
    pixels = image_tables.decode_all(image_tables.read(layout.real("test")), 16)
    assert len(captioning.describe(captioner, [pixels], 5, 3, CPU)) == 12


@pytest.mark.medium
@pytest.mark.filterwarnings("ignore:Glyph")  # the figure's font has no Chinese
def test_odd_captions_survive_training_evaluation_and_figure(tmp_path, monkeypatch):
    layout = make_layout(tmp_path, monkeypatch, ODD)
    scores, predictions = evaluate(layout, train(layout)[0])
    assert all(np.isfinite(each["value"]) and each["split"] == "test" for each in scores)
    assert [references[0] for references in predictions["reference"].to_pylist()] == ODD * 2
    said = predictions.set_column(1, "caption", pa.array(ODD * 2)).append_column("seed", pa.array([0] * 12))
    figure, table = captioning.show(said, RECIPE, layout)
    assert list(table["generated caption"]) == said["caption"].to_pylist()[: len(table)]
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.medium
@pytest.mark.parametrize("caption", ["", "一只猫在雪地上", '<b>dog</b> & "one"', "it costs $x$"])
def test_a_caption_is_read_back_as_it_was_written(layout, caption):
    captioner = captioning.build(RECIPE | {"max_length": 60}, layout)
    tokens, _ = captioning.encode(captioner, [caption, "a red three on green background"], length=60)
    assert captioning._read(captioner, tokens[0].tolist()).replace(" ", "") == caption.replace(" ", "")


def test_padding_counts_for_nothing_in_the_loss(layout):
    captioner = captioning.build(RECIPE, layout)
    views = torch.rand(1, 3, 16, 16)
    alone, padded = (
        captioning.encode(captioner, captions, length=16) for captions in (["a red two"], ["a red two", "b" * 9])
    )
    assert alone[0].shape[1] < padded[0].shape[1]
    losses = [
        captioner.model(pixel_values=views, input_ids=tokens[:1], labels=targets[:1]).loss.item()
        for tokens, targets in (alone, padded)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_word_is_predicted_from_those_before_it_alone(layout):
    captioner = captioning.build(RECIPE, layout)
    tokens, _ = captioning.encode(captioner, ["a red two on green background", "a red two on blue ground"], length=16)
    logits = captioner.model(pixel_values=torch.rand(1, 3, 16, 16).expand(2, -1, -1, -1), input_ids=tokens).logits
    same = int((tokens[0] == tokens[1]).long().cumprod(0).sum())  # begin and the words both have
    assert same > 3 and torch.allclose(logits[0, :same], logits[1, :same], atol=1e-5)
    assert not torch.allclose(logits[0, same], logits[1, same], atol=1e-3)


def test_a_long_caption_is_cut_and_keeps_its_end(layout):
    captioner = captioning.build(RECIPE, layout)
    tokens, targets = captioning.encode(captioner, ["x" * 5000, ""], length=16)
    end = captioner.model.config.text_config.sep_token_id
    assert tokens.shape == (2, 16) and tokens[0, -1] == end and tokens[1, 1] == end
    assert (targets[1] != -100).sum() == 2


def test_each_part_of_a_caption_is_scored_in_its_place():
    images = pa.table({"label": [3, 8, 1, 0], "foreground": ["cyan"] * 4, "background": ["red"] * 4})
    captions = ["a cyan three on red background", "an orange eight on red background", "a cyan one", "a red cyan on"]
    parts = captioning.correct_parts(captions, images, class_names=digits.CLASS_NAMES)
    values = {name: right.mean() for name, right in parts.items()}
    assert values == {"correct_class": 0.5, "correct_foreground": 0.25, "correct_background": 0.5, "exact_match": 0.25}
    assert all(len(right) == 4 for right in parts.values())


@given(
    st.sampled_from(digits.CLASS_NAMES), st.sampled_from([*digits.FOREGROUNDS]), st.sampled_from([*digits.BACKGROUNDS])
)
def test_every_caption_of_the_digits_is_right_about_itself(name, foreground, background):
    row = {"label": [digits.CLASS_NAMES.index(name)], "foreground": [foreground], "background": [background]}
    caption = digits.describe(name, foreground, background)
    parts = captioning.correct_parts([caption], pa.table(row), class_names=digits.CLASS_NAMES)
    assert [right.tolist() for right in parts.values()] == [[True]] * 4


def test_the_words_to_learn_do_not_depend_on_the_order_of_the_captions():
    captions = ["A dog, a cat.", "the dog", "<b>cat</b>", ""]
    words = caption_words.frequent_words(captions)
    assert words == caption_words.frequent_words(captions[::-1]) == ["a", "b", "cat", "dog", "the"]


def test_captions_without_words_are_one_clear_line():
    with pytest.raises(ValueError, match="the pool's captions hold no word"):
        caption_words.frequent_words(["", "..."])


def test_a_missing_image_encoder_names_the_stage_that_makes_it(layout):
    (layout.auxiliary("captioning") / files.RECORD).unlink()
    with pytest.raises(FileNotFoundError, match="00_auxiliary makes it"):
        train(layout)


@pytest.fixture
def published(layout):
    """A BLIP as the hub has them, with random weights: a saved folder inside the project."""
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "red", "two", "on", "green", "background"]
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    numbers = {"vocab_size": 12, "bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3}
    vision = SIZES | {"image_size": 24, "patch_size": 8}
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(BlipConfig(text_config=SIZES | numbers, vision_config=vision))
    folder = layout.root / "published"
    BlipProcessor(BlipImageProcessor(size={"height": 24, "width": 24}), tokenizer).save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.medium
def test_a_published_model_is_trained_further_and_scored(layout, published):
    model, history = train(layout, architecture=published, options={})
    scores, predictions = evaluate(layout, model, architecture=published, options={})
    assert history[-1]["step"] == 3 and predictions.num_rows == 12
    assert {"bleu_4", "cider", "exact_match"} <= {each["metric"] for each in scores}


def test_a_folder_that_holds_no_model_is_one_clear_line(layout):
    (layout.root / "empty").mkdir()
    with pytest.raises(ValueError, match=r"architecture .*empty does not load as a BLIP \(.*\)$"):
        train(layout, architecture=str(layout.root / "empty"), options={})


def study(architecture="blip", options=None, auxiliary=True, style="caption", models=None):
    model = SimpleNamespace(task="captioning", architecture=architecture, options=options or {})
    section = captioning.Auxiliary() if auxiliary else None
    return SimpleNamespace(
        models_of=lambda task: {"blip": model},
        auxiliary=SimpleNamespace(captioning=section),
        data=SimpleNamespace(image_size=16),
        grid=SimpleNamespace(generated={"made": Generated(style=style, guidance=1, models=models)}),
    )


@pytest.mark.parametrize("models", [None, ["blip"], ["blip", "resnet"]])
def test_a_study_that_can_work_passes(models):
    captioning.check(study(models=models))
    captioning.check(study(style="diverse", models=["resnet"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"options": {"hiden_size": 8}},
            r"grid.models.blip.options.hiden_size: unknown key; allowed here: vocab_size, hidden_size",
        ),
        ({"options": {"hidden_size": -1}}, "grid.models.blip.options.hidden_size: "),
        ({"options": {"hidden_size": 10}}, "grid.models.blip.options: hidden_size 10 is no multiple of num_attention"),
        ({"auxiliary": False}, "auxiliary.captioning is missing: grid.models.blip"),
        ({"style": "class_name"}, r"grid.generated.made.models: .*style class_name.*without blip"),
        ({"style": "diverse", "models": ["resnet", "blip"]}, "grid.generated.made.models: "),
        (
            {"architecture": "no/such/folder"},
            "architecture 'no/such/folder': give blip, a folder that exists, or a hub",
        ),
        ({"architecture": "a/b", "options": {"x": 1}}, "grid.models.blip.options: only architecture blip takes"),
    ],
)
def test_what_cannot_work_is_one_line_that_names_the_key(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        captioning.check(study(**changes))
    assert "\n" not in str(caught.value)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="hidden_size 64 is no multiple of num_attention_heads 5"):
        captioning.Auxiliary(num_attention_heads=5)
