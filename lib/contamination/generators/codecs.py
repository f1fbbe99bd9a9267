"""How images are stored: the file format of real ones, read off their headers, and the same for generated images."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from contamination.base import image_tables

PNG = {"format": "PNG"}
AS_REAL = {"format": "real"}  # JPEG as most of the real files are, where these are JPEG; else PNG
CODECS = {
    "PNG": set(),
    "JPEG": {"quality", "qtables", "subsampling", "progressive", "optimize"},
    "WEBP": {"quality", "lossless", "method"},
}


COLOR = ("RGB", "RGBA", "P")  # Pillow's modes


class FileFormat(NamedTuple):
    """How most of some image files are stored."""

    codec: dict  # as `encode` takes it
    size: tuple[int, int]  # the most frequent height and width in pixels
    share: float  # of the files that have exactly this codec, 0 to 1


def chosen(codec: dict, images: Sequence) -> dict:
    """The codec that generated images are stored with. images: the column `image` of the real ones.

    codec: as `encode` takes it, `AS_REAL`, or empty for `file_format_of` whatever the real files are.
    """
    if codec == AS_REAL:
        return _as_jpeg(images) or PNG
    return codec or file_format_of(images).codec


def _as_jpeg(images: Sequence) -> dict | None:
    """The codec of the real images where most are JPEG, of the gray ones where all are; None otherwise."""
    for modes in (COLOR, ("L",)):
        try:
            codec = file_format_of(images, modes=modes).codec
        except ValueError:  # none of these modes, or of a format that is not written
            continue
        return codec if codec["format"] == "JPEG" else None
    return None


def file_format_of(images: Sequence, limit: int = 1000, modes: tuple[str, ...] = COLOR) -> FileFormat:
    """The most frequent codec and size of real images, from the headers of `limit` of them, evenly spaced.

    images: the column `image` of an image table. modes: of the images that count, as Pillow calls them.

    A JPEG's quantization tables and chroma sampling say how it was stored; gray images are left out, for generated ones
    are in color. Raises ValueError when most are of a format that cannot be written in the same way.
    """
    from PIL import Image

    count = min(limit, len(images))
    chosen = [images[i * len(images) // count].as_py() for i in range(count)]
    found: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    for each in chosen:
        with Image.open(io.BytesIO(image_tables.data(each, "a real image"))) as image:
            if image.mode in modes:
                found[json.dumps(_codec(image), sort_keys=True)] += 1
                sizes[image.height, image.width] += 1
    if not found:
        raise ValueError("there is no color image among the real ones: give codec by hand")
    spelled, count = found.most_common(1)[0]
    codec = json.loads(spelled)
    require(codec)
    return FileFormat(codec, sizes.most_common(1)[0][0], count / len(chosen))


def _codec(image) -> dict:
    from PIL.JpegImagePlugin import get_sampling

    if image.format not in ("JPEG", "MPO"):
        return {"format": image.format}
    codec: dict = {"format": "JPEG", "qtables": [list(table) for _, table in sorted(image.quantization.items())]}
    if get_sampling(image) >= 0:
        codec["subsampling"] = get_sampling(image)
    return codec | ({"progressive": True} if image.info.get("progressive") else {})


def require(codec: dict) -> None:
    """Raise ValueError in one line for a codec that images cannot be stored with."""
    if codec == AS_REAL:
        return
    options = {key: value for key, value in codec.items() if key != "format"}
    if codec.get("format") not in CODECS:
        raise ValueError(f"codec: format {codec.get('format')} is not known: give one of {', '.join(CODECS)}")
    unknown = set(options) - CODECS[codec["format"]]
    if unknown:  # Pillow would not mind
        allowed = ", ".join(sorted(CODECS[codec["format"]])) or "nothing"
        raise ValueError(f"codec: {codec['format']} does not take {', '.join(sorted(unknown))}; it takes {allowed}")
    if codec["format"] == "WEBP" and not set(options) & {"quality", "lossless"}:
        raise ValueError("codec: WEBP needs quality or lossless, which a file's header does not tell")
    try:
        encode(np.zeros((16, 16, 3), dtype=np.uint8), codec)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ValueError(f"codec: {codec} cannot be used ({type(error).__name__}: {error})") from None


def encode(pixels: np.ndarray, codec: dict) -> bytes:
    """One uint8 image (height, width, 3) in a codec: `format` as Pillow calls it, and what Pillow's `save` takes.

    JPEG: quality, or qtables and subsampling as a file's header has them. PNG alone is what
    `image_tables.encode` writes.
    """
    from PIL import Image

    if codec == PNG:
        return image_tables.encode(pixels)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, **codec)
    return stream.getvalue()


def pixel_hash(pixels: np.ndarray) -> str:
    """SHA-256 of a uint8 image (height, width, 3), the first 16 hexadecimal digits; the same in every codec."""
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:16]


def bytes_hash(data: bytes | memoryview) -> str:
    """SHA-256 of a stored image, the first 16 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:16]
