"""Prompts: three styles, each a function of the slot alone."""

import pytest
from contamination import prompts


def test_class_name_prompts_say_photo_of():
    assert prompts.write_prompts("class_name", ["three", "tea_pot"], ["", ""], [0, 1], 0) == [
        "photo of three",
        "photo of tea pot",
    ]


def test_caption_prompts_are_the_captions_as_text():
    odd = ["<script>alert(1)</script>", "say \"three\" & 'two'"]
    assert prompts.write_prompts("caption", ["a", "b"], odd, [0, 1], 0) == odd


def test_varied_prompts_use_all_parts_of_the_papers_template():
    names, slots = ["three"] * 2000, list(range(2000))
    written = prompts.write_prompts("varied", names, [""] * 2000, slots, 0)
    for part in (*prompts.PREFIXES, *prompts.MEDIUMS, *prompts.SUFFIXES, *prompts.SYNONYMS["three"]):
        assert any(part in prompt for prompt in written)
    assert "photo of three" in written
    assert all("  " not in prompt and prompt == prompt.strip() for prompt in written)


def test_a_slots_prompt_does_not_depend_on_the_other_slots():
    whole = prompts.write_prompts("varied", ["three"] * 9, [""] * 9, list(range(9)), 5)
    assert prompts.write_prompts("varied", ["three"] * 3, [""] * 3, [4, 5, 6], 5) == whole[4:7]


def test_an_unknown_style_is_one_clear_line():
    with pytest.raises(ValueError, match="'poem' is not known: give one of class_name, varied, caption"):
        prompts.write_prompts("poem", ["three"], [""], [0], 0)
