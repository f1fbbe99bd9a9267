"""Small stand-ins for the data sets and networks that the real studies name, each in its true form.

Folders, file names, annotation files and the hub's cache look as those of ImageNet, WebVision, COCO and CIFAR-10 do;
the images are colored clouds, the networks have random weights.
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

# Tench, goldfish and the two cranes, bird and machine.
WNIDS = ("n01440764", "n01443537", "n02012849", "n03126707")
QUERIES = {"q0001": 1, "q0002": 2, "q0003": 3, "q0004": 4, "q0005": 4}  # WebVision's, with the line of their class
OOD = {"imagenet-a": WNIDS[:2], "imagenet-r": WNIDS[1:], "imagenet-v2": WNIDS, "imagenet-sketch": WNIDS}
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
QTABLES = {"quality": 96, "subsampling": 0}  # of most of ImageNet's files here
UPSIDE_DOWN = 3  # EXIF's orientation
OBJECTS = ("dog", "train", "kite", "pizza")


def cloud(number: int, height: int, width: int) -> Image.Image:
    """A smooth colored image, another one for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def _save(path: Path, image: Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format="JPEG", **options)


def imagenet(root: Path, train: int = 10, val: int = 4) -> None:
    """`imagenet/train` and `imagenet/val`: class folders of JPEGs of many sizes; among those of train one is gray, one
    CMYK, one upside down by its EXIF entry, some stored otherwise than the others."""
    for label, name in enumerate(WNIDS):
        for number in range(train):
            image = cloud(100 * label + number, 40 + 3 * number, 60 - number)
            options = {"quality": 75} if number % 5 == 4 else QTABLES
            if number == 0:
                image = image.convert(("L", "CMYK", "RGB", "RGB")[label])
            if (label, number) == (2, 0):
                options = options | {"exif": _turned()}
            _save(root / f"imagenet/train/{name}/{name}_{number * 37}.JPEG", image, **options)
        for number in range(val):
            image = cloud(5000 + 100 * label + number, 50, 44)
            _save(root / f"imagenet/val/{name}/ILSVRC2012_val_{10 * label + number + 1:08d}.JPEG", image, **QTABLES)


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = UPSIDE_DOWN
    return exif


def webvision(root: Path, images: int = 7) -> None:
    """`webvision` as it is unpacked: `info`, and `google` and `flickr` with a folder of each query; one is cut off."""
    info = root / "webvision/info"
    info.mkdir(parents=True)
    words = ("tench, Tinca tinca", "goldfish, Carassius auratus", "crane", "crane")
    lines = [f"{name} {word}\n" for name, word in zip(WNIDS, words, strict=True)]
    (info / "synsets.txt").write_text("".join(lines))
    pairs = [f"{int(query[1:])} {line}\n" for query, line in QUERIES.items()]
    (info / "queries_synsets_map.txt").write_text("".join(pairs))
    for start, engine in enumerate(("google", "flickr")):
        for query in QUERIES:
            for number in range(images):
                image = cloud(10_000 + 1000 * start + 10 * int(query[1:]) + number, 256, 300)
                _save(root / f"webvision/{engine}/{query}/{number}_{query}.jpg", image, quality=90)
    broken = root / "webvision/google/q0002/3_q0002.jpg"
    broken.write_bytes(broken.read_bytes()[:600])


def ood(root: Path, images: int = 2) -> None:
    """ImageNet-A and ImageNet-R, which have some of the classes, ImageNet-V2, which numbers them, ImageNet-Sketch."""
    for start, (tree, names) in enumerate(OOD.items()):
        for label, name in enumerate(names):
            for number in range(images):
                image = cloud(20_000 + 100 * start + 10 * label + number, 64, 48)
                folder = str(WNIDS.index(name)) if tree == "imagenet-v2" else name
                _save(root / tree / folder / f"{number}.{'JPEG' if tree == 'imagenet-sketch' else 'jpg'}", image)


def coco(root: Path, train: int = 100, val: int = 6) -> None:
    """`coco/train2017`, `coco/val2017` and their `annotations`, five captions an image in no order."""
    for start, (split, count) in enumerate({"train2017": train, "val2017": val}.items()):
        images, annotations = [], []
        for number in range(count):
            identity = 1000 * start + 9 * number + 9
            name = f"{identity:012d}.jpg"
            _save(root / f"coco/{split}/{name}", cloud(30_000 + identity, 48, 64), quality=90)
            address = f"http://images.cocodataset.org/{split}/{name}"
            images.append(
                {"license": 3, "file_name": name, "coco_url": address, "height": 48, "width": 64}
                | {"date_captured": "2013-11-14 17:02:52", "flickr_url": "http://example.org/a.jpg", "id": identity}
            )
            for which in range(5):
                text = f"A photo of a {OBJECTS[(number + which) % 4]} near a {OBJECTS[number % 4]}."
                annotations.append({"image_id": identity, "id": 7919 * (5 * number + which) % 99991, "caption": text})
        info = {"description": "COCO 2017 Dataset", "url": "http://cocodataset.org", "version": "1.0", "year": 2017}
        licences = [{"url": "http://example.org/license", "id": 3, "name": "Attribution License"}]
        content = {"info": info, "licenses": licences, "images": images, "annotations": annotations}
        (root / "coco/annotations").mkdir(exist_ok=True)
        (root / f"coco/annotations/captions_{split}.json").write_text(json.dumps(content))


def cifar10(root: Path, train: int = 12, test: int = 3) -> None:
    """`cifar10`: Parquet files as those of `uoft-cs/cifar10`, columns img and label, PNGs of 32 pixels a side."""
    import datasets

    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=CIFAR)})
    for split, count in {"train": train, "test": test}.items():
        labels = [number % 10 for number in range(10 * count)]
        images = [{"bytes": _png(40_000 + len(split) * 1000 + n), "path": None} for n in range(len(labels))]
        dataset = datasets.Dataset.from_dict({"img": images, "label": labels}, features=features)
        (root / "cifar10/plain_text").mkdir(parents=True, exist_ok=True)
        dataset.to_parquet(str(root / f"cifar10/plain_text/{split}-00000-of-00001.parquet"))


def _png(number: int) -> bytes:
    stream = io.BytesIO()
    cloud(number, 32, 32).save(stream, format="PNG")
    return stream.getvalue()


def on_hub(home: Path, name: str) -> Path:
    """The folder in which `HF_HOME=home` has the files of a hub name, so that it is found there without a network."""
    place = home / "hub" / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs/main").write_text("0" * 40)
    (place / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return place / "snapshots" / ("0" * 40)


def blip(folder: Path, side: int) -> None:
    """A BLIP as the hub has it, for images of `side` pixels."""
    import torch
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "photo", "of", "near", ".", *OBJECTS]
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    numbers = {"vocab_size": len(words), "bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3}
    vision = sizes | {"image_size": side, "patch_size": 8}
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(BlipConfig(text_config=sizes | numbers, vision_config=vision))
    BlipProcessor(BlipImageProcessor(size={"height": side, "width": side}), tokenizer).save_pretrained(folder)
    model.save_pretrained(folder)


def extractor(folder: Path, name: str) -> None:
    """A timm model's weights as the hub has them."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model(name).state_dict(), folder / "model.safetensors")
