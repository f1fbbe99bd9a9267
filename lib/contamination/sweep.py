"""Run a whole study: Snakemake decides what is missing or out of date, this module starts it safely."""

import ast
import contextlib
import fcntl
import functools
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from contamination import adopted, clusters, notebooks, sources, tasks, warm
from contamination import study as studies
from contamination.files import require
from contamination.layout import NOTEBOOKS, Layout, project_root
from contamination.sources import folders, shifted

PACKAGE = Path(__file__).parent


def run(
    study_file: str,
    dry_run: bool = False,
    cores: int | None = None,
    extra: list[str] | None = None,
    profile_folder: str = "profiles/laptop",
) -> int:
    """Bring a study up to date and return the exit status.

    Raises ValueError, RuntimeError or OSError in one line before any work when the parameter file or the profile is
    wrong or asks for what is not here, the output folder cannot be written, or another sweep of this study is running.
    """
    study = studies.load(study_file)
    check_tasks(study)
    profile = clusters.read(profile_folder)
    shared = clusters.gpus_shared(profile)
    os.chdir(project_root())
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # jobs start this python
    arguments = ["--resources", f"gpu={shared}"] if shared else []
    arguments += ["--snakefile", "Snakefile", "--profile", profile_folder, *(extra or [])]
    # After `extra`, whose targets it would take for its own.
    arguments += ["--config", f"study={study_file}", *([f"gpus={shared}"] if shared else [])]
    arguments += ["--cores", str(cores)] if cores else []
    arguments += ["--dry-run"] if dry_run else []
    if not dry_run:
        clusters.check(profile, study)
    jobs = contextlib.nullcontext([]) if dry_run else clusters.ready(profile, study)
    # The server first: as a fork it would share the lock, and hold it on when this process is killed.
    with warm.server(), _only_sweep(study.layout), jobs as more:
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
    check_tasks(study)
    names = [point["source"] for point in study.jobs()["generate"]]
    if only not in (None, *names):
        raise ValueError(f"set {only} is not drawn by {study_file}: give one of {', '.join(names)}")
    os.chdir(project_root())
    require(study.layout.real("train"), f"`contamination run {study_file} images`")
    for name in [only] if only else names:
        log = study.layout.root / "logs" / "generate" / name / f"{socket.gethostname()}-{os.getpid()}.ipynb"
        print(f"{name}: drawing what is missing; meanwhile the notebook is at {log}", flush=True)
        parameters = study.parameters("generate", source=name)
        notebooks.execute(Path("notebooks") / NOTEBOOKS["generate"], log, parameters, log)
        log.unlink()  # the executed copy that is kept is that of `run`
    return 0


def check_tasks(study: studies.Study) -> None:
    """Raise ValueError for what a task cannot work with: a source without what it needs, or its own parameters."""
    data = study.data.model_dump()
    sources.require_apart(data)
    offered = sources.offers(data)
    for name in study.generated_sets():
        _check_set(name, study.grid.generated[name], data, offered)
    for name in study.grid.tasks:
        task = tasks.load(name)
        missing = set(task.NEEDS) - offered
        if missing:
            raise ValueError(
                f"task {name} needs a {' and a '.join(sorted(missing))} for every image, and source "
                f"{study.data.source} has none here: leave {name} out of grid.tasks or give another data section"
            )
        if task.USES_SHIFTED_SETS:
            shifted.check(data)
        task.check(study)


def _check_set(name: str, made: studies.Generated, data: dict, offered: set[str]) -> None:
    """Raise ValueError for a generated set that needs what the source has not, or whose tree is not there."""
    needed = "caption" if made.style == "caption" else "label"
    if not made.folder and needed not in offered:
        raise ValueError(f"grid.generated.{name}: style {made.style} needs a {needed} for every image")
    if made.folder:
        classes = folders.class_names(data["train"]) if data["source"] == "folders" else []
        try:
            adopted.check(made.folder, classes)
        except (ValueError, OSError) as problem:
            raise ValueError(f"grid.generated.{name}.folder: {problem}") from None


def _snakemake(arguments: list[str]) -> int:
    """Snakemake in this process, so that killing the sweep kills its scheduler too."""
    from snakemake.cli import main

    try:
        main(arguments)
    except SystemExit as ending:
        return int(ending.code or 0)
    return 0


@contextlib.contextmanager
def _only_sweep(layout: Layout) -> Iterator[None]:
    """Hold the study's lock. The system frees it however this process ends, so it never goes stale."""
    layout.root.mkdir(parents=True, exist_ok=True)
    with open(layout.root / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"another sweep is running on {layout.root}: wait for it or stop it") from None
        yield


def point(wildcards) -> dict:
    """Snakemake's wildcards as the values of the grid: ratio as a number, seeds as a list."""
    values = dict(wildcards.items())
    if "ratio" in values:
        values["ratio"] = float(values["ratio"])
        values["seeds"] = [int(seed) for seed in values["seeds"].removeprefix("seeds-").split("-")]
    return values


def executed(study: studies.Study, stage: str, **point) -> str:
    """The executed notebook of one job, relative to the project root: what its rule promises."""
    return os.path.relpath(study.job(stage, **point) / NOTEBOOKS[stage], project_root())


def modules(start: str, *more: str) -> list[str]:
    """The library files that a notebook or module uses, directly or through others, as rule inputs.

    start: a notebook's path, or a module such as `sources`. more: modules loaded by name, e.g. `tasks/classification`.
    A change in any of them reruns the job; a change in another module does not.
    """
    found: set[Path] = set()
    queue = [_module(name) for name in more]
    queue += _imports(Path(start)) if start.endswith(".ipynb") else [_module(start)]
    while queue:
        file = queue.pop()
        if file not in found:
            found.add(file)
            queue += _imports(file)
    return sorted(os.path.relpath(file, project_root()) for file in found)


def templates() -> list[str]:
    """The files that give the report its form, as rule inputs."""
    return sorted(os.path.relpath(file, project_root()) for file in (PACKAGE / "templates").iterdir())


def _module(name: str) -> Path:
    file = PACKAGE / f"{name}.py"
    return file if file.is_file() else PACKAGE / name / "__init__.py"


@functools.cache  # asked for once per job, of which there are hundreds
def _imports(file: Path) -> list[Path]:
    """The files of this package that a module or notebook imports."""
    source = file.read_text()
    if file.suffix == ".ipynb":
        cells = json.loads(source)["cells"]
        source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "contamination":
            parent = node.module.split(".")[1:]
            names += ["/".join(parent)] if parent else []
            names += ["/".join([*parent, alias.name]) for alias in node.names]
    candidates = [PACKAGE / f"{name}.py" for name in names] + [PACKAGE / name / "__init__.py" for name in names]
    return [candidate for candidate in candidates if candidate.is_file()]
