"""Real images from folder trees: one tree per split, in it one sub-folder per class, captions where a file has them.

Captions stand in a `metadata.jsonl` at the top of a tree, as in Hugging Face's ImageFolder: one line per caption,
`{"file_name": "three/7.png", "text": "a red three"}`. Of several captions of an image the first is its own, for prompts
and training; a captioner is compared with all of them. A tree without class sub-folders has captions alone.
"""

import json
from pathlib import Path

import numpy as np

from contamination import store
from contamination.layout import project_root

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
CAPTIONS = "metadata.jsonl"


def load(trees: dict[str, str], size: int) -> tuple[dict[str, dict], list[str]]:
    """The columns of each split, and the class names (names of the sub-folders of `train`, sorted).

    Without captions of its own an image has `photo of {class name}`, underscores read as spaces. Without sub-folders
    all images are of one class, `image`. Raises ValueError or FileNotFoundError with the path in it for a missing
    tree, classes that differ between splits, a class without images, an unreadable image, an image without caption.
    """
    folders = {split: project_root() / tree for split, tree in trees.items()}
    names = {split: class_names(tree) for split, tree in trees.items()}
    for split, found in names.items():
        if found != names["train"]:
            difference = sorted(set(found) ^ set(names["train"]))
            raise ValueError(
                f"{folders[split]} and {folders['train']} differ in their classes: {', '.join(difference)}"
            )
    if not names["train"]:
        return {split: _uncategorised(folder, size) for split, folder in folders.items()}, ["image"]
    return {split: _columns(folder, names["train"], size) for split, folder in folders.items()}, names["train"]


def load_shifted(tree: str, names: list[str], size: int) -> dict:
    """The columns of one shifted test set: pixels, label, id, severity (0 where there are none).

    names: the classes of the training set. See `severities` for what a tree may hold.
    """
    parts = []
    for severity, (level, present) in severities(tree, names).items():
        part = _columns(level, present, size)
        labels = np.array([names.index(name) for name in present])[part["label"]]
        parts.append({"pixels": part["pixels"], "id": part["id"], "label": labels})
        parts[-1]["severity"] = np.full(len(labels), severity)
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def severities(tree: str, names: list[str]) -> dict[int, tuple[Path, list[str]]]:
    """The folders of a shifted test set that hold class sub-folders, with these, by severity; 0 where there are none.

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
            raise ValueError(f"{level} has {', '.join(unknown) or 'no class folders'}: not among the training classes")
    return found


def offers(tree: str) -> set[str]:
    """Which of the columns label and caption a tree really has."""
    found = {"label"} if class_names(tree) else set()
    return found | ({"caption"} if (project_root() / tree / CAPTIONS).is_file() else set())


def class_names(tree: str) -> list[str]:
    """The class sub-folders, at least two; none where the tree has captions and no sub-folders."""
    folder = project_root() / tree
    names = _sub_folders(folder)
    if len(names) < 2 and not (not names and (folder / CAPTIONS).is_file()):
        raise ValueError(f"{folder} has {len(names)} class folders: at least two are needed, or a {CAPTIONS}")
    return names


def _sub_folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: name a folder with one sub-folder per class")
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _columns(folder: Path, names: list[str], size: int) -> dict:
    files, labels = [], []
    for label, name in enumerate(names):
        found = _images(folder / name)
        if not found:
            raise ValueError(f"class folder {folder / name} has no images ({', '.join(sorted(SUFFIXES))})")
        files += found
        labels += [label] * len(found)
    captions = _captions(folder, files)
    if captions is None:
        captions = [[f"photo of {names[label].replace('_', ' ')}"] for label in labels]
    return _table(folder, files, labels, captions, size)


def _uncategorised(folder: Path, size: int) -> dict:
    files = _images(folder)
    if not files:
        raise ValueError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))})")
    return _table(folder, files, [0] * len(files), _captions(folder, files), size)


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def _captions(folder: Path, files: list[Path]) -> list[list[str]] | None:
    """The captions of each file, one or more; None where the tree has none at all."""
    if not (folder / CAPTIONS).is_file():
        return None
    found: dict[str, list[str]] = {}
    lines = (folder / CAPTIONS).read_text(encoding="utf-8").rstrip("\n").split("\n")  # captions may hold other breaks
    for number, line in enumerate(lines, start=1):
        try:
            name, text = (json.loads(line)[key] for key in ("file_name", "text"))
        except (ValueError, KeyError, TypeError):
            name = text = None
        if not isinstance(name, str) or not isinstance(text, str):
            raise ValueError(f'{folder / CAPTIONS}, line {number}: expected {{"file_name": "...", "text": "..."}}')
        found.setdefault(name, []).append(text)
    names = [file.relative_to(folder).as_posix() for file in files]
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{folder / CAPTIONS} has no caption for {missing[0]} ({len(missing)} in all)")
    return [found[name] for name in names]


def _table(folder: Path, files: list[Path], labels: list[int], captions: list[list[str]], size: int) -> dict:
    from tqdm import tqdm

    return {
        "id": [str(file.relative_to(folder)) for file in files],
        "pixels": np.stack([_read(file, size) for file in tqdm(files, desc=folder.name, unit="image")]),
        "label": np.array(labels),
        "caption": [several[0] for several in captions],
        "captions": captions,
    }


def _read(file: Path, size: int) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return store.resize(image, size)
    except OSError as error:  # PIL's unidentified and truncated images are both OSErrors
        raise ValueError(f"image {file} cannot be read ({error}): replace or remove it") from None
