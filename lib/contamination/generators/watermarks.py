"""An invisible watermark in generated images, and how it is found again.

It is that of the package invisible-watermark, in its method dwtDctSvd: after one step of a Haar wavelet transform of a
color difference (U of YUV), blocks of 4x4 values, which are 8x8 pixels, carry one bit each in the largest singular
value of their cosine transform. The bits repeat over the image, and the majority of its blocks tells a bit. Its other
method, dwtDct, which the scripts of Stable Diffusion and diffusers' SDXL use, is three times as fast, but loses bits
even without a codec, and nearly all in a JPEG that halves the resolution of color.

The package embeds each block and reads the marks here; the transforms around the blocks are done anew, as its encoder
refuses images below 256x256 pixels, loses what does not fit into white, and puts the horizontal details of a color in
the place of the vertical ones, which moves pixels at colored edges by up to 95 of 256 levels; here it is 13.

What is embedded is not the text but 32 bits that follow from it, half of them ones. So texts that are alike have marks
that are not, and an image of one color, all of whose blocks say the same, agrees with half of any mark.
"""

import hashlib

import numpy as np

from contamination.base.files import versions

BITS = 32
BLOCK = 8  # pixels per side that carry one bit
COLOR, SCALE = 1, 36  # the channel U, and the quantum of the singular value, as the package has them
ZERO = 127.5  # what OpenCV adds to U of bytes beside what it adds to U of real numbers, which are used to round once
BY_CHANCE = 1e-3  # share of unmarked images that may be taken for marked ones, if each bit agrees by the toss of a coin


def require_room(height: int, width: int) -> None:
    """Raise ValueError in one line where an image of so many pixels has fewer blocks than the watermark has bits."""
    if (height // BLOCK) * (width // BLOCK) < BITS:
        raise ValueError(
            f"watermark: an image of {height}x{width} pixels has no room for its {BITS} bits: leave the watermark out, "
            "or have images of at least 48x48 (data.image_size)"
        )


def described(text: str) -> dict[str, str]:
    """What `how` of a generated set says of its watermark; nothing without one, so that such sets keep their name."""
    package = "invisible-watermark"
    return {"watermark": text, "watermark_by": f"{package} {versions(package)[package]}, dwtDctSvd"} if text else {}


def bits_of(text: str) -> np.ndarray:
    """The bits that say a text: bool (32,), half of them true, in an order that follows from the text's hash."""
    order = sorted(range(BITS), key=lambda bit: hashlib.sha256(f"{text}/{bit}".encode()).digest())
    return np.isin(np.arange(BITS), order[: BITS // 2])


def embed(pixels: np.ndarray, text: str) -> np.ndarray:
    """An image with the watermark: uint8 (height, width, 3), RGB.

    What is pure blue or pure yellow cannot carry it: U has come to its end there.
    Raises ValueError for an image without room for the bits.
    """
    import pywt

    cv2 = _opencv()
    require_room(*pixels.shape[:2])
    height, width = (side // 4 * 4 for side in pixels.shape[:2])  # what the package's decoder looks at
    image = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2YUV)
    means, details = pywt.dwt2(image[:height, :width, COLOR] + ZERO, "haar")
    _marker(bits_of(text)).encode_frame(means, SCALE)
    image[:height, :width, COLOR] = pywt.idwt2((means, details), "haar") - ZERO
    # Where blue would leave 0..255, brightness gives way: else nothing could be written into what is white.
    blue = 2.032 * (image[..., COLOR] - 0.5)
    image[..., 0] = np.clip(image[..., 0], np.maximum(0, -blue), np.minimum(255, 255 - blue))
    return np.clip(np.rint(cv2.cvtColor(image, cv2.COLOR_YUV2RGB)), 0, 255).astype(np.uint8)


def agreement(pixels, text: str) -> np.ndarray:
    """The share of a text's bits that each image says: float64 (n,); a half by chance, 1 where all are there.

    pixels, errors: as of `bits_in`.
    """
    return np.mean(bits_in(pixels) == bits_of(text), axis=1)


def bits_in(pixels) -> np.ndarray:
    """The bits that each image says, whether it was marked or not: bool (n, 32).

    pixels: uint8 tensor (n, 3, height, width), RGB. Raises ValueError for images without room for the bits.
    """
    require_room(*pixels.shape[2:])
    reader, images = _marker([]), pixels.permute(0, 2, 3, 1).numpy()[..., ::-1]  # as OpenCV has channels: BGR
    return np.array([reader.decode(np.ascontiguousarray(image)) for image in images]).reshape(-1, BITS)


def chance(share: float) -> float:
    """The probability that at least this share of 32 bits agrees by the toss of a coin, bit by bit: the p-value."""
    from scipy import stats

    return float(stats.binom.sf(round(share * BITS) - 1, BITS, 0.5))


def threshold() -> float:
    """The share of bits above which an image is said to be marked: 25 of 32, as `BY_CHANCE` allows no fewer."""
    return max(count for count in range(BITS) if chance(count / BITS) > BY_CHANCE) / BITS


def false_positives() -> float:
    """The share of unmarked images above the threshold, if each bit agrees by the toss of a coin: 0.0003."""
    return chance(threshold() + 1 / BITS)


def _opencv():
    """OpenCV's module. Raises ValueError in one line where the system lacks a library that it links."""
    try:
        import cv2
    except ImportError as problem:
        raise ValueError(
            f"watermark: OpenCV does not load here ({problem}): install the system's libGL and glib (Debian: libgl1, "
            "libglib2.0-0), or leave the watermark out"
        ) from None
    return cv2


def _marker(bits):
    _opencv()
    from imwatermark.dwtDctSvd import EmbedDwtDctSvd

    return EmbedDwtDctSvd(bits, wmLen=BITS, scales=[SCALE if channel == COLOR else 0 for channel in range(3)])


EMBEDDING = (embed, bits_of, _marker)  # the functions that decide what a marked image is
