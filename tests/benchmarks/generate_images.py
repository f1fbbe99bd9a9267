"""Images per second of Stable Diffusion 1 at its true architecture: three ways to draw and store the same images.

Random weights, for speed does not depend on them. Beside each other in one process: one prompt per call in float32, as
the original generation scripts do; one prompt per call in float16, the first lines of diffusers' documentation; and
this project's way, a batch in bfloat16 through `shards.write`, with and without torch.compile. Prints images per
second with their ratios, and which share of the matrix ceiling (a bfloat16 product of 8192 x 8192, measured here) each
reaches: operations counted by torch's FlopCounterMode on one image.
`python tests/benchmarks/generate_images.py`, on a GPU; `--small` shows on a CPU that it runs, and nothing of speed.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import diffusers
import torch
from contamination.generators import codecs, pipelines, shards, text_to_image
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

PROMPTS = ["photo of tench", "photo of great white shark", "photo of tabby cat", "photo of container ship"]


def save_pipeline(folder: Path, small: bool) -> None:
    """diffusers' classes with the sizes of Stable Diffusion 1: 860, 84 and 123 million parameters."""
    torch.manual_seed(0)
    share = 16 if small else 1
    tokenizer = text_to_image.train_tokenizer(PROMPTS, 400, length=77)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768 // share,
            intermediate_size=3072 // share,
            num_hidden_layers=12 // min(share, 6),
            num_attention_heads=12 // min(share, 6),
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    denoiser = diffusers.UNet2DConditionModel(
        sample_size=64 // share,
        cross_attention_dim=768 // share,
        attention_head_dim=8,
        block_out_channels=tuple(32 * max(1, width // 32 // share) for width in (320, 640, 1280, 1280)),
    )
    autoencoder = diffusers.AutoencoderKL(
        block_out_channels=tuple(max(32, width // share) for width in (128, 256, 512, 512)),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512 // share,
    )
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, clip_sample=False
    )
    text_to_image.assemble(
        autoencoder, text_encoder, tokenizer=tokenizer, denoiser=denoiser, scheduler=scheduler
    ).save_pretrained(folder)


def ceiling(device) -> float:
    """Operations per second of a large bfloat16 product: the median of 20."""
    side = 8192 if device.type == "cuda" else 1024
    first, second = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = [seconds(lambda: first @ second, device) for _ in range(25)][5:]
    return 2 * side**3 / statistics.median(times)


def seconds(work, device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def operations(pipeline, settings: dict) -> int:
    """Of one image, all its steps."""
    with FlopCounterMode(display=False) as counter:
        pipelines.sample(pipeline, PROMPTS[:1], [0], settings)
    return counter.get_total_flops()


def one_by_one(pipeline, images: int, settings: dict, folder: Path) -> None:
    """The plain loop: draw one image, save one file."""
    for number in range(images):
        generator = torch.Generator(pipeline.device).manual_seed(number)
        drawn = pipeline(PROMPTS[number % len(PROMPTS)], generator=generator, **settings).images[0]
        drawn.save(folder / f"{number}.png")


def in_shards(pipeline, images: int, settings: dict, folder: Path, batch_size: int) -> None:
    """As 01_generate does, with the resize to 224 pixels and the JPEG of the real images."""
    common = pipelines.provenance(folder.parent / "pipeline", "benchmark", pipeline=pipeline, settings=settings)
    how = {"settings": settings, "common": common, "image_size": 224, "codec": {"format": "JPEG", "quality": 95}}
    codecs.require(how["codec"])
    slots = {"slot": list(range(images)), "label": [0] * images, "seed": list(range(images))}
    slots["prompt"] = [PROMPTS[number % len(PROMPTS)] for number in range(images)]
    shards.write(folder / "shard-00000.arrow", pipeline, slots=slots, how=how, batch_size=batch_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=64, help="per measurement of the batched ways")
    parser.add_argument("--single", type=int, default=8, help="per measurement of the ways with one prompt per call")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="also with torch.compile (minutes at the first call)")
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    limit = ceiling(device)
    print(
        f"{pipelines.device_name(device)}; {pipelines.spell_versions()}; ceiling {limit / 1e12:.1f} TFLOP/s in bfloat16"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "pipeline", Path(scratch) / "out"
        out.mkdir()
        save_pipeline(folder, chosen.small)
        ways = {"one by one, float32": ("float32", False), "one by one, float16": ("float16", False)}
        ways |= {"this project, bfloat16": ("bfloat16", False)}
        ways |= {"this project, bfloat16, compiled": ("bfloat16", True)} if chosen.compiled else {}
        work, images = {}, {}
        for name, (dtype, compiled) in ways.items():
            pipeline = pipelines.load(folder, "", dtype, device, compiled=compiled)
            settings = pipelines.call_settings(pipeline, chosen.steps, 7.5)
            single = name.startswith("one")
            images[name] = chosen.single if single else chosen.images
            arguments = (pipeline, images[name], settings, out) + (() if single else (chosen.batch_size,))
            work[name] = (one_by_one if single else in_shards, arguments)
            if name == "one by one, float32":
                per_image = operations(pipeline, settings)
                print(f"{per_image / 1e12:.2f} TFLOP an image: {chosen.steps} steps, guidance 7.5")
        for function, arguments in work.values():
            function(*arguments)  # kernels are chosen, and compiled, at the first call
        rates = {name: [] for name in work}
        for _ in range(chosen.repetitions):  # alternating, for the machine may get slower meanwhile
            for name, (function, arguments) in work.items():
                rates[name].append(images[name] / seconds(lambda: function(*arguments), device))  # noqa: B023
        plain = statistics.median(rates["one by one, float32"])
        for name, found in rates.items():
            rate = statistics.median(found)
            print(
                f"{name:33} {rate:8.3f} images/s ({min(found):.3f} to {max(found):.3f}, n={len(found)}), "
                f"{rate / plain:6.2f} times the first, {rate * per_image / limit:6.1%} of the ceiling"
            )


if __name__ == "__main__":
    main()
