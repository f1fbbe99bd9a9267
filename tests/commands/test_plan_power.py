"""`contamination plan --power`: read off a finished study's results, with test images where predictions are stored."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from contamination import cli, sources
from contamination.commands import power
from contamination.report import results
from contamination.report.outcomes import attach
from contamination.report.scores import of_run
from contamination.study import study as studies
from contamination.study.study import Run, Study

pytestmark = pytest.mark.medium

STUDY, IMAGES = "parameters/smoke.yaml", 200


@pytest.fixture
def study(project, monkeypatch) -> Study:
    monkeypatch.setattr(sources, "class_names", lambda layout: ["one", "two"])
    content = yaml.safe_load((project / STUDY).read_text())
    content["grid"]["seeds"] = [0, 1, 2, 3, 4]
    (project / STUDY).write_text(yaml.safe_dump(content))
    return studies.load(STUDY)


def outcomes(study: Study, run: Run, seed: int, wrong: float) -> np.ndarray:
    """Which test images a made-up run classifies correctly; more are wrong the more is removed."""
    rng = np.random.default_rng([seed, len(run.arm), round(100 * run.ratio)])
    return rng.random(IMAGES) > wrong * (1 + run.ratio)


def finish(study: Study, wrong: float = 0.1, predictions: bool = True) -> None:
    """What a finished study leaves: results.csv, and the predictions of two classes."""
    rows = []
    for run in study.runs():
        tables = []
        for seed in run.seeds:
            right = outcomes(study, run, seed, wrong)
            point = {key: getattr(run, key) for key in ("task", "model", "arm", "source", "ratio")}
            rows.append(
                point
                | {"replaced": run.ratio, "seed": seed, "draw": 0, "slots": seed, "value": right.mean(), "n": IMAGES}
            )
            probabilities = [[1.0, 0.0] if each else [0.0, 1.0] for each in right]
            tables.append(pd.DataFrame({"seed": seed, "label": 0, "probabilities": probabilities}))
        folder = study.layout.run("evaluate", *run)
        folder.mkdir(parents=True)
        if predictions:
            pd.concat(tables).to_parquet(folder / "predictions.parquet")
    table = pd.DataFrame(rows).assign(study=study.study, split="test", metric="accuracy")
    study.own.results.parent.mkdir(parents=True, exist_ok=True)
    results.write(table.reindex(columns=results.COLUMNS), study.own.results)


def told(capsys, status: int = 0) -> list[str]:
    assert cli.main(["plan", STUDY, "--power"]) == status
    printed = capsys.readouterr()
    return (printed.out + printed.err).splitlines()


def rows_of(lines: list[str]) -> list[list[str]]:
    return [re.split(r"\s{2,}", line) for line in lines if line.startswith("resnet")]


def test_every_arm_and_ratio_has_its_number_of_replicates(study, capsys):
    finish(study)
    rows = rows_of(told(capsys))
    points = [point for point in results.points(study, "classification") if point.ratio and point.model == "resnet"]
    assert len(rows) == len(points)
    for row in rows:
        assert row[3:5] == ["5", str(IMAGES)] and re.fullmatch(r"\d+( x [\d,]+)?|> 1,000", row[7])


def test_where_images_are_too_few_the_number_of_images_is_told(study, capsys):
    finish(study)
    lines = told(capsys)
    smallest = [row[5] for row in rows_of(lines)]
    images = [int(cell.split(" x ")[1].replace(",", "")) for cell in smallest if " x " in cell]
    assert images and min(images) > IMAGES
    assert "8 x 2,400: no number of replicates shows it on the test images there are; 8 do on 2,400." in lines


def test_without_predictions_it_is_from_seeds_alone(study, capsys):
    finish(study, predictions=False)
    rows = rows_of(told(capsys))
    assert {tuple(row[3:5]) for row in rows} == {("5", "-")}
    assert all(re.fullmatch(r"\d+|> 1,000", cell) for row in rows for cell in row[5:])


def test_the_change_is_that_of_the_predictions(study):
    finish(study)
    table = attach(results.read(study.own.results), study)
    rows = results.metric(table, "classification", name="accuracy")
    point = next(point for point in results.points(study, "classification") if point.ratio)
    change, expected = power.change_of(rows, point), of_run(rows, point).minus(of_run(rows, point.clean))
    assert change.mean == pytest.approx(np.mean(list(expected.values.values()))) and change.images == IMAGES


def test_models_that_hardly_err_tell_nothing(study, capsys):
    finish(study, wrong=0.0)
    lines = told(capsys)
    assert all(row[5:] == ["-", "-", "-"] for row in rows_of(lines))
    assert "-: too few seeds, or test images on which models differ, to tell." in lines


def test_a_study_without_results_is_refused_in_one_line(study, capsys):
    (line,) = told(capsys, status=2)
    assert line.startswith("contamination: ") and "results.csv is missing: --power needs a finished study" in line
