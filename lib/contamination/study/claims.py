"""Comparisons that are fixed before the first training: what is claimed, and the file that says when it was fixed."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from contamination import tasks
from contamination.base.files import RECORD, fingerprint, read_json, write_json
from contamination.base.settings import Name, Ratio, Section, Share, read_settings
from contamination.mixtures import arms

if TYPE_CHECKING:
    from contamination.study.study import Study

PAPER = "paper"
MOST = 5  # primary claims: with more, the correction for their number leaves little to be shown
TaskName: Any = Literal[tasks.NAMES]
WITHIN = ("not_lower", "not_higher", "same")  # expectations that need a margin


class Claim(Section):
    """One comparison of two points of the grid at the same ratio, model and seeds."""

    says: str = Field(min_length=1)
    """the claim in a sentence, as the report prints it"""
    task: TaskName = "classification"
    """its task"""
    model: Name
    """its model"""
    arm: Name = "generated"
    """what replaces the real images"""
    set: Name | None = None
    """the generated set of arm `generated`"""
    ratio: Ratio
    """the share of real images removed; above 0"""
    against: Name = arms.CLEAN.name
    """what it is compared with: `clean` (all real images), another arm at the same ratio, or another generated set"""
    expect: Literal["lower", "higher", "not_lower", "not_higher", "same"]
    """the difference of the primary metric: `lower` or `higher` (by more than `margin`), `not_lower` or `not_higher`
    (by `margin` or more), `same` (within `margin`)"""
    margin: Share = 0
    """in the unit of the metric, a share of 1 for an accuracy: 0.02 is two points"""
    primary: bool = False
    """whether it is one of at most five that are corrected for their number (Holm); the others are exploratory"""


def _read(items: Any) -> list:
    """`paper`, or a list of claims and of the word `paper`. Raises ValueError in one line."""
    if not isinstance(items, list):
        items = [items]
    found = [
        item if item == PAPER or isinstance(item, Claim) else read_settings(Claim, _mapping(item), key=str(number))
        for number, item in enumerate(items, start=1)
    ]
    primaries = sum(item != PAPER and item.primary for item in found)
    if primaries > MOST:
        raise ValueError(f"{primaries} claims are primary: {MOST} at most, the others are exploratory")
    for number, item in enumerate(found, start=1):
        if item != PAPER and item.expect in WITHIN and not item.margin:
            raise ValueError(f"{number}.margin is missing: expect {item.expect} needs one, such as 0.02 for two points")
    return found


def _mapping(item: Any) -> dict:
    if not isinstance(item, dict):
        raise ValueError(f"{item!r}: give `{PAPER}`, or says, model, ratio and expect")
    return item


Claims = Annotated[list[Claim | Literal["paper"]], BeforeValidator(_read)]


def of_study(study: "Study") -> list[Claim]:
    """The claims that the parameter file spells out."""
    return [claim for claim in study.claims if isinstance(claim, Claim)]


def of_paper(study: "Study") -> bool:
    """Whether the statements of the paper are judged, too."""
    return PAPER in study.claims


def register(study: "Study") -> list[str]:
    """Write what is claimed, with its hash and the time, beside the results; nothing where it is written already.

    A file of claims that changed keeps the earlier ones. Returns a line to print where claims come after trainings.
    """
    claimed = study.model_dump()["claims"]
    versions = read_versions(study)
    if (not claimed and not versions) or (versions and versions[-1]["hash"] == fingerprint(claimed)):
        return []
    trained = sum((study.layout.run("train", *run) / RECORD).exists() for run in study.runs())
    version: dict = {"hash": fingerprint(claimed), "time": datetime.now(UTC).isoformat(timespec="seconds")}
    version |= {"trainings": trained, "claims": claimed}
    write_json(study.own.claims, {"versions": [*versions, version]})
    if not trained:
        return []
    what = f"changed (they were {versions[-1]['hash']}, now {version['hash']})" if versions else "written"
    return [f"the claims of {study.study} are {what} after {trained} trainings were done: the report says so"]


def read_versions(study: "Study") -> list[dict]:
    """Every version of the claims, the last one in force: hash, time, trainings done before it, claims."""
    return read_json(study.own.claims)["versions"] if study.own.claims.exists() else []
