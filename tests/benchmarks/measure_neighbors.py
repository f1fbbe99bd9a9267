"""Precision, recall, density and coverage with replicates, in blocks, against the plain formula on whole matrices.

First the large sets: seconds and the process's peak memory. Then, at a size where whole matrices fit, both ways on the
same images, in float64 and without replicates: ratio of the times and whether the values are equal.
`python tests/benchmarks/measure_neighbors.py --images 50000`
"""

import argparse
import resource
import time

import torch
from contamination.metrics import distributions

HIDDEN = 12  # in thousands of independent dimensions nearly all images would be outside all balls


def make_features(images: int, width: int, spread: float, seed: int) -> torch.Tensor:
    """Random features, float32 (images, width), near a subspace of few dimensions."""
    subspace = torch.randn(HIDDEN, width, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    features = spread * torch.randn(images, HIDDEN, generator=generator) @ subspace
    for part in features.split(1000):
        part += 0.05 * torch.randn(part.shape, generator=generator)
    return features


def plain_neighbors(real: torch.Tensor, generated: torch.Tensor, k: int) -> dict[str, float]:
    """The definitions word by word."""
    real, generated = real.double(), generated.double()
    real_radii, generated_radii = (torch.cdist(each, each).kthvalue(k + 1).values for each in (real, generated))
    distances = torch.cdist(real, generated)
    inside = distances < real_radii[:, None]
    return {
        "precision": inside.any(dim=0).double().mean().item(),
        "recall": (distances < generated_radii).any(dim=1).double().mean().item(),
        "density": inside.sum(dim=0).double().mean().item() / k,
        "coverage": inside.any(dim=1).double().mean().item(),
    }


def seconds(call) -> tuple:
    started = time.perf_counter()
    found = call()
    return found, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50000, help="of each set")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain", type=int, default=4000, help="images of each set for the plain formula")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    real = make_features(arguments.images, arguments.width, 1.0, 1)
    generated = make_features(arguments.images, arguments.width, 0.8, 2)
    counts = distributions.draw_counts(real, generated, arguments.replicates, 0)
    k, block = 5, distributions.BLOCK
    values, taken = seconds(lambda: distributions.neighbor_values(real, generated, counts, k, block))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(real)} x {len(generated)} images of width {arguments.width}, {arguments.replicates} replicates, "
        f"{arguments.threads} threads: {taken:.1f} s, peak memory {peak:.2f} GiB; "
        + ", ".join(f"{name} {columns[0]:.4f}" for name, columns in values.items())
    )
    real, generated = real[: arguments.plain], generated[: arguments.plain]
    ours, taken = seconds(lambda: distributions.neighbors(real, generated, k=k))
    plain, plainly = seconds(lambda: plain_neighbors(real, generated, k))
    gap = max(abs(ours[name] - plain[name]) for name in ours)
    print(
        f"{len(real)} x {len(real)} images: {plainly / taken:.2f} times as fast as the plain formula "
        f"({taken:.1f} s to {plainly:.1f} s), values {'equal' if gap == 0 else f'differ by {gap:.1e} at most'}"
    )


if __name__ == "__main__":
    main()
