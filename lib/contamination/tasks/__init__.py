"""The tasks that a mixture is judged by.

Each module offers `check(architecture)`, which refuses a wrong name before any work, and the same two functions:

- `train(recipe, images, classes, seed, device)` returns the trained torch module and its history;
- `evaluate(recipe, weights, images, classes, device)` returns scores and predictions.

`recipe` holds the parameters of 03_train, `images` an image table as `store.read` or `mixing.gather` gives it.
"""

import importlib


def load(name: str):
    """The module of a task, e.g. `classification`."""
    return importlib.import_module(f"contamination.tasks.{name}")
