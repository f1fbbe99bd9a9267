"""The parameter file as a typed model, and the grid of runs it asks for."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from contamination.layout import Layout, project_root

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # becomes part of a path
Ratio = Annotated[float, Field(ge=0, le=1, strict=True)]
Seed = Annotated[int, Field(ge=0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Data(Section):
    """The real images."""

    source: Literal["digits", "folders"] = "digits"
    image_size: Count = 16
    pool: str | None = None
    train: str | None = None
    test: str | None = None

    @model_validator(mode="after")
    def _folders_need_paths(self):
        paths = {"pool": self.pool, "train": self.train, "test": self.test}
        if self.source == "folders" and None in paths.values():
            raise ValueError("source folders needs a path for each of pool, train and test")
        if self.source == "folders" and len({str(Path(path)) for path in paths.values()}) < 3:
            raise ValueError("pool, train and test must be three different folders")
        if self.source == "digits" and any(paths.values()):
            raise ValueError("source digits takes no paths: its images ship with scikit-learn")
        return self


class Pretrain(Section):
    """00_pretrain: a small text-to-image pipeline trained on the pool."""

    autoencoder_steps: Count = 300
    autoencoder_learning_rate: float = Field(5e-3, gt=0)
    denoiser_steps: Count = 800
    denoiser_learning_rate: float = Field(3e-3, gt=0)
    batch_size: Count = 32
    text_dropout: float = Field(0.1, ge=0, le=1)
    ema_decay: float = Field(0.99, ge=0, lt=1)
    threads: Count = 1


class Generate(Section):
    """01_generate: one image for every slot of the training set."""

    pipeline: str = ""
    scheduler: str = ""
    steps: Count = 12
    size: int = Field(0, ge=0)
    negative_prompt: str = ""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    batch_size: Count = 100
    shard_size: Count = 200
    threads: Count = 1


class Train(Section):
    """03_train: the recipe, the same in every arm."""

    steps: Count = 200
    batch_size: Count = 50
    learning_rate: float = Field(4e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    schedule: Literal["cosine", "one_cycle"] = "one_cycle"
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    shift: float = Field(0.1, ge=0, le=1)
    rotation: float = Field(10.0, ge=0, le=180)
    scale: float = Field(0.1, ge=0, lt=1)
    flip: bool = False
    ema_decay: float = Field(0.0, ge=0, lt=1)
    mixed_precision: bool = True
    threads: Count = 1


class Evaluate(Section):
    """04_evaluate: scores on the untouched real test set."""

    calibration_bins: Count = 15
    threads: Count = 1


class Plot(Section):
    """05_plot: intervals and figures."""

    confidence: float = Field(0.95, gt=0, lt=1)


class Model(Section):
    architecture: str
    options: dict = {}


class Generated(Section):
    """One set of generated images."""

    style: Literal["class_name", "varied", "caption"]
    guidance: float = Field(ge=0)
    models: list[Name] | None = Field(None, min_length=1)


class Grid(Section):
    tasks: list[Literal["classification"]] = Field(["classification"], min_length=1)
    ratios: list[Ratio]
    arms: list[Literal["generated", "other_real", "dropped"]] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    seeds_per_job: Count = 5
    models: dict[Name, Model] = Field(min_length=1)
    generated: dict[Name, Generated] = {}

    @field_validator("ratios", "arms", "seeds")
    @classmethod
    def _distinct(cls, values: list) -> list:
        if len(set(values)) < len(values):
            raise ValueError("each value may stand here only once")
        return values

    @model_validator(mode="after")
    def _complete(self):
        if 0 not in self.ratios or max(self.ratios) == 0:
            raise ValueError("ratios must contain 0, against which every effect is measured, and a larger one")
        if ("generated" in self.arms) != bool(self.generated):
            raise ValueError("arm generated and the sets under generated: need each other")
        for name, generated in self.generated.items():
            unknown = set(generated.models or []) - set(self.models)
            if unknown:
                raise ValueError(f"generated.{name}.models names {', '.join(sorted(unknown))}, not among models")
            if name in ("train", "pool", "none"):
                raise ValueError(f"generated.{name}: this name is taken")
        return self


class Mixture(NamedTuple):
    """What the training set holds: everything that a manifest depends on."""

    arm: str
    source: str
    ratio: float
    seeds: tuple[int, ...]


class Run(NamedTuple):
    """One job of the grid: a task and a model on a mixture, for a block of seeds."""

    task: str
    model: str
    arm: str
    source: str
    ratio: float
    seeds: tuple[int, ...]

    @property
    def mixture(self) -> Mixture:
        return Mixture(self.arm, self.source, self.ratio, self.seeds)


class Study(Section):
    """A parameter file."""

    study: Name
    title: str
    seed: Seed = 0
    data: Data
    pretrain: Pretrain | None = None
    generate: Generate
    train: Train
    evaluate: Evaluate = Evaluate()
    plot: Plot = Plot()
    grid: Grid

    @model_validator(mode="after")
    def _one_pipeline(self):
        if bool(self.generate.pipeline) == (self.pretrain is not None):
            raise ValueError("give either a pretrain section or generate.pipeline, not both and not neither")
        if self.pretrain and (self.data.image_size % 8 or self.generate.size % 8):
            raise ValueError("with a pretrain section data.image_size and generate.size must be multiples of 8")
        return self

    @property
    def outputs(self) -> str:
        """The study's output folder, relative to the project root."""
        return f"outputs/{self.study}"

    @property
    def layout(self) -> Layout:
        return Layout(self.outputs)

    def seed_blocks(self) -> list[tuple[int, ...]]:
        size = self.grid.seeds_per_job
        return [tuple(self.grid.seeds[i : i + size]) for i in range(0, len(self.grid.seeds), size)]

    def runs(self) -> list[Run]:
        """All jobs of the grid. Ratio 0 is one run shared by all arms; `dropped` is undefined at ratio 1."""
        return [
            Run(task, model, arm, source, ratio, seeds)
            for task in self.grid.tasks
            for model in self.grid.models
            for arm, source, ratio in self._points(model)
            for seeds in self.seed_blocks()
        ]

    def jobs(self) -> dict[str, list[dict]]:
        """The points of the grid at which each stage runs, in the order of the chain."""
        runs = [run._asdict() for run in self.runs()]
        mixtures = dict.fromkeys(run.mixture for run in self.runs())
        return {
            "pretrain": [{}] if self.pretrain else [],
            "generate": [{"source": source} for source in self.grid.generated],
            "mix": [mixture._asdict() for mixture in mixtures],
            "train": runs,
            "evaluate": runs,
            "plot": [{}],
        }

    def _points(self, model: str) -> list[tuple[str, str, float]]:
        sources = {
            "generated": [name for name, made in self.grid.generated.items() if model in (made.models or [model])],
            "other_real": ["pool"],
            "dropped": ["none"],
        }
        return [("clean", "train", 0.0)] + [
            (arm, source, ratio)
            for arm in self.grid.arms
            for source in sources[arm]
            for ratio in sorted(self.grid.ratios)
            if ratio > 0 and not (arm == "dropped" and ratio == 1)
        ]

    def parameters(self, stage: str, **point) -> dict:
        """The parameters of one notebook, without those of any other: what they are is what reruns it.

        point: what the grid varies: `source` for generate; arm, source, ratio, seeds for mix; also task and model
        for train and evaluate; for plot the parameter file itself, as `study`.
        """
        if stage == "plot":
            return point | self.plot.model_dump()
        parameters = {"outputs": self.outputs} | point
        if stage == "pretrain":
            data = self.data.model_dump(exclude_none=True)
            return parameters | {"data": data, "seed": self.seed} | self.pretrain.model_dump()
        if stage == "generate":
            made = self.grid.generated[point["source"]]
            section = self.generate.model_dump()
            section["pipeline"] = section["pipeline"] or f"{self.outputs}/pretrain/pipeline"
            what = {"style": made.style, "guidance": made.guidance, "image_size": self.data.image_size}
            return parameters | {"seed": self.seed} | what | section
        if stage == "mix":
            return parameters | {"image_size": self.data.image_size}
        if stage == "train":
            model = self.grid.models[point["model"]]
            what = {"architecture": model.architecture, "options": model.options, "image_size": self.data.image_size}
            return parameters | what | self.train.model_dump()
        if stage == "evaluate":
            return parameters | self.evaluate.model_dump()
        raise ValueError(f"stage {stage!r} is not known")


def load(path: str | Path) -> Study:
    """Read and check a parameter file.

    Raises FileNotFoundError or ValueError in one line that names file, key and what is allowed.
    """
    file = project_root() / path
    try:
        content = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"parameter file {file} is missing") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected sections such as data:, generate:, train:, grid:")
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{file}: " + "; ".join(_in_words(problem) for problem in error.errors())) from None


def _in_words(problem: dict) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "grid of sections"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed here: {', '.join(_known_keys(problem['loc'][:-1]))}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if problem["type"] == "value_error" else f"{key}: {problem['input']!r}: {message}"


def _known_keys(location: tuple) -> list[str]:
    section: type[BaseModel] = Study
    for part in location:
        field = section.model_fields.get(str(part))
        section = _section_in(field.annotation) if field else section
    return list(section.model_fields)


def _section_in(annotation) -> type[BaseModel]:
    """The section class inside an annotation such as `Pretrain | None` or `dict[Name, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_section_in(part) for part in getattr(annotation, "__args__", ())]
    return next((part for part in inner if part is not Section), Section)
