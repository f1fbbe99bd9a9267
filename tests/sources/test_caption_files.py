"""A caption belongs to the file that its line means, whichever program has written it."""

import csv
import io
import json
import unicodedata

import pytest
from contamination.sources import caption_files
from hypothesis import given
from hypothesis import strategies as st

NAMES = ["a/1.png", "a/été.png", "b c/犬 [1].png"]
FORMS = st.sampled_from(["utf-8", "utf-8-sig"])


def lines_of(names: list[str], end: str, blank: bool) -> str:
    lines = [json.dumps({"file_name": name, "text": f"of {name}"}, ensure_ascii=False) for name in names]
    return end.join([*lines[:1], "", *lines[1:], "", ""] if blank else lines)


def table_of(names: list[str], end: str, mark: str) -> str:
    stream = io.StringIO()
    rows = csv.writer(stream, lineterminator=end, delimiter=mark)
    rows.writerows([("file_name", "text"), *((name, f"of {name}") for name in names)])
    return stream.getvalue()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


@given(
    encoding=FORMS,
    end=st.sampled_from(["\n", "\r\n"]),
    blank=st.booleans(),
    start=st.sampled_from(["", "./"]),
    slash=st.sampled_from("/\\"),
    accents=st.sampled_from(["NFC", "NFD"]),
    mark=st.sampled_from([None, ",", ";", "\t"]),
)
def test_names_and_lines_may_be_written_as_any_program_does(tree, encoding, end, blank, start, slash, accents, mark):
    for name in caption_files.NAMES:
        (tree / name).unlink(missing_ok=True)
    written = [unicodedata.normalize(accents, start + name.replace("/", slash)) for name in NAMES]
    text = table_of(written, end, mark) if mark else lines_of(written, end, blank)
    (tree / caption_files.NAMES[bool(mark)]).write_bytes(text.encode(encoding))
    found = caption_files.read(tree)
    assert found == {name: [f"of {given}"] for name, given in zip(NAMES, written, strict=True)}


def test_a_backslash_that_is_part_of_a_name_stays(tmp_path):
    (tmp_path / "a\\1.png").touch()
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a\\1.png", "text": "x"}))
    assert caption_files.read(tmp_path) == {"a\\1.png": ["x"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", b'{"file_name": "a"}', 'line 1: expected {"file_name"'),
        ("metadata.jsonl", b'\n\n["a"]', "line 3: expected"),
        ("metadata.jsonl", '{"file_name": "a", "text": "é"}'.encode("latin-1"), "is not UTF-8 text"),
        ("metadata.csv", b"name,text\na,b", "line 1: expected the columns file_name and text, found 'name,text'"),
        ("metadata.csv", b"file_name,text\na", "line 2: expected as many values as columns"),
        ("metadata.csv", b"file_name,text\na,b,c", "line 2: expected as many values as columns"),
    ],
)
def test_what_is_no_caption_is_one_line_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as problem:
        caption_files.read(tmp_path)
    assert message in str(problem.value) and "\n" not in str(problem.value)


def test_of_two_files_of_captions_none_is_taken(tmp_path):
    for name in caption_files.NAMES:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="keep one of them"):
        caption_files.file_of(tmp_path)
