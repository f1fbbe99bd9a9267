"""The parameter file as a typed model, and the grid of runs it asks for."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, create_model, field_validator, model_validator

from contamination import sources, tasks
from contamination.base import yaml_files
from contamination.base.files import sub_folders
from contamination.base.layout import Layout, project_root
from contamination.base.settings import Count, Name, Ratio, Section, Seed, Share, read_settings
from contamination.generators import codecs, watermarks
from contamination.generators.settings import Generate, Pretrain
from contamination.metrics.intervals import FEWEST
from contamination.mixtures import arms, replicates
from contamination.mixtures.replicates import Replicate
from contamination.networks import feature_extractors, judges
from contamination.networks.detectors import Detect
from contamination.networks.settings import Measure
from contamination.sources.settings import Data
from contamination.study.claims import Claim, Claims
from contamination.training.settings import RUNTIME_FIELDS

# Any to a type checker, as are the sections made below: what there is is known when this runs.
TaskName: Any = Literal[tasks.NAMES]
OF_DRAWS = ("pretrain", "generate", "measure", "detect")  # the stages that have a job for each draw
IMAGE_STAGES = ("measure", "detect")  # what they find is of a set of images, without any run
Arm = Annotated[str, AfterValidator(arms.in_grid)]


def _per_task(name: str, stage: str) -> type[Section]:
    """A section of the parameter file with one sub-section per task that has this one; each task owns its own."""
    own = {task: getattr(tasks.load(task), name) for task in tasks.NAMES}
    fields: dict[str, Any] = {task: (section, Field(default_factory=section)) for task, section in own.items()}
    return create_model(name, __base__=Section, __doc__=stage, **fields)


def _where_asked(name: str, stage: str) -> type[Section]:
    """The same for a section that only some tasks have, and a study only where it gives it."""
    own = {task: getattr(tasks.load(task), name, None) for task in tasks.NAMES}
    fields: dict[str, Any] = {task: (section | None, None) for task, section in own.items() if section}
    return create_model(name, __base__=Section, __doc__=stage, **fields)


Auxiliary: Any = _where_asked("Auxiliary", "00_auxiliary: networks that learn from the pool alone.")
Train: Any = _per_task("Train", "03_train: the recipe of each task, the same in every arm.")
Evaluate: Any = _per_task("Evaluate", "04_evaluate: scores on untouched real images.")


class Plot(Section):
    """05_plot: intervals and figures."""

    confidence: float = Field(0.95, gt=0, lt=1)
    """confidence of all intervals, 0 to 1"""
    margin: Share = 0.02
    """a harm below it counts as none where the report says up to which share generated images are harmless; a share of
    1: 0.02 is two points"""
    sets: list[Name] = Field(default_factory=list)
    """the generated sets that the summary (the first of them that a model has) and the statements are about; one more
    set in a study changes no verdict; without it the first set of each model"""


class Model(Section):
    task: TaskName = "classification"
    architecture: str
    options: dict = Field(default_factory=dict)
    train: dict = Field(default_factory=dict)  # what is given here is otherwise for this model


class Generated(Section):
    """One set of generated images: drawn by 01_generate, or somebody else's, which 01_import takes where it lies."""

    style: Literal["class_name", "diverse", "caption"] | None = None
    guidance: float | None = Field(None, ge=0)
    generate: Generate = Field(default_factory=Generate)  # what is given here is otherwise for this set
    folder: str = ""
    models: list[Name] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _generated_or_imported(self):
        of_drawing = {"style", "guidance", "generate"} & self.model_fields_set
        if self.folder and of_drawing:
            raise ValueError(f"folder names a set that is already generated: leave out {_listed(of_drawing)}")
        if not self.folder and (self.style is None or self.guidance is None):
            raise ValueError("give style and guidance, or the folder of a set that is already generated")
        return self

    @property
    def from_captions(self) -> bool:
        """Whether the caption of a slot tells what its image shows. Looks at an imported tree, which must be there.

        A tree with class sub-folders has images for any slot of a class, one without them an image for each slot.
        """
        if not self.folder:
            return self.style == "caption"
        return not sub_folders(project_root() / self.folder)

    @property
    def words(self) -> str:
        """How its images came about, for figures."""
        return "already generated" if self.folder else f"{self.style}, guidance {self.guidance:g}"


def _distinct(values: list | None) -> list | None:
    if values and len(set(values)) < len(values):
        raise ValueError("each value may stand here only once")
    return values


def _with_zero(ratios: list[float] | None) -> list[float] | None:
    if ratios is not None and (0 not in ratios or max(ratios) == 0):
        raise ValueError("ratios must contain 0, against which every effect is measured, and a larger one")
    return ratios


class Selection(Section):
    """What one task takes of the grid; what is not given is all of it."""

    ratios: list[Ratio] | None = None
    arms: list[Arm] | None = Field(None, min_length=1)
    seeds: list[Seed] | None = Field(None, min_length=1)

    _distinct_values = field_validator("ratios", "arms", "seeds")(_distinct)
    _clean_run = field_validator("ratios")(_with_zero)


class Taken(Selection):
    """What one task takes of the grid, in full."""

    ratios: list[Ratio]
    arms: list[Arm]
    seeds: list[Seed]


class Grid(Section):
    tasks: dict[TaskName, Selection] = Field({"classification": Selection()}, min_length=1)
    """name of a task (`classification`, `captioning`, `generation`, `pretraining`): which of the grid's `ratios`,
    `arms` and `seeds` it takes; `{}`: all"""
    ratios: list[Ratio]
    """shares of slots whose real image is removed, 0 to 1; must contain 0"""
    arms: list[Arm] = Field(min_length=1)
    """what takes their place: `generated`, `other_real` (from the pool), `dropped` (nothing)"""
    seeds: list[Seed] = Field(min_length=1)
    """training seeds: initial weights, order of images, augmentation"""
    draws: Literal["shared", "per_seed"] | list[Seed] = "shared"
    """which draw of the generated sets a seed gets: a training of the study's own generator with the noise of every
    image; of a pretrained pipeline the noise alone; an imported set has one. `shared`: draw 0 for all seeds;
    `per_seed`: each seed the draw of its number; a list such as `[0, 1, 2]`: every seed with every one of these"""
    slots: list[Seed] | None = Field(None, min_length=1)
    """what chooses the slots that are replaced; absent: each training seed its own; a list such as `[0, 1, 2]`: every
    seed with every one of these"""
    seeds_per_job: Count = 5
    """seeds that one notebook trains one after the other; once that many are full, more seeds start new notebooks"""
    models: dict[Name, Model] = Field(min_length=1)
    """name: `task` (default `classification`), `architecture`, `options` and `train`, see below"""
    generated: dict[Name, Generated] = Field(default_factory=dict)
    """name of a set: `style` (`class_name`, `diverse`, `caption`) and `guidance` (scale), or `folder`, see below;
    `models` (default: all)"""

    _distinct_values = field_validator("ratios", "arms", "seeds", "slots")(_distinct)
    _clean_run = field_validator("ratios")(_with_zero)

    @field_validator("draws", mode="plain")
    @classmethod
    def _known_draws(cls, draws):
        numbers = isinstance(draws, list) and draws and all(type(each) is int and each >= 0 for each in draws)
        if draws not in ("shared", "per_seed") and not numbers:
            raise ValueError(f"{draws!r}: give shared, per_seed, or a list of numbers from 0 such as [0, 1, 2]")
        return _distinct(draws) if numbers else draws

    @model_validator(mode="after")
    def _complete(self):
        if any(arms.of(name).of_sets for name in self.arms) != bool(self.generated):
            raise ValueError("arm generated and the sets under generated: need each other")
        for name, generated in self.generated.items():
            unknown = set(generated.models or []) - set(self.models)
            if unknown:
                raise ValueError(f"generated.{name}.models names {', '.join(sorted(unknown))}, not among models")
            if name in (arms.TRAIN, arms.POOL, arms.NOTHING):
                raise ValueError(f"generated.{name}: this name is taken")
        return self

    @model_validator(mode="after")
    def _tasks_fit(self):
        for task, selection in self.tasks.items():
            if all(model.task != task for model in self.models.values()):
                raise ValueError(f"tasks.{task} has no model: give one under models with task: {task}")
            for key in ("ratios", "arms", "seeds"):
                more = set(getattr(selection, key) or []) - set(getattr(self, key))
                if more:
                    raise ValueError(f"tasks.{task}.{key} has {_listed(more)}, which grid.{key} does not have")
        return self

    def of(self, task: str) -> Taken:
        """What a task takes of the grid, in full."""
        chosen = self.tasks[task]
        return Taken(**{key: getattr(chosen, key) or getattr(self, key) for key in ("ratios", "arms", "seeds")})


def _listed(values) -> str:
    return ", ".join(str(value) for value in sorted(values))


class Mixture(NamedTuple):
    """What the training set holds: everything that a manifest depends on."""

    arm: str
    source: str
    ratio: float
    seeds: tuple[int, ...]
    draws: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()


class Run(NamedTuple):
    """One job of the grid: a task and a model on a mixture, for a block of seeds.

    draws, slots: of each seed, as `replicates.of_lists` takes them.
    """

    task: str
    model: str
    arm: str
    source: str
    ratio: float
    seeds: tuple[int, ...]
    draws: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()

    @property
    def clean(self) -> "Run":
        """The same task, model and seeds at ratio 0."""
        return self._replace(arm=arms.CLEAN.name, source=arms.CLEAN.images, ratio=0.0)

    @property
    def mixture(self) -> Mixture:
        return Mixture(*self[2:])

    @property
    def replicates(self) -> list[Replicate]:
        return replicates.of_lists(self.seeds, self.draws, self.slots)

    @property
    def sets(self) -> list[tuple[str, int]]:
        """(source, draw) of each set whose images are in it."""
        return [(self.source, draw) for draw in sorted({each.draw for each in self.replicates})]


class Study(Section):
    """A parameter file."""

    study: Name
    """name of the study and of its folder below `outputs/`: letters, digits, `_`, `-`, `.`"""
    folder: Name | None = None
    """the folder below `outputs/` for images and runs; studies that name the same one reuse each other's jobs where
    parameters agree (where they do not, the last to run makes them anew). Report, figures and results.csv always lie in
    the study's own"""
    title: str
    """the question, as the report's heading"""
    seed: Seed = 0
    """the study's seed: splits, colors; with the number of a draw also the generator's training and noise"""
    data: Data
    pretrain: Pretrain | None = None
    generate: Generate = Generate()
    auxiliary: Auxiliary = Auxiliary()
    measure: Measure | None = None
    detect: Detect | None = None
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    plot: Plot = Plot()
    claims: Claims = Field(default_factory=list)
    """comparisons fixed before the first training: a list of claims, see below, and of the word `paper` for the
    statements of the paper"""
    grid: Grid

    @model_validator(mode="after")
    def _one_pipeline(self):
        without = [name for name in self.grid.generated if self.uses_pretrain(name)]
        if (self.pretrain and self.generate.pipeline) or (without and not self.pretrain):
            raise ValueError(
                "give either a pretrain section or generate.pipeline, not both and not neither"
                + (f" (grid.generated.{without[0]} has no pipeline of its own)" if without else "")
            )
        sizes = [self.generate.size, *(self.generate_of(name).size for name in without)]
        sides = [side for size in sizes for side in (size if isinstance(size, list) else [size])]
        if self.pretrain and any(side % 8 for side in [self.data.image_size, *sides]):
            raise ValueError("with a pretrain section data.image_size and generate.size must be multiples of 8")
        return self

    @model_validator(mode="after")
    def _sets_are_there(self):
        unknown = set(self.plot.sets) - set(self.generated_sets())
        if unknown:
            known = ", ".join(self.generated_sets())
            raise ValueError(f"plot.sets names {_listed(unknown)}: give some of {known}")
        return self

    @model_validator(mode="after")
    def _claims_can_be_measured(self):
        for number, claim in enumerate(self.claims, start=1):
            if isinstance(claim, Claim):
                self._check_claim(claim, f"claims.{number}")
        return self

    def _check_claim(self, claim: Claim, key: str) -> None:
        """Raise ValueError where the grid lacks what a claim compares, or the seeds that an interval needs."""
        if claim.task not in self.grid.tasks:
            raise ValueError(f"{key}.task: {claim.task} is not in grid.tasks")
        points = {run._replace(seeds=(), draws=(), slots=()) for run in self.runs() if run.task == claim.task}
        for run in self.compared(claim):
            if run not in points:
                raise ValueError(
                    f"{key}: the grid has no {run.task} of {run.model} with {run.arm} {run.source} at {run.ratio:g}"
                )
        if len(self.grid.of(claim.task).seeds) < FEWEST:
            raise ValueError(f"{key}: {claim.task} has fewer than {FEWEST} seeds, without which nothing can be shown")

    def compared(self, claim: Claim) -> tuple[Run, Run]:
        """The two points of the grid that a claim is about, without replicates: of what, and against what."""
        first = self._point_of(claim, claim.arm, claim.set)
        of_set = claim.against in self.grid.generated
        other = (claim.arm, claim.against) if of_set else (claim.against, None)
        return first, self._point_of(claim, *other)

    def _point_of(self, claim: Claim, name: str, source: str | None) -> Run:
        arm = arms.of(name)
        if arm.of_sets and source is None:
            raise ValueError(f"a claim about arm {name} needs its set: give one of {', '.join(self.grid.generated)}")
        ratio = 0.0 if arm == arms.CLEAN else claim.ratio
        return Run(claim.task, claim.model, arm.name, source or arm.images, ratio, ())

    @model_validator(mode="after")
    def _recipes_fit(self):
        for name in self.grid.models:
            self.train_of(name)
        return self

    @model_validator(mode="after")
    def _watermarks_fit(self):
        for source in self.generated_sets():
            if self._watermark(source) and self.generate_of(source).stored == "slot":
                raise ValueError(
                    f"grid.generated.{source}: watermark and stored: slot exclude each other: 02_detect sees images at "
                    "the study's size, to which they would be resized, and the mark is lost in that"
                )
            if self._watermark(source):
                watermarks.require_room(self.data.image_size, self.data.image_size)
        if self.detect and "watermark" in self.detect.detectors and not self._watermark_to_find():
            raise ValueError("detect.detectors has watermark, and no generated set has one: give generate.watermark")
        return self

    @model_validator(mode="after")
    def _networks_to_look_with(self):
        """What measures images needs networks of the study's own, with their defaults where it gives no others."""
        for task in self.measure_networks():
            if getattr(self.auxiliary, task) is None:
                setattr(self.auxiliary, task, tasks.load(task).Auxiliary())
        return self

    @model_validator(mode="after")
    def _pool_where_it_is_used(self):
        if self.data.pool is None and sources.given(self.real):  # the digits have one of their own
            users = [f"arm {name}" for name in self.grid.arms if arms.of(name).images == arms.POOL]
            users += [f"section {name}" for name in ("pretrain", *self.image_stages) if getattr(self, name)]
            users += [f"auxiliary.{task}" for task in self._auxiliary_tasks()]
            if users:
                raise ValueError(
                    f"data.pool is missing: {', '.join(users)} takes images from it; give a path, or a share of train "
                    "such as 0.5"
                )
        return self

    @model_validator(mode="after")
    def _images_to_look_at(self):
        if self.measure:
            feature_extractors.check("measure.extractor", self.measure.extractor, self.auxiliary.generation)
            if self.judged:
                judges.check(self.measure.judge, self.auxiliary.classification)
        if self.detect:
            feature_extractors.known_network("detect.architecture", self.detect.architecture)
        for stage in self.image_stages:
            if not self.generated_sets():
                raise ValueError(f"{stage}: there is no generated set to look at: leave this section out")
        return self

    @property
    def outputs(self) -> str:
        """The folder of images and runs, relative to the project root; studies that share it reuse each other's."""
        return f"outputs/{self.folder or self.study}"

    @property
    def layout(self) -> Layout:
        return Layout(self.outputs)

    @property
    def own(self) -> Layout:
        """Where what is about this study alone lies: results.csv, figures, report."""
        return Layout(f"outputs/{self.study}")

    def job(self, stage: str, **point) -> Path:
        """Folder of one job of any stage."""
        return (self.own if stage == "plot" else self.layout).job(stage, **point)

    @property
    def real(self) -> dict:
        """The data section without what only the OOD test sets depend on."""
        return self.data.model_dump(exclude_none=True, exclude={"ood"})

    def models_of(self, task: str) -> dict[str, Model]:
        return {name: model for name, model in self.grid.models.items() if model.task == task}

    def blocks(self, task: str) -> list[list[Replicate]]:
        """The replicates of a task. Those of one block are trained in one job, each of another seed."""
        seeds, size = self.grid.of(task).seeds, self.grid.seeds_per_job
        together = [seeds[i : i + size] for i in range(0, len(seeds), size)]
        own: list = [None]  # each seed the one of its number
        draws = {"shared": [0], "per_seed": own}.get(str(self.grid.draws), self.grid.draws)
        return [
            [Replicate(seed, *(seed if each is None else each for each in (draw, slots))) for seed in block]
            for draw, slots, block in itertools.product(draws, self.grid.slots or own, together)
        ]

    def runs(self) -> list[Run]:
        """All jobs of the grid. Ratio 0 is one run shared by all arms; some arms are not defined at ratio 1.

        Where draws or slots are crossed with seeds, a run on which they have no influence is there once.
        """
        runs = [
            Run(task, model, arm, source, ratio, *replicates.lists(self._needed(arm, source, block)))
            for task in self.grid.tasks
            for model in self.models_of(task)
            for arm, source, ratio in self._points(task, model)
            for block in self.blocks(task)
        ]
        return list(dict.fromkeys(runs))

    def _needed(self, arm: str, source: str, block: list[Replicate]) -> list[Replicate]:
        """A block with draw 0, or the slots of its seeds, where these have no influence on a run of an arm."""
        drawn = arms.of(arm).of_sets and self.maker(source) == "generate"
        return [
            Replicate(seed, draw if drawn else 0, seed if arm == arms.CLEAN.name else slots)
            for seed, draw, slots in block
        ]

    def jobs_of(self, point: Run) -> list[Run]:
        """The jobs of a point of the grid, as `report.results.points` gives it."""
        return [run for run in self.runs() if run[:5] == point[:5]]

    def jobs(self) -> dict[str, list[dict]]:
        """The points of the grid at which each stage runs, in the order of the chain."""
        runs = [run._asdict() for run in self.runs()]
        mixtures = dict.fromkeys(run.mixture for run in self.runs())
        compared = [{"draw": draw, "source": source} for source, draw in self.sets_and_draws([arms.POOL])]
        drawn = [(source, draw) for source, draw in self.sets_and_draws() if source in self.drawn_sets()]
        taught = sorted({draw for source, draw in drawn if self.uses_pretrain(source)}) or [0]
        return {
            "pretrain": [{"draw": draw} for draw in taught] if self.pretrain else [],
            "auxiliary": [{"task": task} for task in self._auxiliary_tasks()],
            "generate": [{"draw": draw, "source": source} for source, draw in drawn],
            "import": [{"source": source} for source in self.generated_sets() if self.maker(source) == "import"],
            "measure": compared if self.measure else [],
            "detect": compared if self.detect else [],
            "mix": [mixture._asdict() for mixture in mixtures],
            "train": runs,
            "evaluate": runs,
            "plot": [{}],
        }

    @property
    def image_stages(self) -> list[str]:
        """Those of `IMAGE_STAGES` that the study asks for."""
        return [stage for stage in IMAGE_STAGES if getattr(self, stage)]

    def generated_sets(self) -> list[str]:
        """The generated sets that a run of the grid uses."""
        used = {run.source for run in self.runs()}
        return [source for source in self.grid.generated if source in used]

    def drawn_sets(self) -> list[str]:
        """Those of them that 01_generate draws."""
        return [source for source in self.generated_sets() if self.maker(source) == "generate"]

    def draws_of(self, source: str) -> list[int]:
        """The draws of a generated set that runs use, first the one that figures show; of other sets the only one."""
        return sorted({draw for run in self.runs() for name, draw in run.sets if name == source}) or [0]

    def sets_and_draws(self, more: Sequence[str] = ()) -> list[tuple[str, int]]:
        """(source, draw) of all generated sets, and of more sets."""
        return [(source, draw) for source in [*self.generated_sets(), *more] for draw in self.draws_of(source)]

    def main_sets(self) -> list[str]:
        """The generated sets that the summary and the statements are about, in the order of the parameter file."""
        firsts: dict[str, str] = {}
        for run in self.runs():
            if run.source in self.grid.generated:
                firsts.setdefault(run.model, run.source)
        return self.plot.sets or list(dict.fromkeys(firsts.values()))

    def maker(self, source: str) -> str:
        """The stage that makes a generated set."""
        return "import" if self.grid.generated[source].folder else "generate"

    def generate_of(self, source: str) -> Generate:
        """The section `generate` as it is for one set: the study's, and what the set has otherwise."""
        return self.generate.model_copy(update=self.grid.generated[source].generate.model_dump(exclude_unset=True))

    def train_of(self, model: str) -> Any:
        """The section `train.TASK` as it is for one model: the task's, and what the model has otherwise."""
        chosen = self.grid.models[model]
        section = getattr(self.train, chosen.task)
        return read_settings(type(section), section.model_dump() | chosen.train, key=f"grid.models.{model}.train")

    def runtime_of(self, model: str) -> dict:
        """How a machine trains a model: what the rule gives 03_train beside its parameters, and what reruns nothing."""
        return self.train_of(model).model_dump(include=RUNTIME_FIELDS)

    def uses_pretrain(self, source: str) -> bool:
        """Whether a set is drawn with the pipeline of 00_pretrain."""
        return self.maker(source) == "generate" and not self.generate_of(source).pipeline

    @property
    def own_generator(self) -> bool:
        """Whether any set is drawn by the study's own pipeline, which the pool has taught."""
        return any(self.uses_pretrain(source) for source in self.generated_sets())

    def _watermark(self, source: str) -> str:
        """The text that a generated set is marked with; of an imported one nothing is known."""
        return self.generate_of(source).watermark if self.maker(source) == "generate" else ""

    def _watermark_to_find(self, source: str | None = None) -> str:
        """The text to look for: the set's own, or where it has none, as the pool, that of the first set with one."""
        texts = {name: self._watermark(name) for name in self.generated_sets()}
        return texts.get(source or "") or next(filter(None, texts.values()), "")

    def compared_sets(self) -> list[tuple[str, str]]:
        """(arm, source) of the sets that 02_measure and 02_detect look at; the pool last, as the reference."""
        return [(arms.of_source(source).name, source) for source in [*self.generated_sets(), arms.POOL]]

    def _unseen(self, source: str, draw: int) -> dict[str, int]:
        """The sets that the detector of a set is tested on too, and their draws: others of its draw, and its own set.

        Of that it is the draw before, so that one more changes none of those that were there; for the first the second.
        """
        if source == arms.POOL:
            return {}
        draws = {name: self.draws_of(name) for name in self.generated_sets()}
        unseen = {name: draw if draw in of else of[0] for name, of in draws.items() if name != source}
        before = [each for each in draws[source] if each < draw]
        own = before[-1:] or draws[source][1:2]
        return unseen | ({source: own[0]} if own else {})

    @property
    def judged(self) -> bool:
        """Whether 02_measure asks of the images if they show their class: where a task of the study needs classes."""
        return any("label" in tasks.load(task).NEEDS for task in self.grid.tasks)

    def measure_networks(self) -> list[str]:
        """The tasks whose auxiliary network 02_measure uses: as feature extractor, as judge of classes."""
        if not self.measure:
            return []
        used = {"generation": not self.measure.extractor, "classification": self.judged and not self.measure.judge}
        return [task for task, own in used.items() if own]

    def _auxiliary_tasks(self) -> list[str]:
        """The tasks whose auxiliary network is used: by themselves, or by 02_measure."""
        given = [task for task in type(self.auxiliary).model_fields if getattr(self.auxiliary, task)]
        by_tasks = [task for task in self.grid.tasks if task in given and tasks.load(task).AUXILIARY_STAGE != "measure"]
        return [task for task in given if task in [*by_tasks, *self.measure_networks()]]

    def _points(self, task: str, model: str) -> list[tuple[str, str, float]]:
        selection = self.grid.of(task)
        sets = [name for name, made in self.grid.generated.items() if model in (made.models or [model])]
        return [(arms.CLEAN.name, arms.CLEAN.images, 0.0)] + [
            (arm.name, source, ratio)
            for arm in map(arms.of, selection.arms)
            for source in arm.sources(sets)
            for ratio in sorted(selection.ratios)
            if ratio > 0 and (arm.at_one or ratio < 1)
        ]

    def parameters(self, stage: str, **point) -> dict:
        """The parameters of one notebook, without those of any other: what they are is what reruns it.

        point: what the grid varies: `task` for auxiliary; `draw` (without it 0) for pretrain, it and `source` for
        generate, measure and detect; `source` for import; those of `Mixture` for mix, of `Run` for train and evaluate;
        for plot the parameter file itself, as `study`.
        """
        if stage == "plot":
            return point | self.plot.model_dump()
        parameters = {"outputs": self.outputs} | ({"draw": 0} if stage in OF_DRAWS else {}) | point
        if stage == "pretrain":
            assert self.pretrain, "only a study that trains a pipeline has this stage"
            return parameters | {"data": self.real, "seed": self.seed} | self.pretrain.model_dump()
        if stage == "auxiliary":
            return parameters | {"seed": self.seed, "settings": getattr(self.auxiliary, point["task"]).model_dump()}
        if stage == "generate":
            made = self.grid.generated[point["source"]]
            section = self.generate_of(point["source"]).model_dump()
            own = self.layout.of_draw(parameters["draw"]).own_pipeline
            section["pipeline"] = section["pipeline"] or os.path.relpath(own, project_root())
            section["names"] = section["names"] or self.data.names or ""
            if section["codec"] == codecs.AS_REAL and not sources.given(self.real):  # the digits are no files
                section["codec"] = codecs.PNG
            what: dict = {"style": made.style, "guidance": made.guidance, "image_size": self.data.image_size}
            return parameters | {"seed": self.seed} | what | section
        if stage == "import":
            made, data = self.grid.generated[point["source"]], self.data
            what = {"tree": made.folder, "image_size": data.image_size, "broken": data.broken, "twins": data.twins}
            return (
                parameters | {"seed": self.seed} | what
            )  # workers is given by the rule: another number reruns nothing
        if stage == "measure":
            asked = {"seed": self.seed, "confidence": self.plot.confidence, "judged": self.judged}
            assert self.measure, "only a study that asks for it has this stage"
            return parameters | asked | self.measure.model_dump()
        if stage == "detect":
            others = self._unseen(point["source"], parameters["draw"])
            what = {"others": others, "seed": self.seed, "confidence": self.plot.confidence}
            what["watermark"] = self._watermark_to_find(point["source"])
            assert self.detect, "only a study that asks for it has this stage"
            return parameters | what | {"settings": self.detect.model_dump()}
        if stage == "mix":
            return parameters | {"image_size": self.data.image_size}
        if stage == "train":
            model = self.grid.models[point["model"]]
            what = {"architecture": model.architecture, "options": model.options, "image_size": self.data.image_size}
            return parameters | what | {"recipe": self.train_of(point["model"]).model_dump(exclude=RUNTIME_FIELDS)}
        if stage == "evaluate":
            return parameters | {"split": "test", "settings": getattr(self.evaluate, point["task"]).model_dump()}
        raise ValueError(f"stage {stage!r} is not known")


def load(path: str | Path) -> Study:
    """Read and check a parameter file.

    Raises FileNotFoundError or ValueError in one line that names file, key and what is allowed.
    """
    file = project_root() / path
    try:
        content = yaml_files.read(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"parameter file {file} is missing") from None
    except OSError as error:
        raise ValueError(f"parameter file {file} cannot be read: {error}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected sections such as data:, generate:, train:, grid:")
    try:
        return read_settings(Study, content)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
