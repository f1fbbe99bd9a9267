"""Which test images a run got right: read from its predictions, and refused where these are of another evaluation."""

import numpy as np
import pandas as pd
import pytest
from contamination import sources
from contamination.report import outcomes, results, scores
from contamination.study import study as studies

IMAGES, NAMES = 30, ["zero", "one", "two"]


@pytest.fixture
def study(project, monkeypatch):
    monkeypatch.setattr(sources, "class_names", lambda layout: NAMES)
    loaded = studies.load("parameters/smoke.yaml")
    for run in loaded.runs():
        folder = loaded.layout.run("evaluate", *run)
        folder.mkdir(parents=True)
        pd.concat([predictions(run, seed) for seed in run.seeds]).to_parquet(folder / "predictions.parquet")
    return loaded


def predictions(run, seed: int) -> pd.DataFrame:
    """Two of the three classes are in the test set."""
    rng = np.random.default_rng([seed, round(100 * run.ratio), len(run.source)])
    probabilities = list(rng.random((IMAGES, len(NAMES))).astype(np.float32))
    return pd.DataFrame({"seed": seed, "label": rng.integers(2, size=IMAGES), "probabilities": probabilities})


def table(study) -> pd.DataFrame:
    rows = []
    for run in study.runs():
        for seed in run.seeds:
            made = predictions(run, seed)
            right = np.stack(made["probabilities"]).argmax(axis=1) == made["label"]
            point = dict(zip(scores.POINT, run, strict=False)) | {"split": "test", "replaced": run.ratio}
            point |= {"seed": seed, "draw": 0, "slots": seed}
            values = {"accuracy": right.mean(), "accuracy of one": right[made["label"] == 1].mean(), "other": 0.3}
            rows += [point | {"metric": metric, "value": value, "n": IMAGES} for metric, value in values.items()]
    return pd.DataFrame(rows)


def test_every_score_that_is_a_mean_over_images_gets_these(study):
    attached = outcomes.attach(table(study), study)
    for row in attached.itertuples():
        if row.metric == "other":
            assert row.per_image is None
        else:
            assert row.per_image.mean() == pytest.approx(row.value)
    whole = results.metric(attached, "classification", name="accuracy")
    assert {len(images) for images in whole[scores.PER_IMAGE]} == {IMAGES}


def test_predictions_of_another_evaluation_are_refused_in_one_line(study):
    changed = table(study)
    changed.loc[0, "value"] += 0.01
    with pytest.raises(ValueError, match=r"seed 0: accuracy is .* by its predictions: run the study again") as refused:
        outcomes.attach(changed, study)
    assert "\n" not in str(refused.value)


def test_where_predictions_are_gone_scores_stay_without_images(study):
    run = study.runs()[0]
    (study.layout.run("evaluate", *run) / "predictions.parquet").unlink()
    rows = results.metric(outcomes.attach(table(study), study), "classification", name="accuracy")
    assert not scores.of_run(rows, run).images and scores.of_run(rows, study.runs()[1]).images
