"""Classifiers by their name in timm, and what they say of images."""

import difflib
import re
from collections.abc import Iterable

from contamination.base.files import package_folder
from contamination.training.loop import normalize

BATCH = 100  # images that are judged at a time


def known_architecture(name: str) -> None:
    """Raise ValueError when timm has no model of this name.

    Reads timm's source instead of importing it: a wrong name should be refused in milliseconds, not seconds.
    """
    models = package_folder("timm") / "models"
    known = {
        found
        for file in models.glob("*.py")
        for found in re.findall(r"^@register_model\ndef (\w+)", file.read_text(), re.M)
    }
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known)) or "see timm.list_models()"
        raise ValueError(f"timm has no model {name!r}; close names: {near}")


def build(architecture: str, options: dict, *, classes: int):
    """A timm model from scratch. options: keyword arguments of the timm constructor, e.g. a smaller width."""
    import timm

    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    return timm.create_model(architecture, num_classes=classes, **options)


def predict(model, batches: Iterable, *, device):
    """Class probabilities, float32 (n, classes), on the CPU. batches: of pixels, uint8 (n, 3, size, size)."""
    import torch

    model = model.to(device).eval()
    with torch.inference_mode():
        parts = [model(normalize(part.to(device))).float().softmax(dim=1).cpu() for part in batches]
    return torch.cat(parts)
