"""Effects against the learning rate: slopes with their errors, and the claim that they have.

In: estimates of the sizes of one suite and seed, and the suite's schedule. Out: lines of the table
`FINDINGS`. Each kind of effect (instantaneous, persistent, residual) of each cohort is regressed on
the exact rate of the steps that read the cohort, with the covariance of the effects' errors
(`known_noise`): cohorts share control rows, and sizes share rows.

The claim is: high rate, high instantaneous and *low* residual effect. Its p-value is the larger of
the two one-sided ones, so it holds only where both slopes have their sign.

In one run the rate is a function of the step, so no regression tells the rate from whatever else
changes with it; the cohorts of the warm-up, where both part ways, are in `all` and not in
`after_warmup`.

Source: Lesci et al. (2024), section 5.2, compare the two by eye.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pythia_profile.did.inference.contrasts import joint_covariance
from pythia_profile.findings.known_noise import Regression, regression
from pythia_profile.findings.summaries import MEANS, CohortEffects, CohortTables
from pythia_profile.profiles.estimates import RunEstimate
from pythia_profile.suites.model import Suite

__all__ = ["Rates", "claim", "rates", "slopes"]

FEWEST = 4
"""Cohorts of a regression: a line and two degrees of freedom."""


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Learning rate of the steps that read each cohort.

    Attributes
    ----------
    mean : (G,) mean over the cohort's steps, in the optimizer's unit.
    integrated : (G,) sum over them.
    later : (G,) sum over the steps from the cohort to the last checkpoint.
    warmup : (G,) whether any of these steps belongs to the warm-up.
    peak : highest rate of the schedule.
    """

    mean: Float[np.ndarray, " G"]
    integrated: Float[np.ndarray, " G"]
    later: Float[np.ndarray, " G"]
    warmup: Bool[np.ndarray, " G"]
    peak: float


def rates(
    suite: Suite, size: str, cohorts: Int[np.ndarray, " G"], checkpoints: Int[np.ndarray, " C"]
) -> Rates | None:
    """Rates by cohort, from the exact schedule; None where the suite does not know them.

    A cohort's steps are those after the checkpoint before it, up to its own.

    Examples
    --------
    >>> from pythia_profile.suites.registry import open_suite
    >>> suite = open_suite("pythia-deduped", ["70m"])
    >>> found = rates(suite, "70m", np.array([1000, 142000]), np.arange(0, 143001, 1000))
    >>> found.mean.round(6), found.warmup
    (array([0.000349, 0.0001  ]), array([ True, False]))
    """
    peak = suite.size(size).peak_lr
    if not peak:
        return None
    last = int(checkpoints[-1])
    total = np.append(0.0, np.cumsum(suite.learning_rate(size, np.arange(1, last + 1))))
    before = checkpoints[np.searchsorted(checkpoints, cohorts) - 1]
    integrated = total[cohorts] - total[before]
    return Rates(
        mean=integrated / (cohorts - before),
        integrated=integrated,
        later=total[last] - total[cohorts],
        warmup=before < suite.warmup_steps,
        peak=float(peak),
    )


def slopes(
    runs: Sequence[RunEstimate], suite: Suite, level: float, tables: CohortTables | None = None
) -> Iterator[dict[str, Any]]:
    """Lines of `FINDINGS` for each size, and for all sizes together, each with an intercept.

    Parameters
    ----------
    runs : sizes of one suite, seed and outcome.
    tables : where effects by cohort are kept for others that need them.
    """
    tables = tables or CohortTables()
    for kind in MEANS:
        known = [
            _Against(one, effects, rate)
            for one in runs
            if (effects := tables.of(one.att).get(kind)) is not None
            and (rate := _rates_of(suite, one, effects)) is not None
        ]
        if not known:
            continue
        joint = joint_covariance([one.effects.contrast for one in known])
        warmup = np.concatenate([one.rate.warmup for one in known])
        subsets = {"all": np.ones(len(warmup), bool), "after_warmup": ~warmup}
        for subset, keep in subsets.items() if warmup.any() else [("all", subsets["all"])]:
            cut = [one.keep(~one.rate.warmup) for one in known] if subset != "all" else known
            told = [len(one.rate.mean) >= FEWEST and np.ptp(one.rate.mean) > 0 for one in cut]
            lines = [
                line
                for one, is_told in zip(cut, told, strict=True)
                if is_told
                for line in _of_size(one, level)
            ]
            named = {"finding": "learning_rate", "kind": kind, "subset": subset, "verdict": ""}
            yield from ({**line, **named} for line in lines)
            if len(cut) > 1 and all(told):
                spreads = [line["estimate"] for line in lines if line["quantity"] == "spread"]
                noise = joint[np.ix_(keep, keep)]
                yield {**_pooled(cut, noise, spreads, level), **named}


@dataclass(frozen=True, slots=True, eq=False)
class _Against:
    """Effects of a size against its rates."""

    one: RunEstimate
    effects: CohortEffects
    rate: Rates

    @property
    def effect(self) -> Float[np.ndarray, " K"]:
        return self.effects.contrast.estimate

    def keep(self, chosen: Bool[np.ndarray, " K"]) -> "_Against":
        contrast, rate = self.effects.contrast, self.rate
        labels = [label for label, is_kept in zip(contrast.labels, chosen, strict=True) if is_kept]
        noise = self.effects.noise[np.ix_(chosen, chosen)]
        return _Against(
            self.one,
            CohortEffects(contrast.only(labels), noise),
            Rates(
                *(rate.mean[chosen], rate.integrated[chosen], rate.later[chosen]),
                rate.warmup[chosen],
                rate.peak,
            ),
        )


def _rates_of(suite: Suite, one: RunEstimate, effects: CohortEffects) -> Rates | None:
    cohorts = np.array(effects.contrast.labels)
    return rates(suite, one.panel.run[1], cohorts, one.panel.checkpoints)


def claim(lines: Sequence[dict[str, Any]], level: float) -> Iterator[dict[str, Any]]:
    """Test, for each size and subset, that slopes are above 0 at once and below 0 at the end."""
    told = {
        (line["size"], line["subset"], line["kind"]): line
        for line in lines
        if line["quantity"] == "slope_peak"
    }
    for (size, subset, kind), first in told.items():
        last = told.get((size, subset, "residual"))
        if kind != "instantaneous" or last is None:
            continue
        p_first, p_last = first["p_value"] / 2, last["p_value"] / 2  # of the sign that was found
        p_first = p_first if first["estimate"] > 0 else 1 - p_first
        p_last = p_last if last["estimate"] < 0 else 1 - p_last
        alpha = (1 - level) / 2  # so that it holds where both intervals exclude 0
        against = max(p_first, p_last) > 1 - alpha
        verdict = "supported" if max(p_first, p_last) < alpha else "undecided"
        yield {
            **first,
            "kind": "residual",
            "quantity": "claim",
            **dict.fromkeys(("estimate", "se", "lower", "upper")),
            "p_value": max(p_first, p_last),
            "verdict": "contradicted" if against else verdict,
        }


def _line(
    y: Float[np.ndarray, " n"], rate: Float[np.ndarray, " n"], noise: Float[np.ndarray, "n n"]
) -> Regression:
    """Regress on a rate scaled to its mean, so that its unit does not matter; then scale back."""
    unit = float(np.abs(rate).mean())
    found = regression(y, np.column_stack([np.ones(len(y)), rate / unit]), noise)
    back = np.array([1.0, 1 / unit])
    return Regression(
        found.coefficients * back, found.covariance * np.outer(back, back), found.spread, found.df
    )


def _of_size(known: _Against, level: float) -> Iterator[dict[str, Any]]:
    rate, noise = known.rate, known.effects.noise
    base = {**known.one.names, "n": len(rate.mean)}
    found = _line(known.effect, rate.mean, noise)
    steps = rate.integrated / np.where(rate.mean > 0, rate.mean, 1.0)
    alike = np.ptp(steps) < 1e-9 * steps.max()  # then the sum is the mean in another unit
    total = found if alike else _line(known.effect, rate.integrated, noise)
    none = dict.fromkeys(("se", "lower", "upper", "p_value"))
    yield {**base, "quantity": "slope_mean_rate", **_slope(found, level, 1.0)}
    unit = 1 / float(steps[0]) if alike else 1.0
    yield {**base, "quantity": "slope_integrated_rate", **_slope(total, level, unit)}
    yield {**base, "quantity": "slope_peak", **_slope(found, level, rate.peak)}
    yield {**base, "quantity": "spread", "estimate": found.spread, **none}


def _slope(found: Regression, level: float, unit: float) -> dict[str, float]:
    lower, upper = (float(end[1]) * unit for end in found.interval(level))
    below = found.p_below(1)
    return {
        "estimate": float(found.coefficients[1]) * unit,
        "se": float(found.se[1]) * unit,
        "lower": lower,
        "upper": upper,
        "p_value": 2 * min(below, 1 - below),
    }


def _pooled(
    known: Sequence[_Against],
    noise: Float[np.ndarray, "n n"],
    spreads: Sequence[float],
    level: float,
) -> dict[str, Any]:
    """One slope for all sizes, in units of each one's peak, with an intercept for each."""
    size = np.repeat(np.arange(len(known)), [len(one.rate.mean) for one in known])
    own = (size[:, None] == np.arange(len(known))).astype(np.float64)
    relative = np.concatenate([one.rate.mean / one.rate.peak for one in known])
    y = np.concatenate([one.effect for one in known])
    extra = np.array(spreads)[size] ** 2
    found = regression(y, np.column_stack([own[:, 0], relative, own[:, 1:]]), noise, extra)
    slope = {"quantity": "slope_peak", "n": len(y), **_slope(found, level, 1.0)}
    return {**known[0].one.names, "size": "all", **slope}
