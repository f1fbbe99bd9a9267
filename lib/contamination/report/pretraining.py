"""Self-supervised pre-training: what a classifier gains by it on real and on generated images."""

import pandas as pd

from contamination.metrics.intervals import Interval, interval, paired_difference
from contamination.mixtures.replicates import Replicate
from contamination.report import figures, results
from contamination.report.sections import Figure, PrimaryMetric
from contamination.report.summary import change_in_words, first_generated
from contamination.study.study import Run
from contamination.tasks.pretraining import LONGER, UNTRAINED

TASK = "pretraining"
FINETUNED = "finetuned_accuracy"
MEASURES = {FINETUNED: "fine-tuned", "probe_accuracy": "linear probe"}


def primary(table: pd.DataFrame) -> PrimaryMetric:
    return PrimaryMetric(FINETUNED, "fine-tuned test accuracy", percent=True)


def draw(table: pd.DataFrame, study) -> list[Figure]:
    return [_accuracy(table, study, model) for model in study.models_of(TASK)]


def sentences(table: pd.DataFrame, study) -> list[str]:
    """What pre-training gains over each baseline, on real images and at the largest ratio."""
    effort = study.evaluate.pretraining
    found = [
        f"Fine-tuning took {effort.steps} steps of {effort.batch_size} images, from {effort.labelled_per_class} real "
        "labeled ones of each class, the same in every arm; the probe saw all labeled real images of the train split."
    ]
    return found + [
        _gains(table, study, model, name)
        for model in study.models_of(TASK)
        if first_generated(study, TASK, model=model)
        for name in MEASURES
    ]


def baselines(table: pd.DataFrame, name: str, *, clean: Run) -> dict[str, dict[Replicate, float]]:
    """The values of a measure without pre-training, by seed, of each baseline that it has. clean: a model's ratio 0."""
    values = {
        end: results.by_replicate(results.metric(table, TASK, name=name + end), clean) for end in (UNTRAINED, LONGER)
    }
    return {end: found for end, found in values.items() if found}


def _gains(table: pd.DataFrame, study, model: str, name: str) -> str:
    """One measure of one model: pre-trained on real images and on generated ones, against every baseline."""
    generated = first_generated(study, TASK, model=model, ratio=max(study.grid.of(TASK).ratios))
    assert generated, "asked for where a model has a set"
    values, confidence, unit = results.metric(table, TASK, name=name), study.plot.confidence, primary(table)
    real, other = results.by_replicate(values, generated.clean), results.by_replicate(values, generated)
    without = baselines(table, name, clean=generated.clean)
    on_real, on_generated = (
        {end: paired_difference(baseline, trained, confidence) for end, baseline in without.items()}
        for trained in (real, other)
    )
    steps = study.train_of(model).steps + study.evaluate.pretraining.steps
    against = {
        UNTRAINED: "against the same network without pre-training",
        LONGER: f"against that network fine-tuned for {steps:,} steps, as many as pre-training and fine-tuning take",
    }
    first = " and ".join(
        f"{change_in_words(gain, confidence, primary=unit)} {against[end]}" for end, gain in on_real.items()
    )
    second = " and ".join(change_in_words(gain, confidence, primary=unit) for gain in on_generated.values())
    share = results.percent(results.replaced(table, generated))
    difference = change_in_words(paired_difference(real, other, confidence), confidence, primary=unit)
    return (
        f"{MEASURES[name].capitalize()}, {model}: pre-training on real images changes the test accuracy by {first}; "
        f"pre-training with {share} generated ones ({generated.source}) by {second}. Generated minus real images: "
        f"{difference}. With generated images, pre-training {_verdict(list(on_generated.values()))}."
    )


def _verdict(gains: list[Interval]) -> str:
    """In words, from the intervals alone. gains: over the baselines, the one with as many steps last."""
    if all(gain.low > 0 for gain in gains):
        return "improves accuracy over every baseline that was measured"
    if gains[0].low > 0:
        return "improves accuracy over the shorter training alone: at the same number of steps it is not shown to"
    return "is not shown to improve accuracy"


def _accuracy(table: pd.DataFrame, study, model) -> Figure:
    rows = table[(table["task"] == TASK) & (table["model"] == model)]
    panels = []
    for name, title in MEASURES.items():
        values, without = (
            results.in_percent(results.metric(rows, TASK, name=each)) for each in (name, name + UNTRAINED)
        )
        level = (
            interval(without["value"], study.plot.confidence, floor=0, ceiling=100),
            f"without this pre-training: {title}",
        )
        panels.append(figures.Panel(values, title, "test accuracy (%)", level, bounds=figures.PERCENT))
    figure = figures.small_multiples(panels, 2, palette=figures.colors(table), confidence=study.plot.confidence)
    return Figure(
        f"pretraining-{model}",
        figure,
        f"{model}, pre-trained on the mixture without labels, then given clean labels: test accuracy after fine-tuning "
        "and of a linear probe on its features. Dots: single seeds; markers and shade: confidence intervals.",
    )
