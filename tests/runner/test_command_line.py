"""What the command line makes of odd words, odd names, Ctrl-C and a pipe that closes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from contamination import cli
from contamination.runner import inputs, sweep
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from snakemake.cli import parse_config

SMOKE = "parameters/smoke.yaml"


def failure(capsys, *command: str) -> str:
    """The one line in which a command is refused."""
    assert cli.main(list(command)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_a_parameter_file_of_any_name_reaches_the_snakefile(name):
    config = parse_config([inputs.config(f"parameters/{name}.yaml")])
    assert inputs.study_file(config) == f"parameters/{name}.yaml"


@pytest.mark.parametrize("count", ["0", "-1"])
def test_a_number_of_cores_below_one_is_refused(project, capsys, count):
    assert f"--cores {count}: give 1 or more" in failure(capsys, "run", SMOKE, "--cores", count)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["genrate"], "there is no stage genrate: give generate"),
        (["parameters/digits.yaml"], "parameters/digits.yaml: one parameter file at a time"),
        (["--until", "trian"], "there is no stage trian: give train"),
        (["--until", "train", "xyz"], "there is no stage xyz: give all or images or"),
    ],
)
def test_a_word_that_is_no_stage_is_one_line(project, capsys, words, message):
    assert message in failure(capsys, "run", SMOKE, *words, "--dry-run")


@pytest.mark.parametrize(
    "words",
    [
        ["images"],
        ["--until", "mix"],
        ["-R", "train", "mix"],
        ["outputs/a.csv"],
        ["--set-threads", "train=2"],
        ["-j", "2"],
    ],
)
def test_stages_files_and_values_of_options_are_let_through(project, words):
    sweep._require_stages(words)


def test_a_parameter_file_is_found_from_the_folder_that_it_lies_in(project, monkeypatch):
    monkeypatch.chdir("parameters")
    assert cli._from_root("smoke.yaml") == SMOKE
    assert cli._from_root(str(project / SMOKE)) == SMOKE
    assert cli._from_root("nothing.yaml") == "nothing.yaml"


@pytest.mark.parametrize(("verb", "again"), [("run", "goes on from here"), ("check", "begins anew")])
def test_after_ctrl_c_two_lines_say_that_it_stopped_and_how_to_go_on(project, monkeypatch, capsys, verb, again):
    def interrupt(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_do", interrupt)
    assert cli.main([verb, SMOKE]) == 130
    said = capsys.readouterr().err.splitlines()
    assert said == ["contamination: stopped", f"`contamination {verb} {SMOKE}` {again}"]


COMMAND = [sys.executable, "-c", "import sys; from contamination.cli import main; sys.exit(main())"]


@pytest.mark.medium
def test_a_pipe_that_closes_is_no_error(project):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([*COMMAND, "plan", SMOKE], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.medium
def test_a_locale_without_utf8_changes_no_message(project):
    text = Path(SMOKE).read_text(encoding="utf-8").replace("Does the whole", "Läuft the whole 犬")
    Path(SMOKE).write_text(text, encoding="utf-8")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run([*COMMAND, "plan", SMOKE], env=environment, capture_output=True)
    assert ended.returncode == 0 and "Läuft the whole 犬" in ended.stdout.decode()


@pytest.mark.medium
@pytest.mark.parametrize("name", ["{raw}", "a {1} [x] 'q' #2: 100% é", "$x_{$"])
def test_names_of_files_folders_classes_and_titles_are_no_patterns(project, capfd, name):
    for split in ("train", "test"):
        for label in ("a", name):
            for number in range(4):
                file = Path("data", name, split, label, f"{number}.png")
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (16, 16), (number, len(label), len(split))).save(file)
    Path("data", name, "names.csv").write_text('folder,name\na,"the {first}"\n')
    content = yaml.safe_load(Path(SMOKE).read_text()) | {"study": "odd", "title": f"What {name}?"}
    places = {split: f"data/{name}/{split}" for split in ("train", "test")}
    content["data"] = {"source": "folders", "image_size": 16, "pool": 0.5, "names": f"data/{name}/names.csv"} | places
    file = f"parameters/{name}.yaml"
    Path(file).write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    assert cli.main(["run", file, "--dry-run"]) == 0, capfd.readouterr().err
    assert "generate class-name-7.5" in capfd.readouterr().err
