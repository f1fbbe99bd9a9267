"""The training loop of every task: as many optimiser steps and images seen, whatever the mixture holds."""

import copy
import math

import numpy as np


def normalise(images):
    """uint8 (n, 3, size, size) to float in -1..1."""
    return images.float().div(127.5).sub(1)


def augment(images, moves: dict, generator):
    """A random affine map per image, all in one call; what lies outside repeats the border.

    images: float (n, 3, size, size). moves: the fields of `sections.Moves`: shift (the greatest, share of the side),
    rotation (the greatest angle, degrees), scale (the greatest relative change of size), flip (mirror half of them).
    """
    import torch
    import torch.nn.functional as functional

    count = len(images)
    uniform = torch.rand(5, count, generator=generator) * 2 - 1
    angle, zoom = uniform[0] * math.radians(moves["rotation"]), 1 + uniform[1] * moves["scale"]
    mirror = torch.where(uniform[4] < 0, -1.0, 1.0) if moves["flip"] else torch.ones(count)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # affine_grid counts in halves of the side, hence the factor 2.
    right, down = uniform[2:4] * moves["shift"] * 2
    rows = [cosine * mirror, -sine, right, sine * mirror, cosine, down]
    maps = torch.stack(rows, dim=1).view(count, 2, 3).to(images.device)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def batches(count: int, batch_size: int, steps: int, seed: int):
    """`steps` index batches of exactly `batch_size`, epoch after epoch in random order.

    A set of any size gives the same number of batches of the same size: every arm sees as many images.
    """
    rng = np.random.default_rng([seed, 4])
    queue = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(count)])
        batch, queue = queue[:batch_size], queue[batch_size:]
        yield batch


def fit(model, loss, images, recipe: dict, seed: int, device) -> tuple[object, list[dict]]:
    """Fit a model and return it, in evaluation mode, with its history: a line for every twentieth of the steps.

    loss: called as `loss(model, pixels, index)` with a batch on the device, uint8 (batch_size, 3, size, size), and the
    positions of its images, int64 (batch_size,); gives a scalar tensor. images: as `reader.load` gives them, or
    `reader.Held`. recipe: the fields of `sections.Optimisation`; `threads` read ahead.
    Where `ema_decay` is not 0, what is returned is the moving average of the weights.
    Raises ValueError naming step, learning rate and the last good state when the loss is no longer a number.
    """
    import torch

    # Channels last is faster on a GPU, and slower on a CPU for images this small.
    model = model.to(device, memory_format=torch.channels_last if device.type == "cuda" else torch.contiguous_format)
    average = copy.deepcopy(model).eval() if recipe["ema_decay"] else None
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe["learning_rate"], weight_decay=recipe["weight_decay"], fused=True)
    schedule = make_schedule(optimizer, recipe)
    model.train()
    history, losses = [], []
    every = max(1, recipe["steps"] // 20)
    plan = batches(len(images), recipe["batch_size"], recipe["steps"], seed)
    for step, (index, pixels) in enumerate(images.stream(plan, recipe["threads"]), start=1):
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe["mixed_precision"] and device.type == "cuda"):
            error = loss(model, pixels.to(device), index.to(device))
        optimizer.zero_grad(set_to_none=True)
        error.backward()
        optimizer.step()
        rate = schedule.get_last_lr()[0]
        schedule.step()
        if average is not None:
            update_average(average, model, recipe["ema_decay"])
        losses.append((error.detach(), rate))
        if step % every == 0 or step == recipe["steps"]:  # not at every step: it waits for the device
            _require_finite(losses, step, history)
            mean = torch.stack([value for value, _ in losses]).mean().item()
            history.append({"step": step, "images_seen": step * recipe["batch_size"], "loss": mean, "rate": rate})
            losses.clear()
    return (average if average is not None else model).eval(), history


def _require_finite(losses: list, step: int, history: list[dict]) -> None:
    """losses: (loss, learning rate) since the last line of the history; the newest belongs to `step`."""
    for position, (value, rate) in enumerate(losses):
        if not math.isfinite(value.item()):
            good = f"loss {history[-1]['loss']:.3g} at step {history[-1]['step']}" if history else "the first weights"
            raise ValueError(
                f"loss is {value.item()} at step {step - len(losses) + position + 1}, learning rate {rate:.2g}; "
                f"last good state: {good}; lower the learning rate"
            )


def make_schedule(optimizer, recipe: dict):
    """The learning rate over the steps: one-cycle (30 % rise, then cosine to zero) or cosine alone."""
    import torch

    steps = recipe["steps"]
    if recipe["schedule"] == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe["learning_rate"], total_steps=steps + 1)
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def update_average(average, model, decay: float) -> None:
    """Move the exponential moving average of all weights and buffers one step towards the model."""
    import torch

    with torch.no_grad():
        # Not over state_dict, which lists a weight that two layers share twice.
        for mean, now in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
        for mean, now in zip(average.buffers(), model.buffers(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)
