"""Exports as others read them: what torchvision, timm, webdataset and `datasets` find in one, against its manifest."""

import importlib
import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

CLASSES = "classes.txt"  # timm's class map: without it timm numbers the classes that have images
INFO = "_info.json"  # what timm's reader of WebDataset shards looks for
DECODED = 64  # images that are decoded; timm decodes all that it reads of shards and Parquet files, and stops here


def require_readable(folder: Path, form: str, labels: np.ndarray) -> list[str]:
    """The readers that give back the images of an export with the class index that each has in the study.

    labels: of all images, in the order of the manifest. A reader that is not installed is left out.
    All are counted and all labels compared; of shards and Parquet files timm compares the first `DECODED`.
    Raises ValueError in one line where one finds other images or other labels.
    """
    found = []
    for package, reader in READERS[form]:
        if importlib.util.find_spec(package) is None:
            continue
        try:
            reader(folder, labels)
        except Exception as error:  # each reader complains in its own way
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{reader.__name__.strip('_').replace('_', ' ')} does not read the export as it was written "
                f"({type(error).__name__}: {reason}): nothing was kept; report this, with the versions of both"
            ) from None
        found.append(reader.__name__.strip("_").replace("_", " "))
    return found


def _require_equal(found: Iterable[int], wanted: np.ndarray) -> None:
    labels = np.fromiter(found, dtype=np.int64)
    if len(labels) != len(wanted):
        raise ValueError(f"{len(labels):,} of {len(wanted):,} images")
    if different := int(np.sum(labels != wanted)):
        raise ValueError(f"{different:,} of {len(wanted):,} images have another label")


# A folder for each class


def _torchvision(folder: Path, labels: np.ndarray) -> None:
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(folder, allow_empty=True)
    _require_files(folder, dataset.samples, labels, lambda row: dataset[row])


def _timm(folder: Path, labels: np.ndarray) -> None:
    from timm.data import create_dataset

    dataset = create_dataset("", str(folder), split="train", search_split=False, class_map=str(folder / CLASSES))
    _require_files(folder, dataset.reader.samples, labels, lambda row: dataset[row])


def _require_files(folder: Path, samples: list, labels: np.ndarray, decode: Callable[[int], object]) -> None:
    found = {Path(path).relative_to(folder).as_posix(): label for path, label in samples}
    with open(folder / "metadata.jsonl", encoding="utf-8") as listing:
        names = [json.loads(line)["file_name"] for line in listing]
    _require_equal((found[name] for name in names if name in found), labels)
    for row in np.unique(np.linspace(0, len(samples) - 1, DECODED).astype(int)) if samples else ():
        decode(int(row))


# WebDataset shards


def _webdataset(folder: Path, labels: np.ndarray) -> None:
    webdataset = importlib.import_module("webdataset")  # no requirement: asked for where it is installed

    shards = [str(shard) for shard in sorted(folder.glob("*.tar"))]
    samples = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).to_tuple("jpg;png", "cls")
    _require_equal((int(label) for _, label in samples), labels)


def _timm_with_webdataset(folder: Path, labels: np.ndarray) -> None:
    from timm.data import create_dataset

    if not len(labels):
        return  # timm reads no split without images
    dataset = create_dataset("wds/", str(folder), split="train", is_training=False, batch_size=1)
    if len(dataset) != len(labels):
        raise ValueError(f"{len(dataset):,} of {len(labels):,} images")
    _require_equal(_first_labels(dataset), labels[:DECODED])


def _first_labels(dataset: Iterable) -> Iterator[int]:
    return (int(label) for _, label in islice(dataset, DECODED))


# Parquet files


def _datasets(folder: Path, labels: np.ndarray) -> None:
    import datasets

    with tempfile.TemporaryDirectory() as cache:
        stream = datasets.load_dataset(str(folder), split="train", streaming=True, cache_dir=cache)
        raw = stream.cast_column("image", datasets.Image(decode=False))
        _require_equal((row["label"] for row in raw.select_columns(["image", "label"])), labels)
        for row in islice(stream, DECODED):
            row["image"].load()


def _timm_with_datasets(folder: Path, labels: np.ndarray) -> None:
    from timm.data import create_dataset

    with tempfile.TemporaryDirectory() as cache:
        dataset = create_dataset(f"hfids/{folder}", cache, split="train", is_training=False, num_samples=len(labels))
        _require_equal(_first_labels(dataset), labels[:DECODED])


READERS: dict[str, list[tuple[str, Callable[[Path, np.ndarray], None]]]] = {
    "folder": [("torchvision", _torchvision), ("timm", _timm)],
    "webdataset": [("webdataset", _webdataset), ("webdataset", _timm_with_webdataset)],
    "huggingface": [("datasets", _datasets), ("datasets", _timm_with_datasets)],
}
