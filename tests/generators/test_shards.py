"""Generated sets: identity by slot, whole shards, several jobs, nothing thrown away lightly. A real pipeline, tiny."""

import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import yaml
from contamination import sources
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.base.settings import read_settings
from contamination.generators import codecs, pipelines, prompts, shards
from contamination.study.study import Study
from PIL import Image
from support import tiny_pipelines
from support.tiny_pipelines import Wrapped, settings_of

pytestmark = pytest.mark.medium

SLOTS = 10
FAMILY = "stable-diffusion-1"


@pytest.fixture
def pipeline(tiny_pipeline, project):
    import torch

    torch.set_num_threads(1)
    return pipelines.load(tiny_pipeline, "", "float32", torch.device("cpu"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tiny_pipelines.save(FAMILY, tmp_path_factory.mktemp("saved") / FAMILY)


@pytest.fixture(scope="module")
def plain(saved):
    """Not to be changed by a test."""
    return pipelines.load(saved, "", "float32", "cpu")


def asked_for(count):
    slots = {"slot": list(range(count)), "label": list(range(count))}
    slots["prompt"] = [f"photo of {number}" for number in range(count)]
    slots["seed"] = [shards.image_seed(0, slot) for slot in slots["slot"]]
    return slots


def how_to(settings, **more):
    """How a set is drawn, as far as `shards` reads it. more: what else, or in its place."""
    return {"settings": settings, "common": {"steps": 3}, "image_size": 16, "codec": codecs.PNG} | more


def generate(pipeline, folder, batch_size=4, shard_size=4, stop_after=None, settings=None, safety_retries=0, **more):
    """Generate SLOTS images into a folder, as 01_generate does; optionally stop after some shards."""
    slots = asked_for(SLOTS)
    how = how_to(settings or pipelines.call_settings(pipeline, 3, 5.0, 16, "blurred"), **more)
    paths = shards.paths_of(folder, SLOTS, shard_size=shard_size)
    for made, path in enumerate(shards.claim(folder, paths, how=how)):
        if made == stop_after:
            break
        start = paths.index(path) * shard_size
        rows = {name: column[start : start + shard_size] for name, column in slots.items()}
        shards.write(path, pipeline, slots=rows, how=how, batch_size=batch_size, safety_retries=safety_retries)
    return paths


def pixels(paths):
    return image_tables.decode_all(image_tables.read(*paths), 16).numpy().astype(int)


def test_every_slot_has_its_own_seed_and_no_other_studys():
    seeds = {
        shards.image_seed(study, slot, depth=depth) for study in range(3) for slot in range(500) for depth in (1, 2)
    }
    seeds |= {shards.next_seed(seed, draw) for seed in list(seeds)[:100] for draw in (1, 2)}
    assert len(seeds) == 3 * 500 * 2 + 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert shards.image_seed(0, 0) == 3857964456596338571  # of every set made so far


@pytest.mark.parametrize(("batch_size", "shard_size"), [(1, 4), (3, 10), (10, 10), (2, 7)])
def test_batch_and_shard_size_change_pixels_by_rounding_only(pipeline, project, batch_size, shard_size):
    reference = pixels(generate(pipeline, project / "a"))
    other = pixels(generate(pipeline, project / "b", batch_size, shard_size))
    # Batched matrix products round differently in the last bits; of 256 levels at most one may flip.
    assert np.abs(reference - other).max() <= 1


def test_stored_images_have_the_sizes_of_the_real_ones_in_whose_slots_they_stand(pipeline, project):
    real = [(24, 40, 1), (40, 24, 6), (16, 16, 1), (70, 20, 3)]  # height and width as stored, and how it is turned
    for number, (height, width, turn) in enumerate(real):
        exif = Image.Exif()
        exif[shards.ORIENTATION] = turn
        Image.new("RGB", (width, height)).save(project / f"{number}.jpg", exif=exif)
    places = pa.array([f"{number}.jpg" for number in range(len(real))])
    table = pa.table({"image": image_tables.in_place(places), "id": places})
    sizes = shards.sizes_of(table)
    seen = [tuple(image_tables.pixels((project / name).read_bytes()).shape[1:]) for name in places.to_pylist()]
    assert list(zip(sizes["height"], sizes["width"], strict=True)) == seen == [(24, 40), (24, 40), (16, 16), (70, 20)]

    how = how_to(pipelines.call_settings(pipeline, 3, 5.0, 16))
    shards.write(project / "shard-00000.arrow", pipeline, slots=asked_for(len(real)) | sizes, how=how, batch_size=3)
    made = image_tables.read(project / "shard-00000.arrow").to_pylist()
    assert [image_tables.pixels(row["image"]["bytes"]).shape[1:] for row in made] == seen
    drawn, _ = pipelines.sample(pipeline, *([row[key] for row in made] for key in ("prompt", "seed")), how["settings"])
    square = image_tables.pixels(made[2]["image"]["bytes"]).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(square - np.rint(drawn[2] * 255)).max() <= 1  # of its own size already


def test_images_of_different_slots_differ(pipeline, project):
    images = pixels(generate(pipeline, project / "a"))
    assert all(np.abs(images[i] - images[j]).max() > 1 for i in range(SLOTS) for j in range(i))


def test_a_generation_cut_off_ends_with_the_same_images(pipeline, project):
    whole = generate(pipeline, project / "whole")
    generate(pipeline, project / "cut", stop_after=1)
    (project / "cut" / ".shard-00001.arrow.x").write_bytes(b"half a shard")
    made = (project / "cut" / "shard-00000.arrow").stat().st_mtime_ns
    resumed = generate(pipeline, project / "cut")
    assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in resumed]
    assert resumed[0].stat().st_mtime_ns == made
    left = sorted(path.name for path in (project / "cut").iterdir())
    assert left == [shards.LOCK, *(path.name for path in whole)]


def test_a_half_written_shard_and_shards_of_other_parameters_are_made_again(pipeline, project):
    paths = generate(pipeline, project / "a")
    before = [path.read_bytes() for path in paths]
    paths[1].write_bytes(before[1][:200])
    (project / "a" / "01_generate.ipynb").write_text("executed with these parameters")
    generate(pipeline, project / "a")
    assert [path.read_bytes() for path in paths] == before
    assert (project / "a" / "01_generate.ipynb").exists()
    assert next(shards.claim(project / "a", paths, how={"other": "way"})) == paths[0]
    assert [path.name for path in (project / "a").iterdir()] == [shards.LOCK]


def test_every_image_carries_its_provenance_and_every_shard_how_it_was_drawn(pipeline, tiny_pipeline, project):
    settings = pipelines.call_settings(pipeline, 3, 5.0, 16, "")
    common = pipelines.provenance(tiny_pipeline, "tiny", pipeline=pipeline, settings=settings)
    assert {"pipeline", "pipeline_hash", "scheduler", "steps", "guidance", "negative_prompt", "depth"} <= set(common)
    paths = generate(pipeline, project / "a", settings=settings, common=common)
    table = image_tables.read(*paths)
    assert {"image", "id", "slot", "label", "prompt", "seed", "flagged", "pixel_hash", "device"} <= set(
        table.column_names
    )
    assert set(common) <= set(table.column_names)
    assert json.loads(image_tables.metadata(paths[0])["how"]) == how_to(settings, common=common)


def test_what_is_asked_for_is_the_same_prompt_and_seed_for_a_slot_whoever_asks(project):
    layout = Layout("outputs/digits")
    sources.prepare(layout, {"source": "digits", "image_size": 16}, 0)
    slots = shards.slots_of(layout, "diverse", seed=0)
    train = image_tables.read(layout.real("train"))
    assert slots["slot"] == list(range(train.num_rows)) and np.array_equal(slots["label"], train["label"])
    names = [sources.class_names(layout)[label] for label in slots["label"]]
    assert slots["prompt"] == prompts.write_prompts("diverse", names, captions=[], slots=slots["slot"], seed=0)
    assert shards.slots_of(layout, "caption", seed=0)["prompt"] == train["caption"].to_pylist()
    (project / "names.csv").write_text("folder,name\nthree,trois\n")
    assert "photo of trois" in shards.slots_of(layout, "class_name", seed=0, names="names.csv")["prompt"]
    assert shards.slots_of(layout, "class_name", seed=1)["seed"] != slots["seed"]


def test_prompts_take_the_names_of_the_data_unless_they_have_their_own(project):
    (project / "names.csv").write_text("folder,name\n")
    content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
    content["data"] = {"source": "folders", "pool": "a", "train": "b", "test": "c", "names": "of-data.csv"}
    for own, taken in (("", "of-data.csv"), ("names.csv", "names.csv")):
        content["generate"]["names"] = own
        study = read_settings(Study, content)
        assert study.parameters("generate", source=study.generated_sets()[0])["names"] == taken


# What is not thrown away


def test_few_images_drawn_in_another_way_are_drawn_again_and_many_are_refused(pipeline, project, monkeypatch):
    paths = generate(pipeline, project / "a", common={"versions": "torch=1"})
    (project / "a" / "record.json").write_text("{}")
    kept = {path.name: path.read_bytes() for path in (project / "a").iterdir()}
    monkeypatch.setattr(shards, "EXPENDABLE", SLOTS - 1)
    message = rf'holds {SLOTS} images .* \(codec\.quality: not given, now 9; common\.versions: "torch=1", now "torch=2"'
    with pytest.raises(ValueError, match=message) as caught:
        generate(pipeline, project / "a", common={"versions": "torch=2"}, codec=codecs.PNG | {"quality": 9})
    assert "change that back, delete this folder to draw them again, or give the new set another name" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in (project / "a").iterdir()} == kept
    assert list(shards.claim(project / "a", paths, how=how_of(paths))) == []  # the refusal has left no lock behind
    monkeypatch.setattr(shards, "EXPENDABLE", SLOTS)
    generate(pipeline, project / "a", common={"versions": "torch=2"})
    assert set(image_tables.read(*paths)["versions"].to_pylist()) == {"torch=2"}


def how_of(paths):
    return json.loads(image_tables.metadata(paths[0])["how"])


def test_images_of_an_unfinished_set_count_too_and_those_of_this_way_do_not(pipeline, project, monkeypatch):
    monkeypatch.setattr(shards, "EXPENDABLE", 3)
    generate(pipeline, project / "cut", stop_after=1)
    with pytest.raises(ValueError, match=r"holds 4 images .*image_size: 16, now 8"):
        generate(pipeline, project / "cut", image_size=8)
    (project / "cut" / shards.LOCK).unlink()  # as in a copy of the folder
    assert len(pixels(generate(pipeline, project / "cut"))) == SLOTS


def test_of_many_changes_the_first_are_named(pipeline, project, monkeypatch):
    monkeypatch.setattr(shards, "EXPENDABLE", 3)
    generate(pipeline, project / "a")
    with pytest.raises(ValueError, match=r"p0: not given, now 0; .*p4: not given, now 4; and 3 more\)"):
        generate(pipeline, project / "a", **{f"p{number}": number for number in range(8)})


# Sizes and codecs


def test_an_image_may_be_wider_than_high_and_stored_as_drawn(plain, project):
    settings = settings_of(FAMILY, plain, size=[16, 24])
    path = project / "shard.arrow"
    rows = {name: column[:2] for name, column in asked_for(2).items()}
    shards.write(path, plain, slots=rows, how=how_to(settings, image_size=0), batch_size=2)
    image = Image.open(io.BytesIO(image_tables.read(path)["image"][1]["bytes"].as_py()))
    assert (image.height, image.width) == (16, 24)


@pytest.mark.parametrize("codec", [{"format": "WEBP", "lossless": True}, {"format": "WEBP", "quality": 90}])
def test_other_codecs_are_read_back_as_they_were_drawn(pipeline, project, codec):
    plain, other = (generate(pipeline, project / name, codec=c) for name, c in (("a", codecs.PNG), ("b", codec)))
    apart = np.abs(pixels(plain) - pixels(other))
    others = np.abs(pixels(plain) - np.roll(pixels(plain), 1, axis=0))
    assert apart.max() == 0 if codec.get("lossless") else 0 < apart.mean() < 0.8 * others.mean()
    hashes = [image_tables.read(*paths)["pixel_hash"].to_pylist() for paths in (plain, other)]
    assert hashes[0] == hashes[1]  # of the image, whatever it is stored in


# Memory


class Small(Wrapped):
    """A real pipeline on a device that holds so many images."""

    def __init__(self, pipeline, most):
        super().__init__(pipeline)
        self.most, self.sizes = most, []

    def __call__(self, prompt, **more):
        import torch

        self.sizes.append(len(prompt))
        if len(prompt) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.pipeline(prompt=prompt, **more)


@pytest.mark.parametrize(("most", "batch_size"), [(1, 4), (2, 7), (3, 10), (10, 10)])
def test_a_batch_that_does_not_fit_is_halved_and_images_stay_the_same(plain, project, most, batch_size):
    settings = settings_of(FAMILY, plain)
    reference = pixels(generate(plain, project / "auxiliary", 10, 10, settings=settings))
    small, path = Small(plain, most), project / "small.arrow"
    fitted = shards.write(path, small, slots=asked_for(SLOTS), how=how_to(settings), batch_size=batch_size)
    assert np.abs(pixels([path]) - reference).max() <= 1
    assert image_tables.read(path)["slot"].to_pylist() == list(range(SLOTS))
    assert fitted <= most or batch_size <= most
    first_fit = next(position for position, size in enumerate(small.sizes) if size <= most)
    assert all(size <= most for size in small.sizes[first_fit:])  # what did not fit once is not tried again


def test_one_image_that_does_not_fit_is_one_clear_line_and_no_shard(plain, project):
    pipeline = Small(plain, 0)
    settings = settings_of(FAMILY, pipeline.pipeline)
    with pytest.raises(
        ValueError, match=r"one image of .* does not fit in the device's memory: set slicing and tiling"
    ):
        generate(pipeline, project / "a", settings=settings)
    assert pipeline.sizes == [4, 2, 1]
    assert not list((project / "a").glob("*.arrow"))


def test_pixels_that_are_not_numbers_are_refused(plain, project):
    import torch

    class Overflowing(Wrapped):
        def __call__(self, **more):
            output = self.pipeline(**more)
            output.images[1, 0, 0, 0] = np.nan
            return output

    settings = settings_of(FAMILY, plain)
    with pytest.raises(ValueError, match=r"image of 'photo of 1' has pixels that are not numbers: .*vae: float32"):
        generate(Overflowing(plain), project / "a", settings=settings)
    assert torch.isfinite(torch.zeros(1)) and not list((project / "a").glob("*.arrow"))


# The safety checker


@pytest.fixture
def checked(saved, project):
    """A pipeline whose safety checker flags just the first images of slots 1 and 6, with these settings."""
    pipeline = pipelines.load(saved, "", "float32", "cpu")
    settings = settings_of(FAMILY, pipeline)
    slots = asked_for(SLOTS)
    drawn, _ = pipelines.sample(pipeline, slots["prompt"], slots["seed"], settings)
    images = [Image.fromarray(np.rint(image * 255).astype(np.uint8)) for image in drawn]
    tiny_pipelines.add_safety_checker(project / "checked", pipeline, images, [slot in (1, 6) for slot in range(SLOTS)])
    return pipelines.load(project / "checked", "", "float32", "cpu"), settings


def test_a_flagged_image_is_refused_unless_other_seeds_may_be_tried(checked, project):
    pipeline, settings = checked
    assert pipeline.safety_checker is not None
    with pytest.raises(
        ValueError, match=r"flags the image of 'photo of 1', seed \d+: it would be stored black; set safety_retries"
    ):
        generate(pipeline, project / "a", settings=settings)
    assert not list((project / "a").glob("*.arrow"))


def test_a_flagged_image_is_drawn_again_from_another_seed_and_this_is_recorded(checked, saved, project):
    pipeline, settings = checked
    table = image_tables.read(*generate(pipeline, project / "a", settings=settings, safety_retries=3))
    flagged = table["flagged"].to_numpy()
    assert np.flatnonzero(flagged).tolist() == [1, 6]
    seeds = [shards.next_seed(shards.image_seed(0, slot), flagged[slot]) for slot in range(SLOTS)]
    assert table["seed"].to_pylist() == seeds
    unchecked = pipelines.load(saved, "", "float32", "cpu")
    wanted, _ = pipelines.sample(unchecked, table["prompt"].to_pylist(), seeds, settings)
    drawn = image_tables.decode_all(table, 16).permute(0, 2, 3, 1).numpy()
    assert np.abs(drawn - wanted * 255).max() < 0.51  # none black, each from the seed it names, rounded to a level


def test_a_slot_that_stays_flagged_is_refused_after_the_tries_allowed(checked, project):
    pipeline, settings = checked
    pipeline.safety_checker.concept_embeds_weights.data.fill_(-2)  # a cosine is never below -2: every image is flagged
    with pytest.raises(ValueError, match=r"seed \d+, and those of 2 other seeds: it would be stored black"):
        generate(pipeline, project / "a", settings=settings, safety_retries=2)
    pipelines.preflight(
        pipeline, ["a", "bb", "ccc"], seeds=[1, 2, 3], settings=settings, batch_size=3
    )  # black images would all be alike
    assert pipeline.safety_checker is not None


# Several jobs


WORKER = """
import sys, time
from pathlib import Path
from contamination.base import image_tables
from contamination.base.files import fingerprint
from contamination.generators import shards

folder, how, seconds = Path(sys.argv[1]), {"mark": sys.argv[2]}, float(sys.argv[3])
mark = fingerprint(how)
paths = shards.paths_of(folder, 12, shard_size=1)
try:
    for path in shards.claim(folder, paths, how=how, wait=0.05):
        print(path.name, flush=True)
        time.sleep(seconds)
        image_tables.write(path, [b"x"], columns={"id": [path.name]}, fingerprint=mark)
except ValueError as problem:
    sys.exit(str(problem))
print("complete" if all(image_tables.metadata(path).get("fingerprint") == mark for path in paths) else "lacking")
"""


def job(folder, mark="m", seconds=0.02):
    """One job as a process of its own, which is what locks are about."""
    command = [sys.executable, "-c", WORKER, str(folder), mark, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_jobs_that_run_together_make_every_shard_once_and_all_end_with_the_whole_set(tmp_path):
    outputs = [each.communicate(timeout=300)[0].split() for each in [job(tmp_path / "set") for _ in range(3)]]
    assert [lines[-1] for lines in outputs] == ["complete"] * 3
    made = sorted(name for lines in outputs for name in lines[:-1])
    assert made == [path.name for path in shards.paths_of(tmp_path / "set", 12, shard_size=1)]
    (tmp_path / "set" / "record.json").write_text("{}")
    assert job(tmp_path / "set").communicate(timeout=300)[0].split() == ["complete"]  # late: makes and removes nothing
    assert (tmp_path / "set" / "record.json").exists()


def test_the_shard_of_a_job_that_was_killed_is_taken_over(tmp_path):
    lost = job(tmp_path / "set", seconds=60)
    held = lost.stdout.readline().strip()
    other = job(tmp_path / "set")
    lines = [other.stdout.readline().strip() for _ in range(11)]
    assert held not in lines  # all the others are made, and this one is waited for
    os.kill(lost.pid, signal.SIGKILL)
    lost.communicate()
    assert other.communicate(timeout=300)[0].split() == [held, "complete"]


def test_jobs_with_other_parameters_are_refused_while_one_works_and_take_over_afterwards(tmp_path):
    working = job(tmp_path / "set", seconds=60)
    working.stdout.readline()
    refused = job(tmp_path / "set", mark="other")
    assert "another job is making images in" in refused.communicate(timeout=300)[1]
    os.kill(working.pid, signal.SIGKILL)
    working.communicate()
    assert job(tmp_path / "set", mark="other").communicate(timeout=300)[0].split()[-1] == "complete"


def test_a_file_system_without_locks_is_one_clear_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(shards.fcntl, "lockf", refuse)
    with pytest.raises(
        OSError, match=r"\.lock cannot be locked \(Function not implemented\): put outputs on a file sys"
    ):
        next(shards.claim(tmp_path, shards.paths_of(tmp_path, 2, shard_size=1), how={}))
