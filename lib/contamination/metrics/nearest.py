"""Nearest neighbors, and the near-duplicates found by them."""

import math

import numpy as np

from contamination.metrics.distributions import BLOCK, SLACK, comparable
from contamination.metrics.intervals import share_interval


def nearest(queries, references, *, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """The Euclidean distance from each query to its nearest reference, and the row of that reference.

    queries (n, width), references (m, width): tensors or arrays of any number type, computed in float64 on the device
    of `queries`. block: rows of both held at once; changes the memory, not the values. Slow where most references are
    copies of each other.
    Returns float64 (n,) and int64 (n,); of references equally near the first, and 0 for a copy and nothing else.
    Raises ValueError for no images, another width, or features that are not finite.
    """
    import torch

    queries, references = comparable(queries, references, names=("queries", "references"))
    if not (len(queries) and len(references)):
        raise ValueError(f"{len(queries)} queries and {len(references)} references: give at least one of each")
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


def near_duplicates(
    generated, reference_real, targets, quantile: float = 0.01, confidence: float = 0.95
) -> tuple[list[dict], list[dict], dict[str, np.ndarray]]:
    """How many generated images are nearer to a target than all but the nearest `quantile` of unseen real images are.

    generated (n, width), reference_real (m, width), targets (t, width): as for `nearest`. reference_real: real images
    of which none is among the targets. Of images like these at most the share `quantile` is a near-duplicate, by
    chance. A copy of a target always is one. In pixels a copy is found through noise, other brightness or JPEG, but not
    when it is moved or recolored. And a near-duplicate need not be a copy: look at the pairs.

    Returns the scores `near_duplicates` and, the share among the real images, `near_duplicates_of_real`, as dicts
    (metric, value, n, low, high): a set is suspicious where its own is above the other. Where there are too few real
    images to tell what is usual both are absent instead, as dicts (metric, reason). Last the columns row and distance
    (of the nearest target), and copy: whether it is a near-duplicate.
    Raises ValueError for a quantile outside 0..1, and as `nearest` does.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile {quantile:g} is not allowed: give a number between 0 and 1")
    distances, rows = nearest(generated, targets)
    pairs = {"row": rows, "distance": distances, "copy": distances == 0}
    # The chance of a further ordinary image to lie below the k-th of m others is k / (m + 1).
    k = math.floor(quantile * (len(reference_real) + 1) + 1e-9)
    if k < 1:
        reason = f"{len(reference_real)} real images cannot tell what distance only a share of {quantile:g} stays below"
        return [], [{"metric": "near_duplicates", "reason": reason}], pairs
    usual, _ = nearest(reference_real, targets)
    pairs["copy"] |= distances < np.sort(usual)[k - 1]
    found = share_interval(int(pairs["copy"].sum()), len(distances), confidence=confidence)
    among_real = share_interval(k, len(usual), confidence=confidence)
    return [found.score("near_duplicates"), among_real.score("near_duplicates_of_real")], [], pairs
