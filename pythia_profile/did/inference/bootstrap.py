"""Random draws of the estimation error of every cell, all cells jointly.

In: `AttGt`, a number of draws, a seed. Out: for each cohort the draws (C, B) of its cells' errors,
and draws of contrasts (K, B), in units of the outcome. A draw perturbs each group's sums by

    Σ_k ε_k Σ_{i∈k} z_i,    ε of mean 0 and variance 1, one for each cluster k

and a cell's error is the same combination of its groups as its estimate. These sums are taken on a
grid of whole numbers, so they are exact: any chunking and any number of workers give the same bits.

Source: Callaway and Sant'Anna (2021), algorithm 1.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pythia_profile.did.ancova import Slopes, slope_scores
from pythia_profile.did.arguments import check_option
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import OptionError
from pythia_profile.did.group_means import GroupMeans
from pythia_profile.did.inference.contrasts import Contrast
from pythia_profile.did.inference.influence import Part
from pythia_profile.did.inference.multipliers import Multiplier, Patterns, multipliers
from pythia_profile.did.known_rows import KnownMeans
from pythia_profile.did.moments import Rows
from pythia_profile.did.regression import Regressions
from pythia_profile.did.settings import Estimation
from pythia_profile.did.threads import one_blas_thread

CHUNK = 2048
"""Clusters whose multipliers are held at once."""


@dataclass(frozen=True, slots=True)
class BootstrapSpec:
    """How errors are drawn.

    Attributes
    ----------
    draws : number of draws B.
    seed : seed of the multipliers.
    process : their distribution.
    workers : threads; changes nothing but the time.
    chunk : clusters drawn at once; changes nothing but memory.
    """

    draws: int = 1000
    seed: int = 0
    process: Multiplier = "normal"
    workers: int = 1
    chunk: int = CHUNK

    @classmethod
    def of(
        cls, settings: Estimation, process: Multiplier = "normal", workers: int = 1
    ) -> "BootstrapSpec":
        """Take number of draws and seed from the settings of an estimate."""
        return cls(settings.draws, settings.seed, process, workers)

    def __post_init__(self) -> None:
        for name, least in (("draws", 10), ("workers", 1), ("chunk", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise OptionError(f"{name}: got {value!r}, expected a whole number from {least} on")
        check_option(self.process, Multiplier, "multiplier")


def cell_draws(att: AttGt, spec: BootstrapSpec) -> Iterator[Float[np.ndarray, "C1 B"]]:
    """Draws of the errors of each cohort's cells, cohort after cohort.

    Yields
    ------
    (C + 1, B): errors of the cells (unidentified cells NaN), and in the last line the draws of the
    cohort's Σ ε w, which the variance of estimated shares needs.
    """
    if (regressions := att.fit.regressions) is not None:
        yield from _mapped(_regression_errors(att, regressions, spec), att, spec)
        return
    pools = _pool_draws(att, spec)

    def errors(g: int) -> Float[np.ndarray, "C1 B"]:
        plan, theta = att.fit.comparison, att.fit.comparison.theta[g]
        # A base or pool that all cells of the cohort share is a view, not 144 copies of a line.
        b, pool = (_one_if_alike(x) for x in (np.maximum(plan.base[g], 0), plan.pool[g]))
        # A draw perturbs the sums of groups, not cells: all cells of a cohort, and all cohorts with
        # common controls, then move together, as their errors do.
        own = group_draws(att, g, spec)
        sums = own[:-1], own[b], own[-1:]
        each = np.arange(len(own) - 1) if pool.size > 1 else slice(-1)
        lines = pool if pool.size > 1 else int(pool[0])
        pooled = pools[lines, each], pools[lines, b], np.atleast_2d(pools[lines, -1])
        if plan.own[g].any():  # the pool counts the cell's own cohort among the controls
            pooled = tuple(p - plan.own[g][:, None] * s for p, s in zip(pooled, sums, strict=True))
        cells = _error(sums, theta, att.fit.treated, g)
        cells -= _error(pooled, theta, att.fit.control, g)
        if att.fit.slopes is not None:
            cells += _slope_errors(att, att.fit.slopes, g, spec)
        cells[~att.identified[g]] = np.nan
        return np.concatenate([cells, own[-1:]])

    yield from _mapped(errors, att, spec)


def _mapped(
    errors: Callable[[int], Float[np.ndarray, "C1 B"]], att: AttGt, spec: BootstrapSpec
) -> Iterator[Float[np.ndarray, "C1 B"]]:
    cohorts = range(len(att.cohorts))
    if spec.workers == 1:
        yield from map(errors, cohorts)
    else:
        with ThreadPoolExecutor(spec.workers) as pool:
            yield from pool.map(errors, cohorts)


def _regression_errors(
    att: AttGt, regressions: Regressions | KnownMeans, spec: BootstrapSpec
) -> Callable[[int], Float[np.ndarray, "C1 B"]]:
    """From a cohort to the draws of its cells' errors, where effects are at equal covariates."""
    fit, rows, kind = att.fit, att.fit.rows, spec.process
    # The controls' multipliers serve every cohort, so they are made once.
    random = {h: _patterns(rows, h, spec, kind) for h in fit.comparison.controls}

    def errors(g: int) -> Float[np.ndarray, "C1 B"]:
        total = np.zeros((len(att.checkpoints) + 1, spec.draws))
        for h in regressions.groups_of(fit.comparison, g):
            scores = regressions.scores(rows, fit.comparison, g, h)
            if h == g:
                scores = np.column_stack([scores, rows.weight[rows.group(g)]])
            patterns = random[h] if h in random else _patterns(rows, h, spec, kind)
            drawn = _whole_sums(rows.by_cluster(scores, h), [patterns])
            total[: len(drawn)] += fit.sums.factor[h] ** 0.5 * drawn
        total[:-1][~att.identified[g]] = np.nan
        return total

    return errors


def _one_if_alike(index: Int[np.ndarray, " C"]) -> Int[np.ndarray, " n"]:
    """Keep the first of an index whose entries are all the same."""
    return index[:1] if (index == index[0]).all() else index


def _error(
    sums: tuple[Float[np.ndarray, "_ B"], ...],
    theta: Float[np.ndarray, " C"],
    means: GroupMeans,
    g: int,
) -> Float[np.ndarray, "C B"]:
    """Error of means of Y_c − θ Y_b, from draws of Σ Y_c, Σ Y_b and Σ 1."""
    at_c, at_b, ones = sums
    error: Float[np.ndarray, "C B"] = at_c - (at_b if (theta == 1).all() else theta[:, None] * at_b)
    error -= means.mean[g][:, None] * ones
    with np.errstate(divide="ignore", invalid="ignore"):
        error /= means.weight[g][:, None]
    return error


def _pool_draws(att: AttGt, spec: BootstrapSpec) -> Float[np.ndarray, "P C1 B"]:
    """Draws of the sums of z over each pool: what `Comparison.pools` does, in place."""
    controls = att.fit.comparison.controls
    shape = (len(att.checkpoints) + 1, spec.draws)
    if att.settings.control == "never":
        return group_draws(att, controls[0], spec)[None]
    pools = np.zeros((len(controls) + 1, *shape))
    for h in reversed(controls):
        np.add(pools[h + 1], group_draws(att, h, spec), out=pools[h])
    return pools


@one_blas_thread
def contrast_draws(
    contrasts: Sequence[Contrast], spec: BootstrapSpec
) -> list[Float[np.ndarray, "K B"]]:
    """Draws of the errors of each contrast, (K, B) each, in one pass over each panel."""
    totals = [np.zeros((len(contrast), spec.draws)) for contrast in contrasts]
    for att in {id(p.att): p.att for contrast in contrasts for p in contrast.parts}.values():
        parts = [
            (total, part)
            for total, contrast in zip(totals, contrasts, strict=True)
            for part in contrast.parts
            if part.att is att
        ]
        for g, errors in enumerate(cell_draws(att, spec)):
            for total, part in parts:
                add_cohort(total, part, g, errors)
    return totals


def add_cohort(
    total: Float[np.ndarray, "K B"], part: Part, g: int, errors: Float[np.ndarray, "C1 B"]
) -> None:
    """Add to the draws of a part's contrasts what the cells of cohort `g` contribute."""
    width = len(errors) - 1
    mine = part.weights[:, g * width : (g + 1) * width]
    touched = np.flatnonzero(np.diff(mine.indptr))
    total[touched] += mine[touched] @ errors[:-1]
    if (shared := np.flatnonzero(part.shares[g])).size:
        total[shared] += part.shares[g, shared, None] * errors[-1]


def group_draws(att: AttGt, h: int, spec: BootstrapSpec) -> Float[np.ndarray, "C1 B"]:
    """Draws of the sums of z over group `h`, (C + 1, B)."""
    rows = att.fit.rows
    drawn = _multiplied(rows, rows.cluster_sums(h), h, spec, spec.process)
    drawn *= att.fit.sums.factor[h] ** 0.5
    return drawn


def _slope_errors(
    att: AttGt, slopes: Slopes, g: int, spec: BootstrapSpec
) -> Float[np.ndarray, "C B"]:
    """Errors of the cells of cohort `g` that come from the slopes of regression adjustment."""
    plan, rows = att.fit.comparison, att.fit.rows
    total = np.zeros((len(att.checkpoints), spec.draws))
    for h in rows.groups():
        if plan.uses(g, h).any():
            scores = slope_scores(plan, slopes, rows, att.fit.control, g, h)
            drawn = _multiplied(rows, rows.by_cluster(scores, h), h, spec, spec.process)
            total += att.fit.sums.factor[h] ** 0.5 * drawn
    return total


def _multiplied(
    rows: Rows, values: Float[np.ndarray, "k m"], h: int, spec: BootstrapSpec, kind: Multiplier
) -> Float[np.ndarray, "m B"]:
    """Sum over the clusters of group `h` their values times their multipliers, without rounding.

    Each column is first put on a grid so fine that all partial sums are whole multiples of its
    step, below 2⁵³ of them.
    """
    parts = range(0, len(values), spec.chunk)
    chunks = (_patterns(rows, h, spec, kind, slice(k, k + spec.chunk)) for k in parts)
    return _whole_sums(values, chunks)


def _patterns(
    rows: Rows, h: int, spec: BootstrapSpec, kind: Multiplier, part: slice = slice(None)
) -> Patterns:
    """Multipliers of the clusters of group `h`, or of a part of them."""
    names = rows.clusters_of(h)
    ids, streams = rows.cluster_id[names][part], rows.cluster_stream[names][part]
    return multipliers(ids, spec.draws, spec.seed, kind, streams)


def _whole_sums(
    values: Float[np.ndarray, "k m"], chunks: Iterable[Patterns]
) -> Float[np.ndarray, "m B"]:
    """Sum values times multipliers, given for one part of the values after the other."""
    whole, step, first, offset = np.empty(0), np.empty(0), 0, 0.0
    pattern_sums: dict[float, Float[np.ndarray, "m B"]] = {}
    for random in chunks:
        if not first:
            # Float addition rounds, and its rounding depends on the order. Multiples of one power
            # of two, below 2⁵³ of them, add without rounding: chunks and workers cannot change a
            # bit.
            size = random.bound * np.abs(values).sum(axis=0)
            step = 2.0 ** (np.ceil(np.log2(np.where(size > 0, size, 1.0))) - 52)
            whole = values / step
            np.rint(whole, out=whole)
        last, offset = first + len(random.patterns[0]), random.offset
        for factor, pattern in zip(random.scales, random.patterns, strict=True):
            pattern_sums[factor] = pattern_sums.get(factor, 0.0) + whole[first:last].T @ pattern
        first = last
    total: Float[np.ndarray, "m B"] = offset * whole.sum(axis=0)[:, None]
    for factor, sums in pattern_sums.items():
        total = total + factor * sums
    total *= step[:, None]
    return total
