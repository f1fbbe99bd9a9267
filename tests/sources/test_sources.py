"""Real images: disjoint splits, and folder trees with their faults."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from contamination import sources
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.base.settings import read_settings
from contamination.mixtures import mixing
from contamination.sources import broken, digits, ood, ood_digits
from contamination.sources.settings import Data
from PIL import Image


def test_the_digits_are_split_without_overlap_and_in_balance():
    splits = digits.splits(16, 0)
    identities = [identity for columns in splits.values() for identity in columns["id"]]
    assert len(identities) == len(set(identities)) == 1797
    for split in ("pool", "train"):
        assert np.bincount(splits[split]["label"]).tolist() == [60] * 10


def test_the_digits_depend_on_the_seed_alone():
    first, again, other = digits.splits(16, 0), digits.splits(16, 0), digits.splits(16, 1)
    assert np.array_equal(first["test"]["pixels"], again["test"]["pixels"])
    assert not np.array_equal(first["test"]["id"], other["test"]["id"])


def test_a_caption_names_digit_and_colors():
    train = digits.splits(16, 0)["train"]
    for caption, label, front, back in zip(
        train["caption"], train["label"], train["foreground"], train["background"], strict=True
    ):
        assert f"{front} {digits.CLASS_NAMES[label]} on {back} background" in caption
    assert not any(caption.startswith("a orange") for caption in train["caption"])


def test_prepare_writes_once_and_never_over_images_of_other_parameters(project):
    layout = Layout("outputs/study")
    data = {"source": "digits", "image_size": 16}
    assert sources.prepare(layout, data, 0) == {"pool": 600, "train": 600, "test": 597}
    written = layout.real("train").stat().st_mtime_ns
    sources.prepare(layout, data, 0)
    with pytest.raises(ValueError, match="holds images of other data or another seed"):
        sources.prepare(layout, data, 1)
    assert layout.real("train").stat().st_mtime_ns == written
    assert sources.class_names(layout)[3] == "three"


@pytest.mark.medium
def test_prepare_makes_a_half_written_split_again(project):
    layout = Layout("outputs/study")
    data = {"source": "digits", "image_size": 16}
    sources.prepare(layout, data, 0)
    whole = layout.real("test").read_bytes()
    layout.real("test").write_bytes(whole[:100])
    sources.prepare(layout, data, 0)
    assert layout.real("test").read_bytes() == whole


@pytest.fixture
def trees(project):
    """Three folder trees with two classes each, images of several sizes and kinds."""
    rng = np.random.default_rng(0)
    for split in sources.SPLITS:
        for name in ("left hand", "right_hand"):
            folder = project / "pictures" / split / name
            folder.mkdir(parents=True)
            for number, (size, mode) in enumerate([((20, 30), "RGB"), ((40, 24), "L"), ((16, 16), "CMYK")]):
                image = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).convert(mode)
                image.save(folder / f"{number}.jpg")
    return project / "pictures"


DATA = {"source": "folders", "image_size": 16, **{split: f"pictures/{split}" for split in sources.SPLITS}}


def test_folders_become_tables_with_labels_and_captions(trees):
    layout = Layout("outputs/study")
    assert sources.prepare(layout, DATA, 0) == {"pool": 6, "train": 6, "test": 6}
    table = image_tables.read(layout.real("train"))
    assert table["label"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert table["caption"].to_pylist()[-1] == "photo of right hand"
    assert image_tables.decode_all(table, 16).shape == (6, 3, 16, 16)
    assert json.loads(image_tables.metadata(layout.real("train"))["class_names"]) == ["left hand", "right_hand"]


def test_a_missing_tree_is_named(trees):
    with pytest.raises(FileNotFoundError, match="nowhere is missing: name a folder"):
        sources.prepare(Layout("outputs/study"), DATA | {"pool": "pictures/nowhere"}, 0)


def test_a_class_without_images_is_named_and_nothing_is_written(trees):
    for file in (trees / "train" / "left hand").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="left hand has no images"):
        sources.prepare(Layout("outputs/study"), DATA, 0)
    assert not Layout("outputs/study").real("train").exists()


def test_classes_that_differ_between_splits_are_named(trees):
    (trees / "test" / "left hand").rename(trees / "test" / "third hand")
    with pytest.raises(ValueError, match="differ in their classes: left hand, third hand"):
        sources.prepare(Layout("outputs/study"), DATA, 0)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_an_unreadable_image_is_named(trees, content):
    victim = trees / "train" / "left hand" / "1.jpg"
    victim.write_bytes(content if content is not None else victim.read_bytes()[:150])
    with pytest.raises(ValueError, match=r"1 of 6 images in .*train cannot be decoded \(.*1\.jpg: "):
        sources.prepare(Layout("outputs/study"), DATA, 0)
    assert not Layout("outputs/study").real("pool").exists()
    sources.prepare(Layout("outputs/study"), DATA | {"broken": "skip"}, 0)
    facts = [image_tables.metadata(Layout("outputs/study").real(split))["broken"] for split in sources.SPLITS]
    assert facts == ["0", "1", "0"]
    assert "left hand/1.jpg" not in image_tables.read(Layout("outputs/study").real("train"))["id"].to_pylist()


# In place


def test_images_are_read_where_they_are_as_pillow_reads_them(trees):
    layout = Layout("outputs/study")
    sources.prepare(layout, DATA, 0)
    table = image_tables.read(layout.real("train"))
    for row, name in enumerate(table["id"].to_pylist()):
        assert table["image"][row].as_py() == {"bytes": None, "path": f"pictures/train/{name}"}
        expected = image_tables.resize(Image.open(trees / "train" / name), 16).astype(int)
        found = image_tables.decode_all(table.slice(row, 1), 16)[0].permute(1, 2, 0).numpy()
        assert np.abs(found - expected).max() <= 1
    assert image_tables.stored_size(table) == image_tables.stored_size(table.take([3])) == 16


def test_a_tree_elsewhere_has_absolute_paths(trees, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "train"
    (trees / "train").rename(elsewhere)
    sources.prepare(Layout("outputs/study"), DATA | {"train": str(elsewhere)}, 0)
    table = image_tables.read(Layout("outputs/study").real("train"))
    assert table["image"][0].as_py()["path"] == str(elsewhere / "left hand" / "0.jpg")
    assert image_tables.decode_all(table, 16).shape == (6, 3, 16, 16)


@pytest.mark.parametrize("content", [None, b"", 150])
def test_a_file_that_vanished_or_shrank_since_is_named_by_its_id(trees, content):
    layout = Layout("outputs/study")
    sources.prepare(layout, DATA, 0)
    victim = trees / "train" / "right_hand" / "1.jpg"
    whole = victim.read_bytes()
    victim.unlink()
    if content is not None:
        victim.write_bytes(whole[:content] if content else content)
    with pytest.raises((OSError, ValueError), match=r"^right_hand/1\.jpg.* cannot be (read|decoded)") as caught:
        image_tables.decode_all(image_tables.read(layout.real("train")), 16)
    assert str(caught.value).isprintable()


def test_names_that_are_no_text_are_refused_with_their_number_before_any_image_is_decoded(trees, monkeypatch):
    for number in range(2):
        (trees / "train" / "left hand" / f"{number}.jpg").rename(
            os.fsdecode(os.fsencode(trees / "train" / "left hand") + b"/caf\xe9%d.jpg" % number)
        )
    monkeypatch.setattr(broken, "check", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=r"2 images whose names are not UTF-8 \('left hand/caf") as caught:
        sources.prepare(Layout("outputs/study"), DATA, 0)
    assert str(caught.value).isprintable()


def test_a_mixture_of_images_in_place_and_generated_ones_is_read_in_slot_order(trees):
    layout = Layout("outputs/study")
    sources.prepare(layout, DATA, 0)
    train = image_tables.read(layout.real("train"))
    columns = {"id": [f"slot-{slot}" for slot in range(6)], "label": train["label"], "slot": list(range(6))}
    black = image_tables.encode(np.zeros((16, 16, 3), dtype=np.uint8))
    image_tables.write(layout.generated("made") / "shard-00000.arrow", [black] * 6, columns=columns)
    for arm in ("generated", "other_real"):
        labels = train["label"].to_numpy()
        manifest = mixing.mix(
            labels,
            arm,
            source="made",
            ratio=0.5,
            seed=0,
            pool_labels=image_tables.read(layout.real("pool"))["label"].to_numpy(),
        )
        mixed = mixing.gather(layout, manifest)
        real = np.array(mixed["source"].to_pylist()) == "train"
        assert mixed["label"].to_pylist() == train["label"].to_pylist() and 0 < real.sum() < 6
        pixels, before = image_tables.decode_all(mixed, 16), image_tables.decode_all(train, 16)
        assert pixels[real].equal(before[real]) and (pixels[~real].max() == 0) == (arm == "generated")


CHANGES = {
    "added": lambda tree: Image.new("RGB", (9, 9)).save(tree / "left hand" / "9.jpg"),
    "removed": lambda tree: (tree / "left hand" / "1.jpg").unlink(),
    "replaced": lambda tree: (tree / "left hand" / "1.jpg").replace(tree / "left hand" / "2.jpg"),
    "captioned": lambda tree: (tree / "metadata.jsonl").write_text("{}"),
}


@pytest.mark.parametrize("split", sources.SPLITS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_of_files_shows_in_the_listing_and_tables_of_before_are_not_believed(trees, change, split):
    layout = Layout("outputs/study")
    before = sources.listing(layout, DATA)
    sources.prepare(layout, DATA, 0)
    assert sources.listing(layout, DATA) == before
    change(trees / split)
    after = sources.listing(layout, DATA)
    assert {name for name in before if before[name] != after[name]} == {split}
    with pytest.raises(ValueError, match="folders that have changed since"):
        sources.prepare(layout, DATA, 0)


def test_the_listing_says_what_is_wrong_and_the_digits_have_none(trees):
    shutil.rmtree(trees / "pool")
    found = sources.listing(Layout("outputs/study"), DATA | {"ood": {"blur": "pictures/nowhere"}})
    assert (
        found["pool"].endswith("pool is missing: name a folder of images") and "nowhere is missing" in found["ood blur"]
    )
    assert sources.listing(Layout("outputs/study"), {"source": "digits", "image_size": 16}) == {}


def test_the_fingerprint_of_the_digits_is_that_of_every_study_so_far(project):
    layout = Layout("outputs/study")
    sources.prepare(layout, {"source": "digits", "image_size": 16}, 0)
    found = image_tables.metadata(layout.real("train"))
    assert set(found) == {"fingerprint", "class_names"} and found["fingerprint"] == "8d74b98b3e6cc380"


# Names of classes


def test_a_names_file_says_what_captions_call_a_class(trees):
    (trees / "names.csv").write_text("folder,name\nleft hand,hand of the left\n")
    sources.prepare(Layout("outputs/study"), DATA | {"names": "pictures/names.csv"}, 0)
    captions = image_tables.read(Layout("outputs/study").real("test"))["caption"].to_pylist()
    assert captions == ["photo of hand of the left"] * 3 + ["photo of right hand"] * 3


def test_a_mapping_brings_a_pool_into_the_classes_and_says_how_many_images_it_leaves_out(trees):
    (trees / "pool" / "left hand").rename(trees / "pool" / "q2")
    (trees / "pool" / "right_hand").rename(trees / "pool" / "q1")
    shutil.copytree(trees / "pool" / "q1", trees / "pool" / "foot")
    (trees / "mapping.csv").write_text("folder,class\nq1,right_hand\nq2,left hand\n")
    layout = Layout("outputs/study")
    sources.prepare(layout, DATA | {"mapping": "pictures/mapping.csv"}, 0)
    table = image_tables.read(layout.real("pool"))
    assert [name[:2] for name in table["id"].to_pylist()] == ["q1"] * 3 + ["q2"] * 3
    assert table["label"].to_pylist() == [1] * 3 + [0] * 3
    assert set(table["caption"].to_pylist()[:3]) == {"photo of right hand"}
    assert image_tables.metadata(layout.real("pool"))["unmatched"] == "3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "mapping .* is missing"),
        ("a,b\n", "line 1: expected the columns folder,class"),
        ("folder,class\n", "1 of 2"),
    ],
)
def test_a_wrong_mapping_is_named(trees, text, message):
    (trees / "pool" / "left hand").rename(trees / "pool" / "q2")
    if text is not None:
        (trees / "mapping.csv").write_text(text)
    with pytest.raises((OSError, ValueError), match=message):
        sources.prepare(Layout("outputs/study"), DATA | {"mapping": "pictures/mapping.csv"}, 0)


# Captions in a file


def caption(trees, split, lines) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (trees / split / "metadata.jsonl").write_text(text, encoding="utf-8")


ODD = [
    "",
    "x" * 5000,
    "\u732b\u304c\u3044\u308b",
    "<script>alert(1)</script>",
    'it\'s "so"\u2028and so',
    "$x_{$ & |||\n",
]


def caption_all(trees) -> None:
    for split in sources.SPLITS:
        files = sorted(path.relative_to(trees / split).as_posix() for path in (trees / split).rglob("*.jpg"))
        caption(trees, split, [{"file_name": file, "text": text} for file, text in zip(files, ODD, strict=True)])


def test_odd_captions_survive_word_for_word(trees):
    caption_all(trees)
    assert sources.offers(DATA) == {"label", "caption"}
    sources.prepare(Layout("outputs/study"), DATA, 0)
    assert image_tables.read(Layout("outputs/study").real("train"))["caption"].to_pylist() == ODD


def test_a_tree_without_classes_has_captions_alone(trees):
    for split in sources.SPLITS:
        for number, file in enumerate(sorted((trees / split).rglob("*.jpg"))):
            file.rename(trees / split / f"{number}.jpg")
        for folder in [path for path in (trees / split).iterdir() if path.is_dir()]:
            folder.rmdir()
    caption_all(trees)
    assert sources.offers(DATA) == {"caption"}
    sources.prepare(Layout("outputs/study"), DATA, 0)
    assert image_tables.read(Layout("outputs/study").real("train"))["label"].to_pylist() == [0] * 6


def test_a_tree_without_captions_offers_none_and_one_such_tree_is_enough(trees):
    assert sources.offers(DATA) == {"label"}
    caption_all(trees)
    (trees / "test" / "metadata.jsonl").unlink()
    assert sources.offers(DATA) == {"label"}


def test_all_captions_of_an_image_are_kept_and_the_first_is_its_own(trees):
    caption_all(trees)
    with (trees / "test" / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "left hand/1.jpg", "text": "another"}) + "\n")
    sources.prepare(Layout("outputs/study"), DATA, 0)
    table = image_tables.read(Layout("outputs/study").real("test"))
    assert table["caption"].to_pylist() == ODD
    assert table["captions"].to_pylist()[1] == [ODD[1], "another"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"file_name": "left hand/0.jpg", "text": "a"}], r"no caption for left hand/1\.jpg \(5 in all\)"),
        ([{"file": "left hand/0.jpg"}], r"metadata\.jsonl, line 1: expected"),
        (["word"], r"metadata\.jsonl, line 1: expected"),
        ([{"file_name": "left hand/0.jpg", "text": None}], r"metadata\.jsonl, line 1: expected"),
    ],
)
def test_an_image_without_caption_and_a_wrong_line_are_named(trees, lines, message):
    caption(trees, "train", lines)
    with pytest.raises(ValueError, match=message):
        sources.prepare(Layout("outputs/study"), DATA, 0)


@pytest.mark.parametrize("name", ["../secret.jpg", "left hand/../../secret.jpg", "line\nbreak.jpg", "/etc/passwd"])
def test_a_caption_of_a_file_elsewhere_reads_no_file_and_captions_no_image(trees, name):
    caption_all(trees)
    shutil.copy(trees / "train" / "left hand" / "0.jpg", trees / "secret.jpg")
    with (trees / "train" / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": name, "text": "elsewhere"}) + "\n")
    sources.prepare(Layout("outputs/study"), DATA, 0)
    table = image_tables.read(Layout("outputs/study").real("train"))
    assert table.num_rows == 6 and "elsewhere" not in table["caption"].to_pylist()


def test_odd_file_names_are_kept_and_told_in_one_line(trees):
    odd = ["with space.jpg", 'it\'s "so".jpg', "line\nbreak.jpg", "a..b.jpg"]
    for name in odd:
        shutil.copy(trees / "train" / "left hand" / "0.jpg", trees / "train" / "left hand" / name)
    layout = Layout("outputs/study")
    sources.prepare(layout, DATA, 0)
    table = image_tables.read(layout.real("train"))
    assert {f"left hand/{name}" for name in odd} < set(table["id"].to_pylist())
    assert image_tables.decode_all(table, 16).shape[0] == 6 + len(odd)
    (trees / "train" / "left hand" / "line\nbreak.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"line\\nbreak") as caught:
        sources.prepare(Layout("outputs/other"), DATA, 0)
    assert str(caught.value).isprintable()
    caption(trees, "train", [{"file_name": "left hand/0.jpg", "text": "a"}])
    with pytest.raises(ValueError, match="has no caption for") as caught:
        sources.prepare(Layout("outputs/third"), DATA, 0)
    assert str(caught.value).isprintable()


# Out-of-distribution test sets


def prepare_shifted(names):
    layout = Layout("outputs/study")
    sources.prepare(layout, DATA, 0)
    ood.prepare(layout, DATA | {"ood": names}, 0)
    return layout


def test_a_set_with_some_of_the_classes_keeps_their_numbers(trees):
    (trees / "elsewhere").mkdir()
    (trees / "test" / "right_hand").rename(trees / "elsewhere" / "right_hand")
    folder = trees / "test" / "right_hand"
    folder.mkdir()
    Image.new("RGB", (9, 9)).save(folder / "0.jpg")
    layout = prepare_shifted({"sketch": "pictures/elsewhere"})
    assert sources.ood_sets(layout) == ["sketch"]
    table = image_tables.read(layout.ood("sketch"))
    assert table["label"].to_pylist() == [1, 1, 1] and table["severity"].to_pylist() == [0, 0, 0]


def test_numbered_sub_folders_are_severities(trees):
    for severity in ("1", "3"):
        for name in ("left hand", "right_hand"):
            (trees / "blur" / severity / name).mkdir(parents=True)
            Image.new("RGB", (9, 9)).save(trees / "blur" / severity / name / "0.png")
    table = image_tables.read(prepare_shifted({"blur": "pictures/blur"}).ood("blur"))
    assert table["severity"].to_pylist() == [1, 1, 3, 3] and table["label"].to_pylist() == [0, 1, 0, 1]


def test_numbered_sub_folders_are_severities_even_where_classes_are_numbers(trees):
    for split in sources.SPLITS:
        for number, name in enumerate(("left hand", "right_hand"), start=1):
            (trees / split / name).rename(trees / split / str(number))
    shutil.copytree(trees / "test", trees / "blur" / "1")
    shutil.copytree(trees / "test", trees / "blur" / "2")
    table = image_tables.read(prepare_shifted({"blur": "pictures/blur"}).ood("blur"))
    assert table["severity"].to_pylist() == [1] * 6 + [2] * 6
    assert table["label"].to_pylist() == [0, 0, 0, 1, 1, 1] * 2


def test_a_class_that_was_never_trained_on_is_named_before_any_work(trees):
    (trees / "test2" / "third hand").mkdir(parents=True)
    with pytest.raises(ValueError, match="third hand: not among the training classes"):
        ood.check(DATA | {"ood": {"v2": "pictures/test2"}})
    with pytest.raises(FileNotFoundError, match="nowhere is missing"):
        ood.check(DATA | {"ood": {"v2": "pictures/nowhere"}})


@pytest.mark.medium
def test_the_digits_have_corruptions_that_grow_and_colors_that_no_training_image_has():
    test = digits.splits(16, 0)["test"]
    original = test["pixels"][: ood_digits.CORRUPTED].astype(float)
    for name in ood_digits.NAMES:
        made = ood_digits.load(name, {"image_size": 16}, [], Path(), seed=0)[0]
        again = ood_digits.load(name, {"image_size": 16}, [], Path(), seed=0)[0]
        assert np.array_equal(made["pixels"], again["pixels"]), name
        if name in ood_digits.PALETTES:
            assert np.array_equal(made["label"], test["label"])
            assert np.abs(made["pixels"].astype(float) - test["pixels"]).mean() > 20, name
            continue
        parts = [made["pixels"][made["severity"] == severity] for severity in (1, 2, 3)]
        changes = [np.abs(part - original).mean() for part in parts]
        assert 0 < changes[0] < changes[1] < changes[2], name
        assert made["label"].tolist() == test["label"][: ood_digits.CORRUPTED].tolist() * 3


# The section of a parameter file

COCO = {split: {"images": "a", "annotations": f"{split}.json"} for split in sources.SPLITS}
HUB = {split: f"name:{split}" for split in sources.SPLITS}


@pytest.mark.parametrize("values", [DATA, {"source": "coco"} | COCO, {"source": "datasets"} | HUB])
def test_every_source_keeps_its_places_and_leaves_out_what_changes_no_image(values):
    section = read_settings(Data, values | {"workers": 8})
    assert section.model_dump(exclude_none=True) == {"image_size": 16} | values
    assert section.workers == 8
    assert read_settings(Data, values | {"broken": "skip"}).model_dump()["broken"] == "skip"
    assert read_settings(Data, {}).model_dump(exclude_none=True) == {"source": "digits", "image_size": 16}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (DATA | {"train": None, "test": None}, "source folders needs a path for train and test; test may be a share"),
        (DATA | {"train": 0.5}, "train: 0.5: give a path, or images and annotations"),
        (DATA | {"test": 1.0}, "test: 1.0: give a path, .* or a share of train between 0 and 1"),
        (DATA | {"background": "whitish"}, "background: 'whitish' is not a color"),
        (DATA | {"twins": "keep"}, "twins: 'keep': Input should be 'refuse' or 'drop'"),
        (DATA | {"pool": 3}, "pool: 3: give a path, or images and annotations"),
        (DATA | {"pool": DATA["train"] + "/"}, "must be different places"),
        (DATA | {"pool": COCO["pool"]}, "pool: source folders needs a folder"),
        (DATA | {"broken": "ignore"}, "broken: 'ignore': Input should be 'refuse' or 'skip'"),
        ({"source": "coco"} | COCO | {"test": "a"}, "test: source coco needs images and annotations"),
        ({"source": "coco"} | COCO | {"test": {"images": "a"}}, r"test: give images \(a folder\) and annotations"),
        ({"source": "coco"} | COCO | {"test": COCO["train"]}, "must be different places"),
        ({"source": "coco"} | COCO | {"names": "a.csv"}, "takes no names"),
        ({"source": "datasets"} | HUB | {"test": "name"}, "test: source datasets needs NAME or FOLDER, a colon"),
        ({"source": "datasets"} | HUB | {"mapping": "a.csv"}, "takes neither ood nor mapping"),
        ({"names": "a.csv"}, "source digits takes no paths"),
    ],
)
def test_a_section_that_cannot_be_is_one_line(values, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_settings(Data, values, key="data")
    assert str(caught.value).startswith("data") and str(caught.value).isprintable()


def require_apart(data: dict) -> None:
    sources.kind(data).require_apart(data)


@pytest.mark.parametrize(
    "places",
    [
        {"train": "pictures/train", "test": "pictures/other/../train"},
        {"train": "pictures/train", "test": "{root}/pictures/train"},
        {"train": "pictures", "test": "pictures/test"},
        {"train": "pictures/train", "test": "link"},
        {"pool": "pictures/test"},
        {"ood": {"noise": "pictures/pool"}},
        {"source": "datasets", "train": "a/b:train", "test": "a/b:train[:10%]", "pool": "a/b:pool"},
    ],
)
def test_places_that_share_images_are_refused_whatever_they_are_called(project, places):
    (project / "pictures" / "train").mkdir(parents=True)
    (project / "link").symlink_to(project / "pictures" / "train")
    filled = {key: place.format(root=project) if isinstance(place, str) else place for key, place in places.items()}
    data = {"source": "folders", "pool": "pictures/pool", "train": "pictures/train", "test": "pictures/test"} | filled
    with pytest.raises(ValueError, match="share images: name places that do not") as caught:
        require_apart(data)
    assert "\n" not in str(caught.value)


def test_other_places_and_other_parts_of_one_split_are_accepted(project):
    require_apart({"source": "digits"})
    trees = {"source": "folders", "pool": 0.5, "train": "a/train", "test": "a/train2", "ood": {"noise": "a/test"}}
    require_apart(trees)
    parts = {"source": "datasets", "pool": "a:train[:50%]", "train": "a:train[50%:]", "test": "a:test"}
    require_apart(parts)


# The contract of a kind of source


@pytest.mark.parametrize("name", sources.KINDS)
def test_every_kind_answers_all_that_is_asked_of_one(name):
    module = sources.kind({"source": name})
    asked = ("check", "require_apart", "offers", "load", "files_named", "class_sizes", "class_count", "class_folders")
    assert all(callable(getattr(module, function)) for function in (*asked, "sample"))
    assert {type(module.FETCHED), type(module.FLAT_BACKGROUNDS)} == {bool} and hasattr(module, "OOD")


def test_no_other_file_compares_the_name_of_a_kind():
    compared = re.compile(r"""source["'\]]*\s*(==|!=|in|not in)\s*[("']*(digits|folders|coco|datasets)""")
    files = [*(ROOT / "lib/contamination").rglob("*.py"), ROOT / "Snakefile"]
    assert [file.name for file in files if compared.search(file.read_text())] == []
