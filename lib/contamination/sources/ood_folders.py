"""Out-of-distribution test sets as folder trees: all or some of the training set's classes, at any severities."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from contamination.base import conversion
from contamination.base.layout import project_root
from contamination.sources import as_fact, broken, conversions, folders, ignored
from contamination.sources import index as indexing


def names(data: dict) -> list[str]:
    return list(data.get("ood") or {})


def check(data: dict) -> None:
    """Raise ValueError or FileNotFoundError for a tree that cannot be an OOD set. Looks at folders alone."""
    for tree in (data.get("ood") or {}).values():
        folders.severities(tree, folders.class_names(data["train"]))


def sizes(data: dict) -> list[int | None]:
    """Images of each set, by names of files alone; None for one that is not there."""
    counted = (folders.class_sizes(data, tree) for tree in (data.get("ood") or {}).values())
    return [None if each is None else sum(each) for each in counted]


def load(name: str, data: dict, classes: list[str], work: Path, workers: int = 1, seed: int = 0) -> tuple[dict, dict]:
    """The columns of one OOD test set: image, id, label, severity (0 where there are none); and its facts.

    classes: of the training set. work: a folder that keeps what is known of the tree. See `folders.severities` for what
    that may hold.
    """
    background = data.get("background", conversion.WHITE)
    levels = folders.severities(data["ood"][name], classes)
    parts, broken_images, remarks = [], 0, []
    if set(levels) != {0}:  # each is a tree of its own, and something may lie beside them
        unused = indexing.unused_beside_folders(project_root() / data["ood"][name])
        remarks = [f"not used: {ignored.words(unused)}"] if unused else []
    for severity, (level, _) in levels.items():
        index = indexing.load(level, work / str(severity) / folders.INDEX)
        indexing.columns(index)  # names of files that no table can hold are refused before the long work
        labels = np.array([classes.index(each) for each in index.names], dtype=np.int32)
        index, left_out = broken.usable(
            index, work / str(severity), policy=data.get("broken", "refuse"), workers=workers, background=background
        )
        seen = broken.fingerprints_of(index, work / str(severity), background)
        remarks += [f"severity {severity}, {remark}" if severity else remark for remark in indexing.remarks(index)]
        part = indexing.columns(indexing.relabel(index, classes, labels=labels))
        part |= {"severity": np.full(index.images.num_rows, severity)}
        parts.append(pa.table(part | {name: seen[name] for name in ("content_hash", "notes")}))
        broken_images += left_out
    table = pa.concat_tables(parts)
    remarks += conversions.words(table, background)
    table = table.drop_columns("notes")
    facts = {"broken": str(broken_images), "image_size": str(data["image_size"])}
    facts |= {"background": background} if background != conversion.WHITE else {}
    return dict(zip(table.column_names, table.columns, strict=True)), facts | as_fact(remarks)
