"""What running a study would take, before anything runs: jobs, images, hours, disk, and what is there already."""

import math
import os
import textwrap
from typing import NamedTuple

from contamination.base import gpus
from contamination.commands import disk, inventory, rates
from contamination.commands.inventory import State
from contamination.commands.rates import BY_IMAGE, Kind, Rate
from contamination.runner import inputs
from contamination.runner.profiles import GPU_RULES
from contamination.study import study as studies

HOUR, DAY = 3600, 24
UNCOUNTED = "short, not counted"  # what needs no GPU
WIDTHS = (20, 6, 6, 8, 11, 10)  # of the table's columns, before the last
LINE = 100  # characters


def show(study_file: str, stated: list[str], calibrate: bool = False, count: int | None = None) -> int:
    """Print what a run of the study would take. Writes nothing, but for rates where it is to measure them.

    (Beside what any dry run keeps: Snakemake's notes in `.snakemake`, the index of a folder tree that has changed.)

    stated: rates as `rates.stated` takes them. calibrate: measure those of drawing and training here first. count: GPUs
    to plan for; without it those of this machine.
    Raises ValueError or OSError in one line for a wrong study or rate, and where measured rates cannot be kept.
    """
    study = studies.load(study_file)
    jobs = inventory.all_jobs(study)
    asked = rates.stated(study, jobs, texts=stated)
    if count is not None and count < 1:
        raise ValueError(f"--gpus {count}: give 1 or more")
    rates.load(study)  # a damaged file is refused at once
    sizes_process = disk.start_weight_sizes(study, inventory.classes(study))
    state = inventory.look(study_file, study, jobs=jobs)
    if calibrate:
        rates.calibrate(study, study_file, jobs=jobs, images=state.slots, classes=state.classes)
    devices = count or len(gpus.visible())
    known = rates.find(study, jobs, done=state.done, stated=asked, gpus=bool(devices), tested=state.tested)
    weights = disk.weights(study, jobs, sizes_process)
    print("\n".join(report(study_file, state, known=known, weights=weights, devices=devices)))
    return 0


# Hours


class Hours(NamedTuple):
    """Of jobs of one kind: GPU-hours, or CPU-hours, in all and still to come; None where not known."""

    kind: Kind
    jobs: list[dict]
    todo: list[dict]
    whole: float | None
    to_come: float | None
    origin: str


def hours(state: State, known: dict[Kind, Rate]) -> list[Hours]:
    """A line for each kind of job, in the order of the chain. known: rates."""
    return [_hours(state, kind, known.get(kind)) for kind in rates.kinds(state.jobs)]


def _hours(state: State, kind: Kind, rate: Rate | None) -> Hours:
    jobs, todo = (
        [point for point in points[kind.stage] if rates.kind_of(kind.stage, point) == kind]
        for points in (state.jobs, state.todo)
    )
    if kind.stage not in GPU_RULES:
        return Hours(kind, jobs, todo, 0.0, 0.0, UNCOUNTED)
    units = [_units(state, kind.stage, point) for point in jobs]
    to_come = [_units(state, kind.stage, point, missing=True) for point in todo]
    whole, rest = (_times(rate, each) for each in (units, to_come))
    return Hours(kind, jobs, todo, whole, rest, rate.origin if rate else "unknown")


def _units(state: State, stage: str, point: dict, missing: bool = False) -> int | None:
    if stage == "generate":
        return inventory.missing_images(state, point) if missing else state.slots
    return rates.units(state.study, stage, point=point)


def _times(rate: Rate | None, units: list[int | None]) -> float | None:
    if not units:
        return 0.0
    known = [each for each in units if each is not None]
    return None if rate is None or len(known) < len(units) else rate.seconds * sum(known) / HOUR


def wall_hours(state: State, lines: list[Hours], *, devices: int) -> float:
    """The least time that what is to come takes: all of it shared out evenly, but no less than the longest chain."""
    cores = devices or os.cpu_count() or 1
    return max(sum(line.to_come or 0 for line in lines) / cores, _longest(state, lines, bool(devices)))


def _longest(state: State, lines: list[Hours], on_gpus: bool) -> float:
    """Hours of the set, training and scores that take longest one after the other: none of them starts before."""
    each = {line.kind: (line.to_come or 0) / max(1, len(line.todo)) for line in lines}
    chains = [0.0]
    for run in state.study.runs():
        point = run._asdict()
        sets = [("generate", each) for each in state.todo["generate"] if (each["source"], each["draw"]) in run.sets]
        waits = sets[:1] + [(stage, point) for stage in ("train", "evaluate") if point in state.todo[stage]]
        spans = [each[rates.kind_of(*job)] / rates.width(state.study, *job, on_gpus) for job in waits]
        chains.append(sum(spans))
    return max(chains)


# In words


def report(study_file: str, state: State, *, known: dict, weights: dict[str, int], devices: int) -> list[str]:
    """The lines that `contamination plan` prints."""
    lines = hours(state, known)
    needs = disk.needs(state, weights, devices=devices)
    heading = [f"{study_file}: {state.study.title}"]
    sections = [_wrapped(heading), _table(state, lines, devices), _images(state), _trainings(state)]
    sections += [disk.table(needs), _wrapped(state.notes), _wrapped(_end(study_file, state, lines, needs, devices))]
    return [line for section in sections if section for line in ("", *section)][1:]


def _wrapped(lines: list[str]) -> list[str]:
    options: dict = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
    return [part for line in lines for part in textwrap.wrap(line, LINE, **options)]


def _row(cells: tuple, last: str = "") -> str:
    name, *numbers = (f"{cell:{'<' if place == 0 else '>'}{WIDTHS[place]}}" for place, cell in enumerate(cells))
    return "".join([name, *numbers, f"   {last}"]).rstrip()


def _table(state: State, lines: list[Hours], devices: int) -> list[str]:
    """A line for each stage, and below it for each set, model or task where there are several."""
    unit = "GPU-hours" if devices else "CPU-hours"
    rows = [_row(("stage", "jobs", "done", "to run", unit, "to come"), "known from")]
    for stage, points in state.jobs.items():
        own = [line for line in lines if line.kind.stage == stage]
        if len(own) == 1:
            rows.append(_row((stage, *_counts(own), *_spelled(own)), own[0].origin))
        elif points:
            rows.append(_row((stage, *_counts(own), *_spelled(own))))
            rows += [_row((f"  {line.kind.name}", *_counts([line]), *_spelled([line])), line.origin) for line in own]
    return [*rows, _row(("in all", *_counts(lines), *_spelled(lines)))]


def _counts(lines: list[Hours]) -> tuple[str, str, str]:
    jobs, todo = (sum(len(getattr(line, name)) for line in lines) for name in ("jobs", "todo"))
    return f"{jobs:,}", f"{jobs - todo:,}", f"{todo:,}"


def _spelled(lines: list[Hours]) -> tuple[str, str]:
    """Hours in all and to come; with a plus where some are not known."""
    if all(line.origin == UNCOUNTED for line in lines):
        return "-", "-"
    spelled = []
    for name in ("whole", "to_come"):
        values = [getattr(line, name) for line in lines]
        known = [value for value in values if value is not None]
        some = len(known) == len(values) or any(known)
        spelled.append(_number(sum(known)) + ("+" if len(known) < len(values) else "") if some else "unknown")
    return spelled[0], spelled[1]


def _number(value: float) -> str:
    return f"{value:,.2f}" if 0 < value < 10 else f"{value:,.0f}"


def _images(state: State) -> list[str]:
    """What is to be drawn: in all, and of each set."""
    sets = state.jobs["generate"]
    if not sets or state.slots is None:
        return []
    missing: dict = {" ".join(inputs.words(point)): inventory.missing_images(state, point) for point in sets}
    whole = f"{len(sets) * state.slots:,} images to generate in all, {len(sets)} x {state.slots:,} slots"
    lines = [f"  {name}: {left:,} of {state.slots:,}" for name, left in missing.items() if len(sets) > 1]
    return [f"{whole}; still missing: {sum(missing.values()):,}", *lines]


def _trainings(state: State) -> list[str]:
    """How many models are trained, and on how many images."""
    whole, rest = (_trained(state, points["train"]) for points in (state.jobs, state.todo))
    return [f"{whole}; still to come: {'all' if rest == whole else rest if state.todo['train'] else 'none'}"]


def _trained(state: State, points: list[dict]) -> str:
    seen = sum(rates.units(state.study, "train", point=point) for point in points)
    return f"{sum(len(point['seeds']) for point in points):,} trainings that see {seen:,} images"


def _end(study_file: str, state: State, lines: list[Hours], needs: list[disk.Need], devices: int) -> list[str]:
    """Hours, days and bytes in a few lines, and how to learn what is not known."""
    unknown = [line for line in lines if line.to_come is None]
    total = sum(line.to_come or 0 for line in lines)
    ended = [_total(total, unknown, devices)] if any(state.todo.values()) else ["Nothing is to be run."]
    if total:
        where = (
            f"{devices} GPU{'s' if devices > 1 else ''}" if devices else f"the {os.cpu_count()} cores of this machine"
        )
        ended.append(f"On {where} at least {_duration(wall_hours(state, lines, devices=devices))}.")
    widest = max((rates.width(state.study, "train", point, True) for point in state.todo["train"]), default=1)
    if devices and widest > devices:
        ended.append(f"A training takes {widest} GPUs at once (processes), which is more than {devices}.")
    return [*ended, disk.verdict(state.study, needs), *_remedy(study_file, unknown)]


def _total(total: float, unknown: list[Hours], devices: int) -> str:
    stages = ", ".join(dict.fromkeys(line.kind.stage for line in unknown))
    if unknown and not total:
        return f"To come: hours are not known yet, of {stages}."
    unit = "GPU-hours" if devices else "CPU-hours"
    return f"To come: {_number(total)} {unit}" + (f", and what is not known yet: {stages}." if unknown else ".")


def _remedy(study_file: str, unknown: list[Hours]) -> list[str]:
    """How rates that are not known become so."""
    stages = list(dict.fromkeys(line.kind.stage for line in unknown if line.origin == "unknown"))
    by_image = [stage for stage in stages if stage in BY_IMAGE]
    lines = [f"To measure it on this machine: contamination plan {study_file} --calibrate"] if by_image else []
    units = [f"--rate {stage}={'IMAGES_PER_SECOND' if stage in BY_IMAGE else 'SECONDS'}" for stage in stages[:2]]
    more = f"; likewise {', '.join(stages[2:])}" if stages[2:] else ""
    return lines + ([f"To state it, as of one GPU or core: {' '.join(units)}{more}"] if stages else [])


def _duration(span: float) -> str:
    if span < 1:
        minutes = math.ceil(60 * span)
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{span:.1f} hours" if span < 2 * DAY else f"{span / DAY:.1f} days"
