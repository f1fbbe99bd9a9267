"""Start a Python module from a process that has already imported the heavy packages.

A study runs more than a hundred short jobs, and each would spend 4 to 8 s importing torch, timm and papermill before
it does anything. One server process imports them once and forks; a job then starts in a fraction of a second.

`python -m contamination.runner.fork_server MODULE ARGUMENT...` behaves like `python -m MODULE ARGUMENT...`: same
working directory, environment, output and exit status. It asks the server named in CONTAMINATION_WARM, and where there
is none (a cluster node, a notebook run by hand) it runs the module itself. The child dies with the process that asked
for it.
"""

import contextlib
import io
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from contamination.base.processes import die_with_parent

ADDRESS = "CONTAMINATION_WARM"
# Not pyplot: it must be imported inside the kernel, where the inline backend hooks into IPython.
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "torchmetrics.functional.classification",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "matplotlib",
    "ipykernel.kernelapp",
    "papermill",
)


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Run a server while the block lasts, for all processes started in it. It imports nothing before its first job."""
    with tempfile.TemporaryDirectory(prefix="contamination-") as folder:
        address = str(Path(folder) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(256)
            process = os.fork()
            if process == 0:
                _serve(listener)
        os.environ[ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def run(module: str, arguments: list[str]) -> int:
    """Run a module like `python -m` and return its exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ.get(ADDRESS, ""))
        except OSError:
            return _run_here(module, arguments)
        request = {"module": module, "arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        message = json.dumps(request).encode()
        socket.send_fds(connection, [len(message).to_bytes(4, "big")], [1, 2])
        connection.sendall(message)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is Snakemake's, which ends its jobs by SIGTERM
        status = connection.recv(1)  # empty when the child was killed
        return status[0] if status else 1


def _serve(listener: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the children
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the jobs; the server ends with its parent
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    os.environ["OMP_NUM_THREADS"] = "1"  # a process with threads cannot be forked safely
    parent, loaded = os.getppid(), False
    listener.settimeout(1.0)
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            if os.getppid() != parent:  # the sweep was killed
                os._exit(1)
            continue
        if not loaded:
            _load()
            loaded = True
        if os.fork() == 0:
            listener.close()
            _become(connection)
        connection.close()


def _load() -> None:
    import importlib

    # papermill's JSON-schema dependency builds a grammar for one second that no notebook needs.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    for package in PACKAGES:
        importlib.import_module(package)


def _become(connection: socket.socket) -> None:
    """Turn this forked process into the one that was asked for; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 1
    try:
        head, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
        request = json.loads(_receive(connection, int.from_bytes(head, "big")))
        for number, descriptor in zip((1, 2), descriptors, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout, sys.stderr = (_text_stream(number) for number in (1, 2))
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        threading.Thread(target=_exit_when_closed, args=(connection,), daemon=True).start()
        status = _run_here(request["module"], request["arguments"])
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
            connection.sendall(bytes([status]))
        os._exit(status)


def _text_stream(descriptor: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), line_buffering=True)


def _receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionError("the process that asked for this job is gone")
        data += part
    return data


def _exit_when_closed(connection: socket.socket) -> None:
    connection.recv(1)  # nothing is ever sent: this returns when the other end dies
    os._exit(1)


def _run_here(module: str, arguments: list[str]) -> int:
    import runpy
    import warnings

    # A module that the sweep has imported already runs once more as the job: as it should.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 255
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # whoever pressed Ctrl-C knows
        return 130
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    die_with_parent()
    sys.exit(run(sys.argv[1], sys.argv[2:]))
