"""What a model or a scheduler cannot be made of is said before any work, with its key."""

import ast
import json
from pathlib import Path

import pytest
import yaml
from contamination.runner import trial_builds
from contamination.study import study as studies

pytestmark = pytest.mark.medium

STUDY = "parameters/trial.yaml"


def study_with(change) -> studies.Study:
    content = yaml.safe_load(Path("parameters/smoke.yaml").read_text()) | {"study": "trial"}
    change(content)
    Path(STUDY).write_text(yaml.safe_dump(content))
    return studies.load(STUDY)


def options(**more):
    return lambda content: content["grid"]["models"]["resnet"]["options"].update(more)


def scheduler(name, **more):
    return lambda content: content["generate"].update({"scheduler": name, "scheduler_options": more})


def test_a_study_that_can_be_built_is_built_once(project, monkeypatch):
    study = study_with(scheduler("DDIMScheduler", beta_start=1e-4))
    trial_builds.require(study)
    assert trial_builds.pending(study) == []
    monkeypatch.setattr(trial_builds, "BUILDERS", {})
    trial_builds.require(study)
    with trial_builds.beside(study, STUDY):
        pass  # starts no process
    assert trial_builds.pending(study_with(options(drop_rate=0.1)))


@pytest.mark.parametrize("more", [{"drop_path_rate": "0.1"}, {"layers": [2]}, {"no_such": 1}, {"channels": [8, 8]}])
def test_wrong_options_of_a_model_are_one_line_with_its_key(project, more):
    study = study_with(options(**more))
    with pytest.raises(ValueError, match=r"grid\.models\.resnet: this cannot be built: architecture resnet10t") as said:
        trial_builds.require(study)
    assert "\n" not in str(said.value)
    assert trial_builds.pending(study)  # a failure is not remembered


def test_an_image_size_that_a_model_does_not_take_is_one_line(project):
    def vit(content):
        content["grid"]["models"]["resnet"] = {"architecture": "vit_tiny_patch16_224"}

    with pytest.raises(ValueError, match=r"grid\.models\.resnet: this cannot be built: .* image_size 16"):
        trial_builds.require(study_with(vit))


def test_a_network_without_weights_is_one_line(project):
    study = study_with(lambda content: content.update(measure={"extractor": "resnet10t.no_such"}))
    with pytest.raises(ValueError, match=r"^measure\.extractor: this cannot be built: name resnet10t\.no_such"):
        trial_builds.require(study)


@pytest.mark.parametrize("task", ["captioning", "generation", "pretraining"])
def test_a_folder_that_holds_no_model_of_its_task_is_one_line(project, task):
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")

    def change(content):
        content["grid"] = {"ratios": [0, 0.5], "arms": ["dropped"], "seeds": [0], "tasks": {task: {}}}
        content["grid"]["models"] = {"own": {"task": task, "architecture": "model"}}
        del content["measure"], content["detect"]

    with pytest.raises(ValueError, match=r"^grid\.models\.own: this cannot be built: architecture model") as said:
        trial_builds.require(study_with(change))
    assert "\n" not in str(said.value)


def test_every_model_of_the_studies_that_come_along_can_be_built(project):
    for file in Path("parameters").glob("*.yaml"):
        study = studies.load(file)
        for trial in trial_builds.pending(study):
            if trial.make != "scheduler":
                trial_builds.BUILDERS[trial.make](**trial.given)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("DDIMScheduler", {"beta_start": "small"}, "cannot be made with scheduler_options"),
        ("DDIMScheduler", {"beta_schedule": "no"}, "cannot be made with scheduler_options"),
        ("AmusedScheduler", {}, "cannot be made with scheduler_options"),
        ("FlowMatchEulerDiscreteScheduler", {}, "does not work in StableDiffusionPipeline"),
        ("RePaintScheduler", {}, "does not work in StableDiffusionPipeline"),
        ("UNet2DModel", {}, "is not in diffusers"),
        ("DDIMInverseScheduler", {}, "turns images into noise"),
        ("PNDMScheduler", {}, "does not work"),  # with three steps, of which it needs four
    ],
)
def test_a_scheduler_that_cannot_draw_is_one_line_with_its_set(project, name, more, message):
    study = study_with(scheduler(name, **more))
    with pytest.raises(ValueError, match=rf"grid\.generated\.class-name-7\.5: .*{message}") as said:
        trial_builds.require(study)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("name", ["", "DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "LCMScheduler"])
def test_schedulers_for_stable_diffusion_take_the_steps_of_the_study(project, name):
    def change(content):
        scheduler(name)(content)
        content["generate"]["steps"] = 6

    trial_builds.require(study_with(change))


def test_another_process_that_fails_says_so_in_this_one(project):
    study = study_with(options(drop_path_rate="0.1"))
    with (
        pytest.raises(ValueError, match=r"^grid\.models\.resnet: this cannot be built"),
        trial_builds.beside(study, STUDY),
    ):
        pass


def test_the_schedule_that_is_tried_is_that_of_00_pretrain(project):
    cells = json.loads(Path("notebooks/00_pretrain.ipynb").read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (call,) = [
        n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "DDIMScheduler"
    ]
    assert {each.arg: ast.literal_eval(each.value) for each in call.keywords} == trial_builds.OWN_SCHEDULE
