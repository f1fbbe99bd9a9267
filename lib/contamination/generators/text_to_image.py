"""Train a small Stable Diffusion from captioned images: tokenizer, autoencoder, denoiser, and the pipeline of them.

The parts are the ordinary classes of diffusers and transformers, so what is saved here is loaded by the code that loads
the published models. Sizes and hyper-parameters are the caller's; this module only holds the training loops.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from contamination.training.loop import index_below

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, SchedulerMixin, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer


DIVERGENCE_WEIGHT = 1e-6  # as in latent diffusion: enough to keep latents bounded, too little to blur


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, *, length: int) -> CLIPTokenizer:
    """A byte-pair tokenizer in CLIP's format, learned from `texts`; every prompt becomes `length` token numbers.

    All 256 bytes are in the vocabulary, so a word that never occurred in `texts` is spelled out instead of failing.
    """
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    # CLIP's vocabulary has every byte with and without a word end. The trainer would keep only the ends that it saw,
    # and number them in an order that changes from call to call, and with it every weight trained on these numbers.
    ends = [f"{byte}</w>" for byte in sorted(pre_tokenizers.ByteLevel.alphabet())]
    learned = CLIPTokenizer().train_new_from_iterator(
        [list(texts)], vocabulary_size, new_special_tokens=ends, show_progress=False
    )
    model = json.loads(learned.backend_tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=length)


def scale(images: np.ndarray) -> torch.Tensor:
    """uint8 images (n, height, width, 3) as the autoencoder wants them: float (n, 3, height, width), -1 to 1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def shifted(images: torch.Tensor, shifts: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Copies of images (n, 3, height, width) moved by (down, right) pixels, edges repeated: (shifts, n, 3, ...)."""
    margin = max(abs(step) for shift in shifts for step in shift)
    padded = functional.pad(images, [margin] * 4, mode="replicate")
    height, width = images.shape[-2:]
    corners = [(margin - down, margin - right) for down, right in shifts]
    return torch.stack([padded[..., top : top + height, left : left + width] for top, left in corners])


def descend(
    batch_loss: Callable[[], torch.Tensor],
    parameters: Iterable[torch.nn.Parameter],
    *,
    steps: int,
    learning_rate: float,
    averaging: float = 0.0,
    description: str = "",
) -> list[float]:
    """Take `steps` AdamW steps on `batch_loss()` under a one-cycle schedule; returns the loss of each step.

    averaging: decay of the exponential moving average of the parameters, which they hold in the end; 0 for none.
    A loss that is not finite raises ValueError.
    """
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=1e-2, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    losses = []
    for step in tqdm(range(steps), desc=description, mininterval=2):
        loss = batch_loss()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            rate = schedule.get_last_lr()[0]
            good = f"loss {losses[-2]:.3g} at step {step}" if step else "the first weights"
            raise ValueError(
                f"{description}: loss is {losses[-1]} at step {step + 1}, learning rate {rate:.2g}; "
                f"last good state: {good}; lower the learning rate"
            )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        # Early on the average would be mostly initial noise, hence the ramp.
        decay = min(averaging, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], 1 - decay)
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    return losses


def train_autoencoder(
    autoencoder: AutoencoderKL,
    images: torch.Tensor,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    averaging: float,
    seed: int,
) -> list[float]:
    """Fit to images (n, 3, height, width), -1 to 1, then set the scaling factor that gives latents unit variance.

    The loss is the mean absolute plus the mean squared error, and a trace of the Kullback-Leibler divergence.
    """
    generator = torch.Generator().manual_seed(seed)

    def batch_loss() -> torch.Tensor:
        batch = images[torch.randint(len(images), (batch_size,), generator=generator).to(images.device)]
        posterior = autoencoder.encode(batch).latent_dist
        error = autoencoder.decode(posterior.sample(generator)).sample - batch
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        return error.abs().mean() + error.square().mean() + DIVERGENCE_WEIGHT * divergence

    losses = descend(
        batch_loss,
        autoencoder.train().parameters(),
        steps=steps,
        learning_rate=learning_rate,
        averaging=averaging,
        description="autoencoder",
    )
    autoencoder.eval()
    autoencoder.register_to_config(scaling_factor=1 / encode(autoencoder, images).std().item())
    return losses


@torch.no_grad()
def encode(autoencoder: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Means of the latents of images (n, 3, height, width), unscaled: (n, channels, height / 2, width / 2), say."""
    return torch.cat([autoencoder.encode(batch).latent_dist.mean for batch in images.split(256)])


def train_denoiser(
    denoiser: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    *,
    tokenizer: CLIPTokenizer,
    scheduler: SchedulerMixin,
    latents: torch.Tensor,
    texts: Sequence[Sequence[str]],
    steps: int,
    batch_size: int,
    learning_rate: float,
    text_dropout: float,
    averaging: float,
    seed: int,
) -> list[float]:
    """Fit denoiser and text encoder together; returns the loss of each step.

    latents: scaled, (copies, n, channels, height, width), copies being augmentations of the same n images.
    texts: for each of the n images the texts that describe it, equally many for all; one is drawn at each visit.
    text_dropout: share of visits with the empty text instead, which is what classifier-free guidance compares with.
    """
    generator, device = torch.Generator().manual_seed(seed), latents.device
    tokens = torch.stack([tokenize(tokenizer, alternatives) for alternatives in texts])
    empty = tokenize(tokenizer, [""])
    sizes = (*latents.shape[:2], tokens.shape[1])
    spread_words(text_encoder, seed)

    def batch_loss() -> torch.Tensor:
        copy, image, text = (torch.randint(size, (batch_size,), generator=generator) for size in sizes)
        dropped = torch.rand(batch_size, 1, generator=generator) < text_dropout
        hidden = text_encoder(torch.where(dropped, empty, tokens[image, text]).to(device)).last_hidden_state
        level = noise_levels(batch_size, scheduler.config.num_train_timesteps, generator=generator).to(device)
        clean = latents[copy.to(device), image.to(device)]
        noise = torch.randn(clean.shape, generator=generator).to(device)
        predicted = denoiser(scheduler.add_noise(clean, noise, level), level, hidden).sample
        return functional.mse_loss(predicted, target(scheduler, clean, noise=noise, level=level))

    parameters = [*denoiser.train().parameters(), *text_encoder.train().parameters()]
    losses = descend(
        batch_loss, parameters, steps=steps, learning_rate=learning_rate, averaging=averaging, description="denoiser"
    )
    denoiser.eval()
    text_encoder.eval()
    return losses


def noise_levels(count: int, levels: int, *, generator: torch.Generator) -> torch.Tensor:
    """One noise level from each of `count` equal intervals: less variance than independent draws. int64 (count,)."""
    position = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return index_below(position, levels)


def spread_words(text_encoder: CLIPTextModel, seed: int) -> None:
    """Draw the word embeddings anew with unit variance.

    CLIP's initial 0.02 is made for long training: beside the other terms all words look alike, and in a few hundred
    steps a generator learns colors but not which class a word means. Measured on the digits, 800 steps, images of
    `photo of {class}` at guidance 7.5: 0.17 of 200 show the class that was asked for, against 0.86 to 0.97 of 600 in
    five trainings with this.
    """
    weights = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        weights.copy_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)))


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Token numbers as the pipeline will make them: (texts, length)."""
    return tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids


def target(scheduler: SchedulerMixin, clean: torch.Tensor, *, noise: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """What the denoiser must predict under the scheduler's prediction type."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return scheduler.get_velocity(clean, noise, level)
    raise ValueError(f"prediction_type is {kind!r}; allowed: 'epsilon', 'v_prediction'")


def assemble(
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    *,
    tokenizer: CLIPTokenizer,
    denoiser: UNet2DConditionModel,
    scheduler: SchedulerMixin,
) -> StableDiffusionPipeline:
    """The trained parts as one pipeline, ready for `save_pretrained` and `DiffusionPipeline.from_pretrained`."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=denoiser,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
