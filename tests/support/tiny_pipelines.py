"""Text-to-image pipelines of every family that the studies name, with random weights and a few thousand parameters.

They are diffusers' own classes, saved as folders and loaded by the code that loads the published models. Nothing comes
from a network: tokenizers are trained here.
"""

from pathlib import Path

FAMILIES = (
    "stable-diffusion-1",
    "stable-diffusion-2",
    "stable-diffusion-xl",
    "stable-diffusion-3",
    "flux-dev",
    "flux-schnell",
    "pixart-alpha",
    "pixart-sigma",
)
# What a family's call needs beside the ordinary settings because the parts are this small.
CALLS = {
    "stable-diffusion-3": {"max_sequence_length": 16},
    "flux-dev": {"max_sequence_length": 16},
    "flux-schnell": {"max_sequence_length": 16},
    "pixart-alpha": {"max_sequence_length": 16, "use_resolution_binning": False, "clean_caption": False},
    "pixart-sigma": {"max_sequence_length": 16, "use_resolution_binning": False, "clean_caption": False},
}
SIZE = 16  # pixels per side that they draw
WIDTH = 16  # of every hidden layer
TEXTS = ["photo of three", "a red two on green background", "high quality realistic photo of a zero"]


def save(family: str, folder: Path) -> Path:
    """Build one family's pipeline from seed 0 and save it to a folder, which is returned."""
    import torch

    torch.manual_seed(0)
    makers = {"stable": _stable_diffusion, "flux": _flux, "pixart": _pixart}
    pipeline = makers[family.split("-")[0]](family)
    pipeline.save_pretrained(folder)
    return folder


def settings_of(family: str, pipeline, **more) -> dict:
    """Settings with which a family's pipeline draws an image in milliseconds. more: other settings than these."""
    from contamination.generators import pipelines

    guidance = 0 if family == "flux-schnell" else 4.0
    asked = {"steps": 3, "guidance": guidance, "size": SIZE, "call": CALLS.get(family)}
    return pipelines.call_settings(pipeline, **asked | more)


class Wrapped:
    """A real pipeline of which something is changed."""

    def __init__(self, pipeline):
        self.pipeline = pipeline

    def __getattr__(self, name):
        return getattr(self.pipeline, name)


def add_safety_checker(folder: Path, pipeline, images, flagged: list[bool]) -> None:
    """Give a saved Stable Diffusion 1 pipeline a real safety checker that flags just these of some images.

    images: PIL images as the pipeline draws them. The checker compares an image's embedding with directions; here these
    are the embeddings of the images to be flagged, and the threshold is halfway between them and the nearest other.
    """
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    sizes = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config=sizes | {"image_size": SIZE, "patch_size": 2}, projection_dim=WIDTH)
    checker = StableDiffusionSafetyChecker(config).eval()
    edges = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    processor = CLIPImageProcessor(**edges)
    bad = [row for row, flag in enumerate(flagged) if flag]
    good = [row for row, flag in enumerate(flagged) if not flag]
    with torch.no_grad():
        pooled = checker.vision_model(processor(images, return_tensors="pt").pixel_values)[1]
        # Untrained, all embeddings point nearly the same way: what they have in common is projected out.
        common = torch.nn.functional.normalize(pooled.mean(dim=0), dim=0)
        checker.visual_projection.weight.copy_(torch.eye(WIDTH) - torch.outer(common, common))
        embeddings = torch.nn.functional.normalize(checker.visual_projection(pooled))
        checker.special_care_embeds_weights.fill_(2)  # a cosine is never above 2: no special care
        checker.concept_embeds.copy_(embeddings[[bad[i % len(bad)] for i in range(17)]])
        nearest = (embeddings[good] @ embeddings[bad].T).max().item()
        checker.concept_embeds_weights.fill_((1 + nearest) / 2)
    pipeline.register_modules(safety_checker=checker, feature_extractor=processor)
    pipeline.save_pretrained(folder)


def _stable_diffusion(family: str):
    return {"1": _version_1_or_2, "2": _version_1_or_2, "xl": _version_xl, "3": _version_3}[family.split("-")[2]](
        family
    )


def _version_1_or_2(family: str):
    from contamination.generators import text_to_image
    from diffusers import DDIMScheduler, PNDMScheduler

    settings = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
    scheduler = PNDMScheduler(skip_prk_steps=True, **settings)
    if family == "stable-diffusion-2":
        scheduler = DDIMScheduler(prediction_type="v_prediction", clip_sample=False, **settings)
    tokenizer = _clip_tokenizer()
    return text_to_image.assemble(
        _autoencoder(4), _clip(tokenizer), tokenizer=tokenizer, denoiser=_unet(WIDTH), scheduler=scheduler
    )


def _version_xl(family: str):
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    tokenizer = _clip_tokenizer()
    additions = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    additions["projection_class_embeddings_input_dim"] = WIDTH + 6 * 4
    return StableDiffusionXLPipeline(
        vae=_autoencoder(4),
        text_encoder=_clip(tokenizer),
        text_encoder_2=_clip(tokenizer, projected=True),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=_unet(2 * WIDTH, **additions),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="leading"),
    )


def _version_3(family: str):
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    tokenizer, text_tokenizer = _clip_tokenizer(), _t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=SIZE // 2,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=SIZE,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_autoencoder(4, shift_factor=0.0609),
        text_encoder=_clip(tokenizer, projected=True),
        tokenizer=tokenizer,
        text_encoder_2=_clip(tokenizer, projected=True),
        tokenizer_2=tokenizer,
        text_encoder_3=_t5(text_tokenizer, 2 * WIDTH),
        tokenizer_3=text_tokenizer,
    )


def _flux(family: str):
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    tokenizer, text_tokenizer = _clip_tokenizer(), _t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=family == "flux-dev",
        axes_dims_rope=(2, 2, 4),
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=family == "flux-dev"),
        vae=_autoencoder(4, shift_factor=0.1159),
        text_encoder=_clip(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=_t5(text_tokenizer, WIDTH),
        tokenizer_2=text_tokenizer,
        transformer=transformer,
    )


def _pixart(family: str):
    from diffusers import (
        DPMSolverMultistepScheduler,
        PixArtAlphaPipeline,
        PixArtSigmaPipeline,
        PixArtTransformer2DModel,
    )

    tokenizer = _t5_tokenizer()
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=WIDTH,
        sample_size=SIZE // 2,
        caption_channels=WIDTH,
        use_additional_conditions=False,
    )
    kind = PixArtAlphaPipeline if family == "pixart-alpha" else PixArtSigmaPipeline
    return kind(
        tokenizer=tokenizer,
        text_encoder=_t5(tokenizer, WIDTH),
        vae=_autoencoder(4),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )


def _autoencoder(channels: int, **more):
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": SIZE, "latent_channels": channels}
    return AutoencoderKL(**blocks, **sizes, **more)


def _unet(text_width: int, **more):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 2,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=text_width,
        attention_head_dim=2,
        **more,
    )


def _clip(tokenizer, projected: bool = False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _clip_tokenizer():
    from contamination.generators import text_to_image

    return text_to_image.train_tokenizer(TEXTS, 400, length=16)


def _t5(tokenizer, width: int):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=2 * width, num_layers=1, num_heads=2)
    return T5EncoderModel(config)


def _t5_tokenizer():
    """A unigram tokenizer in T5's format: single letters and the words of `TEXTS`."""
    from transformers import T5Tokenizer

    words = sorted({word for text in TEXTS for word in text.split()})
    letters = [chr(code) for code in range(33, 127)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces = [(f"▁{word}", -3.0) for word in words] + [(letter, -5.0) for letter in letters]
    return T5Tokenizer(vocab=special + pieces, extra_ids=0, model_max_length=16)
