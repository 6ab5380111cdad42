"""Streaming gives the estimate of all rows at once, whatever the blocks; bands by simulation."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import effects, estimate, panel, stream_effects, stream_estimate
from pythia_profile.did.errors import NoRowsError, OptionError, UnbalancedPanelError
from pythia_profile.did.settings import Estimation
from pythia_profile.did.stream import _blocks
from pythia_profile.tables import ATT, conform
from tests.did.test_panels import tables, with_gaps

ROUNDING = 1e-12  # sums of outcomes near 1 in another order


@pytest.fixture
def stored(tmp_path):
    """Return scores as one file a checkpoint, and rows."""
    scores, rows = tables()
    for (checkpoint,), part in scores.group_by("checkpoint"):
        folder = tmp_path / f"checkpoint={checkpoint}"
        folder.mkdir()
        part.drop("checkpoint").write_parquet(folder / "part.parquet")
    return pl.scan_parquet(tmp_path / "**/*.parquet", hive_partitioning=True), rows, scores


@pytest.mark.parametrize("block", [1, 7, 16, 1000])
@pytest.mark.parametrize("clusters", ["row", "batch"])
@pytest.mark.parametrize("control", ["never", "not_yet", "both"])
def test_blocks_give_the_estimate_of_all_rows(stored, block, clusters, control):
    lazy, rows, scores = stored
    settings = {"clusters": clusters, "control": control}

    streamed = stream_effects(lazy, rows, Estimation(**settings), block=block)

    whole = effects(panel(scores, rows), Estimation(**settings))
    np.testing.assert_allclose(streamed.att, whole.att, atol=ROUNDING)
    np.testing.assert_allclose(streamed.se, whole.se, atol=ROUNDING)
    np.testing.assert_allclose(streamed.df, whole.df, rtol=1e-9)
    np.testing.assert_array_equal(streamed.n_control, whole.n_control)


def test_blocks_never_cut_a_batch():
    _, rows = tables()

    for size in (1, 4, 10):
        blocks = _blocks(rows, size)
        batches = [set(b["batch"].drop_nulls().to_list()) for b in blocks]
        assert sum(map(len, batches)) == len(set.union(*batches))
        assert sorted(r for b in blocks for r in b["row_id"]) == sorted(rows["row_id"])
        assert max(map(len, blocks)) <= size + 2  # a batch has three rows


def test_simulated_bands_agree_with_the_multiplier_bootstrap(stored):
    lazy, rows, scores = stored

    streamed = stream_estimate(lazy, rows, Estimation(draws=20_000, seed=3))

    whole = estimate(panel(scores, rows), Estimation(draws=20_000, seed=3))
    assert conform(streamed, ATT).columns == whole.columns
    for side in ("lower", "upper"):
        ours, theirs = (t.filter(pl.col("family") == "post")[side] for t in (streamed, whole))
        # Critical values of 20,000 draws, of independent draws: within 2 %.
        half = (whole["upper"] - whole["lower"]).max() / 2
        assert (ours - theirs).abs().max() < 0.03 * half


def test_rows_with_gaps_are_dropped_and_counted_in_each_block(stored, tmp_path):
    _, rows, scores = stored
    gappy = with_gaps(scores)

    with pytest.raises(UnbalancedPanelError, match="1 of"):
        stream_effects(gappy.lazy(), rows, block=10)
    streamed = stream_effects(gappy.lazy(), rows, Estimation(missing="balanced"), block=10)

    whole = effects(panel(gappy, rows, Estimation(missing="balanced")))
    np.testing.assert_allclose(streamed.att, whole.att, atol=ROUNDING)
    assert sum("not scored at every checkpoint" in note for note in streamed.notes) == 2
    assert streamed.notes[1].startswith("rows 1 to 26: 1 of 12 rows dropped")


def test_what_needs_all_rows_at_once_is_refused(stored):
    lazy, rows, _ = stored

    with pytest.raises(OptionError, match="need all rows at once"):
        stream_effects(lazy, rows, Estimation(estimator="ancova"))
    with pytest.raises(OptionError, match="need all rows at once"):
        stream_effects(lazy, rows, Estimation(missing="available"))
    with pytest.raises(OptionError, match="block: got 0"):
        stream_effects(lazy, rows, block=0)
    with pytest.raises(NoRowsError, match="none of the 70 rows of the sample was scored"):
        stream_effects(lazy, rows.with_columns(pl.col("row_id") + 9999))
