"""The same study with other study seeds: do its intervals hold what they find?

Each world is a study of its own, below outputs/world-N, with another split, other generators and other noise. (Other
draws of the generated sets on one split are a matter of `grid.draws`.) Every effect of the study against ratio 0, and
each generated set against removed images, is then compared with the printed interval of the first study. Where two
means have intervals of equal width and nothing else varies, 83 % lie inside. Prints tables in Markdown, and keeps with
`--to` the rows that they are made of.

`python tests/benchmarks/other_worlds.py parameters/digits.yaml --seeds 1 2`, after `contamination run` of that study;
two training seeds each, the study's first model, generated images and empty slots at the large ratios.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml
from contamination.report import results
from contamination.report.scores import of_run
from contamination.report.summary import number
from contamination.study import study as studies

TRAINING_SEEDS = [0, 1]
RATIOS = [0, 0.8, 0.9, 1.0]
MEASURES = ("class_fidelity", "class_from_colors", "frechet_distance", "recall", "coverage")


def write_world(study_file: str, number: int) -> Path:
    """The parameter file of one world."""
    content = yaml.safe_load(Path(study_file).read_text())
    name = f"world-{number}"
    content |= {"study": name, "title": f"{content['title']} (seed {number})", "seed": number}
    grid = content["grid"]
    first = next(iter(grid["models"]))
    grid |= {"models": {first: grid["models"][first]}, "seeds": TRAINING_SEEDS, "ratios": RATIOS}
    grid["arms"] = ["generated", "dropped"]
    for made in grid["generated"].values():
        made.pop("models", None)
    content["claims"] = []  # two training seeds show nothing
    path = Path("outputs") / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def rows_of(study_file: str) -> pd.DataFrame:
    """The rows of a study's results.csv that the tables here are made of."""
    study = studies.load(study_file)
    table = results.read(study.own.results)
    first = next(iter(study.models_of("classification")))
    accuracy = (table["metric"] == "accuracy") & (table["split"] == "test") & (table["model"] == first)
    of_classes = table["metric"].str.startswith("class_fidelity of ")
    measured = (table["task"] == "measure") & (table["split"] == "train") & (table["model"] != "pixels")
    return table[accuracy | (measured & (table["metric"].isin(MEASURES) | of_classes))]


def effects(study, table: pd.DataFrame) -> dict[tuple, tuple]:
    """(what, ratio) of each effect on accuracy, in points: mean, low, high. study: with these points in its grid."""
    accuracy = results.metric(table, "classification", name="accuracy")
    points = [point for point in results.points(study, "classification") if of_run(accuracy, point).values]
    dropped = {point.ratio: point for point in points if point.arm == "dropped"}
    found = {}
    for point in points[1:]:
        compared = {"against all real": point.clean}
        if point.arm == "generated" and point.ratio in dropped:
            compared["against removed images"] = dropped[point.ratio]
        for against, other in compared.items():
            name = point.source if point.arm == "generated" else point.arm
            change = of_run(accuracy, point).minus(of_run(accuracy, other)).interval(study.plot.confidence).times(100)
            found[f"{name} {against}", point.ratio] = (change.mean, change.low, change.high)
    return found


def measures(table: pd.DataFrame) -> dict[tuple, tuple]:
    """(measure, set) of each measure of images: value, low, high. table: as of `rows_of`."""
    rows = table[table["metric"].isin(MEASURES) & (table["source"] != "pool")]
    return {(row.metric, row.source): (row.value, row.low, row.high) for row in rows.itertuples()}


def fidelity_table(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Class fidelity in per cent, over all and of the lowest class, of each set in every world."""
    lines = []
    for world, table in tables.items():
        rows = table[(table["metric"].str.split(" of ").str[0] == "class_fidelity") & (table["arm"] == "generated")]
        lowest = rows.groupby("source", sort=False)["value"].min()
        over_all = rows[rows["metric"] == "class_fidelity"].set_index("source")["value"]
        cells = [f"{100 * over_all[source]:.1f}, lowest {100 * lowest[source]:.0f}" for source in lowest.index]
        lines.append(f"| {world} | {' | '.join(cells)} |")
    return [f"| | {' | '.join(lowest.index)} |", f"|---|{'---|' * len(lowest)}", *lines]


def compare(first: dict[tuple, tuple], others: dict[str, dict], form: str) -> tuple[list[str], int, int]:
    """A table of each number in every world: the printed interval, the others' values, * where outside of it.

    Also how many of these values lie inside, and how many there are. Of what a world leaves out there is no line.
    """
    lines = [f"| | | printed | {' | '.join(others)} |", "|---|---|---|" + "---|" * len(others)]
    inside = total = 0
    for (name, at), (mean, low, high) in first.items():
        if any((name, at) not in world for world in others.values()):
            continue
        values = [world[name, at][0] for world in others.values()]
        within = [low <= value <= high for value in values]
        inside, total = inside + sum(within), total + len(within)
        cells = [f"{number(value, form)}{'' if held else ' *'}" for value, held in zip(values, within, strict=True)]
        printed, *ends = (number(value, form) for value in (mean, low, high))
        lines.append(f"| {name} | {at} | {printed} ({' to '.join(ends)}) | {' | '.join(cells)} |")
    return lines, inside, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--to", type=Path, help="CSV file for the rows of all worlds, with a column world")
    asked = parser.parse_args()
    study = studies.load(asked.study)
    files = {"the study": asked.study} | {f"seed {number}": write_world(asked.study, number) for number in asked.seeds}
    command = Path(sys.executable).parent / "contamination"
    for path in list(files.values())[1:]:
        subprocess.run([command, "run", path], check=True, stdout=sys.stderr)
    tables = {world: rows_of(path) for world, path in files.items()}
    if asked.to:
        pd.concat(tables, names=["world"]).reset_index("world").to_csv(asked.to, index=False)
    print("Class fidelity\n")
    print("\n".join(fidelity_table(tables)))
    for title, found, form in (
        ("Changes of test accuracy in points", {w: effects(study, table) for w, table in tables.items()}, "+z.1f"),
        ("Measures of the generated sets", {world: measures(table) for world, table in tables.items()}, "z.2f"),
    ):
        lines, inside, total = compare(found.pop("the study"), found, form)
        print(f"\n{title}\n", *lines, f"\n{inside} of {total} values lie inside the printed intervals.", sep="\n")


if __name__ == "__main__":
    main()
