"""Generated images: any diffusers text-to-image pipeline, asked for one image per slot, written in shards.

An image's identity is its slot. Its starting noise comes from (study seed, slot, depth) alone, so that batch size,
number of shards and interruptions do not change it; another batch size changes pixels by rounding only.
"""

import hashlib
import inspect
import shutil
from pathlib import Path

import numpy as np

from contamination import store
from contamination.files import hash_file, hash_folder, read_json, versions
from contamination.layout import project_root


def code_hash() -> str:
    """A hash of the code that makes pixels: part of a shard's fingerprint, as its parameters are."""
    return hash_file(Path(__file__)) + hash_file(Path(store.__file__))


def image_seed(study_seed: int, slot: int, depth: int = 1) -> int:
    """The seed of one image's starting noise, 63 bits.

    depth: 1 for a generator that saw real images only, 2 for one trained on images of depth 1, and so on.
    """
    digest = hashlib.sha256(f"{study_seed}/{slot}/{depth}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def pipeline_folder(name: str) -> Path:
    """The folder of a pipeline: `name` itself below the project root, or the local copy of a hub name.

    Raises FileNotFoundError or ValueError in one line when there is no complete pipeline by that name.
    """
    folder = project_root() / name
    if folder.is_dir():
        _require_parts(folder)
        return folder
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise FileNotFoundError(f"pipeline folder {folder} is missing: run 00_pretrain, or name a folder or hub model")
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(name, use_safetensors=True))
    except Exception as error:  # the hub client raises many kinds; all mean that the model cannot be had
        reason = str(error).splitlines()[0]
        raise FileNotFoundError(f"pipeline {name} is neither a folder nor to be had from the hub ({reason})") from None


def _require_parts(folder: Path) -> None:
    """Raise ValueError when a part that the pipeline's index names is not there.

    The libraries do not: they make up an empty tokenizer for one that is missing, and go on.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"pipeline folder {folder} has no model_index.json: it is half-written or no pipeline")
    parts = {name: part for name, part in read_json(index).items() if isinstance(part, list) and part[0]}
    missing = [name for name in parts if not (folder / name).is_dir() or not any((folder / name).iterdir())]
    if missing:
        raise ValueError(f"pipeline folder {folder} lacks {', '.join(missing)}: it is half-written")


def load_pipeline(folder: Path, scheduler: str, dtype: str, device):
    """A diffusers text-to-image pipeline, ready to sample.

    scheduler: name of a diffusers scheduler class, or "" for the pipeline's own. dtype: e.g. float32 or bfloat16.
    Raises ValueError in one line for a folder that does not load, that is not text-to-image, an unknown scheduler.
    """
    import diffusers
    import torch

    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
        )
    except Exception as error:  # a half-written folder fails in as many ways as it has files
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"pipeline {folder} does not load ({type(error).__name__}: {reason})") from None
    accepted = inspect.signature(pipeline.__call__).parameters
    if "prompt" not in accepted or {"image", "mask_image", "num_frames"} & set(accepted):
        raise ValueError(f"pipeline {folder} ({type(pipeline).__name__}) is not text-to-image")
    if scheduler:
        if not hasattr(diffusers, scheduler):
            raise ValueError(f"scheduler {scheduler!r} is not in diffusers {diffusers.__version__}")
        pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def sample(pipeline, prompts: list[str], seeds: list[int], settings: dict) -> tuple[np.ndarray, list[bool]]:
    """One image per prompt: float32 (n, height, width, 3) in 0..1, and which the safety checker flagged.

    settings: keyword arguments of the pipeline's call (steps, guidance, size, negative prompt).
    """
    import torch

    # Noise is drawn on the CPU, one generator per image: the same on every device and for every batch size.
    noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    if "negative_prompt" in settings:
        settings = settings | {"negative_prompt": [settings["negative_prompt"]] * len(prompts)}
    with torch.inference_mode():
        output = pipeline(prompt=prompts, generator=noise, output_type="np", **settings)
    flagged = getattr(output, "nsfw_content_detected", None) or [False] * len(prompts)
    return output.images, [bool(flag) for flag in flagged]


def call_settings(pipeline, steps: int, guidance: float, size: int, negative_prompt: str) -> dict:
    """Keyword arguments for the pipeline's call; a setting that this pipeline does not know is an error."""
    wanted = {"num_inference_steps": steps, "guidance_scale": guidance}
    if size:
        wanted |= {"height": size, "width": size}
    if negative_prompt:
        wanted |= {"negative_prompt": negative_prompt}
    unknown = set(wanted) - set(inspect.signature(pipeline.__call__).parameters)
    if unknown:
        raise ValueError(f"{type(pipeline).__name__} does not take {', '.join(sorted(unknown))}")
    return wanted


def provenance(folder: Path, name: str, pipeline, settings: dict) -> dict[str, str | int | float]:
    """What every image of a generated set has in common, one column each."""
    return {
        "pipeline": name,
        "pipeline_hash": hash_folder(folder),
        "scheduler": type(pipeline.scheduler).__name__,
        "steps": settings["num_inference_steps"],
        "guidance": settings["guidance_scale"],
        "negative_prompt": settings.get("negative_prompt", ""),
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "versions": " ".join(f"{name}={version}" for name, version in versions("torch", "diffusers").items()),
        "depth": 1,
    }


def shard_paths(folder: Path, slots: int, shard_size: int) -> list[Path]:
    """The files of a generated set; shard k holds slots k * shard_size onwards."""
    return [folder / f"shard-{k:05d}.arrow" for k in range(-(-slots // shard_size))]


def keep_only(folder: Path, paths: list[Path], mark: str) -> list[Path]:
    """Prepare the folder of a generated set and return the shards still to be made.

    Shards with the fingerprint `mark` stay. All else, shards made with other parameters and the record of an earlier
    run among it, is no longer true and goes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = {path for path in paths if store.metadata(path).get("fingerprint") == mark}
    for file in folder.iterdir():
        if file.is_dir():  # JupyterLab's checkpoints
            shutil.rmtree(file)
        elif file not in done:
            file.unlink()
    return [path for path in paths if path not in done]


def write_shard(
    path: Path, pipeline, slots: dict, settings: dict, common: dict, image_size: int, batch_size: int, mark: str
) -> None:
    """Generate the images of one shard and write it whole or not at all.

    slots: columns of this shard: slot, label, prompt, seed. common: provenance shared by all its images.
    image_size: images are stored at this size, through the same resize and codec as the real ones.
    """
    from PIL import Image

    images, flags = [], []
    for start in range(0, len(slots["slot"]), batch_size):
        batch = slice(start, start + batch_size)
        pixels, flagged = sample(pipeline, slots["prompt"][batch], slots["seed"][batch], settings)
        flags += flagged
        for picture in np.rint(pixels * 255).astype(np.uint8):
            images.append(store.encode(store.resize(Image.fromarray(picture), image_size)))
    count = len(images)
    columns = {"id": [f"slot-{slot}" for slot in slots["slot"]]} | slots | {"flagged": flags}
    columns |= {name: [value] * count for name, value in common.items()}
    store.write(path, images, columns, fingerprint=mark)
