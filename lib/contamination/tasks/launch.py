"""A training in several processes, each with a GPU of its own where there are GPUs, started from inside a notebook.

The processes are new ones: forks of a notebook's kernel can neither use a GPU that it has touched nor, safely, the
threads of its libraries. Each runs the task's own `train` on its share of every batch.
"""

import os
import tempfile
import time
from pathlib import Path

from contamination import tasks
from contamination.base import processes
from contamination.base.layout import Layout
from contamination.mixtures import mixing
from contamination.training.checkpoints import Checkpoint

WAIT = 5  # seconds


def train(recipe: dict, manifest: Path, layout: Layout, seed: int, device, checkpoint: Checkpoint) -> tuple:
    """What the task's `train` gives for a mixture: the trained model on the device and its history.

    recipe: the fields of the task's `Train` and the point of the grid. manifest: as 02_mix writes it. A training that
    the checkpoint holds the whole of is not done again, one that it holds a part of goes on from there.
    Raises RuntimeError in one line where one of the processes fails, ValueError where there are too few GPUs.
    """
    done = (checkpoint.load() or {"step": 0})["step"]
    if done:
        print(f"seed {seed}: goes on from step {done} of {recipe['steps']}, where an earlier start ended")
    if recipe["processes"] > 1 and done < recipe["steps"]:
        _in_processes(recipe, manifest, layout, seed, device, checkpoint)
    return _train(recipe, manifest, layout, seed, device, checkpoint)


def _train(recipe: dict, manifest: Path, layout: Layout, seed: int, device, checkpoint: Checkpoint) -> tuple:
    images = mixing.gather(layout, mixing.read_manifest(manifest))
    return tasks.load(recipe["task"]).train(recipe, images, layout, seed, device, checkpoint)


def _in_processes(recipe: dict, manifest: Path, layout: Layout, seed: int, device, checkpoint: Checkpoint) -> None:
    """Run the training to its end; what it has made is then in the checkpoint."""
    import torch
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

    count = recipe["processes"]
    seen = torch.cuda.device_count() if device.type == "cuda" else count
    if seen < count:
        raise ValueError(f"processes: {count}, but this job sees {seen} GPUs: each needs one of its own")
    recipe = recipe | {"threads": max(1, torch.get_num_threads() // count)}  # they share those of the job
    # Each would start as many compilers as there are cores; read when torch is loaded, so before they start.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(recipe["threads"]))
    with tempfile.TemporaryDirectory(prefix="processes-") as folder:
        arguments = (recipe, manifest, layout, seed, device.type, checkpoint, folder)
        try:
            start_processes(_process, arguments, nprocs=count, start_method="spawn")
        except ProcessRaisedException as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise RuntimeError(f"a process of {count} failed: {lines[-1]}") from None
        except ProcessExitedException as error:
            raise RuntimeError(f"a process of {count} died ({error}); out of memory or killed") from None


def _process(process: int, recipe: dict, manifest, layout, seed: int, kind: str, checkpoint, folder: str) -> None:
    """The life of one process. folder: a place on this machine where they find each other."""
    import torch

    processes.die_with_parent()
    count = recipe["processes"]
    os.environ["OMP_NUM_THREADS"] = str(recipe["threads"])
    torch.set_num_threads(recipe["threads"])
    device = torch.device(kind, process) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(device)
    meeting = f"file://{folder}/meeting"  # a port could be another training's
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo", meeting, rank=process, world_size=count)
    try:
        _train(recipe, manifest, layout, seed, device, checkpoint)
    except RuntimeError:
        time.sleep(WAIT)  # perhaps only the end of another, which then has the time to say why
        raise
    torch.distributed.barrier()  # nobody leaves before the first has written the end
    torch.distributed.destroy_process_group()
