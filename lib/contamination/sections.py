"""The building blocks of a parameter file's typed sections."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # becomes part of a path
Ratio = Annotated[float, Field(ge=0, le=1, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Optimisation(Section):
    """What every training has: the fields that `training.fit` reads."""

    steps: Count = 200
    batch_size: Count = 50
    learning_rate: Rate = 4e-3
    weight_decay: float = Field(0.05, ge=0)
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    ema_decay: Decay = 0.0
    mixed_precision: bool = True
    threads: Count = 1


class Moves(Section):
    """How images are moved at every visit: the fields that `training.augment` reads."""

    shift: Share = 0.1
    rotation: float = Field(10.0, ge=0, le=180)
    scale: float = Field(0.1, ge=0, lt=1)
    flip: bool = False


def read(section: type[Section], values: dict, key: str) -> Section:
    """The values as a section. Raises ValueError in one line that names the first wrong key, below `key`."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join([key, *map(str, problem["loc"])])
        if problem["type"] == "extra_forbidden":
            raise ValueError(f"{where}: unknown key; allowed here: {', '.join(section.model_fields)}") from None
        raise ValueError(f"{where}: {problem['msg'].removeprefix('Value error, ')}") from None
