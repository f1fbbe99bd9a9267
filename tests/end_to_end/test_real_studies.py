"""The studies of real data, each run to its report on small stand-ins, with nothing changed but sizes and places.

Hub names stay as they are: a hub cache holds networks of the same classes with random weights under them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, make_project
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.generators import codecs, shards
from contamination.mixtures import mixing
from contamination.report import results
from contamination.study import study as studies
from support import stand_ins, tiny_pipelines

NAMES = ("imagenet", "imagenet-complex", "imagenet-all", "coco", "cifar10")
SLOTS = {"coco": 50_000, "cifar10": 25_000}  # of the others 300,000
SHORT = {"steps": 2, "batch_size": 4, "threads": 1}
BRIEF = {"steps": 2, "warmup_steps": 1}
ALONE = {"processes": 1, "threads": 1, "batch_size": 4}

# Everything that a test changes of a file, by dotted key; a key that the file does not have is an error.
GENERATE = {"steps": 2, "size": tiny_pipelines.SIZE, "batch_size": 8, "shard_size": 10, "threads": 1}
EXTRACTOR = "mobilenetv3_small_050.lamb_in1k"  # the weights of those in the files are 0.3 GB and more
MEASURE = {"extractor": EXTRACTOR, "replicates": 20, "threads": 1}
GRID = {"ratios": [0, 0.8], "seeds": [0]}
IMAGENET = {
    "data": {"image_size": 32, "per_class": 5, "workers": 1},
    "generate": GENERATE,
    "measure": MEASURE | {"judge": EXTRACTOR},
    "train.classification": ALONE | {"compiled": False},  # on a CPU compiling takes minutes
    "evaluate.classification": {"threads": 1},
    "grid": GRID,
    "grid.models.resnet50": {"options": {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32], "stem_width": 8}},
    "grid.models.swin-s.options": {"img_size": 32, "embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
    "grid.models.convnext-t.options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "grid.models.resnet50.train": BRIEF,
    "grid.models.swin-s.train": BRIEF,
    "grid.models.convnext-t.train": BRIEF | {"batch_size": 4},
}
WIDTHS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SMALLER = {
    "imagenet": IMAGENET | {"detect": SHORT | {"options": {"channels": [8, 8, 8, 8], "stem_width": 8}}},
    "imagenet-complex": IMAGENET,
    "imagenet-all": IMAGENET
    | {
        "train.generation": SHORT,
        "train.pretraining": ALONE | BRIEF,
        "evaluate.generation": {"extractor": EXTRACTOR, "samples": 10, "sampling_steps": 2, "threads": 1},
        "evaluate.pretraining": SHORT | BRIEF | {"labelled_per_class": 2},
        "grid.tasks.generation": {"ratios": [0, 0.8]},
        "grid.tasks.pretraining": {"ratios": [0, 0.8]},
        "grid.models.ddpm.options": {
            "resolution": 16,
            "block_out_channels": [8, 8, 8, 8],
            "layers_per_block": 1,
            "attention_head_dim": 4,
            "norm_num_groups": 4,
        },
        "grid.models.mae.options": WIDTHS | {f"decoder_{key}": value for key, value in WIDTHS.items()},
    },
    "coco": {
        "data": {"image_size": 32, "per_class": 6, "workers": 1},
        "generate": GENERATE,
        "measure": MEASURE,
        "detect": SHORT | {"options": {"channels": [8, 8, 8, 8], "stem_width": 8}},
        "train.captioning": ALONE | {"steps": 2},
        "evaluate.captioning": {"threads": 1},
        "grid": GRID,
    },
    "cifar10": {
        "data": {"train": "data/cifar10:train", "test": "data/cifar10:test", "workers": 1},
        "generate": GENERATE,
        "grid.generated.sdxl-turbo.generate": {"size": tiny_pipelines.SIZE},  # the file leaves it at 512 for both
        "auxiliary.classification": SHORT | {"options": {"stem_type": "deep", "stem_width": 8, "output_stride": 8}},
        "measure": MEASURE,
        "detect": {"steps": 2, "threads": 1},
        "train.classification": SHORT,
        "evaluate.classification": {"threads": 1},
        "grid": GRID,
        "grid.models.resnet18": {"options": {"stem_type": "deep", "stem_width": 8, "output_stride": 8}},
    },
}


def content(name: str) -> dict:
    return yaml.safe_load((ROOT / f"parameters/{name}.yaml").read_text())


# What the files say of themselves


@pytest.mark.medium
@pytest.mark.parametrize("name", NAMES)
def test_the_costs_that_a_file_states_are_those_of_its_grid(name):
    study, text = studies.load(ROOT / f"parameters/{name}.yaml"), (ROOT / f"parameters/{name}.yaml").read_text()
    trainings = sum(len(run.seeds) for run in study.runs())
    images = SLOTS.get(name, 300_000) * len(study.generated_sets())
    words = " ".join(text.replace("#", "").split())
    assert f"Cost: {images:,} images to generate, {trainings} trainings" in words
    assert "Command" in text and "Not measured on a GPU yet" in words


@pytest.mark.medium
@pytest.mark.parametrize("name", [name for name in NAMES if name != "imagenet-complex"])  # it refers to the first
def test_the_trainings_and_hours_that_a_file_states_follow_from_its_recipes(name):
    study, words = studies.load(ROOT / f"parameters/{name}.yaml"), _words_of(name)
    hours = 0.0
    for model in study.grid.models:
        count, recipe = sum(len(run.seeds) for run in study.runs() if run.model == model), study.train_of(model)
        images = recipe.steps * recipe.batch_size
        assert f"{count} of {model}, each of {images / 1e6:.3g} million images" in words
        rate = re.search(rf"([\d,]+) images/s for {model}", words)[1]
        hours += count * images / float(rate.replace(",", "")) / 3600
    stated = re.search(r"([\d,]+)(?: GPU-hours(?: of training)?)? in all", words.partition("Cost:")[2])[1]
    assert float(stated.replace(",", "")) == pytest.approx(hours, rel=0.03)


def _words_of(name: str) -> str:
    """A file's text in one line, without the signs of its comments."""
    return " ".join((ROOT / f"parameters/{name}.yaml").read_text().replace("#", "").split())


# What was published, with its own numbers: rates are for so many images, lengths are epochs of all slots. The files say
# where they are from.
COMMON = {
    "optimizer": "adamw",
    "decay": "matrices",
    "schedule": "cosine",
    "weight_decay": 0.05,
    "betas": [0.9, 0.999],
    "clip_norm": 0.0,
}
MIXED = {"mixup": 0.8, "cutmix": 1.0, "erasing": 0.25, "label_smoothing": 0.1, "crop": "random", "crop_area": 0.08}
MIXED |= {"randaugment": 9, "randaugment_operations": 2, "randaugment_std": 0.5}
PLAIN = dict.fromkeys(("mixup", "cutmix", "erasing", "randaugment", "final_rate"), 0)
SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0001}
PUBLISHED = {  # batch size, learning rate and for how many images, epochs, epochs of warm-up, the rest
    "resnet50": (1024, 0.1, 256, 90, 5, MIXED | SGD | PLAIN),
    "swin-s": (1024, 5e-4, 512, 300, 20, MIXED | {"clip_norm": 5.0, "final_rate": 0.01, "ema_decay": 0}),
    "convnext-t": (4096, 4e-3, 4096, 300, 20, MIXED | {"final_rate": 1e-6 / 4e-3}),
    "blip": (256, 1e-5, 256, 5, 0, {"decay": "all", "final_rate": 0, "crop": "random", "crop_area": 0.5}),
    "ddpm": (128, 1e-4, 128, 150, 0, {"weight_decay": 0, "decay": "all", "final_rate": 1, "ema_decay": 0.9999}),
    "mae": (4096, 1.5e-4, 256, 800, 40, {"betas": [0.9, 0.95], "final_rate": 0, "crop_area": 0.2}),
}


@pytest.mark.medium
@pytest.mark.parametrize("name", NAMES[:-1])
def test_recipes_are_the_published_ones(name):
    study, slots = studies.load(ROOT / f"parameters/{name}.yaml"), SLOTS.get(name, 300_000)
    for model in study.grid.models:
        batch_size, rate, images, epochs, warmup, others = PUBLISHED[model]
        recipe = study.train_of(model).model_dump()
        assert recipe["batch_size"] == batch_size and recipe["learning_rate"] == pytest.approx(
            rate * batch_size / images
        )
        assert recipe["steps"] == round(epochs * slots / batch_size)
        assert recipe["warmup_steps"] == round(warmup * slots / batch_size)
        assert {key: recipe[key] for key in COMMON | others} == COMMON | others
    swin, convnext = (study.grid.models.get(each) for each in ("swin-s", "convnext-t"))
    if swin:  # the horizon of the average is as many epochs as published
        assert (swin.options, convnext.options) == ({"drop_path_rate": 0.3}, {"drop_path_rate": 0.1})
        assert 1 - study.train_of("convnext-t").ema_decay == pytest.approx(1e-4 * 1_281_167 / slots, rel=0.1)


@pytest.mark.medium
@pytest.mark.parametrize("name", NAMES[:-1])
def test_the_epochs_that_comments_state_are_those_of_the_steps(name):
    study, text = studies.load(ROOT / f"parameters/{name}.yaml"), (ROOT / f"parameters/{name}.yaml").read_text()
    stated = re.findall(r"^ *((?:warmup_)?steps): (\d+) +# (\d+) epochs(?: of ([\d,]+))?", text, re.M)
    known = {
        (key, getattr(recipe, key), epochs, "")
        for model, (_, _, _, *lengths, _) in PUBLISHED.items()
        if model in study.grid.models and (recipe := study.train_of(model))
        for key, epochs in zip(("steps", "warmup_steps"), lengths, strict=True)
    }
    tuning = study.evaluate.pretraining
    images = tuning.labelled_per_class * 1000
    for key, epochs in (("steps", 100), ("warmup_steps", 5)):
        if getattr(tuning, key) == round(epochs * images / tuning.batch_size):
            known.add((key, getattr(tuning, key), epochs, f"{images:,}"))
    found = {(key, int(steps), int(epochs), images) for key, steps, epochs, images in stated}
    assert found <= known and len(found) >= len(study.grid.models)


@pytest.mark.medium
def test_every_batch_has_a_share_for_each_of_eight_gpus_and_for_each_part_on_one():
    for name in NAMES:
        study = studies.load(ROOT / f"parameters/{name}.yaml")
        for model in study.grid.models:
            recipe = study.train_of(model)
            assert recipe.processes in (1, 8)
            one = {"processes": 1, "accumulation": recipe.processes}
            type(recipe)(**recipe.model_dump() | one)


@pytest.mark.medium
@pytest.mark.parametrize(("name", "adds"), [("imagenet-complex", "diverse-7.5"), ("imagenet-all", "class-name-7.5")])
def test_a_further_study_of_imagenet_shares_what_the_first_makes(name, adds):
    first, second = (studies.load(ROOT / f"parameters/{each}.yaml") for each in ("imagenet", name))
    assert first.outputs == second.outputs and first.data == second.data and first.seed == second.seed
    shared = set(first.runs()) & set(second.runs())
    assert len(shared) == 3 * 3 * (1 + 5 + 5 + 4)
    new = [run for run in set(second.runs()) - shared]
    assert {run.source for run in new} - {"train", "pool", "none"} == {adds}
    assert {run.task for run in new} == ({"classification"} if "complex" in name else {"generation", "pretraining"})
    for run in shared:
        for stage in ("mix", "train", "evaluate"):
            point = run._asdict() if stage != "mix" else run.mixture._asdict()
            assert first.parameters(stage, **point) == second.parameters(stage, **point)
    one = {"source": "class-name-7.5"}
    assert first.parameters("generate", **one) == second.parameters("generate", **one)
    assert first.parameters("measure", **one) == second.parameters("measure", **one)


def test_the_factors_that_a_file_offers_in_comments_can_be_taken_in(project):
    file = project / "parameters/imagenet-complex.yaml"
    file.write_text(re.sub(r"^    # (?=sdxl|  |published)", "    ", file.read_text(), flags=re.M))
    study = studies.load("parameters/imagenet-complex.yaml")
    assert study.generated_sets() == ["class-name-7.5", "diverse-7.5", "sdxl-diverse-7.5", "published"]
    assert study.parameters("generate", source="sdxl-diverse-7.5")["pipeline"].endswith("stable-diffusion-xl-base-1.0")
    assert study.jobs()["import"] == [{"source": "published"}]


# Each of them, run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A project with the stand-ins below `data/` and a hub cache beside it, in which all studies run."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("real"), patch)
        for make in (stand_ins.imagenet, stand_ins.webvision, stand_ins.ood, stand_ins.coco, stand_ins.cifar10):
            make(project / "data")
        commands = re.findall(r"^#     (\S.*)$", (ROOT / "parameters/imagenet.yaml").read_text(), re.M)
        subprocess.run(["bash", "-ec", "\n".join(commands)], cwd=project, check=True)
        _fill_hub(project / "home")
        (project / "bin").mkdir()
        for tool in ("bash", "which"):  # the latter is asked for by Snakemake's plugin for Slurm
            (project / "bin" / tool).symlink_to(shutil.which(tool))
        yield project


def _fill_hub(home: Path) -> None:
    from diffusers import DiffusionPipeline

    for name in ("CompVis/stable-diffusion-v1-1", "stable-diffusion-v1-5/stable-diffusion-v1-5"):
        tiny_pipelines.save("stable-diffusion-1", stand_ins.on_hub(home, name))
    large = DiffusionPipeline.from_pretrained(tiny_pipelines.save("stable-diffusion-xl", home / "large"))
    large.save_pretrained(stand_ins.on_hub(home, "stabilityai/sdxl-turbo"), variant="fp16")
    stand_ins.blip(stand_ins.on_hub(home, "Salesforce/blip-image-captioning-base"), 32)
    stand_ins.extractor(stand_ins.on_hub(home, f"timm/{EXTRACTOR}"), EXTRACTOR)


def contamination(project: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess:
    # Without Java: METEOR and SPICE take half a minute a run, and are tested elsewhere.
    environment = os.environ | {"HF_HOME": str(project / "home"), "HF_HUB_OFFLINE": "1", "PATH": str(project / "bin")}
    command = [str(Path(sys.executable).with_name("contamination")), verb, *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, env=environment)


def make_smaller(project: Path, name: str) -> str:
    """Write the study with the changes of the table and return its parameter file."""
    smaller = content(name)
    for path, changes in SMALLER[name].items():
        section = smaller
        for key in path.split("."):
            section = section[key]
        section.update(changes)
    (project / f"parameters/{name}.yaml").write_text(yaml.safe_dump(smaller))
    return f"parameters/{name}.yaml"


def run(project: Path, name: str) -> studies.Study:
    """Run the study to its report."""
    file = make_smaller(project, name)
    ran = contamination(project, "run", file)
    assert ran.returncode == 0, ran.stderr
    assert (project / f"outputs/{name}/report/index.html").is_file()
    return studies.load(project / file)


def rows(study: studies.Study):
    return results.read(study.own.results)


def points(study: studies.Study) -> set[tuple[str, str, str]]:
    """The model, arm and source of every row that is of a run."""
    table = rows(study)
    runs = table[table["task"].isin(study.grid.tasks)]
    return set(runs[["model", "arm", "source"]].itertuples(index=False, name=None))


def expected(models: dict[str, list[str]]) -> set[tuple[str, str, str]]:
    """The same as a grid should have it. models: the generated sets of each."""
    others = [("clean", "train"), ("other_real", "pool"), ("dropped", "none")]
    return {
        (model, arm, source)
        for model, sets in models.items()
        for arm, source in [*others, *(("generated", name) for name in sets)]
    }


def require_exact_mixtures(layout: Layout, taken: int, per_class: int) -> None:
    """Every mixture at 80 % has lost `taken` real images of each class, and has in their place what its arm says."""
    found = [path for path in (layout.root / "mix").rglob("0.80/*/seed-0.parquet")]
    assert len(found) >= 3
    for path in found:
        arm, source = path.relative_to(layout.root / "mix").parts[:2]
        manifest = mixing.read_manifest(path)
        counts = Counter(zip(manifest["label"].to_pylist(), manifest["source"].to_pylist(), strict=True))
        for label in set(manifest["label"].to_pylist()):
            assert counts.pop((label, "train")) == per_class - taken
            assert arm == "dropped" or counts.pop((label, source)) == taken
        assert not counts


def sizes(layout: Layout, source: str) -> list[tuple[int, int]]:
    """Height and width of every image of a source, in the order of the slots."""
    found = shards.sizes_of(image_tables.read(*mixing.tables_of(layout, source)))
    return list(zip(found["height"], found["width"], strict=True))


def require_the_real_codec(layout: Layout, source: str) -> None:
    """The images of a generated set are all stored as most of the real ones are."""
    real, made = (image_tables.read(*mixing.tables_of(layout, name))["image"] for name in ("train", source))
    found = codecs.file_format_of(made)
    assert found.codec == codecs.file_format_of(real).codec and found.share == 1


@pytest.mark.slow
def test_a_check_tells_what_a_run_of_imagenet_would_meet(place):
    checked = contamination(place, "check", make_smaller(place, "imagenet"))
    assert checked.returncode == 0, checked.stderr
    assert "pool: 69 images, 4 classes, data/webvision/train; left out: 1" in checked.stdout
    assert "q0002/google/3_q0002.jpg: " in checked.stdout and "crane" in checked.stdout
    assert not list((place / "outputs/imagenet").rglob("train.arrow"))


@pytest.mark.slow
def test_imagenet_with_webvision_and_its_ood_sets(place):
    study = run(place, "imagenet")
    layout, both = study.layout, ["class-name-7.5", "class-name-2"]
    assert points(study) == expected({"resnet50": both, "swin-s": both[:1], "convnext-t": both[:1]})
    table = rows(study)
    accuracies = table[(table["task"] == "classification") & (table["metric"] == "accuracy")]
    assert set(accuracies["split"]) == {"test", *stand_ins.OOD} and set(accuracies["n"]) == {16, 4, 6, 8}
    assert image_tables.metadata(layout.real("pool"))["broken"] == "1"  # the one that is cut off
    assert image_tables.read(layout.real("pool")).num_rows == 2 * 7 * len(stand_ins.QUERIES) - 1
    require_exact_mixtures(layout, 4, 5)
    require_the_real_codec(layout, "class-name-7.5")
    assert sizes(layout, "class-name-7.5") == sizes(layout, "train") and len(set(sizes(layout, "train"))) > 5
    prompts = image_tables.read(*mixing.tables_of(layout, "class-name-7.5"))["prompt"].unique().to_pylist()
    assert prompts == ["photo of tench", "photo of goldfish", "photo of crane"]  # two classes, one name


@pytest.mark.slow
def test_the_complex_study_makes_its_own_set_alone_anew(place):
    if not (place / "outputs/imagenet/report/index.html").is_file():
        run(place, "imagenet")
    before = {path: path.stat().st_mtime_ns for path in (place / "outputs/imagenet").rglob("0*.ipynb")}
    study = run(place, "imagenet-complex")
    sets = ["class-name-7.5", "diverse-7.5"]
    assert points(study) == expected(dict.fromkeys(study.grid.models, sets))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    prompts = image_tables.read(*mixing.tables_of(study.layout, "diverse-7.5"))["prompt"].unique().to_pylist()
    assert len(prompts) > 10
    statement = (place / "outputs/imagenet-complex/report/index.html").read_text()
    assert "diverse prompts" in statement


@pytest.mark.slow
def test_the_study_of_all_tasks_adds_generators_and_autoencoders(place):
    if not (place / "outputs/imagenet/report/index.html").is_file():
        run(place, "imagenet")
    before = {path: path.stat().st_mtime_ns for path in (place / "outputs/imagenet").rglob("0*.ipynb")}
    study = run(place, "imagenet-all")
    sets = ["class-name-7.5"]
    everything = expected(dict.fromkeys(study.grid.models, sets))
    assert points(study) == everything - {("ddpm", "dropped", "none")}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = rows(study).groupby("task")["metric"].unique()
    assert "recall" in found["generation"] and "finetuned_accuracy" in found["pretraining"]
    report = (place / "outputs/imagenet-all/report/index.html").read_text()
    assert "classification, resnet50: every run took 2 optimizer steps of 4 images" in report
    assert "optimizer sgd" in report and "clip_norm 5.0" in report


@pytest.mark.slow
def test_captioning_of_coco(place):
    study = run(place, "coco")
    layout = study.layout
    assert points(study) == expected({"blip": ["caption-7.5"]})
    assert {"cider", "bleu_4"} <= set(rows(study)["metric"])
    train, pool = (image_tables.read(layout.real(split)) for split in ("train", "pool"))
    assert (train.num_rows, pool.num_rows, image_tables.read(layout.real("test")).num_rows) == (6, 50, 6)
    assert not set(train["id"].to_pylist()) & set(pool["id"].to_pylist())
    assert {len(captions) for captions in train["captions"].to_pylist()} == {5}
    made = image_tables.read(*mixing.tables_of(layout, "caption-7.5"))
    assert made["prompt"].to_pylist() == train["caption"].to_pylist()
    require_exact_mixtures(layout, 5, 6)
    require_the_real_codec(layout, "caption-7.5")
    assert sizes(layout, "caption-7.5") == sizes(layout, "train")


@pytest.mark.slow
def test_cifar10_with_two_generators(place):
    pytest.importorskip("datasets")
    study = run(place, "cifar10")
    layout, sets = study.layout, ["sd-7.5", "sdxl-turbo"]
    assert points(study) == expected({"resnet18": sets})
    train = image_tables.read(layout.real("train"))
    assert Counter(train["label"].to_pylist()) == dict.fromkeys(range(10), 6)
    require_exact_mixtures(layout, 5, 6)
    for source, drew in zip(sets, ("stable-diffusion-v1-5", "sdxl-turbo"), strict=True):
        made = image_tables.read(*mixing.tables_of(layout, source))
        assert made["pipeline"][0].as_py().endswith(drew) and made["steps"][0].as_py() == (1 if "xl" in source else 2)
        require_the_real_codec(layout, source)
        assert set(sizes(layout, source)) == {(32, 32)}
    verified = contamination(place, "verify", "parameters/cifar10.yaml", "--sample", "4")
    assert verified.returncode == 0 and verified.stdout.count("60 images; all as recorded; 4 drawn again") == 2
