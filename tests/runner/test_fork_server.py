"""The warm server: a drop-in for `python -m`, that leaves nothing running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from contamination.runner import fork_server

pytestmark = pytest.mark.medium

SCRIPT = """
import os, sys, time
print("out", sys.argv[1:], os.getcwd(), os.environ.get("MARK"))
print("err", file=sys.stderr)
if "wait" in sys.argv:
    open("pid", "w").write(str(os.getpid()))
    time.sleep(60)
if "raise" in sys.argv:
    raise KeyError("what")
if "text" in sys.argv:
    sys.exit("one clear line")
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    (tmp_path / "some_module.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fork_server, "PACKAGES", ("json",))
    return [sys.executable, "-m", "contamination.runner.fork_server", "some_module"]


@pytest.mark.parametrize("argument", ["0", "3", "raise", "text"])
def test_a_warm_start_is_like_a_cold_one(command, argument):
    environment = os.environ | {"MARK": "m"}
    cold = subprocess.run([*command, argument], env=environment, capture_output=True, text=True)
    with fork_server.server():
        warmed = subprocess.run([*command, argument], env=os.environ | {"MARK": "m"}, capture_output=True, text=True)
    assert (warmed.returncode, warmed.stdout) == (cold.returncode, cold.stdout)
    assert warmed.stderr.splitlines()[-1] == cold.stderr.splitlines()[-1]


def test_a_killed_client_takes_its_job_with_it(command):
    with fork_server.server():
        client = subprocess.Popen([*command, "0", "wait"], env=os.environ.copy(), stdout=subprocess.DEVNULL)
        job = _pid_when_there()
        client.kill()
        assert _gone(job)
        client.wait()


def test_a_killed_job_is_a_failure(command):
    with fork_server.server():
        client = subprocess.Popen([*command, "0", "wait"], env=os.environ.copy(), stdout=subprocess.DEVNULL)
        os.kill(_pid_when_there(), signal.SIGKILL)
        assert client.wait(10) == 1


def test_without_a_server_a_killed_parent_takes_its_job_with_it(command):
    inner = f"import subprocess; subprocess.run({[*command, '0', 'wait']!r})"
    parent = subprocess.Popen([sys.executable, "-c", inner], stdout=subprocess.DEVNULL)
    job = _pid_when_there()
    parent.kill()
    parent.wait()
    assert _gone(job)


def _pid_when_there() -> int:
    for _ in range(200):
        if Path("pid").exists() and (text := Path("pid").read_text()):
            return int(text)
        time.sleep(0.05)
    raise AssertionError("the job did not start")


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] == "Z":
                return True
        time.sleep(0.05)
    return False
