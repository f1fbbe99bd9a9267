"""The study's question answered in a few sentences per task, with numbers computed from the runs."""

from typing import NamedTuple

import pandas as pd

from contamination.metrics.intervals import FEWEST, Interval
from contamination.mixtures import arms
from contamination.report.results import metric, percent, points, replaced
from contamination.report.scores import Scores, of_run
from contamination.study.study import Run, Study

NEAR_ONE = 0.9  # above it an accuracy hides how many errors there are: 97 to 96 % is a third more of them


class Answer(NamedTuple):
    """sentences: plain text. runs: the points of the grid whose results.csv rows the numbers come from."""

    sentences: list[str]
    runs: list[Run]


def answer(table: pd.DataFrame, study: Study, *, task: str, primary) -> Answer:
    """Say what replacing real images by generated ones does to the first model that has any, and what was held fixed.

    Three sentences: the loss, the controls, and what no interval covers. The first main set is compared at the
    largest ratio at which every arm is defined, at the smallest, and at 1.
    primary: the measure, as `sections.PrimaryMetric`.
    """
    first = first_generated(study, task)
    if first is None:
        return Answer(["This study has no arm with generated images."], [])
    mine = [point for point in points(study, task) if point.model == first.model]
    clean = mine[0]
    at_ratio = {point.arm: point for point in reversed(mine) if point.ratio == first.ratio} | {first.arm: first}
    generated = [point for point in mine if (point.arm, point.source) == (first.arm, first.source)]
    rows = metric(table, task, name=primary.metric)
    values = {point: of_run(rows, point) for point in mine}
    sentences = [
        _loss(study, rows, values, clean, generated, first.ratio, primary),
        _controls(study, values, clean, first, at_ratio, primary),
        _held_fixed(study, task, rows),
    ]
    used = [clean, generated[0], *at_ratio.values(), generated[-1]]
    return Answer(sentences, list(dict.fromkeys(used)))


def common_ratio(study: Study, task: str) -> float:
    """The largest ratio at which every arm of a task is defined; 1 where there is no other."""
    chosen = study.grid.of(task)
    below = [ratio for ratio in chosen.ratios if 0 < ratio < 1]
    return max(below if below and not all(arms.of(arm).at_one for arm in chosen.arms) else chosen.ratios)


def first_generated(study: Study, task: str, *, model: str | None = None, ratio: float | None = None) -> Run | None:
    """The first main set of a model, or of the first that has any, at a ratio; without one at the common ratio."""
    ratio = common_ratio(study, task) if ratio is None else ratio
    sets = study.main_sets()
    made = [point for point in points(study, task) if point.source in sets and point.ratio == ratio]
    mine = [point for point in made if model in (None, point.model)]
    mine = [point for point in mine if point.model == mine[0].model]
    return min(mine, key=lambda point: sets.index(point.source), default=None)


def direction(change: Interval, down: str, up: str, neither: str) -> str:
    """The word for a change, decided by its interval: without one, for a single seed, it is neither."""
    return down if change.high < 0 else up if change.low > 0 else neither


def number(value: float, form: str) -> str:
    """A number as text, with a true minus sign."""
    return format(value, form).replace("-", "\u2212")


def change_in_words(change: Interval, confidence: float, *, primary) -> str:
    """A change with its interval: in points where the measure is a share, with a true minus sign."""
    factor, digits, unit = (100, 1, " points") if primary.percent else (1, 2, "")
    mean, low, high = (number(factor * value, f"+z.{digits}f") for value in change[:3])
    span = f"{100 * confidence:g} % interval {low} to {high}" if change.is_given else change.why_none
    return f"{mean}{unit} ({span})"


def _loss(
    study: Study, rows: pd.DataFrame, values: dict, clean: Run, generated: list[Run], ratio: float, primary
) -> str:
    """rows: of the primary measure. generated: the points of one generated set, by ratio."""
    confidence, before = study.plot.confidence, values[clean]
    share = {point.ratio: percent(replaced(rows, point)) for point in generated}
    after = {point.ratio: values[point] for point in generated}
    changes = {each: scores.minus(before).interval(confidence) for each, scores in after.items()}
    in_words = {each: change_in_words(change, confidence, primary=primary) for each, change in changes.items()}
    verb = direction(changes[ratio], "lowers", "raises", "does not measurably change")
    text = (
        f"Replacing {share[ratio]} of the real training images by generated ones ({generated[0].source}) {verb} the "
        f"{primary.words} of {clean.model}: from {levels(before, after[ratio], primary)}, {in_words[ratio]}"
    )
    if changes[ratio].is_given:
        text += f", paired over {changes[ratio].n} seeds"
    smallest = generated[0].ratio
    if smallest < ratio:
        text += f"; at {share[smallest]} from {levels(before, after[smallest], primary)}, {in_words[smallest]}"
    if generated[-1].ratio == 1 > ratio:
        text += f"; generated images alone give {level(after[1], primary)}{_errors(before, after[1], primary)}"
    return text + "."


def _controls(study: Study, values: dict, clean: Run, generated: Run, at_ratio: dict[str, Run], primary) -> str:
    confidence, parts = study.plot.confidence, []
    for arm in (arm for arm in arms.ARMS.values() if arm.control and arm.name in at_ratio):
        control = values[at_ratio[arm.name]]
        change = control.minus(values[clean]).interval(confidence)
        part = f"{arm.control} {change_in_words(change, confidence, primary=primary)}"
        if arm.leaves_slots_empty:
            gain = values[generated].minus(control).interval(confidence)
            part += (
                f": for {clean.model} in this study generated images are {_comparison(gain, primary)} none, "
                f"{change_in_words(gain, confidence, primary=primary)}"
            )
        parts.append(part)
    if not parts:
        return (
            "This study has no control arm, so the effect of generated images cannot be separated from that of having "
            "fewer real ones."
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _comparison(gain: Interval, primary) -> str:
    words = ("worse than", "better than") if primary.higher_is_better else ("better than", "worse than")
    return direction(gain, *words, "not measurably different from")


def _held_fixed(study: Study, task: str, rows: pd.DataFrame) -> str:
    """What no interval covers, as every seed shares it, and what they do. rows: of the task's primary measure."""
    counted = "" if task == "generation" else f"{rows['n'].max():,} "  # there n counts the samples
    over_images, images = bool(of_run(rows, points(study, task)[0]).images), f"{counted}test images"
    fixed = [*_of_generators(study), "one split of the real images", *([] if over_images else [f"the same {images}"])]
    covered = f"{varied(study)} and the {images}" if over_images else varied(study)
    few = len(study.grid.of(task).seeds) < FEWEST
    intervals = f"fewer than {FEWEST} training seeds give no interval" if few else f"the intervals are over {covered}"
    return f"Held fixed in all of this: {', '.join(fixed)}; {intervals}."


def _of_generators(study: Study) -> list[str]:
    """What all replicates share of the generated sets."""
    drawn = study.drawn_sets()
    others = [source for source in study.generated_sets() if source not in drawn]
    if study.grid.draws == "shared" or not drawn:
        return [
            *(["one training of the generator"] if study.own_generator else []),
            "one version of each generated set",
        ]
    pretrained = [source for source in drawn if not study.uses_pretrain(source)]
    fixed = [f"the weights of the generator of {', '.join(pretrained)}"] if pretrained else []
    return fixed + ([f"one version of {', '.join(others)}"] if others else [])


def varied(study: Study) -> str:
    """What the intervals of changes are over."""
    draws, slots = study.grid.draws, study.grid.slots
    of_draw = [*(["training of the generator"] if study.own_generator else []), "noise of its images"]
    of_seed = [*(of_draw if draws == "per_seed" else []), *([] if slots else ["slots"]), "initial weights", "order"]
    crossed = [f"{len(draws)} draws of the generated sets ({', '.join(of_draw)})"] if isinstance(draws, list) else []
    crossed += [f"{len(slots)} choices of slots"] if slots else []
    seeds = f"training seeds ({', '.join(of_seed)})"
    if not crossed:
        return seeds
    return f"{seeds}, crossed with {' and '.join(crossed)}: as many share one of these, they are too narrow"


def level(scores: Scores, primary) -> str:
    """A mean over seeds: in per cent where the measure is a share."""
    return _in_its_unit([scores.mean], primary)


def levels(before: Scores, after: Scores, primary) -> str:
    """Two means over seeds, one after the other; with the errors, where an accuracy close to 1 hides them."""
    return _in_its_unit([before.mean, after.mean], primary) + _errors(before, after, primary)


def _errors(before: Scores, after: Scores, primary) -> str:
    """The errors that two shares leave, where both are close to 1."""
    wrong = [1 - before.mean, 1 - after.mean]
    if not primary.percent or max(wrong) >= 1 - NEAR_ONE:
        return ""
    return f" (errors {_in_its_unit(wrong, primary)})"


def _in_its_unit(means: list[float], primary) -> str:
    factor, form, unit = (100, ".1f", " %") if primary.percent else (1, ".2f", "")
    return " to ".join(format(factor * each, form) for each in means) + unit
