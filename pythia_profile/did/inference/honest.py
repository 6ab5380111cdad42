"""How far trends may have been from parallel before an effect is no longer there.

In: effects along event time, before and after treatment, of one cohort or of an aggregate. Out:
intervals for an effect that hold under violations of a stated size, and the breakdown value, the
smallest size at which the interval reaches 0.

The violation δ is the difference that treated rows would have shown without treatment: it is the
whole of the effects before treatment, and an unknown part of those after. With slopes s_t of δ
between neighboring checkpoints,

    relative magnitudes   |s_t| after treatment ≤ M̄ · the largest |s_t| before it
    smoothness            |s_{t+1} − s_t| ≤ M everywhere; M = 0 means a linear trend

Slopes are per checkpoint interval (per median interval where these differ). For relative magnitudes
"before" is a stated window, the last intervals up to the base: with all of them the noisiest slope,
often one from the first steps of training, decides the breakdown value (.018 with 15 intervals in a
study where cohorts with four had 1.59).

Relative magnitudes: for a given largest interval before treatment the bounds are two linear
functions of the effects; the interval is the union, over all intervals and signs, of those that
cover both bounds. One of them is the true one, so the union covers at least as often. Smoothness:
a fixed-length interval around a linear extrapolation of the trend, whose half length accounts for
its largest bias under M. The extrapolation fits a line to the last k checkpoints; k is the one that
makes the interval shortest, which does not depend on the effects.

Source: Rambachan and Roth (2023), "A more credible approach to parallel trends": the restrictions
of sections 2.4.1 and 2.4.3, unions in section 2.3, fixed-length intervals in section 4.1 (there
with the shortest of all linear estimators; with few rows its weights would rest on a covariance
that cannot be estimated. Ours come from a family that does not depend on it, and were 0 to 8 %
longer than the shortest in a range of designs with known covariance).

R's HonestDiD offers for relative magnitudes a conditional and least-favorable hybrid test (C-LF;
Andrews, Roth and Pakes, 2023): inverted on a grid of effects, each with a linear program and
critical values that are conditional on its active constraints. It is shorter: on R's own example
its breakdown value is 1.94 where ours is 1.69. It is not offered here, because it takes the
covariance of all effects before and after as known, and its critical values rest on which
constraints bind: with ten batches a cohort the treated part of that covariance has a rank of nine.
The union of intervals needs variances alone, one bound at a time, with their degrees of freedom,
and errs to the long side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from pythia_profile.did.arguments import Short, check_option, numbers
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import EmptyFamilyError, OptionError
from pythia_profile.did.inference.contrasts import Contrast
from pythia_profile.did.inference.event_studies import (
    Effect,
    EventStudy,
    effect_weights,
    event_study_of,
)
from pythia_profile.did.inference.violations import (
    breakdown,
    relative_bounds,
    relative_intervals,
    smooth_bounds,
    smooth_intervals,
)
from pythia_profile.did.moments import Step
from pythia_profile.did.threads import one_blas_thread

Restriction = Literal["relative_magnitudes", "smoothness"]

WINDOW = 5
"""Intervals before the base that relative magnitudes rest on, unless others are asked for."""

M_BARS = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
SMOOTHNESS_SIZES = np.array([0.0, 0.125, 0.25, 0.5, 1.0])
"""Sizes to show unless others are asked for: M̄, and M in standard errors of the effect."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sensitivity(Short):
    """Intervals for one effect under violations of parallel trends.

    Attributes
    ----------
    restriction : relative magnitudes, or smoothness.
    bounds : (K,) sizes of the violation: M̄ without unit, or M in units of the outcome.
    lower : (K,) lower end of the interval.
    upper : (K,) upper end.
    identified_lower : (K,) lower bound if the estimates were without error; NaN where the effects
        before treatment themselves violate the restriction.
    identified_upper : (K,) upper bound, likewise.
    breakdown : smallest size at which the interval reaches 0; 0 where it does so already without
        a violation, infinity where none does.
    estimate : the effect under parallel trends.
    se : its standard error.
    level : coverage of each interval.
    window : intervals before the base that it rests on.
    """

    restriction: Restriction
    bounds: Float[np.ndarray, " K"]
    lower: Float[np.ndarray, " K"]
    upper: Float[np.ndarray, " K"]
    identified_lower: Float[np.ndarray, " K"]
    identified_upper: Float[np.ndarray, " K"]
    breakdown: float
    estimate: float
    se: float
    level: float
    window: int

    def __str__(self) -> str:
        if self.breakdown == 0:
            verdict = "hold 0"
        elif self.breakdown == np.inf:
            verdict = "exclude 0 under violations of any size"
        elif self.restriction == "relative_magnitudes":
            verdict = (
                f"exclude 0 under slopes up to {self.breakdown:.3g} times the largest of "
                f"the last {self.window} before treatment"
            )
        else:
            verdict = (
                f"exclude 0 under slopes that change by up to {self.breakdown:.3g} a checkpoint"
            )
        return (
            f"effect {self.estimate:.4g} (se {self.se:.2g}); {self.level:.0%} intervals {verdict}"
        )


@one_blas_thread
def sensitivity(
    target: AttGt | Contrast | EventStudy,
    *,
    cohort: Step | None = None,
    effect: Effect = "average",
    restriction: Restriction = "relative_magnitudes",
    bounds: Sequence[float] | None = None,
    window: int | None = WINDOW,
    level: float = 0.95,
) -> Sensitivity:
    """Intervals for an effect under violations of parallel trends, and the breakdown value.

    Parameters
    ----------
    target : `AttGt`, or a `Contrast` over event times, with the universal base; or the `EventStudy`
        of one, which several effects and restrictions then share.
    cohort : of `AttGt`, the cohort whose path is meant; without one, its aggregate over event
        times.
    effect : `average` over the checkpoints from the cohort on, the `first`, the `last`, an event
        time, or (Q,) weights over them.
    bounds : sizes of the violation to give intervals for; unless given, M̄ of 0, 0.5, …, 2, or M of
        0, 1/8, 1/4, 1/2 and 1 standard error of the effect.
    window : for relative magnitudes, how many intervals before the base are taken; None for all.

    Raises
    ------
    EmptyFamilyError
        No effect before or after the base.
    OptionError
        An unknown restriction, effect, cohort or level, or a bound below 0.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, aggregate, att_gt
    >>> rng = np.random.default_rng(0)
    >>> cohort = np.repeat([20, 30, NEVER], 200)
    >>> y = rng.normal(size=(600, 5), scale=0.1) + (cohort[:, None] <= np.arange(0, 50, 10))
    >>> curve = aggregate(att_gt(y, cohort, np.arange(0, 50, 10)), "event_time")
    >>> result = sensitivity(curve, bounds=[0, 1])
    >>> bool(result.lower[1] < result.lower[0] < 1 < result.upper[0] < result.upper[1])
    True
    """
    check_option(restriction, Restriction, "restriction")
    if not 0 < level < 1:
        raise OptionError(f"level: got {level!r}, expected a number between 0 and 1")
    if window is not None and (isinstance(window, bool) or window < 1):
        raise OptionError(f"window: got {window!r}, expected checkpoints from 1 on, or None")
    study = target if isinstance(target, EventStudy) else event_study_of(target, cohort)
    if restriction == "relative_magnitudes":
        study = study.near_base(window)
    weights = effect_weights(study, effect)
    after = slice(len(study.before), None)
    se = float(np.sqrt(weights @ study.covariance[after, after] @ weights))
    usual = M_BARS if restriction == "relative_magnitudes" else se * SMOOTHNESS_SIZES
    sizes = usual if bounds is None else numbers(bounds, "bounds")
    if sizes.ndim != 1 or not (sizes >= 0).all():
        raise OptionError(f"bounds: got {sizes.tolist()}, expected numbers from 0 on")
    make, identified = _METHODS[restriction]
    interval = make(study, weights, level)
    ends = np.array([interval(m) for m in sizes]).reshape(-1, 2)
    known = np.array([identified(study, weights, m) for m in sizes]).reshape(-1, 2)
    return Sensitivity(
        restriction=restriction,
        bounds=sizes,
        lower=ends[:, 0],
        upper=ends[:, 1],
        identified_lower=known[:, 0],
        identified_upper=known[:, 1],
        breakdown=breakdown(interval, 1.0 if restriction == "relative_magnitudes" else se),
        estimate=float(weights @ study.estimate[after]),
        se=se,
        level=level,
        window=len(study.before),
    )


def breakdowns(
    att: AttGt,
    *,
    effect: Effect = "average",
    restriction: Restriction = "relative_magnitudes",
    window: int | None = WINDOW,
    level: float = 0.95,
) -> Float[np.ndarray, " G"]:
    """Breakdown value of each cohort's path; (G,), NaN where a path has no effect on one side."""
    values = np.full(len(att.cohorts), np.nan)
    for i, g in enumerate(att.cohorts):
        try:
            found = sensitivity(
                att,
                cohort=g,
                effect=effect,
                restriction=restriction,
                bounds=(),
                window=window,
                level=level,
            )
        except EmptyFamilyError:
            continue
        values[i] = found.breakdown
    return values


_METHODS = {
    "relative_magnitudes": (relative_intervals, relative_bounds),
    "smoothness": (smooth_intervals, smooth_bounds),
}
