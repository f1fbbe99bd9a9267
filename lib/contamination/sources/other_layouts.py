"""Folders in the layout of another tool, recognized before their folders are taken for classes."""

import re
from pathlib import Path

from contamination.base.files import sub_folders

SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"}
OF_DETECTION = {"images", "labels", "annotations", "masks", "jpegimages", "imagesets", "segmentationclass"}
DATASETS = "use data.source datasets with FOLDER:SPLIT"
FILES = {  # what lies in a folder without images: whose it is and what reads it
    ".tar": f"WebDataset's shards: {DATASETS}, and data.columns such as {{image: jpg, label: cls}}",
    ".parquet": f"Parquet files: {DATASETS}",
    ".arrow": f"what `datasets` saves: {DATASETS}",
    ".tfrecord": "TensorFlow's records: write their images as files, one sub-folder per class",
    ".mdb": "an LMDB database: write its images as files, one sub-folder per class",
    ".npz": "NumPy arrays: write their images as files, one sub-folder per class",
    ".zip": "archives: unpack them",
}


def require_own(tree: Path) -> None:
    """Raise ValueError for a tree whose sub-folders are not classes, with what it is and what to do. Looks at names.

    A tree that is missing is no error here.
    """
    if not tree.is_dir():
        return
    names = sub_folders(tree)
    lowered = {name.lower() for name in names}
    if names and lowered <= SPLITS:
        raise ValueError(f"{tree} holds splits ({', '.join(names)}), not classes: name one of them for each split")
    if "annotations" in lowered and any(re.fullmatch(r"(train|val|test)\d{4}", name) for name in lowered):
        raise ValueError(
            f"{tree} is laid out like COCO (annotations beside {', '.join(sorted(lowered - {'annotations'}))}): use "
            "data.source coco with {images: FOLDER, annotations: FILE}"
        )
    if len(names) > 1 and lowered <= OF_DETECTION:
        raise ValueError(
            f"{tree} is laid out for object detection or segmentation ({', '.join(names)}), not in classes: give a "
            "tree with one sub-folder per class, or use data.source coco"
        )
    if _is_of_img2dataset(tree, names):
        raise ValueError(
            f"{tree} holds shards of a download ({names[0]}, ..., as img2dataset writes them), not classes: download "
            f"with --output_format webdataset or parquet and {DATASETS}, or sort the images into one sub-folder per "
            "class"
        )


def hint(folder: Path) -> str:
    """What else lies in a folder without images, and what to do, to end a sentence; empty where it is nothing known."""
    found = {file.suffix.lower() for pattern in ("*", "*/*") for file in folder.glob(pattern)}
    return next((f"; it holds {words}" for suffix, words in FILES.items() if suffix in found), "")


def _is_of_img2dataset(tree: Path, names: list[str]) -> bool:
    """Shards are numbered, and have statistics beside them or a .json beside each image."""
    if not names or not all(re.fullmatch(r"\d{5,}", name) for name in names):
        return False
    if any((tree / f"{name}{ending}").exists() for name in names for ending in ("_stats.json", ".parquet")):
        return True
    inside = {file.name for file in (tree / names[0]).iterdir()}
    images = [name for name in inside if re.fullmatch(rf"{names[0]}\d+\.(jpe?g|png|webp)", name)]
    return bool(images) and all(f"{name.rpartition('.')[0]}.json" in inside for name in images)
