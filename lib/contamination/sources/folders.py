"""Real images in folder trees, read in place: one tree per split, one sub-folder per class, captions from a file.

Captions stand in a `metadata.jsonl` at the top of a tree, as in Hugging Face's ImageFolder: one line per caption,
`{"file_name": "three/7.png", "text": "a red three"}`; or in a `metadata.csv` with these two columns. Of several
captions of an image the first is its own, for prompts and training; a captioner is compared with all of them. A tree
without class sub-folders has captions alone.
"""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from contamination.base import conversion
from contamination.base.files import sub_folders
from contamination.base.layout import project_root
from contamination.sources import as_fact, broken, caption_files, ignored, other_layouts, places
from contamination.sources import index as indexing
from contamination.sources.index import Index
from contamination.sources.readable_names import readable

INDEX = "index.arrow"
CAPTIONS = "metadata.jsonl"
OOD = "ood_folders"
FETCHED = FLAT_BACKGROUNDS = False


def check(data: dict) -> None:
    """Raise ValueError where a split is not a folder, or a key is of another kind of source."""
    places.require(data, "a folder", fits=lambda place: isinstance(place, str))
    places.refuse(data, "columns", instead="these are of source datasets")
    if data.get("mapping") and not isinstance(data["pool"], str):
        raise ValueError("mapping is of a pool of its own: a share of train has the classes of train")


def require_apart(data: dict) -> None:
    """Raise ValueError where one split, or an OOD set and train or pool, lie in one folder or one within the other.

    Whatever they are called: a test image must not have been learned from.
    """
    places.require_apart(data, _overlap)


def _overlap(one: str, other: str) -> bool:
    first, second = ((project_root() / place).resolve() for place in (one, other))
    return first.is_relative_to(second) or second.is_relative_to(first)


def load(
    data: dict, work: dict[str, Path], workers: int = 1, seed: int = 0
) -> tuple[dict[str, tuple[dict, dict]], list[str]]:
    """For each split its columns and its facts, and the class names (names of the sub-folders of `train`, sorted).

    data: the `data` section. work: a folder for each split, which keeps what is known of its tree.
    Columns: image, id, label, caption, and captions where the tree has a file of them. Without captions of its own an
    image has `photo of {class}`, see `class_names`. Without sub-folders all images are of one class, `image`.
    Facts: the strings `broken` and `without_caption`, images left out since they are so, and `unmatched`, images of the
    pool that are of no class of `train`.
    Raises ValueError or OSError with the path in it for a missing tree, classes that differ between splits, a class
    without images, broken images, images without caption.
    """
    indices = {split: _index(data[split], folder) for split, folder in work.items()}
    names = indices["train"].names
    called = readable(names, data.get("names") or "")
    found = {split: _find(data, split, index, names) for split, index in indices.items()}
    defaults = [f"photo of {called[name].name}" for name in names]
    return {
        split: columns(found[split], data, work=work[split], defaults=defaults, workers=workers) for split in work
    }, names or ["image"]


def listing(data: dict, split: str, work: Path) -> list[str]:
    """What the columns of one split depend on beside the `data` section: fingerprints of its files."""
    tree = project_root() / data[split]
    captions = [indexing.hash_text(file, "captions")] if (file := caption_files.file_of(tree)) else []
    others = [indexing.hash_text(project_root() / data[key], key) for key in ("names", "mapping") if data.get(key)]
    return [_index(data[split], work).fingerprint, *captions, *others]


def listing_ood(data: dict, tree: str, work: Path) -> list[str]:
    """The same for an OOD test set."""
    levels = severities(tree, class_names(data["train"]))
    return [indexing.load(level, work / str(severity) / INDEX).fingerprint for severity, (level, _) in levels.items()]


def severities(tree: str, names: list[str]) -> dict[int, tuple[Path, list[str]]]:
    """The folders of an OOD test set that hold class sub-folders, with these, by severity; 0 where there are none.

    A tree has as sub-folders all or some of the training set's classes, `names`; or severities 1, 2, ... with the
    classes in them, as in ImageNet-C. Raises ValueError for a class that the training set does not have.
    """
    folder = project_root() / tree
    inside = _sub_folders(folder)
    # Classes, too, may be called 1, 2, ...: severities have folders in them, classes have images.
    nested = bool(inside) and all(name.isdigit() and _sub_folders(folder / name) for name in inside)
    levels = {int(name): folder / name for name in inside} if nested else {0: folder}
    found = {severity: (level, _sub_folders(level)) for severity, level in levels.items()}
    for level, present in found.values():
        unknown = sorted(set(present) - set(names))
        if unknown or not present:
            raise ValueError(
                f"{level} has {indexing.first(unknown) or 'no class folders'}: not among the training classes"
            )
    return found


def offers(data: dict) -> set[str]:
    """Which of the columns label and caption the trees of all splits really have."""
    return set.intersection(*(_offered(data[split]) for split in places.given(data)))


def files_named(data: dict) -> list[str]:
    """What a plan looks for: the trees of all splits and OOD sets, and files of names."""
    trees = [data[split] for split in places.given(data)]
    return [
        *trees,
        *(data.get("ood") or {}).values(),
        *(data[key] for key in ("names", "mapping") if data.get(key)),
    ]


def class_sizes(data: dict, place: str) -> list[int] | None:
    """Images of each class of a tree by their names alone; None for one that is not there."""
    tree = project_root() / place
    return [sum(1 for _ in images_below(tree / name)) for name in sub_folders(tree) or [""]] if tree.is_dir() else None


def class_folders(data: dict) -> list[str]:
    return class_names(data["train"])


def class_count(data: dict) -> int | None:
    tree = project_root() / data["train"]
    return (len(sub_folders(tree)) or 1) if tree.is_dir() else None


def sample(data: dict) -> Iterator[Path]:
    """Files of real images, in no order; none where there is no tree."""
    tree = project_root() / data["train"]
    return map(Path, images_below(tree)) if tree.is_dir() else iter(())


def images_below(folder: Path | str) -> Iterator[str]:
    """The paths of the images below a folder, in no order, by their names alone: to look at each takes seven times as
    long."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if ignored.reason_of_place(name):
                continue
            if entry.is_dir():
                yield from images_below(entry.path)
            elif ignored.is_image_name(name) or (
                not ignored.has_ending(name) and ignored.holds_image(os.fsencode(entry.path))
            ):
                yield entry.path


def class_names(tree: str) -> list[str]:
    """The class sub-folders, at least two; none where the tree has captions and no sub-folders."""
    folder = project_root() / tree
    names = _sub_folders(folder)
    other_layouts.require_own(folder)
    if len(names) < 2 and not (not names and caption_files.file_of(folder)):
        raise ValueError(
            f"{folder} has {len(names)} class folders: at least two are needed, or a {CAPTIONS}"
            f"{other_layouts.hint(folder)}"
        )
    return names


class Found(NamedTuple):
    """A split before its images are decoded, which may take hours: all else that can be wrong is refused by then.

    captions: of each image, by path below the tree; None where there are none. facts: how many were left out, and why.
    remarks: what else lies in the tree, in words.
    """

    index: Index  # type: ignore[assignment]  # hides the method of tuples, which nobody calls
    captions: dict[str, list[str]] | None
    facts: dict[str, int]
    remarks: list[str]


def find(index: Index, captions: dict[str, list[str]] | None, *, policy: str, where: Path, **facts: int) -> Found:
    """An index and its captions, without the images that have none: these count as `without_caption`.

    policy: for images without caption, `refuse` or `skip`. where: the file of the captions, for the words. facts: what
    was left out before. Raises ValueError for images without caption, and for names of files that no table can hold.
    """
    paths = indexing.columns(index)["id"].to_pylist()
    missing = [path for path in paths if path not in captions] if captions is not None else []
    if missing and policy == "refuse":
        raise ValueError(
            f"{where} has no caption for {indexing.spell(missing[0])} ({len(missing)} in all): add them, remove "
            "the images, or choose to skip them (data.broken)"
        )
    if captions is not None and missing:
        index = indexing.keep(index, np.array([path in captions for path in paths]))
    return Found(index, captions, facts | {"without_caption": len(missing)}, indexing.remarks(index))


def columns(found: Found, data: dict, *, work: Path, defaults: list[str], workers: int) -> tuple[dict, dict[str, str]]:
    """The columns of the images that can be decoded, and the facts. defaults: caption of each class, without others."""
    background = data.get("background", conversion.WHITE)
    index, broken_images = broken.usable(
        found.index, work, policy=data.get("broken", "refuse"), workers=workers, background=background
    )
    table = indexing.columns(index)
    seen = broken.fingerprints_of(index, work, background)
    if found.captions is None:
        table["caption"] = pa.array(defaults).take(table["label"])
    else:
        table["captions"] = [found.captions[path] for path in table["id"].to_pylist()]
        table["caption"] = [several[0] for several in table["captions"]]
    table |= dict(zip(seen.column_names, seen.columns, strict=True))
    facts = found.facts | {"broken": broken_images}
    return table, {name: str(count) for name, count in facts.items()} | as_fact(found.remarks)


def _offered(tree: str) -> set[str]:
    found = {"label"} if class_names(tree) else set()
    return found | ({"caption"} if caption_files.file_of(project_root() / tree) else set())


def _index(tree: str, work: Path) -> Index:
    return indexing.load(project_root() / tree, work / INDEX)


def _sub_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        state = "no folder" if folder.exists() else "missing"
        raise FileNotFoundError(f"{folder} is {state}: name a folder with one sub-folder per class")
    return sub_folders(folder)


def _find(data: dict, split: str, index: Index, names: list[str]) -> Found:
    mapping = data.get("mapping") if split == "pool" else None
    matched = _in_classes(index, names, project_root() / data["train"], mapping)
    unmatched = index.images.num_rows - matched.images.num_rows
    captions = _captions(index.tree)
    return find(
        matched,
        captions,
        policy=data.get("broken", "refuse"),
        where=caption_files.file_of(index.tree) or index.tree,
        unmatched=unmatched,
    )


def _in_classes(index: Index, names: list[str], train: Path, mapping: str | None) -> Index:
    """The index with the classes of the training set. Raises ValueError where they do not match."""
    if mapping:
        known = indexing.class_mapping(project_root() / mapping)
        return indexing.relabel(index, names, labels=indexing.match_classes(names, index.names, mapping=known))
    if index.names != names:
        difference = sorted(set(index.names) ^ set(names))
        if len({unicodedata.normalize("NFC", name) for name in difference}) < len(difference):
            raise ValueError(
                f"{index.tree} and {train} spell a class with an accent in two ways, NFC and NFD: "
                f"{indexing.first(difference)}; give its folder in one the name that it has in the other"
            )
        raise ValueError(
            f"{index.tree} and {train} differ in their classes: {indexing.first(difference)}; make them the same, or "
            "give a mapping for the pool"
        )
    return index


def _captions(tree: Path) -> dict[str, list[str]] | None:
    """The captions, one or more, of each file; None where the tree has none at all."""
    return caption_files.read(tree) if caption_files.file_of(tree) else None
