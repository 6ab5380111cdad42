"""Two other packages agree: diff-diff and differences, in effects, standard errors, aggregates.

Both call "not yet treated" the union of rows of later cohorts and never-treated rows, which is our
`both`; where there are no never-treated rows it is our `not_yet`.
"""

import numpy as np
import pytest

from pythia_profile.did import NEVER, aggregate, att_gt, overall_of
from pythia_profile.did.errors import OptionError
from tests.did.peers import by_diff_diff, by_differences, overall_by_differences
from tests.did.planted import Planted, planted

pytestmark = pytest.mark.slow

EFFECT = 1e-10  # the same sums in another order
ERROR = 1e-8  # roots of sums of squares, centered in another order

PANELS = {
    "even": {"cohorts": (10, 20, 30), "checkpoints": (0, 10, 20, 30, 40)},
    "gaps": {"cohorts": (8, 16, 64), "checkpoints": (0, 1, 2, 4, 8, 16, 32, 64, 128), "rows": 9},
    "many": {
        "cohorts": tuple(range(2, 12)),
        "checkpoints": tuple(range(13)),
        "rows": 6,
        "never": 5,
        "noise": 1.0,
    },
}
RANDOM = [f"random {seed}" for seed in range(4)]
SIDES = {
    "never": ("never", "never_treated", True),
    "both": ("both", "not_yet_treated", True),
    "not_yet": ("not_yet", "not_yet_treated", False),
}


def random_panel(name, with_never):
    """Return a panel of unequal cohorts."""
    panel = drawn(int(name[-1])) if name in RANDOM else planted(seed=len(name), **PANELS[name])
    if with_never:
        return panel
    kept = panel.cohort != NEVER
    return Planted(
        panel.y[kept], panel.cohort[kept], panel.checkpoints, panel.cluster[kept], panel.truth
    )


def drawn(seed):
    """Cohorts of 2 to 40 rows at some of 5 to 9 checkpoints, outcomes far from 0."""
    rng = np.random.default_rng(seed)
    checkpoints = np.cumsum(rng.integers(1, 9, rng.integers(5, 10)))
    cohorts = np.sort(rng.choice(checkpoints[1:], rng.integers(2, len(checkpoints)), replace=False))
    sizes = rng.integers(2, 41, len(cohorts))
    cohort = np.append(np.repeat(cohorts, sizes), np.full(rng.integers(3, 60), NEVER))
    y = rng.normal(-100, 5, (len(cohort), 1)) + rng.normal(size=(len(cohort), len(checkpoints)))
    order = rng.permutation(len(cohort))
    truth = np.zeros((len(cohorts), len(checkpoints)))
    return Planted(y[order], cohort[order], checkpoints, np.full(len(cohort), NEVER), truth)


@pytest.mark.parametrize("name", [*PANELS, *RANDOM])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("base", ["universal", "varying"])
@pytest.mark.parametrize("peer", [by_diff_diff, by_differences])
def test_peers_have_the_same_effects_and_standard_errors(name, side, base, peer):
    ours, theirs, with_never = SIDES[side]
    panel = random_panel(name, with_never)

    att = att_gt(panel.y, panel.cohort, panel.checkpoints, control=ours, base=base)
    cells, _ = peer(panel, control=theirs, base=base)

    compare_cells(att, cells)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("base", ["universal", "varying"])
@pytest.mark.parametrize("peer", [by_diff_diff, by_differences])
def test_peers_adjust_for_the_base_outcome_in_the_same_way(side, base, peer):
    """Differences takes the covariate at the earlier of c and base, diff-diff at the base as we do;
    so with the universal base its cells before treatment are another quantity, and left out.
    """
    ours, theirs, with_never = SIDES[side]
    panel = random_panel("even", with_never)
    settings = {"control": ours, "base": base, "estimator": "ancova"}

    att = att_gt(panel.y, panel.cohort, panel.checkpoints, **settings)
    cells, aggregates = peer(panel, control=theirs, base=base, adjusted=True)

    if peer is by_differences and base == "universal":
        cells = {(g, c): pair for (g, c), pair in cells.items() if c >= g}
        aggregates["event_time"] = {e: v for e, v in aggregates["event_time"].items() if e >= 0}
    compare_cells(att, cells, at_least=0.4)
    for kind, expected in aggregates.items():
        compare_aggregates(aggregate(att, kind, shares="estimated"), expected)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("base", ["universal", "varying"])
def test_anticipation_moves_base_and_controls_as_theirs_does(side, base):
    ours, theirs, with_never = SIDES[side]
    panel = random_panel("many", with_never)

    att = att_gt(panel.y, panel.cohort, panel.checkpoints, control=ours, base=base, anticipation=1)
    cells, _ = by_diff_diff(panel, control=theirs, base=base, anticipation=1)

    compare_cells(att, cells)


@pytest.mark.parametrize("name", PANELS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("peer", [by_diff_diff, by_differences])
def test_peers_have_the_same_aggregates(name, side, peer):
    """They add the variance of estimated cohort shares: our `shares="estimated"`."""
    ours, theirs, with_never = SIDES[side]
    panel = random_panel(name, with_never)

    att = att_gt(panel.y, panel.cohort, panel.checkpoints, control=ours)
    _, aggregates = peer(panel, control=theirs, base="universal")

    for kind, expected in aggregates.items():
        compare_aggregates(aggregate(att, kind, shares="estimated"), expected)


@pytest.mark.parametrize("name", PANELS)
def test_the_overall_effect_of_each_aggregate_is_that_of_a_peer(name):
    panel = random_panel(name, True)
    att = att_gt(panel.y, panel.cohort, panel.checkpoints)

    for kind, (effect, error) in overall_by_differences(panel).items():
        ours = overall_of(aggregate(att, kind, shares="estimated"), shares="estimated")
        assert ours.estimate[0] == pytest.approx(effect, abs=EFFECT), kind
        assert ours.se[0] == pytest.approx(error, abs=ERROR), kind
    with pytest.raises(OptionError, match="got 'overall', expected an aggregate by event_time"):
        overall_of(aggregate(att, "overall"))


def compare_cells(att, cells, at_least=0.6):
    compared = 0
    for (g, c), (effect, se, *counts) in cells.items():
        i, k = att.cohorts.tolist().index(g), att.checkpoints.tolist().index(c)
        if np.isnan(effect):
            assert np.isnan(att.att[i, k]), (g, c)
        if np.isfinite(se):  # diff-diff has none at the base, where the effect is 0 by construction
            assert att.att[i, k] == pytest.approx(effect, abs=EFFECT), (g, c)
            assert att.se[i, k] == pytest.approx(se, abs=ERROR), (g, c)
            assert [att.n_treated[i, k], att.n_control[i, k]][: len(counts)] == counts
            compared += 1
    assert compared > at_least * np.isfinite(att.att).sum()


def compare_aggregates(ours, theirs):
    """Compare a contrast with label -> (effect, standard error)."""
    compared = 0
    for at, estimate, se in zip(ours.labels, ours.estimate, ours.se, strict=True):
        effect, error = theirs.get(at, (np.nan, np.nan))
        if np.isfinite(error):
            assert estimate == pytest.approx(effect, abs=EFFECT), at
            assert se == pytest.approx(error, abs=ERROR), at
            compared += 1
    assert compared > 0.5 * len(theirs)
