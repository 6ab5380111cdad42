"""The estimate against the truth: the smallest mini size, retrained without each of 16 cohorts.

Run with `python -m pytest -m bench tests/bench/bench_counterfactual.py -s`; two minutes a seed on
two idle cores. The same from the command line:

    pythia-profile init audit --suite mini --sizes xs --set audit.size=xs \
        --set audit.cohorts=16 --set audit.horizon=2
    pythia-profile run audit

Measured, with retrainings that end two checkpoints after the cohort (45 cells; the seed is that of
corpus, weights and sample alike):

    seed 0   bias -0.0075 ± 0.0044 nats a token, correlation .93, coverage of 95 % intervals 96 %
    seed 1   bias -0.0043 ± 0.0043, correlation .97, coverage 93 %
    seed 2   bias +0.0041 ± 0.0045, correlation .90, coverage 96 %
    seed 3   bias -0.0033 ± 0.0047, correlation .93, coverage 98 %

and with retrainings that go on to the end (136 cells): seed 0 -0.0116 ± 0.0086, .85, 96 %; seed 1
-0.0032 ± 0.0089, .96, 96 %.
"""

import pytest

from pythia_profile.did import effects, panel
from pythia_profile.did.settings import Estimation
from pythia_profile.mini.build import mini_suite
from pythia_profile.mini.counterfactual import compare
from pythia_profile.mini.retraining import retrain
from pythia_profile.mini.settings import Audit
from pythia_profile.scoring.run import score
from pythia_profile.suites.sampling import Sampling, sample_rows

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("seed", [0, 1])
def test_intervals_hold_the_true_effect_of_every_cohort(seed, tmp_path):
    suite = mini_suite(["xs"], seed=seed, cache=tmp_path)
    rows = sample_rows(suite, Sampling.of(suite).replace(seed=seed))
    scores = score(suite, rows)
    laid = panel(rows, scores)

    audit = Audit(size="xs", cohorts=16, horizon=2)
    retrained = retrain(suite, audit, rows, folder=tmp_path / "retrained")
    cells, summary = compare(laid, effects(laid), Estimation(), retrained)

    whole = summary.row(0, named=True)
    print(
        f"\nseed {seed}: {whole['cells']} cells, bias {whole['bias']:+.4f} ± "
        f"{whole['bias_se']:.4f}, correlation {whole['correlation']:.2f}, coverage "
        f"{whole['coverage']:.0%}"
    )
    assert cells["cohort"].n_unique() == 16
    assert whole["coverage"] >= 0.88
    assert abs(whole["bias"]) < 2 * whole["bias_se"]
