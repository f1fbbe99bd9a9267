"""A machine with four GPUs, of which there is only what nvidia-smi would print of them."""

import os

import pytest
from contamination.base import devices, gpus

LISTING = "\n".join(f"GPU {number}: NVIDIA H100 80GB HBM3 (UUID: GPU-{number}aaa-{number}bbb)" for number in range(4))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with the GPUs that a stand-in for nvidia-smi lists, and locks of its own."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(gpus, "_locks", [])
    for name in (gpus.VISIBLE, gpus.TAKEN):
        monkeypatch.setenv(name, "")  # so that what a test sets is undone
        monkeypatch.delenv(name)

    devices._gpus_before.cache_clear()

    def lists(text: str) -> None:
        (tmp_path / "bin/nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        (tmp_path / "bin/nvidia-smi").chmod(0o755)

    lists(LISTING)
    yield lists
    for lock in gpus._locks:
        lock.release()
