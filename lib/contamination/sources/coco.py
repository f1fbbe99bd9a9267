"""Real images with captions in the form of COCO, read in place: per split a folder of images and an annotation file.

The file is that of COCO's captions (`captions_train2017.json`): `images` with `id` and `file_name`, `annotations` with
`id`, `image_id` and `caption`. It says which images there are: other files of the folder are not of this split. Of the
captions of an image the first, by `id`, is its own, for prompts and training; a captioner is compared with all.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from types import UnionType

import numpy as np

from contamination.base.layout import project_root
from contamination.sources import folders, places
from contamination.sources import index as indexing
from contamination.sources.index import Index

FORM = "expected COCO's captions: images with id and file_name, annotations with id, image_id and caption"


OOD = None
FETCHED = FLAT_BACKGROUNDS = False


def check(data: dict) -> None:
    """Raise ValueError where a split is not a folder with an annotation file, or a key is of another kind of source."""
    places.require(data, "images and annotations", fits=lambda place: isinstance(place, dict))
    places.refuse(data, "ood", "mapping", instead="these are of source folders")
    places.refuse(data, "columns", instead="these are of source datasets")
    places.refuse(data, "names", instead="it has captions and no classes")


def require_apart(data: dict) -> None:
    """Splits are compared image by image, when they are read."""


def files_named(data: dict) -> list[str]:
    """What a plan looks for: folders and annotation files of all splits."""
    return [path for split in places.given(data) for path in data[split].values()]


def class_sizes(data: dict, place: dict) -> list[int] | None:
    """The images that the annotation file of a split lists, all of one class; None where there is no file."""
    annotations = project_root() / place["annotations"]
    return [len(json.loads(annotations.read_text())["images"])] if annotations.is_file() else None


def class_folders(data: dict) -> list[str]:
    """None: folders do not name the classes."""
    return []


def class_count(data: dict) -> int:
    return 1


def sample(data: dict) -> Iterator[Path]:
    """None: which images are of the split only the annotations tell."""
    return iter(())


def load(
    data: dict, work: dict[str, Path], workers: int = 1, seed: int = 0
) -> tuple[dict[str, tuple[dict, dict]], list[str]]:
    """For each split its columns and its facts, and the class names: all images are of one class, `image`.

    data: the `data` section. work: a folder for each split, which keeps what is known of its images.
    Columns: image, id, label, caption, captions. Facts: the strings `broken`, `missing` and `without_caption`, images
    left out since they are so; `captions_skipped`, captions of no image; `unlisted`, files that the annotations do not
    have. Raises ValueError or OSError with the path in it for what is missing or not of this form and, where
    `broken` is `refuse`, for any image or caption that would be skipped.
    """
    found = {split: _find(data, split, folder) for split, folder in work.items()}
    if data.get("twins", "refuse") == "refuse":  # at once: to decode the images may take hours
        _require_disjoint(found)
    return {
        split: folders.columns(found[split], data, work=work[split], defaults=[], workers=workers) for split in work
    }, ["image"]


def listing(data: dict, split: str, work: Path) -> list[str]:
    """What the columns of one split depend on beside the `data` section: fingerprints of its files."""
    annotations = project_root() / data[split]["annotations"]
    return [_index(data, split, work).fingerprint, indexing.hash_text(annotations, "annotation file")]


def offers(data: dict) -> set[str]:
    """Captions alone. Raises FileNotFoundError for a missing folder or annotation file, without looking into them."""
    for split in places.given(data):
        for what, place in data[split].items():
            if not (project_root() / place).exists():
                raise FileNotFoundError(f"{project_root() / place} is missing: name the {what} of {split}")
    return {"caption"}


def _find(data: dict, split: str, work: Path) -> folders.Found:
    policy, where = data.get("broken", "refuse"), project_root() / data[split]["annotations"]
    listed, strays = read_captions(where)
    _require(policy, strays, f"{where} has captions of images that it does not list")
    index, missing, unlisted = _listed(_index(data, split, work), listed)
    _require(policy, missing, f"{index.tree} lacks images that {where} lists")
    captions = {name: texts for name, texts in listed.items() if texts}
    counts = {"missing": len(missing), "captions_skipped": len(strays), "unlisted": unlisted}
    return folders.find(index, captions, policy=policy, where=where, **counts)


def _require_disjoint(found: dict[str, folders.Found]) -> None:
    """Raise ValueError where an image stands in two splits: what is tested must not have been seen."""
    files = {split: set(part.index.paths(np.arange(part.index.images.num_rows))) for split, part in found.items()}
    for one, other in itertools.combinations(files, 2):
        shared = files[one] & files[other]
        if shared:
            raise ValueError(
                f"{one} and {other} share {len(shared)} images ({min(shared)}): make them disjoint, or set "
                "data.twins to drop"
            )


def read_captions(file: Path) -> tuple[dict[str, list[str]], list[str]]:
    """The captions of each listed image by its file name, in the order of their ids, and captions of no listed image.

    Raises FileNotFoundError or ValueError naming the file, and where the form is wrong the entry.
    """
    content = _content(file)
    names = {_field(file, "images", image, "id", int | str): image for image in content["images"]}
    captions: dict = {identity: [] for identity in names}
    strays: list[str] = []
    for entry in sorted(content["annotations"], key=lambda entry: _field(file, "annotations", entry, "id", int)):
        text = _field(file, "annotations", entry, "caption", str)
        captions.get(_field(file, "annotations", entry, "image_id", int | str), strays).append(text)
    files = [_field(file, "images", image, "file_name", str) for image in names.values()]
    if len(set(files)) < len(content["images"]):
        raise ValueError(f"{file} lists an image twice: {len(content['images'])} entries, {len(set(files))} images")
    return dict(zip(files, captions.values(), strict=True)), strays


def _content(file: Path) -> dict:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise ValueError(f"{file} is not valid JSON ({error}): fetch it again") from None
    parts = [content.get(key) for key in ("images", "annotations")] if isinstance(content, dict) else []
    if not parts or not all(isinstance(part, list) for part in parts):
        raise ValueError(f"{file}: {FORM}")
    return content


def _field(file: Path, part: str, entry: object, key: str, kind: type | UnionType):
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"{file}, {part}: {str(entry)[:100]!r} has no proper {key}; {FORM}")
    return value


def _index(data: dict, split: str, work: Path) -> Index:
    return indexing.load(project_root() / data[split]["images"], work / folders.INDEX)


def _listed(index: Index, listed: dict[str, list[str]]) -> tuple[Index, list[str], int]:
    """The listed images of an index, all of one class; the names of those it lacks; the number of its other images."""
    paths = [path.decode(errors="surrogateescape") for path in index.images["path"].to_pylist()]
    wanted = np.array([path in listed for path in paths])
    missing = sorted(set(listed) - set(paths))
    labels = np.zeros(max(1, len(index.names)), dtype=np.int32)
    index = indexing.relabel(index, [], labels=labels)
    return (index if wanted.all() else indexing.keep(index, wanted)), missing, int((~wanted).sum())


def _require(policy: str, found: list[str], problem: str) -> None:
    """Raise ValueError for what is wrong unless it is to be skipped."""
    if found and policy == "refuse":
        raise ValueError(
            f"{problem}: {indexing.first([each[:80] for each in found])}; complete them, or choose to skip them "
            "(data.broken)"
        )
