"""What there is of a study and what a run would make, found without making anything."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from contamination import sources, tasks
from contamination.base import image_tables
from contamination.base.layout import project_root
from contamination.commands import rates
from contamination.generators import shards
from contamination.generators.prompts import write_prompts
from contamination.runner import inputs
from contamination.sources import ood, readable_names, splitting
from contamination.study import checks
from contamination.study.study import Study

Jobs = dict[str, list[dict]]  # the points of the grid at which each stage runs
COMPARED = 50  # rows of a shard that are compared with what would be drawn now
# Without looks for garbage, which take a tenth of the time.
SNAKEMAKE = "import gc; gc.disable(); from snakemake.cli import main; main()"


class State(NamedTuple):
    """A study as it is found.

    jobs: all of them; todo: those that a run would make. slots: images of the training set, test: of the test set,
    tested: of all that a classifier is scored on, classes: how many; None where not known.
    notes: what is missing, and why something is not known, a line each.
    """

    study: Study
    jobs: Jobs
    todo: Jobs
    slots: int | None
    classes: int | None
    test: int | None
    tested: int | None
    notes: list[str]

    @property
    def done(self) -> Jobs:
        return {stage: [each for each in points if each not in self.todo[stage]] for stage, points in self.jobs.items()}


def all_jobs(study: Study) -> Jobs:
    """The points of all stages in the order of the chain, with those that have no notebook."""
    scored = any(tasks.load(task).USES_OOD_SETS for task in study.grid.tasks)
    return {"images": [{}], "ood": [{}] if scored else []} | study.jobs() | {"report": [{}]}


def look(study_file: str, study: Study, *, jobs: Jobs) -> State:
    """What there is of a study, and what a run would make."""
    missing = [place for place in _places(study) if not (project_root() / place).exists()]
    todo, notes = to_run(study_file, study, jobs=jobs)
    sizes = sources.sizes_by_name(study.real) if todo["images"] else None  # once: it reads every name
    notes += [f"missing: {place}" for place in missing] or _objection(study, sizes)
    slots, words = _slots(study, sizes, fresh=not todo["images"])
    test, tested = _tests(study, fresh=not todo["images"])
    return State(study, jobs, todo, slots, classes(study), test, tested, notes + words)


def to_run(study_file: str, study: Study, *, jobs: Jobs) -> tuple[Jobs, list[str]]:
    """The jobs that a dry run of Snakemake lists; and in a line why, where it cannot tell.

    Where not even the real images have been read all of them are, and nobody needs to be asked.
    """
    if not any(study.layout.real(split).exists() for split in sources.SPLITS):
        return jobs, []
    command = [sys.executable, "-c", SNAKEMAKE, "--snakefile", "Snakefile", "--profile", "profiles/laptop", "--dry-run"]
    command += ["--config", inputs.config(study_file)]
    ended = subprocess.run(command, cwd=project_root(), capture_output=True, text=True)
    lines = ended.stderr.splitlines()
    if ended.returncode:
        reason = " ".join((lines or ["no reason given"])[-1].split())
        return jobs, [f"all jobs are counted, for Snakemake cannot tell which are done ({reason})"]
    listed = set(lines)
    return {stage: [each for each in points if _line(stage, each) in listed] for stage, points in jobs.items()}, []


def _line(stage: str, point: dict) -> str:
    """A job as a dry run lists it."""
    return " ".join([stage, *inputs.words(point)])


def _places(study: Study) -> Iterator[str]:
    """The files and folders that a study names, relative to the project root or absolute."""
    yield from sources.kind(study.real).files_named(study.data.model_dump())
    yield from (study.grid.generated[point["source"]].folder for point in study.jobs()["import"])


def _objection(study: Study, sizes: list[int] | None) -> list[str]:
    """What a run would refuse before any work, in a line. A dataset that was not read yet is not fetched for that.

    sizes: slots of each class, by names of files.
    """
    if sources.kind(study.real).FETCHED and not study.layout.real("train").exists():
        return []
    try:
        checks.check_tasks(study)
        return [*checks.check_ratios(study, sizes), *checks.cautions(study)]
    except (ValueError, OSError) as problem:
        return [f"a run would stop: {problem}"]


def classes(study: Study) -> int | None:
    """How many classes there are, as far as names of folders or a file of them tell."""
    data, table = study.data, study.layout.real("train")
    if table.exists():
        return len(json.loads(image_tables.metadata(table).get("class_names", "[]"))) or None
    by_places = sources.kind(study.real).class_count(study.real)
    if by_places is None and data.names and (project_root() / data.names).is_file():
        return len(readable_names.load(data.names))
    return by_places


def _slots(study: Study, sizes: list[int] | None, fresh: bool) -> tuple[int | None, list[str]]:
    """Images of the training set, and in a line what is not certain of them.

    sizes: slots of each class, by names of files.
    fresh: whether the image tables are those of this study; else names of files and folders have to do.
    """
    data = study.data
    if fresh:
        return image_tables.read(study.layout.real("train")).num_rows, []
    if data.per_class and (known := classes(study)):
        return known * data.per_class, [f"{known * data.per_class:,} slots at most: a class may have fewer images"]
    if sizes is None:
        return None, [
            "not known before the real images are there and read: how many are to be drawn, one for each slot"
        ]
    return sum(sizes), []


def _tests(study: Study, fresh: bool) -> tuple[int | None, int | None]:
    """Images of the test set, and of it and all ood ones. fresh: as in `_slots`."""
    data, layout = study.data.model_dump(), study.layout
    share = splitting.shares(data).get("test")
    by_class = sources.kind(data).class_sizes(data, data["train"] if share else data["test"] or "test")
    known = None if by_class is None else sum(splitting.set_apart(share, size) if share else size for size in by_class)
    counts: dict = {layout.real("test"): known}
    counts |= zip(map(layout.ood, ood.names(data)), ood.sizes(data), strict=True)
    if fresh:
        counts |= {table: image_tables.read(table).num_rows for table in counts if table.exists()}
    test = counts[layout.real("test")]
    return test, None if None in counts.values() else sum(counts.values())


# Generated images


def missing_images(state: State, point: dict) -> int | None:
    """How many images of a drawn set a run would draw: not those of shards that it would keep. point: of its job."""
    if point not in state.todo["generate"]:
        return 0
    if state.slots is None:
        return None
    there = state.study.job("generate", **point).glob("shard-*.arrow")
    kept = [path for path in there if _is_kept(state, point, path)]
    return max(0, state.slots - (image_tables.read(*kept).num_rows if kept else 0))


def _is_kept(state: State, point: dict, shard: Path) -> bool:
    """Whether a shard is drawn as the study says now, as far as is known without loading the pipeline."""
    given = state.study.parameters("generate", **point)
    how = json.loads(image_tables.metadata(shard).get("how", "{}"))
    same = {"loading": rates.loading(given), "image_size": given["image_size"], "shard_size": given["shard_size"]}
    same |= {"code": shards.code_hash(given["watermark"])}
    settings = how.get("settings", {})
    asked = {
        "num_inference_steps": given["steps"],
        "guidance_scale": settings.get("guidance_scale") and given["guidance"],
    }
    if any(how.get(key) != value for key, value in same.items()):
        return False
    return all(settings.get(key) == value for key, value in asked.items()) and _same_prompts(state.study, given, shard)


def _same_prompts(study: Study, given: dict, shard: Path) -> bool:
    """Whether the first slots of a shard have the prompts they get now and, where no draw was flagged, the seeds."""
    found = image_tables.read(shard).slice(0, COMPARED)
    slots = found["slot"].to_pylist()
    train, names = image_tables.read(study.layout.real("train")), sources.class_names(study.layout)
    if slots[-1] >= train.num_rows:
        return False
    of_slots = train.slice(slots[0], len(slots))
    classes = [names[label] for label in of_slots["label"].to_pylist()]
    texts = write_prompts(
        given["style"],
        classes,
        captions=of_slots["caption"].to_pylist(),
        slots=slots,
        seed=given["seed"],
        names_file=given["names"],
    )
    noise = shards.draw_seed(given["seed"], given["draw"])
    seeds = [shards.image_seed(noise, slot) for slot in slots]
    pairs = zip(found["seed"].to_pylist(), seeds, found["flagged"].to_pylist(), strict=True)
    return found["prompt"].to_pylist() == texts and all(seed == wanted or flags for seed, wanted, flags in pairs)
