"""Which slots are looked at, and what for: so that no detector meets a slot twice."""

import math

import numpy as np


def chosen(count: int, most: int, *, seed: int) -> np.ndarray:
    """The slots that are looked at: all, or where there are more than `most` as many at random; int64, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng([seed, 10]).permutation(count)[:most])


def parts(slots: np.ndarray, seed: int) -> np.ndarray:
    """What each slot's images are for: half of the slots "test", an eighth "calibrate", the rest "fit".

    The threshold has slots of its own because a detector parts the images it was fitted to too well: a threshold from
    them promises too much. slots: int64 (n,), each as often as it has images; their order and number make no
    difference. Returns strings (n,).
    """
    distinct, position = np.unique(slots, return_inverse=True)
    purpose = np.full(len(distinct), "fit", dtype="<U9")
    order = np.random.default_rng([seed, 7]).permutation(len(distinct))
    test, calibrate = len(distinct) // 2, math.ceil(len(distinct) / 8)
    purpose[order[:test]] = "test"
    purpose[order[test : test + calibrate]] = "calibrate"
    return purpose[position]
