"""The share of real images that a ratio replaces: whole images of every class, so not always the ratio itself."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from contamination.base.layout import spell_ratio


class Share(NamedTuple):
    """What a ratio really replaces, as shares of 1: of all real images, and of the classes that lose least and most."""

    all: float
    lowest: float
    highest: float


def counts(sizes: np.ndarray, ratio: float) -> np.ndarray:
    """Images replaced of each class: int64, shape (classes,), round(ratio * size) with halves up.

    sizes: int (classes,).
    """
    # The tiny term keeps a half that is a little less in binary, such as 0.145 * 100, from being rounded down.
    return np.floor(ratio * sizes + 0.5 + 1e-9).astype(np.int64)


def of(labels: np.ndarray, ratio: float) -> Share:
    """The share that a ratio replaces. labels: class index of each slot, int (slots,)."""
    return _of_sizes(np.bincount(labels), ratio)


def check(ratios: Sequence[float], sizes: Sequence[int]) -> None:
    """Raise ValueError for a ratio above 0 that replaces no image or all below 1, and for two of the same mixtures.

    sizes: images of each class of the training set.
    """
    of_classes = np.asarray(sizes)
    made: dict[tuple, float] = {}
    for ratio in sorted(ratios):
        replaced = tuple(counts(of_classes, ratio).tolist())
        if ratio > 0 and not any(replaced):
            raise ValueError(
                f"ratio {spell_ratio(ratio)} replaces no image: the largest class has {max(sizes)}, so the smallest "
                f"ratio is {0.5 / max(sizes):.2g}"
            )
        if ratio < 1 and sum(replaced) == sum(sizes):
            raise ValueError(
                f"ratio {spell_ratio(ratio)} leaves no real image: classes have {max(sizes)} images at most; "
                "write 1, or a smaller ratio"
            )
        if replaced in made:
            raise ValueError(
                f"ratios {spell_ratio(made[replaced])} and {spell_ratio(ratio)} give the same mixtures: each replaces "
                f"{in_words(_of_sizes(of_classes, ratio))} of the real images; leave one of them out"
            )
        made[replaced] = ratio


def remarks(ratios: Sequence[float], sizes: Sequence[int]) -> list[str]:
    """A line for each ratio that is not the share replaced, and for each that leaves a class without a real image."""
    of_classes, lines = np.asarray(sizes), []
    for ratio in sorted(ratios):
        share = _of_sizes(of_classes, ratio)
        if differs(share, ratio):
            lines.append(f"ratio {spell_ratio(ratio)} replaces {in_words(share)} of the real images")
        if ratio < 1 and share.highest == 1:
            emptied = int((counts(of_classes, ratio) == of_classes).sum())
            lines.append(f"ratio {spell_ratio(ratio)} leaves {emptied} of {len(sizes)} classes without a real image")
    return lines


def differs(share: Share, ratio: float) -> bool:
    """Whether it is not the ratio, over all or in some class, by more than a tenth of a point."""
    return max(abs(each - ratio) for each in share) > 0.001


def in_words(share: Share) -> str:
    """In percent, with the range over classes where they differ, e.g. `10.3 % (9.1 to 12.5 % by class)`."""
    mean, low, high = (f"{100 * each:.3g}" for each in share)
    return f"{mean} %" if low == high else f"{mean} % ({low} to {high} % by class)"


def _of_sizes(sizes: np.ndarray, ratio: float) -> Share:
    sizes = sizes[sizes > 0]
    replaced = counts(sizes, ratio)
    of_classes = replaced / sizes
    return Share(float(replaced.sum() / sizes.sum()), float(of_classes.min()), float(of_classes.max()))
