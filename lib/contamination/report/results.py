"""From the metrics of single runs to the tidy table that every figure and number of the report is made from."""

from pathlib import Path

import pandas as pd

from contamination.base.files import RECORD, read_json, whole_file
from contamination.base.layout import spell_ratio
from contamination.metrics.distributions import MEASURES
from contamination.metrics.intervals import FEWEST, Interval, interval
from contamination.mixtures import arms, replicates, shares
from contamination.report.scores import PER_IMAGE, SHARE, UNBOUNDED, of_rows, of_run, rows_of
from contamination.study.study import Run, Study

COLUMNS = [
    "study",
    "task",
    "model",
    "arm",
    "source",
    "ratio",
    "replaced",
    "seed",
    "draw",
    "slots",
    "split",
    "metric",
    "value",
    "n",
    "low",
    "high",
]
KEYS = COLUMNS[:-4]  # what a number is of; `replaced` is the share that the ratio really replaces


def collect(study: Study) -> pd.DataFrame:
    """One row per run and number in the order of the grid, then those of the generated sets themselves.

    low, high: the interval of a measure of images, over resampled images; empty for the score of a run.
    draw: of the generated set, 0 where a run has none. slots: what chose the slots, the seed where none are replaced.
    Reads exactly the jobs that the study lists, never what else lies in the folder. Raises ValueError when a
    job was done with other parameters than the study's, as by a notebook run by hand.
    """
    rows = []
    for run in study.runs():
        record = read_json(study.layout.run("evaluate", *run) / RECORD)
        expected = study.parameters("train", **run._asdict())
        expected |= expected.pop("recipe")
        _check(study.layout.run("train", *run), expected, record["recipe"])
        point = {"task": run.task, "model": run.model, "arm": run.arm, "source": run.source, "ratio": run.ratio}
        point["replaced"] = share_of(study, run).all
        of_seed = {each.seed: each._asdict() for each in run.replicates}
        rows += [point | of_seed[score["seed"]] | score for score in record["scores"]]
    for stage in study.image_stages:
        for job in study.jobs()[stage]:
            folder = study.job(stage, **job)
            record = read_json(folder / RECORD)
            _check(folder, study.parameters(stage, **job), record["parameters"])
            point = job | {"task": stage, "arm": arms.of_source(job["source"]).name}
            point |= {"ratio": 1.0, "replaced": 1.0}  # they stand in every slot
            point |= {"seed": study.seed, "slots": study.seed}
            rows += [point | score for score in record["scores"]]
    table = pd.DataFrame(rows).assign(study=study.study).reindex(columns=COLUMNS)
    if table.duplicated(KEYS).any():
        raise ValueError("two runs gave the same number: each combination may stand once in results.csv")
    return table


def share_of(study: Study, run: Run) -> shares.Share:
    """The share of real images that is really replaced at a point of the grid."""
    return shares.Share(**read_json(study.layout.mixture(*run.mixture) / RECORD)["replaced"])


def _check(folder: Path, expected: dict, found: dict) -> None:
    for name, value in expected.items():
        value = list(value) if isinstance(value, tuple) else value
        if found.get(name) != value:
            raise ValueError(
                f"{folder} was made with {name} {found.get(name)!r}, the study says {value!r}: "
                "delete this folder and run the study again"
            )


def write(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as scratch:
        table.assign(ratio=table["ratio"].map(spell_ratio)).to_csv(scratch, index=False)


def read(path: Path) -> pd.DataFrame:
    """The tidy table, `ratio` as a number."""
    words = dict.fromkeys(["study", "task", "model", "arm", "source", "split", "metric"], str)
    empty = {"low": [""], "high": [""]}  # nowhere else: a model may be called 50, or None
    return pd.read_csv(path, dtype=words, keep_default_na=False, na_values=empty)


def metric(table: pd.DataFrame, task: str, *, name: str, split: str = "test") -> pd.DataFrame:
    """The rows of one metric of a task on one split."""
    return table[(table["task"] == task) & (table["metric"] == name) & (table["split"] == split)]


def in_percent(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a measure that is a share of 1."""
    rows = rows.assign(value=100 * rows["value"])
    if PER_IMAGE in rows:
        rows[PER_IMAGE] = rows[PER_IMAGE].map(lambda images: None if images is None else 100 * images)
    return rows


def ood(table: pd.DataFrame) -> pd.DataFrame:
    """The accuracy of every run on every OOD test set, as the mean over its severities; `split` is the set."""
    classified = table["task"] == "classification"
    rows = table[classified & (table["metric"] == "accuracy") & (table["split"] != "test")]
    rows = rows.assign(split=rows["split"].str.split("/").str[0])
    return rows.groupby(KEYS, sort=False, as_index=False).agg({"value": "mean", "n": "sum"})


def over_ood_sets(table: pd.DataFrame) -> pd.DataFrame:
    """The mean accuracy of every run over all OOD test sets."""
    keys = [key for key in KEYS if key not in ("split", "metric")]
    return ood(table).groupby(keys, sort=False, as_index=False)["value"].mean()


def of_set(
    table: pd.DataFrame,
    stage: str,
    *,
    name: str,
    source: str,
    split: str,
    model: str | None = None,
    confidence: float = 0.95,
):
    """What a stage has found of one set of images, as `over_draws` gives it; None where this could not be measured.

    split: the images that it was compared with, or tested on. model: the network or detector, where there are several.
    """
    rows = metric(table, stage, name=name, split=split)
    rows = rows[(rows["source"] == source) & (rows["model"] == (model or rows["model"]))]
    return None if rows.empty else over_draws(rows, confidence)


def over_draws(rows: pd.DataFrame, confidence: float) -> Interval:
    """The mean over the draws of a set, with Student's t interval of what another draw may give.

    Of too few draws, or where all of them give the same, the value of the first with its interval over images.
    rows: of one measure of one set, one for each draw. Raises ValueError for several rows of one draw.
    """
    if rows["draw"].duplicated().any():
        raise ValueError(f"{rows['metric'].iloc[0]} of {rows['source'].iloc[0]} is there more than once for a draw")
    rows = shown_draws(rows)
    row = next(rows.itertuples())
    if rows["value"].nunique() > 1:
        measure = MEASURES.get(row.metric.partition(" of ")[0])
        floor, ceiling = (measure.low, measure.high) if measure else (0, 1)  # all others are shares
        return interval(rows["value"], confidence, floor=floor, ceiling=ceiling)
    return Interval(row.value, row.low, row.high, row.n)


def shown_draws(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of all draws of a set; of the first one, where there are too few of them for an interval."""
    draws = rows["draw"].unique()
    return rows if len(draws) >= FEWEST else rows[rows["draw"] == draws.min()]


def replaced(table: pd.DataFrame, run: Run) -> float:
    """The share of real images that is really replaced at a point of the grid; the ratio, where it has no rows."""
    same = (table["task"] == run.task) & (table["arm"] == run.arm) & (table["source"] == run.source)
    found = table.loc[same & (table["ratio"] == run.ratio), "replaced"]
    return run.ratio if found.empty else float(found.iloc[0])


def percent(share: float) -> str:
    """A share of 1 as text, in percent with at most three digits."""
    return f"{100 * share:.3g} %"


def points(study: Study, task: str) -> list[Run]:
    """The points of a task's grid: its runs without their division into blocks, each with all replicates of the task.

    So runs are compared replicate by replicate, those too that depend on fewer things and were made once for several.
    """
    every = replicates.lists(each for block in study.blocks(task) for each in block)
    return list(dict.fromkeys(Run(*run[:5], *every) for run in study.runs() if run.task == task))


def summarize(table: pd.DataFrame, study: Study, *, task: str, primary) -> pd.DataFrame:
    """Mean, interval and n over runs of the primary metric, and its paired change against ratio 0, for each point.

    primary: as `sections.PrimaryMetric`.
    """
    rows, chosen = [], metric(table, task, name=primary.metric)
    for point in points(study, task):
        rows_here, scores, clean = rows_of(chosen, point), of_run(chosen, point), of_run(chosen, point.clean)
        level = of_rows(rows_here).interval(study.plot.confidence, bounds=SHARE if primary.percent else UNBOUNDED)
        change = scores.minus(clean).interval(study.plot.confidence)
        named: dict = {"task": point.task, "model": point.model, "arm": point.arm, "source": point.source}
        level_columns = {"mean": level.mean, "low": level.low, "high": level.high, "n": level.n}
        change_columns = {"change": change.mean, "change_low": change.low, "change_high": change.high}
        rows.append(named | {"ratio": point.ratio} | level_columns | change_columns)
    return pd.DataFrame(rows)


def change_per_class(table: pd.DataFrame, study: Study, *, model: str, ratio: float) -> pd.DataFrame:
    """Change of accuracy against ratio 0, per class and point of the grid at one ratio, paired by seed.

    One row per arm and source, one column per class; each cell a `intervals.Interval`, in shares of 1.
    """
    prefix = "accuracy of "
    rows = table[(table["model"] == model) & table["metric"].str.startswith(prefix)]
    of_clean = rows[rows["arm"] == arms.CLEAN.name].groupby("metric")
    changes: dict[tuple[str, str], dict] = {}
    for point in points(study, "classification"):
        if (point.model, point.ratio) != (model, ratio):
            continue
        for name, part in rows_of(rows, point).groupby("metric", sort=False):
            change = of_run(part, point).minus(of_run(of_clean.get_group(name), point.clean))
            found = change.interval(study.plot.confidence)
            changes.setdefault((point.arm, point.source), {})[name.removeprefix(prefix)] = found
    return pd.DataFrame.from_dict(changes, orient="index")
