"""What a shell or a home folder has set does not reach the jobs of a sweep."""

import os
import resource
import subprocess
import sys

import pytest
from contamination.runner import environment


def seen_by_a_job(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", environment.LEFT_OUT)
def test_settings_of_the_user_are_left_out_and_there_again_afterwards(monkeypatch, name):
    monkeypatch.setenv(name, "mine")
    with environment.of_jobs():
        assert os.environ.get(name) != "mine"
    assert os.environ[name] == "mine"


@pytest.mark.parametrize("language", ["C", "de_DE.ISO-8859-1", "tr_TR.UTF-8"])
def test_a_job_reads_and_writes_utf8_whatever_the_locale_is(monkeypatch, language):
    monkeypatch.setenv("LC_ALL", language)
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    with environment.of_jobs():
        said = seen_by_a_job("import locale, sys; print(locale.getpreferredencoding(), sys.stdout.encoding)")
    assert said.lower() == "utf-8 utf-8"


@pytest.mark.parametrize("home", ["/dev/null/nowhere", "/proc/1/none"])
def test_a_home_that_cannot_be_written_to_is_replaced_while_jobs_run(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    with environment.of_jobs():
        code = "from pathlib import Path; (Path.home() / 'a').mkdir(); print(Path.home())"
        assert seen_by_a_job(code) not in ("", home)
    assert os.environ["HOME"] == home


def test_a_home_that_is_there_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with environment.of_jobs():
        assert os.environ["HOME"] == str(tmp_path)
    assert not list(tmp_path.iterdir())


def limited(files: int) -> subprocess.CompletedProcess:
    code = "from contamination.runner import environment as e\nwith e.of_jobs(): print('runs')"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=limit)


def test_too_few_open_files_are_one_line_before_any_work():
    assert "only 64 files may be open at once" in limited(64).stderr.splitlines()[-1]
    assert limited(environment.OPEN_FILES).stdout == "runs\n"
