"""A training in several processes: the weights of one, from inside a notebook; one line where it cannot be."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import make_project
from contamination.base import files
from contamination.runner import notebooks
from contamination.study import study as studies
from contamination.tasks import launch
from contamination.training.checkpoints import Checkpoint
from safetensors.torch import load_file

pytestmark = pytest.mark.slow
# Layer normalization: what batch normalization does depends on how many images a process sees.
SMALL = {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16], "patch_size": 2, "output_stride": 8, "kernel_sizes": 3}
RUN = {"task": "classification", "model": "convnext", "arm": "clean", "source": "train", "ratio": 0.0, "seeds": [0]}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A project with the clean mixture of a small study."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("launch"), patch)
        command = [Path(sys.executable).with_name("contamination"), "run", "parameters/smoke.yaml"]
        target = "outputs/smoke/mix/clean/train/0.00/seeds-0/02_mix.ipynb"
        subprocess.run([*command, target], check=True, capture_output=True)
        yield project


def parameters(**recipe) -> dict:
    recipe = {"steps": 12, "batch_size": 24, "learning_rate": 0.004} | recipe
    return RUN | {"outputs": "outputs/smoke", "architecture": "convnext_atto", "options": SMALL, "recipe": recipe}


def train(project: Path, **recipe) -> tuple[dict, dict, str]:
    """Execute the notebook; returns the weights, the record and the history."""
    study = studies.load("parameters/smoke.yaml")
    executed = project / "executed.ipynb"
    notebooks.execute(project / "notebooks/03_train.ipynb", executed, parameters(**recipe), project / "log.ipynb")
    folder = study.layout.run("train", **RUN)
    history = (folder / "history.csv").read_text()
    return load_file(folder / "seed-0.safetensors"), files.read_json(folder / files.RECORD), history


def largest_difference(one: dict, other: dict) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.fixture(scope="module")
def alone(mixed):
    """Trained by one process."""
    return train(mixed)[0]


def test_two_processes_give_the_weights_of_one_with_the_same_batch(mixed, alone):
    together, record, _ = train(mixed, processes=2)
    assert record["recipe"]["processes"] == 2
    assert 0 < largest_difference(alone, together) < 1e-4
    assert not list(mixed.glob("outputs/smoke/checkpoints/**/*.pt"))


def test_parts_of_a_batch_give_the_weights_of_the_whole_in_one_process_and_in_two(mixed):
    still = {"shift": 0, "rotation": 0, "scale": 0}  # each part has random moves of its own
    whole = train(mixed, **still)[0]
    assert largest_difference(whole, train(mixed, **still, accumulation=3)[0]) < 1e-4
    assert largest_difference(whole, train(mixed, **still, accumulation=3, processes=2)[0]) < 1e-4


def test_a_notebook_killed_in_the_middle_goes_on_to_the_same_weights(mixed):
    whole, _, history = train(mixed, steps=200, processes=2)
    log = mixed / "killed.ipynb"
    values = parameters(steps=200, processes=2, checkpoint_minutes=0)
    program = "from contamination.runner import notebooks; from pathlib import Path; import sys; "
    program += f"notebooks.execute(Path('notebooks/03_train.ipynb'), Path('no'), {values!r}, Path({str(log)!r}))"
    job = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    study = studies.load("parameters/smoke.yaml")
    unfinished = study.layout.run("checkpoints", **RUN) / "seed-0.pt"
    while not unfinished.exists():
        assert job.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert 0 < torch.load(unfinished, weights_only=True)["step"] < 200
    time.sleep(2)  # until kernel and processes have seen that they are alone
    resumed, _, its_history = train(mixed, steps=200, processes=2)
    assert "goes on from step" in (mixed / "executed.ipynb").read_text()
    assert largest_difference(whole, resumed) == 0 and its_history == history


def test_a_process_that_fails_is_one_line(mixed):
    with pytest.raises(RuntimeError, match=r"a process of 2 failed: ValueError: loss is \w+ at step") as caught:
        train(mixed, processes=2, learning_rate=1e30, steps=40)
    assert "\n" not in str(caught.value)


def test_a_batch_that_cannot_be_shared_equally_is_refused(mixed):
    with pytest.raises(RuntimeError, match="batch_size 24 is no multiple of 5"):
        train(mixed, processes=5)


def test_more_processes_than_gpus_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    recipe = {"task": "classification", "processes": 2, "steps": 1}
    checkpoint = Checkpoint(tmp_path / "seed-0.pt", recipe, 10)
    with pytest.raises(ValueError, match="processes: 2, but this job sees 1 GPUs: each"):
        launch.train(recipe, tmp_path, None, 0, torch.device("cuda"), checkpoint)
