"""Pipelines of every family, tiny: an image is its slot's, settings have an effect, what is wrong is one clear line."""

import json
import shutil

import numpy as np
import pytest
from contamination.base.settings import read_settings
from contamination.generators import pipelines
from contamination.study.study import Generate
from support import tiny_pipelines
from support.tiny_pipelines import Wrapped, settings_of

pytestmark = pytest.mark.medium

PROMPTS = [f"photo of {name}" for name in ("three", "a red two", "zero")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The saved folder of each family's pipeline."""
    root = tmp_path_factory.mktemp("families")
    return {family: tiny_pipelines.save(family, root / family) for family in tiny_pipelines.FAMILIES}


@pytest.fixture(scope="module")
def families(folders):
    """Each family's pipeline, loaded by the code that loads the published ones. Not to be changed by a test."""
    return {family: pipelines.load(folder, "", "float32", "cpu") for family, folder in folders.items()}


def drawn_in_batches(pipeline, batch_size, settings, count=10):
    """Images of as many slots, drawn in batches of one size: uint8 levels as integers."""
    prompts, seeds = [f"photo of {number}" for number in range(count)], list(range(count))
    batches = [slice(start, start + batch_size) for start in range(0, count, batch_size)]
    images = [pipelines.sample(pipeline, prompts[batch], seeds[batch], settings)[0] for batch in batches]
    return np.rint(np.concatenate(images) * 255).astype(int)


@pytest.mark.parametrize("family", tiny_pipelines.FAMILIES)
def test_every_family_draws_what_is_asked_for_whatever_the_batch(families, family):
    pipeline = families[family]
    settings = settings_of(family, pipeline)
    reference = drawn_in_batches(pipeline, 3, settings)
    assert reference.shape == (10, 16, 16, 3)
    assert reference.std() > 10
    for batch_size in (1, 10):
        # the last bit of float32, and a level that it flips
        assert np.abs(reference - drawn_in_batches(pipeline, batch_size, settings)).max() <= 1
    again, other = (pipelines.sample(pipeline, [prompt], [7], settings)[0] for prompt in PROMPTS[:2])
    assert np.abs(again - other).max() > 1 / 256  # the text reaches the image


@pytest.mark.parametrize("family", tiny_pipelines.FAMILIES)
def test_every_family_passes_the_rehearsal_and_leaves_nothing_behind(families, family):
    pipeline = families[family]
    settings = settings_of(family, pipeline)
    before = pipelines.sample(pipeline, PROMPTS, [1, 2, 3], settings)[0]
    assert pipelines.preflight(pipeline, PROMPTS, seeds=[1, 2, 3], settings=settings, batch_size=3) < 0.01
    assert np.array_equal(pipelines.sample(pipeline, PROMPTS, [1, 2, 3], settings)[0], before)


@pytest.mark.parametrize("family", tiny_pipelines.FAMILIES)
def test_every_family_draws_in_bfloat16_with_an_autoencoder_in_float32(families, folders, family):
    import torch

    pipeline = pipelines.load(folders[family], "", {"default": "bfloat16", "vae": "float32"}, "cpu")
    assert (pipeline.vae.dtype, pipelines.denoiser(pipeline).dtype) == (torch.float32, torch.bfloat16)
    drawn, _ = pipelines.sample(pipeline, PROMPTS, [1, 2, 3], settings_of(family, pipeline))
    wanted, _ = pipelines.sample(families[family], PROMPTS, [1, 2, 3], settings_of(family, families[family]))
    # 8 bits of a number, carried through three steps: a few levels of 256, where another image is 30 and more away.
    assert np.abs(drawn - wanted).mean() * 255 < 4
    assert (
        "vae=float32"
        in pipelines.provenance(folders[family], "x", pipeline=pipeline, settings={"num_inference_steps": 3})["dtype"]
    )


def test_weights_of_a_variant_are_loaded_by_its_name(families, project):
    plain = families["stable-diffusion-xl"]
    plain.save_pretrained(project / "half", variant="fp16")
    loaded = pipelines.load(project / "half", "", "float32", "cpu", load={"variant": "fp16"})
    settings = settings_of("stable-diffusion-xl", plain)
    assert np.array_equal(*(pipelines.sample(each, PROMPTS, [1, 2, 3], settings)[0] for each in (plain, loaded)))


def test_no_watermark_comes_unasked_because_its_library_is_installed(folders, monkeypatch):
    from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl as module

    monkeypatch.setattr(module, "is_invisible_watermark_available", lambda: True)
    monkeypatch.setattr(module, "StableDiffusionXLWatermarker", object, raising=False)
    folder = folders["stable-diffusion-xl"]
    assert pipelines.load(folder, "", "float32", "cpu").watermark is None
    asked = pipelines.load(folder, "", "float32", "cpu", load={"add_watermarker": True})
    assert asked.watermark is not None


# Settings that a pipeline does not take


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"dtype": "float8"}, "generate: dtype 'float8' is not known: give one of float32, float16, bfloat16"),
        ({"dtype": {"vae": "float8"}}, "generate: dtype 'float8' is not known"),
        ({"codec": {"format": "GIF"}}, "generate: codec: format GIF is not known"),
        ({"size": [16, 24, 32]}, r"generate\.size.* at most 2 items"),
        ({"size": -8}, r"generate\.size.*greater than or equal to 0"),
        ({"eta": 1.5}, r"generate\.eta: 1\.5: .*less than or equal to 1"),
        ({"safety_retries": -1}, r"generate\.safety_retries: -1: .*greater than or equal to 0"),
        ({"names": "nothing.csv"}, r"names file .*nothing\.csv is missing"),
    ],
)
def test_what_no_pipeline_can_do_is_one_clear_line_before_any_work(project, section, message):
    with pytest.raises((ValueError, OSError), match=message) as caught:
        read_settings(Generate, section, key="generate")
    assert "\n" not in str(caught.value)


def test_a_section_may_say_all_that_a_pipeline_needs(project):
    (project / "names.json").write_text('{"three": ["trois"]}')
    section = {"dtype": {"default": "float16", "vae": "float32"}, "size": [16, 24], "codec": {}, "names": "names.json"}
    section |= {"call": {"true_cfg_scale": 4.0}, "load": {"variant": "fp16"}, "scheduler_options": {"shift": 3.0}}
    assert section.items() <= read_settings(Generate, section).model_dump().items()


def test_a_scheduler_is_chosen_by_name_and_changed_by_options(folders):
    folder = folders["stable-diffusion-2"]
    options = {"skip_prk_steps": True}  # PLMS
    chosen = pipelines.load(folder, "PNDMScheduler", "float32", "cpu", scheduler_options=options)
    assert type(chosen.scheduler).__name__ == "PNDMScheduler"
    assert chosen.scheduler.config.skip_prk_steps and chosen.scheduler.config.prediction_type == "v_prediction"
    own = pipelines.load(folder, "", "float32", "cpu", scheduler_options={"timestep_spacing": "trailing"})
    assert type(own.scheduler).__name__ == "DDIMScheduler" and own.scheduler.config.timestep_spacing == "trailing"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"scheduler": "Magic"}, "scheduler 'Magic' is not in diffusers"),
        ({"scheduler_options": {"spin": 1}}, "scheduler_options: PNDMScheduler does not take spin"),
        ({"dtype": "float8"}, "dtype 'float8' is not known: give one of float32, float16, bfloat16"),
        ({"dtype": {"vea": "float32"}}, "dtype names vea; the parts of this pipeline are text_encoder, unet, vae"),
        ({"load": {"varaint": "fp16"}}, "load: varaint not known for StableDiffusionPipeline; allowed: .*variant"),
        ({"load": {"safety_checker": None}}, "load: safety_checker: the safety checker stays"),
        ({"load": {"variant": "fp16"}}, "does not load .*"),
        ({"attention": "native"}, "UNet2DConditionModel takes no attention backend; leave it out"),
    ],
)
def test_what_a_pipeline_does_not_know_is_one_clear_line_when_it_is_loaded(folders, asked, message):
    asked = {"scheduler": "", "dtype": "float32", "device": "cpu"} | asked
    with pytest.raises(ValueError, match=message) as caught:
        pipelines.load(folders["stable-diffusion-1"], **asked)
    assert "\n" not in str(caught.value)


def test_a_scheduler_whose_library_is_missing_is_one_clear_line(folders):
    with pytest.raises(ValueError, match="scheduler DPMSolverSDEScheduler needs torchsde, which is not installed"):
        pipelines.load(folders["stable-diffusion-1"], "DPMSolverSDEScheduler", "float32", "cpu")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"true_cfg_scale": 2}, "StableDiffusionPipeline does not take true_cfg_scale; call may hold: .*clip_skip, .*"),
        ({"kwargs": 2}, "does not take kwargs"),
        ({"latents": 0, "eta": 1}, "call: eta, latents: given by the other parameters or by the slot"),
    ],
)
def test_what_a_call_does_not_take_is_one_clear_line(families, call, message):
    with pytest.raises(ValueError, match=message):
        pipelines.call_settings(families["stable-diffusion-1"], 3, 5.0, call=call)


@pytest.mark.parametrize(
    ("family", "asked", "message"),
    [
        (
            "flux-dev",
            {"negative_prompt": "red"},
            "negative_prompt has no effect on FluxPipeline here: .*true_cfg_scale",
        ),
        ("flux-schnell", {"guidance": 3.5}, "guidance has no effect on FluxPipeline .*set guidance to 0"),
        ("stable-diffusion-1", {"guidance": 1.0, "negative_prompt": "red"}, "negative_prompt has no effect"),
        ("stable-diffusion-1", {"eta": 1.0}, "eta has no effect .*choose DDIMScheduler"),
        (
            "stable-diffusion-1",
            {"size": 13},
            r"cannot draw with these settings \(ValueError: `height` and `width` have",
        ),
    ],
)
def test_a_setting_without_effect_is_one_clear_line_before_anything_is_generated(families, family, asked, message):
    settings = settings_of(family, families[family], **asked)
    with pytest.raises(ValueError, match=message) as caught:
        pipelines.preflight(families[family], PROMPTS, seeds=[1, 2, 3], settings=settings, batch_size=3)
    assert "\n" not in str(caught.value)


def test_the_same_settings_pass_where_they_have_an_effect(families, folders):
    call = tiny_pipelines.CALLS["flux-dev"] | {"true_cfg_scale": 4.0}
    settings = settings_of("flux-dev", families["flux-dev"], negative_prompt="red", call=call)
    pipelines.preflight(families["flux-dev"], PROMPTS, seeds=[1, 2, 3], settings=settings, batch_size=3)
    noisy = pipelines.load(folders["stable-diffusion-1"], "DDIMScheduler", "float32", "cpu")
    pipelines.preflight(
        noisy, PROMPTS, seeds=[1, 2, 3], settings=pipelines.call_settings(noisy, 3, 4.0, 16, eta=1.0), batch_size=3
    )


def test_a_scheduler_that_another_family_needs_is_one_clear_line(folders):
    flux = pipelines.load(folders["flux-dev"], "DDIMScheduler", "float32", "cpu")
    with pytest.raises(ValueError, match=r"FluxPipeline cannot draw with these settings \(ValueError: The current sch"):
        pipelines.preflight(flux, PROMPTS, seeds=[1, 2, 3], settings=settings_of("flux-dev", flux), batch_size=3)


def test_noise_that_does_not_come_from_the_slots_is_refused(folders):
    # Stable Diffusion 3 does not hand the slots' generators to its scheduler.
    noisy = pipelines.load(folders["stable-diffusion-3"], "EulerAncestralDiscreteScheduler", "float32", "cpu")
    with pytest.raises(
        ValueError, match="EulerAncestralDiscreteScheduler in StableDiffusion3Pipeline draws noise that"
    ):
        pipelines.preflight(
            noisy, PROMPTS, seeds=[1, 2, 3], settings=settings_of("stable-diffusion-3", noisy), batch_size=3
        )


def test_a_pipeline_whose_images_depend_on_their_neighbors_is_refused_but_for_batches_of_one(families):
    class Neighborly(Wrapped):
        def __call__(self, prompt, **more):
            longest = max(map(len, prompt))
            return self.pipeline(prompt=[text.ljust(longest, "x") for text in prompt], **more)

    pipeline = Neighborly(families["stable-diffusion-2"])
    settings = settings_of("stable-diffusion-2", families["stable-diffusion-2"])
    with pytest.raises(ValueError, match=r"another image when a longer prompt .*: set batch_size to 1"):
        pipelines.preflight(pipeline, PROMPTS, seeds=[1, 2, 3], settings=settings, batch_size=3)
    assert pipelines.preflight(pipeline, PROMPTS, seeds=[1, 2, 3], settings=settings, batch_size=1) == 0


@pytest.mark.parametrize("asked", [{"slicing": True, "tiling": True}, {"attention": "_native_math"}])
def test_settings_that_save_memory_or_time_change_no_small_image(families, folders, asked):
    other = pipelines.load(folders["flux-dev"], "", "float32", "cpu", **asked)
    settings = settings_of("flux-dev", other)
    drawn = [pipelines.sample(each, PROMPTS, [1, 2, 3], settings)[0] for each in (families["flux-dev"], other)]
    assert np.abs(drawn[0] - drawn[1]).max() < 1 / 256


def test_the_denoiser_alone_is_compiled(folders):
    import torch

    # Compiling this takes minutes; what is asserted is which part is handed to the compiler.
    with torch.compiler.set_stance("force_eager"):
        pipeline = pipelines.load(folders["stable-diffusion-1"], "", "float32", "cpu", compiled=True)
        pipelines.sample(pipeline, PROMPTS, [1, 2, 3], settings_of("stable-diffusion-1", pipeline))
    compiled = {name for name, part in pipelines._weights(pipeline).items() if part._compiled_call_impl}
    assert compiled == {"unet"}


def test_an_empty_prompt_is_no_reason_to_think_that_guidance_has_no_effect(families):
    pipeline = families["stable-diffusion-1"]
    pipelines.preflight(
        pipeline, ["", *PROMPTS], seeds=[1, 2, 3, 4], settings=settings_of("stable-diffusion-1", pipeline), batch_size=3
    )


# Pipelines that are not there, or not whole


def test_a_missing_pipeline_folder_is_one_clear_line(project):
    with pytest.raises(FileNotFoundError, match="is missing: run 00_pretrain, or name a folder or hub model"):
        pipelines.folder_of("outputs/digits/pretrain/pipeline")


def test_pickled_weights_are_read_where_that_is_asked_for_alone(tiny_pipeline, project):
    import torch

    pipeline = pipelines.load(tiny_pipeline, "", "float32", "cpu")
    pipeline.save_pretrained(project / "old", safe_serialization=False)
    text = project / "old" / "text_encoder"
    (text / "model.safetensors").unlink()  # transformers writes no other form
    torch.save(pipeline.text_encoder.state_dict(), text / "pytorch_model.bin")
    with pytest.raises(ValueError, match="old does not load"):
        pipelines.load(project / "old", "", "float32", "cpu")
    pickled = {"use_safetensors": False}
    assert pipelines.load(project / "old", "", "float32", "cpu", load=pickled)
    assert pipelines.hash_of(project / "old", pickled) != pipelines.hash_of(project / "old", {})


def test_the_hash_of_a_pipeline_is_of_the_files_that_its_load_reads(tiny_pipeline, project):
    folder = shutil.copytree(tiny_pipeline, project / "copy")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    before, of_variant = pipelines.hash_of(folder, {}), pipelines.hash_of(folder, {"variant": "fp16"})
    assert before == of_variant  # there is none: the load takes the others
    (folder / "README.md").write_text("words")
    (folder / "whole-model.safetensors").write_bytes(b"in one file")
    weights.with_name("diffusion_pytorch_model.fp16.safetensors").write_bytes(b"narrow")
    weights.with_name("diffusion_pytorch_model.bin").write_bytes(b"pickled")
    assert pipelines.hash_of(folder, {}) == before != pipelines.hash_of(folder, {"variant": "fp16"})
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    changed = pipelines.hash_of(folder, {})
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    assert len({before, changed, pipelines.hash_of(folder, {})}) == 3


def test_a_gated_model_is_one_line_that_says_what_to_do(project, monkeypatch):
    import diffusers
    import httpx
    from huggingface_hub.errors import GatedRepoError

    answer = httpx.Response(403, request=httpx.Request("GET", "https://hub/model"))
    gated = GatedRepoError("403 Client Error.\n\nCannot access gated repo. Visit the page.", response=answer)
    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", lambda *_, **__: (_ for _ in ()).throw(gated))
    with pytest.raises(FileNotFoundError, match=r"some/model .*: accept its license .*`hf auth login`") as caught:
        pipelines.folder_of("some/model")
    assert "\n" not in str(caught.value)


def test_a_hub_name_that_cannot_be_had_is_one_clear_line(project, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="pipeline nobody/nothing is neither a folder nor to be had"):
        pipelines.folder_of("nobody/nothing")


def test_a_folder_without_index_is_one_clear_line(tiny_pipeline, project):
    shutil.copytree(tiny_pipeline, project / "half")
    (project / "half" / "model_index.json").unlink()
    with pytest.raises(ValueError, match=r"has no model_index\.json: it is half-written or no pipeline"):
        pipelines.folder_of("half")
    with pytest.raises(ValueError, match="half does not load"):
        pipelines.load(project / "half", "", "float32", "cpu")


@pytest.mark.parametrize("lost", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json"])
def test_a_half_written_pipeline_is_one_clear_line(tiny_pipeline, project, lost):
    shutil.copytree(tiny_pipeline, project / "half")
    (project / "half" / lost).unlink()
    with pytest.raises(ValueError, match="half does not load") as caught:
        pipelines.load(project / "half", "", "float32", "cpu")
    assert "\n" not in str(caught.value)


def test_a_pipeline_without_its_tokenizer_is_one_clear_line(tiny_pipeline, project):
    shutil.copytree(tiny_pipeline, project / "half")
    shutil.rmtree(project / "half" / "tokenizer")
    with pytest.raises(ValueError, match="half lacks tokenizer: it is half-written"):
        pipelines.folder_of("half")


def test_a_truncated_weight_file_is_one_clear_line(tiny_pipeline, project):
    shutil.copytree(tiny_pipeline, project / "half")
    weights = project / "half" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="half does not load"):
        pipelines.load(project / "half", "", "float32", "cpu")


@pytest.mark.parametrize(("kind", "draws"), [("Flux2Pipeline", True), ("StableDiffusionImg2ImgPipeline", False)])
def test_a_pipeline_that_can_also_edit_images_is_one_of_those_that_draw_from_text(tmp_path, kind, draws):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    # Both take an image; the folder has no weights, so that the next thing amiss is said where the first is not.
    with pytest.raises(ValueError, match="does not load" if draws else "is not text-to-image"):
        pipelines.load(tmp_path, "", "float32", "cpu")


def test_a_pipeline_that_is_not_text_to_image_is_refused(project):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, block_out_channels=(8,), norm_num_groups=4, layers_per_block=1, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(project / "ddpm")
    with pytest.raises(ValueError, match=r"ddpm \(DDPMPipeline\) is not text-to-image"):
        pipelines.load(project / "ddpm", "", "float32", "cpu")
