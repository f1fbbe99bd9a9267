"""Mixtures: exact per class, nested over ratios, never a copy."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from conftest import ROOT
from contamination import sources
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.mixtures import arms, mixing
from contamination.report import figures
from contamination.study import study as studies
from hypothesis import given
from hypothesis import strategies as st

labels_of_any_kind = st.lists(st.integers(0, 6), min_size=1, max_size=200).map(np.array)
ratios = st.floats(0, 1)
seeds = st.integers(0, 2**31)


@given(labels_of_any_kind, ratios, seeds)
def test_every_class_loses_its_exact_share(labels, ratio, seed):
    taken = mixing.replaced(labels, ratio, seed=seed)
    for label in np.unique(labels):
        size = int((labels == label).sum())
        assert abs(int(taken[labels == label].sum()) - ratio * size) <= 0.5 + 1e-6


@given(labels_of_any_kind, ratios, ratios, seeds)
def test_what_a_small_ratio_replaces_a_larger_one_replaces_too(labels, one, other, seed):
    small, large = sorted((one, other))
    assert not (mixing.replaced(labels, small, seed=seed) & ~mixing.replaced(labels, large, seed=seed)).any()


@given(labels_of_any_kind, seeds)
def test_ratio_0_is_the_identity_and_ratio_1_leaves_no_real_image(labels, seed):
    untouched = mixing.mix(labels, "generated", source="some", ratio=0.0, seed=seed)
    assert set(untouched["source"].to_pylist()) == {"train"}
    assert untouched["row"].to_pylist() == list(range(len(labels)))
    replaced = mixing.mix(labels, "generated", source="some", ratio=1.0, seed=seed)
    assert set(replaced["source"].to_pylist()) == {"some"}


@given(labels_of_any_kind, ratios, seeds)
def test_a_generated_image_stands_in_the_slot_it_was_made_for(labels, ratio, seed):
    manifest = mixing.mix(labels, "generated", source="some", ratio=ratio, seed=seed)
    assert manifest["row"].to_pylist() == manifest["slot"].to_pylist()
    assert manifest["label"].to_pylist() == labels.tolist()


@pytest.mark.medium
@given(labels_of_any_kind, ratios, seeds)
def test_dropping_keeps_exactly_the_slots_that_other_arms_leave_real(labels, ratio, seed):
    dropped = mixing.mix(labels, "dropped", source="none", ratio=ratio, seed=seed)
    mixed = mixing.mix(labels, "generated", source="some", ratio=ratio, seed=seed).to_pandas()
    assert dropped["slot"].to_pylist() == mixed.loc[mixed["source"] == "train", "slot"].tolist()


@pytest.mark.medium
@given(labels_of_any_kind, ratios, seeds)
def test_other_real_images_have_the_slots_class_and_are_used_once(labels, ratio, seed):
    pool = np.concatenate([labels, labels])[::-1]
    manifest = mixing.mix(labels, "other_real", source="pool", ratio=ratio, seed=seed, pool_labels=pool).to_pandas()
    used = manifest[manifest["source"] == "pool"]
    assert (pool[used["row"]] == used["label"]).all()
    assert used["row"].is_unique


def test_the_seed_chooses_the_slots():
    labels = np.repeat(np.arange(10), 60)
    assert (mixing.replaced(labels, 0.5, seed=0) != mixing.replaced(labels, 0.5, seed=1)).any()


@pytest.mark.parametrize("ratio", [1.2, -0.1, float("nan"), "0.4", True, None])
def test_a_ratio_outside_0_to_1_is_one_clear_line(ratio):
    with pytest.raises(ValueError, match="give a number from 0 to 1"):
        mixing.replaced(np.zeros(4, dtype=int), ratio, seed=0)


def test_an_unknown_arm_is_one_clear_line():
    with pytest.raises(ValueError, match="'fake' is not known: give one of clean, generated"):
        mixing.mix(np.zeros(4, dtype=int), "fake", source="some", ratio=0.5, seed=0)


def test_a_pool_that_is_too_small_is_one_clear_line():
    with pytest.raises(ValueError, match="class 0 has 4 slots but only 2 pool images"):
        mixing.mix(
            np.zeros(4, dtype=int), "other_real", source="pool", ratio=0.5, seed=0, pool_labels=np.zeros(2, dtype=int)
        )


@pytest.mark.medium
def test_a_manifest_leads_to_the_very_images(project):
    layout = Layout("outputs/study")
    sources.prepare(layout, {"source": "digits", "image_size": 16}, 0)
    train, pool = image_tables.read(layout.real("train")), image_tables.read(layout.real("pool"))
    labels, pool_labels = train["label"].to_numpy(), pool["label"].to_numpy()
    manifest = mixing.mix(labels, "other_real", source="pool", ratio=0.5, seed=3, pool_labels=pool_labels)
    tables = {name: mixing.tables_of(layout, name) for name in ("train", "pool")}
    mixing.write_manifest(project / "m.parquet", manifest, tables=tables)
    manifest = mixing.read_manifest(project / "m.parquet")
    mixture = mixing.gather(layout, manifest)
    images = mixture.take(np.arange(mixture.num_rows))
    assert [image.as_py() for image in mixture["image"]] == images["image"].to_pylist()
    real = {"train": train["image"].to_pylist(), "pool": pool["image"].to_pylist()}
    expected = [real[line["source"]][line["row"]] for line in manifest.to_pylist()]
    assert images["image"].to_pylist() == expected
    assert images["label"].to_pylist() == labels.tolist()
    captions = {"train": train["caption"].to_pylist(), "pool": pool["caption"].to_pylist()}
    assert images["caption"].to_pylist() == [captions[line["source"]][line["row"]] for line in manifest.to_pylist()]
    assert {b"hash of train", b"hash of pool"} <= set(manifest.schema.metadata)


@pytest.mark.medium
def test_gathering_copies_no_image(project):
    layout = Layout("outputs/study")
    sources.prepare(layout, {"source": "digits", "image_size": 16}, 0)
    labels = image_tables.read(layout.real("train"))["label"].to_numpy()
    slots = list(range(len(labels)))
    columns = {"id": [f"slot-{slot}" for slot in slots], "label": labels, "slot": slots}
    image_tables.write(layout.generated("made") / "shard-00000.arrow", [bytes(20_000)] * len(slots), columns=columns)
    manifest = mixing.mix(labels, "generated", source="made", ratio=0.5, seed=0)
    before = pa.total_allocated_bytes()
    mixed = mixing.gather(layout, manifest)
    assert pa.total_allocated_bytes() - before < 20_000 * len(slots) / 20
    assert sum(len(image["bytes"].as_py()) == 20_000 for image in mixed["image"]) == len(slots) / 2


def test_a_generated_image_has_the_caption_of_its_slot(project):
    layout = Layout("outputs/study")
    sources.prepare(layout, {"source": "digits", "image_size": 16}, 0)
    train = image_tables.read(layout.real("train"))
    slots = list(range(train.num_rows))
    columns = {"id": [f"slot-{slot}" for slot in slots], "label": train["label"], "slot": slots}
    images = [image["bytes"] for image in reversed(train["image"].to_pylist())]
    image_tables.write(layout.generated("made") / "shard-00000.arrow", images, columns=columns)
    manifest = mixing.mix(train["label"].to_numpy(), "generated", source="made", ratio=0.5, seed=0)
    mixed = mixing.gather(layout, manifest)
    assert set(mixed["source"].to_pylist()) == {"train", "made"}
    assert mixed["caption"].to_pylist() == train["caption"].to_pylist()


def test_an_arm_that_takes_its_images_from_a_set_is_one_row(monkeypatch, tmp_path):
    """In the grid, the manifest, the palette and the legend."""
    monkeypatch.setitem(arms.ARMS, "added", arms.Arm("added", arms.SET, "added to real ones"))
    content = yaml.safe_load((ROOT / "parameters/smoke.yaml").read_text())
    content["grid"]["arms"] = ["generated", "added"]
    (tmp_path / "added.yaml").write_text(yaml.safe_dump(content))
    study = studies.load(tmp_path / "added.yaml")
    sets = study.generated_sets()
    runs = [(run.arm, run.source) for run in study.runs() if run.ratio == 1]
    assert runs == [("generated", name) for name in sets] + [("added", name) for name in sets]
    manifest = mixing.mix(np.zeros(4, dtype=int), "added", source=sets[0], ratio=0.5, seed=0)
    assert sorted(manifest["source"].to_pylist()) == [sets[0]] * 2 + ["train"] * 2
    palette = figures.colors(pd.DataFrame(runs, columns=["arm", "source"]))
    assert palette["added", sets[0]] != palette["generated", sets[0]]
    assert figures.label_of("added", sets[0]) == f"added to real ones: {sets[0]}"


def test_no_other_file_names_an_arm():
    """What an arm is stands in one table; "generated" is also a word for images."""
    names = re.compile(r"""["'](clean|other_real|dropped)["']""")
    files = [*(ROOT / "lib/contamination").rglob("*.py"), ROOT / "Snakefile"]
    assert [file.name for file in files if names.search(file.read_text())] == ["arms.py"]


def test_a_manifest_of_any_arm_can_be_shown_as_a_data_frame():
    """pandas takes no category twice."""
    for arm in arms.ARMS.values():
        manifest = mixing.mix(
            np.zeros(4, dtype=int), arm.name, source="made", ratio=0.0, seed=0, pool_labels=np.zeros(4, dtype=int)
        )
        assert set(manifest.to_pandas()["source"]) == {"train"}
