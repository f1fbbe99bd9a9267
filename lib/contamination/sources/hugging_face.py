"""Real images from Hugging Face datasets: a name on the hub, or a folder that the package `datasets` reads.

A split is `NAME:SPLIT`, such as `pictures/mine:validation`; a folder holds what `save_to_disk` wrote, Parquet files
or whatever `load_dataset` takes. Columns: image, and label (by number or name) or caption (one text or several).
Images are read in place: from the Arrow files that the package keeps in its cache, or that `save_to_disk` wrote. Only
of a part of a split, such as `train[:50%]`, are the encoded bytes copied, as they are.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contamination.base import conversion, image_tables
from contamination.base.files import fingerprint
from contamination.base.layout import project_root
from contamination.sources import broken, places
from contamination.sources.index import first, hash_text
from contamination.sources.readable_names import readable

OOD = None
FETCHED, FLAT_BACKGROUNDS = True, False


def check(data: dict) -> None:
    """Raise ValueError where a split is not of the form NAME:SPLIT, or a key is of another kind of source."""
    places.require(data, "NAME or FOLDER, a colon, SPLIT", fits=lambda place: isinstance(place, str) and ":" in place)
    places.refuse(data, "ood", "mapping", instead="these are of source folders")


def require_apart(data: dict) -> None:
    """Raise ValueError where two splits are of one, unless each is another part of it, such as `train[:50%]`."""
    places.require_apart(data, _same_split)


def _same_split(one: str, other: str) -> bool:
    (first, part), (second, other_part) = (place.partition("[")[::2] for place in (one, other))
    return first == second and not (part and other_part and part != other_part)


def files_named(data: dict) -> list[str]:
    """What a plan looks for: a file of names. Whether a dataset is there, only the package can tell."""
    return [data["names"]] if data.get("names") else []


def class_sizes(data: dict, place: str) -> None:
    """Not known before the dataset is read."""


def class_folders(data: dict) -> list[str]:
    """None: folders do not name the classes."""
    return []


def class_count(data: dict) -> None:
    """Not known before the dataset is read."""


def sample(data: dict) -> Iterator[Path]:
    """No files of one image each."""
    return iter(())


def load(
    data: dict, work: dict[str, Path], workers: int = 1, seed: int = 0
) -> tuple[dict[str, tuple[dict, dict]], list[str]]:
    """For each split its columns and its facts, and the class names: as the dataset of `train` has them.

    data: the `data` section. Columns: image, id (number of the row), label, caption, and captions where the dataset has
    them. Without labels all images are of one class, `image`; without captions an image has `photo of {class}`.
    Facts: the string `broken`, images left out since they are so.
    Raises ValueError or OSError naming the split for what is missing, labels that `train` does not have, broken images.
    """
    found = {split: open_split(data[split], data.get("columns")) for split in work}
    names = _names(found["train"], data["train"]) or ["image"]
    return {split: _split(data, split, found[split], names, work[split], workers) for split in work}, names


def listing(data: dict, split: str, work: Path) -> list[str]:
    """What the columns of one split depend on beside the `data` section: of a folder its files, of the hub nothing."""
    folder = project_root() / data[split].partition(":")[0]
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []:
        found = file.stat()
        digest.update(f"{file.relative_to(folder)} {found.st_size} {found.st_mtime_ns}\n".encode(errors="replace"))
    return [
        digest.hexdigest()[:16],
        *([hash_text(project_root() / data["names"], "names")] if data.get("names") else []),
    ]


def offers(data: dict) -> set[str]:
    """Which of the columns label and caption the datasets have in every split."""
    return set.intersection(*({"label", "caption"} & set(_columns_of(data, split)) for split in places.given(data)))


def _columns_of(data: dict, split: str) -> list[str]:
    return open_split(data[split], data.get("columns")).column_names


def open_split(name: str, columns: dict[str, str] | None = None):
    """One split as a memory-mapped `datasets.Dataset` whose images stay encoded.

    columns: what image, label and caption are called there, where they are called otherwise.
    Raises ValueError or OSError in one line for a wrong name, a dataset that is not there, or one without images, and
    where the package is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise ValueError("source datasets needs the package datasets: pip install datasets") from None
    place, _, split = name.partition(":")
    folder = project_root() / place
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            found = datasets.load_from_disk(str(folder))
            dataset = found[split] if isinstance(found, dict) else found
        else:
            dataset = datasets.load_dataset(str(folder) if folder.is_dir() else place, split=split)
    except (OSError, ValueError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        if folder.is_dir() and set("[]*?") & set(str(folder)):
            reason = "to `datasets` a folder whose path has [ ] * or ? is a pattern: rename it"
        raise ValueError(
            f"dataset {name} cannot be loaded ({reason}): give NAME or FOLDER, a colon, SPLIT; one of the hub needs a "
            "network, and `hf auth login` where it is gated"
        ) from None
    missing = sorted(set((columns or {}).values()) - set(dataset.column_names))
    if missing:
        has = ", ".join(dataset.column_names)
        raise ValueError(f"dataset {name} has no column {', '.join(missing)} (data.columns): it has {has}")
    dataset = dataset.rename_columns({own: asked for asked, own in (columns or {}).items() if own != asked})
    if not {"image"} < set(dataset.column_names) or not {"label", "caption"} & set(dataset.column_names):
        raise ValueError(
            f"dataset {name} has the columns {', '.join(dataset.column_names)}: it needs image, and label or caption; "
            "data.columns says what they are called there"
        )
    return dataset.cast_column("image", datasets.Image(decode=False))


def _split(data: dict, split: str, dataset, names: list[str], work: Path, workers: int) -> tuple[dict, dict]:
    table, count = dataset.with_format("arrow")[:], dataset.num_rows
    images = _in_place(dataset, (data.get("columns") or {}).get("image", "image"))
    if images is None:
        images = pa.chunked_array([_own_or_in_place(part) for part in table["image"].chunks], image_tables.IMAGE)
    rows = pa.table({"image": images, "id": pa.array([f"row-{row}" for row in range(count)])})
    rows = rows.append_column("label", pa.array(_labels(dataset, table, names, data[split])))
    for name, column in _captions(table, rows["label"], names, data.get("names") or "").items():
        rows = rows.append_column(name, column)
    mark = fingerprint({"dataset": dataset._fingerprint, "listing": listing(data, split, work)})
    how = {"policy": data.get("broken", "refuse"), "background": data.get("background", conversion.WHITE)}
    kept, count = broken.usable_rows(rows, data[split], folder=work, mark=mark, workers=workers, **how)
    return dict(zip(kept.column_names, kept.columns, strict=True)), {"broken": str(count)}


def _in_place(dataset, column_name: str) -> pa.Array | None:
    """The column `image` where the rows are those of the dataset's Arrow files, one after another; None otherwise."""
    named = [Path(entry["filename"]) for entry in dataset.cache_files]
    files = {file: image_tables.rows_of(file, column_name) for file in named}
    if not files or sum(map(len, files.values())) != dataset.num_rows:
        return None  # a part of a split, or one that was made in memory
    start, rows = 0, dataset.with_format("arrow")
    for column in files.values():
        for row in (0, len(column) - 1):
            if column[row].as_py() != rows[start + row]["image"][0].as_py():
                return None  # in another order
        start += len(column)
    paths = [_row_paths(file, column_name, column) for file, column in files.items()]
    return image_tables.in_place(pa.chunked_array(paths).combine_chunks())


def _row_paths(file: Path, name: str, column: pa.ChunkedArray) -> pa.Array:
    """Where each image of an Arrow file is: in its row there, or in a file of its own."""
    root = project_root()
    place = file.relative_to(root) if file.is_relative_to(root) else file
    content, paths = (pc.struct_field(column, name) for name in ("bytes", "path"))
    rows = pa.array([image_tables.row_path(place, name, row=row) for row in range(len(column))], pa.string())
    return pa.chunked_array(pc.if_else(content.is_valid(), rows, paths.cast(pa.string()))).combine_chunks()


def _own_or_in_place(images: pa.StructArray) -> pa.Array:
    """The column `image` of a table: beside bytes no path, which there is but a name."""
    content, paths = (pc.struct_field(images, name) for name in ("bytes", "path"))
    paths = pc.if_else(content.is_valid(), pa.scalar(None, pa.string()), paths.cast(pa.string()))
    return pa.StructArray.from_arrays([content.cast(pa.binary()), paths], fields=list(image_tables.IMAGE))


def _names(dataset, name: str) -> list[str]:
    """The class names of a dataset, by class index; none where it has no labels."""
    if "label" not in dataset.column_names:
        return []
    feature = dataset.features["label"]
    names = getattr(feature, "names", None) or sorted(map(str, dataset.unique("label")))
    if len(names) < 2:
        raise ValueError(f"dataset {name} has {len(names)} classes: at least two are needed")
    return names


def _labels(dataset, table: pa.Table, names: list[str], name: str) -> np.ndarray:
    """The class of each row, int64. Raises ValueError for a class that is not among the names."""
    if "label" not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.int64)
    without = table["label"].null_count
    if without:
        raise ValueError(
            f"dataset {name}: {without} of {table.num_rows} images have no label: give them one or take them away"
        )
    own = getattr(dataset.features["label"], "names", None)
    called = [own[label] if own and label >= 0 else str(label) for label in table["label"].to_pylist()]
    unknown = sorted(set(called) - set(names))
    if unknown:
        raise ValueError(f"dataset {name} has labels that the training set has not: {first(unknown)}")
    position = {each: label for label, each in enumerate(names)}
    return np.array([position[each] for each in called], dtype=np.int64)


def _captions(table: pa.Table, labels: pa.ChunkedArray, names: list[str], names_file: str) -> dict:
    """The column caption, and captions where the dataset has them."""
    if "caption" not in table.column_names:
        called = readable(names, names_file)
        return {"caption": pa.array([f"photo of {called[name].name}" for name in names]).take(labels.combine_chunks())}
    captions = [[found] if isinstance(found, str) else found for found in table["caption"].to_pylist()]
    without = sum(not several or None in several for several in captions)
    if without:
        raise ValueError(f"{without} of {len(captions)} images have no caption: give them one or take them away")
    return {"caption": pa.array([several[0] for several in captions]), "captions": pa.array(captions)}
