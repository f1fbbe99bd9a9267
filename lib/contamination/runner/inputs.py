"""What the rules of the Snakefile depend on: executed notebooks, and the code that each runs."""

import ast
import functools
import os
from pathlib import Path
from urllib.parse import quote, unquote

from contamination.base.code import hash_tree, source_of
from contamination.base.files import fingerprint, hash_files
from contamination.base.layout import NOTEBOOKS, project_root, read_seeds, spell_draw, spell_ratio, spell_seeds
from contamination.study.study import Study

PACKAGE = Path(__file__).parents[1]


def point(wildcards) -> dict:
    """Snakemake's wildcards as the values of the grid: ratio and draw as numbers, seeds, draws and slots as lists."""
    values = dict(wildcards.items())
    if "draw" in values:
        values["draw"] = int(values["draw"].removeprefix("draw-").removesuffix("/") or 0)
    if "ratio" in values:
        values["ratio"] = float(values["ratio"])
        values |= read_seeds(values["seeds"])
    return values


def words(point: dict) -> list[str]:
    """A point of the grid as wildcards spell it; without the draw where it is 0."""
    values = dict(point)
    if "draw" in values:
        values["draw"] = spell_draw(values["draw"])
    if "ratio" in values:
        values["ratio"] = spell_ratio(values["ratio"])
        values["seeds"] = spell_seeds(*(values.pop(name) for name in ("seeds", "draws", "slots")))
    return [value for value in values.values() if value]


def executed(study: Study, stage: str, **point) -> str:
    """The executed notebook of one job, relative to the project root: what its rule promises."""
    return os.path.relpath(study.job(stage, **point) / NOTEBOOKS[stage], project_root())


def config(study_file: str) -> str:
    """The parameter file as an entry of Snakemake's --config, which the Snakefile takes with `study_file`.

    Snakemake reads a value as YAML, in which some names of files mean something else; it gets the name as it would
    stand in an address.
    """
    return f"study={quote(study_file)}"


def study_file(config: dict) -> str:
    """The parameter file that Snakemake was given."""
    return unquote(config["study"])


@functools.cache  # asked for once per job, of which there are hundreds
def code(start: str, *more: str) -> str:
    """A hash of the code that a notebook or module runs, its own and of the library's modules, as a rule's parameter.

    start: a notebook's path, or a module such as `sources`. more: modules loaded by name, e.g. `tasks/classification`.
    A changed line in any of them reruns the job. Comments, docstrings, formatting, saved outputs and modules that it
    does not use rerun nothing.
    """
    first = Path(start) if start.endswith(".ipynb") else _module(start)
    found: dict[Path, str] = {}
    queue = [first, *map(_module, more)]
    while queue:
        file = queue.pop()
        if file not in found:
            found[file], used = _read(file)
            queue += used
    return fingerprint({_name(file): each for file, each in found.items()})


def _name(file: Path) -> str:
    """The same in every copy of the project."""
    return str(file.relative_to(PACKAGE)) if file.is_relative_to(PACKAGE) else file.name


def templates() -> str:
    """A hash of the files that give the report its form, as a rule's parameter."""
    folder = PACKAGE / "report" / "templates"
    return hash_files(folder, folder.iterdir())


def _module(name: str) -> Path:
    file = PACKAGE / f"{name}.py"
    return file if file.is_file() else PACKAGE / name / "__init__.py"


@functools.cache  # asked for once per job, of which there are hundreds
def _read(file: Path) -> tuple[str, list[Path]]:
    """The hash of a module's or notebook's code, and the files of this package that it imports."""
    tree = ast.parse(source_of(file))
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "contamination":
            parent = node.module.split(".")[1:]
            names += ["/".join(parent)] if parent else []
            names += ["/".join([*parent, alias.name]) for alias in node.names]
    candidates = [PACKAGE / f"{name}.py" for name in names] + [PACKAGE / name / "__init__.py" for name in names]
    return hash_tree(tree), [candidate for candidate in candidates if candidate.is_file()]
