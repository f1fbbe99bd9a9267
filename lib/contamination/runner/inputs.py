"""What the rules of the Snakefile take as inputs: executed notebooks, and the library files that each uses."""

import ast
import functools
import json
import os
from pathlib import Path

from contamination.base.layout import NOTEBOOKS, project_root
from contamination.study.study import Study

PACKAGE = Path(__file__).parents[1]


def point(wildcards) -> dict:
    """Snakemake's wildcards as the values of the grid: ratio as a number, seeds as a list."""
    values = dict(wildcards.items())
    if "ratio" in values:
        values["ratio"] = float(values["ratio"])
        values["seeds"] = [int(seed) for seed in values["seeds"].removeprefix("seeds-").split("-")]
    return values


def executed(study: Study, stage: str, **point) -> str:
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
    return sorted(os.path.relpath(file, project_root()) for file in (PACKAGE / "report" / "templates").iterdir())


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
