"""Several processes draw one generated set through the command: the same images as one alone, none lost, none twice."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from contamination.study import study as studies

pytestmark = pytest.mark.slow
COMMAND = str(Path(sys.executable).with_name("contamination"))
STUDY = "parameters/smoke.yaml"


@pytest.fixture
def study(project, tiny_pipeline) -> studies.Study:
    """The smoke study with a pipeline of its own and two sets, of which nothing is made yet."""
    content = yaml.safe_load((project / STUDY).read_text())
    del content["pretrain"]
    content["generate"] = {"pipeline": str(tiny_pipeline), "steps": 3, "shard_size": 25, "batch_size": 25}
    content["grid"]["generated"]["guidance-2"] = {"style": "class_name", "guidance": 2.0}
    (project / STUDY).write_text(yaml.safe_dump(content))
    return studies.load(STUDY)


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([COMMAND, "generate", STUDY, *arguments], stderr=subprocess.PIPE, text=True)


def finish(*jobs: subprocess.Popen) -> None:
    for job in jobs:
        assert job.wait() == 0, job.stderr.read()


def shards(study: studies.Study, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in study.layout.generated(name).glob("shard-*.arrow")}


def test_two_jobs_one_of_them_killed_draw_what_one_draws(study):
    images = subprocess.run([COMMAND, "run", STUDY, "images"], capture_output=True, text=True)
    assert images.returncode == 0, images.stderr
    finish(start())
    name = "class-name-7.5"
    alone, other = shards(study, name), shards(study, "guidance-2")
    assert len(alone) == len(other) == 24
    shutil.rmtree(study.layout.generated(name))

    victim, survivor = start("--set", name), start("--set", name)
    while not shards(study, name):
        time.sleep(0.05)
    victim.kill()
    finish(survivor)
    assert shards(study, name) == alone and shards(study, "guidance-2") == other


def test_what_cannot_be_drawn_is_one_line(study):
    wrong, early = start("--set", "other"), start()
    assert wrong.wait() == early.wait() == 2
    expected = "contamination: set other is not drawn by parameters/smoke.yaml: give one of class-name-7.5, guidance-2"
    assert wrong.stderr.read().strip() == expected
    assert "train.arrow is missing: `contamination run parameters/smoke.yaml images` makes it" in early.stderr.read()
