"""What is drawn at random in one training, and varies from one to the next where a study says so."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

Numbers = tuple[int, ...]


class Replicate(NamedTuple):
    """seed: of initial weights, order of images and augmentation.

    draw: of the generator's training and of the noise of its images. slots: of which slots are replaced, and by which
    images of the pool.
    """

    seed: int
    draw: int
    slots: int


def of_lists(seeds: Sequence[int], draws: Sequence[int] = (), slots: Sequence[int] = ()) -> list[Replicate]:
    """One replicate for each seed: of draw 0 where there are no draws, with slots of its own where there are none.

    Raises ValueError for lists of other lengths.
    """
    for name, numbers in (("draws", draws), ("slots", slots)):
        if len(numbers) not in (0, len(seeds)):
            raise ValueError(f"{name} {list(numbers)}: give one for each of the {len(seeds)} seeds, or none at all")
    return [Replicate(*each) for each in zip(seeds, draws or [0] * len(seeds), slots or seeds, strict=True)]


def lists(replicates: Iterable[Replicate]) -> tuple[Numbers, Numbers, Numbers]:
    """Seeds, draws and slots as `of_lists` takes them, the latter two empty where they are what it takes then."""
    seeds, draws, slots = zip(*replicates, strict=True)
    return seeds, draws if any(draws) else (), slots if slots != seeds else ()
