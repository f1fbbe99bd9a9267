"""The packages of the library: a file imports only its own package and those above it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "lib/contamination"
# From the bottom up. The command line and notebooks may import anything.
ORDER = (
    "base",
    "metrics",
    "sources",
    "mixtures",
    "training",
    "generators",
    "networks",
    "tasks",
    "study",
    "report",
    "runner",
    "commands",
)


def imported_packages(source: str) -> set[str]:
    """The packages of the library that a file imports from, also inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "contamination":
            inner = node.module.split(".")[1:]
            found |= {inner[0]} if inner else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "contamination" and len(name) > 1}
    return found


def upward_imports(library: Path) -> list[str]:
    """Each import of a package that stands above the importing one in `ORDER`, or that it does not know."""
    found = []
    for file in sorted(library.glob("*/*.py")):
        allowed = ORDER[: ORDER.index(file.parent.name) + 1]
        names = sorted(imported_packages(file.read_text()) - set(allowed))
        found += [f"{file.parent.name}/{file.name} imports {name}" for name in names]
    return found


def test_no_package_imports_one_above_it():
    assert upward_imports(LIBRARY) == []


def test_a_planted_upward_import_is_found(tmp_path):
    for name, source in {"metrics/a.py": "from contamination.base import files", "base/b.py": ""}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(source)
    assert upward_imports(tmp_path) == []
    (tmp_path / "base/b.py").write_text("def f():\n    from contamination.metrics import nearest\n")
    (tmp_path / "metrics/a.py").write_text("from contamination import tasks\nimport contamination.report.page\n")
    assert upward_imports(tmp_path) == [
        "base/b.py imports metrics",
        "metrics/a.py imports report",
        "metrics/a.py imports tasks",
    ]


def test_the_library_has_two_levels_and_no_package_of_one_file():
    assert sorted(file.name for file in LIBRARY.glob("*.py")) == ["__init__.py", "cli.py"]
    assert {file.parent.name for file in LIBRARY.glob("*/*.py")} == set(ORDER)
    assert not list(LIBRARY.glob("*/*/*.py"))
    for package in ORDER:
        assert len([file for file in (LIBRARY / package).glob("*.py") if file.name != "__init__.py"]) > 1, package
