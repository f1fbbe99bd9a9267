"""The digits' OOD test sets: corruptions at three severities, and colors that no training image has."""

from pathlib import Path

import numpy as np

from contamination.sources import corruptions, digits

# Colors of no training image, for the OOD test sets.
NEW_FOREGROUNDS = {
    "silver": (190, 195, 205),
    "gold": (225, 185, 40),
    "salmon": (250, 150, 130),
    "lavender": (200, 175, 250),
    "mint": (150, 245, 190),
    "sky": (140, 195, 250),
}
NEW_BACKGROUNDS = {
    "slate": (60, 65, 75),
    "teal": (0, 75, 80),
    "olive": (70, 75, 10),
    "maroon": (90, 0, 50),
    "indigo": (45, 0, 110),
    "bronze": (100, 60, 25),
}
PALETTES = {
    "new-colors": (NEW_FOREGROUNDS, NEW_BACKGROUNDS),
    "dark-on-bright": (digits.BACKGROUNDS, digits.FOREGROUNDS),
}
CORRUPTED = 300  # test images that each corruption is applied to, at each severity
NAMES = (*corruptions.CORRUPTIONS, *PALETTES)


def names(data: dict) -> list[str]:
    return list(NAMES)


def check(data: dict) -> None:
    """They can always be made."""


def sizes(data: dict) -> list[int]:
    """Images of each set, over its severities."""
    (test,) = digits.class_sizes(data, "test")
    return [test if name in PALETTES else len(corruptions.SEVERITIES) * CORRUPTED for name in NAMES]


def load(name: str, data: dict, classes: list[str], work: Path, workers: int = 1, seed: int = 0) -> tuple[dict, dict]:
    """One OOD test set: columns pixels, label, id, severity (0 where a set has no severities); and no facts.

    The first test images (their order is random) corrupted; or all of them drawn again in colors that no training
    image has: new ones, or the old ones with dark digits on bright grounds.
    """
    import torch

    test = digits.splits(data["image_size"], seed)["test"]
    if name in PALETTES:
        return _columns(test, [_repaint(test, seed, *PALETTES[name])], (0,)), {}
    test = {column: values[:CORRUPTED] for column, values in test.items()}
    images = torch.from_numpy(test["pixels"]).permute(0, 3, 1, 2)
    parts = [corruptions.corrupt(images, name, severity=severity, seed=seed) for severity in corruptions.SEVERITIES]
    return _columns(test, [part.permute(0, 2, 3, 1).numpy() for part in parts], corruptions.SEVERITIES), {}


def _repaint(test: dict, seed: int, foregrounds: dict, backgrounds: dict) -> np.ndarray:
    from sklearn.datasets import load_digits

    rows = [int(name.removeprefix("digit-")) for name in test["id"]]
    strokes, rng = load_digits().images[rows] / 16, np.random.default_rng([seed, 5])
    return digits.paint(strokes, test["pixels"].shape[1], rng, foregrounds, backgrounds)[0]


def _columns(test: dict, pixels: list[np.ndarray], severities: tuple[int, ...]) -> dict:
    """The test images once per severity."""
    return {
        "id": [name for _ in severities for name in test["id"]],
        "pixels": np.concatenate(pixels),
        "label": np.tile(test["label"], len(severities)),
        "severity": np.repeat(severities, len(test["id"])),
    }
