"""Generated images: identity by slot, whole shards, clear words for wrong pipelines. The pipeline is real and tiny."""

import shutil

import numpy as np
import pytest
from contamination import generators, store

SLOTS = 10


@pytest.fixture
def pipeline(tiny_pipeline, project):
    import torch

    torch.set_num_threads(1)
    return generators.load_pipeline(tiny_pipeline, "", "float32", torch.device("cpu"))


def generate(pipeline, folder, batch_size=4, shard_size=4, mark="m", stop_after=None):
    """Generate SLOTS images into a folder, as 01_generate does; optionally stop after some shards."""
    slots = {"slot": list(range(SLOTS)), "label": list(range(SLOTS))}
    slots["prompt"] = [f"photo of {number}" for number in range(SLOTS)]
    slots["seed"] = [generators.image_seed(0, slot) for slot in slots["slot"]]
    settings = generators.call_settings(pipeline, 3, 5.0, 16, "blurred")
    paths = generators.shard_paths(folder, SLOTS, shard_size)
    for path in generators.keep_only(folder, paths, mark)[:stop_after]:
        start = paths.index(path) * shard_size
        rows = {name: column[start : start + shard_size] for name, column in slots.items()}
        generators.write_shard(path, pipeline, rows, settings, {"steps": 3}, 16, batch_size, mark)
    return paths


def pixels(paths):
    return store.decode_all(store.read(*paths), 16).numpy().astype(int)


def test_every_slot_has_its_own_seed_and_no_other_studys():
    seeds = {generators.image_seed(study, slot, depth) for study in range(3) for slot in range(500) for depth in (1, 2)}
    assert len(seeds) == 3 * 500 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(("batch_size", "shard_size"), [(1, 4), (3, 10), (10, 10), (2, 7)])
def test_batch_and_shard_size_change_pixels_by_rounding_only(pipeline, project, batch_size, shard_size):
    reference = pixels(generate(pipeline, project / "a"))
    other = pixels(generate(pipeline, project / "b", batch_size, shard_size))
    # Batched matrix products round differently in the last bits; of 256 levels at most one may flip.
    assert np.abs(reference - other).max() <= 1


def test_images_of_different_slots_differ(pipeline, project):
    images = pixels(generate(pipeline, project / "a"))
    assert all(np.abs(images[i] - images[j]).max() > 1 for i in range(SLOTS) for j in range(i))


def test_a_generation_cut_off_ends_byte_identical(pipeline, project):
    whole = generate(pipeline, project / "whole")
    generate(pipeline, project / "cut", stop_after=1)
    (project / "cut" / ".shard-00001.arrow.x").write_bytes(b"half a shard")
    made = (project / "cut" / "shard-00000.arrow").stat().st_mtime_ns
    resumed = generate(pipeline, project / "cut")
    assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in resumed]
    assert resumed[0].stat().st_mtime_ns == made
    assert sorted(path.name for path in (project / "cut").iterdir()) == [path.name for path in whole]


def test_a_half_written_shard_and_shards_of_other_parameters_are_made_again(pipeline, project):
    paths = generate(pipeline, project / "a")
    before = [path.read_bytes() for path in paths]
    paths[1].write_bytes(before[1][:200])
    generate(pipeline, project / "a")
    assert [path.read_bytes() for path in paths] == before
    (project / "a" / "01_generate.ipynb").write_text("executed with the old parameters")
    assert generators.keep_only(project / "a", paths, "other mark") == paths
    assert not list((project / "a").iterdir())


def test_every_image_carries_its_provenance(pipeline, tiny_pipeline, project):
    settings = generators.call_settings(pipeline, 3, 5.0, 16, "")
    common = generators.provenance(tiny_pipeline, "tiny", pipeline, settings)
    assert {"pipeline", "pipeline_hash", "scheduler", "steps", "guidance", "negative_prompt", "depth"} <= set(common)
    columns = set(store.read(*generate(pipeline, project / "a")).column_names)
    assert {"image", "id", "slot", "label", "prompt", "seed", "flagged", "steps"} <= columns


def test_a_scheduler_is_chosen_by_name(tiny_pipeline, project):
    chosen = generators.load_pipeline(tiny_pipeline, "DPMSolverMultistepScheduler", "float32", "cpu")
    assert type(chosen.scheduler).__name__ == "DPMSolverMultistepScheduler"
    with pytest.raises(ValueError, match="scheduler 'Magic' is not in diffusers"):
        generators.load_pipeline(tiny_pipeline, "Magic", "float32", "cpu")


def test_a_missing_pipeline_folder_is_one_clear_line(project):
    with pytest.raises(FileNotFoundError, match="is missing: run 00_pretrain, or name a folder or hub model"):
        generators.pipeline_folder("outputs/digits/pretrain/pipeline")


def test_a_hub_name_that_cannot_be_had_is_one_clear_line(project, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="pipeline nobody/nothing is neither a folder nor to be had"):
        generators.pipeline_folder("nobody/nothing")


def test_a_folder_without_index_is_one_clear_line(tiny_pipeline, project):
    shutil.copytree(tiny_pipeline, project / "half")
    (project / "half" / "model_index.json").unlink()
    with pytest.raises(ValueError, match=r"has no model_index\.json: it is half-written or no pipeline"):
        generators.pipeline_folder("half")


@pytest.mark.parametrize("lost", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json"])
def test_a_half_written_pipeline_is_one_clear_line(tiny_pipeline, project, lost):
    shutil.copytree(tiny_pipeline, project / "half")
    victim = project / "half" / lost
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    with pytest.raises(ValueError, match="half does not load") as caught:
        generators.load_pipeline(project / "half", "", "float32", "cpu")
    assert "\n" not in str(caught.value)


def test_a_pipeline_without_its_tokenizer_is_one_clear_line(tiny_pipeline, project):
    shutil.copytree(tiny_pipeline, project / "half")
    shutil.rmtree(project / "half" / "tokenizer")
    with pytest.raises(ValueError, match="half lacks tokenizer: it is half-written"):
        generators.pipeline_folder("half")


def test_a_truncated_weight_file_is_one_clear_line(tiny_pipeline, project):
    shutil.copytree(tiny_pipeline, project / "half")
    weights = project / "half" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="half does not load"):
        generators.load_pipeline(project / "half", "", "float32", "cpu")


def test_a_pipeline_that_is_not_text_to_image_is_refused(project):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, block_out_channels=(8,), norm_num_groups=4, layers_per_block=1, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(project / "ddpm")
    with pytest.raises(ValueError, match=r"ddpm \(DDPMPipeline\) is not text-to-image"):
        generators.load_pipeline(project / "ddpm", "", "float32", "cpu")
