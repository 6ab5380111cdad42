"""Checks of a study: what was planted shows in tables and sentences; what cannot be run is said."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import aggregate, effects, panel
from pythia_profile.did.settings import Estimation
from pythia_profile.profiles.diagnostics import check
from pythia_profile.tables import CHECKS, conform


def steady(size, cohort, checkpoint):
    """0.4 for the small size, 0.6 for the large one, a tenth more for the latest cohort."""
    return {"s": 0.4, "m": 0.6}[size] + 0.1 * (cohort == 30)


@pytest.fixture
def checked(planted):
    rows, scores = planted(steady, sizes=("s", "m"), per_cohort=100, never=200)
    return rows, scores, check(rows, scores, Estimation(clusters="row"))


def test_every_table_keeps_its_contract(checked):
    _, _, found = checked

    assert list(found.tables) == [table.name for table in CHECKS]
    for table in CHECKS:
        conform(found.tables[table.name], table)
        assert len(found.tables[table.name])


def test_a_large_effect_stands_longer_than_none(planted):
    large, none = (
        check(*planted(lambda *_, gain=gain: gain, per_cohort=100, never=200)).sensitivity
        for gain in (2.0, 0.0)
    )

    mean = pl.col("cohort").is_null() & (pl.col("effect") == "average")
    for restriction in ("relative_magnitudes", "smoothness"):
        chosen = mean & (pl.col("restriction") == restriction)
        value = "breakdown_m" if restriction == "smoothness" else "breakdown_m_bar"
        assert large.filter(chosen)[value][0] > 10 * none.filter(chosen)[value][0]
    assert large.filter(mean)["att"][0] == pytest.approx(2, abs=4 * large.filter(mean)["se"][0])


def test_intervals_widen_with_the_size_of_the_violation(checked):
    _, _, found = checked

    for _, lines in found.sensitivity.group_by("size", "effect", "cohort", "restriction"):
        width = (lines["upper"] - lines["lower"]).to_numpy()[
            np.argsort(lines["m"].fill_null(lines["m_bar"]))
        ]
        assert (np.diff(width) > 0).all()


def test_larger_minus_smaller_size_is_the_planted_difference_on_matched_rows(checked):
    rows, scores, found = checked

    line = found.contrasts.filter(between="sizes", kind="instantaneous").row(0, named=True)

    assert (line["group_a"], line["group_b"]) == ("m", "s")
    assert line["att"] == pytest.approx(0.2, abs=4 * line["se"])
    assert line["lower"] < 0.2 < line["upper"]
    # both sizes' rows share their levels, which cancel: by hand, from the rows' own differences
    y = {
        size: scores.filter(size=size).sort("row_id", "checkpoint")["log_likelihood"]
        .to_numpy().reshape(-1, 4) for size in ("m", "s")
    }  # fmt: skip
    step = rows["treatment_step"].fill_null(-1).to_numpy()
    apart = np.diff(y["m"] - y["s"], axis=1)
    treated = [apart[step == g, k] for k, g in enumerate((10, 20, 30))]
    assert line["att"] == pytest.approx(
        np.mean([x.mean() for x in treated]) - apart[step < 0].mean(), abs=1e-12
    )
    variance = sum(x.var() / 100 for x in treated) / 9
    variance += apart[step < 0].mean(axis=1).var() / 200
    assert line["se"] == pytest.approx(variance**0.5, abs=1e-12)


def test_late_minus_early_cohorts_is_the_planted_difference(checked):
    _, _, found = checked

    lines = found.contrasts.filter(between="cohorts", kind="instantaneous")

    assert lines["group_a"].to_list() == ["s, cohorts 30 to 30", "m, cohorts 30 to 30"]
    assert lines["group_b"].to_list() == ["s, cohorts 10 to 10", "m, cohorts 10 to 10"]
    assert ((lines["att"] - 0.1).abs() < 4 * lines["se"]).all()


def test_a_faulty_checkpoint_is_the_only_suspect():
    """Checkpoint 30 holds weights of step 50, which had read what cohorts 40 and 50 read."""
    rng = np.random.default_rng(0)
    checkpoints = np.arange(0, 90, 10)
    step = np.append(np.repeat(checkpoints[1:], 60), np.full(200, -1))
    rows = pl.DataFrame(
        {
            "row_id": np.arange(len(step)),
            "treatment_step": pl.Series(step).set(pl.Series(step < 0), None),
            "batch": pl.Series(np.arange(len(step))).set(pl.Series(step < 0), None),
        }
    )
    weights_of = np.where(checkpoints == 30, 50, checkpoints)

    def scores(steps):
        read = (step[:, None] > 0) & (step[:, None] <= steps)
        y = 0.01 * steps + 0.5 * read + 0.1 * rng.normal(size=(len(step), len(checkpoints)))
        return pl.DataFrame(
            {
                "suite": "s", "size": "s", "seed": 0,
                "checkpoint": np.tile(checkpoints, len(step)),
                "row_id": np.repeat(np.arange(len(step)), len(checkpoints)),
                "log_likelihood": y.ravel(),
            }
        )  # fmt: skip

    fine, found = check(rows, scores(checkpoints)), check(rows, scores(weights_of))

    assert fine.leave_one_out.filter("suspect").is_empty()
    assert found.leave_one_out.filter("suspect")["checkpoint"].to_list() == [30]
    assert any(
        "checkpoints that stand out before reading: 30;" in sentence for sentence in found.sentences
    )


def test_covariates_that_differ_between_treated_and_controls_are_named(planted):
    rows, scores = planted(steady, per_cohort=100, never=200)
    treated = pl.col("treatment_step").is_not_null()
    other = rows.with_columns(domain=pl.when(treated).then(pl.lit("code")).otherwise(pl.lit("law")))

    found = check(other, scores)

    assert any("differ from the never-treated in 'domain'" in line for line in found.sentences)
    assert not any("'earlier_exposure'" in line for line in found.sentences)
    assert set(found.balance["covariate"]) == {
        "base_outcome",
        "domain",
        "earlier_exposure",
        "length",
    }


def test_alternatives_stand_beside_our_estimates(checked):
    """With one effect for all cohorts and times the regression is unbiased; the naive is not."""
    rows, scores, found = checked
    ours = effects(panel(rows, scores.filter(size="m")), Estimation(clusters="row"))

    of_size = found.alternatives.filter(size="m")
    twfe = of_size.filter(estimator="twfe").row(0, named=True)
    naive = of_size.filter(estimator="naive_double_demeaned", checkpoints_since=0).row(
        0, named=True
    )

    assert twfe["att"] == pytest.approx(aggregate(ours, "overall").estimate[0])
    assert twfe["estimate"] == pytest.approx(twfe["att"], abs=0.05)
    event = of_size.filter(estimator="event_study")
    curve = dict(zip(*(aggregate(ours, "event_time").labels, ours_of(ours)), strict=True))
    for line in event.iter_rows(named=True):
        assert line["att"] == pytest.approx(curve[10 * line["checkpoints_since"]])
    assert naive["estimate"] < naive["att"] - 0.1
    assert naive["se"] is None


def ours_of(att):
    return aggregate(att, "event_time").estimate


def test_without_never_treated_rows_the_rest_is_checked_and_the_note_says_so(planted):
    rows, scores = planted(steady, per_cohort=100)
    treated = rows.filter(pl.col("treatment_step").is_not_null())

    found = check(treated, scores, Estimation(control="not_yet"))

    assert found.alternatives.is_empty()
    assert any("they need a balanced panel with never-treated rows" in n for n in found.notes)
    assert len(found.sensitivity)
    assert str(found)


def test_an_uneven_grid_keeps_the_cohorts_with_the_usual_base(planted):
    rows, scores = planted(steady, per_cohort=100, never=200)
    moved = scores.with_columns(pl.col("checkpoint").replace(0, 4))

    found = check(rows, moved)

    assert any("leaves out 1 of 3 cohorts" in note for note in found.notes)
    assert len(found.sensitivity.filter(pl.col("cohort").is_null()))


def test_sizes_with_other_checkpoints_are_not_contrasted(planted):
    rows, scores = planted(steady, sizes=("s", "m"))
    fewer = scores.filter((pl.col("size") == "s") | (pl.col("checkpoint") != 10))

    found = check(rows, fewer)

    assert found.contrasts.filter(between="sizes").is_empty()
    assert "m and s have other checkpoints and are not contrasted" in found.notes
