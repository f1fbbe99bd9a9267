"""Docs, code, notebooks and tests use one word for one thing, and the field's; test_sweep.py searches a report."""

import subprocess
from pathlib import Path

import pytest
from support.words import FORBIDDEN

ROOT = Path(__file__).parents[2]
SUFFIXES = (".md", ".py", ".ipynb", ".yaml", ".yml", ".toml", ".html", ".css", "")
NAME_THEM = (
    "CHANGELOG.md",
    "lib/contamination/base/settings.py",
    "tests/study/test_study.py",
    "tests/support/words.py",
)  # the old words


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\n") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("top", ["README.md", "docs", "lib", "notebooks", "parameters", "tests", "CONTRIBUTING.md"])
def test_old_words_are_gone(top):
    names = [n for n in tracked() if n.startswith(top) and Path(n).suffix in SUFFIXES and n not in NAME_THEM]
    assert names
    found = {
        f"{name}:{number}: {match.group()}"
        for name in names
        for number, line in enumerate((ROOT / name).read_text().split("\n"), 1)
        for match in FORBIDDEN.finditer(line)
    }
    assert not found, "\n".join(sorted(found))
