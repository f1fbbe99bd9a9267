"""Execute one notebook headlessly."""

import json
import logging
import os
import sys
import tempfile
from pathlib import Path

from contamination.base import by_hand

PATIENCE = 600  # seconds for what a kernel does at once; on a machine with too much to do it may take a minute


def execute(notebook: Path, output: Path, parameters: dict, log: Path) -> None:
    """Execute a notebook with papermill; the executed copy appears at `output` only on success.

    While it runs, and after a failure, the copy so far is at `log`. Raises ValueError for parameters that the notebook
    does not declare (papermill alone only warns) and RuntimeError in one line when a cell fails.
    """
    import papermill

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it says at length, the errors below say in a line
    _refuse_unknown(notebook, parameters)
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-") as sockets, by_hand.sweep():
        try:
            papermill.execute_notebook(
                notebook,
                log,
                parameters,
                kernel_name="python3",
                progress_bar=False,
                kernel_manager_class=_kernel_manager(sockets),
                coalesce_streams=True,
                start_timeout=PATIENCE,
                iopub_timeout=PATIENCE,
            )
        except papermill.PapermillExecutionError as error:
            raise RuntimeError(f"{notebook.name}: {error.ename}: {_one_line(error.evalue)} (see {log})") from None
        except RuntimeError as error:  # nbclient's, for a kernel that died while starting or later
            raise RuntimeError(
                f"{notebook.name}: the kernel died ({_one_line(str(error))}); out of memory or killed (see {log})"
            ) from None
    output.parent.mkdir(parents=True, exist_ok=True)
    os.replace(log, output)


def _kernel_manager(sockets: str) -> type:
    """A kernel manager class that starts this very interpreter, through the warm server where there is one.

    sockets: an empty folder. Unix sockets in it cannot clash with another kernel's, as ports can.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class WarmKernelManager(AsyncKernelManager):
        kernel_spec = KernelSpec(**get_kernel_dict())  # a user's own of this name may set an environment

        @default("transport")
        def _unix_sockets(self) -> str:
            return "ipc"

        @default("connection_file")
        def _own_folder(self) -> str:
            return f"{sockets}/kernel.json"

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            kernel = [
                sys.executable,
                "-m",
                "contamination.runner.fork_server",
                "ipykernel_launcher",
                "-f",
                self.connection_file,
            ]
            # 1 switches off ipykernel's watch over its parent, which is another process here; warm has its own.
            return [*kernel, "--IPKernelApp.parent_handle=1", *(extra_arguments or [])]

    return WarmKernelManager


def _refuse_unknown(notebook: Path, parameters: dict) -> None:
    import papermill

    declared = papermill.inspect_notebook(str(notebook))
    unknown = sorted(set(parameters) - set(declared))
    if unknown:
        known = ", ".join(declared)
        raise ValueError(f"{notebook.name} has no parameter {', '.join(unknown)}; it declares {known}")


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    source, target, study, *values = sys.argv[1:]  # values: one object of parameters or more
    executed = Path(target)
    log = Path(study) / "logs" / executed.relative_to(study)
    try:
        execute(Path(source), executed, {key: value for each in values for key, value in json.loads(each).items()}, log)
    except OSError as problem:  # of the executed notebook itself, such as a full disk
        sys.exit(f"contamination: {Path(source).name}: {problem}")
    except (ValueError, RuntimeError) as problem:
        sys.exit(f"contamination: {problem}")
