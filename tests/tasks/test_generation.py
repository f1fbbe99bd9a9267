"""Generation: the diffusion model against its paper's formulas, samples and features that batches do not change."""

import math
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from contamination import sources
from contamination.base import files, image_tables
from contamination.base.layout import Layout
from contamination.networks import feature_extractors
from contamination.tasks import generation
from safetensors.torch import save_file

CPU = torch.device("cpu")
TINY = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "add_attention": False,
}
POINT = {"task": "generation", "model": "tiny", "arm": "clean", "source": "train", "ratio": 0.0}
RECIPE = POINT | {
    **generation.Train(steps=4, batch_size=5).model_dump(),
    "architecture": "unet2d",
    "options": TINY | {"class_conditional": True, "resolution": 8},
    "image_size": 16,
}
SETTINGS = generation.Evaluate(samples=23, sampling_steps=3).model_dump()


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """The digits, and a auxiliary network that has learned for a few steps."""
    torch.set_num_threads(1)
    layout = Layout(tmp_path_factory.mktemp("study"))
    sources.prepare(layout, {"source": "digits", "image_size": 16}, 0)
    settings = generation.Auxiliary(steps=30).model_dump()
    network, _, scores = generation.prepare(settings, layout, 0, CPU)
    folder = layout.auxiliary("generation")
    files.write_json(folder / files.RECORD, {"settings": settings, "scores": scores})
    save_file(network.state_dict(), folder / "weights.safetensors")
    return layout


def train(layout, seed=0, **changes):
    images = image_tables.read(layout.real("train")).slice(0, 40)
    return generation.train(RECIPE | changes, images, layout, seed, CPU)[0]


def draw(model, batch_size, classes=None, steps=3):
    numbers = torch.arange(6)
    classes = numbers % 3 if classes is None else classes
    scheduler = generation.make_scheduler(RECIPE)
    return generation.sample(model, scheduler, classes, numbers, steps, 0, CPU, batch_size)


@pytest.mark.medium
def test_training_is_the_same_whether_images_are_held_or_read_anew(layout):
    held, read = (train(layout, memory_gib=memory).parameters() for memory in (4.0, 0.0))
    assert all(torch.equal(one, other) for one, other in zip(held, read, strict=True))


def test_training_is_a_function_of_the_seed(layout):
    first, again, other = (list(train(layout, seed).parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_batch_size_changes_no_sample(layout):
    model = train(layout)
    whole, parts = draw(model, 6), draw(model, 4)
    assert (whole.int() - parts.int()).abs().max() <= 1
    assert not torch.equal(whole[0], whole[3])  # the same class, another number, another image


def test_a_sample_depends_on_seed_and_number(layout):
    model, scheduler = train(layout), generation.make_scheduler(RECIPE)
    numbers = torch.tensor([4, 1])
    one = generation.sample(model, scheduler, numbers % 3, numbers, 3, 0, CPU)
    assert (one.int() - draw(model, 6)[numbers].int()).abs().max() <= 1
    other = generation.sample(model, scheduler, numbers % 3, numbers, 3, 1, CPU)
    assert not torch.equal(one, other)


def test_labels_reach_the_network(layout):
    model = train(layout)
    zeros, ones = (draw(model, 6, torch.full((6,), label)) for label in (0, 1))
    assert not torch.equal(zeros, ones)


def test_a_model_without_classes_needs_no_labels(layout):
    images = image_tables.read(layout.real("train")).slice(0, 40).drop_columns(["label"])
    recipe = RECIPE | {"options": TINY | {"patch": 2}}
    model, history = generation.train(recipe, images, layout, 0, CPU)
    assert model.config.num_class_embeds is None and history[-1]["images_seen"] == 20
    assert generation.sample(model, generation.make_scheduler(recipe), None, range(2), 2, 0, CPU).shape == (
        2,
        3,
        16,
        16,
    )


def test_the_schedule_is_the_cosine_of_the_paper():
    """Nichol & Dhariwal 2021, eq. 17, s = 0.008, beta at most 0.999."""
    scheduler = generation.make_scheduler(RECIPE)
    times = np.arange(1001) / 1000
    share = np.cos((times + 0.008) / 1.008 * math.pi / 2) ** 2
    share /= share[0]
    beta = np.minimum(1 - share[1:] / share[:-1], 0.999)
    assert np.allclose(scheduler.betas, beta, rtol=1e-3)
    posterior = beta * (1 - share[:-1]) / (1 - share[1:])
    lower, upper, _ = generation.bounds(scheduler, CPU)
    assert np.allclose(lower[1:-1].exp(), posterior[1:-1], rtol=1e-2) and lower[0] == lower[1]
    assert np.allclose(upper.exp(), beta, rtol=1e-3)


@pytest.mark.parametrize("fraction", [-1.0, -0.2, 1.0])
def test_sampling_and_training_mean_the_same_variance(fraction):
    """Nichol & Dhariwal 2021, eq. 15: exp(v log beta + (1 - v) log tilde beta)."""
    scheduler, time = generation.make_scheduler(RECIPE | {"prediction": "sample"}), 400
    told = torch.cat([torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), fraction)], dim=1)
    step = scheduler.step(told, time, torch.zeros(1, 3, 8, 8), torch.Generator().manual_seed(0)).prev_sample
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    lower, upper, _ = generation.bounds(scheduler, CPU)
    share = (fraction + 1) / 2
    expected = (share * upper[time] + (1 - share) * lower[time]).exp().sqrt()
    assert torch.allclose(step, expected * noise, rtol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_a_right_prediction_stands_for_the_image(prediction):
    scheduler = generation.make_scheduler(RECIPE | {"prediction": prediction})
    clean, noise, times = torch.rand(4, 3, 8, 8) * 2 - 1, torch.randn(4, 3, 8, 8), torch.tensor([0, 10, 400, 800])
    target = generation.target_of(scheduler, clean, noise=noise, times=times)
    noisy = scheduler.add_noise(clean, noise, times)
    assert torch.allclose(generation.clean_of(scheduler, target, noisy=noisy, times=times), clean, atol=1e-4)


def test_the_bound_is_zero_for_the_true_posterior_and_only_for_it():
    scheduler = generation.make_scheduler(RECIPE)
    clean, times = torch.rand(4, 3, 8, 8), torch.tensor([1, 10, 400, 900])
    exact = torch.full_like(clean, -1.0)
    assert torch.allclose(
        generation.divergence(scheduler, clean, predicted_x0=clean, variance_fraction=exact, times=times),
        torch.zeros(4),
        atol=1e-5,
    )
    assert (
        generation.divergence(scheduler, clean, predicted_x0=clean + 0.1, variance_fraction=exact, times=times) > 1e-9
    ).all()
    assert (
        generation.divergence(scheduler, clean, predicted_x0=clean, variance_fraction=-exact, times=times) > 1e-9
    ).all()


def test_the_bound_is_the_divergence_of_two_gaussians():
    """Means by DDPM's eq. 7 (Ho et al. 2020), divergence by torch."""
    scheduler = generation.make_scheduler(RECIPE)
    clean, predicted_x0, noise = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    times, fraction = torch.tensor([300, 600]), torch.rand(2, 3, 8, 8) * 2 - 1
    noisy = scheduler.add_noise(clean, noise, times)
    share = scheduler.alphas_cumprod.double()
    now, before, beta = (each.view(2, 1, 1, 1) for each in (share[times], share[times - 1], scheduler.betas[times]))

    def gaussian(image, log_variance):
        mean = (before.sqrt() * beta * image + (1 - beta).sqrt() * (1 - before) * noisy) / (1 - now)
        return torch.distributions.Normal(mean, (log_variance / 2).exp())

    posterior = (beta * (1 - before) / (1 - now)).log()
    told = (fraction + 1) / 2 * beta.log() + (1 - fraction) / 2 * posterior
    nats = torch.distributions.kl_divergence(gaussian(clean, posterior), gaussian(predicted_x0, told))
    bits = generation.divergence(scheduler, clean, predicted_x0=predicted_x0, variance_fraction=fraction, times=times)
    assert bits.numpy() == pytest.approx(nats.mean(dim=(1, 2, 3)).numpy() / math.log(2), rel=1e-3)


def test_the_bound_trains_the_variance_and_not_the_mean(layout):
    scheduler, model = generation.make_scheduler(RECIPE), train(layout)
    clean, noise, times = torch.rand(2, 3, 8, 8), torch.randn(2, 3, 8, 8), torch.tensor([5, 500])

    def gradients(weight):
        model.zero_grad()
        loss = generation.hybrid_loss(
            model, scheduler, clean=clean, noise=noise, times=times, classes=torch.tensor([0, 1]), weight=weight
        )
        loss.backward()
        return model.conv_out.weight.grad.clone().chunk(2)

    (mean, variance), (mean_alone, variance_alone) = gradients(1.0), gradients(0.0)
    assert torch.allclose(mean, mean_alone, atol=1e-7)
    assert variance.abs().max() > 0 and variance_alone.abs().max() == 0


def test_the_batch_size_changes_no_feature(layout):
    extractor = feature_extractors.load("", layout)
    images = image_tables.read(layout.real("test")).slice(0, 20)
    whole, parts = (feature_extractors.features(extractor, images, device=CPU, batch_size=size) for size in (20, 3))
    assert torch.allclose(whole, parts, atol=1e-5) and whole.std(dim=0).max() > 0


def test_a_photograph_is_no_sharper_to_an_extractor_than_an_image_stored_at_the_studys_size(project):
    import timm
    from PIL import Image

    photograph = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(photograph).save(project / "photograph.png")
    image_tables.write(
        project / "stored.arrow",
        [image_tables.encode(image_tables.resize(Image.fromarray(photograph), 16))],
        columns={"id": ["0"]},
    )
    in_place = pa.table({"image": image_tables.in_place(pa.array(["photograph.png"])), "id": ["0"]})
    network = timm.create_model("resnet10t", num_classes=0)
    extractor = feature_extractors.Extractor("some", network, 16, 32, (0.5,) * 3, (0.5,) * 3)
    stored = image_tables.read(project / "stored.arrow")
    seen, expected = (feature_extractors.features(extractor, table, device=CPU) for table in (in_place, stored))
    assert torch.equal(seen, expected) and seen.shape == (1, 512)


def test_the_feature_extractor_learns_words(layout):
    (score,) = files.read_json(layout.auxiliary("generation") / files.RECORD)["scores"]
    assert (score["split"], score["metric"]) == ("test", "word_precision") and 0 < score["value"] <= 1


def test_evaluation_scores_samples_that_are_stored_as_real_images_are(layout, tmp_path):
    model = train(layout)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    scores, samples = generation.evaluate(SETTINGS, RECIPE, tmp_path / "weights.safetensors", layout, 0, CPU)
    assert {"frechet_distance", "kernel_distance", "recall", "coverage"} <= {each["metric"] for each in scores}
    assert all(each["n"] == 23 and each["split"] == "test" and math.isfinite(each["value"]) for each in scores)
    values = {each["metric"]: each["value"] for each in scores}
    assert values["frechet_distance_of_real"] < values["frechet_distance"]  # nothing was learned in a few steps
    assert values["recall_of_real"] > 0.8
    assert image_tables.decode_all(samples, 16).shape == (23, 3, 16, 16)
    counts = np.bincount(samples["label"].to_numpy(), minlength=10)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("options", [TINY, TINY | {"class_conditional": True}])
def test_the_sheet_shows_the_first_seed(layout, options):
    pixels = torch.randint(0, 256, (25, 3, 8, 8), dtype=torch.uint8)
    classes = torch.arange(25) % 10 if "class_conditional" in options else None
    table = generation.samples_table(pixels, classes, size=16)
    both = pa.concat_tables([table.append_column("seed", pa.array([seed] * 25)) for seed in (3, 4)])
    (figure,) = generation.show(both, RECIPE | {"options": options}, layout)
    assert len(figure.axes[0].get_yticks()) == 2  # two full rows of ten


def test_a_published_model_keeps_its_weights_but_for_the_last_layer(layout, tmp_path):
    from diffusers import UNet2DModel

    published = UNet2DModel(sample_size=16, **TINY)
    published.save_pretrained(tmp_path)
    model = generation.build(RECIPE | {"architecture": str(tmp_path), "options": {}}, layout)
    assert torch.equal(model.conv_in.weight, published.conv_in.weight)
    assert model.conv_out.out_channels == 6


def study(model=None, extractor="", auxiliary=generation.Auxiliary(), offers=("label",), **evaluate):  # noqa: B008
    """As much of a study as `check` looks at."""
    options = {"architecture": "unet2d", "options": TINY} | (model or {})
    data = {"source": "digits", "image_size": 16}
    return SimpleNamespace(
        models_of=lambda task: {"small": SimpleNamespace(**options)},
        data=SimpleNamespace(**data),
        real=data,
        auxiliary=SimpleNamespace(generation=auxiliary),
        train_of=lambda model: generation.Train(),
        evaluate=SimpleNamespace(generation=generation.Evaluate(extractor=extractor, **evaluate)),
    )


def test_what_can_work_passes():
    generation.check(study())
    generation.check(study(extractor="resnet18.a1_in1k", auxiliary=None))
    generation.check(study({"architecture": "google/ddpm-cifar10-32", "options": {"class_conditional": True}}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"widths": [8]},
            r"grid\.models\.small: options: unknown widths; allowed: class_conditional, patch, .*dropout",
        ),
        ({"in_channels": 4}, r"options: unknown in_channels"),
        ({"block_out_channels": [8]}, r"as many of each .* block_out_channels 1, down_block_types 2"),
        ({"block_out_channels": [8, 10]}, r"\[8, 10\] are no multiples of norm_num_groups 4"),
        ({"add_attention": True, "attention_head_dim": 3}, r"no multiples of attention_head_dim 3"),
        ({"patch": 3}, r"16 pixels are no multiple of 6: patch 3, "),
        ({"patch": 0}, r"16 pixels are no multiple of 0"),
        ({"patch": "two"}, r"options\.patch: 'two' is not of the kind of 1"),
        ({"block_out_channels": 8}, r"options\.block_out_channels: 8 is not a list such as \[224, "),
        ({"block_out_channels": ["a", "b"]}, r"is not a list such as \[224, "),
        ({"resolution": 9}, r"9 pixels are no multiple of 2"),
        ({"down_block_types": ["DownBlock2D", "Down"]}, r"options\.down_block_types: Down is none of DownBlock2D, "),
    ],
)
def test_options_that_make_no_network_are_one_clear_line(change, message):
    with pytest.raises(ValueError, match=message) as error:
        generation.check(study({"options": TINY | change}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auxiliary": None}, r"extractor is empty: give a section auxiliary\.generation"),
        ({"extractor": "resnet81.a1_in1k"}, r"evaluate\.generation\.extractor: timm has no model 'resnet81'; close .*"),
        (
            {"auxiliary": generation.Auxiliary(architecture="resnet81")},
            r"auxiliary\.generation\.architecture: timm has",
        ),
        ({"model": {"architecture": "unet3d"}}, r"architecture 'unet3d': give unet2d, a folder that exists"),
        ({"sampling_steps": 2000}, r"sampling_steps: 2000 is more than .*, 1000"),
        ({"neighbors": 600}, r"evaluate\.generation\.samples: give more than the 600 neighbors"),
    ],
)
def test_other_mistakes_are_one_clear_line(changes, message):
    with pytest.raises(ValueError, match=message):
        generation.check(study(**changes))


def test_a_class_conditional_model_needs_labels(monkeypatch):
    monkeypatch.setattr(sources, "offers", lambda data: {"caption"})
    with pytest.raises(ValueError, match=r"small: options\.class_conditional needs labels"):
        generation.check(study({"options": TINY | {"class_conditional": True}}))
