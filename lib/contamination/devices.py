"""The device a job computes on, and the number of threads it may use."""


def start(threads: int):
    """Use `threads` CPU threads and return the best device there is: an NVIDIA or Apple GPU, or the CPU.

    A job takes the cores its rule was given and no more: two jobs of two threads each on two cores are several times
    slower than two of one thread. Results on the CPU are the same for the same number of threads.
    """
    import torch

    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def peak_memory() -> float:
    """The most memory that this process has held at one time, in GiB."""
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)
