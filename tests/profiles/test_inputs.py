"""What a user hands in: lazy tables, few columns, one name, missing scores; errors of one line."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import effects, panel
from pythia_profile.did.errors import ClusterError, OptionError, UnbalancedPanelError
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import EstimationError, NotFoundError, SettingsError, TableError
from pythia_profile.profiles.agreement import agreement
from pythia_profile.profiles.diagnostics import check
from pythia_profile.profiles.estimates import estimate
from pythia_profile.profiles.profile import profile
from pythia_profile.profiles.study_power import power

STAGES = (estimate, profile, agreement, check)


@pytest.fixture
def tables(planted):
    return planted(lambda *_: 0.3, sizes=("s", "m"), per_cohort=20, never=40)


@pytest.fixture
def gappy(tables):
    """One score of size s is missing: of the first row, at checkpoint 20."""
    rows, scores = tables
    lost = pl.col("row_id").eq(0) & pl.col("checkpoint").eq(20) & pl.col("size").eq("s")
    return rows, scores.filter(~lost)


def table_of(found):
    return found if isinstance(found, pl.DataFrame) else next(iter(tables_of(found)))


def tables_of(found):
    return list(found.tables.values()) if hasattr(found, "tables") else [found.att, found.placebo]


@pytest.mark.parametrize("stage", [*STAGES, power])
def test_lazy_tables_give_what_eager_ones_give(tables, stage):
    eager = stage(*tables)
    lazy = stage(*(table.lazy() for table in tables))

    if stage is power:
        assert lazy.designs.equals(eager.designs)
    else:
        assert table_of(lazy).equals(table_of(eager))


@pytest.mark.parametrize("stage", [*STAGES, power])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r, s: (r, s.drop("suite")), "table 'scores': 'suite' is missing"),
        (lambda r, s: (r, s.drop("size", "row_id")), "'size' is missing; 'row_id' is missing"),
        (lambda r, s: (r.drop("treatment_step"), s), "'rows': 'treatment_step' is missing"),
        (
            lambda r, s: (r, s.to_dict()),
            "table 'scores': got dict, expected a polars or pandas frame",
        ),
        (lambda r, s: (r, s[:0]), "table 'scores': got no lines"),
    ],
)
def test_tables_that_cannot_be_used_are_named(tables, stage, spoil, message):
    with pytest.raises(TableError, match=message) as caught:
        stage(*spoil(*tables))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", STAGES)
def test_one_name_is_as_good_as_a_list_of_one(tables, stage):
    one, listed = (stage(*tables, outcomes=given) for given in ("accuracy", ["accuracy"]))

    assert table_of(one).equals(table_of(listed))
    for wrong in ((), 3, None, ["accuracy", 3]):
        with pytest.raises(OptionError, match=r"outcomes: got .* expected one name or more"):
            stage(*tables, outcomes=wrong)
    with pytest.raises(TableError, match="'loss' is missing"):
        stage(*tables, outcomes="loss")


@pytest.mark.parametrize("stage", STAGES)
def test_rows_need_their_id_and_step_only_unless_clustered(tables, stage):
    rows, scores = tables
    bare = rows.select("row_id", "treatment_step")

    assert len(table_of(stage(bare, scores)))
    with pytest.raises(ClusterError, match="no row names its batch"):
        stage(bare, scores, Estimation(clusters="batch"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_score_is_refused_or_settled_as_chosen(gappy, stage):
    with pytest.raises(UnbalancedPanelError, match=r"1 of 100 rows lacks .* choose missing="):
        stage(*gappy)
    assert len(table_of(stage(*gappy, Estimation(missing="available"))))
    assert len(table_of(stage(*gappy, Estimation(missing="balanced"))))
    with pytest.raises(SettingsError, match="missing: got 'drop', expected: 'error', 'balanced'"):
        stage(*gappy, Estimation(missing="drop"))


def test_dropping_rows_is_estimating_without_them_and_said(gappy):
    rows, scores = gappy
    found = estimate(rows, scores, Estimation(missing="balanced"))
    without = scores.filter((pl.col("row_id") != 0) | (pl.col("size") != "s"))

    alone = estimate(rows, without)

    assert found.att.equals(alone.att)
    assert any("1 of 100 rows dropped: not scored at every" in note for note in found.notes)
    kept = estimate(rows, scores, Estimation(missing="available"))
    assert any("1 gap, first row 0 at 20); gaps kept" in note for note in kept.notes)
    assert kept.att["n_treated"].max() == 20


def test_checks_of_a_panel_with_gaps_say_what_they_leave_out(gappy):
    found = check(*gappy, Estimation(missing="available"))

    assert found.balance.filter(size="s", covariate="base_outcome").is_empty()
    assert len(found.balance.filter(size="m", covariate="base_outcome")) == 3
    assert any("base outcomes left out" in note for note in found.notes)
    assert any("gaps kept" in note for note in found.notes)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("estimator", ["did", "diff", "ancova"])
def test_every_estimator_can_be_asked_for(tables, stage, estimator):
    found = stage(*tables, Estimation(estimator=estimator))

    if stage is check and estimator == "diff":  # bounds are about changes since a base
        assert found.sensitivity.is_empty()
        assert any("sensitivity: left out" in sentence for sentence in found.sentences)
    else:
        assert len(table_of(found))


def test_the_estimator_and_anticipation_are_those_of_the_estimator_over_arrays(tables):
    rows, scores = tables
    found = estimate(rows, scores, Estimation(estimator="diff", anticipation=1, clusters="row"))

    laid = panel(rows.filter(pl.col("treatment_step").ne_missing(10)), scores.filter(size="s"))
    alone = effects(laid, Estimation(estimator="diff", anticipation=1, clusters="row"))
    lines = found.att.filter(size="s").sort("cohort", "checkpoint")
    assert lines["cohort"].unique().to_list() == [20, 30]
    np.testing.assert_array_equal(lines["att"].to_numpy().reshape(2, 4), alone.att)
    assert any("20 of 100 rows dropped: read by checkpoint 10" in note for note in found.notes)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("anticipation", [-1, True, 0.5])
def test_an_anticipation_that_is_no_number_of_checkpoints_is_refused(tables, stage, anticipation):
    with pytest.raises(SettingsError, match="anticipation: got"):
        stage(*tables, Estimation(anticipation=anticipation))


@pytest.mark.parametrize("stage", STAGES)
def test_an_anticipation_runs_and_one_that_leaves_no_cohort_is_named(tables, stage):
    assert len(table_of(stage(*tables, Estimation(anticipation=1))))
    with pytest.raises(EstimationError, match="all rows are never-treated"):
        stage(*tables, Estimation(anticipation=9))


@pytest.mark.parametrize(
    ("batches", "same_as", "said"),
    [
        (lambda rows: rows, "batch", "clusters='auto': by batch, 60 rows are of 15 batches"),
        (
            lambda rows: rows.with_columns(batch=pl.col("row_id") + 0 * pl.col("batch")),
            "row",
            "by row, no two rows share a batch",
        ),
        (lambda rows: rows.drop("batch"), "row", "by row, batches are not known"),
    ],
)
def test_auto_clusters_by_batch_where_rows_share_one(tables, batches, same_as, said):
    rows, scores = batches(tables[0]), tables[1]

    found = estimate(rows, scores)

    assert found.att.equals(estimate(rows, scores, Estimation(clusters=same_as)).att)
    assert any(said in note for note in found.notes)


def test_results_describe_themselves_in_a_few_lines(tables):
    found = estimate(*tables)

    assert repr(found) == str(found)
    assert len(str(found).splitlines()) == 4
    assert "planted s seed 0, log_likelihood: 6 of 6 cells of 3 cohorts, mean 0." in str(found)
    assert len(repr(check(*tables)).splitlines()) == 2
    assert len(repr(power(*tables)).splitlines()) <= 2


def test_estimates_stand_in_for_the_tables_they_were_made_from(tables):
    given = estimate(*tables, Estimation(draws=50))

    assert profile(given).equals(profile(*tables, Estimation(draws=50)))
    assert agreement(given).equals(agreement(*tables, Estimation(draws=50)))
    assert check(given).sentences == check(*tables, Estimation(draws=50)).sentences
    with pytest.raises(TableError, match="got estimates and scores"):
        profile(given, tables[1])
    with pytest.raises(TableError, match="table 'scores': missing; expected rows and scores"):
        profile(tables[0])
    with pytest.raises(NotFoundError, match="no estimate of 'l, accuracy'"):
        given.run("l", "accuracy")


def test_power_of_a_pilot_with_missing_scores_takes_the_rule_that_it_advises(gappy):
    with pytest.raises(UnbalancedPanelError, match="choose missing="):
        power(*gappy)

    assert len(power(*gappy, settings=Estimation(missing="balanced")).designs)


def test_notes_on_which_a_reader_must_act_stand_once(planted):
    """Two sizes lack the same rows' scores: one remark; how rows are clustered is none."""
    rows, scores = planted(lambda *_: 0.5, sizes=("s", "m"), per_cohort=200, never=200)
    kept = scores.filter((pl.col("row_id") != 3) | (pl.col("checkpoint") != 20))

    whole = estimate(rows, scores, Estimation(draws=20))
    found = estimate(rows, kept, Estimation(draws=20, missing="balanced"))

    assert whole.remarks == ()
    (remark,) = found.remarks
    assert remark.startswith("1 of 800 rows dropped: not scored at every checkpoint")
    assert sum("clusters='auto'" in note for note in found.notes) == 2  # of each size, kept
