"""What a loss is made of, up to which share it is small, and what an image is worth: on made-up scores."""

import numpy as np
import pandas as pd
import pytest
from contamination.base import image_tables
from contamination.report import decomposition, results, scores
from contamination.report.sections import PrimaryMetric
from contamination.study import study as studies

PRIMARY = PrimaryMetric("accuracy", "test accuracy", percent=True)
ASKED = {"task": "classification", "primary": PRIMARY}
SLOTS, IMAGES = 600, 3000


@pytest.fixture
def study(project, monkeypatch):
    loaded = studies.load("parameters/digits.yaml")
    monkeypatch.setattr(image_tables, "read", lambda path: pd.DataFrame(index=range(SLOTS)).pipe(Rows))
    return loaded


class Rows:
    """A table of which only the number of rows is asked."""

    def __init__(self, frame):
        self.num_rows = len(frame)


def made_up(study, accuracy) -> pd.DataFrame:
    """accuracy: of a run; every image right with that probability."""
    rng, rows = np.random.default_rng(0), []
    for run in study.runs():
        for seed in run.seeds:
            right = rng.random(IMAGES) < accuracy(run)
            point = dict(zip(scores.POINT, run, strict=False)) | {"replaced": run.ratio, "split": "test"}
            point |= {"seed": seed, "draw": 0, "slots": seed}
            rows.append(point | {"metric": "accuracy", "value": right.mean(), "n": IMAGES, scores.PER_IMAGE: right})
    return pd.DataFrame(rows)


def by_images_left(worth: float):
    """Accuracy by the logarithm of the real images left, where a generated one counts as `worth` of them."""

    def accuracy(run) -> float:
        left = SLOTS * (1 - run.ratio)
        more = {"generated": worth, "other_real": 1.0}.get(run.arm, 0.0) * SLOTS * run.ratio
        return 0.5 + 0.06 * np.log(max(left + more, 1))

    return accuracy


def test_the_change_is_the_sum_of_what_is_missing_and_what_replaces_it(study, tmp_path):
    table = made_up(study, by_images_left(0.2))
    effects = decomposition.write(table, study, tmp_path / "effects.csv")
    keys = ["model", "ratio"]
    missing = effects[effects["effect"] == decomposition.MISSING].set_index(keys)["value"]
    for _, rows in effects[effects["arm"] == "generated"].groupby(["model", "source"]):
        change, replacement = (
            rows[rows["effect"] == name].set_index(keys)["value"] for name in ("change", "replacement")
        )
        assert len(replacement) == len(missing[replacement.index]) > 0
        pd.testing.assert_series_equal(change[replacement.index], missing[replacement.index] + replacement)


def test_every_effect_has_an_interval_around_it_and_what_that_is_made_of(study, tmp_path):
    decomposition.write(made_up(study, by_images_left(0.2)), study, tmp_path / "effects.csv")
    effects = pd.read_csv(tmp_path / "effects.csv")
    assert list(effects.columns) == decomposition.COLUMNS
    assert ((effects["low"] < effects["value"]) & (effects["value"] < effects["high"])).all()
    assert set(effects["images"]) == {IMAGES} and set(effects["replicates"]) == {5}
    points = len(results.points(study, "classification"))
    assert (effects["effect"] == decomposition.LEVEL).sum() == points
    assert (effects["effect"] == "change").sum() == points - 2 - (effects["effect"] == decomposition.MISSING).sum()
    against = effects[effects["effect"] == "against real control"]
    assert set(against["arm"]) == {"generated"} and against["p"].between(0, 1).all()


def test_a_planted_worth_of_images_is_found(study):
    found = decomposition.quantities(made_up(study, by_images_left(0.5)), study, **ASKED)
    (label, _, cells), *_ = found["rows"]
    assert label == "resnet" and " at 90 %" in cells[2]
    low, high = (float(end) for end in cells[2].split("; ")[-1].partition("(")[2].partition(")")[0].split(" to "))
    assert low < 0.5 < high


def test_shares_without_harm_and_with_it_are_named(study):
    def accuracy(run) -> float:
        return 0.9 - (0.5 if run.arm == "generated" and run.ratio >= 0.9 else 0.0)

    study.plot.margin = 0.2
    found = decomposition.quantities(made_up(study, accuracy), study, **ASKED)
    assert {(cells[0], cells[1]) for *_, cells in found["rows"]} == {("80 %", "90 %")}
    none = decomposition.quantities(made_up(study, lambda run: 0.9), study, **ASKED)
    assert {cells[1] for *_, cells in none["rows"]} == {"not shown at 100 %"}
    bad = decomposition.quantities(made_up(study, lambda run: 0.9 if run.arm == "clean" else 0.4), study, **ASKED)
    assert {cells[0] for *_, cells in bad["rows"]} == {"not shown at 20 %"}


def test_halves_are_compared_at_the_ratio_nearest_to_one_half(study):
    text = decomposition.halves(made_up(study, by_images_left(0.2)), study, **ASKED)
    assert text.startswith("Test accuracy of resnet trained on 60 % of the real images: ")
    assert "all of them: " in text and "generated images alone: " in text and "(class-name-7.5)" in text


def test_the_sentence_names_both_parts(study):
    first, _ = decomposition.sentences(made_up(study, by_images_left(0.2)), study, **ASKED)
    assert first.startswith("At 90 % the change of resnet with class-name-7.5, ") and first.count("95 % interval") == 3


def test_the_figures_have_a_panel_for_every_set_and_model(study):
    stacked, left = decomposition.draw(made_up(study, by_images_left(0.2)), study, **ASKED)
    titles = [ax.get_title() for ax in stacked.figure.axes if ax.get_visible()]
    assert titles == [f"resnet, generated: {name}" for name in study.plot.sets] + [
        "convnext, generated: class-name-7.5"
    ]
    assert [ax.get_title() for ax in left.figure.axes] == ["resnet", "convnext"]
    assert [int(tick.get_text()) for tick in left.figure.axes[0].get_xticklabels()] == [60, 120, 360, 480, 600]


def test_a_metric_that_is_no_share_has_neither_figure_nor_quantities(study):
    distance = {"task": "classification", "primary": PrimaryMetric("accuracy", "distance", percent=False)}
    table = made_up(study, by_images_left(0.2))
    assert decomposition.draw(table, study, **distance) == []
    assert decomposition.quantities(table, study, **distance) is None


def test_without_the_arm_dropped_the_loss_is_not_split(study):
    study.grid.arms = ["generated", "other_real"]
    table = made_up(study, by_images_left(0.2))
    assert decomposition.draw(table, study, **ASKED) == [] and decomposition.sentences(table, study, **ASKED) == []
    assert decomposition.quantities(table, study, **ASKED)["rows"][0][2][2] == "–"
