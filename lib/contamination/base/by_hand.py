"""Notebooks that are run by hand, in JupyterLab or with the plain papermill command, beside those of a sweep."""

import ast
import contextlib
import os
from collections.abc import Iterator

from contamination.base.layout import Layout

SWEEP = "CONTAMINATION_SWEEP"  # in the environment of a notebook that a sweep runs
INJECTED = "# Parameters\n"  # how the cell begins in which papermill writes what it was given


def layout_of(outputs: str) -> Layout:
    """The study's layout as a notebook sees it, who ever runs it; the first thing after its parameters.

    Raises ValueError in one line for a parameter that the notebook does not declare, or declares to be of another type:
    papermill alone goes on with the default of the one that was meant, or with a text such as "[0, 1]".
    """
    _require_declared()
    return Layout(outputs, by_hand=SWEEP not in os.environ)


@contextlib.contextmanager
def sweep() -> Iterator[None]:
    """Kernels that are started in this block belong to a sweep."""
    before = os.environ.get(SWEEP)
    os.environ[SWEEP] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SWEEP]


def progress(steps: range, name: str, *, total: int) -> Iterator[int]:
    """Steps with a bar that shows how far they are, but for a sweep, whose notebooks nobody watches."""
    from tqdm import tqdm

    yield from tqdm(steps, desc=name, initial=steps.start, total=total, disable=SWEEP in os.environ)


def _require_declared() -> None:
    """Compare the names in papermill's cell with those that have a type in the cell of parameters."""
    import IPython

    shell = IPython.get_ipython()
    if shell is None:
        return
    declared = shell.user_ns.get("__annotations__", {})
    for cell in shell.user_ns["In"]:
        if cell.startswith(INJECTED):
            given = {ast.unparse(node.targets[0]) for node in ast.parse(cell).body if isinstance(node, ast.Assign)}
            unknown = sorted(given - set(declared))
            if unknown:
                raise ValueError(f"no parameter {', '.join(unknown)}; this notebook declares {', '.join(declared)}")
            for name in sorted(given):
                _require_type(name, shell.user_ns[name], declared[name])


def _require_type(name: str, value: object, declared: object) -> None:
    """Raise ValueError for a value of another type than the parameter's; an integer is a number, too.

    `object` is for a parameter of several types: papermill does not read an annotation such as `str | dict`.
    """
    if not isinstance(declared, type) or declared is object or type(value) is declared:
        return
    if declared is float and type(value) is int:
        return
    how = (
        ": papermill's command line takes it after -y, such as -y '{seeds: [0, 1]}'" if declared in (list, dict) else ""
    )
    raise ValueError(
        f"parameter {name} is {value!r}, of type {type(value).__name__}, and this notebook takes the type "
        f"{getattr(declared, '__name__', declared)}{how}"
    )
