"""Image classification with any timm model by name."""

import copy
import difflib
import importlib.util
import math
import re
from pathlib import Path

import numpy as np


def check(architecture: str) -> None:
    """Raise ValueError when timm has no model of this name.

    Reads timm's source instead of importing it: a wrong name should be told in milliseconds, not seconds.
    """
    models = Path(importlib.util.find_spec("timm").origin).parent / "models"
    known = {
        name
        for file in models.glob("*.py")
        for name in re.findall(r"^@register_model\ndef (\w+)", file.read_text(), re.M)
    }
    if architecture not in known:
        near = ", ".join(difflib.get_close_matches(architecture, known)) or "see timm.list_models()"
        raise ValueError(f"timm has no model {architecture!r}; close names: {near}")


def build(architecture: str, options: dict, classes: int):
    """A timm model from scratch. options: keyword arguments of the timm constructor, e.g. a smaller width."""
    import timm

    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return timm.create_model(architecture, num_classes=classes, **options)


def normalise(images):
    """uint8 (n, 3, size, size) to float in -1..1."""
    return images.float().div(127.5).sub(1)


def augment(images, shift: float, rotation: float, scale: float, flip: bool, generator):
    """A random affine map per image, all in one call; what lies outside repeats the border.

    images: float (n, 3, size, size). shift: greatest shift, share of the side. rotation: greatest angle, degrees.
    scale: greatest relative change of size. flip: mirror half of the images; wrong for digits and letters.
    """
    import torch
    import torch.nn.functional as functional

    count = len(images)
    uniform = torch.rand(5, count, generator=generator) * 2 - 1
    angle, zoom = uniform[0] * math.radians(rotation), 1 + uniform[1] * scale
    mirror = torch.where(uniform[4] < 0, -1.0, 1.0) if flip else torch.ones(count)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # affine_grid counts in halves of the side, hence the factor 2.
    rows = [cosine * mirror, -sine, uniform[2] * shift * 2, sine * mirror, cosine, uniform[3] * shift * 2]
    maps = torch.stack(rows, dim=1).view(count, 2, 3).to(images.device)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def batches(count: int, batch_size: int, steps: int, seed: int):
    """`steps` index batches of exactly `batch_size`, epoch after epoch in random order.

    A set of any size gives the same number of batches of the same size: every arm sees as many images.
    """
    rng = np.random.default_rng([seed, 4])
    queue = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(count)])
        batch, queue = queue[:batch_size], queue[batch_size:]
        yield batch


def train(recipe: dict, images, classes: list[str], seed: int, device) -> tuple[object, list[dict]]:
    """Train one model from scratch on an image table; return it with its history.

    Everything random (weights, batches, augmentation) follows from `seed`.
    """
    import torch

    from contamination import store

    torch.manual_seed(seed)
    model = build(recipe["architecture"], recipe["options"], len(classes))
    pixels = store.decode_all(images, recipe["image_size"])
    return fit(model, pixels, torch.tensor(images["label"].to_numpy()), recipe, seed, device)


def fit(model, pixels, labels, recipe: dict, seed: int, device) -> tuple[object, list[dict]]:
    """Fit a model and return it with its history: a line for every twentieth of the steps.

    pixels: uint8 (n, 3, size, size). labels: int64 (n,). recipe: the study's `train` section.
    Raises ValueError naming step and learning rate when the loss is no longer a number.
    """
    import torch
    import torch.nn.functional as functional

    generator = torch.Generator().manual_seed(seed)
    model = model.to(device, memory_format=torch.channels_last if device.type == "cuda" else torch.contiguous_format)
    average = copy.deepcopy(model).eval() if recipe["ema_decay"] else None
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"], fused=True
    )
    schedule = make_schedule(optimizer, recipe)
    inputs, targets = normalise(pixels).to(device), labels.to(device)
    model.train()
    history, losses = [], []
    every = max(1, recipe["steps"] // 20)
    for step, batch in enumerate(batches(len(pixels), recipe["batch_size"], recipe["steps"], seed), start=1):
        index = torch.from_numpy(batch).to(device)
        views = augment(inputs[index], recipe["shift"], recipe["rotation"], recipe["scale"], recipe["flip"], generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe["mixed_precision"] and device.type == "cuda"):
            loss = functional.cross_entropy(model(views), targets[index], label_smoothing=recipe["label_smoothing"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate = schedule.get_last_lr()[0]
        schedule.step()
        if average is not None:
            update_average(average, model, recipe["ema_decay"])
        losses.append(loss.detach())
        if step % every == 0 or step == recipe["steps"]:
            mean = torch.stack(losses).mean().item()
            if not math.isfinite(mean):
                raise ValueError(f"loss is {mean} at step {step}, learning rate {rate:.2g}: lower the learning rate")
            history.append({"step": step, "images_seen": step * recipe["batch_size"], "loss": mean, "rate": rate})
            losses.clear()
    return (average if average is not None else model).eval(), history


def make_schedule(optimizer, recipe: dict):
    """The learning rate over the steps: one-cycle (30 % rise, then cosine to zero) or cosine alone."""
    import torch

    steps = recipe["steps"]
    if recipe["schedule"] == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["learning_rate"], total_steps=steps + 1)
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def update_average(average, model, decay: float) -> None:
    """Move the exponential moving average of all weights and buffers one step towards the model."""
    import torch

    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)


def evaluate(recipe: dict, weights: Path, images, classes: list[str], device, bins: int) -> tuple[list[dict], object]:
    """Score one trained model on one test set.

    weights: a safetensors file of the model that `recipe` describes. images: image table of the test set.
    Returns the scores, one dict (metric, value, n) each, and the class probabilities, float32 (n, classes).
    """
    import torch
    from safetensors.torch import load_file

    from contamination import store

    model = build(recipe["architecture"], recipe["options"], len(classes))
    model.load_state_dict(load_file(weights))
    probabilities = predict(model, store.decode_all(images, recipe["image_size"]), device)
    return score(probabilities, torch.tensor(images["label"].to_numpy()), classes, bins), probabilities


def predict(model, pixels, device, batch_size: int = 500):
    """Class probabilities, float32 (n, classes), on the CPU. pixels: uint8 (n, 3, size, size)."""
    import torch

    model = model.to(device).eval()
    with torch.inference_mode():
        parts = [model(normalise(part.to(device))).float().softmax(dim=1).cpu() for part in pixels.split(batch_size)]
    return torch.cat(parts)


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
