"""Real images: each source gives the splits `pool`, `train` and `test`, written as image tables.

The digits are drawn here: per split a dict of columns, pixels uint8 (n, size, size, 3), label (class index), caption
and id, stored at one size in one codec. Images of folders and of COCO are read in place, where they are: their tables
hold paths, and `image_size` stands in the tables' metadata. Shifted test sets have a column severity and no caption.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from contamination.base import image_tables
from contamination.base.files import fingerprint, read_json, require
from contamination.base.layout import Layout, project_root
from contamination.sources import splitting
from contamination.sources.readable_names import readable

SPLITS = ("pool", "train", "test")
LEFT_OUT = {  # the facts of a table: what stands in the place of its images and is not in it
    "broken": "broken",
    "missing": "missing",
    "without_caption": "without caption",
    "captions_skipped": "captions of no image",
    "unmatched": "of no class of train",
    "unlisted": "not listed in the annotations",
    "beyond": "beyond per_class",
}


def prepare(layout: Layout, data: dict, seed: int, workers: int = 1) -> dict[str, int]:
    """Write the three real image tables unless they are already there; return the number of images of each.

    data: the study's `data` section: `source`, `image_size`, and what the source needs. workers: processes that look
    for broken images.
    Raises ValueError when tables made with other parameters, or of other files, are there: everything downstream rests
    on them.
    """
    listings = {} if data["source"] == "digits" else {split: _listing(layout, data, split) for split in given(data)}
    mark = fingerprint({"data": data, "seed": seed} | ({"listing": listings} if listings else {}))
    paths = {split: layout.real(split) for split in SPLITS}
    found = {image_tables.metadata(path).get("fingerprint") for path in paths.values() if path.exists()}
    if found - {mark, None}:
        raise ValueError(
            f"{layout.root} holds images of other data or another seed, or of folders that have changed since: use "
            "another outputs folder, or `contamination run`, which makes anew what depends on them"
        )
    if not all(image_tables.metadata(path).get("fingerprint") == mark for path in paths.values()):
        _write(layout, data, seed, workers, mark)
    return {split: image_tables.read(path).num_rows for split, path in paths.items()}


def listing(layout: Layout, data: dict) -> dict[str, list[str] | str]:
    """What lies now in the files that a `data` section names: fingerprints for each split and shifted set.

    Where something is missing or cannot be read, the words for that: whoever needs the images says them. Empty for the
    digits, which depend on no file. For a tree that has not changed it takes one look at each of its folders.
    """
    if data["source"] == "digits":
        return {}
    found = {split: _or_words(_listing, layout, data, split) for split in given(data)}
    shifted = (data.get("shifted") or {}).items()
    return found | {f"shifted {name}": _or_words(_listing_shifted, layout, data, name, tree) for name, tree in shifted}


def given(data: dict) -> list[str]:
    """The splits that a `data` section has a place for: all but a pool that is a share of train."""
    return [split for split in SPLITS if not isinstance(data.get(split), float)]


def require_apart(data: dict) -> None:
    """Raise ValueError where one split, or a shifted set and train or pool, lie in one place or one within the other.

    Whatever they are called: a test image must not have been learned from. COCO's splits are compared image by image.
    """
    if data["source"] not in ("folders", "datasets"):
        return
    splits = {split: data[split] for split in given(data)}
    learned = {split: place for split, place in splits.items() if split != "test"}
    pairs = list(itertools.combinations(splits.items(), 2))
    pairs += itertools.product(learned.items(), (data.get("shifted") or {}).items())
    for (first, one), (second, other) in pairs:
        if _overlap(one, other) if data["source"] == "folders" else _same_split(one, other):
            raise ValueError(f"data: {first} ({one}) and {second} ({other}) share images: name places that do not")


def _overlap(one: str, other: str) -> bool:
    first, second = ((project_root() / place).resolve() for place in (one, other))
    return first.is_relative_to(second) or second.is_relative_to(first)


def _same_split(one: str, other: str) -> bool:
    """Whether two splits of datasets are of one, unless each is another part of it, such as `train[:50%]`."""
    (first, part), (second, other_part) = (place.partition("[")[::2] for place in (one, other))
    return first == second and not (part and other_part and part != other_part)


def load(layout: Layout, data: dict, seed: int, workers: int = 1) -> tuple[dict[str, tuple], list[str]]:
    """For each split its columns, facts (see `LEFT_OUT`) and which rows it has (bool, None: all); and the class names.

    Keeps what is learned of the files beside the tables and writes nothing else. Arguments and errors as of `prepare`.
    """
    if data["source"] == "digits":
        from contamination.sources import digits

        splits = {split: (columns, {}, None) for split, columns in digits.load(data["image_size"], seed).items()}
        return splits, list(digits.CLASS_NAMES)
    splits, names = _source(data).load(data, known(layout, data), workers)
    columns, facts = splits["train"]
    kept = splitting.of_train(columns, names, data, seed)
    if data.get("per_class"):
        facts["beyond"] = str(np.sum(~np.logical_or.reduce(list(kept.values()))))
    splits = {"pool": (columns, {})} | splits
    return {split: (*splits[split], kept.get(split)) for split in SPLITS}, names


def left_out(facts: dict[str, str]) -> str:
    """In words what a table does not have, and why; empty where nothing is left out."""
    counts = {words: int(facts.get(name, 0)) for name, words in LEFT_OUT.items()}
    return ", ".join(f"{count:,} {words}" for words, count in counts.items() if count)


def write_table(path: Path, columns: dict, kept: np.ndarray | None = None, **metadata: str) -> None:
    """Write columns as an image table, `pixels` among them, or `image` where they are read in place.

    kept: of images in place, which rows to write; bool, one for each.
    """
    if "image" in columns:
        return image_tables.save(path, pa.table(columns), kept, **metadata)
    others = {name: values for name, values in columns.items() if name != "pixels"}
    return image_tables.write(path, [image_tables.encode(pixels) for pixels in columns["pixels"]], others, **metadata)


def class_names(layout: Layout) -> list[str]:
    """Names of the classes, by class index, as folders and results are called."""
    return json.loads(image_tables.metadata(layout.real("train"))["class_names"])


def shown_names(layout: Layout) -> list[str]:
    """The same for people: readable names where they are known, such as tench for n01440764."""
    return list(shown_as(layout).values())


def shown_as(layout: Layout) -> dict[str, str]:
    """The readable name of each class; empty where the image tables are missing."""
    found = image_tables.metadata(layout.real("train"))
    names = found.get("class_names", "[]")
    return dict(zip(json.loads(names), json.loads(found.get("shown_names", names)), strict=True))


def shifted_sets(layout: Layout) -> list[str]:
    """Names of the study's shifted test sets."""
    return read_json(require(layout.shifted_sets, "`contamination run`"))["sets"]


def offers(data: dict) -> set[str]:
    """Which of the columns label and caption the source really has in every split. Looks at folders, not at images."""
    if data["source"] == "digits":
        return {"label", "caption"}
    return _source(data).offers(data, given(data))


def known(layout: Layout, data: dict) -> dict[str, Path]:
    """For each split with a place the folder of what is known of the files there: index, broken images."""
    return {split: layout.real(split).with_suffix("") for split in given(data)}


def _write(layout: Layout, data: dict, seed: int, workers: int, mark: str) -> None:
    splits, names = load(layout, data, seed, workers)
    common = {"fingerprint": mark, "class_names": json.dumps(names)}
    if data["source"] != "digits":
        common |= {"shown_names": json.dumps(_shown(names, data)), "image_size": str(data["image_size"])}
    for split, (columns, facts, kept) in splits.items():
        write_table(layout.real(split), columns, kept, **common, **facts)


def _shown(names: list[str], data: dict) -> list[str]:
    """What people are shown as names of the classes; where two have one name, their folders stand behind it."""
    called = [found.name for found in readable(names, data.get("names") or "").values()]
    counts = Counter(called)
    return [f"{word} ({name})" if counts[word] > 1 else word for name, word in zip(names, called, strict=True)]


def _listing(layout: Layout, data: dict, split: str) -> list[str]:
    return _source(data).listing(data, split, known(layout, data)[split])


def _listing_shifted(layout: Layout, data: dict, name: str, tree: str) -> list[str]:
    from contamination.sources import folders

    return folders.listing_shifted(tree, folders.class_names(data["train"]), layout.shifted(name).with_suffix(""))


def _or_words(look: Callable, *arguments) -> list[str] | str:
    try:
        return look(*arguments)
    except (ValueError, OSError) as problem:
        return str(problem)


def _source(data: dict):
    """The module of a source whose images lie in files."""
    from contamination.sources import coco, folders, hugging_face

    return {"folders": folders, "coco": coco, "datasets": hugging_face}[data["source"]]
