"""Where the jobs of a study run: the folder of a profile says it, here or on a cluster where Slurm starts them.

What can be known to be wrong is refused before any work. On a node, `python -m contamination.runner.profiles FILE` runs
before each job: it makes sure that the node sees the folder that the sweep writes to.
"""

import contextlib
import getpass
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from contamination.base import gpus
from contamination.base.files import fingerprint
from contamination.base.layout import Layout, project_root
from contamination.runner import fork_server
from contamination.study.study import Study

# The rules of the Snakefile that need a GPU, each called as its stage.
GPU_RULES = ("train", "pretrain", "auxiliary", "generate", "measure", "detect", "evaluate")
# Without the last two Slurm takes the cluster's own, often minutes.
REQUIRED_KEYS = ("slurm_partition", "runtime", "mem_mb")
MARK = ".sweep-"  # begins the name of the file by which a node knows the sweep's folder
PATIENCE = 120  # seconds that Slurm has to end the jobs of a sweep that was killed


def read(folder: str) -> dict:
    """The profile in a folder, below the project or absolute.

    Raises FileNotFoundError or ValueError in one line, also where a profile for Slurm lacks what its jobs need.
    """
    file = project_root() / folder / "config.yaml"
    if not file.is_file():
        names = sorted(path.parent.name for path in (project_root() / "profiles").glob("*/config.yaml"))
        known = ", ".join(f"profiles/{name}" for name in names)
        raise FileNotFoundError(f"profile {folder}: {file} is missing; there are {known}")
    try:
        profile = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(profile, dict):
        raise ValueError(f"{file}: expected lines such as jobs: 100")
    if profile.get("executor") == "slurm":
        _require_complete(profile, file)
    return profile


def _require_complete(profile: dict, file: Path) -> None:
    if not profile.get("jobs"):
        raise ValueError(f"{file}: jobs is missing: the greatest number of jobs in Slurm's queue")
    for where, given in _asked(profile).items():
        missing = [key for key in REQUIRED_KEYS if not (isinstance(given, dict) and given.get(key))]
        if missing:
            kind = "jobs that need no GPU" if where == "default-resources" else "jobs on a GPU"
            raise ValueError(f"{file}: {where}.{missing[0]} is missing: {kind} need {', '.join(REQUIRED_KEYS)}")


def _asked(profile: dict) -> dict[str, Any]:
    """What the profile asks Slurm for, by section: for jobs that need no GPU, and for each rule that needs one."""
    own = profile.get("set-resources") or {}
    of_rules = {f"set-resources.{rule}": own.get(rule) for rule in GPU_RULES}
    return {"default-resources": profile.get("default-resources")} | of_rules


def check(profile: dict, study: Study) -> None:
    """Raise ValueError or OSError in one line where this machine cannot do what profile and study ask for.

    Too few GPUs for a training in several processes, though not none; no Slurm; a partition that the cluster has not.
    """
    if profile.get("executor") == "slurm":
        _require_slurm(profile)
    count = gpus_shared(profile)
    for name, model in study.grid.models.items():
        processes = study.train_of(name).processes
        if model.task in study.grid.tasks and 0 < count < processes:
            raise ValueError(
                f"model {name} trains in {processes} processes with a GPU each, and {count} can be used here: give "
                f"train.{model.task}.processes: {count}, or a machine with more"
            )


def gpus_shared(profile: dict) -> int:
    """How many GPUs the jobs of a sweep share; 0 on a cluster, which counts its own, and where there is none."""
    return 0 if _is_remote(profile) else len(gpus.visible())


def _is_remote(profile: dict) -> bool:
    return profile.get("executor", "local") != "local"


def _require_slurm(profile: dict) -> None:
    if not shutil.which("sbatch"):
        raise FileNotFoundError("sbatch is not found: start this where Slurm is, or with --profile profiles/laptop")
    if not shutil.which("sinfo"):
        return
    present = {name.rstrip("*") for name in _slurm("sinfo", "--noheader", "--format", "%P").split()}
    for where, given in _asked(profile).items():
        unknown = set(str(given["slurm_partition"]).split(",")) - present
        if unknown:
            raise ValueError(
                f"{where}.slurm_partition of the profile: the cluster has no partition {', '.join(sorted(unknown))}, "
                f"it has {', '.join(sorted(present))}"
            )


@contextlib.contextmanager
def ready(profile: dict, study: Study) -> Iterator[list[str]]:
    """What a cluster's profile cannot say, as arguments for Snakemake: how jobs are called and how they begin.

    To be entered by the only sweep of a study, and left when its jobs have ended. Jobs that a killed sweep has left in
    Slurm's queue are canceled: two of one kind would write the same files.
    """
    for mark in study.layout.root.glob(f"{MARK}*"):  # of a sweep that was killed: none of its jobs begins any more
        mark.unlink()
    if not _is_remote(profile):
        yield []
        return
    named = []
    if profile["executor"] == "slurm":
        named = ["--slurm-jobname-prefix", _name(study.layout)]
        _cancel_left(_name(study.layout))
    with _marked(study.layout) as mark:
        # A job uses no server of this machine, which would take it out of its node and its limits.
        look = shlex.join([sys.executable, "-m", "contamination.runner.profiles", str(mark)])
        yield [*named, "--precommand", f"unset {fork_server.ADDRESS} && {look}"]


def _name(layout: Layout) -> str:
    """What the names of a study's jobs begin with; another one in another copy of the project."""
    return f"contamination-{fingerprint([str(layout.root)])}"


def _cancel_left(name: str) -> None:
    left = _queued(name)
    if not left:
        return
    print(f"canceling {len(left)} Slurm jobs that an earlier sweep of this study has left", flush=True)
    _slurm("scancel", *left)
    for _ in range(PATIENCE):
        if not (left := _queued(name)):
            return
        time.sleep(1)
    raise RuntimeError(f"Slurm jobs of an earlier sweep have not ended: wait for them, see squeue -j {','.join(left)}")


def _queued(name: str) -> list[str]:
    """The ids of this user's jobs in Slurm's queue whose names begin so."""
    lines = _slurm("squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i %j").splitlines()
    return [line.split()[0] for line in lines if line.partition(" ")[2].startswith(name)]


def _slurm(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{command[0]} has failed: {' '.join(done.stderr.split()) or 'it does not say why'}")
    return done.stdout


@contextlib.contextmanager
def _marked(layout: Layout) -> Iterator[Path]:
    """A file in the study's folder, of a name that no node has looked for: these remember for a while what was not."""
    mark = layout.root / f"{MARK}{time.time_ns()}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


if __name__ == "__main__":
    mark = Path(sys.argv[1])
    if not mark.exists():
        sys.exit(
            f"contamination: {socket.gethostname()} does not see {mark.parent} as the machine does that the study was "
            "started on: the project and its outputs must lie in a folder that all nodes share"
        )
