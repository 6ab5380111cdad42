"""Coverage of intervals and bands at equal covariates: how the stored figures were made.

Run with `python -m tests.bench.bench_covariate_coverage [STUDY [REFERENCE]]` from the repository's
root; it writes `tests/bench/covariate_coverage.csv`. The designs named `simulated` draw panels; the
others take the never-treated rows of STUDY, a finished demonstration, and give them made-up cohorts
at random, so that every true effect is 0: `permuted SIZE`. REFERENCE is a table of scores of
the same rows by a model that never read them. For 400 panels the figures' own standard error is
.011.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import stdtrit

from pythia_profile.did import NEVER, aggregate, att_gt, bands_of
from pythia_profile.did.inference.bootstrap import BootstrapSpec

FIGURES = Path(__file__).with_name("covariate_coverage.csv")
KINDS = ("event_time", "cohort", "overall")
PANELS = 400
DRAWS = 499


@dataclass(frozen=True)
class How:
    """One estimator."""

    adjustment: str = "regression"
    fixed: tuple[int, ...] = ()
    base: bool = False
    control: str = "never"


FEATURES = tuple(range(6))
ESTIMATORS = {
    "did": How(),
    "regression": How(fixed=FEATURES),
    "regression, base": How(fixed=FEATURES, base=True),
    "regression, base, both": How(fixed=FEATURES, base=True, control="both"),
    "doubly robust": How("doubly_robust", FEATURES),
    "doubly robust, base": How("doubly_robust", FEATURES, base=True),
}
WITH_REFERENCE = {
    "regression, base, reference": How(fixed=(*FEATURES, 6), base=True),
    "doubly robust, base, reference": How("doubly_robust", (*FEATURES, 6), base=True),
}


def simulate(rng):
    """Outcomes that covariates move, each in its own way, and errors that wander; no effects."""
    cohorts, rows, never = 12, 60, 400
    checkpoints = 10 * np.arange(cohorts + 1)
    cohort = np.append(np.repeat(checkpoints[1:], rows), np.full(never, NEVER))
    x = rng.normal(size=(len(cohort), 6))
    x[:, 3:] = np.exp(0.5 * x[:, 3:])
    shape = (len(cohort), len(checkpoints))
    y = 0.5 * rng.normal(size=(len(cohort), 1)) + 0.05 * rng.normal(size=shape).cumsum(axis=1)
    y += x @ (0.03 * rng.normal(size=(6, len(checkpoints))).cumsum(axis=1))
    y += 0.02 * (x[:, :1] ** 2) * np.sqrt(np.arange(len(checkpoints)))
    return y, cohort, checkpoints, x


def covered(y, cohort, checkpoints, x, how, seed):
    """Target -> share of single intervals, and whether the bands, hold the truth, 0."""
    given = {f"x{k}": x[:, k] for k in how.fixed} | ({"base": y} if how.base else {})
    att = att_gt(
        y,
        cohort,
        checkpoints,
        control=how.control,
        units=np.arange(len(y)),
        covariates=given or None,
        adjustment=how.adjustment,
    )
    targets = [att, *(aggregate(att, kind) for kind in KINDS)]
    found = bands_of(targets, BootstrapSpec(DRAWS, seed))
    shares = {}
    for name, target, band in zip(("cells", *KINDS), targets, found, strict=True):
        member = band.member
        half = stdtrit(target.df[member], 0.975) * target.se[member]
        single = (np.abs(band.estimate[member]) <= half).mean()
        whole = ((band.lower[member] <= 0) & (band.upper[member] >= 0)).all()
        shares[name] = float(single), float(whole)
    return shares


def simulated(how, panels, seed=0):
    """Shares covered, by target, over simulated panels."""
    rng = np.random.default_rng(seed)
    return [covered(*simulate(rng), how, k) for k in range(panels)]


def permuted(y, checkpoints, x, how, panels, seed=0):
    """Shares covered, by target, over random cohorts of rows that no step has read."""
    rng = np.random.default_rng(seed)
    each = len(y) * 5 // 8 // (len(checkpoints) - 1)
    cohort = np.full(len(y), NEVER)
    cohort[: each * (len(checkpoints) - 1)] = np.repeat(checkpoints[1:], each)
    return [covered(y, rng.permutation(cohort), checkpoints, x, how, k) for k in range(panels)]


def lines(design, estimator, shares):
    """Mean over panels, one line a target."""
    return [
        {
            "design": design,
            "estimator": estimator,
            "target": target,
            "panels": len(shares),
            "single": round(float(np.mean([s[target][0] for s in shares])), 4),
            "simultaneous": round(float(np.mean([s[target][1] for s in shares])), 4),
        }
        for target in ("cells", *KINDS)
    ]


def held_out(study: Path, size: str, reference: Path | None):
    """Outcomes, checkpoints, features of the never-treated rows, the reference behind."""
    from data_order import TokenRows
    from pythia_profile.did import panel
    from pythia_profile.mini.build import config_of, mini_suite
    from pythia_profile.profiles.features import count, row_features

    rows = pl.read_parquet(study / "rows.parquet")
    scores = pl.scan_parquet(study / f"scores/mini/{size}/**/*.parquet", hive_partitioning=True)
    laid = panel(rows, scores)
    suite = mini_suite(())
    config = config_of(suite)
    stored = TokenRows.open(suite.root / "document", row_tokens=config.row_tokens)
    unread = np.setdiff1d(np.arange(config.training_rows), rows["row_id"].to_numpy())
    table = rows.sort("row_id")
    features = row_features(
        np.array(table["tokens"].to_list()),
        count(np.asarray(stored[0 : config.training_rows])[unread], config.vocabulary),
    ).to_numpy()
    if reference is not None:
        found = pl.read_parquet(reference).sort("row_id")["log_likelihood"].to_numpy()
        features = np.column_stack([features, found])
    never = laid.cohort == NEVER
    return laid.y[never], laid.checkpoints, features[never]


def main(arguments: list[str]) -> None:
    """Make all figures that the arguments allow, and store them."""
    study = Path(arguments[0]) if arguments else None
    reference = Path(arguments[1]) if len(arguments) > 1 else None
    stored = []
    for size in ("", "xs", "l")[: 1 if study is None else 3]:
        world = held_out(study, size, reference) if size else None
        estimators = ESTIMATORS | (WITH_REFERENCE if size and reference is not None else {})
        for name, how in estimators.items():
            start = time.perf_counter()
            found = permuted(*world, how, PANELS) if world else simulated(how, PANELS)
            new = lines(f"permuted {size}" if size else "simulated", name, found)
            stored += new
            pl.DataFrame(stored).write_csv(FIGURES)
            seconds = time.perf_counter() - start
            print(f"{seconds:.0f} s", *(tuple(line.values()) for line in new), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
