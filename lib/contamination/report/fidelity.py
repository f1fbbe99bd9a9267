"""Whether generated images show the class that they stand for, and whether color gives it away: part of `measure`."""

import pandas as pd
from matplotlib import pyplot as plt

from contamination import sources
from contamination.base import plotting
from contamination.metrics.intervals import Interval
from contamination.report import figures, results
from contamination.report.sections import Figure, cell, set_name
from contamination.report.summary import number

STAGE = "measure"
FAITHFUL = 0.95  # class fidelity below which the first screen of a report says so


def warnings(table: pd.DataFrame, study) -> list[str]:
    """For the first screen: which sets show their class less often than they should, so that labels are wrong."""
    found = {source: _of_set(table, study, source) for source in study.generated_sets()} if study.measure else {}
    parts = [
        f"{number(100 * (1 - each.mean), '.0f')} % of the generated images of {source} ({_worst(table, study, source)})"
        for source, each in found.items()
        if each and each.mean < FAITHFUL
    ]
    if not parts:
        return []
    real = _of_set(table, study, next(iter(found)), "class_fidelity_of_real")
    return [
        f"{' and '.join(parts)} do not show their class. {_judge(table)}, which judges this, is right about "
        f"{_percent(real)} of the real images. What such a set costs is the cost of wrong labels, too."
    ]


def _of_set(table, study, source: str, name: str = "class_fidelity") -> Interval | None:
    asked: dict = {"source": source, "split": "train", "confidence": study.plot.confidence}
    return results.of_set(table, STAGE, name=name, **asked)


def _judge(table) -> str:
    return results.metric(table, STAGE, name="class_fidelity_of_real", split="train")["model"].iloc[0]


def _percent(found: Interval | None) -> str:
    assert found, "spoken of where it was measured"
    return f"{cell(found.times(100), '.1f')[0]} % ({cell(found.times(100), '.1f')[1]})"


def _worst(table, study, source: str) -> str:
    """The class of which a set has the lowest fidelity, in words."""
    of = _by_class(table, study, source, "class_fidelity")
    name = min(of, key=of.__getitem__)
    return f"worst class {sources.shown_as(study.layout)[name]}: {100 * (1 - of[name]):.0f} %"


def sentences(table, study) -> list[str]:
    """How often each set shows its class, beside the judge's accuracy on the real images."""
    parts = []
    for source in study.generated_sets() if study.judged else ():
        of = _by_class(table, study, source, "class_fidelity")
        name = min(of, key=of.__getitem__)
        worst = f"lowest {100 * of[name]:.0f} % for {sources.shown_as(study.layout)[name]}"
        parts.append(f"{source} {_percent(_of_set(table, study, source))}, {worst}")
    if not parts:
        return []
    real = _of_set(table, study, study.generated_sets()[0], "class_fidelity_of_real")
    return [
        f"Class fidelity, the share of images whose class {_judge(table)} confirms (it never meets a mixture, and is "
        f"right about {_percent(real)} of the real images): {'; '.join(parts)}."
    ]


def shortcut(table, study) -> list[str]:
    """How well two colors alone tell the class, where images are painted."""
    found = {source: _of_set(table, study, source, "class_from_colors") for _, source in study.compared_sets()}
    parts = [f"{set_name(source)} {_percent(each)}" for source, each in found.items() if each]
    if not parts:
        return []
    real = _of_set(table, study, next(iter(found)), "class_from_colors_of_real")
    return [
        "A shortcut: from the colors of background and stroke alone, without any shape, a random forest gives the "
        f"class of {_percent(real)} of the real images, and of {', of '.join(parts)}."
    ]


def in_table(table, study, *, source: str) -> tuple[str, str] | None:
    """Class fidelity with its interval and the lowest of a class."""
    found = _of_set(table, study, source)
    if found is None:
        return None
    mean, span = cell(found.times(100), ".1f")
    return mean, f"{span}, lowest class {100 * min(_by_class(table, study, source, 'class_fidelity').values()):.0f}"


def _by_class(table, study, source: str, name: str) -> dict[str, float]:
    rows = results.shown_draws(table[(table["task"] == STAGE) & (table["source"] == source)])
    means = rows.groupby("metric")["value"].mean()
    classes = {of: f"{name} of {of}" for of in sources.class_names(study.layout)}
    return {of: means[metric] for of, metric in classes.items() if metric in means.index}


def figure(table, study, sets) -> Figure:
    """Class fidelity per class of each set, below it that of the real images: where labels are wrong."""
    rows = {}
    for arm, source in sets:
        rows[figures.label_of(arm, source)] = _by_class(table, study, source, "class_fidelity")
    rows["real images of the slots"] = _by_class(table, study, sets[0][1], "class_fidelity_of_real")
    shares = pd.DataFrame.from_dict({name: row for name, row in rows.items() if row}, orient="index")
    worst = shares.min().nsmallest(plotting.READABLE).index
    shares = shares[[name for name in shares.columns if name in worst]].rename(columns=sources.shown_as(study.layout))
    figure, ax = plt.subplots(figsize=(8.5, 0.4 * len(shares) + 1.4))
    figures.share_heatmap(ax, 100 * shares, label="images that show their class (%)")
    caption = (
        f"Class fidelity per class: share of images whose class is confirmed by {_judge(table)}, a classifier that "
        "never meets a mixture; last line: its accuracy on the real images of the same slots."
    )
    return Figure("class-fidelity", figure, caption)
