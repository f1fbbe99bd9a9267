"""Parameter files: one clear line for what is wrong, the grid as asked."""

from pathlib import Path

import pytest
import yaml
from contamination.base import files
from contamination.report import page
from contamination.study import study as studies

ROOT = Path(__file__).parents[2]
FILES = sorted(path.name for path in (ROOT / "parameters").glob("*.yaml"))


@pytest.fixture
def changed(project):
    """Write the smoke study with changes at dotted keys, and load it."""

    def load(changes: dict):
        content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
        for key, value in changes.items():
            *path, last = key.split(".")
            section = content
            for part in path:
                section = section.setdefault(part, {})
            section[last] = value
        (project / "parameters/changed.yaml").write_text(yaml.safe_dump(content))
        return studies.load("parameters/changed.yaml")

    return load


@pytest.mark.parametrize("name", FILES)
def test_every_parameter_file_is_valid(name, project):
    assert studies.load(f"parameters/{name}").study == name.removesuffix(".yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid.ratios": [0, 1.2]}, r"grid\.ratios\.1: 1\.2: .*less than or equal to 1"),
        ({"grid.ratios": [0, -0.1]}, r"grid\.ratios\.1: -0\.1: .*greater than or equal to 0"),
        ({"grid.ratios": [0, "half"]}, r"grid\.ratios\.1: 'half': .*valid number"),
        ({"grid.ratios": [0, True]}, r"grid\.ratios\.1: True: .*valid number"),
        ({"grid.ratios": [0, float("nan")]}, r"grid\.ratios\.1: nan"),
        ({"grid.ratios": [0, 0.2, 0.2]}, r"grid\.ratios: each value may stand here only once"),
        ({"grid.ratios": [0.2]}, "ratios must contain 0"),
        (
            {"train.classification.learning_speed": 1},
            r"train\.classification\.learning_speed: unknown key; allowed here: steps, batch_size",
        ),
        ({"train.steps": 1}, r"train\.steps: unknown key; allowed here: classification, captioning"),
        (
            {"grid.models.resnet.depth": 1},
            r"grid\.models\.resnet\.depth: unknown key; allowed here: task, architecture, options",
        ),
        ({"reference": {}}, "changed.yaml: reference is called auxiliary now$"),
        ({"data.shifted": {}}, r"data\.shifted is called ood now"),
        ({"measure.neighbours": 3}, r"measure\.neighbours is called neighbors now"),
        ({"generate.redraws": 3}, r"generate\.redraws is called safety_retries now"),
        ({"surprise": 1}, "surprise: unknown key; allowed here: study, folder, title"),
        (
            {"grid.arms": ["generated", "fake"]},
            r"grid\.arms\.1: arm 'fake' is not known: give one of generated, ",
        ),
        ({"grid.tasks": {"juggling": {}}}, r"grid\.tasks\.juggling.*'classification', 'captioning'"),
        ({"grid.tasks": {"captioning": {}}}, r"tasks\.captioning has no model: .* task: captioning"),
        (
            {"grid.tasks": {"classification": {"ratios": [0, 0.3]}}},
            r"tasks\.classification\.ratios has 0\.3, which grid\.ratios does not have",
        ),
        ({"grid.tasks": {"classification": {"ratios": [0.5]}}}, "ratios must contain 0"),
        (
            {"grid.generated.extra": {"style": "poem", "guidance": 1}},
            r"style: 'poem': .*'class_name', 'diverse' or 'caption'",
        ),
        ({"grid.generated.pool": {"style": "caption", "guidance": 1}}, r"generated\.pool: this name is taken"),
        ({"grid.generated.a": {"style": "caption", "guidance": 1, "models": ["vgg"]}}, "names vgg, not among models"),
        (
            {"grid.generated.a": {"style": "diverse", "guidance": 1, "generate": {"stepz": 3}}},
            r"grid\.generated\.a\.generate\.stepz: unknown key; allowed here: pipeline, load",
        ),
        (
            {"grid.generated.a": {"style": "diverse", "guidance": 1, "generate": {"steps": 2.5}}},
            r"grid\.generated\.a\.generate\.steps: 2\.5: .*valid integer",
        ),
        (
            {"grid.generated.a": {"style": "diverse", "guidance": 1, "generate": {"dtype": "float8"}}},
            r"grid\.generated\.a\.generate: dtype 'float8' is not known",
        ),
        (
            {"grid.generated.a": {"style": "diverse", "guidance": 1, "generate": {"size": 20}}},
            "generate.size must be multiples of 8",
        ),
        ({"grid.generated.a": {"style": "diverse"}}, r"grid\.generated\.a: give style and guidance, or the folder"),
        (
            {"grid.generated.a": {"folder": "made", "guidance": 2}},
            r"grid\.generated\.a: folder names a set that is already generated: leave out guidance",
        ),
        ({"pretrain": None}, r"give either .*grid\.generated\.class-name-7\.5 has no pipeline of its own"),
        ({"grid.models.../x": {"architecture": "resnet18"}}, "pattern"),
        ({"study": "../escape"}, "study: '../escape': .*pattern"),
        ({"train.classification.steps": 0}, r"train\.classification\.steps: 0: .*greater than or equal to 1"),
        ({"train.classification.steps": 2.5}, r"train\.classification\.steps: 2\.5: .*valid integer"),
        (
            {"grid.models.resnet.train": {"learning_speed": 1}},
            r"grid\.models\.resnet\.train\.learning_speed: unknown key; allowed here: ",
        ),
        ({"grid.models.resnet.train": {"steps": 0}}, r"grid\.models\.resnet\.train\.steps: 0: .*equal to 1"),
        (
            {"train.classification.warmup_steps": 5},
            r"train\.classification: warmup_steps is of schedule: cosine, and here it is one_cycle",
        ),
        (
            {"grid.models.resnet.train": {"schedule": "cosine", "steps": 5, "warmup_steps": 5}},
            r"grid\.models\.resnet\.train: warmup_steps 5 must be fewer than the 5 steps",
        ),
        (
            {"grid.models.resnet.train": {"mixup": 0.8, "batch_size": 7}},
            r"grid\.models\.resnet\.train: mixup and cutmix mix images two by two: batch_size 7 must",
        ),
        ({"measure.extractor": "resnet81"}, r"measure\.extractor: timm has no model 'resnet81'; close names"),
        ({"measure.replicates": 5}, r"measure\.replicates: 5: .*greater than or equal to 20"),
        ({"detect": {"architecture": "resnet81"}}, r"detect\.architecture: timm has no model 'resnet81'"),
        ({"detect": {"detectors": []}}, r"detect\.detectors: .*at least 1 item"),
        ({"detect": {"detectors": ["nose"]}}, r"detect\.detectors\.0: 'nose': .*'spectrum', 'network' or 'watermark'"),
        ({"detect": {"detectors": ["watermark"]}}, "watermark, and no generated set has one: give generate.watermark"),
        (
            {"generate.watermark": "Gen1", "generate.stored": "slot"},
            "watermark and stored: slot exclude each other: 02_detect sees images at the study's size",
        ),
        ({"generate.watermark": "Gen1"}, "watermark: an image of 16x16 pixels has no room for its 32 bits"),
        ({"grid.arms": ["dropped"], "grid.generated": {}}, "measure: there is no generated set to look at"),
        ({"generate.pipeline": "some/where"}, "either a pretrain section or generate.pipeline"),
        (
            {"data": {"source": "folders", "pool": "a", "train": "b", "test": "c", "ood": {"test": "d"}}},
            r"ood\.test: this name is taken",
        ),
        ({"data.source": "folders"}, "source folders needs a path for train and test; test may be a share of train"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_key_and_what_is_allowed(changed, changes, message):
    if "../x" in str(changes):  # a dotted key cannot say this one
        changes = {"grid.models": {"../x": {"architecture": "resnet18"}}}
    with pytest.raises(ValueError, match=message) as caught:
        changed(changes)
    assert "changed.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_and_one_that_is_no_yaml_are_one_line(project):
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml is missing"):
        studies.load("parameters/nothing.yaml")
    for text in ("a: [", "just words", ""):
        (project / "parameters/bad.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.yaml: ") as caught:
            studies.load("parameters/bad.yaml")
        assert "\n" not in str(caught.value)


def test_ratio_0_is_one_run_and_dropping_everything_is_none(changed):
    study = changed({"grid.ratios": [0, 0.5, 1.0]})
    runs = study.runs()
    assert len(runs) == len(set(runs))
    for model in study.grid.models:
        mine = [run for run in runs if run.model == model]
        assert [run.arm for run in mine if run.ratio == 0] == ["clean"] * len(study.blocks("classification"))
        assert not any(run.arm == "dropped" and run.ratio == 1 for run in mine)


def test_more_seeds_leave_the_blocks_of_the_first_ones_as_they_are(changed):
    few = changed({"grid.seeds": [0, 1, 2, 3], "grid.seeds_per_job": 2})
    more = changed({"grid.seeds": [0, 1, 2, 3, 4], "grid.seeds_per_job": 2})
    assert set(few.runs()) < set(more.runs())


def test_a_set_limited_to_one_model_is_not_run_with_another(changed):
    study = changed({"grid.generated.extra": {"style": "diverse", "guidance": 3.0, "models": ["resnet"]}})
    assert {run.model for run in study.runs() if run.source == "extra"} == {"resnet"}


def test_a_set_is_drawn_with_the_section_and_what_it_has_otherwise(changed):
    given = {"pipeline": "some/where", "steps": 12, "scheduler_options": {"beta_end": 0.1}}
    sets = {"plain": {"style": "diverse", "guidance": 3.0}, "other": {"style": "diverse", "guidance": 3.0}}
    sets["other"]["generate"] = given
    study = changed({"grid.generated": sets, "generate.batch_size": 7})
    plain, other = (study.parameters("generate", source=name) for name in sets)
    assert {key: plain[key] for key in given} == {
        "pipeline": "outputs/smoke/pretrain/pipeline",
        "steps": 3,
        "scheduler_options": {},
    }
    assert other == plain | given | {"source": "other"}  # a value that is the default is given, too
    assert study.uses_pretrain("plain") and not study.uses_pretrain("other")


def test_a_study_whose_sets_have_pipelines_of_their_own_needs_no_other(changed):
    own = {"style": "diverse", "guidance": 3.0, "generate": {"pipeline": "some/where"}}
    study = changed({"grid.generated": {"a": own, "b": {"folder": "made"}}, "pretrain": None, "generate": {}})
    jobs = study.jobs()
    assert (jobs["pretrain"], jobs["generate"], jobs["import"]) == ([], [{"draw": 0, "source": "a"}], [{"source": "b"}])
    assert [study.maker(source) for source in study.generated_sets()] == ["generate", "import"]


def test_a_stages_parameters_depend_on_its_own_section_alone(changed):
    point = {
        "task": "classification",
        "model": "resnet",
        "arm": "clean",
        "source": "train",
        "ratio": 0.0,
        "seeds": (0,),
    }
    before = changed({}).parameters("train", **point)
    assert (
        changed({"evaluate.classification.calibration_bins": 7, "generate.steps": 3}).parameters("train", **point)
        == before
    )
    assert changed({"train.classification.steps": 7}).parameters("train", **point) != before


def test_a_model_is_trained_by_the_section_and_what_it_has_otherwise(changed):
    models = {"resnet": {"architecture": "resnet18"}, "other": {"architecture": "resnet18"}}
    before = changed({"grid.models": models, "train.classification.flip": True})
    own = {"optimizer": "sgd", "learning_rate": 0.1, "flip": False}  # the last is the default, and given
    after = changed(
        {"grid.models": models | {"other": models["other"] | {"train": own}}, "train.classification.flip": True}
    )
    assert after.train_of("resnet") == before.train_of("resnet") == before.train.classification
    assert after.train_of("other").model_dump() == before.train_of("other").model_dump() | own
    moved = []
    for run in before.runs():
        for stage in ("mix", "train", "evaluate"):
            point = run._asdict() if stage != "mix" else run.mixture._asdict()
            if before.parameters(stage, **point) != after.parameters(stage, **point):
                moved.append((stage, run))
    assert moved == [("train", run) for run in before.runs() if run.model == "other"]


def efforts(study) -> list[str]:
    """What the report says of the recipes, with records as 03_train would have left them."""
    for run in study.runs():
        recipe = study.train_of(run.model)
        record = {"images_seen": recipe.steps * recipe.batch_size}
        files.write_json(study.layout.run("train", *run) / files.RECORD, record)
    return page._efforts(study, "classification")


def test_the_report_tells_each_recipe_where_models_have_their_own(changed):
    models = {name: {"architecture": "resnet18"} for name in ("one", "two", "three")}
    (alone,) = efforts(changed({"grid.models": models}))
    assert alone.startswith("classification: every run took 30 optimizer steps of 50 images: 1,500 images seen")
    models["two"] = models["two"] | {"train": {"optimizer": "sgd", "steps": 10}}
    both = efforts(changed({"grid.models": models}))
    assert both[0].startswith("classification, one and three: every run took 30 optimizer steps")
    assert both[1].startswith("classification, two: every run took 10 optimizer steps of 50 images: 500 images seen")
    assert both[1].endswith("(otherwise than in the recipe of the task: optimizer sgd, steps 10).")


def test_a_study_that_measures_images_needs_no_section_of_networks(changed):
    study = changed({"auxiliary": {}})
    assert study.auxiliary.generation is not None and study.auxiliary.classification is not None
    assert {"task": "generation"} in study.jobs()["auxiliary"]


def test_the_under_trained_study_differs_from_the_default_one_in_its_generator_and_has_the_first_model(monkeypatch):
    monkeypatch.chdir(ROOT)
    default, other = (studies.load(f"parameters/{name}.yaml") for name in ("digits", "digits-undertrained"))
    assert (default.pretrain.denoiser_steps, other.pretrain.denoiser_steps) == (1800, 800)
    (name,) = other.grid.models
    assert name == next(iter(default.grid.models))
    for study in (default, other):
        study.pretrain.denoiser_steps, study.grid.models = 800, {name: study.grid.models[name]}
        for made in study.grid.generated.values():
            made.models = None
    default, other = default.model_dump(), other.model_dump()
    assert {key for key in default if default[key] != other[key]} == {"study", "title", "claims"}
