"""What covariates are worth on the demonstration's study, and how near the truth they bring it.

Run with `DEMO=DEMO_STUDY python -m pytest -m bench tests/bench/bench_precision.py -s`.
Standard errors are ratios to difference-in-differences with never-treated controls, means over
cohorts; the error is the root mean square over the cells of the counterfactual retrainings of xs.

Measured by regression (seed 0; instantaneous, persistent, overall; error of xs); the doubly robust
form is the same to .003, and the other sizes lie between these two:

    did                                         xs 1     1     1     .0162
    features, base                              xs .767  .624  .558  .0101   l .816  .681  .600
    the same, cohorts not yet read as well      xs .743  .582  .519  .0102   l .793  .636  .557
    features, base and a reference, size m      xs .758  .501  .424  .0082   l .795  .547  .446
    the same, cohorts not yet read as well      xs .729  .462  .389  .0082   l .771  .506  .409
"""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import aggregate, panel
from pythia_profile.did.estimation import effects
from pythia_profile.did.settings import Estimation
from pythia_profile.mini.build import mini_suite
from pythia_profile.pipeline.row_covariates import covariate_table
from pythia_profile.study import open_study

DEMO = Path(os.environ.get("DEMO", "demo"))
KINDS = ("instantaneous", "persistent", "overall")

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    if not (DEMO / "counterfactual.parquet").exists():
        pytest.skip("DEMO names no finished demonstration")
    drawn = pl.read_parquet(DEMO / "rows.parquet")
    study = open_study(DEMO).replace(reference="held_out")
    table, said = covariate_table(tmp_path_factory.mktemp("study"), study, mini_suite(()), drawn)
    print(f"\n{said}")
    return drawn.join(table, on="row_id")


def laid_out(rows, size):
    scores = pl.scan_parquet(DEMO / f"scores/mini/{size}/**/scores.parquet")
    return panel(rows, scores)


def means(att):
    return np.array([aggregate(att, kind).only([None]).se[0] for kind in KINDS])


def error(att):
    """Root mean square difference from the effects of the counterfactual retrainings."""
    truth = pl.read_parquet(DEMO / "counterfactual.parquet")
    g = np.searchsorted(att.cohorts, truth["cohort"].to_numpy())
    c = np.searchsorted(att.checkpoints, truth["checkpoint"].to_numpy())
    return float(np.sqrt(np.mean((att.att[g, c] - truth["truth"].to_numpy()) ** 2)))


@pytest.mark.parametrize("adjustment", ["regression", "doubly_robust"])
@pytest.mark.parametrize("size", ["xs", "s", "m", "l"])
def test_covariates_are_worth_most_of_the_rows(rows, size, adjustment):
    laid = laid_out(rows, size)
    plain = effects(laid, Estimation(clusters="row"))  # rows are drawn over whole cohorts

    print(f"\n{size}, {adjustment}: did, error {error(plain):.4f}")
    for control in ("never", "both"):
        for names in (("features", "base"), ("features", "reference", "base")):
            settings = Estimation(
                control=control, covariates=names, adjustment=adjustment, clusters="row"
            )
            att = effects(laid, settings)
            ratios = means(att) / means(plain)
            off = error(att) if size == "xs" else np.nan
            print(f"  {control}, {', '.join(names)}: {ratios.round(3)}, error {off:.4f}")
            if size == "xs":
                best = (0.80, 0.67, 0.61) if "reference" not in names else (0.84, 0.51, 0.43)
                assert (ratios <= best).all()
                assert off <= (0.0145 if "reference" not in names else 0.0095)
    if size == "xs":
        assert (ratios <= (0.84, 0.465, 0.395)).all()
