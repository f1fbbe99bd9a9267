"""Indexing an image folder against a bare walk: `os.scandir` and one stat per file, nothing kept.

Makes a tree of small files in a temporary folder, reads each once to warm the cache, then alternates in one process.
Prints ratios of the times as median over the repetitions, with smallest and largest; also of what `load` does to see
that nothing has changed, of the two other ways to see it, and of a walk with threads; and the memory of the index.
`python tests/benchmarks/index_folder.py`
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from contamination.sources import index


def make_tree(tree: Path, images: int, classes: int) -> None:
    """Files in no order, named as ImageNet's."""
    for label in range(classes):
        folder = tree / f"n{label:08d}"
        folder.mkdir(parents=True)
        for number in range(images // classes):
            (folder / f"n{label:08d}_{number * 7919 % 100_000}.JPEG").write_bytes(b"\xff\xd8" + bytes(100))


def walk(folder: bytes) -> int:
    """The bare walk."""
    files, folders = 0, [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    entry.stat()
                    files += 1
    return files


def walk_with_threads(folder: bytes) -> int:
    with os.scandir(folder) as entries, ThreadPoolExecutor(8) as pool:
        return sum(pool.map(walk, [entry.path for entry in entries]))


def read_names(folder: bytes) -> int:
    """What it takes to see added, removed and renamed files without trusting the folders' times."""
    with os.scandir(folder) as entries:
        return sum(read_names(entry.path) if entry.is_dir() else bool(entry.inode()) for entry in entries)


def seconds(call, *arguments) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tree, cache, place = Path(name) / "tree", Path(name) / "index.arrow", os.fsencode(Path(name) / "tree")
        make_tree(tree, arguments.images, arguments.classes)
        time.sleep(index.SETTLED)
        found = index.load(tree, cache)
        assert found.images.num_rows == walk(place)
        ways = {
            "scan": lambda: index.scan(tree),
            "load, nothing changed": lambda: index.load(tree, cache),
            "names alone": lambda: read_names(place),
            "bare walk, 8 threads": lambda: walk_with_threads(place),
        }
        bare, times = [], {way: [] for way in ways}
        for _ in range(arguments.repetitions):
            bare.append(seconds(walk, place))
            for way, call in ways.items():
                times[way].append(seconds(call))
    print(f"bare walk of {found.images.num_rows} files: {statistics.median(bare):.3f} s")
    for way, taken in times.items():
        ratios = [one / other for one, other in zip(taken, bare, strict=True)]
        print(f"{way}: {statistics.median(ratios):.3f} times that ({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"the index: {found.images.nbytes / found.images.num_rows:.1f} bytes per image")


if __name__ == "__main__":
    main()
