"""The small generator: reproducible, saved so that plain diffusers loads it, never stuck on a word."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from contamination.generators import text_to_image

pytestmark = pytest.mark.medium

TEXTS = ["photo of three", "a pink two on green background", "high quality picture of 9 taken with iPhone"]


def parts():
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = text_to_image.train_tokenizer(TEXTS, 600, length=16)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=16, **sizes))
    autoencoder = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=3)
    denoiser = UNet2DConditionModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    return autoencoder, text, tokenizer, denoiser, DDIMScheduler(prediction_type="v_prediction")


def train(steps=4, rate=1e-3):
    autoencoder, text, tokenizer, denoiser, schedule = parts()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    views = text_to_image.shifted(text_to_image.scale(pixels), [(0, 0), (0, 1)])
    losses = text_to_image.train_autoencoder(
        autoencoder, views.flatten(0, 1), steps=steps, batch_size=4, learning_rate=rate, averaging=0.9, seed=0
    )
    latents = text_to_image.encode(autoencoder, views.flatten(0, 1)).unflatten(0, views.shape[:2])
    texts = [TEXTS] * 6
    losses += text_to_image.train_denoiser(
        denoiser,
        text,
        tokenizer=tokenizer,
        scheduler=schedule,
        latents=latents,
        texts=texts,
        steps=steps,
        batch_size=4,
        learning_rate=rate,
        text_dropout=0.1,
        averaging=0.9,
        seed=0,
    )
    return losses, [*autoencoder.parameters(), *text.parameters(), *denoiser.parameters()]


def test_training_twice_gives_the_same_bits():
    (losses, weights), (again, weights_again) = train(), train()
    assert losses == again
    assert all(torch.equal(one, other) for one, other in zip(weights, weights_again, strict=True))


def test_the_tokenizer_numbers_words_alike_in_every_process():
    script = (
        "from contamination.generators.text_to_image import train_tokenizer as t; import json;"
        f"print(json.dumps(t({TEXTS!r}, 600, length=16).get_vocab(), sort_keys=True))"
    )
    found = {subprocess.check_output([sys.executable, "-c", script]) for _ in range(2)}
    assert len(found) == 1


@pytest.mark.parametrize("word", ["zebra", "três", "三", "<script>&\"'", "", "x" * 300])
def test_a_word_never_seen_is_spelled_out(word):
    tokenizer = text_to_image.train_tokenizer(TEXTS, 600, length=16)
    tokens = text_to_image.tokenize(tokenizer, [word])
    assert tokens.shape == (1, 16) and int(tokens.max()) < len(tokenizer)


def test_shifted_copies_move_by_whole_pixels_and_repeat_the_edge():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    same, down = text_to_image.shifted(images, [(0, 0), (1, 0)])
    assert torch.equal(same, images)
    assert torch.equal(down[..., 1:, :], images[..., :-1, :]) and torch.equal(down[..., 0, :], images[..., 0, :])


def test_latents_are_scaled_to_unit_variance():
    autoencoder = parts()[0]
    images = torch.rand(8, 3, 8, 8) * 2 - 1
    text_to_image.train_autoencoder(
        autoencoder, images, steps=2, batch_size=4, learning_rate=1e-3, averaging=0.0, seed=0
    )
    latents = text_to_image.encode(autoencoder, images) * autoencoder.config.scaling_factor
    assert float(latents.std()) == pytest.approx(1, abs=1e-4)


def test_a_loss_that_is_no_number_stops_with_step_and_rate():
    with pytest.raises(ValueError, match=r"autoencoder: loss is (nan|inf) at step \d+, learning rate 1e\+20"):
        train(20, 1e20)
