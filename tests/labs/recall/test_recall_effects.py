"""Recall as an outcome of the core: what reading a row does to whether it is given back."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import att_gt
from pythia_profile.did.settings import Estimation
from pythia_profile.profiles.estimates import estimate
from pythia_profile.scoring.run import score
from pythia_profile.scoring.settings import Scoring
from pythia_profile.tables import NEVER

COHORTS, CHECKPOINTS = np.array([10, 20, 30]), np.array([0, 10, 20, 30])
EFFECT, DECAY = 0.3, 0.1


def recalled(rng, per_cohort=150, never=300):
    """Whole matches of rows: a trend of all, and a planted share that only reading brings.

    A row that was read is given back, beside what the trend does, with probability .3 at its cohort
    and .1 less at each checkpoint after it: the effect is that share of those not given back anyway
    at .05, .1, .15 and .2.
    """
    cohort = np.concatenate([np.repeat(COHORTS, per_cohort), np.full(never, NEVER)])
    anyway = rng.random((len(cohort), 4)) < np.array([0.05, 0.1, 0.15, 0.2])
    since = (CHECKPOINTS[None] - cohort.astype(float)[:, None]) / 10
    share = np.where((cohort[:, None] != NEVER) & (since >= 0), EFFECT - DECAY * since, 0.0)
    return cohort, (anyway | (rng.random(anyway.shape) < share)).astype(float)


def truth(cohort, checkpoint):
    return (EFFECT - DECAY * (checkpoint - cohort) / 10) * (1 - 0.05 * (1 + checkpoint / 10))


def test_a_planted_effect_on_whole_matches_is_recovered_with_its_interval():
    rng, hits, errors = np.random.default_rng(0), 0, []
    for _ in range(150):
        cohort, full = recalled(rng)
        found = att_gt(full, cohort, CHECKPOINTS)
        for g in range(3):
            for c in range(g + 1, 4):
                error = found.att[g, c] - truth(COHORTS[g], CHECKPOINTS[c])
                hits += abs(error) <= 1.96 * found.se[g, c]
                errors.append(error)

    # 900 cells, six of a panel that share controls: about 225 independent ones, three errors
    assert hits / 900 == pytest.approx(0.95, abs=0.044)
    # a cell's error is .04; the same count of independent ones
    assert np.mean(errors) == pytest.approx(0, abs=0.008)


def test_it_stands_beside_the_effect_on_likelihood(planted):
    rows, scores = planted(lambda *_: 0.4, per_cohort=160, never=300)
    _, full = recalled(np.random.default_rng(1), per_cohort=160)
    wide = pl.DataFrame(full, schema=[str(c) for c in CHECKPOINTS]).with_row_index("row_id")
    column = wide.cast({"row_id": pl.Int64}).unpivot(
        index="row_id", variable_name="checkpoint", value_name="recall_32_32_full"
    )
    scores = scores.join(column.cast({"checkpoint": pl.Int64}), on=["row_id", "checkpoint"])

    found = estimate(
        rows, scores, Estimation(), outcomes=["log_likelihood", "recall_32_32_full"]
    ).att
    instantaneous = found.filter(pl.col("cohort") == pl.col("checkpoint"))

    for line in instantaneous.iter_rows(named=True):
        expected = (
            0.4
            if line["outcome"] == "log_likelihood"
            else truth(line["cohort"], line["checkpoint"])
        )
        # six cells; four standard errors
        assert line["att"] == pytest.approx(expected, abs=4 * line["se"])
    assert instantaneous["outcome"].n_unique() == 2


@pytest.mark.slow
def test_trained_models_have_both_effects_and_one_pass_knows_the_first_token(tiny_suite, tiny_rows):
    scores = score(tiny_suite, tiny_rows, settings=Scoring(scorers=("recall_8_8", "exact_8_1")))

    found = estimate(
        tiny_rows, scores, Estimation(), outcomes=["log_likelihood", "recall_8_8_share"]
    ).att

    assert found.group_by("outcome").len()["len"].n_unique() == 1
    assert found["se"].is_finite().all()
    first = scores["recall_8_8_leading"] >= 1
    assert first.cast(pl.Float64).equals(scores["exact_8_1_full"], check_names=False)
    assert first.any()


def test_a_size_that_gives_nothing_back_whole_is_left_out_and_the_others_stay(planted, caplog):
    rows, scores = planted(lambda *_: 0.4, sizes=("s", "l"), per_cohort=40)
    share = pl.when(pl.col("size") == "l").then(pl.col("accuracy").round()).otherwise(0.0)
    scores = scores.with_columns(recall_32_32_full=share)

    found = estimate(rows, scores, Estimation(), outcomes=["log_likelihood", "recall_32_32_full"])

    kept = [(one.panel.run[1], one.panel.outcome) for one in found.runs]
    assert kept == [
        ("s", "log_likelihood"),
        ("l", "log_likelihood"),
        ("l", "recall_32_32_full"),
    ]
    assert "left out: s: outcome 'recall_32_32_full': at every checkpoint" in caplog.text
    alone = estimate(rows, scores.drop("recall_32_32_full"), Estimation())
    assert found.att.filter(pl.col("outcome") == "log_likelihood").equals(alone.att)
