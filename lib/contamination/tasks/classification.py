"""Image classification with any timm model by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from contamination import sources
from contamination.base import image_tables, plotting
from contamination.base.settings import Count, Section, Share
from contamination.metrics.nearest import small_pixels
from contamination.mixtures import arms, mixing
from contamination.networks import timm_models
from contamination.networks.judges import Auxiliary  # noqa: F401, of the task
from contamination.training import augmentation, mixup, reader
from contamination.training.loop import augment, fit, normalize
from contamination.training.settings import AffineAugmentation, CropAugmentation, Optimization, Runtime

NEEDS = ("label",)
USES_OOD_SETS = True
AUXILIARY_STAGE = "measure"
BASELINE = 5000  # training images up to which the baseline without a network is computed


class Train(CropAugmentation, AffineAugmentation, Runtime, Optimization):
    randaugment: float = Field(0.0, ge=0, le=augmentation.MOST)
    """RandAugment (Cubuk et al., 2020) at every visit, after cropping: mean magnitude, 0 to 10, with timm's fifteen
    operations of increasing severity, each taken with probability 1/2; 9 with the two defaults below is timm's
    `rand-m9-mstd0.5-inc1`; images are then read anew at every visit; 0: none"""
    randaugment_operations: Count = 2
    """operations that are drawn for an image"""
    randaugment_std: float = Field(0.5, ge=0)
    """standard deviation of the magnitude"""
    label_smoothing: Share = 0.1
    """share of the target spread over all classes, 0 to 1"""
    mixup: float = Field(0.0, ge=0)
    """alpha of mixup: two images and their targets are mixed in a share from Beta(alpha, alpha), the same for all pairs
    of a batch, or of a part of it (`accumulation`); 0: none"""
    cutmix: float = Field(0.0, ge=0)
    """alpha of CutMix: a box of another image, whose share is from Beta(alpha, alpha); 0: none; where mixup is given,
    too, each is as likely"""
    erasing: Share = 0.0
    """share of images of which a rectangle, 2 to 33 % of the area, becomes noise"""

    @model_validator(mode="after")
    def _batches_fit(self):
        if self.mixup or self.cutmix:
            mixup.require_pairs(self.batch_size, self.processes, accumulation=self.accumulation)
        return self


class Evaluate(Section):
    calibration_bins: Count = 15
    """bins of equal width of the expected calibration error"""
    threads: Count = 1
    """CPU threads of one job"""


def check(study) -> None:
    """Raise ValueError when timm has no model of a name that the study gives."""
    for model in study.models_of("classification").values():
        timm_models.known_architecture(model.architecture)


def train(recipe: dict, images, layout, seed: int, device, checkpoint=None) -> tuple[Any, list[dict]]:
    """Train one model from scratch: cross-entropy with label smoothing, on images cropped, moved, erased and mixed.

    Returns the model and its history. Everything random (weights, batches, augmentation) follows from `seed`.
    """
    import torch

    torch.manual_seed(seed)
    model = timm_models.build(recipe["architecture"], recipe["options"], classes=len(sources.class_names(layout)))
    labels = torch.tensor(images["label"].to_numpy())
    pictures = reader.load(images, recipe["image_size"], recipe, device, seed)
    return fit_labels(model, pictures, labels, recipe, seed, device, checkpoint)


def fit_labels(model, images, labels, recipe: dict, seed: int, device, checkpoint=None) -> tuple[Any, list[dict]]:
    """Fit a classifier and return it with its history.

    images: as `reader.load` gives them. labels: int64 (n,). recipe: the fields of `Train`.
    """
    known = labels.to(device)

    def loss(model, pixels, index, draws):
        views = mixup.erase(augment(normalize(pixels), recipe, draws), recipe["erasing"], draws=draws)
        views, targets = mixup.mix(views, known[index], recipe=recipe, draws=draws)
        return mixup.cross_entropy(model(views), targets, smoothing=recipe["label_smoothing"])

    return fit(model, loss, images=images, recipe=recipe, seed=seed, device=device, checkpoint=checkpoint)


def prepare(settings: dict, layout, seed: int, device) -> tuple[Any, list[dict], list[dict]]:
    """Train the judge of class fidelity on the pool.

    Returns the network, its history and its accuracy on the real training images, which it has not seen: the test split
    is for the evaluated models alone.
    """
    import torch

    pool, train_split = image_tables.read(layout.real("pool")), image_tables.read(layout.real("train"))
    size = image_tables.stored_size(pool)
    recipe = Train().model_dump() | settings | {"image_size": size}
    network, history = train(recipe, pool, layout, seed, device)
    probabilities = timm_models.predict(
        network,
        reader.in_order(train_split, size, threads=settings["threads"], batch_size=timm_models.BATCH),
        device=device,
    )
    right = probabilities.argmax(dim=1) == torch.tensor(train_split["label"].to_numpy())
    score = {"split": "train", "metric": "accuracy", "value": right.float().mean().item(), "n": len(right)}
    return network, history, [score]


def evaluate(
    settings: dict, recipe: dict, weights: Path, layout, seed: int, device, checkpoint=None, *, split: str = "test"
) -> tuple[list[dict], pa.Table]:
    """Score one trained model on a real split, and with the test set on every ood one.

    weights: a safetensors file of the model that `recipe` describes. Returns the scores, one dict (split, metric,
    value, n) each, and the predictions: columns id, label, probabilities (classes,).
    """
    import torch
    from safetensors.torch import load_file

    class_names = sources.class_names(layout)
    model = timm_models.build(recipe["architecture"], recipe["options"], classes=len(class_names))
    model.load_state_dict(load_file(weights))
    test = image_tables.read(layout.real(split))
    size, threads = recipe["image_size"], settings["threads"]
    probabilities = timm_models.predict(
        model, reader.in_order(test, size, threads=threads, batch_size=timm_models.BATCH), device=device
    )
    scores = score(probabilities, torch.tensor(test["label"].to_numpy()), class_names, settings["calibration_bins"])
    ood = score_ood(model, size, layout=layout, threads=threads, device=device) if split == "test" else []
    scores += baseline(recipe, layout, seed=seed, test=test)
    return [{"split": split} | each for each in scores] + ood, predictions_table(test, probabilities)


def baseline(recipe: dict, layout, *, seed: int, test: pa.Table) -> list[dict]:
    """What no network could do worse than: `svm_accuracy`, of a support vector machine on gray pixels.

    It learns from the real images that a run of arm `clean` or `dropped` has, so that it shows whether few images are
    too few for the recipe, or for anybody. Nothing for other arms, more images than `BASELINE`, and a single class.
    """
    from sklearn.svm import SVC

    if not arms.of(recipe.get("arm", arms.GENERATED.name)).only_own_images:
        return []
    mixture = layout.mixture(*(recipe[key] for key in ("arm", "source", "ratio", "seeds", "draws", "slots")))
    images = mixing.gather(layout, mixing.read_manifest(mixture / f"seed-{seed}.parquet"))
    labels = images["label"].to_numpy()
    if images.num_rows > BASELINE or len(np.unique(labels)) < 2:
        return []
    learned, judged = (_grey_pixels(table, recipe["image_size"]) for table in (images, test))
    machine = SVC(C=10).fit(learned, labels)
    right = machine.predict(judged) == test["label"].to_numpy()
    return [{"metric": "svm_accuracy", "value": float(right.mean()), "n": len(right)}]


def _grey_pixels(images, size: int) -> np.ndarray:
    """Means of the channels of the reduced images, each stretched from 0 to 1: float32 (n, pixels)."""
    parts = [
        small_pixels(part).unflatten(1, (3, -1)).mean(dim=1)
        for part in reader.in_order(images, size, threads=1, batch_size=timm_models.BATCH)
    ]
    gray = np.concatenate([part.numpy() for part in parts])
    gray -= gray.min(axis=1, keepdims=True)
    return gray / np.maximum(gray.max(axis=1, keepdims=True), 1 / 255)


def predictions_table(test: pa.Table, probabilities) -> pa.Table:
    """Columns id, label, probabilities (classes,), one row per test image."""
    return test.select(["id", "label"]).append_column("probabilities", pa.array(list(probabilities.numpy())))


def per_image(predictions: pa.Table, layout, *, split: str = "test") -> dict[str, np.ndarray]:
    """Of the predictions of one seed, whether each image is classified correctly: bool, over all and by class."""
    labels = predictions["label"].to_numpy()
    right = np.stack(predictions["probabilities"].to_numpy()).argmax(axis=1) == labels
    of_classes = {f"accuracy of {name}": right[labels == i] for i, name in enumerate(sources.class_names(layout))}
    return {"accuracy": right} | {name: values for name, values in of_classes.items() if len(values)}


def score(probabilities, labels, classes: list[str], bins: int) -> list[dict]:
    """Accuracy, over all and per class, negative log-likelihood and calibration error.

    probabilities: float (n, classes). labels: int64 (n,). The negative log-likelihood is in nats per image, the
    calibration error the expected one (l1, `bins` bins of equal width; Guo et al., ICML 2017).
    """
    import torch
    from torchmetrics.functional import classification as metrics

    count, total = len(classes), len(labels)
    per_class = metrics.multiclass_accuracy(probabilities, labels, count, average="none").tolist()
    sizes = torch.bincount(labels, minlength=count).tolist()
    likelihood = probabilities.gather(1, labels[:, None]).clamp_min(1e-12).log().mean()
    calibration = metrics.multiclass_calibration_error(probabilities, labels, count, n_bins=bins)
    whole = {
        "accuracy": metrics.multiclass_accuracy(probabilities, labels, count, average="micro"),
        "negative_log_likelihood": -likelihood,
        "calibration_error": calibration,
    }
    scores = [{"metric": name, "value": value.item(), "n": total} for name, value in whole.items()]
    return scores + [
        {"metric": f"accuracy of {name}", "value": value, "n": size}
        for name, value, size in zip(classes, per_class, sizes, strict=True)
        if size  # a class that the test set lacks has no accuracy, not an accuracy of zero
    ]


def score_ood(model, image_size: int, *, layout, threads: int, device) -> list[dict]:
    """The accuracy on every OOD test set, and at every severity where it has some: split `noise` or `noise/2`.

    A set that has only some of the classes is judged among those alone, as ImageNet-A and ImageNet-R are.
    """
    scores = []
    for name in sources.ood_sets(layout):
        table = image_tables.read(layout.ood(name))
        labels, severities = table["label"].to_numpy(), table["severity"].to_numpy()
        probabilities = timm_models.predict(
            model, reader.in_order(table, image_size, threads=threads, batch_size=timm_models.BATCH), device=device
        ).numpy()
        present = np.unique(labels)
        right = present[probabilities[:, present].argmax(axis=1)] == labels
        for severity in np.unique(severities):
            chosen = right[severities == severity]
            split = f"{name}/{severity}" if severity else name
            scores.append({"split": split, "metric": "accuracy", "value": float(chosen.mean()), "n": len(chosen)})
    return scores


def show(predictions: pa.Table, recipe: dict, layout, split: str = "test") -> list:
    """Which classes are taken for which, over all seeds, and the ten most confident mistakes of the first."""
    from matplotlib import pyplot as plt

    names, test = sources.shown_names(layout), image_tables.read(layout.real(split))
    confusion = plotting.confusion_figure(predictions, names, heading=plotting.title(recipe))

    first = plotting.first_seed(predictions)
    labels, probabilities = first["label"].to_numpy(), np.stack(first["probabilities"].to_numpy())
    worst = probabilities[np.arange(len(labels)), labels].argsort()[:10]
    pixels = image_tables.decode_all(image_tables.take(test, worst), recipe["image_size"]).permute(0, 2, 3, 1).numpy()
    taken = [f"{names[labels[i]]}\nas {names[probabilities[i].argmax()]}" for i in worst]
    mistakes, ax = plt.subplots(figsize=(8, 1.6))
    plotting.image_grid(ax, {"test image": pixels}, names=taken)
    return [confusion, mistakes]


TRAINING = (train, fit_labels)  # the code that 03_train shows: it builds the model and says what its loss is
