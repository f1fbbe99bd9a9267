"""Classification: accuracy, which classes lose most, OOD test sets, calibration."""

import pandas as pd
from matplotlib import pyplot as plt

from contamination import sources
from contamination.base import plotting
from contamination.metrics.intervals import interval, paired_difference
from contamination.mixtures import arms
from contamination.mixtures.replicates import Replicate
from contamination.report import figures, results
from contamination.report.sections import Figure, PrimaryMetric
from contamination.report.summary import change_in_words, common_ratio, direction, first_generated, level, levels
from contamination.study.study import Run

TASK = "classification"
OF_CLASS = "accuracy of "  # and the name of a class: a metric of its own
BASELINE = "svm_accuracy"  # of a support vector machine, see contamination.tasks.classification.baseline
FAR_BEHIND = 0.1  # below it, a network that few images are too few for


def primary(table: pd.DataFrame) -> PrimaryMetric:
    return PrimaryMetric("accuracy", "test accuracy", percent=True)


def draw(table: pd.DataFrame, study) -> list[Figure]:
    rows = table[table["task"] == TASK]
    palette, models = figures.colors(table), list(study.models_of(TASK))
    drawn = [_accuracy(rows, study, models, palette), _classes(rows, study, models)]
    if not results.ood(rows).empty:
        drawn += [_robustness(rows, study, model, palette) for model in models]
    return [*drawn, _calibration(rows, study, models[0], palette)]


def sentences(table: pd.DataFrame, study) -> list[str]:
    """Whether the recipe can be trusted with few images, and what happens on the OOD test sets."""
    return [*_few_images(table, study), *_on_ood_sets(table, study)]


def _few_images(table: pd.DataFrame, study) -> list[str]:
    """Networks with the fewest real images beside a machine without any, which a recipe should not fall far behind."""
    empty = [point for point in results.points(study, TASK) if arms.of(point.arm).leaves_slots_empty]
    accuracy, machine = (results.metric(table, TASK, name=name) for name in ("accuracy", BASELINE))
    if not empty or machine.empty:
        return []
    unit, parts, behind = primary(table), [], []
    for point in (point for point in empty if point.ratio == max(each.ratio for each in empty)):
        network, baseline = (results.by_replicate(rows, point) for rows in (accuracy, machine))
        gap = paired_difference(baseline, network, study.plot.confidence)
        parts.append(
            f"{point.model} {level(network, unit)}, {change_in_words(gap, study.plot.confidence, primary=unit)}"
        )
        behind += [point.model] if gap.mean < -FAR_BEHIND else []
    text = (
        f"With {results.percent(results.replaced(table, point))} of the slots left empty, a support vector machine on "
        f"gray pixels of the same real images reaches {level(baseline, unit)}; compared with {'; '.join(parts)}"
    )
    caution = "more than 10 points behind, so what generated images gain over empty slots owes part to the recipe"
    return [f"{text}. {' and '.join(behind)}: {caution}." if behind else f"{text}."]


def _on_ood_sets(table: pd.DataFrame, study) -> list[str]:
    """The change of the mean accuracy over the OOD test sets, beside that on the ordinary one."""
    generated, rows = first_generated(study, TASK), results.ood(table[table["task"] == TASK])
    if generated is None or rows.empty:
        return []
    left_out = at_floor(table, study, generated.clean)
    sizes = rows[~rows["split"].isin(left_out)].groupby("split")["n"].max()
    if sizes.empty:
        return [f"OOD test sets: none can show a loss for {generated.model}; {floors_in_words(left_out)}."]
    confidence, unit = study.plot.confidence, primary(table)
    ood = _before_and_after(over_sets(table, left_out), generated)
    ordinary = _before_and_after(results.metric(table, TASK, name="accuracy"), generated)
    change, beside = (paired_difference(*pair, confidence) for pair in (ood, ordinary))
    more = paired_difference(_differences(*ordinary), _differences(*ood), confidence)
    verb = direction(change, "falls", "rises", "does not measurably change")
    text = (
        f"Out-of-distribution (OOD) test sets: over {len(sizes)} set{'s' if len(sizes) > 1 else ''} ({sizes.min()} to "
        f"{sizes.max()} images each, severities counted) the mean accuracy of {generated.model} {verb} at "
        f"{results.percent(results.replaced(table, generated))} ({generated.source}): from {levels(*ood, unit)}, "
        f"{change_in_words(change, confidence, primary=unit)}; on the ordinary test set it changes by "
        f"{change_in_words(beside, confidence, primary=unit)}, and the former minus the latter is "
        f"{change_in_words(more, confidence, primary=unit)}"
    )
    return [f"{text}; {floors_in_words(left_out)}." if left_out else f"{text}."]


def at_floor(table: pd.DataFrame, study, clean: Run) -> list[str]:
    """The OOD test sets on which a model trained on real images alone is not shown to be above twice chance.

    There it has too little to lose for a loss to say anything. Chance is that of guessing among all classes of the
    ordinary test set; where a set has only some of them, it is higher than that.
    """
    of_classes = table[(table["task"] == TASK) & table["metric"].str.startswith(OF_CLASS)]
    classes, rows = of_classes["metric"].nunique(), results.ood(table)
    values = {name: results.by_replicate(part, clean) for name, part in rows.groupby("split", sort=False)}
    found = {name: interval(list(each.values()), study.plot.confidence) for name, each in values.items() if each}
    return [name for name, each in found.items() if not (each.low if each.is_given else each.mean) * classes > 2]


def over_sets(table: pd.DataFrame, left_out: list[str]) -> pd.DataFrame:
    """The mean accuracy of every run over the OOD test sets that are not left out."""
    rows = table[(table["task"] == TASK) & (table["metric"] == "accuracy")]
    return results.over_ood_sets(rows[~rows["split"].str.split("/").str[0].isin(left_out)])


def floors_in_words(left_out: list[str]) -> str:
    return f"without {', '.join(left_out)}, where a model trained on real images alone is not above twice chance"


def _before_and_after(rows: pd.DataFrame, generated: Run) -> tuple[dict[Replicate, float], dict[Replicate, float]]:
    return results.by_replicate(rows, generated.clean), results.by_replicate(rows, generated)


def _differences(before: dict[Replicate, float], after: dict[Replicate, float]) -> dict[Replicate, float]:
    return {seed: after[seed] - before[seed] for seed in before.keys() & after.keys()}


def _accuracy(rows, study, models, palette) -> Figure:
    accuracy = results.in_percent(results.metric(rows, TASK, name="accuracy"))
    label, bounds = "test accuracy on real images (%)", figures.PERCENT
    panels = [figures.Panel(accuracy[accuracy["model"] == model], model, label, bounds=bounds) for model in models]
    figure = figures.small_multiples(panels, 2, palette=palette, confidence=study.plot.confidence, share_scale=True)
    return Figure(
        "accuracy",
        figure,
        "Test accuracy on real images against the share of real training images removed. Dots: single seeds; markers: "
        "means with their confidence interval (Student's t over seeds).",
    )


def _classes(rows, study, models) -> Figure:
    ratio = common_ratio(study, TASK)
    shown = sources.shown_as(study.layout)
    figure, axs = plt.subplots(len(models), 1, figsize=(8.5, 2.6 * len(models) + 0.4), squeeze=False)
    for ax, model in zip(axs[:, 0], models, strict=True):
        change = results.change_per_class(rows, study, model=model, ratio=ratio)
        change.index = [figures.label_of(arm, source) for arm, source in change.index]
        most = _most_hurt(change).rename(columns=shown)
        part = f", {most.shape[1]} worst of {change.shape[1]:,}" if most.shape < change.shape else ""
        figures.change_heatmap(ax, most)
        ax.set_title(f"{model}: change of accuracy per class at ratio {ratio:g}, against ratio 0{part}")
    caption = (
        "Change of accuracy per class, means over seeds, paired; in brackets where the "
        f"{100 * study.plot.confidence:g} % interval has 0 in it."
    )
    return Figure("classes", figure, caption)


def _most_hurt(change: pd.DataFrame) -> pd.DataFrame:
    """The columns of the classes that lose most, on average over the rows; all where there are few."""
    if change.shape[1] <= plotting.READABLE:
        return change
    return change[change.map(lambda each: each.mean).mean().nsmallest(plotting.READABLE).index]


def _robustness(rows, study, model, palette) -> Figure:
    ood = results.in_percent(results.ood(rows[rows["model"] == model]))
    panels = [
        figures.Panel(ood[ood["split"] == name], name, "accuracy (%)", bounds=figures.PERCENT)
        for name in ood["split"].unique()
    ]
    figure = figures.small_multiples(panels, 3, palette=palette, confidence=study.plot.confidence, share_scale=True)
    return Figure(
        f"robustness-{model}",
        figure,
        f"Accuracy of {model} on each OOD test set, as the mean over its severities.",
    )


def _calibration(rows, study, model, palette) -> Figure:
    labels = {"negative_log_likelihood": "negative log-likelihood (nats)", "calibration_error": "calibration error"}
    panels = []
    for name, label in labels.items():
        values = results.metric(rows, TASK, name=name)
        panels.append(figures.Panel(values[values["model"] == model], model, label))
    figure = figures.small_multiples(panels, 2, palette=palette, confidence=study.plot.confidence)
    return Figure("calibration", figure, f"Likelihood and calibration of {model}: lower is better.")
