"""The tidy table and the answer computed from it, fed with made-up results."""

import numpy as np
import pandas as pd
import pytest
from contamination.base import files
from contamination.report import results, scores, summary
from contamination.report.sections import PrimaryMetric
from contamination.study import study as studies

TASK = "classification"
HEADLINE = PrimaryMetric("accuracy", "test accuracy", percent=True)


@pytest.fixture
def study(project):
    loaded = studies.load("parameters/smoke.yaml")
    loaded.grid.seeds = [0, 1, 2]
    return loaded


def made_up(study, loss: dict[str, float], noise=0.001) -> pd.DataFrame:
    """A table in which each arm loses `loss[arm]` of accuracy per unit of ratio."""
    rng = np.random.default_rng(0)
    rows = []
    for run in study.runs():
        for replicate in run.replicates:
            value = 0.9 - loss.get(run.arm, 0) * run.ratio + rng.normal(0, noise)
            point = dict(zip(("task", "model", "arm", "source", "ratio"), run, strict=False))
            rows.append({"study": study.study} | point | replicate._asdict())
            rows[-1] |= {"replaced": run.ratio, "split": "test", "metric": "accuracy", "value": value, "n": 597}
    return pd.DataFrame(rows).reindex(columns=results.COLUMNS)


def sentences(study, **loss):
    return summary.answer(made_up(study, loss), study, task=TASK, primary=HEADLINE).sentences


def test_a_loss_is_called_a_loss_with_its_size(study):
    first, second, _ = sentences(study, generated=0.4, other_real=0.0, dropped=0.1)
    ratio = summary.common_ratio(study, TASK)
    assert "lowers the test accuracy" in first and f"{100 * ratio:g} % of the real training images" in first
    assert f"\u2212{40 * ratio:.0f}." in first and "generated images alone give 50." in first
    assert "worse than none" in second


def test_generated_images_that_help_are_called_better_than_none(study):
    first, second, _ = sentences(study, generated=0.1, dropped=0.5)
    assert "lowers" in first and "better than none" in second


def test_what_cannot_be_told_is_not_claimed(study):
    table = made_up(study, {}, noise=0.2)
    first, second, _ = summary.answer(table, study, task=TASK, primary=HEADLINE).sentences
    assert "does not measurably change" in first and "not measurably different from none" in second


def test_one_seed_has_no_interval_and_no_verdict(study):
    study.grid.seeds = [0]
    first, second, third = sentences(study, generated=0.4)
    assert "nan" not in first + second + third and "1 seed, no interval" in first
    assert "does not measurably change" in first


def test_two_seeds_have_no_interval_and_no_verdict_however_large_the_loss(study):
    study.grid.seeds = [0, 1]
    first, _, third = sentences(study, generated=0.8)
    assert "does not measurably change" in first and "2 seeds, no interval" in first
    assert third.endswith("fewer than 3 training seeds give no interval.")


def test_seeds_that_are_all_equal_prove_nothing(study):
    first, *_ = summary.answer(
        made_up(study, {"generated": 0.4}, noise=0), study, task=TASK, primary=HEADLINE
    ).sentences
    assert "does not measurably change" in first and "3 seeds that hardly differ, no interval" in first


def test_an_interval_of_a_share_stays_within_0_and_1(study):
    table = made_up(study, {}, noise=0).assign(value=lambda rows: 0.97 + 0.02 * (rows["seed"] == 1))
    found = results.summarize(table, study, task=TASK, primary=HEADLINE)
    assert (found["high"] == 1).all() and (found["low"] < 0.97).all()


def test_every_run_behind_the_answer_is_named(study):
    found = summary.answer(made_up(study, {"generated": 0.4}), study, task=TASK, primary=HEADLINE)
    assert {run.arm for run in found.runs} == {"clean", "generated", "other_real", "dropped"}


def test_the_summary_has_mean_interval_and_n_of_every_point(study):
    summary = results.summarize(made_up(study, {"generated": 0.4}), study, task=TASK, primary=HEADLINE)
    assert len(summary) == len(results.points(study, TASK))
    assert (summary["n"] == len(study.grid.seeds)).all()
    assert ((summary["low"] <= summary["mean"]) & (summary["mean"] <= summary["high"])).all()
    assert (summary.loc[summary["arm"] == "clean", "change"] == 0).all()


def write_records(study, of_images=(), **changes):
    for run in study.runs():
        scores = [{"seed": seed, "split": "test", "metric": "accuracy", "value": 0.5, "n": 9} for seed in run.seeds]
        recipe = study.parameters("train", **run._asdict())
        recipe |= recipe.pop("recipe") | changes
        files.write_json(study.layout.run("evaluate", *run) / files.RECORD, {"recipe": recipe, "scores": scores})
        share = {"all": run.ratio / 2, "lowest": 0, "highest": run.ratio}
        files.write_json(study.layout.mixture(*run.mixture) / files.RECORD, {"replaced": share})
    score = {"split": "train", "metric": "recall", "value": 0.4, "n": 9, "low": 0.3, "high": 0.45}
    for stage in study.image_stages:
        for point in study.jobs()[stage]:
            parameters = study.parameters(stage, **point) | dict(of_images)
            record = {"scores": [score | {"model": f"by {stage}"}], "parameters": parameters}
            files.write_json(study.job(stage, **point) / files.RECORD, record)


def test_the_table_has_one_row_per_run_and_number(study):
    write_records(study)
    table = results.collect(study)
    assert list(table.columns) == results.COLUMNS
    images = [point for stage in study.image_stages for point in study.jobs()[stage]]
    assert len(table) == sum(len(run.seeds) for run in study.runs()) + len(images)
    results.write(table, study.layout.results)
    runs = table[table["task"] == TASK]
    assert (runs["replaced"] == runs["ratio"] / 2).all()
    text = study.layout.results.read_text().splitlines()
    assert text[0] == "study,task,model,arm,source,ratio,replaced,seed,draw,slots,split,metric,value,n,low,high"
    assert text[1].startswith(
        f"smoke,classification,{next(iter(study.grid.models))},clean,train,0.00,0.0,0,0,0,test,accuracy,0.5,9,,"
    )
    pd.testing.assert_frame_equal(results.read(study.layout.results), table)


def test_a_run_made_by_hand_with_another_recipe_is_refused(study):
    write_records(study, learning_rate=0.5)
    with pytest.raises(ValueError, match=r"was made with learning_rate 0\.5, the study says .*: delete this folder"):
        results.collect(study)


def test_a_measure_made_by_hand_with_other_parameters_is_refused(study):
    write_records(study, of_images={"neighbors": 3})
    with pytest.raises(ValueError, match=r"class-name-7\.5 was made with neighbors 3, the study says 5: delete"):
        results.collect(study)


def test_a_run_that_the_study_no_longer_lists_is_not_read(study):
    write_records(study)
    study.grid.arms.remove("dropped")
    assert "dropped" not in set(results.collect(study)["arm"])


def test_measures_of_images_stand_beside_the_runs_with_their_intervals(study):
    write_records(study)
    table = results.collect(study)
    assert results.of_set(table, "measure", name="recall", source="class-name-7.5", split="train") == (
        0.4,
        0.3,
        0.45,
        9,
    )
    assert results.of_set(table, "detect", name="recall", source="pool", split="train", model="by detect") == (
        0.4,
        0.3,
        0.45,
        9,
    )
    assert results.of_set(table, "measure", name="recall", source="pool", split="test") is None
    assert results.of_set(table, "measure", name="recall", source="pool", split="train", model="another") is None
    arms = table[table["task"].isin(study.image_stages)].groupby("source")["arm"].unique().map(list).to_dict()
    assert arms == {"class-name-7.5": ["generated"], "pool": ["other_real"]}


# Draws and slots


@pytest.fixture
def crossed(study):
    study.grid.draws, study.grid.slots = [0, 1, 2], [4, 5]
    return study


def of_replicates(study) -> pd.DataFrame:
    """Values that tell the replicate: hundredths are of the seed, thousandths of the draw, the rest of the slots."""
    table = made_up(study, {}, noise=0)
    return table.assign(value=table["seed"] / 100 + table["draw"] / 1000 + table["slots"] / 10_000)


def test_runs_of_a_crossed_study_are_compared_replicate_by_replicate(crossed):
    table = of_replicates(crossed)
    every = [each for block in crossed.blocks(TASK) for each in block]
    assert len(every) == len(set(every)) == 18
    for point in results.points(crossed, TASK):
        found = scores.of_run(table, point).values
        assert list(found) == every
        for (seed, draw, slots), value in found.items():
            drawn, chosen = draw * (point.arm == "generated"), seed if point.arm == "clean" else slots
            assert value == pytest.approx(seed / 100 + drawn / 1000 + chosen / 10_000)
    n = results.summarize(table, crossed, task=TASK, primary=HEADLINE).groupby("arm")["n"].max()
    assert n.to_dict() == {"clean": 3, "dropped": 6, "generated": 18, "other_real": 6}  # of runs, none of them twice


def test_each_class_is_paired_in_a_crossed_study_too(crossed):
    table = of_replicates(crossed).assign(metric="accuracy of one")
    change = results.change_per_class(table, crossed, model="resnet", ratio=0.5)
    assert set(change.index) == {("generated", "class-name-7.5"), ("other_real", "pool"), ("dropped", "none")}
    assert all(each.n == 18 for each in change["one"])


def measured(values: list[float]) -> pd.DataFrame:
    rows = [{"metric": "recall", "source": "set", "draw": draw, "value": value} for draw, value in enumerate(values)]
    return pd.DataFrame(rows).assign(n=60, low=lambda row: row["value"] - 0.1, high=lambda row: row["value"] + 0.2)


def test_a_measure_has_an_interval_over_three_draws_or_more_and_else_the_first_draws_over_images():
    found = results.over_draws(measured([0.3, 0.5, 0.7]), 0.95)
    half = 4.302653 * 0.2 / 3**0.5  # Student's t of 2 degrees of freedom
    assert found == pytest.approx((0.5, 0.5 - half, 0.5 + half, 3), abs=1e-6)
    assert results.over_draws(measured([0.8, 0.9, 1.0]), 0.95).high == 1
    assert results.over_draws(measured([0.8, 0.9, 1.0]).assign(metric="frechet_distance"), 0.95).high > 1.1
    for values in ([0.3], [0.3, 0.5], [0.3, 0.3, 0.3]):
        assert results.over_draws(measured(values), 0.95) == pytest.approx((0.3, 0.2, 0.5, 60))
    with pytest.raises(ValueError, match="recall of set is there more than once for a draw"):
        results.over_draws(measured([0.3, 0.4]).assign(draw=0), 0.95)


def test_what_is_collected_carries_its_draw(study):
    study.grid.draws = "per_seed"
    write_records(study)
    table = results.collect(study)
    of_runs = table[table["task"] == TASK]
    assert (of_runs["draw"] == of_runs["seed"] * (of_runs["arm"] == "generated")).all()
    assert (of_runs["slots"] == of_runs["seed"]).all()
    of_sets = table[table["task"] == "measure"].groupby("source")["draw"].unique().map(list).to_dict()
    assert of_sets == {"class-name-7.5": [0, 1, 2], "pool": [0]}


OWN = {"class-name-7.5": {"style": "class_name", "guidance": 7.5}}
OTHER = OWN | {"published": {"style": "diverse", "guidance": 5.0, "generate": {"pipeline": "some/where"}}}


@pytest.mark.parametrize(
    ("draws", "slots", "sets", "fixed", "varied"),
    [
        ("shared", None, OWN, "one training of the generator, one version of each generated set, one split", None),
        ("per_seed", None, OWN, "one split", "training of the generator, noise of its images, slots, initial weights"),
        ("per_seed", None, OTHER, "the weights of the generator of published, one split", "training of the generator"),
        ("per_seed", None, OWN | {"theirs": {"folder": "theirs"}}, "one version of theirs, one split", "noise of"),
        ("shared", [1, 2], OWN, "one training", "(initial weights, order), crossed with 2 choices of slots: as many"),
        ([0, 1], [1, 2], OWN, "one split", "crossed with 2 draws of the generated sets (training of the generator, "),
    ],
)
def test_what_is_held_fixed_and_what_varied_is_said(study, draws, slots, sets, fixed, varied):
    study.grid.generated = {name: studies.Generated(**made) for name, made in sets.items()}
    study.grid.draws, study.grid.slots = draws, slots
    *_, held = sentences(study)
    assert held.startswith(f"Held fixed in all of this: {fixed}")
    assert (varied or "over training seeds (slots, initial weights, order).") in held
    assert ("they are too narrow" in held) == (isinstance(draws, list) or slots is not None)
