"""What the paper says, statement by statement, and whether this study's results bear it out.

Every statement has a rule that sees intervals alone. A statement with several effects (models, generated sets) is
supported or contradicted where every one of them says so, and else not decided.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from contamination.answer import direction, number
from contamination.findings import captioning, pretraining
from contamination.results import by_seed, metric, over_shifted_sets, points
from contamination.statistics import Interval, difference, interval, paired_difference
from contamination.study import Run, Study

SUPPORTED, CONTRADICTED, NOT_DECIDED = "supported here", "contradicted here", "not decided"
CLASSIFICATION = "classification"
MARGIN = 0.05  # of precision: a loss below it counts as none
USEFUL = 0.75  # accuracy of a detector, where guessing gives 0.5
POOL = ("other_real", "pool")
SCORES = {name: captioning.WORDS[name] for name in ("cider", "bleu_4", "rouge_l", "meteor")}


class Effect(NamedTuple):
    """A number that a rule looks at.

    percent: a change of a share of 1, printed in points; else of a plain number. level: the share itself, no change.
    """

    name: str
    interval: Interval
    percent: bool = True
    level: bool = False


Cases = Iterator[tuple[Effect, ...]]  # the effects that a rule looks at together, in one tuple


class Statement(NamedTuple):
    """A statement of the paper with its rule.

    source: how the paper's claim is known. words: the rule as the report prints it. decide: the rule itself, from the
    intervals of one case to a verdict. cases: the effects in a table. absent: the reason where there are none.
    """

    sentence: str
    source: str
    words: str
    decide: Callable[..., str]
    cases: Callable[[pd.DataFrame, Study], Cases]
    absent: str


class Judgement(NamedTuple):
    """A statement judged. reason: why nothing was measured; empty where something was."""

    statement: str
    source: str
    rule: str
    effects: list[Effect]
    verdict: str
    reason: str


def judge(table: pd.DataFrame, study: Study) -> list[Judgement]:
    """Every statement of the paper, judged by the rows of results.csv."""
    return [_judgement(statement, list(statement.cases(table, study))) for statement in STATEMENTS]


def words(effect: Effect) -> tuple[str, str]:
    """An effect and its interval with n, as the notebook and the report print them."""
    factor, sign, digits, unit = (100, "+", 1, " points") if effect.percent else (1, "+", 2, "")
    if effect.level:
        sign, unit = "", " %"
    mean, low, high = (number(factor * value, f"{sign}z.{digits}f") for value in effect.interval[:3])
    n = effect.interval.n
    return f"{mean}{unit}", f"{low} to {high}, n={n}" if n > 1 else "one seed, no interval"


def _judgement(statement: Statement, cases: list[tuple[Effect, ...]]) -> Judgement:
    verdicts = [statement.decide(*(effect.interval for effect in case)) for case in cases]
    effects = [effect for case in cases for effect in case]
    reason = "" if cases else statement.absent
    return Judgement(statement.sentence, statement.source, statement.words, effects, together(verdicts), reason)


def together(verdicts: list[str]) -> str:
    """The verdict that all share; not decided where they differ or where there is none."""
    return verdicts[0] if len(set(verdicts)) == 1 else NOT_DECIDED


# The rules. An interval with NaN for ends, that of a single seed, is on neither side of anything.


def falls(change: Interval) -> str:
    """A statement that something becomes less."""
    return direction(change, SUPPORTED, CONTRADICTED, NOT_DECIDED)


def helps(change: Interval) -> str:
    """A statement that something becomes more."""
    return direction(change, CONTRADICTED, SUPPORTED, NOT_DECIDED)


def inside(recall: Interval, precision: Interval) -> str:
    """That images cover a part and leave it no more than real ones do; recall and precision minus those of the pool."""
    if recall.high < 0 and precision.low > -MARGIN:
        return SUPPORTED
    return CONTRADICTED if recall.low > 0 or precision.high < -MARGIN else NOT_DECIDED


def weak(accuracy: Interval) -> str:
    """That a detector is of little use."""
    if accuracy.high < USEFUL:
        return SUPPORTED
    return CONTRADICTED if accuracy.low > USEFUL else NOT_DECIDED


# The effects, each from the rows of one metric on one split.


def _slopes(table: pd.DataFrame, study: Study) -> Cases:
    """The change of accuracy per unit of ratio, fitted to each seed on its own."""
    rows = metric(table, CLASSIFICATION, "accuracy")
    for name, curve in _curves(study, CLASSIFICATION):
        ratios = [0.0] + [point.ratio for point in curve]
        values = [by_seed(rows, point) for point in (curve[0].clean, *curve)]
        seeds = sorted(set.intersection(*map(set, values)))
        slopes = [np.polyfit(ratios, [each[seed] for each in values], 1)[0] for seed in seeds]
        if slopes:
            yield (Effect(name, interval(slopes, study.plot.confidence)),)


def _beyond_other_real(table: pd.DataFrame, study: Study) -> Cases:
    rows, (arm, source) = metric(table, CLASSIFICATION, "accuracy"), POOL
    for name, last in _largest(study, CLASSIFICATION):
        other = last._replace(arm=arm, source=source)
        yield from _paired(name, by_seed(rows, other), by_seed(rows, last), study)


def _robustness(table: pd.DataFrame, study: Study) -> Cases:
    return _against_clean(over_shifted_sets(table), study, CLASSIFICATION)


def _captions(table: pd.DataFrame, study: Study) -> Cases:
    for score, label in SCORES.items():
        rows = metric(table, captioning.TASK, score)
        yield from _against_clean(rows, study, captioning.TASK, f", {label}", percent=False)
    rows = metric(table, captioning.TASK, "right_all")
    yield from _against_clean(rows, study, captioning.TASK, ", wholly right")


def _variety(table: pd.DataFrame, study: Study) -> Cases:
    return _against_clean(metric(table, "generation", "recall"), study, "generation")


def _place(table: pd.DataFrame, study: Study) -> Cases:
    """Recall and precision of each generated set minus those of the pool, in the features of each extractor."""
    recall, precision = (_intervals(metric(table, "measure", name, "train")) for name in ("recall", "precision"))
    for key in recall:
        extractor, arm, source = key
        real = (extractor, *POOL)
        if arm == "generated" and real in recall:
            yield (
                Effect(f"{extractor}, {source}, recall", difference(recall[real], recall[key])),
                Effect(f"{extractor}, {source}, precision", difference(precision[real], precision[key])),
            )


def _prompts(table: pd.DataFrame, study: Study) -> Cases:
    """Over all ratios, as one alone may be where nothing is left to lose."""
    rows, curves = metric(table, CLASSIFICATION, "accuracy"), _curves(study, CLASSIFICATION)
    for _, plain in curves:
        for name, varied in curves:
            names = [curve[0].source for curve in (plain, varied)]
            (first, one), (second, other) = ((study.grid.generated[name], study.generate_of(name)) for name in names)
            alike = plain[0].model == varied[0].model and first.guidance == second.guidance and one == other
            if alike and (first.style, second.style) == ("class_name", "varied"):
                means = (_over_ratios(rows, curve) for curve in (plain, varied))
                yield from _paired(f"{name} against {plain[0].source}", *means, study)


def _over_ratios(rows: pd.DataFrame, curve: list[Run]) -> dict[int, float]:
    """The mean over the points of a curve, of each seed that all of them have."""
    return pd.DataFrame([by_seed(rows, point) for point in curve]).mean(skipna=False).dropna().to_dict()


def _spectrum(table: pd.DataFrame, study: Study) -> Cases:
    """Accuracy of the detector by spectrum on every generated set that it was tested on."""
    for tested in study.grid.generated:
        for (detector, arm, trained), found in _intervals(metric(table, "detect", "accuracy", tested)).items():
            if (detector, arm) == ("spectrum", "generated"):
                seen = "trained on it" if trained == tested else f"trained on {trained}"
                yield (Effect(f"{tested}, {seen}", found, level=True),)


def _remedy(table: pd.DataFrame, study: Study) -> Cases:
    for measure, label in pretraining.MEASURES.items():
        rows, untrained = (metric(table, pretraining.TASK, name) for name in (measure, f"{measure}_untrained"))
        for name, last in _largest(study, pretraining.TASK):
            yield from _paired(f"{name}, {label}", by_seed(untrained, last.clean), by_seed(rows, last), study)


def _curves(study: Study, task: str) -> list[tuple[str, list[Run]]]:
    """The points of each generated set of each model of a task, by rising ratio, under the name of both."""
    curves: dict[str, list[Run]] = {}
    for point in points(study, task) if task in study.grid.tasks else []:
        if point.arm == "generated":
            curves.setdefault(f"{point.model}, {point.source}", []).append(point)
    return list(curves.items())


def _largest(study: Study, task: str) -> list[tuple[str, Run]]:
    """The point of the largest ratio of each generated set of each model.

    All arms and sets of a task share their ratios, but for `dropped`: the largest of one is the largest of all.
    """
    return [(f"{name} at {100 * curve[-1].ratio:g} %", curve[-1]) for name, curve in _curves(study, task)]


def _against_clean(rows: pd.DataFrame, study: Study, task: str, ending: str = "", percent: bool = True) -> Cases:
    """The change from ratio 0 to the largest ratio for every generated set. ending: of the effects' names."""
    for name, last in _largest(study, task):
        yield from _paired(f"{name}{ending}", by_seed(rows, last.clean), by_seed(rows, last), study, percent)


def _paired(name: str, before: dict, after: dict, study: Study, percent: bool = True) -> Cases:
    """The case of `after - before`, paired by seed; none where they share no seed."""
    if before.keys() & after.keys():
        yield (Effect(name, paired_difference(before, after, study.plot.confidence), percent),)


def _intervals(rows: pd.DataFrame) -> dict[tuple[str, str, str], Interval]:
    """The stored intervals of a measure of image sets, by (model, arm, source)."""
    found = {}
    for row in rows.itertuples():
        if math.isnan(row.low) or math.isnan(row.high):
            raise ValueError(f"{row.task}: {row.metric} of {row.source} has no interval in results.csv: make it again")
        found[row.model, row.arm, row.source] = Interval(row.value, row.low, row.high, row.n)
    return found


BELOW = "supported when every interval lies wholly below 0, contradicted when every one lies wholly above"
ABOVE = "supported when every interval lies wholly above 0, contradicted when every one lies wholly below"
FIGURE = "read off a published figure"

STATEMENTS = [
    Statement(
        "The more training images are generated, the worse classification gets.",
        FIGURE,
        f"Slope of the test accuracy on the ratio, by least squares for each seed, per 100 % replaced: {BELOW}.",
        falls,
        _slopes,
        "no classification with generated images in these results",
    ),
    Statement(
        "Generated images cost classification more than other real images in their place.",
        FIGURE,
        "Test accuracy with generated images minus that with other real images, at the largest ratio, paired by seed: "
        f"{BELOW}.",
        falls,
        _beyond_other_real,
        "no classification with both generated and other real images in these results",
    ),
    Statement(
        "Accuracy falls on images of another distribution too.",
        "read",
        f"Mean accuracy over the shifted test sets, largest ratio minus ratio 0, paired by seed: {BELOW}.",
        falls,
        _robustness,
        "no classification of shifted test sets with generated images in these results",
    ),
    Statement(
        "Image captioning gets worse by several measures.",
        "read",
        f"Each of the scores {', '.join(SCORES.values())} and the share of wholly right captions, as far as measured, "
        f"largest ratio minus ratio 0, paired by seed: {BELOW}.",
        falls,
        _captions,
        "no captioning with generated images in these results",
    ),
    Statement(
        "Image generators trained on generated images make less diverse images.",
        "read",
        f"Recall of their samples, largest ratio minus ratio 0, paired by seed: {BELOW}.",
        falls,
        _variety,
        "no image generation with generated images in these results",
    ),
    Statement(
        "Generated images lie mostly inside a part of the real distribution.",
        "read",
        "Recall and precision of each generated set minus those of the pool, other real images "
        "(a generator and a feature network of the study's own have learned from these): supported "
        f"when in every set recall is lower and precision not lower by more than {100 * MARGIN:g} points (a margin of "
        "our choice), contradicted when in every set recall is higher or precision lower by more than that, each with "
        "its whole interval.",
        inside,
        _place,
        "no precision and recall of generated images beside the pool's in these results",
    ),
    Statement(
        "Varied prompts help.",
        "read",
        "Test accuracy with varied prompts minus that with class names as prompts, at the same guidance, as the mean "
        f"over all ratios above 0, paired by seed: {ABOVE}.",
        helps,
        _prompts,
        "no model with both varied and class-name prompts at one guidance in these results",
    ),
    Statement(
        "Detecting generated images by their frequency spectrum is of little use.",
        "read",
        "Balanced accuracy of the detector by spectrum on the set it learned from and on sets it has not seen: "
        f"supported when every interval lies wholly below {100 * USEFUL:g} %, fewer than three in four told rightly "
        "(a bound of our choice), contradicted when every one lies wholly above.",
        weak,
        _spectrum,
        "no detection by spectrum in these results",
    ),
    Statement(
        "Self-supervised pre-training is a remedy (the paper tried it; its judgement was not seen).",
        "read, secondary source",
        "A remedy is what still helps: test accuracy after pre-training on the images of the largest ratio minus that "
        "of the same network without pre-training, both given the same real labelled images, fine-tuned and by linear "
        f"probe, paired by seed: {ABOVE}.",
        helps,
        _remedy,
        "no pre-training on generated images in these results",
    ),
]
