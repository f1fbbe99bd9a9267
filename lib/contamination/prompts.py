"""Prompts: what the text-to-image model is asked for, for every slot.

`class_name` is the paper's SD-ImageNet, `varied` its Complex SD-ImageNet, `caption` its SD-COCO.
"""

import numpy as np

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

# What else a class may be called. A name that is not here has no synonym but itself.
SYNONYMS = {
    "zero": ("zero", "nought", "0"),
    "one": ("one", "1"),
    "two": ("two", "2"),
    "three": ("three", "3"),
    "four": ("four", "4"),
    "five": ("five", "5"),
    "six": ("six", "6"),
    "seven": ("seven", "7"),
    "eight": ("eight", "8"),
    "nine": ("nine", "9"),
}

STYLES = ("class_name", "varied", "caption")


def write_prompts(style: str, names: list[str], captions: list[str], slots: list[int], seed: int) -> list[str]:
    """One prompt per slot.

    names: class name of each slot. captions: caption of each slot's real image. slots: slot numbers; a slot's prompt
    depends on (seed, slot) alone, so that any subset of slots gets the same prompts.
    """
    if style == "class_name":
        return [f"photo of {_readable(name)}" for name in names]
    if style == "caption":
        return list(captions)
    if style == "varied":
        return [_vary(name, np.random.default_rng([seed, 1, slot])) for name, slot in zip(names, slots, strict=True)]
    raise ValueError(f"prompt style {style!r} is not known: give one of {', '.join(STYLES)}")


def _vary(name: str, rng: np.random.Generator) -> str:
    prefix, medium, suffix = rng.choice(PREFIXES), rng.choice(MEDIUMS), rng.choice(SUFFIXES)
    synonym = rng.choice(SYNONYMS.get(name, (_readable(name),)))
    return " ".join(part for part in (prefix, medium, "of", synonym, suffix) if part)


def _readable(name: str) -> str:
    return name.replace("_", " ")
