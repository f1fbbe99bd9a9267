"""Which images of the training set become slots, and which are set apart as the pool, by the study's seed."""

import hashlib
import math
from fractions import Fraction

import numpy as np


def of_train(columns: dict, names: list[str], *, data: dict, seed: int) -> dict[str, np.ndarray]:
    """Which rows of the training set each split has: bool (n,) each; none where the data section parts nothing.

    columns: those of all images of `train`, `id` and `label` among them. names: the classes. data: its `pool`, a share,
    sets that share of every class apart as `pool`, rounded up; its `per_class` leaves `train` at most as many of each
    class. With fewer per class, or a smaller share, the same images are taken first.
    Raises ValueError where nothing is left of a class.
    """
    share = data["pool"] if isinstance(data.get("pool"), float) else 0
    if not share and not data.get("per_class"):
        return {}
    labels = np.asarray(columns["label"])
    rank, sizes = ranks(labels, columns["id"].to_pylist(), seed=seed), np.bincount(labels, minlength=len(names))
    # Up, so that half of every class has an image for every slot. As it is written: 0.07 of 100 is 7, though 0.07 * 100
    # is a little more in binary.
    apart = np.array([math.ceil(Fraction(str(share)) * size) for size in sizes.tolist()])
    if share and (apart == sizes).any():
        name = names[int(np.argmax(apart == sizes))]
        raise ValueError(f"pool: {share} of the images of {name} in train, rounded up, leaves no slot: give fewer")
    pool = rank < apart[labels]
    slots = ~pool & (rank < apart[labels] + (data.get("per_class") or len(labels)))
    return {"train": slots} | ({"pool": pool} if share else {})


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
