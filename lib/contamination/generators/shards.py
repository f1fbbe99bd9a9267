"""A generated set: one image per slot, drawn and written shard by shard by any number of jobs.

An image's identity is its slot. Its starting noise comes from (study seed, draw, slot, depth) alone, so that batch
size, number of shards, number of jobs and interruptions do not change it; another batch size changes pixels by rounding
only.

How a set is drawn is one dictionary, `how`, in words that JSON has: everything on which its images depend. Each shard
carries it; its fingerprint decides which shards are already made. `write` reads these keys of it: `settings` (of the
pipeline's call), `common` (provenance, a column each), `image_size`, `codec` and, where there is one, `watermark`.
"""

import fcntl
import hashlib
import io
import json
import shutil
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa

from contamination import sources
from contamination.base import image_tables
from contamination.base.code import hash_functions
from contamination.base.files import fingerprint
from contamination.base.layout import Layout
from contamination.generators import codecs, pipelines, prompts, watermarks

LOCK = ".lock"
EXPENDABLE = 10_000  # images that may be replaced unasked: minutes to an hour of a GPU
ORIENTATION = 0x0112  # EXIF's entry for how an image is turned; from 5 on height and width change places
SHOWN = 5  # changes that a refusal names


# Slots and seeds


def slots_of(layout: Layout, style: str, *, seed: int, draw: int = 0, names: str = "") -> dict:
    """What the generator is asked for: columns slot, label, prompt and seed, one row per image of the real train split.

    style, names: as in `prompts.write_prompts`. seed: the study's; with draw and slot it fixes the image's noise.
    Raises ValueError or FileNotFoundError when there is no train split, or its prompts cannot be written.
    """
    train, classes = image_tables.read(layout.real("train")), sources.class_names(layout)
    labels = train["label"].to_numpy()
    slots = {"slot": list(range(len(labels))), "label": labels}
    of_slots = [classes[label] for label in labels]
    slots["prompt"] = prompts.write_prompts(
        style, of_slots, captions=train["caption"].to_pylist(), slots=slots["slot"], seed=seed, names_file=names
    )
    noise = draw_seed(seed, draw)
    slots["seed"] = [image_seed(noise, slot) for slot in slots["slot"]]
    return slots


def sizes_of(images: pa.Table) -> dict[str, list[int]]:
    """Columns height and width of real images, from their headers and as their EXIF entries turn them.

    Generated images that get the sizes of those in whose slots they stand cannot be told by their size, and random
    crops of both kinds are enlarged alike.
    """
    from PIL import Image

    sizes = []
    for image, name in zip(images["image"], images["id"], strict=True):
        try:
            with Image.open(io.BytesIO(image_tables.data(image.as_py(), name.as_py()))) as opened:
                turned = opened.getexif().get(ORIENTATION, 1) >= 5
                sizes.append(opened.size if turned else opened.size[::-1])
        except (*image_tables.DAMAGE, Image.DecompressionBombError) as error:
            raise ValueError(f"{name}: its size cannot be read ({error}): replace or remove it") from None
    return {"height": [height for height, _ in sizes], "width": [width for _, width in sizes]}


def draw_seed(seed: int, draw: int) -> int:
    """The seed of one draw, of its generator's training and its noise: the study's for draw 0, else unrelated ones."""
    return int(np.random.SeedSequence([seed, 11, draw]).generate_state(1)[0]) if draw else seed


def image_seed(study_seed: int, slot: int, *, depth: int = 1) -> int:
    """The seed of one image's starting noise, 63 bits.

    depth: 1 for a generator that saw real images only, 2 for one trained on images of depth 1, and so on.
    """
    return _hashed(f"{study_seed}/{slot}/{depth}")


def next_seed(seed: int, draw: int) -> int:
    """The seed of a slot's image after the safety checker has flagged its first `draw` ones; its own seed at 0."""
    return _hashed(f"{seed}/again/{draw}") if draw else seed


def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


# The files


def paths_of(folder: Path, slots: int, *, shard_size: int) -> list[Path]:
    """The files of a generated set; shard k holds slots k * shard_size onwards."""
    return [folder / f"shard-{k:05d}.arrow" for k in range(-(-slots // shard_size))]


def folder_for(layout: Layout, source: str, *, count: int, shard_size: int, how: dict) -> Path:
    """Where the shards of a set are: where all of them lie already, made as `how` says, and else where to write them.

    The two differ for a notebook that is run by hand: it takes what the sweep has made in this very way.
    """
    made = layout.generated(source)
    if all(_is_made(path, fingerprint(how)) for path in paths_of(made, count, shard_size=shard_size)):
        return made
    return layout.writable.generated(source)


def claim(folder: Path, paths: list[Path], *, how: dict, wait: float = 2.0) -> Iterator[Path]:
    """Yield the shards that this job shall make, one at a time; when it ends, the whole set is there.

    Any number of jobs may do the same at one time, on any number of machines that share the folder. A shard is claimed
    by locking one byte of a file; the system frees it however a job ends, and another job then takes the shard over.
    Shards drawn as `how` says stay. All else in the folder, shards drawn in another way and the record of an earlier
    run among it, is no longer true and goes before the first shard.
    wait: seconds between looks at shards that others are making.
    Raises ValueError when jobs with other parameters are at work here, and when more than `EXPENDABLE` images drawn in
    another way would go; OSError where files cannot be locked.
    """
    mark = fingerprint(how)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+b", buffering=0) as lock:
        _enter(lock, folder, paths, how)
        missing = paths
        while missing := [path for path in missing if not _is_made(path, mark)]:
            idle = True
            for path in missing:
                byte = 1 + paths.index(path)
                if _locks(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, byte):
                    if not _is_made(path, mark):  # another job may have made it since the look
                        idle = False
                        yield path
                    fcntl.lockf(lock, fcntl.LOCK_UN, 1, byte)
            if idle:
                time.sleep(wait)


def _is_made(path: Path, mark: str) -> bool:
    return image_tables.metadata(path).get("fingerprint") == mark


def _enter(lock, folder: Path, paths: list[Path], how: dict) -> None:
    """Join the jobs of one mark. The file holds their mark; its byte 0 is locked alone to clear, shared to work."""
    mark = fingerprint(how)
    if _locks(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 0):
        if changed := _written(lock) != mark:
            _require_expendable(folder, how)
        _clear(folder, paths, mark, everything=changed)
        lock.truncate(0)
        lock.write(mark.encode())
    _locks(lock, fcntl.LOCK_SH, 0)  # from alone to shared at once, or waiting for the one who clears
    if _written(lock) != mark:
        raise ValueError(f"another job is making images in {folder} with other parameters: wait for it or stop it")


def _written(lock) -> str:
    lock.seek(0)
    return lock.read().decode(errors="replace")


def _locks(lock, kind: int, byte: int) -> bool:
    """Lock one byte. Unlike a lock on the whole file, this is what network file systems know themselves."""
    try:
        fcntl.lockf(lock, kind, 1, byte)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: another job holds it
        return False
    except OSError as error:
        raise OSError(
            f"{lock.name} cannot be locked ({error.strerror}): put outputs on a file system with locks (Lustre: "
            "mounted with -o flock; NFS 3: with a lock daemon)"
        ) from None
    return True


def _require_expendable(folder: Path, how: dict) -> None:
    """Raise ValueError where many images were drawn in another way: they may have taken weeks, complete or not."""
    found = {path: image_tables.metadata(path) for path in sorted(folder.glob("shard-*.arrow"))}
    drawn = {path: kept for path, kept in found.items() if kept and "tree" not in kept}  # imported: made again at once
    others = [path for path, kept in drawn.items() if kept.get("fingerprint") != fingerprint(how)]
    count = image_tables.read(*others).num_rows if others else 0
    if count > EXPENDABLE:
        changed = _changes(json.loads(found[others[0]].get("how", "{}")), how)
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise ValueError(
            f"{folder} holds {count:,} images that were drawn in another way ({'; '.join(changed[:SHOWN])}{more}): "
            "change that back, delete this folder to draw them again, or give the new set another name"
        )


def _changes(before: dict, now: dict) -> list[str]:
    """What two ways of drawing do not have in common, as `key: before, now after`."""
    before, now = _flat(before), _flat(now)
    return [
        f"{key}: {before.get(key, 'not given')}, now {now.get(key, 'not given')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, "not given") != now.get(key, "not given")
    ]


def _flat(content: dict, prefix: str = "") -> dict[str, str]:
    """The values of nested dictionaries in JSON, by dotted key."""
    flat: dict[str, str] = {}
    for key, value in content.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": json.dumps(value)}
    return flat


def _clear(folder: Path, paths: list[Path], mark: str, everything: bool) -> None:
    """Remove what a killed job has left half-written; also, where the parameters changed, all that is not of `mark`."""
    made = {path for path in paths if _is_made(path, mark)}
    for file in folder.iterdir():
        if file in made or file.name == LOCK or not (everything or file.name.startswith(".shard-")):
            continue
        if file.is_dir():  # JupyterLab's checkpoints
            shutil.rmtree(file)
        else:
            file.unlink()


def write(path: Path, pipeline, *, slots: dict, how: dict, batch_size: int, safety_retries: int = 0) -> int:
    """Generate the images of one shard and write it whole or not at all; returns the batch size that fitted in memory.

    slots: columns of this shard: slot, label, prompt, seed, and height and width where each image has its own.
    how: how the whole set is drawn; of image size 0 images are stored as they are drawn, else through the same resize
    as the real ones. safety_retries: how many other seeds may be tried where the safety checker flags an image; an
    image that it flags is never stored.
    Besides its provenance an image has `flagged`, how many of its slot's draws the checker refused, `seed`, that of
    the draw which is stored, `pixel_hash` and `bytes_hash`.
    Raises ValueError when an image is still flagged, or cannot be drawn.
    """
    images, added = [], []  # type: ignore[var-annotated]  # a list of each image's own type
    while len(images) < len(slots["slot"]):
        batch = slice(len(images), len(images) + batch_size)
        texts, seeds = list(slots["prompt"][batch]), list(slots["seed"][batch])
        pixels, flags = pipelines.sample_what_fits(pipeline, texts, seeds=seeds, settings=how["settings"])
        if len(pixels) < len(texts):
            batch_size = len(pixels)
        sizes = zip(slots["height"][batch], slots["width"][batch], strict=True) if "height" in slots else repeat(None)
        for drawn, flag, prompt, seed, size in zip(pixels, flags, texts, seeds, sizes, strict=False):
            draws = 0
            if flag:
                drawn, draws = _retry(pipeline, prompt, seed, how["settings"], safety_retries)
            stored = as_stored(drawn, how, size=size)
            images.append(codecs.encode(stored, how["codec"]))
            hashes = {"pixel_hash": codecs.pixel_hash(stored), "bytes_hash": codecs.bytes_hash(images[-1])}
            added.append({"seed": next_seed(seed, draws), "flagged": draws} | hashes)
    common = how["common"] | {"device": pipelines.device_name(pipeline.device)}
    if "watermark" in how:
        common["watermark"] = how["watermark"]
    columns = {"id": [f"slot-{slot}" for slot in slots["slot"]]} | slots
    columns |= {name: [row[name] for row in added] for name in added[0]}
    columns |= {name: [value] * len(images) for name, value in common.items()}
    image_tables.write(path, images, columns=columns, fingerprint=fingerprint(how), how=json.dumps(how, sort_keys=True))
    return batch_size


def _retry(pipeline, prompt: str, seed: int, settings: dict, safety_retries: int) -> tuple[np.ndarray, int]:
    """The first image of a slot's next seeds that the safety checker lets pass, and how many it refused before."""
    for draw in range(1, safety_retries + 1):
        pixels, flags = pipelines.sample(pipeline, [prompt], [next_seed(seed, draw)], settings)
        if not flags[0]:
            return pixels[0], draw
    raise ValueError(
        f"the safety checker flags the image of {prompt!r}, seed {seed}"
        + (f", and those of {safety_retries} other seeds" if safety_retries else "")
        + ": it would be stored black; set safety_retries to try more seeds, or choose other prompts"
    )


def as_stored(pixels: np.ndarray, how: dict, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """Pixels 0..1 as the uint8 image that a set drawn as `how` says stores: of its size, with its watermark.

    size: height and width of this image, where each has its own.
    """
    stored = picture(pixels, size or how["image_size"])
    return watermarks.embed(stored, how["watermark"]) if how.get("watermark") else stored


def picture(pixels: np.ndarray, image_size: int | tuple[int, int]) -> np.ndarray:
    """Pixels 0..1 as a uint8 image of a size as `image_tables.resize` takes it; 0: as drawn."""
    from PIL import Image

    drawn = np.rint(pixels * 255).astype(np.uint8)
    return image_tables.resize(Image.fromarray(drawn), image_size) if image_size else drawn


def code_hash(watermark: str = "") -> str:
    """A hash of the code that makes pixels: part of `how`, as the parameters are.

    Of these functions alone, and of what they compute, not of how they are written or where they lie: a change to the
    bookkeeping around them, a new name or another module leaves weeks of images valid.
    watermark: its text; the functions that embed it count where there is one.
    """
    loading = (pipelines.load, pipelines.other_scheduler, pipelines.cast_latents)
    seeding = (image_seed, next_seed, pipelines.sample, _retry)
    marking = watermarks.EMBEDDING if watermark else ()
    return hash_functions(
        *loading, *seeding, as_stored, picture, codecs.encode, image_tables.encode, image_tables.resize, *marking
    )
