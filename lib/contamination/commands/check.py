"""What a run of a study would meet, looked at before anything is made: all its images, and its prompts."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from contamination import sources
from contamination.base import image_tables
from contamination.base.files import read_json, write_json
from contamination.generators import external_sets, pipelines
from contamination.sources import broken, ood, readable_names, twins
from contamination.sources.index import spell
from contamination.study import checks
from contamination.study import study as studies
from contamination.study.study import Study

REFUSED = ("broken", "missing", "without_caption", "captions_skipped")  # facts that stop a run, unless they are skipped
BROKEN_SHOWN, FINDINGS_SHOWN = 5, 20


class Seen(NamedTuple):
    """One source. place: of its images. lists: where its broken images are listed."""

    name: str
    place: str
    images: int
    classes: int
    facts: dict[str, str]
    lists: list[Path]


def study(study_file: str) -> int:
    """Look at every image and prompt that a study rests on and print what was found.

    Keeps what is learned of the files where a run will look for it: no image that was found fine is decoded again.
    Returns 0 where a run would accept images and ratios, 1 where it would not; models are tried by a run itself.
    Raises ValueError or OSError in one line, as a run does, for what cannot be looked at.
    """
    plan = studies.load(study_file)
    checks.check_tasks(plan)
    drawn = [f"{source}: drawn by {_generator(plan, source)}" for source in plan.drawn_sets()]
    data = plan.data.model_dump(exclude_none=True) | {"broken": "skip"}
    data["twins"] = "drop" if plan.data.twins == "drop" else "count"
    splits, classes = sources.load(plan.layout, data, plan.seed, plan.data.workers)
    train = _kept(splits["train"])
    remarks, few = _shares(plan, train)
    seen = [_split(plan, data, split, part, classes) for split, part in splits.items()]
    imported = plan.jobs()["import"]
    real = {split: _hashes(part) for split, part in splits.items()} if imported or data.get("ood") else {}
    seen += [_ood(plan, data, name, classes, real) for name in data.get("ood") or {}]
    seen += [_imported(plan, point["source"], train, classes, real) for point in imported]
    lists = plan.layout.root / "images" / "prompts.json"
    audits = _audits(plan, train, classes)
    write_json(lists, audits)
    lines = [_lines(each) for each in seen] + [_found(findings, of, lists) for of, findings in audits.items()]
    unshown = readable_names.unshown(classes, plan.data.names or "")
    print("\n".join(itertools.chain(*lines, unshown, drawn, remarks, checks.cautions(plan))))
    refused = [each.name for each in seen if any(int(each.facts.get(fact, 0)) for fact in REFUSED)]
    shared = [f"{each.facts['shared']} images of {each.name}" for each in seen if each.facts.get("shared")]
    stopped = bool(refused) and plan.data.broken == "refuse"
    if stopped:
        print(f"a run would refuse {', '.join(refused)}: replace or remove what is listed, or set data.broken to skip")
    if shared:
        record = plan.layout.real("train").parent / twins.LIST
        print(
            f"a run would refuse {', '.join(shared)}, which are in another split too: take them out of one of the "
            f"two, or set data.twins to drop; those of pool and train are listed in {record}"
        )
    return int(stopped or bool(shared) or few)


def _shares(plan: Study, train: pa.Table) -> tuple[list[str], bool]:
    """What the ratios really replace of the images that are there; and whether a run would refuse one of them."""
    try:
        return checks.check_ratios(plan, np.bincount(train["label"].to_numpy()).tolist()), False
    except ValueError as problem:
        return [f"a run would stop: {problem}"], True


def _hashes(part: tuple) -> pa.Table:
    """The images of a split as `twins.common_rows` takes them."""
    columns, _, kept = part
    if "pixels" in columns:  # the digits, a few
        images = [{"bytes": image_tables.encode(pixels), "path": None} for pixels in columns["pixels"]]
        return pa.table({"id": columns["id"], "image": pa.array(images, image_tables.IMAGE)})
    table = pa.table({name: columns[name] for name in ("id", "content_hash", "image")})
    return table if kept is None else table.filter(pa.array(kept))


def _kept(part: tuple) -> pa.Table:
    """Columns id, label and caption of the images of a split."""
    columns, _, kept = part
    table = pa.table({name: columns[name] for name in ("id", "label", "caption")})
    return table if kept is None else table.filter(pa.array(kept))


def _split(plan: Study, data: dict, split: str, part: tuple, classes: list[str]) -> Seen:
    columns, facts, kept = part
    count = len(columns["id"]) if kept is None else int(np.sum(kept))
    folders = [folder for name, folder in sources.known(plan.layout, data).items() if name == split]
    place = _place(data.get(split)) if split in data or "train" not in data else "none: nothing takes images from it"
    return Seen(split, place, count, len(classes), facts, [each / broken.LIST for each in folders])


def _place(place: str | dict | float | None) -> str:
    if isinstance(place, dict):
        return f"{place['images']} with {place['annotations']}"
    return f"{100 * place:g} % of train" if isinstance(place, float) else place or "scikit-learn"


def _ood(plan: Study, data: dict, name: str, classes: list[str], real: dict) -> Seen:
    columns, facts = ood.load(plan.layout, name, data, classes, plan.data.workers)
    learned = {split: real[split] for split in ("train", "pool")}
    columns, facts = ood.without_twins(name, columns, facts, learned=learned, policy=data["twins"])
    lists = sorted(plan.layout.ood(name).with_suffix("").rglob(broken.LIST))
    return Seen(f"ood {name}", data["ood"][name], len(columns["id"]), len(np.unique(columns["label"])), facts, lists)


def _imported(plan: Study, source: str, train: pa.Table, classes: list[str], real: dict) -> Seen:
    """A set that somebody else has generated."""
    tree = plan.grid.generated[source].folder
    index = external_sets.candidates(external_sets.index_of(plan.layout, source, tree=tree), train, classes=classes)
    work = plan.layout.imported(source)
    table, facts = external_sets.fill(
        index,
        image_tables.with_background(train, plan.data.background),
        classes=classes,
        seed=plan.seed,
        policy="skip",
        work=work,
        workers=plan.data.workers,
        real=real,
        twins_policy="drop" if plan.data.twins == "drop" else "count",
    )
    count = len(np.unique(table["label"]))
    return Seen(f"generated {source}", tree, table.num_rows, count, facts, [work / broken.LIST])


def _lines(seen: Seen) -> list[str]:
    """One line of a source, and one for each of its first broken images."""
    left_out = sources.left_out(seen.facts)
    first = f"{seen.name}: {seen.images:,} images, {seen.classes:,} classes, {spell(seen.place)}"
    lists = {file: read_json(file)["broken"] for file in seen.lists if file.exists()}
    found = [each for listed in lists.values() for each in listed]
    lines = [f"{first}; left out: {left_out}" if left_out else first]
    lines += [f"  {spell(remark)}" for remark in sources.remarks(seen.facts)]
    lines += [f"  {spell(each['path'])}: {each['reason']}" for each in found[:BROKEN_SHOWN]]
    return lines + ([f"  all are listed in {', '.join(str(file) for file in lists)}"] if found else [])


def _audits(plan: Study, train: pa.Table, classes: list[str]) -> dict[str, list[dict]]:
    """What may go wrong with the prompts of the sets that are to be drawn: findings, by what they are of."""
    audits: dict[str, list[dict]] = {}
    for source in plan.drawn_sets():
        if plan.grid.generated[source].style == "caption":
            of = f"{train.num_rows:,} captions"
            audits[of] = audits.get(of) or readable_names.audit_captions(train["caption"].to_pylist())
        else:
            file = plan.generate_of(source).names or plan.data.names or ""
            of = f"{len(classes):,} class names" + (f" with {file}" if file else "")
            audits[of] = audits.get(of) or readable_names.audit(classes, file)
    return audits


def _generator(plan: Study, source: str) -> str:
    """What will generate a set, as far as it is known without fetching it."""
    if plan.uses_pretrain(source):
        return "the pipeline of 00_pretrain"
    section = plan.generate_of(source)
    return pipelines.look(section.pipeline, section.scheduler, scheduler_options=section.scheduler_options)


def _found(findings: list[dict], of: str, file: Path) -> list[str]:
    """A line of how many findings there are, and one for each of the first."""
    lines = [readable_names.sentence(findings, of)]
    for each in findings[:FINDINGS_SHOWN]:
        facts = (each["kind"], each["name"], each["reason"], each["suggestion"])
        lines.append("  " + ": ".join(spell(part) for part in facts if part))
    if len(findings) > FINDINGS_SHOWN:
        lines.append(f"  all are listed in {file}")
    return lines
