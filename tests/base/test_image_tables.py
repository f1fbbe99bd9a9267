"""Image tables: what is read is what was written, damage is named."""

import io

import numpy as np
import pyarrow as pa
import pytest
from contamination.base import image_tables
from PIL import Image


def write_table(path, count=4, size=8, **metadata):
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    columns = {"id": [f"image {i}" for i in range(count)], "label": list(range(count))}
    image_tables.write(path, [image_tables.encode(image) for image in pixels], columns=columns, **metadata)
    return pixels


def test_pixels_come_back_bit_for_bit(tmp_path):
    pixels = write_table(tmp_path / "t.arrow")
    decoded = image_tables.decode_all(image_tables.read(tmp_path / "t.arrow"), 8)
    assert np.array_equal(decoded.permute(0, 2, 3, 1).numpy(), pixels)


def test_equal_content_gives_equal_files(tmp_path):
    write_table(tmp_path / "a.arrow", fingerprint="1")
    write_table(tmp_path / "b.arrow", fingerprint="1")
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


def test_several_tables_read_as_one(tmp_path):
    write_table(tmp_path / "a.arrow", 2)
    write_table(tmp_path / "b.arrow", 3)
    assert image_tables.read(tmp_path / "a.arrow", tmp_path / "b.arrow")["label"].to_pylist() == [0, 1, 0, 1, 2]


def test_a_table_can_be_loaded_by_hugging_face_conventions(tmp_path):
    write_table(tmp_path / "t.arrow")
    first = image_tables.read(tmp_path / "t.arrow")["image"][0].as_py()
    assert set(first) == {"bytes", "path"} and first["bytes"].startswith(b"\x89PNG")


def test_a_half_written_table_is_named(tmp_path):
    write_table(tmp_path / "t.arrow")
    half = (tmp_path / "t.arrow").read_bytes()[:300]
    (tmp_path / "t.arrow").write_bytes(half)
    with pytest.raises(ValueError, match=r"t\.arrow is damaged"):
        image_tables.read(tmp_path / "t.arrow")
    assert image_tables.metadata(tmp_path / "t.arrow") == {}


@pytest.mark.parametrize("codec", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_a_truncated_image_is_named(tmp_path, codec, share):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=codec)
    cut = stream.getvalue()[: int(share * len(stream.getvalue()))]
    image_tables.write(tmp_path / "t.arrow", [cut], columns={"id": ["slot-7"], "label": [0]})
    with pytest.raises(ValueError, match="slot-7 cannot be decoded"):
        image_tables.decode_all(image_tables.read(tmp_path / "t.arrow"), 16)


def test_another_size_is_resized_as_every_source_is(tmp_path):
    pixels = write_table(tmp_path / "t.arrow", size=20)
    decoded = image_tables.decode_all(image_tables.read(tmp_path / "t.arrow"), 8)
    expected = image_tables.resize(Image.fromarray(pixels[0]), 8)
    assert np.array_equal(decoded[0].permute(1, 2, 0).numpy(), expected)


# In place


@pytest.mark.parametrize("place", ["absolute", "below the project"])
@pytest.mark.parametrize("codec", ["PNG", "JPEG"])
def test_an_image_read_in_place_is_the_one_that_a_table_would_hold(project, tmp_path_factory, codec, place):
    folder = tmp_path_factory.mktemp("elsewhere") if place == "absolute" else project / "pictures"
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "1.x", format=codec)
    path = str(folder / "1.x") if place == "absolute" else "pictures/1.x"
    columns = {"id": ["a"], "image": image_tables.in_place(pa.array([path]))}
    image_tables.save(project / "place.arrow", pa.table(columns), image_size="9")
    image_tables.write(project / "own.arrow", [(folder / "1.x").read_bytes()], columns={"id": ["a"]})
    place, own = (image_tables.read(project / f"{name}.arrow") for name in ("place", "own"))
    assert image_tables.data(place["image"][0].as_py(), "a") == image_tables.data(own["image"][0].as_py(), "a")
    assert image_tables.decode_all(place, 9).equal(image_tables.decode_all(own, 9))
    assert (image_tables.stored_size(place), image_tables.stored_size(own)) == (9, 20)
    assert place.schema.field("image").type == own.schema.field("image").type


@pytest.mark.parametrize("name", ["1.arrow#image=2.png", "#image=3.png", "1.arrow#row=2.png"])
def test_a_file_that_is_called_like_a_row_of_another_is_read_as_it_is(project, name):
    Image.new("RGB", (4, 4), (7, 7, 7)).save(project / name)
    assert image_tables.data({"bytes": None, "path": name}, "a") == (project / name).read_bytes()
    assert image_tables.file_of({"bytes": None, "path": name}) == project / name


def test_a_row_without_image_and_a_file_that_is_gone_are_named(project):
    for image, kind, message in [
        ({"bytes": None, "path": None}, ValueError, "slot-3 has no image"),
        ({"bytes": None, "path": "gone.jpg"}, OSError, r"slot-3: .*gone\.jpg cannot be read \(No such file"),
    ]:
        with pytest.raises(kind, match=message):
            image_tables.data(image, "slot-3")


def test_a_file_of_rows_that_was_cut_off_is_named(tmp_path):
    """pyarrow says so without a number of the system's."""
    file, rows = tmp_path / "rows.arrow", pa.array([{"bytes": bytes(5000), "path": None}] * 20)
    with pa.ipc.new_stream(file, pa.schema({"image": rows.type})) as stream:
        stream.write_table(pa.table({"image": rows}))
    file.write_bytes(file.read_bytes()[:50_000])
    image = {"bytes": None, "path": image_tables.row_path(file, "image", row=3)}
    with pytest.raises(OSError, match=r"slot-3: .*rows\.arrow cannot be read \(Expected to be able to read"):
        image_tables.data(image, "slot-3")


def test_a_picture_of_16_bits_is_resized_scaled_and_not_clipped():
    levels = np.linspace(0, 65535, 64 * 64, dtype=np.uint16).reshape(64, 64)
    assert np.array_equal(image_tables.resize(Image.fromarray(levels), 64)[..., 0], levels >> 8)


def test_rows_are_taken_in_their_order_from_any_chunk_and_not_copied(tmp_path):
    for shard in range(3):
        images = [image_tables.encode(np.full((2, 2, 3), 10 * shard + row, dtype=np.uint8)) for row in range(4)]
        image_tables.write(tmp_path / f"{shard}.arrow", images, columns={"id": [f"{shard}/{row}" for row in range(4)]})
    table = image_tables.read(*(tmp_path / f"{shard}.arrow" for shard in range(3)))
    for rows in ([], [11], [3, 4, 5], [9, 0, 0, 1, 2, 8], range(12)):
        assert image_tables.take(table, rows).to_pylist() == table.take(np.array(rows, dtype=np.int64)).to_pylist()
    content = image_tables.take(table, [5])["image"].chunk(0).field("bytes")
    assert content.buffers()[2].address == table["image"].chunk(1).field("bytes").buffers()[2].address


def test_rows_are_taken_from_more_than_two_gibibytes():
    content = pa.py_buffer(np.zeros(2**30, dtype=np.uint8))  # zeros that nobody reads take no memory
    one = pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(np.array([0, 2**30], dtype=np.int32)), content])
    chunk = pa.StructArray.from_arrays([one, pa.nulls(1, pa.string())], fields=list(image_tables.IMAGE))
    table = pa.table({"image": pa.chunked_array([chunk] * 4), "id": ["0", "1", "2", "3"]})
    assert image_tables.take(table, [3, 0])["id"].to_pylist() == ["3", "0"]
