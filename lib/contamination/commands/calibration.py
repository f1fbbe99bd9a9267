"""A short measurement of how fast this machine draws the images of a set, or trains and scores a model.

`python -m contamination.commands.calibration '{"study": ..., "kind": [stage, name], "images": ..., "classes": ...}'`
prints the rates of one kind as JSON. Real pipelines and the tasks' own training, on made-up images at the study's
sizes. In a process of its own, so that one that dies takes nothing with it.
"""

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from contamination import tasks
from contamination.base import devices, files, image_tables, processes
from contamination.base.layout import Layout
from contamination.commands import rates
from contamination.generators import codecs, pipelines, shards
from contamination.study import study as studies
from contamination.study.study import Study
from contamination.training.reader import GIBIBYTE

SECONDS = 10  # of training that a rate rests on
WARM_UP = 4  # steps before: kernels are chosen, memory is allotted
DIFFERENT, ROWS = 64, 512  # made-up images, and rows of the tables that hold them
PHOTOGRAPH = (375, 500)  # height and width of most of ImageNet's
CLASSES = 1000  # where nobody knows
WEIGHTS = "weights.safetensors"


def measure(study: Study, stage: str, name: str, images: int | None, classes: int | None) -> dict[str, dict]:
    """Seconds of one GPU or core for a unit, by stage: `generate`, or `train` and, of classifiers, `evaluate`.

    images, classes: of the training set, None where not known. Raises what drawing or training raises.
    """
    threads = study.generate_of(name).threads if stage == "generate" else _recipe(study, name, images)["threads"]
    device = devices.start(threads)
    cores = threads if device.type == "cpu" else 1
    found = _drawing(study, name, device) if stage == "generate" else _training(study, name, images, classes, device)
    for entry in found.values():
        entry["seconds"] *= cores
    versions = files.versions("torch", "timm", "diffusers", "transformers")
    return found | {"common": {"device": _called(device), "gpu": device.type != "cpu", "versions": versions}}


def _called(device) -> str:
    """What the device is called: of a GPU its name."""
    name = pipelines.device_name(device)
    return "the CPU" if name == "cpu" else name


def _seconds(work: Callable, *arguments) -> tuple[float, Any]:
    """How long a call takes, all that it has set going on the device included; and what it gives."""
    import torch

    started = time.perf_counter()
    result = work(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


# Drawing


def _drawing(study: Study, source: str, device) -> dict[str, dict]:
    """One batch drawn and stored as 01_generate does, after another that warms up."""
    given = study.parameters("generate", source=source)
    folder = pipelines.folder_of(given["pipeline"], given["load"])
    model = pipelines.load(folder, device=device, **rates.loading(given))
    call = (given["steps"], given["guidance"], given["size"], given["negative_prompt"], given["eta"], given["call"])
    codec = given["codec"] if given["codec"] not in ({}, codecs.AS_REAL) else {"format": "JPEG", "quality": 95}
    how = {"settings": pipelines.call_settings(model, *call), "common": {}, "codec": codec}
    how["image_size"] = PHOTOGRAPH if given["stored"] == "slot" else given["image_size"]
    slots = range(given["batch_size"])
    rows = {"slot": list(slots), "label": [0] * len(slots), "prompt": ["photo of tench"] * len(slots)}
    rows["seed"] = [shards.image_seed(given["seed"], slot) for slot in slots]
    with tempfile.TemporaryDirectory(prefix="calibration-") as scratch:
        path = Path(scratch) / "shard-00000.arrow"
        drawn = {
            "slots": rows,
            "how": how,
            "batch_size": given["batch_size"],
            "safety_retries": given["safety_retries"],
        }
        shards.write(path, model, **drawn)
        seconds, _ = _seconds(lambda: shards.write(path, model, **drawn))
    return {"generate": {"seconds": seconds / len(slots)}}


# Training


def _training(study: Study, name: str, images: int | None, classes: int | None, device) -> dict[str, dict]:
    """Steps of a training, as long as another of few steps takes left out; of a classifier also its scores."""
    model = study.grid.models[name]
    module, recipe = tasks.load(model.task), _recipe(study, name, images)
    with tempfile.TemporaryDirectory(prefix="calibration-") as folder:
        layout = Layout(folder)
        _made_up(layout, study.data.image_size, recipe.get("crop", "none") != "none", classes or CLASSES)
        _auxiliary(study, model.task, layout, device)
        table = image_tables.read(layout.real("train"))

        def train(steps: int) -> tuple[float, Any]:
            return _seconds(module.train, recipe | {"steps": steps}, table, layout, study.seed, device)

        train(WARM_UP)
        few, (trained, _) = train(WARM_UP)
        a_step = _more(lambda steps: train(steps)[0], few)
        file = Path(folder) / WEIGHTS
        _save(trained, file)
        found = {"train": {"seconds": a_step / recipe["batch_size"], "weights": file.stat().st_size}}
        if model.task != "classification":  # the scores of the others do not go with the number of test images
            return found
        scoring = (getattr(study.evaluate, model.task).model_dump(), recipe, file, layout, study.seed, device)
        seconds = min(_seconds(module.evaluate, *scoring)[0] for _ in range(3))
        return found | {"evaluate": {"seconds": seconds / ROWS}}


def _more(work: Callable[[int], float], few: float) -> float:
    """Seconds of one step: how much longer many steps take than the few of the warm-up, whatever comes before them."""
    steps, longer = WARM_UP, 0.0
    while longer < SECONDS:
        steps = math.ceil(steps * min(8.0, max(2.0, 1.5 * SECONDS / max(longer, 0.001))))
        longer = work(steps) - few
    return longer / (steps - WARM_UP)


def _recipe(study: Study, name: str, images: int | None) -> dict:
    """The recipe of one process of a training; its images are in memory where the real ones will be."""
    model, given = study.grid.models[name], study.train_of(name).model_dump()
    fits = (images or np.inf) * 3 * study.data.image_size**2 <= given["memory_gib"] * GIBIBYTE
    own = {"task": model.task, "model": name, "architecture": model.architecture, "options": model.options}
    share = {key: max(1, given[key] // given["processes"]) for key in ("batch_size", "threads")} | {"processes": 1}
    # What is made up teaches nothing, and shall not diverge; a warm-up could be longer than the measurement.
    slow = {"learning_rate": given["learning_rate"] * 1e-3, "warmup_steps": 0}
    return given | own | share | slow | {"image_size": study.data.image_size, "memory_gib": 4.0 if fits else 0.0}


def _made_up(layout: Layout, size: int, photographs: bool, classes: int) -> None:
    """Image tables of colored noise: photographs as large as ImageNet's where they are cropped, else at the size."""
    rng = np.random.default_rng(0)
    height, width = PHOTOGRAPH if photographs else (size, size)
    codec = {"format": "JPEG", "quality": 95} if photographs else codecs.PNG
    images = [codecs.encode(_picture(rng, height, width), codec) for _ in range(DIFFERENT)]
    labels = [row % classes for row in range(ROWS)]
    columns = {"id": [f"image-{row}" for row in range(ROWS)], "label": pa.array(labels, pa.int64())}
    columns["caption"] = [f"a red {'two' if label % 2 else 'three'} on green background" for label in labels]
    names = json.dumps([f"class-{label}" for label in range(classes)])
    for split in ("pool", "train", "test"):
        rows = [images[row % DIFFERENT] for row in range(ROWS)]
        image_tables.write(layout.real(split), rows, columns=columns, class_names=names, image_size=str(size))
    files.write_json(layout.ood_sets, {"sets": []})


def _picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth image with some noise, which JPEG makes as large as a photograph."""
    from PIL import Image

    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def _save(network, file: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: value.cpu().contiguous() for key, value in network.state_dict().items()}, file)


def _auxiliary(study: Study, task: str, layout: Layout, device) -> None:
    """The network that a task learns with, where it needs one, after a few steps."""
    module, section = tasks.load(task), getattr(study.auxiliary, task, None)
    if section is None or module.AUXILIARY_STAGE != "train":
        return
    settings = section.model_dump() | {"steps": WARM_UP}
    network, _, scores = module.prepare(settings, layout, study.seed, device)
    folder = layout.auxiliary(task)
    folder.mkdir(parents=True)
    _save(network, folder / WEIGHTS)
    files.write_json(folder / files.RECORD, {"settings": settings, "scores": scores})


if __name__ == "__main__":
    processes.die_with_parent()
    asked = json.loads(sys.argv[1])
    try:
        stage, name = asked["kind"]
        print(json.dumps(measure(studies.load(asked["study"]), stage, name, asked["images"], asked["classes"])))
    except Exception as problem:  # whatever a pipeline or a model fails of, the plan goes on in a line
        sys.exit(f"contamination: {' '.join(str(problem).split()) or type(problem).__name__}")
