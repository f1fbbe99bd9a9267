"""What lies in a folder: every file is an image of it, or counted with the reason why it is not."""

import os
from pathlib import Path

import numpy as np
import pytest
from contamination.base.files import is_left_alone
from contamination.sources import caption_files, folders, ignored, index, other_layouts
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

# Of what Pillow registers: drawings that other programs must draw, containers of other things, a film.
NOT_READ = {".bufr", ".grib", ".h5", ".hdf", ".emf", ".wmf", ".eps", ".ps", ".iim", ".mpg", ".mpeg"}


def image(file: Path, number: int = 0, form: str = "PNG") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(file, form)
    return file


@pytest.fixture
def tree(tmp_path) -> Path:
    for number, name in enumerate(("cat", "dog")):
        image(tmp_path / "tree" / name / "1.png", number)
    return tmp_path / "tree"


def test_every_ending_that_pillow_reads_is_an_image():
    Image.init()
    read = {ending for ending, form in Image.registered_extensions().items() if form in Image.OPEN}
    ours = {ending.decode() for ending in ignored.SUFFIXES}
    assert read - ours == NOT_READ and ours - read == {".heic", ".heif", ".mpo"}


def test_a_file_without_ending_is_an_image_where_its_content_is(tree):
    for number, form in enumerate(("JPEG", "PNG", "WEBP", "AVIF", "PPM")):
        image(tree / "cat" / f"plain {form}", number, form)
    (tree / "cat" / "README").write_text("P6 of text, BM")
    (tree / "cat" / "empty").touch()
    found = index.scan(tree)
    assert found.images.num_rows == 7 and found.ignored == {"no ending": 2}
    assert sorted(map(os.fsencode, folders.images_below(tree))) == sorted(map(os.fsencode, found.paths(np.arange(7))))


@pytest.mark.parametrize("name", caption_files.NAMES)
def test_a_file_of_captions_at_the_top_is_used_and_one_below_is_not(tree, name):
    (tree / name).touch()
    assert not index.scan(tree).ignored
    (tree / "cat" / name).touch()
    assert index.scan(tree).ignored == {Path(name).suffix: 1}


ENDINGS = ["", ".png", ".JPG", ".jfif", ".txt", ".xml", ".db", ".png.part"]
FOLDERS = ["", "deep/", ".hidden/", "@eaDir/1.jpg/", "__MACOSX/", ".thumbnails/", "lost+found/"]
FILES = st.tuples(
    st.sampled_from(["cat", "dog", "@eaDir", ".git", ""]),
    st.sampled_from(FOLDERS),
    st.sampled_from(["a", "b b", "._c", "Thumbs", "é"]),
    st.sampled_from(ENDINGS),
    st.sampled_from(["image", "text", "link", "hard link", "empty"]),
)


def place(tree: Path, number: int, made: tuple) -> None:
    folder, inner, name, ending, kind = made
    file = tree / folder / inner / f"{name}{ending}"
    if not folder and not inner.startswith((".", "@", "_", "lost")) and ending.lower() in (*ENDINGS[:4],):
        return  # an image beside class folders is refused
    file.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(file):
        return
    if kind == "image":
        image(file, number)
    elif kind == "text":
        file.write_text(str(number))
    elif kind == "empty":
        file.touch()
    elif kind == "link":
        file.symlink_to(tree / "cat" / "1.png")
    else:
        os.link(tree / "cat" / "1.png", file)


@pytest.mark.medium
@settings(max_examples=60)
@given(st.lists(FILES, max_size=25))
def test_every_file_below_a_tree_is_an_image_or_counted_with_a_reason(tmp_path_factory, made):
    tree = tmp_path_factory.mktemp("made") / "tree"
    for number, name in enumerate(("cat", "dog")):
        image(tree / name / "1.png", number)
    for number, each in enumerate(made):
        place(tree, number, each)
    there = [Path(folder) / name for folder, _, names in os.walk(tree) for name in names]
    # Images beside classes are refused, and a folder without images is no class.
    assume(not any(file.parent == tree for file in map(Path, folders.images_below(tree))))
    assume(not (tree / "deep").exists())
    found = index.scan(tree)
    images = {Path(path) for path in found.paths(np.arange(found.images.num_rows))}
    assert len(images) == found.images.num_rows and images <= set(there)
    assert len(images) + sum(found.ignored.values()) == len(there)
    for file in set(there) - images:
        below = file.relative_to(tree).parts
        system = any(map(is_left_alone, below))
        assert system or not ignored.is_image_name(os.fsencode(file.name))
    assert not any(is_left_alone(part) for file in images for part in file.relative_to(tree).parts)
    assert set(map(Path, folders.images_below(tree))) == images
    assert index.load(tree, tree.parent / "cache") == index.load(tree, tree.parent / "cache") == found


def test_images_below_their_class_are_used_and_named(tree):
    image(tree / "cat" / "thumbs" / "2.png", 7)
    found = index.scan(tree)
    assert found.images.num_rows == 3
    assert index.remarks(found) == ["1 images lie in folders below their class (cat/thumbs)"]


# Layouts of other tools


def webdataset(root: Path) -> None:
    root.mkdir()
    (root / "00000.tar").touch()


def parquet(root: Path) -> None:
    (root / "data").mkdir(parents=True)
    (root / "data" / "train-00000-of-00001.parquet").touch()


def download(root: Path) -> None:
    for shard in ("00000", "00001"):
        image(root / shard / f"{shard}0001.jpg", form="JPEG")
        (root / shard / f"{shard}0001.json").touch()


def with_statistics(root: Path) -> None:
    for shard in ("00000", "00001"):
        image(root / shard / "1.jpg", form="JPEG")
        (root / f"{shard}_stats.json").touch()


def splits(root: Path) -> None:
    for split in ("train", "val"):
        image(root / split / "cat" / "1.png")


def coco(root: Path) -> None:
    for name in ("train2017", "val2017", "annotations"):
        image(root / name / "1.png")


def detection(root: Path) -> None:
    for name in ("images", "labels"):
        image(root / name / "1.png")


LAYOUTS = {
    webdataset: "WebDataset's shards: use data.source datasets",
    parquet: "1 class folders: .*it holds Parquet files: use data.source datasets",
    download: "holds shards of a download .*img2dataset.* not classes: .*use data.source datasets",
    with_statistics: "holds shards of a download",
    splits: r"holds splits \(train, val\), not classes: name one of them",
    coco: "laid out like COCO .*use data.source coco",
    detection: "laid out for object detection or segmentation",
}


@pytest.mark.parametrize(("make", "words"), LAYOUTS.items(), ids=[make.__name__ for make in LAYOUTS])
def test_a_layout_of_another_tool_is_named_with_what_reads_it(project, make, words):
    make(project / "pictures")
    with pytest.raises(ValueError, match=words) as caught:
        folders.class_names("pictures")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("names", [("cat", "train"), ("00001", "00002"), ("images", "dog"), ("n01440764", "n01443537")])
def test_classes_of_such_names_are_classes(tmp_path, names):
    for name in names:
        image(tmp_path / name / "1.png")
    other_layouts.require_own(tmp_path)
    other_layouts.require_own(tmp_path / "nowhere")
