"""Tables of README.md and docs/results.md are those of the published results: made here, and looked for line by line.

`python tests/project/test_readme.py` prints them.
"""

from pathlib import Path

import pandas as pd
import pytest
from benchmarks import other_worlds
from contamination.metrics.intervals import Interval, interval, paired_difference
from contamination.report import classification, results, statements
from contamination.report.sections import cell
from contamination.study import study as studies

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "outputs/reference"
STUDY = "parameters/digits-all.yaml"
COLUMNS = (  # ratio, arm, of the first table
    (0.0, "clean"),
    (0.4, "generated"),
    (0.9, "generated"),
    (1.0, "generated"),
    (0.9, "other_real"),
    (0.9, "dropped"),
)
ROWS = (("ResNet", "resnet"), ("ConvNeXt", "convnext"))
TASKS = (  # label, task, model, measure, whether it is a share
    ("captioning, BLIP: exact match (digit and both colors), %", "captioning", "blip", "exact_match", True),
    ("image generation, DDPM: Fréchet distance", "generation", "ddpm", "frechet_distance", False),
    ("image generation, DDPM: recall", "generation", "ddpm", "recall", False),
    ("pre-training, masked autoencoder: fine-tuned, %", "pretraining", "mae", "finetuned_accuracy", True),
    ("pre-training, masked autoencoder: linear probe, %", "pretraining", "mae", "probe_accuracy", True),
)
TASK_COLUMNS = ((0.0, "clean"), (0.8, "generated"), (1.0, "generated"), (0.8, "other_real"), (0.8, "dropped"))
SETS = {
    "pool": "real control (the pool)",
    "class-name-2": "class names, guidance 2",
    "class-name-7.5": "class names, guidance 7.5",
    "diverse-7.5": "diverse prompts, guidance 7.5",
    "caption-7.5": "captions, guidance 7.5",
}
WORLDS = {
    "the study": "the study's",
    "draw 1": "second training, same split",
    "draw 2": "third training, same split",
    "seed 1": "study seed 1: another split, too",
    "seed 2": "study seed 2: another split, too",
}


def table() -> pd.DataFrame:
    return with_draws(results.read(PUBLISHED / "results.csv"))


def with_draws(rows: pd.DataFrame) -> pd.DataFrame:
    """The reference run is older than two columns: it has one draw of each set, and every seed its own slots."""
    assert not {"draw", "slots"} & set(rows), "outputs/reference is made anew: leave this function out"
    return rows.assign(draw=0, slots=rows["seed"])


def spelled(found: Interval, share: bool, sign: str = "") -> str:
    """A mean with its interval."""
    mean, span = cell(found.times(100), f"{sign}z.1f") if share else cell(found, f"{sign}z.2f")
    return f"{mean} ({span})" if found.n > 1 else mean


def values(rows: pd.DataFrame, model: str, arm: str, ratio: float) -> dict[int, float]:
    """By seed, of the first set of an arm."""
    rows = rows[(rows["model"] == model) & (rows["arm"] == arm) & (rows["ratio"] == ratio)]
    rows = rows[rows["source"] == rows["source"].iloc[0]] if len(rows) else rows
    return dict(zip(rows["seed"], rows["value"], strict=True))


def first_table(found: pd.DataFrame) -> list[str]:
    """The five columns of the README."""
    rows = results.metric(found, "classification", name="accuracy")
    lines = []
    for label, model in ROWS:
        cells = [interval(list(values(rows, model, arm, ratio).values())) for ratio, arm in TASK_COLUMNS[:4]]
        middle = interval(list(values(rows, model, "generated", 0.4).values()))
        lines.append(f"| {label} | {' | '.join(spelled(each, True) for each in [cells[0], middle, *cells[1:]])} |")
    return lines


def accuracy_table(found: pd.DataFrame) -> list[str]:
    """Test accuracy on the ordinary test set, and as the mean over the OOD test sets."""
    kinds = {"test accuracy": results.metric(found, "classification", name="accuracy")}
    kinds["mean over the OOD test sets"] = classification.over_sets(found, classification.at_floor(found, *clean()))
    lines = []
    for kind, rows in kinds.items():
        for label, model in ROWS:
            cells = [interval(list(values(rows, model, arm, ratio).values())) for ratio, arm in COLUMNS]
            shown = " | ".join(spelled(each, True) for each in cells)
            lines.append(f"| {label}, {kind} | {shown} | {cells[0].n} |")
    return lines


def tasks_table(found: pd.DataFrame) -> list[str]:
    """The other tasks: their primary measures by arm and ratio."""
    lines = []
    for label, task, model, measure, share in TASKS:
        rows = results.metric(found, task, name=measure)
        cells = [list(values(rows, model, arm, ratio).values()) for ratio, arm in TASK_COLUMNS]
        shown = " | ".join(spelled(interval(each), share) if each else "–" for each in cells)
        lines.append(f"| {label} | {shown} | {len(cells[0])} |")
    return lines


def worlds() -> dict[str, pd.DataFrame]:
    """The rows of the study and of its other worlds, by name; `tests/benchmarks/other_worlds.py` writes them."""
    return {name: rows for name, rows in with_draws(pd.read_csv(PUBLISHED / "worlds.csv")).groupby("world", sort=False)}


def fidelity_table(_: pd.DataFrame) -> list[str]:
    """Class fidelity of five trainings of the generator, without the head."""
    lines = other_worlds.fidelity_table(worlds())[2:]
    for name, label in WORLDS.items():
        lines = [line.replace(f"| {name} |", f"| {label} |") for line in lines]
    return lines


def worlds_table(_: pd.DataFrame) -> list[str]:
    """The effects of the study beside those of its other worlds, and how many lie inside its intervals."""
    study = studies.load(STUDY)
    found = {
        world: {(in_words(name), f"{100 * ratio:g} %"): effect for (name, ratio), effect in effects.items()}
        for world, effects in ((name, other_worlds.effects(study, rows)) for name, rows in worlds().items())
    }
    lines, inside, total = other_worlds.compare(found.pop("the study"), found, "+z.1f")
    return [*lines[2:], f"{inside} of {total} effects"]


def in_words(name: str) -> str:
    """The name of an effect with its set as the README calls it."""
    source, _, against = name.partition(" against ")
    return f"{SETS.get(source, source)}, against {against}"


def clean():
    """The study, and its first model on real images alone."""
    study = studies.load(STUDY)
    return study, results.points(study, "classification")[0]


def sets_table(found: pd.DataFrame) -> list[str]:
    accuracy, lines = results.metric(found, "classification", name="accuracy"), []
    for source, label in SETS.items():
        cells = []
        for name, model, share in (
            ("class_fidelity", None, True),
            ("class_from_colors", None, True),
            ("frechet_distance", None, False),
            ("recall", "auxiliary-resnet10t", False),
            ("coverage", "auxiliary-resnet10t", False),
            ("precision", "auxiliary-resnet10t", False),
            ("precision", "pixels", False),
        ):
            measured = results.of_set(found, "measure", name=name, source=source, split="train", model=model)
            cells.append("–" if measured is None else spelled(measured, share))
        alone = accuracy[(accuracy["source"] == source) & (accuracy["ratio"] == 1) & (accuracy["model"] == "resnet")]
        cells.append(spelled(interval(alone["value"]), True) if len(alone) else "–")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def statements_table(found: pd.DataFrame) -> list[str]:
    lines = []
    for judgment in statements.judge(found, studies.load(STUDY)):
        if judgment.verdict == statements.NOT_MEASURED:
            continue
        parts = ["{}: {} ({})".format(effect.name, *statements.words(effect)) for effect in judgment.effects[:1]]
        shown = "; ".join([*parts, *filter(None, [judgment.reason])])
        lines.append(f"| {judgment.statement} | {judgment.verdict} | {shown} |")
    return lines


def before_and_after(found: pd.DataFrame) -> list[str]:
    """Change of the ResNet's accuracy against all real images, as first published and as it is now."""
    before = with_draws(results.read(PUBLISHED / "before.csv"))
    lines = []
    for source in ("class-name-7.5", "class-name-2", "diverse-7.5"):
        for ratio in (0.2, 0.4, 0.8, 0.9, 1.0):
            cells = []
            for rows in (before, found):
                rows = results.metric(rows, "classification", name="accuracy")
                rows = rows[rows["model"] == "resnet"]
                chosen = rows[(rows["source"] == source) & (rows["ratio"] == ratio)]
                clean = rows[rows["arm"] == "clean"]
                change = paired_difference(
                    *(dict(zip(each["seed"], each["value"], strict=True)) for each in (clean, chosen))
                )
                cells.append(spelled(change, True, "+"))
            lines.append(f"| {SETS[source]} | {100 * ratio:g} % | {' | '.join(cells)} |")
    return lines


TABLES = (
    first_table,
    accuracy_table,
    tasks_table,
    sets_table,
    fidelity_table,
    worlds_table,
    statements_table,
    before_and_after,
)


@pytest.mark.parametrize("make", TABLES)
def test_what_is_printed_are_the_numbers_of_the_published_results(make, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / ("README.md" if make is first_table else "docs/results.md")).read_text().splitlines()
    missing = [line for line in make(table()) if not any(line in each for each in text)]
    assert not missing, f"not printed: {missing}"


def test_the_reference_run_is_below_6_mb_with_three_notebooks_at_most():
    files = list(PUBLISHED.iterdir())
    assert sum(file.stat().st_size for file in files) < 6e6
    assert sum(file.suffix == ".ipynb" for file in files) <= 3 and (PUBLISHED / "index.html").is_file()


if __name__ == "__main__":
    for make in TABLES:
        print("\n".join(make(table())), end="\n\n")
