"""Captioning: exact match, and the scores that compare captions with the real ones word by word."""

import pandas as pd

from contamination.report import figures, results
from contamination.report.sections import Figure, PrimaryMetric

TASK = "captioning"
RIGHT = {
    "exact_match": "exact match (%)",
    "correct_class": "class correct (%)",
    "correct_foreground": "foreground correct (%)",
    "correct_background": "background correct (%)",
}
WORDS = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "meteor": "METEOR",
    "spice": "SPICE",
}


def primary(table: pd.DataFrame) -> PrimaryMetric:
    if _present(table, RIGHT):
        return PrimaryMetric("exact_match", "exact match of the test captions (all attributes correct)", percent=True)
    return PrimaryMetric("cider", "CIDEr of the test captions", percent=False)


def draw(table: pd.DataFrame, study) -> list[Figure]:
    rows = table[table["task"] == TASK]
    palette, drawn = figures.colors(table), []
    for model in study.models_of(TASK):
        mine = rows[rows["model"] == model]
        if _present(mine, RIGHT):
            drawn.append(_right(mine, study, model, palette))
        drawn.append(_words(mine, study, model, palette))
    return drawn


def sentences(table: pd.DataFrame, study) -> list[str]:
    """How captions are compared, and which scores are missing, so that nobody looks for them."""
    counts = {name: len(results.metric(table, TASK, name=name)) for name in WORDS}
    absent = [label for name, label in WORDS.items() if not counts[name]]
    partial = [label for name, label in WORDS.items() if 0 < counts[name] < counts["bleu_1"]]
    found = [
        "All scores see captions in the same words: lower case, runs of letters and digits, no punctuation "
        "(contamination.metrics.captions.tokenize, not the PTB tokenizer). CIDEr is CIDEr-D; ROUGE-L weighs precision "
        "and recall alike. They can be compared with each other, but not with published values."
    ]
    if absent:
        found.append(f"Absent: {', '.join(absent)}; Java, pycocoevalcap or their files are missing, or failed.")
    if partial:
        found.append(f"Missing for some runs, because they failed there: {', '.join(partial)}.")
    return found


def _present(table: pd.DataFrame, names) -> list[str]:
    return [name for name in names if not results.metric(table, TASK, name=name).empty]


def _right(rows, study, model, palette) -> Figure:
    panels = []
    for name in _present(rows, RIGHT):
        values = results.in_percent(results.metric(rows, TASK, name=name))
        panels.append(figures.Panel(values, RIGHT[name], "test captions (%)", bounds=figures.PERCENT))
    figure = figures.small_multiples(panels, 2, palette=palette, confidence=study.plot.confidence, share_scale=True)
    return Figure(
        f"captions-right-{model}",
        figure,
        f"Share of {model}'s captions of real test images that name the right class, foreground, background, and all. "
        "Dots: single seeds; markers: means with their confidence interval.",
    )


def _words(rows, study, model, palette) -> Figure:
    panels = [
        figures.Panel(results.metric(rows, TASK, name=name), WORDS[name], WORDS[name]) for name in _present(rows, WORDS)
    ]
    figure = figures.small_multiples(panels, 3, palette=palette, confidence=study.plot.confidence)
    return Figure(
        f"captions-scores-{model}",
        figure,
        f"Scores of {model}'s captions against the real ones: higher is better. Each panel has its own scale.",
    )
