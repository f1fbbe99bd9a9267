"""LoadingOptions a mixture in random order: image tables by manifest against torchvision's ImageFolder with PIL.

Both decode the same encoded bytes to the same uint8 tensors, one thread, alternating in one process. Prints the ratio
of the two speeds as median over the repetitions, with smallest and largest. `python tests/benchmarks/read_mixture.py`
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from contamination.base import image_tables
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor


def write_both(folder: Path, count: int, size: int) -> None:
    """The same images as two image tables and as a folder tree with ten classes."""
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    from PIL import Image

    images = []
    for number, small in enumerate(smooth):
        pixels = np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))
        images.append(image_tables.encode(pixels))
        place = folder / "tree" / f"class{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06d}.png").write_bytes(images[-1])
    for name, part in (("real", slice(0, count, 2)), ("generated", slice(1, count, 2))):
        members = images[part]
        image_tables.write(folder / f"{name}.arrow", members, columns={"id": [str(i) for i in range(len(members))]})


def read_tables(folder: Path, order: np.ndarray, size: int) -> torch.Tensor:
    images = image_tables.read(folder / "real.arrow", folder / "generated.arrow").take(order)
    return image_tables.decode_all(images, size)


def read_tree(folder: Path, order: np.ndarray) -> torch.Tensor:
    tree = ImageFolder(folder / "tree", transform=pil_to_tensor)
    return torch.stack([tree[index][0] for index in order])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ratios, speeds = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_both(folder, arguments.images, arguments.size)
        for repetition in range(arguments.repetitions):
            order = np.random.default_rng(repetition).permutation(arguments.images)
            started = time.perf_counter()
            ours = read_tables(folder, order, arguments.size)
            middle = time.perf_counter()
            theirs = read_tree(folder, order)
            ended = time.perf_counter()
            assert ours.shape == theirs.shape
            ratios.append((ended - middle) / (middle - started))
            speeds.append(arguments.images / (middle - started))
    print(
        f"{arguments.images} PNG images of {arguments.size} px, n={arguments.repetitions}: image tables read "
        f"{statistics.median(ratios):.2f} times as fast as ImageFolder (smallest {min(ratios):.2f}, largest "
        f"{max(ratios):.2f}); {statistics.median(speeds):,.0f} images/s"
    )


if __name__ == "__main__":
    main()
