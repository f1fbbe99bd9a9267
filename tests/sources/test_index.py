"""The index of an image folder: what is in it, in which order, when it is read anew, and what is refused."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from contamination.sources import index
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two classes of three files each."""
    for name in ("n02", "n01"):
        for number in ("10", "9", "a"):
            place(tmp_path / "tree", f"{name}/{number}.JPEG", b"x" * (1 + len(number)))
    return tmp_path / "tree"


def place(tree: Path, name: str | bytes, content: bytes = b"x") -> bytes:
    """Write one file below a tree; its path in bytes."""
    path = os.path.join(os.fsencode(tree), os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    return path


def paths(found: index.Index) -> list[bytes]:
    return found.images["path"].to_pylist()


# What an index holds


def test_classes_and_images_stand_in_the_order_of_their_bytes_with_size_and_time(tree):
    found = index.scan(tree)
    assert found.names == ["n01", "n02"]
    assert paths(found) == [f"{name}/{number}.JPEG".encode() for name in found.names for number in ("10", "9", "a")]
    assert found.images["label"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert found.images["size"].to_pylist() == [3, 2, 2] * 2
    files = [found.path(row) for row in range(6)]
    assert found.images["mtime_ns"].to_pylist() == [file.stat().st_mtime_ns for file in files]
    assert found.paths(np.array([5, 0])) == [str(files[5]), str(files[0])]


ODD = [
    b"a..b.jpg",
    b"..c.jpg.png",
    b"with space.JPG",
    b'it\'s "so".jPeG',
    b"line\nbreak.webp",
    b"caf\xe9.jpg",
    "\u732b.tiff".encode(),
    b"-rf.gif",
    b"x.tar.bmp",
]


def test_odd_names_are_kept_byte_for_byte_and_lead_back_to_their_files(tmp_path):
    for name in ODD:
        place(tmp_path, b"some class/" + name, name)
    found = index.scan(tmp_path)
    seen = [path for path in ODD if not path.startswith(b".")]
    assert paths(found) == sorted(b"some class/" + name for name in seen)
    for row, path in enumerate(paths(found)):
        assert found.path(row).read_bytes() == path.removeprefix(b"some class/")


NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not {0, 47} & set(name) and name[0] != 46)
FOLDERS = ("a", "a/deep", "a b", "a b/a", "a.c", "b")


@pytest.mark.medium
@given(st.sets(st.tuples(st.sampled_from(FOLDERS), NAMES), max_size=12))
def test_any_names_come_back_by_class_and_then_in_the_order_of_their_bytes(tmp_path_factory, files):
    tree = tmp_path_factory.mktemp("tree")
    files = {(folder, name + b".jpg") for folder, name in {*files, ("a", b"first")}}
    for folder, name in files:
        place(tree, folder.encode() + b"/" + name)
    expected = sorted((folder.split("/")[0], folder.encode() + b"/" + name) for folder, name in files)
    found = index.scan(tree)
    assert paths(found) == [path for _, path in expected]
    assert [found.names[label] for label in found.images["label"].to_pylist()] == [name for name, _ in expected]


def test_the_order_does_not_come_from_the_file_system(tmp_path):
    rng = np.random.default_rng(0)
    for tree in ("one", "two"):
        for number in rng.permutation(300):
            place(tmp_path / tree, f"class {number % 7}/deep {number % 3}/{number}.png")
    one, two = (index.scan(tmp_path / tree) for tree in ("one", "two"))
    assert paths(one) == paths(two) and one.images["label"].equals(two.images["label"])


def test_a_folder_without_sub_folders_has_images_and_no_classes(tmp_path):
    for name in ("000000000009.jpg", "000000000025.jpg", "license.txt"):
        place(tmp_path, name)
    found = index.scan(tmp_path)
    assert (found.names, paths(found)) == ([], [b"000000000009.jpg", b"000000000025.jpg"])
    assert found.ignored == {".txt": 1}
    assert found.images["label"].to_pylist() == [0, 0]


def test_what_is_not_used_changes_nothing_and_is_counted_by_reason(tree):
    before = index.scan(tree)
    for name in (".hidden.jpg", "n01/.ipynb_checkpoints/9-checkpoint.jpg", "n01/._9.JPEG", ".git/x.jpg", ".DS_Store"):
        place(tree, name)
    found = index.scan(tree)
    assert (found.fingerprint, found.ignored) == (before.fingerprint, {"hidden": 5})
    for name in ("n01/@eaDir/9.jpg/THUMB.jpg", "__MACOSX/n01/9.JPEG", "lost+found/1.jpg", "n02/Thumbs.db"):
        place(tree, name)
    os.symlink(tree, tree / "n01" / "@eaDir" / "back")
    for name in ("n01/readme.txt", "n02/boxes/9.xml", "n02/jpg"):
        place(tree, name)
    os.mkfifo(tree / "n01" / "pipe.jpg")
    found = index.scan(tree)
    reasons = {"hidden": 5, "in @eaDir": 2, "in __MACOSX": 1, "in lost+found": 1, ".db": 1}
    reasons |= {".txt": 1, ".xml": 1, "no ending": 1, "pipe or device": 1}
    assert (found.fingerprint, found.ignored) == (before.fingerprint, reasons)


def test_linked_classes_and_images_are_read_and_a_folder_may_be_called_like_an_image(tree, tmp_path):
    place(tmp_path, "elsewhere/1.jpg")
    (tree / "n03").symlink_to(tmp_path / "elsewhere")
    (tree / "n01" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    place(tree, "n01/folder.jpg/1.png")
    assert {b"n03/1.jpg", b"n01/link.jpg", b"n01/folder.jpg/1.png"} < set(paths(index.scan(tree)))


def test_a_row_takes_fewer_than_thirty_bytes_beside_its_path(tree):
    for number in range(1000):
        place(tree, f"n01/{number:08d}.jpg")
    found = index.scan(tree)
    assert found.images.nbytes < found.images.num_rows * (len("n01/00000000.jpg") + 30)


# The fingerprint


def test_the_fingerprint_depends_on_the_listing_and_not_on_where_it_is(tree, tmp_path):
    first = index.scan(tree).fingerprint
    tree.rename(tmp_path / "moved")
    assert index.scan(tmp_path / "moved").fingerprint == first


CHANGES = {
    "added": lambda tree: place(tree, "n01/new.jpg"),
    "removed": lambda tree: (tree / "n01" / "9.JPEG").unlink(),
    "renamed": lambda tree: (tree / "n01" / "9.JPEG").rename(tree / "n01" / "8.JPEG"),
    "moved": lambda tree: (tree / "n01" / "9.JPEG").rename(tree / "n02" / "8.JPEG"),
    "another in its place": lambda tree: os.rename(place(tree, "n01/other", b"yy"), tree / "n01" / "9.JPEG"),
    "a new class": lambda tree: place(tree, "n03/1.jpg"),
    "a class renamed": lambda tree: (tree / "n02").rename(tree / "n03"),
    "a folder within a class": lambda tree: place(tree, "n01/deep/er/1.jpg"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_shows_in_the_fingerprint_and_through_the_cache(tree, tmp_path, monkeypatch, change):
    monkeypatch.setattr(index, "SETTLED", 0.02)
    time.sleep(0.05)
    before = index.load(tree, tmp_path / "cache.arrow")
    assert index.YOUNG not in before.folders.values()
    change(tree)
    after = index.load(tree, tmp_path / "cache.arrow")
    assert after.fingerprint != before.fingerprint
    assert after.images.equals(index.scan(tree).images)


def test_the_size_and_the_time_of_a_file_are_in_the_fingerprint(tree):
    first = index.scan(tree).fingerprint
    place(tree, "n01/9.JPEG", b"longer than before")
    second = index.scan(tree).fingerprint
    os.utime(tree / "n01" / "9.JPEG", ns=(0, 1))
    assert len({first, second, index.scan(tree).fingerprint}) == 3


def test_names_cannot_run_into_each_other_in_the_fingerprint(tmp_path):
    found = []
    for tree, names in {"one": ("a.jpg", "b.jpgc.jpg"), "two": ("a.jpgb.jpg", "c.jpg")}.items():
        for name in names:
            os.utime(place(tmp_path / tree, name), ns=(0, 0))
        found.append(index.scan(tmp_path / tree))
    assert b"".join(paths(found[0])) == b"".join(paths(found[1]))
    assert found[0].fingerprint != found[1].fingerprint


# The cache


def refuse_to_scan(*arguments):
    raise AssertionError("scanned")


def test_an_unchanged_tree_is_not_read_again_and_gives_the_same_index(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SETTLED", 0.02)
    place(tree, b"n01/caf\xe9/1.jpg")
    place(tree, "n01/notes.txt")
    time.sleep(0.05)
    first = index.load(tree, tmp_path / "cache.arrow")
    monkeypatch.setattr(index, "scan", refuse_to_scan)
    again = index.load(tree, tmp_path / "cache.arrow")
    assert again.images.equals(first.images) and again._replace(images=None) == first._replace(images=None)


READER = """
from pathlib import Path
from contamination.sources import index
index.SETTLED = 1e9  # every folder counts as changed a moment ago: each load scans and writes
for _ in range(300):
    found = index.load(Path("tree"), Path("cache/index.arrow"), progress=False)
print(found.fingerprint)
"""


@pytest.mark.medium
def test_processes_that_read_one_tree_at_once_do_not_disturb_each_other(tree, tmp_path):
    start = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", READER], **start) for _ in range(3)]
    ended = [process.communicate(timeout=120) for process in processes]
    assert ended == [(index.scan(tree).fingerprint + "\n", "")] * 3
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["index.arrow"]


def test_a_folder_changed_a_moment_ago_is_read_again(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SETTLED", 60)
    index.load(tree, tmp_path / "cache.arrow")
    monkeypatch.setattr(index, "scan", refuse_to_scan)
    with pytest.raises(AssertionError, match="scanned"):
        index.load(tree, tmp_path / "cache.arrow")


def test_times_of_folders_that_are_set_back_hide_nothing(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SETTLED", 0.02)
    time.sleep(0.05)
    before = (tree / "n01").stat()
    index.load(tree, tmp_path / "cache.arrow")
    place(tree, "n01/new.jpg")
    os.utime(tree / "n01", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert index.load(tree, tmp_path / "cache.arrow").images.num_rows == 7


def test_a_linked_class_that_is_gone_is_noticed(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SETTLED", 0.02)
    place(tmp_path, "elsewhere/1.jpg")
    (tree / "n03").symlink_to(tmp_path / "elsewhere")
    time.sleep(0.05)
    index.load(tree, tmp_path / "cache.arrow")
    (tmp_path / "elsewhere").rename(tmp_path / "away")
    with pytest.raises(OSError, match="n03 cannot be read"):
        index.load(tree, tmp_path / "cache.arrow")


def test_a_cache_of_another_tree_or_of_other_code_or_damaged_is_not_believed(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SETTLED", 0.02)
    time.sleep(0.05)
    cache = tmp_path / "cache.arrow"
    index.load(tree, cache)
    place(tmp_path, "other/n01/1.jpg")
    assert index.load(tmp_path / "other", cache).images.num_rows == 1
    cache.write_bytes(cache.read_bytes()[:-20])
    assert index.load(tree, cache).images.num_rows == 6
    monkeypatch.setattr(index, "hash_file", lambda path: "other code")
    monkeypatch.setattr(index, "scan", refuse_to_scan)
    with pytest.raises(AssertionError, match="scanned"):
        index.load(tree, cache)


# What is refused


def refused(tree: Path, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        index.scan(tree)
    message = str(caught.value)
    assert message.isprintable() and str(tree.name) in message
    return message


def test_a_missing_tree_a_file_and_an_empty_tree_are_named(tmp_path):
    assert "is missing: name a folder" in refused(tmp_path / "nowhere", FileNotFoundError)
    place(tmp_path, "file")
    assert "Not a directory" in refused(tmp_path / "file", OSError)
    (tmp_path / "empty").mkdir()
    assert "has no images (.jpg, " in refused(tmp_path / "empty", ValueError)


def test_a_class_without_images_is_named_also_where_its_name_breaks_lines(tree):
    place(tree, "n\n03/readme.txt")
    assert "n\\n03' has no images" in refused(tree, ValueError)


def test_a_class_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    place(tmp_path, "tree/n01/1.jpg")
    place(tmp_path, "tree/n02/1.jpg")
    (tmp_path / "tree" / "n02").chmod(0)
    monkeypatch.chdir(tmp_path)  # so that another user need not pass through the folders above
    tmp_path.chmod(0o755)
    root = os.geteuid() == 0
    try:
        os.seteuid(65534 if root else os.geteuid())
        assert "n02 cannot be read (Permission denied)" in refused(Path("tree"), OSError)
    finally:
        os.seteuid(0 if root else os.geteuid())
        (tmp_path / "tree" / "n02").chmod(0o755)


@pytest.mark.parametrize("target", ["..", "../..", "../n01", "../../tree/n02"])
def test_links_that_lead_back_are_named(tree, target):
    (tree / "n01" / "up").mkdir()
    (tree / "n01" / "up" / "link").symlink_to(Path("..") / target)
    if target == "../../tree/n02":
        (tree / "n02" / "back").symlink_to("../n01")
    assert "leads back to a folder above it: remove the link" in refused(tree, ValueError)


def test_links_to_themselves_and_to_nothing_are_named(tree):
    (tree / "n01" / "nothing.jpg").symlink_to("nowhere.jpg")
    assert "nothing.jpg cannot be read (No such file" in refused(tree, OSError)
    (tree / "n01" / "nothing.jpg").unlink()
    (tree / "n03").symlink_to("not mounted")
    assert "n03 cannot be read (No such file" in refused(tree, OSError)
    (tree / "n03").unlink()
    (tree / "n01" / "self").symlink_to("self")
    assert "self cannot be read (Too many levels" in refused(tree, OSError)


def test_images_beside_class_folders_and_a_class_name_that_is_no_text_are_named(tree):
    stray = place(tree, "stray.jpg")
    assert "has images (stray.jpg, 1 in all) beside class folders (n0" in refused(tree, ValueError)
    os.unlink(stray)
    place(tree, b"caf\xe9/1.jpg")
    assert "rename it, its name is not UTF-8" in refused(tree, ValueError)


def test_an_index_without_some_images_is_another_one_and_no_class_may_vanish(tree):
    found = index.scan(tree)
    fewer = index.keep(found, np.array([True, False, True, True, True, True]))
    assert paths(fewer) == [b"n01/10.JPEG", b"n01/a.JPEG", *paths(found)[3:]]
    (tree / "n01" / "9.JPEG").unlink()
    assert fewer.fingerprint == index.scan(tree).fingerprint != found.fingerprint
    with pytest.raises(ValueError, match="tree: no images are left of n02"):
        index.keep(found, np.array([True] * 3 + [False] * 3))


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "seconds", "shown"), [(Terminal, 1.1, True), (Terminal, 0.9, False), (io.StringIO, 1.1, False)]
)
def test_a_bar_shows_after_a_second_and_only_to_someone(monkeypatch, stream, seconds, shown):
    clock = [100.0]
    monkeypatch.setattr("tqdm.std.time", lambda: clock[0])
    monkeypatch.setattr("sys.stderr", stream())
    for _ in index.watched(range(3), True, name="train", unit="class"):
        clock[0] += seconds / 3
    assert ("train" in sys.stderr.getvalue()) == shown


# Classes of two trees


def test_classes_match_by_name_whatever_the_order_and_classes_too_many_are_left_out():
    labels = index.match_classes(["n01", "n02"], ["n02", "n09", "n01"])
    assert labels.tolist() == [1, -1, 0] and labels.dtype == np.int32


def test_several_classes_of_a_mapping_may_be_one():
    mapping = {"q0001": "n02", "q0002": "n02", "q0003": "n07"}
    assert index.match_classes(["n01", "n02"], ["n01", "q0001", "q0002", "q0003"], mapping=mapping).tolist() == [
        0,
        1,
        1,
        -1,
    ]


def test_classes_without_counterpart_are_named_with_their_number():
    real = [f"n{number:02d}" for number in range(8)]
    with pytest.raises(ValueError) as caught:
        index.match_classes(real, ["n07", "tench"])
    assert str(caught.value) == (
        "7 of 8 classes have no counterpart among the other images: n00, n01, n02, n03, n04, ... (7 in all); classes "
        "there that match none: tench; give a mapping or leave these classes out"
    )


def test_webvision_says_what_its_folders_are(tmp_path):
    synsets = tmp_path / "synsets.txt"
    synsets.write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n")
    assert index.webvision_classes(synsets) == {"0": "n01440764", "1": "n01443537"}
    (tmp_path / "queries_synsets_map.txt").write_text("1 1\n2 2\n1631 1\n")
    classes = index.webvision_classes(synsets)
    assert [classes[name] for name in ("q0001", "q0002", "q1631")] == ["n01440764", "n01443537", "n01440764"]
    assert index.match_classes(["n01440764"], ["q0001", "q0002", "q1631"], mapping=classes).tolist() == [0, -1, 0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("synsets.txt", "n01440764 tench\ntench\n", r"synsets\.txt, line 2: expected `n01440764 tench, \.\.\.`"),
        ("queries_synsets_map.txt", "1 one\n", r"map\.txt, line 1: expected"),
        ("queries_synsets_map.txt", "7 2\n", r"map\.txt: query 7 is of line 2, and .*synsets\.txt has 1"),
    ],
)
def test_wrong_lines_of_webvision_are_named(tmp_path, name, text, message):
    (tmp_path / "synsets.txt").write_text("n01440764 tench\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        index.webvision_classes(tmp_path / "synsets.txt")
