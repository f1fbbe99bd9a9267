"""The training loop of every task: as many optimizer steps and images seen, whatever the mixture holds."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from contamination.base import by_hand
from contamination.training import distributed, optimizers
from contamination.training.settings import AffineAugmentation, Runtime


def normalize(images):
    """uint8 (n, 3, size, size) to float in -1..1."""
    return images.float().div(127.5).sub(1)


class SharedRandom:
    """Random numbers of a training, the same for any number of processes: each takes its share of all.

    On a GPU they are drawn there. What a model draws itself, such as dropout, does not come from here.
    """

    def __init__(self, seed: int, device, process: int = 0, count: int = 1):
        import torch

        place = device if device.type == "cuda" else "cpu"
        self.generator = torch.Generator(place).manual_seed(seed)
        self.seed, self.process, self.processes = seed, process, count
        self.device, self.batch = device, 0

    def uniform(self, *shape: int, images: int = 0):
        """Float of this shape in 0..1, on the device; along the dimension `images` it has this process's images."""
        import torch

        return self._share(torch.rand, shape, images)

    def normal(self, *shape: int):
        """The same of mean 0 and standard deviation 1; the first dimension is that of the images."""
        import torch

        return self._share(torch.randn, shape, 0)

    def integers(self, high: int, count: int):
        """int64 (count,), 0 to high - 1, on the device."""
        import torch

        return self._share(lambda shape, **place: torch.randint(high, shape, **place), (count,), 0)

    def state(self) -> tuple:
        """What `restore` goes on from."""
        return self.batch, self.generator.get_state()

    def restore(self, state: tuple) -> None:
        self.batch, numbers = state
        self.generator.set_state(numbers)

    def together(self) -> np.random.Generator:
        """For what all images of the present batch, on all processes, have in common."""
        return np.random.default_rng([self.seed, 8, self.batch])

    def _share(self, draw, shape: tuple[int, ...], images: int):
        own = shape[images]
        whole = (*shape[:images], own * self.processes, *shape[images + 1 :])
        numbers = draw(whole, generator=self.generator, device=self.generator.device)
        return numbers.narrow(images, own * self.process, own).to(self.device)


def index_below(fraction, count):
    """The position, int64 from 0 to count - 1, that a random fraction stands for: float in 0..1, of any shape.

    In float32 a fraction just below 1 may round to `count` once something is added to it; that is one position too
    many, and would end a training with an IndexError once in a million steps. count: a number, or a tensor of them.
    """
    import torch

    count = torch.as_tensor(count, device=fraction.device)
    return torch.minimum((fraction * count).floor(), count - 1).long()


def augment(images, moves: dict, draws: SharedRandom):
    """A random affine map per image, all in one call; what lies outside repeats the border.

    images: float (n, 3, size, size). moves: the fields of `settings.AffineAugmentation`: shift (the greatest, share of
    the side), rotation (the greatest angle, degrees), scale (the greatest relative change of size), flip (mirror half
    of them).
    """
    import torch

    if not any(moves[name] for name in AffineAugmentation.model_fields):
        return images
    with torch.autocast(images.device.type, enabled=False):  # in 16 bits places would be pixels off
        return _moved(images, moves, draws)


def _moved(images, moves: dict, draws: SharedRandom):
    import torch
    import torch.nn.functional as functional

    count = len(images)
    uniform = draws.uniform(5, count, images=1) * 2 - 1
    angle, zoom = uniform[0] * math.radians(moves["rotation"]), 1 + uniform[1] * moves["scale"]
    mirror = torch.where(uniform[4] < 0, -1.0, 1.0) if moves["flip"] else torch.ones_like(uniform[4])
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    # affine_grid counts in halves of the side, hence the factor 2.
    right, down = uniform[2:4] * moves["shift"] * 2
    rows = [cosine * mirror, -sine, right, sine * mirror, cosine, down]
    maps = torch.stack(rows, dim=1).view(count, 2, 3)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def batches(
    count: int, batch_size: int, *, steps: int, seed: int, done: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches after the first `done` of `steps`: exactly `batch_size` images each, epoch by epoch in random order.

    Yields positions and the epoch of each, int64 (batch_size,): a batch may hold the end of one epoch and the beginning
    of the next. A set of any size gives the same number of batches of the same size: every arm sees as many images.
    """
    rng = np.random.default_rng([seed, 4])
    queue = np.empty(0, dtype=np.int64)
    for step in range(steps):
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(count)])
        batch, queue = queue[:batch_size], queue[batch_size:]
        if step >= done:
            yield batch, (step * batch_size + np.arange(batch_size)) // count


def split_batches(plan: Iterable[tuple[np.ndarray, ...]], parts: int, process: int, count: int) -> Iterator[tuple]:
    """Every batch in `parts` parts, one after another, and of each part what one of the processes takes."""
    for batch in plan:
        for part in zip(*(np.split(each, parts) for each in batch), strict=True):
            yield tuple(np.split(each, count)[process] for each in part)


def fit(model, loss, *, images, recipe: dict, seed: int, device, checkpoint=None) -> tuple[Any, list[dict]]:
    """Fit a model and return it, in evaluation mode, with its history: a line for every twentieth of the steps.

    loss: called as `loss(model, pixels, index, draws)` with a batch on the device, uint8 (n, 3, size, size), the
    positions of its images, int64 (n,), and `SharedRandom`; gives a scalar tensor, a mean over the images. images: as
    `reader.load` gives them, or `reader.InMemoryImages`. recipe: the fields of `settings.Optimization`, and of
    `settings.Runtime` where they are not at their default; `threads` read ahead. checkpoint: a `checkpoints.Checkpoint`
    that the training is written to, and taken up from where it holds one.
    Where several processes have been started (`launch`), each calls this alike and takes its share of every batch.
    Where `ema_decay` is not 0, what is returned is the moving average of the weights.
    Raises ValueError naming step, learning rate and the last good state when the loss is no longer a number.
    """
    import torch

    runtime = Runtime(**{name: recipe[name] for name in Runtime.model_fields if name in recipe})
    # Channels last is faster on a GPU, and slower on a CPU for images this small.
    model = model.to(device, memory_format=torch.channels_last if device.type == "cuda" else torch.contiguous_format)
    fitting = TrainState(model, recipe, seed, device)
    if checkpoint:
        fitting.restore(checkpoint.load())
    if runtime.compiled:
        model.compile()
    loss_fn, no_sync = distributed.wrap_ddp(model, lambda *batch: loss(model, *batch, fitting.draws), device=device)
    plan = batches(len(images), recipe["batch_size"], steps=recipe["steps"], seed=seed, done=fitting.step)
    # Of a GPU's job as many as `devices.start` has left it.
    threads = recipe["threads"] if device.type == "cpu" else torch.get_num_threads()
    stream = images.stream(split_batches(plan, runtime.accumulation, *distributed.rank_and_world_size()), threads)
    model.train()
    for _ in by_hand.progress(range(fitting.step, recipe["steps"]), f"seed {seed}", total=recipe["steps"]):
        fitting.seed_step()
        errors = []
        for part in range(runtime.accumulation):
            index, pixels = next(stream)
            fitting.draws.batch += 1
            with no_sync(part + 1 < runtime.accumulation):
                with torch.autocast(device.type, torch.bfloat16, enabled=fitting.mixed):
                    error = loss_fn(pixels.to(device, non_blocking=True), index.to(device, non_blocking=True))
                (error / runtime.accumulation).backward()
            errors.append(error.detach())
        fitting.advance(sum(errors) / len(errors))
        if (
            checkpoint
            and distributed.rank_and_world_size()[0] == 0
            and (checkpoint.due or fitting.step == recipe["steps"])
        ):
            checkpoint.save(fitting.state())
    return fitting.result.eval(), fitting.history


class TrainState:
    """What changes while a model is fitted: weights and their moving average, optimizer, random numbers, history."""

    def __init__(self, model, recipe: dict, seed: int, device):
        self.model, self.recipe, self.seed, self.step = model, recipe, seed, 0
        self.mixed = recipe["mixed_precision"] and device.type == "cuda"
        self.average = averaged(model, recipe["ema_decay"]) if recipe["ema_decay"] else None
        self.optimizer = optimizers.make_optimizer(model, recipe)
        self.schedule = optimizers.make_schedule(self.optimizer, recipe)
        self.draws = SharedRandom(seed, device, *distributed.rank_and_world_size())
        self.every = max(1, recipe["steps"] // 20)
        self.history: list[dict] = []
        self.losses: list = []  # of each step since the last line of the history
        self.rates: list[float] = []

    def seed_step(self) -> None:
        """So that dropout and the like are the same after a pause as without; others on each process."""
        import torch

        place = [self.seed, 9, self.step, distributed.rank_and_world_size()[0]]
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes ten times as long
        if self.draws.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    @property
    def result(self):
        return self.model if self.average is None else self.average.module

    def advance(self, error) -> None:
        """One step of the optimizer by the gradients that have been gathered. error: the loss of this step."""
        optimizers.clip(self.model, self.recipe)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        rate = self.schedule.get_last_lr()[0]
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        self.losses.append(distributed.mean(error))
        self.rates.append(rate)
        # Not at every step: it waits for the device.
        if self.step % self.every == 0 or self.step == self.recipe["steps"]:
            self._write_line()

    def _write_line(self) -> None:
        import torch

        self.require_finite()
        mean, seen = torch.stack(self.losses).mean().item(), self.step * self.recipe["batch_size"]
        self.history.append({"step": self.step, "images_seen": seen, "loss": mean, "learning_rate": self.rates[-1]})
        self.losses.clear()
        self.rates.clear()

    def require_finite(self) -> None:
        """Raise ValueError where a loss since the last line of the history is no number."""
        import torch

        if self.losses:
            _require_finite(torch.stack(self.losses).tolist(), self.rates, self.step, self.history)

    def state(self) -> dict:
        """What `restore` goes on from; of a finished training what it has made is enough.

        Raises ValueError where the loss is no longer a number: there is nothing to go on from.
        """
        import torch

        self.require_finite()
        state = {"step": self.step, "history": self.history}
        if self.step == self.recipe["steps"]:
            return state | {"model": self.result.state_dict()}
        return state | {
            "model": self.model.state_dict(),
            "average": self.average and self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "draws": self.draws.state(),
            "losses": torch.stack(self.losses) if self.losses else torch.empty(0),
            "rates": self.rates,
        }

    def restore(self, state: dict | None) -> None:
        if state is None:
            return
        self.step, self.history = state["step"], state["history"]
        if self.step == self.recipe["steps"]:
            self.result.load_state_dict(state["model"])
            return
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.draws.restore(state["draws"])
        self.losses, self.rates = list(state["losses"].to(self.draws.device)), state["rates"]


def _require_finite(losses: list[float], rates: list[float], step: int, history: list[dict]) -> None:
    """losses, rates: since the last line of the history; the newest belongs to `step`."""
    for position, (value, rate) in enumerate(zip(losses, rates, strict=True)):
        if not math.isfinite(value):
            good = f"loss {history[-1]['loss']:.3g} at step {history[-1]['step']}" if history else "the first weights"
            raise ValueError(
                f"loss is {value} at step {step - len(losses) + position + 1}, learning rate {rate:.2g}; "
                f"last good state: {good}; lower the learning rate"
            )


def averaged(model, decay: float):
    """An `AveragedModel` that holds the exponential moving average of all weights and buffers, from the first on."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    move = get_ema_multi_avg_fn(decay)

    def update(means: list, values: list, _) -> None:
        if means[0].is_floating_point():
            move(means, values, _)
        else:  # a count, or the numbers of positions: their average, cut to integers, would be none of them
            for mean, value in zip(means, values, strict=True):
                mean.copy_(value)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True).eval()
    average.n_averaged.fill_(1)  # else the first step would replace the first weights instead of averaging
    return average
