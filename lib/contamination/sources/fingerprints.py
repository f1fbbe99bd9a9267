"""What is kept of each image that was decoded: a hash of its pixels, a small picture, and what happened on the way."""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from contamination.base import image_tables
from contamination.base.conversion import Notes

SIDE = 8  # of the small picture, in pixels
COLUMNS = {"content_hash": pa.binary(16), "thumbnail": pa.binary(SIDE * SIDE * 3), "notes": pa.uint8()}
READING = "2"  # of what is kept: another one where any image would be decoded to other pixels


class Fingerprint(NamedTuple):
    """content_hash: of the pixels at their own size, 128 bits of XXH3: the same for every copy, whatever the format.
    thumbnail: 8x8 pixels of red, green, blue. notes: as `conversion.Notes`.
    """

    content_hash: bytes
    thumbnail: bytes
    notes: int


def of(data: bytes, background: str) -> Fingerprint:
    """The fingerprint of an encoded image. Raises ValueError with the reason where it cannot be decoded."""
    import xxhash

    pixels, notes = image_tables.noted_pixels(data, background)
    _, height, width = pixels.shape
    rows = pixels.permute(1, 2, 0).numpy()  # as they were decoded: in the place of the others nothing is copied
    digest = xxhash.xxh3_128_digest(rows if rows.flags.c_contiguous else rows.tobytes(), seed=height * 2**32 + width)
    small = _thumbnail(pixels)
    if len(set(small)) <= 6 and (rows == rows[0, 0]).all():  # three channels, each rounded to one of two levels
        notes |= Notes.ONE_COLOR
    return Fingerprint(digest, small, int(notes))


def _thumbnail(pixels) -> bytes:
    """8x8 pixels of red, green, blue, row by row. pixels: uint8 tensor (3, height, width)."""
    import torch

    # What `interpolate` calls, without its checks, which take as long again for a small image; both take a fifth of
    # the time that Pillow does, for pixels lie here as they were decoded.
    small = torch.ops.aten._upsample_bilinear2d_aa(pixels[None], [SIDE, SIDE], False)
    return small[0].permute(1, 2, 0).numpy().tobytes()


def table(found: Sequence[Fingerprint]) -> pa.Table:
    """The columns `COLUMNS`, a row for each."""
    parts = zip(*found, strict=True) if found else ([], [], [])
    return pa.table({name: pa.array(part, kind) for (name, kind), part in zip(COLUMNS.items(), parts, strict=True)})
