"""What every training has in common, as the sections of a parameter file's recipes."""

from typing import Literal

from pydantic import Field, model_validator

from contamination.base.settings import Count, Decay, Rate, Section, Share

# What a field of `Optimisation` needs, where it is given otherwise than its default.
NEEDED = {
    "betas": ("optimizer", "adamw"),
    "momentum": ("optimizer", "sgd"),
    "warmup_steps": ("schedule", "cosine"),
    "final_rate": ("schedule", "cosine"),
}


class Optimisation(Section):
    """What every training has: the fields that `loop.fit` reads."""

    steps: Count = 200
    batch_size: Count = 50
    learning_rate: Rate = 4e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    betas: list[Decay] = Field([0.9, 0.999], min_length=2, max_length=2)
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
    """How images are moved at every visit: the fields that `loop.augment` reads."""

    shift: Share = 0.1
    rotation: float = Field(10.0, ge=0, le=180)
    scale: float = Field(0.1, ge=0, lt=1)
    flip: bool = False


# Fields of a recipe that say how a machine does it, and not what: a training that is done holds with others, too.
HOW = {*Machine.model_fields, "threads", "memory_gib"}
