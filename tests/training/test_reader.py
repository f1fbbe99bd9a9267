"""LoadingOptions: the pixels of a full decoding, whoever reads them, when and with whom, held in memory or not."""

import functools
import io
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from contamination.base import image_tables
from contamination.training import loop, reader
from contamination.training.reader import Reader, Region
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

CPU = torch.device("cpu")
AUGMENTED = {"randaugment": 9.0, "randaugment_operations": 2, "randaugment_std": 0.5}
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads read")
# An Exif entry that says: turn by a quarter.
TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


@functools.cache
def photograph(seed=0, height=120, width=150):
    """A smooth image with some noise, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


def encode(pixels, codec="JPEG", **options):
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, format=codec, **options)
    return stream.getvalue()


def make_table(images, **columns):
    """Images given as bytes are held in the table, others are read in place."""
    rows = [{"bytes": each, "path": None} if isinstance(each, bytes) else {"path": str(each)} for each in images]
    names = [f"image {number}" for number in range(len(rows))]
    return pa.table({"image": pa.array(rows, type=image_tables.IMAGE), "id": names} | columns)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve JPEGs of several sizes and a PNG, as paths."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(12):
        data = encode(photograph(number, 100 + 7 * number, 160 - 5 * number), quality=92)
        (folder / f"{number:02d}.jpg").write_bytes(data)
    (folder / "13.png").write_bytes(encode(photograph(13), "PNG"))
    return sorted(folder.iterdir())


def always(region):
    return lambda height, width, key: region


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 5),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    options=st.sampled_from([{}, {"restart_marker_rows": 1}, {"progressive": True}, {"optimize": True}]),
    height=st.integers(24, 150),
    width=st.integers(24, 150),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_the_upper_rows_are_those_of_a_full_decoding_bit_for_bit(seed, subsampling, options, height, width, corner):
    data = encode(photograph(seed, height, width), quality=90, subsampling=subsampling, **options)
    top, left = (int(share * (side - 24)) for share, side in zip(corner, (height, width), strict=True))
    images = Reader(make_table([data]), 24, always(Region(top, left, 24, 24, False)))
    full = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(images.batch([0], 0)[0].permute(1, 2, 0), full[top : top + 24, left : left + 24])


def test_of_a_crop_far_up_the_lower_rows_are_not_decoded():
    seen = []
    data = encode(photograph(0, 400, 100))
    images = Reader(make_table([data]), 32, always(Region(0, 0, 32, 32, False)))
    decode = images._upper_rows
    images._upper_rows = lambda *arguments: seen.append(decode(*arguments)) or seen[-1]
    images.batch([0], 0)
    assert seen[0].shape == (32 + reader.CONTEXT, 100, 3)


def test_crops_are_resized_as_pillow_does_it():
    data = encode(photograph(3, 300, 400))
    region = Region(31, 17, 211, 263, True)
    ours = Reader(make_table([data]), 96, always(region)).batch([0], 0)[0].permute(1, 2, 0).numpy()
    part = Image.open(io.BytesIO(data)).crop((17, 31, 17 + 263, 31 + 211))
    theirs = np.asarray(part.resize((96, 96), Image.Resampling.BICUBIC))[:, ::-1]
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 8 and difference.mean() < 0.1


@pytest.mark.parametrize(
    "data",
    [
        encode(photograph(1), exif=TURNED),
        encode(Image.fromarray(photograph(2)).convert("CMYK")),
        encode(Image.fromarray(photograph(3)).convert("L")),
        encode(photograph(4), progressive=True),
        encode(Image.fromarray(photograph(5)).convert("P"), "PNG"),
        encode(photograph(6), "WEBP"),
    ],
    ids=["turned", "CMYK", "gray", "progressive", "palette", "WebP"],
)
def test_every_kind_of_image_is_the_one_that_the_store_decodes(data):
    expected = image_tables.pixels(data)
    height = expected.shape[1]
    corner = Reader(make_table([data]), 40, always(Region(height - 50, 3, 40, 40, False))).batch([0], 0)[0]
    assert corner.equal(expected[:, height - 50 : height - 10, 3:43])
    assert Reader(make_table([data]), 40).batch([0], 0)[0].equal(image_tables.decode(data, 40))


def test_own_images_of_the_size_come_back_bit_for_bit():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    images = Reader(make_table([image_tables.encode(each) for each in pixels]), 16)
    assert np.array_equal(images.batch(np.arange(5), 0).permute(0, 2, 3, 1), pixels)


def test_what_an_image_becomes_does_not_depend_on_its_company(files):
    images = Reader(make_table(files), 32, reader.random_crop, 5)
    together = images.batch(np.arange(len(files)), 2)
    backwards = images.batch(np.arange(len(files))[::-1], 2)
    assert together.equal(backwards.flip(0))
    assert all(images.batch([position], 2)[0].equal(together[position]) for position in range(len(files)))


def test_epoch_seed_and_slot_each_change_the_crop(files):
    table = make_table(files)
    first = Reader(table, 32, reader.random_crop, 5).batch([0], 0)
    assert not first.equal(Reader(table, 32, reader.random_crop, 5).batch([0], 1))
    assert not first.equal(Reader(table, 32, reader.random_crop, 6).batch([0], 0))
    moved = make_table(files, slot=np.arange(20, 33))
    assert not first.equal(Reader(moved, 32, reader.random_crop, 5).batch([0], 0))


def test_a_slot_has_its_crop_wherever_it_stands(files):
    """A mixture that has lost slots, or whose table is in another order, changes nothing for the others."""
    table = make_table(files, slot=np.arange(len(files)))
    whole = Reader(table, 32, reader.random_crop, 5).batch(np.arange(len(files)), 1)
    kept = np.array([9, 2, 4])
    fewer = Reader(table.take(kept), 32, reader.random_crop, 5).batch(np.arange(3), 1)
    assert fewer.equal(whole[kept])


@pytest.mark.medium
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("change", [None, lambda image, key: image + key[2]])
def test_a_stream_is_the_batches_one_by_one_however_many_threads(files, threads, change):
    plan = list(loop.batches(len(files), 5, steps=9, seed=0))
    images = Reader(make_table(files), 32, reader.random_crop, 5, change)
    found = list(images.stream(iter(plan), threads))
    for (index, pixels), (positions, epochs) in zip(found, plan, strict=True):
        assert np.array_equal(index, positions) and pixels.equal(images.batch(positions, epochs))


@pytest.mark.medium
@pytest.mark.parametrize("threads", [1, 2])
def test_a_share_of_a_batch_is_a_part_of_the_whole(files, threads):
    """As each process of a training takes one."""
    images = Reader(make_table(files), 32, reader.random_crop, 5)
    plan = list(loop.batches(len(files), 6, steps=4, seed=0))
    shares = [(positions[3:], epochs[3:]) for positions, epochs in plan]
    streams = images.stream(plan, threads), images.stream(shares, threads)
    for (_, whole), (index, share) in zip(*streams, strict=True):
        assert share.equal(whole[3:]) and len(index) == 3


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_runs_no_further_ahead_than_it_says(files, threads):
    drawn = []
    plan = (drawn.append(number) or (np.arange(2), np.zeros(2, int)) for number in range(99))
    stream = Reader(make_table(files), 16, reader.random_crop, 0).stream(plan, threads)
    for given_out in range(1, 8):
        next(stream)
        assert len(drawn) - given_out <= threads
    stream.close()


@pytest.mark.medium
@pytest.mark.parametrize("size", [32, 100])
def test_held_or_read_anew_the_pixels_are_the_same(files, size):
    """Photographs in place of other sizes beside own images: all arms of a study, whichever fit, see the same."""
    own = [image_tables.encode(photograph(number, size, size)) for number in range(3)]
    table = make_table([*files, *own])
    held, read = (reader.load(table, size, {"memory_gib": memory}, CPU) for memory in (1.0, 0.0))
    assert (
        isinstance(held, reader.InMemoryImages)
        and isinstance(read, Reader)
        and len(held) == len(read) == len(files) + 3
    )
    plan = list(loop.batches(len(held), 5, steps=9, seed=0))
    streams = [images.stream(plan, threads=2) for images in (held, read)]
    for (index, pixels), (same_index, same_pixels) in zip(*streams, strict=True):
        assert index.equal(same_index) and pixels.equal(same_pixels)


def test_images_to_hold_are_decoded_when_the_first_is_asked_for():
    held = reader.load(make_table([encode(photograph(0)), b"no image"]), 8, {"memory_gib": 1.0}, CPU)
    assert len(held) == 2
    with pytest.raises(ValueError, match=r"^image 1 cannot be decoded"):
        next(held.stream(loop.batches(2, 1, steps=1, seed=0), threads=1))


@pytest.mark.parametrize("recipe", [{"crop": "random", "crop_area": 0.5}, AUGMENTED, AUGMENTED | {"crop": "none"}])
def test_what_is_another_at_every_visit_is_never_held(recipe):
    images = reader.load(make_table([encode(photograph(0))] * 4), 8, {"memory_gib": 1.0} | recipe, CPU, seed=3)
    views = [images.batch([0], epoch) for epoch in range(12)]
    assert any(not view.equal(views[0]) for view in views)


def test_the_least_area_of_a_crop_is_the_recipes():
    whole = reader.load(make_table([encode(photograph(0))]), 8, {"crop": "random", "crop_area": 1.0}, CPU)
    regions = {whole.transform(120, 120, [seed])[:4] for seed in range(50)}
    assert all(region[2] * region[3] > 0.98 * 120 * 120 for region in regions)


def test_a_set_is_held_up_to_the_last_byte_that_fits():
    table = make_table([image_tables.encode(photograph(0, 8, 8))] * 4)
    limit = 4 * 3 * 8 * 8 / reader.GIBIBYTE
    assert isinstance(reader.load(table, 8, {"memory_gib": limit}, CPU), reader.InMemoryImages)
    assert isinstance(reader.load(table, 8, {"memory_gib": limit * 0.99}, CPU), Reader)


PEAK = """
import re, sys
from pathlib import Path
import torch
from contamination.base import image_tables
from contamination.training import loop, reader

def peak():  # not getrusage's, which begins with that of the process that started this one
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

torch.set_num_threads(1)
table = image_tables.read(sys.argv[1])
for _ in reader.in_order(table.slice(0, 60), 128, threads=2, batch_size=20):
    pass  # what is loaded at first use does not count
for memory in (0.0, 1.0):
    before = peak()
    images = reader.load(table, 128, {"memory_gib": memory}, torch.device("cpu"))
    assert sum(len(pixels) for _, pixels in images.stream(loop.batches(1500, 20, steps=75, seed=0), threads=2)) == 1500
    print(peak() - before)
"""


@pytest.mark.medium
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells it")
def test_reading_anew_takes_a_fraction_of_the_memory_of_all_images(tmp_path):
    (tmp_path / "one.jpg").write_bytes(encode(photograph(0, 128, 128)))
    image_tables.save(tmp_path / "t.arrow", make_table([tmp_path / "one.jpg"] * 1500))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "t.arrow")]
    read, held = map(int, subprocess.run(command, capture_output=True, check=True).stdout.split())
    decoded = 1500 * 3 * 128 * 128
    assert read < decoded / 3 and held > decoded / 2, (read, held)


@pytest.mark.medium
@pytest.mark.parametrize("batch_size", [1, 5, 13, 50])
def test_in_order_every_image_comes_once(files, batch_size):
    parts = list(reader.in_order(make_table(files), 24, threads=2, batch_size=batch_size))
    assert {len(part) for part in parts[:-1]} <= {batch_size}
    assert torch.cat(parts).equal(image_tables.decode_all(make_table(files), 24))


@pytest.mark.medium
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("transform", [None, reader.random_crop])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_broken_image_ends_a_stream_with_its_name(files, tmp_path, share, transform, threads):
    data = encode(photograph(0, 200, 200))
    (tmp_path / "cut.jpg").write_bytes(data[: int(share * len(data))])
    images = Reader(make_table([*files, tmp_path / "cut.jpg"]), 32, transform)
    stream = images.stream(loop.batches(len(images), 4, steps=20, seed=1), threads)
    with pytest.raises(ValueError, match=f"^image {len(files)} cannot be decoded .*: replace or remove it$"):
        list(stream)


def read_for_ever(files):
    """Batches without an end, by two processes, and these once both are at work."""
    before = set(multiprocessing.active_children())
    stream = Reader(make_table(files), 16).stream(itertools.repeat((np.arange(3), np.zeros(3, int))), threads=2)
    next(stream)
    return stream, [child for child in multiprocessing.active_children() if child not in before]


@only_linux
def test_processes_that_read_end_with_the_stream(files):
    stream, children = read_for_ever(files)
    assert len(children) == 2 and all(child.is_alive() for child in children)
    stream.close()
    assert not any(child.is_alive() for child in children)


@pytest.mark.medium
@only_linux
def test_a_process_that_is_killed_ends_a_stream_in_one_line(files):
    stream, children = read_for_ever(files)
    os.kill(children[0].pid, signal.SIGKILL)
    with pytest.raises(OSError, match=r"^a process that reads images was ended .* more memory or fewer threads$"):
        list(stream)


ORPHANS = """
import itertools, multiprocessing, os, signal, sys
import numpy as np
from contamination.base import image_tables
from contamination.training import reader

batches = itertools.repeat((np.arange(3), np.zeros(3, int)))
stream = reader.Reader(image_tables.read(sys.argv[1]), 16).stream(batches, threads=2)
next(stream)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.medium
@only_linux
def test_processes_that_read_die_with_a_training_that_is_killed(files, tmp_path):
    image_tables.save(tmp_path / "t.arrow", make_table(files))
    killed = subprocess.run([sys.executable, "-c", ORPHANS, str(tmp_path / "t.arrow")], capture_output=True)
    children = [int(word) for word in killed.stdout.split()]
    assert len(children) == 2, killed.stderr
    deadline = time.monotonic() + 20
    while any(is_running(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("threads", [1, 2])
def test_batches_for_a_gpu_come_in_page_locked_memory(files, threads):
    table = make_table(files)
    images = reader.load(table, 32, {"memory_gib": 0.0}, torch.device("cuda"))
    plan = list(loop.batches(len(files), 5, steps=9, seed=0))
    for (index, pixels), (positions, epochs) in zip(images.stream(plan, threads), plan, strict=True):
        assert index.is_pinned() and pixels.is_pinned() and pixels.equal(Reader(table, 32).batch(positions, epochs))


def test_a_file_that_has_gone_is_named(tmp_path):
    images = Reader(make_table([tmp_path / "gone.jpg"]), 32, reader.random_crop, 0)
    with pytest.raises(OSError, match=r"^image 0.*gone\.jpg.*No such file"):
        images.batch([0], 0)


@settings(deadline=None)
@given(height=st.integers(1, 600), width=st.integers(1, 600), seed=st.integers(0, 99))
def test_a_random_crop_lies_inside_the_image(height, width, seed):
    region = reader.random_crop(height, width, [seed])
    assert region.top >= 0 and region.height >= 1 and region.top + region.height <= height
    assert region.left >= 0 and region.width >= 1 and region.left + region.width <= width


@pytest.mark.parametrize("least", [0.08, 0.5])
def test_random_crops_are_drawn_as_torchvision_draws_them(least):
    from torchvision.transforms import RandomResizedCrop

    ours = np.array([reader.random_crop(375, 500, [seed], least) for seed in range(1500)], dtype=float)
    image = torch.empty(3, 375, 500)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draw = RandomResizedCrop.get_params
        theirs = np.array([draw(image, [least, 1.0], list(reader.ASPECT)) for _ in range(1500)], dtype=float)
    error = np.hypot(ours[:, :4].std(axis=0), theirs.std(axis=0)) / np.sqrt(1500)
    assert np.all(np.abs(ours[:, :4].mean(axis=0) - theirs.mean(axis=0)) < 4 * error)
    assert np.all(np.abs(ours[:, :4].std(axis=0) / theirs.std(axis=0) - 1) < 0.12)
    assert abs(ours[:, 4].mean() - 0.5) < 0.04
