"""Real images from folder trees: one tree per split, in it one sub-folder per class."""

from pathlib import Path

import numpy as np

from contamination import store
from contamination.layout import project_root

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def load(trees: dict[str, str], size: int) -> tuple[dict[str, dict], list[str]]:
    """The columns of each split, and the class names (names of the sub-folders of `train`, sorted).

    Captions are `photo of {class name}`, underscores read as spaces. Raises ValueError or FileNotFoundError with the
    path in it for a missing tree, classes that differ between splits, a class without images, an unreadable image.
    """
    folders = {split: project_root() / tree for split, tree in trees.items()}
    names = {split: _class_names(folder) for split, folder in folders.items()}
    for split, found in names.items():
        if found != names["train"]:
            difference = sorted(set(found) ^ set(names["train"]))
            raise ValueError(
                f"{folders[split]} and {folders['train']} differ in their classes: {', '.join(difference)}"
            )
    return {split: _columns(folder, names["train"], size) for split, folder in folders.items()}, names["train"]


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: name a folder with one sub-folder per class")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if len(names) < 2:
        raise ValueError(f"{folder} has {len(names)} class folders: at least two are needed")
    return names


def _columns(folder: Path, names: list[str], size: int) -> dict:
    from tqdm import tqdm

    files, labels = [], []
    for label, name in enumerate(names):
        found = sorted(file for file in (folder / name).rglob("*") if file.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"class folder {folder / name} has no images ({', '.join(sorted(SUFFIXES))})")
        files += found
        labels += [label] * len(found)
    return {
        "id": [str(file.relative_to(folder)) for file in files],
        "pixels": np.stack([_read(file, size) for file in tqdm(files, desc=folder.name, unit="image")]),
        "label": np.array(labels),
        "caption": [f"photo of {names[label].replace('_', ' ')}" for label in labels],
    }


def _read(file: Path, size: int) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return store.resize(image, size)
    except OSError as error:  # PIL's unidentified and truncated images are both OSErrors
        raise ValueError(f"image {file} cannot be read ({error}): replace or remove it") from None
