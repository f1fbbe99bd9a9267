"""What notebooks draw stays readable with a thousand classes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from contamination.base import plotting
from contamination.metrics.intervals import Interval
from contamination.report import classification


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def predictions(count: int, taken_for: dict[int, int]) -> pa.Table:
    """Two test images of each class, called rightly but for the classes in `taken_for`."""
    labels = np.repeat(np.arange(count), 2)
    guesses = [taken_for.get(label, label) for label in labels.tolist()]
    return pa.table({"label": labels, "probabilities": pa.array(list(np.eye(count, dtype=np.float32)[guesses]))})


@pytest.mark.medium
def test_of_many_classes_those_that_are_confused_most_are_shown():
    names = [f"class {label}" for label in range(1000)]
    mistaken = {label: label + 1 for label in range(100, 140, 4)}
    figure = plotting.confusion_figure(predictions(1000, mistaken), names, heading="resnet")
    ax = figure.axes[0]
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert shown == [f"class {label}" for pair in mistaken.items() for label in pair]
    assert len(ax.texts) == 400 and "the 20 of 1,000 classes" in ax.get_title()


def test_few_classes_are_all_shown_in_per_cent_of_the_true_class():
    figure = plotting.confusion_figure(predictions(3, {1: 2}), ["a", "b", "c"], heading="resnet")
    assert [text.get_text() for text in figure.axes[0].texts] == ["100", "0", "0", "0", "0", "100", "0", "0", "100"]
    assert figure.axes[0].get_title() == "resnet"


def test_exactly_twenty_of_many_classes_are_chosen_whatever_is_confused():
    rng = np.random.default_rng(0)
    for counts in (np.zeros((50, 50), int), rng.integers(0, 9, (50, 50)), np.eye(50, dtype=int) * 7):
        chosen = plotting.most_confused(counts)
        assert len(set(chosen.tolist())) == 20 and (np.diff(chosen) > 0).all()


@pytest.mark.parametrize(
    ("names", "upright"), [(["zero"] * 20, False), (["great white shark"] * 10, True), ([""], False)]
)
def test_names_below_a_wall_do_not_run_into_each_other(names, upright):
    figure, ax = plt.subplots(figsize=(8, 2))
    plotting.image_grid(ax, {"real": np.zeros((len(names), 8, 8, 3), dtype=np.uint8)}, names=names)
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {90.0 if upright else 0.0}
    assert (figure.get_figheight() > 2) == upright


def test_of_many_classes_those_that_lose_most_are_shown():
    table = pd.DataFrame(
        [[Interval(mean, mean, mean, 2) for mean in np.linspace(0.5, -0.5, 100)]] * 2,
        columns=[f"class {number}" for number in range(100)],
    )
    assert list(classification._most_hurt(table).columns) == [f"class {number}" for number in range(99, 79, -1)]
    assert classification._most_hurt(table.iloc[:, :20]).shape == (2, 20)


@pytest.mark.parametrize(
    "name", ["$5 to $10", "under $x_{$", "a_b^c", "\\alpha", "100%", "{x}", "<b>", "_hidden_", "$"]
)
def test_a_name_is_drawn_as_it_is_spelled_and_never_as_mathematics(name):
    plotting.set_style()
    figure = plotting.confusion_figure(predictions(2, {}), [name, "b"], heading=name)
    figure.canvas.draw()
    texts = [*figure.axes[0].get_xticklabels(), *figure.axes[0].get_yticklabels(), figure.axes[0].title]
    assert [text.get_text() for text in texts].count(name) == 3
    assert not any(text.get_parse_math() for text in texts)


def test_a_matplotlibrc_changes_no_figure(monkeypatch):
    plotting.set_style()
    wanted = dict(plt.rcParams)
    plt.rcParams.update({"lines.linewidth": 20, "font.size": 3, "axes.facecolor": "red", "text.usetex": True})
    plotting.set_style()
    assert dict(plt.rcParams) == wanted


def test_letters_that_no_font_has_are_named():
    assert plotting.without_glyph(["zero", "été", "Ж", "great white shark"]) == []
    assert plotting.without_glyph(["\U000f0000 a", "\U000f0000"]) == ["\U000f0000"]


def test_ticks_of_a_logarithmic_axis_are_powers_of_ten():
    _, ax = plt.subplots()
    plotting.set_style()
    mean = pd.DataFrame({"frequency": [0.1, 0.4], "power": [1e-5, 10.0], "low": [1e-6, 5.0], "high": [1e-4, 20.0]})
    plotting.spectrum(ax, mean, color="red", label="real")
    ax.figure.canvas.draw()
    assert {"10⁻⁵", "10⁰"} <= {label.get_text() for label in ax.get_yticklabels()}
