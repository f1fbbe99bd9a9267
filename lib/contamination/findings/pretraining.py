"""Self-supervised pre-training: what it gives a classifier, and whether it is a remedy for contamination."""

import pandas as pd

from contamination import figures, results
from contamination.answer import change_in_words, first_generated
from contamination.findings import Drawn, Headline
from contamination.statistics import Interval, interval, paired_difference

TASK = "pretraining"
MEASURES = {"finetuned_accuracy": "fine-tuned", "probe_accuracy": "linear probe"}


def headline(table: pd.DataFrame) -> Headline:
    return Headline("finetuned_accuracy", "test accuracy after fine-tuning on clean labels", percent=True)


def draw(table: pd.DataFrame, study) -> list[Drawn]:
    return [_accuracy(table, study, model) for model in study.models_of(TASK)]


def sentences(table: pd.DataFrame, study) -> list[str]:
    """Whether pre-training is a remedy here: by how much it helps on real images, and on generated ones alone."""
    generated = first_generated(study, TASK, ratio=max(study.grid.of(TASK).ratios))
    if generated is None:
        return []
    confidence = study.plot.confidence
    clean = generated._replace(arm="clean", source="train", ratio=0.0)
    without = results.by_seed(results.metric(table, TASK, "finetuned_accuracy_untrained"), clean)
    tuned = results.metric(table, TASK, "finetuned_accuracy")
    on_real = paired_difference(without, results.by_seed(tuned, clean), confidence)
    on_generated = paired_difference(without, results.by_seed(tuned, generated), confidence)
    unit = headline(table)
    return [
        f"Against the same network without pre-training, pre-training on real images changes the accuracy after "
        f"fine-tuning by {change_in_words(on_real, confidence, unit)}; pre-training with {100 * generated.ratio:g} % "
        f"generated images by {change_in_words(on_generated, confidence, unit)}. {_verdict(on_real, on_generated)}"
    ]


def _verdict(on_real: Interval, on_generated: Interval) -> str:
    """A remedy is what still helps when the images are generated: decided by the intervals alone."""
    if on_generated.low > 0:
        return "So pre-training is a remedy here: generated images serve it where they fail as labelled examples."
    if on_real.low > 0:
        return "So pre-training helps here only as long as its images are real: it is not shown to be a remedy."
    return "So pre-training is not shown to help here, with real or with generated images, and is no remedy."


def _accuracy(table: pd.DataFrame, study, model) -> Drawn:
    rows = table[(table["task"] == TASK) & (table["model"] == model)]
    panels = []
    for name, title in MEASURES.items():
        values = results.metric(rows, TASK, name)
        without = interval(results.metric(rows, TASK, f"{name}_untrained")["value"], study.plot.confidence)
        level = (100 * without.mean, f"without pre-training, n={without.n}: {title}")
        panels.append(figures.Panel(values.assign(value=100 * values["value"]), title, "test accuracy (%)", level))
    figure = figures.small_multiples(panels, 2, figures.colours(table), study.plot.confidence)
    return Drawn(
        f"pretraining-{model}",
        figure,
        f"{model}, pre-trained on the mixture without labels, then given clean labels: test accuracy after fine-tuning "
        "and of a linear probe on its features. Dots: single seeds; markers: means with their confidence interval.",
    )
