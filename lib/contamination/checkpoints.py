"""Where an unfinished training stands, on disk, so that a job that was killed or ran out of time goes on from there."""

import copy
import time
from pathlib import Path

from contamination.files import fingerprint, whole_file
from contamination.sections import Machine

# What may be otherwise when a training goes on: how a machine does what the recipe says.
FREE = {*Machine.model_fields, "threads", "memory_gib"}


class Checkpoint:
    """One file for one training; it is whole or not there at all, and of another training it is not used.

    what: all that the training depends on, as JSON; of a recipe the fields named in `FREE` do not count.
    minutes: how long a training may run without being written down; 0: every step is.
    """

    def __init__(self, path: Path, what: dict, minutes: float):
        self.path, self.minutes = path, minutes
        self.key = fingerprint({name: value for name, value in what.items() if name not in FREE})
        self.started = self.written = time.monotonic()
        self.before = 0.0

    def load(self) -> dict | None:
        """What `save` has written, on the CPU; None where nothing is, or nothing that can be used."""
        import torch

        if not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)  # runs no code that a file may hold
            problem = "" if state.pop("key") == self.key else "is of another recipe, mixture or version"
        except Exception as error:  # torch raises whatever its reader meets in a damaged file
            problem = f"cannot be read ({' '.join(str(error).split())[:80]})"
        if problem:
            print(f"{self.path.name} {problem}: training starts anew")
            self.path.unlink()
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

        with whole_file(self.path) as scratch:
            torch.save(state | {"key": self.key, "seconds": self.seconds}, scratch)
        self.written = time.monotonic()
