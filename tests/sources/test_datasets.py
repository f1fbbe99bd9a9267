"""Images of Hugging Face datasets: read where the package keeps them, labels come over as they are."""

import importlib.util
import io
import sys

import numpy as np
import pytest
from contamination import sources
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.sources import broken
from PIL import Image

NAMES = ["left_hand", "right_hand"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What the package makes of Parquet files goes into the test's folder."""
    if importlib.util.find_spec("datasets"):
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def encoded(number: int, form: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, format=form)
    return stream.getvalue()


def save(project, columns: dict, features: dict | None = None) -> dict:
    """The same columns, with other images, as three splits of one dataset; returns the section that names it."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image()} | (features or {}))
    splits = {}
    for start, split in enumerate(sources.SPLITS):
        images = [{"bytes": encoded(10 * start + number), "path": f"{number}.jpg"} for number in range(4)]
        splits[split] = datasets.Dataset.from_dict({"image": images} | columns, features=features)
    datasets.DatasetDict(splits).save_to_disk(str(project / "saved"))
    return {"source": "datasets", "image_size": 16} | {split: f"saved:{split}" for split in sources.SPLITS}


def with_classes(project) -> dict:
    datasets = pytest.importorskip("datasets")
    return save(project, {"label": [0, 1, 1, 0]}, {"label": datasets.ClassLabel(names=NAMES)})


def contents(path) -> list[bytes]:
    table = image_tables.read(path)
    return [image_tables.data(row["image"], row["id"]) for row in table.select(["image", "id"]).to_pylist()]


def test_images_are_read_in_place_and_labels_and_names_come_over(project):
    data = with_classes(project)
    layout = Layout("outputs/study")
    assert sources.offers(data) == {"label"}
    assert sources.prepare(layout, data, 0) == dict.fromkeys(sources.SPLITS, 4)
    table = image_tables.read(layout.real("train"))
    assert table["image"].to_pylist() == [
        {"bytes": None, "path": f"saved/train/data-00000-of-00001.arrow#image={number}"} for number in range(4)
    ]
    assert contents(layout.real("train")) == [encoded(10 + number) for number in range(4)]
    assert table["label"].to_pylist() == [0, 1, 1, 0] and sources.class_names(layout) == NAMES
    assert table["caption"].to_pylist()[1] == "photo of right hand"
    assert image_tables.stored_size(table) == 16 and image_tables.decode_all(table, 16).shape == (4, 3, 16, 16)


def test_several_captions_are_kept_and_the_first_is_the_images_own(project):
    datasets = pytest.importorskip("datasets")
    captions = [["one", "two"], ["three"], ["four", ""], ["<b>"]]
    data = save(project, {"caption": captions}, {"caption": datasets.List(datasets.Value("string"))})
    assert sources.offers(data) == {"caption"}
    sources.prepare(Layout("outputs/study"), data, 0)
    table = image_tables.read(Layout("outputs/study").real("test"))
    assert table["captions"].to_pylist() == captions
    assert table["caption"].to_pylist() == [several[0] for several in captions]


def test_parquet_files_in_a_folder_are_read(project):
    datasets = pytest.importorskip("datasets")
    data = with_classes(project)
    for split, dataset in datasets.load_from_disk(str(project / "saved")).items():
        (project / "parquet" / "data").mkdir(parents=True, exist_ok=True)
        dataset.to_parquet(str(project / "parquet" / "data" / f"{split}-00000-of-00001.parquet"))
    parquet = data | {"pool": "parquet:train[:2]", "train": "parquet:train[2:]", "test": "parquet:test"}
    layout = Layout("outputs/study")
    assert sources.prepare(layout, parquet, 0) == {"pool": 2, "train": 2, "test": 4}
    parts, whole = (
        image_tables.read(layout.real("train"))["image"].to_pylist(),
        image_tables.read(layout.real("test"))["image"],
    )
    assert [image["bytes"] for image in parts] == [encoded(12), encoded(13)]  # of a part of a split a copy
    assert whole.to_pylist()[3]["bytes"] is None and contents(layout.real("test"))[3] == encoded(23)


def test_columns_may_be_called_otherwise(project):
    datasets = pytest.importorskip("datasets")
    data = with_classes(project)
    saved = datasets.load_from_disk(str(project / "saved"))
    saved.rename_columns({"image": "img", "label": "fine_label"}).save_to_disk(str(project / "other"))
    other = {"columns": {"image": "img", "label": "fine_label"}} | {split: f"other:{split}" for split in sources.SPLITS}
    sources.prepare(Layout("outputs/study"), data, 0)
    sources.prepare(Layout("outputs/other"), data | other, 0)
    for split in sources.SPLITS:
        first, second = Layout("outputs/study").real(split), Layout("outputs/other").real(split)
        assert (
            contents(first) == contents(second)
            and image_tables.read(first)["label"] == image_tables.read(second)["label"]
        )
    with pytest.raises(ValueError, match=r"no column text \(data.columns\): it has image, label"):
        sources.offers(data | {"columns": {"caption": "text"}})


def test_images_whose_arrow_file_is_gone_are_one_line(project):
    data = with_classes(project)
    sources.prepare(Layout("outputs/study"), data, 0)
    (project / "saved" / "test" / "data-00000-of-00001.arrow").unlink()
    image_tables.rows_of.cache_clear()  # a file that is open stays there
    with pytest.raises(OSError, match=r"row-0: .*saved/test/.* cannot be read \(No such file"):
        contents(Layout("outputs/study").real("test"))


def test_broken_images_are_refused_or_skipped(project):
    data = with_classes(project)
    datasets = pytest.importorskip("datasets")
    saved = datasets.load_from_disk(str(project / "saved"))
    images = [{"bytes": encoded(100 + number)[: 200 if number == 1 else None], "path": None} for number in range(3)]
    images.append(None)
    saved["test"] = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 1, 0]}, saved["test"].features)
    saved.save_to_disk(str(project / "other"))
    data |= {"test": "other:test"}
    with pytest.raises(
        ValueError, match=r"2 of 4 images in other:test cannot be decoded \(row-1: .*; row-3: row-3 has no image"
    ):
        sources.prepare(Layout("outputs/study"), data, 0)
    sources.prepare(Layout("outputs/study"), data | {"broken": "skip"}, 0)
    assert image_tables.read(Layout("outputs/study").real("test"))["id"].to_pylist() == ["row-0", "row-2"]
    assert image_tables.metadata(Layout("outputs/study").real("test"))["broken"] == "2"


def test_what_is_missing_is_one_line(project):
    data = with_classes(project)
    for place, message in [("saved:nothing", "cannot be loaded"), ("parameters:train", "cannot be loaded")]:
        with pytest.raises(ValueError, match=message) as caught:
            sources.prepare(Layout("outputs/study"), data | {"test": place}, 0)
        assert str(caught.value).isprintable() and place in str(caught.value)


def test_a_name_that_the_hub_does_not_give_is_one_line(project, monkeypatch):
    datasets = pytest.importorskip("datasets")
    data = with_classes(project)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError, match=r"nobody/nothing:train cannot be loaded \(Couldn't reach .*needs a network"
    ) as caught:
        sources.offers(data | {"train": "nobody/nothing:train"})
    assert str(caught.value).isprintable()
    gated = datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub.\nVisit its page.")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: (_ for _ in ()).throw(gated))
    with pytest.raises(ValueError, match=r"gated dataset on the Hub\.\): .*hf auth login") as caught:
        sources.offers(data | {"train": "a/b:train"})
    assert str(caught.value).isprintable()


def test_a_share_of_train_is_set_apart_as_the_pool(project):
    data = with_classes(project) | {"pool": 0.5}
    layout = Layout("outputs/study")
    assert sources.offers(data) == {"label"} and set(sources.listing(layout, data)) == {"train", "test"}
    assert sources.prepare(layout, data, 0) == {"pool": 2, "train": 2, "test": 4}
    parted = contents(layout.real("pool")) + contents(layout.real("train"))
    assert sorted(parted) == sorted(encoded(10 + number) for number in range(4))
    for split in ("pool", "train"):
        assert sorted(image_tables.read(layout.real(split))["label"].to_pylist()) == [0, 1]


def test_a_second_look_decodes_what_was_broken_alone(project, monkeypatch):
    data = with_classes(project)
    datasets = pytest.importorskip("datasets")
    saved = datasets.load_from_disk(str(project / "saved"))
    images = [{"bytes": encoded(100 + number)[: 200 if number == 1 else None], "path": None} for number in range(4)]
    saved["test"] = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 1, 0]}, saved["test"].features)
    saved.save_to_disk(str(project / "other"))
    data |= {"test": "other:test", "broken": "skip"}
    sources.prepare(Layout("outputs/study"), data, 0)
    Layout("outputs/study").real("train").unlink()
    decoded, whole = [], broken._Rows.__getitem__
    monkeypatch.setattr(
        broken._Rows, "__getitem__", lambda self, row: decoded.append(self.path(row)) or whole(self, row)
    )
    assert sources.prepare(Layout("outputs/study"), data, 0)["test"] == 3 and decoded == ["row-1"]


def test_a_new_file_shows_in_the_listing(project):
    data = with_classes(project)
    before = sources.listing(Layout("outputs/study"), data)
    (project / "saved" / "test" / "more.arrow").write_bytes(b"")
    assert sources.listing(Layout("outputs/study"), data) != before


def test_without_the_package_one_line_says_what_to_do(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="needs the package datasets: pip install datasets"):
        sources.offers({"source": "datasets", "pool": "a:b", "train": "a:c", "test": "a:d"})


def test_images_without_a_label_are_counted_in_one_line(project):
    datasets = pytest.importorskip("datasets")
    data = with_classes(project)
    saved = datasets.load_from_disk(str(project / "saved"))
    columns = {"image": [{"bytes": encoded(number), "path": None} for number in range(3)], "label": [0, None, 1]}
    saved["test"] = datasets.Dataset.from_dict(columns, saved["test"].features)
    saved.save_to_disk(str(project / "other"))
    with pytest.raises(ValueError, match="dataset other:test: 1 of 3 images have no label"):
        sources.prepare(Layout("outputs/study"), data | {"test": "other:test"}, 0)
