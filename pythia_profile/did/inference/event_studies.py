"""Effects along event time with their covariance, for sensitivity to violations of parallel trends.

In: the path of one cohort, or an aggregate over event times. Out: `EventStudy`, effects before and
after the base checkpoint, at which they are 0 by construction.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy import sparse

from pythia_profile.did.arguments import Short
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import EmptyFamilyError, OptionError
from pythia_profile.did.inference.aggregates import aggregate
from pythia_profile.did.inference.contrasts import Contrast, contrast
from pythia_profile.did.moments import Step

Effect = Literal["average", "first", "last"] | Step | npt.ArrayLike


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EventStudy(Short):
    """Effects along event time with their covariance; the base, where they are 0, is left out.

    Attributes
    ----------
    before : (P,) positions before the base, ascending, in median checkpoint intervals from it.
    after : (Q,) positions after the base, likewise.
    steps : (Q,) event time of the latter in optimizer steps; below 0 where treatment was only
        anticipated.
    estimate : (P + Q,) effects, in units of the outcome.
    covariance : (P + Q, P + Q) their covariance.
    df : degrees of freedom of the standard errors, the smallest among the effects.
    """

    before: Float[np.ndarray, " P"]
    after: Float[np.ndarray, " Q"]
    steps: Float[np.ndarray, " Q"]
    estimate: Float[np.ndarray, " T"]
    covariance: Float[np.ndarray, "T T"]
    df: float

    def near_base(self, window: int | None) -> "EventStudy":
        """Return it with the last `window` effects before the base; all of them for None."""
        left_out = 0 if window is None else max(len(self.before) - window, 0)
        kept = slice(left_out, None)
        return replace(
            self,
            before=self.before[kept],
            estimate=self.estimate[kept],
            covariance=self.covariance[kept, kept],
        )


def event_study_of(target: AttGt | Contrast, cohort: Step | None) -> EventStudy:
    """Effects before and after the base, of one cohort or of an aggregate over event times.

    An `AttGt` without a cohort stands for its aggregate over event times.

    Raises
    ------
    OptionError
        The target is neither, or its cells do not share one base.
    EmptyFamilyError
        There is no effect on one of the two sides.
    """
    if isinstance(target, AttGt) and cohort is not None:
        path, base = _path(target, cohort)
    elif isinstance(target, AttGt):
        curve = aggregate(target, "event_time")
        path, base = curve, _base_of(curve)
    else:
        path, base = target, _base_of(target)
    steps = np.array(path.labels, dtype=np.float64)
    used = path.se > 0
    before, after = used & (steps < base), used & (steps > base)
    if not before.any() or not (after & (steps >= 0)).any():
        raise EmptyFamilyError(
            f"sensitivity: {before.sum()} effects before and {(after & (steps >= 0)).sum()} after "
            "treatment have a variance, expected one or more of each"
        )
    unit = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    index = np.concatenate([np.flatnonzero(before), np.flatnonzero(after)])
    return EventStudy(
        before=(steps[before] - base) / unit,
        after=(steps[after] - base) / unit,
        steps=steps[after],
        estimate=path.estimate[index],
        covariance=path.covariance()[np.ix_(index, index)],
        df=float(path.df[index].min()),
    )


def effect_weights(study: EventStudy, effect: Effect) -> Float[np.ndarray, " Q"]:
    """Weights of an effect on the effects after the base; (Q,)."""
    treated = np.flatnonzero(study.steps >= 0)
    weights = np.zeros(len(study.steps))
    if isinstance(effect, str):
        chosen = {"average": treated, "first": treated[:1], "last": treated[-1:]}
        if effect not in chosen:
            raise OptionError(
                f"effect: got {effect!r}, expected average, first, last, an event time or weights"
            )
        weights[chosen[effect]] = 1.0 / len(chosen[effect])
        return weights
    given = np.asarray(effect, dtype=np.float64)
    if given.ndim == 0:
        weights[study.steps == given] = 1.0
        if not weights.any():
            raise OptionError(f"effect: no event time {given:g} after the base")
        return weights
    if given.shape != treated.shape or not np.isfinite(given).all():
        raise OptionError(
            f"effect: got weights of shape {given.shape}, expected one for each of the "
            f"{len(treated)} event times from 0 on"
        )
    weights[treated] = given
    return weights


def _path(att: AttGt, cohort: Step) -> tuple[Contrast, float]:
    _check_base(att)
    if cohort not in att.cohorts:
        listed = ", ".join(f"{g:g}" for g in att.cohorts[:8])
        raise OptionError(f"cohort: got {cohort}, expected one of {listed}")
    g = int(np.flatnonzero(att.cohorts == cohort)[0])
    known = np.flatnonzero(att.identified[g])
    if not known.size:
        raise EmptyFamilyError(f"sensitivity: cohort {cohort:g} has no effect with controls")
    index = (np.arange(len(known)), g * att.att.shape[1] + known)
    weights = sparse.csr_array((np.ones(len(known)), index), shape=(len(known), att.att.size))
    base = float(att.event_time[g, att.fit.comparison.base[g, 0]])
    return contrast(att, weights, att.event_time[g, known].tolist(), "path"), base


def _base_of(curve: Contrast) -> float:
    """Event time of the base that all cells of an aggregate share."""
    if not curve.kind.startswith("event_time"):
        raise OptionError(f"sensitivity: got {curve.kind}, expected an aggregate over event times")
    bases = set()
    for part in curve.parts:
        _check_base(part.att)
        used = np.zeros(part.att.att.size, bool)
        used[part.weights.indices] = True
        rows = used.reshape(part.att.att.shape).any(axis=1)
        bases |= set(_base_steps(part.att)[rows].tolist())
    if len(bases) != 1:
        listed = ", ".join(f"{e:g}" for e in sorted(bases)[:5])
        raise OptionError(
            f"sensitivity: cohorts have their base at {len(bases)} event times ({listed}); use one "
            "cohort's path, or cohorts on an even grid of checkpoints"
        )
    return float(bases.pop())


def _base_steps(att: AttGt) -> Float[np.ndarray, " G"]:
    steps: Float[np.ndarray, " G"] = att.event_time[
        np.arange(len(att.cohorts)), att.fit.comparison.base[:, 0]
    ].astype(np.float64)
    return steps


def _check_base(att: AttGt) -> None:
    base, estimator = att.settings.base, att.settings.estimator
    if base != "universal" or estimator == "diff":
        raise OptionError(
            f"sensitivity: got base '{base}' and estimator '{estimator}', expected the "
            "universal base and did or ancova: effects must be 0 at one common checkpoint"
        )
