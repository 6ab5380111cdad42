"""Profiles and summaries of ATT(g, c): which cells each of them averages, with which weights.

In: `AttGt` and a kind. Out: `Contrast`, with one estimate for each event time, cohort, checkpoint.

    event_time      over cohorts, by steps since the cohort        weights: rows of the cohort
    cohort          over checkpoints from the cohort on            equal
    calendar        over cohorts read by the checkpoint            weights: rows of the cohort
    overall         over all cells from the cohort on              weights: rows of the cohort
    instantaneous   the first checkpoint that has read the cohort; then their mean over cohorts
    persistent      mean over later checkpoints, for each cohort; then their mean over cohorts
    residual        the last checkpoint, for each cohort; then their mean over cohorts

R's did gives each aggregate an overall ATT as well: `overall_of`. Names in other packages:

    ours                           R did, csdid       differences       diff-diff
    aggregate(att, "event_time")   dynamic            event             event_study
    aggregate(att, "cohort")       group              cohort            group
    aggregate(att, "calendar")     calendar           time              (none)
    aggregate(att, "overall")      simple             simple            overall_att
    control="never"                nevertreated       never_treated     never_treated
    control="both"                 notyettreated      not_yet_treated   not_yet_treated
    control="not_yet"              the same, of a panel without never-treated rows
    shares="estimated"             always             always            always

Sources: Callaway and Sant'Anna (2021), section 3 and table 1; Lesci et al. (2024), section 3, for
the last three.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy import sparse

from pythia_profile.did.arguments import check_option
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import EmptyFamilyError, OptionError
from pythia_profile.did.inference.contrasts import Contrast, contrast
from pythia_profile.did.moments import Step

Kind = Literal[
    "event_time", "cohort", "calendar", "overall", "instantaneous", "persistent", "residual"
]
Shares = Literal["fixed", "estimated"]


def aggregate(
    att: AttGt,
    kind: Kind,
    *,
    cohorts: Sequence[Step] | None = None,
    balance: Step | None = None,
    shares: Shares = "fixed",
) -> Contrast:
    """Average ATT(g, c) into a profile or a summary.

    Parameters
    ----------
    kind : see the head of this module.
    cohorts : average over these cohorts only, for instance the early ones.
    balance : for `event_time`: keep the cohorts that are followed for `balance` steps or more, and
        the event times that all of these reach; late event times are otherwise made of early
        cohorts only.
    shares : `fixed`: the sampling design fixes how many rows each cohort has, so its weight is no
        estimate (our default). `estimated`: adds the variance that comes from drawing the rows'
        cohorts at random, as R's did, csdid, differences and diff-diff do.

    Raises
    ------
    OptionError
        An unknown kind or cohort, or `balance` with another kind than `event_time`.
    EmptyFamilyError
        No cell belongs to the aggregate.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, att_gt
    >>> y = [[0, 1.0, 1], [1, 2.1, 2], [0, 0, 3.0], [1, 1, 4.2], [0, 0, 0], [1, 1, 1.0]]
    >>> effect = att_gt(y, [10, 10, 20, 20, NEVER, NEVER], [0, 10, 20])
    >>> curve = aggregate(effect, "event_time")
    >>> curve.labels
    (-20, -10, 0, 10)
    >>> curve.only([0, 10]).estimate.round(3)
    array([2.075, 1.   ])
    """
    check_option(kind, Kind, "kind")
    check_option(shares, Shares, "shares")
    if balance is not None and kind != "event_time":
        raise OptionError(f"balance: got {balance!r} with kind {kind!r}, expected event_time")
    chosen = _chosen(att, cohorts)
    if kind in ("instantaneous", "persistent", "residual"):
        return _profile(att, kind, chosen, shares)
    cells, key = _members(att, kind, chosen, balance)
    if not cells.any():
        raise EmptyFamilyError(f"{kind}: none of {cells.size} cells belongs to it")
    labels, number = np.unique(key[cells], return_inverse=True)
    by_rows = kind != "cohort"
    mass = att.fit.treated.weight[cells] if by_rows else np.ones(number.size)
    weights = _normalized(mass, number, np.flatnonzero(cells), (len(labels), cells.size))
    at = tuple(labels.tolist()) if kind != "overall" else (None,)
    estimated = by_rows and shares == "estimated"
    return contrast(att, weights, at, kind, _share_terms(att, weights) if estimated else None)


def overall_of(curve: Contrast, *, shares: Shares = "fixed") -> Contrast:
    """Average an aggregate into one number, as R's did does for its `overall.att`.

    Event times from 0 on, and checkpoints, count alike; cohorts count by their rows. For event
    times this gives the few cohorts that are followed longest more weight than `overall` does.

    Parameters
    ----------
    shares : as in `aggregate`; of cohorts, `estimated` adds the variance of their shares.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, att_gt
    >>> y = [[0, 1.0, 1], [1, 2.1, 2], [0, 0, 3.0], [1, 1, 4.2], [0, 0, 0], [1, 1, 1.0]]
    >>> effect = att_gt(y, [10, 10, 20, 20, NEVER, NEVER], [0, 10, 20])
    >>> overall_of(aggregate(effect, "event_time")).estimate.round(4)
    array([1.5375])
    """
    check_option(shares, Shares, "shares")
    if curve.kind not in ("event_time", "cohort", "calendar") or len(curve.parts) != 1:
        raise OptionError(
            f"overall_of: got '{curve.kind}', expected an aggregate by event_time, cohort or "
            "calendar"
        )
    (part,) = curve.parts
    mass = np.ones(len(curve))
    if curve.kind == "event_time":
        mass = (np.array(curve.labels, dtype=np.float64) >= 0).astype(np.float64)
    group = np.searchsorted(part.att.cohorts, curve.labels) if curve.kind == "cohort" else None
    if group is not None:
        mass = part.att.fit.treated.weight[group, 0]
    weights = mass / mass.sum()
    terms = part.shares @ weights[:, None]
    if group is not None and shares == "estimated":
        terms[group, 0] += (curve.estimate - weights @ curve.estimate) / mass.sum()
    mean = sparse.csr_array(weights[None, :]) @ part.weights
    return contrast(part.att, sparse.csr_array(mean), [None], f"{curve.kind}, overall", terms)


def first_cohort_note(att: AttGt) -> tuple[str, ...]:
    """Say what the overall effect is without the first cohort, where that moves it notably.

    Its base is the first checkpoint, often random weights, whose outcomes say little about later
    ones; it is followed longest, and so has the most cells of the overall effect.
    """
    followed = np.flatnonzero(att.post.any(axis=1))
    if followed.size < 2 or followed[0] != 0:
        return ()
    whole = aggregate(att, "overall")
    rest = aggregate(att, "overall", cohorts=att.cohorts[1:].tolist())
    change = float(rest.estimate[0] - whole.estimate[0])
    if abs(change) <= float(whole.se[0]):
        return ()
    base = att.checkpoints[max(int(att.fit.comparison.base[0, -1]), 0)]
    return (
        f"overall effect {whole.estimate[0]:.4f} ± {whole.se[0]:.4f}, without cohort "
        f"{att.cohorts[0]:g} {rest.estimate[0]:.4f} ± {rest.se[0]:.4f}: its base, checkpoint "
        f"{base:g}, is the least like what follows",
    )


def _chosen(att: AttGt, cohorts: Sequence[Step] | None) -> Bool[np.ndarray, "G 1"]:
    """Cohorts to average over."""
    if cohorts is None:
        return np.ones((len(att.cohorts), 1), bool)
    if unknown := [g for g in cohorts if g not in att.cohorts]:
        listed = ", ".join(f"{g:g}" for g in att.cohorts[:8])
        raise OptionError(f"cohorts: no cohort {unknown[0]:g}; the first are {listed}")
    return np.array([g in cohorts for g in att.cohorts])[:, None]


def _members(
    att: AttGt, kind: str, chosen: Bool[np.ndarray, "G 1"], balance: Step | None
) -> tuple[Bool[np.ndarray, "G C"], Num[np.ndarray, "G C"]]:
    """Cells of an aggregate, and the label of each."""
    shape = att.att.shape
    if kind == "cohort":
        return att.post & chosen, np.broadcast_to(att.cohorts[:, None], shape)
    if kind == "calendar":
        return att.post & chosen, np.broadcast_to(att.checkpoints, shape)
    if kind == "overall":
        return att.post & chosen, np.zeros(shape)
    e = att.event_time
    if balance is None:
        return att.identified & chosen, e
    kept = (e[:, -1] >= balance)[:, None] & (e <= balance) & chosen
    if not kept.any():
        raise EmptyFamilyError(
            f"balance={balance:g}: none of {chosen.sum()} cohorts is followed that long; the "
            f"longest is followed for {e[chosen[:, 0], -1].max():g} steps"
        )
    kept &= att.identified
    reached = [set(times[k].tolist()) for times, k in zip(e, kept, strict=True) if k.any()]
    return kept & np.isin(e, list(set.intersection(*reached))), e


def _normalized(
    mass: Float[np.ndarray, " n"],
    number: Num[np.ndarray, " n"],
    cell: Num[np.ndarray, " n"],
    shape: tuple[int, int],
) -> sparse.csr_array:
    share = mass / np.bincount(number, weights=mass)[number]
    return sparse.csr_array((share, (number, cell)), shape=shape)


def _share_terms(att: AttGt, weights: sparse.csr_array) -> Float[np.ndarray, "G K"]:
    """Return what a row adds by being of cohort g: Σ_c (ATT(g, c) − mean) / Σ_cells n."""
    flat = np.nan_to_num(att.att.ravel())
    mean = weights @ flat
    mass = att.fit.treated.weight.ravel()
    member = weights.astype(bool).astype(np.float64)
    deviation = member.multiply(flat[None, :]) - member.multiply(mean[:, None])
    per_cohort = np.asarray(deviation.toarray()).reshape(len(mean), *att.att.shape).sum(axis=2)
    terms: Float[np.ndarray, "G K"] = (per_cohort / (member @ mass)[:, None]).T
    return terms


def _profile(att: AttGt, kind: str, chosen: Bool[np.ndarray, "G 1"], shares: Shares) -> Contrast:
    """One estimate for each cohort that has such cells, and their mean, weighted by rows."""
    first = np.argmax(att.fit.comparison.post, axis=1)[:, None] == np.arange(len(att.checkpoints))
    last = np.arange(len(att.checkpoints)) == len(att.checkpoints) - 1
    cells = (
        att.post
        & chosen
        & {
            "instantaneous": first,
            "persistent": ~first,
            "residual": np.broadcast_to(last, first.shape),
        }[kind]
    )
    counts = cells.sum(axis=1)
    having = np.flatnonzero(counts)
    if not having.size:
        raise EmptyFamilyError(f"{kind}: none of {chosen.sum()} cohorts has such a checkpoint")
    row, number = np.nonzero(cells[having])
    flat = having[row] * cells.shape[1] + number
    each = sparse.csr_array(
        (1.0 / counts[having][row], (row, flat)), shape=(having.size, cells.size)
    )
    mass = att.fit.treated.weight[having, 0]
    mean = sparse.csr_array((mass / mass.sum())[None, :] @ each)
    weights = sparse.vstack([each, mean], format="csr")
    at: tuple[Any, ...] = (*att.cohorts[having].tolist(), None)
    terms = None
    if shares == "estimated":
        terms = np.zeros((len(att.cohorts), having.size + 1))
        values = each @ np.nan_to_num(att.att.ravel())
        terms[having, -1] = (values - mass @ values / mass.sum()) / mass.sum()
    return contrast(att, weights, at, kind, terms)
