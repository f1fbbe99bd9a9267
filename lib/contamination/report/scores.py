"""Scores by replicate, and by test image where these are known: the arithmetic behind every change that is reported."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from contamination.metrics import two_way
from contamination.metrics.intervals import Interval
from contamination.metrics.two_way import Estimate
from contamination.mixtures import arms
from contamination.mixtures.replicates import Replicate
from contamination.study.study import Run

PER_IMAGE = "per_image"  # a column that results.csv lacks: the values of a score of each test image, see `outcomes`
UNBOUNDED, SHARE = (-math.inf, math.inf), (0.0, 1.0)  # of a metric; of a share of 1
POINT = ("task", "model", "arm", "source", "ratio")


class Scores(NamedTuple):
    """One metric at one point of the grid, or a difference between points.

    values: by replicate. images: by replicate, the values of the single test images, float or bool (images,), whose
    mean the value is; empty for a metric that is none of single images, such as a Fréchet distance.
    """

    values: dict[Replicate, float]
    images: dict[Replicate, np.ndarray]

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
        """Paired by replicate and test image, which cancels what either does to both."""
        return combine([(1, self), (-1, other)])


def rows_of(rows: pd.DataFrame, run: Run) -> pd.DataFrame:
    """The rows of one point of the grid."""
    for column in POINT:
        rows = rows[rows[column] == getattr(run, column)]
    return rows


def of_run(rows: pd.DataFrame, run: Run) -> Scores:
    """The scores of one point of the grid, by replicate. rows: of one metric on one split.

    Where the study crosses draws or slots with its seeds, a run on which they have no influence counts for each.
    """
    found = of_rows(rows_of(rows, run))
    draws = {each.draw for each in found.values}
    of_replicate = {}
    for each in run.replicates:
        draw = each.draw if len(draws) > 1 else min(draws, default=0)
        of_replicate[each] = Replicate(each.seed, draw, each.seed if run.arm == arms.CLEAN.name else each.slots)
    chosen = {each: trained for each, trained in of_replicate.items() if trained in found.values}
    values = {each: found.values[trained] for each, trained in chosen.items()}
    return Scores(values, {each: found.images[trained] for each, trained in chosen.items()} if found.images else {})


def of_rows(rows: pd.DataFrame) -> Scores:
    """The scores of rows that are alike but for what varies from one training to the next."""
    keys = [Replicate(*each) for each in rows[list(Replicate._fields)].itertuples(index=False)]
    images = rows[PER_IMAGE] if PER_IMAGE in rows else [None] * len(rows)
    known = {key: each for key, each in zip(keys, images, strict=True) if each is not None}
    return Scores(dict(zip(keys, rows["value"], strict=True)), known if len(known) == len(rows) else {})


def combine(parts: Sequence[tuple[float, Scores]]) -> Scores:
    """The weighted sum of scores over the replicates that all have; by image, where all of them are so."""
    replicates = sorted(set.intersection(*(set(scores.values) for _, scores in parts)))
    values = {each: float(sum(weight * scores.values[each] for weight, scores in parts)) for each in replicates}
    if not all(scores.images for _, scores in parts) or len({_images(scores) for _, scores in parts}) > 1:
        return Scores(values, {})
    weights = np.array([weight for weight, _ in parts])
    images = {each: weights @ np.stack([scores.images[each] for _, scores in parts]) for each in replicates}
    return Scores(values, images)


def mean(parts: Sequence[Scores]) -> Scores:
    """The mean of scores, replicate by replicate."""
    return combine([(1 / len(parts), scores) for scores in parts])


def _images(scores: Scores) -> int:
    return len(next(iter(scores.images.values())))
