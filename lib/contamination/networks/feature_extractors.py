"""Features of images: what a network that never meets a mixture sees in them, so that sets can be compared.

The network is the study's own, which 00_auxiliary has learn the words of the pool's captions, or a published one.
"""

from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import Field

from contamination.base import files, image_tables
from contamination.base.settings import Count
from contamination.networks import timm_models
from contamination.networks.caption_words import frequent_words, has_words, train_multilabel
from contamination.training.settings import AffineAugmentation, LoadingOptions, Optimization


class Auxiliary(LoadingOptions, AffineAugmentation, Optimization):
    """The feature extractor: a timm network that tells which words an image's caption has."""

    architecture: str = "resnet10t"
    """name of a timm model"""
    options: dict = Field(default_factory=lambda: {"channels": [16, 32, 48, 64], "stem_width": 8})
    """keyword arguments of timm's constructor"""
    steps: Count = 800


class Extractor(NamedTuple):
    """A network that gives features, and how it reads images: pixels per side, mean and std (0..1) by channel.

    study_size: pixels per side at which the study sees images. All pass through it first: else real photographs, read
    where they lie, would be sharper to the network than generated images that are stored at that size.
    """

    name: str
    network: Any
    study_size: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check(key: str, name: str, auxiliary: Auxiliary | None) -> None:
    """Raise ValueError when there is no such network. key: the parameter that `name` is of; empty: the study's own."""
    if name:
        known_network(key, name.partition(".")[0])
    elif auxiliary is None:
        raise ValueError(f"{key} is empty: give a section auxiliary.generation, or name a timm model here")
    else:
        known_network("auxiliary.generation.architecture", auxiliary.architecture)


def known_network(key: str, name: str) -> None:
    """Raise ValueError when timm has no network of this name. key: the parameter that names it."""
    try:
        timm_models.known_architecture(name)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def name_of(name: str, auxiliary: Auxiliary | None) -> str:
    """What results.csv calls the network; name: as for `load`."""
    if name:
        return name
    assert auxiliary, "a study that names no network has one of its own"
    return f"auxiliary-{auxiliary.architecture}"


def load(name: str, layout, classes: bool = False) -> Extractor:
    """The study's auxiliary network, or with a name a published timm model that reads images as it was taught to.

    classes: whether the published model keeps the layer that tells its classes, for `outputs`.
    """
    import timm
    from safetensors.torch import load_file

    pool = image_tables.read(layout.real("pool"))
    if name:
        network = timm.create_model(name, pretrained=True, **({} if classes else {"num_classes": 0}))
        config = timm.data.resolve_model_data_config(network)
        size = config["input_size"][-1]
        return Extractor(name, network, image_tables.stored_size(pool), size, config["mean"], config["std"])
    folder = files.require(layout.auxiliary("generation"), "00_auxiliary")
    settings = files.read_json(folder / files.RECORD)["settings"]
    words = frequent_words(pool["caption"].to_pylist())
    network = timm_models.build(settings["architecture"], settings["options"], classes=len(words))
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return _own(settings, network, image_tables.stored_size(pool))


def _own(settings: dict, network, size: int) -> Extractor:
    """A network that reads images as `normalize` gives them."""
    return Extractor(f"auxiliary-{settings['architecture']}", network, size, size, (0.5,) * 3, (0.5,) * 3)


def features(extractor: Extractor, images: pa.Table, *, device, batch_size: int = 100):
    """What the network's last layer reads: float32 (n, width), on the CPU."""
    return _applied(extractor, images, device, batch_size, pre_logits=True)


def outputs(extractor: Extractor, images: pa.Table, *, device, batch_size: int = 100):
    """What the network's last layer gives: float32 (n, outputs), on the CPU."""
    return _applied(extractor, images, device, batch_size, pre_logits=False)


def _applied(extractor: Extractor, images: pa.Table, device, batch_size: int, pre_logits: bool):
    import torch

    network = extractor.network.to(device).eval()
    mean, std = (torch.tensor(each, device=device).view(3, 1, 1) for each in extractor[-2:])
    parts = []
    with torch.inference_mode():
        for start in range(0, images.num_rows, batch_size):
            pixels = image_tables.decode_all(images.slice(start, batch_size), extractor.study_size).to(device)
            pixels = _resized(pixels, extractor.size)
            maps = network.forward_features((pixels / 255 - mean) / std)
            parts.append(network.forward_head(maps, pre_logits=pre_logits).float().cpu())
    return torch.cat(parts)


def _resized(pixels, size: int):
    """uint8 (n, 3, side, side) to (n, 3, size, size), by antialiased bicubic."""
    import torch.nn.functional as functional

    if pixels.shape[-1] == size:
        return pixels
    resized = functional.interpolate(pixels.float(), (size, size), mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255)


def prepare(settings: dict, layout, seed: int, device) -> tuple[Any, list[dict], list[dict]]:
    """Train the feature extractor to tell the words of each image's caption, so that it sees shape and color alike.

    Returns the network, its history and its score on the test set: how well it tells words.
    """
    import torch

    torch.manual_seed(seed)
    pool, test = image_tables.read(layout.real("pool")), image_tables.read(layout.real("test"))
    words = frequent_words(pool["caption"].to_pylist())
    network = timm_models.build(settings["architecture"], settings["options"], classes=len(words))
    network, history = train_multilabel(
        network,
        lambda network, views: network(views),
        pool=pool,
        words=words,
        settings=settings,
        seed=seed,
        device=device,
    )
    extractor = _own(settings, network, image_tables.stored_size(pool))
    score = word_precision(extractor, test, present=has_words(test["caption"].to_pylist(), words), device=device)
    return network, history, [{"split": "test"} | score]


def word_precision(extractor: Extractor, images: pa.Table, *, present, device) -> dict:
    """Mean average precision over the words that some images have and others lack.

    present: bool (n, words). 1 is a network that ranks, for every word, all images that have it before the others.
    """
    import torch
    from sklearn.metrics import average_precision_score

    with torch.inference_mode():
        pooled = features(extractor, images, device=device).to(device)
        odds = extractor.network.get_classifier()(pooled).cpu()
    telling = present.any(dim=0) & ~present.all(dim=0)
    value = average_precision_score(present[:, telling].numpy(), odds[:, telling].numpy())
    return {"metric": "word_precision", "value": float(value), "n": len(present)}
