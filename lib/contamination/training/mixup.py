"""What is done to a whole batch of images to classify: random erasing, mixup and CutMix, as in timm.

All random numbers come from `loop.SharedRandom`, so that several processes compute together what one would alone. The
one an image is mixed with is its neighbor in the batch, which is in random order; so a share of a batch must be even.
"""

import math

import numpy as np

from contamination.training.loop import index_below

# Standard deviation of the normal noise that replaces erased pixels: that of ImageNet's pixels, in -1..1, where their
# mean is -0.1, close enough to 0.
NOISE = 0.45
AREA = (0.02, 1 / 3)  # of what is erased, share of the image
ASPECT = (0.3, 1 / 0.3)  # of what is erased, height to width


def require_pairs(batch_size: int, processes: int, *, accumulation: int) -> None:
    """Raise ValueError when the images that a process takes at a time cannot be mixed two by two."""
    multiple = 2 * processes * accumulation
    if batch_size % multiple:
        raise ValueError(
            f"mixup and cutmix mix images two by two: batch_size {batch_size} must be a multiple of {multiple}, twice "
            f"processes {processes} times accumulation {accumulation}"
        )


def erase(images, probability: float, *, draws):
    """Put noise into a rectangle of some images (Zhong et al., AAAI 2020).

    images: float (n, 3, height, width), -1..1. A rectangle that is longer than the image ends at its border.
    """
    import torch

    if not probability:
        return images
    numbers = draws.uniform(5, len(images), images=1)
    noise = draws.normal(*images.shape) * NOISE
    area = AREA[0] + (AREA[1] - AREA[0]) * numbers[1]
    aspect = (math.log(ASPECT[0]) * (1 - 2 * numbers[2])).exp()  # from one limit to the other, its inverse
    rows = _stretch((area * aspect).sqrt(), numbers[3], images.shape[2])
    columns = _stretch((area / aspect).sqrt(), numbers[4], images.shape[3])
    chosen = (numbers[0] < probability)[:, None, None]
    return torch.where((rows[:, :, None] & columns[:, None, :] & chosen)[:, None], noise, images)


def _stretch(share, place, side: int):
    """Which of `side` pixels lie in a stretch of this share of them, bool (n, side); place: 0..1, where it lies."""
    import torch

    length = (share * side).round().clamp(max=side)
    start = index_below(place, side - length + 1)[:, None]
    pixels = torch.arange(side, device=share.device)
    return (pixels >= start) & (pixels < start + length[:, None])


def mix(images, labels, *, recipe: dict, draws) -> tuple:
    """Mix each image with its neighbor: every pixel (mixup, Zhang et al. 2018) or a box (CutMix, Yun et al. 2019).

    images: float (n, 3, height, width). labels: int64 (n,). recipe: mixup and cutmix, the parameters of Beta
    distributions, 0 for never; where both are given each is as likely. All images of a batch are mixed alike.
    Returns the images and a list of (labels, share), where the shares add up to 1.
    """
    import torch

    if not recipe["mixup"] and not recipe["cutmix"]:
        return images, [(labels, 1.0)]
    rng, others = draws.together(), _neighbors(images)
    cut = rng.random() < (0.5 if recipe["mixup"] and recipe["cutmix"] else bool(recipe["cutmix"]))
    alpha = recipe["cutmix" if cut else "mixup"]
    share = float(rng.beta(alpha, alpha))
    if cut:
        (rows, columns), share = box(images.shape[2:], share, rng=rng)
        mixed = images.clone()
        mixed[:, :, rows, columns] = others[:, :, rows, columns]
    else:
        mixed = torch.lerp(others, images, share)
    return mixed, [(labels, share), (_neighbors(labels), 1 - share)]


def _neighbors(values):
    """The first and the second changed places, the third and the fourth, and so on."""
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


def box(shape: tuple[int, int], share: float, *, rng: np.random.Generator) -> tuple[list[slice], float]:
    """A box of the image's shape around a random pixel, cut off at the border, and the share of pixels outside it.

    shape: height and width. share: what would be outside, 0..1, were nothing cut off.
    """
    slices = []
    for side in shape:
        length, center = int(side * math.sqrt(1 - share)), int(rng.integers(side))
        slices.append(slice(max(0, center - length // 2), min(side, center + (length + 1) // 2)))
    inside = math.prod(each.stop - each.start for each in slices)
    return slices, 1 - inside / math.prod(shape)


def cross_entropy(scores, targets: list[tuple], *, smoothing: float):
    """The mean over the images. targets: (labels, share), as `mix` gives them. smoothing: share spread over classes."""
    from torch.nn import functional

    return sum(share * functional.cross_entropy(scores, labels, label_smoothing=smoothing) for labels, share in targets)
