"""Draws of the generated sets, slots and seeds: which runs there are, and from which images each learns."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from contamination import sources
from contamination.base import files, image_tables
from contamination.base.layout import Layout, read_seeds, spell_seeds
from contamination.base.settings import read_settings
from contamination.generators import shards
from contamination.mixtures import mixing, replicates
from contamination.mixtures.replicates import Replicate
from contamination.runner import inputs
from contamination.study.study import Grid, Study
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
SMOKE = yaml.safe_load((ROOT / "parameters/smoke.yaml").read_text())
SET = "class-name-7.5"
numbers = st.lists(st.integers(0, 20), min_size=1, max_size=4, unique=True)
draws = st.sampled_from(["shared", "per_seed"]) | numbers
slots = st.none() | numbers


BASE = read_settings(Study, SMOKE)  # once: it looks through timm's models


def study_of(**grid) -> Study:
    return BASE.model_copy(update={"grid": read_settings(Grid, SMOKE["grid"] | grid, key="grid")})


def of_arm(study: Study, arm: str, ratio: float = 0.5) -> list[Replicate]:
    ratio = 0.0 if arm == "clean" else ratio
    return [each for run in study.runs() if (run.arm, run.ratio) == (arm, ratio) for each in run.replicates]


# The grid


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_a_block_is_read_back_from_its_name_and_from_its_lists(each):
    block = [Replicate(*numbers) for numbers in each]
    lists = replicates.lists(block)
    assert replicates.of_lists(*lists) == block
    assert replicates.of_lists(**read_seeds(spell_seeds(*lists))) == block


def test_a_block_of_own_slots_and_draw_0_is_called_as_it_always_was():
    assert spell_seeds(*replicates.lists([Replicate(seed, 0, seed) for seed in (3, 5)])) == "seeds-3-5"
    assert spell_seeds((3, 5), (3, 5)) == "seeds-3-5-draws-3-5"
    with pytest.raises(ValueError, match=r"draws \[1\]: give one for each of the 2 seeds, or none at all"):
        replicates.of_lists([3, 5], [1])


@settings(max_examples=40)
@given(numbers, draws, slots, st.integers(1, 3))
def test_every_arm_has_each_replicate_that_it_depends_on_once(seeds, draws, slots, size):
    study = study_of(seeds=seeds, draws=draws, slots=slots, seeds_per_job=size)
    every = [
        Replicate(seed, draw, of_slots)
        for seed in seeds
        for draw in {"shared": [0], "per_seed": [seed]}.get(str(draws), draws)
        for of_slots in slots or [seed]
    ]
    assert sorted(of_arm(study, "generated")) == sorted(every)
    assert sorted(of_arm(study, "dropped")) == sorted({each._replace(draw=0) for each in every})
    assert sorted(of_arm(study, "clean")) == sorted(Replicate(seed, 0, seed) for seed in seeds)
    assert all(len(set(run.seeds)) == len(run.seeds) <= size for run in study.runs())


@settings(max_examples=40)
@given(numbers, draws, slots, st.integers(1, 3))
def test_every_image_that_a_run_takes_is_drawn_by_one_job(seeds, draws, slots, size):
    study = study_of(seeds=seeds, draws=draws, slots=slots, seeds_per_job=size)
    jobs = study.jobs()
    taken = {each.draw for each in of_arm(study, "generated")}
    assert [job["draw"] for job in jobs["generate"]] == [job["draw"] for job in jobs["pretrain"]] == sorted(taken)
    measured = [{"draw": draw, "source": SET} for draw in sorted(taken)] + [{"draw": 0, "source": "pool"}]
    assert jobs["measure"] == jobs["detect"] == measured
    places = [study.job(stage, **point) for stage, points in jobs.items() for point in points]
    assert len(set(places)) == len(places)


@settings(max_examples=20)
@given(numbers, draws, slots)
def test_a_job_is_found_again_by_the_wildcards_of_its_path(seeds, draws, slots):
    study = study_of(seeds=seeds, draws=draws, slots=slots)
    for point in study.jobs()["detect"]:
        folder = study.job("detect", **point).relative_to(study.layout.root).parts
        draw = "".join(f"{part}/" for part in folder[:-2])
        assert inputs.point({"draw": draw, "source": folder[-1]}) == point
    for point in study.jobs()["mix"]:
        arm, source, ratio, block = study.job("mix", **point).parts[-4:]
        found = inputs.point({"arm": arm, "source": source, "ratio": ratio, "seeds": block})
        assert study.parameters("mix", **found) == json.loads(json.dumps(study.parameters("mix", **point)))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=4, unique=True).map(sorted))
def test_one_more_seed_with_its_draw_changes_no_job_that_was_there(seeds):
    before, after = (study_of(seeds=some, draws="per_seed", seeds_per_job=1) for some in (seeds, [*seeds, 31]))
    later = after.jobs()
    for stage, points in before.jobs().items():
        if stage != "plot":
            assert all(point in later[stage] for point in points)
            assert all(before.parameters(stage, **point) == after.parameters(stage, **point) for point in points)


def test_draw_0_is_what_it_was_and_another_one_has_a_folder_and_a_training_of_its_own(monkeypatch):
    monkeypatch.chdir(ROOT)
    study = study_of(draws=[0, 1])
    first, second = (study.parameters("generate", draw=draw, source=SET) for draw in (0, 1))
    assert first == study_of().parameters("generate", source=SET)
    assert {key for key in first if first[key] != second[key]} == {"draw", "pipeline"}
    assert first["pipeline"] == "outputs/smoke/pretrain/pipeline"
    assert second["pipeline"] == "outputs/smoke/draw-1/pretrain/pipeline"
    assert study.job("generate", draw=1, source=SET) == ROOT / "outputs/smoke/draw-1/generate" / SET
    assert study.job("generate", draw=0, source=SET) == ROOT / "outputs/smoke/generate" / SET


def test_an_imported_set_has_one_draw_that_all_share():
    made = SMOKE["grid"]["generated"] | {"theirs": {"folder": "theirs"}}
    study = study_of(draws="per_seed", seeds=[1, 2], generated=made)
    assert study.draws_of("theirs") == [0] and study.draws_of(SET) == [1, 2]
    assert [run.draws for run in study.runs() if run.source == "theirs"] == [()] * 2
    assert study.jobs()["import"] == [{"source": "theirs"}]
    assert study.parameters("detect", draw=2, source=SET)["others"] == {"theirs": 0, SET: 1}
    assert study.parameters("detect", draw=0, source="theirs")["others"] == {SET: 1}


def test_a_detector_is_tested_on_another_draw_of_its_set():
    study = study_of(draws=[2, 0, 5])
    others = {draw: study.parameters("detect", draw=draw, source=SET)["others"] for draw in (0, 2, 5)}
    assert others == {0: {SET: 2}, 2: {SET: 0}, 5: {SET: 2}}
    assert study_of().parameters("detect", source=SET)["others"] == {}


@pytest.mark.parametrize("wrong", ["per-seed", [], [0, -1], ["a"], [True], 3, None])
def test_draws_that_are_none_are_one_clear_line(wrong):
    line = r"^grid\.draws: .*: give shared, per_seed, or a list of numbers from 0 such as \[0, 1, 2\]$"
    with pytest.raises(ValueError, match=line) as told:
        study_of(draws=wrong)
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match=r"^grid\.draws: each value may stand here only once$"):
        study_of(draws=[1, 1])


def test_the_old_key_is_refused_with_the_new_one():
    content = SMOKE | {"pretrain": SMOKE["pretrain"] | {"draw": 1}}
    with pytest.raises(ValueError, match=r"^pretrain\.draw is grid\.draws now"):
        read_settings(Study, content)


# The images


@given(st.integers(0, 2**31), st.lists(st.integers(1, 10**6), min_size=2, max_size=20, unique=True))
def test_draws_differ_and_come_again(seed, draws):
    made = [shards.draw_seed(seed, draw) for draw in [0, *draws]]
    assert made == [shards.draw_seed(seed, draw) for draw in [0, *draws]]
    assert made[0] == seed and len(set(made)) == len(made)


@pytest.fixture
def layout(project):
    """Real images, and three draws of a set whose images say which draw and slot they are of."""
    layout = Layout("outputs/study")
    sources.prepare(layout, {"source": "digits", "image_size": 16}, 0)
    labels = image_tables.read(layout.real("train"))["label"]
    slots = list(range(len(labels)))
    for draw in (0, 1, 2):
        images = [json.dumps([draw, slot]).encode() for slot in slots]
        columns = {"id": [f"slot-{slot}" for slot in slots], "label": labels, "slot": slots}
        folder = layout.of_draw(draw).generated("set")
        image_tables.write(folder / "shard-00000.arrow", images, columns=columns)
    return layout


def test_the_noise_of_an_image_is_its_draws_and_its_slots(layout):
    of = {draw: shards.slots_of(layout, "class_name", seed=3, draw=draw) for draw in (0, 1, 2)}
    assert of[0]["seed"] == shards.slots_of(layout, "class_name", seed=3)["seed"]
    assert of[0]["seed"] == [shards.image_seed(3, slot) for slot in of[0]["slot"]]
    assert len({seed for each in of.values() for seed in each["seed"]}) == 3 * len(of[0]["slot"])
    assert of[0]["prompt"] == of[1]["prompt"] == of[2]["prompt"]


@pytest.mark.parametrize(("draws", "slots"), [([2, 0, 1], []), ([1, 1, 1], [7, 7, 7]), ([], [])])
def test_every_seed_learns_from_the_images_of_its_draw_in_its_slots(layout, draws, slots):
    given = {"source": "set", "ratio": 0.5, "draws": draws, "slots": slots}
    manifests = mixing.mix_all(layout, "generated", seeds=[0, 1, 2], **given)
    folder = mixing.write(layout, manifests, arm="generated", **given)
    labels = image_tables.read(layout.real("train"))["label"].to_numpy()
    for seed, draw, of_slots in replicates.of_lists([0, 1, 2], draws, slots):
        manifest = mixing.read_manifest(folder / f"seed-{seed}.parquet")
        mixed = mixing.gather(layout, manifest)
        generated = np.array(mixed["source"].to_pylist()) == "set"
        assert np.array_equal(generated, mixing.replaced(labels, 0.5, seed=of_slots))
        said = [json.loads(mixed["image"][int(row)]["bytes"].as_py()) for row in np.flatnonzero(generated)]
        assert said == [[draw, slot] for slot in np.flatnonzero(generated)]
        files_of_draw = mixing.tables_of(layout.of_draw(draw), "set")
        assert manifest.schema.metadata[b"hash of set"].decode() == mixing.content_hash(files_of_draw)


def test_a_mixture_of_draw_0_is_written_byte_for_byte_as_without_draws(layout):
    labels = image_tables.read(layout.real("train"))["label"].to_numpy()
    written = []
    for draws in ([], [0]):
        manifests = mixing.mix_all(layout, "generated", source="set", ratio=0.5, seeds=[4], draws=draws)
        folder = mixing.write(layout, manifests, arm="generated", source="set", ratio=0.5, draws=draws)
        written.append((folder / "seed-4.parquet").read_bytes())
    mixed = mixing.mix(labels, "generated", source="set", ratio=0.5, seed=4)
    tables = {name: mixing.tables_of(layout, name) for name in ("train", "set")}
    mixing.write_manifest(layout.root / "plain.parquet", mixed, tables=tables)
    assert written == [(layout.root / "plain.parquet").read_bytes()] * 2


def test_a_draw_that_is_not_there_is_named(layout):
    with pytest.raises(ValueError, match="images of draw 3 of set are missing: run 01_generate"):
        mixing.mix_all(layout, "generated", source="set", ratio=0.5, seeds=[0, 1], draws=[0, 3])


def test_a_notebook_by_hand_writes_its_draw_below_explore(layout):
    by_hand = Layout("outputs/study", by_hand=True).of_draw(2)
    assert by_hand.generated("set") == layout.of_draw(2).generated("set")
    assert by_hand.writable.generated("set") == layout.root / "explore/draw-2/generate/set"
    files.write_json(layout.root / "explore/draw-2/generate/set/record.json", {})
    assert by_hand.generated("set") == layout.root / "explore/draw-2/generate/set"
