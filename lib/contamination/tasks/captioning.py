"""Image captioning with BLIP: a small one on an image encoder that the pool has taught, or a published one."""

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from contamination import sources
from contamination.base import files, image_tables, plotting
from contamination.base.settings import Count, Rate, Section, read_settings
from contamination.metrics import captions as metrics
from contamination.networks import hub
from contamination.networks.caption_words import frequent_words, has_words, train_multilabel
from contamination.training import reader
from contamination.training.loop import fit, normalize
from contamination.training.settings import AffineAugmentation, CropAugmentation, LoadingOptions, Optimization, Runtime

NEEDS = ("caption",)
USES_OOD_SETS = False
AUXILIARY_STAGE = "train"
FROM_SCRATCH = "blip"  # the architecture whose text side starts from scratch
DESCRIPTION = re.compile(r"an? (?P<foreground>\w+) (?P<class>\w+) on (?P<background>\w+) background")  # of a digit
PARTS = {"foreground", "background"}  # columns of images whose captions read like it


class Train(CropAugmentation, Runtime, Optimization):
    steps: Count = 300
    learning_rate: Rate = 2e-3
    max_length: int = Field(16, ge=3)
    """tokens of a caption, its begin and its end among them; longer ones are cut"""


class Evaluate(Section):
    beams: Count = 1
    """beams of the search for a caption; 1: the likeliest next token each time"""
    threads: Count = 1
    """CPU threads of one job"""


class Auxiliary(LoadingOptions, AffineAugmentation, Optimization):
    """The image encoder; the lower half are keyword arguments of `BlipVisionConfig`."""

    steps: Count = 1500
    learning_rate: Rate = 2e-3
    patch_size: Count = 4
    """pixels per side of a patch that the image encoder reads"""
    hidden_size: Count = 64
    """width of the image encoder"""
    num_hidden_layers: Count = 2
    """layers of the image encoder"""
    num_attention_heads: Count = 8
    """attention heads of the image encoder"""
    intermediate_size: Count = 128
    """width of its feed-forward layers"""

    @model_validator(mode="after")
    def _heads_fit(self):
        return _require_heads_fit(self)


class Options(Section):
    """The text side of the small BLIP: keyword arguments of `BlipTextConfig`."""

    vocab_size: Count = 1000  # the most tokens of the vocabulary; all bytes are among them in any case
    hidden_size: Count = 64
    num_hidden_layers: Count = 2
    num_attention_heads: Count = 4
    intermediate_size: Count = 128
    initializer_range: Rate = 0.08  # with BLIP's own 0.02 a few hundred steps teach colors, but not which digit it is

    @model_validator(mode="after")
    def _heads_fit(self):
        return _require_heads_fit(self)


class Captioner(NamedTuple):
    """A BLIP with what it reads and writes by: its tokenizer, and mean and std of pixels (0..1) by channel."""

    model: Any
    tokenizer: Any
    mean: list[float]
    std: list[float]


def _require_heads_fit(section):
    if section.hidden_size % section.num_attention_heads:
        raise ValueError(
            f"hidden_size {section.hidden_size} is no multiple of num_attention_heads {section.num_attention_heads}"
        )
    return section


def check(study) -> None:
    """Raise ValueError for wrong options, a missing section or folder, and generated sets that captions do not tell."""
    models = study.models_of("captioning")
    for name, model in models.items():
        if model.architecture == FROM_SCRATCH:
            _check_from_scratch(study, name, model.options)
        else:
            _check_published(name, model)
    for name, generated in study.grid.generated.items():
        users = set(models) & set(generated.models or models)
        if users and not generated.from_captions:
            why = "a folder with class sub-folders" if generated.folder else f"style {generated.style}"
            raise ValueError(
                f"grid.generated.{name}.models: its images were not made from captions ({why}), "
                f"so no caption describes them: name models there without {', '.join(sorted(users))}"
            )


def _check_from_scratch(study, name: str, options: dict) -> None:
    read_settings(Options, options, key=f"grid.models.{name}.options")
    auxiliary, size = study.auxiliary.captioning, study.data.image_size
    if auxiliary is None:
        raise ValueError(f"auxiliary.captioning is missing: grid.models.{name} ({FROM_SCRATCH}) needs its encoder")
    if size % auxiliary.patch_size:
        raise ValueError(f"auxiliary.captioning.patch_size {auxiliary.patch_size} does not divide image_size {size}")


def _check_published(name: str, model) -> None:
    if model.options:
        raise ValueError(f"grid.models.{name}.options: only architecture {FROM_SCRATCH} takes options")
    hub.locate(model.architecture, FROM_SCRATCH)


def prepare(settings: dict, layout, seed: int, device) -> tuple[Any, list[dict], list[dict]]:
    """Train the image encoder to tell which words an image's caption has: no labels needed, and no text side.

    A linear layer on the class token, thrown away afterwards, gives each word's log-odds; the loss is binary
    cross-entropy. BLIP's own encoder, too, starts from one that had learned to tell what an image shows.
    Returns the encoder, its history and its scores on the test set.
    """
    import torch

    torch.manual_seed(seed)
    pool, test = image_tables.read(layout.real("pool")), image_tables.read(layout.real("test"))
    size = image_tables.stored_size(pool)
    words = frequent_words(pool["caption"].to_pylist())
    head = torch.nn.Linear(settings["hidden_size"], len(words))
    both = torch.nn.ModuleList([build_encoder(settings, size), head])
    model, history = train_multilabel(
        both, log_odds, pool=pool, words=words, settings=settings, seed=seed, device=device
    )
    return (
        model[0],
        history,
        score_words(model, test, words=words, size=size, threads=settings["threads"], device=device),
    )


def build_encoder(settings: dict, size: int):
    """BLIP's image encoder with new weights. settings: the fields of `Auxiliary`. size: pixels per side."""
    from transformers import BlipVisionConfig, BlipVisionModel

    return BlipVisionModel(BlipVisionConfig(**encoder_options(settings), image_size=size))


def encoder_options(settings: dict) -> dict:
    """Keyword arguments of `BlipVisionConfig` among the fields of `Auxiliary`."""
    names = ("patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    # BLIP's own initializer_range, 1e-10, is for weights that are loaded: from there nothing is ever learned.
    return {name: settings[name] for name in names} | {"initializer_range": 0.02}


def log_odds(model, views):
    """Log-odds that an image's caption has each word, (n, words). model: encoder and linear layer."""
    encoder, head = model
    return head(encoder(pixel_values=views).pooler_output)


def score_words(model, images: pa.Table, *, words: list[str], size: int, threads: int, device) -> list[dict]:
    """`word_f1`, F1 measure over all pairs of image and word; `all_words`, the share of images with no word wrong."""
    import torch

    with torch.inference_mode():
        parts = reader.in_order(images, size, threads=threads, batch_size=500)
        predicted = torch.cat([log_odds(model, normalize(part.to(device))).cpu() > 0 for part in parts])
    present = has_words(images["caption"].to_pylist(), words)
    f1 = 2 * (predicted & present).sum() / (predicted.sum() + present.sum()).clamp_min(1)
    values = {"word_f1": f1, "all_words": (predicted == present).all(dim=1).float().mean()}
    row = {"split": "test", "n": len(predicted)}
    return [row | {"metric": name, "value": value.item()} for name, value in values.items()]


def build(recipe: dict, layout) -> Captioner:
    """The captioner that a recipe describes, as it is before it is trained on a mixture."""
    if recipe["architecture"] == FROM_SCRATCH:
        return _from_scratch(recipe, layout)
    return _published(hub.locate(recipe["architecture"], FROM_SCRATCH))


def _from_scratch(recipe: dict, layout) -> Captioner:
    """A small BLIP: the image encoder and the tokenizer are learned from the pool, the text side is new."""
    from safetensors.torch import load_file
    from transformers import BlipConfig, BlipForConditionalGeneration

    from contamination.generators.text_to_image import train_tokenizer

    options = Options(**recipe["options"]).model_dump()
    folder = layout.auxiliary("captioning")
    record = files.read_json(files.require(folder / files.RECORD, "00_auxiliary"))
    captions = image_tables.read(layout.real("pool"))["caption"].to_pylist()
    # Spelled in bytes where need be: no caption holds anything unknown. Upper case becomes lower case.
    tokenizer = train_tokenizer(captions, options["vocab_size"], length=recipe["max_length"])
    # `generate` ends a caption at the separator, and the tokenizer pads with its end token.
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    numbers = {"bos_token_id": begin, "eos_token_id": end, "sep_token_id": end, "pad_token_id": end}
    numbers |= {"vocab_size": len(tokenizer), "max_position_embeddings": recipe["max_length"]}
    vision = encoder_options(record["settings"]) | {"image_size": recipe["image_size"]}
    model = BlipForConditionalGeneration(BlipConfig(text_config=options | numbers, vision_config=vision))
    model.vision_model.load_state_dict(load_file(folder / "weights.safetensors"))
    return Captioner(model, tokenizer, [0.5] * 3, [0.5] * 3)


def _published(name: str) -> Captioner:
    """A BLIP of a folder or the hub, with its own tokenizer and pixel scale. Raises ValueError if it does not load."""
    from huggingface_hub import snapshot_download
    from transformers import BlipForConditionalGeneration, BlipProcessor

    def read():
        kinds = ["*.json", "*.txt", "*.safetensors"]
        folder = name if Path(name).is_dir() else snapshot_download(name, allow_patterns=kinds)
        model = BlipForConditionalGeneration.from_pretrained(folder, use_safetensors=True)
        return BlipProcessor.from_pretrained(folder), model

    processor, model = hub.load(name, "BLIP", read)
    scale = processor.image_processor
    return Captioner(model, processor.tokenizer, list(scale.image_mean), list(scale.image_std))


def train(recipe: dict, images, layout, seed: int, device, checkpoint=None) -> tuple[Any, list[dict]]:
    """Train all of a captioner on the images and captions of a mixture, each word given those before it.

    Returns the model and its history. Everything random (weights, batches, crops) follows from `seed`. No other
    augmentation: on the digits captions are as good without.
    """
    import torch

    torch.manual_seed(seed)
    captioner = build(recipe, layout)
    captions = encode(captioner, images["caption"].to_pylist(), length=recipe["max_length"])
    tokens, targets = (part.to(device) for part in captions)

    def loss(model, pixels, index, draws):
        views = as_seen(captioner, pixels)
        return model(pixel_values=views, input_ids=tokens[index], labels=targets[index]).loss

    pictures = reader.load(images, recipe["image_size"], recipe, device, seed)
    model, history = fit(
        captioner.model, loss, images=pictures, recipe=recipe, seed=seed, device=device, checkpoint=checkpoint
    )
    return untie(model), history


def as_seen(captioner: Captioner, pixels):
    """uint8 (n, 3, height, width) at the size and scale of the model's image encoder: float (n, 3, size, size)."""
    size = captioner.model.config.vision_config.image_size
    return hub.as_seen(pixels, size, mean=captioner.mean, std=captioner.std)


def encode(captioner: Captioner, captions: list[str], *, length: int):
    """Captions as int64 token numbers (n, longest), and as targets of that shape, -100 where the loss must not look.

    Begin, caption, end, padding; a caption of more than `length` tokens is cut, and keeps its end.
    """
    import torch

    config = captioner.model.config.text_config
    numbers = captioner.tokenizer(captions, add_special_tokens=False, truncation=True, max_length=length - 2).input_ids
    rows = [torch.tensor([config.bos_token_id, *row, config.sep_token_id]) for row in numbers]
    fill = torch.nn.utils.rnn.pad_sequence
    return tuple(fill(rows, batch_first=True, padding_value=value) for value in (config.pad_token_id, -100))


def untie(model):
    """Give each weight memory of its own: safetensors cannot hold shared ones, such as BLIP's word vectors."""
    import torch

    seen = set()
    for name, weight in list(model.named_parameters(remove_duplicate=False)):
        if weight.data_ptr() in seen:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, torch.nn.Parameter(weight.detach().clone()))
        seen.add(weight.data_ptr())
    return model


def evaluate(
    settings: dict, recipe: dict, weights: Path, layout, seed: int, device, checkpoint=None, *, split: str = "test"
) -> tuple[list[dict], pa.Table]:
    """Caption the images of a split and compare with their captions, all of them where an image has several.

    weights: a safetensors file of the model that `recipe` describes. Returns the scores, one dict (split, metric,
    value, n) each, and the predictions: columns id, caption, reference (a list of captions), one row per image.
    """
    from safetensors.torch import load_file

    captioner = build(recipe, layout)
    captioner.model.load_state_dict(load_file(weights))
    images = image_tables.read(layout.real(split))
    references = images["captions"].to_pylist() if "captions" in images.column_names else None
    references = references or [[caption] for caption in images["caption"].to_pylist()]
    batches = reader.in_order(images, recipe["image_size"], threads=settings["threads"], batch_size=200)
    captions = describe(captioner, batches, recipe["max_length"], settings["beams"], device)
    scores = metrics.score(captions, references)
    if set(images.column_names) >= PARTS:
        parts = correct_parts(captions, images, class_names=sources.class_names(layout))
        scores += [{"metric": name, "value": float(right.mean()), "n": len(right)} for name, right in parts.items()]
    predictions = pa.table({"id": images["id"], "caption": captions, "reference": references})
    return [{"split": split} | each for each in scores], predictions


def describe(captioner: Captioner, batches: Iterable, length: int, beams: int, device) -> list[str]:
    """The most likely caption of each image, of at most `length` tokens.

    batches: of pixels, uint8 (n, 3, size, size).
    """
    import torch

    model, captions = captioner.model.to(device).eval(), []
    for part in batches:
        with torch.inference_mode():
            views = as_seen(captioner, part.to(device))
            mask = torch.ones(len(part), 2, dtype=torch.int64, device=device)  # of begin and end; it drops the end
            rows = model.generate(views, attention_mask=mask, max_length=length, num_beams=beams, do_sample=False)
        captions += [_read(captioner, row) for row in rows.tolist()]
    return captions


def _read(captioner: Captioner, numbers: list[int]) -> str:
    """Token numbers as text, without the begin, and without the end and what follows it."""
    end = captioner.model.config.text_config.sep_token_id
    numbers = numbers[1 : numbers.index(end) if end in numbers else None]
    return captioner.tokenizer.decode(numbers, skip_special_tokens=True).strip()


def per_image(predictions: pa.Table, layout, *, split: str = "test") -> dict[str, np.ndarray]:
    """Of the predictions of one seed, whether each caption names the right class, foreground, background, and all.

    bool each; nothing where images have no such parts.
    """
    images = image_tables.read(layout.real(split))
    if not set(images.column_names) >= PARTS:
        return {}
    return correct_parts(predictions["caption"].to_pylist(), images, class_names=sources.class_names(layout))


def correct_parts(captions: list[str], images: pa.Table, *, class_names: list[str]) -> dict[str, np.ndarray]:
    """Which captions name class, foreground, background and all three right, each in its place: bool (n,).

    images: columns label, foreground, background. A caption that does not read like `DESCRIPTION` has nothing right.
    """
    found = [DESCRIPTION.fullmatch(caption) for caption in captions]
    truth = images.select(["foreground", "background"]).to_pydict()
    truth["class"] = [class_names[label] for label in images["label"].to_pylist()]
    right = {
        f"correct_{part}": np.array(
            [match is not None and match[part] == true for match, true in zip(found, truth[part], strict=True)]
        )
        for part in ("class", "foreground", "background")
    }
    return right | {"exact_match": np.all(list(right.values()), axis=0)}


def show(predictions: pa.Table, recipe: dict, layout, split: str = "test") -> list:
    """Twelve images with the captions of the first seed, in red where none of the image's own; as text, too."""
    import matplotlib.pyplot as plt

    first = plotting.first_seed(predictions).slice(0, 12)
    images = image_tables.read(layout.real(split))
    pixels = image_tables.decode_all(images.slice(0, first.num_rows), recipe["image_size"])
    plotting.set_style()
    figure, axes = plt.subplots(2, 6, figsize=(9, 4.2))
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for ax, image, row in zip(axes.flat, pixels.permute(0, 2, 3, 1).numpy(), first.to_pylist(), strict=False):
        said = metrics.tokenize(row["caption"])
        right = said in [metrics.tokenize(reference) for reference in row["reference"]]
        ax.imshow(image)
        # parse_math: a pair of dollar signs in a caption is no formula.
        caption, color = shorten(row["caption"]) or "(empty)", "black" if right else "red"
        ax.set_xlabel(caption, color=color, parse_math=False, fontsize="small")
    figure.suptitle(f"captions by {recipe['model']} (seed {first['seed'][0]}); red: not the image's own")
    listed = first.select(["id", "caption", "reference"]).to_pandas()
    return [figure, listed.rename(columns={"caption": "generated caption", "reference": "real captions"})]


def shorten(caption: str, width: int = 20, *, lines: int = 4) -> str:
    """A caption in at most `lines` lines of `width` characters."""
    return "\n".join(textwrap.wrap(caption, width, max_lines=lines, placeholder=" …"))


TRAINING = (train,)  # the code that 03_train shows: it builds the model and says what its loss is
