"""Images for training and evaluation: decoded once and held in memory, or batch by batch where they need not fit in it.

What takes long is decoding, so for a crop only the rows of a JPEG down to its end are decoded, and resizing works on
whole numbers. The decoded pixels are those of a full decoding by Pillow, bit for bit. Bicubic resizing by torch is 0.06
levels of 255 from Pillow's on average, up to 10 at one pixel in thousands; both are equally far from exact arithmetic.
Decoding at a reduced scale, which several libraries offer, is left out: where it saves anything its pixels are 3 levels
off on average, and only those of large real images would be so, not of the generated ones beside them.

One thread reads ahead in the process of the training. Several are processes of their own: a seventh of what reading
takes holds Python's lock, so that threads would be no faster beyond seven cores, and long before that would keep a
training that feeds a GPU from its own.
"""

import collections
import contextlib
import functools
import itertools
import math
import mmap
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

import numpy as np

from contamination.base import conversion, image_tables
from contamination.training.augmentation import RandAugment

GIBIBYTE = 2**30
DECODED = 256  # images at a time
ASPECT = (3 / 4, 4 / 3)  # of random crops: width over height
CONTEXT = 2  # rows below a crop whose colors are mixed into its last row where colors have half the resolution
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
# From an image as it was read, uint8 (3, size, size), and such numbers to the same.
Change = Callable[[object, list[int]], object]


def random_crop(height: int, width: int, key: list[int], least: float = 0.08) -> Region:
    """A random part of `least` to 1 of the area, of aspect 3:4 to 4:3, half of them mirrored (Szegedy et al., 2015).

    As torchvision's RandomResizedCrop draws it: ten attempts, then the largest part in the middle of such an aspect.
    """
    rng = np.random.default_rng(key)
    mirrored = bool(rng.random() < 0.5)
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    for share, place in zip(rng.uniform(least, 1.0, 10), rng.uniform(low, high, 10), strict=True):
        area, aspect = height * width * share, math.exp(place)
        part_width, part_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < part_width <= width and 0 < part_height <= height:
            top, left = rng.integers(height - part_height + 1), rng.integers(width - part_width + 1)
            return Region(int(top), int(left), part_height, part_width, mirrored)
    part_width = min(width, max(1, round(height * ASPECT[1])))
    part_height = min(height, max(1, round(width / ASPECT[0])))
    return Region((height - part_height) // 2, (width - part_width) // 2, part_height, part_width, mirrored)


def load(images, size: int, recipe: dict, device, seed: int = 0):
    """Images as `loop.fit` takes them: in memory where all of them fit and stay as they are, else read meanwhile.

    Which of the two changes no pixel. images: image table or `mixing.Mixture`. size: pixels per side. recipe: the
    fields of `settings.LoadingOptions` or `settings.CropAugmentation`, and of `augmentation.RandAugment` if any.
    seed: of crops and changes.
    """
    cropped, changed = recipe.get("crop", "none") == "random", recipe.get("randaugment", 0) > 0
    if not cropped and not changed and images.num_rows * 3 * size * size <= recipe["memory_gib"] * GIBIBYTE:
        return InMemoryTable(images, size, device)
    transform = functools.partial(random_crop, least=recipe["crop_area"]) if cropped else None
    change = RandAugment(recipe) if changed else None
    return Reader(images, size, transform, seed, change, pinned=device.type == "cuda")


def in_order(images, size: int, *, threads: int, batch_size: int) -> Iterator:
    """All images of a table as it has them: uint8 (batch_size, 3, size, size), the last of fewer, read ahead."""
    places = np.arange(images.num_rows)
    batches = (places[start : start + batch_size] for start in range(0, len(places), batch_size))
    return (pixels for _, pixels in Reader(images, size).stream(((each, 0 * each) for each in batches), threads))


class InMemoryImages:
    """Images in memory: a uint8 tensor (n, 3, size, size) on the device."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def stream(self, batches: Iterable[tuple], threads: int) -> Iterator[tuple]:
        """As `Reader.stream`, without any thread."""
        import torch

        pixels = self.pixels
        for positions, _ in batches:
            index = torch.from_numpy(positions)
            if pixels.is_cuda:  # from other memory it would be sent only when the GPU has done all that was queued
                index = index.pin_memory().to(pixels.device, non_blocking=True)
            yield index, pixels.index_select(0, index)  # of bytes much faster than indexing


class InMemoryTable(InMemoryImages):
    """The images of a table, decoded at their first use: a training that is resumed at its end needs none."""

    def __init__(self, images, size: int, device):
        self.images, self.size, self.device = images, size, device

    def __len__(self) -> int:
        return self.images.num_rows

    @functools.cached_property
    def pixels(self):
        import torch

        pixels, done = torch.empty((len(self), 3, self.size, self.size), dtype=torch.uint8), 0
        for part in in_order(self.images, self.size, threads=torch.get_num_threads(), batch_size=DECODED):
            pixels[done : done + len(part)] = part
            done += len(part)
        return pixels.to(self.device)


class Reader:
    """Images by position, read when asked for; what one becomes depends on (seed, epoch, slot) alone.

    images: image table or `mixing.Mixture`, columns image and id; what is read in place has a path and no bytes.
    Its column slot, where there is one, tells what draws depend on; without it that is the position.
    size: pixels per side of what is read. transform: which region of an image is taken; without it the whole image, as
    `image_tables.decode` gives it. change: what becomes of it then. pinned: whether `stream` gives batches in
    page-locked memory, from where a GPU fetches them while it computes.
    """

    def __init__(
        self,
        images,
        size: int,
        transform: Transform | None = None,
        seed: int = 0,
        change: Change | None = None,
        pinned: bool = False,
    ):
        self.images, self.names, self.background = images["image"], images["id"], image_tables.background(images)
        self.size, self.transform, self.seed, self.change, self.pinned = size, transform, seed, change, pinned
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

        images = torch.empty((len(positions), 3, self.size, self.size), dtype=torch.uint8)
        self.read_into(images, positions, epochs)
        return images

    def read_into(self, images, positions: np.ndarray, epochs: np.ndarray | int) -> None:
        """The same into a tensor that there is."""
        for image, (position, epoch) in zip(images, np.broadcast(np.asarray(positions), epochs), strict=True):
            image.copy_(self._read(int(position), int(epoch)))

    def stream(self, batches: Iterable[tuple], threads: int) -> Iterator[tuple]:
        """Positions as a tensor and what `batch` gives for them, for each batch, read ahead of what is asked for.

        batches: pairs of positions and epochs, int64 (n,) each, as `loop.batches` gives them, none longer than the
        first. threads: each reads a batch of its own, more than one in as many processes; at most one batch more than
        there are threads is held.
        """
        import torch

        batches = iter(batches)
        first = next(batches, None)
        if first is None:
            return
        apart = threads > 1 and sys.platform == "linux"  # elsewhere a process cannot be copied as it stands
        with (_Processes if apart else _Threads)(self, threads, len(first[0])) as workers:
            ahead: collections.deque[tuple] = collections.deque()
            for positions, epochs in itertools.chain([first], batches):
                index = torch.from_numpy(positions)
                ahead.append((index.pin_memory() if self.pinned else index, workers.ask(positions, epochs)))
                if len(ahead) > threads:
                    index, asked = ahead.popleft()
                    yield index, workers.take(asked)
            for index, asked in ahead:
                yield index, workers.take(asked)

    def _read(self, position: int, epoch: int):
        """One image, uint8 (3, size, size)."""
        image = self._seen(position, epoch)
        return image if self.change is None else self.change(image, [self.seed, 11, epoch, int(self.slots[position])])

    def _seen(self, position: int, epoch: int):
        """One image before it is changed."""
        name = str(self.names[position])
        data = image_tables.data(self.images[position].as_py(), name)
        if self.transform is None:
            return image_tables.decode(data, self.size, name=name, background=self.background)
        pixels, region = self._decode(data, name, [self.seed, 6, epoch, int(self.slots[position])])
        part = pixels[region.top : region.top + region.height, region.left : region.left + region.width]
        image = _resized(part, self.size)
        return image.flip(-1) if region.mirrored else image

    def _decode(self, data: bytes, name: str, key: list[int]) -> tuple[np.ndarray, Region]:
        """Pixels as uint8 (rows, width, 3), from the top down to the region's last row at least, and the region."""
        assert self.transform is not None, "without one the whole image is decoded"
        frame = None if conversion.has_other_colors(data) else _frame(data)
        if frame is not None:
            region = self.transform(frame.height, frame.width, key)
            pixels = self._upper_rows(data, frame, region.top + region.height)
            if pixels is not None:
                return pixels, region
        try:
            pixels = image_tables.pixels(data, self.background).permute(1, 2, 0).numpy()
        except ValueError as error:
            raise ValueError(f"{name} cannot be decoded ({error}): replace or remove it") from None
        return pixels, self.transform(pixels.shape[0], pixels.shape[1], key)

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


class _Threads:
    """Read beside the training, in its process."""

    def __init__(self, reader: Reader, threads: int, batch_size: int):
        import torch

        # Otherwise torch would start further threads under each of these.
        self.pool: Executor = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.reader = reader

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:  # of an error too, or where the rest is not wanted
        self.pool.shutdown(cancel_futures=True)

    def ask(self, positions: np.ndarray, epochs: np.ndarray) -> Any:
        return self.pool.submit(self.reader.batch, positions, epochs)

    def take(self, asked):
        pixels = asked.result()
        return pixels.pin_memory() if self.reader.pinned else pixels


class _Processes(_Threads):
    """Read in processes of their own, into memory that they have in common with the training.

    They are copies of its process, begun here, so that nothing has to be sent to them but positions. The memory is not
    of /dev/shm, which in a container often has 64 MB.
    """

    def __init__(self, reader: Reader, threads: int, batch_size: int):
        import torch

        shape = (threads + 1, batch_size, 3, reader.size, reader.size)  # as many batches as are asked for at a time
        self.memory = torch.frombuffer(mmap.mmap(-1, math.prod(shape)), dtype=torch.uint8).view(shape)
        self.places = itertools.cycle(range(threads + 1))
        copies = multiprocessing.get_context("fork")
        self.pool = ProcessPoolExecutor(threads, copies, initializer=_begin, initargs=(reader, self.memory))
        self.reader = reader

    def ask(self, positions: np.ndarray, epochs: np.ndarray) -> tuple:
        place = next(self.places)
        with _in_words():
            return self.memory[place, : len(positions)], self.pool.submit(_read_to, place, positions, epochs)

    def take(self, asked: tuple):
        pixels, done = asked
        with _in_words():
            done.result()
        return pixels.pin_memory() if self.reader.pinned else pixels.clone()  # a later batch will lie there


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise OSError(
            "a process that reads images was ended from outside, as happens where memory is short: give the job more "
            "memory or fewer threads"
        ) from None


_begun: dict = {}  # in a process that reads: what it was begun with


def _begin(reader: Reader, memory) -> None:
    import torch

    from contamination.base.processes import die_with_parent

    die_with_parent()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a user's interrupt is for the training
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _begun.update(reader=reader, memory=memory)


def _read_to(place: int, positions: np.ndarray, epochs: np.ndarray) -> None:
    _begun["reader"].read_into(_begun["memory"][place, : len(positions)], positions, epochs)


class _Frame(NamedTuple):
    """What a JPEG's header says of its size, in pixels, and the byte at which it says so."""

    place: int
    height: int
    width: int


def _frame(data: bytes) -> _Frame | None:
    """The frame of a plain JPEG: sequential, gray or three colors, no Exif (ITU-T T.81, B.2). None for all else."""
    place = 2
    while data.startswith(image_tables.JPEG) and place + 10 <= len(data) and data[place] == 0xFF:
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
