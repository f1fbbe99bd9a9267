"""Stand-ins for Slurm's commands, which run jobs as processes of this machine: one script that acts by its name.

Jobs stand in the folder FAKE_SLURM, one JSON file each. A file `fault-RULE` there is for the first job of that rule:
TIMEOUT ends it when its training has a checkpoint, LOST before it can write anything; BLIND has it look elsewhere.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PARTITIONS = ("cpu*", "gpu")
COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel", "sinfo", "sacctmgr", "scontrol")


def install(folder: Path) -> Path:
    """Put the commands into a folder, which is to go to the front of PATH."""
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def jobs() -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(home().glob("job-*.json"))]


def home() -> Path:
    return Path(os.environ["FAKE_SLURM"])


def _save(job: dict) -> None:
    scratch = home() / f".{os.getpid()}"
    scratch.write_text(json.dumps(job))
    os.replace(scratch, home() / f"job-{job['id']:04d}.json")


def sbatch(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--job-name", default="wrap")
    parser.add_argument("--output", default="slurm-%j.out")
    parser.add_argument("--comment", default="")
    parser.add_argument("-p", "--partition")
    parser.add_argument("-D", "--chdir", default=os.getcwd())
    parser.add_argument("-t", "--time")
    for name in ("array", "cpus-per-task", "dependency", "export", "gpus", "mem", "nodes", "ntasks"):
        parser.add_argument(f"--{name}")
    for name in ("parsable", "requeue"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--wrap")
    asked = parser.parse_args(arguments)
    if asked.partition not in (name.rstrip("*") for name in PARTITIONS):
        sys.exit(f"sbatch: error: invalid partition specified: {asked.partition}")
    job = vars(asked) | {"id": _number(), "state": "RUNNING", "process": 0}
    _save(job)
    sys.stdout.flush()
    if os.fork() == 0:
        os.setsid()
        _run(job)
    print(job["id"])


def _number() -> int:
    """The next id; several may ask at once."""
    number = 1
    while True:
        try:
            (home() / f"number-{number}").mkdir()
            return number
        except FileExistsError:
            number += 1


def _run(job: dict) -> None:
    """Run a job to its end in a session of its own; never returns."""
    rule = job["comment"].removeprefix("rule_").partition("_")[0]
    file = home() / f"fault-{rule}"
    fault = file.read_text() if file.exists() else ""
    file.unlink(missing_ok=True)
    if fault == "LOST":
        _save(job | {"state": "FAILED"})
        os._exit(1)
    if fault == "BLIND":
        job["wrap"] = job["wrap"].replace("/outputs/", "/elsewhere/")
    with open(job["output"].replace("%j", str(job["id"])), "w") as log:
        for stream in (0, 1, 2):
            os.dup2(log.fileno(), stream)
    environment = os.environ | {"SLURM_JOB_ID": str(job["id"])}
    process = subprocess.Popen(["sh", "-c", job["wrap"]], cwd=job["chdir"], env=environment, start_new_session=True)
    _save(job | {"process": process.pid})
    while fault == "TIMEOUT" and process.poll() is None:
        if _has_checkpoint(job):
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    status = process.wait()
    failed = "CANCELLED" if (home() / f"canceled-{job['id']}").exists() else "FAILED"
    _save(job | {"state": "COMPLETED" if status == 0 else "TIMEOUT" if fault == "TIMEOUT" else failed})
    os._exit(0)


def _has_checkpoint(job: dict) -> bool:
    """Of the job's own training: of two that run at once the other may write its checkpoint first."""
    folder = Path(job["chdir"], "outputs")
    points = [path.relative_to(folder).parts[2:-1] for path in folder.glob("*/checkpoints/**/*.pt")]
    return any(all(f"_{part}_" in f"{job['comment']}_" for part in point) for point in points)


def srun(arguments: list[str]) -> None:
    while arguments[0].startswith("-"):
        arguments.pop(0)
    os.execvp(arguments[0], arguments)


def squeue(arguments: list[str]) -> None:
    for job in jobs():
        if job["state"] == "RUNNING":
            print(job["id"], job["job_name"])


def sacct(arguments: list[str]) -> None:
    if "--name" in arguments:
        for job in jobs():
            if job["job_name"] == arguments[arguments.index("--name") + 1]:
                print(f"{job['id']}|{job['state']}")


def scancel(arguments: list[str]) -> None:
    for job in jobs():
        if str(job["id"]) in arguments and job["state"] == "RUNNING":
            (home() / f"canceled-{job['id']}").touch()
            os.killpg(job["process"], signal.SIGTERM)
            time.sleep(0.5)
            os.killpg(job["process"], signal.SIGKILL)


def sinfo(arguments: list[str]) -> None:
    print("\n".join(PARTITIONS))


def sacctmgr(arguments: list[str]) -> None:
    pass


def scontrol(arguments: list[str]) -> None:
    print("MinJobAge = 300 sec\nMaxArraySize = 1001")


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2:])
