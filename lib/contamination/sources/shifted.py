"""Shifted test sets: what a study's classifiers are scored on beside the ordinary test set.

`python -m contamination.sources.shifted '{"outputs": ..., "data": ..., "seed": 0}' WORKERS` writes them. A module of
its own, so that a change to it makes these sets anew and nothing that the models learn from.
"""

import json
import sys

from contamination.base.files import write_json
from contamination.base.layout import Layout
from contamination.sources import class_names, folders, shifted_digits, write_table


def names(data: dict) -> list[str]:
    """The shifted test sets that a `data` section asks for; the digits always have theirs."""
    return list(shifted_digits.NAMES) if data["source"] == "digits" else list(data.get("shifted") or {})


def check(data: dict) -> None:
    """Raise ValueError or FileNotFoundError for a tree that cannot be a shifted set. Looks at folders alone."""
    for tree in (data.get("shifted") or {}).values():
        folders.severities(tree, folders.class_names(data["train"]))


def prepare(layout: Layout, data: dict, seed: int, workers: int = 1) -> None:
    """Write the shifted test sets, and last the list of their names. The real image tables must be there."""
    for name in names(data):
        if data["source"] == "digits":
            columns, facts = shifted_digits.load(name, data["image_size"], seed), {}
        else:
            columns, facts = load(layout, name, data, class_names(layout), workers)
        write_table(layout.shifted(name), columns, **facts)
    write_json(layout.shifted_sets, {"sets": names(data)})


def load(layout: Layout, name: str, data: dict, classes: list[str], workers: int = 1) -> tuple[dict, dict]:
    """The columns and facts of one set of folders. classes: of the training set."""
    work = layout.shifted(name).with_suffix("")
    columns, facts = folders.load_shifted(data, data["shifted"][name], classes, work, workers)
    return columns, facts | {"image_size": str(data["image_size"])}


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    try:
        prepare(Layout(task["outputs"]), task["data"], task["seed"], int(sys.argv[2]))
    except (ValueError, OSError) as problem:
        sys.exit(f"contamination: {problem}")
