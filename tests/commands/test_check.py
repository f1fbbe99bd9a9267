"""`contamination check`: what a run would meet is told before anything is made."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from contamination import cli, sources
from contamination.base.layout import Layout
from contamination.report import page
from contamination.sources import broken, ood
from contamination.study import study as studies
from PIL import Image

CLASSES = ("n02012849", "n03126707")  # the two cranes


def picture(file: Path, number: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def trees(project):
    """Folder trees of two classes with six images each, and a study of them in parameters/own.yaml."""
    for start, split in enumerate((*sources.SPLITS, "sketch", "made")):
        for label, name in enumerate(CLASSES):
            for number in range(6):
                picture(project / "pictures" / split / name / f"{number}.png", 100 * start + 10 * label + number)
    write(project)
    return project / "pictures"


def write(project, generated: dict | None = None, **data) -> None:
    content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
    content = {key: content[key] for key in ("title", "generate", "pretrain", "train", "grid")} | {"study": "own"}
    content["data"] = {"source": "folders", "image_size": 16, "ood": {"sketch": "pictures/sketch"}}
    content["data"] |= {split: f"pictures/{split}" for split in sources.SPLITS} | data
    models = {"resnet": {"architecture": "resnet18"}}
    content["grid"] |= {"tasks": {"classification": {}}, "models": models, "arms": ["generated"], "ratios": [0, 1]}
    content["grid"]["generated"] = generated or {"plain": {"style": "class_name", "guidance": 2.0}}
    (project / "parameters/own.yaml").write_text(yaml.safe_dump(content))


def check(capsys) -> tuple[int, list[str]]:
    status = cli.main(["check", "parameters/own.yaml"])
    printed = capsys.readouterr()
    return status, (printed.out + printed.err).splitlines()


@pytest.mark.medium
def test_every_source_is_told_in_a_line_with_its_images_and_classes(trees, capsys):
    status, lines = check(capsys)
    assert status == 0
    assert lines[:4] == [
        "pool: 12 images, 2 classes, pictures/pool",
        "train: 12 images, 2 classes, pictures/train",
        "test: 12 images, 2 classes, pictures/test",
        "ood sketch: 12 images, 2 classes, pictures/sketch",
    ]


def test_names_that_a_generator_may_take_for_another_are_told(trees, capsys):
    lines = check(capsys)[1]
    assert "Of 2 class names, to be looked at before any image is made: same name (1)" in lines[4]
    assert lines[5].startswith("  same name: crane: n02012849: crane (large long-necked wading bird")


def test_a_run_after_it_decodes_nothing_again_and_no_image_table_is_there_before(trees, capsys, monkeypatch):
    check(capsys)
    study = studies.load("parameters/own.yaml")
    assert not any(study.layout.real(split).exists() for split in sources.SPLITS)
    monkeypatch.setattr(broken._Files, "__getitem__", lambda *_: pytest.fail("decoded again"))
    assert sources.prepare(study.layout, study.real, study.seed) == dict.fromkeys(sources.SPLITS, 12)
    assert check(capsys)[0] == 0


def test_broken_images_end_in_status_1_five_are_shown_and_all_are_listed(trees, capsys, project):
    for number in range(6):
        for name in CLASSES[: 1 if number == 5 else 2]:
            (trees / "train" / name / f"{number}.png").write_bytes(b"<html>")
    (trees / "sketch" / CLASSES[0] / "0.png").write_bytes(b"")
    status, lines = check(capsys)
    assert status == 2 and lines == [f"contamination: {trees / 'train'}: no images are left of {CLASSES[0]}"]
    picture(trees / "train" / CLASSES[0] / "5.png", 999)
    status, lines = check(capsys)
    assert status == 1
    assert lines[1] == "train: 2 images, 2 classes, pictures/train; left out: 10 broken"
    assert lines[2].startswith(f"  {trees / 'train' / CLASSES[0] / '0.png'}: not an image, it begins with")
    assert len([line for line in lines if "pictures/train/n0" in line]) == 5
    listed = json.loads(Path(lines[7].removeprefix("  all are listed in ")).read_text())
    assert len(listed["broken"]) == 10
    assert "ood sketch: 11 images, 2 classes, pictures/sketch; left out: 1 broken" in lines
    assert lines[-1].startswith("a run would refuse train, ood sketch: replace or remove")
    write(project, broken="skip")
    assert check(capsys)[0] == 0


def test_a_share_of_train_and_a_limit_are_told_as_they_will_be(trees, capsys, project):
    write(project, pool=0.5, per_class=2)
    assert check(capsys)[1][:2] == [
        "pool: 6 images, 2 classes, 50 % of train",
        "train: 4 images, 2 classes, pictures/train; left out: 2 beyond per_class",
    ]


def test_a_set_that_is_already_generated_is_looked_at_too(trees, capsys, project):
    write(project, {"made": {"folder": "pictures/made"}})
    (trees / "made" / CLASSES[1] / "7.png").write_bytes(b"no image")
    status, lines = check(capsys)
    assert status == 1
    assert lines[4] == "generated made: 12 images, 2 classes, pictures/made; left out: 1 broken"
    assert lines[5].startswith(f"  {trees / 'made' / CLASSES[1] / '7.png'}: not an image")


def test_captions_as_prompts_are_looked_at(trees, capsys, project):
    for split in sources.SPLITS:
        lines = [
            {"file_name": f"{name}/{number}.png", "text": "same\n" * 70} for name in CLASSES for number in range(6)
        ]
        (trees / split / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write(project, {"told": {"style": "caption", "guidance": 2.0}})
    status, lines = check(capsys)
    assert status == 0 and any(line.startswith("Of 12 captions,") for line in lines)
    assert "long caption (1), same caption (1)" in "".join(lines) and all(line.isprintable() for line in lines)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"pipeline": "no-such-folder"}, "no-such-folder is missing: run 00_pretrain, or name a folder or hub model"),
        ({"pipeline": "some/model", "scheduler": "NoScheduler"}, "scheduler 'NoScheduler' is not in diffusers"),
        ({"pipeline": "some/model", "scheduler": "DDIMScheduler", "scheduler_options": {"no": 1}}, "does not take no"),
    ],
)
def test_a_pipeline_that_cannot_be_is_told_before_any_image_is_looked_at(trees, capsys, project, section, message):
    file = project / "parameters/own.yaml"
    content = yaml.safe_load(file.read_text()) | {"generate": section}
    del content["pretrain"]
    file.write_text(yaml.safe_dump(content))
    status, lines = check(capsys)
    assert status == 2 and len(lines) == 1 and message in lines[0]
    file.write_text(yaml.safe_dump(content | {"generate": {"pipeline": "some/model", "scheduler": "DDIMScheduler"}}))
    assert "plain: drawn by some/model, to be had from the hub" in check(capsys)[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": "pictures/nowhere"}, "nowhere is missing: name a folder"),
        ({"ood": {"noise": "pictures/nowhere"}}, "nowhere is missing: name a folder"),
        ({"names": "nowhere.csv"}, r"nowhere.csv is missing"),
    ],
)
def test_what_cannot_be_looked_at_is_one_line(trees, capsys, project, changes, message):
    write(project, **changes)
    status, lines = check(capsys)
    assert status == 2 and len(lines) == 1 and message in lines[0]


def test_the_report_says_how_many_real_images_there_are_and_were_left_out(trees, project):
    (trees / "train" / CLASSES[0] / "0.png").write_bytes(b"")
    (trees / "sketch" / CLASSES[0] / "0.png").write_bytes(b"")
    write(project, broken="skip", per_class=4)
    study = studies.load("parameters/own.yaml")
    sources.prepare(study.layout, study.real, study.seed)
    assert page._real_images(study)[1] == (
        "Real images: pool 12, train 8 (left out: 1 broken, 3 beyond per_class), test 12."
    )
    ood.prepare(study.layout, study.data.model_dump(exclude_none=True), study.seed)
    assert page._real_images(study)[1].endswith("test 12, OOD set sketch 11 (left out: 1 broken).")
    assert "same PNG codec" in page._real_images(studies.load("parameters/smoke.yaml"))[0]


def test_classes_are_shown_by_readable_names_and_kept_by_their_folders(trees):
    study = studies.load("parameters/own.yaml")
    sources.prepare(study.layout, study.real, study.seed)
    assert sources.class_names(study.layout) == list(CLASSES)
    assert sources.shown_names(study.layout) == [f"crane ({name})" for name in CLASSES]
    (trees / "names.csv").write_text(f"folder,name\n{CLASSES[1]},building machine\n")
    write(trees.parent, names="pictures/names.csv", pool=0.5)
    study = studies.load("parameters/own.yaml")
    other = Layout("outputs/other")
    sources.prepare(other, study.real, study.seed)
    assert sources.shown_names(other) == ["crane", "building machine"]


def test_the_digits_have_nothing_to_refuse(project, capsys):
    assert cli.main(["check", "parameters/smoke.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "pool: 600 images, 10 classes, scikit-learn"
