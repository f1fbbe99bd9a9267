"""Caption scores: against sacrebleu, pycocoevalcap and plain formulas; odd captions never stop them."""

import shutil
import unicodedata

import pytest
import sacrebleu
import torch
from contamination.metrics import captions
from hypothesis import given, settings
from hypothesis import strategies as st

torch.set_num_threads(1)
BASIC = {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"}
words = st.sampled_from(["a", "red", "dog", "on", "the", "grass", "don't", "三"])
sentences = st.lists(words, max_size=9)
pairs = st.lists(st.tuples(sentences, st.lists(sentences, min_size=1, max_size=4)), min_size=1, max_size=8)
DOGS = ["a red dog on the grass", "two cats sleep under a table", "the blue bird sings all day long"]


def split(found) -> tuple[list, list]:
    said, meant = zip(*found, strict=True)
    return list(said), list(meant)


def join(sentences_of_words) -> list[str]:
    return [" ".join(sentence) for sentence in sentences_of_words]


@pytest.fixture
def no_java(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def values(rows: list[dict]) -> dict:
    return {row["metric"]: row["value"] for row in rows}


@pytest.mark.medium
@given(pairs, st.integers(1, 4))
def test_bleu_is_that_of_sacrebleu(found, order):
    said, meant = split(found)
    # sacrebleu reads the references by column; a row that lacks one is filled with None.
    columns = [[join(several)[i] if i < len(several) else None for several in meant] for i in range(4)]
    reference = sacrebleu.BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
    expected = reference.corpus_score(join(said), columns).score / 100
    assert captions.bleu(said, meant, order) == pytest.approx(expected, abs=2e-6)  # torchmetrics has float32


def test_cider_of_references_without_a_word_is_0():
    assert captions.cider([["a"], []], [[[]], [[], []]]) == 0


def common_length(first, second) -> int:
    if not first or not second:
        return 0
    if first[0] == second[0]:
        return 1 + common_length(first[1:], second[1:])
    return max(common_length(first[1:], second), common_length(first, second[1:]))


@pytest.mark.medium
@given(st.lists(st.tuples(st.lists(words, max_size=5), st.lists(st.lists(words, max_size=5), min_size=1, max_size=3))))
def test_rouge_l_is_the_best_f_measure_of_the_longest_common_subsequence(found):
    if found:
        best = [
            max(2 * common_length(one, other) / max(1, len(one) + len(other)) for other in several)
            for one, several in found
        ]
        assert captions.rouge_l(*split(found)) == pytest.approx(sum(best) / len(best), abs=1e-6)


@pytest.mark.medium
@given(pairs, st.randoms())
def test_neither_the_order_of_images_nor_that_of_references_matters(found, random):
    said, meant = split(found)
    moved = [(one, random.sample(several, len(several))) for one, several in random.sample(found, len(found))]
    for measure in (captions.cider, captions.rouge_l, lambda *both: captions.bleu(*both, 2)):
        assert measure(*split(moved)) == pytest.approx(measure(said, meant), abs=1e-6)


@pytest.mark.medium
@given(st.lists(pairs, min_size=2, max_size=3))
def test_rouge_l_of_a_whole_is_the_mean_of_its_parts(parts):
    whole = [pair for part in parts for pair in part]
    mean = sum(len(part) * captions.rouge_l(*split(part)) for part in parts) / len(whole)
    assert captions.rouge_l(*split(whole)) == pytest.approx(mean, abs=1e-6)


def test_identical_captions_reach_the_maximum(no_java):
    found = values(captions.score(DOGS, [[caption] for caption in DOGS]))
    assert found == pytest.approx(dict.fromkeys(BASIC, 1.0) | {"cider": 10.0}, rel=1e-6)


def test_captions_without_a_common_word_score_nothing(no_java):
    assert set(values(captions.score(["x y z"] * 3, [[caption] for caption in DOGS])).values()) == {0.0}


def test_an_empty_caption_scores_nothing_in_its_image(no_java):
    references = [[caption] for caption in DOGS]
    one, all_three = (values(captions.score(said, references)) for said in ([DOGS[0], "", "..."], DOGS))
    for name in ("rouge_l", "cider"):  # the means over images
        assert one[name] == pytest.approx(all_three[name] / 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A red Dog, on the grass!", ["a", "red", "dog", "on", "the", "grass"]),
        ("it's the dogs' 'bed'", ["it's", "the", "dogs", "bed"]),
        ("IT’S <b>2</b>\n“dogs”|||a_b", ["it's", "b", "2", "b", "dogs", "a", "b"]),
        ("两只狗 on 草地。", ["两", "只", "狗", "on", "草", "地"]),
        ("Straße, naïve, नमस्ते, собака", ["straße", "naïve", "नमस्ते", "собака"]),
        ("강아지 두 마리", ["강아지", "두", "마리"]),
        ("❤️ '' -- \u0301 \ud800", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_digits_and_apostrophes(text, expected):
    assert captions.tokenize(text) == expected


@given(st.text())
def test_tokenizing_twice_or_in_another_unicode_form_changes_nothing(text):
    found = captions.tokenize(text)
    assert captions.tokenize(" ".join(found)) == found
    assert captions.tokenize(unicodedata.normalize("NFD", text)) == found
    assert " ".join(found).split() == found


@pytest.mark.medium
@given(st.lists(st.tuples(st.text(), st.lists(st.text(), min_size=1, max_size=3)), min_size=1, max_size=5))
@settings(max_examples=30)
def test_any_text_has_defined_scores(found):
    said, meant = split(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        rows = captions.score(said, meant)
    assert {row["metric"] for row in rows} == BASIC
    assert all(0 <= row["value"] <= 10.001 and row["n"] == len(said) for row in rows)


ODD = ["", "a dog\n\n||| a cat |||", "<p>a 'dog'</p>" * 50, "a " * 2000, "两只狗", '"a dog"', "EVAL ||| 1", "\ud800"]


def test_odd_captions_have_defined_scores(no_java):
    rows = captions.score(ODD, [["a dog", ""], *[[text] for text in ODD[:-1]]])
    assert {row["metric"] for row in rows} == BASIC
    assert all(0 <= row["value"] <= 10 for row in rows)


def test_without_java_two_metrics_are_named_and_have_no_rows(no_java):
    rows = captions.score(DOGS, [[caption] for caption in DOGS])
    assert set(values(rows)) == BASIC
    assert set(captions.absent()) == {"meteor", "spice"}


def test_without_the_package_two_metrics_are_named(monkeypatch):
    monkeypatch.setattr(captions.importlib.util, "find_spec", lambda name: None)
    assert captions.absent() == dict.fromkeys(["meteor", "spice"], "the package pycocoevalcap is not installed")


def test_a_failing_java_makes_a_metric_absent_with_what_it_said(monkeypatch, tmp_path):
    pytest.importorskip("pycocoevalcap.cider.cider")
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(values(captions.score(DOGS, [[caption] for caption in DOGS]))) == BASIC
    assert captions.absent()["meteor"] == "failed: no memory"
    assert "stanford-corenlp-3.6.0-models.jar" in captions.absent()["spice"]


def short(text: str) -> str:
    return " ".join(captions.tokenize(text)[: captions.METEOR_WORDS])


@pytest.mark.slow  # Java reads its table of paraphrases for several seconds
@pytest.mark.skipif(not shutil.which("java"), reason="needs Java")
def test_meteor_is_that_of_pycocoevalcap_and_takes_odd_captions():
    meteor = pytest.importorskip("pycocoevalcap.meteor.meteor")
    said, meant = [*DOGS, *ODD], [[DOGS[0], "the dog"], [DOGS[1]], [DOGS[0]], *[[text, "a dog"] for text in ODD]]
    found = values(captions.score(said, meant))
    assert "meteor" not in captions.absent()
    reference = meteor.Meteor()
    sets = (
        {i: [short(text) for text in several] for i, several in enumerate(meant)},
        {i: [short(text)] for i, text in enumerate(said)},
    )
    assert found["meteor"] == pytest.approx(reference.compute_score(*sets)[0], abs=1e-9)
    assert 0 < found["meteor"] <= 1


@pytest.mark.parametrize(
    ("said", "meant", "told"),
    [
        ([], [], "0 captions and references of 0 images"),
        (["a", "b"], [["a"]], "2 captions and references of 1 images"),
        (["a", "b", "c"], [["a"], [], []], "2 images have no reference caption, the first at position 1"),
    ],
)
def test_what_cannot_be_scored_is_told_in_one_line(said, meant, told):
    with pytest.raises(ValueError, match=told):
        captions.score(said, meant)
