"""What every notebook draws: one style, image grids, confusion matrices.

Apart from `figures`, so that a change to the report's figures reruns the plots and not the trainings.
"""

from collections.abc import Iterable

import numpy as np

# matplotlib and seaborn are imported where they are used: the sweep loads this module before it starts any notebook,
# and a matplotlib that is there before its kernel does not show its figures.


READABLE = 20  # classes of which a figure can show the names
# How fonts begin their names that have Chinese, Japanese and Korean letters, which matplotlib's own lacks.
FALLBACK: tuple[str, ...] = (
    "Noto Sans CJK",
    "Source Han Sans",
    "WenQuanYi",
    "Droid Sans Fallback",
    "Hiragino Sans",
    "PingFang",
)
FALLBACK += ("Microsoft YaHei", "Malgun Gothic", "Yu Gothic", "IPAGothic", "Arial Unicode MS", "Unifont")
LATIN = 0x250  # the first letter beyond those of Latin script, which every font has


def set_style() -> None:
    """Call once, before the first figure. What a user's or a folder's matplotlibrc has set does not count."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    plt.rcdefaults()
    sns.set_theme(style="ticks", context="notebook", font_scale=0.85)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 200, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams.update(
        {"figure.constrained_layout.use": True, "legend.frameon": False, "svg.hashsalt": "contamination"}
    )
    # Else a class name with dollar signs is drawn as a formula, or ends the figure in an error.
    plt.rcParams.update({"text.parse_math": False, "font.family": ["sans-serif", *_fallback()]})


def _fallback() -> list[str]:
    """The fonts of `FALLBACK` that are installed."""
    from matplotlib import font_manager

    return [name for name in font_manager.fontManager.get_font_names() if name.startswith(FALLBACK)]


def without_glyph(texts: Iterable[str]) -> list[str]:
    """The letters of some texts that no figure can show, as no installed font has them."""
    letters = sorted({letter for text in texts for letter in text if ord(letter) >= LATIN and not letter.isspace()})
    if not letters:
        return []  # matplotlib, which takes a second to import, need not be asked
    from matplotlib import font_manager

    known: set[int] = set()
    for family in ["DejaVu Sans", *_fallback()]:
        known |= set(font_manager.get_font(font_manager.findfont(family)).get_charmap())
    return [letter for letter in letters if ord(letter) not in known]


def image_grid(ax, rows: dict[str, np.ndarray], *, names: list[str]) -> None:
    """A grid of images: one named row per source, one named column per class.

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
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    upright = longest > 100 / max(1, len(names))  # side by side they would run into each other
    if upright:
        ax.figure.set_figheight(ax.figure.get_figheight() + longest / 14)
    places = [x * (width + gap) + width / 2 for x in range(len(names))]
    ax.set_xticks(places, names, fontsize="x-small", rotation=90 if upright else 0)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def title(recipe: dict, what: str = "") -> str:
    """The title of a figure of one run. recipe: as `tasks` describes it. what: has been done to the model."""
    return f"{recipe['model']}{what}, {recipe['arm']} {recipe['source']}, ratio {recipe['ratio']:g}"


def first_seed(predictions):
    """The rows of the first seed. predictions: Arrow table with a column seed."""
    seeds = predictions["seed"].to_numpy()
    return predictions.take(np.flatnonzero(seeds == seeds[0]))


def spectrum(ax, mean, *, color: str, label: str) -> None:
    """A mean power spectrum with its interval. mean: columns frequency, power, low, high."""
    ax.plot(mean["frequency"], mean["power"], color=color, marker=".", label=label)
    ax.fill_between(mean["frequency"], mean["low"], mean["high"], color=color, alpha=0.2, linewidth=0)
    ax.set(xlabel="spatial frequency (cycles per pixel)", ylabel="mean power")
    logarithmic(ax)


def logarithmic(ax) -> None:
    """A logarithmic vertical axis, with powers of ten that are no mathematics, which `set_style` switches off."""
    from matplotlib import ticker

    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(_power_of_ten)
    ax.yaxis.set_minor_formatter(ticker.LogFormatter(minor_thresholds=(1, 0.4)))


def _power_of_ten(value: float, position: int) -> str:
    exponent = str(round(np.log10(value))) if value > 0 else ""
    return "10" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def confusion_figure(predictions, names: list[str], *, heading: str):
    """Which classes are taken for which, over all seeds; of many classes those that are confused most.

    predictions: columns label and probabilities (classes,).
    """
    import matplotlib.pyplot as plt

    guesses = np.stack(predictions["probabilities"].to_numpy()).argmax(axis=1)
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (predictions["label"].to_numpy(), guesses), 1)
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    chosen = most_confused(counts)
    figure, ax = plt.subplots(figsize=(6, 4.6))
    confusion(ax, share[np.ix_(chosen, chosen)], names=[names[label] for label in chosen])
    part = f"\nthe {len(chosen)} of {len(names):,} classes that are confused most"
    ax.set_title(heading + (part if len(chosen) < len(names) else ""))
    return figure


def most_confused(counts: np.ndarray) -> np.ndarray:
    """The classes of the pairs that are most often taken for one another, at most `READABLE`, in their order.

    counts: (classes, classes), rows the true class.
    """
    if len(counts) <= READABLE:
        return np.arange(len(counts))
    mistakes = counts - np.diag(np.diag(counts))
    pairs = np.argsort(-mistakes, axis=None, kind="stable")[: READABLE**2]  # fewer classes do not have that many
    classes = np.stack(np.unravel_index(pairs, counts.shape), axis=1).ravel().tolist()
    return np.sort(list(dict.fromkeys(classes))[:READABLE])


def confusion(ax, share: np.ndarray, *, names: list[str]) -> None:
    """Confusion matrix. share: (classes, classes), rows the true class, in per cent of it."""
    import pandas as pd
    import seaborn as sns

    sns.heatmap(
        pd.DataFrame(share, index=names, columns=names),
        ax=ax,
        cmap="Blues",
        vmin=0,
        vmax=100,
        annot=len(names) <= READABLE,
        fmt=".0f",
        cbar_kws={"label": "per cent of the true class"},
    )
    ax.set(xlabel="predicted class", ylabel="true class")
