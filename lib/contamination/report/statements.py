"""What the paper says, statement by statement, and whether this study's results bear it out.

Every statement has a rule that sees intervals, and says where these cannot answer it. A statement with several cases
(models, generated sets) is supported or contradicted where every one of them says so, and else inconclusive.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd

from contamination import sources
from contamination.metrics.intervals import Interval, difference
from contamination.mixtures import arms
from contamination.report import captioning, classification, pretraining
from contamination.report.fidelity import FAITHFUL
from contamination.report.results import metric, of_set, over_draws, percent, points, replaced
from contamination.report.scores import Scores, mean, of_run
from contamination.report.summary import direction, number
from contamination.study.study import Run, Study
from contamination.tasks.pretraining import LONGER, UNTRAINED

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported here", "contradicted here", "inconclusive"
NOT_MEASURED, NOT_TESTABLE = "not measured in this study", "not testable here"
CLASSIFICATION = classification.TASK
EDGE = 0.01  # a share this close to 0 or 1 is at its floor or ceiling: that two are alike there says nothing
SPACES = 3  # feature spaces that have to agree on where images lie: one network calls everything real
MARGIN = 0.05  # of precision: a loss below it counts as none
USEFUL = 0.75  # accuracy of a detector, where guessing gives 0.5
FIDELITY, FIDELITY_MARGIN = FAITHFUL, 0.02  # sets that are compared have at least this, and differ by no more
ONE_DRAW = (
    "the unseen real images are a random part of the same draw as the training images, so their cost is zero by "
    "construction (the paper's control, WebVision, is another distribution)"
)
PAINTED = "the background of a real digit is one color, so one flat corner identifies every real image"
NOTHING = Scores({}, {})
WITHOUT = "without pre-training at the same total number of steps"
POOL = (arms.OTHER_REAL.name, arms.POOL)
SCORES = {name: captioning.WORDS[name] for name in ("cider", "bleu_4", "rouge_l", "meteor")}


class Effect(NamedTuple):
    """A number that a rule looks at.

    percent: a change of a share of 1, printed in points; else of a plain number. level: the share itself, no change.
    """

    name: str
    interval: Interval
    percent: bool = True
    level: bool = False


class Ruling(NamedTuple):
    """What a rule says. reason: what the intervals alone do not show, mostly why it is inconclusive."""

    verdict: str
    reason: str = ""


class Case(NamedTuple):
    """What is ruled on at once, as a model on a generated set. name: as its reason is headed among those of others."""

    name: str
    effects: list[Effect]
    ruling: Ruling


Cases = Iterator[Case]


class Statement(NamedTuple):
    """A statement of the paper with its rule.

    source: how the paper's claim is known. words: the rule as the report prints it. cases: the rule applied to a
    table. absent: the reason where there are no cases.
    """

    sentence: str
    source: str
    words: str
    cases: Callable[[pd.DataFrame, Study], Cases]
    absent: str


class Judgement(NamedTuple):
    """A statement judged. reason: why nothing was measured, or decided, and what was left out; may be empty."""

    statement: str
    source: str
    rule: str
    effects: list[Effect]
    verdict: str
    reason: str


def judge(table: pd.DataFrame, study: Study) -> list[Judgement]:
    """Every statement of the paper, judged by the rows of results.csv."""
    return [judge_one(statement, table, study=study) for statement in STATEMENTS]


def judge_one(statement: Statement, table: pd.DataFrame, *, study: Study) -> Judgement:
    cases = list(statement.cases(table, study))
    effects = [effect for case in cases for effect in case.effects]
    ruling = together(cases) if cases else Ruling(NOT_MEASURED, statement.absent)
    return Judgement(statement.sentence, statement.source, statement.words, effects, *ruling)


def words(effect: Effect) -> tuple[str, str]:
    """An effect and its interval with n, as the notebook and the report print them."""
    factor, sign, digits, unit = (100, "+", 1, " points") if effect.percent else (1, "+", 2, "")
    if effect.level:
        sign, unit = "", " %"
    mean, low, high = (number(factor * value, f"{sign}z.{digits}f") for value in effect.interval[:3])
    found = effect.interval
    return f"{mean}{unit}", f"{low} to {high}, n={found.n}" if found.is_given else found.why_none


def together(cases: list[Case]) -> Ruling:
    """The verdict that all cases share, inconclusive where they differ; and their reasons."""
    verdicts = [case.ruling.verdict for case in cases]
    if len(set(verdicts)) == 1:
        return Ruling(verdicts[0], "; ".join(_reasons(cases)))
    counts = (verdicts.count(verdict) for verdict in (SUPPORTED, CONTRADICTED))
    split = "supported in {} of {total} comparisons, contradicted in {}".format(*counts, total=len(cases))
    return Ruling(INCONCLUSIVE, "; ".join([split, *_reasons(cases)]))


def _reasons(cases: list[Case]) -> list[str]:
    """Each reason once, headed by the cases that it is of where these are not all."""
    names: dict[str, list[str]] = {}
    for case in cases:
        if case.ruling.reason and case.name not in names.setdefault(case.ruling.reason, []):
            names[case.ruling.reason].append(case.name)
    everyone = len({case.name for case in cases})
    return [reason if len(of) == everyone else f"{' and '.join(of)}: {reason}" for reason, of in names.items()]


# The rules. An interval with NaN for ends, that of a single seed, is on neither side of anything.


def falls(change: Interval) -> Ruling:
    """A statement that something becomes less."""
    return Ruling(direction(change, SUPPORTED, CONTRADICTED, INCONCLUSIVE))


def helps(change: Interval) -> Ruling:
    """A statement that something becomes more."""
    return Ruling(direction(change, CONTRADICTED, SUPPORTED, INCONCLUSIVE))


def falls_more(change: Interval, beyond: Interval) -> Ruling:
    """That accuracy falls on other images more than on the ordinary test set. beyond: the former minus the latter."""
    if change.low > 0:
        return Ruling(CONTRADICTED)
    if change.high < 0 and beyond.high < 0:
        return Ruling(SUPPORTED)
    how = "less" if beyond.low > 0 else "not shown to fall more"
    return Ruling(INCONCLUSIVE, f"it falls, {how} than on the ordinary test set" if change.high < 0 else "")


def helps_beyond(gain: Interval, beyond: Interval | None) -> Ruling:
    """That pre-training makes something more, and not by the number of its steps. beyond: with as many for both."""
    if gain.high < 0:
        return Ruling(CONTRADICTED)
    if not gain.low > 0:
        return Ruling(INCONCLUSIVE)
    if beyond is None:
        return Ruling(INCONCLUSIVE, f"a network {WITHOUT} was not measured")
    if beyond.low > 0:
        return Ruling(SUPPORTED)
    return Ruling(INCONCLUSIVE, f"{'worse' if beyond.high < 0 else 'not shown to be better'} than {WITHOUT}")


def inside(recall: Interval, precision: Interval) -> Ruling:
    """That images cover a part and leave it no more than real ones do; recall and precision minus those of the pool."""
    if recall.high < 0 and precision.low > -MARGIN:
        return Ruling(SUPPORTED)
    return Ruling(CONTRADICTED if recall.low > 0 or precision.high < -MARGIN else INCONCLUSIVE)


def in_all_spaces(verdicts: dict[str, str], at_ceiling: list[str]) -> Ruling:
    """What at least three feature spaces say alike. verdicts: by space. at_ceiling: those that decide nothing."""
    edges = f"precision is at its floor or ceiling in {' and '.join(at_ceiling)}, which therefore decides nothing"
    found = set(verdicts.values())
    said = ", ".join(f"{space}: {verdict}" for space, verdict in verdicts.items())
    reasons = ([edges] if at_ceiling else []) + ([f"the feature spaces disagree ({said})"] if len(found) > 1 else [])
    if len(found) == 1 and len(verdicts) < SPACES:
        reasons.append(f"measured in {len(verdicts)} feature space{'s' if len(verdicts) > 1 else ''} only ({said})")
    alike = len(found) == 1 and len(verdicts) >= SPACES
    return Ruling(found.pop() if alike else INCONCLUSIVE, "; ".join(reasons))


def at_edge(*shares: float) -> bool:
    """Whether shares of 1 are all at their ceiling, or all at their floor, so that they cannot differ."""
    return min(shares) >= 1 - EDGE or max(shares) <= EDGE


def weak(accuracy: Interval) -> Ruling:
    """That a detector is of little use."""
    if accuracy.high < USEFUL:
        return Ruling(SUPPORTED)
    return Ruling(CONTRADICTED if accuracy.low > USEFUL else INCONCLUSIVE)


# The cases, each from the rows of one metric on one split.


def _beyond_dropped(table: pd.DataFrame, study: Study) -> Cases:
    """Generated images minus the same real images dropped, as the mean over the ratios that both have.

    Not the slope of accuracy on the ratio: the arm without any generated image has one, too.
    """
    rows = metric(table, CLASSIFICATION, name="accuracy")
    planned = set(points(study, CLASSIFICATION)) if CLASSIFICATION in study.grid.tasks else set()
    for name, curve in _curves(study, CLASSIFICATION):
        pairs = [(point, point._replace(arm=arms.DROPPED.name, source=arms.NOTHING)) for point in curve]
        pairs = [pair for pair in pairs if pair[1] in planned]
        if not pairs:
            continue
        made, removed = (mean([of_run(rows, point) for point in side]) for side in zip(*pairs, strict=True))
        for effect in _change(f"{name}, minus dropped", removed, made, study):
            clean = of_run(rows, curve[0].clean)
            beside = _change(f"{name}, minus all real", clean, made, study)
            yield Case(name, [effect, *beside], falls(effect.interval))


def _beyond_other_real(table: pd.DataFrame, study: Study) -> Cases:
    rows, (arm, source) = metric(table, CLASSIFICATION, name="accuracy"), POOL
    one_draw = arms.POOL not in sources.given(study.real)  # it is a part of the same draw then
    for name, last in _largest(table, study, CLASSIFICATION):
        other = last._replace(arm=arm, source=source)
        for effect in _change(name, of_run(rows, other), of_run(rows, last), study):
            yield Case(name, [effect], Ruling(INCONCLUSIVE, ONE_DRAW) if one_draw else falls(effect.interval))


def _robustness(table: pd.DataFrame, study: Study) -> Cases:
    """The change on the OOD test sets that leave something to lose, and by how much it exceeds the ordinary one."""
    accuracy = metric(table, CLASSIFICATION, name="accuracy")
    for name, last in _largest(table, study, CLASSIFICATION):
        left_out = classification.at_floor(table, study, last.clean)
        rows = classification.over_sets(table, left_out)
        ood, ordinary = (of_run(each, last).minus(of_run(each, last.clean)) for each in (rows, accuracy))
        reasons = [classification.floors_in_words(left_out)] if left_out else []
        if not ood.values:
            if left_out:
                yield Case(last.model, [], Ruling(INCONCLUSIVE, *reasons))
            continue
        changes = {name: ood, f"{name}, minus that on the ordinary test set": ood.minus(ordinary)}
        effects = [Effect(each, scores.interval(study.plot.confidence)) for each, scores in changes.items()]
        verdict, reason = falls_more(*(effect.interval for effect in effects))
        yield Case(last.model, effects, Ruling(verdict, "; ".join([*reasons, *filter(None, [reason])])))


def _captions(table: pd.DataFrame, study: Study) -> Cases:
    for score, label in SCORES.items():
        yield from _against_clean(
            metric(table, captioning.TASK, name=score), study, captioning.TASK, f", {label}", False
        )
    rows = metric(table, captioning.TASK, name="exact_match")
    yield from _against_clean(rows, study, captioning.TASK, ", exact match")


def _variety(table: pd.DataFrame, study: Study) -> Cases:
    return _against_clean(metric(table, "generation", name="recall"), study, "generation")


def _place(table: pd.DataFrame, study: Study) -> Cases:
    """Recall and precision of each generated set minus those of the pool, in every feature space."""
    recall, precision = (
        _intervals(metric(table, "measure", name=name, split="train"), study) for name in ("recall", "precision")
    )
    for source in study.main_sets():
        generated = [arms.GENERATED.name, source]
        spaces = [space for space, *made in recall if made == generated and (space, *POOL) in recall]
        effects: list[Effect] = []
        verdicts, at_ceiling = {}, []
        for space in spaces:
            made, real = (space, arms.GENERATED.name, source), (space, *POOL)
            changes = [difference(values[real], values[made]) for values in (recall, precision)]
            names = (f"{space}, {source}, {name}" for name in ("recall", "precision"))
            effects += map(Effect, names, changes)
            if at_edge(precision[real].mean, precision[made].mean):
                at_ceiling.append(space)
            else:
                verdicts[space] = inside(*changes).verdict
        if spaces:
            yield Case(source, effects, in_all_spaces(verdicts, at_ceiling))


def _prompts(table: pd.DataFrame, study: Study) -> Cases:
    """Over all ratios, as one alone may be where nothing is left to lose; and with the fidelity of both sets."""
    rows, curves = metric(table, CLASSIFICATION, name="accuracy"), _curves(study, CLASSIFICATION)
    for _, plain in curves:
        for name, diverse in curves:
            if not _differ_in_prompts_alone(plain[0], diverse[0], study):
                continue
            name = f"{name} against {plain[0].source}"
            means = [mean([of_run(rows, point) for point in curve]) for curve in (plain, diverse)]
            for effect in _change(name, means[0], means[1], study):
                fidelity, unequal = _fidelity(table, study, plain[0].source, diverse[0].source)
                ceiling = bool(means[0].values) and at_edge(*(each.mean for each in means))
                reason = unequal or ("both accuracies are at their floor or ceiling" if ceiling else "")
                ruling = Ruling(INCONCLUSIVE, reason) if reason else helps(effect.interval)
                yield Case(name, [effect, *fidelity], ruling)


def _differ_in_prompts_alone(plain: Run, diverse: Run, study: Study) -> bool:
    """Whether one set has class names as prompts, the other diverse ones, of one generator at one guidance."""
    first, second = (study.grid.generated[point.source] for point in (plain, diverse))
    alike = plain.model == diverse.model and first.guidance == second.guidance
    alike = alike and study.generate_of(plain.source) == study.generate_of(diverse.source)
    return alike and (first.style, second.style) == ("class_name", "diverse")


def _fidelity(table: pd.DataFrame, study: Study, plain: str, diverse: str) -> tuple[list[Effect], str]:
    """How two sets differ in class fidelity, and why they may not be compared; empty where they may."""
    asked: dict = {"name": "class_fidelity", "split": "train", "confidence": study.plot.confidence}
    found = {source: of_set(table, "measure", source=source, **asked) for source in (plain, diverse)}
    if None in found.values():
        return [], "class fidelity was not measured"
    gap = difference(found[plain], found[diverse])
    effects = [Effect(f"class fidelity of {diverse} minus that of {plain}", gap)]
    low, high = sorted(found, key=lambda source: found[source].mean)
    levels = [f"{100 * found[source].mean:.0f} %" for source in (low, high)]
    if abs(gap.mean) > FIDELITY_MARGIN and (gap.low > 0 or gap.high < 0):
        return effects, f"fewer of the images of {low} show their class ({levels[0]} against {levels[1]})"
    few = f"too few images show their class ({levels[0]} of {low}, {levels[1]} of {high})"
    return effects, few if found[low].mean < FIDELITY else ""


def _spectrum(table: pd.DataFrame, study: Study) -> Cases:
    """Accuracy of the detector by spectrum on every generated set that it was tested on."""
    for tested in study.main_sets():
        for (detector, arm, trained), found in _intervals(
            metric(table, "detect", name="accuracy", split=tested), study
        ).items():
            if (detector, arm) == ("spectrum", arms.GENERATED.name):
                name = f"{tested}, {'trained on it' if trained == tested else f'trained on {trained}'}"
                ruling = Ruling(NOT_TESTABLE, PAINTED) if sources.kind(study.real).FLAT_BACKGROUNDS else weak(found)
                yield Case(name, [Effect(name, found, level=True)], ruling)


def _mitigation(table: pd.DataFrame, study: Study) -> Cases:
    """Gains over no pre-training; of fine-tuning also over as many steps without it."""
    for measure, label in pretraining.MEASURES.items():
        rows = metric(table, pretraining.TASK, name=measure)
        for name, last in _largest(table, study, pretraining.TASK):
            name, trained = f"{name}, {label}", of_run(rows, last)
            baselines = pretraining.baselines(table, measure, clean=last.clean)
            gains = _change(name, baselines.get(UNTRAINED, NOTHING), trained, study)
            beyond = _change(f"{name}, at as many steps in total", baselines.get(LONGER, NOTHING), trained, study)
            for gain in gains:
                as_long = beyond[0].interval if beyond else None
                tuned = measure == pretraining.FINETUNED
                yield Case(
                    name,
                    [gain, *beyond],
                    helps_beyond(gain.interval, as_long) if tuned else helps(gain.interval),
                )


def _curves(study: Study, task: str) -> list[tuple[str, list[Run]]]:
    """The points of each main set of each model of a task, by rising ratio, under the name of both."""
    curves: dict[str, list[Run]] = {}
    sets = study.main_sets()
    for point in points(study, task) if task in study.grid.tasks else []:
        if point.source in sets:
            curves.setdefault(f"{point.model}, {point.source}", []).append(point)
    return list(curves.items())


def _largest(table: pd.DataFrame, study: Study, task: str) -> list[tuple[str, Run]]:
    """The point of the largest ratio of each generated set of each model.

    All arms and sets of a task share their ratios, but for `dropped`: the largest of one is the largest of all.
    """
    return [(f"{name} at {percent(replaced(table, curve[-1]))}", curve[-1]) for name, curve in _curves(study, task)]


def _against_clean(rows: pd.DataFrame, study: Study, task: str, ending: str = "", percent: bool = True) -> Cases:
    """The change from ratio 0 to the largest ratio for every generated set. ending: of the effects' names."""
    for name, last in _largest(rows, study, task):
        for effect in _from_clean(f"{name}{ending}", rows, last, study, percent):
            yield Case(effect.name, [effect], falls(effect.interval))


def _from_clean(name: str, rows: pd.DataFrame, last: Run, study: Study, percent: bool = True) -> list[Effect]:
    return _change(name, of_run(rows, last.clean), of_run(rows, last), study, percent)


def _change(name: str, before: Scores, after: Scores, study: Study, percent: bool = True) -> list[Effect]:
    """The effect `after - before`, paired by seed, in a list; which is empty where they share no seed."""
    change = after.minus(before)
    return [Effect(name, change.interval(study.plot.confidence), percent)] if change.values else []


def _intervals(rows: pd.DataFrame, study: Study) -> dict[tuple[str, str, str], Interval]:
    """The intervals of a measure of image sets, by (model, arm, source)."""
    for row in rows.itertuples():
        if math.isnan(row.low) or math.isnan(row.high):
            raise ValueError(f"{row.task}: {row.metric} of {row.source} has no interval in results.csv: make it again")
    sets = rows.groupby(["model", "arm", "source"], sort=False)
    return {key: over_draws(of, study.plot.confidence) for key, of in sets}


BELOW = "supported when every interval lies entirely below 0, contradicted when every one lies entirely above"
ABOVE = "supported when every interval lies entirely above 0, contradicted when every one lies entirely below"
FIGURE = "read off a published figure"

STATEMENTS = [
    Statement(
        "Generated images hurt classification, the more the larger their share.",
        FIGURE,
        "Test accuracy with generated images minus that with the same real images dropped and not replaced, as the "
        f"mean over all shares below 1, paired by seed: {BELOW}; how both fall with the share decides nothing, as "
        "fewer real images alone let accuracy fall.",
        _beyond_dropped,
        "no classification with both generated images and the arm dropped, the same real images merely removed, in "
        "these results",
    ),
    Statement(
        "Generated images cost classification more than unseen real images.",
        FIGURE,
        "Test accuracy with generated images minus that with unseen real images, at the largest ratio, paired by seed: "
        f"{BELOW}; inconclusive where those are a random part of the same draw as the training images.",
        _beyond_other_real,
        "no classification with both generated and unseen real images in these results",
    ),
    Statement(
        "Accuracy falls on images of another distribution too.",
        "read",
        "Mean accuracy over the OOD test sets, largest ratio minus ratio 0, paired by seed, without the sets on "
        "which the interval at ratio 0 is not entirely above twice chance; and that change minus the one on the "
        "ordinary test set: supported when both intervals lie entirely below 0 in every case, contradicted when the "
        "first lies entirely above in every case.",
        _robustness,
        "no classification of OOD test sets with generated images in these results",
    ),
    Statement(
        "Image captioning gets worse by several measures.",
        "read",
        f"Each of the scores {', '.join(SCORES.values())} and exact match, as far as measured, "
        f"largest ratio minus ratio 0, paired by seed: {BELOW}.",
        _captions,
        "no captioning with generated images in these results",
    ),
    Statement(
        "Image generators trained on generated images make less diverse images.",
        "read",
        f"Recall of their samples, largest ratio minus ratio 0, paired by seed: {BELOW}.",
        _variety,
        "no image generation with generated images in these results",
    ),
    Statement(
        "Generated images lie mostly inside a part of the real distribution.",
        "read",
        "Recall and precision of each generated set minus those of the pool, unseen real images "
        "(a generator and a feature network of the study's own have learned from these), in every feature space that "
        f"was measured: supported when for every set and in every space, {SPACES} at least, recall is lower and "
        f"precision not lower by more than {100 * MARGIN:g} points (a margin of our choice), contradicted when recall "
        "is higher or precision lower by more than that, each with its whole interval; a space where precision of set "
        f"and pool are both {100 * (1 - EDGE):g} % or more decides nothing.",
        _place,
        "no precision and recall of generated images and of the pool in these results",
    ),
    Statement(
        "Diverse prompts help.",
        "read",
        "Test accuracy with diverse prompts minus that with class names as prompts, at the same guidance, as the mean "
        f"over all ratios above 0, paired by seed: {ABOVE}; inconclusive where both accuracies are "
        f"{100 * (1 - EDGE):g} % or more, or class fidelity, the share of images that show their class, is unknown, "
        f"below {100 * FIDELITY:g} %, or differs by more than {100 * FIDELITY_MARGIN:g} points and with its whole "
        "interval (bounds of our choice).",
        _prompts,
        "no model with both diverse and class-name prompts at one guidance in these results",
    ),
    Statement(
        "Detecting generated images by their frequency spectrum is of little use.",
        "read",
        "Balanced accuracy of the detector by spectrum on the set it learned from and on the others (of the same "
        "generator where they share the pipeline): supported when every interval lies entirely below "
        f"{100 * USEFUL:g} %, fewer than three in four classified correctly (a bound of our choice), contradicted when "
        "every one lies entirely above; not testable on painted digits.",
        _spectrum,
        "no detection by spectrum in these results",
    ),
    Statement(
        "Self-supervised pre-training is a mitigation (the paper tried it; its judgment was not seen).",
        "read, secondary source",
        "A mitigation is what still helps: test accuracy after pre-training on the images of the largest ratio minus "
        "that of the same network without pre-training, both given the same real labeled images, by linear probe, and "
        "fine-tuned for as many steps and for as many as pre-training and fine-tuning take together, paired by seed: "
        "supported when every interval lies entirely above 0, contradicted when every one against as many steps of "
        "fine-tuning or by linear probe lies entirely below.",
        _mitigation,
        "no pre-training on generated images in these results",
    ),
]
