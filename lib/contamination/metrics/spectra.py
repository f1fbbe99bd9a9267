"""What an image's fine structure is like: its power over spatial frequency.

All functions take pixels uint8 (n, 3, side, side). Each channel is read in 0..1 and its own mean taken off. A
frequency's power is |FFT|^2 over the number of pixels, so the mean power over all frequencies is the channel's variance
(Parseval) and white noise has the power of its variance at every frequency. Frequencies are in cycles per pixel; the
axes end at 0.5 (Nyquist), the corners at 0.71. Upsampling in a generator leaves its marks near both (Durall et al.,
CVPR 2020; Frank et al., ICML 2020).
"""

import numpy as np

from contamination.metrics.intervals import interval

ROUNDING = 1 / 255**2 / 12  # the power that rounding to 256 levels leaves at every frequency
BLOCK = 32  # images transformed at once


def radial_power(pixels) -> tuple[np.ndarray, np.ndarray]:
    """Mean power over the frequencies of one radius: frequencies (bins,) and power, float64 (n, 3, bins).

    Bin k has the frequencies whose radius rounds to k cycles per side, from 1 to the corner. Their means weighted by
    the number of frequencies in each bin give the channel's variance.
    """
    import torch

    rings = _radii(pixels.shape[-1]).round().long().flatten()
    sizes = rings.bincount()
    empty = torch.zeros(BLOCK, 3, len(sizes), dtype=torch.float64)
    sums = [empty[: len(part)].index_add(2, rings, _power(part).flatten(2)) for part in pixels.split(BLOCK)]
    frequencies = torch.arange(1, len(sizes)) / pixels.shape[-1]
    return frequencies.double().numpy(), (torch.cat(sums) / sizes)[:, :, 1:].numpy()


def mean_spectrum(pixels, confidence: float = 0.95):
    """The power of a set by frequency, mean over channels and images: DataFrame of frequency, power, low, high.

    Student's t interval over images. Raises ValueError for fewer than two.
    """
    import pandas as pd  # here, for a study's parameters are read without it

    if len(pixels) < 2:
        raise ValueError(f"{len(pixels)} images are too few for a mean spectrum with its interval: give at least 2")
    frequencies, power = radial_power(pixels)
    rows = [interval(column, confidence) for column in power.mean(axis=1).T]
    columns = {
        "power": [row.mean for row in rows],
        "low": [row.low for row in rows],
        "high": [row.high for row in rows],
    }
    return pd.DataFrame({"frequency": frequencies} | columns)


def high_frequency_share(pixels) -> np.ndarray:
    """Each image's share of power, over all channels, at or above half the Nyquist frequency: 0.25 cycles per pixel.

    Returns float64 (images with any power,): an image of one color has no power to have a share of, and is left out.
    Raises ValueError when no image is left.
    """
    import torch

    plain = (pixels == pixels[:, :, :1, :1]).flatten(1).all(dim=1)
    if plain.all():
        raise ValueError(f"all {len(pixels)} images are of one color each: they have no frequencies to compare")
    high = _radii(pixels.shape[-1]) >= pixels.shape[-1] / 4
    powers = [_power(part).sum(dim=1) for part in pixels[~plain].split(BLOCK)]
    shares = [power[:, high].sum(dim=1) / power.sum(dim=(1, 2)) for power in powers]
    return torch.cat(shares).numpy()


def compare_high_frequencies(real, generated, confidence: float = 0.95) -> tuple[list[dict], list[dict]]:
    """The mean of `high_frequency_share` of both sets, and what is absent, where all images are of one color each.

    Scores are dicts (metric, value, n, low, high), Student's t interval over images; absent values (metric, reason).
    """
    scores, absent = [], []
    for metric, pixels in (("high_frequency_share_of_real", real), ("high_frequency_share", generated)):
        try:
            scores.append(interval(high_frequency_share(pixels), confidence).score(metric))
        except ValueError as error:
            absent.append({"metric": metric, "reason": str(error)})
    return scores, absent


def detector_features(pixels) -> np.ndarray:
    """The radial power of each channel as orders of magnitude: float64 (n, 3 * bins), red's bins first.

    The power of rounding is added: what lies below it is no trace of how an image was made, and an image of one color
    has a logarithm.
    """
    power = radial_power(pixels)[1]
    return np.log10(power + ROUNDING).reshape(len(pixels), -1)


def _radii(side: int):
    """The radius of every frequency of the transform, in cycles per side: float64 tensor (side, side).

    Raises ValueError below two pixels, where there is no frequency but the mean.
    """
    import torch

    if side < 2:
        raise ValueError(f"images of {side} x {side} pixels have no spectrum: give at least 2 x 2")
    steps = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    return torch.hypot(steps[:, None], steps)


def _power(pixels):
    """Power at every frequency: float64 tensor (n, 3, side, side), in the order of the transform."""
    import torch

    values = pixels.double() / 255
    transform = torch.fft.fft2(values - values.mean(dim=(2, 3), keepdim=True))
    return transform.abs().square() / pixels.shape[-1] ** 2
