"""Sizes and seeds together: coverage of joint bands and of means over seeds, by simulation."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import NEVER, aggregate
from pythia_profile.did.estimation import effects
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import TableError
from pythia_profile.findings.across import across, mean_over_seeds
from pythia_profile.profiles.estimates import Estimates, RunEstimate
from tests.findings.nominal_rate import holds

pytestmark = pytest.mark.slow

CHECKPOINTS = np.array([0, 10, 20, 30])
BY_ROW = Estimation(clusters="row", draws=300)
TRUTH = 0.4
BETWEEN = 0.08
"""Deviation of a seed's effect; the sampling error of a mean effect is about .03."""


def run(rng, size="s", seed=0, effect=TRUTH, shared=None, rows=40, never=80):
    """One run: rows of three cohorts, noise that sizes of a study may share."""
    cohort = np.concatenate([np.repeat([10, 20, 30], rows), np.full(never, NEVER)])
    noise = rng.normal(size=(len(cohort), 4)) * 0.2 if shared is None else shared
    y = noise + rng.normal(size=(len(cohort), 4)) * 0.05
    y += effect * (cohort[:, None] <= CHECKPOINTS)
    panel = Panel(
        run=("mine", size, seed), outcome="log_likelihood", y=y, cohort=cohort,
        cluster=np.full(len(cohort), NEVER), weight=np.ones(len(cohort)),
        row_id=np.arange(len(cohort)), checkpoints=CHECKPOINTS, covariates=pl.DataFrame(), notes=(),
    )  # fmt: skip
    return RunEstimate(panel, effects(panel, BY_ROW))


def study(rng, sizes=("s",), seed=0, effect=TRUTH, together=False):
    shared = rng.normal(size=(200, 4)) * 0.2 if together else None
    return Estimates(tuple(run(rng, size, seed, effect, shared) for size in sizes), BY_ROW)


@pytest.mark.parametrize("seeds", [3, 6])
def test_means_over_seeds_hold_the_effect_of_another_draw_of_seeds(seeds):
    rng, inside, alone = np.random.default_rng(seeds), [], []
    for _ in range(300):
        drawn = TRUTH + BETWEEN * rng.normal(size=seeds)
        runs = [run(rng, seed=s, effect=effect) for s, effect in enumerate(drawn)]
        curves = [aggregate(one.att, "overall") for one in runs]
        mean, _, half = mean_over_seeds(curves)
        inside.append(abs(mean[0] - TRUTH) <= half[0])
        low, high = curves[0].interval()
        alone.append(low[0] <= TRUTH <= high[0])

    assert holds(inside)
    assert np.mean(alone) < 0.7  # one run's own interval knows of its rows only


def test_bands_over_sizes_hold_all_of_them_at_once():
    rng, inside, apart = np.random.default_rng(0), [], []
    sizes = ("a", "b", "c", "d")
    for _ in range(200):
        table = across([study(rng, sizes)])
        lines = table.filter(pl.col("kind") == "overall")
        inside.append(((lines["lower"] <= TRUTH) & (lines["upper"] >= TRUTH)).all())
        apart.append((abs(lines["att"] - TRUTH) <= 1.96 * lines["se"]).all())

    assert holds(inside)
    assert np.mean(apart) < 0.88  # .95 to the fourth is .81


def test_sizes_that_share_their_noise_make_a_smaller_family():
    rng = np.random.default_rng(0)
    alike = across([study(rng, ("a", "b", "c", "d"), together=True)])
    unlike = across([study(rng, ("a", "b", "c", "d"))])

    critical = [
        t.filter(pl.col("kind") == "overall")["critical"].unique().item() for t in (alike, unlike)
    ]
    assert critical[0] < critical[1]
    assert critical[0] == pytest.approx(2.1, abs=0.3)  # about one test
    assert critical[1] == pytest.approx(2.5, abs=0.3)  # four independent ones: 2.49


def test_the_table_has_a_line_for_each_size_seed_and_kind():
    rng = np.random.default_rng(1)
    studies = [study(rng, ("a", "b"), seed) for seed in range(3)]

    table = across(studies)

    sizes = table.filter(pl.col("over") == "sizes", pl.col("kind") == "event_time")
    assert len(sizes) == 2 * 3 * 3  # sizes, seeds, event times from 0 on
    seeds = table.filter(pl.col("over") == "seeds", pl.col("kind") == "event_time")
    assert seeds["event_time"].to_list() == [0, 10, 20] * 2
    assert seeds["seed"].null_count() == len(seeds)
    by_hand = sizes.group_by("size", "event_time").agg(pl.col("att").mean())
    joined = seeds.join(by_hand, on=["size", "event_time"])
    np.testing.assert_allclose(joined["att"], joined["att_right"], atol=1e-12)
    assert not len(across(studies[:1]).filter(pl.col("over") == "seeds"))


def test_the_same_run_twice_is_refused():
    one = study(np.random.default_rng(0))

    with pytest.raises(TableError, match="got mine s 0 log_likelihood twice"):
        across([one, one])
    with pytest.raises(TableError, match="got no run"):
        across([])
