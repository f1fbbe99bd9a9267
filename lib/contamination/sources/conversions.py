"""What happened to images on their way to 8-bit RGB, in words."""

import pyarrow as pa

from contamination.base.conversion import Notes
from contamination.sources.index import first

SHOWN = 5
COUNTED = {
    Notes.TRANSPARENT: "with transparent parts, laid on {background}",
    Notes.DEEP: "of more than 8 bits, scaled",
    Notes.PROFILE: "with a color profile, converted to sRGB",
    Notes.UNUSED_PROFILE: "with a color profile that cannot be used, read as sRGB",
}
NAMED = {
    Notes.ONE_COLOR: "of one color",
    Notes.NARROW: "that lose most of their range",
}


def words(images: pa.Table, background: str) -> list[str]:
    """Sentences of a table with the columns id and notes; images that show little or nothing are named."""
    notes = images["notes"].to_numpy()
    sentences = [
        f"{count:,} {text.format(background=background)}"
        for note, text in COUNTED.items()
        if (count := int((notes & note > 0).sum()))
    ]
    for note, text in NAMED.items():
        names = images["id"].filter(pa.array(notes & note > 0)).to_pylist()
        if names:
            sentences.append(f"{len(names):,} {text} ({first(names)})")
    return sentences
