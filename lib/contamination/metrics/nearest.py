"""Nearest neighbours, and the near-duplicates that can be told by them."""

import math
from typing import NamedTuple

import numpy as np

from contamination.statistics import Interval, share_interval

SLACK = 1e-12  # more than the rounding error of a squared distance, as a share of the squared lengths it is made of


def nearest(queries, references, block: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """The Euclidean distance from each query to its nearest reference, and the row of that reference.

    queries (n, width), references (m, width): tensors or arrays of any number type, computed in float64 on the device
    of `queries`. block: rows of both held at once; changes the memory, not the values. Slow where most references are
    copies of each other.
    Returns float64 (n,) and int64 (n,); of references equally near the first, and 0 for a copy and nothing else.
    Raises ValueError for no images, another width, or features that are not finite.
    """
    import torch

    queries, references = _prepare(queries, references)
    center = references.mean(dim=0, dtype=torch.float64)  # far from the origin all would be candidates
    distances = torch.full((len(queries),), torch.inf, dtype=torch.float64, device=queries.device)
    rows = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for here in range(0, len(queries), block):
        for there in range(0, len(references), block):
            best = distances[here : here + block]  # a view: what is nearer is written through it
            blocks = queries[here : here + block], references[there : there + block]
            found, row = _nearest_in_block(*blocks, center, best)
            nearer = found < best
            best[nearer], rows[here : here + block][nearer] = found[nearer], row[nearer] + there
    return distances.cpu().numpy(), rows.cpu().numpy()


def _nearest_in_block(first, second, center, best):
    """Distance and row of the nearest of `second` to each of `first`, infinite where it is not below `best`.

    The matrix product is fast, but rounds. So it only names the candidates, among which the nearest must be, and their
    distances are taken from the differences.
    """
    import torch

    x, y = first - center, second - center  # the center is float64, and so is the difference
    lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    squares = torch.addmm(lengths, x, y.T, alpha=-2)
    lowest = squares.sub(lengths, alpha=SLACK).clamp_(min=0)
    highest = squares.add_(lengths, alpha=SLACK).amin(dim=1, keepdim=True)
    candidates = ((lowest <= highest) & (lowest < best.square()[:, None])).nonzero()
    query, reference = candidates.T
    exact = best.new_empty(len(candidates))
    for start in range(0, len(candidates), len(first)):  # where all references are copies, each is a candidate
        part = slice(start, start + len(first))
        exact[part] = _distances(first[query[part]], second[reference[part]])
    found = torch.full_like(best, torch.inf).scatter_reduce(0, query, exact, "amin")
    ties = exact == found[query]
    row = query.new_full(best.shape, len(second))
    return found, row.scatter_reduce(0, query[ties], reference[ties], "amin")


def _distances(first, second):
    """Of each row of `first` to the same row of `second`: each pair on its own, so equal pairs have equal distances."""
    import torch

    pairs = first.double()[:, None], second.double()[:, None]
    return torch.cdist(*pairs, compute_mode="donot_use_mm_for_euclid_dist").flatten()


def small_pixels(pixels, side: int = 32):
    """Images as points for `near_duplicates`: float32 (n, 3 * s * s), 0 to 1, s at most `side`.

    pixels: uint8 tensor (n, 3, size, size). Larger images are reduced by averaging areas, none is enlarged.
    """
    import torch

    small = min(side, pixels.shape[-1])
    parts = [  # in parts, as float32 takes four times the memory
        torch.nn.functional.interpolate(part.float(), size=(small, small), mode="area").flatten(1) / 255
        for part in pixels.split(256)
    ]
    return torch.cat(parts)


class NearDuplicates(NamedTuple):
    """threshold: the distance below which an image is a near-duplicate. rows, distances: of the nearest target.

    flags: bool (n,). score: metric `near_duplicates`, value (share of the generated images), n, low, high.
    ordinary: the share that ordinary real images have below the threshold, with its interval: a set is suspicious
    where its own share is above that.
    """

    threshold: float
    flags: np.ndarray
    rows: np.ndarray
    distances: np.ndarray
    score: dict
    ordinary: Interval


def near_duplicates(
    generated, reference_real, targets, quantile: float = 0.01, confidence: float = 0.95
) -> NearDuplicates:
    """Which generated images are nearer to a target than all but the nearest `quantile` of other real images are.

    generated (n, width), reference_real (m, width), targets (t, width): as for `nearest`. reference_real: real images
    of which none is among the targets. Of images like these at most the share `quantile` is a near-duplicate, by
    chance. A copy of a target always is one. In pixels a copy is found through noise, other brightness or JPEG, but not
    when it is shifted or recoloured. And a near-duplicate need not be a copy: look at the pairs.
    Raises ValueError for fewer real images than make one of `quantile`, and as `nearest` does.
    """
    # The chance of a further ordinary image to lie below the k-th of m others is k / (m + 1).
    k = math.floor(quantile * (len(reference_real) + 1) + 1e-9)
    if not 0 < quantile < 1 or k < 1:
        raise ValueError(
            f"{len(reference_real)} real images cannot tell what distance only a share of {quantile:g} stays below: "
            "give a quantile between 0 and 1, and at least 1 / quantile real images"
        )
    distances, rows = nearest(generated, targets)
    ordinary, _ = nearest(reference_real, targets)
    threshold = float(np.sort(ordinary)[k - 1])
    flags = (distances < threshold) | (distances == 0)
    share = share_interval(int(flags.sum()), len(flags), confidence)
    score = {"metric": "near_duplicates", "value": share.mean, "n": share.n, "low": share.low, "high": share.high}
    return NearDuplicates(threshold, flags, rows, distances, score, share_interval(k, len(ordinary), confidence))


def compare_with_targets(
    generated, reference_real, targets, quantile: float, confidence: float
) -> tuple[list[dict], list[dict], dict[str, np.ndarray]]:
    """The share of near-duplicates in a set and in ordinary real images: dicts (metric, value, n, low, high).

    Also what is absent, dicts (metric, reason), where there are too few real images to tell what is usual; and by
    generated image the columns row and distance, of its nearest target. Arguments and errors as for `near_duplicates`.
    """
    distances, rows = nearest(generated, targets)
    pairs = {"row": rows, "distance": distances}
    try:
        found = near_duplicates(generated, reference_real, targets, quantile, confidence)
    except ValueError as error:
        return [], [{"metric": "near_duplicates", "reason": str(error)}], pairs
    mean, low, high, n = found.ordinary
    usual = {"metric": "near_duplicates_of_real", "value": mean, "n": n, "low": low, "high": high}
    return [found.score, usual], [], pairs


def _prepare(queries, references):
    """Both as tensors on one device, or a ValueError that names what is wrong and how many."""
    import torch

    queries = torch.as_tensor(queries)
    references = torch.as_tensor(references, device=queries.device)
    for name, features in {"queries": queries, "references": references}.items():
        if features.ndim != 2 or not features.numel():
            raise ValueError(f"{name} must be a table, images by features, not of shape {tuple(features.shape)}")
        broken = sum((~part.isfinite()).any(dim=1).sum().item() for part in features.split(4096))
        if broken:
            raise ValueError(f"{broken} of {len(features)} {name} have features that are not finite numbers")
    if queries.shape[1] != references.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} features, references {references.shape[1]}: use one space")
    return queries, references
