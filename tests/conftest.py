"""Fixtures: a small project folder of its own for every test that writes."""

import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# It builds a grammar for seconds when nbformat is imported, which no test needs; jobs go without it, too.
sys.modules["rfc3987_syntax"] = None

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

ROOT = Path(__file__).parent.parent
pytest_plugins = ["support.gpu_machine"]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A copy of notebooks, parameters and runner in an empty folder, which is the working directory meanwhile."""
    return make_project(tmp_path, monkeypatch)


def make_project(folder: Path, monkeypatch) -> Path:
    for part in ("notebooks", "parameters", "profiles"):
        shutil.copytree(ROOT / part, folder / part)
    shutil.copy(ROOT / "Snakefile", folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_pipeline(tmp_path_factory) -> Path:
    """A real Stable Diffusion pipeline with random weights, 16x16 pixels, as a saved folder."""
    import torch
    from contamination.generators import text_to_image
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    tokenizer = text_to_image.train_tokenizer(["photo of three", "a red two on green background"], 400, length=16)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    autoencoder = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, sample_size=16, **blocks)
    denoiser = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    scheduler = DDIMScheduler(clip_sample=False)
    folder = tmp_path_factory.mktemp("pipeline") / "tiny"
    pipeline = text_to_image.assemble(
        autoencoder, CLIPTextModel(text), tokenizer=tokenizer, denoiser=denoiser, scheduler=scheduler
    )
    pipeline.save_pretrained(folder)
    return folder
