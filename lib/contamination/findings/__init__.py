"""What the report shows of each task, one module each: its headline measure, its figures, and what they say.

Every module offers

- `headline(table)`: the one measure that the answer and the table are made of;
- `draw(table, study)`: the figures, from the rows of results.csv;
- `sentences(table, study)`: what else the numbers say, in plain text.
"""

import importlib
from typing import Any, NamedTuple


class Headline(NamedTuple):
    """metric: its name in results.csv. words: as a sentence says it. percent: whether it is a share of 1."""

    metric: str
    words: str
    percent: bool
    higher_is_better: bool = True


class Drawn(NamedTuple):
    """A figure with its file name and the caption that the report prints below it."""

    name: str
    figure: Any
    caption: str


def load(task: str):
    """The module of a task's findings, e.g. `classification`."""
    return importlib.import_module(f"contamination.findings.{task}")
