"""Images per second of training: `loop.fit` against a bare loop and timm's way, in memory and read from JPEGs.

Every case has several ways that are measured in turn, again and again in one process: a ratio is that of two
measurements beside each other, to the first way of its case. The bare loop is the least that does the same arithmetic:
same model, optimizer, learning rates, autocast and memory format, its batches slices of what is held. timm's way is the
loop of its train.py: its optimizer, its prefetching loader, the loss read at every step, cuDNN choosing by trial. A
training is of 100,000 steps and stopped by a checkpoint that is never due; the first few do not count.
Reading takes random crops from JPEGs of the size of ImageNet's, made for this, with as many processes as there are
cores. The other tasks train by their own functions, random weights and images. On a GPU also the mean of its busy
share, as nvidia-smi tells it, and the most memory that tensors took. On a CPU loops without reading are timed by this
process's own time, for others on the machine do not count.
Prints one table in Markdown. `python tests/benchmarks/train_step.py`, on a GPU; on a CPU only the loops, of models for
that; `--small` shows on a CPU that all of it runs, and nothing of speed.
"""

import argparse
import contextlib
import functools
import gc
import importlib.metadata
import itertools
import multiprocessing
import os
import platform
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from contamination.base import devices, image_tables
from contamination.networks import timm_models
from contamination.tasks import captioning, classification, generation, pretraining
from contamination.training import reader
from torch.nn import functional

STEPS, RATE, DECAY, SMOOTHING = 100_000, 1e-3, 0.05, 0.1
STILL = {"shift": 0.0, "rotation": 0.0, "scale": 0.0, "flip": False}
LINKS = 20  # names of each JPEG: epochs as long as they are in practice
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "man", "on", "his", "motorcycle", "in", "street"]
FEW = 2  # measurements where there is no bare loop to compare with
COLUMNS = ("case", "way", "images/s", "of the first", "steps/s", "GPU busy", "peak GiB")


class Loop(NamedTuple):
    """A classification to measure. batch: images for each step, in as many parts as `accumulation` says."""

    architecture: str
    options: dict
    size: int
    batch: int
    compiled: bool = False
    accumulation: int = 1


class Task(NamedTuple):
    """A training of another task. module: of `contamination.tasks`. batch: images for each step."""

    module: object
    size: int
    batch: int
    options: dict


class Case(NamedTuple):
    """What is measured together.

    make_ways: called with device, threads and a folder, gives the ways, each to be called with a `Clock`. batch: images
    for each step. large: for a GPU alone. reads: whether images come from files.
    """

    make_ways: Callable
    batch: int
    large: bool = False
    reads: bool = False


class Found(NamedTuple):
    """What one measurement gave: steps per second, and of a GPU the share it was busy and GiB, else None."""

    rate: float
    busy: float | None
    memory: float | None


class Enough(Exception):
    """A measurement has taken its time."""


class Clock:
    """Stands where a checkpoint is, and is asked after each step. It is never due, and ends a training in time.

    warm: steps that do not count. least: how many are counted at least. now: what tells the seconds.
    """

    def __init__(self, device, seconds: float, warm: int, least: int, now: Callable[[], float]):
        self.device, self.seconds, self.least, self.now = device, seconds, least, now
        self.steps, self.busy, self.found = -warm, Busy(device), None

    def load(self) -> None:
        """Nothing to go on from."""

    @property
    def due(self) -> bool:
        self.tick()
        return False

    def tick(self) -> None:
        """Count a step; raise `Enough` where the time is up."""
        self.steps += 1
        if self.steps == 0:
            self._begin()
        elif self.steps >= self.least and self.now() - self.started >= self.seconds:
            self._end()
            raise Enough

    def _begin(self) -> None:
        synchronize(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.busy.start()
        self.started = self.now()

    def _end(self) -> None:
        synchronize(self.device)
        rate = self.steps / (self.now() - self.started)
        memory = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else None
        self.found = Found(rate, self.busy.stop(), memory)


class Busy:
    """Asks nvidia-smi twice a second which share of the time before a GPU was computing."""

    def __init__(self, device):
        self.thread = threading.Thread(target=self._ask, daemon=True) if device.type == "cuda" else None
        self.stopped, self.shares = threading.Event(), []

    def start(self) -> None:
        if self.thread:
            self.thread.start()

    def stop(self) -> float | None:
        """The mean, 0..1; None where there is no GPU, or one that does not tell."""
        self.stopped.set()
        if self.thread:
            self.thread.join()
        return statistics.mean(self.shares) if self.shares else None

    def _ask(self) -> None:
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]  # `devices.start` has written it
        command = ["nvidia-smi", f"--id={gpu}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self.stopped.wait(0.5):
            told = subprocess.run(command, capture_output=True, text=True).stdout.strip()
            if told.isdecimal():
                self.shares.append(int(told) / 100)


def synchronize(device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# Classification, images in memory


def ways_in_memory(loop: Loop, device, threads: int, folder: Path) -> dict[str, Callable]:
    """Each way has a model of its own, for it changes its weights."""
    torch.manual_seed(0)
    pixels = torch.randint(256, (4 * loop.batch, 3, loop.size, loop.size), dtype=torch.uint8, device=device)
    labels = torch.randint(1000, (len(pixels),), device=device)
    recipe = classification_recipe(loop, threads)
    build = functools.partial(timm_models.build, loop.architecture, loop.options, classes=1000)
    held = (reader.InMemoryImages(pixels), labels, recipe, 0, device)
    ways = {
        "bare loop": functools.partial(bare, build(), pixels, labels, recipe),
        "this project": functools.partial(classification.fit_labels, build(), *held),
    }
    if loop.accumulation == 1:
        make_loader = functools.partial(timm_prefetch, pixels, labels, loop.batch)
        ways["timm"] = functools.partial(timm_way, build(), make_loader, recipe, device)
    return ways


def classification_recipe(loop: Loop, threads: int) -> dict:
    machine = {"compiled": loop.compiled, "accumulation": loop.accumulation, "threads": threads}
    optimization = {"steps": STEPS, "batch_size": loop.batch, "learning_rate": RATE, "weight_decay": DECAY}
    return classification.Train(**machine, **optimization, **STILL, label_smoothing=SMOOTHING).model_dump()


def bare(model, pixels, labels, recipe: dict, clock: Clock) -> None:
    """What a training cannot do without. pixels: uint8 (n, 3, size, size), labels: int64 (n,), both on the device."""
    device, parts = pixels.device, recipe["accumulation"]
    model.to(device, memory_format=torch.channels_last if device.type == "cuda" else torch.contiguous_format).train()
    if recipe["compiled"]:
        model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS + 1)
    size = recipe["batch_size"] // parts
    batches = itertools.cycle(list(zip(pixels.split(size), labels.split(size), strict=True)))
    for _ in range(STEPS):
        for views, known in itertools.islice(batches, parts):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                scores = model(views.float().div(127.5).sub(1))
                error = functional.cross_entropy(scores, known, label_smoothing=SMOOTHING)
            (error / parts).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        clock.tick()


def timm_way(model, make_loader: Callable, recipe: dict, device, clock: Clock) -> None:
    """As timm's train.py does it, on a GPU with --amp --amp-dtype bfloat16 --channels-last.

    make_loader: gives what yields images as the model takes them and their labels, on the device.
    """
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2

    kind = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    model.to(device, memory_format=kind).train()
    if recipe["compiled"]:
        model.compile()
    optimizer = create_optimizer_v2(model, opt="adamw", lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS + 1)
    loss_fn = LabelSmoothingCrossEntropy(SMOOTHING)
    loader = make_loader()
    with torch.backends.cudnn.flags(enabled=True, benchmark=True):
        for views, known in itertools.chain.from_iterable(itertools.repeat(loader)):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                error = loss_fn(model(views.contiguous(memory_format=kind)), known)
            error.backward()
            optimizer.step()
            error.item()  # goes into the mean that it shows
            optimizer.zero_grad()
            schedule.step()
            clock.tick()


def timm_prefetch(pixels, labels, batch: int):
    from timm.data.loader import PrefetchLoader

    batches = list(zip(pixels.split(batch), labels.split(batch), strict=True))
    return PrefetchLoader(itertools.cycle(batches), device=pixels.device)


# Classification, random crops of JPEGs


def ways_from_files(loop: Loop, files: int, device, threads: int, folder: Path) -> dict[str, Callable]:
    from read_jpegs import read_in_place

    tree = make_photographs(folder / "photographs", files, threads)
    torch.manual_seed(0)
    recipe = classification_recipe(loop, threads) | {"crop": "random"}
    images = reader.load(read_in_place(tree), loop.size, recipe, device)
    labels = torch.randint(1000, (len(images),))
    build = functools.partial(timm_models.build, loop.architecture, loop.options, classes=1000)
    return {
        "timm": functools.partial(timm_way, build(), lambda: timm_loader(tree, loop, device, threads), recipe, device),
        "this project": functools.partial(classification.fit_labels, build(), images, labels, recipe, 0, device),
    }


def timm_loader(tree: Path, loop: Loop, device, threads: int):
    """The same crops, and no change of colors, which train.py would do besides."""
    from timm.data import create_dataset, create_loader

    return create_loader(
        create_dataset("", str(tree)),
        (3, loop.size, loop.size),
        loop.batch,
        is_training=True,
        color_jitter=0.0,
        interpolation="bicubic",
        num_workers=threads,
        pin_memory=device.type == "cuda",
        device=device,
    )


def make_photographs(folder: Path, count: int, threads: int) -> Path:
    """A tree of ten classes of `count` JPEGs, each of `LINKS` names; returns its path."""
    if not folder.exists():
        with multiprocessing.get_context("spawn").Pool(threads) as pool:
            pool.starmap(make_some, [(folder, range(first, count, threads)) for first in range(threads)])
    return folder


def make_some(folder: Path, numbers: range) -> None:
    from read_jpegs import encode, make_photograph

    for number in numbers:
        rng = np.random.default_rng(number)
        image = make_photograph(rng, *((500, 375) if number % 4 else (375, 500)))
        place = folder / f"class{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        first = place / f"{number:06d}-00.jpg"
        first.write_bytes(encode(image, "JPEG", quality=int(rng.integers(90, 96)), subsampling="4:2:0"))
        for link in range(1, LINKS):
            (place / f"{number:06d}-{link:02d}.jpg").hardlink_to(first)


# The other tasks


def ways_of_task(task: Task, device, threads: int, folder: Path) -> dict[str, Callable]:
    recipe = {"steps": STEPS, "batch_size": task.batch, "threads": threads}
    if task.module is pretraining:
        recipe |= STILL
    recipe = task.module.Train(**recipe).model_dump() | {"image_size": task.size}
    if task.module is captioning:
        recipe |= {"architecture": str(save_captioner(folder / "captioner", task.size, task.options)), "options": {}}
    else:
        recipe |= {"architecture": task.module.FROM_SCRATCH, "options": task.options}
    images = random_images(task.batch, task.size)
    return {"this project": functools.partial(task.module.train, recipe, images, None, 0, device)}


def random_images(count: int, size: int) -> pa.Table:
    """Of noise, with captions of the usual length."""
    rng = np.random.default_rng(0)
    data = [image_tables.encode(rng.integers(256, size=(size, size, 3), dtype=np.uint8)) for _ in range(count)]
    captions = [" ".join(rng.choice(WORDS[6:], 10)) for _ in range(count)]
    image = pa.array([{"bytes": each, "path": None} for each in data], image_tables.IMAGE)
    names = [str(number) for number in range(count)]
    return pa.table({"image": image, "id": names, "label": rng.integers(10, size=count), "caption": captions})


def save_captioner(folder: Path, size: int, options: dict) -> Path:
    """A BLIP as the hub has them: that of BLIP-base but for what the options say, with random weights."""
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        logging,
    )

    logging.disable_progress_bar()
    if not folder.exists():
        tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(WORDS)})
        text = {"bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3, "num_attention_heads": 12}
        vision = {"image_size": size, "initializer_range": 0.02}
        config = BlipConfig(text_config=text | options, vision_config=vision | options)
        BlipProcessor(BlipImageProcessor(size={"height": size, "width": size}), tokenizer).save_pretrained(folder)
        BlipForConditionalGeneration(config).save_pretrained(folder)
    return folder


# Measuring


def measure(work: Callable, clock: Clock) -> Found:
    """work: a training, called with a checkpoint."""
    with contextlib.suppress(Enough):
        work(clock)
    return clock.found


def compare(name: str, case: Case, ways: dict[str, Callable], pairs: int, make_clock: Callable[[], Clock]) -> None:
    """Measure all ways in turn, `pairs` times, and print a row for each."""
    found = {way: [] for way in ways}
    for number in range(pairs):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            found[way].append(measure(ways[way], make_clock()))
    first = next(iter(found.values()))
    for way, results in found.items():
        ratios = [one.rate / other.rate for one, other in zip(results, first, strict=True)]
        rates = [one.rate for one in results]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}, n={pairs}"
        ratio = f"{statistics.median(ratios):.3f} ({spread})" if results is not first else "-"
        speed = statistics.median(rates)
        images = "{:,.0f} ({:,.0f} to {:,.0f})".format(*(case.batch * rate for rate in (speed, min(rates), max(rates))))
        print_row(name, way, images, ratio, f"{speed:.3f}", *in_words(results))


def in_words(results: list[Found]) -> tuple[str, str]:
    """Busy share and memory."""
    if results[0].memory is None:
        return "no GPU", "no GPU"
    shares = [one.busy for one in results if one.busy is not None]
    busy = f"{statistics.mean(shares):.0%}" if shares else "not told"
    return busy, f"{max(one.memory for one in results):.1f}"


def print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


# What is measured


def loops(device, small: bool) -> dict[str, Loop]:
    """Classifications in memory."""
    if small:
        tiny = {"channels": [8, 16, 16, 16], "stem_width": 8}
        return {
            "tiny resnet, 8 a step": Loop("resnet10t", tiny, 32, 8),
            "tiny resnet, 8 a step, compiled": Loop("resnet10t", tiny, 32, 8, compiled=True),
            "tiny resnet, 8 a step in 2 parts": Loop("resnet10t", tiny, 32, 8, accumulation=2),
        }
    if device.type == "cpu":
        convnext = {"dims": [32, 64, 128, 256]}
        return {
            "ResNet-18, 32 px, 32 a step": Loop("resnet18", {}, 32, 32),
            "ResNet-18, 32 px, 32 a step, compiled": Loop("resnet18", {}, 32, 32, compiled=True),
            "ResNet-18, 32 px, 32 a step in 2 parts": Loop("resnet18", {}, 32, 32, accumulation=2),
            "small ConvNeXt, 64 px, 32 a step": Loop("convnext_atto", convnext, 64, 32),
        }
    return {
        "ResNet-50, 224 px, 256 a step": Loop("resnet50", {}, 224, 256),
        "ResNet-50, 224 px, 256 a step, compiled": Loop("resnet50", {}, 224, 256, compiled=True),
        "ResNet-50, 224 px, 512 a step": Loop("resnet50", {}, 224, 512),
        "ResNet-50, 224 px, 512 a step, compiled": Loop("resnet50", {}, 224, 512, compiled=True),
        "ResNet-50, 224 px, 256 a step in 2 parts": Loop("resnet50", {}, 224, 256, accumulation=2),
    }


def loops_from_files(small: bool) -> dict[str, Loop]:
    if small:
        return {"JPEGs, tiny resnet": Loop("resnet10t", {"channels": [8, 16, 16, 16], "stem_width": 8}, 32, 8)}
    return {
        "JPEGs, ResNet-50, 224 px, 256 a step": Loop("resnet50", {}, 224, 256),
        "JPEGs, ResNet-50, 224 px, 512 a step, compiled": Loop("resnet50", {}, 224, 512, compiled=True),
    }


def tasks(small: bool) -> dict[str, Task]:
    if small:
        return small_tasks()
    return {
        "BLIP-base, 384 px, 64 a step": Task(captioning, 384, 64, {}),
        "U-Net of improved DDPM, 64 px, 128 a step": Task(generation, 64, 128, IMPROVED_DDPM),
        "MAE of ViT-B/16, 224 px, 256 a step": Task(pretraining, 224, 256, {}),
    }


def small_tasks() -> dict[str, Task]:
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    decoder = {f"decoder_{name}": value for name, value in sizes.items()}
    blocks = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    return {
        "tiny BLIP, 4 a step": Task(captioning, 32, 4, sizes),
        "tiny U-Net, 4 a step": Task(generation, 16, 4, blocks | {"block_out_channels": [8, 8], "norm_num_groups": 4}),
        "tiny MAE, 4 a step": Task(pretraining, 32, 4, sizes | decoder),
    }


IMPROVED_DDPM = {  # as for ImageNet at 64 px
    "block_out_channels": [128, 256, 384, 512],
    "down_block_types": ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
    "layers_per_block": 3,
    "attention_head_dim": 64,
    "resnet_time_scale_shift": "scale_shift",
}


def cases(device, small: bool, files: int) -> dict[str, Case]:
    found = {}
    for name, loop in loops(device, small).items():
        found[name] = Case(functools.partial(ways_in_memory, loop), loop.batch)
    for name, loop in loops_from_files(small).items():
        found[name] = Case(functools.partial(ways_from_files, loop, files), loop.batch, large=not small, reads=True)
    for name, task in tasks(small).items():
        found[name] = Case(functools.partial(ways_of_task, task), task.batch, large=not small)
    return found


def run_case(name: str, case: Case, device, chosen, folder: Path) -> None:
    """Measure one case; say so where a package is missing."""
    if case.large and device.type == "cpu":
        return print_row(name, "no GPU", *["-"] * (len(COLUMNS) - 2))
    try:
        ways = case.make_ways(device, chosen.threads, folder)
        pairs = chosen.pairs if "bare loop" in ways else FEW
        compare(name, case, ways, pairs, lambda: make_clock(case, device, chosen))
    except ModuleNotFoundError as error:
        print_row(name, f"needs {error.name}, which is missing here", *["-"] * (len(COLUMNS) - 2))
    torch.compiler.reset()  # else it would allow for any batch size in what it compiles for the next case
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def make_clock(case: Case, device, chosen) -> Clock:
    least = 3 if chosen.small else 20
    if case.reads:  # several processes run at their own pace only after what they have read ahead
        return Clock(device, 3 * chosen.seconds, 2 * chosen.threads + 2, least, time.perf_counter)
    if device.type == "cuda":
        return Clock(device, chosen.seconds, 5, least, time.perf_counter)
    return Clock(device, chosen.seconds, 3, least, time.process_time)


def print_head(device, threads: int) -> None:
    names = ("torch", "timm", "diffusers", "transformers", "simplejpeg")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    gpu = device.type == "cuda"
    place = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if gpu else f"{platform.machine()}, no GPU"
    print(f"{place}, {threads} threads; Python {platform.python_version()}, {versions}\n")
    print_row(*COLUMNS)
    print_row("---", "---", *["---:"] * (len(COLUMNS) - 2))


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="cases with one of these in their name")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a measurement; three times as many from JPEGs")
    parser.add_argument("--pairs", type=int, default=7, help=f"measurements of each way; {FEW} without a bare loop")
    parser.add_argument("--files", type=int, default=2000, help="JPEGs to read")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args()
    if chosen.small:
        chosen.seconds, chosen.pairs, chosen.files = 0.2, 2, 20
    device = devices.start(chosen.threads)
    print_head(device, chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases(device, chosen.small, chosen.files).items():
            if any(part in name for part in chosen.only):
                run_case(name, case, device, chosen, Path(folder))


if __name__ == "__main__":
    main()
