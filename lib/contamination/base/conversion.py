"""From what an image file holds to 8-bit RGB in sRGB, with nothing destroyed without a word.

Transparency is laid on a background, since dropping it shows colors that nobody was meant to see: most drawing programs
store black where nothing is drawn. Depths above 8 bits are scaled by what the file says of them. Color profiles are
converted to sRGB by LittleCMS, as Pillow's documentation of `ImageCms` does; a palette becomes colors first.
"""

import enum
import functools
import io
from typing import Literal

import numpy as np

WHITE = "white"
JPEG_PROFILE, SCAN = b"ICC_PROFILE\0", b"\xda"  # what precedes a profile in a JPEG; where its pixels begin
SAME_COLORS = 2  # levels of 255: a profile that changes no color by more is sRGB under another name
ALL_BITS = 16
DARK = 2**14  # an image of 16 bits without a value from here on uses less than a quarter of its range
# TIFF: bits per sample; which end of the scale is white (0: the lower one); the largest value (MaxSampleValue)
SAMPLES, PHOTOMETRIC, LARGEST = 258, 262, 281


class Notes(enum.IntFlag):
    """What happened to an image on its way to 8-bit RGB, and what is left of it."""

    TRANSPARENT = 1  # parts of it were laid on the background
    DEEP = 2  # it had more than 8 bits
    PROFILE = 4  # its colors were converted to sRGB
    UNUSED_PROFILE = 8  # it has a profile that cannot be used
    ONE_COLOR = 16  # all its pixels are equal
    NARROW = 32  # less than a quarter of its range is left


def to_rgb(image, bits: int, background: str = WHITE) -> tuple:
    """A loaded PIL image in mode RGB, and its `Notes`.

    bits: of a sample, as `bits_of` gives them. background: the name of a color that Pillow knows.
    Raises ValueError with the reason where the file does not say how its values become 8 bits.
    """
    from PIL import Image

    image, deep = _eight_bits(image, bits)
    if image.has_transparency_data:
        image = image.convert("RGBA")  # of a palette and of one transparent color too
    plain, converted = _to_srgb(image)
    notes = deep | converted
    if image.mode != "RGBA" or image.getextrema()[3] == (255, 255):
        return plain, notes
    laid = Image.composite(plain, Image.new("RGB", plain.size, background), image.getchannel("A"))
    narrow = 0 < 4 * _range(laid) < _range(image)
    return laid, notes | Notes.TRANSPARENT | (Notes.NARROW if narrow else Notes(0))


def has_other_colors(data: bytes) -> bool:
    """Whether a JPEG has a color profile that is not sRGB's. Looks at its head alone (ITU-T T.81, B.1.1.4)."""
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != SCAN:
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 4 : place + 16] == JPEG_PROFILE:
            return _has_other_colors(data, place + 16, place + 2 + length)
        place += 2 + length
    return False


def _has_other_colors(data: bytes, start: int, end: int) -> bool:
    """start, end: where the first piece of the profile stands, after two bytes that number it."""
    from PIL import Image, ImageCms

    profile = data[start + 2 : end]
    if data[start : start + 2] != b"\1\1":  # in several pieces, which is rare
        profile = Image.open(io.BytesIO(data)).info.get("icc_profile") or b""
    space = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}.get(profile[16:20], "")
    try:
        return _transform(profile, space) is not None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return True  # whatever is wrong with it, Pillow's way has words for it


def _range(image) -> int:
    """The largest difference of values within a channel, opacity among them, of 255."""
    return max(most - least for least, most in image.getextrema())


# Depth


def _eight_bits(image, bits: int) -> tuple:
    """The image with 8 bits a channel, and whether it had more. `Image.convert` would clip what is above 255."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("it holds floating-point numbers and does not say which is white: convert it to 8 bits")
    if image.mode == "I" and bits > ALL_BITS:
        raise ValueError("it holds 32-bit numbers and does not say which is white: convert it to 8 bits")
    if not image.mode.startswith("I"):
        if bits == 8:
            return image, Notes(0)
        _require_range(bits, _largest(image) << 8)  # Pillow has kept the upper 8 of 16 bits
        return image, Notes.DEEP
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0:
        raise ValueError("it holds negative numbers: convert it to 8 bits")
    _require_range(bits, int(values.max()))
    # Of 16 bits the upper 8, as everywhere; of others the share of the largest value that the file names.
    scaled = values >> 8 if bits in (0, ALL_BITS) else np.rint(values * 255 / (2**bits - 1))
    found = Image.fromarray(scaled.astype(np.uint8))
    if "transparency" in image.info:  # one level of the 16-bit ones
        found.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    found.info["icc_profile"] = image.info.get("icc_profile")
    return found, Notes.DEEP


def _require_range(bits: int, largest: int) -> None:
    """Raise ValueError where values would become dark, or white, that are not. bits: 0 where the file does not say."""
    if bits == 0 and 0 < largest < DARK:
        raise ValueError(
            f"it uses {largest.bit_length()} of its 16 bits without saying so, and would become dark: scale it to "
            "16 bits or convert it to 8"
        )
    if bits and largest >= 2**bits:
        raise ValueError(f"it says that its values have {bits} bits, and has larger ones: convert it to 8 bits")


def bits_of(image, data: bytes) -> int:
    """The bits of a sample: 8, or as the file says; 0 for 16 bits of which the file does not say that all are used.

    image: a PIL image as it was opened. data: the encoded bytes, which hold what Pillow does not read.
    Raises ValueError for a TIFF of more than 8 bits whose smallest value is white: Pillow would show its negative.
    """
    if image.format == "TIFF":
        return _tiff_bits(image)
    if image.format == "PNG" and data[24] == ALL_BITS:  # bits of a sample, in the header
        return _png_bits(data)
    if image.format in ("PPM", "JPEG2000"):  # Pillow has scaled them by the largest that the file names
        return ALL_BITS if image.mode.startswith("I") else 8
    return (32 if image.mode == "I" else 0) if image.mode.startswith("I") else 8


def _png_bits(png: bytes) -> int:
    """16 where the chunk sBIT says that all of them are used, else 0.

    A smaller number there is no depth: values are scaled to 16 bits whatever it is (PNG specification, 11.3.2.7).
    """
    place = 8
    while place + 8 <= len(png) and png[place + 4 : place + 8] != b"IDAT":
        length = int.from_bytes(png[place : place + 4], "big")
        if png[place + 4 : place + 8] == b"sBIT":
            return ALL_BITS if set(png[place + 8 : place + 8 + length]) == {ALL_BITS} else 0
        place += length + 12
    return 0


def _tiff_bits(image) -> int:
    bits = max(image.tag_v2.get(SAMPLES, (1,)))
    if bits > 8 and image.tag_v2.get(PHOTOMETRIC) == 0:
        raise ValueError(f"its smallest value is white, which is not read in {bits} bits: convert it to 8 bits")
    if bits != ALL_BITS:
        return max(bits, 8)
    largest = image.tag_v2.get(LARGEST, 0)
    largest = int(max(largest) if isinstance(largest, tuple) else largest)
    if not image.mode.startswith("I"):  # Pillow keeps the upper 8 bits of colors, whatever it is
        return ALL_BITS if largest == 2**ALL_BITS - 1 else 0
    # Many programs write the largest value that occurs, which is no depth; 4095 is that of 12 bits.
    return largest.bit_length() if largest & (largest + 1) == 0 else 0


def _largest(image) -> int:
    """The largest value of an image, opacity apart."""
    ranges = image.getextrema()
    ranges = ranges if isinstance(ranges[0], tuple) else (ranges,)
    return max(most for _, most in ranges[: len(ranges) - image.mode.endswith("A")])


# Color


def _to_srgb(image) -> tuple:
    """The image in mode RGB, its colors those of sRGB; and which note that leaves."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile") or b""
    plain = image if image.mode in ("L", "CMYK", "LAB") else image.convert("RGB")
    if image.mode == "LAB":
        return ImageCms.profileToProfile(image, _named("LAB"), _named("sRGB"), outputMode="RGB"), Notes.PROFILE
    if not profile:
        return plain.convert("RGB"), Notes(0)
    try:
        transform = _transform(profile, plain.mode)
    except (ImageCms.PyCMSError, OSError, TypeError):  # damaged, or of another kind of colors than the image
        return plain.convert("RGB"), Notes.UNUSED_PROFILE
    if transform is None:
        return plain.convert("RGB"), Notes(0)
    return ImageCms.applyTransform(plain, transform), Notes.PROFILE


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str):
    """What brings colors of a profile to sRGB; None where they are sRGB's. mode: of the images, as Pillow calls it.

    Raises ImageCms.PyCMSError where the profile does not fit the mode or is damaged.
    """
    from PIL import Image, ImageCms

    found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(found, _named("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return transform
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colors = np.arange(256, dtype=np.uint8)[None]
    if mode == "RGB":
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    image = Image.fromarray(colors)
    change = np.asarray(ImageCms.applyTransform(image, transform)).astype(int) - np.asarray(image.convert("RGB"))
    return transform if np.abs(change).max() > SAME_COLORS else None


@functools.cache
def _named(name: Literal["LAB", "sRGB"]):
    from PIL import ImageCms

    return ImageCms.createProfile(name)
