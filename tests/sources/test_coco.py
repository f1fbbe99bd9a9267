"""Images with captions in the form of COCO: what is read, what belongs together, and what does not."""

import json

import numpy as np
import pytest
from contamination import sources
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.sources import coco
from PIL import Image

COUNT = {"pool": 4, "train": 3, "test": 2}


def section(**changes) -> dict:
    places = {
        split: {"images": f"coco/{split}2017", "annotations": f"coco/captions_{split}2017.json"} for split in COUNT
    }
    return {"source": "coco", "image_size": 16} | places | changes


@pytest.fixture
def tree(project):
    """Three splits; each image has two captions, which stand in no order."""
    rng = np.random.default_rng(0)
    for split, count in COUNT.items():
        (project / "coco" / f"{split}2017").mkdir(parents=True)
        content = {"info": {}, "licenses": [], "images": [], "annotations": []}
        for number in range(count):
            name = f"{100 - number:012d}.jpg"
            pixels = rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(project / "coco" / f"{split}2017" / name)
            content["images"].append({"id": 100 - number, "file_name": name, "height": 20, "width": 30})
            for which in (1, 0):
                text = f"caption {which} of {split} {100 - number}"
                content["annotations"].append({"id": 10 * number + which, "image_id": 100 - number, "caption": text})
        write(project / "coco", split, content)
    return project / "coco"


def write(tree, split, content) -> None:
    (tree / f"captions_{split}2017.json").write_text(json.dumps(content))


def change(tree, split, edit) -> None:
    content = json.loads((tree / f"captions_{split}2017.json").read_text())
    edit(content)
    write(tree, split, content)


def prepare(**changes):
    layout = Layout("outputs/study")
    sources.prepare(layout, section(**changes), 0)
    return layout


def test_each_image_has_its_captions_in_the_order_of_their_ids_and_is_read_in_place(tree):
    layout = prepare()
    table = image_tables.read(layout.real("train"))
    assert table["id"].to_pylist() == [f"{number:012d}.jpg" for number in (98, 99, 100)]
    assert table["captions"].to_pylist() == [
        [f"caption {which} of train {number}" for which in (0, 1)] for number in (98, 99, 100)
    ]
    assert table["caption"].to_pylist() == [captions[0] for captions in table["captions"].to_pylist()]
    assert table["image"][0].as_py() == {"bytes": None, "path": "coco/train2017/000000000098.jpg"}
    assert image_tables.decode_all(table, 16).shape == (3, 3, 16, 16)
    assert sources.class_names(layout) == ["image"] and sources.offers(section()) == {"caption"}
    facts = image_tables.metadata(layout.real("train"))
    assert [facts[name] for name in ("broken", "missing", "unlisted", "image_size")] == ["0", "0", "0", "16"]


FAULTS = {
    "image without caption": (
        lambda content: content["annotations"].__delitem__(slice(0, 2)),
        r"no caption for 000000000100\.jpg \(1 in all\)",
        {"without_caption": "1"},
    ),
    "caption without image": (
        lambda content: content["annotations"].append({"id": 99, "image_id": 7, "caption": "lost"}),
        "captions of images that it does not list: lost",
        {"captions_skipped": "1"},
    ),
    "image that is not there": (
        lambda content: content["images"].append({"id": 5, "file_name": "5.jpg"}),
        r"train2017 lacks images that .*json lists: 5\.jpg",
        {"missing": "1"},
    ),
}


@pytest.mark.parametrize(("edit", "message", "facts"), FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit_together_is_refused_or_counted(tree, edit, message, facts):
    change(tree, "train", edit)
    with pytest.raises(ValueError, match=message):
        prepare()
    assert not Layout("outputs/study").real("train").exists()
    found = image_tables.metadata(prepare(broken="skip").real("train"))
    expected = dict.fromkeys(("broken", "missing", "without_caption", "captions_skipped", "unlisted"), "0") | facts
    assert {name: found[name] for name in expected} == expected


def test_captions_of_listed_images_that_are_broken_are_skipped_with_them(tree):
    (tree / "train2017" / f"{99:012d}.jpg").write_bytes(b"\xff\xd8 cut off")
    with pytest.raises(ValueError, match="1 of 3 images"):
        prepare()
    table = image_tables.read(prepare(broken="skip").real("train"))
    assert table["caption"].to_pylist() == ["caption 0 of train 98", "caption 0 of train 100"]


def test_the_annotations_say_which_images_of_a_shared_folder_are_of_a_split(tree):
    for file in (tree / "pool2017").iterdir():
        file.rename(tree / "train2017" / f"pool {file.name}")
    change(
        tree, "pool", lambda content: [each.update(file_name=f"pool {each['file_name']}") for each in content["images"]]
    )
    layout = prepare(pool={"images": "coco/train2017", "annotations": "coco/captions_pool2017.json"})
    assert [image_tables.read(layout.real(split)).num_rows for split in COUNT] == list(COUNT.values())
    assert image_tables.metadata(layout.real("train"))["unlisted"] == "4"


def test_an_image_in_two_splits_is_refused(tree):
    both = {"images": "coco/train2017", "annotations": "coco/copy.json"}
    (tree / "copy.json").write_bytes((tree / "captions_train2017.json").read_bytes())
    with pytest.raises(ValueError, match=r"pool and train share 3 images \(.*coco/train2017/000000000098\.jpg\)"):
        prepare(pool=both)


def test_a_share_of_train_is_set_apart_and_keeps_its_captions(tree):
    layout = prepare(pool=0.3, per_class=1)
    pool, train = (image_tables.read(layout.real(split)) for split in ("pool", "train"))
    assert (pool.num_rows, train.num_rows) == (1, 1) and pool["id"] != train["id"]
    for row in (*pool.to_pylist(), *train.to_pylist()):
        assert row["captions"] == [f"caption {which} of train {int(row['id'][:12])}" for which in (0, 1)]
    assert image_tables.metadata(layout.real("train"))["beyond"] == "1"
    assert sources.offers(section(pool=0.4)) == {"caption"}


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "a/../../secret.jpg", "line\nbreak.jpg", 'it is "so".jpg', "\ud800.jpg"]
)
def test_a_listed_name_never_leads_out_of_the_folder_and_is_told_in_one_line(tree, name):
    (tree / "secret.jpg").write_bytes((tree / "train2017" / f"{99:012d}.jpg").read_bytes())
    change(tree, "train", lambda content: content["images"][0].update(file_name=name))
    with pytest.raises(ValueError, match=r"train2017 lacks images that .*json lists: ") as caught:
        prepare()
    assert str(caught.value).isprintable()
    table = image_tables.read(prepare(broken="skip").real("train"))
    assert table["id"].to_pylist() == [f"{number:012d}.jpg" for number in (98, 99)]


def test_an_absolute_name_in_the_annotations_is_no_image_of_the_folder(tree):
    elsewhere = str(tree / "test2017" / f"{99:012d}.jpg")
    change(tree, "train", lambda content: content["images"][0].update(file_name=elsewhere))
    assert image_tables.metadata(prepare(broken="skip").real("train"))["missing"] == "1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ('{"images": [', "not valid JSON"),
        ("[]", "expected COCO's captions"),
        ('{"images": []}', "expected COCO's captions"),
        ('{"images": [{"id": 1}], "annotations": []}', "images: .* has no proper file_name"),
        ('{"images": [], "annotations": ["text"]}', "annotations: 'text' has no proper id"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": []}', "image twice"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}], "annotations": []}', "image twice"),
        (
            '{"images": [], "annotations": [{"id": 1, "image_id": 1, "caption": null}]}',
            "annotations: .* has no proper caption",
        ),
    ],
)
def test_an_annotation_file_of_another_form_is_named_in_one_line(tree, content, message):
    (tree / "captions_train2017.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        prepare()
    assert "captions_train2017.json" in str(caught.value) and str(caught.value).isprintable()


def test_missing_folders_and_annotation_files_are_named_before_any_work(tree):
    (tree / "captions_test2017.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"captions_test2017\.json is missing: name the annotations of test"):
        sources.offers(section())
    with pytest.raises(FileNotFoundError, match="captions_test2017"):
        prepare()
    with pytest.raises(FileNotFoundError, match="nowhere is missing: name the images of test"):
        sources.offers(section(test={"images": "coco/nowhere", "annotations": "coco/captions_pool2017.json"}))


def test_new_captions_show_in_the_listing(tree):
    before = sources.listing(Layout("outputs/study"), section())
    change(tree, "test", lambda content: content["annotations"][0].update(caption="another"))
    after = sources.listing(Layout("outputs/study"), section())
    assert {split for split in before if before[split] != after[split]} == {"test"}


def test_captions_are_kept_word_for_word(tree):
    odd = ["<script>", "\u732b\u304c", 'it\'s "so"\u2028and so\n', ""]
    change(
        tree,
        "train",
        lambda content: [each.update(caption=text) for each, text in zip(content["annotations"], odd, strict=False)],
    )
    listed, _ = coco.read_captions(tree / "captions_train2017.json")
    assert [text for name in sorted(listed, reverse=True) for text in listed[name][::-1]][:4] == odd
