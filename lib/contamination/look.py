"""What every notebook draws: one style, walls of images, confusion matrices.

Apart from `figures`, so that a change to the report's figures reruns the plots and not the trainings.
"""

import numpy as np

# matplotlib and seaborn are imported where they are used: the sweep loads this module before it starts any notebook,
# and a matplotlib that is there before its kernel does not show its figures.


def set_style() -> None:
    """Call once, before the first figure."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    sns.set_theme(style="ticks", context="notebook", font_scale=0.85)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 200, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams.update(
        {"figure.constrained_layout.use": True, "legend.frameon": False, "svg.hashsalt": "contamination"}
    )


def wall(ax, rows: dict[str, np.ndarray], names: list[str]) -> None:
    """A wall of images: one named row per source, one named column per class.

    rows: uint8 (columns, height, width, 3) each.
    """
    height, width = next(iter(rows.values())).shape[1:3]
    gap = max(1, height // 12)
    canvas = np.full((len(rows) * (height + gap) - gap, len(names) * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for y, images in enumerate(rows.values()):
        for x, image in enumerate(images):
            top, left = y * (height + gap), x * (width + gap)
            canvas[top : top + height, left : left + width] = image
    ax.imshow(canvas, interpolation="nearest")
    ax.set_yticks([y * (height + gap) + height / 2 for y in range(len(rows))], list(rows))
    ax.set_xticks([x * (width + gap) + width / 2 for x in range(len(names))], names, fontsize="x-small")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def title(recipe: dict, what: str = "") -> str:
    """The title of a figure of one run. recipe: as `tasks` describes it. what: has been done to the model."""
    return f"{recipe['model']}{what}, {recipe['arm']} {recipe['source']}, ratio {recipe['ratio']:g}"


def first_seed(predictions):
    """The rows of the first seed. predictions: Arrow table with a column seed."""
    seeds = predictions["seed"].to_numpy()
    return predictions.take(np.flatnonzero(seeds == seeds[0]))


def spectrum(ax, mean, colour: str, label: str) -> None:
    """A mean power spectrum with its interval. mean: columns frequency, power, low, high."""
    ax.plot(mean["frequency"], mean["power"], color=colour, marker=".", label=label)
    ax.fill_between(mean["frequency"], mean["low"], mean["high"], color=colour, alpha=0.2, linewidth=0)
    ax.set(yscale="log", xlabel="spatial frequency (cycles per pixel)", ylabel="mean power")


def confusion_figure(predictions, names: list[str], heading: str):
    """Which classes are taken for which, over all seeds. predictions: columns label and probabilities (classes,)."""
    import matplotlib.pyplot as plt

    guesses = np.stack(predictions["probabilities"].to_numpy()).argmax(axis=1)
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (predictions["label"].to_numpy(), guesses), 1)
    figure, ax = plt.subplots(figsize=(6, 4.6))
    confusion(ax, counts, names)
    ax.set_title(heading)
    return figure


def confusion(ax, counts: np.ndarray, names: list[str]) -> None:
    """Confusion matrix in per cent of the true class. counts: (classes, classes), rows the true class."""
    import pandas as pd
    import seaborn as sns

    share = 100 * counts / counts.sum(axis=1, keepdims=True)
    sns.heatmap(
        pd.DataFrame(share, index=names, columns=names),
        ax=ax,
        cmap="Blues",
        vmin=0,
        vmax=100,
        annot=len(names) <= 20,
        fmt=".0f",
        cbar_kws={"label": "per cent of the true class"},
    )
    ax.set(xlabel="predicted class", ylabel="true class")
