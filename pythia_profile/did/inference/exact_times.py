"""Effects by a row's own time since it was read, which do not depend on the grid of checkpoints.

In: a panel whose rows know their treatment steps. Out: `AttGt` with finer cohorts, and contrasts of
its cells. A cohort of the grid holds rows read up to a whole interval before its checkpoint, so its
instantaneous effect is that of an average half interval later, and its persistent effect a mean
over whatever checkpoints there are: score every second one, and both change. Here each cohort is
split by its rows' own steps, and event times are counted from these.

    event_time_curve   mean effect in stated ranges of event time
    effect_at          effect at one event time, between two checkpoints by a straight line
    persistence        mean over event time from `start` to `horizon`, each step counting alike, for
                       the cohorts that are followed from the one to the other

All are contrasts (`aggregates`), so bands, differences and influence functions are theirs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from pythia_profile.did.arguments import counted
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import EmptyFamilyError, NoRowsError, OptionError
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.contrasts import Contrast, contrast
from pythia_profile.did.moments import Step
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.tables import NEVER


def effects_by_own_step(panel: Panel, settings: Estimation = DEFAULT, *, parts: int = 4) -> AttGt:
    """Estimate with each cohort split by its rows' own treatment steps.

    Parameters
    ----------
    parts : how many finer cohorts to make of each; fewer where it has fewer than two steps for each
        of them, as a cohort's variance takes two steps or more. A finer cohort's label is the mean
        step of its rows, rounded up.

    Raises
    ------
    NoRowsError
        The panel does not know its rows' steps.
    """
    if isinstance(parts, bool) or parts < 1:
        raise OptionError(f"parts: got {parts!r}, expected cohorts from 1 on")
    if panel.step is None:
        raise NoRowsError("own steps: the panel has none; lay it out from the tables again")
    finer = panel.cohort.copy()
    for cohort in np.unique(panel.cohort[panel.cohort != NEVER]):
        rows = np.flatnonzero(panel.cohort == cohort)
        steps, number = np.unique(panel.step[rows], return_inverse=True)
        made = max(min(parts, len(steps) // 2), 1)
        part = (np.arange(len(steps)) * made // len(steps))[number]
        mean = np.bincount(part, weights=panel.step[rows]) / np.bincount(part)
        finer[rows] = np.ceil(mean).astype(np.int64)[part]
    note = f"{counted(len(np.unique(panel.cohort)) - 1, 'cohort')} split by rows' own steps"
    return effects(replace(panel, cohort=finer, notes=(*panel.notes, note)), settings)


def event_time_curve(att: AttGt, edges: Sequence[Step]) -> Contrast:
    """Mean effect of the cells in each range of event time, weighted by their rows.

    Parameters
    ----------
    edges : (K + 1,) ascending steps; range k holds event times from edge k up to, and without, edge
        k + 1. Ranges without cells are left out.

    Returns
    -------
    Contrasts with the mean event time of their cells as labels.
    """
    ends = np.asarray(edges, dtype=np.float64)
    if ends.ndim != 1 or len(ends) < 2 or not (np.diff(ends) > 0).all():
        raise OptionError(f"edges: got {list(edges)}, expected two or more ascending steps")
    inside = np.searchsorted(ends, att.event_time, side="right") - 1
    inside[(att.event_time < ends[0]) | (att.event_time >= ends[-1]) | ~att.identified] = -1
    cells = np.flatnonzero(inside.ravel() >= 0)
    if not cells.size:
        raise EmptyFamilyError(f"event times: no cell lies from {ends[0]:g} to {ends[-1]:g}")
    ranges, number = np.unique(inside.ravel()[cells], return_inverse=True)
    mass = att.fit.treated.weight.ravel()[cells]
    share = mass / np.bincount(number, weights=mass)[number]
    weights = sparse.csr_array((share, (number, cells)), shape=(len(ranges), inside.size))
    times = weights @ att.event_time.ravel().astype(np.float64)
    return contrast(att, weights, times.tolist(), "event_time")


def effect_at(att: AttGt, event_time: Step) -> Contrast:
    """Effect at one event time: each cohort's by a straight line between checkpoints, then a mean.

    Cohorts that are followed over this event time count, by their rows.
    """
    if not event_time >= 0:
        raise OptionError(f"event_time: got {event_time!r}, expected steps from 0 on")

    def line(times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        weights: Float[np.ndarray, " n"] = _interpolation(times, np.array([float(event_time)]))[0]
        return weights

    return _over_cohorts(att, event_time, event_time, line, "effect_at")


def persistence(att: AttGt, start: Step, horizon: Step) -> Contrast:
    """Mean effect over event times from `start` to `horizon`, each step counting alike.

    Between checkpoints effects follow straight lines; cohorts that are followed from `start` to
    `horizon` count, by their rows. So the same set of cohorts stands behind every event time, and
    checkpoints that lie close together count no more than others.

    Raises
    ------
    EmptyFamilyError
        No cohort is followed so long from so early on; the message says what is.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, att_gt
    >>> y = [[0, 1.0, 0.5], [1, 2.1, 1.6], [0, 0, 0], [1, 1, 1.0]]
    >>> att = att_gt(y, [10, 10, NEVER, NEVER], [0, 10, 30])
    >>> persistence(att, 0, 20).estimate.round(3)
    array([0.8])
    """
    if not 0 <= start < horizon:
        raise OptionError(f"start, horizon: got {start}, {horizon}, expected 0 <= start < horizon")

    def mean(times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        between = times[(times > start) & (times < horizon)]
        knots = np.concatenate([[start], between, [horizon]])
        values = _interpolation(times, knots)
        # The trapezoid rule is exact here: effects are straight lines between the knots.
        width = np.diff(knots)[:, None]
        area: Float[np.ndarray, " n"] = (width * (values[1:] + values[:-1]) / 2).sum(axis=0)
        return area / float(horizon - start)

    return _over_cohorts(att, start, horizon, mean, "persistence")


def _interpolation(
    times: Float[np.ndarray, " n"], at: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "m n"]:
    """Weights on effects at `times` of the straight lines' values at other times."""
    return np.stack([np.interp(at, times, unit) for unit in np.eye(len(times))], axis=1)


def _over_cohorts(
    att: AttGt,
    first: Step,
    last: Step,
    weigh: Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]],
    kind: str,
) -> Contrast:
    """Weigh each cohort's effects after treatment, then cohorts by their rows."""
    post: Bool[np.ndarray, "G C"] = att.post
    followed = [
        g
        for g, times in enumerate(att.event_time)
        if post[g].any() and times[post[g]][0] <= first and last <= times[post[g]][-1]
    ]
    if not followed:
        known = att.event_time[post] if post.any() else np.array([np.nan])
        raise EmptyFamilyError(
            f"{kind}: none of {counted(len(att.cohorts), 'cohort')} is followed from event time "
            f"{first:g} to {last:g}; event times after treatment go from {known.min():g} to "
            f"{known.max():g}"
        )
    weights = np.zeros(att.att.shape)
    mass = att.fit.treated.weight[followed, 0]
    for g, share in zip(followed, mass / mass.sum(), strict=True):
        columns: Int[np.ndarray, " n"] = np.flatnonzero(post[g])
        weights[g, columns] = share * weigh(att.event_time[g, columns].astype(np.float64))
    return contrast(att, weights, [float(last)], kind)
