"""Pre-training: no label reaches it, features see every patch, the probe agrees with scikit-learn."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.sources import digits
from contamination.tasks import pretraining
from contamination.training.checkpoints import Checkpoint
from contamination.training.loop import augment
from safetensors.torch import save_file
from transformers import ViTImageProcessor, ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel

pytestmark = pytest.mark.medium

OPTIONS = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "patch_size": 4,
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 1,
    "decoder_intermediate_size": 8,
    "mask_ratio": 0.5,
}
POINT = {"task": "pretraining", "model": "mae", "arm": "clean", "source": "train", "ratio": 0.0}
MODEL = {"architecture": "vit_mae", "options": OPTIONS, "image_size": 16}
RECIPE = pretraining.Train(steps=4, batch_size=8).model_dump() | MODEL | POINT
SETTINGS = pretraining.Evaluate(steps=3, batch_size=8, labelled_per_class=2).model_dump()
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def layout(project):
    """A study's folder with some of the digits, fifteen of each class in train."""
    layout = Layout("outputs/tiny")
    for split, columns in digits.splits(16, 0).items():
        rows = np.concatenate([np.flatnonzero(columns["label"] == label)[:15] for label in range(10)])
        images = [image_tables.encode(columns["pixels"][row]) for row in rows]
        others = {"id": [columns["id"][row] for row in rows], "label": columns["label"][rows]}
        image_tables.write(layout.real(split), images, columns=others, class_names=json.dumps(digits.CLASS_NAMES))
    return layout


def autoencoder(seed=0, **options):
    torch.manual_seed(seed)
    return pretraining.build(RECIPE | {"options": OPTIONS | options})


def as_table(pixels):
    """uint8 (n, size, size, 3) as the columns of an image table that decoding needs."""
    images = [{"bytes": image_tables.encode(image), "path": None} for image in pixels]
    return pa.table(
        {"image": pa.array(images, type=image_tables.IMAGE), "id": [str(row) for row in range(len(pixels))]}
    )


def study(architecture="vit_mae", image_size=16, **options):
    model = SimpleNamespace(architecture=architecture, options=options)
    return SimpleNamespace(models_of=lambda task: {"mae": model}, data=SimpleNamespace(image_size=image_size))


def test_the_options_are_those_of_transformers_with_the_same_defaults():
    config = ViTMAEConfig()
    assert pretraining.Options().model_dump() == {
        name: getattr(config, name) for name in pretraining.Options.model_fields
    }
    assert set(ViTMAEConfig.__annotations__) - set(pretraining.Options.model_fields) <= {
        "model_type",
        "image_size",
        "num_channels",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_sise": 8}, r"grid\.models\.mae\.options\.hidden_sise: unknown key; allowed here: hidden_size"),
        ({"hidden_size": "wide"}, r"grid\.models\.mae\.options\.hidden_size: .*integer"),
        ({"hidden_size": 18, "num_attention_heads": 3}, r"hidden_size 18 must be a multiple of 4 and of its 3"),
        (
            {"decoder_hidden_size": 6, "decoder_num_attention_heads": 3},
            r"decoder_hidden_size 6 must be a multiple of 4",
        ),
        ({"patch_size": 5}, r"patch_size 5 does not divide data\.image_size 16"),
        ({"patch_size": 8, "mask_ratio": 0.9}, r"mask_ratio 0\.9 leaves 0 of 4 patches"),
        ({"architecture": "vit_mea"}, r"architecture 'vit_mea': give vit_mae, a folder that exists, or a hub name a/b"),
        (
            {"architecture": "a/b", "patch_size": 4},
            r"grid\.models\.mae\.options: only architecture vit_mae takes options",
        ),
    ],
)
def test_what_cannot_work_is_one_clear_line(project, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        pretraining.check(study(**(OPTIONS if "architecture" not in changes else {}) | changes))
    assert "\n" not in str(error.value)


def test_options_that_work_pass():
    pretraining.check(study(**OPTIONS))


def test_a_model_from_scratch_knows_where_its_patches_are():
    model = autoencoder().model
    for positions in pretraining.fixed_positions(model):
        assert len(positions[0].unique(dim=0)) == 17
        assert not positions.requires_grad


def test_position_embeddings_are_those_of_transformers():
    from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding as theirs

    rows_first = theirs(3, 3, 8, cls_token=True)
    columns_first = torch.cat([rows_first[:, 4:], rows_first[:, :4]], dim=1)
    assert torch.allclose(pretraining.sine_positions(3, 8)[0], columns_first, atol=1e-5)


def test_training_is_a_function_of_the_seed_and_of_no_label(layout):
    images = image_tables.read(layout.real("train"))
    first, again = (
        pretraining.train(RECIPE, table, layout, 0, CPU)[0].state_dict() for table in (images, images.drop(["label"]))
    )
    other = pretraining.train(RECIPE, images, layout, 1, CPU)[0].state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["vit.layernorm.weight"], other["vit.layernorm.weight"])


def test_training_and_fine_tuning_are_the_same_whether_images_are_held_or_read_anew(layout):
    known, found = image_tables.read(layout.real("train")), []
    for memory in (4.0, 0.0):
        network, _ = pretraining.train(RECIPE | {"memory_gib": memory}, known, layout, 0, CPU)
        encoder = pretraining.take_encoder(pretraining.build(RECIPE)._replace(model=network))
        settings = SETTINGS | {"memory_gib": memory}
        found.append(pretraining.fine_tune(encoder, known, 10, settings, RECIPE, 0, CPU)[0].model.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_training_leaves_positions_alone_and_moves_every_other_weight(layout):
    trained, _ = pretraining.train(RECIPE | {"steps": 8}, image_tables.read(layout.real("train")), layout, 0, CPU)
    before, after = autoencoder().model.state_dict(), trained.state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {"vit.embeddings.position_embeddings", "decoder.decoder_pos_embed"}


def test_features_depend_on_every_patch_and_on_no_batch():
    encoder = pretraining.take_encoder(autoencoder(initializer_range=0.2))
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    whole = pretraining.features(encoder, as_table(pixels), size=16, threads=1, device=CPU)
    assert torch.equal(whole, pretraining.features(encoder, as_table(pixels), size=16, threads=1, device=CPU))
    assert torch.allclose(
        whole, pretraining.features(encoder, as_table(pixels), size=16, threads=1, device=CPU, batch_size=2), atol=1e-5
    )
    changed = np.repeat(pixels[:1], 16, axis=0)
    for patch in range(16):
        top, left = 4 * (patch // 4), 4 * (patch % 4)
        changed[patch, top : top + 4, left : left + 4] ^= 255
    others = pretraining.features(encoder, as_table(changed), size=16, threads=1, device=CPU)
    assert ((others - whole[:1]).abs().amax(dim=1) > 1e-4).all()


def test_the_probe_agrees_with_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 6))
    labels = rng.integers(0, 4, 500)
    points = (centers[labels] + rng.normal(size=(500, 6))) * 3 + 7
    scaler = StandardScaler().fit(points[:200])
    reference = LogisticRegression(max_iter=1000).fit(scaler.transform(points[:200]), labels[:200])
    known, unseen = torch.from_numpy(points[:200]).float(), torch.from_numpy(points[200:]).float()
    guesses = pretraining.probe(known, torch.from_numpy(labels[:200]), unseen=unseen, classes=4).numpy()
    assert (guesses == reference.predict(scaler.transform(points[200:]))).mean() > 0.99  # ties fall either way


def test_a_feature_that_never_varies_does_not_break_the_probe():
    known = torch.cat([torch.eye(3).repeat(4, 1), torch.full((12, 1), 5.0)], dim=1)
    assert pretraining.probe(known, torch.arange(12) % 3, unseen=known, classes=3).tolist() == [0, 1, 2] * 4


def test_the_labelled_images_are_as_many_of_each_class_and_drawn_by_seed():
    labels = np.arange(60) % 4
    chosen = pretraining.labeled(labels, 5, classes=4, seed=0)
    assert np.bincount(labels[chosen]).tolist() == [5] * 4 and len(set(chosen)) == 20
    assert np.array_equal(chosen, pretraining.labeled(labels, 5, classes=4, seed=0))
    assert not np.array_equal(chosen, pretraining.labeled(labels, 5, classes=4, seed=1))


def test_too_few_labelled_images_is_one_clear_line():
    with pytest.raises(ValueError, match=r"labelled_per_class is 3, but class 2 has only 1 real images"):
        pretraining.labeled(np.array([0, 0, 0, 1, 1, 1, 2]), 3, classes=3, seed=0)


def evaluate(layout, folder, weights, **changes):
    save_file(weights, folder / "weights.safetensors")
    return pretraining.evaluate(SETTINGS, RECIPE | changes, folder / "weights.safetensors", layout, 0, CPU)


def test_an_untrained_model_scores_what_its_own_weights_score_and_only_in_arm_clean(layout, tmp_path):
    """The two are judged in exactly the same way: same images, same probe, same first weights of the linear layer."""
    weights = autoencoder().model.state_dict()
    scores, predictions = evaluate(layout, tmp_path, weights)
    values = {each["metric"]: each["value"] for each in scores}
    assert 0 <= values.pop("finetuned_accuracy_untrained_longer") <= 1
    assert {each["split"] for each in scores} == {"test"} and {each["n"] for each in scores} == {150}
    for metric in ("probe_accuracy", "finetuned_accuracy"):
        assert values.pop(metric) == values.pop(f"{metric}_untrained")
    assert not values
    others, same = evaluate(layout, tmp_path, weights, arm="generated", ratio=1.0)
    assert [each["metric"] for each in others] == ["probe_accuracy", "finetuned_accuracy"]
    assert others == scores[:2] and same.equals(predictions)


def test_the_longer_baseline_takes_the_steps_of_pre_training_and_fine_tuning_together(layout, tmp_path, monkeypatch):
    """From the same first weights, images and order as the shorter one: all else alike, only longer."""
    tuned, original = [], pretraining.fine_tune

    def fine_tune(encoder, images, classes, settings, *others):
        first = encoder.model.state_dict()["embeddings.patch_embeddings.projection.weight"].clone()
        tuned.append((settings, first, images["id"].to_pylist()))
        return original(encoder, images, classes, settings, *others)

    monkeypatch.setattr(pretraining, "fine_tune", fine_tune)
    scores, _ = evaluate(layout, tmp_path, autoencoder().model.state_dict())
    (_, shorter, longer) = tuned
    assert longer[0] == shorter[0] | {"steps": RECIPE["steps"] + SETTINGS["steps"]}
    assert torch.equal(longer[1], shorter[1]) and longer[2] == shorter[2]
    longer_scores = [each["metric"] for each in scores if each["metric"].endswith("_longer")]
    assert longer_scores == ["finetuned_accuracy_untrained_longer"]  # a probe has no steps


# In the fine-tuning of the trained model, of the untrained one, and of the latter for longer.
@pytest.mark.parametrize("visit", [2, 5, 9])
def test_fine_tuning_that_was_cut_off_goes_on_to_the_same_scores(layout, tmp_path, monkeypatch, visit):
    save_file(autoencoder().model.state_dict(), tmp_path / "weights.safetensors")

    def judge():
        checkpoint = Checkpoint(tmp_path / "evaluate.pt", SETTINGS, 0)
        return pretraining.evaluate(SETTINGS, RECIPE, tmp_path / "weights.safetensors", layout, 0, CPU, checkpoint)

    visits = iter(range(1, visit + 1))
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(pretraining, "augment", lambda *given: (next(visits), augment(*given))[1])
        judge()
    calls = []
    monkeypatch.setattr(pretraining, "augment", lambda *given: (calls.append(1), augment(*given))[1])
    resumed = judge()
    assert len(calls) == 3 + 3 + 7 - visit
    assert resumed[0] == evaluate(layout, tmp_path, autoencoder().model.state_dict())[0]


def test_predictions_are_probabilities_with_pictures_of_one_image_per_class(layout, tmp_path):
    from matplotlib import pyplot as plt

    _, predictions = evaluate(layout, tmp_path, autoencoder().model.state_dict())
    test = image_tables.read(layout.real("test"))
    assert predictions["id"].to_pylist() == test["id"].to_pylist()
    assert np.allclose(np.stack(predictions["probabilities"].to_numpy()).sum(axis=1), 1, atol=1e-5)
    shown = predictions.filter(predictions["masked"].is_valid())
    assert shown["label"].to_pylist() == list(range(10)) == sorted(shown["label"].to_pylist())
    seeds = [predictions.append_column("seed", pa.array([seed] * len(predictions))) for seed in (3, 4)]
    figures = pretraining.show(pa.concat_tables(seeds), RECIPE, layout)
    assert len(figures) == 2
    plt.close("all")


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_reconstructions_keep_what_is_seen_and_change_what_is_hidden(norm_pix_loss):
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    masked, filled = pretraining.reconstruct(autoencoder(norm_pix_loss=norm_pix_loss), pixels, device=CPU)
    seen = (masked == pixels).all(dim=1)
    assert seen.float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(filled.permute(0, 2, 3, 1)[seen], pixels.permute(0, 2, 3, 1)[seen])
    assert (masked.permute(0, 2, 3, 1)[~seen] == 128).all()
    assert not torch.equal(filled, masked)


@pytest.fixture
def published(project):
    """A ViTMAE as it is published, of 8x8 pixels and with a pixel scale of its own, as a folder of the project."""
    config = ViTMAEConfig(**OPTIONS | {"patch_size": 2}, image_size=8)
    ViTMAEForPreTraining(config).save_pretrained(project / "weights")
    ViTImageProcessor(image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.2, 0.2]).save_pretrained(project / "weights")
    return {"architecture": "weights", "options": {}}


def test_a_published_model_goes_on_from_its_own_weights_size_and_pixel_scale(published, layout, tmp_path):
    pretraining.check(study("weights"))
    network = pretraining.build(RECIPE | published)
    views = pretraining.as_seen(network, torch.full((1, 3, 16, 16), 255, dtype=torch.uint8))
    assert views.shape == (1, 3, 8, 8)
    assert views[0, :, 0, 0].tolist() == pytest.approx([3.0, 2.5, 2.0], abs=1e-4)
    weights = pretraining.train(RECIPE | published, image_tables.read(layout.real("train")), layout, 0, CPU)[
        0
    ].state_dict()
    assert torch.equal(weights["decoder.decoder_pos_embed"], network.model.decoder.decoder_pos_embed)
    assert not torch.equal(weights["vit.layernorm.weight"], network.model.vit.layernorm.weight)
    assert len(evaluate(layout, tmp_path, weights, **published)[0]) == 5


def test_a_folder_that_holds_no_model_is_one_clear_line(project):
    (project / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty does not load as a ViTMAE") as error:
        pretraining.build(RECIPE | {"architecture": "empty", "options": {}})
    assert "\n" not in str(error.value)


def test_a_model_of_another_kind_is_refused_instead_of_filled_up_at_random(published, project):
    config = ViTMAEConfig(**OPTIONS | {"patch_size": 2}, image_size=8)
    ViTMAEModel(config).save_pretrained(project / "weights")
    with pytest.raises(ValueError, match=r"weights does not load as a ViTMAE \(ValueError: no weights decoder"):
        pretraining.build(RECIPE | published)


def test_transformers_shares_one_configuration_between_model_and_encoder():
    """`take_encoder` rests on it."""
    encoder = pretraining.take_encoder(autoencoder()).model
    assert isinstance(encoder, ViTMAEModel) and encoder.embeddings.config.mask_ratio == 0
