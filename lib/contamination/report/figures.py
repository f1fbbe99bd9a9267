"""The figures of the report. Panels take an `ax`."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns

from contamination.base.files import whole_file
from contamination.metrics.intervals import Interval
from contamination.mixtures import arms
from contamination.report.scores import UNBOUNDED, of_rows

SET_COLORS = ("#d55e00", "#e69f00", "#cc79a7", "#009e73", "#56b4e9")
PERCENT = (0.0, 100.0)  # bounds of a share in percent
RATIO_LABEL = "share of real training images removed"
MARKERS = ("s", "D", "v", "^", "P", "X", "h")


def save(figure, folder: Path, *, name: str) -> None:
    """Write a figure as PNG for pages and as SVG for papers, without dates, so that equal figures are equal files."""
    for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with whole_file(folder / f"{name}.{suffix}") as scratch:
            figure.savefig(scratch, format=suffix, metadata=metadata, bbox_inches="tight")


def label_of(arm: str, source: str) -> str:
    """What fills the slots, as a legend says it."""
    return arms.of(arm).label_of(source)


def colors(table: pd.DataFrame) -> dict[tuple[str, str], str]:
    """One color per (arm, source), the same in every figure of a report."""
    of_sets = [name for name, arm in arms.ARMS.items() if arm.of_sets]
    sets = table.loc[table["arm"].isin(of_sets), ["arm", "source"]].drop_duplicates()
    palette = dict(zip(sets.itertuples(index=False, name=None), itertools.cycle(SET_COLORS), strict=False))
    others = (arm for arm in arms.ARMS.values() if arm != arms.CLEAN and not arm.of_sets)
    return palette | {(arm.name, arm.images): arm.color for arm in others}


def dose_response(
    ax, table: pd.DataFrame, *, palette: dict, confidence: float = 0.95, bounds: tuple[float, float] = UNBOUNDED
) -> None:
    """One metric against the share replaced: a curve of means per (arm, source), every seed a dot, intervals as bars.

    table: rows of results.csv of one model and one metric; ratio 0 (arm `clean`) starts every curve. bounds: what the
    metric cannot leave.
    """
    clean = table[table["arm"] == arms.CLEAN.name]
    for position, (arm, source) in enumerate(palette):
        rows = table[(table["arm"] == arm) & (table["source"] == source)]
        if rows.empty:
            continue
        nudge = (position - (len(palette) - 1) / 2) * 0.008  # intervals of different arms stand side by side
        style = {"color": palette[arm, source], "marker": MARKERS[position % len(MARKERS)]}
        line = rows.groupby("replaced")["value"].mean()
        ax.plot([0, *(line.index + nudge)], [clean["value"].mean(), *line], color=style["color"], linewidth=1.4)
        _points(ax, rows, nudge, confidence, bounds, label=label_of(arm, source), **style)
    _points(ax, clean, 0, confidence, bounds, label=arms.CLEAN.label, color=arms.CLEAN.color, marker="o")
    ax.set(xlabel=RATIO_LABEL, xlim=(-0.04, 1.04))
    ax.grid(axis="y", alpha=0.3)


def _points(
    ax,
    rows: pd.DataFrame,
    nudge: float,
    confidence: float,
    bounds: tuple[float, float],
    color: str,
    marker: str,
    label: str,
) -> None:
    """Every value a dot, every mean a marker with its interval."""
    ax.scatter(rows["replaced"] + nudge, rows["value"], s=7, color=color, alpha=0.35, linewidths=0)
    groups = rows.groupby("replaced")
    means = {share: of_rows(part).interval(confidence, bounds=bounds) for share, part in groups}
    style = {"color": color, "marker": marker, "label": label}
    error_bars(ax, [share + nudge for share in means], list(means.values()), **style)


def error_bars(ax, places: Sequence[float], found: list[Interval], *, color: str, marker: str, label: str) -> None:
    """Means with their intervals, upright; a mean without one is a marker alone."""
    ends = np.nan_to_num([[each.mean - each.low, each.high - each.mean] for each in found]).T
    style = {"linestyle": "none", "markersize": 4.5, "capsize": 2.5, "elinewidth": 1}
    ax.errorbar(places, [each.mean for each in found], yerr=ends, color=color, marker=marker, label=label, **style)


def class_heatmap(ax, values: pd.DataFrame, *, words: pd.DataFrame, label: str, colors: str, low: float, high: float):
    """One row per set, one column per class, `words` in the cells; what was not measured stays white."""
    style = {"cmap": colors, "vmin": low, "vmax": high, "annot": words, "fmt": "", "linewidths": 0.5}
    sns.heatmap(values, ax=ax, cbar_kws={"label": label}, **style)
    ax.set(xlabel="class", ylabel="")
    ax.tick_params(axis="y", rotation=0)


def change_heatmap(ax, change: pd.DataFrame) -> None:
    """Change of accuracy per class in points; in brackets where its interval does not exclude 0.

    change: one row per (arm, source) label, one column per class, each cell a `intervals.Interval` in shares of 1.
    """
    points = 100 * change.map(lambda each: each.mean)
    significant = change.map(lambda each: each.low > 0 or each.high < 0)
    words = points.map(lambda value: f"{value:z.0f}")
    limit = max(5.0, float(np.abs(points.to_numpy()).max()))
    words = words.where(significant, "(" + words + ")")
    class_heatmap(ax, points, words=words, label="points of accuracy", colors="RdBu", low=-limit, high=limit)


def share_heatmap(ax, shares: pd.DataFrame, *, label: str) -> None:
    """Shares in per cent."""
    words = shares.map(lambda value: "" if np.isnan(value) else f"{value:.0f}")
    class_heatmap(ax, shares, words=words, label=label, colors="cividis", low=0, high=100)


def intervals(ax, rows: list[tuple[str, Interval | None, str]]) -> None:
    """Horizontal intervals, one line each, the first on top. rows: label, interval (None: not measured), color."""
    for line, (_, found, color) in enumerate(rows):
        if found is None:
            ax.text(0.5, line, "not measured", transform=ax.get_yaxis_transform(), fontsize="x-small", ha="center")
            continue
        ends = np.nan_to_num([[found.mean - found.low], [found.high - found.mean]])
        style = {"color": color, "marker": "o", "markersize": 5, "capsize": 2.5, "elinewidth": 1.2}
        ax.errorbar(found.mean, line, xerr=ends, linestyle="none", **style)
    ax.set_yticks(range(len(rows)), [label for label, *_ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(axis="x", alpha=0.3)


def cross(ax, x: Interval, *, y: Interval, color: str, marker: str, label: str) -> None:
    """One point with its interval in both directions."""
    ends = [np.nan_to_num([[each.mean - each.low], [each.high - each.mean]]) for each in (x, y)]
    style = {"color": color, "marker": marker, "markersize": 5, "elinewidth": 1, "capsize": 2}
    ax.errorbar(x.mean, y.mean, xerr=ends[0], yerr=ends[1], linestyle="none", label=label, **style)
    ax.grid(alpha=0.3)


class Panel(NamedTuple):
    """One metric against the ratio. rows: of one model. level: a value to compare with, and its name.

    limits: of the vertical axis; without them it is as high as its values need. bounds: what the metric cannot leave.
    """

    rows: pd.DataFrame
    title: str
    label: str
    level: tuple[Interval, str] | None = None
    limits: tuple[float, float] | None = None
    bounds: tuple[float, float] = UNBOUNDED


def small_multiples(panels: list[Panel], columns: int, *, palette: dict, confidence: float, share_scale: bool = False):
    """A figure of panels that read alike, with one legend below."""
    from matplotlib import pyplot as plt

    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    size = (max(4.6 * columns, 5.6) if columns < 3 else 3.5 * columns, 3.1 * lines + 0.9)
    figure, axs = plt.subplots(lines, columns, figsize=size, sharex=True, sharey=share_scale, squeeze=False)
    for ax, panel in zip(axs.flat, panels, strict=False):
        dose_response(ax, panel.rows, palette=palette, confidence=confidence, bounds=panel.bounds)
        if panel.level:
            level, name = panel.level
            ax.axhline(level.mean, color="black", linestyle=":", linewidth=1.2, label=name)
            ax.axhspan(level.low, level.high, color="black", alpha=0.07, linewidth=0)
        ax.set(title=panel.title, ylabel=panel.label if not share_scale or ax in axs[:, 0] else "")
        ax.set_xlabel("")
        if panel.limits:
            ax.set_ylim(panel.limits)
    for ax in axs.flat[len(panels) :]:
        ax.set_visible(False)
    for column in axs.T:
        lowest = [ax for ax in column if ax.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel(RATIO_LABEL if columns < 3 else "share removed")
    legend_below(figure, axs.flat[: len(panels)])
    return figure


def legend_below(figure, axs) -> None:
    """One legend for all panels, below them."""
    entries: dict = {}
    for ax in axs:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=min(3, len(entries)))
