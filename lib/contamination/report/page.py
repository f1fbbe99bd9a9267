"""The report of a study: one page that opens from disk, with every executed notebook rendered beside it."""

import shutil
import sys
from math import isnan
from pathlib import Path

from contamination import sources
from contamination.base import image_tables
from contamination.base.files import RECORD, hash_file, read_json, whole_file
from contamination.base.layout import spell_ratio
from contamination.mixtures import shares
from contamination.report import (
    claims,
    decomposition,
    fidelity,
    measure,
    notebook_pages,
    outcomes,
    results,
    sections,
    statements,
    summary,
)
from contamination.report.figures import label_of
from contamination.report.scores import of_run
from contamination.study import checks
from contamination.study import claims as registered
from contamination.study import study as studies
from contamination.study.study import Run, Study
from contamination.training.settings import RUNTIME_FIELDS


def write(study_file: str) -> Path:
    """Write the report of a study whose 05_plot has run; return the page's path."""
    from jinja2 import Environment, PackageLoader

    study = studies.load(study_file)
    own, folder = study.own, study.own.report
    table = outcomes.attach(results.read(own.results), study)
    pages = notebook_pages.write(study)
    captions = read_json(own.plot / RECORD)["captions"]
    _copy(own.results, folder / "results.csv")
    _copy(own.effects, folder / "effects.csv")
    _copy(Path(study_file), folder / "parameters.yaml")
    figures = ["images", *(name for drawn in captions.values() for name, _ in drawn)]
    for name in (f"{figure}.{suffix}" for figure in figures for suffix in ("png", "svg")):
        _copy(own.figures / name, folder / "figures" / name)
    judged = _statements(table, study) if registered.of_paper(study) else []
    content = {
        "study": study,
        "tasks": [_task(table, study, task, captions[task]) for task in study.grid.tasks],
        "claims": [claims.in_words(outcome, study) for outcome in claims.judge(table, study)],
        "claims_history": claims.history(study),
        "null_control": claims.null_control(table, study),
        "warnings": [*measure.warnings(table, study), *fidelity.warnings(table, study)],
        "statements": [row for row in judged if row["verdict"] != statements.NOT_MEASURED],
        "stages": [_images(table, study, stage, captions[stage]) for stage in study.image_stages],
        "controlled": _controlled(study),
        "notebooks": pages,
        "columns": results.COLUMNS,
        "facts": _facts(study),
    }
    template = Environment(loader=PackageLoader("contamination.report"), autoescape=True, trim_blocks=True)
    with whole_file(folder / "index.html") as scratch:
        scratch.write_text(template.get_template("report.html").render(content))
    return folder / "index.html"


def _task(table, study: Study, task: str, captions: list[tuple[str, str]]) -> dict:
    """What the page says of one task: the answer, its origins, figures and table."""
    finding = sections.load(task)
    primary = finding.primary(table)
    found = summary.answer(table, study, task=task, primary=primary)
    return {
        "name": task,
        "answer": found.sentences,
        "more": [
            *decomposition.sentences(table, study, task=task, primary=primary),
            *finding.sentences(table, study),
        ],
        "quantities": decomposition.quantities(table, study, task=task, primary=primary),
        "origins": [(_name(run), _address(study, run)) for run in found.runs],
        "figures": _figures(study, captions),
        "measure": primary.words + (" (%)" if primary.percent else ""),
        "ratios": [spell_ratio(ratio) for ratio in sorted(study.grid.of(task).ratios)],
        "rows": _table(table, study, task, primary),
        "over_images": bool(
            of_run(results.metric(table, task, name=primary.metric), results.points(study, task)[0]).images
        ),
        "blocks": len(study.blocks(task)),
    }


def _statements(table, study: Study) -> list[dict]:
    """The paper's statements with their verdicts; every effect in words."""
    return [
        judgment._asdict() | {"effects": [(effect.name, *statements.words(effect)) for effect in judgment.effects]}
        for judgment in statements.judge(table, study)
    ]


def _images(table, study: Study, stage: str, captions: list[tuple[str, str]]) -> dict:
    """What the page says of the generated images themselves."""
    finding = sections.load(stage)
    pages = [
        (" ".join(notebook_pages.words(point)), notebook_pages.address(study, stage, point=point))
        for point in study.jobs()[stage]
    ]
    return {
        "name": stage,
        "title": finding.TITLE,
        "sentences": finding.sentences(table, study),
        "origins": pages,
        "figures": _figures(study, captions),
        "table": finding.beside_loss(table, study) if stage == "measure" else None,
    }


def _figures(study: Study, captions: list[tuple[str, str]]) -> list[dict]:
    return [{"name": name, "caption": caption, "width": _width(study, name)} for name, caption in captions]


def _width(study: Study, name: str) -> int:
    """The width at which the letters of all figures are of one size, in CSS pixels."""
    from PIL import Image

    with Image.open(study.own.figures / f"{name}.png") as image:
        return image.width // 2


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as scratch:
        shutil.copyfile(source, scratch)


def _name(run: Run) -> str:
    return f"{run.model}, {label_of(run.arm, run.source)}, ratio {spell_ratio(run.ratio)}"


def _address(study: Study, point: Run) -> str:
    """The rendered evaluation of a point of the grid: of its first block of seeds."""
    return notebook_pages.address(study, "evaluate", point=study.jobs_of(point)[0]._asdict())


def _table(table, study: Study, task: str, primary) -> list[dict]:
    """One row per model and arm, one cell per ratio; ratio 0 stands in every row of its model."""
    chosen = study.grid.of(task)
    summary = results.summarize(table, study, task=task, primary=primary)
    cells = {
        point: {
            "mean": _number(row.mean, primary),
            "interval": "no interval"
            if isnan(row.low)
            else f"{_number(row.low, primary)} to {_number(row.high, primary)}",
            "n": row.n,
        }
        for point, row in zip(results.points(study, task), summary.itertuples(), strict=True)
    }
    rows = []
    for start in dict.fromkeys(point._replace(ratio=0.0) for point in cells if point.ratio > 0):
        line = []
        for ratio in sorted(chosen.ratios):
            point = start._replace(ratio=ratio) if ratio else start.clean
            line.append(cells[point] | {"address": _address(study, point)} if point in cells else None)
        rows.append({"model": start.model, "label": label_of(start.arm, start.source), "cells": line})
    return rows


def _number(value: float, primary) -> str:
    return f"{100 * value:.1f}" if primary.percent else f"{value:.2f}"


def _controlled(study: Study) -> list[str]:
    """What every arm has in common, read from the records of the runs."""
    tested = image_tables.read(study.layout.real("test")).num_rows
    return [
        *(line for task in study.grid.tasks for line in _efforts(study, task)),
        *(f"{line}." for line in checks.cautions(study)),
        _shares_replaced(study),
        "A seed fixes the slots that are removed, the initial weights, the order of images and the augmentation, "
        "so arms are compared seed by seed.",
        *_real_images(study),
        f"Test accuracy, captions and distances rest on {tested} real test images that no training here has seen, of "
        "generators or other models; the OOD test sets are made of the same images, or are sets of their own.",
        f"All seeds of a study share the networks of 00_auxiliary; intervals are over {summary.varied(study)}.",
    ]


def _shares_replaced(study: Study) -> str:
    """What each ratio really replaces, over all and by class, where it is not the ratio."""
    found = {run.ratio: results.share_of(study, run) for run in study.runs() if run.ratio > 0}
    other = [
        f"ratio {spell_ratio(ratio)} replaces {shares.in_words(share)}"
        for ratio, share in sorted(found.items())
        if shares.differs(share, ratio)
    ]
    nested = "what is replaced at a small ratio is replaced at every larger one"
    if not other:
        return f"Each class loses the same share, to a tenth of a point; {nested}."
    return (
        f"Whole images are replaced, so the share is not always the ratio: {'; '.join(other)}. {nested.capitalize()}."
    )


def _real_images(study: Study) -> list[str]:
    """How real and generated images are stored; and how many real ones there are, and are left out, of whose own."""
    if not sources.given(study.real) and not study.jobs()["import"]:
        return ["Real and generated images are stored at the same size, in the same PNG codec."]
    tables = {split: study.layout.real(split) for split in sources.SPLITS}
    tables |= {f"OOD set {name}": study.layout.ood(name) for name in study.data.ood or {}}
    parts, remarks = [], []
    for name, path in tables.items():
        if path.exists():  # no task may have asked for the OOD sets
            facts = image_tables.metadata(path)
            left_out = sources.left_out(facts)
            remarks += [f"{name}, {remark}" for remark in sources.remarks(facts)]
            parts.append(
                f"{name} {image_tables.read(path).num_rows:,}" + (f" (left out: {left_out})" if left_out else "")
            )
    size = study.data.image_size
    return [
        f"Models meet every image at {size}x{size} pixels. Generated ones are resized to that, or to the size of their "
        "slot's real image, before they are stored; all others, read where they lie, are resized in the same way when "
        "they are used.",
        f"Real images: {', '.join(parts)}.",
        *([f"Of these folders and their images: {'; '.join(remarks)}."] if remarks else []),
    ]


def _efforts(study: Study, task: str) -> list[str]:
    """What every run of a task took, in a sentence; where the models' recipes differ, in one for each recipe."""
    recipes: dict[str, list[str]] = {}
    for model in study.models_of(task):
        recipes.setdefault(study.train_of(model).model_dump_json(exclude=RUNTIME_FIELDS), []).append(model)
    return [_effort(study, task, models, len(recipes) > 1) for models in recipes.values()]


def _effort(study: Study, task: str, models: list[str], named: bool) -> str:
    """The sentence for models of one recipe. named: whether to tell which they are, and what they have otherwise."""
    records = [read_json(study.layout.run("train", *run) / RECORD) for run in study.runs() if run.model in models]
    seen = sorted({record["images_seen"] for record in records})
    recipe, own = study.train_of(models[0]), study.grid.models[models[0]].train
    who = f"{task}, {' and '.join(models)}" if named else task
    otherwise = ", ".join(f"{key} {value}" for key, value in own.items() if key not in RUNTIME_FIELDS) if named else ""
    return (
        f"{who}: every run took {recipe.steps} optimizer steps of {recipe.batch_size} images: "
        f"{', '.join(f'{count:,}' for count in seen)} images seen, in every arm and at every ratio"
        f"{f' (otherwise than in the recipe of the task: {otherwise})' if otherwise else ''}."
    )


def _facts(study: Study) -> str:
    record = read_json(study.layout.run("train", *study.runs()[0]) / RECORD)
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    counts = sorted({len(study.grid.of(task).seeds) for task in study.grid.tasks})
    seeds = "1 seed" if counts == [1] else f"{' or '.join(map(str, counts))} seeds"
    return f"{seeds}, {record['device']}, {versions}, results {hash_file(study.own.results)}"


if __name__ == "__main__":
    try:
        print(write(sys.argv[1]))
    except (ValueError, OSError) as problem:
        sys.exit(f"contamination: {problem}")
