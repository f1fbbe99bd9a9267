"""Which GPUs of this machine a job computes on: as many as it needs, and none that another job has.

Snakemake counts GPUs and does not say which. So a job takes its own: it locks one file per GPU and lets CUDA see no
other. The system frees the locks however the job ends. Jobs of one user on one machine see each other's locks, whoever
has started them; those of other users they do not see.
"""

import contextlib
import itertools
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"
TAKEN = "CONTAMINATION_GPUS"  # tells the processes that a job starts that their GPUs are taken already
LISTED = re.compile(r"^(?:GPU (\d+)|\s+MIG).*\(UUID: ([^)]+)\)", re.MULTILINE)
SECONDS = 1.0  # between two looks for a free one
_locks: list[FileLock] = []  # held while this process lives


class Gpu(NamedTuple):
    """number: as nvidia-smi counts, empty for a part of a GPU (MIG). uuid: what CUDA knows it by, in any order."""

    number: str
    uuid: str


def visible() -> list[Gpu]:
    """The GPUs of this machine that CUDA_VISIBLE_DEVICES allows, all of them without it. Does not load CUDA.

    None where there is no nvidia-smi or it finds no driver. As in CUDA, what follows an unknown entry does not count.
    """
    present, allowed = _present(), os.environ.get(VISIBLE)
    if allowed is None:
        return present
    chosen = []
    for entry in filter(None, map(str.strip, allowed.split(","))):
        fitting = [gpu for gpu in present if gpu.number == entry or gpu.uuid.startswith(entry)]
        if len(fitting) != 1:
            break
        chosen += fitting
    return chosen


def _present() -> list[Gpu]:
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = [Gpu(*match) for match in LISTED.findall(listed.stdout)]
    # A GPU that is divided (MIG) is followed by its parts, and only these can be computed on.
    divided = {gpu for gpu, after in itertools.pairwise(found) if gpu.number and not after.number}
    return [gpu for gpu in found if gpu not in divided]


def take(count: int) -> list[Gpu]:
    """Take GPUs for this process and those it starts, before CUDA is loaded; wait where too few are free.

    What a process, or the one that started it, has taken already is its own again. Empty on a machine without GPUs.
    Raises ValueError where more are asked for than there are, taken or free.
    """
    choice = visible()
    if not choice:
        return []
    if count > len(choice):
        raise ValueError(f"{count} GPUs are asked for and {len(choice)} can be used here: ask for fewer `processes`")
    if os.environ.get(TAKEN) == os.environ.get(VISIBLE, ""):
        return choice
    own = _lock(choice, count)
    if not own:
        print(f"waiting for {count} of {len(choice)} GPUs, which other jobs have", flush=True)
    while not own:
        time.sleep(SECONDS)
        own = _lock(choice, count)
    os.environ[VISIBLE] = os.environ[TAKEN] = ",".join(gpu.uuid for gpu in own)
    return own


def _lock(choice: list[Gpu], count: int) -> list[Gpu]:
    """Lock so many that are free, or none. One process at a time tries, so that no two hold a half each."""
    folder = Path(tempfile.gettempdir()) / f"contamination-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with FileLock(folder / "gate"):
        own: dict[Gpu, FileLock] = {}
        for gpu in choice:
            lock = FileLock(folder / gpu.uuid.replace("/", "-"))
            with contextlib.suppress(Timeout):
                if len(own) < count:
                    own |= {gpu: lock.acquire(blocking=False).lock}
        if len(own) < count:
            for lock in own.values():
                lock.release()
            return []
    _locks.extend(own.values())
    return list(own)
