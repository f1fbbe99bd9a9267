"""Profiles: what is wrong with one is told before any work, and a study runs to its report through Slurm's commands."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from contamination import cli
from contamination.runner import profiles
from contamination.study import study as studies
from support import fake_slurm

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[2]
STUDY = "parameters/tiny.yaml"
SLURM = "profiles/slurm"
TINY = """
study: tiny
title: Does a cluster run it?
data: {source: digits, image_size: 16}
train:
  classification: {steps: 3}
grid:
  ratios: [0, 0.5]
  arms: [other_real]
  seeds: [0]
  models:
    resnet: {architecture: resnet10t, options: {channels: [8, 8, 8, 8], stem_width: 8}}
"""
# The plugin asks after its jobs every 40 s and less and less often; here every second.
HEAD = """
import sys
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, value: None)
from contamination.cli import main
sys.exit(main(sys.argv[1:]))
"""
# What the scheduler is told of the GPUs.
LOOK = """
import gc, sys
from contamination.runner import sweep
sweep.run(sys.argv[1], dry_run=True, cores=16)
from snakemake.workflow import Workflow
(workflow,) = [found for found in gc.get_objects() if type(found) is Workflow]
print(workflow.global_resources["gpu"].value, "in all")
job = next(job for job in workflow.dag.jobs if job.rule.name == "train")
print(f"train: {job.threads} threads, {job.resources.gpu} GPUs")
"""


@pytest.fixture
def tiny(project) -> Path:
    (project / STUDY).write_text(TINY)
    return project


@pytest.fixture
def cluster(tiny, monkeypatch) -> Path:
    """The folder in which the stand-ins for Slurm keep their jobs."""
    (tiny / "slurm").mkdir()
    commands = fake_slurm.install(tiny / "commands")
    monkeypatch.setenv("FAKE_SLURM", str(tiny / "slurm"))
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    edit(SLURM, lambda profile: profile | {"slurm-init-seconds-before-status-checks": 1, "latency-wait": 5})
    return tiny / "slurm"


def edit(profile: str, change) -> None:
    file = Path(profile) / "config.yaml"
    file.write_text(yaml.safe_dump(change(yaml.safe_load(file.read_text()))))


def head(*arguments: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", HEAD, "run", STUDY, "--profile", SLURM, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def failure(capsys, *arguments: str) -> str:
    """The one line with which `contamination run` gives up before any work."""
    assert cli.main(["run", STUDY, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not Path("outputs").exists()
    return line


def train_with(**recipe: int) -> None:
    content = yaml.safe_load(TINY)
    content["train"]["classification"] |= recipe
    Path(STUDY).write_text(yaml.safe_dump(content))


# Profiles


def test_the_profile_for_slurm_is_complete_and_plans_every_job_without_slurm(tiny):
    run = head("--dry-run")
    said, _ = run.communicate()
    assert run.returncode == 0, said
    jobs = {line.split()[0] for line in said.splitlines() if line and not line.startswith((" ", "Using"))}
    assert jobs == {"images", "ood", "mix", "train", "evaluate", "plot", "report"}


def test_every_rule_on_a_gpu_is_known_to_the_profiles():
    rules = re.split(r"^rule ", (ROOT / "Snakefile").read_text(), flags=re.MULTILINE)[1:]
    on_gpu = {rule.partition(":")[0] for rule in rules if re.search(r"resources:\s+gpu=", rule)}
    assert on_gpu == set(profiles.GPU_RULES)


def test_an_unknown_profile_is_one_line_that_names_those_there_are(tiny, capsys):
    assert "profiles/other/config.yaml is missing; there are profiles/laptop, profiles/slurm" in failure(
        capsys, "--profile", "profiles/other"
    )


def test_a_profile_that_is_no_yaml_is_one_line(tiny, capsys):
    Path(SLURM, "config.yaml").write_text("jobs: [")
    assert "profiles/slurm/config.yaml: not valid YAML" in failure(capsys, "--profile", SLURM)
    Path(SLURM, "config.yaml").write_text("jobs")
    assert "expected lines such as jobs: 100" in failure(capsys, "--profile", SLURM)


@pytest.mark.parametrize("section", ["default-resources", "train", "evaluate"])
@pytest.mark.parametrize("key", profiles.REQUIRED_KEYS)
def test_a_key_that_slurm_needs_is_missed_by_name(cluster, capsys, section, key):
    def without(profile: dict) -> dict:
        around = profile if section in profile else profile["set-resources"]
        around[section] = {name: value for name, value in around[section].items() if name != key}
        return profile

    edit(SLURM, without)
    name = section if section == "default-resources" else f"set-resources.{section}"
    assert f"profiles/slurm/config.yaml: {name}.{key} is missing: jobs" in failure(capsys, "--profile", SLURM)


@pytest.mark.parametrize("key", ["jobs", "set-resources", "default-resources"])
def test_a_section_that_slurm_needs_is_missed_by_name(cluster, capsys, key):
    edit(SLURM, lambda profile: {name: value for name, value in profile.items() if name != key})
    assert re.search(rf"config.yaml: {key}[a-z._]* is missing: ", failure(capsys, "--profile", SLURM))


def test_a_partition_that_the_cluster_has_not_is_one_line(cluster, capsys):
    def elsewhere(profile: dict) -> dict:
        profile["set-resources"]["train"] = profile["set-resources"]["train"] | {"slurm_partition": "gpu,fast"}
        return profile

    edit(SLURM, elsewhere)
    line = failure(capsys, "--profile", SLURM)
    assert (
        "set-resources.train.slurm_partition of the profile: the cluster has no partition fast, it has cpu, gpu" in line
    )


def test_without_slurm_the_profile_is_one_line(tiny, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tiny))
    assert "sbatch is not found: start this where Slurm is" in failure(capsys, "--profile", SLURM)


def test_a_controller_that_does_not_answer_is_one_line(cluster, capsys):
    (cluster.parent / "commands/sinfo").write_text("#!/bin/sh\necho slurm_load: Unable to contact >&2; exit 1\n")
    assert "sinfo has failed: slurm_load: Unable to contact" in failure(capsys, "--profile", SLURM)


# GPUs of one machine


def test_more_gpus_than_there_are_is_one_line(machine, tiny, capsys):
    train_with(processes=8, batch_size=16)
    assert "model resnet trains in 8 processes with a GPU each, and 4 can be used here" in failure(capsys)


def test_on_a_cluster_or_without_any_gpu_it_is_not_this_machine_that_counts(machine, tiny):
    train_with(processes=8, batch_size=16)
    profiles.check({"executor": "other"}, studies.load(STUDY))
    machine("")
    profiles.check({}, studies.load(STUDY))


def test_a_sweep_shares_its_gpus_out_and_the_cores_by_them(machine, tiny):
    train_with(processes=2, threads=16)
    run = subprocess.run([sys.executable, "-c", LOOK, STUDY], capture_output=True, text=True)
    assert run.stdout.splitlines() == ["4 in all", "train: 8 threads, 2 GPUs"], run.stdout + run.stderr


# Nodes


def test_a_node_that_does_not_see_the_folder_says_who_and_what(tmp_path):
    command = [sys.executable, "-m", "contamination.runner.profiles"]
    (tmp_path / "mark").touch()
    assert subprocess.run([*command, tmp_path / "mark"]).returncode == 0
    run = subprocess.run([*command, tmp_path / "elsewhere/mark"], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.startswith(
        f"contamination: {os.uname().nodename} does not see {tmp_path}/elsewhere as the machine"
    )


def test_the_next_sweep_even_without_slurm_stops_jobs_that_a_killed_one_has_left_in_the_queue(tiny):
    study = studies.load(STUDY)
    study.layout.root.mkdir(parents=True)
    left = study.layout.root / f"{profiles.MARK}1"
    left.touch()
    with profiles.ready({}, study) as arguments:
        assert arguments == [] and not left.exists()


@pytest.mark.slow
@pytest.mark.parametrize("fault, words", [
    ("BLIND", rf"contamination: {os.uname().nodename} does not see .*/elsewhere/tiny as the machine does"),
    ("LOST", r"SLURM status is: 'FAILED'\. It left no .*\.log: does its node see /"),
])  # fmt: skip
def test_a_node_without_the_shared_folder_fails_in_one_line(cluster, fault, words):
    edit(SLURM, lambda profile: profile | {"retries": 0})
    (cluster / "fault-images").write_text(fault)
    sweep = head("--until", "images")
    said, _ = sweep.communicate()
    assert sweep.returncode != 0
    (line,) = [line for line in said.splitlines() if line.startswith("FAILED images: ")]
    assert re.search(words, line), said


@pytest.mark.slow
def test_a_study_runs_to_its_report_though_a_training_meets_its_time_limit(cluster):
    Path(STUDY).write_text(TINY.replace("{steps: 3}", "{steps: 300, checkpoint_minutes: 0.001}"))
    (cluster / "fault-train").write_text("TIMEOUT")
    sweep = head()
    said, _ = sweep.communicate()
    assert sweep.returncode == 0, said
    assert Path("outputs/tiny/report/index.html").is_file() and Path("outputs/tiny/results.csv").is_file()
    assert re.search(r"FAILED train .*: SLURM-job '\d+' failed, SLURM status is: 'TIMEOUT'", said)
    ran = [(job["comment"].split("_")[1], job["partition"], job["gpus"], job["state"]) for job in fake_slurm.jobs()]
    whole = [("train", "gpu", "1", "COMPLETED")] * 2 + [("evaluate", "gpu", "1", "COMPLETED")] * 2
    whole += [("images", "cpu", None, "COMPLETED"), ("ood", "cpu", None, "COMPLETED")]
    assert sorted(ran, key=str) == sorted([*whole, ("train", "gpu", "1", "TIMEOUT")], key=str)
    trained = [notebook.read_text() for notebook in Path("outputs/tiny/train").rglob("03_train.ipynb")]
    assert sorted("goes on from step" in notebook for notebook in trained) == [False, True]
    assert not list(Path("outputs/tiny").glob(f"{profiles.MARK}*"))


@pytest.mark.slow
def test_after_a_kill_the_next_sweep_cancels_what_is_left_and_completes(cluster):
    killed = head("--until", "images", start_new_session=True)
    while not [job for job in fake_slurm.jobs() if job["process"]]:
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    sweep = head("--until", "images")
    said, _ = sweep.communicate()
    assert sweep.returncode == 0, said
    assert "canceling 1 Slurm jobs that an earlier sweep of this study has left" in said
    assert [job["state"] for job in fake_slurm.jobs()] == ["CANCELLED", "COMPLETED"]
    assert len(list(Path("outputs/tiny").glob(f"{profiles.MARK}*"))) == 0


# What is documented


def documented() -> list[str]:
    text = (ROOT / "profiles/README.md").read_text().replace("\\\n", "")
    return re.findall(r"^sbatch .*$", text, flags=re.MULTILINE)


def test_the_documented_jobs_run_what_there_is(cluster):
    """In place of the command a stand-in that writes down how it was called."""
    command = cluster.parent / ".venv/bin/contamination"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "$@" >> called\n')
    command.chmod(0o755)
    assert len(documented()) == 2
    for line in documented():
        subprocess.run(shlex.split(line), check=True, stdout=subprocess.DEVNULL)
    while not all(job["state"] == "COMPLETED" for job in fake_slurm.jobs()):
        time.sleep(0.05)
    called = sorted(Path("called").read_text().splitlines())
    assert called == ["generate parameters/imagenet.yaml", "run parameters/imagenet.yaml"]
    assert all(Path(line.split()[1]).is_file() for line in called)
