"""Broken images: every form that training can read is read, everything else is found, and what then happens to it."""

import io
import multiprocessing
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from contamination.base import image_tables
from contamination.base.files import read_json
from contamination.sources import broken, index
from PIL import Image

RNG = np.random.default_rng(0)
SMOOTH = np.asarray(
    Image.fromarray(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((48, 32), Image.Resampling.BICUBIC)
)
PICTURE = Image.fromarray(SMOOTH)
OTHER = PICTURE.rotate(180)
TURNED = Image.Exif()
TURNED[0x112] = 6  # to be turned by a quarter


def encoded(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def png16(levels: np.ndarray) -> bytes:
    """A 16-bit RGB PNG, which Pillow cannot write. levels: uint16 (height, width, 3)."""
    height, width, _ = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


WITH_OPACITY = Image.merge("RGBA", (*PICTURE.split(), OTHER.convert("L")))
ON_WHITE = Image.composite(PICTURE, Image.new("RGB", PICTURE.size, "white"), OTHER.convert("L"))
PALETTE = PICTURE.quantize(16)
SHOWN = Image.fromarray(np.where(np.asarray(PALETTE)[..., None] == 3, 255, np.asarray(PALETTE.convert("RGB"))))
ANIMATED = {"save_all": True, "append_images": [OTHER, OTHER]}
GRAY16 = SMOOTH[..., 0].astype(np.uint16) * 257

# Form: file content, the pixels it must give (None: those of the picture), the greatest difference allowed.
FORMS = {
    "jpeg": (encoded(PICTURE, "JPEG", quality=98), None, 12),
    "jpeg, progressive": (encoded(PICTURE, "JPEG", quality=98, progressive=True), None, 12),
    "jpeg, gray": (encoded(PICTURE.convert("L"), "JPEG", quality=98), PICTURE.convert("L"), 12),
    "jpeg, CMYK": (encoded(PICTURE.convert("CMYK"), "JPEG", quality=98), None, 12),
    "jpeg, turned": (encoded(PICTURE, "JPEG", quality=98, exif=TURNED), PICTURE.rotate(-90, expand=True), 12),
    "jpeg and what a camera appends": (encoded(PICTURE, "JPEG", quality=98) + b"trailer" * 9, None, 12),
    "png": (encoded(PICTURE, "PNG"), None, 0),
    "png, turned": (encoded(PICTURE, "PNG", exif=TURNED), PICTURE.rotate(-90, expand=True), 0),
    "png, palette": (encoded(PICTURE.quantize(16), "PNG"), PICTURE.quantize(16), 0),
    "png, transparent palette": (encoded(PALETTE, "PNG", transparency=3), SHOWN, 0),
    "png, black and white": (encoded(PICTURE.convert("1"), "PNG"), PICTURE.convert("1"), 0),
    "png, gray": (encoded(PICTURE.convert("L"), "PNG"), PICTURE.convert("L"), 0),
    "png, opacity": (encoded(WITH_OPACITY, "PNG"), ON_WHITE, 0),
    "png, gray of 16 bits": (encoded(Image.fromarray(GRAY16), "PNG"), Image.fromarray(SMOOTH[..., 0]), 0),
    "png, colors of 16 bits": (png16(SMOOTH.astype(np.uint16) * 257), None, 0),
    "png, animated": (encoded(PICTURE, "PNG", **ANIMATED), None, 0),
    "gif": (encoded(PICTURE.quantize(16), "GIF"), PICTURE.quantize(16), 0),
    "gif, animated": (
        encoded(PICTURE.quantize(16), "GIF", save_all=True, append_images=[OTHER]),
        PICTURE.quantize(16),
        0,
    ),
    "webp": (encoded(PICTURE, "WEBP", lossless=True), None, 0),
    "webp, turned": (encoded(PICTURE, "WEBP", lossless=True, exif=TURNED), PICTURE.rotate(-90, expand=True), 0),
    "webp, animated": (encoded(PICTURE, "WEBP", lossless=True, **ANIMATED), None, 0),
    "bmp": (encoded(PICTURE, "BMP"), None, 0),
    "tiff": (encoded(PICTURE, "TIFF"), None, 0),
    "tiff, turned": (encoded(PICTURE, "TIFF", exif=TURNED), PICTURE.rotate(-90, expand=True), 0),
}


@pytest.mark.parametrize(("content", "picture", "tolerance"), FORMS.values(), ids=FORMS)
def test_every_form_gives_the_picture_upright_in_three_channels(content, picture, tolerance):
    expected = np.asarray((picture or PICTURE).convert("RGB")).astype(int)
    pixels = image_tables.pixels(content)
    assert str(pixels.dtype) == "torch.uint8" and pixels.shape == (3, *expected.shape[:2])
    assert np.abs(pixels.permute(1, 2, 0).numpy() - expected).max() <= tolerance


@pytest.mark.parametrize("form", [form for form in FORMS if form.startswith("jpeg")])
def test_a_jpeg_decoded_by_torchvision_and_by_pillow_is_the_same(form):
    content = FORMS[form][0]
    assert image_tables.pixels(content).equal(image_tables._pixels_by_pillow(content)[0])


@pytest.mark.parametrize("form", ["png, gray of 16 bits", "jpeg, turned", "webp, turned"])
def test_resizing_sees_the_same_picture_as_decoding(form):
    content = FORMS[form][0]
    by_hand = image_tables.resize(Image.open(io.BytesIO(content)), 16).astype(int)
    assert np.abs(image_tables.decode(content, 16).permute(1, 2, 0).numpy() - by_hand).max() <= 1


DAMAGED = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>404 Not Found</html>", "not an image, it begins with b'<html>404 No'"),
    "zeros": (bytes(1000), "not an image"),
    "drawing": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image"),
    "one byte": (b"\xff", "not an image"),
    "start of a jpeg": (b"\xff\xd8", ""),
    "jpeg, cut": (FORMS["jpeg"][0][:-100], "truncated"),
    "jpeg, end missing": (FORMS["jpeg"][0][:-2], "truncated"),
    "jpeg, progressive, cut": (FORMS["jpeg, progressive"][0][:-100], "truncated"),
    "jpeg, head alone": (FORMS["jpeg"][0][:100], "Truncated"),
    "png, cut": (FORMS["png"][0][:-100], "truncated"),
    "gif, cut": (FORMS["gif"][0][:-60], "truncated"),
    "webp, cut": (FORMS["webp"][0][:-60], ""),
    "bmp, cut": (FORMS["bmp"][0][:-60], "truncated"),
    "tiff, cut": (FORMS["tiff"][0][:200], ""),
}


@pytest.mark.parametrize(("content", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_whole_image_is_refused_with_a_reason_that_is_always_the_same(content, reason):
    messages = set()
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            image_tables.decode(content, 8, name="7.jpg")
        messages.add(str(caught.value))
    (message,) = messages
    assert message.isprintable() and reason in message and "()" not in message
    assert message.startswith("7.jpg cannot be decoded (") and message.endswith("): replace or remove it")


def test_a_png_of_damaged_pixels_is_an_error_and_not_the_end_of_the_process():
    """Torchvision 0.29 ends the process for most of these."""
    rng = np.random.default_rng(1)
    refusals = 0
    assert image_tables._is_plain_png(FORMS["png"][0]) and image_tables._is_plain_png(image_tables.encode(SMOOTH))
    assert not any(image_tables._is_plain_png(content) for form, (content, _, _) in FORMS.items() if form != "png")
    for _ in range(100):
        content = bytearray(FORMS["png"][0])
        for place in rng.integers(41, len(content) - 12, 3):
            content[place] = rng.integers(256)
        try:
            assert image_tables.pixels(bytes(content)).shape == (3, 32, 48)
        except ValueError:
            refusals += 1
    assert refusals > 50


# Folders of images


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two classes, each with every form, and in the second every kind of damage."""
    for name in ("fine", "mixed"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for number, (content, _, _) in enumerate(FORMS.values()):
            (tmp_path / "tree" / name / f"good {number:02d}.jpg").write_bytes(content)
    for number, (content, _) in enumerate(DAMAGED.values()):
        (tmp_path / "tree" / "mixed" / f"bad {number:02d}.jpg").write_bytes(content)
    return tmp_path / "tree"


@pytest.mark.parametrize("workers", [1, 2])
def test_exactly_the_broken_files_are_found_in_their_order(tree, workers):
    paths = [tree / "missing.jpg", *sorted(tree.rglob("*.jpg"))]
    found = broken.find(paths, workers)
    assert [path for path, _ in found] == [path for path in paths if path.name.startswith(("bad", "missing"))]
    assert found[0][1] == "the file cannot be read (No such file or directory)"
    assert all(reason and reason.isprintable() for _, reason in found)


@pytest.mark.medium
def test_the_death_of_a_process_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "1.jpg")  # nobody writes to it: whoever reads it waits

    def kill():
        while not multiprocessing.active_children():
            time.sleep(0.01)
        for child in multiprocessing.active_children():
            child.kill()

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(OSError, match=r"a process died while it decoded .*1\.jpg or one of the \d+ files after it"):
        broken.find([tmp_path / "1.jpg"] * 200, 2)


def test_refuse_names_the_number_the_first_five_and_the_list(tree, tmp_path):
    found = index.scan(tree)
    with pytest.raises(ValueError) as caught:
        broken.usable(found, tmp_path / "check", policy="refuse")
    message = str(caught.value)
    assert message.startswith(
        f"15 of {2 * len(FORMS) + 15} images in {tree} cannot be decoded ({tree}/mixed/bad 00.jpg: "
    )
    assert "the file is empty; " in message and message.count("bad 0") == 5 and message.isprintable()
    listed = read_json(Path(message.rsplit("listed in ")[1]))
    assert listed["fingerprint"] == found.fingerprint and listed["images"] == found.images.num_rows
    assert [Path(item["path"]).name for item in listed["broken"]] == [f"bad {number:02d}.jpg" for number in range(15)]


def test_skip_leaves_them_out_and_says_how_many(tree, tmp_path):
    kept, skipped = broken.usable(index.scan(tree), tmp_path / "check", policy="skip")
    assert skipped == 15 and kept.names == ["fine", "mixed"]
    assert kept.images.num_rows == 2 * len(FORMS) and not any(
        b"bad" in path for path in kept.images["path"].to_pylist()
    )
    for file in tree.rglob("bad*"):
        file.unlink()
    assert kept.fingerprint == index.scan(tree).fingerprint


def test_an_index_without_broken_images_stays_as_it_is(tree, tmp_path):
    for file in tree.rglob("bad*"):
        file.unlink()
    found = index.scan(tree)
    for policy in broken.POLICIES:
        assert broken.usable(found, tmp_path / policy, policy=policy) == (found, 0)
        assert read_json(tmp_path / policy / broken.LIST)["broken"] == []


def test_a_class_of_broken_images_alone_and_an_unknown_policy_are_named(tree, tmp_path):
    for file in tree.rglob("mixed/good*"):
        file.unlink()
    with pytest.raises(ValueError, match="no images are left of mixed"):
        broken.usable(index.scan(tree), tmp_path / "check", policy="skip")
    with pytest.raises(ValueError, match="policy 'ignore' for broken images is not known: give one of refuse, skip"):
        broken.usable(index.scan(tree), tmp_path / "check", policy="ignore")


# A check goes on where it was


def count_decoded(monkeypatch, stop_after: int | None = None) -> list[str]:
    """The files that are decoded from now on; the process is interrupted where that many were."""
    decoded, whole = [], broken._Files.__getitem__

    def counted(self, number):
        if len(decoded) == stop_after:
            raise KeyboardInterrupt
        decoded.append(Path(self.path(number)).name)
        return whole(self, number)

    monkeypatch.setattr(broken._Files, "__getitem__", counted)
    return decoded


def test_an_interrupted_check_goes_on_and_finds_the_same(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(broken, "BLOCK", 10)
    monkeypatch.setattr(broken, "BATCH", 5)
    found = index.scan(tree)
    whole = broken.check(found, tmp_path / "whole")
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        count_decoded(context, stop_after=43)
        broken.check(found, tmp_path / "check")
    assert not (tmp_path / "check" / broken.LIST).exists()
    decoded = count_decoded(monkeypatch)
    assert broken.check(found, tmp_path / "check") == whole
    assert len(decoded) == found.images.num_rows - 25  # of the first 40 images recorded 15 were broken: once more
    assert (tmp_path / "check" / broken.LIST).read_text() == (tmp_path / "whole" / broken.LIST).read_text()


def test_a_second_check_decodes_only_what_was_broken_and_what_is_new_or_changed(tree, tmp_path, monkeypatch):
    broken.check(index.scan(tree), tmp_path)
    decoded = count_decoded(monkeypatch)
    (tree / "mixed" / "bad 00.jpg").unlink()
    (tree / "mixed" / "bad 01.jpg").write_bytes(FORMS["jpeg"][0])
    (tree / "fine" / "good 00.jpg").write_bytes(FORMS["bmp"][0][:-60])
    (tree / "fine" / "new.jpg").write_bytes(FORMS["png"][0])
    found = index.scan(tree)
    names = [Path(found.path(row)).name for row in broken.check(found, tmp_path)]
    assert names == ["good 00.jpg", *(f"bad {number:02d}.jpg" for number in range(2, 15))]
    assert decoded == ["good 00.jpg", "new.jpg", *(f"bad {number:02d}.jpg" for number in range(1, 15))]


def test_a_file_repaired_in_place_is_fine_though_its_old_index_is_used(tree, tmp_path):
    found = index.scan(tree)
    before = broken.check(found, tmp_path)
    (tree / "mixed" / "bad 03.jpg").write_bytes(FORMS["jpeg"][0])
    assert len(broken.check(found, tmp_path)) == len(before) - 1


def test_names_that_are_no_text_are_listed_in_one_line(tmp_path):
    place = os.path.join(os.fsencode(tmp_path), b"tree/class")
    os.makedirs(place)
    for name in (b"caf\xe9.jpg", b"line\nbreak.jpg"):
        with open(os.path.join(place, name), "wb") as file:
            file.write(b"text")
    found = index.scan(tmp_path / "tree")
    with pytest.raises(ValueError) as caught:
        broken.usable(found, tmp_path / "check", policy="refuse")
    assert str(caught.value).isprintable() and "caf\\udce9.jpg" in str(caught.value)
    assert len(read_json(tmp_path / "check" / broken.LIST)["broken"]) == 2
