"""Self-supervised pre-training: what it gives a classifier, and whether it is a remedy for contamination."""

import pandas as pd

from contamination import figures, results
from contamination.answer import change_in_words, first_generated
from contamination.findings import Drawn, Headline
from contamination.statistics import Interval, interval, paired_difference

TASK = "pretraining"
MEASURES = {"finetuned_accuracy": "fine-tuned", "probe_accuracy": "linear probe"}


def headline(table: pd.DataFrame) -> Headline:
    return Headline("finetuned_accuracy", "fine-tuned test accuracy", percent=True)


def draw(table: pd.DataFrame, study) -> list[Drawn]:
    return [_accuracy(table, study, model) for model in study.models_of(TASK)]


def sentences(table: pd.DataFrame, study) -> list[str]:
    """Whether pre-training is a remedy here: by how much it helps on real images, and at the largest ratio."""
    effort = study.evaluate.pretraining
    found = [
        f"Fine-tuning took {effort.steps} steps of {effort.batch_size} images, from {effort.labelled_per_class} real "
        "labelled ones of each class, the same in every arm; the probe saw all labelled real images of the train split."
    ]
    return found + [
        _remedy(table, study, model) for model in study.models_of(TASK) if first_generated(study, TASK, model)
    ]


def _remedy(table: pd.DataFrame, study, model: str) -> str:
    generated = first_generated(study, TASK, model, max(study.grid.of(TASK).ratios))
    clean = generated.clean
    confidence, unit, parts = study.plot.confidence, headline(table), []
    for name, title in MEASURES.items():
        values = results.metric(table, TASK, name)
        without = results.by_seed(results.metric(table, TASK, f"{name}_untrained"), clean)
        real, other = results.by_seed(values, clean), results.by_seed(values, generated)
        changes = [paired_difference(*pair, confidence) for pair in ((without, real), (without, other), (real, other))]
        on_real, on_generated, difference = (change_in_words(change, confidence, unit) for change in changes)
        parts.append(
            f"{title.capitalize()}, {model} gains {on_real} by pre-training on real images and {on_generated} by "
            f"pre-training with {100 * generated.ratio:g} % generated ones, a difference of {difference}: "
            f"{_verdict(*changes)}."
        )
    return "Is it a remedy, against the same network without this pre-training? " + " ".join(parts)


def _verdict(on_real: Interval, on_generated: Interval, difference: Interval) -> str:
    """In words, from the intervals alone: does pre-training still help when its images are generated, and as much?"""
    if on_generated.low > 0:
        return "it helps with generated images too" + (", but less" if difference.high < 0 else "")
    if on_real.low > 0:
        return "it is shown to help with real images only, so it is no remedy here"
    return "it is not shown to help, with real or with generated images"


def _accuracy(table: pd.DataFrame, study, model) -> Drawn:
    rows = table[(table["task"] == TASK) & (table["model"] == model)]
    panels = []
    for name, title in MEASURES.items():
        values, without = (results.in_percent(results.metric(rows, TASK, each)) for each in (name, f"{name}_untrained"))
        level = (interval(without["value"], study.plot.confidence), f"without this pre-training: {title}")
        panels.append(figures.Panel(values, title, "test accuracy (%)", level))
    figure = figures.small_multiples(panels, 2, figures.colours(table), study.plot.confidence)
    return Drawn(
        f"pretraining-{model}",
        figure,
        f"{model}, pre-trained on the mixture without labels, then given clean labels: test accuracy after fine-tuning "
        "and of a linear probe on its features. Dots: single seeds; markers and shade: confidence intervals.",
    )
