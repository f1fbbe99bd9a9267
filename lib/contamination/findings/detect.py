"""Can generated images be told from real ones? By a detector of each kind, also on sets that it has not seen."""

import pandas as pd
from matplotlib import pyplot as plt

from contamination import figures, results
from contamination.findings import Drawn
from contamination.statistics import Interval

STAGE = "detect"
TITLE = "Can generated images be told from real ones?"
MEASURES = {"average_precision": "average precision", "accuracy": "balanced accuracy at the calibrated threshold"}
REAL = "#0072b2"  # of real against real, as everywhere
OWN, UNSEEN = "#d55e00", "#8c8c8c"


def draw(table: pd.DataFrame, study) -> list[Drawn]:
    detectors, pairs = study.detect.detectors, _pairs(study)
    shape = {"figsize": (10.5, len(detectors) * (0.21 * len(pairs) + 0.7) + 0.4), "sharex": "col", "squeeze": False}
    figure, axs = plt.subplots(len(detectors), len(MEASURES), sharey=True, **shape)
    for line, detector in zip(axs, detectors, strict=True):
        for ax, name in zip(line, MEASURES, strict=True):
            figures.intervals(ax, [_row(table, name, detector, *pair) for pair in pairs])
            ax.axvline(0.5, color="black", linestyle=":", linewidth=1)
            ax.set_title(f"{detector} detector")
            ax.tick_params(axis="y", labelsize="x-small")
    for ax, label in zip(axs[-1], MEASURES.values(), strict=True):
        ax.set_xlabel(label)
    caption = (
        "Detectors learn from half of the slots and are tested on the other half: on the set they were trained on "
        "(red), on sets they have not seen (grey, trained on → tested on), and on two halves of the pool, real against "
        f"real (blue). Dotted: chance. Bars: {100 * study.plot.confidence:g} % intervals over slots."
    )
    return [Drawn("detectors", figure, caption)]


def sentences(table: pd.DataFrame, study) -> list[str]:
    """Per detector: on its own set, on sets it has not seen, and on real against real."""
    return [_sentence(table, study, detector) for detector in study.detect.detectors]


def _sentence(table, study, detector) -> str:
    pairs = _pairs(study)
    own = [_found(table, "accuracy", detector, *pair) for pair in pairs if pair[0] == pair[1] != "pool"]
    unseen = [_found(table, "accuracy", detector, *pair) for pair in pairs if pair[0] != pair[1]]
    chance = _found(table, "average_precision", detector, "pool", "pool")
    text = f"The {detector} detector tells {_range(own)} of the images rightly on the set it learned from"
    text += f" and {_range(unseen)} on sets it has not seen" if unseen else ""
    holds = "holds" if chance.low <= 0.5 <= chance.high else "leaves out"
    return (
        f"{text}. Real against real its average precision is {chance.mean:.2f} ({chance.low:.2f} to "
        f"{chance.high:.2f}), an interval that {holds} 0.50, chance."
    )


def _range(found: list[Interval]) -> str:
    least, most = (100 * end(each.mean for each in found) for end in (min, max))
    return f"{least:.0f} %" if round(least) == round(most) else f"{least:.0f} to {most:.0f} %"


def _pairs(study) -> list[tuple[str, str]]:
    """(trained on, tested on): each set with itself and then with every other; the pool last."""
    names = study.generated_sets()
    return [(one, other) for one in names for other in sorted(names, key=lambda name: name != one)] + [("pool", "pool")]


def _found(table, name: str, detector: str, trained: str, tested: str) -> Interval | None:
    return results.of_set(table, STAGE, name, trained, tested, detector)


def _row(table, name: str, detector: str, trained: str, tested: str) -> tuple[str, Interval | None, str]:
    found = _found(table, name, detector, trained, tested)
    if trained == "pool":
        return "real against real", found, REAL
    return (trained, found, OWN) if trained == tested else (f"{trained} → {tested}", found, UNSEEN)
