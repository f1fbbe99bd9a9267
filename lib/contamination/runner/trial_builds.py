"""Every model and scheduler of a study made once before any work, so that a wrong option fails now and not in a job.

Models are made at their image size on torch's meta device, which holds shapes and no weights. Those of a folder or a
hub are not: they have no options, and are looked for where the study is checked. What was made once is remembered
beside the images, as the libraries that it takes are seconds to import.
"""

import contextlib
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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


def trials(study: Study) -> list[Trial]:
    """What a study has to build."""
    return [*_models(study), *_auxiliary_tasks(study), *_schedulers(study)]


@contextlib.contextmanager
def beside(study: Study, study_file: str) -> Iterator[None]:
    """Build in another process while the block lasts, and wait for its end after it.

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
        raise RuntimeError(
            f"building the study's models ended ({process.returncode}): {(said or ['no reason given'])[-1]}"
        )


def require(study: Study) -> None:
    """Build what has not been built before.

    Raises ValueError in one line: the key, what was built, and why it fails.
    """
    asked = pending(study)
    if not asked:
        return
    for trial in asked:
        try:
            BUILDERS[trial.make](**trial.given)
        except Exception as error:  # each library complains of its options in its own way
            reason = " ".join(str(error).split())
            told = (
                reason if isinstance(error, ValueError) and trial.make == "scheduler" else _cannot(trial, error, reason)
            )
            raise ValueError(f"{trial.key}: {told}") from None
    record = study.layout.root / "images" / "builds.json"
    write_json(record, {"built": sorted({*_known(study), *map(_mark, asked)})})


def pending(study: Study) -> list[Trial]:
    """What has not been built yet with these options, this size and these versions."""
    known = _known(study)
    return [trial for trial in trials(study) if _mark(trial) not in known]


def _known(study: Study) -> set[str]:
    try:
        return set(read_json(study.layout.root / "images" / "builds.json")["built"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()  # none yet, or no record of ours: it is made anew


def _mark(trial: Trial) -> str:
    return fingerprint([trial.make, trial.given, _versions()])


@functools.cache
def _versions() -> dict[str, str]:
    return versions("torch", "timm", "transformers", "diffusers")


def _cannot(trial: Trial, error: Exception, reason: str) -> str:
    what = ", ".join(f"{name} {value}" for name, value in trial.given.items())
    return f"this cannot be built: {what} ({type(error).__name__}: {reason or 'no reason given'})"


# What there is to build


def _models(study: Study) -> Iterator[Trial]:
    size = study.data.image_size
    for name, model in study.grid.models.items():
        given = {"architecture": model.architecture, "options": model.options, "image_size": size}
        scratch = {"classification": model.architecture, "generation": "unet2d", "pretraining": "vit_mae"}
        if model.task in study.grid.tasks and scratch.get(model.task) == model.architecture:
            yield Trial(f"grid.models.{name}", model.task, given)


def _auxiliary_tasks(study: Study) -> Iterator[Trial]:
    size = study.data.image_size
    for point in study.jobs()["auxiliary"]:
        settings = getattr(study.auxiliary, point["task"])
        key = f"auxiliary.{point['task']}"
        if point["task"] == "captioning":
            yield Trial(key, "captioning", {"settings": settings.model_dump(), "image_size": size})
        else:
            given = {"architecture": settings.architecture, "options": settings.options, "image_size": size}
            yield Trial(key, "classification", given)
    if study.detect and "network" in study.detect.detectors:
        given = {"architecture": study.detect.architecture, "options": study.detect.options, "image_size": size}
        yield Trial("detect", "classification", given)


def _schedulers(study: Study) -> Iterator[Trial]:
    for point in study.jobs()["generate"]:
        section = study.generate_of(point["source"])
        if section.scheduler or section.scheduler_options:
            given: dict = {"name": section.scheduler, "options": section.scheduler_options, "steps": section.steps}
            given["folder"] = "" if study.uses_pretrain(point["source"]) else section.pipeline
            yield Trial(f"grid.generated.{point['source']}", "scheduler", given)


# Building


def _timm(architecture: str, options: dict, image_size: int) -> None:
    import torch

    from contamination.networks import timm_models

    def run() -> None:
        network = timm_models.build(architecture, options, classes=CLASSES).eval()
        network(torch.empty(2, 3, image_size, image_size))

    _on_meta(run)


def _unet(architecture: str, options: dict, image_size: int) -> None:
    from contamination.tasks import generation

    recipe = {"architecture": architecture, "options": options | {"class_conditional": False}, "image_size": image_size}
    _on_meta(lambda: generation.build(recipe, None))


def _autoencoder(architecture: str, options: dict, image_size: int) -> None:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    from contamination.tasks import pretraining

    chosen = pretraining.Options(**options).model_dump()
    _on_meta(lambda: ViTMAEForPreTraining(ViTMAEConfig(**chosen, image_size=image_size)))


def _encoder(settings: dict, image_size: int) -> None:
    from contamination.tasks import captioning

    _on_meta(lambda: captioning.build_encoder(settings, image_size))


def _scheduler(name: str, options: dict, steps: int, folder: str) -> None:
    """With the configuration of the pipeline's own, where that is known; of the study's own it takes all steps, too."""
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
    "classification": _timm,
    "generation": _unet,
    "pretraining": _autoencoder,
    "captioning": _encoder,
    "scheduler": _scheduler,
}

if __name__ == "__main__":
    try:
        require(studies.load(sys.argv[1]))
    except (ValueError, OSError) as problem:
        sys.exit(f"{OURS}{problem}")
