"""The same study with other trainings of its generator and with other splits: do its intervals hold what they find?

Each world is a study of its own, below outputs/world-NAME: `draw-N` has another training of the generator on the same
split, `seed-N` another study seed, and with it another split, generator and noise. Every effect of the study against
ratio 0, and each generated set against empty slots, is then compared with the printed interval of the first study.
Where two means have intervals of equal width and nothing else varies, 83 % lie inside. Prints tables in Markdown.

`python tests/benchmarks/other_worlds.py parameters/digits.yaml --draws 1 2 --seeds 1 2`, after `contamination run` of
that study; two training seeds each, the study's first model, generated images and empty slots at the large ratios.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml
from contamination.metrics.intervals import paired_difference
from contamination.report import results
from contamination.study import study as studies

TRAINING_SEEDS = [0, 1]
RATIOS = [0, 0.8, 0.9, 1.0]
MEASURES = ("class_fidelity", "class_from_colors", "frechet_distance", "recall", "coverage")


def write_world(study_file: str, kind: str, number: int) -> Path:
    """The parameter file of one world."""
    content = yaml.safe_load(Path(study_file).read_text())
    name = f"world-{kind}-{number}"
    content |= {"study": name, "title": f"{content['title']} ({kind} {number})"}
    if kind == "draw":
        content["pretrain"]["draw"] = number
    else:
        content["seed"] = number
    grid = content["grid"]
    first = next(iter(grid["models"]))
    grid |= {"models": {first: grid["models"][first]}, "seeds": TRAINING_SEEDS, "ratios": RATIOS}
    grid["arms"] = ["generated", "dropped"]
    for made in grid["generated"].values():
        made.pop("models", None)
    path = Path("outputs") / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def effects(study_file: str, seeds: list[int] | None = None) -> dict[tuple, tuple]:
    """(what, ratio) of each effect on accuracy, in points: mean, low, high. seeds: which to take; all without."""
    study = studies.load(study_file)
    accuracy = results.metric(results.read(study.own.results), "classification", name="accuracy")
    if seeds is not None:
        accuracy = accuracy[accuracy["seed"].isin(seeds)]
    first = next(iter(study.models_of("classification")))
    points = [point for point in results.points(study, "classification") if point.model == first]
    dropped = {point.ratio: point for point in points if point.arm == "dropped"}
    found = {}
    for point in points[1:]:
        compared = {"against all real": point.clean}
        if point.arm == "generated" and point.ratio in dropped:
            compared["against empty slots"] = dropped[point.ratio]
        for against, other in compared.items():
            values = (results.by_seed(accuracy, each) for each in (other, point))
            name = point.source if point.arm == "generated" else point.arm
            change = paired_difference(*values, study.plot.confidence).times(100)
            found[f"{name} {against}", point.ratio] = (change.mean, change.low, change.high)
    return found


def measures(study_file: str) -> dict[tuple, tuple]:
    """(measure, set) of each measure of images: value, low, high."""
    table = results.read(studies.load(study_file).own.results)
    table = table[(table["task"] == "measure") & (table["split"] == "train") & (table["model"] != "pixels")]
    rows = table[table["metric"].isin(MEASURES) & (table["source"] != "pool")]
    return {(row.metric, row.source): (row.value, row.low, row.high) for row in rows.itertuples()}


def fidelity_table(files: dict[str, str]) -> str:
    """Class fidelity in per cent, over all and of the lowest class, of each set in every world."""
    lines = []
    for world, path in files.items():
        table = results.read(studies.load(path).own.results)
        rows = table[(table["metric"].str.split(" of ").str[0] == "class_fidelity") & (table["arm"] == "generated")]
        lowest = rows.groupby("source", sort=False)["value"].min()
        over_all = rows[rows["metric"] == "class_fidelity"].set_index("source")["value"]
        cells = [f"{100 * over_all[source]:.1f}, lowest class {100 * lowest[source]:.1f}" for source in lowest.index]
        lines.append(f"| {world} | {' | '.join(cells)} |")
    head = f"| | {' | '.join(lowest.index)} |\n|---|{'---|' * len(lowest)}"
    return "\n".join([head, *lines])


def compare(first: dict[tuple, tuple], others: dict[str, dict], form: str) -> str:
    """A table of each number in every world: the printed interval, the others' values, * where outside of it."""
    lines = [f"| | | printed | {' | '.join(others)} |", "|---|---|---|" + "---|" * len(others)]
    inside = total = 0
    for (name, at), (mean, low, high) in first.items():
        cells = []
        if any((name, at) not in world for world in others.values()):
            continue  # a ratio or an arm that the worlds leave out
        for world in others.values():
            value = world[name, at][0]
            inside, total = inside + (low <= value <= high), total + 1
            cells.append(f"{value:{form}}{'' if low <= value <= high else ' *'}")
        lines.append(f"| {name} | {at} | {mean:{form}} ({low:{form}} to {high:{form}}) | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"{inside} of {total} values of other worlds lie inside the printed intervals."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--draws", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    asked = parser.parse_args()
    worlds = {}
    for kind, numbers in (("draw", asked.draws), ("seed", asked.seeds)):
        for number in numbers:
            worlds[f"{kind} {number}"] = write_world(asked.study, kind, number)
    command = Path(sys.executable).parent / "contamination"
    for path in worlds.values():
        subprocess.run([command, "run", path], check=True, stdout=sys.stderr)
    print("Class fidelity\n")
    print(fidelity_table({"the study": asked.study} | worlds))
    print("\nChanges of test accuracy in points\n")
    print(compare(effects(asked.study), {name: effects(path) for name, path in worlds.items()}, "+.1f"))
    print("\nMeasures of the generated sets\n")
    print(compare(measures(asked.study), {name: measures(path) for name, path in worlds.items()}, ".2f"))
    spread = pd.DataFrame({name: measures(path) for name, path in worlds.items()}).map(lambda cell: cell[0])
    print(f"\nStandard deviation over worlds\n\n{spread.std(axis=1).round(3).to_string()}")


if __name__ == "__main__":
    main()
