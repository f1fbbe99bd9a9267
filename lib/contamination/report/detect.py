"""Can detectors of each kind separate generated images from real ones, also those of sets they have not seen?"""

import pandas as pd
from matplotlib import pyplot as plt

from contamination.generators import watermarks
from contamination.metrics.intervals import Interval
from contamination.mixtures import arms
from contamination.networks.detectors import another_draw
from contamination.report import figures, results
from contamination.report.sections import Figure

STAGE = "detect"
TITLE = "Can generated images be detected?"
MEASURES = {"average_precision": "average precision", "accuracy": "balanced accuracy at the calibrated threshold"}
OWN, UNSEEN, REAL = "black", "#8c8c8c", arms.OTHER_REAL.color


def draw(table: pd.DataFrame, study) -> list[Figure]:
    detectors, pairs = study.detect.detectors, _pairs(study)
    size = (10.5, len(detectors) * (0.21 * len(pairs) + 0.7) + 0.4)
    shape: dict = {"figsize": size, "sharex": "col", "squeeze": False}
    figure, axs = plt.subplots(len(detectors), len(MEASURES), sharey=True, **shape)
    for line, detector in zip(axs, detectors, strict=True):
        for ax, name in zip(line, MEASURES, strict=True):
            figures.intervals(ax, [_row(table, study, name, detector, *pair) for pair in pairs])
            ax.axvline(0.5, color="black", linestyle=":", linewidth=1)
            ax.set_title(f"{detector} detector")
            ax.tick_params(axis="y", labelsize="x-small")
    for ax, label in zip(axs[-1], MEASURES.values(), strict=True):
        ax.set_xlabel(label)
    caption = (
        "Detectors learn from half of the slots and are tested on the other half: on the set they were trained on "
        "(black), on sets they have not seen (gray, trained on → tested on; sets of one pipeline share the generator), "
        "and on two halves of the pool, real against real (blue). Dotted: chance, for the average precision a little "
        f"less than chance. Bars: {100 * study.plot.confidence:g} % intervals."
    )
    if "watermark" in detectors:
        caption += " The watermark detector learns nothing; it looks for the text that the first set is marked with."
    return [Figure("detectors", figure, caption)]


def sentences(table: pd.DataFrame, study) -> list[str]:
    """Per detector: on its own set, on sets it has not seen, and on real against real."""
    of_kind = {"watermark": _watermark_sentence}
    return [of_kind.get(detector, _sentence)(table, study, detector) for detector in study.detect.detectors]


def _watermark_sentence(table, study, detector) -> str:
    """How often it is found, set by set, and how often where there is none."""
    names = study.generated_sets()
    found = [f"{_share(table, study, 'true_positive_rate', detector, name)} of {name}" for name in names]
    return (
        f"The watermark is found in {', '.join(found)}, and in "
        f"{_share(table, study, 'false_positive_rate', detector, names[0])} of the real images in their slots, where "
        f"by chance it would be in {100 * watermarks.false_positives():.2f} %."
    )


def _share(table, study, name: str, detector: str, source: str) -> str:
    found = _measured(table, study, name, detector, source, source)
    return f"{100 * found.mean:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _sentence(table, study, detector) -> str:
    """In accuracy, of which chance is a half exactly."""
    found = {pair: _measured(table, study, "accuracy", detector, *pair) for pair in _pairs(study)}
    real = found.pop(("pool", "pool"))
    groups: dict[str, list[Interval]] = {}
    for pair, each in found.items():
        groups.setdefault(f"{_counted(study, pair[0], each)} on {_kinship(study, *pair)}", []).append(each)
    ranges = " and ".join(f"{_range(group)} of {what}" for what, group in groups.items())
    holds = "holds" if real.low <= 0.5 <= real.high else "leaves out"
    return (
        f"The {detector} detector correctly classifies {ranges} (lowest and highest interval ends over the sets). "
        f"Real against real it correctly classifies {100 * real.mean:.1f} % ({100 * real.low:.1f} to "
        f"{100 * real.high:.1f}) of {real.n}, an interval that {holds} chance, 50 %."
    )


def _counted(study, trained: str, found: Interval) -> str:
    """What an interval is over: the draws of a set, or images of one."""
    return f"the images of {found.n} draws" if found.n == len(study.draws_of(trained)) else f"{found.n} images"


def _kinship(study, trained: str, tested: str) -> str:
    """What the set that a detector is tested on is to that which it learned from."""
    if trained == tested:
        return "the set it learned from"
    if tested == another_draw(trained):
        return "another draw of that set"
    if any(study.maker(source) != "generate" for source in (trained, tested)):
        return "other sets, of which one at least is not of this study's generators"
    one, other = (study.generate_of(source) for source in (trained, tested))
    alike = (one.pipeline, one.load) == (other.pipeline, other.load)
    return "other sets of the same generator" if alike else "sets of another generator"


def _range(found: list[Interval]) -> str:
    return f"{100 * min(each.low for each in found):.0f} to {100 * max(each.high for each in found):.0f} %"


def _pairs(study) -> list[tuple[str, str]]:
    """(trained on, tested on): each set with itself, its other draws, and then every other set; the pool last."""
    names, pairs = study.generated_sets(), []
    for one in names:
        own = [one, another_draw(one)] if len(study.draws_of(one)) > 1 else [one]
        pairs += [(one, other) for other in own + [name for name in names if name != one]]
    return [*pairs, ("pool", "pool")]


def _found(table, study, name: str, detector: str, trained: str, tested: str) -> Interval | None:
    asked: dict = {"source": trained, "split": tested, "model": detector, "confidence": study.plot.confidence}
    return results.of_set(table, STAGE, name=name, **asked)


def _measured(table, study, name: str, detector: str, trained: str, tested: str) -> Interval:
    found = _found(table, study, name, detector, trained, tested)
    assert found, "spoken of where it was measured"
    return found


def _row(table, study, name: str, detector: str, trained: str, tested: str) -> tuple[str, Interval | None, str]:
    found = _found(table, study, name, detector, trained, tested)
    if trained == "pool":
        return "real against real", found, REAL
    return (trained, found, OWN) if trained == tested else (f"{trained} → {tested}", found, UNSEEN)
