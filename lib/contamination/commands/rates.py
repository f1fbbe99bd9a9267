"""How long the parts of a study take: from finished jobs, from a short measurement here, or as somebody states it.

A rate is what one GPU needs for a unit; on a machine without, one CPU core. Units are an image drawn (stage
`generate`), an image seen in training (`train`), a trained model that is scored (`evaluate`), and a job of any other.
Stages that need no GPU are short, and not counted.
"""

import datetime
import inspect
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from contamination.base import files, image_tables
from contamination.base.files import RECORD, fingerprint, read_json
from contamination.base.layout import NOTEBOOKS, project_root
from contamination.generators import pipelines
from contamination.runner.profiles import GPU_RULES
from contamination.study.study import Study

BY_IMAGE = ("generate", "train")
LOOKED_AT = 5  # finished jobs of a kind
PATIENCE = 600  # seconds that one measurement may take
# What a set is drawn with and a model learns by, and what does not change the time that it takes.
TIMELESS: dict[str, tuple[str, ...]] = {
    "generate": (
        "outputs",
        "source",
        "seed",
        "draw",
        "style",
        "names",
        "negative_prompt",
        "safety_retries",
        "shard_size",
    )
}
TIMELESS["train"] = (
    "steps",
    "learning_rate",
    "weight_decay",
    "checkpoint_minutes",
    "processes",
    "batch_size",
    "threads",
)


class Kind(NamedTuple):
    """Jobs that take equally long: of one stage, and of one set, model or task where the stage has these."""

    stage: str
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.stage


class Rate(NamedTuple):
    """seconds: of one GPU or core for a unit. origin: where this is known from."""

    seconds: float
    origin: str


def kind_of(stage: str, point: dict) -> Kind:
    """The kind of a job. point: its place in the grid."""
    names = {"generate": "source", "train": "model", "evaluate": "model", "auxiliary": "task"}
    return Kind(stage, point[names[stage]] if stage in names else "")


def kinds(jobs: dict) -> list[Kind]:
    """Those of all jobs, in the order of the chain. jobs: the points of each stage."""
    return list(dict.fromkeys(kind_of(stage, point) for stage, points in jobs.items() for point in points))


def width(study: Study, stage: str, point: dict, gpus: bool) -> int:
    """How many GPUs a job takes, or how many cores where there is none."""
    if gpus:
        return study.train_of(point["model"]).processes if stage == "train" else 1
    if stage in ("auxiliary", "evaluate"):
        return getattr(getattr(study, stage), point["task"]).threads
    if stage == "generate":
        return study.generate_of(point["source"]).threads
    return study.train_of(point["model"]).threads if stage == "train" else getattr(study, stage).threads


def units(study: Study, stage: str, *, point: dict) -> int:
    """Of a job of another stage than generate."""
    if stage == "train":
        recipe = study.train_of(point["model"])
        return recipe.steps * recipe.batch_size * len(point["seeds"])
    return len(point["seeds"]) if stage == "evaluate" else 1


def find(
    study: Study, jobs: dict, *, done: dict, stated: dict[Kind, Rate], gpus: bool, tested: int | None
) -> dict[Kind, Rate]:
    """The rate of each kind of job that has one: as stated, else of finished jobs, else as measured here before.

    jobs, done: the points of each stage, all and those that are up to date. gpus: whether rates are of GPUs, else of
    cores. tested: images that a trained model is scored on, where known.
    Raises ValueError for a file of measured rates that is damaged.
    """
    measured = load(study)
    found: dict[Kind, Rate] = {}
    for kind in (kind for kind in kinds(jobs) if kind.stage in GPU_RULES):
        rate = stated.get(kind) or _finished(study, kind, done, gpus) or _measured(study, kind, measured, gpus, tested)
        found |= {kind: rate} if rate else {}
    return found


# As stated


def stated(study: Study, jobs: dict, *, texts: list[str]) -> dict[Kind, Rate]:
    """Rates in words, `NAME=NUMBER`: images/s for a set, a model, `generate` and `train`, else seconds per unit.

    Raises ValueError for a name that the study does not have, and for what is no number above 0.
    """
    present = [kind for kind in kinds(jobs) if kind.stage in GPU_RULES]
    known = list(dict.fromkeys(name for kind in present for name in kind if _names(kind, name)))
    found = {}
    for text in texts:
        name, value = text.partition("=")[::2]
        number = _number(text, value)
        if name not in known:
            raise ValueError(
                f"--rate {text}: {name!r} is nothing that {study.study} does; give one of {', '.join(known)}"
            )
        for kind in present:
            by_image = kind.stage in BY_IMAGE
            unit = "images/s" if by_image else "s a model" if kind.stage == "evaluate" else "s a job"
            origin = f"stated, {value} {unit}"
            # A set or a model by its name goes before the stage as a whole, whichever stands first.
            if _names(kind, name) and not (name == kind.stage and kind in found):
                found[kind] = Rate(1 / number if by_image else number, origin)
    return found


def _names(kind: Kind, name: str) -> bool:
    """Whether a stated name is of this kind: a model's is of its training."""
    return name == kind.stage or (kind.stage in BY_IMAGE and name == kind.name)


def _number(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"--rate {text}: expected NAME=NUMBER with a number above 0, such as resnet50=1000")
    return number


# From finished jobs


def _finished(study: Study, kind: Kind, done: dict, gpus: bool) -> Rate | None:
    """The mean of some finished jobs of a kind; of a generated set also of others that are drawn in the same way."""
    points = [point for point in done.get(kind.stage, []) if _alike(study, kind, kind_of(kind.stage, point))]
    spent = [each for point in points[:LOOKED_AT] for each in _spent(study, kind.stage, point, gpus)]
    if not spent:
        return None
    seconds, count = (sum(column) for column in zip(*spent, strict=True))
    return Rate(seconds / count, f"{len(spent)} finished {'job' if len(spent) == 1 else 'jobs'}")


def _alike(study: Study, kind: Kind, other: Kind) -> bool:
    return kind == other or (kind.stage == "generate" and way(study, kind) == way(study, other))


def _spent(study: Study, stage: str, point: dict, gpus: bool) -> Iterator[tuple[float, int]]:
    """Seconds of one GPU or core and units of a finished job; nothing where not recorded, or of another device."""
    folder = study.job(stage, **point)
    try:
        record = read_json(folder / RECORD)
        if (record["device"] != "cpu") != gpus:
            return
        executed = {} if stage == "train" else read_json(folder / NOTEBOOKS[stage])["metadata"]["papermill"]
    except (OSError, KeyError, ValueError):
        return
    if stage == "train":
        seconds, count = sum(record["seconds"].values()), record["images_seen"] * len(record["seconds"])
    else:
        count = _drawn(folder, executed) if stage == "generate" else units(study, stage, point=point)
        seconds = executed["duration"]
    if count:
        yield seconds * width(study, stage, point, gpus), count


def _drawn(folder: Path, executed: dict) -> int:
    """How many images a job has drawn itself: those of shards that were written while it ran."""
    start, end = (datetime.datetime.fromisoformat(executed[f"{name}_time"]) for name in ("start", "end"))
    began, ended = (each.replace(tzinfo=each.tzinfo or datetime.UTC).timestamp() for each in (start, end))
    shards = [path for path in folder.glob("shard-*.arrow") if began <= path.stat().st_mtime <= ended + 1]
    return image_tables.read(*shards).num_rows if shards else 0


# As measured here


def loading(given: dict) -> dict:
    """What `pipelines.load` takes among the parameters of 01_generate, beside folder and device."""
    return {key: given[key] for key in inspect.signature(pipelines.load).parameters if key in given}


def file_of(study: Study) -> Path:
    return study.layout.root / "rates.json"


def load(study: Study) -> dict[str, dict]:
    """What `calibrate` has measured, by `way`. Raises ValueError for a file that it has not written."""
    try:
        found = read_json(file_of(study))
        if all({"seconds", "device", "gpu", "date"} <= each.keys() for each in found.values()):
            return found
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError):
        pass
    raise ValueError(f"{file_of(study)} is damaged: delete it, and measure again with `contamination plan --calibrate`")


def way(study: Study, kind: Kind) -> str:
    """A fingerprint of what the time of a set or a model depends on: sets drawn alike and equal models share it."""
    if kind.stage == "generate":
        what = study.parameters("generate", source=kind.name)
        what["guidance"] = what["guidance"] > 1  # from there on the denoiser runs twice
    else:
        model = study.grid.models[kind.name]
        recipe = study.train_of(kind.name).model_dump()
        settings = getattr(study.evaluate, model.task).model_dump() if kind.stage == "evaluate" else {}
        what = recipe | model.model_dump(include={"task", "architecture", "options"}) | {"settings": settings}
        what |= {
            "image_size": study.data.image_size,
            "share": [recipe[key] // recipe["processes"] for key in ("batch_size", "threads")],
        }
    dropped = TIMELESS["generate" if kind.stage == "generate" else "train"]
    return fingerprint({"stage": kind.stage} | {key: value for key, value in what.items() if key not in dropped})


def _measured(study: Study, kind: Kind, measured: dict, gpus: bool, tested: int | None) -> Rate | None:
    entry = measured.get(way(study, kind)) if kind.stage in (*BY_IMAGE, "evaluate") else None
    images = tested if kind.stage == "evaluate" else 1  # what was measured is one image
    if entry is None or entry["gpu"] != gpus or images is None:
        return None
    return Rate(entry["seconds"] * images, f"measured on {entry['device']}, {entry['date']}")


def calibrate(study: Study, study_file: str, *, jobs: dict, images: int | None, classes: int | None) -> None:
    """Measure every way of drawing and every model on this machine, each in a process of its own, and keep the rates.

    Prints a line for each, also for one that cannot be measured. images, classes: of the training set, where known.
    Raises OSError where the rates cannot be written.
    """
    drawn_or_trained = [kind for kind in kinds(jobs) if kind.stage in BY_IMAGE]
    ways = {way(study, kind): kind for kind in reversed(drawn_or_trained)}
    files.write_json(file_of(study), load(study))  # tells now rather than after minutes where it cannot be written
    for kind in reversed(ways.values()):
        print(f"measuring {kind} ...", flush=True)
        found = _measure(study_file, kind, images, classes)
        if isinstance(found, str):
            print(f"{kind}: not measured ({found})")
            continue
        common = found.pop("common") | {"date": datetime.date.today().isoformat()}
        entries = {way(study, Kind(stage, kind.name)): entry | common for stage, entry in found.items()}
        files.write_json(file_of(study), load(study) | entries)


def _measure(study_file: str, kind: Kind, images: int | None, classes: int | None) -> dict | str:
    """What the child process has found, by stage, or in one line why it has not."""
    what = json.dumps({"study": study_file, "kind": kind, "images": images, "classes": classes})
    command = [sys.executable, "-m", "contamination.commands.calibration", what]
    try:
        ended = subprocess.run(command, cwd=project_root(), capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"it took longer than {PATIENCE} s"
    lines = (ended.stdout if ended.returncode == 0 else ended.stderr).strip().splitlines()
    if ended.returncode == 0 and lines:
        return json.loads(lines[-1])
    return lines[-1].removeprefix("contamination: ") if lines else f"the process died, status {ended.returncode}"
