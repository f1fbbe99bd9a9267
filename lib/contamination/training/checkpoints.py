"""Where an unfinished training stands, on disk, so that a job that was killed or ran out of time goes on from there."""

import copy
import io
import os
import time
from pathlib import Path

from contamination.base.files import fingerprint, whole_file
from contamination.training.settings import RUNTIME_FIELDS


class Checkpoint:
    """One file for one training; it is whole or not there at all, and of another training it is not used.

    what: all that the training depends on, as JSON; of a recipe the fields in `settings.RUNTIME_FIELDS` do not count.
    minutes: how long a training may run without being written down; 0: every step is.
    """

    def __init__(self, path: Path, what: dict, minutes: float):
        self.path, self.minutes = path, minutes
        self.key = fingerprint({name: value for name, value in what.items() if name not in RUNTIME_FIELDS})
        self.started = self.written = time.monotonic()
        self.before = 0.0

    def load(self) -> dict | None:
        """What `save` has written, on the CPU; None where nothing is, or nothing that can be used.

        That is said, and the file kept aside. Raises OSError where the file is there and cannot be reached.
        """
        import torch

        if not self.path.exists():
            return None
        content = io.BytesIO(self.path.read_bytes())  # an error of the file system is none of the file's
        try:
            state = torch.load(content, map_location="cpu", weights_only=True)  # runs no code that a file may hold
            problem = "" if state.pop("key") == self.key else "is of another recipe, mixture or version"
        except Exception as error:  # torch raises whatever its reader meets in a damaged file
            problem = f"cannot be read ({' '.join(str(error).split())[:80]})"
        if problem:
            print(f"{self.path.name} {problem}: training starts anew")
            self.path.replace(self.path.with_suffix(".unusable"))
            return None
        self.before, self.started = state.pop("seconds"), time.monotonic()
        return state

    @property
    def seconds(self) -> float:
        """How long the training has run, earlier starts and this one."""
        return self.before + time.monotonic() - self.started

    def beside(self, name: str) -> "Checkpoint":
        """Another file for another training that depends on the same."""
        other = copy.copy(self)
        other.path = self.path.with_stem(f"{self.path.stem}-{name}")
        return other

    @property
    def due(self) -> bool:
        return time.monotonic() - self.written >= 60 * self.minutes

    def save(self, state: dict) -> None:
        """state: tensors, numbers, strings, and lists and dicts of them."""
        import torch

        with whole_file(self.path) as scratch, open(scratch, "wb") as stream:
            torch.save(state | {"key": self.key, "seconds": self.seconds}, stream)
            os.fsync(stream.fileno())  # the one before it is gone with this
        self.written = time.monotonic()
