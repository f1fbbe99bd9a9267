"""The smoke study through the real sweep: to the end, again, changed, killed, and with every fault."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from conftest import ROOT, make_project
from contamination.base.layout import NOTEBOOKS
from contamination.report import results
from contamination.study import study as studies
from PIL import Image
from support.words import FORBIDDEN

pytestmark = pytest.mark.slow
COMMAND = [str(Path(sys.executable).with_name("contamination")), "run"]
STUDY = "parameters/smoke.yaml"


def sweep(project: Path, *arguments: str, study: str = STUDY, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, study, *arguments], cwd=project, capture_output=True, text=True, **options)


def planned(project: Path, study: str = STUDY, **options) -> set[str]:
    """The jobs that a dry run lists, e.g. `train classification resnet ...`."""
    run = sweep(project, "--dry-run", study=study, **options)
    assert run.returncode == 0, run.stderr
    return {line for line in run.stderr.splitlines() if line and not line.startswith((" ", "Using"))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The smoke study, run once from nothing; tests that change it copy it."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("finished"), patch)
        run = sweep(project)
    assert run.returncode == 0, run.stderr
    assert str(project / "outputs/smoke/report/index.html") in run.stdout
    return project


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """A copy with the same modification times, as deep as the original: to the sweep, the same finished study."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(project: Path, **changes) -> None:
    content = yaml.safe_load((project / STUDY).read_text())
    for key, value in changes.items():
        section, _, name = key.partition("__")
        content.setdefault(section, {})[name] = value
    (project / STUDY).write_text(yaml.safe_dump(content))


# The whole chain


def test_every_job_leaves_its_executed_notebook_and_no_log(finished):
    executed = [path for path in (finished / "outputs/smoke").rglob("*.ipynb") if "logs" not in path.parts]
    study = yaml.safe_load((finished / STUDY).read_text())
    assert {path.name for path in executed} == set(NOTEBOOKS.values()) - {"01_import.ipynb"}
    assert len([path for path in executed if path.name == "01_generate.ipynb"]) == len(study["grid"]["generated"])
    assert not list((finished / "outputs/smoke/logs").rglob("*.ipynb"))


def test_every_executed_notebook_shows_its_figures(finished):
    drawing = [path for path in (finished / "outputs/smoke").rglob("*.ipynb") if "mix/clean" not in path.as_posix()]
    for path in drawing:  # a clean mixture has no swapped pair to show
        cells = json.loads(path.read_text())["cells"]
        outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
        assert any("image/png" in data for data in outputs), path


def test_checking_the_tasks_loads_nothing_that_a_kernel_must_load_itself():
    """A matplotlib loaded before the kernel would not show its figures in the notebook."""
    code = "import sys; from contamination import tasks; from contamination.runner import sweep; "
    code += "[tasks.load(name) for name in tasks.NAMES]; "
    code += "print(sorted({'matplotlib', 'torch', 'transformers', 'diffusers', 'timm'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr


def test_nothing_half_written_is_left(finished):
    assert not [path for path in (finished / "outputs").rglob(".*") if path.name != ".lock"]


def test_all_arms_took_the_same_number_of_steps(finished):
    records = [json.loads(path.read_text()) for path in (finished / "outputs/smoke/train").rglob("record.json")]
    assert len({record["images_seen"] for record in records}) == 1


def test_the_report_loads_nothing_from_outside(finished):
    pages = list((finished / "outputs/smoke/report").rglob("*.html"))
    assert len(pages) > 10
    loaded = re.compile(
        r"""(?:src|href|data|action)\s*=\s*["']?\s*(?:https?:)?//|url\(\s*["']?(?:https?:)?//|@import"""
    )
    for page in pages:
        assert not loaded.search(page.read_text()), page


def test_every_link_of_the_report_leads_somewhere(finished):
    for page in (finished / "outputs/smoke/report").rglob("*.html"):
        for address in re.findall(r'(?:src|href)="([^"#:]+)"', page.read_text()):
            assert (page.parent / address).exists(), (page, address)


def test_numbers_of_the_report_are_means_of_rows_of_the_table(finished):
    page = (finished / "outputs/smoke/report/index.html").read_text()
    table = results.read(finished / "outputs/smoke/results.csv")
    accuracy = table[(table["metric"] == "accuracy") & (table["split"] == "test")]
    for _, rows in accuracy.groupby(["model", "arm", "source", "ratio"]):
        assert f">{100 * rows['value'].mean():.1f}</a>" in page
    assert not FORBIDDEN.findall(page)


# Again, and after changes


def test_a_second_run_does_nothing_and_soon(finished):
    before = (finished / "outputs/smoke/results.csv").stat().st_mtime_ns
    run = sweep(finished)
    assert run.returncode == 0 and "[" not in run.stderr
    assert (finished / "outputs/smoke/results.csv").stat().st_mtime_ns == before


def test_another_ratio_runs_that_ratio_and_the_plots_alone(copied):
    ratios = yaml.safe_load((copied / STUDY).read_text())["grid"]["ratios"]
    change(copied, grid__ratios=[*ratios, 0.25])
    jobs = planned(copied)
    assert jobs and all(" 0.25 " in job or job in ("plot", "report") for job in jobs)
    stages = {job.split()[0] for job in jobs}
    assert stages == {"mix", "train", "evaluate", "plot", "report"}


def test_another_model_runs_that_model_and_the_plots_alone(copied):
    models = yaml.safe_load((copied / STUDY).read_text())["grid"]["models"]
    change(copied, grid__models=models | {"second": next(iter(models.values()))})
    jobs = planned(copied)
    assert {job.split()[0] for job in jobs} == {"train", "evaluate", "plot", "report"}
    assert all(" second " in job or job in ("plot", "report") for job in jobs)


def test_another_seed_runs_that_seed_and_the_plots_alone(copied):
    seeds = yaml.safe_load((copied / STUDY).read_text())["grid"]["seeds"]
    change(copied, grid__seeds=[*seeds, 77], grid__seeds_per_job=len(seeds))
    jobs = planned(copied)
    assert jobs and all(job.endswith("seeds-77") or job in ("plot", "report") for job in jobs)


def test_an_evaluation_parameter_runs_no_training(copied):
    change(copied, evaluate__classification={"calibration_bins": 7})
    assert {job.split()[0] for job in planned(copied)} == {"evaluate", "plot", "report"}


def test_how_a_machine_trains_runs_no_training(copied):
    change(copied, train__classification={"steps": 30, "processes": 2, "threads": 2, "checkpoint_minutes": 1})
    assert planned(copied) == set()


def test_a_parameter_of_the_measures_runs_no_training(copied):
    change(copied, measure__neighbors=3)
    assert planned(copied) == {"measure class-name-7.5", "measure pool", "plot", "report"}


def test_a_second_generated_set_is_measured_alone_and_met_by_every_detector_but_the_pools(copied):
    sets = yaml.safe_load((copied / STUDY).read_text())["grid"]["generated"]
    change(copied, grid__generated=sets | {"second": {"style": "diverse", "guidance": 2.0}})
    jobs = planned(copied)
    assert {job for job in jobs if job.startswith("measure")} == {"measure second"}
    assert {job for job in jobs if job.startswith("detect")} == {f"detect {name}" for name in ("second", *sets)}


def test_without_measures_and_detectors_nothing_of_them_is_planned_or_reported(copied):
    content = yaml.safe_load((copied / STUDY).read_text())
    del content["measure"], content["detect"]
    (copied / STUDY).write_text(yaml.safe_dump(content))
    assert planned(copied) == {"plot", "report"}
    assert sweep(copied).returncode == 0
    page = (copied / "outputs/smoke/report/index.html").read_text()
    assert 'id="measure"' not in page and 'id="statements"' in page
    assert set(results.read(copied / "outputs/smoke/results.csv")["task"]) == {"classification"}


def own_library(project: Path) -> dict:
    """A copy of the library in the project, and the environment in which commands use it."""
    shutil.copytree(ROOT / "lib", project / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    return os.environ | {"PYTHONPATH": str(project / "lib")}


def test_saved_outputs_comments_and_docstrings_run_nothing(copied):
    environment = own_library(copied)
    for path in (copied / "notebooks").glob("*.ipynb"):
        content = json.loads(path.read_text())
        for number, cell in enumerate(content["cells"]):
            if cell["cell_type"] == "code":
                text = {"name": "stdout", "output_type": "stream", "text": ["saved\n"]}
                cell |= {"outputs": [text], "execution_count": number}
                cell["source"] = ["# a comment\n", *cell["source"]]
            else:
                cell["source"].append("\nAnd a sentence.")
        path.write_text(json.dumps(content))
    for path in (copied / "lib/contamination").glob("*/*.py"):
        path.write_text(
            f'"""Another docstring."""\n\n\n{path.read_text().partition(chr(34) * 3 + chr(10))[2]}# the end\n'
        )
    assert planned(copied, env=environment) == set()


def test_a_changed_line_runs_exactly_what_uses_it(copied):
    environment = own_library(copied)
    file = copied / "lib/contamination/metrics/spectra.py"
    file.write_text(f"{file.read_text()}\n\nANOTHER = 1\n")
    assert {job.split()[0] for job in planned(copied, env=environment)} == {"measure", "detect", "plot", "report"}


def test_a_changed_notebook_runs_its_stage_and_what_follows(copied):
    notebook = copied / "notebooks/04_evaluate.ipynb"
    notebook.write_text(notebook.read_text().replace("scores, parts = [], []", "parts, scores = [], []"))
    assert {job.split()[0] for job in planned(copied)} == {"evaluate", "plot", "report"}


def test_another_title_writes_the_report_alone(copied):
    content = yaml.safe_load((copied / STUDY).read_text())
    (copied / STUDY).write_text(yaml.safe_dump(content | {"title": "Another?"}))
    assert planned(copied) == {"report"}


def test_other_claims_are_judged_without_any_training(copied):
    content = yaml.safe_load((copied / STUDY).read_text())
    assert (copied / "outputs/smoke/claims.json").exists() and content["claims"] == "paper"
    (copied / STUDY).write_text(yaml.safe_dump(content | {"claims": []}))
    assert {job.split()[0] for job in planned(copied)} == {"plot", "report"}


def test_a_shared_study_is_one_page_with_its_figures_results_and_notebooks(copied):
    command = [COMMAND[0], "share", STUDY, "--to", "shared"]
    for _ in range(2):  # a second one takes the place of the first
        subprocess.run(command, cwd=copied, check=True, capture_output=True)
    names = {"01_generate.ipynb", "03_train.ipynb", "04_evaluate.ipynb"}
    assert {path.name for path in (copied / "shared").iterdir()} == names | {
        "index.html",
        "results.csv",
        "effects.csv",
        "parameters.yaml",
    }
    page = (copied / "shared/index.html").read_text()
    report = (copied / "outputs/smoke/report/index.html").read_text()
    links = set(re.findall(r'(?:href|src)="([^"#][^"]*)"', page))
    assert {link for link in links if not link.startswith("data:")} == names | {
        "results.csv",
        "effects.csv",
        "parameters.yaml",
    }
    assert sum(link.startswith("data:image/webp") for link in links) == len(set(re.findall(r'src="([^"]*)"', report)))
    assert "Each cell leads" in report and "Each cell leads" not in page

    (copied / "mine").mkdir()
    refused = subprocess.run([*command[:-1], "mine"], cwd=copied, capture_output=True, text=True)
    assert refused.returncode == 2 and "mine is there and is no study that was shared" in refused.stderr


def test_a_dry_run_gives_reasons_and_runs_nothing(copied):
    change(copied, evaluate__classification={"calibration_bins": 7})
    before = {path: path.stat().st_mtime_ns for path in (copied / "outputs").rglob("*") if path.name != ".lock"}
    run = sweep(copied, "--dry-run")
    assert "Params have changed" in run.stderr
    for path, modified in before.items():
        assert path.stat().st_mtime_ns == modified or path.is_dir()


def by_hand(project: Path, notebook: str, *more: str, **parameters) -> subprocess.CompletedProcess:
    """One notebook with the plain papermill command."""
    arguments = [part for name, value in parameters.items() for part in ("-y", json.dumps({name: value}))]
    command = [sys.executable, "-m", "papermill", f"notebooks/{notebook}", "out.ipynb", *arguments, *more]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def files_of_the_sweep(project: Path) -> dict[Path, int]:
    """All that lies in the outputs but what is made by hand, with its time of change."""
    return {
        path: path.stat().st_mtime_ns
        for path in (project / "outputs").rglob("*")
        if path.is_file() and "explore" not in path.parts and path.name != ".lock"
    }


def test_notebooks_by_hand_go_on_from_the_sweep_and_touch_nothing_of_it(copied):
    """Also at a ratio that the grid lacks, which is mixed meanwhile, and with another guidance."""
    study = studies.load(STUDY)
    run = next(run for run in study.runs() if run.arm == "generated")._replace(ratio=0.3, seeds=(0,))
    before, (source,) = files_of_the_sweep(copied), study.generated_sets()
    point = run._asdict() | {"seeds": [0]}
    generated = study.parameters("generate", source=source) | {"guidance": 1.5}
    for notebook, parameters in (
        ("03_train.ipynb", study.parameters("train", **point)),
        ("04_evaluate.ipynb", study.parameters("evaluate", **point)),
        ("01_generate.ipynb", generated),
    ):
        ended = by_hand(copied, notebook, **parameters)
        assert ended.returncode == 0, ended.stderr[-2000:]
    explore = study.layout.root / "explore"
    assert (explore / "mix/generated" / source / "0.30/seeds-0/seed-0.parquet").exists()
    assert (explore / "evaluate/classification").exists() and (explore / "generate" / source / "record.json").exists()
    assert files_of_the_sweep(copied) == before and planned(copied) == set()


def test_a_set_that_the_sweep_has_made_in_the_same_way_is_not_made_again_by_hand(copied):
    study = studies.load(STUDY)
    (source,) = study.generated_sets()
    ended = by_hand(copied, "01_generate.ipynb", **study.parameters("generate", source=source))
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert not (study.layout.root / "explore").exists()


def test_a_parameter_that_a_notebook_does_not_declare_is_refused(copied):
    ended = by_hand(copied, "03_train.ipynb", "-p", "ratoi", "0.5")
    assert ended.returncode != 0
    assert "ValueError: no parameter ratoi; this notebook declares outputs, task, model" in ended.stderr


# Draws


SET = "class-name-7.5"


def shards(project: Path, folder: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((project / folder / "generate" / SET).glob("shard-*.arrow"))]


def test_a_draw_for_each_seed_is_added_to_what_is_there_and_one_more_seed_reruns_nothing(copied):
    change(copied, grid__draws="per_seed", grid__seeds_per_job=2)
    jobs, outputs = planned(copied), "outputs/smoke"
    runs = {job for job in jobs if job.split()[0] in ("mix", "train", "evaluate")}
    assert jobs - runs == {
        "pretrain draw-1",
        *(f"{stage} draw-1 {SET}" for stage in ("generate", "measure", "detect")),
        f"detect {SET}",  # its detectors are tested on the new draw, too
        "plot",
        "report",
    }
    assert {tuple(job.split()[-4:]) for job in runs} == {
        ("generated", SET, ratio, "seeds-0-1-draws-0-1") for ratio in ("0.50", "1.00")
    }
    before = shards(copied, outputs)
    run = sweep(copied)
    assert run.returncode == 0, run.stderr
    assert shards(copied, outputs) == before and not set(before) & set(shards(copied, f"{outputs}/draw-1"))
    table = results.read(copied / outputs / "results.csv")
    of_set = table[table["source"] == SET]
    of_runs = of_set[of_set["task"] == "classification"]
    assert sorted(of_runs["seed"].unique()) == [0, 1] and (of_runs["draw"] == of_runs["seed"]).all()
    assert set(of_set[of_set["task"] == "detect"]["split"]) == {SET, f"{SET}, another draw"}
    assert set(of_set[of_set["task"] == "measure"]["draw"]) == {0, 1}
    verified = subprocess.run(
        [COMMAND[0], "verify", STUDY, "--sample", "1"], cwd=copied, capture_output=True, text=True
    )
    assert verified.returncode == 0 and [line.split(":")[0] for line in verified.stdout.splitlines()] == [
        SET,
        f"{SET}, draw 1",
    ]
    change(copied, grid__seeds=[0, 1, 2])
    more = planned(copied)
    assert {"pretrain draw-2", f"detect draw-2 {SET}", "plot"} <= more
    assert all(job in ("plot", "report") or " draw-2" in job or "seeds-2" in job for job in more)


# Kills


@pytest.mark.parametrize("seconds", [8, 24])
def test_a_sweep_killed_at_any_moment_resumes_to_the_same_table(finished, project, seconds):
    process = subprocess.Popen([*COMMAND, STUDY], cwd=project, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = sweep(project)
    assert run.returncode == 0, run.stderr
    expected = (finished / "outputs/smoke/results.csv").read_bytes()
    assert (project / "outputs/smoke/results.csv").read_bytes() == expected


def test_a_killed_kernel_fails_its_job_alone_and_the_next_run_completes(finished, copied):
    shutil.rmtree(copied / "outputs/smoke/train")
    process = subprocess.Popen([*COMMAND, STUDY], cwd=copied, stderr=subprocess.PIPE, text=True)
    os.kill(_kernel_below(process.pid), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert "03_train.ipynb: the kernel died" in errors and "FAILED train" in errors
    run = sweep(copied)
    assert run.returncode == 0, run.stderr
    expected = (finished / "outputs/smoke/results.csv").read_bytes()
    assert (copied / "outputs/smoke/results.csv").read_bytes() == expected


def _kernel_below(pid: int) -> int:
    """The process of a kernel that a training job started; waits until there is one."""
    for _ in range(600):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    command = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"ipykernel_launcher" in command and _descends(int(entry.name), pid):
                    return int(entry.name)
        time.sleep(0.05)
    raise AssertionError("no kernel was started")


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


# Faults: one clear line, status not 0, nothing lost


def failure(project: Path, **options) -> str:
    """The one line that a sweep gives up with before any work."""
    run = sweep(project, **options)
    assert run.returncode != 0
    (line,) = run.stderr.strip().splitlines()
    return line


def test_a_wrong_parameter_file_changes_nothing_on_disk(project):
    change(project, grid__ratios=[0, 1.2])
    assert "grid.ratios.1: 1.2" in failure(project)
    assert not (project / "outputs").exists()


def test_an_unknown_model_is_told_before_any_work(project):
    change(project, grid__models={"resnet": {"architecture": "resnet81"}})
    assert "timm has no model 'resnet81'; close names" in failure(project)
    assert not (project / "outputs").exists()


def test_two_sweeps_on_one_folder_are_one_too_many(copied):
    shutil.rmtree(copied / "outputs/smoke/train")
    first = subprocess.Popen([*COMMAND, STUDY], cwd=copied, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(3)
    assert "another sweep is running on" in failure(copied)
    first.terminate()
    first.wait()


def test_an_output_folder_that_cannot_be_written_is_one_clear_line(project):
    (project / "outputs").write_text("a file where the folder should be")
    assert "outputs" in failure(project)


def test_a_full_disk_fails_in_one_line_and_the_next_run_completes(finished, copied):
    """A limit on the size of written files stands for the disk: both end a write half-way with an OSError."""
    shutil.rmtree(copied / "outputs/smoke/train/classification/resnet/dropped")
    limited = ["bash", "-c", 'ulimit -f 40; exec "$@"', "bash", *COMMAND, STUDY]
    run = subprocess.run(limited, cwd=copied, capture_output=True, text=True)
    assert run.returncode != 0 and "contamination: 03_train.ipynb: " in run.stderr
    assert not list((copied / "outputs/smoke/train/classification/resnet/dropped").rglob("*.safetensors"))
    run = sweep(copied)
    assert run.returncode == 0, run.stderr
    expected = (finished / "outputs/smoke/results.csv").read_bytes()
    assert (copied / "outputs/smoke/results.csv").read_bytes() == expected


def test_a_missing_pipeline_is_one_line_before_any_work(project):
    content = yaml.safe_load((project / STUDY).read_text())
    del content["pretrain"]
    content["generate"]["pipeline"] = "some/where/else"
    (project / STUDY).write_text(yaml.safe_dump(content))
    run = sweep(project)
    assert run.returncode != 0 and len(run.stderr.strip().splitlines()) == 1
    assert "grid.generated.class-name-7.5: pipeline folder" in run.stderr


def test_a_task_that_the_source_cannot_serve_is_one_line_before_any_work(project):
    """Folders have labels, and captions only where a file has them."""
    pictures(project, ("one", "two"))
    content = yaml.safe_load((project / STUDY).read_text())
    content["data"] = {"source": "folders", **{split: f"pictures/{split}" for split in ("pool", "train", "test")}}
    content["grid"]["models"]["blip"] = {"task": "captioning", "architecture": "blip"}
    content["grid"]["tasks"] = {"captioning": {}}
    content["grid"]["generated"]["class-name-7.5"]["models"] = ["resnet"]
    del content["measure"], content["detect"]
    (project / STUDY).write_text(yaml.safe_dump(content))
    run = sweep(project)
    assert run.returncode != 0 and len(run.stderr.strip().splitlines()) == 1
    assert "task captioning needs a caption for every image, and source folders has none here" in run.stderr
    assert not (project / "outputs/smoke").exists()


def test_a_second_study_in_the_same_folder_runs_only_what_is_new(copied):
    content = yaml.safe_load((copied / STUDY).read_text())
    content |= {"study": "wider", "folder": "smoke"}
    content["grid"]["ratios"] = [*content["grid"]["ratios"], 0.25]
    (copied / "parameters/wider.yaml").write_text(yaml.safe_dump(content))
    jobs = planned(copied, "parameters/wider.yaml")
    assert jobs and all(" 0.25 " in job or job in ("plot", "report") for job in jobs)
    before = (copied / "outputs/smoke/results.csv").read_bytes()
    run = sweep(copied, study="parameters/wider.yaml")
    assert run.returncode == 0, run.stderr
    assert {0.0, 0.25} < set(results.read(copied / "outputs/wider/results.csv")["ratio"])
    assert (copied / "outputs/wider/report/index.html").is_file()
    assert planned(copied) == set() and (copied / "outputs/smoke/results.csv").read_bytes() == before


# Other images, another pipeline


def pictures(project: Path, names: tuple[str, ...]) -> None:
    """Folder trees of noise, one sub-folder per class."""
    rng = np.random.default_rng(0)
    for split, count in {"pool": 12, "train": 6, "test": 4}.items():
        for name in names:
            (project / "pictures" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(project / "pictures" / split / name / f"{number} {name[:3]}.png")


def test_a_study_of_ones_own_folders_and_pipeline_with_odd_class_names(project, tiny_pipeline):
    pictures(project, ("<script>alert(1)</script>".replace("/", "\N{FRACTION SLASH}"), 'it\'s "b" & c'))
    content = yaml.safe_load((project / STUDY).read_text())
    del content["pretrain"]
    content["title"] = "Does <script>alert(2)</script> stay text?"
    content["data"] = {"source": "folders", "image_size": 16}
    content["data"] |= {split: f"pictures/{split}" for split in ("pool", "train", "test")}
    content["generate"]["pipeline"] = str(tiny_pipeline)
    recipe = {"steps": 3, "batch_size": 4, "ema_decay": 0.5, "flip": True, "schedule": "cosine"}
    content["train"] = {"classification": recipe}
    content["grid"] |= {"ratios": [0, 0.5], "seeds": [0, 1]}
    content["grid"]["generated"] = {"names": {"style": "diverse", "guidance": 4}}
    (project / STUDY).write_text(yaml.safe_dump(content))
    run = sweep(project)
    assert run.returncode == 0, run.stderr
    for page in (project / "outputs/smoke/report").rglob("*.html"):
        assert "<script>" not in page.read_text(), page
    table = results.read(project / "outputs/smoke/results.csv")
    assert 'accuracy of it\'s "b" & c' in set(table["metric"])


ODD = ["", "long " * 1000, "\u732b\u304c\u3044\u308b", "<script>alert(1)</script>", 'it\'s "so" & $x_{$', "a ||| b\nc"]


def caption(folder: Path) -> None:
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    captions = [ODD[number % len(ODD)] for number in range(len(files))]
    lines = [json.dumps({"file_name": file, "text": text}) for file, text in zip(files, captions, strict=True)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def test_every_task_runs_on_ones_own_captioned_folders_whatever_the_captions_say(project, tiny_pipeline):
    pictures(project, ("left hand", "right_hand"))
    for split in ("pool", "train", "test"):
        caption(project / "pictures" / split)
    shutil.copytree(project / "pictures/test/right_hand", project / "pictures/sketch/right_hand")
    content = yaml.safe_load((project / "parameters/digits-all.yaml").read_text())
    del content["pretrain"], content["folder"]
    content |= {"study": "odd", "data": {"source": "folders", "ood": {"sketch": "pictures/sketch"}}}
    content["data"] |= {split: f"pictures/{split}" for split in ("pool", "train", "test")}
    content["generate"]["pipeline"] = str(tiny_pipeline)
    content["plot"], content["claims"] = {}, "paper"
    short = {"steps": 3, "batch_size": 4}
    content |= {"measure": {"replicates": 20}, "detect": short | {"replicates": 20}}
    content["auxiliary"] = {"captioning": short, "classification": short, "generation": short}
    content["train"] = dict.fromkeys(("classification", "captioning", "generation", "pretraining"), short)
    content["evaluate"] = {"generation": {"samples": 10, "sampling_steps": 3}}
    content["evaluate"]["pretraining"] = short | {"labelled_per_class": 2}
    content["grid"]["tasks"] = {task: {} for task in content["grid"]["tasks"]}
    content["grid"] |= {"ratios": [0, 0.5], "arms": ["generated"], "seeds": [0, 1]}
    content["grid"]["models"] = {name: content["grid"]["models"][name] for name in ("resnet", "blip", "ddpm", "mae")}
    del content["grid"]["models"]["resnet"]["train"]
    content["grid"]["generated"] = {"captions": {"style": "caption", "guidance": 4}}
    (project / "parameters/odd.yaml").write_text(yaml.safe_dump(content))
    run = sweep(project, study="parameters/odd.yaml")
    assert run.returncode == 0, run.stderr
    for page in (project / "outputs/odd/report").rglob("*.html"):
        assert "<script>" not in page.read_text(), page
    page = (project / "outputs/odd/report/index.html").read_text()
    assert all(f'id="{task}"' in page for task in [*content["grid"]["tasks"], "measure", "detect"])
    assert "Not measured for captions: near_duplicates with test" in page  # too few real images to tell what is usual
    table = results.read(project / "outputs/odd/results.csv")
    assert {"accuracy", "cider", "frechet_distance", "finetuned_accuracy"} <= set(table["metric"])
    assert set(table.loc[table["task"] == "classification", "split"]) == {"test", "sketch"}
    found = next((project / "outputs/odd/evaluate/captioning").rglob("predictions.parquet"))
    captions = {text for several in pyarrow.parquet.read_table(found)["reference"].to_pylist() for text in several}
    assert captions == set(ODD)
    page = next((project / "outputs/odd/report/notebooks/evaluate/captioning").rglob("*.html")).read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "\u732b\u304c\u3044\u308b" in page
