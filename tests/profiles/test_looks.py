"""Looks before all rows are scored: coverage under stopping by width, against simulated truth."""

import numpy as np
import pytest
from scipy.stats import norm

from pythia_profile.profiles.looks import LOOKS, level_of_looks, next_look

STUDIES, LEVEL = 4_000, 0.95


def effects(kind: str, rows: int, rng) -> tuple[np.ndarray, float]:
    """(studies, rows) effects of rows, and their true mean."""
    if kind == "normal":
        return rng.normal(0.3, 1.0, (STUDIES, rows)), 0.3
    # most rows are hardly remembered, a few very well: the mean and the variance of a sample go
    # together
    return rng.lognormal(-1.5, 1.2, (STUDIES, rows)), float(np.exp(-1.5 + 1.2**2 / 2))


def stopped(
    y: np.ndarray, wished: float, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, half-width and share at which each study stops, by the rule of the package."""
    rows, z = y.shape[1], norm.ppf(0.5 + level / 2)
    means, widths = {}, {}
    for look in LOOKS:
        part = y[:, : int(look * rows)]
        means[look] = part.mean(axis=1)
        widths[look] = z * part.std(axis=1, ddof=1) / np.sqrt(part.shape[1])
    at = np.empty(len(y))
    for study in range(len(y)):
        share = LOOKS[0]
        while (later := next_look(share, widths[share][study], wished)) is not None:
            share = later
        at[study] = share
    mean = np.choose(np.searchsorted(LOOKS, at), list(means.values()))
    width = np.choose(np.searchsorted(LOOKS, at), list(widths.values()))
    return mean, width, at


@pytest.mark.parametrize(
    ("kind", "wished"), [("normal", 0.14), ("normal", 0.125), ("skewed", 0.14), ("skewed", 0.08)]
)
def test_intervals_that_were_stopped_at_cover_at_least_nearly_as_often_as_they_say(kind, wished):
    """Standard error of a share of 4,000 near .95: .0034; .93 leaves room for the skew itself."""
    y, truth = effects(kind, 800, np.random.default_rng(15))

    mean, width, at = stopped(y, wished, level_of_looks(LEVEL))
    covered = np.mean(abs(mean - truth) <= width)

    assert len(np.unique(at)) >= 2  # studies stop at different looks
    assert covered >= 0.93


def test_without_the_correction_skewed_effects_would_be_missed_more_often():
    """The stopping rule looks at widths only, and is harmful all the same."""
    y, truth = effects("skewed", 800, np.random.default_rng(15))

    plain, width, _ = stopped(y, 0.08, LEVEL)
    fixed = norm.ppf(0.975) * y.std(axis=1, ddof=1) / np.sqrt(y.shape[1])

    without = np.mean(abs(plain - truth) <= width)
    assert without < 0.93
    assert np.mean(abs(y.mean(axis=1) - truth) <= fixed) > without
    assert plain.mean() < truth  # small samples without the best remembered rows look certain


def test_normal_effects_are_hardly_harmed_by_stopping_without_a_correction():
    """The estimate is independent of its error: only the error is too small, by selection."""
    y, truth = effects("normal", 800, np.random.default_rng(16))

    mean, width, _ = stopped(y, 0.14, LEVEL)

    assert np.mean(abs(mean - truth) <= width) > 0.935
    assert mean.mean() == pytest.approx(truth, abs=4 / np.sqrt(STUDIES * 100))


def test_looks_that_would_be_too_early_are_passed_over_and_the_last_one_ends():
    assert next_look(0.125, 0.03, 0.01) == 1.0
    assert next_look(0.125, 0.0141, 0.01) == 0.25
    assert next_look(0.25, 0.01, 0.01) is None
    assert next_look(1.0, 9.0, 0.01) is None
    assert level_of_looks(0.95) == pytest.approx(1 - 0.05 / 4)
