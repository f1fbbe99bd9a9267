"""Self-supervised pre-training: a masked autoencoder (He et al., CVPR 2022) learns from a mixture without its labels.

How good its encoder has become is judged by labeled real images, the same in every arm: a linear probe on the frozen
encoder, and the whole encoder fine-tuned on a few images per class.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from contamination import sources
from contamination.base import image_tables, plotting
from contamination.base.settings import Count, Decay, Rate, Section, Share, read_settings
from contamination.mixtures import arms
from contamination.networks import hub
from contamination.training import reader
from contamination.training.loop import augment, fit
from contamination.training.settings import AffineAugmentation, CropAugmentation, LoadingOptions, Optimization, Runtime

NEEDS = ("label",)  # for the scores alone
USES_OOD_SETS = False
FROM_SCRATCH = "vit_mae"  # the architecture that starts from random weights
SHOWN = 10  # test images that are kept as the model fills them in
UNTRAINED = "_untrained"  # ends the name of a score without pre-training,
LONGER = "_untrained_longer"  # and of one whose fine-tuning has the steps of pre-training, too


class Train(CropAugmentation, AffineAugmentation, Runtime, Optimization):
    steps: Count = 1000
    batch_size: Count = 32
    learning_rate: Rate = 3e-3


class Evaluate(LoadingOptions, Optimization):
    """Fine-tuning, with the moves of pre-training; the probe has nothing to set."""

    steps: Count = 240
    """optimizer steps of fine-tuning"""
    batch_size: Count = 25
    learning_rate: Rate = 3e-3
    label_smoothing: Share = 0.1
    """share of the target spread over all classes, 0 to 1"""
    labelled_per_class: Count = 20
    """real images per class that fine-tuning sees, the same in every arm"""


class Options(Section):
    """A model from scratch: keyword arguments of `ViTMAEConfig` with its defaults, those of ViT-Base."""

    hidden_size: Count = 768
    num_hidden_layers: Count = 12
    num_attention_heads: Count = 12
    intermediate_size: Count = 3072
    hidden_act: Literal["gelu", "gelu_new", "quick_gelu", "relu", "silu"] = "gelu"
    hidden_dropout_prob: Decay = 0.0
    attention_probs_dropout_prob: Decay = 0.0
    initializer_range: Rate = 0.02
    layer_norm_eps: Rate = 1e-12
    patch_size: Count = 16
    qkv_bias: bool = True
    decoder_num_attention_heads: Count = 16
    decoder_hidden_size: Count = 512
    decoder_num_hidden_layers: Count = 8
    decoder_intermediate_size: Count = 2048
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    norm_pix_loss: bool = False

    @model_validator(mode="after")
    def _widths_fit(self):
        for part in ("", "decoder_"):
            width, heads = getattr(self, f"{part}hidden_size"), getattr(self, f"{part}num_attention_heads")
            if width % heads or width % 4:  # 4: sine and cosine of both coordinates
                raise ValueError(
                    f"{part}hidden_size {width} must be a multiple of 4 and of its {heads} attention heads"
                )
        return self


class Network(NamedTuple):
    """A masked autoencoder, or its encoder alone, with mean and std of the pixels (0..1) it takes, by channel."""

    model: Any
    mean: list[float]
    std: list[float]


def check(study) -> None:
    """Raise ValueError for options, an image size or an architecture that cannot work."""
    for name, model in study.models_of("pretraining").items():
        key = f"grid.models.{name}"
        if model.architecture != FROM_SCRATCH:
            if model.options:
                raise ValueError(f"{key}.options: only architecture {FROM_SCRATCH} takes options")
            hub.locate(model.architecture, FROM_SCRATCH)
            continue
        options = read_settings(Options, model.options, key=f"{key}.options")
        _check_patches(f"{key}.options", options, study.data.image_size)


def _check_patches(key: str, options: Options, image_size: int) -> None:
    size = options.patch_size
    if image_size % size:
        raise ValueError(f"{key}.patch_size {size} does not divide data.image_size {image_size}")
    patches = (image_size // size) ** 2
    seen = int(patches * (1 - options.mask_ratio))
    if not 0 < seen < patches:
        raise ValueError(
            f"{key}.mask_ratio {options.mask_ratio} leaves {seen} of {patches} patches: hide some, not all"
        )


def build(recipe: dict) -> Network:
    """The autoencoder that a recipe describes, as it is before it has met a mixture."""
    if recipe["architecture"] == FROM_SCRATCH:
        return Network(_from_scratch(recipe), [0.5] * 3, [0.5] * 3)
    return _published(hub.locate(recipe["architecture"], FROM_SCRATCH))


def _from_scratch(recipe: dict):
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    options = Options(**recipe["options"]).model_dump()
    model = ViTMAEForPreTraining(ViTMAEConfig(**options, image_size=recipe["image_size"]))
    # transformers 5.23 leaves both position embeddings at zero in a model that is not loaded, and so the autoencoder
    # without any notion of where a patch was; it also leaves out the paper's first weights for the patches.
    side = recipe["image_size"] // options["patch_size"]
    for positions in fixed_positions(model):
        positions.data.copy_(sine_positions(side, positions.shape[-1]))
    torch.nn.init.xavier_uniform_(model.vit.embeddings.patch_embeddings.projection.weight.data.flatten(start_dim=1))
    return model


def fixed_positions(model) -> tuple:
    """The position embeddings of encoder and decoder, which no training changes."""
    return model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed


def sine_positions(side: int, width: int):
    """Fixed position embeddings: float (1, 1 + side * side, width), row by row, zero for the class token.

    A quarter of the width each: sines and cosines of the column, then of the row (as in He et al.'s code).
    """
    import torch

    frequencies = 10000 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    grid = torch.cat([line.repeat(side, 1), line.repeat_interleave(side, dim=0)], dim=1)
    return torch.cat([torch.zeros(1, width), grid])[None]


def _published(name: str) -> Network:
    """A ViTMAE of a folder or the hub, with its own pixel scale. Raises ValueError if it does not load."""
    from transformers import ViTImageProcessor, ViTMAEForPreTraining

    def read():
        model, found = ViTMAEForPreTraining.from_pretrained(name, use_safetensors=True, output_loading_info=True)
        if found["missing_keys"]:  # of another kind of model; transformers would draw them at random
            raise ValueError(f"no weights {min(found['missing_keys'])}")
        return ViTImageProcessor.from_pretrained(name), model

    scale, model = hub.load(name, "ViTMAE", read)
    for positions in fixed_positions(model):
        positions.requires_grad_(False)  # as they were in a new model; loading forgets it
    return Network(model, list(scale.image_mean), list(scale.image_std))


def as_seen(network: Network, pixels):
    """uint8 (n, 3, height, width) at the size and scale of the model: float (n, 3, size, size)."""
    return hub.as_seen(pixels, network.model.config.image_size, mean=network.mean, std=network.std)


def as_stored(network: Network, images):
    """The reverse of `as_seen`, at the model's size: uint8 (n, 3, size, size)."""
    import torch

    mean, std = (torch.tensor(each, device=images.device).view(3, 1, 1) for each in network[1:])
    return (images * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)


def patch_count(model) -> int:
    return (model.config.image_size // model.config.patch_size) ** 2


def train(recipe: dict, images, layout, seed: int, device, checkpoint=None) -> tuple[Any, list[dict]]:
    """Train the autoencoder to fill in hidden patches of the images of a mixture; labels are not looked at.

    Returns the model and its history. Everything random (weights, batches, augmentation, which patches are hidden)
    follows from `seed`.
    """
    import torch

    torch.manual_seed(seed)
    network = build(recipe)
    pictures = reader.load(images, recipe["image_size"], recipe, device, seed)
    patches = patch_count(network.model)

    def loss(model, pixels, index, draws):
        views = augment(as_seen(network, pixels), recipe, draws)
        return model(views, noise=draws.uniform(len(views), patches)).loss

    return fit(network.model, loss, images=pictures, recipe=recipe, seed=seed, device=device, checkpoint=checkpoint)


def evaluate(
    settings: dict, recipe: dict, weights: Path, layout, seed: int, device, checkpoint=None, *, split: str = "test"
) -> tuple[list[dict], pa.Table]:
    """Probe and fine-tune one pre-trained model with labeled real images of the train split; score on a split.

    The probe learns from all of them, fine-tuning from `labelled_per_class` of each class, drawn by seed.
    In arm `clean` also the model as it was before pre-training, which no mixture can change: metrics `..._untrained`;
    and `finetuned_accuracy_untrained_longer`, where fine-tuning has the steps of pre-training, too, as pre-training
    could win by its number of steps alone.
    weights: a safetensors file of the model that `recipe` describes. Returns the scores, one dict (split, metric,
    value, n) each, and the predictions of the fine-tuned model: columns id, label, probabilities (classes,), and for
    the first image of up to `SHOWN` classes also masked and reconstructed (PNG).
    """
    from safetensors.torch import load_file

    known, test = image_tables.read(layout.real("train")), image_tables.read(layout.real(split))
    classes = len(sources.class_names(layout))
    network = build(recipe)
    network.model.load_state_dict(load_file(weights))
    pictures = picture_columns(network, test, image_size=recipe["image_size"], device=device)
    values, probabilities = judge(
        network,
        known,
        test=test,
        classes=classes,
        settings=settings,
        recipe=recipe,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
    )
    if recipe["arm"] == arms.CLEAN.name:
        values |= judge_untrained(
            known,
            test,
            classes=classes,
            settings=settings,
            recipe=recipe,
            seed=seed,
            device=device,
            checkpoint=checkpoint,
        )
    scores = [{"split": split, "metric": name, "value": value, "n": len(test)} for name, value in values.items()]
    columns = {"id": test["id"], "label": test["label"], "probabilities": list(probabilities.numpy())}
    return scores, pa.table(columns | pictures)


def per_image(predictions: pa.Table, layout, *, split: str = "test") -> dict[str, np.ndarray]:
    """Of the predictions of one seed, whether each image is classified correctly after fine-tuning: bool."""
    probabilities = np.stack(predictions["probabilities"].to_numpy())
    return {"finetuned_accuracy": probabilities.argmax(axis=1) == predictions["label"].to_numpy()}


def judge(
    network, known, *, test, classes: int, settings, recipe, seed: int, device, checkpoint=None
) -> tuple[dict, Any]:
    """Accuracy of a probe and of fine-tuning on `test`, and the latter's class probabilities, float32 (n, classes).

    known, test: image tables of labeled real images, to learn from and to judge by.
    """
    import torch

    encoder, size = take_encoder(network), recipe["image_size"]
    labels = torch.tensor(known["label"].to_numpy())
    seen, unseen = (
        features(encoder, table, size=size, threads=settings["threads"], device=device) for table in (known, test)
    )
    guesses = probe(seen, labels, unseen=unseen, classes=classes)
    probabilities = tuned_probabilities(
        encoder,
        known,
        test=test,
        classes=classes,
        settings=settings,
        recipe=recipe,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
    )
    found = {"probe_accuracy": guesses, "finetuned_accuracy": probabilities.argmax(dim=1)}
    return {name: _accuracy(each, test) for name, each in found.items()}, probabilities


def judge_untrained(known, test, *, classes: int, settings, recipe, seed: int, device, checkpoint=None) -> dict:
    """The scores of the model that pre-training starts from, with short and with long fine-tuning."""
    import torch

    beside = {end: checkpoint and checkpoint.beside(end.strip("_")) for end in (UNTRAINED, LONGER)}
    torch.manual_seed(seed)
    values, _ = judge(
        build(recipe),
        known,
        test=test,
        classes=classes,
        settings=settings,
        recipe=recipe,
        seed=seed,
        device=device,
        checkpoint=beside[UNTRAINED],
    )
    values = {name + UNTRAINED: value for name, value in values.items()}
    torch.manual_seed(seed)
    encoder, longer = take_encoder(build(recipe)), settings | {"steps": recipe["steps"] + settings["steps"]}
    found = tuned_probabilities(
        encoder,
        known,
        test=test,
        classes=classes,
        settings=longer,
        recipe=recipe,
        seed=seed,
        device=device,
        checkpoint=beside[LONGER],
    )
    return values | {"finetuned_accuracy" + LONGER: _accuracy(found.argmax(dim=1), test)}


def tuned_probabilities(
    encoder: Network, known, *, test, classes: int, settings, recipe, seed: int, device, checkpoint=None
):
    """Class probabilities of `test` by the encoder fine-tuned on a few images of `known`: float32 (n, classes)."""
    import torch

    few = image_tables.take(
        known, labeled(known["label"].to_numpy(), settings["labelled_per_class"], classes=classes, seed=seed)
    )
    tuned, head = fine_tune(encoder, few, classes, settings, recipe, seed, device, checkpoint)
    with torch.inference_mode():
        return head(
            features(tuned, test, size=recipe["image_size"], threads=settings["threads"], device=device)
        ).softmax(dim=1)


def _accuracy(guesses, test: pa.Table) -> float:
    import torch

    return (guesses == torch.tensor(test["label"].to_numpy())).float().mean().item()


def take_encoder(network: Network) -> Network:
    """The encoder of an autoencoder, from now on with nothing hidden from it."""
    network.model.config.mask_ratio = 0.0  # the encoder holds the same configuration
    return network._replace(model=network.model.vit)


def pool(encoder, views):
    """An image's features: the mean of the last layer's patch tokens, float (n, width). views: as `as_seen` gives."""
    import torch

    # Ascending noise keeps the patches in order; without it each call would shuffle them, and round differently.
    order = torch.arange(patch_count(encoder), device=views.device).float().expand(len(views), -1)
    return encoder(views, noise=order).last_hidden_state[:, 1:].mean(dim=1)


def features(encoder: Network, images: pa.Table, *, size: int, threads: int, device, batch_size: int = 200):
    """Features of the images of a table by a frozen encoder: float32 (n, width), on the CPU."""
    import torch

    model = encoder.model.to(device).eval()
    with torch.inference_mode():
        views = (
            as_seen(encoder, part.to(device))
            for part in reader.in_order(images, size, threads=threads, batch_size=batch_size)
        )
        return torch.cat([pool(model, each).float().cpu() for each in views])


def probe(known, labels, *, unseen, classes: int):
    """Classes of `unseen` features by a logistic regression on `known` ones: int64 (n,).

    known, unseen: float (n, width), brought to mean 0 and std 1 of the known. labels: int64, of the known.
    Minimizes half the squared weights plus the summed cross-entropy, as scikit-learn does at its defaults, by L-BFGS.
    """
    import torch
    import torch.nn.functional as functional

    mean, std = known.mean(dim=0), known.std(dim=0, correction=0).clamp_min(1e-6)
    known, unseen = (known - mean) / std, (unseen - mean) / std
    weight = torch.zeros(known.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        error = functional.cross_entropy(known @ weight + bias, labels) + weight.square().sum() / (2 * len(known))
        error.backward()
        return error

    optimizer.step(closure)
    return (unseen @ weight + bias).argmax(dim=1).detach()


def labeled(labels: np.ndarray, per_class: int, *, classes: int, seed: int) -> np.ndarray:
    """Rows of `per_class` images of each class, drawn by seed: int64 (classes * per_class,), the same in every arm.

    Raises ValueError when a class has fewer images.
    """
    rng = np.random.default_rng([seed, 6])
    sizes = np.bincount(labels, minlength=classes)
    if sizes.min() < per_class:
        raise ValueError(
            f"labelled_per_class is {per_class}, but class {sizes.argmin()} has only {sizes.min()} real images"
        )
    return np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in range(classes)])


def fine_tune(
    encoder: Network, images: pa.Table, classes: int, settings, recipe, seed: int, device, checkpoint=None
) -> tuple:
    """Train an encoder and a linear layer on its features with labeled images; returns the two, the layer on the CPU.

    settings: the fields of `Evaluate`. recipe: gives the augmentation. The weights of `encoder` change.
    """
    import torch
    import torch.nn.functional as functional

    torch.manual_seed(seed)
    model = torch.nn.ModuleList([encoder.model, torch.nn.Linear(encoder.model.config.hidden_size, classes)])
    pictures = reader.load(images, recipe["image_size"], settings, device)
    labels = torch.tensor(images["label"].to_numpy()).to(device)

    def loss(model, pixels, index, draws):
        views = augment(as_seen(encoder, pixels), recipe, draws)
        scores = model[1](pool(model[0], views))
        return functional.cross_entropy(scores, labels[index], label_smoothing=settings["label_smoothing"])

    tuned, head = fit(model, loss, images=pictures, recipe=settings, seed=seed, device=device, checkpoint=checkpoint)[0]
    return encoder._replace(model=tuned), head.cpu()


def picture_columns(network: Network, test: pa.Table, *, image_size: int, device) -> dict[str, pa.Array]:
    """What the model sees and what it fills in, for the first test image of up to `SHOWN` classes; null for others.

    Columns masked and reconstructed, PNG. The same patches are hidden whatever the seed and the mixture.
    """
    rows = np.unique(test["label"].to_numpy(), return_index=True)[1][:SHOWN]
    masked, filled = reconstruct(
        network, image_tables.decode_all(image_tables.take(test, rows), image_size), device=device
    )
    columns: dict[str, list[bytes | None]] = {"masked": [None] * test.num_rows, "reconstructed": [None] * test.num_rows}
    for name, images in zip(columns, (masked, filled), strict=True):
        for row, image in zip(rows, images.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
            columns[name][row] = image_tables.encode(image)
    return {name: pa.array(values, type=pa.binary()) for name, values in columns.items()}


def reconstruct(network: Network, pixels, *, device) -> tuple:
    """Images as the model sees them, hidden patches gray, and as it fills them in: uint8 (n, 3, size, size) each."""
    import torch

    model = network.model.to(device).eval()
    views = as_seen(network, pixels.to(device))
    noise = torch.rand(len(views), patch_count(model), generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        found, patches = model(views, noise=noise), model.patchify(views)
    filled = found.logits
    if model.config.norm_pix_loss:  # the model was taught each patch's pattern alone: lend it brightness and contrast
        filled = filled * (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt() + patches.mean(dim=-1, keepdim=True)
    gray = model.patchify(as_seen(network, torch.full_like(pixels, 128).to(device)))
    pictures = (torch.where(found.mask[..., None].bool(), other, patches) for other in (gray, filled))
    return tuple(as_stored(network, model.unpatchify(picture)) for picture in pictures)


def show(predictions: pa.Table, recipe: dict, layout, split: str = "test") -> list:
    """Which classes the fine-tuned models take for which, over all seeds, and what the first seed's model fills in."""
    confusion = plotting.confusion_figure(
        predictions, sources.shown_names(layout), heading=plotting.title(recipe, " fine-tuned")
    )
    return [confusion, show_pictures(predictions, recipe, layout=layout, split=split)]


def show_pictures(predictions: pa.Table, recipe: dict, *, layout, split: str):
    from matplotlib import pyplot as plt

    first = plotting.first_seed(predictions)
    labels, rows = first["label"].to_numpy(), np.flatnonzero(first["masked"].is_valid().to_numpy())
    rows = rows[np.argsort(labels[rows])]
    test = image_tables.take(image_tables.read(layout.real(split)), rows)
    images = zip(test["image"].to_pylist(), test["id"].to_pylist(), strict=True)
    encoded = {"test image": [image_tables.data(*row) for row in images]}
    encoded |= {name: first[name].take(rows).to_pylist() for name in ("masked", "reconstructed")}
    size, ground = recipe["image_size"], image_tables.background(test)
    pixels = {name: np.stack([_as_array(image, size, ground) for image in row]) for name, row in encoded.items()}
    names = sources.shown_names(layout)
    figure, ax = plt.subplots(figsize=(8, 2.8))
    plotting.image_grid(ax, pixels, names=[names[label] for label in labels[rows]])
    ax.set_title(plotting.title(recipe, " pre-trained"))
    return figure


def _as_array(data: bytes, size: int, background: str) -> np.ndarray:
    return image_tables.decode(data, size, background=background).permute(1, 2, 0).numpy()


TRAINING = (train,)  # the code that 03_train shows: it builds the model and says what its loss is
