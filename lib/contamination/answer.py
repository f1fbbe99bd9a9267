"""The study's question answered in two sentences, with numbers computed from the runs."""

from typing import NamedTuple

import pandas as pd

from contamination.results import by_seed, metric, points
from contamination.statistics import Interval, interval, paired_difference
from contamination.study import Run, Study


class Answer(NamedTuple):
    """sentences: plain text. runs: the points of the grid whose results.csv rows the numbers come from."""

    sentences: list[str]
    runs: list[Run]


def answer(table: pd.DataFrame, study: Study) -> Answer:
    """Say what replacing real images by generated ones does to the first model that has any, beside the two controls.

    The first generated set is compared at the largest ratio at which every arm is defined, at the smallest, and at 1.
    """
    accuracy = metric(table, "accuracy")
    generated_for = [point.model for point in points(study) if point.arm == "generated"]
    if not generated_for:
        return Answer(["This study has no arm with generated images."], [])
    mine = [point for point in points(study) if point.model == generated_for[0]]
    ratio = common_ratio(study)
    clean = mine[0]
    at_ratio = {point.arm: point for point in reversed(mine) if point.ratio == ratio}
    generated = [point for point in mine if (point.arm, point.source) == at_ratio["generated"][2:4]]
    values = {point: by_seed(accuracy, point) for point in mine}
    sentences = [_loss(study, values, clean, generated, ratio), _controls(study, values, clean, at_ratio)]
    used = [clean, generated[0], *at_ratio.values(), generated[-1]]
    return Answer(sentences, list(dict.fromkeys(used)))


def common_ratio(study: Study) -> float:
    """The largest ratio at which every arm of the study is defined; 1 where there is no other."""
    below = [ratio for ratio in study.grid.ratios if 0 < ratio < 1]
    return max(below if below and "dropped" in study.grid.arms else study.grid.ratios)


def _loss(study: Study, values: dict, clean: Run, generated: list[Run], ratio: float) -> str:
    """generated: the points of one generated set, by ratio."""
    confidence = study.plot.confidence
    before = interval(list(values[clean].values()))
    changes = {point.ratio: paired_difference(values[clean], values[point], confidence) for point in generated}
    after = interval(list(next(values[point] for point in generated if point.ratio == ratio).values()))
    change = changes[ratio]
    verb = "lowers" if change.high < 0 else "raises" if change.low > 0 else "does not measurably change"
    text = (
        f"Replacing {100 * ratio:g} % of the real training images by generated ones ({generated[0].source}) {verb} the "
        f"test accuracy of {clean.model}: from {_percent(before)} to {_percent(after)}, "
        f"{_points(change, confidence)}, paired over {change.n} seeds"
    )
    if generated[0].ratio < ratio:
        text += f"; at {100 * generated[0].ratio:g} % the change is {_points(changes[generated[0].ratio], confidence)}"
    if generated[-1].ratio == 1 > ratio:
        text += f"; generated images alone give {_percent(interval(list(values[generated[-1]].values())))}"
    return text + "."


def _controls(study: Study, values: dict, clean: Run, at_ratio: dict[str, Run]) -> str:
    confidence, parts = study.plot.confidence, []
    if "other_real" in at_ratio:
        change = paired_difference(values[clean], values[at_ratio["other_real"]], confidence)
        parts.append(f"other real images in the same slots change it by {_points(change, confidence)}")
    if "dropped" in at_ratio:
        change = paired_difference(values[clean], values[at_ratio["dropped"]], confidence)
        gain = paired_difference(values[at_ratio["dropped"]], values[at_ratio["generated"]], confidence)
        verdict = "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not measurably different from"
        parts.append(
            f"leaving the slots empty changes it by {_points(change, confidence)}: here generated images are "
            f"{verdict} none, {_points(gain, confidence)}"
        )
    if not parts:
        return "This study has no control arm, so what is due to generated images cannot be told from fewer real ones."
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _percent(level: Interval) -> str:
    return f"{100 * level.mean:.1f} %"


def _points(change: Interval, confidence: float) -> str:
    """A change in points with its interval, with a true minus sign."""
    span = f"{100 * confidence:g} % interval {100 * change.low:+.1f} to {100 * change.high:+.1f}"
    text = f"{100 * change.mean:+.1f} points ({span if change.n > 1 else 'one seed, no interval'})"
    return text.replace("-", "\u2212")
