"""The sections `pretrain` and `generate` of a parameter file."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from contamination.base.settings import Count, Decay, Rate, Section, Share
from contamination.generators import codecs, pipelines
from contamination.sources import readable_names


class Pretrain(Section):
    """00_pretrain: a small text-to-image pipeline trained on the pool."""

    autoencoder_steps: Count = 300
    """optimizer steps of the autoencoder"""
    autoencoder_learning_rate: Rate = 5e-3
    """the highest of its one-cycle schedule"""
    denoiser_steps: Count = 1800
    """optimizer steps of denoiser and text encoder"""
    denoiser_learning_rate: Rate = 3e-3
    """the highest of their one-cycle schedule"""
    batch_size: Count = 32
    """images per step, of both"""
    text_dropout: Share = 0.1
    """share of images shown without their text, for classifier-free guidance, 0 to 1"""
    ema_decay: Decay = 0.99
    """decay of the moving average of the weights, which is what is saved"""
    threads: Count = 1
    """CPU threads"""


class Generate(Section):
    """01_generate: one image for every slot of the training set."""

    pipeline: str = ""
    """folder or hub name of a diffusers text-to-image pipeline; empty: the one that 00_pretrain trains"""
    load: dict = Field(default_factory=dict)
    """further arguments of its `from_pretrained`, such as `variant: fp16` or `revision`"""
    scheduler: str = ""
    """class name of a diffusers scheduler; empty: the pipeline's own. PLMS is `PNDMScheduler` with the option
    `skip_prk_steps: true`"""
    scheduler_options: dict = Field(default_factory=dict)
    """what changes in the scheduler's configuration"""
    steps: Count = 12
    """denoising steps per image"""
    size: Annotated[int, Field(ge=0, strict=True)] | Annotated[list[Count], Field(min_length=2, max_length=2)] = 0
    """pixels per side that the pipeline draws, or `[height, width]`; 0: its own size"""
    codec: dict = Field(default_factory=lambda: dict(codecs.AS_REAL))
    """how images are stored: `format` (`PNG`, `JPEG`, `WEBP`) and what Pillow's `save` takes for it, such as `quality`
    and `subsampling`; `{}`: as most of the real files of train are, and refused where that is a format that is not
    written here; `{format: real}`: JPEG as most of them are where they are JPEG, else PNG"""
    names: str = ""
    """file of class names for prompts: CSV with the columns folder, name and, if wanted, synonyms (semicolons between
    them), or JSON `{folder: [name, synonym, ...]}`; empty: that of `data.names`, without one WordNet's words for
    WordNet ids and other folders as they are called"""
    negative_prompt: str = ""
    """what the images should not show"""
    eta: Share = 0.0
    """share of DDIM's noise, 0 to 1"""
    call: dict = Field(default_factory=dict)
    """further arguments of the pipeline's call, such as `true_cfg_scale`"""
    dtype: str | dict[str, str] = "float32"
    """number format: `float32`, `float16` or `bfloat16`; or one per part and `default` for the others, such as
    `{default: float16, vae: float32}`"""
    attention: str = ""
    """attention backend of the denoiser, as diffusers calls it; empty: its own"""
    compiled: bool = False
    """whether the denoiser goes through `torch.compile`"""
    slicing: bool = False
    """whether images are decoded one by one, which takes less memory"""
    tiling: bool = False
    """whether images are decoded in tiles, which takes less memory and changes pixels of large images"""
    safety_retries: int = Field(0, ge=0)
    """how many other seeds to try where the safety checker flags an image, which is never kept; 0: stop there"""
    stored: Literal["square", "slot"] = "square"
    """size of stored images: `square`, of `data.image_size`, or `slot`, each of height and width of the real image in
    its slot, for a recipe with random crops (`crop: random`), which would tell small generated images from large real
    ones"""
    watermark: str = ""
    """text of an invisible watermark that every image gets after its resize and before the codec; it needs 48x48 pixels
    at least; at 64x64 it outlives JPEG of quality 95, at 224x224 of 75; what is pure blue or yellow cannot carry it;
    empty: none"""
    batch_size: Count = 100
    """images per call of the pipeline, halved where memory is too small; another one changes pixels by rounding only"""
    shard_size: Count = 200
    """images per file; a run that was cut off goes on at the next file"""
    threads: Count = 1
    """CPU threads of one job"""

    @model_validator(mode="after")
    def _usable(self):
        pipelines.require_dtypes(self.dtype)
        if self.codec:
            codecs.require(self.codec)
        if self.names:
            readable_names.load(self.names)
        return self
