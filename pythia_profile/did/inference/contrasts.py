"""Weighted sums of cells: estimate, covariance, influence function; and differences of them.

In: `AttGt` and weights over its cells. Out: `Contrast`, K numbers in units of the outcome. Whatever
is a sum of cells (an event-time curve, a profile, early against late cohorts) is a contrast, and
the difference of two contrasts is one, also when they come from two panels: rows are matched by
their ids, so two sizes that scored the same rows are compared row by row.

    K contrasts, G cohorts, C checkpoints, H groups, U rows

Source: Callaway and Sant'Anna (2021), sections 3 and 4.2 (influence functions of aggregates).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int, Num, Shaped
from scipy import sparse
from scipy.special import stdtrit

from pythia_profile.did.arguments import Short, counted, numbers
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import EmptyFamilyError, NoRowsError, PanelShapeError
from pythia_profile.did.inference.influence import Part, quadratic_forms, row_scores
from pythia_profile.did.moments import ROUNDING
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.did.variance import VarianceComponents, group_components
from pythia_profile.tables import NEVER

MOST_LINES = 12
"""Contrasts that are printed."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Contrast(Short):
    """K weighted sums of cells.

    Attributes
    ----------
    kind : what they are, such as `event_time`.
    labels : (K,) label of each, such as its event time; None for a mean over labels.
    estimate : (K,) in units of the outcome.
    se : (K,) standard error.
    df : (K,) degrees of freedom of the standard error (Welch and Satterthwaite).
    variance : variance of each by the rows it comes from, with its degrees of freedom.
    parts : weights over the cells of one panel, or of several.
    """

    kind: str
    labels: tuple[Any, ...]
    estimate: Float[np.ndarray, " K"]
    se: Float[np.ndarray, " K"]
    df: Float[np.ndarray, " K"]
    variance: VarianceComponents
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return len(self.estimate)

    def __str__(self) -> str:
        lower, upper = self.interval()
        rows = zip(self.labels, self.estimate, self.se, lower, upper, strict=True)
        lines = [
            f"  {'mean' if label is None else label}: {estimate:.4g} (se {se:.2g}, "
            f"95% interval {a:.4g} to {b:.4g})"
            for label, estimate, se, a, b in rows
        ]
        more = len(lines) - MOST_LINES
        lines = [*lines[:MOST_LINES], f"  and {more} more"] if more > 0 else lines
        return "\n".join([f"{self.kind}, {counted(len(self), 'contrast')}", *lines])

    def __add__(self, other: "Contrast") -> "Contrast":
        """Return the sum of two contrasts with the same labels, rows matched by id."""
        self._check_labels(other)
        return _from_parts(self.kind, self.labels, self.parts + other.parts)

    def __sub__(self, other: "Contrast") -> "Contrast":
        """Return the difference of two contrasts with the same labels, rows matched by id."""
        self._check_labels(other)
        minus = tuple(Part(p.att, -p.weights, -p.shares) for p in other.parts)
        return _from_parts(f"{self.kind} difference", self.labels, self.parts + minus)

    def _check_labels(self, other: "Contrast") -> None:
        if self.labels != other.labels:
            raise PanelShapeError(
                f"contrasts: labels differ ({len(self)} of {self.kind}, {len(other)} of "
                f"{other.kind}); expected the same ones on both sides"
            )

    def only(self, labels: Sequence[Any]) -> "Contrast":
        """Return the contrasts with these labels, in this order."""
        index = [self.labels.index(label) for label in labels]
        parts = tuple(Part(p.att, p.weights[index], p.shares[:, index]) for p in self.parts)
        return Contrast(
            kind=self.kind,
            labels=tuple(labels),
            estimate=self.estimate[index],
            se=self.se[index],
            df=self.df[index],
            variance=self.variance.pick(index),
            parts=parts,
        )

    @one_blas_thread
    def covariance(self) -> Float[np.ndarray, "K K"]:
        """Return the covariance of the K estimates; (K, K), unit of the outcome squared."""
        if _closed(self.parts):
            covariance = np.zeros((len(self), len(self)))
            for _, moment, form in quadratic_forms(self.parts[0]):
                used = np.flatnonzero(form.any(axis=1))  # a cohort's rows are in few contrasts
                covariance[np.ix_(used, used)] += form[used] @ moment @ form[used].T
            return covariance
        scores, factor, _ = _shared_scores(self.parts)
        shared: Float[np.ndarray, "K K"] = (scores * factor[:, None]).T @ scores
        return shared

    @one_blas_thread
    def influence(self) -> Float[np.ndarray, "U K"]:
        """Influence function of each row, in the input's order; (U, K), columns average to 0.

        Scaled as in the paper: the standard error is the root of its mean square over U, where rows
        are not clustered.
        """
        if len(self.parts) != 1:
            raise NoRowsError("influence: a difference of panels has no single order of rows")
        rows = self.parts[0].att.fit.rows
        psi = np.zeros((len(rows), len(self)))
        for h, scores in row_scores(self.parts[0]):
            psi[rows.input_index[rows.group(h)]] = len(rows) * scores
        return psi

    def interval(self, level: float = 0.95) -> tuple[Float[np.ndarray, " K"], ...]:
        """Lower and upper end of each one's own `level` interval, by Student's t."""
        half = stdtrit(self.df, (1 + level) / 2) * self.se
        return self.estimate - half, self.estimate + half


def contrast(
    att: AttGt,
    weights: Shaped[npt.ArrayLike, "*K G C"] | sparse.csr_array,
    labels: Sequence[Any] | None = None,
    kind: str = "contrast",
    shares: Float[np.ndarray, "G K"] | None = None,
) -> Contrast:
    """Weighted sums of cells, with what inference needs.

    Parameters
    ----------
    weights : (G, C) or (K, G, C) weights over cells, or a sparse (K, G·C) array.
    labels : K labels; 0 … K − 1 unless given.
    shares : (G, K) what a row adds by changing its cohort's share, where shares are estimated.

    Raises
    ------
    EmptyFamilyError
        There is no contrast, or one of them rests on cells without an estimate.

    Examples
    --------
    Late cohorts against early ones, at the checkpoint that first holds them:

    >>> from pythia_profile.did import NEVER, att_gt
    >>> y = [[0, 1.0, 1], [1, 2.1, 2], [0, 0, 3.0], [1, 1, 4.2], [0, 0, 0], [1, 1, 1.0]]
    >>> effect = att_gt(y, [10, 10, 20, 20, NEVER, NEVER], [0, 10, 20])
    >>> late = contrast(effect, [[0, -1, 0], [0, 0, 1]])
    >>> late.estimate.round(2)
    array([2.05])
    """
    matrix = _sparse(weights, att.att.shape)
    if not matrix.shape[0]:
        raise EmptyFamilyError(f"{kind}: no contrast was asked for; expected one or more")
    used = np.unique(matrix.indices[matrix.data != 0])
    if (unknown := int((~att.identified.ravel()[used]).sum())) or not used.size:
        raise EmptyFamilyError(
            f"{kind}: {unknown} of the {used.size} cells with a weight have no estimate; expected "
            "weights over identified cells only"
        )
    zero = np.zeros((len(att.cohorts), matrix.shape[0]))
    part = Part(att, matrix, zero if shares is None else shares)
    return _from_parts(kind, tuple(range(matrix.shape[0]) if labels is None else labels), (part,))


@one_blas_thread
def joint_covariance(contrasts: Sequence[Contrast]) -> Float[np.ndarray, "K K"]:
    """Return the covariance of the estimates of several contrasts, one after the other; (K, K).

    Panels of different sizes or seeds that scored the same rows share their noise: rows are matched
    by their ids.

    Raises
    ------
    NoRowsError
        There are several panels, and one of them does not name its rows.
    """
    if len(contrasts) == 1:
        return contrasts[0].covariance()
    found = [_cluster_scores(one.parts, shared=True) for one in contrasts]
    keys = np.concatenate([one[0] for one in found], axis=1)
    labels = np.concatenate([one[3] for one in found])
    order = np.lexsort(keys)
    new = np.append(True, (np.diff(keys[:, order], axis=1) != 0).any(axis=0))
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    group = labels[order[new]]  # of the cluster in one of the panels: it only sorts clusters
    ends = np.cumsum([len(one) for one in contrasts])
    lines = np.cumsum([len(one[1]) for one in found])
    scores = np.zeros((len(group), ends[-1]))
    for (_, score, factor, _), end, line in zip(found, ends, lines, strict=True):
        # the factor is of the cluster's group, which differs where orders do: half on each side
        weighted, at = score * factor[:, None] ** 0.5, number[line - len(score) : line]
        if len(np.unique(at)) == len(at):
            scores[at, end - score.shape[1] : end] = weighted
        else:  # a contrast of several panels holds a cluster several times
            np.add.at(scores[:, end - score.shape[1] : end], at, weighted)
    joint = np.zeros((ends[-1], ends[-1]))
    by_group = np.argsort(group, kind="stable")
    for members in np.split(by_group, np.flatnonzero(np.diff(group[by_group])) + 1):
        used = np.flatnonzero(scores[members].any(axis=0))  # a cohort's rows are in few contrasts
        mine = scores[np.ix_(members, used)]
        joint[np.ix_(used, used)] += mine.T @ mine
    return joint


@one_blas_thread
def _from_parts(kind: str, labels: tuple[Any, ...], parts: tuple[Part, ...]) -> Contrast:
    merged = _merge(parts)
    estimate = sum(p.weights @ np.nan_to_num(p.att.att.ravel()) for p in merged)
    variance = _variance(merged)
    se = np.sqrt(variance.treated + variance.control)
    return Contrast(kind, labels, estimate, se, variance.df(), variance, merged)


def _merge(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Add up the weights of parts that rest on the same panel."""
    merged: dict[int, Part] = {}
    for part in parts:
        if (same := merged.get(id(part.att))) is not None:
            part = Part(part.att, same.weights + part.weights, same.shares + part.shares)
        merged[id(part.att)] = part
    return tuple(merged.values())


def _variance(parts: tuple[Part, ...]) -> VarianceComponents:
    """Variance of each contrast that comes from the cohorts, and from the never-treated rows."""
    if _closed(parts):
        sums = parts[0].att.fit.sums
        clusters, never = sums.clusters, sums.labels == NEVER
        by_group = np.zeros((len(clusters), parts[0].weights.shape[0]))
        for h, moment, form in quadratic_forms(parts[0]):
            used = np.flatnonzero(form.any(axis=1))  # a cohort's rows are in few contrasts
            form = form[used]
            variance = ((form @ moment) * form).sum(axis=1)
            scale = form**2 @ np.diag(moment)
            by_group[h, used] = np.where(variance > ROUNDING * scale, variance, 0.0)
    else:
        scores, factor, labels = _shared_scores(parts)
        order = np.argsort(labels, kind="stable")
        names, starts, clusters = np.unique(labels[order], return_index=True, return_counts=True)
        never = names == NEVER
        by_group = np.add.reduceat((factor[:, None] * scores**2)[order], starts, axis=0)
    return group_components(by_group, clusters, never)


def _closed(parts: tuple[Part, ...]) -> bool:
    """Whether the variance is a quadratic form of the groups' moments."""
    fit = parts[0].att.fit
    return len(parts) == 1 and fit.slopes is None and fit.regressions is None


def _shared_scores(
    parts: tuple[Part, ...],
) -> tuple[Float[np.ndarray, "n K"], Float[np.ndarray, " n"], Num[np.ndarray, " n"]]:
    """Influence of each cluster over all parts, its factor, and its cohort.

    A cluster that several parts hold stands once, with the sum of its influences.
    """
    keys, scores, factors, labels = _cluster_scores(parts, shared=len(parts) > 1)
    order = np.lexsort(keys)  # stable: of equal keys, the first part's comes first
    new = np.append(True, (np.diff(keys[:, order], axis=1) != 0).any(axis=0))
    total = np.add.reduceat(scores[order], np.flatnonzero(new), axis=0)
    first = order[new]
    return total, factors[first], labels[first]


def _cluster_scores(
    parts: tuple[Part, ...], *, shared: bool
) -> tuple[
    Int[np.ndarray, "2 n"],
    Float[np.ndarray, "n K"],
    Float[np.ndarray, " n"],
    Num[np.ndarray, " n"],
]:
    """Name of each cluster of each part, its influence, factor and cohort.

    Where clusters are `shared` with other panels, rows must have ids of their own.
    """
    keys, scores, factors, labels = [], [], [], []
    for part in parts:
        rows, sums = part.att.fit.rows, part.att.fit.sums
        if shared and not rows.named:
            raise NoRowsError(
                "difference of two panels: rows have no ids to match them by; pass units= to att_gt"
            )
        for h, score in row_scores(part):
            k = rows.clusters_of(h)
            keys.append(np.stack([rows.cluster_stream[k], rows.cluster_id[k]]))
            scores.append(rows.by_cluster(score, h))
            factors.append(np.full(k.stop - k.start, sums.factor[h]))
            labels.append(np.full(k.stop - k.start, sums.labels[h]))
    return (
        np.concatenate(keys, axis=1),
        np.concatenate(scores),
        np.concatenate(factors),
        np.concatenate(labels),
    )


def _sparse(weights: Any, shape: tuple[int, int]) -> sparse.csr_array:
    cells = shape[0] * shape[1]
    if sparse.issparse(weights):
        matrix = sparse.csr_array(weights)
    else:
        dense = numbers(weights, "weights")
        if dense.shape[-2:] != shape or dense.ndim not in (2, 3):
            raise PanelShapeError(
                f"weights: got shape {dense.shape}, expected {shape} or (contrasts, *{shape})"
            )
        matrix = sparse.csr_array(dense.reshape(-1, cells))
    if matrix.shape[1] != cells or not np.isfinite(matrix.data).all():
        raise PanelShapeError(f"weights: expected finite weights over {cells} cells")
    return matrix
