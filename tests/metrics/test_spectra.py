"""Power over spatial frequency: by Parseval, on patterns whose spectrum is known, and on noise."""

import numpy as np
import pytest
import torch
from contamination.metrics import spectra
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

torch.set_num_threads(1)
sides = st.integers(2, 19)
seeds = st.integers(0, 10_000)


def noise(seed: int, count: int, side: int, low: int = 0, high: int = 255):
    """White noise, uniform over the levels low to high."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(low, high + 1, (count, 3, side, side), dtype=np.uint8))


def wave(side: int, down: int, right: int, amplitude: float = 100.0):
    """A sine of whole periods per side, the same in all channels: uint8 (1, 3, side, side)."""
    y, x = np.mgrid[:side, :side]
    values = 127 + amplitude * np.cos(2 * np.pi * (down * y + right * x) / side + 0.3)
    return torch.from_numpy(np.rint(values).astype(np.uint8)).expand(1, 3, side, side)


def ring_sizes(side: int) -> np.ndarray:
    steps = np.fft.fftfreq(side, 1 / side)
    return np.bincount(np.rint(np.hypot(steps[:, None], steps)).astype(int).ravel())[1:]


def variances(pixels) -> np.ndarray:
    return (pixels.double() / 255).var(dim=(2, 3), correction=0).numpy()


@given(seeds, st.integers(1, 3), sides)
def test_the_mean_power_over_all_frequencies_is_the_variance(seed, count, side):
    pixels = noise(seed, count, side)
    frequencies, power = spectra.radial_power(pixels)
    sizes = ring_sizes(side)
    assert power.shape == (count, 3, len(sizes)) and frequencies == pytest.approx(np.arange(1, len(sizes) + 1) / side)
    assert (power * sizes).sum(axis=2) / side**2 == pytest.approx(variances(pixels), rel=1e-9)


@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize("down, right", [(0, 1), (3, 4), (5, 0), (7, 7), (6, -5)])
def test_the_power_of_a_sine_lies_in_the_bin_of_its_frequency(side, down, right):
    pixels = wave(side, down, right)
    power = spectra.radial_power(pixels)[1][0, 0] * ring_sizes(side) / side**2
    own = round(np.hypot(down, right)) - 1
    assert power[own] == pytest.approx(0.5 * (100 / 255) ** 2, rel=0.01)  # the variance of a sine
    assert np.delete(power, own).sum() < 1e-3 * power[own]  # what rounding leaves


@pytest.mark.parametrize("side", [15, 16])
def test_white_noise_has_the_power_of_its_variance_at_every_frequency(side):
    power = spectra.radial_power(noise(0, 800, side))[1].mean(axis=(0, 1))
    expected = (256**2 - 1) / 12 / 255**2
    error = expected / np.sqrt(800 * 3 * ring_sizes(side) / 2)  # a frequency and its opposite are one number
    assert (np.abs(power - expected) < 5 * error + expected / side**2).all()


def test_a_checkerboard_lies_in_the_corner_of_an_even_side_and_in_the_last_bins_of_an_odd_one():
    for side in (16, 17):
        y, x = np.mgrid[:side, :side]
        pixels = torch.from_numpy((255 * ((x + y) % 2)).astype(np.uint8)).expand(1, 3, side, side)
        frequencies, power = spectra.radial_power(pixels)
        share = power[0, 0] * ring_sizes(side) / side**2 / variances(pixels)[0, 0]
        assert frequencies[-1] > 0.6 and share[-2:].sum() > (0.999 if side == 16 else 0.6)


@given(seeds, sides)
def test_twice_the_contrast_is_four_times_the_power_and_brightness_none(seed, side):
    pixels = noise(seed, 2, side, high=100)
    power = spectra.radial_power(pixels)[1]
    assert spectra.radial_power(2 * pixels)[1] == pytest.approx(4 * power, rel=1e-9, abs=1e-18)
    assert spectra.radial_power(pixels + 55)[1] == pytest.approx(power, rel=1e-9, abs=1e-18)


@given(seeds, sides)
def test_a_turned_or_mirrored_image_has_the_same_power(seed, side):
    pixels = noise(seed, 2, side)
    power = spectra.radial_power(pixels)[1]
    for moved in (pixels.rot90(1, dims=(2, 3)), pixels.flip(3), pixels.roll((1, 2), dims=(2, 3))):
        assert spectra.radial_power(moved)[1] == pytest.approx(power, rel=1e-9, abs=1e-15)


@pytest.mark.medium
@given(seeds, st.permutations([0, 1, 2]))
def test_channels_keep_their_order_and_images_theirs(seed, channels):
    pixels = noise(seed, spectra.BLOCK + 3, 5)
    power = spectra.radial_power(pixels)[1]
    # Not bit for bit: how a Fourier transform rounds depends on where in memory an image lies.
    assert spectra.radial_power(pixels[:, channels])[1] == pytest.approx(power[:, channels], rel=1e-9)
    for image in (0, spectra.BLOCK, spectra.BLOCK + 2):
        alone = spectra.radial_power(pixels[image : image + 1])[1][0]
        assert alone == pytest.approx(power[image], rel=1e-9)


def test_the_mean_spectrum_has_students_interval_over_images():
    pixels = noise(0, 40, 8)
    found = spectra.mean_spectrum(pixels, 0.9)
    frequencies, power = spectra.radial_power(pixels)
    images = power.mean(axis=1)
    low, high = stats.t.interval(0.9, 39, images.mean(axis=0), stats.sem(images))
    assert list(found.columns) == ["frequency", "power", "low", "high"]
    for name, column in {"frequency": frequencies, "power": images.mean(axis=0), "low": low, "high": high}.items():
        assert found[name].to_numpy() == pytest.approx(column)


@given(seeds, st.integers(1, 5), sides)
def test_the_high_share_is_that_of_the_frequencies_from_half_of_nyquist(seed, count, side):
    pixels = noise(seed, count, side)
    power = np.abs(np.fft.fft2(pixels.double().numpy() - pixels.double().mean(dim=(2, 3), keepdim=True).numpy())) ** 2
    steps = np.fft.fftfreq(side)
    high = np.hypot(steps[:, None], steps) >= 0.25 - 1e-12
    shares = spectra.high_frequency_share(pixels)
    assert shares == pytest.approx(power[:, :, high].sum(axis=(1, 2)) / power.sum(axis=(1, 2, 3)))


@pytest.mark.parametrize("down, right, high", [(0, 3, 0), (2, 3, 0), (0, 4, 1), (3, 3, 1), (8, 8, 1)])
def test_a_sine_is_high_from_half_of_nyquist_on_and_not_below(down, right, high):
    assert spectra.high_frequency_share(wave(16, down, right)) == pytest.approx([high], abs=1e-3)


def test_an_image_of_one_color_is_left_out_of_the_shares():
    pixels = noise(0, 5, 8)
    everything = spectra.high_frequency_share(pixels)
    pixels[1], pixels[3] = 77, torch.tensor([10, 200, 33], dtype=torch.uint8)[:, None, None]
    assert np.array_equal(spectra.high_frequency_share(pixels), everything[[0, 2, 4]])
    with pytest.raises(ValueError, match="all 2 images are of one color each"):
        spectra.high_frequency_share(pixels[[1, 3]])


def test_features_are_orders_of_magnitude_channel_by_channel():
    pixels = torch.cat([wave(16, 3, 4), wave(16, 3, 4)])
    pixels[:, 1:] = 90
    features = spectra.detector_features(pixels)
    bins = len(spectra.radial_power(pixels)[0])
    assert features.shape == (2, 3 * bins) and features[0].argmax() == 4
    assert features[:, bins:] == pytest.approx(np.log10(spectra.ROUNDING))


def test_the_floor_of_the_features_is_the_power_that_rounding_leaves():
    rng, side = np.random.default_rng(0), 32
    y, x = np.mgrid[:side, :side]
    phases = rng.uniform(0, 2 * np.pi, (300, 3, 2, 1, 1))
    smooth = (
        127 + 60 * np.cos(2 * np.pi * x / side + phases[:, :, 0]) + 60 * np.cos(2 * np.pi * y / side + phases[:, :, 1])
    )
    power = spectra.radial_power(torch.from_numpy(np.rint(smooth).astype(np.uint8)))[1].mean(axis=(0, 1))
    assert power[2:].mean() == pytest.approx(spectra.ROUNDING, rel=0.1)


def test_too_few_images_or_pixels_are_one_clear_line():
    with pytest.raises(ValueError, match="1 images are too few for a mean spectrum"):
        spectra.mean_spectrum(noise(0, 1, 8))
    with pytest.raises(ValueError, match="images of 1 x 1 pixels have no spectrum"):
        spectra.radial_power(noise(0, 4, 1))


def test_a_set_of_one_color_is_absent_and_the_other_stays():
    noise = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = torch.full((5, 3, 8, 8), 7, dtype=torch.uint8)
    scores, absent = spectra.compare_high_frequencies(noise, plain)
    assert [(each["metric"], each["n"]) for each in scores] == [("high_frequency_share_of_real", 5)]
    assert scores[0]["low"] < scores[0]["value"] < scores[0]["high"]
    assert [each["metric"] for each in absent] == ["high_frequency_share"] and "one color" in absent[0]["reason"]
