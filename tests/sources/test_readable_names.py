"""What classes are called, a user's own names, and what the audit finds before any image is made."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from contamination.sources import digits, readable_names
from hypothesis import given
from hypothesis import strategies as st

INFO = Path(importlib.util.find_spec("timm").origin).parent / "data" / "_info"
IMAGENET = sorted((INFO / "imagenet_synsets.txt").read_text().split())


def found(findings, kind) -> dict[str, dict]:
    return {finding["name"]: finding for finding in findings if finding["kind"] == kind}


# Names


def test_every_class_of_imagenet_has_words_and_a_definition_equal_to_timms_own():
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    classes = readable_names.readable(IMAGENET)
    assert set(classes) == set(info.label_names())
    for folder, called in classes.items():
        described = f"{', '.join(called.synonyms)}: {called.definition}"
        assert described == info.label_name_to_description(folder, detailed=True)
        assert called.name == called.synonyms[0] and called.definition


def test_a_wordnet_id_is_called_by_the_first_of_its_words():
    assert readable_names.readable(["n01440764"])["n01440764"] == (
        "tench",
        ("tench", "Tinca tinca"),
        "freshwater dace-like game fish of Europe and western Asia noted for ability to survive outside water",
    )


def test_other_folders_are_called_as_they_are_and_digits_keep_their_synonyms():
    classes = readable_names.readable(["golden_retriever", "left hand", "three", "n1", "n99999999"])
    assert classes["golden_retriever"] == ("golden retriever", ("golden retriever",), "")
    assert classes["left hand"].name == "left hand"
    assert classes["three"].synonyms == ("three", "3")
    assert classes["n1"].name == "n1" and classes["n99999999"].name == "n99999999"
    assert tuple(readable_names.DIGITS) == digits.CLASS_NAMES


@pytest.mark.medium
@given(st.sets(st.sampled_from(IMAGENET), min_size=1, max_size=20))
def test_a_class_is_called_the_same_whichever_other_classes_there_are(names):
    whole = readable_names.readable(IMAGENET)
    assert readable_names.readable(list(names)) == {name: whole[name] for name in names}


@pytest.mark.medium
def test_names_and_audit_need_no_heavy_package():
    code = (
        "import sys; from contamination.sources import readable_names; readable_names.audit(['n01440764', 'zero'])\n"
        "assert not {'torch', 'timm', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# A user's own names


def write(project, name, content) -> str:
    (project / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return name


def test_csv_and_json_say_the_same(project):
    lines = 'folder,name,synonyms\nn03126707,construction crane,"tower crane; hoist, with hook"\ncat, Katze \n'
    table = write(project, "names.csv", "\ufeff" + lines)
    words = {"n03126707": ["construction crane", "tower crane", "hoist, with hook"], "cat": ["Katze"]}
    assert readable_names.load(table) == readable_names.load(write(project, "names.json", words))
    assert readable_names.load(str(project / table)) == {folder: tuple(each) for folder, each in words.items()}
    assert readable_names.load(write(project, "two.csv", "folder,name\ncat,Katze\n")) == {"cat": ("Katze",)}


def test_own_names_have_the_last_word_and_leave_the_rest_alone(project):
    file = write(project, "names.json", {"n03126707": ["construction crane", "construction crane"], "zero": ["nil"]})
    classes = readable_names.readable(["n03126707", "n02012849", "zero", "one"], file)
    assert classes["n03126707"].synonyms == ("construction crane",)
    assert classes["n03126707"].definition.startswith("lifts and moves heavy objects")
    assert [classes[name].name for name in ("n02012849", "zero", "one")] == ["crane", "nil", "one"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.txt", "", r"names\.txt: give a \.csv or a \.json"),
        ("names.csv", "", r"names\.csv, line 1: expected the columns folder,name"),
        ("names.csv", "folder;name\ncat;Katze\n", "line 1: expected the columns folder,name"),
        ("names.csv", "folder,name\ncat,Katze,Kater\n", "line 2: too many columns: separate synonyms by semicolons"),
        ("names.csv", "folder,name\ncat,Katze\ndog, \n", "line 3: expected a folder, a name"),
        ("names.csv", "folder,name\n,Katze\n", "line 2: expected a folder, a name"),
        ("names.csv", "folder,name\ncat\n", "line 2: expected a folder, a name"),
        ("names.csv", "folder,name\ncat,Katze\ncat,Kater\n", "line 3: the folder cat stands here twice"),
        ("names.json", "{", r"names\.json is not valid JSON: .*line 1 column 2"),
        ("names.json", '["cat"]', "expected an object"),
        ("names.json", '{"cat": "Katze"}', "folder 'cat': expected a folder, a name"),
        ("names.json", '{"cat": []}', "folder 'cat': expected a folder, a name"),
        ("names.json", '{"cat": ["Katze", 3]}', "folder 'cat': expected a folder, a name"),
        ("names.json", '{"cat": {"name": "Katze"}}', "folder 'cat': expected a folder, a name"),
        ("names.json", '{"cat": ["Katze"], "cat": ["Kater"]}', "the folder cat stands here twice"),
    ],
)
def test_a_wrong_names_file_is_one_line_that_says_where(project, name, content, message):
    with pytest.raises(ValueError, match=message) as error:
        readable_names.load(write(project, name, content))
    assert "\n" not in str(error.value)


def test_a_names_file_that_is_missing_or_no_text_is_named(project):
    with pytest.raises(FileNotFoundError, match=r"names file .*nowhere\.csv is missing"):
        readable_names.load("nowhere.csv")
    (project / "names.csv").write_bytes(b"folder,name\ncat,K\xe4tzchen\n")
    with pytest.raises(ValueError, match=r"names\.csv is not UTF-8 text"):
        readable_names.load("names.csv")


# The audit


def test_the_audit_of_imagenet_finds_what_is_known_of_it():
    findings = readable_names.audit(IMAGENET)
    assert Counter(finding["kind"] for finding in findings) == {
        "same name": 4,
        "another's name": 7,
        "shared synonym": 9,
        "other sort of thing": 63,
        "other meaning": 120,
    }
    same = found(findings, "same name")
    assert list(same) == ["crane", "Cardigan / cardigan", "maillot", "sunglass / sunglasses"]
    assert same["crane"]["classes"] == ["n02012849", "n03126707"]
    assert same["maillot"]["suggestion"] == "n03710721: tank suit"
    assert found(findings, "another's name")["missile"]["suggestion"].endswith("synonyms of n04008634")
    assert {"panther", "panda"} <= set(found(findings, "shared synonym"))
    assert found(findings, "other sort of thing")["mouse"]["suggestion"] == "computer mouse"


def test_a_suggested_name_is_no_other_classs_and_no_other_synsets():
    classes = readable_names.readable(IMAGENET)
    for finding in readable_names.audit(IMAGENET):
        if finding["kind"] in ("other sort of thing", "other meaning") and finding["suggestion"]:
            called = readable_names.readable(IMAGENET)[finding["classes"][0]]
            assert finding["suggestion"] in called.synonyms[1:]
            owners = [name for name, each in classes.items() if finding["suggestion"] in each.synonyms]
            assert owners == finding["classes"]


def test_following_the_audit_leaves_no_two_classes_with_one_name(project):
    own = {
        "n03126707": ["construction crane"],
        "n02012849": ["crane bird"],
        "n02113186": ["Cardigan Welsh corgi"],
        "n03710721": ["tank suit"],
        "n04355933": ["burning glass"],
    }
    findings = readable_names.audit(IMAGENET, write(project, "names.json", own))
    assert not found(findings, "same name") and not found(findings, "no such class")


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("", "no name"),
        ("_", "no name"),
        ("0007", "no name"),
        ("n99999999", "no name"),
        ("tea\u200bpot", "unprintable name"),
        ("tea\npot", "unprintable name"),
        ("x" * 101, "long name"),
    ],
)
def test_a_name_that_a_prompt_cannot_use_is_found(folder, kind):
    findings = readable_names.audit(["golden_retriever", folder])
    assert [finding["kind"] for finding in findings] == [kind] and findings[0]["classes"] == [folder]


def test_an_ordinary_folder_is_ambiguous_from_its_second_meaning_on():
    assert readable_names.audit(["golden_retriever", "computer_mouse", "no word of WordNet"]) == []
    assert [finding["name"] for finding in readable_names.audit(["mouse"])] == ["mouse"]
    assert [finding["kind"] for finding in readable_names.audit(["partridge"])] == ["other meaning"]


def test_the_digits_have_nothing_to_object_to():
    assert readable_names.audit(list(digits.CLASS_NAMES)) == []


def test_folders_of_a_names_file_that_are_no_classes_are_one_finding(project):
    file = write(project, "names.json", {"cta": ["house cat"], "ship": ["sailing ship"], "gdo": ["house dog"]})
    strangers = found(readable_names.audit(["cat", "ship"], file), "no such class")
    assert [finding["classes"] for finding in strangers.values()] == [["cta", "gdo"]]


def test_captions_that_are_empty_long_or_repeated_are_found():
    captions = ["A dog.", " ", "a  dog.", "word " * 61, "word " * 60, "", "A cat."]
    findings = readable_names.audit_captions(captions)
    assert [(finding["kind"], finding["rows"]) for finding in findings] == [
        ("empty caption", [1, 5]),
        ("long caption", [3]),
        ("same caption", [0, 2]),
    ]
    assert readable_names.audit_captions(["A dog.", "A cat."]) == []


def test_the_sentence_counts_and_the_table_has_a_row_for_each_finding():
    findings = readable_names.audit(IMAGENET)
    assert readable_names.sentence(findings[:5], "1,000 class names") == (
        "Of 1,000 class names, to be looked at before any image is made: same name (4), another's name (1)."
    )
    assert readable_names.sentence([], "10 class names").endswith("made: none.")
    table = readable_names.table(findings)
    assert len(table) == len(findings)
    assert table["classes"][0] == "n02012849, n03126707"
    many = readable_names.table(readable_names.audit_captions(["a dog"] * 8))
    assert many["rows"][0] == "0, 1, 2, 3, 4 and 3 more"


def test_letters_that_no_font_has_are_named_in_one_line():
    assert readable_names.unshown(["cat", "été", "n01440764"]) == []
    (line,) = readable_names.unshown(["\U000f0000 cat", *map(chr, range(0xF0001, 0xF0020))])
    assert "U+F0000" in line and "and 12 more" in line
