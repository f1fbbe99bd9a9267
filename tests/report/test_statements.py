"""The paper's statements judged by rule: from intervals, and from made-up results of every kind.

Rules that decided for a wrong reason once are here with the case in which they did.
"""

import math

import numpy as np
import pandas as pd
import pytest
from contamination.metrics.intervals import Interval
from contamination.report import results, statements
from contamination.report.statements import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_MEASURED,
    NOT_TESTABLE,
    STATEMENTS,
    SUPPORTED,
    Case,
    Effect,
    Ruling,
    together,
)
from contamination.study import study as studies
from contamination.study.study import Generate
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.medium

DROPPED, OTHER_REAL, ROBUSTNESS, CAPTIONS, VARIETY, PLACE, PROMPTS, SPECTRUM, MITIGATION = range(9)
OF_RUNS = (DROPPED, OTHER_REAL, ROBUSTNESS, CAPTIONS, VARIETY, PROMPTS, MITIGATION)
OPPOSITE = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED, INCONCLUSIVE: INCONCLUSIVE}
RULES = {  # and how many intervals each takes
    statements.falls: 1,
    statements.helps: 1,
    statements.weak: 1,
    statements.inside: 2,
    statements.falls_more: 2,
    statements.helps_beyond: 2,
}
CLASSES, SPACES = ("one", "two", "three", "four", "five"), ("cnn", "pixels", "vit")
ON_TEST = "task == 'classification' and metric == 'accuracy' and split == 'test'"
OWN_ROWS = {
    DROPPED: ON_TEST,
    OTHER_REAL: ON_TEST,
    ROBUSTNESS: "task == 'classification' and metric == 'accuracy'",
    CAPTIONS: "task == 'captioning' and split == 'test'",
    VARIETY: "task == 'generation' and metric == 'recall' and split == 'test'",
    PLACE: "task == 'measure' and metric in ('recall', 'precision') and split == 'train'",
    PROMPTS: f"({ON_TEST}) or metric == 'class_fidelity'",
    SPECTRUM: "task == 'detect' and model == 'spectrum' and arm == 'generated' and metric == 'accuracy' "
    "and split != 'pool'",
    MITIGATION: "task == 'pretraining' and (arm == 'generated' or metric.str.contains('untrained'))",
}


@pytest.fixture
def study(project):
    """Every task, on images of which every statement can be asked: not painted, the pool from elsewhere."""
    study = studies.load("parameters/digits-all.yaml")
    study.data.source, study.data.pool = "folders", "elsewhere"
    return study


def made_up(study, sign: float) -> pd.DataFrame:
    """Results of everything: every statement holds for sign 1, its opposite for -1, and for 0 there is no effect."""
    return pd.DataFrame([*rows_of_runs(study, sign), *rows_of_sets(study, sign)])


def rows_of_runs(study, sign):
    metrics = {
        "classification": ["accuracy"],
        "captioning": ["cider", "bleu_4", "rouge_l", "meteor", "exact_match"],
        "generation": ["recall", "recall_of_real"],
        "pretraining": ["finetuned_accuracy", "probe_accuracy"],
    }
    splits = {"classification": ["test", "noise/1", "noise/2", "sketch"], "generation": ["test", "train"]}
    for run in study.runs():
        point = dict(zip(("task", "model", "arm", "source", "ratio"), run, strict=False)) | {"replaced": run.ratio}
        names = metrics[run.task]
        if run.task == "pretraining" and run.arm == "clean":
            names = [*names, *(f"{name}_untrained" for name in names), "finetuned_accuracy_untrained_longer"]
        for seed, draw, slots in run.replicates:
            point |= {"draw": draw, "slots": slots}
            for name in CLASSES if run.task == "classification" and run.arm == "clean" else ():
                yield row(study, seed=seed, split="test", metric=f"accuracy of {name}", value=0.6, **point)
            for split in splits.get(run.task, ["test"]):
                value = level(study, run, sign, split) + noise(study, run, seed) * (1 if split == "test" else 1.2)
                for name in names:
                    yield row(study, seed=seed, split=split, metric=name, value=value, **point)


def level(study, run, sign: float, split: str = "test") -> float:
    if run.arm != "generated":
        return 0.6
    varied = study.grid.generated[run.source].style == "diverse"
    down = -0.3 if run.task == "pretraining" else 0.2 if varied else 0.3
    more = 1 if split == "test" or run.task != "classification" else 1.5  # robustness suffers more
    return 0.6 - sign * more * down * run.ratio


def noise(study, run, seed: int) -> float:
    """With mean 0 over the seeds, and of another size for every source, so that pairing cancels none of it."""
    return 0.002 * (seed - np.mean(study.grid.of(run.task).seeds)) * len(run.source)


def rows_of_sets(study, sign):
    for source in [*study.grid.generated, "pool"]:
        arm, change = ("other_real", 0.0) if source == "pool" else ("generated", 0.2 * sign)
        mine = {"arm": arm, "source": source, "ratio": 1.0, "replaced": 1.0, "seed": 0, "draw": 0, "slots": 0}
        yield measured(study, "judge", "class_fidelity", 0.97, **mine)
        for name, value in {"recall": 0.7 - change, "precision": 0.8, "recall of three": 0.7}.items():
            for space in SPACES:
                yield measured(study, space, name, value, **mine)
                yield measured(study, space, name, value, "test", **mine)
        for detector in ("spectrum", "network"):
            for split in [*study.grid.generated, "pool"]:
                for name in ("accuracy", "true_positive_rate"):
                    told = {"metric": name, "value": 0.75 - change, "width": 0.05}
                    yield row(study, task="detect", model=detector, split=split, **told, **mine)


def measured(study, model: str, name: str, value: float, split: str = "train", **mine) -> dict:
    return row(study, task="measure", model=model, split=split, metric=name, value=value, width=0.01, **mine)


def changed(table: pd.DataFrame, to: float, where: str) -> pd.DataFrame:
    """The table with the chosen values moved to a mean, each with its interval."""
    chosen = table.eval(where)
    shift = (to - table.loc[chosen, "value"].mean()) * chosen
    return table.assign(**{column: table[column] + shift for column in ("value", "low", "high")})


def above_zero(study) -> list[float]:
    return [ratio for ratio in study.grid.ratios if ratio > 0]


def row(study, value: float, width: float = math.nan, **columns) -> dict:
    ends = {"low": value - width, "high": value + width}
    return {"study": study.study} | columns | {"value": value, "n": 600} | ends


def judged_alone(table: pd.DataFrame, study, index: int) -> statements.Judgement:
    return statements.judge_one(STATEMENTS[index], table, study=study)


def scrambled(table: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """The chosen rows with other numbers, which no longer say anything."""
    shift = pd.Series(np.random.default_rng(0).normal(0, 5, len(table)), table.index).where(chosen, 0)
    return table.assign(**{column: table[column] + shift for column in ("value", "low", "high")})


@pytest.mark.parametrize(("sign", "verdict"), [(1, SUPPORTED), (-1, CONTRADICTED), (0, INCONCLUSIVE)])
def test_every_statement_can_be_supported_contradicted_and_left_open(study, sign, verdict):
    judged = statements.judge(made_up(study, sign), study)
    assert [judgment.verdict for judgment in judged] == [verdict] * len(STATEMENTS)
    assert all(judgment.effects and not judgment.reason for judgment in judged)


def test_a_study_judged_from_its_file_gives_the_same(study, tmp_path):
    table = made_up(study, 1)
    results.write(table, tmp_path / "results.csv")
    read = results.read(tmp_path / "results.csv")
    assert statements.judge(read, study) == statements.judge(table, study)


@pytest.mark.parametrize("index", range(9))
def test_a_statement_reads_its_own_rows_and_no_others(study, index):
    table = made_up(study, 1)
    own = table.eval(OWN_ROWS[index])
    before = judged_alone(table, study, index)
    assert judged_alone(scrambled(table, ~own), study, index) == before
    assert judged_alone(scrambled(table, own), study, index).effects != before.effects


def test_one_seed_decides_nothing(study):
    for selection in (study.grid, *study.grid.tasks.values()):
        selection.seeds = [0]
    judged = statements.judge(made_up(study, 1), study)
    for index in OF_RUNS:
        assert judged[index].verdict == INCONCLUSIVE and not judged[index].reason
        of_runs = [effect for effect in judged[index].effects if "fidelity" not in effect.name]
        assert all("1 seed, no interval" in statements.words(effect)[1] for effect in of_runs)
    assert judged[PLACE].verdict == judged[SPECTRUM].verdict == SUPPORTED


def test_what_was_not_measured_is_called_so_and_says_why(study):
    nothing = made_up(study, 1).iloc[:0]
    for judgment in statements.judge(nothing, study):
        assert judgment.verdict == NOT_MEASURED and not judgment.effects and "in these results" in judgment.reason


@pytest.mark.parametrize(
    ("task", "index"), [("captioning", CAPTIONS), ("generation", VARIETY), ("pretraining", MITIGATION)]
)
def test_a_study_without_a_task_has_no_effect_of_it(study, task, index):
    table = made_up(study, 1)
    del study.grid.tasks[task]
    judged = statements.judge(table[table["task"] != task], study)
    assert [each.verdict == NOT_MEASURED for each in judged] == [each == index for each in range(9)]
    assert judged[index].reason.startswith("no ") and not judged[index].effects


@pytest.mark.parametrize(
    ("without", "index"),
    [
        ("arm == 'dropped' and task == 'classification'", DROPPED),
        ("arm == 'other_real' and task == 'classification'", OTHER_REAL),
        ("task == 'classification' and split != 'test'", ROBUSTNESS),
        ("arm == 'other_real' and task == 'measure'", PLACE),
        ("source == 'diverse-7.5' and task == 'classification'", PROMPTS),
        ("model == 'spectrum'", SPECTRUM),
    ],
)
def test_what_a_statement_compares_with_is_needed(study, without, index):
    judged = statements.judge(made_up(study, 1).query(f"not ({without})"), study)
    assert judged[index].verdict == NOT_MEASURED and judged[index].reason and not judged[index].effects
    assert all(not judgment.reason for each, judgment in enumerate(judged) if each != index)


def test_a_table_from_before_images_were_measured_is_judged_as_far_as_it_goes(study):
    table = pd.DataFrame(rows_of_runs(study, 1)).drop(columns=["low", "high"])
    judged = statements.judge(table, study)
    assert {index for index, judgment in enumerate(judged) if judgment.reason} == {PLACE, PROMPTS, SPECTRUM}


def test_effects_that_differ_leave_a_statement_open(study):
    table = pd.concat([made_up(study, 1).query("model != 'convnext'"), made_up(study, -1).query("model == 'convnext'")])
    judged = judged_alone(table, study, OTHER_REAL)
    assert (judged.verdict, judged.reason) == (INCONCLUSIVE, "supported in 3 of 4 comparisons, contradicted in 1")
    sides = {effect.name: effect.interval.high < 0 for effect in judged.effects}
    assert sides.pop("convnext, class-name-7.5 at 100 %") is False and len(sides) == 3 and all(sides.values())


def test_a_reason_is_headed_by_the_cases_that_it_is_of_where_it_is_not_of_all():
    one, other = (Case(name, [], Ruling(INCONCLUSIVE, "too few")) for name in ("a", "b"))
    third = Case("c", [], Ruling(SUPPORTED))
    assert together([one, other]) == together([one, one]) == (INCONCLUSIVE, "too few")
    assert together([one, other, third]).reason.endswith("contradicted in 0; a and b: too few")


# Generated images, beside the same real ones removed


def test_accuracy_that_falls_as_when_real_images_are_merely_removed_supports_nothing(study):
    """The arm `dropped` once had a steeper slope than generated images, and these were "supported"."""
    table = made_up(study, 1)
    for ratio in above_zero(study)[:-1]:
        for source in ("class-name-7.5", "class-name-2", "diverse-7.5", "none"):
            table = changed(table, 0.6 - 0.3 * ratio, f"{ON_TEST} and ratio == {ratio} and source == '{source}'")
    judged = judged_alone(table, study, DROPPED)
    assert judged.verdict == INCONCLUSIVE
    assert [effect.interval.high < 0 for effect in judged.effects] == [False, True] * 4


def test_accuracy_that_falls_more_slowly_than_without_the_images_is_no_harm_of_theirs(study):
    table = made_up(study, 1)
    for ratio in above_zero(study)[:-1]:
        table = changed(table, 0.6 - 0.5 * ratio, f"{ON_TEST} and arm == 'dropped' and ratio == {ratio}")
    assert judged_alone(table, study, DROPPED).verdict == CONTRADICTED


def test_without_the_arm_dropped_the_harm_is_not_measured(study):
    study.grid.arms = ["generated", "other_real"]
    judged = judged_alone(made_up(study, 1), study, DROPPED)
    assert judged.verdict == NOT_MEASURED and "the arm dropped" in judged.reason


INTERVALS = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(
    lambda values: Interval(*(sorted(values)[i] for i in (1, 0, 2)), 5)
)


# Unseen real images


@pytest.mark.parametrize(("source", "pool"), [("digits", None), ("folders", 0.5)])
@pytest.mark.parametrize("sign", [1, -1, 0])
def test_other_real_images_of_the_same_draw_decide_nothing(study, source, pool, sign):
    study.data.source, study.data.pool = source, pool
    judged = judged_alone(made_up(study, sign), study, OTHER_REAL)
    assert judged.verdict == INCONCLUSIVE and "their cost is zero by construction" in judged.reason
    assert len(judged.effects) == 4


# Out-of-distribution test sets


def test_a_ood_set_on_which_real_images_alone_are_near_chance_is_left_out_and_named(study):
    """Dark digits on bright grounds: 14 % of real ones, chance 10 %, were counted as a loss of robustness."""
    table = made_up(study, 1)
    before = judged_alone(table.query("split != 'sketch'"), study, ROBUSTNESS)
    floor = changed(table, 0.4, "split == 'sketch' and arm == 'clean'")  # of five classes: twice chance
    judged = judged_alone(changed(floor, 0.1, "split == 'sketch' and arm == 'generated'"), study, ROBUSTNESS)
    assert (judged.effects, judged.verdict) == (before.effects, SUPPORTED)
    assert judged.reason.startswith("without sketch, where") and not before.reason


def test_a_set_at_the_floor_of_one_model_counts_for_the_others(study):
    table = changed(made_up(study, 1), 0.2, "split == 'sketch' and arm == 'clean' and model == 'convnext'")
    assert judged_alone(table, study, ROBUSTNESS).reason.startswith("convnext: without sketch, where")


def test_ood_sets_that_are_all_at_the_floor_decide_nothing(study):
    table = changed(made_up(study, 1), 0.2, "task == 'classification' and arm == 'clean' and split != 'test'")
    judged = judged_alone(table, study, ROBUSTNESS)
    assert judged.verdict == INCONCLUSIVE and "noise, sketch" in judged.reason and not judged.effects


def test_a_fall_as_large_as_on_the_ordinary_test_set_says_nothing_of_robustness(study):
    table = made_up(study, 1)
    ordinary = changed(table, 0.1, f"{ON_TEST} and arm == 'generated'")
    judged, steeper = (judged_alone(each, study, ROBUSTNESS) for each in (table, ordinary))
    assert judged.verdict == SUPPORTED and steeper.verdict == INCONCLUSIVE
    assert "it falls, less than on the ordinary test set" in steeper.reason
    assert steeper.effects[::2] == judged.effects[::2]


@given(INTERVALS, INTERVALS)
def test_robustness_suffers_only_where_the_fall_exceeds_the_ordinary_one(change, beyond):
    ruling = statements.falls_more(change, beyond)
    assert (ruling.verdict == SUPPORTED) == (change.high < 0 and beyond.high < 0)
    assert (ruling.verdict == CONTRADICTED) == (change.low > 0)
    assert bool(ruling.reason) == (change.high < 0 <= beyond.high)


# A part of the real distribution, in several feature spaces


def test_a_space_in_which_every_image_is_called_real_does_not_decide(study):
    """The network that calls everything real once decided, where raw pixels say that images lie outside."""
    ceiling = changed(made_up(study, 1), 0.995, "model == 'cnn' and metric == 'precision'")
    rows = ceiling.query("model == 'vit'").assign(model="dino")
    outside = changed(
        pd.concat([ceiling, rows]), 0.3, "model != 'cnn' and metric == 'precision' and arm == 'generated'"
    )
    judged = judged_alone(outside, study, PLACE)
    assert judged.verdict == CONTRADICTED and "ceiling in cnn, which therefore decides nothing" in judged.reason
    assert {effect.name.split(", ")[0] for effect in judged.effects} == {*SPACES, "dino"}


def test_fewer_than_three_spaces_decide_nothing(study):
    judged = judged_alone(made_up(study, 1).query("model != 'vit'"), study, PLACE)
    assert judged.verdict == INCONCLUSIVE
    assert judged.reason == "measured in 2 feature spaces only (cnn: supported here, pixels: supported here)"


def test_precision_at_its_ceiling_in_every_space_decides_nothing(study):
    judged = judged_alone(changed(made_up(study, 1), 0.995, "metric == 'precision'"), study, PLACE)
    assert judged.verdict == INCONCLUSIVE and "ceiling in cnn and pixels and vit" in judged.reason


def test_a_ceiling_that_only_the_real_images_reach_is_evidence(study):
    table = changed(made_up(study, 1), 0.995, "metric == 'precision' and arm == 'other_real'")
    judged = judged_alone(table, study, PLACE)
    assert judged.verdict == CONTRADICTED and not judged.reason


def test_spaces_that_disagree_decide_nothing_and_are_named(study):
    table = changed(made_up(study, 1), 0.3, "model == 'pixels' and metric == 'precision' and arm == 'generated'")
    judged = judged_alone(table, study, PLACE)
    assert judged.verdict == INCONCLUSIVE
    assert judged.reason == (
        "the feature spaces disagree (cnn: supported here, pixels: contradicted here, vit: supported here)"
    )


@given(st.dictionaries(st.sampled_from("abce"), st.sampled_from(list(OPPOSITE))))
def test_feature_spaces_decide_only_where_three_can_and_all_of_those_agree(verdicts):
    ruling = statements.in_all_spaces(verdicts, ["d"])
    decided = ruling.verdict != INCONCLUSIVE
    agree = len(set(verdicts.values())) == 1 and set(verdicts.values()) != {INCONCLUSIVE}
    assert decided == (agree and len(verdicts) >= 3)
    assert "d" in ruling.reason


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_shares_are_at_an_edge_when_all_are_within_a_point_of_the_same_end(shares):
    expected = all(share >= 0.99 for share in shares) or all(share <= 0.01 for share in shares)
    assert statements.at_edge(*shares) == statements.at_edge(*shares[::-1]) == expected


# Diverse prompts


FIDELITY = "metric == 'class_fidelity'"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("plain", "diverse", "reason"),
    [
        (0.97, 0.90, "fewer of the images of diverse-7.5 show their class (90 % against 97 %)"),
        (0.87, 0.74, "fewer of the images of diverse-7.5 show their class (74 % against 87 %)"),
        (0.96, 0.99, "fewer of the images of class-name-7.5 show their class (96 % against 99 %)"),
        (0.90, 0.90, "too few images show their class (90 % of class-name-7.5, 90 % of diverse-7.5)"),
        (0.97, 0.955, ""),
        (0.97, 0.985, ""),
    ],
)
def test_prompts_are_compared_only_where_as_many_images_show_their_class(study, sign, plain, diverse, reason):
    table = changed(made_up(study, sign), plain, f"{FIDELITY} and source == 'class-name-7.5'")
    judged = judged_alone(changed(table, diverse, f"{FIDELITY} and source == 'diverse-7.5'"), study, PROMPTS)
    assert (judged.verdict == INCONCLUSIVE, judged.reason) == (bool(reason), reason)
    assert judged.effects[1].interval.mean == pytest.approx(diverse - plain)


def test_prompts_whose_class_fidelity_is_not_known_are_not_compared(study):
    judged = judged_alone(made_up(study, 1).query(f"not ({FIDELITY} and source == 'diverse-7.5')"), study, PROMPTS)
    assert (judged.verdict, judged.reason) == (INCONCLUSIVE, "class fidelity was not measured")
    assert len(judged.effects) == 1


def test_prompts_that_all_leave_nothing_to_gain_are_not_compared(study):
    table = made_up(study, 1)
    for source, value in (("diverse-7.5", 0.995), ("class-name-7.5", 0.992)):
        for ratio in above_zero(study):
            table = changed(table, value, f"{ON_TEST} and source == '{source}' and ratio == {ratio}")
    judged = judged_alone(table, study, PROMPTS)
    assert (judged.verdict, judged.reason) == (INCONCLUSIVE, "both accuracies are at their floor or ceiling")


# Detection by spectrum


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_detection_of_painted_digits_by_spectrum_decides_nothing(study, sign):
    study.data.source = "digits"
    judged = judged_alone(made_up(study, sign), study, SPECTRUM)
    assert judged.verdict == NOT_TESTABLE and "one flat corner" in judged.reason
    assert len(judged.effects) == len(study.grid.generated) ** 2


# Pre-training, beside as many steps without it


def test_pre_training_that_gains_by_its_number_of_steps_alone_is_no_mitigation(study):
    longer = "metric == 'finetuned_accuracy_untrained_longer'"
    for value, how in ((0.9, "not shown to be better"), (0.95, "worse")):
        judged = judged_alone(changed(made_up(study, 1), value, longer), study, MITIGATION)
        assert judged.verdict == INCONCLUSIVE
        assert f"fine-tuned: {how} than without pre-training at the same total number of steps" in judged.reason


def test_pre_training_without_a_baseline_of_as_many_steps_is_left_open(study):
    table = made_up(study, 1).query("metric != 'finetuned_accuracy_untrained_longer'")
    judged = judged_alone(table, study, MITIGATION)
    assert judged.verdict == INCONCLUSIVE and judged.reason.endswith("total number of steps was not measured")
    assert [effect.name.split(", ")[2] for effect in judged.effects] == ["fine-tuned", "linear probe"]


def test_the_probe_is_judged_without_a_number_of_steps(study):
    effects = judged_alone(made_up(study, 1), study, MITIGATION).effects
    assert [effect.name.removeprefix("mae, class-name-7.5 at 100 %, ") for effect in effects] == [
        "fine-tuned",
        "fine-tuned, at as many steps in total",
        "linear probe",
    ]


@given(INTERVALS, INTERVALS)
def test_pre_training_mitigates_only_where_it_beats_both_baselines(gain, beyond):
    verdict = statements.helps_beyond(gain, beyond).verdict
    assert (verdict == SUPPORTED) == (gain.low > 0 and beyond.low > 0)
    assert (verdict == CONTRADICTED) == (gain.high < 0)


# What is compared, and how it is printed


def test_prompts_are_compared_at_the_same_guidance_alone(study):
    effect, _ = judged_alone(made_up(study, 1), study, PROMPTS).effects
    assert effect.name == "resnet, diverse-7.5 against class-name-7.5"
    assert effect.interval.mean == pytest.approx(0.1 * np.mean(above_zero(study)))
    study.grid.generated["diverse-7.5"].guidance = 2.0
    effect, _ = judged_alone(made_up(study, 1), study, PROMPTS).effects
    assert effect.name.endswith("against class-name-2")


def test_prompts_are_compared_for_the_same_generator_alone(study):
    sets = study.grid.generated
    sets["diverse-7.5"].generate = Generate(steps=99)
    assert judged_alone(made_up(study, 1), study, PROMPTS).effects == []
    sets["class-name-7.5"].generate = Generate(steps=99)
    assert len(judged_alone(made_up(study, 1), study, PROMPTS).effects) == 2


def test_the_harm_is_the_mean_over_the_ratios_that_both_arms_have(study):
    table = made_up(study, 1)
    on_test = table.eval(ON_TEST)
    table.loc[on_test & (table["arm"] == "generated"), "value"] = 0.6 - 0.3 * table["ratio"] ** 2
    table.loc[on_test & (table["arm"] == "dropped"), "value"] = 0.6 - 0.1 * table["ratio"]
    ratios = np.array([ratio for ratio in study.grid.ratios if 0 < ratio < 1])
    expected = np.mean(0.1 * ratios - 0.3 * ratios**2)
    for effect in judged_alone(table, study, DROPPED).effects[::2]:
        assert (effect.interval.mean, effect.interval.n) == pytest.approx((expected, 5))


def test_effects_are_differences_at_the_largest_ratio(study):
    judged = statements.judge(made_up(study, 1), study)
    means = {index: {round(effect.interval.mean, 6) for effect in judged[index].effects} for index in range(9)}
    assert means[OTHER_REAL] == {-0.3, -0.2}  # diverse prompts lose less here
    assert means[ROBUSTNESS] == {-0.45, -0.3, -0.15, -0.1}
    assert means[CAPTIONS] == means[VARIETY] == {-0.3} and means[MITIGATION] == {0.3}
    assert means[PLACE] == {-0.2, 0.0} and means[SPECTRUM] == {0.55}
    study.grid.tasks["captioning"].ratios = [0, 0.4]
    table = made_up(study, 1).query("task != 'captioning' or ratio <= 0.4")
    captions = judged_alone(table, study, CAPTIONS).effects
    assert {effect.name.split(", ")[1] for effect in captions} == {"caption-7.5 at 40 %"}


def test_a_detector_is_judged_on_its_own_set_and_on_those_it_has_not_seen(study):
    names = [effect.name for effect in judged_alone(made_up(study, 1), study, SPECTRUM).effects]
    assert len(names) == len(set(names)) == len(study.grid.generated) ** 2
    assert "diverse-7.5, trained on it" in names and "diverse-7.5, trained on class-name-2" in names


def test_scores_of_captions_that_a_table_lacks_are_left_out(study):
    table = made_up(study, 1).query("metric not in ('meteor', 'exact_match')")
    labels = [effect.name.split(", ")[-1] for effect in judged_alone(table, study, CAPTIONS).effects]
    assert labels == ["CIDEr", "BLEU-4", "ROUGE-L"]


def test_scores_of_captions_are_plain_numbers_and_right_captions_a_share(study):
    effects = judged_alone(made_up(study, 1), study, CAPTIONS).effects
    assert [effect.percent for effect in effects] == [False, False, False, False, True]


def test_a_measure_of_images_without_an_interval_is_refused(study):
    table = made_up(study, 1)
    table.loc[table["task"] == "measure", "low"] = math.nan
    with pytest.raises(ValueError, match=r"recall of class-name-7\.5 has no interval in results\.csv: make it again"):
        statements.judge(table, study)


def test_effects_are_printed_in_their_own_units():
    found = Interval(-0.123, -0.2, -0.05, 5)
    assert statements.words(Effect("", found)) == ("−12.3 points", "−20.0 to −5.0, n=5")
    assert statements.words(Effect("", found, percent=False)) == ("−0.12", "−0.20 to −0.05, n=5")
    share = Effect("", Interval(0.623, 0.58, 0.661, 600), level=True)
    assert statements.words(share) == ("62.3 %", "58.0 to 66.1, n=600")


def test_no_number_of_the_paper_is_printed_and_its_source_is_named():
    assert not any(letter.isdigit() for statement in STATEMENTS for letter in statement.sentence)
    assert {statement.source for statement in STATEMENTS} == {"read", "read, secondary source", statements.FIGURE}
    assert all(statement.words.index(".") == len(statement.words) - 1 for statement in STATEMENTS)  # one sentence


@pytest.mark.parametrize(
    ("recall", "precision", "verdict"),
    [
        ((-0.3, -0.1), (0.0, 0.1), SUPPORTED),
        ((-0.3, -0.1), (-0.04, 0.0), SUPPORTED),  # lower, and by less than the margin
        ((-0.3, -0.1), (-0.06, 0.0), INCONCLUSIVE),
        ((-0.3, -0.1), (-0.2, -0.1), CONTRADICTED),
        ((-0.1, 0.1), (0.0, 0.1), INCONCLUSIVE),
        ((0.1, 0.3), (0.0, 0.1), CONTRADICTED),
        ((math.nan, math.nan), (0.0, 0.1), INCONCLUSIVE),
        ((-0.3, -0.1), (math.nan, math.nan), INCONCLUSIVE),
    ],
)
def test_images_lie_inside_a_part_when_they_cover_less_and_leave_it_no_more(recall, precision, verdict):
    ruling = statements.inside(*(Interval(sum(ends) / 2, *ends, 600) for ends in (recall, precision)))
    assert ruling == (verdict, "")


ENDS = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted), min_size=1, max_size=4)


@given(ENDS, st.sampled_from([(statements.falls, 0), (statements.helps, 0), (statements.weak, statements.USEFUL)]))
def test_mirrored_effects_give_the_opposite_verdict(ends, rule_about):
    rule, center = rule_about
    effects = [Interval((low + high) / 2, low, high, 5) for low, high in ends]
    effects = [Interval(*(center + value for value in effect[:3]), 5) for effect in effects]
    mirrored = [Interval(*(2 * center - effect[i] for i in (0, 2, 1)), 5) for effect in effects]
    verdict, opposite = (verdict_of([rule(each) for each in intervals]) for intervals in (effects, mirrored))
    assert opposite == OPPOSITE[verdict]


def verdict_of(rulings) -> str:
    return together([Case("", [], ruling) for ruling in rulings]).verdict


@given(st.tuples(*[st.lists(st.floats(-1, 1), min_size=4, max_size=4).map(sorted)] * 2), st.sampled_from(list(RULES)))
def test_a_narrower_interval_never_takes_a_verdict_back(ends, rule):
    wide, narrow = (
        rule(*(Interval((inner[1] + inner[2]) / 2, inner[i], inner[3 - i], 5) for inner in ends[: RULES[rule]])).verdict
        for i in (0, 1)
    )
    assert wide in (narrow, INCONCLUSIVE)


@given(st.lists(st.sampled_from([*OPPOSITE, NOT_TESTABLE]), min_size=1))
def test_a_verdict_is_that_of_every_case(verdicts):
    expected = verdicts[0] if len(set(verdicts)) == 1 else INCONCLUSIVE
    assert verdict_of(map(Ruling, verdicts)) == expected
    assert verdict_of(map(Ruling, verdicts[::-1])) == expected


def test_one_more_set_in_a_study_changes_no_verdict(study):
    """Only the sets that the parameter file names are judged."""
    assert [name for name, _ in statements._curves(study, "classification")] == [
        f"{model}, {source}"
        for model in study.models_of("classification")
        for source in study.plot.sets
        if model in (study.grid.generated[source].models or [model])
    ]
    study.plot.sets = study.plot.sets[:1]
    assert {name.split(", ")[1] for name, _ in statements._curves(study, "classification")} == {study.plot.sets[0]}
    study.plot.sets = []
    assert study.main_sets()[0] == "class-name-7.5"
