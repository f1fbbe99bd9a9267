"""The rules of the notebooks, read from their JSON."""

import ast
import itertools
import json
import re
from pathlib import Path

import pytest
from contamination import tasks
from contamination.base.layout import NOTEBOOKS
from contamination.networks.detectors import Detect
from contamination.study import study as studies
from contamination.study.study import Generated
from contamination.training.settings import RUNTIME_FIELDS

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    content = json.loads(request.param.read_text())
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"])
    return content


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def parameters_cell(notebook):
    (cell,) = [cell for cell in code(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    return cell


def test_the_stages_are_the_notebooks():
    assert [path.name for path in PATHS] == sorted(NOTEBOOKS.values())


def test_outputs_are_stripped(notebook):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code(notebook))


def test_it_opens_with_a_question_and_three_sentences(notebook):
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    title, _, prose = first["source"].partition("\n")
    assert re.fullmatch(r"# .*\?", title)
    assert len(re.findall(r"[.?:;](?=\s|$)", prose)) >= 3


def test_imports_come_first_and_parameters_second(notebook):
    cells = code(notebook)
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(cells[0]["source"]).body)
    assert cells[1] is parameters_cell(notebook)


def test_parameters_are_typed_commented_literals(notebook):
    source = parameters_cell(notebook)["source"]
    for node in ast.parse(source).body:
        assert isinstance(node, ast.AnnAssign), ast.unparse(node)
        ast.literal_eval(node.value)
    assert all("  # " in line for line in source.splitlines())


def test_cells_are_short_and_define_nothing(notebook):
    for cell in code(notebook):
        lines = cell["source"].splitlines()
        assert len(lines) <= 25 or cell is parameters_cell(notebook), cell["source"]
        nodes = list(ast.walk(ast.parse(cell["source"])))
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) for node in nodes)


def test_prose_stands_before_each_cell_after_the_spine(notebook):
    """Imports, parameters and what derives from them need none."""
    cells = notebook["cells"]
    spine = [cell["id"] for cell in code(notebook)[:3]]
    for before, cell in itertools.pairwise(cells):
        if cell["cell_type"] == "code" and cell["id"] not in spine:
            assert before["cell_type"] == "markdown", cell["source"]


def test_there_is_no_absolute_path_and_no_device_string(notebook):
    for cell in code(notebook):
        assert not re.search(r"""["'](/|~|[A-Z]:\\)""", cell["source"])
        assert not re.search(r"""["'](cuda|cpu|mps)\b""", cell["source"])
        assert "sys.path" not in cell["source"]


def test_defaults_are_those_of_the_digits_study(monkeypatch):
    monkeypatch.chdir(ROOT)
    study, every_task = studies.load("parameters/digits.yaml"), studies.load("parameters/digits-all.yaml")
    study.detect = Detect()  # digits.yaml leaves it out; after it the notebook still runs by hand
    importing = study.model_copy(deep=True)
    importing.grid.generated["published"] = Generated(folder="data/generated")
    source = next(iter(study.grid.generated))
    mixture = {
        "arm": "generated",
        "source": source,
        "ratio": 0.4,
        "seeds": [each.seed for each in study.blocks("classification")[0]],
        "draws": [],
        "slots": [],
    }
    run = {"task": "classification", "model": next(iter(study.grid.models))} | mixture
    points = {"pretrain": {}, "generate": {"source": source}, "mix": mixture, "train": run, "evaluate": run}
    points |= {"plot": {"study": "parameters/digits.yaml"}, "auxiliary": {"task": "captioning"}}
    points |= {"measure": {"source": source}, "detect": {"source": source}, "import": {"source": "published"}}
    for stage, name in NOTEBOOKS.items():
        content = json.loads((ROOT / "notebooks" / name).read_text())
        (cell,) = [cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", [])]
        nodes = ast.parse("".join(cell["source"])).body
        declared = {node.target.id: ast.literal_eval(node.value) for node in nodes}
        of_study = {"auxiliary": every_task, "import": importing}.get(stage, study)
        of_rule = {"import": {"workers": 1}, "train": {"runtime": {}}}  # change nothing of what is made
        expected = of_study.parameters(stage, **points[stage]) | of_rule.get(stage, {})
        assert _with_defaults(stage, declared) == expected, name


def _with_defaults(stage, declared):
    """What a task's parameters are when a notebook is run with nothing but its own defaults."""
    if stage == "detect":
        return declared | {"settings": Detect(**declared["settings"]).model_dump()}
    section = {"auxiliary": "Auxiliary", "train": "Train", "evaluate": "Evaluate"}.get(stage)
    key = "recipe" if stage == "train" else "settings"
    if section is None:
        return declared
    own = getattr(tasks.load(declared["task"]), section)(**declared[key])
    return declared | {key: own.model_dump(exclude=RUNTIME_FIELDS if stage == "train" else None)}
