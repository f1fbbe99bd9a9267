"""Verify generated sets: is every image there as recorded, and does the pipeline draw the same images again?

Of an imported set, whose images lie elsewhere: are they still there, and the same?
"""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from contamination.base import devices, image_tables
from contamination.base.files import require
from contamination.base.layout import Layout
from contamination.generators import codecs, external_sets, pipelines, shards
from contamination.mixtures import mixing
from contamination.study import study as studies

EQUAL, ROUNDED, DIFFERENT, NOT_DRAWN = "bit-equal", "equal up to rounding", "different", "not drawn"
IMPORTED = "imported"


def verify_study(study_file: str, sample: int = 16) -> int:
    """Verify every generated set of a study and print one line for each; 1 where something is wrong, else 0.

    sample: how many images of each set to draw again. Raises ValueError or OSError for a wrong parameter file.
    """
    if sample < 0:
        raise ValueError(f"sample {sample} is not allowed: give how many images to draw again, 0 for none")
    study = studies.load(study_file)
    require(study.layout.real("train"), f"`contamination run {study_file}`")
    wrong = 0
    for source, draw in study.sets_and_draws():
        name = f"{source}, draw {draw}" if draw else source
        try:
            record = _record(study, source, draw, sample)
        except (ValueError, OSError) as problem:
            wrong = 1
            print(f"{name}: {problem}")
        else:
            wrong |= bool(record["problems"]) or record["verdict"] == DIFFERENT
            print(f"{name}: {_in_words(record)}")
    return int(wrong)


def _record(study: studies.Study, source: str, draw: int, sample: int) -> dict:
    """A record of `verify`, or of `verify_imported`, for one set of a study."""
    if study.maker(source) == "import":
        return verify_imported(study.layout, source)
    asked = study.parameters("generate", source=source, draw=draw)
    slots = shards.slots_of(study.layout, asked["style"], seed=asked["seed"], draw=draw, names=asked["names"])
    return verify(
        study.layout.of_draw(draw), source, slots=slots, device=devices.start(asked["threads"]), sample=sample
    )


def _in_words(record: dict) -> str:
    """A record of `verify` in one line."""
    parts = [f"{record['images']:,} images", *(record["problems"] or ["all as recorded"])]
    if record["verdict"] == IMPORTED:
        parts.append("none drawn again: they were not generated here")
    if record["drawn"]:
        parts.append(f"{len(record['drawn'])} drawn again: {record['verdict']}")
    if record["verdict"] == DIFFERENT:
        slots = [image["slot"] for image in record["drawn"] if image["verdict"] == DIFFERENT]
        parts += [_sentence("different", slots), *record["expected"]]
    return "; ".join(parts)


def verify(layout: Layout, source: str, *, slots: dict, device, sample: int = 16, seed: int = 0) -> dict:
    """Check a generated set against what it should hold, and draw a random sample of its images again.

    slots: columns slot, label, prompt and seed as `shards.slots_of` gives them, the seed being that of the first draw.
    sample: how many images to draw again, each by itself. seed: which ones.
    Returns a record: images; problems, sentences, none where the set is as recorded; drawn, one dictionary per image
    drawn again with slot, verdict and what `compare` gives; verdict, the worst of them: bit-equal, equal up to rounding
    or different; expected, sentences: what is not the same now, and which differences that explains.
    Raises ValueError or FileNotFoundError when there is no set, or its pipeline is not to be had.
    """
    paths = mixing.tables_of(layout, source)
    if not paths:
        raise FileNotFoundError(f"generated set {source} is missing: run 01_generate for it first")
    table, how = image_tables.read(*paths), _how(paths)
    record = {"source": source, "images": table.num_rows, "problems": problems(table, slots)}
    folder = pipelines.folder_of(table["pipeline"][0].as_py(), how["loading"].get("load"))
    if pipelines.hash_of(folder, how["loading"].get("load") or {}) != table["pipeline_hash"][0].as_py():
        record["problems"].append(f"pipeline {folder} is no longer the one that made these images")
    if not sample:
        return record | {"drawn": [], "verdict": NOT_DRAWN, "expected": []}
    pipeline = pipelines.load(folder, device=device, **how["loading"])
    rows = np.sort(np.random.default_rng([seed, 6]).permutation(table.num_rows)[:sample])
    drawn = [_again(pipeline, table.slice(row, 1).to_pylist()[0], how) for row in rows.tolist()]
    found = [image["verdict"] for image in drawn]
    verdict = next((verdict for verdict in (DIFFERENT, ROUNDED) if verdict in found), EQUAL)
    return record | {"drawn": drawn, "verdict": verdict, "expected": expected(table, how, device=device)}


def verify_imported(layout: Layout, source: str) -> dict:
    """Check that the files behind an imported set are those that were imported, by size and time; nothing is decoded.

    Returns a record as `verify` does, of which no image is drawn. Raises ValueError when there is no such set.
    """
    table = mixing.in_slots(layout, source, seed=0)
    if "mtime_ns" not in table.column_names:
        raise ValueError(f"set {source} was generated here and is not the imported one: run 01_import for it first")
    vanished, changed = external_sets.changes(table)
    found = [_sentence("files that have vanished", vanished), _sentence("files that have changed", changed)]
    record = {"source": source, "images": table.num_rows, "problems": [sentence for sentence in found if sentence]}
    return record | {"drawn": [], "verdict": IMPORTED, "expected": []}


def problems(table: pa.Table, slots: dict) -> list[str]:
    """What is not as it should be in a set's table, one sentence per kind; every image's bytes are read."""
    found = table["slot"].to_pylist()
    place = {slot: position for position, slot in enumerate(slots["slot"])}
    twice = [slot for slot, count in Counter(found).items() if count > 1]
    sentences = [
        _sentence("slots without an image", sorted(set(place) - set(found))),
        _sentence("images of slots that are not asked for", sorted(set(found) - set(place))),
        _sentence("slots with more than one image", twice),
    ]
    at = [place.get(slot) for slot in found]
    for name in ("label", "prompt", "seed"):
        wanted, stored = list(slots[name]), table[name].to_pylist()
        if name == "seed":  # that of the draw which the safety checker let pass
            flagged = dict(zip(found, table["flagged"].to_pylist(), strict=True))
            wanted = [shards.next_seed(seed, flagged.get(slot, 0)) for slot, seed in zip(place, wanted, strict=True)]
        wrong = [
            found[row] for row, position in enumerate(at) if position is not None and stored[row] != wanted[position]
        ]
        sentences.append(_sentence(f"another {name} than the slot's", wrong))
    sentences.append(_sentence("bytes that have changed", _changed(table)))
    return [sentence for sentence in sentences if sentence]


def _changed(table: pa.Table) -> list[int]:
    """The slots whose stored bytes are not those that were written."""
    changed = []
    for image, wanted, slot in zip(table["image"], table["bytes_hash"], table["slot"], strict=True):
        data = image["bytes"].as_buffer()
        if data is None or codecs.bytes_hash(memoryview(data)) != wanted.as_py():
            changed.append(slot.as_py())
    return changed


def _sentence(what: str, slots: list[int]) -> str:
    first = ", ".join(str(slot) for slot in slots[:5])
    return f"{what}: {len(slots)} (slot {first}{', ...' if len(slots) > 5 else ''})" if len(slots) else ""


def _how(paths: list[Path]) -> dict:
    """What all shards record about how they were drawn. Raises ValueError where they disagree or have no record."""
    found = {image_tables.metadata(path).get("how", "") for path in paths}
    if len(found) != 1 or found == {""}:
        raise ValueError(f"the shards in {paths[0].parent} do not record one way to draw them: run 01_generate again")
    return json.loads(found.pop())


def _again(pipeline, row: dict, how: dict) -> dict:
    """Draw one image of a set again, alone, and compare it with the stored one."""
    pixels, flags = pipelines.sample(pipeline, [row["prompt"]], [row["seed"]], how["settings"])
    size = (row["height"], row["width"]) if "height" in row else None
    drawn = shards.as_stored(pixels[0], how, size=size)
    difference = compare(decoded(row["image"]["bytes"]), decoded(codecs.encode(drawn, how["codec"])))
    if flags[0] or difference["mean"] > pipelines.rounding(pipeline):
        verdict = DIFFERENT
    elif difference["max"] == 0 and codecs.pixel_hash(drawn) == row["pixel_hash"]:
        verdict = EQUAL
    else:
        verdict = ROUNDED
    return {"slot": row["slot"], "verdict": verdict} | difference


def decoded(data: bytes) -> np.ndarray:
    """A stored image as uint8 (height, width, 3); of no size where it cannot be read."""
    from PIL import Image

    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (OSError, SyntaxError, ValueError):  # what Pillow raises for damaged files
        return np.zeros((0, 0, 3), dtype=np.uint8)


def compare(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """How far two uint8 images (height, width, 3) are apart, in levels of 256: max, mean; share: of pixels that differ.

    Images of different sizes are 255 apart everywhere.
    """
    if first.shape != second.shape:
        return {"max": 255, "mean": 255.0, "share": 1.0}
    apart = np.abs(first.astype(np.int16) - second)
    return {"max": int(apart.max()), "mean": float(apart.mean()), "share": float(apart.any(axis=-1).mean())}


def expected(table: pa.Table, how: dict, *, device) -> list[str]:
    """Which differences are to be expected of images drawn again here and now, and why."""
    then = {name: " and ".join(sorted(table[name].unique().to_pylist())) for name in ("device", "versions", "dtype")}
    name, versions = pipelines.device_name(device), pipelines.spell_versions()
    sentences = [
        "one image at a time, not a batch: sums are taken in another order, which moves values by their last bit"
    ]
    if then["dtype"] != "float32":
        sentences.append(
            f"{then['dtype']}: the last bit is 1/1024 (float16) or 1/128 (bfloat16) of a value, and every step passes "
            "its rounding on: several levels at edges, seldom elsewhere"
        )
    if name != then["device"]:
        sentences.append(
            f"drawn on {then['device']}, again on {name}: other kernels add in another order, and some use TF32: in "
            "float32 mostly one level, more where many steps carry it on"
        )
    if versions != then["versions"]:
        sentences.append(
            f"made with {then['versions']}, now {versions}: kernels change between versions, and now and then a "
            "scheduler's formula or a tokenizer, which gives another image"
        )
    if how["loading"].get("compiled") or how["loading"].get("attention"):
        sentences.append("compiled or with another attention backend: fused kernels round otherwise on each processor")
    if how["codec"]["format"] != "PNG":
        sentences.append("a lossy codec: a difference of one level before it may be one quantization step after it")
    if "watermark" in how:
        sentences.append(
            "a watermark: a difference of one level before it may move a block of 8x8 pixels by several levels after it"
        )
    return sentences
