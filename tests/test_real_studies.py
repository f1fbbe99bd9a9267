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
import stand_ins
import tiny_pipelines
import yaml
from conftest import ROOT, make_project
from contamination import codecs, mixing, results, shards, store
from contamination import study as studies
from contamination.layout import Layout

NAMES = ("imagenet", "imagenet-complex", "coco", "cifar10")
SHORT = {"steps": 2, "batch_size": 4, "threads": 1}

# Everything that a test changes of a file, by dotted key; a key that the file does not have is an error.
GENERATE = {"steps": 2, "size": tiny_pipelines.SIZE, "batch_size": 8, "shard_size": 10, "threads": 1}
EXTRACTOR = "mobilenetv3_small_050.lamb_in1k"  # the weights of those in the files are 0.3 GB and more
MEASURE = {"extractor": EXTRACTOR, "replicates": 20, "threads": 1}
GRID = {"ratios": [0, 0.8], "seeds": [0]}
IMAGENET = {
    "data": {"image_size": 32, "per_class": 5, "workers": 1},
    "generate": GENERATE,
    "measure": MEASURE,
    "train.classification": SHORT,
    "evaluate.classification": {"threads": 1},
    "grid": GRID,
    "grid.models.resnet50": {"options": {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32], "stem_width": 8}},
    "grid.models.swin-s": {
        "options": {"img_size": 32, "embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
    },
    "grid.models.convnext-t": {"options": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}},
}
SMALLER = {
    "imagenet": IMAGENET | {"detect": SHORT | {"options": {"channels": [8, 8, 8, 8], "stem_width": 8}}},
    "imagenet-complex": IMAGENET,
    "coco": {
        "data": {"image_size": 32, "per_class": 6, "workers": 1},
        "generate": GENERATE,
        "measure": MEASURE,
        "detect": SHORT | {"options": {"channels": [8, 8, 8, 8], "stem_width": 8}},
        "train.captioning": SHORT,
        "evaluate.captioning": {"threads": 1},
        "grid": GRID,
    },
    "cifar10": {
        "data": {"train": "data/cifar10:train", "test": "data/cifar10:test", "workers": 1},
        "generate": GENERATE,
        "grid.generated.sdxl-turbo.generate": {"size": tiny_pipelines.SIZE},  # the file leaves it at 512 for both
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


@pytest.mark.parametrize("name", NAMES)
def test_the_costs_that_a_file_states_are_those_of_its_grid(name):
    study, text = studies.load(ROOT / f"parameters/{name}.yaml"), (ROOT / f"parameters/{name}.yaml").read_text()
    trainings = sum(len(run.seeds) for run in study.runs())
    slots = {"imagenet": 300_000, "imagenet-complex": 300_000, "coco": 50_000, "cifar10": 25_000}[name]
    images = slots * len(study.generated_sets())
    assert f"# Cost: {images:,} images to generate, {trainings} trainings" in " ".join(text.split())
    assert "Command" in text and "Not measured on a GPU yet" in " ".join(text.replace("#", "").split())


def test_the_complex_study_adds_prompts_alone_to_the_first():
    first, second = (studies.load(ROOT / f"parameters/{name}.yaml") for name in NAMES[:2])
    assert first.outputs == second.outputs and first.data == second.data and first.seed == second.seed
    shared = set(first.runs()) & set(second.runs())
    assert {run.source for run in set(second.runs()) - shared} == {"varied-7.5"}
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
    assert study.generated_sets() == ["class-name-7.5", "varied-7.5", "sdxl-varied-7.5", "published"]
    assert study.parameters("generate", source="sdxl-varied-7.5")["pipeline"].endswith("stable-diffusion-xl-base-1.0")
    assert study.jobs()["adopt"] == [{"source": "published"}]


# Each of them, run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A project with the stand-ins below `data/` and a hub cache beside it, in which all studies run."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("real"), patch)
        for make in (stand_ins.imagenet, stand_ins.webvision, stand_ins.shifted, stand_ins.coco, stand_ins.cifar10):
            make(project / "data")
        commands = re.findall(r"^#     (\S.*)$", (ROOT / "parameters/imagenet.yaml").read_text(), re.M)
        subprocess.run(["bash", "-ec", "\n".join(commands)], cwd=project, check=True)
        _fill_hub(project / "home")
        (project / "bin").mkdir()
        (project / "bin/bash").symlink_to(shutil.which("bash"))
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
    found = shards.sizes_of(store.read(*mixing.image_tables(layout, source)))
    return list(zip(found["height"], found["width"], strict=True))


def require_the_real_codec(layout: Layout, source: str) -> None:
    """The images of a generated set are all stored as most of the real ones are."""
    real, made = (store.read(*mixing.image_tables(layout, name))["image"] for name in ("train", source))
    found = codecs.container_of(made)
    assert found.codec == codecs.container_of(real).codec and found.share == 1


@pytest.mark.slow
def test_a_check_tells_what_a_run_of_imagenet_would_meet(place):
    checked = contamination(place, "check", make_smaller(place, "imagenet"))
    assert checked.returncode == 0, checked.stderr
    assert "pool: 69 images, 4 classes, data/webvision/train; left out: 1" in checked.stdout
    assert "q0002/google/3_q0002.jpg: " in checked.stdout and "crane" in checked.stdout
    assert not list((place / "outputs/imagenet").rglob("train.arrow"))


@pytest.mark.slow
def test_imagenet_with_webvision_and_its_shifted_sets(place):
    study = run(place, "imagenet")
    layout, both = study.layout, ["class-name-7.5", "class-name-2"]
    assert points(study) == expected({"resnet50": both, "swin-s": both[:1], "convnext-t": both[:1]})
    table = rows(study)
    accuracies = table[(table["task"] == "classification") & (table["metric"] == "accuracy")]
    assert set(accuracies["split"]) == {"test", *stand_ins.SHIFTED} and set(accuracies["n"]) == {16, 4, 6, 8}
    assert store.metadata(layout.real("pool"))["broken"] == "1"  # the one that is cut off
    assert store.read(layout.real("pool")).num_rows == 2 * 7 * len(stand_ins.QUERIES) - 1
    require_exact_mixtures(layout, 4, 5)
    require_the_real_codec(layout, "class-name-7.5")
    assert sizes(layout, "class-name-7.5") == sizes(layout, "train") and len(set(sizes(layout, "train"))) > 5
    prompts = store.read(*mixing.image_tables(layout, "class-name-7.5"))["prompt"].unique().to_pylist()
    assert prompts == ["photo of tench", "photo of goldfish", "photo of crane"]  # two classes, one name


@pytest.mark.slow
def test_the_complex_study_makes_its_own_set_alone_anew(place):
    if not (place / "outputs/imagenet/report/index.html").is_file():
        run(place, "imagenet")
    before = {path: path.stat().st_mtime_ns for path in (place / "outputs/imagenet").rglob("0*.ipynb")}
    study = run(place, "imagenet-complex")
    sets = ["class-name-7.5", "varied-7.5"]
    assert points(study) == expected(dict.fromkeys(study.grid.models, sets))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    prompts = store.read(*mixing.image_tables(study.layout, "varied-7.5"))["prompt"].unique().to_pylist()
    assert len(prompts) > 10
    statement = (place / "outputs/imagenet-complex/report/index.html").read_text()
    assert "varied prompts" in statement


@pytest.mark.slow
def test_captioning_of_coco(place):
    study = run(place, "coco")
    layout = study.layout
    assert points(study) == expected({"blip": ["caption-7.5"]})
    assert {"cider", "bleu_4"} <= set(rows(study)["metric"])
    train, pool = (store.read(layout.real(split)) for split in ("train", "pool"))
    assert (train.num_rows, pool.num_rows, store.read(layout.real("test")).num_rows) == (6, 50, 6)
    assert not set(train["id"].to_pylist()) & set(pool["id"].to_pylist())
    assert {len(captions) for captions in train["captions"].to_pylist()} == {5}
    made = store.read(*mixing.image_tables(layout, "caption-7.5"))
    assert made["prompt"].to_pylist() == train["caption"].to_pylist()
    require_exact_mixtures(layout, 5, 6)
    require_the_real_codec(layout, "caption-7.5")
    assert set(sizes(layout, "caption-7.5")) == {(32, 32)}


@pytest.mark.slow
def test_cifar10_with_two_generators(place):
    pytest.importorskip("datasets")
    study = run(place, "cifar10")
    layout, sets = study.layout, ["sd-7.5", "sdxl-turbo"]
    assert points(study) == expected({"resnet18": sets})
    train = store.read(layout.real("train"))
    assert Counter(train["label"].to_pylist()) == dict.fromkeys(range(10), 6)
    require_exact_mixtures(layout, 5, 6)
    for source, drew in zip(sets, ("stable-diffusion-v1-5", "sdxl-turbo"), strict=True):
        made = store.read(*mixing.image_tables(layout, source))
        assert made["pipeline"][0].as_py().endswith(drew) and made["steps"][0].as_py() == (1 if "xl" in source else 2)
        require_the_real_codec(layout, source)
        assert set(sizes(layout, source)) == {(32, 32)}
    verified = contamination(place, "verify", "parameters/cifar10.yaml", "--sample", "4")
    assert verified.returncode == 0 and verified.stdout.count("60 images; all as recorded; 4 drawn again") == 2
