"""Real images: each source gives the splits `pool`, `train` and `test`, written as image tables.

A source is a module that gives, per split, a dict of columns: pixels uint8 (n, size, size, 3), label (class index),
caption and id; class names; and any number of shifted test sets, with a column severity in place of the caption.
Every image is stored at one size in one codec.
"""

import json
from pathlib import Path

from contamination import store
from contamination.files import fingerprint, read_json, require
from contamination.layout import Layout

SPLITS = ("pool", "train", "test")


def prepare(layout: Layout, data: dict, seed: int) -> dict[str, int]:
    """Write the three real image tables unless they are already there; return the number of images of each.

    data: the study's `data` section: `source` (digits or folders), `image_size`, and for folders one path per split.
    Raises ValueError when tables made with other parameters are there: everything downstream rests on them.
    """
    mark = fingerprint({"data": data, "seed": seed})
    paths = {split: layout.real(split) for split in SPLITS}
    found = {store.metadata(path).get("fingerprint") for path in paths.values() if path.exists()}
    if found - {mark, None}:
        raise ValueError(f"{layout.root} holds images of other data or another seed: use another outputs folder")
    if not all(store.metadata(path).get("fingerprint") == mark for path in paths.values()):
        splits, class_names = _load(data, seed)
        for split, columns in splits.items():
            write_table(paths[split], columns, fingerprint=mark, class_names=json.dumps(class_names))
    return {split: store.read(path).num_rows for split, path in paths.items()}


def write_table(path: Path, columns: dict, **metadata: str) -> None:
    """Write columns, `pixels` among them, as an image table."""
    others = {name: values for name, values in columns.items() if name != "pixels"}
    store.write(path, [store.encode(pixels) for pixels in columns["pixels"]], others, **metadata)


def class_names(layout: Layout) -> list[str]:
    """Names of the classes, by class index."""
    return json.loads(store.metadata(layout.real("train"))["class_names"])


def shifted_sets(layout: Layout) -> list[str]:
    """Names of the study's shifted test sets."""
    return read_json(require(layout.shifted_sets, "`contamination run`"))["sets"]


def offers(data: dict) -> set[str]:
    """Which of the columns label and caption the source really has in every split. Looks at folders, not at images."""
    if data["source"] == "digits":
        return {"label", "caption"}
    from contamination.sources import folders

    return set.intersection(*(folders.offers(data[split]) for split in SPLITS))


def _load(data: dict, seed: int) -> tuple[dict[str, dict], list[str]]:
    if data["source"] == "digits":
        from contamination.sources import digits

        return digits.load(data["image_size"], seed), list(digits.CLASS_NAMES)
    from contamination.sources import folders

    return folders.load({split: data[split] for split in SPLITS}, data["image_size"])
