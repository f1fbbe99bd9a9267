"""Imported sets: images that somebody else has generated, put into the slots of a study from where they lie.

A tree with the class sub-folders of `train` gives every slot an image of its class, each image at most once, chosen at
random. A tree without sub-folders gives a slot the file that is called as the slot's real image, whatever its ending:
`000000000139.png` for `000000000139.jpg`. An imported set has no prompts and no seeds: nothing is known of them here.
"""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contamination.base import conversion, image_tables
from contamination.base.files import fingerprint, hash_file, sub_folders
from contamination.base.layout import Layout, project_root
from contamination.mixtures import mixing
from contamination.sources import as_fact, broken, conversions, other_layouts, twins
from contamination.sources import index as indexing
from contamination.sources.index import Index, first, spell

INDEX = "index.arrow"


def index_of(layout: Layout, source: str, *, tree: str) -> Index:
    """The index of the tree behind a set. tree: relative to the project root, or absolute. Errors as `index.scan`."""
    return indexing.load(project_root() / tree, layout.imported(source) / INDEX)


def listing(layout: Layout, source: str, tree: str) -> str:
    """What lies now in a tree: a fingerprint, or where it cannot be read the words for that, for whoever needs it."""
    try:
        return index_of(layout, source, tree=tree).fingerprint
    except (ValueError, OSError) as problem:
        return str(problem)


def check(tree: str, classes: list[str]) -> None:
    """Raise FileNotFoundError or ValueError for a tree that is missing or lacks classes. Looks at one folder alone.

    classes: those of the training set; none where they are not known yet.
    """
    folder = project_root() / tree
    if not folder.is_dir():
        raise FileNotFoundError(f"{spell(str(folder))} is missing: name a folder of images that are already generated")
    inside = sub_folders(folder)
    if not set(classes) <= set(inside):  # else its folders are the classes, whatever they look like
        other_layouts.require_own(folder)
    if inside and classes:
        _require_classes(folder, inside, classes)


def candidates(index: Index, train: pa.Table, *, classes: list[str]) -> Index:
    """The images of a tree that slots may take. All that can be wrong is refused here, before any of them is decoded.

    train: the image table of the slots. classes: of the training set; images of other classes are left out.
    Raises ValueError for a class without images or with fewer than slots, a slot without file of its name, and names
    that no table can hold.
    """
    if index.names:
        _require_classes(index.tree, index.names, classes)
        index = indexing.relabel(index, classes, labels=indexing.match_classes(classes, index.names))
    rows = choose(index, train, classes=classes, seed=0)
    if not index.names:
        index = indexing.keep(index, np.isin(np.arange(index.images.num_rows), rows))
    indexing.columns(index)
    return index


def fill(
    index: Index,
    train: pa.Table,
    *,
    classes: list[str],
    seed: int,
    policy: str,
    work: Path,
    workers: int = 1,
    real: dict[str, pa.Table],
    twins_policy: str = "refuse",
) -> tuple[pa.Table, dict[str, str]]:
    """An image for every slot, as an image table in the order of the slots, and its facts.

    index: as `candidates` gives it; each image is decoded once, see `broken.usable` for policy and work.
    real: the real images by split, as `twins.common_rows` takes them; an image that is there too is not generated.
    twins_policy: for these, `refuse` raises ValueError, `drop` leaves them out, `count` leaves them in and gives their
    number as the fact `shared`.
    Columns: image (read in place), id (path below the tree), label and slot; size (bytes) and mtime_ns of the file.
    Facts: the strings broken and twins, images left out, and unused, images of these classes that no slot takes;
    remarks and background as of real images.
    """
    background = image_tables.background(train)
    usable, left_out = broken.usable(index, work, policy=policy, workers=workers, background=background)
    seen = broken.fingerprints_of(usable, work, background)
    about = pa.table(indexing.columns(usable) | {name: seen[name] for name in ("content_hash", "notes")})
    hit, facts = twins.leave_out(about, real, policy=twins_policy, name=f"generated set {spell(str(usable.tree))}")
    if hit.any():
        usable, about = indexing.keep(usable, ~hit), about.filter(pa.array(~hit))
    rows = choose(usable, train, classes=classes, seed=seed)
    columns = indexing.columns(usable) | {name: usable.images[name] for name in ("size", "mtime_ns")}
    taken = pa.table(columns).take(rows)
    of_slots = {"label": train["label"].cast(pa.int64()), "slot": np.arange(len(rows))}
    table = pa.table({name: taken[name] for name in ("image", "id", "size", "mtime_ns")} | of_slots)
    facts |= {"broken": str(left_out), "unused": str(usable.images.num_rows - len(rows))}
    facts |= {"background": background} if background != conversion.WHITE else {}
    return table, facts | as_fact([*indexing.remarks(usable), *conversions.words(about, background)])


def choose(index: Index, train: pa.Table, *, classes: list[str], seed: int) -> np.ndarray:
    """For each slot the row of the index whose image stands in it: int64 (slots,), each row at most once."""
    if not index.names:
        return _by_name(index, train["id"].to_pylist())
    labels, offered = train["label"].to_numpy(), index.images["label"].to_numpy()
    _require_enough(index.tree, classes, labels, offered)
    return mixing.partner(labels, offered, seed=seed)


def how(
    tree: str, index: Index, *, train: pa.Table, real: str, seed: int, image_size: int, policy: str, twins: str
) -> dict:
    """Everything on which an imported set depends, in words that JSON has, as `shards.claim` takes it.

    real: the fingerprint that the tables of real images have, with all of which those of the set are compared.
    """
    slots = fingerprint({"ids": train["id"].to_pylist(), "labels": train["label"].to_pylist()})
    asked = {"tree": tree, "listing": index.fingerprint, "image_size": image_size, "broken": policy}
    asked |= {"twins": twins, "real": real, "background": image_tables.background(train)}
    return asked | {"slots": slots, "seed": seed, "code": hash_file(Path(__file__))}


def changes(table: pa.Table) -> tuple[list[int], list[int]]:
    """The slots of an imported set whose files have vanished, and those whose files have another size or time now."""
    root = project_root()
    now = [_size_and_time(root / path) for path in pc.struct_field(table["image"], "path").to_pylist()]
    then = zip(table["size"].to_pylist(), table["mtime_ns"].to_pylist(), strict=True)
    other = [slot for slot, (before, after) in enumerate(zip(then, now, strict=True)) if before != after]
    return [slot for slot in other if now[slot] is None], [slot for slot in other if now[slot]]


def _size_and_time(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _require_classes(tree: Path, inside: list[str], classes: list[str]) -> None:
    missing, others = sorted(set(classes) - set(inside)), sorted(set(inside) - set(classes))
    if missing:
        raise ValueError(
            f"{spell(str(tree))} has no sub-folder for {len(missing)} of the {len(classes)} classes of train: "
            f"{first(missing)}; its other sub-folders: {first(others) or 'none'}; rename them, or name a tree without "
            "sub-folders, whose files are called as the images of train"
        )


def _require_enough(tree: Path, classes: list[str], labels: np.ndarray, offered: np.ndarray) -> None:
    needed, there = (np.bincount(each, minlength=len(classes)) for each in (labels, offered))
    short = np.flatnonzero(there < needed)
    if len(short):
        worst = short[np.argmin(there[short])]
        raise ValueError(
            f"{spell(str(tree))}: class {classes[worst]} has {needed[worst]} slots and only {there[worst]} images "
            f"({len(short)} of {len(classes)} classes have too few): set data.per_class to {there[worst]} or fewer"
        )


def _by_name(index: Index, slots: list[str]) -> np.ndarray:
    """The row of the file that is called as each slot's image."""
    wanted = [_stem(name) for name in slots]
    files = [_stem(os.fsdecode(path)) for path in index.images["path"].to_pylist()]
    asked = set(wanted)
    for names, where in (([name for name in files if name in asked], spell(str(index.tree))), (wanted, "train")):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(
                f"{where} has {len(twice)} names that more than one image bears ({spell(twice[0])}): which file is of "
                "which slot it belongs to is unknown; use class sub-folders"
            )
    row = {name: position for position, name in enumerate(files)}
    missing = [name for name in wanted if name not in row]
    if missing:
        raise ValueError(
            f"{spell(str(index.tree))} has no usable image called {spell(missing[0])}.* ({len(missing)} of "
            f"{len(wanted)} slots have none): a slot takes the file that is called as its real image; add them, or use "
            "class sub-folders"
        )
    return np.array([row[name] for name in wanted], dtype=np.int64)


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]  # a fifth of the time that pathlib takes, a million times
