"""The building blocks of a parameter file's typed sections."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # becomes part of a path
Ratio = Annotated[float, Field(ge=0, le=1, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
# What a field of `Optimisation` needs, where it is given otherwise than its default.
NEEDED = {
    "betas": ("optimizer", "adamw"),
    "momentum": ("optimizer", "sgd"),
    "warmup_steps": ("schedule", "cosine"),
    "final_rate": ("schedule", "cosine"),
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Optimisation(Section):
    """What every training has: the fields that `training.fit` reads."""

    steps: Count = 200
    batch_size: Count = 50
    learning_rate: Rate = 4e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    betas: Annotated[list[Decay], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    momentum: Decay = 0.9
    weight_decay: float = Field(0.05, ge=0)
    decay: Literal["all", "matrices"] = "all"
    clip_norm: float = Field(0.0, ge=0)
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    warmup_steps: int = Field(0, ge=0)
    final_rate: Share = 0.0
    ema_decay: Decay = 0.0
    mixed_precision: bool = True
    threads: Count = 1

    @model_validator(mode="after")
    def _fields_fit(self):
        for key, (other, value) in NEEDED.items():
            if getattr(self, key) != type(self).model_fields[key].default and getattr(self, other) != value:
                raise ValueError(f"{key} is of {other}: {value}, and here it is {getattr(self, other)}")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be fewer than the {self.steps} steps")
        return self


class Machine(Section):
    """How 03_train spreads a training over a machine. What is learned amounts to the same.

    The same but for rounding with another number of processes; a part of a batch draws random moves of its own, and
    batch normalisation is over the images that one process has at a time.
    """

    processes: Count = 1  # each with a GPU of its own where there are GPUs
    accumulation: Count = 1
    compiled: bool = False
    checkpoint_minutes: float = Field(10.0, ge=0)

    @model_validator(mode="after")
    def _equal_shares(self):
        parts = self.processes * self.accumulation
        if getattr(self, "batch_size", parts) % parts:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of {parts}, processes times accumulation: each takes an "
                "equal share"
            )
        return self


class Reading(Section):
    """How training images are read: the field that `reader.load` reads."""

    memory_gib: float = Field(4.0, ge=0)


class Cropping(Reading):
    """How training images are read where a network may see parts of them."""

    crop: Literal["none", "random"] = "none"
    crop_area: float = Field(0.08, gt=0, le=1)


class Moves(Section):
    """How images are moved at every visit: the fields that `training.augment` reads."""

    shift: Share = 0.1
    rotation: float = Field(10.0, ge=0, le=180)
    scale: float = Field(0.1, ge=0, lt=1)
    flip: bool = False


# Fields of a recipe that say how a machine does it, and not what: a training that is done holds with others, too.
HOW = {*Machine.model_fields, "threads", "memory_gib"}


def read(section: type[Section], values: dict, key: str = "") -> Section:
    """The values as a section. Raises ValueError in one line: each wrong key, below `key`, and what is allowed."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        problems = (_in_words(problem, section, key) for problem in error.errors())
        raise ValueError("; ".join(problems)) from None


def _in_words(problem: dict, section: type[Section], key: str) -> str:
    where = ".".join(filter(None, [key, *map(str, problem["loc"])]))
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key; allowed here: {', '.join(_known_keys(section, problem['loc'][:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    told = message if problem["type"] == "value_error" else f"{problem['input']!r}: {message}"
    return f"{where}: {told}" if where else told


def _known_keys(section: type[BaseModel], location: tuple) -> list[str]:
    for part in location:
        field = section.model_fields.get(str(part))
        section = section_in(field.annotation) if field else section
    return list(section.model_fields)


def section_in(annotation) -> type[BaseModel]:
    """The section class inside an annotation such as `Pretrain | None` or `dict[Name, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [section_in(part) for part in getattr(annotation, "__args__", ())]
    return next((part for part in inner if part is not Section), Section)
