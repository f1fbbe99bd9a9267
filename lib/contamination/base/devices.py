"""The device a job computes on, and the number of threads it may use."""

import functools
import os

from contamination.base.gpus import take, visible


def start(threads: int, gpus: int = 1):
    """Take `threads` CPU threads and the best device there is: NVIDIA GPUs, an Apple one, or the CPU; return it.

    Of NVIDIA GPUs so many that no other job has are taken until this process ends, and printed; where all are in use
    this waits. `cuda` is then the first of them. A kernel of JupyterLab keeps its GPU until it is shut down.

    To be called before anything loads CUDA, which looks once at what it may see; `import diffusers` does load it.

    A job takes the cores its rule was given and no more: two jobs of two threads each on two cores are several times
    slower than two of one thread. Results on the CPU are the same for the same number of threads. A job on
    a GPU, whose results do not depend on it, has at most its GPUs' share of the cores, and leaves the others theirs.

    Raises ValueError where there are fewer GPUs than asked for, unless there are none.
    """
    there = _gpus_before()
    own = take(gpus)
    for gpu in own:
        print(f"GPU {gpu.number} {gpu.uuid}", flush=True)
    import torch

    torch.set_num_threads(share(threads, _cores(), gpus=len(own), of=there))
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@functools.cache  # later only its own are seen
def _gpus_before() -> int:
    return len(visible())


def share(threads: int, cores: int, *, gpus: int, of: int) -> int:
    """CPU threads of a job that has `gpus` GPUs `of` so many: no more than their share of the cores, 1 at least."""
    return min(threads, max(1, cores * gpus // of)) if of else threads


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> float:
    """The most memory that this process has held at one time, in GiB; without those that it has started."""
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)
