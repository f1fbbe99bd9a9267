"""How often intervals hold the mean over new replicates and new images: simulated studies whose truth is known.

The two-way interval of the report against Student's t over replicates and Wilson's over images (of a difference: MOVER
of two), for an accuracy, for a difference of two points and for none, over numbers of replicates and test images and up
to 99.9 % accuracy; then what no interval of few replicates can hold: replicates that collapse, and heavy tails. Prints
tables in Markdown and draws docs/intervals.png. `python tests/benchmarks/interval_coverage.py`
"""

import argparse
import sys
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from contamination.base import plotting
from contamination.metrics import intervals
from contamination.metrics.intervals import Interval, interval, share_interval
from contamination.metrics.two_way import estimate
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support import simulated_scores  # noqa: E402

REPLICATES, IMAGES, ACCURACIES = [3, 5, 10], [138, 300, 600], [0.5, 0.9, 0.97, 0.995, 0.999]
LOSS = 0.02
METHODS = {"Wilson over images": "#6b6b6b", "t over replicates": "#0072b2", "two-way": "#d55e00"}
OF = ["accuracy", "difference of 2 points", "no difference"]
MEAN_LOSS = 0.08 / 7
share_once = cache(share_interval)  # of the same counts again and again
BREACHES = {  # losses of replicates, float (replicates,), of the same mean
    "one replicate in seven loses 8 points": lambda rng, n: 0.08 * (rng.random(n) < 1 / 7),
    "lognormal losses, half of them below 0.4 points": lambda rng, n: np.minimum(
        0.5, MEAN_LOSS * rng.lognormal(-(1.5**2) / 2, 1.5, n)
    ),
}
ENOUGH = 0.5  # of the studies give an interval: else those that do are the ones that came out unlike the truth


def accuracy_intervals(right: np.ndarray) -> dict[str, Interval]:
    """right: float (replicates, images) of 0 and 1."""
    return {
        "two-way": estimate(right).interval(0.95, 0, 1),
        "t over replicates": interval(right.mean(axis=1)),
        "Wilson over images": wilson(right),
    }


def difference_intervals(first: np.ndarray, second: np.ndarray) -> dict[str, Interval]:
    return {
        "two-way": estimate(second - first).interval(0.95),
        "t over replicates": interval((second - first).mean(axis=1)),
        "Wilson over images": intervals.difference(wilson(first), wilson(second)),
    }


def wilson(right: np.ndarray) -> Interval:
    """Of the images, as if all replicates were one."""
    return share_once(round(right.mean() * right.shape[1]), right.shape[1])


def tally(rows: list[dict], truth: float) -> list[dict]:
    """By method: share of studies that give an interval, of these that hold the truth, of all that miss it, width."""
    tallied = []
    for method in METHODS:
        given = [row[method] for row in rows if row[method].is_given]
        held = sum(each.low <= truth <= each.high for each in given)
        tallied.append(
            {
                "method": method,
                "given": len(given) / len(rows),
                "covers": held / len(given) if given else np.nan,
                "misses": (len(given) - held) / len(rows),
                "width": np.median([each.high - each.low for each in given]) if given else np.nan,
            }
        )
    return tallied


def simulate(studies: int) -> pd.DataFrame:
    """One row per cell, quantity and method."""
    rows = []
    for replicates in REPLICATES:
        for images in IMAGES:
            for accuracy in ACCURACIES:
                cell = {"replicates": replicates, "images": images, "accuracy": accuracy}
                for of, truth, found in simulate_cell(studies, accuracy, replicates=replicates, images=images):
                    rows += [cell | {"of": of} | row for row in tally(found, truth)]
    return pd.DataFrame(rows)


def simulate_cell(studies: int, accuracy: float, *, replicates: int, images: int) -> list[tuple]:
    rng, size = np.random.default_rng(0), {"replicates": replicates, "images": images}
    levels, losses, nothing = [], [], []
    for _ in range(studies):
        first, worse = simulated_scores.two_arms(rng, (accuracy, accuracy - LOSS), **size)
        levels.append(accuracy_intervals(first))
        losses.append(difference_intervals(first, worse))
        nothing.append(difference_intervals(*simulated_scores.two_arms(rng, (accuracy, accuracy), **size)))
    return list(zip(OF, (accuracy, -LOSS, 0.0), (levels, losses, nothing), strict=True))


def simulate_breaches(studies: int) -> pd.DataFrame:
    """What few replicates cannot tell, at 97 % and 300 images: losses that most of them do not have."""
    rows = []
    for replicates in REPLICATES:
        for of, draw in BREACHES.items():
            rng, found = np.random.default_rng(0), []
            for _ in range(studies):
                first, second = simulated_scores.two_arms(rng, (0.97, 0.97), replicates=replicates, images=300)
                second = simulated_scores.losing(rng, second, draw(rng, replicates), accuracy=0.97)
                found.append(difference_intervals(first, second))
            rows += [{"replicates": replicates, "of": of} | row for row in tally(found, -MEAN_LOSS)]
    return pd.DataFrame(rows)


def show(table: pd.DataFrame, keys: list[str]) -> None:
    """A row per cell in Markdown: what each method holds; of the two-way interval also how often it is given."""
    for of, part in table.groupby("of", sort=False):
        print(f"\n**{of}**\n\n| {' | '.join(keys)} | given | misses of all | {' | '.join(METHODS)} |")
        print("|---" * (len(keys) + 2 + len(METHODS)) + "|")
        for cell, rows in part.groupby(keys, sort=False):
            rows = rows.set_index("method")
            ours = rows.loc["two-way"]
            covers = " | ".join(f"{100 * rows.loc[method, 'covers']:.1f}" for method in METHODS)
            print(f"| {' | '.join(map(str, cell))} | {ours['given']:.0%} | {ours['misses']:.1%} | {covers} |")


def draw(table: pd.DataFrame) -> plt.Figure:
    """Coverage over accuracy; a row per quantity, a column per number of replicates; joined: 138, 300, 600 images."""
    plotting.set_style()
    figure, axes = plt.subplots(len(OF), len(REPLICATES), figsize=(9, 6.5), sharex=True, sharey="row")
    for (row, of), (column, replicates) in product(enumerate(OF), enumerate(REPLICATES)):
        ax, part = axes[row, column], table[(table["of"] == of) & (table["replicates"] == replicates)]
        ax.axhspan(93, 97, color="0.9", lw=0)
        ax.axhline(95, color="0.7", lw=0.8)
        for method, color in METHODS.items():
            draw_method(ax, part[part["method"] == method], color=color)
        if row == 0:
            ax.set_title(f"{replicates} replicates")
        if column == 0:
            ax.set_ylabel(f"{of}\ncoverage in %")
    axes[0, 0].set_xticks(range(len(ACCURACIES)), [f"{100 * accuracy:g}" for accuracy in ACCURACIES])
    for ax, lowest in zip(axes[:, 0], (45, 65, 75), strict=True):
        ax.set_ylim(lowest, 101)
    figure.supxlabel("true accuracy in %; joined points: 138, 300 and 600 test images", fontsize="medium")
    marks = [plt.Line2D([], [], color=color, marker="o", label=method) for method, color in METHODS.items()]
    figure.legend(handles=marks, loc="outside upper center", ncols=len(METHODS))
    return figure


def draw_method(ax, rows: pd.DataFrame, *, color: str) -> None:
    """Joined points for the numbers of images at one accuracy; none where fewer than half of the studies give one."""
    for place, accuracy in enumerate(ACCURACIES):
        group = rows[rows["accuracy"] == accuracy].sort_values("images")
        covers = np.where(group["given"] >= ENOUGH, 100 * group["covers"], np.nan)
        ax.plot(place + np.array([-0.22, 0, 0.22]), covers, "o-", color=color, ms=4, lw=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000, help="in each cell")
    arguments = parser.parse_args()
    table = simulate(arguments.studies)
    show(table, ["replicates", "images", "accuracy"])
    show(simulate_breaches(arguments.studies), ["replicates"])
    draw(table).savefig(ROOT / "docs/intervals.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
