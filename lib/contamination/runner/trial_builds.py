"""Every model and scheduler of a study made once before any work, so that a wrong option fails now and not in a job.

New models are made on torch's meta device, which holds shapes and no weights, and given images of the study's size;
those of a folder are loaded. Those of the hub are not fetched for this. What was made once is remembered beside the
images, as the libraries that it takes are seconds to import.
"""

import contextlib
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from contamination import tasks
from contamination.base.files import fingerprint, read_json, versions, write_json
from contamination.base.layout import project_root
from contamination.generators import pipelines
from contamination.study import study as studies
from contamination.study.study import Study

OURS = "contamination: "  # begins the line in which the other process says what is wrong
CLASSES = 10  # of a trial; how many there are really is known once folders are read
# What 00_pretrain gives its pipeline; a test compares the two.
OWN_SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
OWN_SCHEDULE |= {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "steps_offset": 1}


class Trial(NamedTuple):
    """key: of the parameter file. make: names the function that builds it. given: its arguments, as JSON has them."""

    key: str
    make: str
    given: dict[str, Any]


@contextlib.contextmanager
def beside(study: Study, study_file: str) -> Iterator[None]:
    """Build what has not been built before in another process while the block lasts, and wait for its end after it.

    Raises ValueError in one line where something cannot be built, RuntimeError where that process ends otherwise.
    """
    if not pending(study):
        yield
        return
    command = [sys.executable, "-m", "contamination.runner.fork_server", __name__, study_file]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield
            said = process.communicate()[1].splitlines()
        finally:
            process.kill()
    problems = [line.removeprefix(OURS) for line in said if line.startswith(OURS)]
    if problems:
        raise ValueError(problems[-1])
    if process.returncode:
        reason = (said or ["no reason given"])[-1]
        raise RuntimeError(f"the process that tries the study's models ended ({process.returncode}): {reason}")


def require(study: Study) -> None:
    """Build what has not been built before.

    Raises ValueError in one line: the key, what was built, and why it fails.
    """
    asked = pending(study)
    for trial in asked:
        try:
            BUILDERS[trial.make](**trial.given)
        except Exception as error:  # each library complains of its options in its own way
            raise ValueError(f"{trial.key}: {_reason(trial, error)}") from None
    if asked:
        write_json(_record(study), {"built": sorted(_known(study) | set(map(_mark, asked)))})


def pending(study: Study) -> list[Trial]:
    """What has not been built yet with these options, this size and these versions."""
    known = _known(study)
    return [trial for trial in [*_models(study), *_networks(study), *_schedulers(study)] if _mark(trial) not in known]


def _record(study: Study) -> Path:
    return study.layout.root / "images" / "builds.json"


def _known(study: Study) -> set[str]:
    try:
        return set(read_json(_record(study))["built"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # none yet, or no record of ours: it is made anew


def _mark(trial: Trial) -> str:
    return fingerprint([trial.make, trial.given, _versions()])


@functools.cache
def _versions() -> dict[str, str]:
    return versions("torch", "timm", "transformers", "diffusers")


def _reason(trial: Trial, error: Exception) -> str:
    reason = " ".join(str(error).split()) or "no reason given"
    if trial.make == "scheduler" and isinstance(error, ValueError):
        return reason  # which names it and its options
    what = ", ".join(f"{name} {value}" for name, value in trial.given.items() if name != "files")
    return f"this cannot be built: {what} ({type(error).__name__}: {reason})"


# What there is to build


def _models(study: Study) -> Iterator[Trial]:
    for name, model in study.grid.models.items():
        given = _sized(study, model.architecture, model.options)
        folder = project_root() / model.architecture
        if model.task not in study.grid.tasks:
            continue
        if model.task == "classification" or model.architecture == tasks.load(model.task).FROM_SCRATCH:
            encoder = {"encoder": study.auxiliary.captioning.model_dump()} if model.task == "captioning" else {}
            yield Trial(f"grid.models.{name}", model.task, given | encoder)
        elif folder.is_dir():
            yield Trial(f"grid.models.{name}", "pretrained", given | {"task": model.task, "files": _state(folder)})


def _networks(study: Study) -> Iterator[Trial]:
    """The networks that meet no mixture. That of captions is built as a part of the captioner."""
    for point in study.jobs()["auxiliary"]:
        settings = getattr(study.auxiliary, point["task"])
        if point["task"] != "captioning":
            given = _sized(study, settings.architecture, settings.options)
            yield Trial(f"auxiliary.{point['task']}", "classification", given)
    if study.detect and "network" in study.detect.detectors:
        yield Trial("detect", "classification", _sized(study, study.detect.architecture, study.detect.options))
    named: dict[str, str] = {}
    if study.measure:
        named |= {"measure.extractor": study.measure.extractor, "measure.judge": study.measure.judge}
    if "generation" in study.grid.tasks:
        named["evaluate.generation.extractor"] = study.evaluate.generation.extractor
    yield from (Trial(key, "of_timm", {"name": name}) for key, name in named.items() if name)


def _sized(study: Study, architecture: str, options: dict) -> dict:
    return {"architecture": architecture, "options": options, "image_size": study.data.image_size}


def _state(folder: Path) -> list:
    """Name, size and time of each file of a folder: whether it is what was loaded before."""
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(folder.iterdir())]


def _schedulers(study: Study) -> Iterator[Trial]:
    for source in study.drawn_sets():
        section = study.generate_of(source)
        if section.scheduler or section.scheduler_options:
            given: dict = {"name": section.scheduler, "options": section.scheduler_options, "steps": section.steps}
            given["folder"] = "" if study.uses_pretrain(source) else section.pipeline
            yield Trial(f"grid.generated.{source}", "scheduler", given)


# Building


def _classifier(architecture: str, options: dict, image_size: int) -> None:
    import torch

    from contamination.networks import timm_models

    def run() -> None:
        network = timm_models.build(architecture, options, classes=CLASSES).eval()
        network(torch.empty(2, 3, image_size, image_size))

    _on_meta(run)


def _captioner(architecture: str, options: dict, image_size: int, encoder: dict) -> None:
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration

    from contamination.tasks import captioning

    vision = captioning.encoder_options(encoder) | {"image_size": image_size}
    text = captioning.Options(**options).model_dump()

    def run() -> None:
        network = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision))
        network(torch.empty(2, 3, image_size, image_size), torch.zeros(2, 3, dtype=torch.long))

    _on_meta(run)


def _denoiser(**recipe) -> None:
    import torch

    from contamination.tasks import generation

    # The number of classes is known once folders are read; none of the other options depends on it.
    recipe["options"] = recipe["options"] | {"class_conditional": False}

    def run() -> None:
        network = generation.build(recipe, None)
        side, channels = network.config.sample_size, network.config.in_channels
        network(torch.empty(2, channels, side, side), 1)

    _on_meta(run)


def _autoencoder(**recipe) -> None:
    import torch

    from contamination.tasks import pretraining

    def run() -> None:
        pretraining.build(recipe).model(torch.empty(2, 3, recipe["image_size"], recipe["image_size"]))

    _on_meta(run)


def _pretrained(task: str, files: list, **recipe) -> None:
    """With its weights, some of which may be missing or of another model."""
    recipe["options"] = recipe["options"] | ({"class_conditional": False} if task == "generation" else {})
    tasks.load(task).build(recipe, *([] if task == "pretraining" else [None]))


def _of_timm(name: str) -> None:
    import timm

    if not timm.is_model_pretrained(name):
        raise ValueError(f"timm has no weights for {name}")
    _on_meta(lambda: timm.create_model(name))


def _scheduler(name: str, options: dict, steps: int, folder: str) -> None:
    """With the configuration of the pipeline's own, where that is known; with the study's own it takes all steps."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    own = project_root() / folder / "scheduler" / "scheduler_config.json"
    if folder and own.is_file():
        config = read_json(own)
        pipelines.make_scheduler(name or config["_class_name"], options, own=config)
    elif folder:
        if name:  # of the hub: its own configuration is not here yet
            pipelines.make_scheduler(name, options, own={})
    else:
        first = DPMSolverMultistepScheduler.from_config(DDIMScheduler(**OWN_SCHEDULE).config)
        made = pipelines.make_scheduler(name or type(first).__name__, options, own=first.config)
        pipelines.try_steps(made, steps)


def _on_meta(run: Callable[[], object]) -> None:
    """Run on the meta device; what cannot be run there is run on the CPU before it is called wrong."""
    import torch

    with torch.inference_mode():
        with contextlib.suppress(Exception), torch.device("meta"):
            run()
            return
        run()


BUILDERS: dict[str, Callable[..., None]] = {
    "classification": _classifier,
    "captioning": _captioner,
    "generation": _denoiser,
    "pretraining": _autoencoder,
    "pretrained": _pretrained,
    "of_timm": _of_timm,
    "scheduler": _scheduler,
}

if __name__ == "__main__":
    try:
        require(studies.load(sys.argv[1]))
    except (ValueError, OSError) as problem:
        sys.exit(f"{OURS}{problem}")
