"""A study to send: its report as one page with the figures inside, its results, and three of its executed notebooks."""

import base64
import io
import shutil
from pathlib import Path

from contamination.base.files import require, whole_folder
from contamination.base.layout import NOTEBOOKS
from contamination.report.summary import first_generated
from contamination.study import study as studies
from contamination.study.study import Study

BESIDE = ("results.csv", "effects.csv", "parameters.yaml")  # of the report


def write(study_file: str, to: str) -> Path:
    """Write the folder `to`, in the place of an earlier one, and return its page, which needs no file beside it.

    What links of the report lead to and is not in the folder is text there. The whole site, with every notebook as a
    page, is the folder `report` of the study.
    Raises FileNotFoundError where the report is not written yet, ValueError where `to` holds something else.
    """
    study, target = studies.load(study_file), Path(to)
    page = require(study.own.report / "index.html", f"`contamination run {study_file}`")
    if target.exists() and not (target / page.name).exists():
        raise ValueError(f"{target} is there and is no study that was shared: name another folder, or remove it")
    with whole_folder(target) as scratch:
        kept = {}
        for stage, point in _shown(study):
            kept[_address(study, stage, point)] = NOTEBOOKS[stage]
            shutil.copyfile(study.job(stage, **point) / NOTEBOOKS[stage], scratch / NOTEBOOKS[stage])
        for name in BESIDE:
            shutil.copyfile(page.parent / name, scratch / name)
        (scratch / page.name).write_text(_alone(page, kept))
    return target / page.name


def _shown(study: Study) -> list[tuple[str, dict]]:
    """The notebooks that go with it: how a set was made, and how a model was trained with it and scored."""
    run = next(filter(None, (first_generated(study, task) for task in study.grid.tasks)), None)
    if run is None:
        return [("plot", {})]
    scored = study.jobs_of(run)[0]
    source, draw = scored.sets[0]
    made = {"draw": draw, "source": source} if study.maker(source) == "generate" else {"source": source}
    return [(study.maker(source), made), ("train", scored._asdict()), ("evaluate", scored._asdict())]


def _address(study: Study, stage: str, point: dict) -> str:
    from contamination.report import notebook_pages

    return notebook_pages.address(study, stage, point=point)


def _alone(page: Path, kept: dict[str, str]) -> str:
    """The page with its figures in it. kept: by their address the notebooks that lie beside it, and as what."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page.read_text(), "html.parser")
    for image in soup("img"):
        image["src"] = _embedded(page.parent / image["src"])
    for link in soup("a"):
        address = link["href"]
        if address in kept:
            link["href"] = kept[address]
        elif address.endswith(".svg"):
            link.decompose()
        elif link.parent.name == "li":  # in the list of notebooks
            link.parent.decompose()
        elif not address.startswith("#") and address not in BESIDE:
            link.unwrap()
    for empty in soup.select(".leads, details:not(:has(li, div))"):
        empty.decompose()
    for heading in soup.select("#notebooks ~ details > summary"):
        heading.string = heading.string.partition(" ")[0]  # without how many the study has
    return str(soup)


def _embedded(figure: Path) -> str:
    """A figure as an address that holds it, without loss and in half the bytes of its PNG."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(figure) as image:
        image.save(stream, "WEBP", lossless=True, method=6)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
