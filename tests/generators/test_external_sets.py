"""Imported sets: every image at most once and in its class, changes noticed, every fault one line."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from contamination import cli, sources
from contamination.base import by_hand, files, image_tables
from contamination.base.layout import Layout
from contamination.commands import export
from contamination.generators import external_sets, shards
from contamination.mixtures import mixing
from contamination.study import checks
from contamination.study import study as studies
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from PIL import Image

pytestmark = pytest.mark.medium

CLASSES = ['it\'s "b" & c', "left hand"]
SLOTS = {CLASSES[0]: 3, CLASSES[1]: 2}
COMMAND = [str(Path(sys.executable).with_name("contamination")), "run"]


def noise(file: Path, seed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def layout(project):
    """A study whose slots are images in folders."""
    for start, split in enumerate(sources.SPLITS, start=1):
        for label, (name, count) in enumerate(SLOTS.items()):
            for number in range(count):
                file = project / "pictures" / split / name / f"{name[:2]} {number}.jpg"
                noise(file, 1000 * start + 100 * label + number)
    data = {"source": "folders", "image_size": 16, **{split: f"pictures/{split}" for split in sources.SPLITS}}
    layout = Layout("outputs/study")
    sources.prepare(layout, data, 0)
    return layout


@pytest.fixture
def tree(project):
    """Images by class, more than there are slots, with names of every kind."""
    names = ["a b.png", 'it"s.png', "li\nne.png", "\u732b.webp", "deep/er.jpg", "z.gif"]
    for seed, name in enumerate(CLASSES):
        for number, file in enumerate(names):
            noise(project / "made" / name / file, 100 * seed + number)
    return project / "made"


@pytest.fixture
def flat(project):
    """An image for each slot, called as its real one, and one too many."""
    for name, count in SLOTS.items():
        for number in range(count):
            noise(project / "flat" / f"{name[:2]} {number}.png", number)
    noise(project / "flat" / "another.png")
    return project / "flat"


def fill(layout, tree="made", seed=0, policy="refuse"):
    """The table and facts of an imported set, as 01_import makes them."""
    train, classes = image_tables.read(layout.real("train")), sources.class_names(layout)
    index = external_sets.candidates(external_sets.index_of(layout, "set", tree=tree), train, classes=classes)
    given = {"classes": classes, "seed": seed, "policy": policy, "work": layout.imported("set")}
    return external_sets.fill(index, train, **given, real={})


def import_set():
    """Run the notebook's cells, here and now: a kernel of its own would take seconds."""
    parameters = {"outputs": "outputs/study", "source": "set", "tree": "made"}
    names: dict = {}
    cells = json.loads(Path("notebooks/01_import.ipynb").read_text())["cells"]
    with by_hand.sweep():
        for cell in (cell for cell in cells if cell["cell_type"] == "code"):
            exec("".join(cell["source"]), names)
            names |= parameters if "parameters" in cell["metadata"].get("tags", []) else {}
    plt.close("all")


def test_every_slot_gets_an_image_of_its_class_and_no_image_stands_twice(layout, tree):
    table, facts = fill(layout)
    train = image_tables.read(layout.real("train"))
    assert table.column_names == ["image", "id", "size", "mtime_ns", "label", "slot"]  # and no prompt, no seed
    assert table["label"].to_pylist() == train["label"].to_pylist() and table["slot"].to_pylist() == list(range(5))
    assert [name.split("/")[0] for name in table["id"].to_pylist()] == [CLASSES[0]] * 3 + [CLASSES[1]] * 2
    assert len(set(table["id"].to_pylist())) == 5
    assert facts["unused"] == "7" and facts["broken"] == "0"
    for row in table.to_pylist():
        assert row["image"] == {"bytes": None, "path": f"made/{row['id']}"}
        assert os.stat(tree / row["id"]).st_size == row["size"]


def test_the_choice_is_that_of_the_seed_and_reaches_every_image(layout, tree):
    chosen = [fill(layout, seed=seed)[0]["id"].to_pylist() for seed in (*range(20), 0)]
    assert chosen[0] == chosen[-1]
    assert len({name for names in chosen for name in names}) == 12


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 5), st.integers(0, 2**32))
def test_one_draw_serves_the_pool_and_imported_trees(labels, more, seed):
    labels = np.array(labels)
    offered = np.random.default_rng(0).permutation(np.concatenate([labels, np.arange(more) % 4]))
    rows = mixing.partner(labels, offered, seed=seed)
    assert len(set(rows.tolist())) == len(labels) and (offered[rows] == labels).all()


def test_without_class_folders_a_slot_takes_the_file_of_its_images_name(layout, flat):
    table, facts = fill(layout, "flat")
    train = image_tables.read(layout.real("train"))
    stems = [[Path(name).stem for name in each["id"].to_pylist()] for each in (table, train)]
    assert stems[0] == stems[1] and facts["unused"] == "0"
    assert table["label"].to_pylist() == train["label"].to_pylist()
    assert fill(layout, "flat", seed=5)[0].equals(table)


def faulty(layout, message, tree="made", policy="refuse"):
    with pytest.raises((ValueError, OSError), match=message) as caught:
        fill(layout, tree, policy=policy)
    assert "\n" not in str(caught.value)


def test_too_few_images_name_the_class_both_numbers_and_the_remedy(layout, tree):
    for file in ("a b.png", 'it"s.png', "li\nne.png", "z.gif"):
        (tree / CLASSES[0] / file).unlink()
    faulty(layout, r"made: class it's \"b\" & c has 3 slots and only 2 images \(1 of 2 .* set data.per_class to 2")


def test_a_class_that_lacks_is_refused_and_images_of_other_classes_are_left_out(layout, tree):
    before, _ = fill(layout)
    noise(tree / "another class" / "1.png")
    table, facts = fill(layout)
    assert table.equals(before) and facts["unused"] == "7"
    (tree / "left hand").rename(tree / "lefthand")
    faulty(layout, r"no sub-folder for 1 of the 2 classes of train: left hand; its other .*: another class, lefthand")


def test_slots_without_a_file_and_names_that_do_not_tell_are_named(layout, flat):
    noise(flat / "another.jpg")  # of no slot: it does no harm
    fill(layout, "flat")
    noise(flat / "le 1.bmp")
    faulty(layout, "flat has 1 names that more than one image bears .le 1.", "flat")
    for file in flat.glob("le *"):
        file.unlink()
    faulty(layout, r"flat has no usable image called le 0\.\* \(2 of 5 slots have none\)", "flat")


@pytest.mark.parametrize("which", ["made", "flat"])
def test_a_broken_image_is_refused_and_where_it_may_be_skipped_another_takes_its_place(layout, tree, flat, which):
    before, _ = fill(layout, which)
    victim = before["id"][0].as_py()
    (layout.root.parent.parent / which / victim).write_bytes(b"not an image")
    faulty(layout, r"1 of \d+ images in .* cannot be decoded", which)
    if which == "flat":
        return faulty(layout, "flat has no usable image called it 0", which, "skip")
    table, facts = fill(layout, which, policy="skip")
    assert victim not in table["id"].to_pylist() and len(set(table["id"].to_pylist())) == 5
    assert facts["broken"] == "1" and facts["unused"] == "6"


def test_names_that_are_no_text_are_refused_before_any_image_is_decoded(layout, tree):
    (tree / "left hand" / "z.gif").rename(os.fsdecode(os.fsencode(tree / "left hand") + b"/caf\xe9.gif"))
    (tree / "left hand" / "a b.png").write_bytes(b"not an image")
    faulty(layout, "1 images whose names are not UTF-8")


def test_every_change_of_the_tree_shows_in_its_listing(layout, tree):
    found = [external_sets.listing(layout, "set", "made")]
    assert external_sets.listing(layout, "set", "made") == found[0]
    noise(tree / "left hand" / "more.png")
    found.append(external_sets.listing(layout, "set", "made"))
    (tree / "left hand" / "z.gif").unlink()
    found.append(external_sets.listing(layout, "set", "made"))
    shutil.rmtree(tree)
    found.append(external_sets.listing(layout, "set", "made"))
    assert len(set(found)) == 4 and "is missing" in found[-1]


# The notebook


def test_the_notebook_writes_a_set_that_mixing_and_exporting_take(layout, tree):
    import_set()
    made = mixing.in_slots(layout, "set", seed=0)
    assert made.drop_columns([]).equals(fill(layout)[0]) and image_tables.stored_size(made) == 16
    record = files.read_json(layout.generated("set") / files.RECORD)
    assert (record["images"], record["unused"], record["broken"], record["image_size"]) == (5, 7, 0, 16)
    assert not {"prompt", "seed", "style"} & set(record)
    card = export._made_by(("set", export._generator(made)))
    assert "Nothing is known of its generator" in card and "Prompt" not in card


def test_a_set_made_in_the_same_way_stays_and_a_changed_tree_makes_it_anew(layout, tree):
    import_set()
    (path,) = mixing.tables_of(layout, "set")
    written = path.stat().st_mtime_ns
    import_set()
    assert path.stat().st_mtime_ns == written
    (tree / "left hand" / "z.gif").unlink()
    import_set()
    assert path.stat().st_mtime_ns > written
    assert files.read_json(layout.generated("set") / files.RECORD)["unused"] == 6


def drawn(layout, count: int) -> Path:
    """Shards of a set that was generated, in a folder that an imported set is to have."""
    images = [image_tables.encode(np.zeros((1, 1, 3), dtype=np.uint8))] * count
    path = layout.generated("set") / "shard-00001.arrow"
    columns = {"id": list(map(str, range(count)))}
    image_tables.write(path, images, columns=columns, fingerprint="other", how=json.dumps({"settings": {"steps": 9}}))
    return path


def test_a_few_drawn_images_give_way_and_many_are_kept(layout, tree, monkeypatch):
    path = drawn(layout, 3)
    monkeypatch.setattr(shards, "EXPENDABLE", 2)
    index, train = external_sets.index_of(layout, "set", tree="made"), image_tables.read(layout.real("train"))
    asked = {"seed": 0, "image_size": 16, "policy": "refuse", "twins": "refuse"}
    how = external_sets.how("made", index, train=train, real="mark", **asked)
    with pytest.raises(ValueError, match="holds 3 images that were drawn in another way"):
        next(shards.claim(path.parent, shards.paths_of(path.parent, 5, shard_size=5), how=how))
    assert path.exists()
    monkeypatch.setattr(shards, "EXPENDABLE", 3)
    import_set()
    assert not path.exists() and mixing.in_slots(layout, "set", seed=0).num_rows == 5
    # The other way round nothing is lost: the imported images lie elsewhere.
    next(shards.claim(path.parent, shards.paths_of(path.parent, 5, shard_size=5), how={"settings": {}}))
    assert mixing.tables_of(layout, "set") == []


# Studies


@pytest.fixture
def study(layout, tree):
    """Write a study of an imported set; changes at keys of the set."""

    def write(set_=None, **changes):
        content = yaml.safe_load(Path("parameters/smoke.yaml").read_text()) | {"study": "study"}
        for section in ("pretrain", "generate", "measure", "detect"):
            del content[section]
        content["data"] = {"source": "folders", "image_size": 16}
        content["data"] |= {split: f"pictures/{split}" for split in sources.SPLITS}
        content["grid"]["generated"] = {"set": set_ or {"folder": "made"}}
        Path("study.yaml").write_text(yaml.safe_dump(content | changes))
        return studies.load("study.yaml")

    return write


def test_a_study_of_imported_sets_needs_no_pipeline_and_generates_nothing(study):
    jobs = study().jobs()
    assert jobs["import"] == [{"source": "set"}] and jobs["generate"] == jobs["pretrain"] == []


@pytest.mark.parametrize("more", [{"style": "caption"}, {"guidance": 2}, {"generate": {"steps": 3}}])
def test_what_is_of_drawing_does_not_go_with_a_folder(study, more):
    with pytest.raises(ValueError, match=f"grid.generated.set: folder names .* leave out {next(iter(more))}"):
        study({"folder": "made"} | more)


def test_a_tree_that_is_missing_or_lacks_a_class_is_told_before_any_work(study, tree):
    with pytest.raises(ValueError, match=r"grid\.generated\.set\.folder: .*nowhere is missing: name a folder"):
        checks.check_tasks(study({"folder": "nowhere"}))
    checks.check_tasks(study())
    shutil.rmtree(tree / "left hand")
    with pytest.raises(ValueError, match=r"grid\.generated\.set\.folder: .*no sub-folder for 1 of the 2 classes"):
        checks.check_tasks(study())


def test_only_a_tree_without_class_folders_counts_as_made_from_captions(study, flat):
    (flat / ".ipynb_checkpoints").mkdir()
    found = [study({"folder": folder}).grid.generated["set"].from_captions for folder in ("made", "flat")]
    assert found == [False, True]


def verified(capsys):
    status = cli.main(["verify", "study.yaml"])
    return status, capsys.readouterr().out.splitlines()


def test_verifying_counts_what_has_vanished_or_changed_and_draws_nothing(study, layout, tree, capsys):
    study()
    assert verified(capsys)[0] == 1
    import_set()
    capsys.readouterr()
    as_listed = "set: 5 images; all as recorded; none drawn again: they were not generated here"
    assert verified(capsys) == (0, [as_listed])
    names = mixing.in_slots(layout, "set", seed=0)["id"].to_pylist()
    (tree / names[1]).unlink()
    (tree / names[4]).write_bytes(b"another image")
    status, (line,) = verified(capsys)
    assert status == 1
    assert line.split("; ")[1:3] == ["files that have vanished: 1 (slot 1)", "files that have changed: 1 (slot 4)"]


def planned(study_file: str) -> set[str]:
    run = subprocess.run([*COMMAND, study_file, "--dry-run"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return {line for line in run.stderr.splitlines() if line and not line.startswith((" ", "Using"))}


@pytest.mark.slow
def test_a_generated_and_an_imported_set_run_through_to_the_report(project, study, tree, tiny_pipeline):
    for start, (split, count) in enumerate({"pool": 12, "train": 6, "test": 4}.items(), start=1):
        for (label, name), number in itertools.product(enumerate(CLASSES), range(count)):
            file = project / "pictures" / split / name / f"{name[:2]} {number}.jpg"
            noise(file, 1000 * start + 100 * label + number)
    own = {"style": "class_name", "guidance": 4, "generate": {"pipeline": str(tiny_pipeline), "steps": 2}}
    short = {"steps": 3, "batch_size": 4}
    changes = {"detect": short | {"replicates": 20}, "measure": {"replicates": 20}}
    changes["auxiliary"] = {"generation": short, "classification": short}
    grid = study().grid.model_dump(exclude_unset=True) | {"ratios": [0, 0.5], "arms": ["generated"], "seeds": [0]}
    grid["generated"] = {"drawn": own, "imported": {"folder": "made"}}
    study(**changes, train={"classification": short}, grid=grid)
    shutil.rmtree("outputs")
    run = subprocess.run([*COMMAND, "study.yaml"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert planned("study.yaml") == set()
    plan = studies.load("study.yaml")
    executed = Counter(path.name for path in plan.layout.root.rglob("0*.ipynb"))
    assert executed["01_import.ipynb"] == executed["01_generate.ipynb"] == 1 and "00_pretrain.ipynb" not in executed
    page = (plan.own.report / "index.html").read_text()
    assert "generated: imported" in page and "notebooks/generate/imported/01_import.html" in page
    assert "the same starting noise" not in page
    (tree / "left hand" / "z.gif").unlink()
    jobs = planned("study.yaml")
    assert {job.split()[0] for job in jobs} >= {"import_set", "measure", "detect", "mix", "train", "evaluate", "report"}
    assert not any(job.startswith(("generate", "images")) for job in jobs)
    assert all("imported" in job for job in jobs if job.startswith(("import", "measure", "mix", "train")))


@pytest.mark.slow
def test_two_generators_stand_in_one_study_as_a_factor(project, tiny_pipeline):
    """One of the study's own, one from elsewhere: the second waits for no training and reruns alone."""
    content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
    del content["measure"], content["detect"], content["auxiliary"]
    other = {"style": "class_name", "guidance": 4.0, "generate": {"pipeline": str(tiny_pipeline), "steps": 2}}
    content["grid"] |= {"ratios": [0, 1.0], "arms": ["generated"], "seeds": [0]}
    content["grid"]["generated"]["other"] = other
    Path("study.yaml").write_text(yaml.safe_dump(content))
    run = subprocess.run([*COMMAND, "study.yaml", "--until", "generate"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    layout = studies.load("study.yaml").layout
    made = {name: mixing.in_slots(layout, name, seed=0) for name in content["grid"]["generated"]}
    assert {name: table["steps"][0].as_py() for name, table in made.items()} == {"class-name-7.5": 3, "other": 2}
    assert made["other"]["pipeline"][0].as_py() == str(tiny_pipeline)
    (layout.job("pretrain") / "00_pretrain.ipynb").unlink()
    jobs = planned("study.yaml")
    assert "pretrain" in jobs and "generate class-name-7.5" in jobs and "generate other" not in jobs
