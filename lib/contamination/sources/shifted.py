"""Shifted test sets: what a study's classifiers are scored on beside the ordinary test set.

`python -m contamination.sources.shifted '{"outputs": ..., "data": ..., "seed": 0}'` writes them. A module of its own,
so that a change to it makes these sets anew and nothing that the models learn from.
"""

import json
import sys

from contamination.files import write_json
from contamination.layout import Layout
from contamination.sources import class_names, folders, shifted_digits, write_table


def names(data: dict) -> list[str]:
    """The shifted test sets that a `data` section asks for; the digits always have theirs."""
    return list(shifted_digits.NAMES) if data["source"] == "digits" else list(data.get("shifted") or {})


def check(data: dict) -> None:
    """Raise ValueError or FileNotFoundError for a tree that cannot be a shifted set. Looks at folders alone."""
    for tree in (data.get("shifted") or {}).values():
        folders.severities(tree, folders.class_names(data["train"]))


def prepare(layout: Layout, data: dict, seed: int) -> None:
    """Write the shifted test sets, and last the list of their names. The real image tables must be there."""
    for name in names(data):
        write_table(layout.shifted(name), _load(layout, name, data, seed))
    write_json(layout.shifted_sets, {"sets": names(data)})


def _load(layout: Layout, name: str, data: dict, seed: int) -> dict:
    if data["source"] == "digits":
        return shifted_digits.load(name, data["image_size"], seed)
    return folders.load_shifted(data["shifted"][name], class_names(layout), data["image_size"])


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    try:
        prepare(Layout(task["outputs"]), task["data"], task["seed"])
    except (ValueError, OSError) as problem:
        sys.exit(f"contamination: {problem}")
