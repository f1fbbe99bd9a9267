"""What the report says of each task, fed with made-up results."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from contamination.metrics.intervals import Interval
from contamination.report import figures, results, sections, summary
from contamination.study import study as studies
from contamination.study.study import Generate
from matplotlib import pyplot as plt

pytestmark = pytest.mark.medium

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
        point = dict(zip(("task", "model", "arm", "source", "ratio"), run, strict=False)) | {"replaced": run.ratio}
        for replicate in run.replicates:
            for split in splits:
                for metric, value in values.items():
                    number = value(run, split) if callable(value) else value
                    row = {"study": study.study} | point | replicate._asdict() | {"split": split, "metric": metric}
                    rows.append(row | {"value": number + rng.normal(0, noise), "n": 100})
    return pd.DataFrame(rows).reindex(columns=results.COLUMNS)


def test_ood_sets_weigh_the_same_whatever_their_severities(study):
    table = made_up(study, "classification", {"accuracy": lambda run, split: len(split) / 10}, 0, ("test", "a/1", "b"))
    rows = results.ood(table)
    assert set(rows["split"]) == {"a", "b"}
    assert rows.loc[rows["split"] == "a", "value"].unique() == pytest.approx([0.3])


def test_a_study_without_ood_sets_has_no_figure_and_no_sentence_of_them(study):
    names = ("accuracy", "accuracy of one", "negative_log_likelihood", "calibration_error")
    table = made_up(study, "classification", dict.fromkeys(names, 0.9))
    finding = sections.load("classification")
    assert finding.sentences(table, study) == []
    assert [drawn.name for drawn in finding.draw(table, study)] == ["accuracy", "classes", "calibration"]


@pytest.mark.parametrize(("behind", "named"), [(0.05, False), (0.2, True)])
def test_a_network_that_few_images_are_too_few_for_is_named_beside_a_machine_without_any(study, behind, named):
    def accuracy(run, _):
        return 0.9 - behind * (run.arm == "dropped" and run.model == "resnet")

    table = made_up(study, "classification", {"accuracy": accuracy, "svm_accuracy": 0.9})
    (sentence,) = sections.load("classification").sentences(table, study)
    assert sentence.startswith("With 90 % of the slots left empty, a support vector machine on gray pixels")
    assert "reaches 90.0 %" in sentence and ("resnet: more than 10 points behind" in sentence) == named
    assert "convnext: more" not in sentence and "and convnext" not in sentence


CLASSES = dict.fromkeys((f"accuracy of {number}" for number in ("zero", "one", "two", "three", "four")), 0.9)
OOD = ("test", "noise/1", "noise/2", "sketch")


@pytest.mark.parametrize(("slope", "verb"), [(0.4, "falls"), (-0.05, "rises"), (0.0, "does not measurably change")])
def test_ood_sets_are_judged_by_their_interval_and_beside_the_ordinary_one(study, slope, verb):
    values = {"accuracy": lambda run, _: 0.9 - slope * run.ratio * (run.arm == "generated")}
    table = made_up(study, "classification", values | CLASSES, 0.01, OOD)
    (sentence,) = sections.load("classification").sentences(table, study)
    assert "over 2 sets (100 to 200 images each" in sentence and verb in sentence
    assert "on the ordinary test set it changes by" in sentence and "the former minus the latter is" in sentence
    assert "without" not in sentence and "obust" not in sentence


def test_a_fall_on_ood_sets_is_given_in_points_and_relative_to_the_ordinary_one(study):
    """A smaller fall in points than on the ordinary set was once printed as lost robustness."""
    values = {"accuracy": lambda run, split: 0.9 - (0.7 if split == "test" else 0.4) * (run.arm == "generated")}
    table = made_up(study, "classification", values | CLASSES, 0.001, OOD)
    (sentence,) = sections.load("classification").sentences(table, study)
    assert "\u221240." in sentence and "\u221270." in sentence and "the former minus the latter is +30." in sentence


def test_ood_sets_on_which_real_images_alone_are_near_chance_are_left_out_and_named(study):
    values = {"accuracy": lambda run, split: 0.3 if split == "sketch" else 0.9 - 0.2 * (run.arm == "generated")}
    table = made_up(study, "classification", values | CLASSES, 0.0001, OOD)
    (sentence,) = sections.load("classification").sentences(table, study)
    assert "over 1 set (200 to 200 images" in sentence and "from 90.0 to 70.0 %" in sentence
    assert "; without sketch, where a model trained on real images alone is not above twice chance." in sentence
    every = made_up(study, "classification", {"accuracy": 0.3} | CLASSES, 0.001, OOD)
    (sentence,) = sections.load("classification").sentences(every, study)
    assert "none can show a loss for resnet; without noise, sketch" in sentence


@pytest.mark.parametrize(
    ("trained", "longer", "verdict"),
    [
        (0.8, 0.7, "improves accuracy over every baseline that was measured."),
        (
            0.8,
            0.8,
            "improves accuracy over the shorter training alone: at the same number of steps it is not shown to.",
        ),
        (
            0.8,
            0.9,
            "improves accuracy over the shorter training alone: at the same number of steps it is not shown to.",
        ),
        (0.7, 0.7, "is not shown to improve accuracy."),
        (0.6, 0.5, "is not shown to improve accuracy."),
    ],
)
def test_pre_training_is_judged_beside_as_many_steps_without_it(study, trained, longer, verdict):
    values = {
        "finetuned_accuracy": lambda run, _: trained if run.arm == "generated" else 0.75,
        "finetuned_accuracy_untrained": 0.7,
        "finetuned_accuracy_untrained_longer": longer,
        "probe_accuracy_untrained": 0.5,
        "probe_accuracy": 0.5,
    }
    table = made_up(study, "pretraining", values, 0.001)
    _, tuned, probed = sections.load("pretraining").sentences(table, study)
    assert tuned.startswith("Fine-tuned, mae: ") and tuned.endswith(f"With generated images, pre-training {verdict}")
    assert "fine-tuned for 1,240 steps" in tuned and tuned.count("95 % interval") == 5
    assert probed.startswith("Linear probe, mae: ") and probed.endswith(
        "pre-training is not shown to improve accuracy."
    )
    assert "steps" not in probed and probed.count("95 % interval") == 3
    assert not any(word in tuned + probed for word in ("hurt", "told"))


@pytest.mark.parametrize(
    ("changes", "sets"),
    [
        ({}, "other sets of the same generator"),
        ({"generate": Generate(steps=3)}, "other sets of the same generator"),
        ({"generate": Generate(pipeline="a/b")}, "sets of another generator"),
        ({"folder": "elsewhere"}, "other sets, of which one at least is not of this study's generators"),
    ],
)
def test_sets_that_a_detector_has_not_seen_are_of_the_same_generator_only_where_they_share_it(study, changes, sets):
    study.grid.generated = {name: study.grid.generated[name] for name in ("class-name-7.5", "class-name-2")}
    study.grid.generated["class-name-2"] = study.grid.generated["class-name-2"].model_copy(update=changes)
    study.detect.detectors = ["spectrum"]
    pairs = [(one, other) for one in study.grid.generated for other in study.grid.generated] + [("pool", "pool")]
    rows = [
        {"task": "detect", "model": "spectrum", "metric": "accuracy", "source": trained, "split": tested, "draw": 0}
        | {"value": 0.9, "low": 0.8 if trained == tested else 0.6, "high": 1.0 if trained == tested else 0.7, "n": 600}
        for trained, tested in pairs
    ]
    (sentence,) = sections.load("detect").sentences(pd.DataFrame(rows), study)
    assert f"80 to 100 % of 600 images on the set it learned from and 60 to 70 % of 600 images on {sets} (" in sentence


def test_absent_scores_of_captions_are_named_and_not_drawn(study):
    names = ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"]
    table = made_up(study, "captioning", dict.fromkeys(names, 0.5))
    finding = sections.load("captioning")
    convention, absent = finding.sentences(table, study)
    assert "tokenize" in convention and "METEOR, SPICE" in absent
    assert finding.primary(table).metric == "cider"
    (drawn,) = finding.draw(table, study)
    assert [ax.get_title() for ax in drawn.figure.axes if ax.get_visible()][-1] == "CIDEr"


def test_a_larger_distance_is_called_worse(study):
    values = {"frechet_distance": lambda run, _: 5 + 3 * run.ratio * (run.arm == "generated")}
    table = made_up(study, "generation", values)
    primary = sections.load("generation").primary(table)
    first, second, third = summary.answer(table, study, task="generation", primary=primary).sentences
    assert "raises the Fréchet distance" in first and "+3.00" in first and "points" not in first
    assert "unseen real images in the same slots" in second.lower()
    assert "the same test images;" in third  # n of these rows counts samples


def sentences(study, loss: float, base: float = 0.99) -> list[str]:
    values = {"accuracy": lambda run, _: base - loss * run.ratio * (run.arm == "generated")}
    table = made_up(study, "classification", values, 0.0001)
    return summary.answer(
        table, study, task="classification", primary=sections.load("classification").primary(table)
    ).sentences


@pytest.mark.parametrize(
    ("base", "loss", "span"),
    [
        (0.99, 0.05, "from 99.0 to 94.5 % (errors 1.0 to 5.5 %), \u22124.5 points"),
        (0.99, 0.2, "from 99.0 to 81.0 %, \u221218.0 points"),
        (0.85, 0.05, "from 85.0 to 80.5 %, \u22124.5 points"),
    ],
)
def test_errors_stand_beside_accuracies_that_are_both_close_to_one(study, base, loss, span):
    first, *_ = sentences(study, loss, base)
    assert span in first
    close = base - loss * 0.2 > 0.9 and base > 0.9
    assert ("at 20 % from" in first and f"(errors {100 - 100 * base:.1f} to" in first) == close


def test_what_no_interval_covers_is_a_sentence_of_every_summary(study):
    held = sentences(study, 0.1)[-1]
    assert held.startswith("Held fixed in all of this: one training of the generator,") and "the same 100 test" in held
    assert held.endswith("the intervals are over training seeds (slots, initial weights, order).")
    for generated in study.grid.generated.values():
        generated.generate = Generate(pipeline="a/b")
    study.grid.seeds = [0]
    held = sentences(study, 0.1)[-1]
    assert "training of the generator" not in held and held.endswith("fewer than 3 training seeds give no interval.")


def test_images_that_are_better_than_none_are_so_for_a_named_model_in_this_study(study):
    _, controls, _ = sentences(study, -0.01)
    assert "for resnet in this study generated images are better than none" in controls


def test_every_curve_has_an_entry_in_the_one_legend(study):
    values = {"accuracy": lambda run, split: 0.9 - 0.1 * run.ratio}
    table = made_up(study, "classification", values, splits=("test", "noise/1", "blur/1"))
    level = (Interval(0.5, 0.4, 0.6, 5), "a level")
    panels = [figures.Panel(results.metric(table, "classification", name="accuracy"), "a", "accuracy", level)]
    figure = figures.small_multiples(panels * 3, 2, palette=figures.colors(table), confidence=0.95)
    (legend,) = figure.legends
    names = {text.get_text() for text in legend.get_texts()}
    assert {"a level", "unseen real images", "generated: class-name-7.5", "all real (ratio 0)"} <= names
    assert sum(ax.get_visible() for ax in figure.axes) == 3


def test_the_sheet_of_samples_has_the_same_classes_in_every_row():
    generation = sections.load("generation")
    labels = {"real": np.array([3, 1, 1, 0, 0, 0, 2, 2]), "samples": np.array([0, 1, 2, 3, 0, 1, 2, 3])}
    chosen = generation._two_per_class(labels)
    assert [labels[name][rows].tolist() for name, rows in chosen.items()] == [[0, 0, 1, 1, 2, 2]] * 2
    once = generation._two_per_class({"real": np.arange(5), "samples": np.arange(3)})
    assert [rows.tolist() for rows in once.values()] == [[0, 1, 2]] * 2


def test_hidden_panels_leave_an_axis_below_every_column(study):
    table = made_up(study, "classification", {"accuracy": lambda run, split: 0.9 - 0.1 * run.ratio})
    panel = figures.Panel(results.metric(table, "classification", name="accuracy"), "a", "accuracy")
    figure = figures.small_multiples([panel] * 4, 3, palette=figures.colors(table), confidence=0.95)
    axes = [ax for ax in figure.axes if ax.get_visible()]
    assert [bool(ax.get_xlabel()) for ax in axes] == [False, True, True, True]


def test_a_class_whose_change_cannot_be_told_stands_in_brackets(study):
    values = {
        "accuracy of zero": lambda run, _: 0.9 - 0.3 * (run.arm == "generated"),
        "accuracy of one": 0.9,
    }
    change = results.change_per_class(made_up(study, "classification", values, 0.01), study, model="resnet", ratio=0.9)
    assert change.loc[("generated", "class-name-7.5"), "zero"].high < 0
    ax = plt.figure().subplots()
    figures.change_heatmap(ax, change)
    words = [text.get_text() for text in ax.texts]
    assert len(words) == change.size and words[0].startswith("-") and all(word[0] == "(" for word in words[1::2])
