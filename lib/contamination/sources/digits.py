"""Colored handwritten digits: 1,797 real images that ship with scikit-learn, given colors and captions.

The digits are the UCI "Optical Recognition of Handwritten Digits" test set (8x8, 13 writers). Each is enlarged and
drawn in a foreground color on a background color, both drawn by seed, so that one small source has labels, captions
and a diversity that can be seen to shrink. The splits are one random draw: the same writers are in all of them, so that
unseen real images are as near to the test set as the training images are.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from contamination.sources import places

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Bright digits on dark grounds, so that a stroke is always the brighter part: the easier thing to learn for a generator
# that has a minute to train.
FOREGROUNDS = {
    "white": (245, 245, 245),
    "yellow": (245, 230, 90),
    "orange": (245, 170, 80),
    "pink": (245, 160, 200),
    "cyan": (110, 225, 235),
    "lime": (170, 235, 100),
}
BACKGROUNDS = {
    "black": (15, 15, 20),
    "red": (95, 15, 20),
    "green": (10, 70, 30),
    "blue": (15, 25, 105),
    "purple": (70, 15, 90),
    "brown": (70, 45, 15),
}
COLOR_JITTER = 8  # standard deviation per channel, 0..255: no two reds are the same
OOD = "ood_digits"
FETCHED, FLAT_BACKGROUNDS = False, True
IMAGES = 1797  # that ship with scikit-learn
SPLIT_PER_CLASS = 60  # images of each class in the pool, and again in the training set; the rest is the test set


def paint(
    strokes: np.ndarray, size: int, rng: np.random.Generator, foregrounds: dict, backgrounds: dict
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Draw gray strokes in color.

    strokes: (n, 8, 8), 0 to 1. foregrounds, backgrounds: colors (red, green, blue) by name.
    Returns uint8 images (n, size, size, 3) and the (foreground, background) names.
    """
    from PIL import Image

    enlarged = np.stack(
        [
            np.asarray(Image.fromarray(stroke.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
            for stroke in strokes
        ]
    )
    opacity = np.clip(enlarged, 0, 1)[..., None]
    pairs = list(itertools.product(foregrounds, backgrounds))
    chosen = [pairs[i] for i in rng.integers(len(pairs), size=len(strokes))]
    colors = np.array([[foregrounds[front], backgrounds[back]] for front, back in chosen], dtype=np.float64)
    colors += rng.normal(0, COLOR_JITTER, colors.shape)
    front, back = colors[:, 0, None, None], colors[:, 1, None, None]
    return np.clip(np.rint(back + opacity * (front - back)), 0, 255).astype(np.uint8), chosen


def describe(name: str, foreground: str, background: str) -> str:
    """The caption of one image, e.g. `a red three on green background`."""
    article = "an" if foreground[0] in "aeiou" else "a"
    return f"{article} {foreground} {name} on {background} background"


def check(data: dict) -> None:
    """Raise ValueError for a section with a path, or a share of one, in it."""
    if any(data.get(key) for key in (*places.SPLITS, "ood", "names", "mapping", "per_class")):
        raise ValueError("source digits takes no paths and no share of them: its images ship with scikit-learn")
    places.refuse(data, "columns", instead="these are of source datasets")


def require_apart(data: dict) -> None:
    """Its splits are disjoint."""


def offers(data: dict) -> set[str]:
    return {"label", "caption"}


def files_named(data: dict) -> list[str]:
    """None: they ship with scikit-learn."""
    return []


def class_sizes(data: dict, place: str | None) -> list[int]:
    """Of the training set by class; of the test set in one number. place: "test", or anything else for train."""
    return [IMAGES - 20 * SPLIT_PER_CLASS] if place == "test" else [SPLIT_PER_CLASS] * 10


def class_folders(data: dict) -> list[str]:
    """None: folders do not name the classes."""
    return []


def class_count(data: dict) -> int:
    return len(CLASS_NAMES)


def sample(data: dict) -> Iterator:
    """No files."""
    return iter(())


def load(data: dict, work: dict, workers: int, seed: int) -> tuple[dict[str, tuple[dict, dict]], list[str]]:
    """For each split its columns and no facts, and the class names."""
    return {split: (columns, {}) for split, columns in splits(data["image_size"], seed).items()}, list(CLASS_NAMES)


def splits(size: int, seed: int) -> dict[str, dict]:
    """The three disjoint splits `pool`, `train`, `test`, with equal numbers per class in the first two.

    Each split is a dict of columns: pixels uint8 (n, size, size, 3), label, caption, foreground, background, id.
    `id` names the original scikit-learn image, so that an image can be followed through every table.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng([seed, 0])
    pixels, pairs = paint(digits.images / 16, size, rng, FOREGROUNDS, BACKGROUNDS)
    members: dict[str, list[int]] = {"pool": [], "train": [], "test": []}
    for label in range(10):
        order = rng.permutation(np.flatnonzero(digits.target == label))
        members["pool"] += list(order[:SPLIT_PER_CLASS])
        members["train"] += list(order[SPLIT_PER_CLASS : 2 * SPLIT_PER_CLASS])
        members["test"] += list(order[2 * SPLIT_PER_CLASS :])
    return {split: _columns(rng.permutation(rows), pixels, digits.target, pairs) for split, rows in members.items()}


def _columns(rows: np.ndarray, pixels: np.ndarray, labels: np.ndarray, pairs: list[tuple[str, str]]) -> dict:
    return {
        "id": [f"digit-{row:04d}" for row in rows],
        "pixels": pixels[rows],
        "label": labels[rows],
        "caption": [describe(CLASS_NAMES[labels[row]], *pairs[row]) for row in rows],
        "foreground": [pairs[row][0] for row in rows],
        "background": [pairs[row][1] for row in rows],
    }
