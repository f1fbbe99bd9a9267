"""Batches for a network as fast as they come: the reader against timm's own loader, for several numbers of workers.

Both give uint8 batches of 224 px of the same JPEGs, as large as photographs: random crops mirrored at random, with and
without RandAugment; timm with Pillow in a DataLoader's workers, the reader in as many processes, and for comparison in
as many threads. Each reads on until the batches that were ready at first are used up, and only then the clock runs;
they take turns. Where there is a GPU batches go there. Prints images per second as median over the repetitions, with
smallest and largest, and the median of the ratios of those that follow each other.
`python tests/benchmarks/feed_network.py`: with one worker, two, and all cores
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from contamination.training import reader
from read_jpegs import SIZE, encode, make_photograph, read_in_place
from timm.data import ImageDataset, create_loader

BATCH = 64
MAGNITUDE = 8  # at timm's usual 9 its posterize now and then keeps no bit, which Pillow 13 refuses
CROPS = {"crop": "random", "crop_area": 0.08, "memory_gib": 0.0}
AUGMENTED = {"randaugment": MAGNITUDE, "randaugment_operations": 2, "randaugment_std": 0.5}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Repeated(ImageDataset):
    """A data set as long as a loader may ask for."""

    def __len__(self) -> int:
        return 10**7

    def __getitem__(self, index: int):
        return super().__getitem__(index % len(self.reader))


def make_photographs(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"class{number % 10}" / f"{number:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encode(make_photograph(rng, 500, 375), "JPEG", quality=92, subsampling="4:2:0"))


def by_processes(tree: Path, augmented: bool, workers: int) -> Iterator:
    table = read_in_place(tree)
    images = reader.load(table, SIZE, CROPS | (AUGMENTED if augmented else {}), DEVICE)
    rng = np.random.default_rng(0)
    plan = ((rng.integers(table.num_rows, size=BATCH), np.full(BATCH, epoch)) for epoch in itertools.count())
    return (pixels for _, pixels in images.stream(plan, workers))


def by_threads(tree: Path, augmented: bool, workers: int) -> Iterator:
    kept, reader._Processes = reader._Processes, reader._Threads
    stream = by_processes(tree, augmented, workers)
    first = next(stream)  # now it has what it reads with
    reader._Processes = kept
    return itertools.chain([first], stream)


def by_timm(tree: Path, augmented: bool, workers: int) -> Iterator:
    policy = f"rand-m{MAGNITUDE}-mstd0.5-inc1" if augmented else None
    usual = {"is_training": True, "color_jitter": 0.0, "auto_augment": policy, "interpolation": "bicubic"}
    machine = {"num_workers": workers, "persistent_workers": False, "pin_memory": DEVICE.type == "cuda"}
    loader = create_loader(Repeated(str(tree)), (3, SIZE, SIZE), BATCH, device=DEVICE, **usual, **machine)
    return (pixels for pixels, _ in loader.loader)  # what is inside gives bytes, as the reader does


WAYS = {"processes": by_processes, "threads": by_threads, "timm": by_timm}


def images_per_second(stream: Iterator, workers: int, count: int) -> float:
    for _ in range(2 * workers + 2):
        next(stream).to(DEVICE, non_blocking=True)
    started = time.perf_counter()
    for _ in range(count):
        next(stream).to(DEVICE, non_blocking=True)
    return count * BATCH / (time.perf_counter() - started)


def compare(tree: Path, augmented: bool, workers: int, arguments) -> None:
    speeds = {way: [] for way in WAYS}
    for repetition in range(arguments.repetitions):
        turn = list(WAYS) if repetition % 2 else list(WAYS)[::-1]
        for way in turn:
            stream = WAYS[way](tree, augmented, workers)
            speeds[way].append(images_per_second(stream, workers, arguments.batches * workers))
            del stream
    name = "crops and RandAugment" if augmented else "crops"
    print(f"{name}, {workers} workers, n={arguments.repetitions}; images/s:")
    for way, found in speeds.items():
        ratio = statistics.median(one / other for one, other in zip(found, speeds["timm"], strict=True))
        print(
            f"  {way:9} {statistics.median(found):6,.0f} (smallest {min(found):,.0f}, largest {max(found):,.0f}), "
            f"{ratio:.2f} times timm's"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    cores = sorted({1, 2, len(os.sched_getaffinity(0))})
    parser.add_argument("--workers", type=int, nargs="+", default=cores)
    parser.add_argument("--batches", type=int, default=8, help="that are timed, for each worker")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        make_photographs(Path(name), arguments.images)
        for workers in arguments.workers:
            for augmented in (False, True):
                compare(Path(name), augmented, workers, arguments)


if __name__ == "__main__":
    main()
