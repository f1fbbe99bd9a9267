"""Real images: disjoint splits, and folder trees with their faults."""

import json
import shutil

import numpy as np
import pytest
from contamination import sources, store
from contamination.layout import Layout
from contamination.sources import digits, folders, shifted, shifted_digits
from PIL import Image


def test_the_digits_are_split_without_overlap_and_in_balance():
    splits = digits.load(16, 0)
    identities = [identity for columns in splits.values() for identity in columns["id"]]
    assert len(identities) == len(set(identities)) == 1797
    for split in ("pool", "train"):
        assert np.bincount(splits[split]["label"]).tolist() == [60] * 10


def test_the_digits_depend_on_the_seed_alone():
    first, again, other = digits.load(16, 0), digits.load(16, 0), digits.load(16, 1)
    assert np.array_equal(first["test"]["pixels"], again["test"]["pixels"])
    assert not np.array_equal(first["test"]["id"], other["test"]["id"])


def test_a_caption_names_digit_and_colours():
    train = digits.load(16, 0)["train"]
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
    table = store.read(layout.real("train"))
    assert table["label"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert table["caption"].to_pylist()[-1] == "photo of right hand"
    assert store.decode_all(table, 16).shape == (6, 3, 16, 16)
    assert json.loads(store.metadata(layout.real("train"))["class_names"]) == ["left hand", "right_hand"]


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
    with pytest.raises(ValueError, match=r"1\.jpg cannot be read .*: replace or remove it"):
        folders.load({split: f"pictures/{split}" for split in sources.SPLITS}, 16)


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
    assert store.read(Layout("outputs/study").real("train"))["caption"].to_pylist() == ODD


def test_a_tree_without_classes_has_captions_alone(trees):
    for split in sources.SPLITS:
        for number, file in enumerate(sorted((trees / split).rglob("*.jpg"))):
            file.rename(trees / split / f"{number}.jpg")
        for folder in [path for path in (trees / split).iterdir() if path.is_dir()]:
            folder.rmdir()
    caption_all(trees)
    assert sources.offers(DATA) == {"caption"}
    sources.prepare(Layout("outputs/study"), DATA, 0)
    assert store.read(Layout("outputs/study").real("train"))["label"].to_pylist() == [0] * 6


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
    table = store.read(Layout("outputs/study").real("test"))
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


# Shifted test sets


def prepare_shifted(names):
    layout = Layout("outputs/study")
    sources.prepare(layout, DATA, 0)
    shifted.prepare(layout, DATA | {"shifted": names}, 0)
    return layout


def test_a_set_with_some_of_the_classes_keeps_their_numbers(trees):
    (trees / "elsewhere").mkdir()
    (trees / "test" / "right_hand").rename(trees / "elsewhere" / "right_hand")
    folder = trees / "test" / "right_hand"
    folder.mkdir()
    Image.new("RGB", (9, 9)).save(folder / "0.jpg")
    layout = prepare_shifted({"sketch": "pictures/elsewhere"})
    assert sources.shifted_sets(layout) == ["sketch"]
    table = store.read(layout.shifted("sketch"))
    assert table["label"].to_pylist() == [1, 1, 1] and table["severity"].to_pylist() == [0, 0, 0]


def test_numbered_sub_folders_are_severities(trees):
    for severity in ("1", "3"):
        for name in ("left hand", "right_hand"):
            (trees / "blur" / severity / name).mkdir(parents=True)
            Image.new("RGB", (9, 9)).save(trees / "blur" / severity / name / "0.png")
    table = store.read(prepare_shifted({"blur": "pictures/blur"}).shifted("blur"))
    assert table["severity"].to_pylist() == [1, 1, 3, 3] and table["label"].to_pylist() == [0, 1, 0, 1]


def test_numbered_sub_folders_are_severities_even_where_classes_are_numbers(trees):
    for split in sources.SPLITS:
        for number, name in enumerate(("left hand", "right_hand"), start=1):
            (trees / split / name).rename(trees / split / str(number))
    shutil.copytree(trees / "test", trees / "blur" / "1")
    shutil.copytree(trees / "test", trees / "blur" / "2")
    table = store.read(prepare_shifted({"blur": "pictures/blur"}).shifted("blur"))
    assert table["severity"].to_pylist() == [1] * 6 + [2] * 6
    assert table["label"].to_pylist() == [0, 0, 0, 1, 1, 1] * 2


def test_a_class_that_was_never_trained_on_is_named_before_any_work(trees):
    (trees / "test2" / "third hand").mkdir(parents=True)
    with pytest.raises(ValueError, match="third hand: not among the training classes"):
        shifted.check(DATA | {"shifted": {"v2": "pictures/test2"}})
    with pytest.raises(FileNotFoundError, match="nowhere is missing"):
        shifted.check(DATA | {"shifted": {"v2": "pictures/nowhere"}})


def test_the_digits_have_corruptions_that_grow_and_colours_that_no_training_image_has():
    test = digits.load(16, 0)["test"]
    original = test["pixels"][: shifted_digits.CORRUPTED].astype(float)
    for name in shifted_digits.NAMES:
        made = shifted_digits.load(name, 16, 0)
        again = shifted_digits.load(name, 16, 0)
        assert np.array_equal(made["pixels"], again["pixels"]), name
        if name in shifted_digits.PALETTES:
            assert np.array_equal(made["label"], test["label"])
            assert np.abs(made["pixels"].astype(float) - test["pixels"]).mean() > 20, name
            continue
        parts = [made["pixels"][made["severity"] == severity] for severity in (1, 2, 3)]
        changes = [np.abs(part - original).mean() for part in parts]
        assert 0 < changes[0] < changes[1] < changes[2], name
        assert made["label"].tolist() == test["label"][: shifted_digits.CORRUPTED].tolist() * 3
