import numpy as np
import pytest

from pythia_profile.findings.learning_rate import claim, rates, slopes
from tests.findings.nominal_rate import holds
from tests.findings.planted_sizes import STEP, Design, grid, planted, suite_of

SUITE = suite_of({"a": 100_000, "b": 400_000})
COHORTS, CHECKPOINTS = grid(16)
SINCE = CHECKPOINTS - COHORTS[:, None]


def of(lines, **wanted):
    return [line for line in lines if all(line[k] == v for k, v in wanted.items())]


def test_rates_are_sums_over_the_schedule_step_by_step():
    found = rates(SUITE, "a", COHORTS, CHECKPOINTS)

    for g, (mean, total, later) in enumerate(
        zip(found.mean, found.integrated, found.later, strict=True)
    ):
        steps = np.arange(STEP * g + 1, STEP * (g + 1) + 1)
        exact = SUITE.learning_rate("a", steps)
        rest = SUITE.learning_rate("a", np.arange(STEP * (g + 1) + 1, STEP * 16 + 1))
        assert mean == pytest.approx(exact.mean())
        assert total == pytest.approx(exact.sum())
        assert later == pytest.approx(rest.sum())
    assert found.warmup.tolist() == [True] + [False] * 15


@pytest.mark.slow
def test_a_planted_slope_is_within_its_interval_at_the_nominal_rate():
    rng = np.random.default_rng(0)
    rate = rates(SUITE, "a", COHORTS, CHECKPOINTS).mean
    tau = (0.02 + 60 * rate)[:, None] * np.exp(-SINCE.clip(0) / 300)
    one, pooled = [], []
    for _ in range(60):
        lines = list(slopes(planted(rng, {"a": tau, "b": tau}).runs, SUITE, 0.95))
        (line,) = of(
            lines, size="a", kind="instantaneous", quantity="slope_mean_rate", subset="all"
        )
        (both,) = of(lines, size="all", kind="instantaneous", subset="all")
        one.append(line["lower"] <= 60 <= line["upper"])
        pooled.append(both["lower"] <= 60 * 1e-3 <= both["upper"])  # from rate 0 to the peak

    assert holds(one)
    assert holds(pooled)


def test_sizes_that_share_rows_are_no_independent_points():
    design = Design(shared=1.0)
    rng = np.random.default_rng(1)
    tau = 0.1 * np.exp(-SINCE.clip(0) / 300)
    lines = list(slopes(planted(rng, {"a": tau, "b": tau}, design).runs, SUITE, 0.95))
    (one,) = of(lines, size="a", kind="instantaneous", quantity="slope_peak", subset="all")
    (both,) = of(lines, size="all", kind="instantaneous", subset="all")

    # the same rows, the same noise: a second size tells nothing new; were it another sample, its
    # standard error would be .71 times that of one size
    assert both["n"] == 2 * one["n"]
    assert both["se"] > 0.85 * one["se"]


@pytest.mark.parametrize(
    ("residual", "verdict"), [(-60, "supported"), (60, "contradicted"), (0, "undecided")]
)
def test_the_claim_needs_both_slopes(residual, verdict):
    rate = rates(SUITE, "a", COHORTS, CHECKPOINTS).mean
    at_once = (0.02 + 60 * rate)[:, None] * (SINCE == 0)
    at_last = (0.1 + residual * rate)[:, None] * (SINCE > 0)
    runs = planted(np.random.default_rng(2), {"a": at_once + at_last}, Design(rows=60)).runs
    found = list(claim(list(slopes(runs, SUITE, 0.95)), 0.95))

    assert {line["subset"]: line["verdict"] for line in found} == {
        "all": verdict,
        "after_warmup": verdict,
    }


def test_a_suite_without_rates_has_no_slopes():
    runs = planted(np.random.default_rng(3), {"a": np.zeros((16, 17))}).runs
    sizes = {"a": SUITE.sizes["a"].__class__(**{**fields(SUITE.sizes["a"]), "peak_lr": 0.0})}
    unknown = SUITE.__class__(**{**fields(SUITE), "sizes": sizes})

    assert not list(slopes(runs, unknown, 0.95))


def fields(made):
    return {name: getattr(made, name) for name in made.__dataclass_fields__}
