"""How much disk a study takes: what lies there, what is to come, and what is free."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from contamination import sources
from contamination.base import image_tables
from contamination.base.layout import Layout, project_root
from contamination.commands import rates
from contamination.commands.inventory import State
from contamination.commands.rates import Kind
from contamination.study.study import Study

SAMPLED = 200  # real images whose sizes stand for those of generated ones
ID = 40  # bytes of a row of predictions beside the probabilities
COPIES = 4  # of the weights in a checkpoint: themselves, two moments of the optimizer, a moving average
FOLDERS = {"generate": "generated images", "train": "weights", "evaluate": "predictions", "checkpoints": "checkpoints"}


class Need(NamedTuple):
    """Bytes of one kind of file: there already and to come, None where not known."""

    what: str
    there: int
    to_come: int | None
    origin: str


# Weights


def start_weight_sizes(study: Study, classes: int | None) -> subprocess.Popen | None:
    """Count the weights of classifiers that none has left yet, in a process beside this one: it takes seconds."""
    unknown = {
        name: [model.architecture, model.options]
        for name, model in study.models_of("classification").items()
        if not _known_weights(study, name)
    }
    if not unknown:
        return None
    what = json.dumps({"models": unknown, "classes": classes or 1000})
    command = [sys.executable, "-m", "contamination.commands.weight_sizes", what]
    return subprocess.Popen(command, cwd=project_root(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def weights(study: Study, jobs: dict, sizes_process: subprocess.Popen | None) -> dict[str, int]:
    """Bytes of one trained model each, where known. sizes_process: from `start_weight_sizes`."""
    counted = json.loads(sizes_process.communicate()[0] or "{}") if sizes_process else {}
    names = dict.fromkeys(point["model"] for point in jobs["train"])
    found = {name: _known_weights(study, name) or counted.get(name) for name in names}
    return {name: size for name, size in found.items() if size}


def _known_weights(study: Study, model: str) -> int | None:
    """As a training has left them, or a calibration has found."""
    for run in study.runs():
        if run.model == model:
            for file in study.layout.run("train", *run).glob("*.safetensors"):
                return file.stat().st_size
    return rates.load(study).get(rates.way(study, Kind("train", model)), {}).get("weights")


# All of it


def needs(state: State, weights: dict[str, int], *, devices: int) -> list[Need]:
    """A line for each kind of file. weights: bytes of one trained model each, where known. devices: GPUs."""
    todo = state.todo
    wide = min((rates.width(state.study, "train", each, True) for each in todo["train"]), default=1)
    at_once = max(1, devices // wide)
    an_image, origin = image_size(state.study)
    sizes = [weights.get(each["model"]) for each in todo["train"]]
    largest = sorted(filter(None, sizes), reverse=True)[:at_once]
    copies = None if None in sizes else COPIES * sum(largest)
    to_come = {
        "generated images": (_sum(_images(state, each, an_image) for each in todo["generate"]), origin),
        "weights": (_sum(_weights(state, each, weights) for each in todo["train"]), "sizes of the networks"),
        "predictions": (_sum(_scores(state, each) for each in todo["evaluate"]), "test images x classes"),
        "checkpoints": (copies, f"of unfinished trainings, {at_once} at a time"),
        "the rest": (0, ""),
    }
    there = _there(state.study.layout)
    return [Need(what, there[what], *more) for what, more in to_come.items()]


def _there(layout: Layout) -> dict[str, int]:
    sizes = dict.fromkeys([*FOLDERS.values(), "the rest"], 0)
    for folder, _, names in os.walk(layout.root):
        parts = [part for part in Path(folder).relative_to(layout.root).parts if not part.startswith("draw-")]
        what = FOLDERS.get(parts[0] if parts else "", "the rest")
        sizes[what] += sum(_size(Path(folder, name)) for name in names)
    return sizes


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # a run may be at work, and have put it elsewhere
        return 0


def _images(state: State, point: dict, an_image: int | None) -> int | None:
    whole = None if state.slots is None or an_image is None else state.slots * an_image
    return _more(state.study, "generate", point, whole)


def _weights(state: State, point: dict, weights: dict[str, int]) -> int | None:
    size = weights.get(point["model"])
    return _more(state.study, "train", point, size and size * len(point["seeds"]))


def _scores(state: State, point: dict) -> int | None:
    """A probability for each class and test image; what other tasks than classification predict is small."""
    if point["task"] != "classification":
        return 0
    if state.test is None or state.classes is None:
        return None
    whole = len(point["seeds"]) * state.test * (4 * state.classes + ID)
    return _more(state.study, "evaluate", point, whole)


def _more(study: Study, stage: str, point: dict, whole: int | None) -> int | None:
    """What a job's folder will have beyond what lies there, which it replaces."""
    if whole is None:
        return None
    return max(0, whole - sum(_size(file) for file in study.job(stage, **point).glob("*")))


def _sum(sizes: Iterable[int | None]) -> int | None:
    whole = 0
    for size in sizes:
        if size is None:
            return None
        whole += size
    return whole


def image_size(study: Study) -> tuple[int | None, str]:
    """Bytes of a generated image, and where this is known from: those that are there, real files, or the pixels."""
    folders = [study.layout.of_draw(draw).generated(source) for source, draw in study.sets_and_draws()]
    shards = [path for folder in folders for path in folder.glob("shard-*.arrow")]
    if shards:
        count = image_tables.read(*shards).num_rows
        return sum(map(_size, shards)) // max(1, count), "those that are there"
    if study.generate.stored == "slot":
        files = itertools.islice(sources.kind(study.real).sample(study.real), SAMPLED)
        sizes = [_size(file) for file in files]
        return (sum(sizes) // len(sizes), f"as {len(sizes)} real ones") if sizes else (None, "")
    return 3 * study.data.image_size**2 + 500, "at most: not compressed"


# In words


def table(found: list[Need]) -> list[str]:
    rows = [f"{'disk':24}{'there':>14}{'to come':>20}"]
    for need in found:
        more = "unknown" if need.to_come is None else spell(need.to_come)
        rows.append(f"{need.what:24}{spell(need.there):>14}{more:>20}   {need.origin if need.to_come else ''}".rstrip())
    return rows


def verdict(study: Study, found: list[Need]) -> str:
    """What is to come against what is free."""
    place = study.layout.root
    while not place.exists():
        place = place.parent
    free, more = shutil.disk_usage(place).free, sum(need.to_come or 0 for need in found)
    unknown = ", ".join(need.what for need in found if need.to_come is None)
    judged = "not enough" if more > free else "enough for what is known" if unknown else "enough"
    without = f", without what is unknown: {unknown}" if unknown else ""
    return f"Disk: {spell(more)} to come{without}; {spell(free)} free at {place}: {judged}."


def spell(size: int) -> str:
    """Bytes in words, as disks are sold: 1 GB is 10^9 bytes."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size} B" if size else "0"
