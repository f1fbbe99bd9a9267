"""Classifiers that never meet a mixture, and judge whether an image shows the class that it stands for.

The study's own learns the labels of the pool in 00_auxiliary; in its place a timm model of ImageNet's classes can be
named, where the study's classes are some of these.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field

from contamination import sources
from contamination.base import files, image_tables
from contamination.base.settings import Count, Share
from contamination.metrics.fidelity import class_fidelity
from contamination.networks import feature_extractors, timm_models
from contamination.training import reader
from contamination.training.settings import AffineAugmentation, CropAugmentation, Optimization


class Auxiliary(CropAugmentation, AffineAugmentation, Optimization):
    """The judge of class fidelity: a classifier that learns from the pool and never meets a mixture."""

    architecture: str = "resnet10t"
    """name of a timm model"""
    options: dict = Field(default_factory=lambda: {"channels": [16, 32, 48, 64], "stem_width": 8})
    """keyword arguments of timm's constructor"""
    steps: Count = 800
    label_smoothing: Share = 0.1
    """share of the target spread over all classes, 0 to 1"""


class Judge(NamedTuple):
    """name: as results.csv has it. classify: class numbers, int64 (n,), of the n images of a table."""

    name: str
    learned_from_pool: bool
    classify: Callable[[pa.Table], np.ndarray]


def check(name: str, auxiliary: Auxiliary | None) -> None:
    """Raise ValueError when there is no judge of this name; empty: the one that 00_auxiliary makes."""
    if name:
        feature_extractors.known_network("measure.judge", name.partition(".")[0])
    elif auxiliary is None:
        raise ValueError("measure.judge is empty: give a section auxiliary.classification, or name a timm model here")
    else:
        feature_extractors.known_network("auxiliary.classification.architecture", auxiliary.architecture)


def load(name: str, layout, device) -> Judge:
    """The study's own judge, or with a name a published timm model."""
    return _published(name, layout, device) if name else _own(layout, device)


def _own(layout, device) -> Judge:
    from safetensors.torch import load_file

    folder = files.require(layout.auxiliary("classification"), "00_auxiliary")
    settings = files.read_json(folder / files.RECORD)["settings"]
    classes = sources.class_names(layout)
    network = timm_models.build(settings["architecture"], settings["options"], classes=len(classes))
    network.load_state_dict(load_file(folder / "weights.safetensors"))

    def classify(images: pa.Table) -> np.ndarray:
        batches = reader.in_order(
            images, image_tables.stored_size(images), threads=settings["threads"], batch_size=timm_models.BATCH
        )
        return timm_models.predict(network, batches, device=device).argmax(dim=1).numpy()

    return Judge(f"auxiliary-{settings['architecture']}", True, classify)


def _published(name: str, layout, device) -> Judge:
    """A timm model, which chooses among the study's classes alone."""
    extractor = feature_extractors.load(name, layout, classes=True)
    outputs = outputs_of(sources.class_names(layout), _wordnet_ids(extractor.network))

    def classify(images: pa.Table) -> np.ndarray:
        return feature_extractors.outputs(extractor, images, device=device)[:, outputs].argmax(dim=1).numpy()

    return Judge(name, False, classify)


def _wordnet_ids(network) -> list[str]:
    """WordNet's id of each output of a timm model; empty where timm does not know them."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(network)
    return ImageNetInfo(subset).label_names() if subset else []


def outputs_of(classes: list[str], known: list[str]) -> list[int]:
    """The position of each class in `known`. Raises ValueError for a class that is not among them."""
    positions = {name: position for position, name in enumerate(known)}
    strange = [name for name in classes if name not in positions]
    if strange:
        raise ValueError(
            f"measure.judge: the model does not know class {strange[0]} (one of {len(strange)}); it knows classes by "
            "WordNet's ids, such as n01440764. Give a section auxiliary.classification and leave measure.judge empty"
        )
    return [positions[name] for name in classes]


def fidelity(
    judge: Judge, source: str, *, images: pa.Table, real: pa.Table, classes: list[str], confidence: float
) -> tuple[list[dict], list[dict]]:
    """Class fidelity of a set, and of the real images in whose slots it stands, which is the judge's own accuracy.

    Returns the scores, dicts (metric, value, n, low, high), and what is absent, dicts (metric, reason): a judge cannot
    be asked about the images that it has learned.
    """
    sets = {"class_fidelity": images, "class_fidelity_of_real": real}
    absent = []
    if source == "pool" and judge.learned_from_pool:
        del sets["class_fidelity"]
        absent.append({"metric": "class_fidelity", "reason": f"{judge.name} has learned from these images"})
    scores = []
    for metric, table in sets.items():
        scores += class_fidelity(
            judge.classify(table), table["label"].to_numpy(), classes=classes, confidence=confidence, metric=metric
        )
    return scores, absent
