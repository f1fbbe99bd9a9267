"""Verifying a generated set: every kind of fault is named, and what was drawn is drawn again."""

import json
import shutil

import numpy as np
import pytest
import yaml
from contamination import cli
from contamination.base import image_tables
from contamination.base.layout import Layout
from contamination.commands import verify
from contamination.generators import codecs, pipelines, shards
from support import tiny_pipelines

pytestmark = pytest.mark.medium

SLOTS = 9
PLAIN = {"scheduler": "", "dtype": "float32"}


def asked_for():
    slots = {"slot": list(range(SLOTS)), "label": [slot % 3 for slot in range(SLOTS)]}
    slots["prompt"] = [f"photo of {slot}" for slot in range(SLOTS)]
    slots["seed"] = [shards.image_seed(0, slot) for slot in slots["slot"]]
    return slots


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tiny_pipelines.save("stable-diffusion-1", tmp_path_factory.mktemp("saved") / "tiny")


@pytest.fixture
def project(project, saved):
    shutil.copytree(saved, project / "tiny")
    return project


def generate(project, codec=codecs.PNG, guidance=5.0, loading=PLAIN, flag=(), slots=None):
    """Write a generated set of three shards and return its layout. flag: slots whose first image is to be flagged."""
    folder = project / "tiny"
    pipeline = pipelines.load(folder, device="cpu", **loading)
    settings = pipelines.call_settings(pipeline, 3, guidance, 16)
    slots = slots or asked_for()
    if flag:
        drawn, _ = pipelines.sample(pipeline, slots["prompt"], slots["seed"], settings)
        images = [shards.picture(image, 0) for image in drawn]
        tiny_pipelines.add_safety_checker(folder, pipeline, images, [slot in flag for slot in range(SLOTS)])
        pipeline = pipelines.load(folder, device="cpu", **loading)
    common = pipelines.provenance(folder, "tiny", pipeline=pipeline, settings=settings)
    how = {"loading": loading, "settings": settings, "common": common, "image_size": 16, "codec": codec}
    layout = Layout("outputs/study")
    paths = shards.paths_of(layout.generated("set"), SLOTS, shard_size=4)
    for path in shards.claim(layout.generated("set"), paths, how=how):
        start = paths.index(path) * 4
        rows = {name: column[start : start + 4] for name, column in slots.items()}
        shards.write(path, pipeline, slots=rows, how=how, batch_size=4, safety_retries=3)
    return layout


def rewrite(layout, number, change):
    """Change the columns of one shard and write it again."""
    path = layout.generated("set") / f"shard-{number:05d}.arrow"
    columns = {name: column.to_pylist() for name, column in zip(*table_of(path), strict=True)}
    change(columns)
    images = [image["bytes"] for image in columns.pop("image")]
    image_tables.write(path, images, columns=columns, **image_tables.metadata(path))


def table_of(path):
    table = image_tables.read(path)
    return table.column_names, table.columns


JPEG = {"format": "JPEG", "quality": 90}


@pytest.mark.parametrize(("codec", "flag"), [(codecs.PNG, ()), (JPEG, ()), (codecs.PNG, (2, 5))])
def test_a_whole_set_has_no_problems_and_is_drawn_again_up_to_rounding(project, codec, flag):
    layout = generate(project, codec, flag=flag)
    record = verify.verify(layout, "set", slots=asked_for(), device="cpu", sample=SLOTS)
    assert record["problems"] == [] and record["images"] == SLOTS
    assert [drawn["slot"] for drawn in record["drawn"]] == list(range(SLOTS))
    assert record["verdict"] in (verify.EQUAL, verify.ROUNDED)
    if codec == codecs.PNG:
        assert all(drawn["max"] <= 1 for drawn in record["drawn"])  # alone instead of four at a time
    assert json.loads(json.dumps(record)) == record


def test_what_the_same_batch_draws_is_bit_equal_and_hashes_say_so(project):
    layout = generate(project, JPEG)
    row = image_tables.read(layout.generated("set") / "shard-00002.arrow").to_pylist()[0]  # the last shard, drawn alone
    assert row["slot"] == SLOTS - 1
    pipeline = pipelines.load(project / "tiny", device="cpu", **PLAIN)
    how = json.loads(image_tables.metadata(layout.generated("set") / "shard-00002.arrow")["how"])
    drawn = verify._again(pipeline, row, how)
    assert drawn == {"slot": 8, "verdict": verify.EQUAL, "max": 0, "mean": 0.0, "share": 0.0}


def test_the_sample_is_random_and_the_same_for_the_same_seed(project):
    layout = generate(project)
    chosen = [
        [
            drawn["slot"]
            for drawn in verify.verify(layout, "set", slots=asked_for(), device="cpu", sample=3, seed=seed)["drawn"]
        ]
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


FAULTS = {
    "label": (lambda columns: columns["label"].__setitem__(1, 7), "another label than the slot's: 1 (slot 5)"),
    "prompt": (lambda columns: columns["prompt"].__setitem__(0, "x"), "another prompt than the slot's: 1 (slot 4)"),
    "seed": (lambda columns: columns["seed"].__setitem__(3, 1), "another seed than the slot's: 1 (slot 7)"),
    "flagged": (lambda columns: columns["flagged"].__setitem__(3, 1), "another seed than the slot's: 1 (slot 7)"),
    "slot": (lambda columns: columns["slot"].__setitem__(2, 0), "slots with more than one image: 1 (slot 0)"),
    "image": (
        lambda columns: columns["image"].__setitem__(0, columns["image"][1]),
        "bytes that have changed: 1 (slot 4)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named_with_its_slot(project, fault):
    layout = generate(project)
    change, sentence = FAULTS[fault]
    rewrite(layout, 1, change)
    record = verify.verify(layout, "set", slots=asked_for(), device="cpu", sample=0)
    assert sentence in record["problems"] and record["verdict"] == verify.NOT_DRAWN


def test_an_image_that_cannot_be_read_is_different(project):
    layout = generate(project)
    rewrite(layout, 2, lambda columns: columns["image"].__setitem__(0, {"bytes": b"not an image", "path": None}))
    record = verify.verify(layout, "set", slots=asked_for(), device="cpu", sample=SLOTS)
    assert record["problems"] == ["bytes that have changed: 1 (slot 8)"]
    assert [drawn["slot"] for drawn in record["drawn"] if drawn["verdict"] == verify.DIFFERENT] == [8]


def test_missing_and_superfluous_images_are_named(project):
    layout = generate(project)
    (layout.generated("set") / "shard-00000.arrow").unlink()
    slots = {name: column[:-1] for name, column in asked_for().items()}
    problems = verify.verify(layout, "set", slots=slots, device="cpu", sample=0)["problems"]
    assert "slots without an image: 4 (slot 0, 1, 2, 3)" in problems
    assert "images of slots that are not asked for: 1 (slot 8)" in problems


def test_an_image_of_another_seed_is_different_and_another_pipeline_is_named(project):
    layout = generate(project)
    rewrite(layout, 0, lambda columns: columns.update(seed=[seed + 1 for seed in columns["seed"]]))
    record = verify.verify(layout, "set", slots=asked_for(), device="cpu", sample=SLOTS)
    verdicts = [drawn["verdict"] for drawn in record["drawn"]]
    assert verdicts[:4] == [verify.DIFFERENT] * 4 and verify.DIFFERENT not in verdicts[4:]
    assert record["verdict"] == verify.DIFFERENT
    index = project / "tiny" / "model_index.json"
    index.write_text(index.read_text() + "\n")
    problems = verify.verify(layout, "set", slots=asked_for(), device="cpu", sample=0)["problems"]
    assert "no longer the one that made these images" in problems[-1]


def test_what_may_differ_is_said_with_its_reason(project, monkeypatch):
    layout = generate(project, JPEG, loading=PLAIN | {"dtype": "bfloat16"})
    expected = "\n".join(verify.verify(layout, "set", slots=asked_for(), device="cpu", sample=1)["expected"])
    for reason in ("one image at a time", "bfloat16: the last bit", "a lossy codec"):
        assert reason in expected
    assert "drawn on" not in expected and "made with" not in expected
    monkeypatch.setattr(pipelines, "device_name", lambda device: "another chip")
    monkeypatch.setattr(pipelines, "spell_versions", lambda: "torch=9")
    expected = "\n".join(verify.verify(layout, "set", slots=asked_for(), device="cpu", sample=1)["expected"])
    assert "drawn on cpu, again on another chip" in expected and "now torch=9" in expected


def test_a_set_that_is_not_there_or_does_not_say_how_it_was_made_is_one_clear_line(project):
    with pytest.raises(FileNotFoundError, match="generated set set is missing: run 01_generate"):
        verify.verify(Layout("outputs/study"), "set", slots=asked_for(), device="cpu")
    layout = generate(project)
    path = layout.generated("set") / "shard-00000.arrow"
    columns = {name: column.to_pylist() for name, column in zip(*table_of(path), strict=True)}
    image_tables.write(path, [image["bytes"] for image in columns.pop("image")], columns=columns, fingerprint="m")
    with pytest.raises(ValueError, match="do not record one way to draw them: run 01_generate again"):
        verify.verify(layout, "set", slots=asked_for(), device="cpu")


# The verb


@pytest.fixture
def study(project):
    """A study of one generated set, for the slots of a train split of its own; returns its layout."""
    content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
    content |= {"study": "study", "generate": {"pipeline": "tiny", "steps": 3, "size": 16}}
    content["grid"] |= {"generated": {"set": {"style": "class_name", "guidance": 5.0}}}
    del content["pretrain"]
    (project / "study.yaml").write_text(yaml.safe_dump(content))
    layout, labels = Layout("outputs/study"), asked_for()["label"]
    columns = {"id": [str(row) for row in range(SLOTS)], "label": labels, "caption": ["a red three"] * SLOTS}
    names = json.dumps(["zero", "one", "two"])
    image = image_tables.encode(np.zeros((16, 16, 3), dtype=np.uint8))
    image_tables.write(layout.real("train"), [image] * SLOTS, columns=columns, class_names=names)
    return layout


def run_verify(capsys, *arguments):
    """The exit status and the lines that the command prints."""
    status = cli.main(["verify", "study.yaml", *arguments])
    return status, capsys.readouterr().out.splitlines()


def test_the_command_says_of_every_set_what_it_found(project, study, capsys):
    assert run_verify(capsys) == (1, ["set: generated set set is missing: run 01_generate for it first"])
    generate(project, slots=shards.slots_of(study, "class_name", seed=0))
    status, (line,) = run_verify(capsys, "--sample", "3")
    assert (status, line.split("; ")[:2]) == (0, ["set: 9 images", "all as recorded"])
    assert line.split("; ")[2] in [f"3 drawn again: {verdict}" for verdict in (verify.EQUAL, verify.ROUNDED)]
    assert run_verify(capsys, "--sample", "0") == (0, ["set: 9 images; all as recorded"])


def test_the_command_fails_where_an_image_is_wrong_or_would_be_drawn_otherwise(project, study, capsys):
    generate(project, slots=shards.slots_of(study, "class_name", seed=0))
    rewrite(study, 1, lambda columns: columns["label"].__setitem__(1, 7))
    assert run_verify(capsys, "--sample", "0") == (1, ["set: 9 images; another label than the slot's: 1 (slot 5)"])
    rewrite(study, 1, lambda columns: columns["label"].__setitem__(1, 2))
    rewrite(study, 2, lambda columns: columns["image"].__setitem__(0, {"bytes": OTHER, "path": None}))
    rewrite(study, 2, lambda columns: columns["bytes_hash"].__setitem__(0, codecs.bytes_hash(OTHER)))
    status, (line,) = run_verify(capsys, "--sample", str(SLOTS))
    assert status == 1
    assert "; all as recorded; 9 drawn again: different; different: 1 (slot 8); one image at a time" in line


OTHER = image_tables.encode(np.full((16, 16, 3), 255, dtype=np.uint8))


def test_a_wrong_command_is_one_clear_line(project, study, capsys):
    assert cli.main(["verify", "nothing.yaml"]) == cli.main(["verify", "study.yaml", "--sample", "-1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "nothing.yaml is missing" in lines[0] and "sample -1 is not allowed" in lines[1] and len(lines) == 2
    with pytest.raises(SystemExit):
        cli.main(["verify", "study.yaml", "--forceall"])


# Differences


def test_the_difference_of_two_images_is_in_levels():
    black = np.zeros((4, 5, 3), dtype=np.uint8)
    other = black.copy()
    other[0, 0] = (3, 0, 255)
    assert verify.compare(black, black) == {"max": 0, "mean": 0.0, "share": 0.0}
    assert verify.compare(black, other) == {"max": 255, "mean": 258 / 60, "share": 1 / 20}
    assert verify.compare(black, other[:2])["share"] == 1
