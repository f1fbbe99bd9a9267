"""Image generation: how far samples lie from real held-out images, what they cover, and what they look like."""

import numpy as np
import pandas as pd
import pyarrow.parquet
from matplotlib import pyplot as plt

from contamination import figures, look, results, sources, store
from contamination.files import RECORD, read_json
from contamination.findings import Drawn, Headline

TASK = "generation"
MEASURES = {
    "frechet_distance": "Fréchet distance (lower is better)",
    "kernel_distance": "kernel distance (lower is better)",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}


def headline(table: pd.DataFrame) -> Headline:
    return Headline("frechet_distance", "Fréchet distance of samples to real images", False, higher_is_better=False)


def draw(table: pd.DataFrame, study) -> list[Drawn]:
    palette, rows = figures.colours(table), table[table["task"] == TASK]
    drawn = []
    for model in study.models_of(TASK):
        drawn += [_distances(rows[rows["model"] == model], study, model, palette), _samples(study, model)]
    return drawn


def sentences(table: pd.DataFrame, study) -> list[str]:
    counts = sorted(results.metric(table, TASK, "frechet_distance")["n"].unique())
    extractor = study.evaluate.generation.extractor or "a network trained on the pool alone"
    return [
        f"Every set of samples has {', '.join(str(count) for count in counts)} images; their features come from "
        f"{extractor}, which never saw a mixture. Distances depend on both: compare them within this report only."
    ]


def _distances(rows, study, model, palette) -> Drawn:
    floor = _pool_scores(study)
    panels = [
        figures.Panel(
            results.metric(rows, TASK, name),
            label.partition(" (")[0],
            label,
            (floor[name], "real images of the pool in place of samples") if name in floor else None,
        )
        for name, label in MEASURES.items()
    ]
    figure = figures.small_multiples(panels, 3, palette, study.plot.confidence)
    return Drawn(
        f"samples-{model}-distances",
        figure,
        f"Samples of {model} against the real test images. Precision and density say how real the samples look, recall "
        "and coverage how much of the real images they reach. Dots: single seeds; markers: means with intervals.",
    )


def _pool_scores(study) -> dict[str, float]:
    """The measures between pool and test set, both real: what no generator can be expected to beat."""
    if not study.reference.generation:
        return {}
    scores = read_json(study.layout.reference(TASK) / RECORD)["scores"]
    return {score["metric"]: score["value"] for score in scores}


def _samples(study, model) -> Drawn:
    """A row of real images over a row of samples per mixture, those of the first seed."""
    names = sources.class_names(study.layout)
    rows = {"real test images": store.read(study.layout.real("test"))}
    for run in study.runs():
        if run.task == TASK and run.model == model:
            name = (
                f"{figures.label_of(run.arm, run.source)}, ratio {run.ratio:g}" if run.ratio else "trained on all real"
            )
            path = study.layout.run("evaluate", *run) / "predictions.parquet"
            rows.setdefault(name, pyarrow.parquet.read_table(path))  # the first block of seeds
    chosen = {name: _first_of_each(table, len(names)) for name, table in rows.items()}
    pixels = {
        name: store.decode_all(rows[name].take(positions), study.data.image_size).permute(0, 2, 3, 1).numpy()
        for name, positions in chosen.items()
    }
    figure, ax = plt.subplots(figsize=(10.5, 0.5 * len(rows) + 0.6))
    labels = rows[name]["label"].to_numpy()
    look.wall(ax, pixels, [names[labels[row]] if labels[row] >= 0 else "" for row in chosen[name]])
    return Drawn(f"samples-{model}", figure, f"Samples of {model} beside real images: the first seed's, none chosen.")


def _first_of_each(table, classes: int, count: int = 20) -> np.ndarray:
    """The first two rows of each of the first ten classes; the first rows where there are no classes."""
    labels = table["label"].to_numpy()
    if (labels < 0).all():
        return np.arange(count)
    return np.concatenate([np.flatnonzero(labels == label)[:2] for label in range(min(classes, count // 2))])
