"""Image generation: how far samples lie from real held-out images, what they cover, and what they look like."""

import numpy as np
import pandas as pd
import pyarrow.parquet
from matplotlib import pyplot as plt

from contamination import sources
from contamination.base import image_tables, plotting
from contamination.metrics.distributions import MEASURES
from contamination.metrics.intervals import interval
from contamination.report import figures, results
from contamination.report.sections import Figure, PrimaryMetric

TASK = "generation"
COLUMNS = 20  # of the sheet of samples


def primary(table: pd.DataFrame) -> PrimaryMetric:
    return PrimaryMetric(
        "frechet_distance", "Fréchet distance between real images and the samples", False, higher_is_better=False
    )


def draw(table: pd.DataFrame, study) -> list[Figure]:
    palette, rows = figures.colors(table), table[table["task"] == TASK]
    drawn = []
    for model in study.models_of(TASK):
        drawn += [_distances(rows[rows["model"] == model], study, model, palette), _samples(study, model)]
    return drawn


def sentences(table: pd.DataFrame, study) -> list[str]:
    counts = sorted(results.metric(table, TASK, name="frechet_distance")["n"].unique())
    extractor = study.evaluate.generation.extractor
    named = extractor or f"{study.auxiliary.generation.architecture}, trained on the captions of the pool"
    return [
        f"Every set of samples has {', '.join(str(count) for count in counts)} images; features are those of {named}, "
        "the same for all runs. Distances depend on both: compare them within this report only. The dotted lines are "
        "real images of the train split, as many, in place of samples."
    ]


def _distances(rows, study, model, palette) -> Figure:
    panels = []
    for name, measure in MEASURES.items():
        of_real = results.metric(rows, TASK, name=f"{name}_of_real")["value"]
        best = interval(of_real, study.plot.confidence, floor=measure.low, ceiling=measure.high)
        values = results.metric(rows, TASK, name=name)
        label = measure.label if measure.higher_is_better else f"{measure.label} (lower is better)"
        limits = (0, 1.05) if measure.is_share else None  # near 1 a difference of a thousandth would look like one
        level, bounds = (best, "real images instead of samples"), (measure.low, measure.high)
        panels.append(figures.Panel(values, measure.label, label, level, limits, bounds))
    figure = figures.small_multiples(panels, 3, palette=palette, confidence=study.plot.confidence)
    return Figure(
        f"samples-{model}-distances",
        figure,
        f"Samples of {model} against the real test images. Precision and density say how real the samples look, recall "
        "and coverage how much of the real images they reach. Dots: single seeds; markers: means with intervals.",
    )


def _samples(study, model) -> Figure:
    """A row of real images over a row of samples per mixture, those of the first seed."""
    names = sources.shown_names(study.layout)
    rows = {"real test images": image_tables.read(study.layout.real("test"))}
    for run in study.runs():
        if run.task == TASK and run.model == model:
            name = f"{figures.label_of(run.arm, run.source)}, ratio {run.ratio:g}"
            path = study.layout.run("evaluate", *run) / "predictions.parquet"
            rows.setdefault(name, pyarrow.parquet.read_table(path))  # the first block of seeds
    labels = {name: table["label"].to_numpy() for name, table in rows.items()}
    conditional = study.grid.models[model].options.get("class_conditional")
    chosen = _two_per_class(labels) if conditional else {name: np.arange(COLUMNS) for name in rows}
    size = study.data.image_size
    pixels = {
        name: image_tables.decode_all(image_tables.take(table, chosen[name][: table.num_rows]), size)
        .permute(0, 2, 3, 1)
        .numpy()
        for name, table in rows.items()
    }
    width = min(len(images) for images in pixels.values())
    first = next(iter(rows))
    titles = [names[label] for label in labels[first][chosen[first]]] if conditional else [""] * width
    figure, ax = plt.subplots(figsize=(10.5, 0.5 * len(rows) + 0.6))
    plotting.image_grid(ax, {name: images[:width] for name, images in pixels.items()}, names=titles[:width])
    return Figure(f"samples-{model}", figure, f"Samples of {model} and real images: the first seed's, not selected.")


def _two_per_class(labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of the same classes for every table: two of each class that all of them have twice, of ten classes at most.

    Where no class is there twice, one of each.
    """
    sizes = [np.bincount(each, minlength=max(map(max, labels.values())) + 1) for each in labels.values()]
    least = np.min(sizes, axis=0)
    count = 2 if (least >= 2).any() else 1
    classes = np.flatnonzero(least >= count)[: COLUMNS // 2]
    return {
        name: np.concatenate([np.flatnonzero(each == label)[:count] for label in classes])
        for name, each in labels.items()
    }
