"""What the report shows of each task and of the generated images, one module each: figures, and what they say.

Every module offers

- `draw(table, study)`: the figures, from the rows of results.csv and, where images are shown, from the images;
- `sentences(table, study)`: what the numbers say, in plain text;

those of a task also

- `primary(table)`: the one measure that the answer and the table are made of;

and those of the stages that look at images, `measure` and `detect`, a `TITLE`.
"""

import importlib
from html import escape
from typing import Any, NamedTuple, overload

from contamination.metrics.intervals import Interval
from contamination.mixtures import arms
from contamination.report.summary import number


class PrimaryMetric(NamedTuple):
    """metric: its name in results.csv. words: as a sentence says it. percent: whether it is a share of 1."""

    metric: str
    words: str
    percent: bool
    higher_is_better: bool = True


class Figure(NamedTuple):
    """A figure with its file name and the caption that the report prints below it."""

    name: str
    figure: Any
    caption: str


def load(part: str):
    """The module of the findings of a task or stage, e.g. `classification`."""
    return importlib.import_module(f"contamination.report.{part}")


@overload
def cell(found: Interval, form: str = ...) -> tuple[str, str]: ...
@overload
def cell(found: Interval | None, form: str = ...) -> tuple[str, str] | None: ...
def cell(found: Interval | None, form: str = "z.2f") -> tuple[str, str] | None:
    """A number and its interval, as the report prints them."""
    if found is None:
        return None
    mean, low, high = (number(value, form) for value in found[:3])
    return mean, f"{low} to {high}" if found.is_given else "no interval"


def paragraph(text: str, lead: str = ""):
    """A sentence as a notebook displays it, after a bold `lead`: both as plain text, whatever names stand in them.

    Not as Markdown, in which a class called `<script>` or `_a_` would be obeyed.
    """
    from IPython.display import HTML

    bold = f"<b>{escape(lead)}</b> " if lead else ""
    return HTML(f"<p>{bold}{escape(text)}</p>")


def set_name(source: str) -> str:
    """What prose calls a set of images."""
    return arms.OTHER_REAL.label if source == arms.POOL else source
