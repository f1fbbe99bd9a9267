"""Image tables: encoded images with their provenance in Arrow files, read memory-mapped.

A table has the columns `image` (struct of `bytes` and `path`, as in Hugging Face datasets), `id`, `label` and any
others. An image without bytes is read in place, from the file at `path`, relative to the project root or absolute, or
from a row of an Arrow file that `datasets` keeps.
Arrow's file format instead of Parquet, because a random row of it is read without decoding its neighbors and without
holding the file in memory.
"""

import functools
import importlib
import io
import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from contamination.base import conversion
from contamination.base.files import whole_file
from contamination.base.layout import project_root

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SIZE = b"image_size"  # metadata of a table whose images are of many sizes: pixels per side in this study
BACKGROUND = b"background"  # metadata, too, where it is not white: the color on which transparency is laid
JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"  # what files begin with
HEIC, ANY_CODEC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), (b"mif1", b"msf1")
ROW = re.compile(r"(?P<file>.*\.arrow)#(?P<column>.+)=(?P<row>\d+)", re.DOTALL)  # a path as `row_path` gives it
RGB8 = b"\x08\x02"  # bits and color type in a PNG's header
DAMAGE = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error)  # what Pillow raises for it


def encode(pixels: np.ndarray) -> bytes:
    """One uint8 image (height, width, 3) as PNG. Real and generated images of a study both pass through here."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def resize(image, size: int | tuple[int, int]) -> np.ndarray:
    """A PIL image as uint8 (height, width, 3): the largest part in its center of that shape, by antialiased bicubic.

    size: pixels per side of a square, or height and width.
    One function for both sources: a different resampling would give generated images away.
    """
    from PIL import Image, ImageOps

    image = _as_rgb(_upright(image))
    height, width = (size, size) if isinstance(size, int) else size
    return np.asarray(ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC))


def write(path: Path, images: list[bytes], *, columns: dict, **metadata: str) -> None:
    """Write a table of images that it holds itself, whole or not at all.

    images: encoded bytes.
    metadata: strings kept in the file's schema, e.g. the fingerprint of what the content depends on.
    """
    image = pa.array([{"bytes": data, "path": None} for data in images], type=IMAGE)
    save(path, pa.table({"image": image, **columns}), kept=None, **metadata)


def in_place(paths: pa.Array) -> pa.Array:
    """The column `image` of images that are read in place. paths: relative to the project root, or absolute."""
    return pa.StructArray.from_arrays([pa.nulls(len(paths), pa.binary()), paths], fields=list(IMAGE))


def save(path: Path, table: pa.Table, *, kept: np.ndarray | None = None, **metadata: str) -> None:
    """Write any table as an Arrow file, whole or not at all. metadata: as in `write`.

    kept: which rows to write, bool; without it all. One batch after the other: the bytes of a million images, which a
    table may have mapped from disk, are never held in memory.
    """
    table = table.replace_schema_metadata(metadata or None)
    with whole_file(path) as scratch, pa.ipc.new_file(str(scratch), table.schema) as writer:
        if kept is None:
            return writer.write_table(table)
        start = 0
        for batch in table.to_batches():
            writer.write_batch(batch.filter(pa.array(kept[start : start + batch.num_rows])))
            start += batch.num_rows


def read(*paths: Path) -> pa.Table:
    """The rows of one or more image tables, memory-mapped: nothing is read before it is used.

    Of the metadata of the first table only what says how images are read is kept: `image_size` and `background`.
    """
    tables = []
    for path in paths:
        try:
            tables.append(pa.ipc.open_file(pa.memory_map(str(path))).read_all())
        except FileNotFoundError:
            raise FileNotFoundError(f"image table {path} is missing") from None
        except pa.ArrowInvalid as error:
            raise ValueError(f"image table {path} is damaged ({error}): delete it and make it again") from None
    known = tables[0].schema.metadata or {}
    table = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    return table.replace_schema_metadata({key: known[key] for key in (SIZE, BACKGROUND) if key in known} or None)


def take(table: pa.Table, rows) -> pa.Table:
    """Some rows of an image table, in their order. rows: integers (n,).

    Of images that the table holds itself nothing is copied. `Table.take` would first join all chunks of the column, and
    fails where they are more than 2 GiB.
    """
    if all(chunk.field("bytes").null_count == len(chunk) for chunk in table["image"].chunks):
        return table.take(rows)
    rows = np.asarray(rows)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
    return pa.concat_tables([table.slice(int(run[0]), len(run)) for run in runs]) if len(rows) else table.slice(0, 0)


def metadata(path: Path) -> dict[str, str]:
    """The strings kept in a table's schema; empty where the file is missing or damaged."""
    try:
        schema = pa.ipc.open_file(pa.memory_map(str(path))).schema
    except (FileNotFoundError, pa.ArrowInvalid):
        return {}
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}


def stored_size(table: pa.Table) -> int:
    """Pixels per side at which a study has the images of a table; they are stored so, unless they are read in place."""
    from PIL import Image

    size = (table.schema.metadata or {}).get(SIZE)
    return int(size) if size else Image.open(io.BytesIO(table["image"][0]["bytes"].as_py())).height


def background(images) -> str:
    """The color on which transparency is laid, of an image table or of what has one's metadata in `background`."""
    if isinstance(images, pa.Table):
        return (images.schema.metadata or {}).get(BACKGROUND, conversion.WHITE.encode()).decode()
    return images.background


def with_background(table: pa.Table, color: str) -> pa.Table:
    """The table with the color on which transparency of its images is laid."""
    others = {key: value for key, value in (table.schema.metadata or {}).items() if key != BACKGROUND}
    return table.replace_schema_metadata(others | ({BACKGROUND: color} if color != conversion.WHITE else {}) or None)


def data(image: dict, name: str) -> bytes:
    """The encoded bytes of one image, its own or those of its file.

    image: a row of the column `image`. Raises OSError naming image and file where that cannot be read; ValueError for a
    row without an image.
    """
    if image["bytes"] is not None:
        return image["bytes"]
    if image["path"] is None:
        raise ValueError(f"{name} has no image: remove its row")
    inside = ROW.fullmatch(image["path"])
    path = _placed(inside["file"] if inside else image["path"])
    try:
        return rows_of(path, inside["column"])[int(inside["row"])]["bytes"].as_py() if inside else path.read_bytes()
    except (pa.ArrowInvalid, KeyError, IndexError):
        raise ValueError(f"{name}: {path} no longer holds its image: delete images/ of the study's outputs") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # a file cut off has no number
        raise OSError(
            f"{name}: {path} cannot be read ({reason}): put it back, or run the study again without it"
        ) from None


def file_of(image: dict) -> Path | None:
    """The file that an image is, as a row of the column `image` has it; None where a table holds it."""
    return None if image["path"] is None or ROW.fullmatch(image["path"]) else _placed(image["path"])


def _placed(path: str) -> Path:
    return Path(path) if path.startswith("/") else project_root() / path  # the root is searched for each time


@functools.cache
def rows_of(file: Path, column: str) -> pa.ChunkedArray:
    """The images in an Arrow file of Hugging Face's `datasets`, memory-mapped."""
    return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()[column]


def row_path(file: Path, column: str, *, row: int) -> str:
    """The `path` of an image that is read in place from a row of such a file."""
    return f"{file}#{column}={row}"


def decode(data: bytes, size: int, *, name: str = "image", background: str = conversion.WHITE):
    """Decode to a uint8 tensor (3, size, size), RGB; resized only where the image has another size.

    background: as in `pixels`.
    Raises ValueError naming the image when it is empty, truncated, damaged or not an image.
    """
    try:
        found = pixels(data, background)
    except ValueError as error:
        raise ValueError(f"{name} cannot be decoded ({error}): replace or remove it") from None
    if found.shape[1:] == (size, size):
        return found
    import torch
    from PIL import Image

    return torch.from_numpy(resize(Image.fromarray(found.permute(1, 2, 0).numpy()), size).copy()).permute(2, 0, 1)


def decode_all(table: pa.Table, size: int):
    """All images of a table as one uint8 tensor (n, 3, size, size)."""
    import torch

    images = torch.empty((table.num_rows, 3, size, size), dtype=torch.uint8)
    ground = background(table)
    for row, (image, name) in enumerate(zip(table["image"], table["id"], strict=True)):
        images[row] = decode(data(image.as_py(), str(name)), size, name=str(name), background=ground)
    return images


def pixels(data: bytes, background: str = conversion.WHITE):
    """An image as uint8 tensor (3, height, width), RGB, of its own size and turned as its EXIF entry says.

    Of an animation the first frame; what has no 8-bit RGB becomes that as `conversion.to_rgb` says. JPEG and plain PNG
    are decoded by torchvision, small ones in half the time.
    background: the color on which transparency is laid.
    Raises ValueError, with nothing but the reason, when it is empty, truncated, damaged or not an image.
    """
    return noted_pixels(data, background)[0]


def noted_pixels(data: bytes, background: str = conversion.WHITE) -> tuple:
    """The same, and the `conversion.Notes` of what happened to the image on the way."""
    if not data:
        raise ValueError("the file is empty")
    if (data.startswith(JPEG) and not conversion.has_other_colors(data)) or _is_plain_png(data):
        import torch
        from torchvision.io import ImageReadMode

        try:
            content = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            # What `decode_image` calls; its warning, raised anew for each image, takes a tenth of a small image's time.
            return torch.ops.image.decode_image(content, ImageReadMode.RGB.value, True), conversion.Notes(0)
        except (RuntimeError, AttributeError):  # the latter where torchvision was built without decoders
            pass  # Pillow reads some of these, and has words for the others
    return _pixels_by_pillow(data, background)


def _is_plain_png(data: bytes) -> bool:
    """Whether it is a PNG as `encode` writes it, 8-bit RGB and nothing beside the pixels, whose check sums are right.

    A damaged PNG ends the process in torchvision 0.29, instead of an error. Chunks as in the PNG specification, 5.3.
    """
    kinds, place = [], len(PNG)
    while data.startswith(PNG) and place < len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if zlib.crc32(data[place + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            return False
        kinds.append(data[place + 4 : place + 8])
        place = end + 4
    return set(kinds) == {b"IHDR", b"IDAT", b"IEND"} and data[24:26] == RGB8


def _pixels_by_pillow(data: bytes, background: str = conversion.WHITE) -> tuple:
    import torch
    from PIL import Image, UnidentifiedImageError

    if is_heic(data):
        _register_heic()
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        bits = conversion.bits_of(image, data)  # before it is turned, which loses where it came from
        image, notes = conversion.to_rgb(_upright(image), bits, background)
    except UnidentifiedImageError:  # its own message has an address in it, another one every time
        raise ValueError(f"not an image, it begins with {data[:12]!r}") from None
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise ValueError(next(iter(str(error).splitlines()), "") or type(error).__name__) from None
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1), notes


def is_heic(data: bytes) -> bool:
    """Whether it is what telephones save: a box `ftyp` with one of these brands (ISO/IEC 23008-12, annex B)."""
    brand = data[8:12]
    return data[4:8] == b"ftyp" and (brand in HEIC or (brand in ANY_CODEC and HEIC[0] in data[16:64]))


def _register_heic() -> None:
    """Have Pillow read HEIC. Raises ValueError where the package for that is not installed."""
    try:
        package = importlib.import_module("pillow_heif")  # no requirement: few data sets have any
    except ImportError:
        raise ValueError("HEIC, which needs a package: pip install pillow-heif, or convert it") from None
    package.register_heif_opener()


def _upright(image):
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF, which photographs do have, does no harm to the pixels
        return image


def _as_rgb(image):
    from PIL import Image

    if image.mode.startswith("I;16"):  # of these convert would make white whatever is above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
