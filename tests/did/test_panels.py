"""From tables to a matrix and back: cohorts, what is dropped and said, what is refused."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import NEVER, att_gt, bands, effects, estimate, panel
from pythia_profile.did.errors import (
    DuplicateError,
    EarlyCohortError,
    MissingOutcomeError,
    NoRowsError,
    OptionError,
    UnbalancedPanelError,
)
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import SettingsError, TableError
from pythia_profile.tables import ATT, conform

CHECKPOINTS = [0, 10, 20, 30]
BATCH = 4
ROWS_PER_STEP = 3
STEPS = range(1, 31, 2)
HELD_OUT = 25


def tables(seed=0):
    """Scores and rows of a run of 30 steps of 4 rows: three rows of every other batch."""
    rng = np.random.default_rng(seed)
    row_id = [(g - 1) * BATCH + k for g in STEPS for k in range(ROWS_PER_STEP)]
    steps = [g for g in STEPS for _ in range(ROWS_PER_STEP)]
    ids = [*row_id, *range(1000, 1000 + HELD_OUT)]
    rows = pl.DataFrame(
        {
            "row_id": ids,
            "treatment_step": [*steps, *[None] * HELD_OUT],
            "batch": [*[g - 1 for g in steps], *[None] * HELD_OUT],
            "tokens": [[1, 2]] * len(ids),
            "earlier_exposure": [0.0] * len(ids),
            "domain": ["code", "prose", "law"] * (len(ids) // 3) + ["code"] * (len(ids) % 3),
        },
        schema_overrides={"treatment_step": pl.Int64, "batch": pl.Int64},
    )
    lines = [(c, i) for c in CHECKPOINTS for i in ids]
    scores = pl.DataFrame(
        {
            "suite": "mini",
            "size": "xs",
            "seed": 0,
            "checkpoint": [c for c, _ in lines],
            "row_id": [i for _, i in lines],
            "log_likelihood": rng.normal(size=len(lines)),
            "accuracy": rng.uniform(size=len(lines)),
            "mean_rank": rng.integers(0, 1000, len(lines)),
            "entropy": rng.uniform(size=len(lines)),
        }
    )
    return scores.sample(fraction=1.0, shuffle=True, seed=1), rows.sample(
        fraction=1.0, shuffle=True, seed=2
    )


@pytest.fixture
def scored():
    return tables()


def test_every_score_stands_at_its_row_and_checkpoint(scored):
    scores, rows = scored

    laid = panel(rows, scores, outcome="mean_rank")

    for line in scores.sample(50, seed=0).iter_rows(named=True):
        at = laid.row_id.tolist().index(line["row_id"])
        assert laid.y[at, CHECKPOINTS.index(line["checkpoint"])] == line["mean_rank"]
    assert laid.run == ("mini", "xs", 0)
    assert laid.outcome == "mean_rank"
    assert not laid.notes


def test_cohort_is_the_first_scored_checkpoint_at_or_after_the_step(scored):
    scores, rows = scored

    laid = panel(rows, scores)

    by_row = dict(rows.select("row_id", "treatment_step").iter_rows())
    for row, cohort, cluster in zip(laid.row_id, laid.cohort, laid.cluster, strict=True):
        step = by_row[row]
        if step is None:
            assert (cohort, cluster) == (NEVER, NEVER)
        else:
            assert cohort == min(c for c in CHECKPOINTS if c >= step)
            assert cluster == row // BATCH == step - 1


def test_traits_of_rows_stay_beside_them(scored):
    scores, rows = scored

    laid = panel(rows, scores)

    domain = dict(rows.select("row_id", "domain").iter_rows())
    assert laid.covariates["domain"].to_list() == [domain[row] for row in laid.row_id.tolist()]
    assert "tokens" not in laid.covariates.columns


def test_a_column_of_weights_weighs_the_rows(scored):
    scores, rows = scored
    heavy = rows.with_columns(weight=pl.lit(1.0) + (pl.col("row_id") % 3))

    settings = Estimation(clusters="row")
    laid = panel(heavy, scores, weights="weight")

    np.testing.assert_array_equal(laid.weight, 1.0 + laid.row_id % 3)
    alone = att_gt(laid.y, laid.cohort, laid.checkpoints, weights=laid.weight, units=laid.row_id)
    np.testing.assert_array_equal(effects(laid, settings).att, alone.att)
    with pytest.raises(TableError, match="table 'rows': 'weight' is missing"):
        panel(rows, scores, weights="weight")
    with pytest.raises(OptionError, match="not above 0"):
        effects(panel(heavy.with_columns(weight=0.0), scores, weights="weight"))


def test_a_lazy_table_gives_the_same_panel(scored, tmp_path):
    scores, rows = scored
    scores.write_parquet(tmp_path / "scores.parquet")

    lazy = panel(rows, pl.scan_parquet(tmp_path / "scores.parquet"))

    np.testing.assert_array_equal(lazy.y, panel(rows, scores).y)


def test_lines_that_repeat_a_value_are_dropped_and_counted(scored):
    scores, rows = scored

    laid = panel(rows, pl.concat([scores, scores[:7]]))

    assert laid.notes == ("7 lines dropped: they repeat a row and checkpoint with the same value",)
    np.testing.assert_array_equal(laid.y, panel(rows, scores).y)


def test_lines_that_contradict_each_other_are_an_error(scored):
    scores, rows = scored
    other = scores[5:7].with_columns(pl.col("log_likelihood") + 1)

    with pytest.raises(DuplicateError, match=r"2 lines give a row a second, different 'log_likeli"):
        panel(rows, pl.concat([scores, other]))


def test_a_row_twice_in_the_sample_is_an_error(scored):
    scores, rows = scored

    with pytest.raises(DuplicateError, match="table 'rows': 1 row is duplicated"):
        panel(pl.concat([rows, rows[:1]]), scores)


def test_a_checkpoint_that_is_missing_for_all_rows_is_left_out_not_interpolated(scored):
    scores, rows = scored

    laid = panel(rows, scores.filter(pl.col("checkpoint") != 20))

    assert laid.checkpoints.tolist() == [0, 10, 30]
    steps = dict(rows.select("row_id", "treatment_step").iter_rows())
    late = [steps[row] for row, g in zip(laid.row_id.tolist(), laid.cohort, strict=True) if g == 30]
    assert min(late) == 11


def with_gaps(scores):
    """Row 0 lacks checkpoint 20; rows 1000 and 1001 have no value at 0 and 30."""
    kept = scores.filter(~((pl.col("row_id") == 0) & (pl.col("checkpoint") == 20)))
    hole = ((pl.col("row_id") == 1000) & (pl.col("checkpoint") == 0)) | (
        (pl.col("row_id") == 1001) & (pl.col("checkpoint") == 30)
    )
    return kept.with_columns(
        log_likelihood=pl.when(hole).then(float("nan")).otherwise("log_likelihood")
    )


def test_gaps_are_refused_unless_a_rule_is_chosen(scored):
    scores, rows = scored

    with pytest.raises(UnbalancedPanelError) as caught:
        panel(rows, with_gaps(scores))
    assert str(caught.value).startswith(
        "3 of 70 rows lack 'log_likelihood' at one checkpoint or more (3 gaps, first row 0 at 20)"
    )


def test_balanced_drops_rows_with_gaps_and_says_how_many(scored):
    scores, rows = scored

    laid = panel(rows, with_gaps(scores), Estimation(missing="balanced"))

    whole = panel(rows, scores)
    kept = ~np.isin(whole.row_id, [0, 1000, 1001])
    np.testing.assert_array_equal(laid.y, whole.y[kept])
    np.testing.assert_array_equal(laid.cohort, whole.cohort[kept])
    assert laid.covariates.equals(whole.covariates.filter(pl.Series(kept)))
    assert laid.notes[0].startswith("3 of 70 rows dropped: not scored at every checkpoint")


def test_available_keeps_gaps_as_nan_and_says_so(scored):
    scores, rows = scored

    laid = panel(rows, with_gaps(scores), Estimation(missing="available"))

    whole = panel(rows, scores)
    gaps = np.isnan(laid.y)
    assert gaps.sum() == 3
    np.testing.assert_array_equal(laid.y[~gaps], whole.y[~gaps])
    assert laid.notes[0].endswith("gaps kept")


def test_rows_without_scores_and_scores_without_rows_are_named(scored):
    scores, rows = scored

    laid = panel(rows.filter(pl.col("row_id") != 4 * 2), scores.filter(pl.col("row_id") != 1024))

    assert laid.notes == (
        "1 of 69 sampled rows was never scored",
        "1 of 69 rows dropped: scored but not in the sample",
    )
    assert len(laid) == 68


def test_rows_read_after_the_last_checkpoint_are_controls_until_then(scored):
    scores, rows = scored

    laid = panel(rows, scores.filter(pl.col("checkpoint") < 30))

    late = rows.filter(pl.col("treatment_step") > 20)["row_id"].to_list()
    assert (laid.cohort[np.isin(laid.row_id, late)] == NEVER).all()
    assert laid.notes == (
        "15 rows are read after the last checkpoint, 20; until then they are never-treated, and "
        "serve as controls",
    )


def test_rows_read_before_the_first_checkpoint_are_refused_or_dropped(scored):
    scores, rows = scored
    later = scores.filter(pl.col("checkpoint") >= 10)

    with pytest.raises(EarlyCohortError, match=r"1 of 3 .*\(10; the first checkpoint is 10"):
        estimate(panel(rows, later))
    laid = panel(rows, later, early="drop")
    assert laid.notes == ("15 of 70 rows dropped: read at or before the first checkpoint, 10",)
    assert estimate(laid)["cohort"].unique().sort().to_list() == [20, 30]


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda s, r: (s.drop("entropy"), r, "entropy"), TableError, "'entropy' is missing"),
        (
            lambda s, r: (s, r.drop("treatment_step"), "entropy"),
            TableError,
            "table 'rows': 'treatment_step' is missing",
        ),
        (lambda s, r: (s.to_dict(), r, "entropy"), TableError, "'scores': got dict"),
        (
            lambda s, r: (s.with_columns(seed=pl.Series([0, 1] * (len(s) // 2))), r, "entropy"),
            TableError,
            r"2 runs \(mini xs 0; mini xs 1\), expected one",
        ),
        (lambda s, r: (s[:0], r, "entropy"), TableError, r"0 runs \(none\)"),
        (
            lambda s, r: (s.with_columns(entropy=pl.lit(float("inf"))), r, "entropy"),
            MissingOutcomeError,
            "280 infinite values, first row 0 at checkpoint 0",
        ),
        (
            lambda s, r: (s, r.with_columns(pl.col("row_id") + 5000), "entropy"),
            NoRowsError,
            "none of 70 scored rows is among the 70 rows of the sample",
        ),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used_are_refused(scored, spoil, error, message):
    scores, rows, outcome = spoil(*scored)

    with pytest.raises(error, match=message):
        panel(rows, scores, outcome=outcome)


def test_unknown_rules_are_refused(scored):
    with pytest.raises(SettingsError, match="missing: got 'drop', expected: 'error', 'balanced'"):
        panel(*scored[::-1], Estimation(missing="drop"))
    with pytest.raises(OptionError, match="expected one of error, drop"):
        panel(*scored[::-1], early="keep")
    with pytest.raises(SettingsError, match="clusters: got 'cohort', expected: 'auto', 'row'"):
        estimate(panel(*scored[::-1]), Estimation(clusters="cohort"))


@pytest.mark.parametrize("clusters", ["row", "batch"])
def test_the_table_holds_effects_and_bands_of_every_cell(scored, clusters):
    laid = panel(*scored[::-1])

    table = estimate(laid, Estimation(clusters=clusters, draws=200, seed=4))

    att = att_gt(
        laid.y, laid.cohort, laid.checkpoints, units=laid.row_id,
        clusters=laid.cluster if clusters == "batch" else None,
    )  # fmt: skip
    post, before = bands(att, 200, 4), bands(att, 200, 4, family="placebo")
    assert conform(table, ATT).columns == [*ATT.columns, "family"]
    assert len(table) == 12
    for line in table.iter_rows(named=True):
        i, k = att.cohorts.tolist().index(line["cohort"]), CHECKPOINTS.index(line["checkpoint"])
        assert line["att"] == att.att[i, k]
        assert line["se"] == att.se[i, k]
        assert line["n_treated"] == 15
        assert line["n_control"] == HELD_OUT
        band = {"post": post, "placebo": before}.get(line["family"])
        assert (line["lower"] is None) == (band is None)
        if band:
            assert (line["lower"], line["upper"]) == (band.lower[i, k], band.upper[i, k])
    assert table["family"].value_counts(sort=True).rows() == [
        ("post", 6),
        (None, 3),
        ("placebo", 3),
    ]


def test_effects_say_what_batches_and_base_do_to_their_precision(scored):
    scores, rows = scored
    shared = scores.join(rows.select("row_id", "batch"), on="row_id").with_columns(
        log_likelihood=(pl.col("batch").fill_null(pl.col("row_id")) * pl.col("checkpoint")).sin()
    )

    alike = effects(panel(rows, shared), Estimation(clusters="row"))
    plain = effects(panel(rows, scores))

    advice = "within batches: 1.000; if rows were drawn batch by batch, choose clusters='batch'"
    assert any(advice in note for note in alike.notes)
    by_batch = effects(panel(rows, shared), Estimation(clusters="batch"))
    assert any(note.endswith("within batches: 1.000") for note in by_batch.notes)
    assert any("(median over cells); with rows assigned" in note for note in plain.notes)


def test_effects_of_a_panel_with_gaps_use_what_is_there(scored):
    scores, rows = scored

    some = effects(panel(rows, with_gaps(scores), Estimation(missing="available")))

    whole = effects(panel(rows, scores))
    assert np.isfinite(some.att).all()
    # Three of 280 outcomes are gone: estimates move, by less than a standard error.
    assert 0 < abs(some.att - whole.att).max() < whole.se.max()
