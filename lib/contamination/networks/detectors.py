"""Can generated images be detected? Detectors that are fitted to some slots and judged on others.

`spectrum` is a logistic regression on each image's power over spatial frequency (in the spirit of Durall et al., CVPR
2020, and Frank et al., ICML 2020); `network` is a small convolutional network on the pixels; `watermark` learns nothing
and looks for the one that was embedded at generation. A slot has a real and a generated image; all images of one slot,
whichever set they are of, serve the same purpose: fitting, choosing the threshold, or judging. So a detector meets no
slot twice, also where it judges a set that it was not fitted to.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.base.settings import Count, Rate
from contamination.generators import watermarks
from contamination.metrics.intervals import Interval, bootstrap_interval, difference, resampling, share_interval
from contamination.metrics.spectra import detector_features
from contamination.mixtures import mixing, slot_subsets
from contamination.networks import timm_models
from contamination.training.loop import fit, normalize
from contamination.training.reader import InMemoryImages
from contamination.training.settings import Optimization

POOL = "pool"  # the source that has real images in the place of generated ones


class Detect(Optimization):
    """The settings of 02_detect; those of the training are the network's."""

    detectors: list[Literal["spectrum", "network", "watermark"]] = Field(["spectrum", "network"], min_length=1)
    """which detectors: `spectrum` (logistic regression on the power spectrum), `network` (a timm model on the pixels),
    `watermark` (looks for `generate.watermark`, and finds it in unmarked images by chance less than once in 1,000)"""
    architecture: str = "resnet10t"
    """the network: name of any timm model"""
    options: dict = Field(default_factory=lambda: {"channels": [16, 32, 48, 64], "stem_width": 8})
    """keyword arguments of timm's constructor"""
    steps: Count = 300
    """optimizer steps of the network"""
    learning_rate: Rate = 0.02
    replicates: int = Field(1000, ge=20)
    """bootstrap samples behind each interval"""
    images: Count = 50_000
    """with more slots than this, as many are looked at, drawn at random; the pool needs some tens of images at least"""


class Examples(NamedTuple):
    """Real and generated images. Each field has one entry per image.

    pixels: uint8 tensor (n, 3, side, side). generated: bool. slot: int64. part: "fit", "calibrate" or "test".
    """

    pixels: Any
    generated: np.ndarray
    slot: np.ndarray
    part: np.ndarray

    def of(self, part: str) -> "Examples":
        """The examples of one part. Raises ValueError when it lacks real or generated images."""
        chosen = np.flatnonzero(self.part == part)
        count = int(self.generated[chosen].sum())
        if count in (0, len(chosen)):
            raise ValueError(
                f"part {part} has {count} generated and {len(chosen) - count} real images: both are needed, "
                "give more slots"
            )
        return Examples(*(column[chosen] for column in self))


class Detector(NamedTuple):
    """evidence: called with pixels, uint8 (n, 3, side, side), gives float64 (n,); the higher, the likelier generated.

    An image whose evidence is above the threshold is called generated. unit: what the evidence is, in words.
    history: the network's, as of `loop.fit`.
    """

    evidence: Callable
    unit: str
    threshold: float
    history: list[dict]


def another_draw(source: str) -> str:
    """What another draw of a set is called, where the detector of that set is tested on it."""
    return f"{source}, another draw"


def examples(layout: Layout, source: str, *, most: int, seed: int) -> Examples:
    """The real images of `train` beside the generated set made for their slots, all at the stored size of `train`.

    The source `pool` is the check that nothing is found where nothing is: all its images are real, and half of them, at
    random, stand for generated ones; each is a slot of its own. most: with more slots, as many are taken at random.
    Raises ValueError when the set is not made for the slots of `train`, one image each.
    """
    import torch

    if source == POOL:
        return _real_against_real(image_tables.read(layout.real(POOL)), most, seed)
    real, made = image_tables.read(layout.real(mixing.REAL)), mixing.in_slots(layout, source, seed=seed)
    taken, size = slot_subsets.chosen(real.num_rows, most, seed=seed), image_tables.stored_size(real)
    pixels = torch.cat([image_tables.decode_all(image_tables.take(table, taken), size) for table in (real, made)])
    return Examples(
        pixels, np.repeat([False, True], len(taken)), np.tile(taken, 2), slot_subsets.parts(np.tile(taken, 2), seed)
    )


def _real_against_real(pool, most: int, seed: int) -> Examples:
    taken = slot_subsets.chosen(pool.num_rows, most, seed=seed)
    part = slot_subsets.parts(taken, seed)
    # Every second image stands for a generated one, in random order within part and class: so in no part is a class,
    # with all that goes with it, commoner among the one kind than among the other.
    labels = pool["label"].to_numpy()[taken]
    order = np.lexsort([np.random.default_rng([seed, 8]).random(len(taken)), labels, part])
    generated = np.zeros(len(taken), dtype=bool)
    generated[order[::2]] = True
    return Examples(
        image_tables.decode_all(image_tables.take(pool, taken), image_tables.stored_size(pool)), generated, taken, part
    )


def fit_detector(name: str, given: Examples, *, settings: dict, seed: int, device, watermark: str = "") -> Detector:
    """Fit a detector to the part "fit" and take its threshold from the part "calibrate".

    name: one of `Detect.detectors`. settings: the fields of `Detect`. All that is random follows from `seed`.
    watermark: the text that the detector of this name looks for; it fits nothing, and its threshold is stated.
    Raises ValueError when one of the two parts lacks real or generated images, or there is no text to look for.
    """
    if name == "watermark":
        if not watermark:
            raise ValueError("detector watermark: give the text to look for, as generate.watermark of a set has it")
        evidence = functools.partial(watermarks.agreement, text=watermark)
        return Detector(evidence, "share of the watermark's bits", watermarks.threshold(), [])
    known, held_out = given.of("fit"), given.of("calibrate")
    if name == "spectrum":
        log_odds, history = _fit_spectrum(known), list[dict]()
    else:
        log_odds, history = _fit_network(known, settings, seed, device)
    threshold = best_threshold(log_odds(held_out.pixels), held_out.generated)
    return Detector(log_odds, "log-odds of being generated", threshold, history)


def _fit_spectrum(known: Examples) -> Callable:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(detector_features(known.pixels), known.generated)
    return lambda pixels: model.decision_function(detector_features(pixels))


def _fit_network(known: Examples, settings: dict, seed: int, device) -> tuple[Callable, list[dict]]:
    """On the pixels as they are: a turned or resized image would lose the very traces that are looked for."""
    import torch
    import torch.nn.functional as functional

    torch.manual_seed(seed)
    model = timm_models.build(settings["architecture"], settings["options"], classes=1)
    targets = torch.tensor(known.generated, dtype=torch.float32, device=device)

    def loss(model, pixels, index, draws):
        return functional.binary_cross_entropy_with_logits(model(normalize(pixels))[:, 0], targets[index])

    model, history = fit(
        model, loss, images=InMemoryImages(known.pixels.to(device)), recipe=settings, seed=seed, device=device
    )
    return lambda pixels: _network_log_odds(model, pixels, device), history


def _network_log_odds(model, pixels, device, batch_size: int = 100) -> np.ndarray:
    import torch

    with torch.inference_mode():
        batches = [model(normalize(batch.to(device)))[:, 0].cpu().double() for batch in pixels.split(batch_size)]
    return torch.cat(batches).numpy()


def best_threshold(scores: np.ndarray, generated: np.ndarray) -> float:
    """The threshold of the highest balanced accuracy: midway between two scores; of several as good the middle one.

    scores: float (n,). generated: bool (n,), with both kinds. Where all scores are equal it is that score.
    """
    _require_finite(scores)
    steps = np.unique(scores)
    between = (steps[1:] + steps[:-1]) / 2 if len(steps) > 1 else steps
    missed, spared = (np.searchsorted(np.sort(scores[kind]), between) / kind.sum() for kind in (generated, ~generated))
    gain = spared - missed
    best = np.flatnonzero(np.isclose(gain, gain.max()))
    return float(between[best[len(best) // 2]])


def score(
    scores: np.ndarray,
    generated: np.ndarray,
    slots: np.ndarray,
    threshold: float,
    replicates: int,
    seed: int,
    confidence: float = 0.95,
) -> list[dict]:
    """How well scores tell generated images from real ones: dicts (metric, value, n, low, high).

    average_precision: over all thresholds, both kinds weighing the same. By chance it is a half and a little more:
    0.509 among 300 images. Its interval is a bootstrap over slots, `replicates` times, so both images of a slot are
    drawn together; near 1 it is too narrow.
    true_positive_rate: share of the generated images above the threshold. false_positive_rate: share of the real ones.
    accuracy: balanced, the mean of the true-positive and the true-negative rate. Its interval follows from those
    of the two rates, which hold near 1, where a bootstrap covers half of what it says.
    scores: float (n,). generated: bool (n,). slots: int64 (n,).
    """
    _require_finite(scores)
    hits = _share(scores[generated] > threshold, confidence)
    false_positives = _share(scores[~generated] > threshold, confidence)
    gain = difference(false_positives, hits)
    mean, low, high = ((1 + value) / 2 for value in gain[:3])
    accuracy = Interval(mean, low, high, len(scores))
    found = {
        "average_precision": _average_precision(scores, generated, slots, replicates, seed, confidence),
        "accuracy": accuracy,
        "true_positive_rate": hits,
        "false_positive_rate": false_positives,
    }
    return [each.score(name) for name, each in found.items()]


def _share(above: np.ndarray, confidence: float) -> Interval:
    return share_interval(int(above.sum()), len(above), confidence=confidence)


def _average_precision(scores, generated, slots, replicates: int, seed: int, confidence: float) -> Interval:
    distinct, position = np.unique(slots, return_inverse=True)
    weights = resampling(len(distinct), replicates, seed=[seed, 9])[position]
    made, real = (weights[kind].sum(axis=0) for kind in (generated, ~generated))
    if len(distinct) < 2 or not np.all(made * real):
        raise ValueError(f"{len(distinct)} slots are too few for an interval by drawing slots again: give more slots")
    # Both kinds weigh the same; in whole numbers, so that a perfect order gives 1 exactly.
    weights = weights * np.where(generated[:, None], real, made)
    values = average_precisions(scores, generated, weights=weights)
    return bootstrap_interval(values, len(scores), confidence=confidence, floor=0, ceiling=1)


def average_precisions(scores: np.ndarray, generated: np.ndarray, *, weights: np.ndarray) -> list[float]:
    """scikit-learn's average precision for each column of weights, (n, columns): sorted once, so 50 times as fast."""
    order = np.argsort(-scores)
    last = np.append(np.diff(scores[order]) != 0, True)  # images of one score are called together
    called = [column.cumsum()[last] for column in weights[order].T]
    hits = [column.cumsum()[last] for column in (weights * generated[:, None])[order].T]
    shares = [hit / np.maximum(call, np.finfo(float).tiny) for hit, call in zip(hits, called, strict=True)]
    return [np.diff(hit, prepend=0) @ share / hit[-1] for hit, share in zip(hits, shares, strict=True)]


def _require_finite(scores: np.ndarray) -> None:
    broken = int((~np.isfinite(scores)).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(scores)} images have scores that are no finite numbers: the detector failed"
        )
