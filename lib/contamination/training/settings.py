"""What every training has in common, as the sections of a parameter file's recipes."""

from typing import Literal

from pydantic import Field, model_validator

from contamination.base.settings import Count, Decay, Rate, Section, Share

# What a field of `Optimization` needs, where it is given otherwise than its default.
REQUIRES = {
    "betas": ("optimizer", "adamw"),
    "momentum": ("optimizer", "sgd"),
    "warmup_steps": ("schedule", "cosine"),
    "final_rate": ("schedule", "cosine"),
}


class Optimization(Section):
    """What every training has: the fields that `loop.fit` reads."""

    steps: Count = 200
    """optimizer steps"""
    batch_size: Count = 50
    """images per step"""
    learning_rate: Rate = 4e-3
    """the highest of the schedule"""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """`adamw`, or `sgd` with Nesterov's momentum"""
    betas: list[Decay] = Field([0.9, 0.999], min_length=2, max_length=2)
    """AdamW's: decays of the averages of the gradient and of its square; the schedule `one_cycle` moves the first
    itself"""
    momentum: Decay = 0.9
    """SGD's; the schedule `one_cycle` moves it itself"""
    weight_decay: float = Field(0.05, ge=0)
    """weight decay; AdamW takes it off the weights, SGD adds it to the gradient"""
    decay: Literal["all", "matrices"] = "all"
    """which weights decay: `all`, or `matrices`: no bias, norm, class token, position or other vector"""
    clip_norm: float = Field(0.0, ge=0)
    """greatest norm of all gradients together; 0: no limit"""
    schedule: Literal["one_cycle", "cosine"] = "one_cycle"
    """`one_cycle` (30 % rise, then cosine to zero) or `cosine`"""
    warmup_steps: int = Field(0, ge=0)
    """steps in which the rate of `cosine` first rises, evenly"""
    final_rate: Share = 0.0
    """share of the learning rate that `cosine` falls to; with 1 it stays"""
    ema_decay: Decay = 0.0
    """decay of a moving average of the weights, which is then what is used; 0: none"""
    mixed_precision: bool = True
    """bfloat16 where the device is a GPU"""
    threads: Count = 1
    """CPU threads of one job"""

    @model_validator(mode="after")
    def _fields_fit(self):
        for key, (other, value) in REQUIRES.items():
            if getattr(self, key) != type(self).model_fields[key].default and getattr(self, other) != value:
                raise ValueError(f"{key} is of {other}: {value}, and here it is {getattr(self, other)}")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be fewer than the {self.steps} steps")
        return self


class Runtime(Section):
    """How 03_train spreads a training over a machine. What is learned amounts to the same.

    The same but for rounding with another number of processes; a part of a batch draws random moves of its own, and
    batch normalization is over the images that one process has at a time.
    """

    processes: Count = 1
    """processes of one training, which share every batch, each with a GPU of its own where there are GPUs"""
    accumulation: Count = 1
    """parts in which a process takes its share of a batch, one after the other, where memory is too small for all"""
    compiled: bool = False
    """whether the network goes through `torch.compile`, which needs a C compiler on the machine"""
    checkpoint_minutes: float = Field(10.0, ge=0)
    """minutes between checkpoints, from which a training that was cut off goes on"""

    @model_validator(mode="after")
    def _equal_shares(self):
        parts = self.processes * self.accumulation
        size = getattr(self, "batch_size", parts)
        if size % parts:
            raise ValueError(
                f"batch_size {size} is no multiple of {parts}, processes times accumulation: each takes an equal share"
            )
        return self


class LoadingOptions(Section):
    """How training images are read: the field that `reader.load` reads."""

    memory_gib: float = Field(4.0, ge=0)
    """decoded images are held in memory where they take no more than this, GiB; more of them are read anew at every
    visit, by one thread or by as many processes as the job has `threads`; the results are the same"""


class CropAugmentation(LoadingOptions):
    """How training images are read where a network may see parts of them."""

    crop: Literal["none", "random"] = "none"
    """what a network sees of an image at every visit: `none`: the middle square; `random`: a part of `crop_area` to all
    of its area, of aspect 3:4 to 4:3, half of them mirrored, which is not for digits and letters; cropped images are
    read anew at every visit"""
    crop_area: float = Field(0.08, gt=0, le=1)
    """the least share of an image's area that a random crop has, up to 1"""


class AffineAugmentation(Section):
    """How images are moved at every visit: the fields that `loop.augment` reads."""

    shift: Share = 0.1
    """augmentation: greatest shift, share of the side"""
    rotation: float = Field(10.0, ge=0, le=180)
    """augmentation: greatest angle, degrees"""
    scale: float = Field(0.1, ge=0, lt=1)
    """augmentation: greatest relative change of size"""
    flip: bool = False
    """augmentation: mirror half of the images; not for digits and letters"""


# Fields of a recipe that say how a machine does it, and not what: a training that is done holds with others, too.
RUNTIME_FIELDS = {*Runtime.model_fields, "threads", "memory_gib"}
