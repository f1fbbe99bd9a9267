"""Classification: accuracy, who is hurt, robustness on shifted test sets, calibration."""

import pandas as pd
from matplotlib import pyplot as plt

from contamination import figures, look, results, sources
from contamination.answer import change_in_words, common_ratio, direction, first_generated, level
from contamination.findings import Drawn, Headline
from contamination.statistics import paired_difference

TASK = "classification"


def headline(table: pd.DataFrame) -> Headline:
    return Headline("accuracy", "test accuracy", percent=True)


def draw(table: pd.DataFrame, study) -> list[Drawn]:
    rows = table[table["task"] == TASK]
    palette, models = figures.colours(table), list(study.models_of(TASK))
    drawn = [_accuracy(rows, study, models, palette), _classes(rows, study, models)]
    if not results.shifted(rows).empty:
        drawn += [_robustness(rows, study, model, palette) for model in models]
    return [*drawn, _calibration(rows, study, models[0], palette)]


def sentences(table: pd.DataFrame, study) -> list[str]:
    """What happens to the mean accuracy over the shifted test sets, beside the loss on the ordinary one."""
    generated, rows = first_generated(study, TASK), results.shifted(table[table["task"] == TASK])
    if generated is None or rows.empty:
        return []
    clean = generated.clean
    over_sets = results.over_shifted_sets(table)
    before, after = results.by_seed(over_sets, clean), results.by_seed(over_sets, generated)
    confidence, unit = study.plot.confidence, headline(table)
    change = paired_difference(before, after, confidence)
    verb = direction(change, "falls", "rises", "does not measurably change")
    ordinary = results.metric(table, TASK, "accuracy")
    beside = paired_difference(results.by_seed(ordinary, clean), results.by_seed(ordinary, generated), confidence)
    sizes = rows.groupby("split")["n"].max()
    return [
        f"Robustness: over {len(sizes)} shifted test sets ({sizes.min()} to {sizes.max()} images each, severities "
        f"counted) the mean accuracy of {generated.model} {verb} at {100 * generated.ratio:g} % ({generated.source}): "
        f"from {level(before, unit)} to {level(after, unit)}, {change_in_words(change, confidence, unit)}; on the "
        f"ordinary test set {change_in_words(beside, confidence, unit)}."
    ]


def _accuracy(rows, study, models, palette) -> Drawn:
    accuracy = results.in_percent(results.metric(rows, TASK, "accuracy"))
    panels = [
        figures.Panel(accuracy[accuracy["model"] == model], model, "test accuracy on real images (%)")
        for model in models
    ]
    figure = figures.small_multiples(panels, 2, palette, study.plot.confidence, share_scale=True)
    return Drawn(
        "accuracy",
        figure,
        "Test accuracy on real images against the share of training images taken away. Dots: single seeds; markers: "
        "means with their confidence interval (Student's t over seeds).",
    )


def _classes(rows, study, models) -> Drawn:
    ratio = common_ratio(study, TASK)
    shown = sources.shown_as(study.layout)
    figure, axs = plt.subplots(len(models), 1, figsize=(8.5, 2.6 * len(models) + 0.4), squeeze=False)
    for ax, model in zip(axs[:, 0], models, strict=True):
        change = results.change_per_class(rows, study, model, ratio)
        change.index = [figures.label_of(arm, source) for arm, source in change.index]
        most = _most_hurt(change).rename(columns=shown)
        part = f", {most.shape[1]} worst of {change.shape[1]:,}" if most.shape < change.shape else ""
        figures.class_heatmap(ax, most)
        ax.set_title(f"{model}: change of accuracy per class at ratio {ratio:g}, against ratio 0{part}")
    caption = (
        "Who is hurt: change of accuracy per class, means over seeds, paired; in brackets where the "
        f"{100 * study.plot.confidence:g} % interval has 0 in it."
    )
    return Drawn("classes", figure, caption)


def _most_hurt(change: pd.DataFrame) -> pd.DataFrame:
    """The columns of the classes that lose most, on average over the rows; all where there are few."""
    if change.shape[1] <= look.READABLE:
        return change
    return change[change.map(lambda each: each.mean).mean().nsmallest(look.READABLE).index]


def _robustness(rows, study, model, palette) -> Drawn:
    shifted = results.in_percent(results.shifted(rows[rows["model"] == model]))
    panels = [
        figures.Panel(shifted[shifted["split"] == name], name, "accuracy (%)") for name in shifted["split"].unique()
    ]
    figure = figures.small_multiples(panels, 3, palette, study.plot.confidence, share_scale=True)
    return Drawn(
        f"robustness-{model}",
        figure,
        f"Robustness of {model}: accuracy on each shifted test set, as the mean over its severities.",
    )


def _calibration(rows, study, model, palette) -> Drawn:
    labels = {"negative_log_likelihood": "negative log-likelihood (nats)", "calibration_error": "calibration error"}
    panels = []
    for name, label in labels.items():
        values = results.metric(rows, TASK, name)
        panels.append(figures.Panel(values[values["model"] == model], model, label))
    figure = figures.small_multiples(panels, 2, palette, study.plot.confidence)
    return Drawn("calibration", figure, f"Likelihood and calibration of {model}: lower is better.")
