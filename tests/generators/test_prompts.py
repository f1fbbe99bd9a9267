"""Prompts: three styles, each a function of the slot alone."""

import hashlib
import json

import numpy as np
import pytest
from contamination.generators import prompts
from contamination.sources import digits, readable_names
from hypothesis import given
from hypothesis import strategies as st


def test_class_name_prompts_say_photo_of():
    assert prompts.write_prompts("class_name", ["three", "tea_pot"], captions=["", ""], slots=[0, 1], seed=0) == [
        "photo of three",
        "photo of tea pot",
    ]


def test_caption_prompts_are_the_captions_as_text():
    odd = ["<script>alert(1)</script>", "say \"three\" & 'two'"]
    assert prompts.write_prompts("caption", ["a", "b"], captions=odd, slots=[0, 1], seed=0) == odd


def test_diverse_prompts_use_all_parts_of_the_papers_template():
    names, slots = ["three"] * 2000, list(range(2000))
    written = prompts.write_prompts("diverse", names, captions=[""] * 2000, slots=slots, seed=0)
    for part in (*prompts.PREFIXES, *prompts.MEDIUMS, *prompts.SUFFIXES, *readable_names.DIGITS["three"]):
        assert any(part in prompt for prompt in written)
    assert "photo of three" in written
    assert all("  " not in prompt and prompt == prompt.strip() for prompt in written)


def test_the_digits_prompts_are_those_of_every_earlier_run():
    names, slots = list(digits.CLASS_NAMES) * 60, list(range(600))
    written = prompts.write_prompts("diverse", names, captions=[""] * 600, slots=slots, seed=0)
    assert written[:4] == [
        "atmospheric realistic drawing of nought without background",
        "zoomed realistic drawing of one without background",
        "rendered realistic drawing of two taken with iPhone",
        "high quality realistic drawing of 3 outside",
    ]
    for seed, mark in ((0, "2e992e34747ae111"), (7, "0120b65c2c87b2cd"), (2**40, "49751fc82162a891")):
        text = "\n".join(prompts.write_prompts("diverse", names, captions=[""] * 600, slots=slots, seed=seed))
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == mark
    plain = prompts.write_prompts("class_name", names, captions=[""] * 600, slots=slots, seed=0)
    assert plain == [f"photo of {name}" for name in names]


@given(st.integers(0, 2**70), st.integers(0, 2**31), st.sampled_from(["three", "n01484850", "tea_pot"]))
def test_a_diverse_prompt_is_what_numpys_choice_draws(seed, slot, name):
    rng = np.random.default_rng([seed, 1, slot])
    prefix, medium, suffix = rng.choice(prompts.PREFIXES), rng.choice(prompts.MEDIUMS), rng.choice(prompts.SUFFIXES)
    synonym = rng.choice(readable_names.readable([name])[name].synonyms)
    expected = " ".join(part for part in (prefix, medium, "of", synonym, suffix) if part)
    assert prompts.write_prompts("diverse", [name], captions=[""], slots=[slot], seed=seed) == [expected]


def test_classes_of_imagenet_are_asked_for_in_words():
    names = ["n01484850"] * 400
    assert prompts.write_prompts("class_name", names[:1], captions=[""], slots=[0], seed=0) == [
        "photo of great white shark"
    ]
    written = prompts.write_prompts("diverse", names, captions=[""] * 400, slots=list(range(400)), seed=0)
    words = ("great white shark", "of white shark", "man-eater", "man-eating shark", "Carcharodon carcharias")
    counts = [sum(word in prompt for prompt in written) for word in words]
    assert sum(counts) == 400 and min(counts) > 50  # 80 expected of each, standard deviation 8


def test_own_names_reach_the_prompts_and_not_the_captions(project):
    (project / "names.json").write_text(json.dumps({"n03126707": ["construction crane", "tower crane"]}))
    names, captions, slots = ["n02012849", "n03126707"] * 50, ["a crane"] * 100, list(range(100))
    plain = prompts.write_prompts("class_name", names, captions=captions, slots=slots, seed=0, names_file="names.json")
    assert plain[:2] == ["photo of crane", "photo of construction crane"]
    varied = prompts.write_prompts("diverse", names, captions=captions, slots=slots, seed=0, names_file="names.json")
    assert all(any(name in prompt for name in ("construction crane", "tower crane")) for prompt in varied[1::2])
    assert varied[::2] == prompts.write_prompts("diverse", names, captions=captions, slots=slots, seed=0)[::2]
    assert (
        prompts.write_prompts("caption", names, captions=captions, slots=slots, seed=0, names_file="names.json")
        == captions
    )


def test_a_slots_prompt_does_not_depend_on_the_other_slots():
    whole = prompts.write_prompts("diverse", ["three"] * 9, captions=[""] * 9, slots=list(range(9)), seed=5)
    assert prompts.write_prompts("diverse", ["three"] * 3, captions=[""] * 3, slots=[4, 5, 6], seed=5) == whole[4:7]


def test_an_unknown_style_is_one_clear_line():
    with pytest.raises(ValueError, match="'poem' is not known: give one of class_name, diverse, caption"):
        prompts.write_prompts("poem", ["three"], captions=[""], slots=[0], seed=0)
