"""Seconds and memory for the manifest of a training set of ImageNet's size: mixed, written, read again.

python tests/benchmarks/mix_slots.py --slots 1281167
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from contamination.mixtures import mixing

CLASSES = 1000


def measure(arm: str, slots: int) -> str:
    labels = (np.arange(slots, dtype=np.int64) * CLASSES // slots).astype(np.int32)
    pool = np.tile(labels, 2) if arm == "other_real" else None
    with tempfile.TemporaryDirectory() as folder:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        manifest = mixing.mix(labels, arm, source="set", ratio=0.4, seed=0, pool_labels=pool)
        mixing.write_manifest(Path(folder) / "manifest.parquet", manifest, tables={"train": [], "pool": [], "set": []})
        made = time.perf_counter()
        again = mixing.read_manifest(Path(folder) / "manifest.parquet")
        read = time.perf_counter()
        size = (Path(folder) / "manifest.parquet").stat().st_size
    assert again.num_rows == manifest.num_rows
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return (
        f"{arm:11} {manifest.num_rows:,} lines: made and written {made - start:.2f} s, read {read - made:.2f} s, "
        f"peak {peak:.0f} MiB above the labels, file {size / 2**20:.1f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=1_281_167)
    slots = parser.parse_args().slots
    print(f"python {sys.version.split()[0]}, pyarrow {pa.__version__}, numpy {np.__version__}; a process each")
    for arm in ("generated", "other_real", "dropped"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # peak memory is of a whole process
            print(pool.apply(measure, (arm, slots)))


if __name__ == "__main__":
    main()
