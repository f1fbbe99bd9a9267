"""What the report says of each task, fed with made-up results."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from contamination import answer, figures, findings, results
from contamination import study as studies
from contamination.statistics import Interval
from matplotlib import pyplot as plt

matplotlib.use("Agg")


@pytest.fixture
def study(project):
    yield studies.load("parameters/digits-all.yaml")
    plt.close("all")


def made_up(study, task, values: dict[str, object], noise=0.001, splits=("test",)) -> pd.DataFrame:
    """One row per run, seed, split and metric. values: the value of each metric, or a function of (run, split)."""
    rng = np.random.default_rng(0)
    rows = []
    for run in [run for run in study.runs() if run.task == task]:
        point = dict(zip(("task", "model", "arm", "source", "ratio"), run, strict=False))
        for seed in run.seeds:
            for split in splits:
                for metric, value in values.items():
                    number = value(run, split) if callable(value) else value
                    row = {"study": study.study} | point | {"seed": seed, "split": split, "metric": metric}
                    rows.append(row | {"value": number + rng.normal(0, noise), "n": 100})
    return pd.DataFrame(rows).reindex(columns=results.COLUMNS)


def test_shifted_sets_weigh_the_same_whatever_their_severities(study):
    table = made_up(study, "classification", {"accuracy": lambda run, split: len(split) / 10}, 0, ("test", "a/1", "b"))
    rows = results.shifted(table)
    assert set(rows["split"]) == {"a", "b"}
    assert rows.loc[rows["split"] == "a", "value"].unique() == pytest.approx([0.3])


def test_a_study_without_shifted_sets_has_no_figure_and_no_sentence_of_them(study):
    names = ("accuracy", "accuracy of one", "negative_log_likelihood", "calibration_error")
    table = made_up(study, "classification", dict.fromkeys(names, 0.9))
    finding = findings.load("classification")
    assert finding.sentences(table, study) == []
    assert [drawn.name for drawn in finding.draw(table, study)] == ["accuracy", "classes", "calibration"]


@pytest.mark.parametrize(("slope", "verb"), [(0.4, "falls"), (-0.05, "rises"), (0.0, "does not measurably change")])
def test_robustness_is_judged_by_its_interval(study, slope, verb):
    values = {"accuracy": lambda run, split: 0.9 - slope * run.ratio * (run.arm == "generated")}
    table = made_up(study, "classification", values, 0.01, ("test", "noise/1", "noise/2", "sketch"))
    (sentence,) = findings.load("classification").sentences(table, study)
    assert "over 2 shifted test sets (100 to 200 images each" in sentence and verb in sentence
    assert "on the ordinary test set" in sentence


@pytest.mark.parametrize(
    ("on_real", "on_generated", "verdict"),
    [
        (0.1, 0.1, "it helps with generated images too."),
        (0.1, 0.05, "it helps with generated images too, but less."),
        (0.1, 0.0, "it is shown to help with real images only, so it is no remedy here."),
        (0.1, -0.1, "it is shown to help with real images only, so it is no remedy here."),
        (0.0, 0.0, "it is not shown to help, with real or with generated images."),
        (-0.1, -0.1, "it is not shown to help, with real or with generated images."),
    ],
)
def test_a_remedy_is_what_still_helps_when_the_images_are_generated(study, on_real, on_generated, verdict):
    values = {
        "finetuned_accuracy": lambda run, _: 0.7 + on_real + (on_generated - on_real) * (run.arm == "generated"),
        "finetuned_accuracy_untrained": 0.7,
        "probe_accuracy_untrained": 0.5,
        "probe_accuracy": 0.5,
    }
    table = made_up(study, "pretraining", values, 0.01)
    _, sentence = findings.load("pretraining").sentences(table, study)
    tuned, probed = sentence.split(" Linear probe, ")
    assert tuned.endswith(verdict)
    assert probed.endswith("it is not shown to help, with real or with generated images.")


def test_absent_scores_of_captions_are_named_and_not_drawn(study):
    names = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"]
    table = made_up(study, "captioning", dict.fromkeys(names, 0.5))
    finding = findings.load("captioning")
    convention, absent = finding.sentences(table, study)
    assert "tokenise" in convention and "METEOR, SPICE" in absent
    assert finding.headline(table).metric == "cider"
    (drawn,) = finding.draw(table, study)
    assert [ax.get_title() for ax in drawn.figure.axes if ax.get_visible()][-1] == "CIDEr"


def test_a_larger_distance_is_called_worse(study):
    values = {"frechet_distance": lambda run, _: 5 + 3 * run.ratio * (run.arm == "generated")}
    table = made_up(study, "generation", values)
    headline = findings.load("generation").headline(table)
    first, second = answer.answer(table, study, "generation", headline).sentences
    assert "raises the Fréchet distance" in first and "+3.00" in first and "points" not in first
    assert "other real images in the same slots" in second.lower()


def test_every_curve_has_an_entry_in_the_one_legend(study):
    values = {"accuracy": lambda run, split: 0.9 - 0.1 * run.ratio}
    table = made_up(study, "classification", values, splits=("test", "noise/1", "blur/1"))
    level = (Interval(0.5, 0.4, 0.6, 5), "a level")
    panels = [figures.Panel(results.metric(table, "classification", "accuracy"), "a", "accuracy", level)]
    figure = figures.small_multiples(panels * 3, 2, figures.colours(table), 0.95)
    (legend,) = figure.legends
    names = {text.get_text() for text in legend.get_texts()}
    assert {"a level", "other real images", "generated: class-name-7.5", "all real (ratio 0)"} <= names
    assert sum(ax.get_visible() for ax in figure.axes) == 3


def test_the_sheet_of_samples_has_the_same_classes_in_every_row():
    generation = findings.load("generation")
    labels = {"real": np.array([3, 1, 1, 0, 0, 0, 2, 2]), "samples": np.array([0, 1, 2, 3, 0, 1, 2, 3])}
    chosen = generation._two_per_class(labels)
    assert [labels[name][rows].tolist() for name, rows in chosen.items()] == [[0, 0, 1, 1, 2, 2]] * 2
    once = generation._two_per_class({"real": np.arange(5), "samples": np.arange(3)})
    assert [rows.tolist() for rows in once.values()] == [[0, 1, 2]] * 2


def test_hidden_panels_leave_an_axis_below_every_column(study):
    table = made_up(study, "classification", {"accuracy": lambda run, split: 0.9 - 0.1 * run.ratio})
    panel = figures.Panel(results.metric(table, "classification", "accuracy"), "a", "accuracy")
    figure = figures.small_multiples([panel] * 4, 3, figures.colours(table), 0.95)
    axes = [ax for ax in figure.axes if ax.get_visible()]
    assert [bool(ax.get_xlabel()) for ax in axes] == [False, True, True, True]


def test_a_class_whose_change_cannot_be_told_stands_in_brackets(study):
    values = {
        "accuracy of zero": lambda run, _: 0.9 - 0.3 * (run.arm == "generated"),
        "accuracy of one": 0.9,
    }
    change = results.change_per_class(made_up(study, "classification", values, 0.01), study, "resnet", 0.9)
    assert change.loc[("generated", "class-name-7.5"), "zero"].high < 0
    ax = plt.figure().subplots()
    figures.class_heatmap(ax, change)
    words = [text.get_text() for text in ax.texts]
    assert len(words) == change.size and words[0].startswith("-") and all(word[0] == "(" for word in words[1::2])
