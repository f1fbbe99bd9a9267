"""What the generated images are like: every set beside real images, and beside the accuracy that it costs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
from matplotlib import pyplot as plt

from contamination.base import image_tables, plotting
from contamination.base.files import RECORD, read_json
from contamination.metrics.distributions import MEASURES
from contamination.metrics.intervals import FEWEST, Interval, difference
from contamination.mixtures import mixing
from contamination.networks import feature_extractors
from contamination.report import fidelity, figures, results
from contamination.report.scores import of_run
from contamination.report.sections import Figure, cell, set_name
from contamination.report.summary import direction

STAGE = "measure"
TITLE = "What the generated images are like"
COLUMNS = 3  # of panels
NAMED = 6  # absent values listed by name
PAIRS = 10  # closest pairs shown of each set


def draw(table: pd.DataFrame, study) -> list[Figure]:
    palette, sets = figures.colors(table), study.compared_sets()
    drawn = [_measures(table, study, sets, palette), _spectra(study, sets, palette)]
    if "classification" in study.grid.tasks:
        drawn.append(_beside_loss(table, study, sets, palette))
    if study.judged:
        drawn.append(fidelity.figure(table, study, sets))
    return [*drawn, _closest(study, sets)]


def sentences(table: pd.DataFrame, study) -> list[str]:
    """What the numbers rest on, whether file formats or copies play a part, and what could not be measured."""
    return [
        *_basis(table, study),
        *fidelity.sentences(table, study),
        *fidelity.shortcut(table, study),
        *_variety(table, study),
        _file_formats(table, study),
        *_copies(table, study),
        *_absent(study),
    ]


def beside_loss(table: pd.DataFrame, study) -> dict:
    """The report's table: per set its measures, and the change of accuracy with this set in every slot, per model."""
    models = list(study.models_of("classification")) if "classification" in study.grid.tasks else []
    rows = []
    for arm, source in study.compared_sets():
        losses = _losses(table, study, arm, source)
        cells = [fidelity.in_table(table, study, source=source)] if study.judged else []
        cells += [cell(_measured(table, study, name, source)) for name in MEASURES]
        cells += [cell(losses[model].times(100), "+z.1f") if model in losses else None for model in models]
        rows.append((figures.label_of(arm, source), cells))
    change = [f"{model}: change of accuracy at ratio {_largest(study):g} (points)" for model in models]
    shown = ["class fidelity (%)"] if study.judged else []
    return {"columns": ["images", *shown, *(measure.label for measure in MEASURES.values()), *change], "rows": rows}


def _measured(table, study, name: str, source: str) -> Interval | None:
    """A measure in the features of the network, not in pixels."""
    network = feature_extractors.name_of(study.measure.extractor, study.auxiliary.generation)
    asked: dict = {"source": source, "split": "train", "model": network, "confidence": study.plot.confidence}
    return results.of_set(table, STAGE, name=name, **asked)


def _folder(study, source: str) -> Path:
    """Of what was found of the first draw of a set."""
    return study.job(STAGE, draw=study.draws_of(source)[0], source=source)


def _words(found: Interval | None, form: str = "z.2f") -> str:
    assert found, "spoken of where it was measured"
    return "{} ({})".format(*cell(found, form))


def _losses(table: pd.DataFrame, study, arm: str, source: str) -> dict[str, Interval]:
    """Change of test accuracy at the largest ratio, per model that was trained on this set; in shares of 1."""
    if "classification" not in study.grid.tasks:
        return {}
    accuracy, found = results.metric(table, "classification", name="accuracy"), {}
    for point in results.points(study, "classification"):
        if (point.arm, point.source, point.ratio) == (arm, source, _largest(study)):
            change = of_run(accuracy, point).minus(of_run(accuracy, point.clean))
            found[point.model] = change.interval(study.plot.confidence)
    return found


def _largest(study) -> float:
    return max(study.grid.of("classification").ratios)


def _basis(table, study) -> list[str]:
    rows = results.metric(table, STAGE, name="frechet_distance", split="train")
    if rows.empty:
        return []
    n, model = rows.iloc[0][["n", "model"]]
    pupils = ["the generator"] if study.own_generator else []
    pupils += [] if study.measure.extractor else ["the network"]
    learned = f"{' and '.join(pupils) or 'nothing here'} {'have' if len(pupils) > 1 else 'has'} learned from them"
    return [
        f"Each set of {n} images is compared with the {n} real images in whose slots it stands, in the features of "
        f"{model}. Unseen real images, the pool, are shown as what real images reach; {learned}. {_over(study)}"
    ]


def _over(study) -> str:
    """What the intervals of sets are over."""
    images = (
        "over images drawn again, with network and generator as they are, and hold somewhat less often than they say "
        "where two sets hardly touch."
    )
    several = [source for source in study.generated_sets() if len(study.draws_of(source)) > 1]
    if not several:
        return f"Intervals are {images}"
    count = min(len(study.draws_of(source)) for source in several)
    if count < FEWEST:
        return f"Of the {count} draws of each set the first is shown. Intervals are {images}"
    others = [source for _, source in study.compared_sets() if source not in several]
    training = " and, of the study's own pipeline, a training of the generator" if study.own_generator else ""
    return (
        f"Values are means over {count} draws or more of a set, with t intervals over these: each has noise of its own"
        f"{training}. Spectra and single images are the first draw's. Of {' and '.join(others)} there is one draw, and "
        f"intervals are {images}"
    )


def _variety(table, study) -> list[str]:
    """Coverage of each generated set compared with the pool's: the share of real images with a generated one near."""
    found = {source: _measured(table, study, "coverage", source) for _, source in study.compared_sets()}
    real, parts = found.pop("pool"), []
    for source, each in found.items():
        if each and real:
            verdict = direction(difference(real, each), "less", "more", "no measurable difference")
            parts.append(f"{source} {_words(each)}, {verdict}")
    if not parts:
        return []
    return [
        f"Coverage, the share of real images with an image of the set near them, is {_words(real)} for unseen real "
        f"images, and for generated ones: {'; '.join(parts)}."
    ]


def warnings(table, study) -> list[str]:
    """For the first screen: the sets whose files differ from the real ones, apart from what the images show."""
    leaking = _leaks(table, study)[0] if study.measure else []
    if not leaking:
        return []
    return [
        f"File-format leakage: size, format and quantization alone distinguish from the real images "
        f"{'; '.join(leaking)} (accuracy; chance: 0.50). A model may learn the traces that formats leave in the "
        "pixels instead of what the images show."
    ]


def _leaks(table, study) -> tuple[list[str], list[str]]:
    """The sets that facts about files alone distinguish from the real images, with these facts; and the others."""
    leaking, others = [], []
    for _, source in study.compared_sets():
        asked: dict = {"source": source, "split": "train", "confidence": study.plot.confidence}
        accuracy = results.of_set(table, STAGE, name="file_format_accuracy", **asked)
        text = f"{set_name(source)} {_words(accuracy, '.3f')}"
        if accuracy.low > 0.5:
            facts = read_json(_folder(study, source) / RECORD)["differing"]
            leaking.append(f"{text}, by {', '.join(facts) or 'a combination of facts'}")
        else:
            others.append(text)
    return leaking, others


def _file_formats(table, study) -> str:
    leaking, others = _leaks(table, study)
    by_format = "size, format and quantization alone distinguish from the real images"
    found = [f"{by_format}: {'; '.join(leaking)}"] if leaking else []
    found += [f"no leakage found: {'; '.join(others)}"] if others else []
    return f"File-format leakage check, accuracy (chance: 0.50): {'; '.join(found)}."


def _copies(table, study) -> list[str]:
    """Near-duplicates with the test set, and of generated images with the pool, which is what a generator remembers."""
    usual = 100 * study.measure.near_duplicate_quantile
    parts = {split: _shares_of_copies(table, study, split) for split in ("test", "pool")}
    if not any(parts.values()):
        return []
    learned = "which the generator has learned from, " if study.own_generator else ""
    return [
        f"Near-duplicates, images nearer in their pixels to one of the others than all but {usual:g} % of the real "
        f"training images are: with the test set {'; '.join(parts['test']) or 'not measured'}. With the pool, "
        f"{learned}{'; '.join(parts['pool']) or 'not measured'}. Copies in other colors or "
        "places would not be found."
    ]


def _shares_of_copies(table, study, split: str) -> list[str]:
    parts = []
    for _, source in study.compared_sets():
        names = ("near_duplicates_of_real", "near_duplicates")
        asked: dict = {"source": source, "split": split, "confidence": study.plot.confidence}
        usual, share = (results.of_set(table, STAGE, name=name, **asked) for name in names)
        if share:
            verdict = ", more than usual" if difference(usual, share).low > 0 else ""
            parts.append(f"{set_name(source)} {_words(share.times(100), '.1f')} %{verdict}")
    return parts


def _absent(study) -> list[str]:
    """Named, so that nobody takes an empty place for a zero."""
    found = []
    for job in study.jobs()[STAGE]:
        absent = read_json(study.job(STAGE, **job) / RECORD)["absent"]
        reasons = dict.fromkeys(each["reason"] for each in absent)
        name = f"{job['source']}, draw {job['draw']}" if job["draw"] else job["source"]
        for reason in reasons:
            names = [each["metric"] for each in absent if each["reason"] == reason]
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            found.append(f"Not measured for {name}: {', '.join(names[:NAMED])}{more} ({reason}).")
    return found


def _measures(table, study, sets, palette) -> Figure:
    lines = -(-len(MEASURES) // COLUMNS)
    size = (3.5 * COLUMNS, lines * (0.31 * len(sets) + 1.2))
    figure, axs = plt.subplots(lines, COLUMNS, figsize=size, sharey=True, squeeze=False)
    for ax in axs.flat[len(MEASURES) :]:
        ax.set_visible(False)
    for ax, (name, measure) in zip(axs.flat, MEASURES.items(), strict=False):
        found = {place: _measured(table, study, name, place[1]) for place in sets}
        figures.intervals(ax, [(figures.label_of(*place), found[place], palette[place]) for place in sets])
        ax.set(title=measure.label, xlim=(0, 1.03) if measure.is_share else None)
    caption = (
        "What the generated images are like, compared with unseen real images: distances from the real training "
        "images (lower is closer); precision and density, how real the images look; recall and coverage, how much of "
        f"the real images they reach. Bars: {100 * study.plot.confidence:g} % intervals."
    )
    return Figure("measures", figure, caption)


def _spectra(study, sets, palette) -> Figure:
    """Mean power against spatial frequency, and as a ratio to that of the real images."""
    figure, (power, ratio) = plt.subplots(1, 2, figsize=(10, 3.6))
    for place in sets:
        spectra = pd.read_csv(_folder(study, place[1]) / "spectrum.csv")
        real, made = (spectra[spectra["images"] == kind] for kind in ("real", "set"))
        if place == sets[0]:
            plotting.spectrum(power, real, color="black", label="real images of the slots")
        plotting.spectrum(power, made, color=palette[place], label=figures.label_of(*place))
        relative = made["power"].to_numpy() / real["power"].to_numpy()
        ratio.plot(made["frequency"], relative, color=palette[place], marker=".")
    ratio.axhline(1, color="black", linewidth=0.8)
    ratio.set(ylim=(0, None), xlabel=power.get_xlabel(), ylabel="power relative to real images")
    figures.legend_below(figure, [power])
    caption = (
        "Mean power spectrum, averaged over directions and channels; bands: "
        f"{100 * study.plot.confidence:g} % t intervals over images. Beyond 0.5 lie only the diagonals, where patterns "
        "of upsampling would show."
    )
    return Figure("spectra", figure, caption)


def _beside_loss(table, study, sets, palette) -> Figure:
    chosen = [name for name, measure in MEASURES.items() if measure.beside_loss]
    figure, axs = plt.subplots(1, len(chosen), figsize=(10.5, 3.9), sharey=True)
    models = list(study.models_of("classification"))
    for ax, name in zip(axs, chosen, strict=True):
        for place in sets:
            measured = _measured(table, study, name, place[1])
            for model, loss in _losses(table, study, *place).items():
                if measured:
                    marker = figures.MARKERS[models.index(model) % len(figures.MARKERS)]
                    label = f"{model}, {figures.label_of(*place)}"
                    figures.cross(ax, measured, y=loss.times(100), color=palette[place], marker=marker, label=label)
        ax.axhline(0, color="black", linewidth=0.8)
        ax.set_xlabel(MEASURES[name].label)
    axs[0].set_ylabel(f"change of test accuracy\nat ratio {_largest(study):g} (points)")
    figures.legend_below(figure, axs)
    caption = (
        "What a set is like, and what it costs: the measures of each set against the change of test accuracy at "
        f"ratio {_largest(study):g}. Few points, so no law."
    )
    return Figure("measures-and-loss", figure, caption)


def _closest(study, sets) -> Figure:
    """For each set the pairs of an image and a test image that are nearest to each other in their pixels."""
    test, size = image_tables.read(study.layout.real("test")), study.data.image_size
    grid = {}
    for arm, source in sets:
        pairs = pyarrow.parquet.read_table(_folder(study, source) / "nearest.parquet")
        pairs = pairs.take(np.argsort(pairs["test_distance"].to_numpy())[:PAIRS])
        layout = study.layout.of_draw(study.draws_of(source)[0])
        images = image_tables.take(mixing.in_slots(layout, source, seed=study.seed), pairs["slot"])
        label = figures.label_of(arm, source)
        for name, rows in {
            label: images,
            f"nearest test image ({source})": image_tables.take(test, pairs["test_row"]),
        }.items():
            grid[name] = image_tables.decode_all(rows, size).permute(0, 2, 3, 1).numpy()
    figure, ax = plt.subplots(figsize=(8.5, 0.42 * len(grid) + 0.8))
    plotting.image_grid(ax, grid, names=[str(place + 1) for place in range(PAIRS)])
    return Figure(
        "closest-pairs", figure, "The images of each set that are nearest to a test image, over that test image."
    )
