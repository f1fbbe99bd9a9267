"""Scores by replicate, and by test image where these are known: the arithmetic behind every change that is reported."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from contamination.metrics import two_way
from contamination.metrics.intervals import Interval
from contamination.metrics.two_way import Estimate
from contamination.study.study import Run

PER_IMAGE = "per_image"  # a column that results.csv lacks: the values of a score of each test image, see `outcomes`
UNBOUNDED, SHARE = (-math.inf, math.inf), (0.0, 1.0)  # of a metric; of a share of 1
POINT = ("task", "model", "arm", "source", "ratio")


class Scores(NamedTuple):
    """One metric at one point of the grid, or a difference between points.

    values: by training seed. images: by training seed, the values of the single test images, float or bool (images,),
    whose mean the value is; empty for a metric that is none of single images, such as a Fréchet distance.
    """

    values: dict[int, float]
    images: dict[int, np.ndarray]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values())))

    def estimate(self) -> Estimate:
        """The mean with its standard error: over replicates and test images, or over replicates alone."""
        if self.images:
            return two_way.estimate(np.stack(list(self.images.values())).astype(np.float64))
        return two_way.estimate_over(np.array(list(self.values.values())))

    def interval(self, confidence: float, *, bounds: tuple[float, float] = UNBOUNDED) -> Interval:
        """bounds: what the metric cannot leave, and so what the ends are cut off at."""
        floor, ceiling = bounds
        return self.estimate().interval(confidence, floor=floor, ceiling=ceiling)

    def minus(self, other: "Scores") -> "Scores":
        """Paired by seed and test image, which cancels what a seed, or an image, does to both."""
        return combine([(1, self), (-1, other)])


def of_run(rows: pd.DataFrame, run: Run) -> Scores:
    """The scores of one point of the grid. rows: of one metric on one split."""
    for column in POINT:
        rows = rows[rows[column] == getattr(run, column)]
    return of_rows(rows)


def of_rows(rows: pd.DataFrame) -> Scores:
    """The scores of rows that are alike but for their seeds."""
    images = rows[PER_IMAGE] if PER_IMAGE in rows else [None] * len(rows)
    known = {seed: each for seed, each in zip(rows["seed"], images, strict=True) if each is not None}
    return Scores(dict(zip(rows["seed"], rows["value"], strict=True)), known if len(known) == len(rows) else {})


def combine(parts: Sequence[tuple[float, Scores]]) -> Scores:
    """The weighted sum of scores over the seeds that all of them have; by image, where all of them are so."""
    seeds = sorted(set.intersection(*(set(scores.values) for _, scores in parts)))
    values = {seed: float(sum(weight * scores.values[seed] for weight, scores in parts)) for seed in seeds}
    if not all(scores.images for _, scores in parts) or len({_images(scores) for _, scores in parts}) > 1:
        return Scores(values, {})
    weights = np.array([weight for weight, _ in parts])
    images = {seed: weights @ np.stack([scores.images[seed] for _, scores in parts]) for seed in seeds}
    return Scores(values, images)


def mean(parts: Sequence[Scores]) -> Scores:
    """The mean of scores, seed by seed."""
    return combine([(1 / len(parts), scores) for scores in parts])


def _images(scores: Scores) -> int:
    return len(next(iter(scores.images.values())))
