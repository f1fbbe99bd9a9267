"""Real images: each source gives the splits `pool`, `train` and `test`, written as image tables.

A source is a module that gives, per split, a dict of columns: pixels uint8 (n, size, size, 3), label (class index),
caption and id; class names; and any number of shifted test sets, with a column severity in place of the caption.
Every image is stored at one size in one codec.
"""

import json
from pathlib import Path

from contamination import store
from contamination.files import fingerprint, read_json, require, write_json
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
            _write(paths[split], columns, fingerprint=mark, class_names=json.dumps(class_names))
    return {split: store.read(path).num_rows for split, path in paths.items()}


def prepare_shifted(layout: Layout, data: dict, seed: int) -> None:
    """Write the shifted test sets, and last the list of their names. The real image tables must be there."""
    sets = {name: _load_shifted(layout, name, data, seed) for name in shifted_names(data)}
    for name, columns in sets.items():
        _write(layout.shifted(name), columns)
    write_json(layout.shifted_sets, {"sets": list(sets)})


def _write(path: Path, columns: dict, **metadata: str) -> None:
    others = {name: values for name, values in columns.items() if name != "pixels"}
    store.write(path, [store.encode(pixels) for pixels in columns["pixels"]], others, **metadata)


def class_names(layout: Layout) -> list[str]:
    """Names of the classes, by class index."""
    return json.loads(store.metadata(layout.real("train"))["class_names"])


def shifted_sets(layout: Layout) -> list[str]:
    """Names of the study's shifted test sets."""
    return read_json(require(layout.shifted_sets, "`contamination run`"))["sets"]


def shifted_names(data: dict) -> list[str]:
    """The shifted test sets that a `data` section asks for; the digits always have theirs."""
    if data["source"] == "digits":
        from contamination.sources import digits

        return digits.shifted_names()
    return list(data.get("shifted") or {})


def offers(data: dict) -> set[str]:
    """Which of the columns label and caption the source really has. Looks at folders, not at images."""
    if data["source"] == "digits":
        return {"label", "caption"}
    from contamination.sources import folders

    return folders.offers(data["train"])


def _load(data: dict, seed: int) -> tuple[dict[str, dict], list[str]]:
    if data["source"] == "digits":
        from contamination.sources import digits

        return digits.load(data["image_size"], seed), list(digits.CLASS_NAMES)
    from contamination.sources import folders

    return folders.load({split: data[split] for split in SPLITS}, data["image_size"])


def _load_shifted(layout: Layout, name: str, data: dict, seed: int) -> dict:
    if data["source"] == "digits":
        from contamination.sources import digits

        return digits.load_shifted(name, data["image_size"], seed)
    from contamination.sources import folders

    return folders.load_shifted(data["shifted"][name], class_names(layout), data["image_size"])
