"""The main quantities of a study: what a loss is made of, up to which share it is small, what an image is worth.

The change that generated images make splits into the cost of the real images that are missing (dropped minus clean) and
what the images in their place add to that or take from it (generated minus dropped).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from contamination.base import image_tables
from contamination.base.files import whole_file
from contamination.base.layout import spell_ratio
from contamination.metrics import exchange_rate, multiplicity
from contamination.metrics.intervals import Interval
from contamination.metrics.two_way import Estimate
from contamination.mixtures import arms
from contamination.report import figures, results, scores
from contamination.report.sections import Figure, PrimaryMetric
from contamination.report.summary import change_in_words, level, number
from contamination.study.study import Run, Study

EFFECTS = {  # by the arm that a point is compared with
    arms.CLEAN.name: "change",
    arms.DROPPED.name: "replacement",
    arms.OTHER_REAL.name: "against real control",
}
LEVEL, MISSING = "level", "missing images"
COLUMNS = ["task", "model", "metric", "arm", "source", "ratio", "replaced", "effect", "value", "low", "high", "p"]
COLUMNS += ["replicates", "images", "error_replicates", "error_images"]


class Part(NamedTuple):
    """One effect at one point of the grid, or its score. name: of `EFFECTS`, `MISSING` or `LEVEL`."""

    point: Run
    name: str
    scores: scores.Scores

    @property
    def estimate(self) -> Estimate:
        return self.scores.estimate()


def levels(table: pd.DataFrame, study: Study, *, task: str, primary: PrimaryMetric) -> list[Part]:
    """The score itself at every point of the grid."""
    rows = results.metric(table, task, name=primary.metric)
    points = results.points(study, task)
    return [Part(point, LEVEL, scores.of_rows(scores.rows_of(rows, point))) for point in points]


def parts(table: pd.DataFrame, study: Study, *, task: str, primary: PrimaryMetric) -> list[Part]:
    """Every effect of a task on its primary metric, over all points of the grid."""
    rows, grid = results.metric(table, task, name=primary.metric), results.points(study, task)
    found = []
    for point in (point for point in grid if point.ratio > 0):
        others = {other.arm: other for other in grid if _comparable(other, point)} | {arms.CLEAN.name: point.clean}
        mine = scores.of_run(rows, point)
        for arm, other in others.items():
            if arm != point.arm and (arm == arms.CLEAN.name or arms.of(point.arm).of_sets):
                name = MISSING if arms.of(point.arm).leaves_slots_empty else EFFECTS[arm]
                found.append(Part(point, name, mine.minus(scores.of_run(rows, other))))
    return found


def _comparable(other: Run, point: Run) -> bool:
    return (other.model, other.ratio) == (point.model, point.ratio) and not arms.of(other.arm).of_sets


def write(table: pd.DataFrame, study: Study, path) -> pd.DataFrame:
    """Every effect of the primary metrics with its interval and what that is made of, as effects.csv."""
    from contamination.report import sections

    rows = []
    for task in study.grid.tasks:
        primary = sections.load(task).primary(table)
        for part in [
            *levels(table, study, task=task, primary=primary),
            *parts(table, study, task=task, primary=primary),
        ]:
            found = part.estimate
            point = part.point._asdict() | {"metric": primary.metric, "replaced": results.replaced(table, part.point)}
            bounded = primary.percent and part.name == LEVEL
            ends = part.scores.interval(study.plot.confidence, bounds=scores.SHARE if bounded else scores.UNBOUNDED)
            numbers = {"value": found.mean, "low": ends.low, "high": ends.high}
            numbers |= {} if part.name == LEVEL else {"p": found.p_value()}
            errors = {name: getattr(found, name) for name in COLUMNS[-4:]}
            rows.append(point | {"effect": part.name} | numbers | errors)
    effects = pd.DataFrame(rows, columns=COLUMNS)
    with whole_file(path) as scratch:
        effects.assign(ratio=effects["ratio"].map(spell_ratio)).to_csv(scratch, index=False)
    return effects


class Curve(NamedTuple):
    """A set of images that replaces real ones of one model. parts: its effects, by rising ratio."""

    model: str
    arm: str
    source: str
    parts: list[Part]

    def of(self, name: str) -> list[Part]:
        return [part for part in self.parts if part.name == name]


def curves(found: list[Part]) -> list[Curve]:
    """The effects of each generated set on each model."""
    grouped: dict[tuple[str, str, str], list[Part]] = {}
    for part in found:
        if arms.of(part.point.arm).of_sets:
            grouped.setdefault((part.point.model, part.point.arm, part.point.source), []).append(part)
    return [Curve(*key, sorted(mine, key=lambda part: part.point.ratio)) for key, mine in grouped.items()]


def quantities(table: pd.DataFrame, study: Study, *, task: str, primary: PrimaryMetric) -> dict | None:
    """The table of main quantities of a task: its heads, and a row of cells for every set and model.

    None for a metric that is no share of 1, or where nothing is generated.
    """
    found = curves(parts(table, study, task=task, primary=primary))
    if not primary.percent or not found:
        return None
    confidence, margin = study.plot.confidence, study.plot.margin
    rows = []
    for curve in found:
        changes = [(results.replaced(table, part.point), part.estimate) for part in curve.of("change")]
        harmless = multiplicity.largest_harmless(changes, margin=margin, confidence=confidence)
        harmful = multiplicity.harm_shown_from(changes, confidence=confidence)
        rates = _exchange_rates(table, study, curve, task=task, primary=primary)
        cells = [
            results.percent(harmless) if harmless is not None else f"not shown at {results.percent(changes[0][0])}",
            results.percent(harmful) if harmful is not None else f"not shown at {results.percent(changes[-1][0])}",
            "; ".join(f"{_rate(rate)} at {results.percent(share)}" for share, rate in rates.items()) or "–",
        ]
        rows.append((curve.model, figures.label_of(curve.arm, curve.source), cells))
    heads = [f"harm below {100 * margin:g} points up to", "harm from", "real images that one image is worth"]
    return {"heads": heads, "rows": rows}


def _rate(rate: Interval) -> str:
    mean, low, high = (number(value, "z.2f") for value in rate[:3])
    return f"{mean} ({low} to {high})" if rate.is_given else f"{mean} (no interval)"


def _exchange_rates(table, study: Study, curve: Curve, *, task: str, primary) -> dict[float, Interval]:
    """What one image of a set is worth in real ones, by share, where the curve of removed images can tell."""
    rows, total = (
        results.metric(table, task, name=primary.metric),
        image_tables.read(study.layout.real("train")).num_rows,
    )
    removed = [point for point in results.points(study, task) if point.model == curve.model]
    removed = [point for point in removed if arms.of(point.arm).only_own_images]
    ruler = {
        _left(table, point, total): np.array(list(scores.of_run(rows, point).values.values())) for point in removed
    }
    found = {}
    for part in curve.of("replacement"):
        left = _left(table, part.point, total)
        values = np.array(list(scores.of_run(rows, part.point).values.values()))
        rate = exchange_rate.exchange_rate(ruler, left, total - left, values, confidence=study.plot.confidence)
        if rate is not None:
            found[results.replaced(table, part.point)] = rate
    return found


def _left(table: pd.DataFrame, point: Run, total: int) -> int:
    """How many real images of the slots are left at a point."""
    return round(total * (1 - results.replaced(table, point)))


def halves(table: pd.DataFrame, study: Study, *, task: str, primary: PrimaryMetric) -> str:
    """Fewer real images, all of them, generated ones in place of those that are missing, and generated ones alone.

    At the ratio nearest to one half that all arms have; empty where there is none.
    """
    rows, grid = results.metric(table, task, name=primary.metric), results.points(study, task)
    for dropped in sorted((point for point in grid if arms.of(point.arm).leaves_slots_empty), key=_from_half):
        sets = [point for point in grid if arms.of(point.arm).of_sets and point.model == dropped.model]
        mixed = [point for point in sets if point.ratio == dropped.ratio and point.source in study.main_sets()]
        if not mixed:
            continue
        left = results.percent(1 - results.replaced(table, dropped))
        cases = {f"{left} of the real images": dropped, "all of them": dropped.clean}
        cases |= {f"{left} and generated ones in place of the others ({mixed[0].source})": mixed[0]}
        alone = mixed[0]._replace(ratio=1.0)
        cases |= {"generated images alone": alone} if alone in grid else {}
        said = "; ".join(f"{name}: {level(scores.of_run(rows, point), primary)}" for name, point in cases.items())
        return f"{primary.words[0].upper()}{primary.words[1:]} of {dropped.model} trained on {said}."
    return ""


def _from_half(point: Run) -> float:
    return abs(point.ratio - 0.5)


def draw(table: pd.DataFrame, study: Study, *, task: str, primary: PrimaryMetric) -> list[Figure]:
    """What each loss is made of, and accuracy against the number of real images left."""
    every = parts(table, study, task=task, primary=primary)
    if not primary.percent or not any(curve.of("replacement") for curve in curves(every)):
        return []
    return [_stacked(table, study, every, task, primary), _over_images(table, study, task=task, primary=primary)]


def _stacked(table, study, every: list[Part], task: str, primary) -> Figure:
    """Two intervals for each share: of what is missing, and of what stands there."""
    palette, confidence = figures.colors(table), study.plot.confidence
    found = [curve for curve in curves(every) if curve.of("replacement")]
    columns = min(2, len(found))
    lines = -(-len(found) // columns)
    size = (4.6 * columns, 2.9 * lines + 0.8)
    figure, axs = plt.subplots(lines, columns, figsize=size, sharey=True, sharex=True, squeeze=False)
    for ax, curve in zip(axs.flat, found, strict=False):
        missing = [part for part in every if part.name == MISSING and part.point.model == curve.model]
        label = figures.label_of(curve.arm, curve.source)
        for nudge, shown, color, words in (
            (-0.012, missing, arms.DROPPED.color, "real images are missing (dropped minus all real)"),
            (
                0.012,
                curve.of("replacement"),
                palette[curve.arm, curve.source],
                "generated ones in their place (minus dropped)",
            ),
        ):
            shares = [results.replaced(table, part.point) + nudge for part in shown]
            ends = [part.estimate.interval(confidence).times(100) for part in shown]
            figures.error_bars(ax, shares, ends, color=color, marker="o" if nudge < 0 else "s", label=words)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set(title=f"{curve.model}, {label}", xlim=(-0.04, 1.04))
        ax.set_ylabel(f"change of {primary.words}\n(points)" if ax in axs[:, 0] else "")
        ax.grid(axis="y", alpha=0.3)
    for ax in axs.flat[len(found) :]:
        ax.set_visible(False)
    for column in axs.T:
        lowest = [ax for ax in column if ax.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
        lowest.set_xlabel(figures.RATIO_LABEL)
    figures.legend_below(figure, axs.flat[:1])
    caption = (
        f"What the change of the {primary.words} is made of: the cost of the real images that are missing, and what "
        "the generated images in their place add to it (above 0: better than empty slots). Their sum is the change "
        "against all real. Means with their confidence intervals."
    )
    return Figure(f"decomposition-{task}", figure, caption)


def _over_images(table, study, *, task: str, primary) -> Figure:
    """Accuracy over the number of real images left, on a log scale, where removed images make the ruler."""
    rows = results.in_percent(results.metric(table, task, name=primary.metric))
    total, palette = image_tables.read(study.layout.real("train")).num_rows, figures.colors(table)
    models = list(study.models_of(task))
    figure, axs = plt.subplots(1, len(models), figsize=(4.6 * len(models), 3.7), sharey=True, squeeze=False)
    for ax, model in zip(axs.flat, models, strict=True):
        grid = [point for point in results.points(study, task) if point.model == model]
        for place, (arm, source) in enumerate(palette):
            mine = [point for point in grid if (point.arm, point.source) == (arm, source)]
            mine = [grid[0], *(point for point in mine if _left(table, point, total) > 0)]
            if len(mine) == 1:
                continue
            left = [_left(table, point, total) for point in mine]
            ends = [
                scores.of_run(rows, point).interval(study.plot.confidence, bounds=figures.PERCENT) for point in mine
            ]
            style = {"color": palette[arm, source], "marker": figures.MARKERS[place % len(figures.MARKERS)]}
            ax.plot(left, [each.mean for each in ends], color=style["color"], linewidth=1.2)
            figures.error_bars(ax, left, ends, label=figures.label_of(arm, source), **style)
        ax.set(title=model, xlabel="real images left (log scale)", xscale="log")
        counts = sorted({count for point in grid if (count := _left(table, point, total))})
        ax.set_xticks(counts, [f"{count:,}" for count in counts], rotation=45)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axs[0, 0].set_ylabel(f"{primary.words} (%)")
    figures.legend_below(figure, axs.flat)
    caption = (
        f"{primary.words[0].upper()}{primary.words[1:]} against the number of real images left. The curve of dropped "
        "images is the ruler that says how many real images a generated one is worth: a point above it gains by what "
        "stands in the empty slots. Generated images alone have no place on this axis."
    )
    return Figure(f"images-left-{task}", figure, caption)


def sentences(table: pd.DataFrame, study: Study, *, task: str, primary: PrimaryMetric) -> list[str]:
    """The loss of the first main set at its largest ratio below 1, part by part; and the table of halves."""
    found = curves(parts(table, study, task=task, primary=primary))
    found = [curve for curve in found if curve.source in study.main_sets() and curve.of("replacement")]
    said = []
    if found:
        curve = found[0]
        last = curve.of("replacement")[-1]
        change = next(part for part in curve.of("change") if part.point == last.point)
        missing = change.scores.minus(last.scores)  # clean is in both
        in_words = [
            change_in_words(each.interval(study.plot.confidence), study.plot.confidence, primary=primary)
            for each in (change.scores, missing, last.scores)
        ]
        share = results.percent(results.replaced(table, last.point))
        said.append(
            f"At {share} the change of {curve.model} with {curve.source}, {in_words[0]}, is the sum of what the "
            f"missing real images cost, {in_words[1]}, and of what the generated ones in their place add, "
            f"{in_words[2]}."
        )
    return said + [each for each in [halves(table, study, task=task, primary=primary)] if each and primary.percent]
