"""Estimands by rows' own event times: planted curves, and the same answer on three grids."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import (
    NEVER,
    aggregate,
    att_gt,
    bands,
    effect_at,
    effects_by_own_step,
    event_time_curve,
    panel,
    persistence,
)
from pythia_profile.did.errors import EmptyFamilyError, NoRowsError, OptionError
from pythia_profile.did.settings import Estimation

LAST = 256
SETTINGS = Estimation(clusters="row")


def ramp(since):
    """Adam's momentum: the effect grows for 15 steps after the row was read, then fades."""
    return np.where(since < 0, 0.0, 0.3 * np.clip(since / 15, 0, 1) * np.exp(-since / 200))


def decay(since):
    return np.where(since < 0, 0.0, 0.15 * np.exp(-since / 40) + 0.05)


def laid_out(effect, every, rows=3200, noise=0.03, seed=0):
    """Rows read at steps 1 … 128, outcomes at every `every`-th step up to 256."""
    rng = np.random.default_rng(seed)
    step = np.append(1 + np.arange(rows) % 128, np.full(rows, NEVER))
    grid = np.arange(0, LAST + 1, every)
    since = np.where(step[:, None] == NEVER, -1, grid - step[:, None])
    y = rng.normal(size=(2 * rows, 1)) + effect(since) + noise * rng.normal(size=since.shape)
    ids = np.arange(2 * rows)
    named = {"suite": "s", "size": "m", "seed": 0}
    scores = pl.concat(
        pl.DataFrame({"row_id": ids, "log_likelihood": y[:, k]}).with_columns(
            checkpoint=pl.lit(int(c)), **{name: pl.lit(value) for name, value in named.items()}
        )
        for k, c in enumerate(grid)
    )
    known = pl.Series(step).replace(NEVER, None)
    return panel(pl.DataFrame({"row_id": ids, "treatment_step": known}), scores, SETTINGS)


def test_the_curve_by_own_event_time_recovers_a_momentum_ramp():
    att = effects_by_own_step(laid_out(ramp, every=8), SETTINGS, parts=4)

    curve = event_time_curve(att, [-16, -8, 0, 2, 4, 6, 8, 10, 12, 14, 16, 32, 64])

    times = np.array(curve.labels)
    # Finer cohorts hold two neighboring steps: their mean differs from the ramp by below .001.
    assert abs(curve.estimate - ramp(np.where(times < 0, -1, times))).max() < 0.006 + 4 * max(
        curve.se
    )
    band = bands(curve, 200, family="post")
    assert band.size == (times >= 0).sum()
    first, later = curve.estimate[(times >= 0) & (times < 4)], curve.estimate[(times > 12)]
    assert first.max() < later.min()  # what the grid calls instantaneous mixes all of these


def test_persistence_is_the_same_on_three_grids_and_the_published_mean_is_not():
    found, published = [], []
    for every in (8, 16, 32):
        laid = laid_out(decay, every, seed=every)
        att = effects_by_own_step(laid, SETTINGS)
        found.append(persistence(att, 32, 128))
        published.append(
            aggregate(att_gt(laid.y, laid.cohort, laid.checkpoints), "instantaneous").only([None])
        )
    truth = decay(np.arange(32, 128, 0.01)).mean()
    for one in found:
        # Straight lines over 32 steps of a decay of 40 lie .001 above it.
        assert one.estimate[0] == pytest.approx(truth, abs=0.0015 + 4 * one.se[0])
    first, last = published[0], published[-1]
    assert first.estimate[0] - last.estimate[0] > 8 * np.hypot(first.se[0], last.se[0])


def test_the_effect_at_one_event_time_is_on_the_line_between_checkpoints():
    grid, cohort = np.array([0, 10, 20, 40]), np.repeat([10, 20, NEVER], 4)
    y = np.random.default_rng(0).normal(size=(12, 4))
    att = att_gt(y, cohort, grid)

    got = effect_at(att, 15)

    expected = [
        0.75 * att.att[0, 2] + 0.25 * att.att[0, 3],
        0.25 * att.att[1, 2] + 0.75 * att.att[1, 3],
    ]
    assert got.estimate[0] == pytest.approx(np.mean(expected))
    area = [
        (att.att[0, 1] + att.att[0, 2]) / 2 * 10 + (att.att[0, 2] + expected[0]) / 2 * 5,
        (att.att[1, 2] + expected[1]) / 2 * 15,
    ]
    assert persistence(att, 0, 15).estimate[0] == pytest.approx(np.mean(area) / 15)


def test_finer_cohorts_have_the_same_controls_and_bases():
    laid = laid_out(decay, every=32, rows=256)
    whole = att_gt(laid.y, laid.cohort, laid.checkpoints)

    finer = effects_by_own_step(laid, SETTINGS, parts=2)

    assert len(finer.cohorts) == 2 * len(whole.cohorts)
    assert any("4 cohorts split by rows' own steps" in note for note in finer.notes)
    pairs = finer.att.reshape(len(whole.cohorts), 2, -1)
    np.testing.assert_allclose(pairs.mean(axis=1), whole.att, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: persistence(a, 0, 500), EmptyFamilyError, "none of 2 cohorts is followed"),
        (lambda a: persistence(a, 5, 5), OptionError, "expected 0 <= start < horizon"),
        (lambda a: effect_at(a, -1), OptionError, "event_time: got -1"),
        (lambda a: event_time_curve(a, [3]), OptionError, "two or more ascending"),
        (lambda a: event_time_curve(a, [3, 4]), EmptyFamilyError, "no cell lies from 3 to 4"),
    ],
)
def test_bad_input_is_its_own_error(call, error, message):
    y = np.random.default_rng(0).normal(size=(12, 4))
    att = att_gt(y, np.repeat([10, 20, NEVER], 4), np.array([0, 10, 20, 40]))

    with pytest.raises(error, match=message):
        call(att)


def test_a_panel_without_steps_cannot_be_split():
    laid = replace(laid_out(decay, every=64, rows=128), step=None)

    with pytest.raises(NoRowsError, match="own steps"):
        effects_by_own_step(laid)
    with pytest.raises(OptionError, match="parts: got 0"):
        effects_by_own_step(laid, parts=0)
