"""Real images: each kind of source gives the splits `pool`, `train` and `test`, written as image tables.

A kind is a module here, named in `KINDS`, that answers for itself. It has

- `check(data)`: raises ValueError for a `data` section that it cannot use, by its form alone;
- `require_apart(data)`: raises ValueError where two splits lie in one place;
- `offers(data)`: which of the columns label and caption every split really has;
- `listing(data, split, work)`: fingerprints of the files that a split depends on, for those that have a place;
- `load(data, work, workers, seed)`: for each split its columns and facts, and the names of the classes;
- `files_named(data)`: files and folders that it reads, as a plan looks for them;
- `class_sizes(data, place)`: images of each class of a split by names of files alone, and `class_count(data)`: how many
  classes; None where these do not tell; `class_folders(data)`: the classes, where folders are called after them;
- `sample(data)`: some files of real images, by which sizes are estimated;
- `OOD`: the module of its OOD test sets, or None; `FETCHED`: whether it may have to be fetched first;
  `FLAT_BACKGROUNDS`: whether its images have backgrounds of one color, so that a spectrum identifies them.

`data` is the section as a dictionary, without what is not given. Columns are image (read in place) or pixels, uint8
(n, size, size, 3), then id, label (class index) and caption. Tables of images that are read in place hold paths, and
`image_size` stands in their metadata. Out-of-distribution test sets have a column severity and no caption.
"""

import importlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from contamination.base import conversion, image_tables
from contamination.base.files import fingerprint, read_json, require
from contamination.base.layout import Layout
from contamination.sources import conversions, splitting, twins
from contamination.sources.places import SPLITS, given
from contamination.sources.readable_names import readable

KINDS = {"digits": "digits", "folders": "folders", "coco": "coco", "datasets": "hugging_face"}  # and their modules
COMPARED = ("image", "id", "label", "content_hash", "thumbnail", "notes")  # columns by which splits are compared
LEFT_OUT = {  # the facts of a table: what stands in the place of its images and is not in it
    "broken": "broken",
    "missing": "missing",
    "without_caption": "without caption",
    "captions_skipped": "captions of no image",
    "unmatched": "of no class of train",
    "unlisted": "not listed in the annotations",
    "beyond": "beyond per_class",
    "twins": "that are in another split too",
}


def kind(data: dict):
    """The module of the kind of source that a `data` section names."""
    return importlib.import_module(f"contamination.sources.{KINDS[data['source']]}")


def prepare(layout: Layout, data: dict, seed: int, workers: int = 1) -> dict[str, int]:
    """Write the three real image tables unless they are already there; return the number of images of each.

    data: the study's `data` section: `source`, `image_size`, and what the source needs. workers: processes that look
    for broken images.
    Raises ValueError when tables made with other parameters, or of other files, are there: everything downstream rests
    on them.
    """
    mark = _mark(layout, data, seed)
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


def _mark(layout: Layout, data: dict, seed: int) -> str:
    """What tables of these data carry, so that those of other data, of another seed or of changed files are known."""
    listings = {split: _listing(layout, data, split) for split in given(data)}
    return fingerprint({"data": data, "seed": seed} | ({"listing": listings} if listings else {}))


def train_sizes(layout: Layout, data: dict, seed: int) -> list[int] | None:
    """Slots of each class: of an up-to-date table, else by names of files; None where these do not tell."""
    table = layout.real("train")
    if table.exists() and image_tables.metadata(table).get("fingerprint") == _mark(layout, data, seed):
        return np.bincount(image_tables.read(table)["label"].to_numpy()).tolist()
    return sizes_by_name(data)


def sizes_by_name(data: dict) -> list[int] | None:
    """Slots of each class by names of files alone, without what is set apart of train; None where these do not tell."""
    sizes = kind(data).class_sizes(data, data.get("train"))
    if sizes is None:
        return None
    shares = splitting.shares(data).values()
    left = [size - sum(splitting.set_apart(share, size) for share in shares) for size in sizes]
    return [min(size, data.get("per_class") or size) for size in left]


def listing(layout: Layout, data: dict) -> dict[str, list[str] | str]:
    """What lies now in the files that a `data` section names: fingerprints for each split and OOD set.

    Where something is missing or cannot be read, the words for that: whoever needs the images says them. Empty for the
    digits, which depend on no file. For a tree that has not changed it takes one look at each of its folders.
    """
    found = {split: _or_words(_listing, layout, data, split) for split in given(data)}
    ood = (data.get("ood") or {}).items()
    return found | {f"ood {name}": _or_words(_listing_ood, layout, data, name, tree) for name, tree in ood}


def load(layout: Layout, data: dict, seed: int, workers: int = 1) -> tuple[dict[str, tuple], list[str]]:
    """For each split its columns, facts (see `LEFT_OUT`) and which rows it has (bool, None: all); and the class names.

    Keeps what is learned of the files beside the tables and writes nothing else. Arguments and errors as of `prepare`.
    """
    splits, names = kind(data).load(data, known(layout, data), workers, seed)
    columns, facts = splits["train"]
    kept = splitting.of_train(columns, names, data=data, seed=seed)
    if data.get("per_class"):
        facts["beyond"] = str(np.sum(~np.logical_or.reduce(list(kept.values()))))
    if "pool" not in splits and "pool" not in kept:  # nothing takes images from it
        kept["pool"] = np.zeros(len(columns["id"]), dtype=bool)
    # Of each split its own: the facts of one are not those of another that is a share of the same images.
    parts = {split: (*splits.get(split, (columns, {})), kept.get(split)) for split in SPLITS}
    if "content_hash" in columns:
        parts = _compared(parts, data, layout.real("train").parent / twins.LIST)
    return parts, names


def _compared(parts: dict[str, tuple], data: dict, record: Path) -> dict[str, tuple]:
    """The splits without twins, see `twins.settle`, and with what their fingerprints say among the facts."""
    tables = {split: pa.table({name: columns[name] for name in COMPARED}) for split, (columns, *_) in parts.items()}
    kept = {
        split: np.ones(tables[split].num_rows, bool) if part[2] is None else part[2] for split, part in parts.items()
    }
    rows = {split: np.flatnonzero(mask) for split, mask in kept.items()}
    compared = {split: twins.Part(tables[split], rows[split]) for split in SPLITS if len(rows[split])}
    policy, shares = data.get("twins", "refuse"), set(SPLITS) - set(given(data))
    stay, found = twins.settle(compared, record, policy=policy, of_train=shares)
    settled = {}
    for split, (columns, facts, _) in parts.items():
        seen = tables[split].select(["id", "notes"]).take(pa.array(rows[split]))
        converted = conversions.words(seen, data.get("background", conversion.WHITE))
        facts = facts | as_fact(remarks(facts) + found.get(split, []) + converted)
        lost = rows[split][~stay[split]] if split in stay else []
        if len(lost):
            facts |= {"shared" if policy == "count" else "twins": str(len(lost))}
        if len(lost) and policy == "drop":
            kept[split] = kept[split].copy()
            kept[split][lost] = False
        columns = {name: values for name, values in columns.items() if name not in ("thumbnail", "notes")}
        settled[split] = (columns, facts, None if kept[split].all() else kept[split])
    return settled


def remarks(facts: dict[str, str]) -> list[str]:
    """What else a reader should know of a split: files that are not used, conversions, images that look alike."""
    return json.loads(facts.get("remarks", "[]"))


def as_fact(remarks: list[str]) -> dict[str, str]:
    """The fact in which `remarks` finds these sentences; none where there are none."""
    return {"remarks": json.dumps(remarks, ensure_ascii=False)} if remarks else {}


def left_out(facts: dict[str, str]) -> str:
    """In words what a table does not have, and why; empty where nothing is left out."""
    counts = {words: int(facts.get(name, 0)) for name, words in LEFT_OUT.items()}
    return ", ".join(f"{count:,} {words}" for words, count in counts.items() if count)


def write_table(path: Path, columns: dict, *, kept: np.ndarray | None = None, **metadata: str) -> None:
    """Write columns as an image table, `pixels` among them, or `image` where they are read in place.

    kept: of images in place, which rows to write; bool, one for each.
    """
    if "image" in columns:
        return image_tables.save(path, pa.table(columns), kept=kept, **metadata)
    others = {name: values for name, values in columns.items() if name != "pixels"}
    return image_tables.write(
        path, [image_tables.encode(pixels) for pixels in columns["pixels"]], columns=others, **metadata
    )


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


def ood_sets(layout: Layout) -> list[str]:
    """Names of the study's OOD test sets."""
    return read_json(require(layout.ood_sets, "`contamination run`"))["sets"]


def offers(data: dict) -> set[str]:
    """Which of the columns label and caption the source really has in every split. Looks at folders, not at images."""
    return kind(data).offers(data)


def known(layout: Layout, data: dict) -> dict[str, Path]:
    """For each split with a place the folder of what is known of the files there: index, broken images."""
    return {split: layout.real(split).with_suffix("") for split in given(data)}


def _write(layout: Layout, data: dict, seed: int, workers: int, mark: str) -> None:
    splits, names = load(layout, data, seed, workers)
    common = {"fingerprint": mark, "class_names": json.dumps(names)}
    if data.get("background"):
        common |= {"background": data["background"]}
    if "image" in splits["train"][0]:
        common |= {"shown_names": json.dumps(_shown(names, data)), "image_size": str(data["image_size"])}
    for split, (columns, facts, kept) in splits.items():
        write_table(layout.real(split), columns, kept=kept, **common, **facts)


def _shown(names: list[str], data: dict) -> list[str]:
    """What people are shown as names of the classes; where two have one name, their folders stand behind it."""
    called = [found.name for found in readable(names, data.get("names") or "").values()]
    counts = Counter(called)
    return [f"{word} ({name})" if counts[word] > 1 else word for name, word in zip(names, called, strict=True)]


def _listing(layout: Layout, data: dict, split: str) -> list[str]:
    return kind(data).listing(data, split, known(layout, data)[split])


def _listing_ood(layout: Layout, data: dict, name: str, tree: str) -> list[str]:
    return kind(data).listing_ood(data, tree, layout.ood(name).with_suffix(""))


def _or_words(look: Callable, *arguments) -> list[str] | str:
    try:
        return look(*arguments)
    except (ValueError, OSError) as problem:
        return str(problem)
