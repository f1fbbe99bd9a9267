"""How many replicates a study like a finished one needs: `contamination plan --power`. Runs nothing."""

import pandas as pd

from contamination.metrics import intervals, power
from contamination.metrics.two_way import Estimate
from contamination.mixtures import arms
from contamination.report import outcomes, results, sections
from contamination.report.scores import of_run
from contamination.study import study as studies
from contamination.study.study import Run, Study

HARMS = (0.5, 1.0, 2.0)  # points
UNKNOWN = "-"
HEADS = ("model", "replacement", "share", "seeds", "images", *(f"{harm:g} points" for harm in HARMS))
WIDTHS = (12, 34, 8, 7, 8, 14, 14, 14)  # of the columns
EXPLAINED = (
    f"Replicates that show a harm with {power.POWER:.0%} power, two-sided {power.LEVEL:.0%}, "
    "where differences against clean vary as here."
)


def show(study_file: str) -> int:
    """Print, for each task whose primary metric is a share, model, arm and ratio, how many replicates show a harm.

    Raises FileNotFoundError in one line where the study has no results yet.
    """
    study = studies.load(study_file)
    if not study.own.results.is_file():
        raise FileNotFoundError(f"{study.own.results} is missing: --power needs a finished study, run it first")
    print("\n".join(report(study, outcomes.attach(results.read(study.own.results), study))))
    return 0


def report(study: Study, table: pd.DataFrame) -> list[str]:
    """The lines that are printed. table: the study's results.csv, with test images where predictions are stored."""
    lines, cells, replicates = [EXPLAINED], [], set()
    for task in study.grid.tasks:
        primary = sections.load(task).primary(table)
        if not primary.percent:
            continue
        lines += ["", f"{task}, {primary.words}", _row(HEADS)]
        rows = results.metric(table, task, name=primary.metric)
        for point in results.points(study, task):
            if not point.ratio or (change := change_of(rows, point)) is None:
                continue
            share, found = results.replaced(rows, point), [needed(change, harm / 100) for harm in HARMS]
            name, counts = arms.of(point.arm).label_of(point.source), (change.replicates, change.images or UNKNOWN)
            lines.append(_row((point.model, name, results.percent(share), *map(str, counts), *found)))
            cells += found
            replicates.add(change.replicates)
    return [*lines, "", *_legend(cells, replicates)]


def needed(change: Estimate, harm: float) -> str:
    """How many replicates show a harm, as text: `12`, or `8 x 2,400`, with so many test images."""
    if change.why_none:
        return UNKNOWN
    spread = power.spread_of(change)
    alone = power.replicates_needed(spread, harm, images=change.images)
    larger = None if alone or not change.images else power.larger_design(spread, harm)
    if larger:
        return f"{larger.replicates} x {larger.images:,}"
    return str(alone) if alone else f"> {power.MOST:,}"


def change_of(rows: pd.DataFrame, point: Run) -> Estimate | None:
    """The change against clean, None without common seeds. rows: of the primary metric."""
    change = of_run(rows, point).minus(of_run(rows, point.clean))
    return change.estimate() if change.values else None


def _row(cells: tuple[str, ...]) -> str:
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def _legend(cells: list[str], replicates: set[int]) -> list[str]:
    """What stands in the cells, as far as any of it does, and how little is known from few replicates."""
    lines = []
    if any(" x " in cell for cell in cells):
        lines.append("8 x 2,400: no number of replicates shows it on the test images there are; 8 do on 2,400.")
    if UNKNOWN in cells:
        lines.append(f"{UNKNOWN}: too few seeds, or test images on which models differ, to tell.")
    if any(cell.startswith(">") for cell in cells):
        lines.append(f"> {power.MOST:,}: replicates differ too much for any number worth running.")
    if min(replicates, default=0) >= intervals.FEWEST:
        low, high = power.variance_known_to(min(replicates))
        lines.append(f"A variance between {min(replicates)} replicates is known to {low:.1f} to {high:.0f} times only.")
    return lines
