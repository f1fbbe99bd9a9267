"""Coloured handwritten digits: 1,797 real images that ship with scikit-learn, given colours and captions.

The digits are the UCI "Optical Recognition of Handwritten Digits" test set (8x8, 43 writers). Each is enlarged and
drawn in a foreground colour on a background colour, both drawn by seed, so that one small source has labels, captions
and a diversity that can be seen to shrink.
"""

import itertools

import numpy as np

CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

COLOURS = {
    "black": (20, 20, 25),
    "white": (240, 240, 240),
    "red": (210, 30, 40),
    "green": (30, 150, 60),
    "blue": (35, 60, 200),
    "yellow": (235, 210, 40),
    "purple": (130, 40, 150),
    "orange": (240, 130, 30),
}

MINIMUM_CONTRAST = 110  # Euclidean distance in RGB; below it a digit can hardly be read (orange on yellow)
COLOUR_JITTER = 14  # standard deviation per channel, 0..255: no two reds are the same
SPLIT_PER_CLASS = 60  # images of each class in the pool, and again in the training set; the rest is the test set


def colour_pairs() -> list[tuple[str, str]]:
    """All (foreground, background) names whose colours differ enough to be told apart."""
    return [
        (front, back)
        for front, back in itertools.permutations(COLOURS, 2)
        if np.linalg.norm(np.subtract(COLOURS[front], COLOURS[back])) >= MINIMUM_CONTRAST
    ]


def paint(strokes: np.ndarray, size: int, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Draw grey strokes in colour.

    strokes: (n, 8, 8), 0 to 1. Returns uint8 images (n, size, size, 3) and the (foreground, background) names.
    """
    from PIL import Image

    enlarged = np.stack(
        [np.asarray(Image.fromarray(stroke.astype(np.float32)).resize((size, size), Image.BICUBIC)) for stroke in strokes]
    )
    opacity = np.clip(enlarged, 0, 1)[..., None]
    pairs = colour_pairs()
    chosen = [pairs[i] for i in rng.integers(len(pairs), size=len(strokes))]
    colours = np.array([[COLOURS[front], COLOURS[back]] for front, back in chosen], dtype=np.float64)
    colours += rng.normal(0, COLOUR_JITTER, colours.shape)
    front, back = colours[:, 0, None, None], colours[:, 1, None, None]
    return np.clip(np.rint(back + opacity * (front - back)), 0, 255).astype(np.uint8), chosen


def describe(name: str, foreground: str, background: str) -> str:
    """The caption of one image, e.g. `a red three on green background`."""
    article = "an" if foreground[0] in "aeiou" else "a"
    return f"{article} {foreground} {name} on {background} background"


def load(size: int, seed: int) -> dict[str, dict]:
    """The three disjoint splits `pool`, `train`, `test`, with equal numbers per class in the first two.

    Each split is a dict of columns: pixels uint8 (n, size, size, 3), label, caption, foreground, background, id.
    `id` names the original scikit-learn image, so that an image can be followed through every table.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng([seed, 0])
    pixels, pairs = paint(digits.images / 16, size, rng)
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
