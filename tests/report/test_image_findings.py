"""What the report says of the images themselves, fed with made-up measures."""

import matplotlib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from contamination import sources
from contamination.base import files, image_tables
from contamination.metrics import distributions
from contamination.report import measure, results, sections
from contamination.report.fidelity import warnings
from contamination.sources.digits import CLASS_NAMES
from contamination.study import study as studies
from matplotlib import pyplot as plt

pytestmark = pytest.mark.medium

matplotlib.use("Agg")
MADE = "class-name-7.5"
MEASURES = {
    "frechet_distance": 40,
    "kernel_distance": 3,
    "precision": 0.9,
    "recall": 0.4,
    "density": 1,
    "coverage": 0.5,
}


@pytest.fixture
def study(project):
    """The smoke study with real digits; the generated set is a copy of the training images."""
    study = studies.load("parameters/smoke.yaml")
    sources.prepare(study.layout, study.real, 0)
    train = image_tables.read(study.layout.real("train"))
    columns = {"id": train["id"], "label": train["label"], "slot": np.arange(train.num_rows)}
    encoded = [image["bytes"] for image in train["image"].to_pylist()]
    image_tables.write(study.layout.generated(MADE) / "shard-00000.arrow", encoded, columns=columns)
    for source in (MADE, "pool"):
        write_measures(study, source)
    yield study
    plt.close("all")


def write_measures(study, source, differing=(), absent=(), draw=0) -> None:
    folder = study.job("measure", source=source, draw=draw)
    files.write_json(folder / files.RECORD, {"differing": list(differing), "absent": list(absent)})
    spectrum = pd.DataFrame({"frequency": [0.1, 0.5], "power": [1.0, 0.1], "low": [0.9, 0.09], "high": [1.1, 0.11]})
    both = pd.concat([spectrum.assign(images="real"), spectrum.assign(images="set")])
    both.to_csv(folder / "spectrum.csv", index=False)
    distances = np.random.default_rng(0).random(600)
    pyarrow.parquet.write_table(
        pa.table({"slot": np.arange(600), "test_distance": distances, "test_row": np.arange(600) % 597}),
        folder / "nearest.parquet",
    )


def made_up(study, container=0.5, copies=0.02, fidelity=0.9, without=(), **changes) -> pd.DataFrame:
    """Measures of a set that is worse than the pool, and accuracies that fall with it. changes: of the set's values."""
    names = sources.class_names(study.layout)
    rows = [accuracy(run, each, name) for run in study.runs() for each in run.replicates for name in [None, *names]]
    for source, values in ((MADE, MEASURES | changes), ("pool", dict.fromkeys(MEASURES, 0.97))):
        values = values | {f"coverage of {name}": 0.5 for name in names}
        scores = {("train", name): value for name, value in values.items() if name not in without}
        scores |= {("train", "file_format_accuracy"): container, ("test", "near_duplicates_of_real"): 0.02}
        scores[("test", "near_duplicates")] = copies if source == MADE else 0.02
        if source == MADE:
            scores |= {("pool", "near_duplicates"): 0.3, ("pool", "near_duplicates_of_real"): 0.02}
        rows += [measured("measure", source, "auxiliary-resnet10t", *key, value) for key, value in scores.items()]
        rows += judged(source, names, fidelity)
        rows += [measured("measure", source, "pixels", "train", name, 0.2) for name in ("precision", "recall")]
    for detector in study.detect.detectors:
        for source, value in ((MADE, 0.9), ("pool", 0.5)):
            both = ("average_precision", "accuracy")
            rows += [measured("detect", source, detector, source, name, value) for name in both]
    return pd.DataFrame(rows).reindex(columns=results.COLUMNS)


def judged(source, names, fidelity) -> list[dict]:
    """Class fidelity of a set, lower for the class eight, and how well its colors give the class away."""
    values = {"class_fidelity_of_real": 0.98} | {f"class_fidelity_of_real of {name}": 0.98 for name in names}
    if source == MADE:
        values |= {"class_fidelity": fidelity} | {f"class_fidelity of {name}": fidelity for name in names}
        values["class_fidelity of eight"] = fidelity - 0.4
    rows = [measured("measure", source, "auxiliary-resnet10t", "train", *each) for each in values.items()]
    shortcuts = {"class_from_colors": 0.7 if source == MADE else 0.11, "class_from_colors_of_real": 0.1}
    return rows + [measured("measure", source, "colors", "train", *each) for each in shortcuts.items()]


def accuracy(run, replicate, name) -> dict:
    """The later a class stands, the less it loses."""
    place = CLASS_NAMES.index(name) if name else 5
    point = dict(zip(("task", "model", "arm", "source", "ratio"), run, strict=False)) | {"replaced": run.ratio}
    value = 0.9 - 0.05 * (10 - place) * run.ratio * (run.arm == "generated") + 0.001 * replicate.seed
    metric = f"accuracy of {name}" if name else "accuracy"
    return point | replicate._asdict() | {"split": "test", "metric": metric, "value": value, "n": 60}


def measured(stage, source, model, split, metric, value) -> dict:
    arm = "other_real" if source == "pool" else "generated"
    row = {
        "task": stage,
        "model": model,
        "arm": arm,
        "source": source,
        "ratio": 1.0,
        "replaced": 1.0,
        "seed": 0,
        "draw": 0,
        "split": split,
    }
    return row | {"metric": metric, "value": value, "n": 600, "low": value - 0.01, "high": value + 0.01}


def told(table, study, stage="measure") -> str:
    return "\n".join(sections.load(stage).sentences(table, study))


def test_the_basis_and_the_reference_are_named(study):
    text = told(made_up(study), study)
    assert (
        "600 images" in text and "auxiliary-resnet10t" in text and "0.97 (0.96 to 0.98) for unseen real images" in text
    )


@pytest.mark.parametrize(("coverage", "word"), [(0.5, "less"), (0.97, "no measurable difference"), (1.2, "more")])
def test_coverage_is_judged_beside_the_real_reference(study, coverage, word):
    assert f"{MADE} {coverage:.2f} ({coverage - 0.01:.2f} to {coverage + 0.01:.2f}), {word}" in told(
        made_up(study, coverage=coverage), study
    )


def test_class_fidelity_is_told_beside_the_judges_own_accuracy_with_the_worst_class(study):
    text = told(made_up(study), study)
    assert "right about 98.0 % (97.0 to 99.0) of the real images" in text
    assert f"{MADE} 90.0 % (89.0 to 91.0), lowest 50 % for eight" in text


@pytest.mark.parametrize(("fidelity", "warned"), [(0.94, True), (0.95, False)])
def test_the_first_screen_says_so_where_too_few_images_show_their_class(study, fidelity, warned):
    found = warnings(made_up(study, fidelity=fidelity), study)
    assert bool(found) == warned
    if warned:
        (sentence,) = found
        assert sentence.startswith(f"6 % of the generated images of {MADE} (worst class eight: 46 %) do not show their")


def test_there_is_no_warning_where_nothing_was_measured(study):
    table = made_up(study)
    study.measure = None
    assert warnings(table[table["task"] != "measure"], study) == []


def test_colors_that_give_the_class_away_are_told_beside_those_of_real_images(study):
    text = told(made_up(study), study)
    assert "gives the class of 10.0 % (9.0 to 11.0) of the real images" in text
    assert f"of {MADE} 70.0 % (69.0 to 71.0), of unseen real images 11.0 % (10.0 to 12.0)" in text


def test_file_formats_that_differ_are_told_with_the_facts_that_differ(study):
    untold = (
        f"(chance: 0.50): no leakage found: {MADE} 0.500 (0.490 to 0.510); unseen real images 0.500 (0.490 to 0.510)."
    )
    assert untold in told(made_up(study), study)
    write_measures(study, MADE, differing=["format", "quantization"])
    text = told(made_up(study, container=1.0), study)
    assert (
        f"alone distinguish from the real images: {MADE} 1.000 (0.990 to 1.010), by format, quantization; unseen"
        in text
    )
    assert "by a combination of facts." in text  # of the pool, where no single fact differs


def test_a_leak_of_file_formats_stands_on_the_first_screen(study):
    assert measure.warnings(made_up(study), study) == []
    write_measures(study, MADE, differing=["format", "quantization"])
    (sentence,) = measure.warnings(made_up(study, container=1.0), study)
    assert sentence.startswith(
        f"File-format leakage: size, format and quantization alone distinguish from the real images {MADE} 1.000"
    )


def test_more_near_duplicates_than_usual_are_called_so(study):
    text = told(made_up(study), study)
    assert f"{MADE} 2.0 (1.0 to 3.0) %; unseen real images" in text
    text = told(made_up(study, copies=0.05), study)
    assert f"{MADE} 5.0 (4.0 to 6.0) %, more than usual; unseen real images 2.0 (1.0 to 3.0) %. With the pool" in text


def test_images_that_the_generator_remembers_are_told_beside_the_pool(study):
    text = told(made_up(study), study)
    assert f"learned from, {MADE} 30.0 (29.0 to 31.0) %, more than usual. Copies" in text


def test_what_was_not_measured_is_named_with_its_reason_and_nothing_else_is_lost(study):
    absent = [{"metric": f"recall of {name}", "reason": "one image"} for name in CLASS_NAMES]
    write_measures(study, MADE, absent=[*absent, {"metric": "precision", "reason": "no manifold"}])
    table = made_up(study, without=("precision", "coverage"))
    text = told(table, study)
    assert f"Not measured for {MADE}: precision (no manifold)." in text
    table = table[table["metric"] != "near_duplicates"]
    assert "Near-duplicates" not in told(table, study)
    assert "recall of zero" in text and "and 4 more (one image)" in text
    finding = sections.load("measure")
    assert len(finding.draw(table, study)) == 5
    columns = finding.beside_loss(table, study)["columns"]
    for label, cells in finding.beside_loss(table, study)["rows"]:
        absent = [title for title, cell in zip(columns[1:], cells, strict=True) if cell is None]
        unjudged = ["class fidelity (%)"] if label == "unseen real images" else []
        assert absent == [*unjudged, "precision", "coverage"], label


def test_the_table_sets_each_measure_beside_the_loss(study):
    table = sections.load("measure").beside_loss(made_up(study), study)
    (made, cells), (real, other) = table["rows"]
    assert (made, real) == (f"generated: {MADE}", "unseen real images")
    assert cells[0] == ("90.0", "89.0 to 91.0, lowest class 50") and other[0] is None
    assert cells[1] == ("40.00", "39.99 to 40.01") and cells[-1][0] == "\u221225.0" and other[-1][0] == "+0.0"


def test_without_classification_there_is_no_loss_to_stand_beside(study):
    study.grid.tasks = {"pretraining": study.grid.tasks["classification"]}
    finding = sections.load("measure")
    assert finding.beside_loss(made_up(study), study)["columns"][-1] == "coverage"
    assert [drawn.name for drawn in finding.draw(made_up(study), study)] == [
        "measures",
        "spectra",
        "class-fidelity",
        "closest-pairs",
    ]


def test_a_study_without_classes_asks_no_judge(study):
    study.grid.tasks = {"captioning": study.grid.tasks["classification"]}
    assert not study.judged and study.measure_networks() == ["generation"]
    assert "Class fidelity" not in told(made_up(study), study)
    assert "class fidelity (%)" not in sections.load("measure").beside_loss(made_up(study), study)["columns"]


def test_every_measured_set_and_the_reference_are_in_every_figure(study):
    drawn = {each.name: each.figure for each in sections.load("measure").draw(made_up(study), study)}
    labels = [text.get_text() for text in drawn["measures"].axes[0].get_yticklabels()]
    assert labels == [f"generated: {MADE}", "unseen real images"]
    (legend,) = drawn["spectra"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["real images of the slots", *labels]
    for figure in drawn.values():
        assert all(ax.get_xlabel() or ax.get_ylabel() or ax.get_title() or ax.images for ax in figure.axes)


def test_detectors_are_told_beside_chance(study):
    spectrum, network = sections.load("detect").sentences(made_up(study), study)
    assert (
        "spectrum detector correctly classifies 89 to 91 % of 600 images" in spectrum and "other sets" not in spectrum
    )
    assert (
        "Real against real it correctly classifies 50.0 % (49.0 to 51.0) of 600, an interval that holds chance"
        in network
    )
    table = made_up(study)
    table.loc[(table["task"] == "detect") & (table["source"] == "pool"), ["value", "low", "high"]] = [0.7, 0.6, 0.8]
    assert "an interval that leaves out chance" in sections.load("detect").sentences(table, study)[0]
    (drawn,) = sections.load("detect").draw(made_up(study), study)
    labels = [text.get_text() for text in drawn.figure.axes[0].get_yticklabels()]
    assert labels == [MADE, "real against real"]


def test_sets_that_a_detector_has_not_seen_are_told_apart_from_its_own(study):
    study.grid.generated["second"] = study.grid.generated[MADE].model_copy(update={"style": "diverse"})
    table = made_up(study)
    rows = []
    for detector in study.detect.detectors:
        for trained, tested, value in (("second", "second", 0.95), (MADE, "second", 0.6), ("second", MADE, 0.7)):
            both = ("average_precision", "accuracy")
            rows += [measured("detect", trained, detector, tested, name, value) for name in both]
    table = pd.concat([table, pd.DataFrame(rows)])
    sentence, _ = sections.load("detect").sentences(table, study)
    assert (
        "89 to 96 % of 600 images" in sentence and "and 59 to 71 % of 600 images on other sets of the same" in sentence
    )
    (drawn,) = sections.load("detect").draw(table, study)
    labels = [text.get_text() for text in drawn.figure.axes[0].get_yticklabels()]
    assert labels == [MADE, f"{MADE} → second", "second", f"second → {MADE}", "real against real"]


@pytest.fixture
def drawn_thrice(study):
    """The study with three draws of its set, and their measures: 0.1 apart, and so is what detectors find."""
    study.grid.draws = [0, 1, 2]
    for draw in (1, 2):
        write_measures(study, MADE, draw=draw, absent=[{"metric": "recall of six", "reason": "too few"}])
    once = made_up(study)
    of_set = once["task"].isin(study.image_stages) & (once["source"] == MADE)
    found = once["task"] == "detect"
    both = pd.concat([once, once[of_set & found].assign(split=f"{MADE}, another draw")], ignore_index=True)
    of_set = both["task"].isin(study.image_stages) & (both["source"] == MADE)
    more = [
        both[of_set].assign(draw=draw, **{name: both[name] + 0.1 * draw for name in ("value", "low", "high")})
        for draw in (1, 2)
    ]
    return study, pd.concat([both, *more])


def test_several_draws_of_a_set_are_told_by_their_mean_and_an_interval_over_them(drawn_thrice):
    study, table = drawn_thrice
    text = told(table, study)
    mean, half = MEASURES["coverage"] + 0.1, 4.302653 * 0.1 / 3**0.5
    assert f"{MADE} {mean:.2f} ({mean - half:.2f} to {mean + half:.2f})" in text
    assert (
        "means over 3 draws or more of a set, with t intervals over these" in text
        and "training of the generator" in text
    )
    assert f"Not measured for {MADE}, draw 2: recall of six (too few)." in text
    spectrum, _ = sections.load("detect").sentences(table, study)
    assert "of the images of 3 draws on the set it learned from and" in spectrum
    assert "of the images of 3 draws on another draw of that set" in spectrum and "of 600, an interval" in spectrum
    for stage in ("measure", "detect"):
        assert sections.load(stage).draw(table, study)


def test_of_two_draws_the_first_is_shown(drawn_thrice):
    study, table = drawn_thrice
    study.grid.draws = [0, 1]
    text = told(table[table["draw"] < 2], study)
    coverage = MEASURES["coverage"]
    assert f"{MADE} {coverage:.2f} ({coverage - 0.01:.2f} to {coverage + 0.01:.2f})" in text
    assert "Of the 2 draws of each set the first is shown." in text


def test_one_seed_has_no_interval_of_the_loss_and_is_drawn_all_the_same(study):
    study.grid.seeds = [0]
    table = made_up(study)
    (_, cells), _ = sections.load("measure").beside_loss(table, study)["rows"]
    assert cells[-1] == ("\u221225.0", "no interval")
    assert len(sections.load("measure").draw(table, study)) == 5


def test_the_closest_pairs_are_found_again_where_only_some_slots_were_looked_at(study):
    slots, rows = np.arange(599, 579, -1), np.arange(20)
    for source in (MADE, "pool"):
        pairs = pa.table({"slot": slots, "test_distance": np.arange(20) / 20, "test_row": rows})
        pyarrow.parquet.write_table(pairs, study.job("measure", source=source) / "nearest.parquet")
    drawn = {each.name: each.figure for each in sections.load("measure").draw(made_up(study), study)}
    shown = drawn["closest-pairs"].axes[0].images[0].get_array()
    made = image_tables.decode_all(
        image_tables.read(study.layout.real("train")), 16
    )  # the generated set is a copy of it
    assert np.array_equal(shown[:16, :16], made[599].permute(1, 2, 0).numpy())
    assert np.array_equal(
        shown[17:33, :16], image_tables.decode_all(image_tables.read(study.layout.real("test")), 16)[0].permute(1, 2, 0)
    )


def test_a_seventh_measure_is_a_row_and_what_computes_it(study, monkeypatch):
    """It is measured with its interval, and has a column of the table and a panel of each figure."""
    row = distributions.Measure("mean shift", 0, np.inf, False, beside_loss=True)
    monkeypatch.setitem(distributions.MEASURES, "shift", row)
    shift = lambda real, generated, counts, k: {"shift": [float(k)] * counts[0].shape[1]}  # noqa: E731
    monkeypatch.setitem(distributions.GROUPS, ("shift",), shift)
    sets = np.random.default_rng(0).normal(size=(2, 20, 3))
    assert distributions.compare(*sets, 2)[-1] == {"metric": "shift", "value": 2.0, "n": 20}
    scores, _ = distributions.compare_with_intervals(*sets, 2, 20, 0, 0.95)
    assert scores[-1]["metric"] == "shift" and scores[-1]["low"] == 2
    table = made_up(study, shift=0.4)
    module = sections.load("measure")
    assert "mean shift" in module.beside_loss(table, study)["columns"]
    drawn = {each.name: each.figure for each in module.draw(table, study)}
    assert "mean shift" in [ax.get_title() for ax in drawn["measures"].axes]
    assert "mean shift" in [ax.get_xlabel() for ax in drawn["measures-and-loss"].axes]
