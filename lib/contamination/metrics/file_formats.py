"""The file-format leakage check: do format, size and quantization alone give away the set of an image?

Where real images are JPEG and generated ones PNG, a detector can be perfect without having seen a picture.
The size in bytes is left out: it follows from the content.
"""

import hashlib
import io
import math
import struct

import numpy as np
import pandas as pd
import pyarrow as pa

from contamination.base import image_tables
from contamination.metrics.intervals import Interval, bootstrap_interval

FACTS = ["format", "width", "height", "mode", "chroma", "quantization", "step", "metadata"]


def facts(table: pa.Table) -> pd.DataFrame:
    """What the file of each image says of itself: one row per image of an image table, one column per fact.

    format: as Pillow calls it (PNG, JPEG, ...). width, height: pixels. mode: Pillow's, before any conversion.
    chroma: sampling factors of a JPEG's components (`2x2 1x1 1x1` is 4:2:0). quantization: hash of a JPEG's tables.
    Both are empty for other formats.
    step: greatest common divisor of the differences between an image's pixel values, channel by channel: 8 where they
    were reduced to 32 levels, 1 ordinarily. Content can raise it as well: an image of two colors has few differences,
    one of a single color has none, and 0 stands for that.
    metadata: sorted names, not values, of what Pillow finds beside the pixels; EXIF tags as `exif.<tag>`.
    Raises ValueError naming the image when it is truncated or not an image.
    """
    rows = [
        _read(image_tables.data(image.as_py(), str(name)), str(name))
        for image, name in zip(table["image"], table["id"], strict=True)
    ]
    return pd.DataFrame(rows, columns=FACTS)


def _read(data: bytes, name: str) -> dict:
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data))
        header = {"format": image.format, "width": image.width, "height": image.height, "mode": image.mode}
        image.load()  # before the metadata: a PNG may hold some behind its pixels
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error, Image.DecompressionBombError):
        raise ValueError(
            f"{name} cannot be decoded, it is truncated or not an image: replace it or remove its row"
        ) from None
    return header | _jpeg(image) | {"step": _step(image), "metadata": ",".join(_metadata(image))}


def _jpeg(image) -> dict:
    tables = getattr(image, "quantization", None)
    if not tables:
        return {"chroma": "", "quantization": ""}
    spelled = repr(sorted((number, list(values)) for number, values in tables.items()))
    sampling = " ".join(f"{across}x{down}" for _, across, down, _ in image.layer)
    return {"chroma": sampling, "quantization": hashlib.sha256(spelled.encode()).hexdigest()[:8]}


def _step(image) -> int:
    plain = image.mode in ("L", "RGB", "CMYK", "YCbCr") or image.mode.startswith("I")
    # Indices into a palette are no levels, and neither is opacity.
    pixels = np.asarray(image if plain else image.convert("RGBA").convert("RGB"))
    channels = pixels.reshape(image.width * image.height, -1).astype(np.int64).T
    return math.gcd(*(int(np.gcd.reduce(np.diff(np.unique(channel)))) for channel in channels))


def _metadata(image) -> list[str]:
    from PIL import ExifTags

    try:
        tags = list(image.getexif())
    except Exception:  # damaged EXIF, which photographs do have, does no harm to the pixels
        tags = []
    return sorted({*map(str, image.info), *(f"exif.{ExifTags.TAGS.get(tag, tag)}" for tag in tags)})


def audit(real: pd.DataFrame, generated: pd.DataFrame, *, fitting: np.ndarray, confidence: float = 0.95) -> dict:
    """How often a detector that knows nothing but the facts is right: a score with the facts that distinguished them.

    real, generated: tables of `facts`, row i of both for slot i. fitting: bool (slots,), the slots to learn from; the
    others are judged. The detector remembers how often each combination of facts was generated and goes with the
    more frequent. Where that does not tell, as for photographs no two of which have one size, each single fact votes
    in the same way. What is still open is a coin toss and counts as half right, so two sets of one format give
    exactly 0.5. An image of one color has no step and counts as ordinary there (1).

    Returns metric `file_format_accuracy`, value (0 to 1), n (slots judged), low, high, and `differing`: the facts with
    which alone the whole interval lies above 0.5. The interval is by bootstrap over slots, for the detector as it was
    learned. Raises ValueError when the sets have no row for each slot, or no slot is left to learn from or to judge.
    """
    fitting = np.asarray(fitting)
    if not len(real) == len(generated) == len(fitting) or fitting.dtype != bool:
        raise ValueError(
            f"{len(real)} real images, {len(generated)} generated ones and {len(fitting)} marks of slots (true or "
            "false): the audit needs one of each for every slot"
        )
    if fitting.all() or not fitting.any():
        raise ValueError(f"{fitting.sum()} of {len(fitting)} slots to learn from: give some, and leave some to judge")
    real, generated = (table[FACTS].replace({"step": {0: 1}}) for table in (real, generated))
    together = _verdicts(real, generated, fitting)
    alone = {fact: _verdicts(real[[fact]], generated[[fact]], fitting) for fact in FACTS}
    votes = np.sign(sum(alone.values()))
    accuracy = _accuracy(np.where(together == 0, votes, together), confidence)
    differing = [fact for fact, verdicts in alone.items() if _accuracy(verdicts, confidence).low > 0.5]
    return accuracy.score("file_format_accuracy") | {"differing": differing}


def _verdicts(real: pd.DataFrame, generated: pd.DataFrame, fitting: np.ndarray) -> np.ndarray:
    """What the combination of all columns says of each judged image: 1 generated, -1 real, 0 neither.

    int64 (2, judged slots), the real images first.
    """
    both = pd.concat([real, generated], ignore_index=True)
    kinds = both.groupby(list(both), dropna=False).ngroup().to_numpy().reshape(2, -1)
    seen = [np.bincount(kind, minlength=len(both)) for kind in kinds[:, fitting]]
    return np.sign(seen[1] - seen[0])[kinds[:, ~fitting]]


def _accuracy(verdicts: np.ndarray, confidence: float) -> Interval:
    """The share of images correctly classified, with its interval over slots."""
    right = (2 + verdicts[1] - verdicts[0]) / 4  # share of the two images of a slot
    # To draw from, one slot with both right and one with both wrong are added, in the manner of Agresti and Coull:
    # where all slots agree, the interval would have no width. Five values are possible, so instead of slots, of which
    # there may be a million, it is drawn how many have which value.
    values, slots = np.unique([*right, 0, 1], return_counts=True)
    drawn = np.random.default_rng(0).multinomial(slots.sum(), slots / slots.sum(), size=1000)
    return bootstrap_interval(
        [right.mean(), *(drawn @ values / slots.sum())], len(right), confidence=confidence, floor=0, ceiling=1
    )


def summary(**sets: pd.DataFrame) -> pd.DataFrame:
    """Which combinations of facts each set has and in how many images: per set the ten most frequent."""
    parts = []
    for name, table in sets.items():
        images = table.groupby(FACTS, sort=False, dropna=False).size().sort_values(ascending=False, kind="stable")
        parts.append(images.head(10).rename("images").reset_index().assign(set=name))
    return pd.concat(parts, ignore_index=True)[["set", *FACTS, "images"]]
