# One rule per notebook. The grid comes from the parameter file, the machine from the profile; neither stands here.
# `contamination run` calls this with --config study=parameters/digits.yaml.

import json

from contamination import sources, tasks
from contamination.base import devices, files, layout as layouts
from contamination.generators import external_sets
from contamination.mixtures import arms
from contamination.runner import inputs
from contamination.sources import ood
from contamination.study import study as studies

study_file = inputs.study_file(config)
study = studies.load(study_file)
kind = sources.kind(study.real)
OUT = study.outputs  # images and runs
OWN = f"outputs/{study.study}"  # figures and report
POINT = "{arm}/{source}/{ratio}/{seeds}"
RUN = "{task}/{model}/" + POINT
MODULE = "exec python -m contamination.runner.fork_server"


def execute(stage, home=OUT):
    """The command of a notebook's rule; home: the folder in which it leaves its log meanwhile."""
    notebook = f"notebooks/{layouts.NOTEBOOKS[stage]}"
    # Not through Snakemake's `log:`, which leaves an empty file behind a log that has become the executed copy.
    return MODULE + f" contamination.runner.notebooks {notebook} {{output}} {home} {{params[0]:q}}"


def job(stage, folder, home=OUT):
    """The notebook of one rule and its executed copy, in the rule's folder below the study's."""
    name = layouts.NOTEBOOKS[stage]
    return f"notebooks/{name}", f"{home}/{folder}/{name}"


def parameters(stage):
    """A function of the wildcards alone (nothing else is compared), giving one string with sorted keys."""
    return lambda wildcards: json.dumps(study.parameters(stage, **inputs.point(wildcards)), sort_keys=True)


def images_task(data):
    """What image tables depend on: of images in files also what lies there now, so that a change reruns the rule."""
    listing = sources.listing(study.layout, data)
    task = {"data": data, "seed": study.seed, "outputs": OUT} | ({"listing": listing} if listing else {})
    return json.dumps(task, sort_keys=True)


def as_it_is(value):
    """A parameter whose braces are no wildcards: Snakemake looks for these in every text that no function gives."""
    return lambda wildcards: value


def all_of(stage, points):
    """The executed notebooks of a stage at these points of the grid."""
    return [inputs.executed(study, stage, **point) for point in points]


def made(sets):
    """The executed notebooks that made these generated sets, drawn or imported. sets: (name, draw) of each."""
    return [inputs.executed(study, study.maker(name), draw=draw, source=name) for name, draw in sets]


def sources_of(wildcards):
    """The executed notebooks that made the images of a mixture, where they are generated."""
    draws = inputs.point(wildcards)["draws"] or [0]
    return made([(wildcards.source, draw) for draw in draws] if arms.of(wildcards.arm).of_sets else [])


def drawn_with(wildcards):
    """The executed notebook of the study's own pipeline, where a set is drawn with it."""
    draw = inputs.point(wildcards)["draw"]
    return all_of("pretrain", [{"draw": draw}] if study.uses_pretrain(wildcards.source) else [])


def code_with_names(notebook):
    """With a file of names also what that says; as an input its name could not have braces."""

    def mark(wildcards):
        names = study.parameters("generate", **inputs.point(wildcards))["names"]
        return inputs.code(notebook) + (f" {files.hash_file(layouts.project_root() / names)}" if names else "")

    return mark


def listing(wildcards):
    """What lies now in the tree of an imported set, so that a change reruns the rule."""
    return external_sets.listing(study.layout, wildcards.source, study.grid.generated[wildcards.source].folder)


def auxiliary_for(stage):
    """The executed notebook of the network that a task has learn from the pool, for the stage that uses it."""

    def executed(wildcards):
        made = getattr(study.auxiliary, wildcards.task, None)
        used_here = made and tasks.load(wildcards.task).AUXILIARY_STAGE == stage
        return all_of("auxiliary", [{"task": wildcards.task}] if used_here else [])

    return executed


def ood_for(wildcards):
    """The OOD test sets, for a task that is scored on them too."""
    return rules.ood.output if tasks.load(wildcards.task).USES_OOD_SETS else []


def code_with_task(notebook):
    """The task is loaded by name, so its module is added to those that the notebook imports."""
    return lambda wildcards: inputs.code(notebook, f"tasks/{wildcards.task}")


def code_with_findings(start):
    """A hash of the code behind the figures and sentences of a study."""
    return inputs.code(start, *(f"report/{part}" for part in [*study.grid.tasks, *study.image_stages]))


def threads(section):
    return lambda wildcards: on_gpu(getattr(section, wildcards.task).threads)


def recipe(wildcards):
    return study.train_of(wildcards.model)


def on_gpu(threads, gpus=1):
    """What a job on a GPU counts as, of the cores: no more than its share of them, so that all GPUs get a job."""
    return devices.share(threads, workflow.cores, gpus=gpus, of=int(config["gpus"])) if "gpus" in config else threads


def measure_networks(wildcards):
    """The executed notebooks of the study's own feature extractor and judge, where images are measured with them."""
    return all_of("auxiliary", [{"task": task} for task in study.measure_networks()])


def generated(wildcards):
    """The executed notebook that made a set, or nothing for the pool."""
    draw = inputs.point(wildcards)["draw"]
    return made([(wildcards.source, draw)] if wildcards.source != "pool" else [])


def also_tested(wildcards):
    """The executed notebooks that made the sets on which a detector is tested beside its own."""
    return made(study.parameters("detect", **inputs.point(wildcards))["others"].items())


wildcard_constraints:
    task="[^/]+",
    model="[^/]+",
    arm="[^/]+",
    draw="(draw-[0-9]+/)?",
    source="[^/]+",
    ratio="[^/]+",
    seeds="[^/]+",


# On a cluster these run where the sweep was started, in seconds each; a wait in the queue would be longer.
localrules:
    all,
    mix,
    plot,
    report,


rule all:
    input:
        f"{OWN}/report/index.html",
        # Each of them is asked for, so that one that was lost or replaced by hand is made again.
        [all_of(stage, points) for stage, points in study.jobs().items()],


rule images:
    output:
        [f"{OUT}/images/{split}.arrow" for split in sources.SPLITS],
    threads: study.data.workers
    params:
        task=as_it_is(images_task(study.real)),
        code=inputs.code("sources/__main__", f"sources/{sources.KINDS[study.data.source]}"),
    shell:
        MODULE + " contamination.sources {params.task:q} {threads}"


rule ood:
    input:
        rules.images.output,
    output:
        f"{OUT}/images/ood/sets.json",
        [f"{OUT}/images/ood/{name}.arrow" for name in ood.names(study.data.model_dump())],
    threads: study.data.workers
    params:
        task=as_it_is(images_task(study.data.model_dump(exclude_none=True))),
        code=inputs.code("sources/ood", *([f"sources/{kind.OOD}"] if kind.OOD else [])),
    shell:
        MODULE + " contamination.sources.ood {params.task:q} {threads}"


notebook, executed = job("pretrain", "{draw}pretrain")


rule pretrain:
    input:
        rules.images.output,
    output:
        executed,
    priority: 3
    threads: on_gpu(study.pretrain.threads if study.pretrain else 1)
    resources:
        gpu=1,
    params:
        parameters("pretrain"),
        inputs.code(notebook),
    shell:
        execute("pretrain")


notebook, executed = job("auxiliary", "auxiliary/{task}")


rule auxiliary:
    input:
        rules.images.output,
    output:
        executed,
    priority: 3
    threads: threads(study.auxiliary)
    resources:
        gpu=1,
    params:
        parameters("auxiliary"),
        code_with_task(notebook),
    shell:
        execute("auxiliary")


notebook, executed = job("generate", "{draw}generate/{source}")


rule generate:
    input:
        rules.images.output,
        drawn_with,
    output:
        executed,
    priority: 2
    threads: lambda wildcards: on_gpu(study.generate_of(wildcards.source).threads)
    resources:
        gpu=1,
    params:
        parameters("generate"),
        code_with_names(notebook),
    shell:
        execute("generate")


notebook, executed = job("import", "generate/{source}")


rule import_set:
    input:
        rules.images.output,
    output:
        executed,
    priority: 2
    threads: study.data.workers
    params:
        parameters("import"),
        inputs.code(notebook),
        listing=listing,
    shell:
        execute("import") + """ '{{"workers": {threads}}}'"""


notebook, executed = job("measure", "{draw}measure/{source}")


rule measure:
    input:
        rules.images.output,
        generated,
        measure_networks,
    output:
        executed,
    threads: on_gpu(study.measure.threads if study.measure else 1)
    resources:
        gpu=1,
    params:
        parameters("measure"),
        inputs.code(notebook),
    shell:
        execute("measure")


notebook, executed = job("detect", "{draw}detect/{source}")


rule detect:
    input:
        rules.images.output,
        generated,
        also_tested,
    output:
        executed,
    threads: on_gpu(study.detect.threads if study.detect else 1)
    resources:
        gpu=1,
    params:
        parameters("detect"),
        inputs.code(notebook),
    shell:
        execute("detect")


notebook, executed = job("mix", f"mix/{POINT}")


rule mix:
    input:
        rules.images.output,
        sources_of,
    output:
        executed,
    priority: 1
    params:
        parameters("mix"),
        inputs.code(notebook),
    shell:
        execute("mix")


notebook, executed = job("train", f"train/{RUN}")


rule train:
    input:
        rules.mix.output,
        auxiliary_for("train"),
    output:
        executed,
    threads: lambda wildcards: on_gpu(recipe(wildcards).threads, recipe(wildcards).processes)
    resources:
        gpu=lambda wildcards: recipe(wildcards).processes,
        # Neither of them is compared with what a finished job had.
        # `runtime` alone is Snakemake's word for minutes.
        recipe_runtime=lambda wildcards: json.dumps({"runtime": study.runtime_of(wildcards.model)}),
    params:
        parameters("train"),
        code_with_task(notebook),
    shell:
        execute("train") + " {resources.recipe_runtime:q}"


notebook, executed = job("evaluate", f"evaluate/{RUN}")


rule evaluate:
    input:
        rules.train.output,
        rules.images.output,
        ood_for,
        auxiliary_for("evaluate"),
    output:
        executed,
    priority: 1
    threads: threads(study.evaluate)
    resources:
        gpu=1,
    params:
        parameters("evaluate"),
        code_with_task(notebook),
    shell:
        execute("evaluate")


notebook, executed = job("plot", "plot", OWN)


rule plot:
    input:
        all_of("evaluate", [run._asdict() for run in study.runs()]),
        made(study.sets_and_draws()),
        [all_of(stage, study.jobs()[stage]) for stage in study.image_stages],
    output:
        executed,
    params:
        as_it_is(json.dumps(study.parameters("plot", study=study_file), sort_keys=True)),
        code_with_findings(notebook),
        claims=as_it_is(json.dumps(study.model_dump()["claims"], sort_keys=True)),
    shell:
        execute("plot", OWN)


rule report:
    input:
        rules.plot.output,
    output:
        f"{OWN}/report/index.html",
    params:
        study=as_it_is(study_file),
        title=as_it_is(study.title),
        code=code_with_findings("report/page"),
        form=inputs.templates(),
    shell:
        MODULE + " contamination.report.page {params.study:q}"
