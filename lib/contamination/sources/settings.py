"""The section `data` of a parameter file."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from contamination import sources
from contamination.base.settings import Count, Name, Section


class Data(Section):
    """The real images."""

    source: Literal[tuple(sources.KINDS)] = "digits"
    image_size: Count = 16
    pool: str | dict[str, str] | float | None = None
    train: str | dict[str, str] | None = None
    test: str | dict[str, str] | None = None
    shifted: dict[Name, str] | None = None
    names: str | None = None
    mapping: str | None = None
    columns: dict[Literal["image", "label", "caption"], str] | None = None
    per_class: Count | None = None
    # Left out where it is the default: what images depend on keeps its name.
    broken: Literal["refuse", "skip"] = Field("refuse", exclude_if=lambda policy: policy == "refuse")
    workers: Count = Field(1, exclude=True)  # another number gives the same images

    @field_validator("pool", "train", "test", mode="before")
    @classmethod
    def _one_place(cls, place, info):
        if info.field_name == "pool" and isinstance(place, float) and 0 < place < 1:
            return place
        if isinstance(place, dict) and (
            set(place) != {"images", "annotations"} or not all(isinstance(path, str) for path in place.values())
        ):
            raise ValueError("give images (a folder) and annotations (a file), and nothing else")
        if not isinstance(place, str | dict | None):
            share = ", or a share of train between 0 and 1" if info.field_name == "pool" else ""
            raise ValueError(f"{place!r}: give a path, or images and annotations{share}")
        return place

    @model_validator(mode="after")
    def _fits_its_source(self):
        if "test" in (self.shifted or {}):
            raise ValueError("shifted.test: this name is taken by the ordinary test set")
        sources.kind(self.model_dump()).check(self.model_dump())
        return self
