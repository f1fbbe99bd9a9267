"""What takes the place of the real images that a mixture gives up: one row per arm, and nothing of it elsewhere."""

from typing import NamedTuple

TRAIN = "train"  # the real images of the slots themselves
POOL = "pool"
SET = "set"  # each generated set in turn
NOTHING = "none"


class Arm(NamedTuple):
    """images: where those come from that take the place: `TRAIN`, `POOL`, `SET` or `NOTHING`.

    label: in legends and tables. color: of its curves; an arm of sets has none, for each set has its own. Both are told
    apart with any color vision (Okabe and Ito).
    control: how the summary begins what it says of a control; an arm without such words is what a study is about.
    at_one: whether it is defined where no real image is left.
    """

    name: str
    images: str
    label: str
    color: str = ""
    control: str = ""
    at_one: bool = True

    @property
    def of_sets(self) -> bool:
        return self.images == SET

    @property
    def leaves_slots_empty(self) -> bool:
        return self.images == NOTHING

    @property
    def only_own_images(self) -> bool:
        """Whether every image in the mixture is the slot's own real one."""
        return self.images in (TRAIN, NOTHING)

    def sources(self, sets: list[str]) -> list[str]:
        """The sources that it has one mixture each of. sets: the generated ones."""
        return sets if self.of_sets else [self.images]

    def label_of(self, source: str) -> str:
        return f"{self.label}: {source}" if self.of_sets else self.label


CLEAN = Arm("clean", TRAIN, "all real (ratio 0)", "black")  # ratio 0, the same for all arms
GENERATED = Arm("generated", SET, "generated")
OTHER_REAL = Arm(
    "other_real", POOL, "unseen real images", "#0072b2", control="unseen real images in the same slots change it by"
)
DROPPED = Arm(
    "dropped", NOTHING, "dropped (slots left empty)", "#6b6b6b", "leaving the slots empty changes it by", at_one=False
)

ARMS = {arm.name: arm for arm in (CLEAN, GENERATED, OTHER_REAL, DROPPED)}


def of(name: str) -> Arm:
    """The arm of a name. Raises ValueError for one that is not known."""
    if name not in ARMS:
        raise ValueError(f"arm {name!r} is not known: give one of {', '.join(ARMS)}")
    return ARMS[name]


def of_source(source: str) -> Arm:
    """The arm that puts images of a source into slots, as which the measures of a set of images are listed."""
    return next((arm for arm in ARMS.values() if arm.images == source), GENERATED)


def in_grid(name: str) -> str:
    """The name of an arm as a parameter file may give it; ratio 0 is there by itself. Raises ValueError for another."""
    known = [arm for arm in ARMS if arm != CLEAN.name]
    if name not in known:
        raise ValueError(f"arm {name!r} is not known: give one of {', '.join(known)}")
    return name
