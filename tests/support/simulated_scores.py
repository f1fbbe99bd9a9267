"""Made-up predictions of two arms whose true accuracies are known: crossed replicates and images, as in a real study.

An image has a difficulty that both arms nearly share, a replicate a quality that they share in part, and whether an
image is classified correctly follows from both by a probit model. The sizes are those of the digits: on 597 of them
replicates of the ResNet at 97 % differ by 0.5 points beyond what images explain, and answers to one image correlate by
0.3 to 0.6.
"""

import math

import numpy as np
from scipy import special

DIFFICULTY = 1.7  # standard deviation over images; that of a single answer is 1
SHARED_DIFFICULTY, SHARED_QUALITY = 0.95, 0.4  # correlations between arms
QUALITY = (0.15, 0.3)  # standard deviation over replicates: the second arm varies twice as much


def two_arms(
    rng: np.random.Generator, accuracies: tuple[float, float], *, replicates: int, images: int, quality=QUALITY
) -> tuple[np.ndarray, np.ndarray]:
    """Which images are classified correctly by each arm, float (replicates, images) of 0 and 1 each.

    accuracies: the true ones, over all replicates and all images.
    """
    difficulty = correlated(rng, SHARED_DIFFICULTY, size=(1, images))
    quality_of = correlated(rng, SHARED_QUALITY, size=(replicates, 1))
    arms = []
    for accuracy, hard, good, spread in zip(accuracies, difficulty, quality_of, quality, strict=True):
        mean = special.ndtri(accuracy) * math.sqrt(1 + DIFFICULTY**2 + spread**2)
        latent = mean + DIFFICULTY * hard + spread * good + rng.standard_normal((replicates, images))
        arms.append((latent > 0).astype(float))
    return arms[0], arms[1]


def correlated(rng: np.random.Generator, correlation: float, *, size: tuple) -> tuple[np.ndarray, np.ndarray]:
    first = rng.standard_normal(size)
    return first, correlation * first + math.sqrt(1 - correlation**2) * rng.standard_normal(size)


def losing(rng: np.random.Generator, right: np.ndarray, losses: np.ndarray, *, accuracy: float) -> np.ndarray:
    """The same where each replicate loses some accuracy, on images by chance. losses: float (replicates,)."""
    return right * (rng.random(right.shape) > losses[:, None] / accuracy)
