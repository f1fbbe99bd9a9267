"""Claims: read from a parameter file, written down before the first training, and judged."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from contamination.base import files
from contamination.metrics import multiplicity, two_way
from contamination.report import claims, results, scores
from contamination.study import claims as registered
from contamination.study import study as studies
from hypothesis import given
from hypothesis import strategies as st

CLAIM = {"says": "It hurts.", "model": "resnet", "set": "class-name-7.5", "ratio": 0.5, "expect": "lower"}
IMAGES = 200


@pytest.fixture
def loaded(project):
    """The smoke study with three seeds and claims."""

    def load(*items, seeds=(0, 1, 2)):
        content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
        content["claims"] = list(items)
        content["grid"]["seeds"] = list(seeds)
        (project / "parameters/mine.yaml").write_text(yaml.safe_dump(content))
        return studies.load("parameters/mine.yaml")

    return load


def made_up(study, loss: dict[str, float]) -> pd.DataFrame:
    """Every run with the outcome of each test image; arms lose `loss[arm]` of accuracy per unit of ratio."""
    rng, rows = np.random.default_rng(0), []
    for run in study.runs():
        for seed in run.seeds:
            right = rng.random(IMAGES) < 0.8 - loss.get(run.arm, 0) * run.ratio
            point = dict(zip(scores.POINT, run, strict=False)) | {"replaced": run.ratio, "split": "test"}
            point |= {"seed": seed, "draw": 0, "slots": seed}
            rows.append(point | {"metric": "accuracy", "value": right.mean(), "n": IMAGES, scores.PER_IMAGE: right})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": 0.25}, "claims.1: the grid has no classification of resnet with generated class-name-7.5 at 0.25"),
        ({"model": "vgg"}, "claims.1: the grid has no classification of vgg"),
        ({"set": "other"}, "claims.1: the grid has no classification of resnet with generated other at 0.5"),
        ({"set": None}, "a claim about arm generated needs its set: give one of class-name-7.5"),
        ({"task": "captioning"}, "claims.1.task: captioning is not in grid.tasks"),
        ({"against": "gray"}, "arm 'gray' is not known"),
        ({"margin": 1.5}, "1.margin: 1.5: Input should be less than or equal to 1"),
        ({"expect": "same"}, "1.margin is missing: expect same needs one, such as 0.02 for two points"),
        ({"expect": "worse"}, "1.expect: 'worse'"),
        ({"sys": "x"}, "1.sys: unknown key"),
    ],
)
def test_a_claim_that_cannot_be_measured_is_one_line(loaded, change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        loaded(CLAIM | change)
    assert "\n" not in str(refused.value) and "mine.yaml" in str(refused.value)


def test_a_pool_that_the_grid_does_not_use_cannot_be_claimed_about(project):
    content = yaml.safe_load((project / "parameters/smoke.yaml").read_text())
    content["claims"] = [CLAIM | {"against": "other_real"}]
    content["grid"] |= {"arms": ["generated", "dropped"], "seeds": [0, 1, 2]}
    (project / "parameters/mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"claims\.1: the grid has no .* with other_real pool at 0\.5"):
        studies.load("parameters/mine.yaml")


def test_more_than_five_primaries_and_fewer_than_three_seeds_are_refused(loaded):
    with pytest.raises(ValueError, match="6 claims are primary: 5 at most, the others are exploratory"):
        loaded(*[CLAIM | {"primary": True}] * 6)
    with pytest.raises(ValueError, match=r"claims\.1: classification has fewer than 3 seeds"):
        loaded(CLAIM, seeds=(0, 1))


def test_the_word_paper_asks_for_the_statements_of_the_paper(loaded):
    assert registered.of_paper(loaded("paper", CLAIM)) and not registered.of_paper(loaded(CLAIM))
    assert [claim.says for claim in registered.of_study(loaded("paper", CLAIM))] == ["It hurts."]


def test_claims_are_written_once_and_every_change_keeps_the_earlier_ones(loaded, project):
    study = loaded(CLAIM)
    assert registered.register(study) == [] and registered.register(study) == []
    (first,) = registered.read_versions(study)
    assert first["trainings"] == 0 and "before the first training" in claims.history(study)
    run = study.runs()[0]
    files.write_json(study.layout.run("train", *run) / files.RECORD, {})
    assert registered.register(study) == []  # not changed
    changed = loaded(CLAIM | {"margin": 0.1})
    (line,) = registered.register(changed)
    assert "after 1 trainings" in line and first["hash"] in line
    last = registered.read_versions(changed)[-1]
    assert [each["hash"] for each in registered.read_versions(changed)] == [first["hash"], last["hash"]]
    assert first["hash"] in claims.history(changed) and last["hash"] in claims.history(changed)


def test_a_study_without_claims_writes_nothing(loaded):
    study = loaded()
    assert registered.register(study) == [] and not study.own.claims.exists() and not claims.history(study)


@pytest.mark.parametrize(
    ("loss", "claim", "verdict"),
    [
        ({"generated": 0.8}, {}, claims.SUPPORTED),
        ({"generated": -0.38}, {}, claims.CONTRADICTED),
        ({}, {}, claims.INCONCLUSIVE),
        ({"generated": 0.8}, {"margin": 0.1}, claims.SUPPORTED),
        ({"generated": 0.8}, {"margin": 0.9}, claims.CONTRADICTED),
        ({"generated": 0.8}, {"expect": "not_lower", "margin": 0.1}, claims.CONTRADICTED),
        ({}, {"expect": "not_lower", "margin": 0.3}, claims.SUPPORTED),
        ({}, {"expect": "same", "margin": 0.3}, claims.SUPPORTED),
        ({"dropped": 0.8}, {"against": "dropped", "expect": "higher"}, claims.SUPPORTED),
    ],
)
def test_a_claim_is_judged_by_the_difference_that_it_names(loaded, loss, claim, verdict):
    study = loaded(CLAIM | claim)
    (outcome,) = claims.judge(made_up(study, loss), study)
    assert outcome.verdict == verdict and outcome.estimate.images == IMAGES
    words = claims.in_words(outcome, study)
    assert words["says"] == "It hurts." and "3 seeds" in words["made_of"] and "200 test images" in words["made_of"]


def test_what_has_no_rows_is_not_measured(loaded):
    study = loaded(CLAIM)
    (outcome,) = claims.judge(made_up(study, {}).query("arm != 'generated'"), study)
    assert outcome.verdict == claims.NOT_MEASURED and claims.in_words(outcome, study)["effect"] == ""


def test_one_more_exploratory_claim_changes_no_primary_verdict(loaded):
    first, second = CLAIM | {"primary": True}, CLAIM | {"ratio": 1.0, "primary": True}
    study = loaded(first, second)
    table = made_up(study, {"generated": 0.12})
    before = claims.judge(table, study)
    after = claims.judge(table, loaded(first, CLAIM | {"expect": "higher"}, second))
    assert [(each.verdict, each.p) for each in after[:2]] == [(each.verdict, each.p) for each in before]
    raw = [min(claims.p_values(each.estimate, each.claim)) for each in before]
    assert [each.p for each in before] == multiplicity.holm(raw) and min(each.p for each in before) == 2 * min(raw)


@given(
    st.floats(-0.2, 0.2),
    st.floats(0, 0.1),
    st.sampled_from(["lower", "higher", "not_lower", "not_higher", "same"]),
    st.integers(0, 99),
)
def test_a_claim_is_shown_where_the_interval_lies_on_its_side_entirely(mean, margin, expect, seed):
    rng = np.random.default_rng(seed)
    values = np.sign(rng.normal(mean, 0.5, (5, 60))).astype(float)
    estimate = two_way.estimate(values)
    claim = registered.Claim(**CLAIM | {"expect": expect, "margin": margin})
    low, high = estimate.interval(0.95)[1:3]
    inside = {
        "lower": high < -margin,
        "higher": low > margin,
        "not_lower": low > -margin,
        "not_higher": high < margin,
        "same": low > -margin and high < margin,
    }
    support, contradiction = claims.p_values(estimate, claim)
    assert (support < 0.05) == inside[expect]
    assert not (support < 0.05 and contradiction < 0.05)


def test_the_null_control_counts_what_chance_lets_differ(loaded):
    study = loaded(CLAIM)
    none, all_of_them = (claims.null_control(made_up(study, {"other_real": loss}), study) for loss in (0.0, 0.7))
    assert "of 2 comparisons" in none and ", 0 have" in none and "it would be 0.1" in none
    assert ", 2 have intervals without 0" in all_of_them
    study.data.source, study.data.pool = "folders", "elsewhere"  # which may truly differ
    assert claims.null_control(made_up(study, {}), study) == ""
    study.data.source, study.data.pool = "digits", None
    study.grid.arms.remove("other_real")
    assert claims.null_control(made_up(study, {}), study) == ""


def test_results_without_images_are_judged_over_seeds_alone(loaded):
    study = loaded(CLAIM)
    table = made_up(study, {"generated": 0.8}).drop(columns=scores.PER_IMAGE)
    (outcome,) = claims.judge(table, study)
    assert outcome.estimate.images == 0
    assert "the test images are held fixed" in claims.in_words(outcome, study)["made_of"]
    assert results.metric(table, "classification", name="accuracy").shape[0] == len(table)
