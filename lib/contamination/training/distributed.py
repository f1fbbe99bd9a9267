"""The processes of one training: which of them this is, and how they average gradients."""

import contextlib
from collections.abc import Callable


def rank_and_world_size() -> tuple[int, int]:
    """The number of this process among those of its training, from 0, and how many these are."""
    import torch

    group = torch.distributed
    return (group.get_rank(), group.get_world_size()) if group.is_initialized() else (0, 1)


def wrap_ddp(model, loss_fn: Callable, *, device) -> tuple[Callable, Callable]:
    """The loss of one process's share, whose backward pass averages gradients over all; and what makes it wait.

    loss_fn: called with what the loss of a batch takes. The second is called with whether the gradients of a part of
    a batch are yet to be added to those of the next, and gives the context to compute that part in.
    """
    if rank_and_world_size()[1] == 1:
        return loss_fn, lambda waits: contextlib.nullcontext()
    from torch.nn.parallel import DistributedDataParallel

    devices = [device] if device.type == "cuda" else None
    worker = DistributedDataParallel(_worker(model, loss_fn), device_ids=devices, gradient_as_bucket_view=True)
    return worker, lambda waits: worker.no_sync() if waits else contextlib.nullcontext()


def _worker(model, loss_fn: Callable):
    """A module whose forward pass is the loss, as what averages gradients wants it, with the model's weights."""
    import torch

    class Worker(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *batch):
            return loss_fn(*batch)

    return Worker()


def mean(value):
    """The mean of a scalar tensor over all processes, on each."""
    import torch

    if rank_and_world_size()[1] == 1:
        return value
    value = value / rank_and_world_size()[1]
    torch.distributed.all_reduce(value)
    return value
