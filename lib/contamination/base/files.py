"""Files and folders that appear whole or not at all, and the record beside each result."""

import contextlib
import fcntl
import glob
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

RECORD = "record.json"
SYSTEM_FOLDERS = {  # of Synology and QNAP, of archives made by macOS, of Windows, of ext4
    *("@eaDir", "@tmp", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot", "__MACOSX"),
    *("$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__"),
}


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write to the yielded path beside `path`; it takes the place of `path` only when the block ends without error.

    Several processes may write the same path at once: each writes a whole file, and the last one stays.
    """
    _prepare(path)
    handle, scratch = _locked_file(path)
    try:
        yield scratch
        scratch.chmod(0o644)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
        os.close(handle)


def _locked_file(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked while this process lives, so that no other takes it for a killed writer's."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with contextlib.suppress(OSError):  # a file system without locks: there one writer at a time
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(name):  # if not, another process has removed it just before it was locked
            return handle, Path(name)
        os.close(handle)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill the yielded folder beside `path`; it takes the place of `path` only when the block ends without error."""
    _prepare(path)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield scratch
        scratch.chmod(0o755)
        if path.exists():
            # Two renames: a kill in between leaves no folder rather than a mixed one, and the job runs again.
            retired = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
            os.replace(path, retired)
            os.replace(scratch, path)
            shutil.rmtree(retired)
        else:
            os.replace(scratch, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _prepare(path: Path) -> None:
    """Make the folder and remove what a killed writer of the same path has left beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        shutil.rmtree(left) if left.is_dir() else _remove_unless_locked(left)


def _remove_unless_locked(file: Path) -> None:
    try:
        with open(file, "r+b") as stream, contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink(missing_ok=True)
    except FileNotFoundError:
        pass  # its writer has just ended


def sub_folders(folder: Path) -> list[str]:
    """The names of the sub-folders, sorted, without those that `is_left_alone` names."""
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_left_alone(entry.name))


def is_left_alone(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a file manager, network storage or an archive leaves behind."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def package_folder(name: str) -> Path:
    """Where an installed package lies. To import it for that may take seconds. Raises ImportError where it is not."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"package {name} is not installed")
    return Path(found.submodule_search_locations[0])


def write_json(path: Path, content: dict) -> None:
    with whole_file(path) as scratch:
        scratch.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def require(path: Path, made_by: str) -> Path:
    """Return `path`, or say in one line which stage makes it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {made_by} makes it, with the same parameters")
    return path


def fingerprint(content: dict | list) -> str:
    """A short hash of parameters: equal fingerprints, equal content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """SHA-256 of a file, the first 16 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def hash_files(path: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files below a folder, the first 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(path)} {hash_file(file)}\n".encode())
    return digest.hexdigest()[:16]


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, for the record beside a result."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
