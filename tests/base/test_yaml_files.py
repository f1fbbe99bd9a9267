"""Parameter files are read by the rules of YAML 1.2, and nothing in them is lost without a word."""

import json

import pytest
from contamination.base import yaml_files
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(st.characters(max_codepoint=0xD7FF), max_size=5)  # JSON writes others as two halves, which YAML keeps
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def reading(tmp_path, content):
    file = tmp_path / "file.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return yaml_files.read(file)


@given(content=st.dictionaries(TEXT, VALUES, max_size=5))
def test_json_is_read_as_what_it_says(tmp_path_factory, content):
    text = json.dumps(content)  # with spaces behind colons, as YAML wants them
    assert reading(tmp_path_factory.mktemp("yaml"), text) == content


@given(number=st.floats(allow_nan=False, allow_infinity=False), form=st.sampled_from("efg"))
def test_a_number_is_a_number_however_it_is_written(tmp_path_factory, number, form):
    text = format(number, f".17{form}")
    assert reading(tmp_path_factory.mktemp("yaml"), f"rate: {text}") == {"rate": float(text)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-1", 0.1),
        ("2E3", 2000.0),
        (".5", 0.5),
        ("010", 10),
        ("08", 8),
        ("0o10", 8),
        ("0x1F", 31),
        ("-7", -7),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("2026-11-29", "2026-11-29"),
        ("1.0.0", "1.0.0"),
        ('"no"', "no"),
        ("'1_000'", "1_000"),
    ],
)
def test_a_value_is_what_yaml_1_2_says(tmp_path, text, value):
    found = reading(tmp_path, f"key: {text}")["key"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["no", "Yes", "ON", "off", "1_000", "1:30", "0b11", "[1, yes]", "{a: {b: off}}"])
def test_a_value_that_other_readers_take_for_something_else_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"^line 2: .* is a text in YAML 1.2"):
        reading(tmp_path, f"other: 1\nkey: {text}")


def test_a_name_may_be_a_word_that_yaml_1_1_took_for_false(tmp_path):
    assert reading(tmp_path, "no: 1\non: 2") == {"no": 1, "on": 2}


@pytest.mark.parametrize("content", ["a: 1\nb: 2\na: 3", "a:\n  x: 1\n{b}a: 3", '"a": 1\n\na: 2', "k: {a: 1, a: 1}"])
def test_a_key_given_twice_is_refused_with_both_lines(tmp_path, content):
    content = content.replace("{b}", "b: 1\n")
    lines = [number for number, line in enumerate(content.splitlines(), 1) if "a" in line.split(":")[0] or "{a" in line]
    with pytest.raises(ValueError, match=f"line {lines[-1]}: a is given twice, first in line {lines[0]}"):
        reading(tmp_path, content)


def test_keys_that_are_equal_are_the_same_key(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: 0x1 is given twice, first in line 1"):
        reading(tmp_path, "1: a\n0x1: b")


@pytest.mark.parametrize(
    "content", ["a: 1\nb:", "a: 1\nb:   # nothing yet", "a: 1\nb: {c: , d: 1}", "a: 1\nb: [1, {c: }]"]
)
def test_a_key_without_a_value_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"line 2: [bc] has no value"):
        reading(tmp_path, content)


def test_an_anchor_may_be_merged_and_given_otherwise(tmp_path):
    assert reading(tmp_path, "a: &one {x: 1, y: 2}\nb: {<<: *one, y: 3}")["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_encoding_changes_nothing(tmp_path, encoding, end):
    assert reading(tmp_path, f"title: Ändert{end}b: 1{end}".encode(encoding)) == {"title": "Ändert", "b": 1}


@pytest.mark.parametrize(
    "content", [b"title: \xc4ndert", b"a: \x00", b"\ta: 1", b"a: b: c", b"a: [1", b"a: *b", b"[" * 5000]
)
def test_what_is_not_yaml_is_one_line(tmp_path, content):
    with pytest.raises(ValueError, match="not") as problem:
        reading(tmp_path, content)
    assert "\n" not in str(problem.value)
