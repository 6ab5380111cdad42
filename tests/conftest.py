"""Fixtures shared by all rooms: tiny models, a tiny mini suite, a synthetic study."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ONLY_WHEN_ASKED = ("bench", "gpu")
"""Marks of tests that run only where `-m` names them."""
TRAINED = "tiny_suite"
"""The fixture that trains models: what needs it is slow."""


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what `-m` does not ask for
def pytest_collection_modifyitems(config, items):
    """Leave out what was not asked for; slow tests begin first, lest a worker end with them."""
    for item in items:
        if TRAINED in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    unasked = {name for name in ONLY_WHEN_ASKED if name not in config.option.markexpr}
    kept, left_out = [], []
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        (left_out if unasked & marks else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = sorted(kept, key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a file, and those of the demo, on one worker.

    They share models and studies, which each worker would make again. (xdist 3.8's own groups, and
    `--dist=loadgroup`, do nothing under pytest 9.2.)
    """
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "end_to_end" if "end_to_end" in file else file

    return ByFile(config, log)


@pytest.fixture(scope="session")
def tiny_config():
    """Four cohorts of 128 rows, trained in about a second."""
    from pythia_profile.mini.config import MiniConfig

    return MiniConfig(
        vocabulary=300,
        row_tokens=17,
        batch_size=8,
        steps=64,
        interval=16,
        never_treated=96,
        spare=128,
        peak_lr=1e-2,
        min_lr=1e-3,
        warmup_steps=1,
    )


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory) -> Path:
    """Where the tiny suite is trained: once, also where several workers run the tests."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return tmp_path_factory.getbasetemp().parent / "cache"
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_suite(tiny_config, tiny_cache):
    """Two trained sizes on 512 rows in training order, 96 never-treated rows and 128 spare ones."""
    from pythia_profile.mini.build import mini_suite

    return mini_suite(("xs", "s"), config=tiny_config, cache=tiny_cache, workers=1)


@pytest.fixture(scope="session")
def tiny_rows(tiny_suite) -> pl.DataFrame:
    from pythia_profile.suites.sampling import Sampling, sample_rows

    chosen = Sampling(rows_per_cohort=24, batches_per_cohort=0, never_treated=96)
    return sample_rows(tiny_suite, chosen)


@pytest.fixture(scope="session")
def tiny_scores(tiny_suite, tiny_rows) -> pl.DataFrame:
    from pythia_profile.scoring.run import score

    return score(tiny_suite, tiny_rows)


@pytest.fixture(scope="session")
def planted():
    """Rows and scores with known effects: a factory of (rows, scores).

    Every row has a level, every checkpoint a trend common to all rows, and `effect(cohort,
    checkpoint)` is added to a cohort's rows from the cohort on.
    """

    def make(effect, *, sizes=("s",), cohorts=(10, 20, 30), per_cohort=40, never=80, noise=0.1):
        rng = np.random.default_rng(7)
        checkpoints = np.array([0, 10, 20, 30])
        cohort = np.concatenate([np.repeat(cohorts, per_cohort), np.full(never, -1)])
        treated = cohort > 0
        row_id = np.arange(len(cohort))
        rows = pl.DataFrame(
            {
                "row_id": row_id,
                "treatment_step": pl.Series(cohort).set(pl.Series(~treated), None),
                "batch": pl.Series(row_id // 4).set(pl.Series(~treated), None),
                "tokens": pl.Series([[1, 2, 3]] * len(cohort), dtype=pl.List(pl.UInt16)),
                "earlier_exposure": np.zeros(len(cohort)),
            }
        )
        level = rng.normal(-3, 0.5, len(cohort))
        parts = []
        for number, size in enumerate(sizes):
            trend = np.array([0.0, 0.5, 0.8, 0.9]) * (1 + number)
            for c, shift in zip(checkpoints, trend, strict=True):
                gain = [effect(size, g, c) if 0 < g <= c else 0.0 for g in cohort]
                y = level + shift + np.array(gain) + rng.normal(0, noise, len(cohort))
                parts.append(
                    pl.DataFrame(
                        {
                            "suite": "planted",
                            "size": size,
                            "seed": 0,
                            "checkpoint": int(c),
                            "row_id": row_id,
                            "log_likelihood": y,
                            "accuracy": rng.uniform(0, 1, len(cohort)),
                            "mean_rank": 3.0,
                            "entropy": 2.0,
                        }
                    )
                )
        return rows, pl.concat(parts)

    return make
