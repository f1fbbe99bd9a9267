"""From what a file holds to 8-bit RGB: nothing is destroyed without a word."""

import io
import struct
import zlib

import numpy as np
import pytest
from contamination.base import conversion, image_tables
from contamination.base.conversion import Notes
from contamination.sources import fingerprints
from PIL import Image, ImageCms

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((48, 32), Image.Resampling.BICUBIC)
GRAY = np.asarray(PICTURE.convert("L"))
DISK = Image.fromarray(np.where(np.hypot(*np.mgrid[-16:16, -24:24]) < 12, 255, 0).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def read(data: bytes, background: str = "white") -> tuple[np.ndarray, Notes]:
    pixels, notes = image_tables.noted_pixels(data, background)
    return pixels.permute(1, 2, 0).numpy(), notes


# Transparency


def drawing(mode: str, ink: int = 0) -> Image.Image:
    """A disk on transparent ground, which is stored as black, as most programs do."""
    found = Image.new("RGBA", DISK.size, (0, 0, 0, 0))
    found.paste((ink, ink, ink, 255), mask=DISK)
    return found.convert(mode)


@pytest.mark.parametrize(("mode", "form"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP"), ("RGBA", "TIFF")])
@pytest.mark.parametrize(("background", "level"), [("white", 255), ("#808080", 128)])
def test_a_drawing_on_transparent_ground_is_seen_on_the_background(mode, form, background, level):
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    pixels, notes = read(encoded(drawing(mode), form, **options), background)
    assert np.array_equal(pixels, np.where(np.asarray(DISK)[..., None], 0, level).repeat(3, axis=2))
    assert notes == Notes.TRANSPARENT


@pytest.mark.parametrize("levels", [8, 16])
def test_a_level_that_a_file_calls_transparent_is_the_background_and_no_other(levels):
    values = GRAY.astype(np.uint16) * 257 if levels == 16 else GRAY
    chosen = int(values[3, 3])
    pixels, notes = read(encoded(Image.fromarray(values), "PNG", transparency=chosen))
    assert np.array_equal(pixels[..., 0], np.where(chosen == values, 255, GRAY)) and Notes.TRANSPARENT in notes


def test_what_is_opaque_everywhere_stays_as_it_is():
    image = PICTURE.copy()
    image.putalpha(255)
    pixels, notes = read(encoded(image, "PNG"))
    assert np.array_equal(pixels, PICTURE) and notes == Notes(0)


def test_a_drawing_that_vanishes_on_the_background_is_noted():
    assert fingerprints.of(encoded(drawing("RGBA", 255), "PNG"), "white").notes & Notes.ONE_COLOR
    assert not fingerprints.of(encoded(drawing("RGBA", 255), "PNG"), "black").notes & Notes.ONE_COLOR
    assert read(encoded(drawing("RGBA", 230), "PNG"))[1] == Notes.TRANSPARENT | Notes.NARROW
    assert fingerprints.of(encoded(Image.new("RGB", (50, 9), "red"), "JPEG"), "white").notes == Notes.ONE_COLOR
    assert not fingerprints.of(encoded(PICTURE, "JPEG"), "white").notes


# Depth


def with_significant_bits(png: bytes, bits: int) -> bytes:
    """The PNG with a chunk sBIT, which Pillow does not write."""
    content = b"sBIT" + bytes([bits])
    chunk = struct.pack(">I", 1) + content + struct.pack(">I", zlib.crc32(content))
    return png[:33] + chunk + png[33:]  # behind the header


def portable(values: np.ndarray, largest: int) -> bytes:
    return f"P5\n{values.shape[1]} {values.shape[0]}\n{largest}\n".encode() + values.astype(">u2").tobytes()


def scaled(bits: int) -> np.ndarray:
    """The gray picture in so many bits."""
    return np.rint(GRAY / 255 * (2**bits - 1)).astype(np.uint16)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
def test_a_depth_that_the_file_tells_is_scaled_by_it(bits):
    values = scaled(bits)
    files = [
        encoded(Image.fromarray(values), "TIFF", tiffinfo={281: 2**bits - 1}),
        portable(values, 2**bits - 1),
    ]
    for data in files:
        pixels, notes = read(data)
        assert np.abs(pixels.astype(int) - GRAY[..., None]).max() <= 1 and notes == Notes.DEEP


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [9, 12, 14])
def test_a_depth_that_the_file_does_not_tell_is_refused_and_never_dark(form, bits):
    values = scaled(bits)
    with pytest.raises(ValueError, match=f"it uses {bits} of its 16 bits without saying so, and would become dark"):
        image_tables.pixels(encoded(Image.fromarray(values), form))


def test_sixteen_bits_become_the_upper_eight_as_before():
    values = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
    values[0, 0] = 65535
    for form in ("PNG", "TIFF"):
        assert np.array_equal(read(encoded(Image.fromarray(values), form))[0][..., 1], values >> 8)
    assert not read(encoded(Image.fromarray(values * 0), "PNG"))[0].any()  # black as it was


@pytest.mark.parametrize("bits", [10, 12])
def test_a_png_that_says_how_many_of_its_bits_count_has_scaled_values(bits):
    values = scaled(bits)
    png = encoded(Image.fromarray(values << (16 - bits) | values >> (2 * bits - 16)), "PNG")
    assert np.abs(read(with_significant_bits(png, bits))[0].astype(int) - GRAY[..., None]).max() <= 1
    with pytest.raises(ValueError, match="would become dark"):
        read(with_significant_bits(encoded(Image.fromarray(values), "PNG"), bits))


def deep_png(channels: int, color_type: int, largest: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write; the last channel of an even number is opaque."""
    values = np.full((4, 4, channels), largest, ">u2")
    if channels % 2 == 0:
        values[..., -1] = 65535
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    found = b"\x89PNG\r\n\x1a\n"
    for content in (b"IHDR" + struct.pack(">IIBBBBB", 4, 4, 16, color_type, 0, 0, 0), b"IDAT" + zlib.compress(rows)):
        found += struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return found + bytes.fromhex("0000000049454e44ae426082")


@pytest.mark.parametrize(("channels", "color_type"), [(3, 2), (2, 4), (4, 6)])
def test_colors_and_opacity_of_sixteen_bits_are_dark_nowhere_either(channels, color_type):
    pixels, notes = read(deep_png(channels, color_type, 40_000))
    assert (pixels == 40_000 >> 8).all() and notes == Notes.DEEP
    with pytest.raises(ValueError, match="12 of its 16 bits without saying so"):
        read(deep_png(channels, color_type, 4095))


def test_the_largest_value_that_occurs_is_no_depth():
    values = (GRAY.astype(np.uint16) << 8) // 2 + 1
    data = encoded(Image.fromarray(values), "TIFF", tiffinfo={281: int(values.max())})
    assert np.array_equal(read(data)[0][..., 0], values >> 8)


def test_a_deep_image_whose_white_is_zero_is_refused():
    data = encoded(Image.fromarray(scaled(16)), "TIFF", tiffinfo={262: 0})
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0
    with pytest.raises(ValueError, match="its smallest value is white, which is not read in 16 bits"):
        read(data)


def test_a_dark_image_that_says_that_all_its_bits_count_is_dark():
    values = scaled(12)
    assert read(with_significant_bits(encoded(Image.fromarray(values), "PNG"), 16))[0].max() == values.max() >> 8


@pytest.mark.parametrize(
    ("values", "words"),
    [(GRAY / 255, "floating-point"), (GRAY.astype(np.int32) * 70_000, "32-bit numbers")],
)
def test_numbers_without_a_range_are_refused(values, words):
    image = Image.fromarray(values.astype(np.float32) if values.dtype == np.float64 else values)
    with pytest.raises(ValueError, match=f"it holds {words}.* does not say which is white: convert it to 8 bits"):
        image_tables.pixels(encoded(image, "TIFF"))


# Color profiles

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped() -> bytes:
    """A profile in which red is called green."""
    profile = bytearray(SRGB)
    table = [profile[132 + 12 * entry : 144 + 12 * entry] for entry in range(int.from_bytes(profile[128:132], "big"))]
    place = {bytes(entry[:4]): int.from_bytes(entry[4:8], "big") for entry in table}
    red, green = (slice(place[tag], place[tag] + 20) for tag in (b"rXYZ", b"gXYZ"))
    profile[red], profile[green] = profile[green], profile[red]
    return bytes(profile)


FORMS = [("PNG", {}, 2), ("TIFF", {}, 2), ("WEBP", {"lossless": True}, 2), ("JPEG", {"quality": 98}, 12)]


@pytest.mark.parametrize(("form", "options", "tolerance"), FORMS)
def test_colors_of_another_profile_become_those_of_srgb(form, options, tolerance):
    pixels, notes = read(encoded(PICTURE, form, icc_profile=swapped(), **options))
    assert np.abs(pixels.astype(int) - np.asarray(PICTURE)[..., [1, 0, 2]]).mean() <= tolerance / 2
    assert notes == Notes.PROFILE


@pytest.mark.parametrize(("form", "options", "tolerance"), FORMS)
@pytest.mark.parametrize(("profile", "noted"), [(SRGB, 0), (b"no profile" * 20, Notes.UNUSED_PROFILE)])
def test_a_profile_of_srgb_or_a_damaged_one_changes_no_pixel(form, options, tolerance, profile, noted):
    plain = read(encoded(PICTURE, form, **options))[0]
    pixels, notes = read(encoded(PICTURE, form, icc_profile=profile, **options))
    assert np.array_equal(pixels, plain) and notes == noted


def test_a_jpeg_is_read_the_fast_way_only_where_no_color_changes():
    assert conversion.has_other_colors(encoded(PICTURE, "JPEG", icc_profile=swapped()))
    assert conversion.has_other_colors(encoded(PICTURE, "JPEG", icc_profile=swapped() + bytes(70_000)))  # in two pieces
    assert not conversion.has_other_colors(encoded(PICTURE, "JPEG", icc_profile=SRGB))
    for data in (encoded(PICTURE, "JPEG"), b"", b"\xff\xd8", b"\xff\xd8\xff", encoded(PICTURE, "JPEG")[:30]):
        assert not conversion.has_other_colors(data)


def test_a_picture_in_lab_is_converted():
    lab = ImageCms.profileToProfile(
        PICTURE, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert np.abs(read(encoded(lab, "TIFF"))[0].astype(int) - np.asarray(PICTURE)).mean() < 2


def test_heic_is_named_where_its_package_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    for brand in (b"heic", b"mif1"):
        data = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0heicmif1" + bytes(200)
        with pytest.raises(ValueError, match="HEIC, which needs a package: pip install pillow-heif"):
            image_tables.pixels(data)
