"""Run a whole study: Snakemake decides what is missing or out of date, this module starts it safely."""

import contextlib
import difflib
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from contamination.base.files import require
from contamination.base.layout import NOTEBOOKS, Layout, project_root
from contamination.base.processes import STOPPED
from contamination.runner import environment, fork_server, inputs, notebooks, profiles, trial_builds
from contamination.study import checks, claims
from contamination.study import study as studies


def run(
    study_file: str,
    dry_run: bool = False,
    *,
    cores: int | None = None,
    extra: list[str] | None = None,
    profile_folder: str = "profiles/laptop",
) -> int:
    """Bring a study up to date and return the exit status.

    Raises ValueError, RuntimeError or OSError in one line before any work when the parameter file or the profile is
    wrong or asks for what is not here, the output folder cannot be written, or another sweep of this study is running;
    KeyboardInterrupt after Ctrl-C, once all jobs have ended.
    """
    if cores is not None and cores < 1:
        raise ValueError(f"--cores {cores}: give 1 or more")
    study = studies.load(study_file)
    checks.check_tasks(study)
    for remark in checks.check_ratios(study):
        print(remark, file=sys.stderr)
    profile = profiles.read(profile_folder)
    shared = profiles.gpus_shared(profile)
    os.chdir(project_root())
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # jobs start this python
    _require_stages(extra or [])
    arguments = ["--resources", f"gpu={shared}"] if shared else []
    arguments += ["--snakefile", "Snakefile", "--profile", profile_folder, *(extra or [])]
    # After `extra`, whose targets it would take for its own.
    arguments += ["--config", inputs.config(study_file), *([f"gpus={shared}"] if shared else [])]
    arguments += ["--cores", str(cores)] if cores else []
    arguments += ["--dry-run"] if dry_run else []
    if not dry_run:
        profiles.check(profile, study)
    jobs: contextlib.AbstractContextManager[list[str]] = (
        contextlib.nullcontext([]) if dry_run else profiles.ready(profile, study)
    )
    # The server first: as a fork it would share the lock, and hold it on when this process is killed.
    with environment.of_jobs(), fork_server.server(), _only_sweep(study.layout), jobs as more:
        for remark in [] if dry_run else claims.register(study):
            print(remark, file=sys.stderr)
        with contextlib.nullcontext() if dry_run else trial_builds.beside(study, study_file):
            import snakemake.cli  # noqa: F401 (as slow as what goes on beside it)
        status = _snakemake([*arguments, *more])
    if status == 0 and not dry_run and not extra:
        print(f"report: {study.own.report / 'index.html'}")
    return status


def draw(study_file: str, only: str | None = None) -> int:
    """Make what is missing of the generated sets on this machine's device, beside others who do the same; 0 at the end.

    Any number of these may run, on any machines that share the outputs folder, also beside `run`; the shards are shared
    out among them, and the images are the same whatever their number. only: one generated set instead of all.
    Raises ValueError, FileNotFoundError or RuntimeError in one line, among others where real images or the study's own
    pipeline are not made yet.
    """
    study = studies.load(study_file)
    checks.check_tasks(study)
    if only not in (None, *study.drawn_sets()):
        raise ValueError(f"set {only} is not drawn by {study_file}: give one of {', '.join(study.drawn_sets())}")
    os.chdir(project_root())
    require(study.layout.real("train"), f"`contamination run {study_file} images`")
    for point in (each for each in study.jobs()["generate"] if only in (None, each["source"])):
        name = " ".join(inputs.words(point))
        inside = study.job("generate", **point).relative_to(study.layout.root)
        log = study.layout.root / "logs" / inside / f"{socket.gethostname()}-{os.getpid()}.ipynb"
        print(f"{name}: drawing what is missing; meanwhile the notebook is at {log}", flush=True)
        parameters = study.parameters("generate", **point)
        with environment.of_jobs():
            notebooks.execute(Path("notebooks") / NOTEBOOKS["generate"], log, parameters, log)
        log.unlink()  # the executed copy that is kept is that of `run`
    return 0


# Options of Snakemake that take names of stages, as its targets are.
OF_STAGES = ("--until", "-U", "--omit-from", "-O", "--forcerun", "-R")


def _require_stages(extra: list[str]) -> None:
    """Raise ValueError for a target among Snakemake's arguments that is neither a stage nor a file."""
    stages = re.findall(r"^rule (\w+):", Path("Snakefile").read_text(encoding="utf-8"), re.MULTILINE)
    option = ""
    for word in extra:
        option = word if word.startswith("-") else option
        if word == option or option not in ("", *OF_STAGES):
            continue
        if word.endswith((".yaml", ".yml")):
            raise ValueError(f"{word}: one parameter file at a time; run them one after the other")
        if word not in stages and "/" not in word:
            near = difflib.get_close_matches(word, stages, n=1) or stages
            raise ValueError(f"there is no stage {word}: give {' or '.join(near)}")


def _snakemake(arguments: list[str]) -> int:
    """Snakemake in this process, so that killing the sweep kills its scheduler too.

    Raises KeyboardInterrupt after Ctrl-C, which Snakemake takes to end its jobs.
    """
    from snakemake.cli import main

    _one_timer_at_a_time()

    def interrupt(number, frame) -> None:
        STOPPED.set()
        signal.default_int_handler(number, frame)

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interrupt) if in_main_thread else None
    try:
        main(arguments)
        status = 0
    except SystemExit as ending:
        status = int(ending.code or 0)
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, before)
    if STOPPED.is_set():
        STOPPED.clear()
        raise KeyboardInterrupt
    return status


def _one_timer_at_a_time() -> None:
    """Let Snakemake's scheduler look at waiting jobs once a second instead of ever more often.

    Whenever it looks and jobs still wait it sets a timer to look again, and so does every job that ends: a second look
    that never stops for each. Of 119 jobs on two cores it took a third of a core in the end (Snakemake 9.27).
    """
    from snakemake.scheduling.job_scheduler import JobScheduler

    def schedule(self, delay: float) -> None:
        def look() -> None:
            self.waits_to_look = False
            self._open_jobs.release()

        if not getattr(self, "waits_to_look", False):
            self.waits_to_look = True
            timer = threading.Timer(delay, look)
            timer.daemon = True  # else the process would live on until it has rung
            timer.start()

    JobScheduler._schedule_reevalutation = schedule


@contextlib.contextmanager
def _only_sweep(layout: Layout) -> Iterator[None]:
    """Hold the study's lock. The system frees it however this process ends, so it never goes stale."""
    layout.root.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(layout.root / ".lock").acquire(blocking=False)
    except Timeout:
        raise RuntimeError(f"another sweep is running on {layout.root}: wait for it or stop it") from None
    with lock:
        yield
