"""Any diffusers text-to-image pipeline: load it, draw with it, try it, and say what drew an image.

Whatever a pipeline does not know or would ignore is refused in one line, before anything is generated.
"""

import contextlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contamination.base.files import hash_files, read_json, versions
from contamination.base.layout import project_root

DTYPES = ("float32", "float16", "bfloat16")
# What may be given of from_pretrained's arguments, beside the scalars in the pipeline's own signature. The others move
# weights about, run code that comes with them, or are parameters of their own here.
LOADING = ("variant", "revision", "use_safetensors", "low_cpu_mem_usage", "disable_mmap")
SAFETY = ("safety_checker", "requires_safety_checker", "feature_extractor")
# Arguments of a pipeline's call that decide which image belongs to which slot, or that have their own parameter.
RESERVED = {"prompt", "generator", "latents", "num_images_per_prompt", "output_type", "return_dict"}
RESERVED |= {"num_inference_steps", "guidance_scale", "height", "width", "negative_prompt", "eta"}
# Mean difference in levels of 256: in float32 rounding stays far below the first; in narrower formats it grows with
# every step, to several levels at edges; another image is tens away.
ROUNDING, NARROW_ROUNDING = 1.0, 8.0
WITHOUT_EFFECT = {
    "guidance": "its denoiser was distilled without it; set guidance to 0",
    "negative_prompt": "leave it out, or turn on what it needs: guidance above 1, or call: {true_cfg_scale: 4}",
    "eta": "leave it out, or choose DDIMScheduler",
}


def look(name: str, scheduler: str, *, scheduler_options: dict) -> str:
    """Where a pipeline will come from, in words, without fetching or loading it.

    Raises FileNotFoundError or ValueError in one line for a folder that is missing or not whole, and for a scheduler
    that diffusers does not have, or that does not take the options.
    """
    if scheduler:
        _scheduler_class(scheduler, scheduler_options)
    return f"{name}, to be had from the hub" if _is_hub_name(name) else str(folder_of(name))


def _is_hub_name(name: str) -> bool:
    return not (project_root() / name).is_dir() and name.count("/") == 1 and not name.startswith((".", "/"))


def folder_of(name: str, load: dict | None = None) -> Path:
    """The folder of a pipeline: `name` itself below the project root, or the local copy of a hub name.

    load: as in `load`. Raises FileNotFoundError or ValueError in one line when there is no complete pipeline.
    """
    folder = project_root() / name
    if folder.is_dir():
        _require_parts(folder)
        return folder
    if not _is_hub_name(name):
        raise FileNotFoundError(f"pipeline folder {folder} is missing: run 00_pretrain, or name a folder or hub model")
    from diffusers import DiffusionPipeline

    asked = {"use_safetensors": True} | (load or {})  # other files may run code when they are loaded
    which = {key: value for key, value in asked.items() if key in ("variant", "revision", "use_safetensors")}
    try:
        return Path(DiffusionPipeline.download(name, **which))
    except Exception as error:  # the hub client raises many kinds; all mean that the model cannot be had
        gated = "gated" in f"{type(error).__name__} {error}".lower()
        hint = ": accept its license on its page and run `hf auth login`" if gated else ""
        raise FileNotFoundError(
            f"pipeline {name} is neither a folder nor to be had from the hub ({_reason(error)}){hint}"
        ) from None


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


def load(
    folder: Path,
    scheduler: str,
    dtype: str | dict[str, str],
    device,
    scheduler_options: dict | None = None,
    load: dict | None = None,
    attention: str = "",
    compiled: bool = False,
    slicing: bool = False,
    tiling: bool = False,
):
    """A diffusers text-to-image pipeline, ready to sample.

    scheduler: name of a diffusers scheduler class, or "" for the pipeline's own. scheduler_options: what changes in the
    scheduler's configuration. dtype: e.g. float32 or bfloat16, or one per part, the others under `default`.
    load: further arguments of from_pretrained. attention: the denoiser's attention backend, as diffusers calls it.
    compiled: run the denoiser through torch.compile. slicing, tiling: decode images one by one, or in tiles, which
    takes less memory; tiles change pixels.
    Raises ValueError in one line for a folder that does not load, that is not text-to-image, and for every setting that
    this pipeline does not know.
    """
    import diffusers

    load = load or {}
    kind = _pipeline_class(folder)
    _require_loadable(folder, kind, load)
    if "add_watermarker" in inspect.signature(kind).parameters:
        load = {"add_watermarker": False} | load  # else an installed library decides whether images get a watermark
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            folder, dtype=_torch_dtypes(dtype), local_files_only=True, **{"use_safetensors": True} | load
        )
    except Exception as error:  # a half-written folder fails in as many ways as it has files
        raise ValueError(f"pipeline {folder} does not load ({_reason(error)})") from None
    _require_parts_of_dtype(pipeline, dtype)
    if scheduler or scheduler_options:
        pipeline.scheduler = other_scheduler(pipeline.scheduler, scheduler, options=scheduler_options or {})
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    _set_decoder(pipeline, slicing, tiling)
    if attention:
        _set_attention(denoiser(pipeline), attention)
    if compiled:
        denoiser(pipeline).compile()
    return pipeline


def _pipeline_class(folder: Path):
    import diffusers
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING

    try:
        kind = getattr(diffusers, read_json(folder / "model_index.json")["_class_name"])
    except Exception as error:
        raise ValueError(f"pipeline {folder} does not load ({_reason(error)})") from None
    accepted = set(inspect.signature(kind.__call__).parameters)
    # Some that draw from text alone also edit an image, where one is given; diffusers' list knows them.
    from_text = (
        kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values() or not {"image", "mask_image", "num_frames"} & accepted
    )
    if not {"prompt", "generator"} <= accepted or not from_text:
        raise ValueError(f"pipeline {folder} ({kind.__name__}) is not text-to-image")
    return kind


def _require_loadable(folder: Path, kind, load: dict) -> None:
    if set(load) & set(SAFETY):
        raise ValueError(
            f"load: {', '.join(sorted(set(load) & set(SAFETY)))}: the safety checker stays; see safety_retries"
        )
    parts = {name for name, value in read_json(folder / "model_index.json").items() if isinstance(value, list)}
    own = [name for name, given in inspect.signature(kind).parameters.items() if given.default is not given.empty]
    allowed = sorted({*LOADING, *own} - parts - set(SAFETY))
    unknown = sorted(set(load) - set(allowed))
    if unknown:  # diffusers would warn and go on
        raise ValueError(f"load: {', '.join(unknown)} not known for {kind.__name__}; allowed: {', '.join(allowed)}")


def require_dtypes(dtype: str | dict[str, str]) -> dict[str, str]:
    """The number format of each part that has one of its own, and of the others under `default`.

    Raises ValueError in one line for a format that is not known.
    """
    names = {"default": "float32"} | dtype if isinstance(dtype, dict) else {"default": dtype}
    for name in names.values():
        if name not in DTYPES:
            raise ValueError(f"dtype {name!r} is not known: give one of {', '.join(DTYPES)}")
    return names


def _torch_dtypes(dtype: str | dict[str, str]):
    import torch

    found = {part: getattr(torch, name) for part, name in require_dtypes(dtype).items()}
    return found if isinstance(dtype, dict) else found["default"]


def _require_parts_of_dtype(pipeline, dtype: str | dict[str, str]) -> None:
    unknown = set(dtype if isinstance(dtype, dict) else ()) - {"default"} - set(pipeline.components)
    if unknown:
        parts = ", ".join(sorted(_weights(pipeline)))
        raise ValueError(f"dtype names {', '.join(sorted(unknown))}; the parts of this pipeline are {parts}")


def other_scheduler(own, name: str, *, options: dict):
    """Another scheduler with the configuration of the pipeline's own, changed by options."""
    return make_scheduler(name or type(own).__name__, options, own=own.config)


def make_scheduler(name: str, options: dict, *, own: Mapping):
    """A scheduler of a class, with the configuration `own` changed by options.

    Raises ValueError in one line where diffusers lacks it, or it cannot be made with these options.
    """
    kind = _scheduler_class(name, options)
    try:
        return kind.from_config(own, **options)
    except Exception as error:  # each class complains of its options in its own way
        raise ValueError(
            f"scheduler {name} cannot be made with scheduler_options {options} ({_reason(error)})"
        ) from None


def try_steps(scheduler, steps: int) -> None:
    """Take all steps with a scheduler as StableDiffusionPipeline does, on made-up latents.

    Raises ValueError in one line for a scheduler that is made for other pipelines, or not for so many steps.
    """
    import torch

    name = type(scheduler).__name__
    try:
        taken = {"generator"} & set(inspect.signature(scheduler.step).parameters)
        source = torch.Generator("cpu").manual_seed(0)
        scheduler.set_timesteps(steps)
        latents = torch.randn(1, 4, 8, 8, generator=source) * scheduler.init_noise_sigma
        _ = scheduler.order  # which the pipeline asks for
        for time in scheduler.timesteps:
            seen = scheduler.scale_model_input(latents, time)
            output = 0.1 * torch.randn(seen.shape, generator=source)
            more = {"generator": source} if taken else {}
            latents = scheduler.step(output, time, latents, **more, return_dict=False)[0]
    except Exception as error:
        raise ValueError(f"scheduler {name} does not work in StableDiffusionPipeline ({_reason(error)})") from None
    if len(scheduler.timesteps) > 1 and scheduler.timesteps[0] < scheduler.timesteps[-1]:
        raise ValueError(f"scheduler {name} turns images into noise: choose another")
    if latents.shape != (1, 4, 8, 8) or not torch.isfinite(latents).all():
        raise ValueError(f"scheduler {name} does not work in StableDiffusionPipeline: {steps} steps end in no image")


def _scheduler_class(name: str, options: dict) -> Any:
    import diffusers

    kind: Any = getattr(diffusers, name, None)
    if getattr(kind, "_backends", ["torch"]) != ["torch"]:  # a stand-in for a class whose library is not installed
        raise ValueError(f"scheduler {name} needs {' and '.join(kind._backends[1:])}, which is not installed")
    if not hasattr(kind, "set_timesteps"):
        raise ValueError(f"scheduler {name!r} is not in diffusers {diffusers.__version__}")
    unknown = set(options) - set(inspect.signature(kind).parameters)
    if unknown:
        raise ValueError(f"scheduler_options: {kind.__name__} does not take {', '.join(sorted(unknown))}")
    return kind


def denoiser(pipeline):
    """The network that is called at every step."""
    found = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if found is None:
        raise ValueError(f"{type(pipeline).__name__} has no unet and no transformer: leave out attention and compiled")
    return found


def _set_decoder(pipeline, slicing: bool, tiling: bool) -> None:
    decoder = getattr(pipeline, "vae", None)
    for wanted, switch in ((slicing, "enable_slicing"), (tiling, "enable_tiling")):
        if wanted and not hasattr(decoder, switch):
            raise ValueError(f"{type(pipeline).__name__}: its autoencoder has no {switch}")
        if wanted:
            getattr(decoder, switch)()
    if decoder is not None and decoder.dtype != pipeline.dtype:
        cast_latents(decoder)


def cast_latents(decoder) -> None:
    """Most pipelines hand over latents in the denoiser's number format, whatever the autoencoder's is, and fail."""
    decode = decoder.decode
    decoder.decode = lambda latents, *more, **options: decode(latents.to(decoder.dtype), *more, **options)


def _set_attention(network, backend: str) -> None:
    processors = [getattr(module, "processor", None) for module in network.modules()]
    if not any(hasattr(processor, "_attention_backend") for processor in processors):
        # diffusers would take the name and go on as before
        raise ValueError(f"attention {backend!r}: {type(network).__name__} takes no attention backend; leave it out")
    try:
        network.set_attention_backend(backend)
    except (ValueError, RuntimeError, ImportError) as error:
        raise ValueError(f"attention {backend!r} cannot be used ({_reason(error)})") from None


def _weights(pipeline) -> dict:
    """The parts of a pipeline that have weights."""
    import torch

    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0]}"


# Sampling


def call_settings(
    pipeline,
    steps: int,
    guidance: float,
    size: int | Sequence[int] = 0,
    negative_prompt: str = "",
    eta: float = 0.0,
    call: dict | None = None,
) -> dict:
    """Keyword arguments for the pipeline's call; a setting that this pipeline does not know is an error.

    guidance: classifier-free guidance scale; 0 where a pipeline has none. size: pixels per side, or height and width; 0
    for the pipeline's own. eta: share of DDIM's noise. call: further arguments by their names in the pipeline's call.
    """
    accepted = set(inspect.signature(pipeline.__call__).parameters) - {"kwargs"}
    height, width = (size, size) if isinstance(size, int) else size
    wanted: dict[str, Any] = {"num_inference_steps": steps}
    if guidance or "guidance_scale" in accepted:
        wanted["guidance_scale"] = guidance
    optional = {"height": height, "width": width, "negative_prompt": negative_prompt, "eta": eta}
    wanted |= {name: value for name, value in optional.items() if value}
    own = sorted(set(call or {}) & RESERVED)
    if own:
        raise ValueError(f"call: {', '.join(own)}: given by the other parameters or by the slot")
    wanted |= call or {}
    unknown = sorted(set(wanted) - accepted)
    if unknown:
        free = ", ".join(sorted(accepted - RESERVED))
        raise ValueError(f"{type(pipeline).__name__} does not take {', '.join(unknown)}; call may hold: {free}")
    return wanted


def sample(pipeline, prompts: list[str], seeds: list[int], settings: dict) -> tuple[np.ndarray, list[bool]]:
    """One image per prompt: float32 (n, height, width, 3) in 0..1, and which the safety checker flagged.

    settings: keyword arguments of the pipeline's call, as `call_settings` gives them.
    Raises ValueError for pixels that are not numbers: they would be stored as a black image.
    """
    import torch

    # Noise is drawn on the CPU, one generator per image: the same on every device and for every batch size.
    noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    if "negative_prompt" in settings:
        settings = settings | {"negative_prompt": [settings["negative_prompt"]] * len(prompts)}
    with torch.inference_mode():
        output = pipeline(prompt=prompts, generator=noise, output_type="np", **settings)
    images = np.asarray(output.images)
    bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
    if len(bad):
        raise ValueError(
            f"the image of {prompts[bad[0]]!r} has pixels that are not numbers: {_spell(pipeline)} is too "
            "narrow; keep the autoencoder in float32 (dtype: {default: float16, vae: float32}) or use bfloat16"
        )
    found = getattr(output, "nsfw_content_detected", None) or getattr(output, "nsfw_detected", None)
    return images, [bool(flag) for flag in found or [False] * len(prompts)]


def sample_what_fits(
    pipeline, prompts: list[str], *, seeds: list[int], settings: dict
) -> tuple[np.ndarray, list[bool]]:
    """Images of the first prompts, of as many as fit in the device's memory at once."""
    import torch

    count = len(prompts)
    while count:
        # Outside of the handler, which keeps every tensor of the failed call alive.
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            return sample(pipeline, prompts[:count], seeds[:count], settings)
        torch.cuda.empty_cache()
        count //= 2
    raise ValueError(
        f"one image of {type(pipeline).__name__} does not fit in the device's memory: set slicing and tiling, a "
        "narrower dtype (bfloat16) or a smaller size, or use another device"
    )


def preflight(pipeline, prompts: Sequence[str], *, seeds: Sequence[int], settings: dict, batch_size: int) -> float:
    """Draw a few images before the first shard, to find in seconds what would spoil the set after hours.

    prompts, seeds: of all slots; those with the shortest and the longest prompt are drawn, and not kept. Returns the
    mean difference, in levels of 256, between an image drawn alone and with another.
    Raises ValueError in one line when the pipeline cannot draw with these settings, when an image depends on more than
    its own seed and prompt, and when a setting has no effect although the pipeline takes it.
    """
    lengths = [len(prompt) for prompt in prompts]
    longest, shortest = int(np.argmax(lengths)), int(np.argmin(lengths))

    def draw(slots: list[int], changed: dict = settings) -> np.ndarray:
        return _draw(pipeline, [prompts[slot] for slot in slots], [seeds[slot] for slot in slots], changed)[0]

    kind = type(pipeline).__name__
    with _unchecked(pipeline):
        before = _global_noise(pipeline)
        drawn = draw([longest])
        if _global_noise(pipeline) != before:
            raise ValueError(
                f"{type(pipeline.scheduler).__name__} in {kind} draws noise that does not come from the slots' seeds, "
                "so that no image could be made again: choose another scheduler"
            )
        for name, changed in _without(settings).items():
            if np.array_equal(draw([longest], changed), drawn):
                raise ValueError(f"{name} has no effect on {kind} here: {WITHOUT_EFFECT[name]}")
        if batch_size == 1:
            return 0.0
        difference = float(np.abs(draw([shortest, longest]) - draw([shortest])).mean() * 255)
    if difference > rounding(pipeline):
        raise ValueError(
            f"{kind} draws another image when a longer prompt is beside it in the batch (mean difference "
            f"{difference:.1f} of 256 levels): set batch_size to 1"
        )
    return difference


def rounding(pipeline) -> float:
    """The mean difference, in levels of 256, up to which two drawings of one image are taken for the same."""
    return ROUNDING if _spell(pipeline) == "float32" else NARROW_ROUNDING


def _draw(pipeline, prompts: list[str], seeds: list[int], settings: dict) -> np.ndarray:
    try:
        return sample_what_fits(pipeline, prompts, seeds=seeds, settings=settings)[0]
    except Exception as error:  # each pipeline complains of its arguments in its own way
        raise ValueError(f"{type(pipeline).__name__} cannot draw with these settings ({_reason(error)})") from None


def _without(settings: dict) -> dict[str, dict]:
    """For each setting that some pipelines take and ignore, settings that must give another image."""
    changed = {}
    if settings.get("guidance_scale", 0) > 1:
        changed["guidance"] = settings | {"guidance_scale": settings["guidance_scale"] + 1}
    for name in ("negative_prompt", "eta"):
        if name in settings:
            changed[name] = {key: value for key, value in settings.items() if key != name}
    return changed


def _global_noise(pipeline) -> list[bytes]:
    """The state of the generators that draw where no seed is given."""
    import torch

    states = [torch.get_rng_state()]
    if pipeline.device.type != "cpu":
        states.append(torch.get_device_module(pipeline.device).get_rng_state())
    return [state.numpy().tobytes() for state in states]


@contextlib.contextmanager
def _unchecked(pipeline) -> Iterator[None]:
    """Set the safety checker aside: of two black images one cannot tell whether they would differ."""
    checker = getattr(pipeline, "safety_checker", None)
    if checker is not None:
        pipeline.safety_checker = None
    try:
        yield
    finally:
        if checker is not None:
            pipeline.safety_checker = checker


# Provenance


def provenance(
    folder: Path, name: str, *, pipeline, settings: dict, load: dict | None = None
) -> dict[str, str | int | float]:
    """What every image of a generated set has in common, one column each. load: as in `load`."""
    return {
        "pipeline": name,
        "pipeline_hash": hash_of(folder, load or {}),
        "scheduler": type(pipeline.scheduler).__name__,
        "steps": settings["num_inference_steps"],
        "guidance": float(settings.get("guidance_scale", 0)),
        "negative_prompt": settings.get("negative_prompt", ""),
        "dtype": _spell(pipeline),
        "versions": spell_versions(),
        "depth": 1,
    }


def hash_of(folder: Path, load: dict) -> str:
    """A hash of the files that a load reads: a folder of the hub may hold weights in other forms, too, and get more."""
    weights = ".safetensors" if load.get("use_safetensors", True) else ".bin"
    read = [file for file in folder.glob("*/*") if file.suffix == weights and _is_variant(file, load.get("variant"))]
    known = [file for pattern in ("*.json", "*/*.json", "*/*.txt", "*/*.model") for file in folder.glob(pattern)]
    return hash_files(folder, [file for file in {*read, *known} if not file.name.endswith(".index.json")])


def _is_variant(file: Path, variant: str | None) -> bool:
    """Whether a file of weights is of a variant, such as fp16, or of none; where a part lacks the variant, of none."""
    name = re.sub(r"-\d{5}-of-\d{5}", "", file.name.removesuffix(file.suffix))
    if variant and any(file.parent.glob(f"*.{variant}*{file.suffix}")):
        return name.endswith(f".{variant}")
    return "." not in name


def spell_versions() -> str:
    """Of what draws; another Python draws the same."""
    found = versions("torch", "diffusers", "transformers")
    return " ".join(f"{name}={version}" for name, version in found.items() if name != "python")


def _spell(pipeline) -> str:
    """The number format of a pipeline, or of each of its parts where they differ."""
    found = {name: str(part.dtype).removeprefix("torch.") for name, part in _weights(pipeline).items()}
    alike = len(set(found.values())) == 1
    return next(iter(found.values())) if alike else " ".join(f"{name}={dtype}" for name, dtype in found.items())


def device_name(device) -> str:
    """The processor that draws: `cpu`, or a GPU's name. Another one rounds differently."""
    import torch

    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
