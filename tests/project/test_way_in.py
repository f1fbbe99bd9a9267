"""What a stranger meets first: requirements, commands, hooks, the workflow, the container, and what is said of them."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
EVERYTHING = ".[all]"


def pins() -> dict[str, str]:
    """The versions in requirements.lock, by name as it stands there."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()[1:]
    return dict(line.split("==") for line in lines)


def required(*extras: str) -> list[Requirement]:
    """What pyproject.toml lists, with these extras, `all` without the others that it names."""
    listed = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [Requirement(line) for line in listed if not line.startswith(PROJECT["name"])]


def recipe(target: str) -> str:
    """The line of a target in the Makefile and what it runs."""
    return re.search(rf"^{re.escape(target)}:.*\n(\t.*\n)*", MAKEFILE, re.MULTILINE)[0]


# Requirements


def test_conda_and_make_install_one_list():
    *_, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert pip == {"pip": [f"-e {EVERYTHING}"]}
    assert f"-e '{EVERYTHING}' -c requirements.lock" in recipe(".venv/ready")
    assert Requirement(EXTRAS["all"][0]).extras == set(EXTRAS) - {"all"} and len(EXTRAS["all"]) == 1


def test_every_requirement_is_a_range_that_holds_its_pin():
    known = {canonicalize_name(name): version for name, version in pins().items()}
    for each in required(*EXTRAS):
        assert {part.operator for part in each.specifier} == {">="}, each
        assert each.specifier.contains(known[canonicalize_name(each.name)]), each


def test_the_pins_are_sorted_and_each_package_has_one():
    names = list(pins())
    assert names == sorted(names, key=str.lower)
    assert len({canonicalize_name(name) for name in names}) == len(names)


def test_all_that_the_library_imports_comes_with_it():
    """Each package is required, or by one that is."""
    direct = {canonicalize_name(each.name) for each in required()}
    brought = {
        canonicalize_name(Requirement(line).name) for name in direct for line in importlib.metadata.requires(name) or []
    }
    homes = importlib.metadata.packages_distributions()
    for name in sorted(imported() - set(sys.stdlib_module_names) - {PROJECT["name"]}):
        assert {canonicalize_name(home) for home in homes[name]} & (direct | brought), name


def imported() -> set[str]:
    nodes = [node for file in (ROOT / "lib").rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}}


def test_an_installed_package_has_every_file_of_the_library():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "contamination"
    ]
    package = ROOT / "lib/contamination"
    given = {file for pattern in patterns for file in package.glob(pattern)}
    others = {file for file in package.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert given == others


def test_the_command_answers_anywhere(tmp_path):
    command = [str(Path(sys.executable).with_name("contamination")), "--help"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0 and "parameter file" in said.stdout, said.stderr


# make, hooks, the workflow


def test_quick_leaves_out_what_is_marked_and_test_nothing():
    assert "-m" not in recipe("test") and "style" in recipe("test")
    assert re.search(r'\$\(PYTEST\) -m "(.*)"', recipe("quick"))[1] == "not slow and not medium"
    assert "tests/" not in MAKEFILE and (ROOT / ".ci/run").read_text().endswith("\nmake test\n")


def test_the_hooks_have_the_versions_of_the_lock():
    assert [hook["id"] for hook in HOOKS] == ["ruff", "ruff-format", "nbstripout", "snakefmt"]
    for hook in HOOKS:
        (tool,) = hook["additional_dependencies"]
        name, _, version = tool.partition("==")
        assert pins()[name] == version and hook["entry"].split()[0] == name


@pytest.mark.medium
@pytest.mark.parametrize("arguments", [("snakefmt", "--check", "Snakefile"), ("nbstripout", "--keep-id", "--verify")])
def test_the_tree_is_as_the_hooks_leave_it(arguments):
    """As for those of ruff, which `make style` runs."""
    files = [] if "Snakefile" in arguments else sorted(map(str, (ROOT / "notebooks").glob("*.ipynb")))
    command = [sys.executable, "-m", *arguments, *files]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_push_is_tested_quickly_and_every_night_in_full():
    assert {"push", "pull_request", "schedule"} <= set(WORKFLOW[True])  # YAML 1.1 takes the key `on` for this
    quick, full = (WORKFLOW["jobs"][name] for name in ("quick", "all"))
    assert "push" in quick["if"] and "pull_request" in quick["if"] and "schedule" in full["if"]
    assert quick["steps"][-1] == {"run": "make quick"} and full["steps"][-1] == {"run": "make test"}


def test_the_container_runs_a_study():
    folder = ROOT / ".devcontainer"
    settings = json.loads((folder / "devcontainer.json").read_text())
    image = (folder / settings["build"]["dockerfile"]).read_text()
    assert 'CMD ["make", "study"]' in image and "FROM python:3.11" in image
    command, _, study = settings["postCreateCommand"].partition(" STUDY=")
    assert command == "make study" and (ROOT / study).is_file()


# What is said of it


def test_every_file_that_contributors_are_sent_to_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:lib|tests|parameters|docs|profiles|\.devcontainer)\b[\w/.-]*)`", text)
    assert len(named) > 20
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_every_function_and_test_that_contributors_are_sent_to_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    code = "\n".join(file.read_text() for part in ("lib", "tests") for file in (ROOT / part).rglob("*.py"))
    for name in re.findall(r"`(test_\w+|[A-Z]{3,}S?|\w+\.\w+)`", text):
        assert name.split(".")[-1] in code, name


def test_the_changelog_is_in_the_form_that_it_names():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    heads = [line for line in lines if line.startswith("#")]
    assert heads[:2] == ["# Changelog", "## [Unreleased]"]
    kinds = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    assert all(head[4:] in kinds or re.fullmatch(r"## \[.+\] - \d{4}-\d{2}-\d{2}", head) for head in heads[2:])
