"""Which images of the training set become slots, and which are set apart as pool and test set, by the study's seed."""

import hashlib
import math
from fractions import Fraction

import numpy as np


def of_train(columns: dict, names: list[str], *, data: dict, seed: int) -> dict[str, np.ndarray]:
    """Which rows of the training set each split has: bool (n,) each; none where the data section parts nothing.

    columns: those of all images of `train`, `id` and `label` among them. names: the classes. data: its `pool` and
    `test`, where they are shares, set those shares of every class apart, rounded up; its `per_class` leaves `train` at
    most as many of each class. With fewer per class, or a smaller share, the same images are taken first; a pool takes
    the first of each class, a test set the last, so that neither changes the other.
    Raises ValueError where nothing is left of a class.
    """
    parted = shares(data)
    if not parted and not data.get("per_class"):
        return {}
    labels = np.asarray(columns["label"])
    rank, sizes = ranks(labels, columns["id"].to_pylist(), seed=seed), np.bincount(labels, minlength=len(names))
    apart, tested = (
        np.array([set_apart(parted.get(split, 0), size) for size in sizes.tolist()]) for split in ("pool", "test")
    )
    if parted and (apart + tested >= sizes).any():
        name = names[int(np.argmax(apart + tested >= sizes))]
        asked = " and ".join(f"{split}: {share}" for split, share in parted.items())
        raise ValueError(f"{asked} of the images of {name} in train, rounded up, leaves no slot: give fewer")
    pool, test = rank < apart[labels], rank >= (sizes - tested)[labels]
    slots = ~pool & ~test & (rank < apart[labels] + (data.get("per_class") or len(labels)))
    return {"train": slots} | {split: rows for split, rows in (("pool", pool), ("test", test)) if split in parted}


def shares(data: dict) -> dict[str, float]:
    """The splits that a `data` section sets apart from train, each with its share."""
    return {split: data[split] for split in ("pool", "test") if isinstance(data.get(split), float)}


def set_apart(share: float, size: int) -> int:
    """How many of the images of a class a share sets apart: rounded up, so that half has an image for every slot.

    As the share is written: 0.07 of 100 is 7, though 0.07 * 100 is a little more in binary.
    """
    return math.ceil(Fraction(str(share)) * size)


def ranks(labels: np.ndarray, identities: list[str], *, seed: int) -> np.ndarray:
    """The place of each image in a random order of its class, from 0: int64 (n,).

    The order is that of a hash of seed and identity: an image more or less does not change it for the others.
    """
    keys = b"".join(hashlib.blake2b(f"{seed} {each}".encode(), digest_size=8).digest() for each in identities)
    order = np.lexsort((np.frombuffer(keys, dtype=">u8"), labels))
    sizes = np.bincount(labels)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - (np.cumsum(sizes) - sizes)[labels[order]]
    return rank
