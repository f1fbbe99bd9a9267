"""The claims of a study, which were fixed before its first training, and what came out of each."""

from typing import NamedTuple

import pandas as pd

from contamination import sources
from contamination.metrics import multiplicity
from contamination.metrics.two_way import Estimate
from contamination.mixtures import arms
from contamination.report import results, sections
from contamination.report.scores import of_run
from contamination.report.summary import change_in_words, number
from contamination.study import claims as registered
from contamination.study.claims import Claim
from contamination.study.study import Run, Study

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
NOT_MEASURED = "not measured here"


class Outcome(NamedTuple):
    """A claim with what came out.

    estimate: of the difference; None where it was not measured. p: two-sided, of what the verdict rests on; adjusted
    (Holm) over the primary claims.
    """

    claim: Claim
    verdict: str
    estimate: Estimate | None = None
    p: float = 1.0
    percent: bool = True


def judge(table: pd.DataFrame, study: Study) -> list[Outcome]:
    """Every claim of the parameter file, judged by the rows of results.csv: the primary ones first."""
    found = [_measure(claim, table, study) for claim in registered.of_study(study)]
    primary = [each for each in found if each.claim.primary]
    adjusted = multiplicity.holm([each.p for each in primary])
    primary = [each._replace(p=p) for each, p in zip(primary, adjusted, strict=True)]
    others = [each for each in found if not each.claim.primary]
    return [_decide(each, 1 - study.plot.confidence) for each in [*primary, *others]]


def _measure(claim: Claim, table: pd.DataFrame, study: Study) -> Outcome:
    """The estimate of a claim's difference, with the side that it is evidence for as a preliminary verdict."""
    unit = sections.load(claim.task).primary(table)
    rows = results.metric(table, claim.task, name=unit.metric)
    replicates = results.points(study, claim.task)[0][5:]  # each point has all of them
    first, other = (of_run(rows, Run(*run[:5], *replicates)) for run in study.compared(claim))
    change = first.minus(other)
    if not change.values:
        return Outcome(claim, NOT_MEASURED, percent=unit.percent)
    estimate = change.estimate()
    if not estimate.interval(study.plot.confidence).is_given:
        return Outcome(claim, INCONCLUSIVE, estimate, percent=unit.percent)
    support, contradiction = p_values(estimate, claim)
    verdict = SUPPORTED if support <= contradiction else CONTRADICTED
    return Outcome(claim, verdict, estimate, min(support, contradiction), unit.percent)


def _decide(outcome: Outcome, alpha: float) -> Outcome:
    decided = outcome.verdict == NOT_MEASURED or outcome.p < alpha
    return outcome if decided else outcome._replace(verdict=INCONCLUSIVE)


def p_values(estimate: Estimate, claim: Claim) -> tuple[float, float]:
    """For the claim and for its opposite, two-sided: below 0.05 where the 95 % interval lies on that side entirely.

    `same` is shown by two one-sided tests (Schuirmann, 1987).
    """

    def above(value: float) -> float:
        return min(1.0, 2 * estimate.one_sided(value, side="above"))

    def below(value: float) -> float:
        return min(1.0, 2 * estimate.one_sided(value, side="below"))

    margin = claim.margin
    if claim.expect == "same":
        return max(above(-margin), below(margin)), min(below(-margin), above(margin))
    edge = {"lower": -margin, "higher": margin, "not_lower": -margin, "not_higher": margin}[claim.expect]
    sides = below(edge), above(edge)
    return sides if claim.expect in ("lower", "not_higher") else sides[::-1]


def in_words(outcome: Outcome, study: Study) -> dict:
    """A claim as the notebook and the report print it."""
    claim, estimate = outcome.claim, outcome.estimate
    first, other = (_name(run) for run in study.compared(claim))
    row = {"says": claim.says, "verdict": outcome.verdict, "primary": claim.primary, "effect": "", "made_of": ""}
    row["rule"] = f"{claim.model}, {claim.task}: {first} minus {other} at ratio {claim.ratio:g} is {expected(claim)}"
    if estimate is not None:
        found = estimate.interval(study.plot.confidence)
        row["effect"] = change_in_words(found, study.plot.confidence, primary=outcome)
        if found.is_given:
            how = "corrected for the number of primary claims" if claim.primary else "exploratory, not corrected"
            p = f"p = {outcome.p:.2g}" if outcome.p >= 0.001 else "p < 0.001"
            row["made_of"] = f"{variance_in_words(estimate)}; {p}, {how}"
    return row


def expected(claim: Claim) -> str:
    points = f"{100 * claim.margin:g} points"
    words = {
        "lower": f"below {number(-100 * claim.margin, 'z.3g')} points" if claim.margin else "below 0",
        "higher": f"above {points}" if claim.margin else "above 0",
        "not_lower": f"above \u2212{points}",
        "not_higher": f"below {points}",
        "same": f"between \u2212{points} and +{points}",
    }
    return words[claim.expect]


def variance_in_words(estimate: Estimate) -> str:
    """How many replicates and test images an interval covers, and the standard error due to each."""
    if not estimate.images:
        return f"{estimate.replicates} seeds; the test images are held fixed"
    of_replicates, of_images = 100 * estimate.error_replicates, 100 * estimate.error_images
    return (
        f"{estimate.replicates} seeds (standard error {of_replicates:.2f}) and {estimate.images:,} test images "
        f"({of_images:.2f})"
    )


def _name(run: Run) -> str:
    return arms.of(run.arm).label_of(run.source)


def null_control(table: pd.DataFrame, study: Study) -> str:
    """How often unseen real images "differ" from the removed ones, beside how often chance lets them.

    Empty without such an arm, and where the pool is not a random part of the same draw: it may truly differ then.
    """
    if arms.POOL in sources.given(study.real):
        return ""
    differ, total = 0, 0
    for task in study.grid.tasks:
        unit = sections.load(task).primary(table)
        rows = results.metric(table, task, name=unit.metric)
        for point in results.points(study, task):
            if arms.of(point.arm) == arms.OTHER_REAL:
                change = of_run(rows, point).minus(of_run(rows, point.clean)).interval(study.plot.confidence)
                total += change.is_given
                differ += change.is_given and not change.low <= 0 <= change.high
    if not total:
        return ""
    by_chance = (1 - study.plot.confidence) * total
    return (
        f"Null control: of {total} comparisons of unseen real images with the real ones in whose place they stand, "
        f"{differ} {'has an interval' if differ == 1 else 'have intervals'} without 0; by chance it would be "
        f"{by_chance:.1f}. The comparisons share runs, so they go together."
    )


def history(study: Study) -> str:
    """When the claims were fixed, and whether any training was done before; earlier versions with their hashes."""
    versions = registered.read_versions(study)
    if not versions:
        return ""
    last, earlier = versions[-1], versions[:-1]
    when = f"after {last['trainings']} trainings were done" if last["trainings"] else "before the first training"
    text = f"Fixed {last['time']}, {when} (hash {last['hash']})"
    replaced = [f"{each['hash']} of {each['time']}" for each in earlier]
    return f"{text}, in place of {', '.join(replaced)}." if replaced else f"{text}."
