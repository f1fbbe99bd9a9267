"""What a sweep and its jobs find around them: the same for everybody, whatever a shell or a home folder has set.

Start-up files and settings of IPython, matplotlib and Python, a locale and an encoding can change what a notebook
computes, or end it hours later. They are the user's, for what the user runs by hand.
"""

import contextlib
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from contamination.base.files import package_folder

OPEN_FILES, WANTED = 256, 4096  # without the first jobs fail; the second is asked for where it may be had
LEFT_OUT: tuple[str, ...] = ("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONIOENCODING", "PYTHONINSPECT", "PYTHONOPTIMIZE")
LEFT_OUT += ("PYTHONCOERCECLOCALE", "BASH_ENV", "LANGUAGE", "MPLBACKEND")
# Texts are UTF-8 and numbers have a point, in child processes too: METEOR's Java writes 0,5 where a locale says so.
SET = {"PYTHONUTF8": "1", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}


@contextlib.contextmanager
def of_jobs() -> Iterator[None]:
    """Processes that are started in this block have the project's environment instead of the user's.

    Raises RuntimeError in one line where too few files may be open at once.
    """
    _allow_files()
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="contamination-home-", ignore_cleanup_errors=True) as folder:
        for name in LEFT_OUT:
            os.environ.pop(name, None)
        # matplotlib reads its settings when it is imported, and cannot be where they are not UTF-8.
        own = {"MATPLOTLIBRC": str(package_folder("matplotlib") / "mpl-data"), "IPYTHONDIR": f"{folder}/ipython"}
        os.environ.update(SET | own | _home(folder))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _home(folder: str) -> dict[str, str]:
    """A home folder where the user's is missing or cannot be written to: many libraries keep their caches there."""
    home = Path("~").expanduser()
    try:
        with tempfile.TemporaryFile(dir=home):
            return {}
    except OSError:
        # The models that were fetched to it can still be read.
        hub = {"HF_HOME": str(home / ".cache/huggingface")} if (home / ".cache/huggingface").is_dir() else {}
        return {name: value for name, value in hub.items() if name not in os.environ} | {"HOME": folder}


def _allow_files() -> None:
    """Let this process and its children open more files, as far as the system allows it without being asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if resource.RLIM_INFINITY != soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if resource.RLIM_INFINITY != soft < OPEN_FILES:
        raise RuntimeError(
            f"only {soft} files may be open at once here, and jobs need {OPEN_FILES}: raise the limit (ulimit -Hn)"
        )
