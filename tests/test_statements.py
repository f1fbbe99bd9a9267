"""The paper's statements judged by rule: from intervals, and from made-up results of every kind."""

import math

import numpy as np
import pandas as pd
import pytest
from contamination import results, statements
from contamination import study as studies
from contamination.statements import CONTRADICTED, NOT_DECIDED, STATEMENTS, SUPPORTED, Effect, together
from contamination.statistics import Interval
from contamination.study import Generate
from hypothesis import given
from hypothesis import strategies as st

SLOPE, OTHER_REAL, ROBUSTNESS, CAPTIONS, VARIETY, PLACE, PROMPTS, SPECTRUM, REMEDY = range(9)
OF_RUNS = (SLOPE, OTHER_REAL, ROBUSTNESS, CAPTIONS, VARIETY, PROMPTS, REMEDY)
OPPOSITE = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED, NOT_DECIDED: NOT_DECIDED}
ON_TEST = "task == 'classification' and metric == 'accuracy' and split == 'test'"
OWN_ROWS = {
    SLOPE: ON_TEST,
    OTHER_REAL: ON_TEST,
    ROBUSTNESS: "task == 'classification' and metric == 'accuracy' and split != 'test'",
    CAPTIONS: "task == 'captioning' and split == 'test'",
    VARIETY: "task == 'generation' and metric == 'recall' and split == 'test'",
    PLACE: "task == 'measure' and metric in ('recall', 'precision') and split == 'train'",
    PROMPTS: ON_TEST,
    SPECTRUM: "task == 'detect' and model == 'spectrum' and arm == 'generated' and metric == 'accuracy' "
    "and split != 'pool'",
    REMEDY: "task == 'pretraining' and (arm == 'generated' or metric.str.endswith('untrained'))",
}


@pytest.fixture
def study(project):
    return studies.load("parameters/digits-all.yaml")


def made_up(study, sign: float) -> pd.DataFrame:
    """Results of everything: every statement holds for sign 1, its opposite for -1, and for 0 there is no effect."""
    return pd.DataFrame([*rows_of_runs(study, sign), *rows_of_sets(study, sign)])


def rows_of_runs(study, sign):
    metrics = {
        "classification": ["accuracy", "accuracy of three"],
        "captioning": ["cider", "bleu_4", "rouge_l", "meteor", "right_all"],
        "generation": ["recall", "recall_of_real"],
        "pretraining": ["finetuned_accuracy", "probe_accuracy"],
    }
    splits = {"classification": ["test", "noise/1", "noise/2", "sketch"], "generation": ["test", "train"]}
    for run in study.runs():
        point = dict(zip(("task", "model", "arm", "source", "ratio"), run, strict=False))
        names = metrics[run.task]
        if run.task == "pretraining" and run.arm == "clean":
            names = [*names, *(f"{name}_untrained" for name in names)]
        for seed in run.seeds:
            for split in splits.get(run.task, ["test"]):
                value = level(study, run, sign) + noise(study, run, seed)
                for name in names:
                    yield row(study, seed=seed, split=split, metric=name, value=value, **point)


def level(study, run, sign: float) -> float:
    if run.arm != "generated":
        return 0.6
    varied = study.grid.generated[run.source].style == "varied"
    down = -0.3 if run.task == "pretraining" else 0.2 if varied else 0.3
    return 0.6 - sign * down * run.ratio


def noise(study, run, seed: int) -> float:
    """With mean 0 over the seeds, and of another size for every source, so that pairing cancels none of it."""
    return 0.002 * (seed - np.mean(study.grid.of(run.task).seeds)) * len(run.source)


def rows_of_sets(study, sign):
    for source in [*study.grid.generated, "pool"]:
        arm, change = ("other_real", 0.0) if source == "pool" else ("generated", 0.2 * sign)
        mine = {"arm": arm, "source": source, "ratio": 1.0, "seed": 0}
        for name, value in {"recall": 0.7 - change, "precision": 0.8, "recall of three": 0.7}.items():
            for split in ("train", "test"):
                yield row(study, task="measure", model="cnn", split=split, metric=name, value=value, width=0.02, **mine)
        for detector in ("spectrum", "network"):
            for split in [*study.grid.generated, "pool"]:
                for name in ("accuracy", "hit_rate"):
                    told = {"metric": name, "value": 0.75 - change, "width": 0.05}
                    yield row(study, task="detect", model=detector, split=split, **told, **mine)


def row(study, value: float, width: float = math.nan, **columns) -> dict:
    ends = {"low": value - width, "high": value + width}
    return {"study": study.study} | columns | {"value": value, "n": 600} | ends


def scrambled(table: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """The chosen rows with other numbers, which no longer say anything."""
    shift = pd.Series(np.random.default_rng(0).normal(0, 5, len(table)), table.index).where(chosen, 0)
    return table.assign(**{column: table[column] + shift for column in ("value", "low", "high")})


@pytest.mark.parametrize(("sign", "verdict"), [(1, SUPPORTED), (-1, CONTRADICTED), (0, NOT_DECIDED)])
def test_every_statement_can_be_supported_contradicted_and_left_open(study, sign, verdict):
    judged = statements.judge(made_up(study, sign), study)
    assert [judgement.verdict for judgement in judged] == [verdict] * len(STATEMENTS)
    assert all(judgement.effects and not judgement.reason for judgement in judged)


def test_a_study_judged_from_its_file_gives_the_same(study, tmp_path):
    table = made_up(study, 1)
    results.write(table, tmp_path / "results.csv")
    read = results.read(tmp_path / "results.csv")
    assert statements.judge(read, study) == statements.judge(table, study)


@pytest.mark.parametrize("index", range(9))
def test_a_statement_reads_its_own_rows_and_no_others(study, index):
    table = made_up(study, 1)
    own = table.eval(OWN_ROWS[index])
    before = statements.judge(table, study)[index]
    assert statements.judge(scrambled(table, ~own), study)[index] == before
    assert statements.judge(scrambled(table, own), study)[index].effects != before.effects


def test_one_seed_decides_nothing(study):
    for selection in (study.grid, *study.grid.tasks.values()):
        selection.seeds = [0]
    judged = statements.judge(made_up(study, 1), study)
    for index in OF_RUNS:
        assert judged[index].verdict == NOT_DECIDED and not judged[index].reason
        assert all("one seed, no interval" in statements.words(effect)[1] for effect in judged[index].effects)
    assert judged[PLACE].verdict == judged[SPECTRUM].verdict == SUPPORTED


def test_nothing_measured_is_not_decided_and_says_why(study):
    nothing = made_up(study, 1).iloc[:0]
    for judgement in statements.judge(nothing, study):
        assert judgement.verdict == NOT_DECIDED and not judgement.effects and "in these results" in judgement.reason


@pytest.mark.parametrize(
    ("task", "index"), [("captioning", CAPTIONS), ("generation", VARIETY), ("pretraining", REMEDY)]
)
def test_a_study_without_a_task_has_no_effect_of_it(study, task, index):
    table = made_up(study, 1)
    del study.grid.tasks[task]
    judged = statements.judge(table[table["task"] != task], study)
    assert [each.verdict == NOT_DECIDED for each in judged] == [each == index for each in range(9)]
    assert judged[index].reason.startswith("no ") and not judged[index].effects


@pytest.mark.parametrize(
    ("without", "index"),
    [
        ("arm == 'other_real' and task == 'classification'", OTHER_REAL),
        ("task == 'classification' and split != 'test'", ROBUSTNESS),
        ("arm == 'other_real' and task == 'measure'", PLACE),
        ("source == 'varied-7.5' and task == 'classification'", PROMPTS),
        ("model == 'spectrum'", SPECTRUM),
    ],
)
def test_what_a_statement_compares_with_is_needed(study, without, index):
    judged = statements.judge(made_up(study, 1).query(f"not ({without})"), study)
    assert judged[index].reason and not judged[index].effects
    assert all(not judgement.reason for each, judgement in enumerate(judged) if each != index)


def test_a_table_from_before_images_were_measured_is_judged_as_far_as_it_goes(study):
    table = pd.DataFrame(rows_of_runs(study, 1)).drop(columns=["low", "high"])
    judged = statements.judge(table, study)
    assert {index for index, judgement in enumerate(judged) if judgement.reason} == {PLACE, SPECTRUM}


def test_effects_that_differ_leave_a_statement_open(study):
    table = pd.concat([made_up(study, 1).query("model != 'convnext'"), made_up(study, -1).query("model == 'convnext'")])
    judged = statements.judge(table, study)[SLOPE]
    assert judged.verdict == NOT_DECIDED
    sides = {effect.name: effect.interval.high < 0 for effect in judged.effects}
    assert sides.pop("convnext, class-name-7.5") is False and len(sides) == 3 and all(sides.values())


def test_prompts_are_compared_at_the_same_guidance_alone(study):
    (effect,) = statements.judge(made_up(study, 1), study)[PROMPTS].effects
    assert effect.name == "resnet, varied-7.5 against class-name-7.5"
    above_zero = [ratio for ratio in study.grid.ratios if ratio > 0]
    assert effect.interval.mean == pytest.approx(0.1 * np.mean(above_zero))
    study.grid.generated["varied-7.5"].guidance = 2.0
    (effect,) = statements.judge(made_up(study, 1), study)[PROMPTS].effects
    assert effect.name.endswith("against class-name-2")


def test_prompts_are_compared_for_the_same_generator_alone(study):
    sets = study.grid.generated
    sets["varied-7.5"].generate = Generate(steps=99)
    assert statements.judge(made_up(study, 1), study)[PROMPTS].effects == []
    sets["class-name-7.5"].generate = Generate(steps=99)
    assert len(statements.judge(made_up(study, 1), study)[PROMPTS].effects) == 1


def test_the_slope_is_that_of_least_squares_over_all_ratios(study):
    table = made_up(study, 1)
    curved = table.eval(ON_TEST) & (table["arm"] == "generated")
    table.loc[curved, "value"] = 0.6 - 0.3 * table["ratio"] ** 2
    table.loc[table.eval(ON_TEST) & (table["arm"] == "clean"), "value"] = 0.6
    ratios = np.array(study.grid.ratios)
    expected = ((ratios - ratios.mean()) * -0.3 * ratios**2).sum() / ((ratios - ratios.mean()) ** 2).sum()
    for effect in statements.judge(table, study)[SLOPE].effects:
        assert effect.interval == pytest.approx((expected, expected, expected, 5))


def test_effects_are_differences_at_the_largest_ratio(study):
    judged = statements.judge(made_up(study, 1), study)
    means = {index: {round(effect.interval.mean, 6) for effect in judged[index].effects} for index in range(9)}
    assert means[OTHER_REAL] == means[ROBUSTNESS] == {-0.3, -0.2}  # varied prompts lose less here
    assert means[CAPTIONS] == means[VARIETY] == {-0.3} and means[REMEDY] == {0.3}
    assert means[PLACE] == {-0.2, 0.0} and means[SPECTRUM] == {0.55}
    study.grid.tasks["captioning"].ratios = [0, 0.4]
    table = made_up(study, 1).query("task != 'captioning' or ratio <= 0.4")
    captions = statements.judge(table, study)[CAPTIONS].effects
    assert {effect.name.split(", ")[1] for effect in captions} == {"caption-7.5 at 40 %"}


def test_a_detector_is_judged_on_its_own_set_and_on_those_it_has_not_seen(study):
    names = [effect.name for effect in statements.judge(made_up(study, 1), study)[SPECTRUM].effects]
    assert len(names) == len(set(names)) == len(study.grid.generated) ** 2
    assert "varied-7.5, trained on it" in names and "varied-7.5, trained on class-name-2" in names


def test_scores_of_captions_that_a_table_lacks_are_left_out(study):
    table = made_up(study, 1).query("metric not in ('meteor', 'right_all')")
    labels = [effect.name.split(", ")[-1] for effect in statements.judge(table, study)[CAPTIONS].effects]
    assert labels == ["CIDEr", "BLEU-4", "ROUGE-L"]


def test_scores_of_captions_are_plain_numbers_and_right_captions_a_share(study):
    effects = statements.judge(made_up(study, 1), study)[CAPTIONS].effects
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
        ((-0.3, -0.1), (-0.06, 0.0), NOT_DECIDED),
        ((-0.3, -0.1), (-0.2, -0.1), CONTRADICTED),
        ((-0.1, 0.1), (0.0, 0.1), NOT_DECIDED),
        ((0.1, 0.3), (0.0, 0.1), CONTRADICTED),
        ((math.nan, math.nan), (0.0, 0.1), NOT_DECIDED),
        ((-0.3, -0.1), (math.nan, math.nan), NOT_DECIDED),
    ],
)
def test_images_lie_inside_a_part_when_they_cover_less_and_leave_it_no_more(recall, precision, verdict):
    assert statements.inside(*(Interval(sum(ends) / 2, *ends, 600) for ends in (recall, precision))) == verdict


ENDS = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted), min_size=1, max_size=4)


@given(ENDS, st.sampled_from([(statements.falls, 0), (statements.helps, 0), (statements.weak, statements.USEFUL)]))
def test_mirrored_effects_give_the_opposite_verdict(ends, rule_about):
    rule, center = rule_about
    effects = [Interval((low + high) / 2, low, high, 5) for low, high in ends]
    effects = [Interval(*(center + value for value in effect[:3]), 5) for effect in effects]
    mirrored = [Interval(*(2 * center - effect[i] for i in (0, 2, 1)), 5) for effect in effects]
    assert together([rule(each) for each in mirrored]) == OPPOSITE[together([rule(each) for each in effects])]


@given(st.tuples(*[st.lists(st.floats(-1, 1), min_size=4, max_size=4).map(sorted)] * 2), st.sampled_from(STATEMENTS))
def test_a_narrower_interval_never_takes_a_verdict_back(ends, statement):
    count = 2 if statement.decide is statements.inside else 1
    wide, narrow = (
        statement.decide(*(Interval((inner[1] + inner[2]) / 2, inner[i], inner[3 - i], 5) for inner in ends[:count]))
        for i in (0, 1)
    )
    assert wide in (narrow, NOT_DECIDED)


@given(st.lists(st.sampled_from(list(OPPOSITE))))
def test_a_verdict_is_that_of_every_effect(verdicts):
    expected = next((each for each in OPPOSITE if verdicts and set(verdicts) == {each}), NOT_DECIDED)
    assert together(verdicts) == expected
    assert together(verdicts[::-1]) == expected
