"""One mixture as files for other people's training code: a folder tree, WebDataset shards, or a Hugging Face dataset.

Every form holds the images in the order of their slots, JPEG and PNG as they are stored. Many readers skip other
formats without a word: such an image becomes a PNG of the same pixels, and is counted. Beside them lie `record.json`
(what was exported, from what) and `README.md` (the same for people). What was written is read back by those whom it is
for before it takes its place.
"""

import io
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet

from contamination import sources
from contamination.base import image_tables
from contamination.base.files import RECORD, fingerprint, hash_file, read_json, versions, whole_folder, write_json
from contamination.base.layout import Layout, spell_ratio
from contamination.commands import read_back
from contamination.mixtures import arms, mixing, replicates, shares
from contamination.mixtures.replicates import Replicate
from contamination.sources import readable_names
from contamination.sources.index import watched
from contamination.study import study as studies

KINDS = {arms.TRAIN: "real", arms.POOL: arms.OTHER_REAL.name}  # by source; any other source is a generated set
# The columns of a generated set that tell what made it, rather than one image of it.
GENERATOR: tuple[str, ...] = ("pipeline", "pipeline_hash", "scheduler", "steps", "guidance")
GENERATOR += ("negative_prompt", "dtype", "device", "versions", "depth")
SUFFIXES = {image_tables.JPEG: ".jpg", image_tables.PNG: ".png"}  # what every reader reads, by a file's first bytes
ROW_GROUP = 100  # images that a Parquet file holds together, and a writer in memory
LONGEST_STEM = 100  # bytes of UTF-8; a file name has at most 255


class Class(NamedTuple):
    """name: as the study calls it, the same for one class only. readable: in words. folder: safe in any file system."""

    name: str
    readable: str
    folder: str


class Entry(NamedTuple):
    """One image of a mixture. provenance: the columns of its shard table where it is generated, else None."""

    slot: int
    label: int
    source: str
    id: str
    caption: str
    image: dict
    provenance: dict | None

    @property
    def kind(self) -> str:
        return KINDS.get(self.source, "generated")


class Images:
    """The images of a manifest, read from their tables one at a time."""

    def __init__(self, layout: Layout, manifest: pa.Table, classes: list[Class]):
        used = {mixing.REAL, *manifest["source"].to_pylist()}
        layout = layout.of_draw(mixing.draw_of(manifest))
        self.tables = {source: image_tables.read(*mixing.tables_of(layout, source)) for source in used}
        self.manifest, self.classes = manifest, classes
        self.converted: Counter[str] = Counter()  # images that became PNG, by the format that they had

    def portable(self, entry: Entry) -> tuple[bytes, str]:
        """An image as every reader reads it, and the suffix of that; as it is stored, but for other formats."""
        data = image_tables.data(entry.image, entry.id)
        if suffix := _suffix(data):
            return data, suffix
        encoded, form = _as_png(data, entry.id, image_tables.background(self.tables[entry.source]))
        self.converted[form] += 1
        return encoded, ".png"

    def entries(self, start: int = 0, count: int | None = None) -> Iterator[Entry]:
        """The images from position `start` of the manifest on, `count` of them or all."""
        # Cell by cell: `take` would put all chunks of a column together, which for a large set is all of its images.
        columns = {source: {name: table[name] for name in table.column_names} for source, table in self.tables.items()}
        captions = columns[mixing.REAL]["caption"]
        for batch in self.manifest.slice(start, count).to_batches(max_chunksize=1000):
            for line in batch.to_pylist():
                row = {name: column[line["row"]].as_py() for name, column in columns[line["source"]].items()}
                if row["label"] != line["label"]:
                    raise ValueError(f"image {row['id']} of {line['source']} has changed its class: run 02_mix again")
                image, caption = row.pop("image"), row.get("caption") or captions[line["slot"]].as_py()
                provenance = None if line["source"] in KINDS else row
                yield Entry(line["slot"], line["label"], line["source"], row["id"], caption, image, provenance)

    def shards(self, size: int) -> Iterator[tuple[int, Iterator[Entry]]]:
        """Number and images of each shard, `size` images but for the last."""
        for number, start in enumerate(range(0, self.manifest.num_rows, size)):
            yield number, self.entries(start, size)

    def describe(self, entry: Entry) -> dict:
        """All that is known of an image, without the image."""
        known = {"label": entry.label, "class": self.classes[entry.label].name}
        known |= {"class_name": self.classes[entry.label].readable, "caption": entry.caption, "slot": entry.slot}
        return known | {"kind": entry.kind, "source": entry.source, "id": entry.id, "provenance": entry.provenance}


def write(
    study_file: str,
    arm: str,
    *,
    source: str,
    ratio: float,
    seed: int,
    form: str,
    target: str | os.PathLike,
    shard_size: int = 1000,
    draw: int | None = None,
    slots: int | None = None,
) -> bool:
    """Write one mixture of a study's grid into the new folder `target`, whole or not at all.

    draw, slots: needed where the grid crosses them with its seeds.
    form: one of `FORMS`. shard_size: images per file of the forms webdataset and huggingface.
    Returns False, and changes nothing, where `target` already holds this very export.
    Raises ValueError or OSError in one line for a mixture that is not in the grid, not made yet or out of date, for a
    target that holds anything else, for an image that is not there any more, and where a reader finds other images or
    labels than the manifest has.
    """
    if form not in FORMS or shard_size < 1:
        raise ValueError(f"form {form!r}, shard size {shard_size}: give one of {', '.join(FORMS)}, and 1 image or more")
    study, target = studies.load(study_file), Path(target).absolute()
    if form == "huggingface" and set("[]*?") & set(str(target)):
        raise ValueError(f"{target}: `datasets` takes [ ] * and ? in a path for a pattern: name another folder")
    chosen, path = _manifest_file(study, study_file, arm, source, ratio, seed, draw, slots)
    what: dict = {"study": study.study, "title": study.title, "arm": arm, "source": source, "ratio": spell_ratio(ratio)}
    labels = image_tables.read(study.layout.real("train"))["label"].to_numpy()
    what["replaced"] = shares.in_words(shares.of(labels, ratio))
    what |= chosen._asdict() | {"form": form, "manifest": {"file": path.name, "hash": hash_file(path)}}
    what |= {"formats": sorted(SUFFIXES.values())}
    what |= {} if form == "folder" else {"shard_size": shard_size}
    if _is_there(target, fingerprint(what)):
        return False
    manifest = mixing.read_manifest(path)
    hashes = _require_unchanged(study.layout, manifest, f"`contamination run {study_file}` brings it up to date")
    images = Images(study.layout, manifest, _classes(study))
    with whole_folder(target) as scratch:
        FORMS[form](scratch, images, shard_size)
        read = read_back.require_readable(scratch, form, images.manifest["label"].to_numpy())
        record = {"fingerprint": fingerprint(what)} | what | _contents(images, hashes) | {"read_back_by": read}
        (scratch / "README.md").write_text(_card(record), encoding="utf-8")
        write_json(scratch / RECORD, record)
    return True


# What is exported


def _manifest_file(
    study, study_file: str, arm: str, source: str, ratio: float, seed: int, draw: int | None, slots: int | None
) -> tuple[Replicate, Path]:
    """The manifest of a mixture, and of what it is. draw, slots: where there is one for the seed, None will do."""
    mixtures = [mixture for mixture in study.jobs()["mix"] if (mixture["arm"], mixture["source"]) == (arm, source)]
    if not mixtures:
        pairs = sorted({f"{mixture['arm']} {mixture['source']}" for mixture in study.jobs()["mix"]})
        raise ValueError(f"{study_file} has no arm {arm} with source {source}: its grid has {', '.join(pairs)}")
    spelled = spell_ratio(ratio)
    asked = {"seed": seed} | {name: number for name, number in (("draw", draw), ("slots", slots)) if number is not None}
    found = [
        (each, study.job("mix", **mixture) / f"seed-{seed}.parquet")
        for mixture in mixtures
        for each in replicates.of_lists(mixture["seeds"], mixture["draws"], mixture["slots"])
        if spell_ratio(mixture["ratio"]) == spelled and asked.items() <= each._asdict().items()
    ]
    wanted = ", ".join(f"{name} {number}" for name, number in asked.items())
    if not found:
        ratios = ", ".join(sorted({spell_ratio(mixture["ratio"]) for mixture in mixtures}))
        seeds = ", ".join(map(str, sorted({seed for mixture in mixtures for seed in mixture["seeds"]})))
        raise ValueError(
            f"{study_file} has no ratio {spelled} with {wanted} of {arm} {source}: its grid has ratios {ratios} and "
            f"seeds {seeds}"
        )
    if len({each for each, _ in found}) > 1:
        others = " or ".join(f"--draw {each.draw} --slots {each.slots}" for each, _ in found)
        raise ValueError(f"{study_file} has several mixtures of {arm} {source} with {wanted}: add {others}")
    for each, file in found:
        if file.exists():
            return each, file
    raise FileNotFoundError(f"{found[0][1]} is missing: `contamination run {study_file}` makes it")


def _is_there(target: Path, mark: str) -> bool:
    """Whether the target holds this export. Raises ValueError where it holds anything else."""
    if not os.path.lexists(target):
        return False
    try:
        if read_json(target / RECORD).get("fingerprint") == mark:
            return True
    except (OSError, ValueError, AttributeError):
        pass  # no record, or not one of ours
    raise ValueError(f"{target} exists and is not this export: name a folder that does not exist yet")


def _require_unchanged(layout: Layout, manifest: pa.Table, advice: str) -> dict[str, str]:
    """The hash of each source that a manifest names. Raises ValueError for one that has changed since it was mixed."""
    metadata = {key.decode(): value.decode() for key, value in (manifest.schema.metadata or {}).items()}
    hashes = {}
    for source, files in mixing.used_by(layout, manifest).items():
        hashes[source] = mixing.content_hash(files)
        if not hashes[source] or hashes[source] != metadata.get(f"hash of {source}"):
            raise ValueError(f"the images of {source} have changed since they were mixed, or are missing: {advice}")
    return hashes


def _classes(study) -> list[Class]:
    names = sources.class_names(study.layout)
    readable = readable_names.readable(names, study.generate.names or study.data.names or "")
    # The number first: training code that sorts the folders then gives every class the label that it has here.
    digits = len(str(len(names) - 1))
    return [
        Class(name, readable[name].name, f"{label:0{digits}d}-{_safe(readable[name].name)}")
        for label, name in enumerate(names)
    ]


def _contents(images: Images, hashes: dict[str, str]) -> dict:
    """What an export holds, as it stands in its record."""
    per_source, per_class = (Counter(images.manifest[column].to_pylist()) for column in ("source", "label"))
    classes = [
        {"label": label, "images": per_class[label]} | each._asdict() for label, each in enumerate(images.classes)
    ]
    return {
        "images": images.manifest.num_rows,
        "sources": {source: {"images": per_source[source], "hash": hashes[source]} for source in sorted(hashes)},
        "generators": {source: _generator(images.tables[source]) for source in sorted(set(hashes) - set(KINDS))},
        "classes": classes,
        "converted": dict(sorted(images.converted.items())),
        "versions": versions("contamination", "pyarrow"),
    }


def _generator(table: pa.Table) -> dict[str, list]:
    """What made a set: of each column that tells it, the different values."""
    return {name: table[name].unique().to_pylist() for name in GENERATOR if name in table.column_names}


# The images


def _suffix(data: bytes) -> str:
    """The suffix that belongs to an image's content, whatever its file was called; empty for what some do not read."""
    return next((suffix for start, suffix in SUFFIXES.items() if data.startswith(start)), "")


def _as_png(data: bytes, name: str, background: str) -> tuple[bytes, str]:
    """An image as a PNG of the pixels that the study sees, and the format that it had.

    background: the color on which transparency is laid.
    """
    from PIL import Image

    try:
        pixels = image_tables.pixels(data, background)
        form = Image.open(io.BytesIO(data)).format or "other"
    except ValueError as error:
        raise ValueError(f"image {name} cannot be decoded ({error}): replace it") from None
    return image_tables.encode(pixels.permute(1, 2, 0).numpy()), form


def _file_name(entry: Entry, suffix: str) -> str:
    """The slot makes it unique, whatever the sources call their images."""
    stem = _safe(PurePosixPath(entry.image["path"] or entry.id).stem)
    return f"slot-{entry.slot:06d}__{entry.kind}__{stem}{suffix}"


def _safe(name: str) -> str:
    """A name as part of a file name: letters, digits, `_`, `-` and inner dots, in any script."""
    kept = re.sub(r"[^\w.-]+", "_", name).encode()[:LONGEST_STEM].decode(errors="ignore")
    return kept.strip("._-") or "image"


# The forms


def _write_folder(folder: Path, images: Images, shard_size: int) -> None:
    """CLASS/NAME: links to images that are read in place, files for the others; captions and all else in a list."""
    for each in images.classes:  # without images too: a folder less would move the labels of all after it
        (folder / each.folder).mkdir()
    with open(folder / "metadata.jsonl", "w", encoding="utf-8") as listing:
        for entry in watched(images.entries(), True, name=folder.name, unit="image"):
            name = f"{images.classes[entry.label].folder}/{_place(folder, entry, images)}"
            line = {"file_name": name, "text": entry.caption} | images.describe(entry)
            listing.write(json.dumps(line, ensure_ascii=False) + "\n")
    names = "".join(f"{each.folder}\n" for each in images.classes)
    (folder / read_back.CLASSES).write_text(names, encoding="utf-8")


def _place(folder: Path, entry: Entry, images: Images) -> str:
    """Put one image into the folder of its class; returns its name there."""
    inside = folder / images.classes[entry.label].folder
    file = image_tables.file_of(entry.image)
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"{entry.id}: {file} is missing: put it back, or run the study again without it")
    suffix = _suffix(_start(file)) if file is not None else ""
    if file is not None and suffix:
        name = _file_name(entry, suffix)
        (inside / name).symlink_to(os.path.abspath(file))
        return name
    data, suffix = images.portable(entry)
    name = _file_name(entry, suffix)
    (inside / name).write_bytes(data)
    return name


def _start(file: Path) -> bytes:
    with open(file, "rb") as stream:
        return stream.read(max(map(len, SUFFIXES)))


def _write_webdataset(folder: Path, images: Images, shard_size: int) -> None:
    """Shards of KEY.cls, KEY.jpg (or what the image is) and KEY.json; keys count the images, without gaps."""
    for number, entries in watched(images.shards(shard_size), True, name=folder.name, unit="shard"):
        with tarfile.open(folder / f"train-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as shard:
            for position, entry in enumerate(entries, start=number * shard_size):
                data, suffix = images.portable(entry)
                known = json.dumps(images.describe(entry), ensure_ascii=False, sort_keys=True)
                _add(shard, f"{position:09d}.cls", str(entry.label).encode())
                _add(shard, f"{position:09d}{suffix}", data)
                _add(shard, f"{position:09d}.json", known.encode())
    write_json(folder / read_back.INFO, {"splits": {"train": _lengths(images.manifest.num_rows, shard_size)}})


def _lengths(count: int, size: int) -> dict:
    """Shards and their lengths, as timm's reader asks for them."""
    lengths = [min(size, count - start) for start in range(0, count, size)]
    names = [f"train-{number:06d}.tar" for number in range(len(lengths))]
    return {"name": "train", "num_samples": count, "filenames": names, "shard_lengths": lengths}


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add one file. Its time and owner are those of nobody, so that equal exports are equal byte by byte."""
    member = tarfile.TarInfo(name)  # time, user and group 0, mode 0644
    member.size = len(data)
    shard.addfile(member, io.BytesIO(data))


def _write_huggingface(folder: Path, images: Images, shard_size: int) -> None:
    """Parquet files that `datasets` reads as images and class labels."""
    (folder / "data").mkdir()
    schema, total = _schema(images), -(-images.manifest.num_rows // shard_size)
    for number, entries in watched(images.shards(shard_size), True, name=folder.name, unit="shard"):
        path = folder / "data" / f"train-{number:05d}-of-{total:05d}.parquet"
        with pa.parquet.ParquetWriter(path, schema) as writer:
            while rows := [_row(images, entry) for entry in islice(entries, ROW_GROUP)]:
                writer.write_table(pa.Table.from_pylist(rows, schema))


def _row(images: Images, entry: Entry) -> dict:
    data, suffix = images.portable(entry)
    image = {"bytes": data, "path": _file_name(entry, suffix)}
    return {"image": image} | images.describe(entry)


def _schema(images: Images) -> pa.Schema:
    """Columns and what `datasets` needs to know of two of them; it reads the others from their Arrow types."""
    text = ("class", "class_name", "caption", "kind", "source", "id")
    fields = [("image", image_tables.IMAGE), ("label", pa.int64()), ("slot", pa.int64())]
    fields += [(name, pa.string()) for name in text]
    for source in set(images.tables) - set(KINDS):
        columns = [field for field in images.tables[source].schema if field.name != "image"]
        fields.append(("provenance", pa.struct(columns)))
    names = [each.name for each in images.classes]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


FORMS = {"folder": _write_folder, "webdataset": _write_webdataset, "huggingface": _write_huggingface}


# The card

# What the Hugging Face hub reads at the head of a card. JSON strings are YAML too.
HEAD = """---
license: other
pretty_name: {title}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
"""
SHUFFLE = "Images follow their slots, so those of one class may stand together"
READING = {
    "folder": """`torchvision.datasets.ImageFolder(FOLDER, allow_empty=True)` gives images and labels: folders begin
with their label, and a class without images keeps its folder. timm needs the list of classes for that:
`timm.data.create_dataset("", FOLDER, split="train", search_split=False, class_map=FOLDER + "/classes.txt")`.
Captions, slots and provenance stand in `metadata.jsonl`. Images that the study reads in place are links to where they
lie; to take them along, copy with `cp -rL` or `rsync -rL`.""",
    "webdataset": f"""`webdataset.WebDataset([...]).decode("pil").to_tuple("jpg;png", "cls", "json")` over all shards,
or `timm.data.create_dataset("wds/", FOLDER, split="train")`. {SHUFFLE}: shuffle
shards, and samples in a buffer of many classes.""",
    "huggingface": f"""`datasets.load_dataset(FOLDER, split="train")`, or
`timm.data.create_dataset("hfds/" + FOLDER, split="train")`. {SHUFFLE}: shuffle.""",
}
CARD = """# {title}

One training set of the study `{study}`, {images:,} images: {replaced} of the real images are removed (arm
`{arm}`, source `{source}`, ratio {ratio}, seed {seed}, draw {draw}, slots {slots}). A *slot* is one position of the
training set; `kind` says what stands in it: a `real` image, an `other_real` one, or a `generated` one.

| source | kind | images | hash of its image table |
|---|---|---|---|
{sources}

Hash of the manifest: `{manifest}`. Of {classes} classes each has {sizes} images. Classes and all of the
above stand in `record.json`.

## Read it

{reading}

{checked}

## How it was made

`contamination export` wrote what the stage 02_mix of the study had mixed: within each class, slots give up their image
in a random order that belongs to the seed. JPEG and PNG images are as they are stored, neither resized nor encoded
again{converted}; the study itself passes real and generated ones through the same resize before it trains.
{generators}
## License

The real images keep the license of the data set they come from, and generated ones the terms of their generator. This
export grants no rights to either.
"""


def _card(record: dict) -> str:
    counts = [each["images"] for each in record["classes"]]
    rows = [
        f"| {source} | {KINDS.get(source, 'generated')} | {each['images']:,} | `{each['hash']}` |"
        for source, each in record["sources"].items()
    ]
    head = HEAD.format(title=json.dumps(record["title"])) if record["form"] == "huggingface" else ""
    fields = {
        key: record[key]
        for key in ("title", "images", "arm", "source", "ratio", "replaced", "seed", "draw", "slots", "study")
    }
    sizes = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    fields |= {"checked": _checked(record), "converted": converted_in_words(record)}
    fields |= {"classes": len(counts), "sizes": sizes}
    fields |= {"sources": "\n".join(rows), "manifest": record["manifest"]["hash"], "reading": READING[record["form"]]}
    return head + CARD.format(generators="".join(map(_made_by, record["generators"].items())), **fields)


def converted_in_words(record: dict) -> str:
    """Which images have become PNG; empty where none has."""
    each = ", ".join(f"{count:,} {form}" for form, count in record["converted"].items())
    return each and f"; images of other formats, which not all readers read, became PNG of the same pixels ({each})"


def _checked(record: dict) -> str:
    if not record["read_back_by"]:
        return "None of these readers was installed where it was written, so that it has not been read back."
    timm = f" (timm: the first {read_back.DECODED})" if record["form"] != "folder" else ""
    return (
        f"{' and '.join(record['read_back_by'])} found every image with its label{timm} before this was called written."
    )


def _made_by(generator: tuple[str, dict[str, list]]) -> str:
    """What made a generated set, as a list of the card."""
    source, columns = generator
    values = {name: ", ".join(json.dumps(value, ensure_ascii=False) for value in columns[name]) for name in columns}
    known = "\n".join(f"- {name}: {value}" for name, value in values.items()) or "Nothing is known of its generator."
    of_images = "\nPrompt and seed of every image stand beside it, in `provenance`.\n" if values else ""
    return f"\n### {source}\n\n{known}\n{of_images}"
