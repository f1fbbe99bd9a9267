"""How images are stored: what real files' headers tell, and the same for generated ones."""

import io

import numpy as np
import pyarrow as pa
import pytest
from contamination.base import image_tables
from contamination.generators import codecs
from PIL import Image
from PIL.JpegImagePlugin import get_sampling

JPEGS = [{"quality": 95}, {"quality": 75, "subsampling": 0}, {"quality": 30, "subsampling": 1, "progressive": True}]


def photographs(folder, count, **options):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(folder / f"{number}.jpg", **options)
    return sorted(folder.iterdir())


def column(files):
    """Files as the column `image` of a table that reads them in place."""
    return image_tables.in_place(pa.array([str(file) for file in files]))


@pytest.mark.parametrize("options", JPEGS)
def test_generated_images_are_stored_with_the_very_tables_of_the_real_ones(project, options):
    files = photographs(project / "real", 5, format="JPEG", **options)
    Image.new("RGB", (24, 32)).save(project / "real" / "odd.png")
    found = codecs.file_format_of(column([*files, project / "real" / "odd.png"]))
    assert found.size == (24, 32) and found.share == 5 / 6
    stored = Image.open(io.BytesIO(codecs.encode(np.zeros((16, 16, 3), dtype=np.uint8), found.codec)))
    with Image.open(files[0]) as real:
        assert stored.quantization == real.quantization
        assert get_sampling(stored) == get_sampling(real)
        assert stored.info.get("progressive") == real.info.get("progressive")
        assert (stored.format, stored.info.keys()) == (real.format, real.info.keys())


def test_few_files_of_many_are_looked_at_and_the_most_frequent_wins(project):
    files = photographs(project / "real", 30, format="JPEG", quality=90)
    for file in files[::4]:
        file.write_bytes(b"never read")
    even = [file for number, file in enumerate(files) if number % 4]
    assert codecs.file_format_of(column(even), limit=7).share == 1


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        ({"format": "GIF"}, "codec: format GIF is not known: give one of PNG, JPEG, WEBP"),
        ({"quality": 90}, "codec: format None is not known"),
        ({"format": "PNG", "quality": 90}, "codec: PNG does not take quality; it takes nothing"),
        ({"format": "JPEG", "qtables": [[1, 2]]}, r"codec: .* cannot be used \(ValueError: Invalid quantization table"),
        ({"format": "JPEG", "quality": "best"}, r"codec: .* cannot be used"),
        ({"format": "WEBP"}, "WEBP needs quality or lossless"),
    ],
)
def test_an_impossible_codec_is_one_clear_line(codec, message):
    with pytest.raises(ValueError, match=message) as caught:
        codecs.require(codec)
    assert "\n" not in str(caught.value)


def test_real_images_of_a_format_that_is_not_written_are_named(project):
    Image.new("RGB", (8, 8)).save(project / "a.bmp")
    with pytest.raises(ValueError, match="format BMP is not known"):
        codecs.file_format_of(column([project / "a.bmp"]))
    Image.new("L", (8, 8)).save(project / "gray.jpg")
    with pytest.raises(ValueError, match="no color image among the real ones"):
        codecs.file_format_of(column([project / "gray.jpg"]))


@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("TIFF", "RGB"), ("WEBP", "RGB")]
)
def test_generated_images_are_jpeg_by_default_where_the_real_ones_are(project, form, mode):
    files = []
    for number in range(3):
        image = Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8))
        files.append(project / f"{number}.{form}")
        image.convert(mode).save(files[-1], form, quality=88)
    found = codecs.chosen(codecs.AS_REAL, column(files))
    assert found["format"] == ("JPEG" if form == "JPEG" else "PNG")
    if form == "JPEG":
        stored = Image.open(io.BytesIO(codecs.encode(np.zeros((16, 16, 3), np.uint8), found)))
        assert stored.quantization[0] == Image.open(files[0]).quantization[0]
    assert codecs.chosen(codecs.PNG, column(files)) == codecs.PNG


def test_a_hash_is_of_the_image_whatever_its_shape_or_codec():
    black = np.zeros((4, 5, 3), dtype=np.uint8)
    assert codecs.pixel_hash(black) == codecs.pixel_hash(black.copy())
    assert codecs.pixel_hash(black) != codecs.pixel_hash(black.reshape(5, 4, 3))
    assert codecs.bytes_hash(b"a") == codecs.bytes_hash(memoryview(b"a")) != codecs.bytes_hash(b"b")
