"""RandAugment (Cubuk et al., NeurIPS 2020): a few random changes of an image, anew at every visit.

As timm means `rand-m9-mstd0.5-inc1`: its fifteen operations, each taken with probability 1/2, of a magnitude that
varies from one to the next and makes every one of them more severe. The operations on pixels are timm's own, by Pillow;
what is drawn is drawn here, since timm's draws are those of the whole process and not of an image.
"""

from typing import NamedTuple

import numpy as np

MOST = 10.0  # magnitude
TAKEN = 0.5  # probability of each operation that is drawn
FILL = (128, 128, 128)  # what lies outside of the image: 0 to a network that sees -1..1
OPERATIONS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)


class Operation(NamedTuple):
    """A change of an image. level: 0 to 1, how severe. sign: 1 or -1, to which side."""

    name: str
    level: float
    sign: int


class RandAugment:
    """Changes images; what becomes of one depends on a key alone.

    recipe: the fields randaugment (mean magnitude, of 10), randaugment_std (of a normal distribution, cut at 0
    and 10) and randaugment_operations (how many are drawn).
    """

    def __init__(self, recipe: dict):
        from timm.data import auto_augment

        self.recipe, self.functions = recipe, auto_augment.NAME_TO_OP

    def __call__(self, image, key: list[int]):
        """uint8 (3, height, width) to the same. key: the numbers that everything random follows from."""
        import torch
        from PIL import Image

        operations = draw(self.recipe, key)
        if not operations:
            return image
        changed = Image.fromarray(image.permute(1, 2, 0).numpy())
        for each in operations:
            changed = self.apply(each, changed)
        return torch.from_numpy(np.array(changed)).permute(2, 0, 1)

    def apply(self, operation: Operation, image):
        """A PIL image, changed. Bicubic, as images are resized in a study."""
        from PIL import Image

        function = self.functions[operation.name]
        return function(image, *arguments(operation), fillcolor=FILL, resample=Image.Resampling.BICUBIC)


def draw(recipe: dict, key: list[int]) -> list[Operation]:
    """What is done to one image, in this order; each operation may come more than once."""
    rng, count = np.random.default_rng(key), recipe["randaugment_operations"]
    names, taken, signs = rng.integers(len(OPERATIONS), size=count), rng.random(count), rng.integers(2, size=count)
    magnitudes = rng.normal(recipe["randaugment"], recipe["randaugment_std"], count).clip(0, MOST)
    drawn = zip(names, magnitudes / MOST, signs * 2 - 1, taken, strict=True)
    return [Operation(OPERATIONS[name], float(level), int(sign)) for name, level, sign, share in drawn if share < TAKEN]


def arguments(operation: Operation) -> tuple:
    """What timm's function takes beside the image, as its own levels give it."""
    name, level, sign = operation
    if name in ("AutoContrast", "Equalize", "Invert"):
        return ()
    if name == "Rotate":
        return (sign * level * 30,)  # degrees
    if name in ("ShearX", "ShearY"):
        return (sign * level * 0.3,)
    if name in ("TranslateXRel", "TranslateYRel"):
        return (sign * level * 0.45,)  # share of the side
    if name == "PosterizeIncreasing":
        return (max(1, 4 - int(level * 4)),)  # bits that are kept; of timm's 0, black, Pillow 13 makes an error
    if name == "SolarizeIncreasing":
        return (256 - int(level * 256),)  # from this value on inverted
    if name == "SolarizeAdd":
        return (int(level * 110),)  # added to what is below 128
    return (max(0.1, 1 + sign * level * 0.9),)  # times as much color, contrast, brightness or sharpness
