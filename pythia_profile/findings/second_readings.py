"""Rows that were read before, again, or many times: effects by exposure.

In: the estimate of a run, whose rows carry what is known of their other exposures. Out: lines of
the table `FINDINGS`. Three columns of the rows are read, where they are there:

    earlier_exposure   share of the row's tokens that had been read before: half or more, or less
    second_step        first step after its own that reads a row's text again; null where none does
    copies             how many copies of the row the run reads, all by its treatment step

A second exposure is a second event. The first effect is estimated from rows whose second event has
not come (`did.readings`, rule cut). Beside it stands the naive effect, of all rows at the same
cells, whose bias is what the second exposure adds. The second effect compares rows with others of
the *same first cohort* that have not had it yet, since rows of another cohort are at another point
of forgetting: one estimate for each first cohort, averaged by rows.

Source: de Chaisemartin and D'Haultfoeuille (2023), "Two-way fixed effects and differences-in-
differences with several treatments", for effects of a second treatment.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import polars as pl
from jaxtyping import Bool, Int
from scipy import sparse
from scipy.special import ndtr, ndtri, stdtr

from data_order.order import cohort_of_steps
from pythia_profile.did import AttGt, Contrast, Panel, aggregate, contrast
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.inference.contrasts import joint_covariance
from pythia_profile.did.readings import EARLIER
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import EstimationError
from pythia_profile.findings.known_noise import regression
from pythia_profile.findings.summaries import MEANS
from pythia_profile.profiles.estimates import RunEstimate
from pythia_profile.tables import NEVER

__all__ = ["by_exposure", "dose", "exposure", "second_effects"]

log = logging.getLogger(__name__)

T = TypeVar("T")

EARLIER_COLUMN, COPIES = "earlier_exposure", "copies"
_FEWEST = 2
"""Rows of a group: a variance takes two."""


def exposure(one: RunEstimate, settings: Estimation) -> Iterator[dict[str, Any]]:
    """Lines of `FINDINGS` of one run, for each exposure that its rows tell of."""
    columns = one.panel.covariates.columns
    found = [(by_exposure, EARLIER_COLUMN in columns), (dose, COPIES in columns)]
    for find, known in [*found, (second_exposure, one.panel.second is not None)]:
        if not known:
            continue
        try:
            lines = list(find(one.panel, settings))
        except EstimationError as error:
            name = find.__name__.replace("_", " ")
            log.warning("%s: %s left out: %s", one.panel.run[1], name, error)
            continue
        yield from ({**one.names, "finding": "exposure", "verdict": "", **line} for line in lines)


def by_exposure(panel: Panel, settings: Estimation) -> Iterator[dict[str, Any]]:
    """Effects on rows most of whose tokens had been read before, and on others; the difference."""
    share = panel.covariates[EARLIER_COLUMN].cast(pl.Float64).fill_null(0.0).to_numpy()
    read = share >= EARLIER  # a row shares single tokens with its neighbors in any case
    treated = panel.cohort != NEVER
    if not (read & treated).any() or not (~read & treated).any():
        return
    groups = {"read before": read, "not read before": ~read}
    found = {name: _among(panel, settings, rows) for name, rows in groups.items()}
    for kind in MEANS:
        means = _on_common_cohorts(found, kind)
        for name, mean in means.items():
            yield _line(mean, kind, "effect", name, int((groups[name] & treated).sum()), settings)
        if len(means) == 2:
            subset = "read before minus not read before"
            gap = means["read before"] - means["not read before"]
            yield _line(gap, kind, "difference", subset, int(treated.sum()), settings)


def dose(panel: Panel, settings: Estimation) -> Iterator[dict[str, Any]]:
    """Effects by number of copies, and their slope for each doubling of it."""
    copies = panel.covariates[COPIES].cast(pl.Float64).fill_null(0.0).to_numpy()
    treated = panel.cohort != NEVER
    numbers = np.unique(copies[treated & (copies >= 1)])
    found = {n: _among(panel, settings, copies == n) for n in numbers}
    for kind in MEANS:
        means = _on_common_cohorts(found, kind)
        for n, mean in means.items():
            rows = int((treated & (copies == n)).sum())
            yield _line(mean, kind, "effect", f"{n:g} copies", rows, settings)
        if len(means) < 3:
            continue
        x = np.column_stack([np.ones(len(means)), np.log2(list(means))])
        y = np.concatenate([mean.estimate for mean in means.values()])
        slope = regression(y, x, joint_covariance(list(means.values())))
        lower, upper = slope.interval(settings.level)
        below = slope.p_below(1)
        yield {
            "kind": kind,
            "quantity": "dose",
            "subset": "all",
            "estimate": float(slope.coefficients[1]),
            "se": float(slope.se[1]),
            "lower": float(lower[1]),
            "upper": float(upper[1]),
            "p_value": 2 * min(below, 1 - below),
            "n": int((treated & (copies >= 1)).sum()),
        }


def second_effects(panel: Panel, settings: Estimation) -> dict[int, AttGt]:
    """Effect of the second exposure, one estimate for each first cohort that allows one.

    The cohorts of each estimate are the second ones; its controls are rows of the same first cohort
    whose second exposure has not come, or never comes.
    """
    again = _second_cohort(panel)
    both = settings.replace(control="both", covariates=())
    found = {}
    for g in np.unique(panel.cohort[panel.cohort != NEVER]):
        mine = panel.cohort == g
        later = np.where(again > g, again, NEVER)
        counted = {h: int((mine & (later == h)).sum()) for h in np.unique(later[mine])}
        usable = mine & np.isin(later, [h for h, n in counted.items() if n >= _FEWEST])
        if not (later[usable] != NEVER).any():
            continue
        laid = replace(panel, cohort=later, second=None).keep(
            usable, f"other first cohort than {g}"
        )
        try:
            found[int(g)] = effects(laid, both)
        except EstimationError as error:
            log.info("second exposure, first cohort %s: %s", g, error)
    return found


def second_exposure(panel: Panel, settings: Estimation) -> Iterator[dict[str, Any]]:
    """Effect of the second exposure; of the first without and with rows that had their second."""
    again = _second_cohort(panel)
    twice = (again != NEVER) & (panel.cohort != NEVER)
    if not twice.any():
        return
    treated = int((panel.cohort != NEVER).sum())
    alone, plain = effects(panel, settings), effects(replace(panel, second=None), settings)
    plain = replace(plain, att=np.where(alone.identified, plain.att, np.nan))  # the same cells
    later = second_effects(panel, settings)
    for kind in MEANS:
        for quantity, att in (("first_only", alone), ("first_naive", plain)):
            if (mean := _mean(att, kind)) is not None:
                yield _line(mean, kind, quantity, "all", treated, settings)
        parts = [(mean, _mass(att)) for att in later.values() if (mean := _mean(att, kind))]
        if parts:
            yield _averaged(parts, kind, int(twice.sum()), settings)


def _averaged(
    parts: list[tuple[Contrast, float]], kind: str, rows: int, settings: Estimation
) -> dict[str, Any]:
    """Mean over first cohorts by rows: they have no row in common, so variances add up."""
    mass = np.array([weight for _, weight in parts])
    share = mass / mass.sum()
    estimate = float(share @ [mean.estimate[0] for mean, _ in parts])
    se = float(np.sqrt(share**2 @ [mean.se[0] ** 2 for mean, _ in parts]))
    half = float(ndtri((1 + settings.level) / 2)) * se
    return {
        "kind": kind,
        "quantity": "second",
        "subset": "all",
        "estimate": estimate,
        "se": se,
        "lower": estimate - half,
        "upper": estimate + half,
        "p_value": 2 * float(ndtr(-abs(estimate / se))) if se > 0 else 1.0,
        "n": rows,
    }


def _mass(att: AttGt) -> float:
    """Treated rows of an estimate."""
    return float(att.fit.treated.weight[:, 0].sum())


def _second_cohort(panel: Panel) -> Int[np.ndarray, " U"]:
    """First checkpoint that has read each row twice; NEVER where none has."""
    step = np.full(len(panel), NEVER) if panel.second is None else panel.second
    return cohort_of_steps(step, panel.checkpoints)


def _among(panel: Panel, settings: Estimation, rows: Bool[np.ndarray, " U"]) -> AttGt | None:
    """Effects on some treated rows, against all never-treated ones; None where they are too few."""
    never = panel.cohort == NEVER
    sizes = {g: int((rows & (panel.cohort == g)).sum()) for g in np.unique(panel.cohort[~never])}
    enough = np.isin(panel.cohort, [g for g, n in sizes.items() if n >= _FEWEST])
    kept = never | (rows & enough)
    if not (kept & ~never).any():
        return None
    return effects(panel.keep(kept, "of another exposure, or too few of a cohort"), settings)


def _on_common_cohorts(found: Mapping[T, AttGt | None], kind: Kind) -> dict[T, Contrast]:
    """Mean effect of each group over the cohorts that all groups have, which count alike.

    Groups differ in their cohorts (late rows were read before more often), and cohorts in their
    effects: means over each group's own cohorts would compare these.
    """
    aggregates = {
        name: aggregate(att, kind)
        for name, att in found.items()
        if att is not None and _mean(att, kind) is not None
    }
    labels = [{*one.labels} - {None} for one in aggregates.values()]
    common = sorted(set.intersection(*labels)) if labels else []
    means = {}
    for name, one in aggregates.items() if common else ():
        (part,) = one.only(common).parts
        weights = sparse.csr_array(np.full((1, len(common)), 1 / len(common))) @ part.weights
        means[name] = contrast(part.att, weights, [None], kind)
    return means


def _mean(att: AttGt, kind: Kind) -> Contrast | None:
    try:
        return aggregate(att, kind).only([None])
    except EstimationError:
        return None


def _line(
    mean: Contrast, kind: str, quantity: str, subset: str, rows: int, settings: Estimation
) -> dict[str, Any]:
    lower, upper = mean.interval(settings.level)
    estimate, se = float(mean.estimate[0]), float(mean.se[0])
    p = 2 * float(stdtr(mean.df[0], -abs(estimate / se))) if se > 0 else 1.0
    return {
        "kind": kind,
        "quantity": quantity,
        "subset": subset,
        "estimate": estimate,
        "se": se,
        "lower": float(lower[0]),
        "upper": float(upper[0]),
        "p_value": p,
        "n": rows,
    }
