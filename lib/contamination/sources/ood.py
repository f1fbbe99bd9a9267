"""Out-of-distribution test sets: what a study's classifiers are scored on beside the ordinary test set.

`python -m contamination.sources.ood '{"outputs": ..., "data": ..., "seed": 0}' WORKERS` writes them. A module of
its own, so that a change to it makes these sets anew and nothing that the models learn from. A kind of source names the
module of its sets (`OOD`), which has `names(data)`, `check(data)`, `sizes(data)` and `load(name, data, classes,
work, workers, seed)`: columns and facts of one set.
"""

import importlib
import json
import sys

import pyarrow as pa

from contamination.base import image_tables
from contamination.base.files import write_json
from contamination.base.layout import Layout
from contamination.sources import class_names, kind, twins, write_table


def names(data: dict) -> list[str]:
    """The OOD test sets that a `data` section asks for; the digits always have theirs."""
    return _maker(data).names(data) if _maker(data) else []


def check(data: dict) -> None:
    """Raise ValueError or FileNotFoundError for what cannot be an OOD set. Looks at folders alone."""
    if _maker(data):
        _maker(data).check(data)


def sizes(data: dict) -> list[int | None]:
    """Images of each set as far as names of files tell."""
    return _maker(data).sizes(data) if _maker(data) else []


def prepare(layout: Layout, data: dict, seed: int, workers: int = 1) -> None:
    """Write the OOD test sets, and last the list of their names. The real image tables must be there."""
    learned = {split: image_tables.read(layout.real(split)) for split in ("train", "pool")}
    for name in names(data):
        columns, facts = load(layout, name, data, class_names(layout), workers, seed)
        columns, facts = without_twins(name, columns, facts, learned=learned, policy=data.get("twins", "refuse"))
        write_table(layout.ood(name), columns, **facts)
    write_json(layout.ood_sets, {"sets": names(data)})


def load(
    layout: Layout, name: str, data: dict, classes: list[str], workers: int = 1, seed: int = 0
) -> tuple[dict, dict]:
    """The columns and facts of one set. classes: of the training set."""
    return _maker(data).load(name, data, classes, layout.ood(name).with_suffix(""), workers, seed)


def without_twins(name: str, columns: dict, facts: dict, *, learned: dict, policy: str) -> tuple[dict, dict]:
    """The columns and facts of a set without images that a study learns from.

    learned: tables of these. policy: as in `twins.leave_out`.
    """
    if "content_hash" not in columns:
        return columns, facts
    table = pa.table(columns)
    hit, counted = twins.leave_out(table, learned, policy=policy, name=f"OOD set {name}")
    if hit.all():
        raise ValueError(f"OOD set {name}: all its images are learned from: name another folder")
    left = table.filter(pa.array(~hit))
    return dict(zip(left.column_names, left.columns, strict=True)), facts | counted


def _maker(data: dict):
    """The module of a source's OOD sets, or None."""
    name = kind(data).OOD
    return importlib.import_module(f"contamination.sources.{name}") if name else None


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    try:
        prepare(Layout(task["outputs"]), task["data"], task["seed"], int(sys.argv[2]))
    except (ValueError, OSError) as problem:
        sys.exit(f"contamination: {problem}")
