"""`contamination plan`: what a run would take is told before anything runs, and nothing is made for that."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from contamination import cli, sources
from contamination.base import image_tables
from contamination.base.layout import NOTEBOOKS
from contamination.commands import inventory, plan, rates
from contamination.commands.inventory import State
from contamination.commands.rates import Kind, Rate
from contamination.generators import shards
from contamination.networks import timm_models
from contamination.study import study as studies
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.medium

SET = {"draw": 0, "source": "class-name-7.5"}
STUDY = "parameters/smoke.yaml"
CLASSES = ("n01440764", "n02012849")


@pytest.fixture(autouse=True)
def without_gpus(monkeypatch):
    """As a machine without GPUs, wherever the tests run."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def no_weighing(monkeypatch):
    """Without the process that counts weights, which loads torch."""
    monkeypatch.setattr("contamination.commands.disk.start_weight_sizes", lambda *_: None)


def told(capsys, *arguments: str, status: int = 0) -> list[str]:
    """The lines of a plan, those of errors after them."""
    assert cli.main(["plan", *arguments]) == status
    printed = capsys.readouterr()
    return (printed.out + printed.err).splitlines()


def row(lines: list[str], name: str) -> list[str]:
    return next(line.split() for line in lines if line.strip().startswith(f"{name} "))


def change(**changes) -> None:
    content = yaml.safe_load(Path(STUDY).read_text())
    for key, value in changes.items():
        *sections, name = key.split("__")
        section = content
        for each in sections:
            section = section.setdefault(each, {})
        section[name] = value
    Path(STUDY).write_text(yaml.safe_dump(content))


def make_images(study) -> None:
    """The image tables, as the first rule writes them."""
    sources.prepare(study.layout, study.real, study.seed)


def draw(study, source: str, count: int, **changes) -> None:
    """The first shards of a set, as 01_generate writes them, of black pixels."""
    given = study.parameters("generate", source=source) | changes
    how = {"loading": rates.loading(given), "image_size": given["image_size"], "shard_size": given["shard_size"]}
    how |= {"code": shards.code_hash(), "settings": {"num_inference_steps": given["steps"]}}
    how["settings"]["guidance_scale"] = given["guidance"]
    slots = shards.slots_of(study.layout, given["style"], seed=given["seed"])
    size = given["shard_size"]
    for number, path in enumerate(shards.paths_of(study.layout.generated(source), size * count, shard_size=size)):
        rows = {name: column[size * number : size * (number + 1)] for name, column in slots.items()}
        columns = rows | {"id": [f"slot-{slot}" for slot in rows["slot"]], "flagged": [0] * size}
        image_tables.write(path, [b"image"] * size, columns=columns, fingerprint="x", how=json.dumps(how))


def state_of(study, todo: dict | None = None, slots: int = 600) -> State:
    jobs = inventory.all_jobs(study)
    return State(study, jobs, todo or jobs, slots, 10, 597, 8_091, [])


# Jobs


def listed(project: Path) -> dict[str, int]:
    """The jobs that `contamination run --dry-run` lists, counted by rule."""
    command = [str(Path(sys.executable).with_name("contamination")), "run", STUDY, "--dry-run"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    lines = [line.split()[0] for line in ended.stderr.splitlines() if line and not line.startswith((" ", "Using"))]
    return {stage: lines.count(stage) for stage in lines}


def counted() -> dict[str, int]:
    study = studies.load(STUDY)
    todo, notes = inventory.to_run(STUDY, study, jobs=inventory.all_jobs(study))
    assert not notes
    return {stage: len(points) for stage, points in todo.items() if points}


@pytest.mark.slow
def test_the_jobs_are_those_of_the_dry_run_whatever_is_there(project):
    change(measure=None, detect=None, grid__ratios=[0, 0.5])
    study = studies.load(STUDY)
    assert counted() == listed(project)  # nothing is there

    command = [str(Path(sys.executable).with_name("contamination")), "run", STUDY, "--cores", "1"]
    mixtures = [str(study.layout.mixture(*run.mixture) / NOTEBOOKS["mix"]) for run in study.runs()]
    targets = [os.path.relpath(path, project) for path in mixtures if "generated" not in path]
    subprocess.run([*command, *targets], cwd=project, check=True, capture_output=True)
    half = counted()
    assert half == listed(project) and "images" not in half and half["mix"] == 1

    notebook = project / "notebooks" / NOTEBOOKS["mix"]
    notebook.write_text(notebook.read_text().replace("len(labels)", "labels.size"))
    stale = counted()
    assert stale == listed(project) and stale["mix"] == len(set(mixtures)) and "images" not in stale

    change(seed=1)
    changed = counted()
    assert changed == listed(project) and changed["images"] == 1


def test_before_anything_is_there_all_jobs_of_the_study_are_to_run(project, capsys, no_weighing):
    study = studies.load("parameters/imagenet.yaml")
    lines = told(capsys, "parameters/imagenet.yaml")
    jobs = {stage: len(points) for stage, points in study.jobs().items()}
    assert {stage: int(row(lines, stage)[3]) for stage, count in jobs.items() if count} == {
        stage: count for stage, count in jobs.items() if count
    }
    assert row(lines, "in")[2] == f"{sum(jobs.values()) + 3:,}"  # and images, ood, report
    assert row(lines, "in")[4] == row(lines, "in")[2]


def test_what_is_missing_is_listed_and_the_rest_is_planned_all_the_same(project, capsys, no_weighing):
    lines = told(capsys, "parameters/imagenet.yaml", "--rate", "train=1000", "--gpus", "8")
    study = studies.load("parameters/imagenet.yaml")
    for place in (study.data.train, study.data.pool, study.data.mapping, *study.data.ood.values()):
        assert f"missing: {place}" in lines
    assert any(line.startswith("not known before the real images are there") for line in lines)
    assert row(lines, "train")[4] != "unknown" and row(lines, "generate")[4] == "unknown"


def test_where_nothing_is_missing_what_a_run_would_refuse_is_told(project, capsys, no_weighing):
    change(grid__models__resnet__architecture="resnet5")
    assert any(line.startswith("a run would stop: timm has no model 'resnet5'") for line in told(capsys, STUDY))


@pytest.mark.slow
def test_a_snakefile_that_fails_leaves_all_jobs_and_a_line(project):
    study = studies.load(STUDY)
    make_images(study)
    (project / "Snakefile").write_text("rule all:\n    input: 'nowhere'\n")
    todo, notes = inventory.to_run(STUDY, study, jobs=inventory.all_jobs(study))
    assert todo == inventory.all_jobs(study) and len(notes) == 1 and "\n" not in notes[0]


def test_nothing_is_written(project, capsys, no_weighing):
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in project.rglob("*") if ".snakemake" not in path.parts}

    empty = files()
    told(capsys, STUDY)
    assert files() == empty and not (project / ".snakemake").exists()
    make_images(studies.load(STUDY))
    made = files()
    told(capsys, STUDY, "--rate", "resnet=100")
    assert files() == made


# Images


def test_images_of_shards_that_would_be_kept_are_not_missing(project):
    study = studies.load(STUDY)
    make_images(study)
    state = state_of(study)
    assert inventory.missing_images(state, SET) == 600
    draw(study, "class-name-7.5", 2)
    assert inventory.missing_images(state, SET) == 600 - 2 * study.generate.shard_size
    done = state._replace(todo=state.jobs | {"generate": []})
    assert inventory.missing_images(done, SET) == 0


@pytest.mark.parametrize(
    "changes", [{"steps": 4}, {"guidance": 3.0}, {"seed": 1}, {"style": "diverse"}, {"dtype": "bfloat16"}]
)
def test_images_that_were_drawn_in_another_way_are_missing(project, changes):
    study = studies.load(STUDY)
    make_images(study)
    draw(study, "class-name-7.5", 2, **changes)
    assert inventory.missing_images(state_of(study), SET) == 600


@pytest.fixture
def trees(project):
    """Folder trees of two classes, ten and six images in train, and a study of them."""
    for split, counts in {"train": (10, 6), "test": (3, 3), "pool": (9, 9), "sketch": (2, 2)}.items():
        for name, count in zip(CLASSES, counts, strict=True):
            folder = project / "pictures" / split / name / "deeper"
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.JPEG").write_bytes(b"x" * 1000)
            (folder / "notes.txt").touch()
    data = {"source": "folders", "image_size": 32, "ood": {"sketch": "pictures/sketch"}}
    change(study="own", data=data | {split: f"pictures/{split}" for split in sources.SPLITS})
    return project


@pytest.mark.parametrize(
    ("changes", "slots"), [({}, 16), ({"pool": 0.5}, 8), ({"pool": 0.3}, 11), ({"per_class": 4}, 8)]
)
def test_slots_are_counted_by_names_where_images_have_not_been_read(trees, capsys, no_weighing, changes, slots):
    change(**{f"data__{key}": value for key, value in changes.items()})
    lines = told(capsys, STUDY)
    assert any(line.startswith(f"{slots} images to generate in all, 1 x {slots} slots") for line in lines)


# Hours


@settings(max_examples=20)
@given(st.floats(0.01, 1e4), st.floats(1.1, 100))
def test_hours_scale_with_the_rate_and_with_what_is_to_come(seconds, factor):
    study = studies.load(ROOT / STUDY).model_copy(update={"folder": "never-made"})  # whatever was made in this checkout
    state = state_of(study)
    half = state._replace(todo=state.jobs | {"train": state.jobs["train"][::2]})
    known = {kind: Rate(seconds, "stated") for kind in rates.kinds(state.jobs)}
    slower = {kind: Rate(factor * seconds, "stated") for kind in known}
    for line, more, less in zip(
        *(plan.hours(*each) for each in ((state, known), (state, slower), (half, known))), strict=True
    ):
        assert more.whole == pytest.approx(factor * line.whole) and line.whole == line.to_come
        share = 0.5 if line.kind.stage == "train" else 1
        assert less.to_come == pytest.approx(share * line.whole) and less.whole == line.whole


def test_hours_are_images_over_their_rate(project, capsys, no_weighing):
    lines = told(
        capsys, STUDY, "--rate", "generate=2", "--rate", "resnet=100", "--rate", "pretrain=7200", "--gpus", "1"
    )
    study = studies.load(STUDY)
    trained = 12 * study.train_of("resnet").steps * study.train_of("resnet").batch_size
    assert float(row(lines, "generate")[4]) == pytest.approx(600 / 2 / 3600, abs=0.005)
    assert float(row(lines, "train")[4]) == pytest.approx(trained / 100 / 3600, abs=0.005)
    assert float(row(lines, "pretrain")[4]) == 2
    assert "measure" in next(line for line in lines if line.startswith("To come"))


def test_wall_time_is_no_less_than_the_longest_chain_and_no_less_than_the_even_share(project):
    study = studies.load(STUDY)
    state = state_of(study)
    known = {kind: Rate(10.0, "stated") for kind in rates.kinds(state.jobs)}
    lines = plan.hours(state, known)
    total = sum(line.to_come for line in lines)
    chain = 10 * (600 + 2 * 30 * 50 + 2) / 3600  # a set, two models of 30 steps on 50 images, their scores
    assert plan.wall_hours(state, lines, devices=1) == pytest.approx(total)
    assert plan.wall_hours(state, lines, devices=1000) == pytest.approx(chain)
    change(train__classification={"steps": 30, "processes": 2})
    shared = state_of(studies.load(STUDY))
    assert plan.wall_hours(shared, lines, devices=1000) == pytest.approx(10 * (600 + 30 * 50 + 2) / 3600)


def test_more_gpus_for_a_training_than_there_are_is_told(project, capsys, no_weighing):
    change(train__classification={"steps": 30, "processes": 5})
    assert any(line.startswith("A training takes 5 GPUs at once") for line in told(capsys, STUDY, "--gpus", "2"))


@pytest.mark.parametrize(
    "text", ["resnet", "resnet=", "resnet=fast", "resnet=0", "resnet=-1", "resnet=nan", "vit=5", "=5"]
)
def test_a_wrong_rate_is_refused_in_one_line(project, capsys, text):
    (line,) = told(capsys, STUDY, "--rate", text, status=2)
    assert line.startswith(f"contamination: --rate {text}: ")


def test_a_rate_of_a_model_goes_before_that_of_its_stage_whichever_stands_first(project):
    study = studies.load("parameters/digits.yaml")
    texts = ["resnet=100", "train=10"]
    found = [rates.stated(study, inventory.all_jobs(study), texts=order) for order in (texts, texts[::-1])]
    assert found[0] == found[1]
    assert found[0][Kind("train", "resnet")].seconds == 0.01 and found[0][Kind("train", "convnext")].seconds == 0.1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["parameters/nowhere.yaml"], "is missing"),
        ([STUDY, "--gpus", "0"], "--gpus 0"),
        ([STUDY, "--gpus", "-1"], "--gpus -1"),
    ],
)
def test_other_faults_are_one_line_too(project, capsys, arguments, words):
    (line,) = told(capsys, *arguments, status=2)
    assert words in line


@pytest.mark.parametrize("content", ['{"half": ', "[]", '{"half": {"seconds": 1}}', '{"half": 3}'])
def test_a_damaged_file_of_rates_is_refused_in_one_line(project, capsys, content):
    file = rates.file_of(studies.load(STUDY))
    file.parent.mkdir(parents=True)
    file.write_text(content)
    (line,) = told(capsys, STUDY, status=2)
    assert f"{file} is damaged" in line


# Rates from jobs that are done, and from measurements


def finish(study, stage: str, point: dict, duration: float, device: str = "cpu", **record) -> None:
    """What a job leaves that tells how long it took."""
    folder = study.job(stage, **point)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps({"device": device} | record))
    times = {"start_time": "2026-01-01T00:00:00", "end_time": "2036-01-01T00:00:00", "duration": duration}
    (folder / NOTEBOOKS[stage]).write_text(json.dumps({"metadata": {"papermill": times}}))


def found_rates(study, done: dict, gpus: bool = False) -> dict[Kind, Rate]:
    return rates.find(study, inventory.all_jobs(study), done=done, stated={}, gpus=gpus, tested=1000)


def test_finished_jobs_tell_the_rate(project):
    study = studies.load(STUDY)
    run = study.jobs()["train"][0]
    finish(study, "train", run, 0, seconds={"0": 10, "1": 20}, images_seen=1500)
    finish(study, "evaluate", run, 8)
    finish(study, "detect", {"source": "pool"}, 50)
    done = {"train": [run], "evaluate": [run], "detect": [{"source": "pool"}]}
    found = found_rates(study, done)
    assert found[Kind("train", "resnet")].seconds == pytest.approx(30 / 3000)
    assert found[Kind("evaluate", "resnet")].seconds == 4 and found[Kind("detect")].seconds == 50
    assert found_rates(study, {}) == {}
    assert found_rates(study, done, gpus=True) == {}  # they ran on the CPU


def test_finished_jobs_on_several_gpus_count_each_of_them(project):
    change(train__classification={"processes": 5})
    study = studies.load(STUDY)
    run = study.jobs()["train"][0]
    finish(study, "train", run, 0, "cuda", seconds={"0": 15}, images_seen=1500)
    assert found_rates(study, {"train": [run]}, gpus=True)[Kind("train", "resnet")].seconds == pytest.approx(0.05)


def test_a_finished_set_tells_of_others_that_are_drawn_alike(project):
    sets = {
        name: {"style": "class_name", "guidance": scale} for name, scale in (("one", 7.5), ("two", 2.0), ("off", 0.0))
    }
    sets["finer"] = sets["one"] | {"generate": {"steps": 9}}
    change(grid__generated=sets)
    study = studies.load(STUDY)
    make_images(study)
    draw(study, "one", 2)
    finish(study, "generate", {"source": "one"}, 80)
    found = found_rates(study, {"generate": [{"source": "one"}]})
    assert found[Kind("generate", "one")].seconds == pytest.approx(80 / (2 * study.generate.shard_size))
    assert found[Kind("generate", "two")] == found[Kind("generate", "one")]
    assert Kind("generate", "off") not in found and Kind("generate", "finer") not in found


def test_measured_rates_count_for_the_recipe_and_the_device_that_they_are_of(project):
    study = studies.load(STUDY)
    entry = {"seconds": 0.5, "device": "NVIDIA H200", "gpu": True, "date": "2026-11-23"}
    kinds = [Kind("train", "resnet"), Kind("evaluate", "resnet")]
    rates.file_of(study).parent.mkdir(parents=True)
    rates.file_of(study).write_text(json.dumps({rates.way(study, kind): entry for kind in kinds}))
    found = found_rates(study, {}, gpus=True)
    assert found[kinds[0]] == Rate(0.5, "measured on NVIDIA H200, 2026-11-23") and found[kinds[1]].seconds == 500
    assert found_rates(study, {}) == {}
    change(train__classification={"steps": 90})
    assert found_rates(studies.load(STUDY), {}, gpus=True)[kinds[0]].seconds == 0.5  # more steps, each as long
    change(grid__models__resnet__architecture="resnet18")
    assert kinds[0] not in found_rates(studies.load(STUDY), {}, gpus=True)


@pytest.mark.slow
def test_calibration_measures_what_it_can_and_says_what_it_cannot(project, tiny_pipeline, capsys):
    content = yaml.safe_load(Path(STUDY).read_text())
    plain = {"style": "class_name", "guidance": 7.5}
    sets = {"own": plain, "brought": plain | {"generate": {"pipeline": str(tiny_pipeline), "batch_size": 2}}}
    change(grid__generated=sets, data__image_size=16, grid__models=content["grid"]["models"])
    lines = told(capsys, STUDY, "--calibrate")
    assert any(line.startswith("own: not measured (pipeline folder") for line in lines)
    assert row(lines, "own")[-1] == "unknown"
    for name in ("brought", "resnet"):
        assert "measured on the CPU" in " ".join(row(lines, name) if name == "brought" else row(lines, "train"))
    assert float(row(lines, "train")[4].rstrip("+")) >= 0
    measured = rates.load(studies.load(STUDY))
    assert len(measured) == 3 and all(entry["seconds"] > 0 and entry["versions"] for entry in measured.values())
    again = told(capsys, STUDY)
    assert row(again, "train") == row(lines, "train")


def test_a_measurement_that_dies_is_told_in_a_line_and_the_plan_goes_on(project, capsys, monkeypatch, no_weighing):
    monkeypatch.setattr("sys.executable", "/bin/false")
    lines = told(capsys, STUDY, "--calibrate")
    assert "resnet: not measured (the process died, status 1)" in lines
    assert row(lines, "train")[-1] == "unknown"


def test_a_rate_of_one_process_holds_for_any_number_that_share_the_batch_and_the_threads(project):
    def way_of(**recipe) -> str:
        change(train__classification=recipe)
        return rates.way(studies.load(STUDY), Kind("train", "resnet"))

    alone = way_of(batch_size=10, threads=2)
    assert way_of(batch_size=80, threads=16, processes=8) == alone
    assert way_of(batch_size=80, threads=16) != alone


# Disk


def test_what_lies_there_and_what_is_to_come_add_up(project, capsys, monkeypatch):
    monkeypatch.setattr("contamination.commands.disk.start_weight_sizes", lambda *_: None)
    study = studies.load(STUDY)
    run = study.jobs()["train"][0]
    for seed in run["seeds"]:
        folder = study.job("train", **run)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"seed-{seed}.safetensors").write_bytes(bytes(10**6))
    weights = row(told(capsys, STUDY), "weights")
    assert weights[1:3] == ["2.0", "MB"]
    assert weights[3:5] == [f"{2 * (len(study.jobs()['train']) - 1)}.0", "MB"]


@pytest.mark.slow
def test_a_network_is_weighed_without_being_made(project, capsys):
    study = studies.load(STUDY)

    model = study.grid.models["resnet"]
    network = timm_models.build(model.architecture, model.options, classes=10)
    size = sum(weight.numel() * weight.element_size() for weight in network.state_dict().values())
    spelled = row(told(capsys, STUDY), "weights")
    assert float(spelled[2]) * 1e6 == pytest.approx(12 * size, rel=0.3) and spelled[3] == "MB"


def test_too_little_room_is_told(project, capsys, monkeypatch, no_weighing):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    assert ": not enough." in " ".join(told(capsys, STUDY))


# As it is used


@pytest.mark.slow
def test_a_study_as_large_as_the_papers_is_planned_in_seconds(project):
    """Processor time, about 8 s of two processes on an idle machine; it grows by half beside other work."""
    command = [str(Path(sys.executable).with_name("contamination")), "plan", "parameters/imagenet.yaml"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0 and usage.ru_utime + usage.ru_stime < 30
    assert all(len(line) <= 100 for line in lines)


def test_planning_loads_nothing_that_takes_long(project):
    code = "import sys; from contamination import cli; cli.main(['plan', 'parameters/imagenet.yaml', '--gpus', '1']); "
    code += (
        "print(sorted({'matplotlib', 'torch', 'transformers', 'diffusers', 'timm', 'snakemake'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1] == "[]", ended.stdout + ended.stderr
