"""Image generation: a diffusion model learned from the mixture, its samples compared with real held-out images.

The model is a U-Net of diffusers with the choices of improved DDPM (Nichol & Dhariwal, ICML 2021): cosine schedule,
learned variance, hybrid loss, few evenly spaced sampling steps. Images are in -1..1 throughout.
"""

import ast
import functools
import math
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from contamination import sources
from contamination.base import image_tables, plotting
from contamination.base.files import package_folder
from contamination.base.settings import Count, Decay, Rate, Section
from contamination.metrics import distributions
from contamination.mixtures import arms
from contamination.networks import feature_extractors, hub
from contamination.training import reader
from contamination.training.loop import fit, normalize
from contamination.training.settings import LoadingOptions, Optimization, Runtime

NEEDS = ()  # a class-conditional model needs labels, which `check` asks for
USES_OOD_SETS = False
AUXILIARY_STAGE = "evaluate"
FROM_SCRATCH = "unet2d"  # the architecture that starts from scratch
# A model's options: these, and keyword arguments of UNet2DModel. patch: pixels per side that the network reads at once.
# resolution: pixels per side of the images that the model sees and makes; 0 for the study's image_size.
OWN_OPTIONS = {"class_conditional": False, "patch": 1, "resolution": 0}
GIVEN = {"sample_size", "in_channels", "out_channels", "num_class_embeds", "class_embed_type"}  # follow from these
SHOWN = 10  # rows and columns of the sheet of samples


class Train(LoadingOptions, Runtime, Optimization):
    steps: Count = 1000
    batch_size: Count = 16
    learning_rate: Rate = 3e-3
    weight_decay: float = Field(0.01, ge=0)
    ema_decay: Decay = 0.99
    prediction: Literal["epsilon", "v_prediction", "sample"] = "v_prediction"
    """what the network tells of a noisy image: `epsilon` (the noise), `sample` (the image) or `v_prediction`"""
    diffusion_steps: int = Field(1000, ge=2)
    """times of the diffusion chain"""
    vlb_weight: float = Field(1e-3, ge=0)
    """weight of the variational bound, which trains the variance"""


class Evaluate(Section):
    extractor: str = ""
    """whose features compare samples with real images: a published timm model; empty: the network of
    `auxiliary.generation`"""
    samples: int = Field(600, ge=SHOWN)
    """samples per model, the same at every ratio: the measures depend on it"""
    sampling_steps: int = Field(25, ge=2)
    """how many of the chain's times are taken"""
    neighbors: Count = 5
    """k of precision, recall, density and coverage"""
    threads: Count = 1
    """CPU threads of one job"""


Auxiliary, prepare = feature_extractors.Auxiliary, feature_extractors.prepare  # the feature extractor


def check(study) -> None:
    """Raise ValueError for options that make no U-Net, missing labels, and an extractor that is not known."""
    for name, model in study.models_of("generation").items():
        try:
            _check_model(study, model)
        except ValueError as error:
            raise ValueError(f"grid.models.{name}: {error}") from None
    key = "evaluate.generation.extractor"
    feature_extractors.check(key, study.evaluate.generation.extractor, study.auxiliary.generation)
    for name in study.models_of("generation"):
        _check_counts(study.evaluate.generation, name, study.train_of(name).diffusion_steps)


def _check_counts(evaluate: Evaluate, model: str, diffusion_steps: int) -> None:
    if evaluate.sampling_steps > diffusion_steps:
        raise ValueError(
            f"evaluate.generation.sampling_steps: {evaluate.sampling_steps} is more than the diffusion_steps that "
            f"{model} is trained with, {diffusion_steps}"
        )
    if evaluate.samples <= evaluate.neighbors:
        raise ValueError(f"evaluate.generation.samples: give more than the {evaluate.neighbors} neighbors")


def _check_model(study, model) -> None:
    if model.options.get("class_conditional") and "label" not in sources.offers(study.real):
        raise ValueError("options.class_conditional needs labels, which this source lacks")
    if model.architecture == FROM_SCRATCH:
        return check_options(model.options, study.data.image_size)
    hub.locate(model.architecture, FROM_SCRATCH)
    if set(model.options) - set(OWN_OPTIONS):
        raise ValueError(f"options: a published model takes only {', '.join(OWN_OPTIONS)}")


def check_options(options: dict, image_size: int) -> None:
    """Raise ValueError when no `UNet2DModel` can be built of a model's options."""
    known = unet_options()
    unknown = set(options) - set(OWN_OPTIONS) - set(known)
    if unknown:
        allowed = ", ".join([*OWN_OPTIONS, *known])
        raise ValueError(f"options: unknown {', '.join(sorted(unknown))}; allowed: {allowed}")
    for key, value in options.items():
        _check_type(key, value, (OWN_OPTIONS | known)[key])
    chosen = OWN_OPTIONS | known | options
    channels, side = chosen["block_out_channels"], chosen["resolution"] or image_size
    lengths = {key: len(chosen[key]) for key in ("block_out_channels", "down_block_types", "up_block_types")}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise ValueError(f"options: as many of each are needed, one per level: {listed}")
    multiple = chosen["patch"] * 2 ** (len(channels) - 1)
    if multiple < 1 or side % multiple:
        raise ValueError(
            f"options: {side} pixels are no multiple of {multiple}: patch {chosen['patch']}, halved from level to level"
        )
    _check_blocks(chosen)
    attends = "Attn" in " ".join([*chosen["down_block_types"], *chosen["up_block_types"]]) or chosen["add_attention"]
    for key in ("norm_num_groups", *(["attention_head_dim"] if attends else [])):
        if chosen[key] and any(width % chosen[key] for width in channels):
            raise ValueError(f"options: block_out_channels {list(channels)} are no multiples of {key} {chosen[key]}")


def _check_type(key: str, value, default) -> None:
    """Raise ValueError when an option's value is of another kind than its default; either may be None."""
    if isinstance(default, tuple):
        fits = isinstance(value, list) and all(isinstance(each, type(default[0])) for each in value)
    else:
        fits = isinstance(value, (int, float) if isinstance(default, float) else type(default))
    if not fits and default is not None and value is not None:
        wanted = f"a list such as {list(default)}" if isinstance(default, tuple) else f"of the kind of {default!r}"
        raise ValueError(f"options.{key}: {value!r} is not {wanted}")


def _check_blocks(chosen: dict) -> None:
    """Raise ValueError for a kind of block that diffusers lacks."""
    source = (_unet_source().parent / "unet_2d_blocks.py").read_text()
    for side in ("down", "up"):
        kinds = re.findall(rf'{side}_block_type == "(\w+)"', source)
        strange = set(chosen[f"{side}_block_types"]) - set(kinds)
        if strange:
            raise ValueError(f"options.{side}_block_types: {', '.join(sorted(strange))} is none of {', '.join(kinds)}")


def _unet_source() -> Path:
    return package_folder("diffusers") / "models" / "unets" / "unet_2d.py"


def unet_options() -> dict:
    """The keyword arguments of `UNet2DModel` with their defaults, but for those that follow from the others.

    Reads diffusers' source instead of importing it, which would take seconds.
    """
    tree = ast.parse(_unet_source().read_text())
    model = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "UNet2DModel")
    arguments = next(node for node in model.body if isinstance(node, ast.FunctionDef) and node.name == "__init__").args
    names = [argument.arg for argument in arguments.args[1:]]
    values = dict(zip(names, map(ast.literal_eval, arguments.defaults), strict=True))
    return {name: value for name, value in values.items() if name not in GIVEN}


def build(recipe: dict, layout):
    """The `UNet2DModel` that a recipe describes, as it is before training.

    It reads patches as channels (12 for 2x2 pixels), and tells twice as many: prediction and variance. Where a
    pretrained model predicts no variance, its last layer starts anew.
    """
    from diffusers import UNet2DModel

    chosen = OWN_OPTIONS | recipe["options"]
    channels = 3 * chosen["patch"] ** 2
    given = {
        "sample_size": resolution(recipe) // chosen["patch"],
        "in_channels": channels,
        "out_channels": 2 * channels,
        "num_class_embeds": len(sources.class_names(layout)) if chosen["class_conditional"] else None,
    }
    if recipe["architecture"] == FROM_SCRATCH:
        return UNet2DModel(**{key: value for key, value in chosen.items() if key not in OWN_OPTIONS}, **given)
    name = hub.locate(recipe["architecture"], FROM_SCRATCH)

    def read():
        return UNet2DModel.from_pretrained(name, **given, low_cpu_mem_usage=False, ignore_mismatched_sizes=True)

    return hub.load(name, "UNet2DModel", read)


def resolution(recipe: dict) -> int:
    """Pixels per side of the images that the model itself sees and makes."""
    return recipe["options"].get("resolution") or recipe["image_size"]


def make_scheduler(recipe: dict):
    """diffusers' DDPM scheduler: cosine schedule, variance between the two bounds, evenly spaced sampling steps."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        recipe["diffusion_steps"],
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        prediction_type=recipe["prediction"],
        timestep_spacing="linspace",
    )


def train(recipe: dict, images, layout, seed: int, device, checkpoint=None) -> tuple[Any, list[dict]]:
    """Train one diffusion model. Returns the model and its history; everything random follows from `seed`."""
    import torch

    torch.manual_seed(seed)
    model = build(recipe, layout)
    pictures = reader.load(images, resolution(recipe), recipe, device)
    labels = torch.tensor(images["label"].to_numpy()).to(device) if model.config.num_class_embeds else None
    scheduler = make_scheduler(recipe)

    def loss(model, pixels, index, draws):
        clean = normalize(pixels)
        noise, times = draws.normal(*clean.shape), draws.integers(recipe["diffusion_steps"], len(clean))
        classes = None if labels is None else labels[index]
        return hybrid_loss(
            model, scheduler, clean=clean, noise=noise, times=times, classes=classes, weight=recipe["vlb_weight"]
        )

    return fit(model, loss, images=pictures, recipe=recipe, seed=seed, device=device, checkpoint=checkpoint)


def model_output(model, noisy, *, times, classes=None):
    """What the network tells of noisy images (n, 3, side, side): prediction and variance fraction, of the same shape.

    The fraction is -1 at the lower and 1 at the upper bound of the variance, as diffusers has it.
    """
    from torch.nn import functional

    patch = math.isqrt(model.config.in_channels // 3)
    output = model(functional.pixel_unshuffle(noisy, patch), times, class_labels=classes).sample
    return functional.pixel_shuffle(output, patch).float().chunk(2, dim=1)


def hybrid_loss(model, scheduler, *, clean, noise, times, classes, weight: float):
    """L_simple + weight * L_vlb (Nichol & Dhariwal 2021, eq. 16), L_vlb in bits per channel over the whole chain."""
    from torch.nn import functional

    noisy = scheduler.add_noise(clean, noise, times)
    prediction, variance_fraction = model_output(model, noisy, times=times, classes=classes)
    simple = functional.mse_loss(prediction, target_of(scheduler, clean, noise=noise, times=times))
    predicted_x0 = clean_of(
        scheduler, prediction.detach(), noisy=noisy, times=times
    )  # the bound must not move the mean
    bound = divergence(
        scheduler, clean, predicted_x0=predicted_x0, variance_fraction=variance_fraction, times=times
    ).mean() * len(scheduler)
    return simple + weight * bound


def target_of(scheduler, clean, *, noise, times):
    """What the network is to predict: the noise, the image, or v = a * noise - s * image (Salimans & Ho, ICLR 2022)."""
    if scheduler.config.prediction_type == "v_prediction":
        return scheduler.get_velocity(clean, noise, times)
    return noise if scheduler.config.prediction_type == "epsilon" else clean


def clean_of(scheduler, prediction, *, noisy, times):
    """The image that a prediction stands for; the inverse of `target_of`."""
    if scheduler.config.prediction_type == "sample":
        return prediction
    share = scheduler.alphas_cumprod.to(noisy.device)[times].view(-1, 1, 1, 1)
    if scheduler.config.prediction_type == "epsilon":
        return (noisy - (1 - share).sqrt() * prediction) / share.sqrt()
    return share.sqrt() * noisy - (1 - share).sqrt() * prediction


def divergence(scheduler, clean, *, predicted_x0, variance_fraction, times):
    """KL divergence of the network's step from the true posterior, bits per channel, (n,); 0 at time 0.

    Both are Gaussians with the posterior mean of DDPM's eq. 7, for the true image `clean` and the network's
    `predicted_x0`, so the noisy image falls out of their difference. The network's log variance lies between those
    of `bounds`.
    At time 0 the paper has the likelihood of the pixels, which could only train a variance that sampling never uses.
    """
    lower, upper, weight = (each[times].view(-1, 1, 1, 1) for each in bounds(scheduler, clean.device))
    variance = lower + (variance_fraction + 1) / 2 * (upper - lower)
    distance = (weight * (clean - predicted_x0)).square() * (-variance).exp()
    bits = (variance - lower - 1 + (lower - variance).exp() + distance) / (2 * math.log(2))
    return bits.mean(dim=(1, 2, 3)) * (times > 0)


@functools.lru_cache(maxsize=1)  # once a training: a GPU would be waited for at every step
def bounds(scheduler, device):
    """For every time: log of tilde beta and of beta, the bounds of the variance, and the image's weight in the mean.

    All on the device. tilde beta is the posterior variance, 0 at time 0 and there given the one after, so that its log
    is finite.
    """
    import torch

    beta, after = scheduler.betas, scheduler.alphas_cumprod.cpu()  # add_noise moves the latter to the images' device
    before = torch.cat([torch.ones(1), after[:-1]])
    posterior = (1 - before) / (1 - after) * beta
    posterior[0] = posterior[1]
    return tuple(each.to(device) for each in (posterior.log(), beta.log(), before.sqrt() * beta / (1 - after)))


def sample(model, scheduler, classes, numbers, steps: int, seed: int, device, batch_size: int = 100):
    """Images of a diffusion model, uint8 (n, 3, side, side), on the CPU.

    classes: int64 (n,), or None for a model without. numbers: of the samples; each has its noise from `seed` and its
    number, so that the batch size changes nothing but rounding. steps: how many of the chain's are taken.
    """
    import torch

    scheduler.set_timesteps(steps)
    model, parts = model.to(device).eval(), []
    for rows in torch.arange(len(numbers)).split(batch_size):
        generators = [torch.Generator().manual_seed(noise_seed(seed, int(numbers[row]))) for row in rows]
        chosen = None if classes is None else classes[rows].to(device)
        with torch.inference_mode():
            parts.append(_denoise(model, scheduler, chosen, generators, device))
    return torch.cat(parts)


def noise_seed(seed: int, number: int) -> int:
    """The seed of one sample's noise, 63 bits; other than that of any image that the mixture may hold."""
    return int(np.random.SeedSequence([seed, 5, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _denoise(model, scheduler, classes, generators: list, device):
    """One image per generator, from pure noise: uint8 (n, 3, side, side), on the CPU."""
    import torch

    side = model.config.sample_size * math.isqrt(model.config.in_channels // 3)
    noisy = torch.stack([torch.randn(3, side, side, generator=generator) for generator in generators]).to(device)
    for time in scheduler.timesteps:
        predicted = torch.cat(model_output(model, noisy, times=time.to(device), classes=classes), dim=1)
        noisy = scheduler.step(predicted, time, noisy, generator=generators).prev_sample
    return noisy.clamp(-1, 1).add(1).mul(127.5).round().byte().cpu()


def evaluate(
    settings: dict, recipe: dict, weights: Path, layout, seed: int, device, checkpoint=None, *, split: str = "test"
) -> tuple[list[dict], pa.Table]:
    """Compare the samples of one trained model with a real split.

    In arm `clean` also as many real images of the train split, in the samples' place: metrics `..._of_real`, which no
    generator can be expected to beat. The extractor has seen neither split.
    weights: a safetensors file of the model that `recipe` describes. Returns the scores, one dict (split, metric,
    value, n) each, and the samples: columns image, id, label, with label -1 where the model knows no classes.
    """
    import torch
    from safetensors.torch import load_file

    model = build(recipe, layout)
    model.load_state_dict(load_file(weights))
    numbers, kinds = torch.arange(settings["samples"]), model.config.num_class_embeds
    classes = numbers % kinds if kinds else None  # in equal shares
    pixels = sample(model, make_scheduler(recipe), classes, numbers, settings["sampling_steps"], seed, device)
    predictions = samples_table(pixels, classes, size=recipe["image_size"])
    extractor = feature_extractors.load(settings["extractor"], layout)
    real = feature_extractors.features(extractor, image_tables.read(layout.real(split)), device=device)
    scores = distributions.compare(
        real, feature_extractors.features(extractor, predictions, device=device), k=settings["neighbors"]
    )
    if recipe["arm"] == arms.CLEAN.name:
        others = feature_extractors.features(
            extractor, image_tables.read(layout.real("train")).slice(0, settings["samples"]), device=device
        )
        best = distributions.compare(real, others, k=settings["neighbors"])
        scores += [each | {"metric": f"{each['metric']}_of_real"} for each in best]
    return [{"split": split} | each for each in scores], predictions


def samples_table(pixels, classes, *, size: int) -> pa.Table:
    """Samples in the form of real images: columns image, id, label. pixels: uint8 (n, 3, side, side)."""
    from PIL import Image

    images = [image_tables.resize(Image.fromarray(image), size) for image in pixels.permute(0, 2, 3, 1).numpy()]
    encoded = [{"bytes": image_tables.encode(image), "path": None} for image in images]
    labels = classes.tolist() if classes is not None else [-1] * len(images)
    identities = [f"sample-{number:05d}" for number in range(len(images))]
    return pa.table({"image": pa.array(encoded, type=image_tables.IMAGE), "id": identities, "label": labels})


def show(predictions: pa.Table, recipe: dict, layout, split: str = "test") -> list:
    """Samples of the first seed: a column per class, or ten columns where the model knows no classes."""
    from matplotlib import pyplot as plt

    first = plotting.first_seed(predictions)
    labels = first["label"].to_numpy()
    if recipe["options"].get("class_conditional"):
        names = sources.shown_names(layout)[:SHOWN]
        columns = [np.flatnonzero(labels == label)[:SHOWN] for label in range(len(names))]
    else:
        names = [""] * SHOWN
        columns = [np.arange(column, len(labels), SHOWN)[:SHOWN] for column in range(SHOWN)]
    rows = {str(row + 1): first.take(chosen) for row, chosen in enumerate(zip(*columns, strict=False))}
    side = recipe["image_size"]
    pixels = {row: image_tables.decode_all(table, side).permute(0, 2, 3, 1).numpy() for row, table in rows.items()}
    figure, ax = plt.subplots(figsize=(7, 7))
    plotting.image_grid(ax, pixels, names=names)
    ax.set_title(f"{plotting.title(recipe)}: samples")
    return [figure]


TRAINING = (train,)  # the code that 03_train shows: it builds the model and says what its loss is
