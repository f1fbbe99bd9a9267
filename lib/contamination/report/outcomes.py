"""Which test images each run got right, by the predictions that 04_evaluate keeps: for intervals over images."""

import numpy as np
import pandas as pd
import pyarrow.compute
import pyarrow.parquet

from contamination import tasks
from contamination.mixtures.replicates import Replicate
from contamination.report.scores import PER_IMAGE, POINT
from contamination.study.study import Run, Study

SPLIT = "test"
TOLERANCE = 1e-6  # results.csv and predictions are of one evaluation; the former was averaged in float32


def attach(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The table with the column `per_image`: an array for each score that is a mean over test images, else None.

    Raises ValueError where a mean is not the number in results.csv: the two were not made together.
    """
    found: dict[tuple, np.ndarray] = {}
    for run in study.runs():
        found |= _of_run(run, study)
    keys = table[[*POINT, *Replicate._fields, "split", "metric"]].itertuples(index=False, name=None)
    column = pd.Series([found.get(key) for key in keys], index=table.index, dtype=object)
    for row, images in zip(table.itertuples(), column, strict=True):
        if images is not None and not abs(images.mean() - row.value) < TOLERANCE:
            raise ValueError(
                f"{row.task} {row.model} {row.arm} {row.source} {row.ratio} seed {row.seed}: {row.metric} is "
                f"{row.value} in results.csv and {images.mean()} by its predictions: run the study again"
            )
    return table.assign(**{PER_IMAGE: column})


def _of_run(run: Run, study: Study) -> dict[tuple, np.ndarray]:
    task, file = tasks.load(run.task), study.layout.run("evaluate", *run) / "predictions.parquet"
    if not hasattr(task, "per_image") or not file.exists():
        return {}
    predictions = pyarrow.parquet.read_table(file)
    found = {}
    for each in run.replicates:
        rows = predictions.filter(pyarrow.compute.equal(predictions["seed"], each.seed))
        for metric, values in task.per_image(rows, study.layout, split=SPLIT).items():
            found[*run[: len(POINT)], *each, SPLIT, metric] = values
    return found
