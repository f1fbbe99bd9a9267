"""The executed notebooks of a study as pages beside its report."""

import os
from pathlib import Path

from contamination.base.files import whole_file
from contamination.base.layout import NOTEBOOKS, spell_ratio
from contamination.study.study import Study


def write(study: Study) -> dict[str, list[tuple[str, str]]]:
    """Render every executed notebook whose page is older than it or than the template: (name, address) per stage."""
    pages: dict[str, list[tuple[str, str]]] = {}
    templates = Path(__file__).parent / "templates"
    newest = max(file.stat().st_mtime for file in [*templates.iterdir(), Path(__file__)])
    for stage, points in study.jobs().items():
        for point in points:
            executed = study.job(stage, **point) / NOTEBOOKS[stage]
            page = page_of(study, stage, point=point)
            name = " ".join(words(point)) or stage
            if not page.exists() or page.stat().st_mtime < max(newest, executed.stat().st_mtime):
                home = os.path.relpath(study.own.report / "index.html", page.parent)
                render(executed, page, title=f"{NOTEBOOKS[stage].removesuffix('.ipynb')} {name}", home=home)
            pages.setdefault(NOTEBOOKS[stage].removesuffix(".ipynb"), []).append(
                (name, os.path.relpath(page, study.own.report))
            )
    return pages


def page_of(study: Study, stage: str, *, point: dict) -> Path:
    """The rendered copy of a job's executed notebook."""
    home = study.own.root if stage == "plot" else study.layout.root
    inside = os.path.relpath(study.job(stage, **point), home)
    return study.own.report / "notebooks" / inside / NOTEBOOKS[stage].replace(".ipynb", ".html")


def address(study: Study, stage: str, *, point: dict) -> str:
    """Where a job's page lies, relative to the report."""
    return os.path.relpath(page_of(study, stage, point=point), study.own.report)


def words(point: dict) -> list[str]:
    """A job's point of the grid in words; the model's name says its task."""
    lists = [f"{key} {' '.join(map(str, point[key]))}" for key in ("seeds", "draws", "slots") if point.get(key)]
    draw = [f"draw {point['draw']}"] if point.get("draw") else []
    values = {key: point[key] for key in ("task", "model", "arm", "source", "ratio") if key in point}
    if "model" in values:
        del values["task"]
    if "ratio" in values:
        values["ratio"] = spell_ratio(values["ratio"])
    return [*values.values(), *draw, *lists]


def render(notebook: Path, page: Path, *, title: str, home: str) -> None:
    """Render an executed notebook as one HTML page that loads nothing from outside.

    home: relative address of the report, linked at the top.
    """
    import nbformat
    from jinja2 import Environment, PackageLoader
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(nbformat.read(notebook, as_version=4))
    template = Environment(loader=PackageLoader("contamination.report"), autoescape=True).get_template("notebook.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(page) as scratch:
        code_style = HtmlFormatter().get_style_defs(".highlight")
        scratch.write_text(template.render(title=title, home=home, body=body, code_style=code_style))
