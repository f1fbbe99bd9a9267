"""Which files of a folder are images, and why the others are not used, so that nothing is lost without a word.

Everything that Pillow reads is an image, by the ending of its name; a file without ending is one where its content
begins like one. What file managers, network storage and archives leave behind is none, whatever it is called.
"""

import os

from contamination.base import image_tables
from contamination.base.files import is_left_alone
from contamination.sources import caption_files

# Of Pillow's endings those of single images; `tests/sources/test_ignored.py` says which of them are left out and why.
SUFFIXES = (
    *(b".jpg", b".jpeg", b".jpe", b".jfif", b".png", b".apng", b".gif", b".webp", b".bmp", b".dib", b".tif", b".tiff"),
    *(b".avif", b".avifs", b".heic", b".heif", b".jp2", b".j2k", b".j2c", b".jpc", b".jpf", b".jpx", b".mpo"),
    *(b".ppm", b".pgm", b".pbm", b".pnm", b".pfm", b".qoi", b".tga", b".icb", b".vda", b".vst", b".psd", b".dds"),
    *(b".pcx", b".dcx", b".sgi", b".rgb", b".rgba", b".bw", b".ras", b".ico", b".cur", b".icns", b".xbm", b".xpm"),
    *(b".im", b".msp", b".gbr", b".pxr", b".pcd", b".blp", b".ftc", b".ftu", b".fit", b".fits", b".fli", b".flc"),
)
# What a file without ending may be; other formats have no beginning by which they are known.
KNOWN_BY_CONTENT = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI")
USED_ELSEWHERE = tuple(name.encode() for name in caption_files.NAMES)  # at the top of a tree: its captions
SPECIAL, UNREADABLE = "pipe or device", "folder that cannot be read"


def is_image_name(name: bytes) -> bool:
    return name.lower().endswith(SUFFIXES)


def holds_image(path: bytes) -> bool:
    """Whether a file without ending begins like an image."""
    from PIL import Image

    try:
        with open(path, "rb") as stream:
            if image_tables.is_heic(stream.read(64)):
                return True
        with Image.open(path, formats=KNOWN_BY_CONTENT):
            return True
    except Exception:  # whatever Pillow's parsers raise for what is no image, and files that cannot be opened
        return False


def has_ending(name: bytes) -> bool:
    return bool(os.path.splitext(name)[1])


def reason_of(name: bytes) -> str:
    """Why a file that is no image is not used: its ending."""
    return os.fsdecode(os.path.splitext(name)[1].lower()) or "no ending"


def reason_of_place(name: bytes) -> str | None:
    """Why neither a file of this name is used nor anything in a folder of it; None where that depends on more."""
    if not is_left_alone(os.fsdecode(name)):
        return None
    return "hidden" if name.startswith(b".") else f"in {os.fsdecode(name)}"


def words(counts: dict[str, int]) -> str:
    """`12 .xml, 3 hidden`; the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {_printable(reason)}" for reason, count in ordered)


def _printable(reason: str) -> str:
    return reason if reason.isprintable() else ascii(reason)
