"""Estimands beside the published ones: planted effects by event time, by stratum, exact tests."""

import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import NotFoundError, SettingsError
from pythia_profile.profiles.estimands import EstimandPlan, estimands
from pythia_profile.profiles.estimates import estimate

TIMES = EstimandPlan(event_times=(10,), start=0, horizon=20, reassignments=199)


def fading(size, cohort, checkpoint):
    """0.4 at the cohort's checkpoint, half of it ten steps later, a quarter after twenty."""
    return 0.4 * 0.5 ** ((checkpoint - cohort) / 10)


def one(table, estimand, **at):
    return table.filter(pl.col("estimand") == estimand, **at).row(0, named=True)


def test_effects_by_event_time_are_those_planted(planted):
    rows, scores = planted(fading, per_cohort=300, never=600, noise=0.05)

    found = estimands(rows, scores, plan=TIMES)

    # The planted rows of a cohort are read up to ten steps before its checkpoint, so the effect ten
    # steps after a row is read lies between the cohort's at 0 and at 10 steps.
    assert 0.2 - 0.02 < one(found, "effect_at")["att"] < 0.4 + 0.02
    mean = one(found, "persistence")
    assert (mean["start"], mean["end"]) == (0, 20)
    assert 0.1 < mean["att"] < 0.4
    # the run ends at step 30: of the cohorts 10, 20 and 30 one is followed for twenty steps
    assert mean["cohorts"] == 1
    assert one(found, "effect_at")["cohorts"] == 2  # and two for ten
    assert one(found, "overall")["cohorts"] == 3
    assert one(found, "overall, without the first cohort")["cohorts"] == 2
    assert one(found, "no_effect")["cohorts"] is None


def test_the_efficient_means_agree_with_the_published_ones_and_are_as_precise(planted):
    rows, scores = planted(fading, per_cohort=300, never=600, noise=0.05)

    found = estimands(rows.with_columns(kind=pl.lit("a")), scores, plan=EstimandPlan(column="kind"))

    for kind in ("instantaneous", "overall"):
        ours, usual = one(found, f"efficient {kind}"), one(found, kind, stratum="a")
        assert ours["att"] == pytest.approx(usual["att"], abs=4 * usual["se"])
        assert ours["se"] <= 1.01 * usual["se"]  # its coefficients contain did's


def test_strata_are_told_apart_and_their_difference_has_the_error_of_both(planted):
    rows, scores = planted(fading, per_cohort=300, never=600, noise=0.05)
    strong = rows.filter(pl.col("row_id") % 2 == 0)["row_id"]
    rows = rows.with_columns(kind=pl.when(pl.col("row_id") % 2 == 0).then(1).otherwise(0))
    read = rows.select("row_id", read=pl.col("treatment_step").is_not_null())
    extra = pl.col("row_id").is_in(strong.to_list()) & pl.col("read") & (pl.col("checkpoint") == 30)
    moved = scores.join(read, on="row_id").with_columns(
        pl.col("log_likelihood") + pl.when(extra).then(0.3).otherwise(0.0)
    )

    by_row = Estimation(clusters="row")  # a batch here holds rows of both strata
    found = estimands(rows, moved, by_row, plan=EstimandPlan(column="kind", reassignments=0))

    both = [one(found, "overall", stratum=name) for name in ("0", "1")]
    gap = one(found, "overall", stratum="1 minus 0")
    assert gap["att"] == pytest.approx(both[1]["att"] - both[0]["att"])
    assert gap["se"] == pytest.approx((both[0]["se"] ** 2 + both[1]["se"] ** 2) ** 0.5)
    # Planted: +.3 at the last checkpoint only, half of the six cells after treatment.
    assert gap["att"] == pytest.approx(0.15, abs=4 * gap["se"])


def test_exact_tests_find_an_effect_and_none_before_it(planted):
    rows, scores = planted(fading, per_cohort=100, never=200, noise=0.05)

    found = estimands(rows, scores, plan=TIMES)

    assert one(found, "no_effect")["p_value"] == 1 / 200
    assert one(found, "placebo")["p_value"] > 0.01


def test_what_a_run_does_not_allow_is_left_out_with_a_warning(planted, caplog):
    rows, scores = planted(fading)

    found = estimands(rows, scores, plan=EstimandPlan(event_times=(10_000,), reassignments=0))

    assert "effect_at" not in found["estimand"]
    assert "none of" in caplog.text


def test_bad_settings_are_one_line(planted):
    rows, scores = planted(fading)

    with pytest.raises(NotFoundError, match="no column of the rows 'kin'"):
        estimands(rows, scores, plan=EstimandPlan(column="kin"))
    with pytest.raises(SettingsError, match=r"event_times.0: got -1"):
        EstimandPlan(event_times=(-1,))


@pytest.mark.parametrize("words", [["--persistence", "9:3"], ["--event-times", "a"]])
def test_the_verb_refuses_odd_words_in_one_line(words, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        app(["estimands", str(tmp_path), *words])

    assert end.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_overall_effects_are_those_of_rs_aggregates_and_of_a_part_of_the_cohorts(planted):
    rows, scores = planted(fading, per_cohort=60, never=90)

    found = estimands(rows, scores, plan=EstimandPlan(reassignments=0))

    # by hand from the cells: 3 + 2 + 1 of cohorts 10, 20 and 30, each of 60 rows
    cells = estimate(rows, scores).att.filter(pl.col("checkpoint") >= pl.col("cohort"))
    by_time = cells.group_by(pl.col("checkpoint") - pl.col("cohort")).agg(pl.col("att").mean())
    means = {
        "overall": cells["att"].mean(),
        "overall, without the first cohort": cells.filter(cohort=20)["att"].sum() / 3
        + cells.filter(cohort=30)["att"].sum() / 3,
        "R's simple": cells["att"].mean(),
        "R's dynamic": by_time["att"].mean(),
        "R's group": cells.group_by("cohort").agg(pl.col("att").mean())["att"].mean(),
        "R's calendar": cells.group_by("checkpoint").agg(pl.col("att").mean())["att"].mean(),
    }
    for name, mean in means.items():
        assert one(found, name)["att"] == pytest.approx(mean, abs=1e-12)
    assert one(found, "R's simple")["se"] > one(found, "overall")["se"]  # shares are estimated
