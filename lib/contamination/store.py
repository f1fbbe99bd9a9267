"""Image tables: encoded images with their provenance in Arrow files, read memory-mapped.

A table has the columns `image` (struct of `bytes` and `path`, as in Hugging Face datasets), `id`, `label` and any
others. Arrow's file format instead of Parquet, because a random row of it is read without
decoding its neighbours and without holding the file in memory.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa

from contamination.files import whole_file

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encode(pixels: np.ndarray) -> bytes:
    """One uint8 image (height, width, 3) as PNG. Real and generated images of a study both pass through here."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def resize(image, size: int) -> np.ndarray:
    """A PIL image as uint8 (size, size, 3): shorter side to `size` by antialiased bicubic, then the centre square.

    One function for both sources: a different resampling would give generated images away.
    """
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image).convert("RGB")
    return np.asarray(ImageOps.fit(image, (size, size), method=Image.Resampling.BICUBIC))


def write(path: Path, images: list[bytes], columns: dict, **metadata: str) -> None:
    """Write an image table whole or not at all.

    images: encoded bytes.
    metadata: strings kept in the file's schema, e.g. the fingerprint of what the content depends on.
    """
    image = pa.array([{"bytes": data, "path": None} for data in images], type=IMAGE)
    table = pa.table({"image": image, **columns}).replace_schema_metadata(metadata or None)
    with whole_file(path) as scratch, pa.ipc.new_file(str(scratch), table.schema) as writer:
        writer.write_table(table)


def read(*paths: Path) -> pa.Table:
    """The rows of one or more image tables, memory-mapped: nothing is read before it is used."""
    tables = []
    for path in paths:
        try:
            tables.append(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
        except FileNotFoundError:
            raise FileNotFoundError(f"image table {path} is missing") from None
        except pa.ArrowInvalid as error:
            raise ValueError(f"image table {path} is damaged ({error}): delete it and make it again") from None
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


def metadata(path: Path) -> dict[str, str]:
    """The strings kept in a table's schema; empty where the file is missing or damaged."""
    try:
        schema = pa.ipc.open_file(pa.memory_map(str(path))).schema
    except (FileNotFoundError, pa.ArrowInvalid):
        return {}
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


def stored_size(table: pa.Table) -> int:
    """Pixels per side of a table's images, which are all of one size."""
    from PIL import Image

    return Image.open(io.BytesIO(table["image"][0]["bytes"].as_py())).height


def decode(data: bytes, size: int, name: str = "image"):
    """Decode to a uint8 tensor (3, size, size), RGB; resized only where the stored size differs.

    Raises ValueError naming the image when it is truncated or not an image.
    """
    import torch
    from torchvision.io import ImageReadMode, decode_image

    try:
        pixels = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
    except (RuntimeError, ValueError) as error:  # ValueError: no bytes at all
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} cannot be decoded ({reason}): replace it or remove its row") from None
    if pixels.shape[1:] == (size, size):
        return pixels
    from PIL import Image

    return torch.from_numpy(resize(Image.fromarray(pixels.permute(1, 2, 0).numpy()), size).copy()).permute(2, 0, 1)


def decode_all(table: pa.Table, size: int):
    """All images of a table as one uint8 tensor (n, 3, size, size)."""
    import torch

    identities = table["id"].to_pylist()
    images = table["image"].to_pylist()
    if not images:
        return torch.empty((0, 3, size, size), dtype=torch.uint8)
    return torch.stack(
        [decode(image["bytes"], size, str(name)) for image, name in zip(images, identities, strict=True)]
    )
