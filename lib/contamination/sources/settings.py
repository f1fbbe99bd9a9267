"""The section `data` of a parameter file."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from contamination import sources
from contamination.base import conversion
from contamination.base.settings import Count, Name, Section

SourceKind: Any = Literal[tuple(sources.KINDS)]  # any to a type checker: the names are known when this runs


class Data(Section):
    """The real images."""

    source: SourceKind = "digits"
    """`digits`, `folders`, `coco` or `datasets`, see above"""
    image_size: Count = 16
    """pixels per side at which models see real images and generated ones are stored"""
    pool: str | dict[str, str] | float | None = None
    """the pool, as above; paths are relative to the project, or absolute; or a share of `train`, such as `0.5`: of each
    class so much, rounded up, is set apart by `seed`, and slots are the others (arm `other_real` needs a pool image for
    every slot: `0.5` or more, or `per_class`); to be left out where nothing takes images from it"""
    train: str | dict[str, str] | None = None
    """the training set"""
    test: str | dict[str, str] | float | None = None
    """the test set; or a share of `train`, such as `0.2`: of each class so much, rounded up, is set apart by `seed`"""
    ood: dict[Name, str] | None = None
    """name: folder tree of an OOD test set that classifiers are scored on too (only for `folders`; the digits have
    their own)"""
    names: str | None = None
    """file of class names for the captions of images that have none, `photo of {name}`: a .csv with the columns folder,
    name and, if wanted, synonyms, or a .json `{folder: [name, synonym, ...]}`; without it WordNet's words for folders
    such as `n01440764`, and other folders as they are called (for `folders` and `datasets`)"""
    mapping: str | None = None
    """which class of `train` each folder of the pool is, where they are called otherwise: WebVision's
    `info/synsets.txt`, or a .csv with the columns folder and class; images of other classes are left out (only for
    `folders`)"""
    columns: dict[Literal["image", "label", "caption"], str] | None = None
    """what the columns image, label and caption are called in the dataset, where otherwise, such as `{image: img}`
    (only for `datasets`)"""
    per_class: Count | None = None
    """at most so many images of a class of `train` become slots, drawn by `seed` after the pool was set apart (without
    classes: so many in all); the slots of a smaller number are among those of a larger one"""
    # Left out where it is the default: what images depend on keeps its name.
    broken: Literal["refuse", "skip"] = Field("refuse", exclude_if=lambda policy: policy == "refuse")
    """images that cannot be decoded, are missing or (`folders`, `coco`) have no caption: `refuse` stops before any
    work, `skip` leaves them out"""
    twins: Literal["refuse", "drop"] = Field("refuse", exclude_if=lambda policy: policy == "refuse")
    """images with the same pixels in a split that is learned from and one that is scored, in pool and train, or in an
    imported set and a real split: `refuse` stops before any work, `drop` takes them out of what is learned from (where
    an OOD set or an imported set has them, out of that set)"""
    background: str = Field(conversion.WHITE, exclude_if=lambda color: color == conversion.WHITE)
    """color behind transparent parts of images, by one of Pillow's names: `white`, `#808080`"""
    workers: Count = Field(1, exclude=True)
    """processes that decode all images once, to find the broken ones"""

    @field_validator("pool", "train", "test", mode="before")
    @classmethod
    def _one_place(cls, place, info):
        if info.field_name != "train" and isinstance(place, float) and 0 < place < 1:
            return place
        if isinstance(place, dict) and (
            set(place) != {"images", "annotations"} or not all(isinstance(path, str) for path in place.values())
        ):
            raise ValueError("give images (a folder) and annotations (a file), and nothing else")
        if not isinstance(place, str | dict | None):
            share = ", or a share of train between 0 and 1" if info.field_name != "train" else ""
            raise ValueError(f"{place!r}: give a path, or images and annotations{share}")
        return place

    @field_validator("background")
    @classmethod
    def _is_color(cls, color):
        from PIL import ImageColor

        try:
            ImageColor.getrgb(color)
        except ValueError:
            raise ValueError(f"{color!r} is not a color: give a name such as white, or #rrggbb") from None
        return color

    @model_validator(mode="after")
    def _fits_its_source(self):
        if "test" in (self.ood or {}):
            raise ValueError("ood.test: this name is taken by the ordinary test set")
        sources.kind(self.model_dump()).check(self.model_dump())
        return self
