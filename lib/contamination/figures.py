"""The figures of the notebooks and the report. Panels take an `ax`; one style serves them all."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from contamination.files import whole_file
from contamination.statistics import interval

ARM_COLOURS = {"other_real": "#0072b2", "dropped": "#6b6b6b"}  # Okabe and Ito: told apart with any colour vision
SET_COLOURS = ("#d55e00", "#e69f00", "#cc79a7", "#009e73", "#56b4e9")
ARM_LABELS = {"clean": "all real (ratio 0)", "other_real": "other real images", "dropped": "dropped (slots left empty)"}
MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def set_style() -> None:
    """Call once, before the first figure."""
    sns.set_theme(style="ticks", context="notebook", font_scale=0.85)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 200, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams.update(
        {"figure.constrained_layout.use": True, "legend.frameon": False, "svg.hashsalt": "contamination"}
    )


def save(figure, folder: Path, name: str) -> None:
    """Write a figure as PNG for pages and as SVG for papers, without dates, so that equal figures are equal files."""
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with whole_file(folder / f"{name}.{suffix}") as scratch:
            figure.savefig(scratch, format=suffix, metadata=metadata, bbox_inches="tight")


def label_of(arm: str, source: str) -> str:
    """What fills the slots, as a legend says it."""
    return ARM_LABELS.get(arm, f"generated: {source}")


def colours(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """One colour per (arm, source), the same in every figure of a report."""
    generated = table.loc[table["arm"] == "generated", "source"].unique()
    palette = {("generated", source): colour for source, colour in zip(generated, _cycle(SET_COLOURS), strict=False)}
    return palette | {("other_real", "pool"): ARM_COLOURS["other_real"], ("dropped", "none"): ARM_COLOURS["dropped"]}


def _cycle(values):
    while True:
        yield from values


def dose_response(ax, table: pd.DataFrame, palette: dict, confidence: float = 0.95) -> None:
    """One metric against the ratio: a curve of means per (arm, source), every seed a dot, the interval as a bar.

    table: rows of results.csv of one model and one metric; ratio 0 (arm `clean`) starts every curve.
    """
    clean = table[table["arm"] == "clean"]
    curves = [key for key in palette if ((table["arm"] == key[0]) & (table["source"] == key[1])).any()]
    for position, (arm, source) in enumerate(curves):
        rows = table[(table["arm"] == arm) & (table["source"] == source)]
        nudge = (position - (len(curves) - 1) / 2) * 0.008  # intervals of different arms stand side by side
        style = {"color": palette[arm, source], "marker": MARKERS[position % len(MARKERS)]}
        line = rows.groupby("ratio")["value"].mean()
        ax.plot([0, *(line.index + nudge)], [clean["value"].mean(), *line], color=style["color"], linewidth=1.4)
        _points(ax, rows, nudge, confidence, label=label_of(arm, source), **style)
    _points(ax, clean, 0, confidence, label=label_of("clean", "train"), color="black", marker="o")
    ax.set(xlabel="share of training images taken away (ratio)", xlim=(-0.04, 1.04))
    ax.grid(axis="y", alpha=0.3)


def _points(ax, rows: pd.DataFrame, nudge: float, confidence: float, color: str, marker: str, label: str) -> None:
    """Every value a dot, every mean a marker with its interval."""
    ax.scatter(rows["ratio"] + nudge, rows["value"], s=7, color=color, alpha=0.35, linewidths=0)
    groups = rows.groupby("ratio")["value"]
    means = {ratio: interval(values, confidence) for ratio, values in groups}
    ax.errorbar(
        [ratio + nudge for ratio in means],
        [each.mean for each in means.values()],
        yerr=np.nan_to_num([[each.mean - each.low, each.high - each.mean] for each in means.values()]).T,
        color=color,
        marker=marker,
        label=label,
        linestyle="none",
        markersize=4.5,
        capsize=2.5,
        elinewidth=1,
    )


def class_heatmap(ax, change: pd.DataFrame) -> None:
    """Change of accuracy per class in points. change: one row per (arm, source) label, one column per class."""
    limit = max(5.0, float(np.abs(change.to_numpy()).max()))
    sns.heatmap(
        change,
        ax=ax,
        cmap="RdBu",
        vmin=-limit,
        vmax=limit,
        annot=True,
        fmt=".0f",
        linewidths=0.5,
        cbar_kws={"label": "points of accuracy"},
    )
    ax.set(xlabel="class", ylabel="")
    ax.tick_params(axis="y", rotation=0)


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


def confusion(ax, counts: np.ndarray, names: list[str]) -> None:
    """Confusion matrix in per cent of the true class. counts: (classes, classes), rows the true class."""
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


def legend_below(figure, axs) -> None:
    """One legend for all panels, below them."""
    entries = {}
    for ax in axs:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(3, len(entries)))
