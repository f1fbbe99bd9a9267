"""Images that stand in two splits: none that is learned from is scored, whatever it is called and wherever it lies."""

import io
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from contamination import cli, sources
from contamination.base import image_tables
from contamination.base.files import read_json
from contamination.base.layout import Layout
from contamination.generators import external_sets
from contamination.mixtures import mixing
from contamination.sources import ood, twins
from contamination.study import study as studies
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

CLASSES = ("cat", "dog")
DATA = {"source": "folders", "image_size": 16, **{split: f"pictures/{split}" for split in sources.SPLITS}}


def picture(number: int) -> Image.Image:
    """A smooth image like no other."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC)


def save(file: Path, number: int, **options) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(number).save(file, **options)
    return file


@pytest.fixture
def trees(project):
    """Three trees of two classes with six images each, all different."""
    for start, split in enumerate(sources.SPLITS):
        for label, name in enumerate(CLASSES):
            for number in range(6):
                save(project / "pictures" / split / name / f"{number}.png", 100 * start + 10 * label + number)
    return project / "pictures"


def prepare(name: str = "study", **changes) -> Layout:
    layout = Layout(f"outputs/{name}")
    sources.prepare(layout, DATA | changes, 0)
    return layout


def refused(**changes) -> str:
    with pytest.raises(ValueError, match=r"set data\.twins to drop") as caught:
        prepare(**changes)
    assert str(caught.value).isprintable() and not Layout("outputs/study").real("train").exists()
    return str(caught.value)


def link(source: Path, target: Path) -> None:
    target.symlink_to(source)


def store_again(source: Path, target: Path) -> None:
    Image.open(source).save(target.with_suffix(".webp"), lossless=True)


WAYS = {link: "one file", os.link: "one file", shutil.copy: "copies", store_again: "equal pixels"}


@pytest.mark.parametrize("learned", ["train", "pool"])
@pytest.mark.parametrize(("way", "words"), WAYS.items(), ids=[way.__name__ for way in WAYS])
def test_a_test_image_that_is_learned_from_is_refused_however_it_came_there(trees, way, words, learned):
    way(trees / "test/dog/3.png", trees / learned / "cat" / "IMG_1.png")
    message = refused()
    assert message.startswith(f"1 images of {learned} are in test too (cat/IMG_1.")
    assert f" and dog/3.png: {words}" in message
    (pair,) = read_json(Layout("outputs/study").root / "images" / twins.LIST)[f"{learned} and test"]
    assert pair["twin"] == "dog/3.png" and pair["how"] == words


def test_dropping_takes_them_out_of_what_is_learned_from_and_counts_them(trees):
    shutil.copy(trees / "test/dog/3.png", trees / "train/dog/7.png")
    shutil.copy(trees / "train/cat/0.png", trees / "pool/cat/8.png")
    layout = prepare(twins="drop")
    sizes = {split: image_tables.read(layout.real(split)).num_rows for split in sources.SPLITS}
    assert sizes == {"pool": 12, "train": 12, "test": 12}
    facts = {split: image_tables.metadata(layout.real(split)) for split in sources.SPLITS}
    assert [facts[split].get("twins") for split in sources.SPLITS] == ["1", "1", None]
    assert sources.left_out(facts["train"]) == "1 that are in another split too"


def test_a_pool_that_is_a_copy_of_train_is_refused_and_cannot_be_dropped(trees):
    shutil.rmtree(trees / "pool")
    shutil.copytree(trees / "train", trees / "pool")
    assert refused().startswith("12 images of pool are in train too (cat/0.png and cat/0.png: copies; ...)")
    with pytest.raises(ValueError, match=r"pool: no images are left of 2 classes .* name places that do not share"):
        prepare(twins="drop")


def test_images_set_apart_as_the_test_set_are_compared_with_those_that_are_left(trees):
    for name in CLASSES:
        for number in range(2):
            shutil.copy(trees / "train" / name / f"{number}.png", trees / "train" / name / f"again {number}.png")
    assert "images of train are in test too" in refused(test=0.5, pool=None)
    layout = prepare(test=0.5, pool=None, twins="drop")
    train, test = (
        set(image_tables.read(layout.real(split))["content_hash"].to_pylist()) for split in ("train", "test")
    )
    assert train and not train & test


def test_twins_of_a_pool_that_is_a_share_of_train_are_named_and_not_refused(trees):
    for name in CLASSES:
        for number in range(6):
            shutil.copy(trees / "train" / name / f"{number}.png", trees / "train" / name / f"again {number}.png")
    layout = prepare(pool=0.5)
    (remark,) = sources.remarks(image_tables.metadata(layout.real("pool")))
    assert "images of pool are in train too (" in remark


def test_one_image_in_two_classes_of_train_is_named(trees):
    shutil.copy(trees / "train/cat/0.png", trees / "train/dog/odd.png")
    shutil.copy(trees / "train/cat/1.png", trees / "train/cat/again.png")
    remarks = sources.remarks(image_tables.metadata(prepare().real("train")))
    assert remarks == ["1 images are in two classes of train (cat/0.png and dog/odd.png: copies)"]


@pytest.mark.parametrize("quality", [75, 95])
def test_what_was_resized_or_compressed_again_is_named_and_not_refused(trees, quality):
    picture(200).resize((60, 48), Image.Resampling.BICUBIC).save(trees / "train/cat/large.jpg", quality=quality)
    picture(211).resize((80, 64), Image.Resampling.LANCZOS).save(trees / "pool/dog/again.webp", quality=quality)
    layout = prepare()
    told = {split: sources.remarks(image_tables.metadata(layout.real(split))) for split in sources.SPLITS}
    assert told["train"] == [
        "1 images of train are nearly equal to one of test (cat/large.jpg and cat/0.png: nearly equal)"
    ]
    assert told["pool"] == [
        "1 images of pool are nearly equal to one of test (dog/again.webp and dog/1.png: nearly equal)"
    ]
    assert told["test"] == []


def test_of_many_frames_of_one_scene_each_is_named_once(trees):
    for split, number in (("train", 300), ("test", 301)):
        for frame in range(8):
            pixels = np.asarray(picture(300)).copy()
            pixels[0, 0] = frame, number % 256, 0
            Image.fromarray(pixels).save(trees / split / "cat" / f"frame {frame}.png")
    (remark,) = sources.remarks(image_tables.metadata(prepare().real("train")))
    assert remark.startswith("8 images of train are nearly equal to one of test (cat/frame 0.png and cat/frame ")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40), st.data())
def test_exactly_what_stands_in_both_is_found(images, data):
    """images: content and label."""
    cut = data.draw(st.integers(0, len(images)))
    one, other = images[:cut], images[cut:]
    if not one or not other:
        return
    parts = [hashes([content for content, _ in part]) for part in (one, other)]
    rows, partners = twins._common(*parts)
    assert rows.tolist() == [row for row, each in enumerate(one) if each[0] in {content for content, _ in other}]
    assert all(one[row][0] == other[partner][0] for row, partner in zip(rows, partners, strict=True))


def hashes(contents: list[int]) -> np.ndarray:
    return twins._keys(pa.chunked_array([[bytes([content] * 15 + [0]) for content in contents]], pa.binary(16)))


# Other sources, and other sets


def test_images_of_a_dataset_are_compared_too(project):
    datasets = pytest.importorskip("datasets")

    def encoded(number: int) -> bytes:
        stream = io.BytesIO()
        picture(number).save(stream, "PNG")
        return stream.getvalue()

    numbers = {"pool": [0, 1, 2, 3], "train": [10, 11, 12, 13], "test": [20, 21, 12, 23]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    splits = {
        split: datasets.Dataset.from_dict(
            {"image": [{"bytes": encoded(number), "path": None} for number in chosen], "label": [0, 1, 1, 0]}, features
        )
        for split, chosen in numbers.items()
    }
    datasets.DatasetDict(splits).save_to_disk(str(project / "saved"))
    data = {"source": "datasets"} | {split: f"saved:{split}" for split in sources.SPLITS}
    message = refused(**data)
    assert message.startswith("1 images of train are in test too (row-2 and row-2: equal pixels)")
    layout = prepare(**data, twins="drop")
    assert image_tables.read(layout.real("train"))["id"].to_pylist() == ["row-0", "row-1", "row-3"]
    on_red = prepare("red", **data, twins="drop", background="hsl(0, 100%, 50%)")  # a name with spaces
    assert image_tables.background(image_tables.read(on_red.real("train"))) == "hsl(0, 100%, 50%)"


def test_files_of_coco_under_other_names_are_compared_too(project):
    places = {}
    for start, split in enumerate(sources.SPLITS):
        names = [f"{100 * start + number:012d}.jpg" for number in range(3)]
        for number, name in enumerate(names):
            save(project / split / name, 100 * start + number)
        images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
        told = [{"id": number, "image_id": number, "caption": "a cat"} for number in range(3)]
        (project / f"{split}.json").write_text(json.dumps({"images": images, "annotations": told}))
        places[split] = {"images": split, "annotations": f"{split}.json"}
    shutil.copy(project / "test" / f"{200:012d}.jpg", project / "train" / f"{101:012d}.jpg")
    assert "1 images of train are in test too" in refused(**places, source="coco")
    dropped = prepare("dropped", **places, source="coco", twins="drop")
    assert image_tables.metadata(dropped.real("train"))["twins"] == "1"


def test_one_file_that_two_lists_of_coco_name_is_refused_or_dropped_too(project):
    names = [f"{number:012d}.jpg" for number in range(4)]
    for number, name in enumerate(names):
        save(project / "all" / name, number)
    places = {}
    for split, chosen in {"pool": [0], "train": [1, 2], "test": [2, 3]}.items():
        images = [{"id": number, "file_name": names[number]} for number in chosen]
        told = [{"id": number, "image_id": number, "caption": "a cat"} for number in chosen]
        (project / f"{split}.json").write_text(json.dumps({"images": images, "annotations": told}))
        places[split] = {"images": "all", "annotations": f"{split}.json"}
    with pytest.raises(ValueError, match=r"train and test share 1 images .*: make them disjoint"):
        prepare(**places, source="coco")
    dropped = prepare("dropped", **places, source="coco", twins="drop")
    assert image_tables.read(dropped.real("train"))["id"].to_pylist() == [names[1]]


def test_a_ood_set_holds_no_image_that_is_learned_from(trees):
    shutil.copytree(trees / "test", trees / "sketch")
    shutil.copy(trees / "train/cat/2.png", trees / "sketch/cat/odd.png")
    layout, data = prepare(), DATA | {"ood": {"sketch": "pictures/sketch"}}
    with pytest.raises(ValueError, match=r"OOD set sketch: of its images 1 are in train too \(cat/odd.png and cat/2"):
        ood.prepare(layout, data, 0)
    ood.prepare(layout, data | {"twins": "drop"}, 0)
    assert image_tables.read(layout.ood("sketch")).num_rows == 12
    assert image_tables.metadata(layout.ood("sketch"))["twins"] == "1"


def test_what_lies_beside_the_severities_of_an_ood_set_is_counted(trees, project):
    for severity, label, name in itertools.product((1, 2), (0, 1), CLASSES):
        save(trees / "noisy" / str(severity) / name / f"{label}.png", 500 + 100 * severity + 10 * label + len(name) * 3)
    (trees / "noisy/README.md").touch()
    (trees / "noisy/2/cat/notes.txt").touch()
    _, facts = ood.load(prepare(), "noisy", DATA | {"ood": {"noisy": "pictures/noisy"}}, list(CLASSES))
    assert sources.remarks(facts) == ["not used: 1 .md", "severity 2, not used: 1 .txt"]


@pytest.mark.parametrize("split", sources.SPLITS)
def test_a_set_that_is_already_generated_holds_no_real_image(trees, split):
    for label, name in enumerate(CLASSES):
        for number in range(8):
            save(trees / "made" / name / f"{number}.png", 900 + 10 * label + number)
    shutil.copy(trees / split / "dog/2.png", trees / "made/dog/odd.png")
    layout = prepare()
    train, classes = image_tables.read(layout.real("train")), sources.class_names(layout)
    index = external_sets.index_of(layout, "set", tree="pictures/made")
    given = {"classes": classes, "seed": 0, "policy": "refuse", "work": layout.imported("set")}
    given["real"] = {each: image_tables.read(layout.real(each)) for each in sources.SPLITS}
    with pytest.raises(ValueError, match=rf"of its images 1 are in {split} too \(dog/odd.png and dog/2.png: copies\)"):
        external_sets.fill(index, train, **given)
    table, facts = external_sets.fill(index, train, **given, twins_policy="drop")
    assert "dog/odd.png" not in table["id"].to_pylist() and facts["twins"] == "1"


def test_a_set_made_of_digits_of_the_study_is_found(project):
    layout = Layout("outputs/digits")
    sources.prepare(layout, {"source": "digits", "image_size": 16}, 0)
    test = image_tables.read(layout.real("test")).slice(0, 1)
    about = pa.table({"id": ["odd"], "image": test["image"], "content_hash": twins._hashed(test)})
    hit, sentences = twins.common_rows(about, {"test": image_tables.read(layout.real("test"))})
    assert hit.tolist() == [True] and sentences[0].startswith("1 are in test too (odd and digit-")


# All of it


KINDS = ("image", "twin", "broken", "text", "thumbnail", "hidden", "nested")


def add(folder: Path, number: int, kind: str, twin: Path) -> None:
    if kind == "twin":
        shutil.copy(twin, folder / f"{number}.png")
    elif kind == "broken":
        (folder / f"{number}.png").write_bytes(b"")
    elif kind == "text":
        (folder / f"{number}.xml").touch()
    else:
        places = {"thumbnail": folder / "@eaDir", "hidden": folder / ".x", "nested": folder / "deep"}
        save(places.get(kind, folder) / f"{number}.png", 1000 + number)


@pytest.mark.medium
@settings(max_examples=25)
@given(
    st.lists(st.tuples(*map(st.sampled_from, (sources.SPLITS, CLASSES, KINDS))), max_size=20),
    st.sampled_from([{}, {"per_class": 3}, {"pool": 0.5}, {"pool": None, "test": 0.25}]),
)
def test_every_file_is_an_image_of_a_split_or_counted_with_a_reason(tmp_path_factory, made, changes):
    from conftest import make_project

    with pytest.MonkeyPatch.context() as patch:
        trees = make_project(tmp_path_factory.mktemp("made"), patch) / "pictures"
        for number, (split, name) in enumerate(itertools.product(sources.SPLITS, CLASSES)):
            for each in range(4):
                save(trees / split / name / f"first {each}.png", 10 * number + each)
        for number, (split, name, kind) in enumerate(made):
            add(trees / split / name, number, kind, twin=trees / "test" / name / "first 0.png")
        data = DATA | {"broken": "skip", "twins": "drop"} | changes
        splits, _ = sources.load(Layout("outputs/study"), {key: data[key] for key in data if data[key] is not None}, 0)
    given_place = [split for split in sources.SPLITS if isinstance(data[split], str)]
    counts = dict.fromkeys(sources.SPLITS, 0)
    for split, (columns, facts, kept) in splits.items():
        place = split if split in given_place else "train"
        counts[place] += len(columns["id"]) if kept is None else int(kept.sum())
        counts[place] += sum(int(facts.get(fact, 0)) for fact in sources.LEFT_OUT)
        unused = [remark for remark in sources.remarks(facts) if remark.startswith("not used: ")]
        counts[place] += sum(
            int(part.split()[0]) for remark in unused for part in remark[len("not used: ") :].split(", ")
        )
    for split in given_place:
        assert counts[split] == sum(file.is_file() for file in (trees / split).rglob("*"))


# What users see


def write(project: Path, **data) -> None:
    content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
    content = {key: content[key] for key in ("title", "train")} | {"study": "own", "data": DATA | data}
    models = {"resnet": {"architecture": "resnet18"}}
    content["grid"] = {"ratios": [0, 0.5], "arms": ["dropped"], "seeds": [0], "models": models}
    (project / "parameters/own.yaml").write_text(yaml.safe_dump(content))


def check(capsys) -> tuple[int, str]:
    status = cli.main(["check", "parameters/own.yaml"])
    return status, capsys.readouterr().out


def test_check_lists_the_pairs_and_ends_with_status_1_as_a_run_would(trees, capsys, project):
    shutil.copy(trees / "test/dog/3.png", trees / "train/dog/7.png")
    write(project)
    status, printed = check(capsys)
    assert status == 1 and "\n  1 images of train are in test too (dog/7.png and dog/3.png: copies)\n" in printed
    assert "train: 13 images" in printed and "a run would refuse 1 images of train, which are in another" in printed
    write(project, twins="drop")
    status, printed = check(capsys)
    assert status == 0 and "train: 12 images, 2 classes, pictures/train; left out: 1 that are in another" in printed


def test_check_tells_what_is_not_used_and_what_was_converted(trees, capsys, project):
    shutil.copy(trees / "train/cat/0.png", trees / "train/cat/notes.txt")
    save(trees / "train/cat/@eaDir/0.png/THUMB.jpg", 5)
    Image.new("RGBA", (9, 9), (255, 255, 255, 0)).save(trees / "train/cat/nothing.png")
    write(project)
    status, printed = check(capsys)
    assert status == 0
    assert "  not used: 1 .txt, 1 in @eaDir\n" in printed
    assert "  1 with transparent parts, laid on white\n  1 of one color (cat/nothing.png)\n" in printed


def test_without_a_pool_a_study_runs_where_nothing_takes_images_from_it(trees, capsys, project):
    write(project, pool=None, test=0.5)
    status, printed = check(capsys)
    assert status == 0 and printed.startswith("pool: 0 images, 2 classes, none: nothing takes images from it\n")
    assert "train: 6 images" in printed and "test: 6 images, 2 classes, 50 % of train" in printed
    study = studies.load("parameters/own.yaml")
    assert sources.prepare(study.layout, study.real, 0) == {"pool": 0, "train": 6, "test": 6}
    manifests = mixing.mix_all(study.layout, "dropped", source="none", ratio=0.5, seeds=[0])
    assert manifests[0].num_rows < 6


@pytest.mark.parametrize(
    ("more", "user"), [({"arms": ["other_real", "dropped"]}, "arm other_real"), ({}, "section detect")]
)
def test_where_something_takes_images_from_it_a_pool_is_asked_for(trees, project, more, user):
    write(project, pool=None)
    content = yaml.safe_load((project / "parameters/own.yaml").read_text())
    content["grid"] |= more
    content |= {} if more else {"detect": {}}
    (project / "parameters/own.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=rf"data.pool is missing: {user} takes images from it; give a path"):
        studies.load("parameters/own.yaml")


# An export


FORMS = [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("GIF", ".gif"), ("BMP", ".bmp"), ("TIFF", ".tif")]


@pytest.mark.slow
@settings(max_examples=8)
@given(sizes=st.lists(st.integers(2, 5), min_size=2, max_size=4), data=st.data())
def test_what_an_export_holds_equals_the_manifest_index_by_index(tmp_path_factory, sizes, data):
    import pyarrow.parquet
    from conftest import make_project

    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("made"), patch)
        number = 0
        for split in ("train", "test"):
            for label, size in enumerate(sizes):
                for _ in range(size):
                    form, ending = data.draw(st.sampled_from(FORMS))
                    save(project / "pictures" / split / f"{label} é" / f"{number}{ending}", number, format=form)
                    number += 1
        write(project, pool=None)
        study = studies.load("parameters/own.yaml")
        sources.prepare(study.layout, study.real, 0)
        manifests = mixing.mix_all(study.layout, "dropped", source="none", ratio=0.5, seeds=[0])
        mixing.write(study.layout, manifests, arm="dropped", source="none", ratio=0.5)
        chosen = ["--arm", "dropped", "--source", "none", "--ratio", "0.5", "--seed", "0"]
        assert cli.main(["export", "parameters/own.yaml", *chosen, "--form", "huggingface", "--to", "outputs/set"]) == 0
        (file,) = Path("outputs/set/data").iterdir()
        rows = pyarrow.parquet.read_table(file).to_pylist()
        train = image_tables.read(study.layout.real("train"))
        for row, line in zip(rows, manifests[0].to_pylist(), strict=True):
            real = train.slice(line["row"], 1).to_pylist()[0]
            assert (row["slot"], row["label"], row["id"]) == (line["slot"], line["label"], real["id"])
            held, own = row["image"]["bytes"], (project / "pictures/train" / real["id"]).read_bytes()
            # Formats that readers skip are stored in another, with the same pixels.
            assert held == own or image_tables.pixels(held).equal(image_tables.pixels(own))
