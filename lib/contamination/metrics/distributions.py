"""How close a set of generated images is to a set of real ones, in a feature space.

All functions take features `real` (n, width) and `generated` (m, width), torch tensors or NumPy arrays of any number
type, compute in float64 on the device of `real`, and raise ValueError in one line for features that cannot be compared.
All values shift with the number of images: compare sets of equal size only.
"""

SLACK = 1e-12  # more than the rounding error of a squared distance, as a share of the squared lengths it is made of


def compare(real, generated, k: int = 5) -> list[dict]:
    """All measures of this module: dicts (metric, value, n), n the number of generated images."""
    values = {"frechet_distance": frechet_distance(real, generated)}
    values |= {"kernel_distance": kernel_distance(real, generated)} | neighbours(real, generated, k)
    return [{"metric": name, "value": value, "n": len(generated)} for name, value in values.items()]


def frechet_distance(real, generated) -> float:
    """Squared Fréchet distance of the two Gaussians with the sets' means and covariances (Heusel et al., NIPS 2017).

    |mean difference|^2 + tr(A) + tr(B) - 2 tr((AB)^(1/2)), covariances with n - 1. With A = R'R and B = S'S the last
    trace is the sum of the singular values of RS'. R and S come from the data, so no root of a tiny eigenvalue is
    ever taken, and fewer images than features do no harm to the accuracy. Needs 2 images per set; never negative.
    """
    import torch

    real, generated = _prepare(real, generated, 2)
    means = [features.mean(dim=0, dtype=torch.float64) for features in (real, generated)]
    roots = [_covariance_root(features, mean) for features, mean in zip((real, generated), means, strict=True)]
    shift = (means[0] - means[1]).square().sum()
    spread = sum(root.square().sum() for root in roots)  # the traces of the covariances
    common = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    return max(0.0, (shift + spread - 2 * common).item())


def _covariance_root(features, mean):
    """R with R'R the covariance: float64, (at most width, width)."""
    import torch

    return torch.linalg.qr(features - mean, mode="r").R / (len(features) - 1) ** 0.5


def kernel_distance(real, generated, block: int = 2048) -> float:
    """Squared maximum mean discrepancy, kernel (x.y / width + 1)^3, unbiased (Binkowski et al., ICLR 2018).

    Over all pairs of images instead of random subsets, so nothing is random. May be a little below 0, as it is 0 in
    the mean for two sets of one distribution. Needs 2 images per set. block: rows and columns of kernel held at once.
    """
    real, generated = _prepare(real, generated, 2)
    n, m = len(real), len(generated)
    within = _kernel_sum(real, real, block) / (n * (n - 1)) + _kernel_sum(generated, generated, block) / (m * (m - 1))
    return within - 2 * _kernel_sum(real, generated, block) / (n * m)


def _kernel_sum(first, second, block: int) -> float:
    """The kernel summed over all pairs; for a set and itself without the pairs of an image with itself."""
    total = 0.0
    for here, there in _pairs(first, second, block):
        x, y = first[here].double(), second[there].double()
        kernel = (x @ y.T / x.shape[1] + 1).pow(3)
        total += kernel.sum().item()
        if first is second and here == there:
            total -= kernel.diagonal().sum().item()
    return total


def neighbours(real, generated, k: int = 5, block: int = 2048) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al., NeurIPS 2019), density and coverage (Naeem et al., ICML 2020).

    Each image has a ball that reaches to its k-th nearest neighbour in its own set. The balls of the real images are
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
    import torch

    real, generated = _prepare(real, generated, k + 1)
    center = real.mean(dim=0, dtype=torch.float64)  # far from the origin a distance would lose its digits
    real_radii = _square_radii(real, center, k, block)
    generated_radii = _square_radii(generated, center, k, block)
    if not (real_radii > 0).any():
        raise ValueError(f"each of the {len(real)} real images has the features of at least {k} others: no manifold")
    counts = torch.zeros(len(generated), dtype=torch.int64, device=real.device)  # real balls around it
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    recalled = torch.zeros_like(covered)
    for here, there in _pairs(real, generated, block):
        squares = _square_distances(real[here], generated[there], center)
        inside = squares < real_radii[here, None]
        counts[there] += inside.sum(dim=0)
        covered[here] |= inside.any(dim=1)
        recalled[here] |= (squares < generated_radii[None, there]).any(dim=1)
    return {
        "precision": (counts > 0).double().mean().item(),
        "recall": recalled.double().mean().item(),
        "density": counts.double().mean().item() / k,
        "coverage": covered.double().mean().item(),
    }


def _square_radii(features, center, k: int, block: int):
    """Squared distance of each image to its k-th nearest neighbour, rounded down by SLACK: float64 (n,)."""
    import torch

    # The image itself is among its k + 1 nearest; which of several copies counts as itself makes no difference.
    nearest = torch.full((len(features), k + 1), torch.inf, dtype=torch.float64, device=features.device)
    for here, there in _pairs(features, features, block):
        squares = _square_distances(features[here], features[there], center, 1 - SLACK)
        nearest[here] = torch.cat([nearest[here], squares], dim=1).topk(k + 1, largest=False).values
    return nearest.amax(dim=1)


def _square_distances(first, second, center, share: float = 1.0):
    """Squared Euclidean distances: float64 (rows of first, rows of second). share: how much of the lengths counts."""
    x, y = first - center, second - center  # the center is float64, and so is the difference
    lengths = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    return lengths.mul_(share).addmm_(x, y.T, alpha=-2)


def _pairs(first, second, block: int):
    """Slices that cut the rows of both into blocks, every block of `first` with every block of `second`."""
    for here in range(0, len(first), block):
        for there in range(0, len(second), block):
            yield slice(here, here + block), slice(there, there + block)


def _prepare(real, generated, least: int):
    """Both as tensors on one device, or a ValueError that names what is wrong and how many."""
    import torch

    real = torch.as_tensor(real)
    generated = torch.as_tensor(generated, device=real.device)
    for name, features in {"real": real, "generated": generated}.items():
        if features.ndim != 2 or not features.shape[1]:
            raise ValueError(
                f"{name} features must be a table, images by features, not of shape {tuple(features.shape)}"
            )
        if len(features) < least:
            raise ValueError(f"{len(features)} {name} images are too few: give at least {least}")
        broken = sum((~part.isfinite()).any(dim=1).sum().item() for part in features.split(4096))
        if broken:
            raise ValueError(f"{broken} of {len(features)} {name} images have features that are not finite numbers")
    if real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"real images have {real.shape[1]} features, generated images {generated.shape[1]}: use one network"
        )
    return real, generated
