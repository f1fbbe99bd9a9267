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
    """Say what replacing real images by generated ones does to the first model, beside the two controls.

    The first generated set is compared at the largest ratio at which every arm is defined, and at ratio 1.
    """
    accuracy = metric(table, "accuracy")
    mine = [point for point in points(study) if point.model == next(iter(study.grid.models))]
    ratio = common_ratio(study)
    clean = mine[0]
    at_ratio = {point.arm: point for point in reversed(mine) if point.ratio == ratio}
    generated = at_ratio.get("generated")
    if generated is None:
        return Answer(["This study has no arm with generated images."], [])
    values = {point: by_seed(accuracy, point) for point in mine}
    first = _loss(study, values[clean], values[generated], generated)
    whole = generated._replace(ratio=1.0)
    if whole in values and ratio < 1:
        first = (
            first[:-1]
            + f"; with nothing but generated images it is {_percent(interval(list(values[whole].values())))}."
        )
    second = _controls(study, values, clean, generated, at_ratio)
    used = [clean, generated, *([whole] if whole in values else []), *(at_ratio[arm] for arm in at_ratio)]
    return Answer([first, second], list(dict.fromkeys(used)))


def common_ratio(study: Study) -> float:
    """The largest ratio at which every arm of the study is defined."""
    ratios = [ratio for ratio in study.grid.ratios if ratio < 1 or "dropped" not in study.grid.arms]
    return max(ratios)


def _loss(study: Study, clean: dict[int, float], generated: dict[int, float], point: Run) -> str:
    before, after = interval(list(clean.values())), interval(list(generated.values()))
    change = paired_difference(clean, generated, study.plot.confidence)
    verb = "lowers" if change.high < 0 else "raises" if change.low > 0 else "does not measurably change"
    return (
        f"Replacing {100 * point.ratio:g} % of the real training images by generated ones ({point.source}) {verb} the "
        f"test accuracy of {point.model}: from {_percent(before)} to {_percent(after)}, a change of "
        f"{_points(change, study.plot.confidence)}, paired over {change.n} seeds."
    )


def _controls(study: Study, values: dict, clean: Run, generated: Run, at_ratio: dict[str, Run]) -> str:
    confidence, parts = study.plot.confidence, []
    if "other_real" in at_ratio:
        change = paired_difference(values[clean], values[at_ratio["other_real"]], confidence)
        parts.append(f"other real images in the same slots change it by {_points(change, confidence)}")
    if "dropped" in at_ratio:
        change = paired_difference(values[clean], values[at_ratio["dropped"]], confidence)
        gain = paired_difference(values[at_ratio["dropped"]], values[generated], confidence)
        verdict = "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not measurably different from"
        parts.append(
            f"leaving the slots empty changes it by {_points(change, confidence)}, so here generated images are "
            f"{verdict} none ({_points(gain, confidence)})"
        )
    if not parts:
        return "This study has no control arm, so what is due to generated images cannot be told from fewer real ones."
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _percent(level: Interval) -> str:
    return f"{100 * level.mean:.1f} %"


def _points(change: Interval, confidence: float) -> str:
    """A change in points with its interval, with a true minus sign."""
    low, high = f"{100 * change.low:+.1f}", f"{100 * change.high:+.1f}"
    text = f"{100 * change.mean:+.1f} points ({100 * confidence:g} % interval {low} to {high})"
    return text.replace("-", "\u2212")
