"""Prompts: what the text-to-image model is asked for, for every slot.

`class_name` is the paper's SD-ImageNet, `diverse` its Complex SD-ImageNet, `caption` its SD-COCO.
"""

import numpy as np

from contamination.sources import readable_names

# The paper's lists, from the authors' generation script; each part is drawn uniformly and independently per image.
PREFIXES = (
    "",
    "high quality",
    "low quality",
    "monochrome",
    "blurred",
    "atmospheric",
    "rendered",
    "zoomed",
    "wide-angle",
    "hdr",
    "high resolution",
)
MEDIUMS = ("photo", "picture", "realistic photo", "realistic drawing")
SUFFIXES = ("", "taken with iPhone", "inside", "outside", "without background")

STYLES = ("class_name", "diverse", "caption")


def write_prompts(
    style: str, names: list[str], *, captions: list[str], slots: list[int], seed: int, names_file: str = ""
) -> list[str]:
    """One prompt per slot.

    names: class folder of each slot. captions: caption of each slot's real image. slots: slot numbers; a slot's prompt
    depends on (seed, slot) and its class alone, so that any subset of slots gets the same prompts. names_file: what
    the classes are called, where the words of `readable_names` will not do. Raises ValueError or FileNotFoundError for
    an unknown style and a wrong names file.
    """
    if style == "caption":
        return list(captions)
    if style not in STYLES:
        raise ValueError(f"prompt style {style!r} is not known: give one of {', '.join(STYLES)}")
    classes = readable_names.readable(list(dict.fromkeys(names)), names_file)
    if style == "class_name":
        return [f"photo of {classes[name].name}" for name in names]
    return [
        _vary(classes[name].synonyms, np.random.default_rng([seed, 1, slot]))
        for name, slot in zip(names, slots, strict=True)
    ]


def _vary(synonyms: tuple[str, ...], rng: np.random.Generator) -> str:
    prefix, medium, suffix, synonym = (_draw(words, rng) for words in (PREFIXES, MEDIUMS, SUFFIXES, synonyms))
    return " ".join(part for part in (prefix, medium, "of", synonym, suffix) if part)


def _draw(words: tuple[str, ...], rng: np.random.Generator) -> str:
    """What `rng.choice` draws, without making an array of the words each time: half the time for all slots."""
    return words[rng.integers(len(words))]
