"""Images for training and evaluation: decoded once and held in memory, or batch by batch where they need not fit in it.

What takes long is decoding, so for a crop only the rows of a JPEG down to its end are decoded, and resizing works on
whole numbers. The decoded pixels are those of a full decoding by Pillow, bit for bit. Bicubic resizing by torch is 0.06
levels of 255 from Pillow's on average, up to 10 at one pixel in thousands; both are equally far from exact arithmetic.
Decoding at a reduced scale, which several libraries offer, is left out: where it saves anything its pixels are 3 levels
off on average, and only those of large real images would be so, not of the generated ones beside them.
"""

import collections
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from contamination import store

GIBIBYTE = 2**30
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)  # of random crops: share of the image, width over height
CONTEXT = 2  # rows below a crop whose colours are mixed into its last row where colours have half the resolution
# libjpeg's words where the data goes on below the last row that was asked for.
MORE_ROWS = "extraneous bytes before marker 0xd9"


class Region(NamedTuple):
    """A part of an image in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


# From an image's height, its width and the numbers that everything random about it follows from.
Transform = Callable[[int, int, list[int]], Region]


def random_crop(height: int, width: int, key: list[int]) -> Region:
    """A random part of 8 to 100 % of the area and of aspect 3:4 to 4:3, half of them mirrored (Szegedy et al., 2015).

    As torchvision's RandomResizedCrop draws it: ten attempts, then the largest part in the middle of such an aspect.
    """
    rng = np.random.default_rng(key)
    mirrored = bool(rng.random() < 0.5)
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    for share, place in zip(rng.uniform(*AREA, 10), rng.uniform(low, high, 10), strict=True):
        area, aspect = height * width * share, math.exp(place)
        part_width, part_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < part_width <= width and 0 < part_height <= height:
            top, left = rng.integers(height - part_height + 1), rng.integers(width - part_width + 1)
            return Region(int(top), int(left), part_height, part_width, mirrored)
    part_width = min(width, max(1, round(height * ASPECT[1])))
    part_height = min(height, max(1, round(width / ASPECT[0])))
    return Region((height - part_height) // 2, (width - part_width) // 2, part_height, part_width, mirrored)


def load(images, size: int, recipe: dict, device):
    """Whole images as `training.fit` takes them: in memory where all of them fit, else read while training runs.

    Which of the two changes no pixel. images: image table or `mixing.Mixture`. size: pixels per side. recipe: the
    fields of `sections.Reading`.
    """
    if images.num_rows * 3 * size * size <= recipe["memory_gib"] * GIBIBYTE:
        return Held(store.decode_all(images, size).to(device))
    return Reader(images, size)


def in_order(images, size: int, threads: int, batch_size: int) -> Iterator:
    """All images of a table as it has them: uint8 (batch_size, 3, size, size), the last of fewer, read ahead."""
    places = np.arange(images.num_rows)
    batches = (places[start : start + batch_size] for start in range(0, len(places), batch_size))
    return (pixels for _, pixels in Reader(images, size).stream(batches, threads))


class Held:
    """Images in memory: a uint8 tensor (n, 3, size, size) on the device."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def stream(self, batches: Iterable[np.ndarray], threads: int) -> Iterator[tuple]:
        """As `Reader.stream`, without any thread."""
        import torch

        for positions in batches:
            index = torch.from_numpy(positions).to(self.pixels.device)
            yield index, self.pixels.index_select(0, index)  # of bytes much faster than indexing


class Reader:
    """Images by position, read when asked for; what one becomes depends on (seed, epoch, slot) alone.

    images: image table or `mixing.Mixture`, columns image and id; what is read in place has a path and no bytes.
    Its column slot, where there is one, tells what draws depend on; without it that is the position.
    size: pixels per side of what is read. transform: which region of an image is taken; without it the whole image, as
    `store.decode` gives it.
    """

    def __init__(self, images, size: int, transform: Transform | None = None, seed: int = 0):
        self.images, self.names = images["image"], images["id"]
        self.size, self.transform, self.seed = size, transform, seed
        self.slots = images["slot"].to_numpy() if "slot" in images.column_names else np.arange(images.num_rows)
        self.own = threading.local()  # a place for each thread to decode to, which is not given back in between

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, positions: np.ndarray, epochs: np.ndarray | int):
        """The images at these positions as uint8 tensor (n, 3, size, size).

        positions: int64 (n,), 0 to len - 1. epochs: one for all, or one each (n,).
        Raises ValueError or OSError naming the image where one cannot be decoded or read.
        """
        import torch

        positions = np.asarray(positions)
        images = torch.empty((len(positions), 3, self.size, self.size), dtype=torch.uint8)
        for image, (position, epoch) in zip(images, np.broadcast(positions, epochs), strict=True):
            image.copy_(self._read(int(position), int(epoch)))
        return images

    def stream(self, batches: Iterable[np.ndarray], threads: int) -> Iterator[tuple]:
        """Each batch of positions, int64 (n,), and what `batch` gives for it, read ahead of what is asked for.

        batches: of positions, as `training.batches` gives them: an epoch is as many positions as there are images.
        threads: each reads a batch of its own; at most one batch more than there are threads is held.
        """
        import torch

        # Otherwise torch would start further threads under each of these.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            ahead = collections.deque()
            try:
                for positions, epochs in self._with_epochs(batches):
                    ahead.append((torch.from_numpy(positions), pool.submit(self.batch, positions, epochs)))
                    if len(ahead) > threads:
                        index, pixels = ahead.popleft()
                        yield index, pixels.result()
                for index, pixels in ahead:
                    yield index, pixels.result()
            finally:  # of an error too, or where the rest is not wanted
                for _, later in ahead:
                    later.cancel()

    def _with_epochs(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A batch may hold the end of one epoch and the beginning of the next."""
        seen = 0
        for positions in batches:
            yield positions, (seen + np.arange(len(positions))) // len(self)
            seen += len(positions)

    def _read(self, position: int, epoch: int):
        """One image, uint8 (3, size, size)."""
        name = str(self.names[position])
        data = store.data(self.images[position].as_py(), name)
        if self.transform is None:
            return store.decode(data, self.size, name)
        pixels, region = self._decode(data, name, [self.seed, 6, epoch, int(self.slots[position])])
        part = pixels[region.top : region.top + region.height, region.left : region.left + region.width]
        image = _resized(part, self.size)
        return image.flip(-1) if region.mirrored else image

    def _decode(self, data: bytes, name: str, key: list[int]) -> tuple[np.ndarray, Region]:
        """Pixels as uint8 (rows, width, 3), from the top down to the region's last row at least, and the region."""
        frame = _frame(data)
        if frame is not None:
            region = self.transform(frame.height, frame.width, key)
            pixels = self._upper_rows(data, frame, region.top + region.height)
            if pixels is not None:
                return pixels, region
        try:
            pixels = store.pixels(data).permute(1, 2, 0).numpy()
        except ValueError as error:
            raise ValueError(f"{name} cannot be decoded ({error}): replace or remove it") from None
        return pixels, self.transform(*pixels.shape[:2], key)

    def _upper_rows(self, data: bytes, frame: "_Frame", bottom: int) -> np.ndarray | None:
        """The rows of a plain JPEG above `bottom` and some more, uint8 (rows, width, 3); None where it is not sound.

        The height in its header is made less. The rows come one after another from top to bottom, so the decoder stops
        there. What it returns lasts until the thread decodes the next.
        """
        import simplejpeg

        rows = min(frame.height, bottom + CONTEXT)
        lower = bytearray(data)
        lower[frame.place : frame.place + 2] = rows.to_bytes(2, "big")
        count = rows * frame.width * 3
        if getattr(self.own, "buffer", np.empty(0)).size < count:
            self.own.buffer = np.empty(count, dtype=np.uint8)
        try:
            simplejpeg.decode_jpeg(lower, buffer=self.own.buffer)
        except ValueError as error:
            if rows == frame.height or MORE_ROWS not in str(error):
                return None
        return self.own.buffer[:count].reshape(rows, frame.width, 3)


class _Frame(NamedTuple):
    """What a JPEG's header says of its size, in pixels, and the byte at which it says so."""

    place: int
    height: int
    width: int


def _frame(data: bytes) -> _Frame | None:
    """The frame of a plain JPEG: sequential, grey or three colours, no Exif (ITU-T T.81, B.2). None for all else."""
    place = 2
    while data.startswith(store.JPEG) and place + 10 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xC0 and data[place + 9] in (1, 3):
            height, width = (int.from_bytes(data[at : at + 2], "big") for at in (place + 5, place + 7))
            return _Frame(place + 5, height, width) if height and width else None
        if marker == 0xE1 or (0xC0 <= marker <= 0xCF and marker != 0xC4):  # Exif may turn it; another kind
            return None
        place += 2 + length
    return None


def _resized(part: np.ndarray, size: int):
    """uint8 (height, width, 3) to a tensor (3, size, size), antialiased bicubic as everywhere in a study."""
    import torch
    import torch.nn.functional as functional

    image = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)
    if image.shape[1:] == (size, size):
        return image
    return functional.interpolate(image[None], (size, size), mode="bicubic", antialias=True)[0]
