"""Which images of the training set become slots, and which the pool."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from contamination import sources
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.base.settings import read_settings
from contamination.sources import broken, splitting
from contamination.study.study import Data
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

SIZES = {"cat": 9, "dog": 4, "left hand": 7}


def chosen(sizes: list[int], seed: int = 0, **data) -> tuple[dict[str, np.ndarray], np.ndarray]:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    columns = {"id": pa.array([f"image {row}" for row in range(len(labels))]), "label": pa.array(labels)}
    return splitting.of_train(
        columns, [f"class {label}" for label in range(len(sizes))], data={"pool": "a"} | data, seed=seed
    ), labels


@given(st.lists(st.integers(2, 60), min_size=1, max_size=5), st.integers(1, 50), st.integers(1, 40), st.integers(0, 9))
def test_the_pool_is_its_share_of_each_class_and_shares_no_image_with_the_slots(sizes, percent, most, seed):
    kept, labels = chosen(sizes, seed, pool=percent / 100, per_class=most)
    apart = [-(-percent * size // 100) for size in sizes]
    assert np.bincount(labels[kept["pool"]], minlength=len(sizes)).tolist() == apart
    left = [min(most, size - pool) for size, pool in zip(sizes, apart, strict=True)]
    assert np.bincount(labels[kept["train"]]).tolist() == left and min(left) >= 1
    assert not (kept["pool"] & kept["train"]).any()
    assert percent < 50 or all(pool >= slots for pool, slots in zip(apart, left, strict=True))


@given(st.integers(1, 30), st.integers(0, 9))
def test_fewer_slots_are_among_more_and_the_pool_is_the_same(most, seed):
    small, large, all_of = (
        chosen([40, 30], seed, pool=0.4, **limit)[0] for limit in ({"per_class": most}, {"per_class": most + 1}, {})
    )
    assert not (small["train"] & ~large["train"]).any() and not (large["train"] & ~all_of["train"]).any()
    assert np.array_equal(small["pool"], large["pool"]) and np.array_equal(small["pool"], all_of["pool"])
    assert (all_of["train"] ^ all_of["pool"]).all()
    alone = chosen([40, 30], seed, per_class=most)[0]
    assert set(alone) == {"train"} and alone["train"].sum() == min(most, 40) + min(most, 30)


def test_the_choice_depends_on_seed_and_name_alone():
    first, again, other = (chosen([200], seed, pool=0.5)[0]["pool"] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and 30 < (first & other).sum() < 70  # 50 by chance
    names = np.array([f"image {row}" for row in range(200)])
    order = names[np.argsort(splitting.ranks(np.zeros(200, int), names.tolist(), seed=0))]
    fewer = np.delete(names, 7)
    assert np.array_equal(
        fewer[np.argsort(splitting.ranks(np.zeros(199, int), fewer.tolist(), seed=0))], order[order != "image 7"]
    )
    assert chosen([5])[0] == {}


def test_a_class_of_which_nothing_is_left_is_named():
    with pytest.raises(ValueError, match=r"pool: 0\.8 of the images of class 1 in train, rounded up, leaves no slot"):
        chosen([10, 4], pool=0.8)


# In the tables of a study


@pytest.fixture
def trees(project):
    """A training and a test tree; each image has two captions, and its color tells which it is."""
    for blue, split in enumerate(("train", "test")):
        lines = []
        for label, (name, size) in enumerate(SIZES.items()):
            for number in range(size):
                file = project / "pictures" / split / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (9, 9), (20 * number, 80 * label, 9 * blue)).save(file)
                place = file.relative_to(project / "pictures" / split).as_posix()
                lines += [{"file_name": place, "text": f"{which} of {place}"} for which in ("first", "second")]
        (project / "pictures" / split / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return project / "pictures"


DATA = {"source": "folders", "image_size": 9, "train": "pictures/train", "test": "pictures/test", "pool": 0.5}


def test_captions_and_files_stay_with_their_image_and_nothing_is_decoded_twice(trees, monkeypatch):
    decoded, whole = [], broken._Files.__getitem__
    monkeypatch.setattr(
        broken._Files, "__getitem__", lambda self, row: decoded.append(self.path(row)) or whole(self, row)
    )
    layout = Layout("outputs/study")
    assert sources.prepare(layout, DATA | {"per_class": 3}, 0) == {"pool": 11, "train": 8, "test": 20}
    assert len(decoded) == len(set(decoded)) == 40
    pool, train = (image_tables.read(layout.real(split)) for split in ("pool", "train"))
    assert not set(pool["id"].to_pylist()) & set(train["id"].to_pylist())
    for row in (*pool.to_pylist(), *train.to_pylist()):
        assert row["captions"] == [f"first of {row['id']}", f"second of {row['id']}"]
        assert row["image"]["path"] == f"pictures/train/{row['id']}" and row["id"].startswith(list(SIZES)[row["label"]])
    assert image_tables.metadata(layout.real("train"))["beyond"] == "1" and "broken" not in image_tables.metadata(
        layout.real("pool")
    )
    assert sources.left_out(image_tables.metadata(layout.real("train"))) == "1 beyond per_class"
    assert image_tables.decode_all(pool, 9)[:, 2].max() == 0


def test_what_is_set_apart_is_another_choice_for_another_seed_only(trees):
    chosen = []
    for name, seed, changes in [("a", 0, {}), ("b", 0, {"image_size": 8}), ("c", 0, {"per_class": 2}), ("d", 1, {})]:
        sources.prepare(Layout(f"outputs/{name}"), DATA | changes, seed)
        chosen.append(image_tables.read(Layout(f"outputs/{name}").real("pool"))["id"].to_pylist())
    assert chosen[0] == chosen[1] == chosen[2] != chosen[3]


def test_a_changed_training_tree_shows_and_the_pool_has_no_listing_of_its_own(trees):
    layout = Layout("outputs/study")
    before = sources.listing(layout, DATA)
    assert set(before) == {"train", "test"} and sources.offers(DATA) == {"label", "caption"}
    shutil.copy(trees / "train/cat/0.png", trees / "train/cat/new.png")
    assert sources.listing(layout, DATA)["train"] != before["train"]


def test_a_study_that_parts_nothing_keeps_the_name_of_its_images():
    values = DATA | {"pool": "pictures/pool"}
    assert read_settings(Data, values).model_dump(exclude_none=True) == values
    assert read_settings(Data, DATA | {"per_class": 2}).model_dump(exclude_none=True) == DATA | {"per_class": 2}
