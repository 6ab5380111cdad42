"""Coverage of intervals and bands by simulation: how the stored figures were made.

Run with `python -m tests.bench.bench_did_coverage [DESIGN …]` from the repository's root; it writes
`tests/bench/did_coverage.csv`, one line for each design and kind of interval. The figures' own
standard error is sqrt(.95 × .05 / panels): .005 for 2,000 panels, .015 for 200.
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

FIGURES = Path(__file__).with_name("did_coverage.csv")


@dataclass(frozen=True)
class Design:
    """Panels to simulate; checkpoints are one more than cohorts."""

    cohorts: int = 12
    rows: int = 100
    never: int = 400
    batches: int = 0
    icc: float = 0.0
    clustered: bool = True
    control: str = "never"
    estimator: str = "did"
    noise: str = "normal"
    panels: int = 2000
    draws: int = 999


DESIGNS = {
    "plain": Design(),
    "thirty rows": Design(rows=30, never=200),
    "forty cohorts": Design(cohorts=40, never=800, panels=600),
    "pythia": Design(cohorts=143, never=2000, panels=1000),
    "not yet treated": Design(control="not_yet"),
    "adjusted": Design(estimator="ancova", panels=1000),
    "skewed": Design(noise="skewed"),
    "heavy tails": Design(noise="heavy"),
    "ten batches": Design(batches=10, icc=0.2),
    "ten batches ignored": Design(batches=10, icc=0.2, clustered=False),
    "fifty batches": Design(batches=50, icc=0.2),
    "pythia, ten batches": Design(cohorts=143, never=2000, batches=10, icc=0.2, panels=400),
}


def simulate(design: Design, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Levels, errors that wander and errors that do not, shocks shared by a batch; no effects.

    Effects would only be added to estimate and truth alike.
    """
    checkpoints = 10 * np.arange(design.cohorts + 1)
    treated = design.cohorts * design.rows
    cohort = np.append(np.repeat(checkpoints[1:], design.rows), np.full(design.never, NEVER))
    shape = (len(cohort), len(checkpoints))
    draw = {
        "normal": lambda: rng.normal(size=shape),
        "skewed": lambda: rng.exponential(size=shape) - 1.0,
        "heavy": lambda: rng.standard_t(5, size=shape) * 0.6**0.5,
    }[design.noise]
    own = 1.0 - design.icc
    y = 0.5 * rng.normal(size=(len(cohort), 1)) + 0.1 * own**0.5 * draw()
    y += 0.05 * own**0.5 * draw().cumsum(axis=1)
    cluster = np.full(len(cohort), NEVER)
    if design.batches:
        count = design.cohorts * design.batches
        cluster[:treated] = np.repeat(np.arange(count), design.rows // design.batches)
        shock = 0.1 * rng.normal(size=(count, shape[1]))
        shock += 0.05 * rng.normal(size=(count, shape[1])).cumsum(axis=1)
        y[:treated] += design.icc**0.5 * np.repeat(shock, design.rows // design.batches, axis=0)
    return y, cohort, checkpoints, cluster


def coverage(design: Design, panels: int, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Target -> share of single intervals, and of simultaneous bands, that hold the truth, 0."""
    rng = np.random.default_rng(seed)
    single: dict[str, list[float]] = {}
    whole: dict[str, list[float]] = {}
    for panel in range(panels):
        y, cohort, checkpoints, cluster = simulate(design, rng)
        att = att_gt(
            y,
            cohort,
            checkpoints,
            control=design.control,
            estimator=design.estimator,
            clusters=cluster if design.batches and design.clustered else None,
            units=np.arange(len(y)),
        )
        kinds = ("event_time", "cohort", "overall")
        targets = [att, *(aggregate(att, kind) for kind in kinds)]
        found = bands_of(targets, BootstrapSpec(design.draws, panel))
        for name, target, band in zip(("cells", *kinds), targets, found, strict=True):
            member = band.member
            error = np.abs(band.estimate[member])
            half = stdtrit(target.df[member], 0.975) * target.se[member]
            single.setdefault(name, []).append(float((error <= half).mean()))
            inside = (band.lower[member] <= 0) & (band.upper[member] >= 0)
            whole.setdefault(name, []).append(float(inside.all()))
    return {name: (float(np.mean(single[name])), float(np.mean(whole[name]))) for name in single}


def main(wanted: list[str]) -> None:
    """Simulate the designs, all unless some are named, and store their figures."""
    stored = pl.read_csv(FIGURES) if FIGURES.exists() else None
    for name in wanted or DESIGNS:
        start = time.perf_counter()
        design = DESIGNS[name]
        lines = [
            {"design": name, "target": target, "panels": design.panels, "draws": design.draws,
             "single": round(single, 4), "simultaneous": round(whole, 4)}
            for target, (single, whole) in coverage(design, design.panels).items()
        ]  # fmt: skip
        new = pl.DataFrame(lines)
        old = None if stored is None else stored.filter(pl.col("design") != name)
        stored = new if old is None or not len(old) else pl.concat([old, new])
        stored.write_csv(FIGURES)
        print(name, f"{time.perf_counter() - start:.0f} s", new.rows(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
