"""What a study asks of its source, its generated sets and its tasks, looked at before any work."""

import itertools
from collections.abc import Sequence

from contamination import sources, tasks
from contamination.generators import external_sets, pipelines
from contamination.metrics.intervals import ADVISED, FEWEST
from contamination.mixtures import shares
from contamination.sources import ood
from contamination.study.study import Study


def cautions(study: Study) -> list[str]:
    """A line for each number of training seeds that is too small for intervals, or for narrow ones."""
    tasks_of: dict[int, list[str]] = {}
    for task in study.grid.tasks:
        tasks_of.setdefault(len(study.grid.of(task).seeds), []).append(task)
    lines = []
    for count, names in sorted(tasks_of.items()):
        if count < ADVISED:
            seeds = f"{', '.join(names)}: {count} training seed{'s' if count > 1 else ''}"
            lines.append(
                f"{seeds}, without intervals and verdicts: {ADVISED} are advised, {FEWEST} the fewest"
                if count < FEWEST
                else f"{seeds}, with wide intervals: {ADVISED} are advised"
            )
    return lines


def check_ratios(study: Study, sizes: Sequence[int] | None = None) -> list[str]:
    """A line for each ratio that replaces another share of the real images than it says, as far as it is known yet.

    sizes: slots of each class, where they are known better than by the names of files.
    Raises ValueError as `shares.check` does.
    """
    known = sources.train_sizes(study.layout, study.real, study.seed) if sizes is None else sizes
    if not known:
        return []
    taken = [study.grid.of(task).ratios for task in study.grid.tasks]
    for ratios in taken:
        shares.check(ratios, known)
    return shares.remarks(sorted({*itertools.chain(*taken)}), known)


def check_tasks(study: Study) -> None:
    """Raise ValueError for what a task cannot work with: a source without what it needs, or its own parameters."""
    data = study.data.model_dump()
    sources.kind(data).require_apart(data)
    offered = sources.offers(data)
    for name in study.generated_sets():
        _check_set(study, name, data, offered)
    for name in study.grid.tasks:
        task = tasks.load(name)
        missing = set(task.NEEDS) - offered
        if missing:
            raise ValueError(
                f"task {name} needs a {' and a '.join(sorted(missing))} for every image, and source "
                f"{study.data.source} has none here: leave {name} out of grid.tasks or give another data section"
            )
        if task.USES_OOD_SETS:
            ood.check(data)
        task.check(study)


def _check_set(study: Study, name: str, data: dict, offered: set[str]) -> None:
    """Raise ValueError for a generated set that needs what the source has not, or whose tree or pipeline is missing."""
    made = study.grid.generated[name]
    needed = "caption" if made.style == "caption" else "label"
    if not made.folder and needed not in offered:
        raise ValueError(f"grid.generated.{name}: style {made.style} needs a {needed} for every image")
    try:
        if made.folder:
            external_sets.check(made.folder, sources.kind(data).class_folders(data))
        elif not study.uses_pretrain(name):
            pipelines.look(study.generate_of(name).pipeline, "", scheduler_options={})
    except (ValueError, OSError) as problem:
        raise ValueError(f"grid.generated.{name}{'.folder' if made.folder else ''}: {problem}") from None
