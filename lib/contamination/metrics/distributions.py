"""How close a set of generated images is to a set of real ones, in a feature space.

All functions take features `real` (n, width) and `generated` (m, width), torch tensors or NumPy arrays of any number
type, compute in float64 on the device of `real`, and raise ValueError in one line for features that cannot be compared.
All values shift with the number of images: compare sets of equal size only.

Intervals are bootstrap intervals over the images of both sets together. `counts` (a pair: n and m rows) says how often
each image stands in each replicate; column 0 holds ones and gives the measure of the sets themselves. An image drawn
twice counts twice, but is never its own neighbor or pair.
"""

from itertools import chain, combinations_with_replacement, product
from typing import Any, NamedTuple

import numpy as np

from contamination.metrics.intervals import bootstrap_interval, resampling, share_interval

SLACK = 1e-12  # more than the rounding error of a squared distance, as a share of the squared lengths it is made of
BLOCK = 2048  # rows and columns of distances held at once
NEIGHBORS = ("precision", "recall", "density", "coverage")


class Measure(NamedTuple):
    """What tables, figures and intervals have to know of a measure; `GROUPS` says what computes it.

    label: what it is called. low, high: what it cannot leave. of_generated: whether it is a share of the generated
    images, and not of the real ones. beside_loss: whether the report sets it against the loss of accuracy.
    """

    label: str
    low: float
    high: float
    higher_is_better: bool
    of_generated: bool = False
    beside_loss: bool = False

    @property
    def is_share(self) -> bool:
        return (self.low, self.high) == (0, 1)


MEASURES = {
    "frechet_distance": Measure("Fréchet distance", 0, np.inf, False, beside_loss=True),
    "kernel_distance": Measure("kernel distance", -np.inf, np.inf, False),
    "precision": Measure("precision", 0, 1, True, of_generated=True),
    "recall": Measure("recall", 0, 1, True, beside_loss=True),
    "density": Measure("density", 0, np.inf, True, of_generated=True),
    "coverage": Measure("coverage", 0, 1, True, beside_loss=True),
}


def compare(real, generated, k: int = 5) -> list[dict]:
    """All of `MEASURES`: dicts (metric, value, n), n the number of generated images."""
    real, generated = comparable(real, generated)
    once = _once(real, generated)
    values: dict[str, list[float]] = {}
    for compute in GROUPS.values():
        values |= compute(real, generated, once, k)
    return [{"metric": name, "value": values[name][0], "n": len(generated)} for name in MEASURES]


def compare_with_intervals(
    real, generated, k: int, replicates: int, seed, confidence: float
) -> tuple[list[dict], list[dict]]:
    """The values of `compare` as dicts (metric, value, n, low, high), and what is absent as dicts (metric, reason).

    A measure is absent when there are too few images for it or too many equal ones; the others stay. Features that are
    not finite or of two widths raise. seed: an integer or a list of them. Sets that are compared with the same real
    images by the same seed meet the same replicates of these.

    The intervals are about the mean over other draws of both sets, as large as these, from where these came from. They
    say nothing of larger sets, of other networks, nor of another training of the generator. How often 95 % intervals
    hold that mean was simulated, Gaussian and clustered sets of 50 to 600 images with 4 and 64 features. Fréchet and
    kernel distance: 0.87 to 1 (1 for two sets of one distribution, up to twice too wide there); precision and recall:
    0.9 to 1; density: 0.8 to 1; coverage: 0.77 to 1. But precision and recall of sets that hardly touch: 0.6, since a
    few large balls decide there, whose radii no replicate changes.
    """
    return _with_intervals(real, generated, GROUPS, k, replicates, seed, confidence)


def neighbors_with_intervals(
    real, generated, k: int, replicates: int, seed, confidence: float
) -> tuple[list[dict], list[dict]]:
    """Precision, recall, density and coverage alone, as `compare_with_intervals` gives them.

    For raw pixels, which are too many for the distances' covariances.
    """
    return _with_intervals(real, generated, {NEIGHBORS: GROUPS[NEIGHBORS]}, k, replicates, seed, confidence)


def _with_intervals(real, generated, groups: dict, k: int, replicates: int, seed, confidence: float) -> tuple:
    """groups: as `GROUPS`."""
    real, generated = comparable(real, generated)
    try:
        _require(real, generated, 2)
    except ValueError as error:
        return [], _absent(chain(*groups), error)
    counts = draw_counts(real, generated, replicates, seed)
    scores, absent = [], []
    for names, compute in groups.items():
        try:
            values = compute(real, generated, counts, k)
        except ValueError as error:
            absent += _absent(names, error)
        else:
            scores += [_score(name, values[name], len(real), len(generated), confidence) for name in names]
    return scores, absent


def _absent(names, error: ValueError) -> list[dict]:
    return [{"metric": name, "reason": str(error)} for name in names]


def _score(name: str, values: list[float], n: int, m: int, confidence: float) -> dict:
    measure = MEASURES[name]
    found = bootstrap_interval(values, m, confidence=confidence, floor=measure.low, ceiling=measure.high)
    low, high = found.low, found.high
    if measure.is_share:
        # Images that share the other set's balls vary together, so their share varies at least as one of independent
        # images does. The replicates show nothing of it where all or no images count.
        count = m if measure.of_generated else n
        least = share_interval(round(found.mean * count), count, confidence=confidence)
        low, high = min(low, least.low), max(high, least.high)
    return found._replace(low=low, high=high).score(name)


def compare_classes(
    real, generated, real_labels, generated_labels, names, k: int, replicates: int, seed: int, confidence: float
) -> tuple[list[dict], list[dict]]:
    """`compare_with_intervals` within each class: metric "recall of three", n the generated images of the class.

    labels: integers (n,) and (m,), positions in names. The measures of a class that one set lacks are absent.
    """
    real, generated = comparable(real, generated)
    real_rows = _rows_by_class(real, real_labels, len(names), "real")
    generated_rows = _rows_by_class(generated, generated_labels, len(names), "generated")
    scores, absent = [], []
    for label, name in enumerate(names):
        pair = real[real_rows[label]], generated[generated_rows[label]]
        found, missing = compare_with_intervals(*pair, k, replicates, [seed, label], confidence)
        scores += [row | {"metric": f"{row['metric']} of {name}"} for row in found]
        absent += [row | {"metric": f"{row['metric']} of {name}"} for row in missing]
    return scores, absent


def _rows_by_class(features, labels, classes: int, which: str) -> list:
    """The rows of each class in their order. Raises ValueError for labels that fit no image or no class."""
    import torch

    labels = np.asarray(labels)
    if labels.shape != (len(features),):
        raise ValueError(f"{len(features)} {which} images need as many labels, not labels of shape {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"{which} labels go from {labels.min()} to {labels.max()}, but there are {classes} classes")
    ends = np.bincount(labels, minlength=classes).cumsum()
    rows = np.split(np.argsort(labels, kind="stable"), ends[:-1])
    return [torch.from_numpy(each).to(features.device) for each in rows]


def draw_counts(real, generated, replicates: int, seed) -> tuple:
    """How often each image is drawn, the two sets apart: float32 (n, 1 + replicates) and (m, 1 + replicates)."""
    import torch

    seeds = np.atleast_1d(seed).tolist()
    drawn = (
        resampling(len(features), replicates, seed=[*seeds, side]) for side, features in enumerate((real, generated))
    )
    return tuple(torch.from_numpy(each).float().to(real.device) for each in drawn)


def _once(real, generated) -> tuple:
    """The counts of the sets themselves, without replicates."""
    import torch

    return tuple(torch.ones(len(features), 1, device=real.device) for features in (real, generated))


def frechet_distance(real, generated) -> float:
    """Squared Fréchet distance of the two Gaussians with the sets' means and covariances (Heusel et al., NIPS 2017).

    |mean difference|^2 + tr(A) + tr(B) - 2 tr((AB)^(1/2)), covariances with n - 1. With A = R'R and B = S'S the last
    trace is the sum of the singular values of RS'. R and S come from the data, so no root of a tiny eigenvalue is
    ever taken, and fewer images than features do no harm to the accuracy. Needs 2 images per set; never negative.
    """
    real, generated = comparable(real, generated)
    return frechet_values(real, generated, _once(real, generated))["frechet_distance"][0]


def frechet_values(real, generated, counts) -> dict[str, list[float]]:
    _require(real, generated, 2)
    first, *replicates = zip(counts[0].T, counts[1].T, strict=True)
    values = [_frechet(real, generated, *first)]
    short = _in_their_span(real, generated)
    return {"frechet_distance": values + [_frechet(*short, *drawn) for drawn in replicates]}


def _in_their_span(real, generated) -> tuple[Any, Any]:
    """The same two sets turned into as few features as hold their differences: float64, where these are fewer."""
    import torch

    if len(real) + len(generated) >= real.shape[1]:
        return real, generated
    both = torch.cat([real.double(), generated.double()])
    # With (both - mean)' = QR the rows of R' are the images in the basis Q.
    return torch.linalg.qr((both - both.mean(dim=0)).T, mode="r").R.T.split([len(real), len(generated)])


def _frechet(real, generated, real_counts, generated_counts) -> float:
    import torch

    real_mean, real_root = _gaussian(real, real_counts)
    generated_mean, generated_root = _gaussian(generated, generated_counts)
    shift = (real_mean - generated_mean).square().sum()
    spread = real_root.square().sum() + generated_root.square().sum()  # the traces of the covariances
    common = torch.linalg.svdvals(real_root @ generated_root.T).sum()
    return max(0.0, (shift + spread - 2 * common).item())


def _gaussian(features, counts) -> tuple:
    """Mean (width,) of the counted images and R (at most width, width) with R'R their covariance: float64."""
    import torch

    drawn = counts > 0
    rows, weights = features[drawn].double(), counts[drawn].double()[:, None]
    mean = (weights * rows).mean(dim=0) / weights.mean()
    rows = rows.sub_(mean).mul_(weights.sqrt())
    return mean, torch.linalg.qr(rows, mode="r").R / (counts.sum().item() - 1) ** 0.5


def kernel_distance(real, generated, *, block: int = BLOCK) -> float:
    """Squared maximum mean discrepancy, kernel (x.y / width + 1)^3, unbiased (Binkowski et al., ICLR 2018).

    Over all pairs of images instead of random subsets, so nothing is random. May be a little below 0, as it is 0 in
    the mean for two sets of one distribution. Needs 2 images per set. block: rows and columns of kernel held at once.
    """
    real, generated = comparable(real, generated)
    return kernel_values(real, generated, _once(real, generated), block)["kernel_distance"][0]


def kernel_values(real, generated, counts, block: int) -> dict[str, list[float]]:
    _require(real, generated, 2)
    real_counts, generated_counts = (each.double() for each in counts)
    within = _kernel_within(real, real_counts, block) + _kernel_within(generated, generated_counts, block)
    across = _kernel_across(real, generated, real_counts, generated_counts, block)
    return {"kernel_distance": (within - 2 * across).tolist()}


def _kernel_across(real, generated, real_counts, generated_counts, block: int):
    """Mean of the kernel over all pairs of a real and a generated image: float64 (columns,)."""
    total = 0
    for here, there in product(_slices(real, block), _slices(generated, block)):
        total += _kernel_sums(_kernel(real[here], generated[there]), real_counts[here], generated_counts[there])
    return total / (len(real) * len(generated))


def _kernel_within(features, counts, block: int):
    """Mean of the kernel over all pairs of different images of one set: float64 (columns,)."""
    pairs = counts.sum(dim=0).square() - counts.square().sum(dim=0)
    if (pairs == 0).any():
        empty = (pairs == 0).sum()
        raise ValueError(f"{len(features)} images are too few: {empty} replicates have no pair of different images")
    total = 0
    for here, there in combinations_with_replacement(_slices(features, block), 2):
        kernel = _kernel(features[here], features[there])
        sums = _kernel_sums(kernel, counts[here], counts[there])
        total += sums - _diagonal_sums(kernel, counts[here]) if here == there else 2 * sums
    return total / pairs


def _kernel(first, second):
    return (first.double() @ second.double().T / first.shape[1] + 1).pow(3)


def _kernel_sums(kernel, counts, others):
    """The kernel summed over its pairs, each as often as both its images: float64 (columns,); column 0 counts once."""
    import torch

    replicates = (counts[:, 1:] * (kernel @ others[:, 1:])).sum(dim=0)
    return torch.cat([kernel.sum()[None], replicates])


def _diagonal_sums(kernel, counts):
    """`_kernel_sums` of the images with themselves only."""
    import torch

    return torch.cat([kernel.diagonal().sum()[None], kernel.diagonal() @ counts[:, 1:].square()])


def neighbors(real, generated, *, k: int = 5, block: int = BLOCK) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al., NeurIPS 2019), density and coverage (Naeem et al., ICML 2020).

    Each image has a ball that reaches to its k-th nearest neighbor in its own set. The balls of the real images are
    the real manifold, those of the generated images the generated one.
    precision: share of the generated images inside the real manifold (quality).
    recall: share of the real images inside the generated manifold (variety).
    density: number of real balls around a generated image over k, mean; may be above 1.
    coverage: share of the real balls with a generated image inside.
    Inside means nearer than the radius: a tie is outside, as in the package prdc, and what is equal but for rounding
    is a tie. So where all generated images are equal, their balls are empty and recall is 0.

    block: rows and columns of distances held at once; changes the memory, not the values.
    Raises ValueError for sets of k images or fewer, and when each real image has k copies of itself.
    """
    real, generated = comparable(real, generated)
    values = neighbor_values(real, generated, _once(real, generated), k, block)
    return {name: columns[0] for name, columns in values.items()}


def neighbor_values(real, generated, counts, k: int, block: int) -> dict[str, list[float]]:
    """The balls reach as far as in the whole sets; a replicate has those of its images, as often as it has these."""
    import torch

    _require(real, generated, k + 1)
    center = real.mean(dim=0, dtype=torch.float64)  # far from the origin a distance would lose its digits
    real_radii = _square_radii(real, center, k, block)
    generated_radii = _square_radii(generated, center, k, block)
    if not (real_radii > 0).any():
        raise ValueError(f"each of the {len(real)} real images has the features of at least {k} others: no manifold")
    real_counts, generated_counts = counts
    # Sums of whole numbers, exact in float32 up to 16 million images.
    around = torch.zeros_like(generated_counts)  # real balls around it
    inside = torch.zeros_like(real_counts)  # generated images inside its ball
    recalled = torch.zeros_like(real_counts)  # generated balls around it
    for here, there in product(_slices(real, block), _slices(generated, block)):
        squares = _square_distances(real[here], generated[there], center)
        in_real = (squares < real_radii[here, None]).float()
        around[there] += in_real.T @ real_counts[here]
        inside[here] += in_real @ generated_counts[there]
        recalled[here] += (squares < generated_radii[None, there]).float() @ generated_counts[there]
    values = {
        "precision": _counted_mean(around > 0, generated_counts),
        "recall": _counted_mean(recalled > 0, real_counts),
        "density": _counted_mean(around, generated_counts) / k,
        "coverage": _counted_mean(inside > 0, real_counts),
    }
    return {name: columns.tolist() for name, columns in values.items()}


def _counted_mean(values, counts):
    """Mean of each column over the images, each as often as counted: float64 (columns,)."""
    return (values.double() * counts).sum(dim=0) / len(counts)


def _square_radii(features, center, k: int, block: int):
    """Squared distance of each image to its k-th nearest neighbor, rounded down by SLACK: float64 (n,)."""
    import torch

    # The image itself is among its k + 1 nearest; which of several copies counts as itself makes no difference.
    nearest = torch.full((len(features), k + 1), torch.inf, dtype=torch.float64, device=features.device)
    for here, there in combinations_with_replacement(_slices(features, block), 2):
        squares = _square_distances(features[here], features[there], center, 1 - SLACK)
        nearest[here] = _smallest(nearest[here], squares)
        if here != there:
            nearest[there] = _smallest(nearest[there], squares.T)
    return nearest.amax(dim=1)


def _smallest(nearest, squares):
    """Of both together the smallest of each row, as many as `nearest` has."""
    import torch

    count = nearest.shape[1]
    squares = squares.topk(min(count, squares.shape[1]), largest=False).values  # before `cat`, which copies
    return torch.cat([nearest, squares], dim=1).topk(count, largest=False).values


def _square_distances(first, second, center, share: float = 1.0):
    """Squared Euclidean distances: float64 (rows of first, rows of second). share: how much of the lengths counts."""
    x, y = first - center, second - center  # the center is float64, and so is the difference
    lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return lengths.mul_(share).addmm_(x, y.T, alpha=-2)


def _slices(features, block: int) -> list[slice]:
    """The rows in blocks."""
    return [slice(start, start + block) for start in range(0, len(features), block)]


def _require(real, generated, least: int) -> None:
    for name, features in {"real": real, "generated": generated}.items():
        if len(features) < least:
            raise ValueError(f"{len(features)} {name} images are too few: give at least {least}")


def comparable(first, second, *, names: tuple[str, str] = ("real images", "generated images")) -> tuple:
    """Two tables of features as tensors on one device, or a ValueError that says what is wrong, by name and number."""
    import torch

    first = torch.as_tensor(first)
    second = torch.as_tensor(second, device=first.device)
    for name, features in zip(names, (first, second), strict=True):
        if features.ndim != 2 or not features.shape[1]:
            raise ValueError(f"{name} must be a table, images by features, not of shape {tuple(features.shape)}")
        broken = sum((~part.isfinite()).any(dim=1).sum().item() for part in features.split(4096))
        if broken:
            raise ValueError(f"{broken} of {len(features)} {name} have features that are not finite numbers")
    if first.shape[1] != second.shape[1]:
        widths = f"{names[0]} have {first.shape[1]} features, {names[1]} {second.shape[1]}"
        raise ValueError(f"{widths}: use one network")
    return first, second


# What is computed together: from the sets, the counts of `draw_counts` and the number of neighbors the values by name.
GROUPS = {
    ("frechet_distance",): lambda real, generated, counts, k: frechet_values(real, generated, counts),
    ("kernel_distance",): lambda real, generated, counts, k: kernel_values(real, generated, counts, BLOCK),
    NEIGHBORS: lambda real, generated, counts, k: neighbor_values(real, generated, counts, k, BLOCK),
}
