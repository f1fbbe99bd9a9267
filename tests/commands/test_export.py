"""Exports: every form holds the very images, labels and captions of the manifest, whole or not at all."""

import filecmp
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from contamination import cli
from contamination.base import image_tables
from contamination.commands import export
from contamination.mixtures import mixing
from contamination.study import study as studies
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytestmark = pytest.mark.medium

STUDY = "parameters/odd.yaml"
SET = "class-name-7.5"
POINTS = [("clean", "train", 0.0), ("generated", SET, 0.5), ("other_real", "pool", 0.5), ("dropped", "none", 0.5)]
GENERATED = POINTS[1]
# As folders are called in a tree; two of them are WordNet's, both a `crane`.
CLASSES = ['.. "quoted"', "a b", "n02012849", "n03126707", "été/x"]
NAMES = ["it's 1.JPEG", 'quo"te.png', "..png", "same.png", "日本 語.png", "x" * 240 + ".png"]
PER_CLASS = len(NAMES)
PROVENANCE = {"pipeline": "tiny | one\nline", "pipeline_hash": "0123", "steps": 3, "guidance": 7.5, "depth": 1}


def encoded(number: int, suffix: str = ".png") -> bytes:
    """A small image like no other."""
    pixels = np.random.default_rng(number).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG" if suffix == ".JPEG" else "PNG")
    return stream.getvalue()


def write_in_place(table: Path, folder: Path, first: int, shown_as) -> None:
    """A real split that is read in place: files with odd names, the same in every class and split, classes in turn."""
    places = [folder / f"class-{label}" / name for name in NAMES for label in range(len(CLASSES))]
    for number, place in enumerate(places, start=first):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(number, place.suffix))
    columns = {"image": image_tables.in_place(pa.array(map(shown_as, places))), "id": [place.name for place in places]}
    columns["label"] = np.tile(np.arange(len(CLASSES)), PER_CLASS)
    columns["caption"] = [f'<b>{first + row}</b>, "it\'s"\u2028' for row in range(len(places))]
    image_tables.save(table, pa.table(columns), class_names=json.dumps(CLASSES))


def write_generated(folder: Path, images: list[bytes], labels: np.ndarray, shard_size: int) -> None:
    for number, start in enumerate(range(0, len(images), shard_size)):
        slots = list(range(start, min(start + shard_size, len(images))))
        columns = {"id": [f"slot-{slot}" for slot in slots], "slot": slots, "label": labels[slots]}
        columns |= {"prompt": [f"photo of {slot}" for slot in slots], "seed": [2**62 + slot for slot in slots]}
        columns |= {name: [value] * len(slots) for name, value in PROVENANCE.items()}
        image_tables.write(folder / f"shard-{number:05d}.arrow", [images[slot] for slot in slots], columns=columns)


def write_mixtures(study) -> None:
    """What 02_mix does, at every point of the grid."""
    labels, pool = (image_tables.read(study.layout.real(split))["label"].to_numpy() for split in ("train", "pool"))
    tables = {name: mixing.tables_of(study.layout, name) for name in ("train", "pool", SET)}
    for point in study.jobs()["mix"]:
        for seed in point["seeds"]:
            what = {key: point[key] for key in ("arm", "source", "ratio")}
            manifest = mixing.mix(labels, seed=seed, pool_labels=pool, **what)
            mixing.write_manifest(study.job("mix", **point) / f"seed-{seed}.parquet", manifest, tables=tables)


@pytest.fixture
def study(project, tmp_path_factory):
    """A study with every mixture made: train read in place inside the project, pool outside it, one generated set."""
    content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
    content |= {"study": "odd", "title": 'Odd: "names" | [all]'}
    (project / STUDY).write_text(yaml.safe_dump(content))
    study = studies.load(STUDY)
    inside, outside = project / "images of train", tmp_path_factory.mktemp("elsewhere")
    write_in_place(study.layout.real("train"), inside, 0, lambda place: str(place.relative_to(project)))
    write_in_place(study.layout.real("pool"), outside, 1000, str)
    labels = image_tables.read(study.layout.real("train"))["label"].to_numpy()
    write_generated(study.layout.generated(SET), [encoded(2000 + slot) for slot in range(len(labels))], labels, 7)
    write_mixtures(study)
    return study


def manifest_of(study, arm, source, ratio, seed=0):
    return mixing.read_manifest(study.layout.mixture(arm, source, ratio, [0, 1]) / f"seed-{seed}.parquet")


def expected(study, point) -> list[dict]:
    """What a mixture holds, straight from the manifest and the tables."""
    found = []
    for line in manifest_of(study, *point).to_pylist():
        table = image_tables.read(*mixing.tables_of(study.layout, line["source"]))
        row = table.slice(line["row"], 1).to_pylist()[0]
        known = {key: line[key] for key in ("slot", "source", "label")}
        caption = image_tables.read(study.layout.real("train"))["caption"][line["slot"]].as_py()
        known |= {
            "bytes": image_tables.data(row.pop("image"), "x"),
            "caption": row.get("caption", caption),
            "id": row["id"],
        }
        found.append(known | {"provenance": row if line["source"] == SET else None})
    return found


def read_folder(folder: Path) -> list[dict]:
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    assert {row["file_name"] for row in rows} == {str(path.relative_to(folder)) for path in folder.glob("*/*")}
    assert all(row["text"] == row["caption"] for row in rows)
    return [row | {"bytes": (folder / row["file_name"]).read_bytes()} for row in rows]


def read_webdataset(folder: Path) -> list[dict]:
    rows = []
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = [(*member.name.split(".", 1), tar.extractfile(member).read()) for member in tar]
        for key, parts in itertools.groupby(members, key=lambda member: member[0]):
            content = {suffix: data for _, suffix, data in parts}
            known = json.loads(content.pop("json"))
            assert int(content.pop("cls")) == known["label"]
            ((suffix, data),) = content.items()
            assert suffix == ("jpg" if data.startswith(b"\xff\xd8") else "png")
            rows.append(known | {"bytes": data, "key": key})
    return rows


def read_huggingface(folder: Path) -> list[dict]:
    rows = pa.parquet.read_table(sorted((folder / "data").iterdir())).to_pylist()
    return [{"provenance": None} | row | {"bytes": row["image"]["bytes"]} for row in rows]


READERS = {"folder": read_folder, "webdataset": read_webdataset, "huggingface": read_huggingface}
FORMS = pytest.mark.parametrize("form", READERS)


def write(point, form, target, seed=0, shard_size=9) -> bool:
    arm, source, ratio = point
    where = {"form": form, "target": target, "shard_size": shard_size}
    return export.write(STUDY, arm, source=source, ratio=ratio, seed=seed, **where)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def beside(target: Path) -> set[str]:
    return {entry.name for entry in target.parent.iterdir()}


# What is in an export


@FORMS
@pytest.mark.parametrize("point", POINTS)
def test_every_form_holds_the_images_labels_and_captions_of_the_manifest_in_its_order(study, tmp_path, form, point):
    assert write(point, form, tmp_path / "out")
    wanted, found = expected(study, point), READERS[form](tmp_path / "out")
    assert [{key: row[key] for key in wanted[0]} for row in found] == wanted
    assert [row["class"] for row in found] == [CLASSES[row["label"]] for row in wanted]
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    counts = Counter(row["source"] for row in wanted)
    assert {source: each["images"] for source, each in record["sources"].items()} == counts
    assert [each["images"] for each in record["classes"]] == np.bincount([row["label"] for row in wanted]).tolist()
    assert record["images"] == len(wanted)


@FORMS
def test_every_generated_image_keeps_all_columns_of_its_shard(study, tmp_path, form):
    write(GENERATED, form, tmp_path / "out")
    columns = set(image_tables.read(*mixing.tables_of(study.layout, SET)).column_names) - {"image"}
    found = READERS[form](tmp_path / "out")
    assert {row["kind"] for row in found} == {"real", "generated"}
    for row in found:
        assert set(row["provenance"] or {}) == (columns if row["kind"] == "generated" else set())


def test_the_card_names_counts_hashes_and_generator(study, tmp_path):
    write(GENERATED, "huggingface", tmp_path / "out")
    _, head, card = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["pretty_name"] == study.title
    (split,) = head["configs"][0]["data_files"]
    assert len(list((tmp_path / "out").glob(split["path"]))) == 4
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    for source in ("train", SET):
        assert f"15 | `{record['sources'][source]['hash']}`" in card
    assert record["manifest"]["hash"] in card
    assert '- pipeline: "tiny | one\\nline"' in card
    assert "keep the license of the data set they come from" in card


def test_keys_have_no_gaps_where_slots_were_dropped(study, tmp_path):
    write(("dropped", "none", 0.5), "webdataset", tmp_path / "out")
    keys = [row["key"] for row in read_webdataset(tmp_path / "out")]
    assert keys == [f"{number:09d}" for number in range(len(CLASSES) * PER_CLASS // 2)]


def test_images_read_in_place_are_links_and_the_others_files(study, tmp_path):
    write(GENERATED, "folder", tmp_path / "out")
    for row in read_folder(tmp_path / "out"):
        place = tmp_path / "out" / row["file_name"]
        assert place.is_symlink() == (row["kind"] == "real")
        assert not place.is_symlink() or os.path.isabs(os.readlink(place))


@pytest.mark.parametrize("point", POINTS)
def test_names_are_safe_whatever_the_sources_call_their_images(study, tmp_path, point):
    write(point, "folder", tmp_path / "out")
    names = [row["file_name"].split("/") for row in read_folder(tmp_path / "out")]
    for part in itertools.chain.from_iterable(names):
        assert re.fullmatch(r"\w[\w.-]*", part) and len(part.encode()) <= 255
    assert len({file.lower() for _, file in names}) == len(names)
    assert any(file == "slot-000000__real__it_s_1.jpg" for _, file in names) or point != POINTS[0]


@given(st.text())
def test_any_text_becomes_a_part_of_a_file_name(text):
    safe = export._safe(text)
    assert re.fullmatch(r"\w([\w.-]*\w)?", safe) and len(safe.encode()) <= export.LONGEST_STEM
    assert not safe.startswith((".", "-")) and export._safe(safe) == safe


def test_torchvision_gives_every_class_the_label_that_it_has_in_the_study(study, tmp_path):
    from torchvision.datasets import ImageFolder

    write(GENERATED, "folder", tmp_path / "out")
    labels = {row["file_name"]: row["label"] for row in read_folder(tmp_path / "out")}
    read = {
        str(Path(path).relative_to(tmp_path / "out")): label for path, label in ImageFolder(tmp_path / "out").samples
    }
    assert read == labels


def test_a_class_that_lost_all_its_images_keeps_its_folder_so_that_no_label_moves(study, tmp_path):
    table = image_tables.read(study.layout.real("train"))
    first = np.flatnonzero(table["label"].to_numpy() == 0)
    table = table.take(np.setdiff1d(np.arange(table.num_rows), first[1:]))  # of the first class one image, at 0.5 none
    image_tables.save(study.layout.real("train"), table, class_names=json.dumps(CLASSES))
    write_mixtures(study)
    write(("dropped", "none", 0.5), "folder", tmp_path / "out")
    folders = sorted(entry.name for entry in (tmp_path / "out").iterdir() if entry.is_dir())
    assert folders[0] == "0-quoted" and not list((tmp_path / "out" / folders[0]).iterdir())
    assert all(int(row["file_name"][0]) == row["label"] for row in read_folder(tmp_path / "out"))


@FORMS
def test_images_of_formats_that_some_readers_skip_become_png_of_the_same_pixels(study, tmp_path, form, capsys):
    formats = ["WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "PNG", "JPEG"]  # all in files that are called .JPEG or .png
    train = image_tables.read(study.layout.real("train"))
    for number, row in enumerate(train["image"].to_pylist()):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(image_tables.file_of(row), formats[number % len(formats)])
    write_mixtures(study)
    point = POINTS[0]
    write(point, form, tmp_path / "out")
    for row, wanted in zip(READERS[form](tmp_path / "out"), expected(study, point), strict=True):
        assert row["bytes"].startswith((b"\xff\xd8", b"\x89PNG"))
        assert np.array_equal(image_tables.pixels(row["bytes"]), image_tables.pixels(wanted["bytes"]))
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    counts = Counter(formats[number % len(formats)] for number in range(train.num_rows))
    assert record["converted"] == {name: n for name, n in sorted(counts.items()) if name not in ("PNG", "JPEG")}
    assert f"{counts['WEBP']} WEBP" in (tmp_path / "out" / "README.md").read_text()
    assert len(record["read_back_by"]) == 2


def test_what_becomes_png_has_the_background_that_the_study_sees(study):
    train = study.layout.real("train")
    table = image_tables.read(train)
    drawing = Image.new("RGBA", (8, 9), (255, 0, 0, 0))
    drawing.save(image_tables.file_of(table["image"][0].as_py()), "WEBP", lossless=True)
    image_tables.save(train, table, background="blue")
    write_mixtures(study)
    images = export.Images(study.layout, manifest_of(study, *POINTS[0]), [])
    data, suffix = images.portable(next(images.entries()))
    assert suffix == ".png" and image_tables.pixels(data)[:, 0, 0].tolist() == [0, 0, 255]


@FORMS
@pytest.mark.parametrize("name", ["it's [x] *", "{1..3} 100%", "été 犬"])
def test_a_target_of_any_name_is_read_back_or_refused_before_any_work(study, tmp_path, form, name):
    if form == "huggingface" and "[" in name:
        with pytest.raises(ValueError, match=r"takes .* for a pattern: name another folder"):
            write(GENERATED, form, tmp_path / name / "out")
        return
    write(GENERATED, form, tmp_path / name / "out")
    assert len(json.loads((tmp_path / name / "out" / "record.json").read_text())["read_back_by"]) == 2


@FORMS
def test_an_export_that_a_reader_reads_otherwise_is_not_written(study, tmp_path, form, monkeypatch):
    describe = export.Images.describe
    monkeypatch.setattr(export.Images, "describe", lambda *given: describe(*given) | {"label": 0})
    monkeypatch.setattr(export, "_suffix", lambda data: ".bmp")  # of PNG files: timm does not read them
    before = beside(tmp_path / "out")
    with pytest.raises(ValueError, match="does not read the export as it was written") as caught:
        write(POINTS[0], form, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert beside(tmp_path / "out") == before


def test_timm_numbers_classes_as_the_study_does_where_one_has_lost_all_its_images(study, tmp_path):
    from timm.data import create_dataset

    table = image_tables.read(study.layout.real("train"))
    first = np.flatnonzero(table["label"].to_numpy() == 0)
    table = table.take(np.setdiff1d(np.arange(table.num_rows), first[1:]))
    image_tables.save(study.layout.real("train"), table, class_names=json.dumps(CLASSES))
    write_mixtures(study)
    write(("dropped", "none", 0.5), "folder", tmp_path / "out")
    classes = str(tmp_path / "out" / "classes.txt")
    dataset = create_dataset("", str(tmp_path / "out"), split="train", search_split=False, class_map=classes)
    labels = {str(tmp_path / "out" / row["file_name"]): row["label"] for row in read_folder(tmp_path / "out")}
    assert dict(dataset.reader.samples) == labels and 0 not in labels.values()


# Readers that others use; they are no requirement of this project


def test_webdataset_reads_the_shards(study, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    write(GENERATED, "webdataset", tmp_path / "out")
    shards = [str(shard) for shard in sorted((tmp_path / "out").glob("*.tar"))]
    pipeline = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("jpg;png", "cls", "json")
    read = list(pipeline)
    wanted = expected(study, GENERATED)
    assert [(label, known["slot"]) for _, label, known in read] == [(row["label"], row["slot"]) for row in wanted]
    for (image, _, _), row in zip(read, wanted, strict=True):
        assert np.array_equal(image, Image.open(io.BytesIO(row["bytes"])).convert("RGB"))


@pytest.mark.parametrize("point", POINTS)
def test_datasets_reads_images_and_class_labels(study, tmp_path, point, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    write(point, "huggingface", tmp_path / "out")
    files = str(tmp_path / "out" / "data" / "*.parquet")
    for where in ({"path": str(tmp_path / "out")}, {"path": "parquet", "data_files": files}):
        read = datasets.load_dataset(**where, split="train", cache_dir=str(tmp_path / "cache"))
        assert read.features["label"].names == CLASSES
        for row, known in zip(read, expected(study, point), strict=True):
            assert np.array_equal(row["image"], Image.open(io.BytesIO(known["bytes"])))
            assert (row["label"], row["caption"]) == (known["label"], known["caption"])


# Whole or not at all


@FORMS
def test_equal_exports_are_equal_byte_by_byte_and_the_size_of_shards_changes_no_image(study, tmp_path, form):
    for name in ("one", "two"):
        write(GENERATED, form, tmp_path / name)
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")
    write(GENERATED, form, tmp_path / "large", shard_size=1000)
    assert READERS[form](tmp_path / "one") == READERS[form](tmp_path / "large")


@FORMS
def test_the_same_export_again_changes_nothing(study, tmp_path, form):
    assert write(GENERATED, form, tmp_path / "out")
    before = {file: file.lstat().st_mtime_ns for file in (tmp_path / "out").rglob("*")}
    assert not write(GENERATED, form, tmp_path / "out")
    assert {file: file.lstat().st_mtime_ns for file in (tmp_path / "out").rglob("*")} == before


def test_a_target_with_anything_else_is_refused_and_left_alone(study, tmp_path):
    write(GENERATED, "webdataset", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "record.json").write_text("[]")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    before = files_below(tmp_path)
    for target in ("full", "file", "link"):
        with pytest.raises(ValueError, match="exists and is not this export"):
            write(GENERATED, "webdataset", tmp_path / target)
    for change in ({"seed": 1}, {"shard_size": 8}, {"form": "huggingface"}, {"point": ("generated", SET, 1.0)}):
        with pytest.raises(ValueError, match="exists and is not this export"):
            write(**{"point": GENERATED, "form": "webdataset", "target": tmp_path / "out"} | change)
    assert files_below(tmp_path) == before


@FORMS
def test_an_image_that_is_gone_is_one_clear_line_and_leaves_nothing(study, tmp_path, form, project):
    kept = [line["row"] for line in manifest_of(study, *GENERATED).to_pylist() if line["source"] == "train"]
    image = image_tables.read(study.layout.real("train")).slice(kept[-1], 1).to_pylist()[0]
    (project / image["image"]["path"]).unlink()
    before = beside(tmp_path / "out")
    with pytest.raises(OSError, match=f"{re.escape(image['id'])}: .* put it back") as caught:
        write(GENERATED, form, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert beside(tmp_path / "out") == before


def test_a_killed_export_leaves_no_folder_and_the_next_one_is_whole(study, tmp_path):
    write(GENERATED, "huggingface", tmp_path / "whole")
    target = tmp_path / "out" / "killed"
    killed = f"""
import itertools, os, signal
from contamination.commands import export
count, suffix = itertools.count(), export._suffix
export._suffix = lambda *image: suffix(*image) if next(count) < 20 else os.kill(os.getpid(), signal.SIGKILL)
point = dict(zip(("source", "ratio"), {GENERATED[1:]!r}))
export.write({STUDY!r}, {GENERATED[0]!r}, **point, seed=0, form="huggingface", target={str(target)!r}, shard_size=9)
"""
    assert subprocess.run([sys.executable, "-c", killed], cwd=Path.cwd()).returncode == -9
    assert not target.exists() and beside(target)
    assert write(GENERATED, "huggingface", target)
    assert beside(target) == {"killed"}
    assert not filecmp.dircmp(tmp_path / "whole", target).diff_files
    assert files_below(tmp_path / "whole") == files_below(target)


@FORMS
def test_memory_holds_a_shard_and_not_the_mixture(study, tmp_path, form):
    labels = image_tables.read(study.layout.real("train"))["label"].to_numpy()
    noise = np.random.default_rng(0)
    images = [image_tables.encode(noise.integers(0, 256, (316, 316, 3), dtype=np.uint8)) for _ in labels]
    write(GENERATED, form, tmp_path / "first")  # imports the readers
    write_generated(study.layout.generated(SET), images, labels, 7)
    write_mixtures(study)
    del images
    tracemalloc.start()
    write(("generated", SET, 1.0), form, tmp_path / "out", shard_size=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5e6  # a shard has 0.9 MB, the mixture 9 MB


# What cannot be exported


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arm": "fake"}, "no arm fake with source class-name-7.5: its grid has clean train, dropped none, generated"),
        ({"source": "../.."}, r"no arm generated with source \.\./\.\.: its grid has"),
        ({"ratio": 0.4}, r"no ratio 0\.40 with seed 0 of generated .*ratios 0\.50, 1\.00 and seeds 0, 1"),
        ({"ratio": 1.2}, "give a number from 0 to 1"),
        ({"seed": 7}, "no ratio 0.50 with seed 7"),
        ({"form": "zip"}, "form 'zip', .*give one of folder, webdataset, huggingface"),
        ({"shard_size": 0}, "shard size 0"),
    ],
)
def test_what_the_grid_does_not_have_is_one_clear_line(study, tmp_path, change, message):
    asked = {"arm": "generated", "source": SET, "ratio": 0.5, "seed": 0, "form": "folder", "target": tmp_path / "out"}
    with pytest.raises(ValueError, match=message) as caught:
        export.write(STUDY, **asked | change)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_of_a_crossed_grid_one_draw_is_exported_with_its_images(study, tmp_path):
    content = yaml.safe_load(Path(STUDY).read_text())
    content["grid"] |= {"draws": [0, 1], "slots": [4]}
    Path(STUDY).write_text(yaml.safe_dump(content))
    labels = image_tables.read(study.layout.real("train"))["label"].to_numpy()
    images = [encoded(3000 + slot) for slot in range(len(labels))]
    write_generated(study.layout.of_draw(1).generated(SET), images, labels, 7)
    crossed = studies.load(STUDY)
    for point in crossed.jobs()["mix"]:
        manifests = mixing.mix_all(crossed.layout, **point)
        what = {name: point[name] for name in point if name != "seeds"}
        mixing.write(crossed.layout, manifests, **what)
    with pytest.raises(ValueError, match=r"several mixtures .* seed 0: add --draw 0 --slots 4 or --draw 1 --slots 4$"):
        write(GENERATED, "folder", tmp_path / "out")
    arm, source, ratio = GENERATED
    asked = {"source": source, "ratio": ratio, "seed": 0, "draw": 1, "form": "folder"}
    export.write(STUDY, arm, **asked, target=tmp_path / "out")
    rows = read_folder(tmp_path / "out")
    assert {row["slot"] for row in rows if row["kind"] == "generated"} == set(
        np.flatnonzero(mixing.replaced(labels, ratio, seed=4)).tolist()
    )
    assert all(row["bytes"] == images[row["slot"]] for row in rows if row["kind"] == "generated")
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert (record["seed"], record["draw"], record["slots"]) == (0, 1, 4)
    assert "seed 0, draw 1, slots 4" in (tmp_path / "out/README.md").read_text()


def test_a_mixture_that_is_not_made_yet_says_how_to_make_it(study, tmp_path):
    (study.layout.mixture(*GENERATED, [0, 1]) / "seed-0.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=f"is missing: `contamination run {STUDY}` makes it"):
        write(GENERATED, "folder", tmp_path / "out")


def test_images_that_have_changed_since_they_were_mixed_are_not_exported(study, tmp_path):
    shards = mixing.tables_of(study.layout, SET)
    shards[0].unlink()
    with pytest.raises(ValueError, match=f"the images of {SET} have changed .*`contamination run {STUDY}` brings it"):
        write(GENERATED, "folder", tmp_path / "out")
    assert write(("clean", "train", 0.0), "folder", tmp_path / "out")


def test_the_command_writes_an_export_and_says_so(study, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["export", STUDY, "--arm", "generated", "--source", SET, "--ratio", "0.50", "--seed", "0"]
    command += ["--form", "webdataset", "--to", "out"]
    assert cli.main(command) == 0 and capsys.readouterr().out == "out: written\n"
    assert cli.main(command) == 0 and capsys.readouterr().out == "out: holds this export already\n"
    assert cli.main([*command[:-1], "parameters"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
