"""Every number of README.md and docs/results.md is one of the reference run.

Tables are made here and looked for line by line; every number with an interval in the prose stands in the report of the
reference run, in one of its tables, or in one of these. `python tests/project/test_readme.py` prints the tables.
"""

import re
from pathlib import Path

import pandas as pd
import pytest
from benchmarks import other_worlds
from bs4 import BeautifulSoup
from contamination.metrics.intervals import Interval
from contamination.report import classification, results
from contamination.report.scores import of_rows
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


def effects() -> pd.DataFrame:
    """The scores and changes of the primary metrics, with their intervals over seeds and test images."""
    return pd.read_csv(
        PUBLISHED / "effects.csv", keep_default_na=False, na_values={"low": [""], "high": [""], "p": [""]}
    )


def level(task: str, model: str, arm: str, ratio: float) -> Interval | None:
    """The primary metric of a model with the first set of an arm; None where there is none."""
    rows = effects().query(
        "effect == 'level' and task == @task and model == @model and arm == @arm and ratio == @ratio"
    )
    if rows.empty:
        return None
    row = rows.iloc[0]
    return Interval(row["value"], row["low"], row["high"], int(row["replicates"]))


def over_seeds(rows: pd.DataFrame, model: str, arm: str, ratio: float) -> Interval | None:
    """The same of another metric, whose intervals are over training seeds alone. rows: of the metric."""
    rows = rows[(rows["model"] == model) & (rows["arm"] == arm) & (rows["ratio"] == ratio)]
    if rows.empty:
        return None
    return of_rows(rows[rows["source"] == rows["source"].iloc[0]]).interval(0.95)


def first_table(found: pd.DataFrame) -> list[str]:
    """The five columns of the README."""
    columns = [TASK_COLUMNS[0], (0.4, "generated"), *TASK_COLUMNS[1:4]]
    lines = []
    for label, model in ROWS:
        cells = [level("classification", model, arm, ratio) for ratio, arm in columns]
        lines.append(f"| {label} | {' | '.join(spelled(each, True) for each in cells)} |")
    return lines


def accuracy_table(found: pd.DataFrame) -> list[str]:
    """Test accuracy on the ordinary test set, and as the mean over the OOD test sets."""
    ood = classification.over_sets(found, classification.at_floor(found, *clean()))
    lines = []
    for label, model in ROWS:
        cells = [level("classification", model, arm, ratio) for ratio, arm in COLUMNS]
        lines.append(f"| {label}, test accuracy | {' | '.join(spelled(each, True) for each in cells)} | {cells[0].n} |")
    for label, model in ROWS:
        cells = [over_seeds(ood, model, arm, ratio) for ratio, arm in COLUMNS]
        shown = " | ".join(spelled(each, True) for each in cells)
        lines.append(f"| {label}, mean over the OOD test sets | {shown} | {cells[0].n} |")
    return lines


def tasks_table(found: pd.DataFrame) -> list[str]:
    """The other tasks: their primary measures by arm and ratio, and two more."""
    primary, lines = set(effects()["metric"]), []
    for label, task, model, measure, share in TASKS:
        rows = results.metric(found, task, name=measure)
        cells = [
            level(task, model, arm, ratio) if measure in primary else over_seeds(rows, model, arm, ratio)
            for ratio, arm in TASK_COLUMNS
        ]
        shown = " | ".join(spelled(each, share) if each else "–" for each in cells)
        lines.append(f"| {label} | {shown} | {cells[0].n} |")
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
    del found["the study"]
    lines, inside, total = other_worlds.compare(printed(), found, "+z.1f")
    return [*lines[2:], f"{inside} of {total} effects"]


def printed() -> dict[tuple[str, str], tuple[float, float, float]]:
    """The effects on the first model as the report prints them, by name and share."""
    rows = effects().query("task == 'classification' and model == 'resnet'")
    against = {"change": "all real", "missing images": "all real", "replacement": "removed images"}
    found = {}
    for row in rows[rows["effect"].isin(against)].itertuples():
        name = row.source if row.arm == "generated" else row.arm
        key = in_words(f"{name} against {against[row.effect]}"), f"{100 * row.ratio:g} %"
        found[key] = (100 * row.value, 100 * row.low, 100 * row.high)
    return found


def in_words(name: str) -> str:
    """The name of an effect with its set as the README calls it."""
    source, _, against = name.partition(" against ")
    return f"{SETS.get(source, source)}, against {against}"


def clean():
    """The study, and its first model on real images alone."""
    study = studies.load(STUDY)
    return study, results.points(study, "classification")[0]


def sets_table(found: pd.DataFrame) -> list[str]:
    lines = []
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
        rows = effects().query("effect == 'level' and model == 'resnet' and source == @source and ratio == 1")
        alone = [Interval(row.value, row.low, row.high, row.replicates) for row in rows.itertuples()]
        cells.append(spelled(alone[0], True) if alone else "–")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def page() -> BeautifulSoup:
    return BeautifulSoup((PUBLISHED / "index.html").read_text(), "html.parser")


def statements_table(_: pd.DataFrame) -> list[str]:
    """The paper's statements as the report judges them: verdict, first effect, reason."""
    lines = []
    for row in page().select("#statements ~ .scroll tr:has(td.verdict)"):
        statement, verdict, measured = row("td")
        parts = [plain(each) for each in [measured.div, measured.find(class_="reason")] if each]
        effect, *reason = parts
        value = plain(measured.div.b)
        effect = effect.replace(f"{value} ", f"{value} (", 1) + ")"
        lines.append(f"| {plain(statement.b)} | {plain(verdict)} | {'; '.join([effect, *reason])} |")
    return lines


def plain(tag) -> str:
    return " ".join(tag.get_text().split())


def before_and_after(found: pd.DataFrame) -> list[str]:
    """Change of the ResNet's accuracy against all real images, as first published and as it is now.

    Both over training seeds alone: the test images that the first network got right are not kept.
    """
    lines = []
    for source in ("class-name-7.5", "class-name-2", "diverse-7.5"):
        for ratio in (0.2, 0.4, 0.8, 0.9, 1.0):
            cells = []
            for rows in (with_draws(results.read(PUBLISHED / "before.csv")), found):
                rows = results.metric(rows, "classification", name="accuracy").query("model == 'resnet'")
                chosen = rows[(rows["source"] == source) & (rows["ratio"] == ratio)]
                change = of_rows(chosen).minus(of_rows(rows[rows["arm"] == "clean"]))
                cells.append(spelled(change.interval(0.95), True, "+"))
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


WITH_INTERVAL = re.compile(
    r"([\u2212+]?\d[\d.]*)(?: points| %)? ?\((?:95 % interval )?([\u2212+]?[\d.]+) to ([\u2212+]?[\d.]+)"
)


def numbers(text: str) -> set[tuple[str, ...]]:
    """Every number with its interval, without signs: "loses 12 (8 to 16)" is "-12 (-16 to -8)"."""
    text = " ".join(text.split())
    found = ([each.strip("+\u2212") for each in triple] for triple in WITH_INTERVAL.findall(text))
    return {(mean, *sorted(ends, key=float)) for mean, *ends in found}


def known() -> set[tuple[str, ...]]:
    """The numbers of the report, of effects.csv and of the tables here."""
    rows = effects().query("low == low")
    cells = [
        "{} ({} to {})".format(*(f"{factor * value:.{digits}f}" for value in (row.value, row.low, row.high)))
        for row in rows.itertuples()
        for factor, digits in ((100, 1), (1, 2))
    ]
    points = table().query("task not in ('measure', 'detect')").groupby(["task", "model", "split", "metric"])
    for _, rows in points:
        scores = {key: of_rows(part) for key, part in rows.groupby(["arm", "source", "ratio"])}
        clean = scores["clean", "train", 0.0]
        cells += [spelled(each.interval(0.95), True) for each in scores.values()]
        cells += [spelled(each.minus(clean).interval(0.95), True) for each in scores.values()]
    tables = [line for make in TABLES for line in make(table())]
    return numbers(" ".join([page().get_text(" "), *cells, *tables]).replace("-", "\u2212"))


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_every_number_with_an_interval_is_one_of_the_reference_run(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = numbers((ROOT / name).read_text())
    assert found and not found - known()


def test_the_reference_run_is_below_6_mb_with_three_notebooks_at_most():
    files = list(PUBLISHED.iterdir())
    assert sum(file.stat().st_size for file in files) < 6e6
    assert sum(file.suffix == ".ipynb" for file in files) <= 3 and (PUBLISHED / "index.html").is_file()


if __name__ == "__main__":
    for make in TABLES:
        print("\n".join(make(table())), end="\n\n")
