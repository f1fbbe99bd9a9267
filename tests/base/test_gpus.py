"""GPU slots: each job has GPUs of its own, whoever started it, and gives them back however it ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from contamination.base import devices, gpus

UUIDS = [f"GPU-{number}aaa-{number}bbb" for number in range(4)]
DIVIDED = (
    "GPU 0: NVIDIA A100 (UUID: GPU-0aaa)\n  MIG 3g.20gb     Device  0: (UUID: MIG-1)\n"
    "  MIG 3g.20gb     Device  1: (UUID: MIG-2)\nGPU 1: NVIDIA A100 (UUID: GPU-1aaa)\n"
)
# What a notebook does before it takes its GPU, and the process that its kernel is a fork of.
BEFORE = """
import importlib, json, sys
import torch
calls = []
torch._C._cuda_getDeviceCount = lambda: calls.append(1) or 0
torch.cuda.init = torch.cuda._lazy_init = lambda: calls.append(1)
from contamination import tasks
from contamination.runner import fork_server
for package in fork_server.PACKAGES:
    importlib.import_module(package)
for notebook in sys.argv[1:]:
    cells = json.load(open(notebook))["cells"]
    exec("".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code")))
for task in tasks.NAMES:
    tasks.load(task)
print(len(calls), "diffusers" in sys.modules)
"""
HOLD = """
import sys, time
from contamination.base import gpus
print(*[gpu.uuid for gpu in gpus.take(int(sys.argv[1]))], flush=True)
time.sleep(float(sys.argv[2]))
"""


def hold(count: int, seconds: float = 60) -> subprocess.Popen:
    """A process that takes GPUs and keeps them."""
    command = [sys.executable, "-c", HOLD, str(count), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def held(process: subprocess.Popen) -> set[str]:
    line = process.stdout.readline()
    while line.startswith("waiting"):
        line = process.stdout.readline()
    return set(line.split())


def end(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.kill()
        process.communicate()


# What can be seen


def test_all_gpus_of_the_machine_are_seen(machine):
    assert gpus.visible() == [gpus.Gpu(str(number), uuid) for number, uuid in enumerate(UUIDS)]


@pytest.mark.parametrize(
    "allowed, numbers",
    [("2,0", [2, 0]), ("GPU-3aaa", [3]), ("1,9,2", [1]), ("", []), ("-1", []), (" 1 , 2 ", [1, 2]), ("GPU-", [])],
)
def test_the_users_own_choice_holds_as_it_does_in_cuda(machine, monkeypatch, allowed, numbers):
    monkeypatch.setenv(gpus.VISIBLE, allowed)
    assert [gpu.uuid for gpu in gpus.visible()] == [UUIDS[number] for number in numbers]


def test_a_divided_gpu_counts_as_its_parts(machine):
    machine(DIVIDED)
    assert [gpu.uuid for gpu in gpus.visible()] == ["MIG-1", "MIG-2", "GPU-1aaa"]


@pytest.mark.parametrize("smi", [None, "echo NVIDIA-SMI has failed; exit 9"])
def test_without_gpus_nothing_is_taken_whatever_is_asked_for(machine, tmp_path, monkeypatch, smi):
    if smi:
        (tmp_path / "bin/nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.take(8) == [] and gpus.VISIBLE not in os.environ


# What is taken


@pytest.mark.medium
def test_jobs_have_different_gpus_and_a_killed_one_frees_its_own(machine):
    jobs = [hold(1) for _ in range(4)]
    assert set.union(*map(held, jobs)) == set(UUIDS)
    late = hold(1)
    time.sleep(0.5)
    assert late.poll() is None
    freed = {next(uuid for uuid in UUIDS if uuid in _environment_of(jobs[2]))}
    end(jobs.pop(2))
    assert held(late) == freed
    end(late, *jobs)


def _environment_of(process: subprocess.Popen) -> list[str]:
    """The GPUs whose lock files a process has open."""
    folder = f"/proc/{process.pid}/fd"
    return [os.path.basename(os.readlink(f"{folder}/{handle}")) for handle in os.listdir(folder)]


@pytest.mark.medium
def test_jobs_that_want_several_never_hold_a_half_each(machine):
    jobs = [hold(3, 0.3) for _ in range(3)]
    assert [len(held(job)) for job in jobs] == [3, 3, 3]
    end(*jobs)


def test_more_than_there_are_is_one_line_and_no_wait(machine):
    with pytest.raises(ValueError, match="5 GPUs are asked for and 4 can be used here"):
        gpus.take(5)


def test_only_among_those_that_the_user_allows(machine, monkeypatch):
    monkeypatch.setenv(gpus.VISIBLE, "1,3")
    assert [gpu.uuid for gpu in gpus.take(2)] == [UUIDS[1], UUIDS[3]]


@pytest.mark.medium
def test_a_process_and_those_it_starts_have_what_it_took_and_no_more(machine):
    own = gpus.take(2)
    assert os.environ[gpus.VISIBLE] == f"{UUIDS[0]},{UUIDS[1]}"
    assert gpus.take(1) == own  # a notebook's cell that runs again
    child, stranger = hold(1), hold(0)
    assert held(child) == {gpu.uuid for gpu in own}
    assert held(stranger) == {gpu.uuid for gpu in own}
    with pytest.raises(ValueError, match="3 GPUs are asked for and 2 can be used here"):
        gpus.take(3)
    end(child, stranger)


def test_a_program_that_outlives_the_job_does_not_keep_its_gpu(machine):
    code = "import subprocess; from contamination.base import gpus; gpus.take(4); subprocess.Popen(['sleep', '30'])"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(gpus.take(4)) == 4


# The device


@pytest.mark.slow
def test_no_notebook_loads_cuda_before_it_takes_its_gpu():
    """CUDA looks once at what it may see, and diffusers loads it as soon as it is imported."""
    notebooks = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
    run = subprocess.run([sys.executable, "-c", BEFORE, *notebooks], capture_output=True, text=True)
    assert run.stdout.strip() == "0 False", run.stdout + run.stderr


def test_start_says_which_gpu_and_takes_its_share_of_the_cores(machine, capsys, monkeypatch):
    import torch

    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(devices, "_cores", lambda: 16)
    devices.start(16)
    assert capsys.readouterr().out == f"GPU 0 {UUIDS[0]}\n"
    assert threads == [4]


def test_start_without_gpus_is_what_it_was(machine, capsys, monkeypatch):
    import torch

    machine("")
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    assert devices.start(3, gpus=2).type in ("cpu", "mps")
    assert threads == [3] and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "threads, cores, own, of, expected",
    [
        (16, 16, 1, 8, 2),
        (16, 16, 8, 8, 16),
        (1, 16, 1, 8, 1),
        (4, 2, 1, 8, 1),
        (16, 2, 0, 0, 16),
        (16, 64, 1, 1, 16),
    ],
)
def test_jobs_on_all_gpus_together_have_no_more_threads_than_cores(threads, cores, own, of, expected):
    assert devices.share(threads, cores, gpus=own, of=of) == expected
