"""Training crops from photographs: the streaming reader against torchvision's ImageFolder with Pillow.

Makes JPEGs with the statistics of photographs (noise of 1/f amplitude, edges, quality 90 to 95, 4:2:0, about 110 KB,
most of them 500 x 375) and as many generated images of 256 px in an image table; ImageFolder has the same files as a
tree. Both give uint8 batches of 224 px by a random crop, antialiased resizing and mirroring; one thread each,
alternating in one process. Prints the ratio of the CPU times as median over the repetitions, with smallest and
largest, where the time goes, and how the pixels differ from a full decoding by Pillow.
`python tests/benchmarks/read_jpegs.py`
"""

import argparse
import io
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import simplejpeg
import torch
from contamination.base import image_tables
from contamination.training import reader
from contamination.training.reader import Reader
from PIL import Image, ImageDraw
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

SIZE, BATCH = 224, 64


def make_photograph(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Noise whose amplitude falls as 1/f, nearly gray, and polygons of other brightness on it."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    noise = [rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape) for _ in range(3)]
    gray, red, blue = (np.fft.irfft2(each / frequency, s=(height, width)) for each in noise)
    pixels = np.stack([gray + 0.3 * red, gray, gray + 0.3 * blue], axis=-1)
    pixels = 35 * pixels / gray.std() + rng.uniform(90, 150, 3)
    shapes = Image.new("L", (width, height))
    for _ in range(12):
        corners = rng.uniform(0, 1, 2) * (width, height) + rng.normal(size=(5, 2)) * rng.uniform(15, 90)
        ImageDraw.Draw(shapes).polygon([tuple(corner) for corner in corners], fill=int(rng.integers(256)))
    pixels += (np.asarray(shapes)[..., None] - 60.0) * rng.uniform(0.2, 0.6, 3)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode(image: Image.Image, codec: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, codec, **options)
    return stream.getvalue()


def make_trees(folder: Path, count: int) -> None:
    """Trees of ten classes for ImageFolder: photographs, and generated images in two codecs."""
    rng = np.random.default_rng(0)
    for number in range(count):
        usual = ((500, 375), (375, 500), tuple(rng.integers(300, 640, 2).tolist()))
        photograph = make_photograph(rng, *usual[rng.choice(3, p=[0.6, 0.2, 0.2])])
        generated = make_photograph(rng, 256, 256)
        files = {
            "photographs": encode(photograph, "JPEG", quality=int(rng.integers(90, 96)), subsampling="4:2:0"),
            "PNG": encode(generated, "PNG"),
            "JPEG": encode(generated, "JPEG", quality=95),
        }
        for name, data in files.items():
            place = folder / name / f"class{number % 10}" / f"{number:06d}.{'png' if name == 'PNG' else 'jpg'}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)


def read_in_place(tree: Path) -> pa.Table:
    paths = [str(path) for path in sorted(tree.rglob("*.*"))]
    return pa.table({"image": image_tables.in_place(pa.array(paths)), "id": paths})


def hold(tree: Path, path: Path) -> pa.Table:
    """The same as an image table that holds its images."""
    files = sorted(tree.rglob("*.*"))
    image_tables.write(path, [file.read_bytes() for file in files], columns={"id": [file.name for file in files]})
    return image_tables.read(path)


def usual(interpolation: InterpolationMode) -> v2.Compose:
    crop = v2.RandomResizedCrop(SIZE, interpolation=interpolation)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), v2.PILToTensor()])


def seconds(call) -> float:
    """Of this process: others on the machine do not count."""
    started = time.process_time()
    call()
    return time.process_time() - started


def compare(name: str, images: Reader, trees: list[Path], interpolation: InterpolationMode, repetitions: int) -> None:
    """Half of each batch from each tree where there are two."""
    folders = torch.utils.data.ConcatDataset([ImageFolder(tree, usual(interpolation)) for tree in trees])
    ratios, speeds = [], []
    for repetition in range(repetitions):
        batch = np.random.default_rng(repetition).permutation(len(images))[:BATCH]
        calls = {
            "ours": lambda batch=batch, epoch=repetition: images.batch(batch, epoch),
            "theirs": lambda batch=batch: torch.stack([folders[position][0] for position in batch]),
        }
        turn = list(calls) if repetition % 2 else list(calls)[::-1]
        taken = {each: seconds(calls[each]) for each in turn}
        ratios.append(taken["theirs"] / taken["ours"])
        speeds.append(len(batch) / taken["ours"])
    print(
        f"{name}: {statistics.median(ratios):.2f} times as fast as ImageFolder, {interpolation.value} there "
        f"(smallest {min(ratios):.2f}, largest {max(ratios):.2f}, n={repetitions}); "
        f"{statistics.median(speeds):,.0f} images/s of a core"
    )


def print_stages(images: Reader, repetitions: int) -> None:
    """Milliseconds for each image, mean over the images of the fastest repetition."""
    names = ("file", "decode as far as the crop", "decode all", "resize", "all of it")
    best = np.full((len(images), len(names)), np.inf)
    for _ in range(repetitions):
        for row in range(len(images)):
            data = image_tables.data(images.images[row].as_py(), "")
            frame = reader._frame(data)
            region = reader.random_crop(frame.height, frame.width, [0, 6, 0, row])
            bottom = region.top + region.height
            part = np.asarray(images._upper_rows(data, frame, bottom))[region.top : bottom, region.left :].copy()
            part = part[:, : region.width]
            taken = [
                seconds(lambda row=row: image_tables.data(images.images[row].as_py(), "")),
                seconds(lambda data=data, frame=frame, bottom=bottom: images._upper_rows(data, frame, bottom)),
                seconds(lambda data=data, frame=frame: images._upper_rows(data, frame, frame.height)),
                seconds(lambda part=part: reader._resized(part, SIZE)),
                seconds(lambda row=row: images.batch([row], 0)),
            ]
            best[row] = np.minimum(best[row], taken)
    print(
        "ms: " + ", ".join(f"{name} {value:.2f}" for name, value in zip(names, 1000 * best.mean(axis=0), strict=True))
    )


def print_differences(files: list[Path]) -> None:
    """Of crops of 8 to 100 % of each photograph, against full decoding, crop and bicubic resizing by Pillow."""
    found = {"decoding as far as the crop": [], "and resizing": [], "not used: decoding at a smaller scale": []}
    for number, file in enumerate(files):
        data = file.read_bytes()
        frame, full = reader._frame(data), Image.open(file)
        region = reader.random_crop(frame.height, frame.width, [number])._replace(mirrored=False)
        top, left, bottom, right = *region[:2], region.top + region.height, region.left + region.width
        expected = np.asarray(full.crop((left, top, right, bottom)).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        images = Reader(pa.table({"image": [{"bytes": data, "path": None}], "id": [""]}), SIZE)
        upper = images._upper_rows(data, frame, bottom)[:bottom].copy()
        least = [math.ceil(SIZE * side / part) for side, part in zip(frame[1:], region[2:4], strict=True)]
        smaller = simplejpeg.decode_jpeg(data, min_height=least[0], min_width=least[1])
        share = smaller.shape[0] / frame.height, smaller.shape[1] / frame.width
        box = (left * share[1], top * share[0], right * share[1], bottom * share[0])
        reduced = Image.fromarray(smaller).resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
        pairs = [
            (upper, np.asarray(full)[:bottom]),
            (reader._resized(upper[top:, left:right], SIZE).permute(1, 2, 0).numpy(), expected),
            (np.asarray(reduced), expected),
        ]
        for differences, (one, other) in zip(found.values(), pairs, strict=True):
            gap = np.abs(one.astype(int) - other)
            differences.append((gap.max(), gap.mean()))
    for name, differences in found.items():
        largest, mean = np.array(differences).T
        print(f"levels of 255 from Pillow's, {name}: largest {largest.max():.0f}, mean {mean.mean():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200, help="of each kind")
    parser.add_argument("--repetitions", type=int, default=25, help="of one batch each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_trees(folder, arguments.images)
        files = sorted((folder / "photographs").rglob("*.jpg"))
        print(
            f"{len(files)} photographs of {np.mean([file.stat().st_size for file in files]) / 1000:.0f} kB on average"
        )
        real = read_in_place(folder / "photographs")
        photographs = Reader(real, SIZE, reader.random_crop, 0)
        for interpolation in (InterpolationMode.BICUBIC, InterpolationMode.BILINEAR):
            compare("photographs", photographs, [folder / "photographs"], interpolation, arguments.repetitions)
        for codec in ("PNG", "JPEG"):
            images = pa.concat_tables([real, hold(folder / codec, folder / f"{codec}.arrow")])
            mixture = Reader(images, SIZE, reader.random_crop, 0)
            trees = [folder / "photographs", folder / codec]
            compare(f"half generated, {codec}", mixture, trees, InterpolationMode.BICUBIC, arguments.repetitions)
        print_stages(photographs, 5)
        print_differences(files)


if __name__ == "__main__":
    main()
