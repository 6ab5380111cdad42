"""A study of Pythia's own size with planted profiles: six sizes, 143 cohorts, 144 checkpoints.

What is planted, in nats per token, for a row of cohort g at checkpoint c of a size with N
parameters (all sizes read the same rows):

    τ(g, c) = a(N) · rate(g)/peak · n(g) · [ρ + (1 − ρ) · exp(−(c − g)/h(N))],   c ≥ g

a grows with log N, so does the half-life; ρ is larger for late cohorts; n(g), a few percent about
1, is what the sizes do not share with the schedule.
"""

from pathlib import Path

import numpy as np
import polars as pl

from data_order.published import published_order
from pythia_profile.study import Study, create_study
from pythia_profile.suites.registry import suite_facts_of

SIZES = ("70m", "160m", "410m", "1.4b", "6.9b", "12b")
PARAMETERS = (7.0e7, 1.6e8, 4.1e8, 1.4e9, 6.9e9, 1.2e10)
STEPS, BATCHES, IN_BATCH, NEVER_READ = 1000, 10, 10, 2000
SUITE = "pythia-deduped"


def planted(size: str, checkpoints: np.ndarray, seed: int) -> np.ndarray:
    """Effects (G, C) of a size; 0 before treatment."""
    cohorts = checkpoints[1:]
    rate = suite_facts_of(SUITE, None).learning_rate(size, np.maximum(cohorts - STEPS // 2, 1))
    parameters = PARAMETERS[SIZES.index(size)]
    growth = np.log(parameters / 4e7) / np.log(1.2e10 / 4e7)
    noise = np.exp(0.15 * np.random.default_rng(seed).normal(size=len(cohorts)))
    kept = 0.1 + 0.3 * growth * (cohorts / cohorts[-1]) ** 2
    since = checkpoints - cohorts[:, None]
    left = kept[:, None] + (1 - kept[:, None]) * np.exp(-np.maximum(since, 0) / (9000 * growth))
    effect = (0.012 + 0.10 * growth) * (rate / rate.max() * noise)[:, None] * left
    return np.where(since >= 0, effect, 0.0)


def draw_rows(steps: int, seed: int) -> pl.DataFrame:
    """Ten batches of every thousand steps, ten rows of each; then rows that no step reads."""
    rng, batch_size = np.random.default_rng(seed), published_order(SUITE).batch_size
    batches = [STEPS * k + rng.choice(STEPS, BATCHES, replace=False) for k in range(steps // STEPS)]
    read = [
        batch_size * b + rng.choice(batch_size, IN_BATCH, False) for b in np.concatenate(batches)
    ]
    row_id = np.sort(np.concatenate(read))
    never = steps * batch_size + np.arange(NEVER_READ)
    step = pl.Series([*(row_id // batch_size + 1).tolist(), *[None] * NEVER_READ], dtype=pl.Int64)
    return pl.DataFrame(
        {"row_id": np.append(row_id, never), "treatment_step": step, "batch": step - 1}
    )


def write_full_size(
    folder: Path, sizes: tuple[str, ...] = SIZES, steps: int = 143_000, seed: int = 0
) -> Path:
    """Write a study folder with rows and scores of other origin, as somebody's own scorer would."""
    create_study(folder, Study(suite=SUITE, sizes=sizes))
    rows = draw_rows(steps, seed)
    rows.write_parquet(folder / "rows.parquet")
    checkpoints = np.arange(0, steps + 1, STEPS)
    cohort = (-(-rows["treatment_step"] // STEPS)).fill_null(0).to_numpy()
    rng = np.random.default_rng(seed)
    level, shape = rng.normal(-2.8, 0.6, len(rows)), (len(rows), len(checkpoints))
    shared = _wander(rng, shape)  # what makes a row easy at a time, for every size
    (folder / "scores").mkdir()
    for size in sizes:
        effect = np.vstack([np.zeros(len(checkpoints)), planted(size, checkpoints, seed)])
        learned = 7.5 * np.exp(-checkpoints / 400) + 0.06 * np.log(checkpoints + 1.0)
        y = level[:, None] - learned + shared + _wander(rng, shape) + effect[cohort]
        pl.DataFrame(
            {
                "checkpoint": np.tile(checkpoints, len(rows)),
                "row_id": rows["row_id"].to_numpy().repeat(len(checkpoints)),
                "log_likelihood": y.ravel(),
            }
        ).with_columns(suite=pl.lit(SUITE), size=pl.lit(size), seed=0).write_parquet(
            folder / "scores" / f"{size}.parquet"
        )
    return folder


def _wander(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Stationary autoregressions (rows, checkpoints), standard deviation .06 nats per token."""
    noise = rng.normal(0, 0.06, shape)
    for c in range(1, shape[1]):
        noise[:, c] = 0.9 * noise[:, c - 1] + np.sqrt(1 - 0.9**2) * noise[:, c]
    return noise
