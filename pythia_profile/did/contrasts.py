"""Weighted sums of cells: estimate, covariance, influence function; and differences of them.

In: `AttGt` and weights over its cells. Out: `Contrast`, K numbers in units of the outcome. Whatever
is a sum of cells (an event-time curve, a profile, early against late cohorts) is a contrast, and
the difference of two contrasts is one, also when they come from two panels: rows are matched by
their ids, so two sizes that scored the same rows are compared row by row.

    K contrasts, G cohorts, C checkpoints, H groups, U rows

Source: Callaway and Sant'Anna (2021), sections 3 and 4.2 (influence functions of aggregates).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int, Shaped
from scipy import sparse
from scipy.special import stdtrit

from pythia_profile.did.ancova import is_control, slope_scores
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import EmptyFamilyError, NoRowsError, PanelShapeError
from pythia_profile.did.groups import Rows
from pythia_profile.did.sides import Side
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.schema import NEVER


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Weights over the cells of one panel.

    Attributes
    ----------
    att : the panel's effects.
    weights : (K, G·C) sparse weights over its cells, row by row.
    shares : (G, K) what a row of a cohort adds by changing the cohort's share; zero where shares
        are fixed by design.
    """

    att: AttGt
    weights: sparse.csr_array
    shares: Float[np.ndarray, "G K"]


@dataclass(frozen=True, slots=True, eq=False)
class Contrast:
    """K weighted sums of cells.

    Attributes
    ----------
    kind : what they are, such as `event_time`.
    at : (K,) label of each, such as its event time; None for a mean over labels.
    estimate : (K,) in units of the outcome.
    se : (K,) standard error.
    df : (K,) degrees of freedom of the standard error (Welch and Satterthwaite).
    parts : weights over the cells of one panel, or of several.
    """

    kind: str
    at: tuple[Any, ...]
    estimate: Float[np.ndarray, " K"]
    se: Float[np.ndarray, " K"]
    df: Float[np.ndarray, " K"]
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return len(self.estimate)

    def __sub__(self, other: "Contrast") -> "Contrast":
        """Return the difference of two contrasts with the same labels, rows matched by id."""
        if self.at != other.at:
            raise PanelShapeError(
                f"contrasts: labels differ ({len(self)} of {self.kind}, {len(other)} of "
                f"{other.kind}); expected the same ones on both sides"
            )
        minus = tuple(Part(p.att, -p.weights, -p.shares) for p in other.parts)
        return _from_parts(f"{self.kind} difference", self.at, self.parts + minus)

    def only(self, at: Sequence[Any]) -> "Contrast":
        """Return the contrasts with these labels, in this order."""
        places = [self.at.index(label) for label in at]
        parts = tuple(Part(p.att, p.weights[places], p.shares[:, places]) for p in self.parts)
        return Contrast(
            self.kind, tuple(at), self.estimate[places], self.se[places], self.df[places], parts
        )

    @one_blas_thread
    def covariance(self) -> Float[np.ndarray, "K K"]:
        """Return the covariance of the K estimates; (K, K), unit of the outcome squared."""
        if _closed(self.parts):
            covariance = np.zeros((len(self), len(self)))
            for scaled, functional in _quadratic(self.parts[0]):
                covariance += functional @ scaled @ functional.T
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
        rows = _rows(self.parts[0].att)
        psi = np.empty((len(rows), len(self)))
        for h, scores in row_scores(self.parts[0]):
            psi[rows.place[rows.group(h)]] = len(rows) * scores
        return psi

    def interval(self, level: float = 0.95) -> tuple[Float[np.ndarray, " K"], ...]:
        """Lower and upper end of each one's own `level` interval, by Student's t."""
        half = stdtrit(self.df, (1 + level) / 2) * self.se
        return self.estimate - half, self.estimate + half


def contrast(
    att: AttGt,
    weights: Shaped[npt.ArrayLike, "*K G C"],
    at: Sequence[Any] | None = None,
    kind: str = "contrast",
    shares: Float[np.ndarray, "G K"] | None = None,
) -> Contrast:
    """Weighted sums of cells, with what inference needs.

    Parameters
    ----------
    weights : (G, C) or (K, G, C) weights over cells, or a sparse (K, G·C) array.
    at : K labels; 0 … K − 1 unless given.
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
    return _from_parts(kind, tuple(range(matrix.shape[0]) if at is None else at), (part,))


def functionals(part: Part) -> Iterator[tuple[int, Float[np.ndarray, "K C1"]]]:
    """For each group, the weights l_h (K, C + 1) on its rows' z: an effect is Σ_h l_h · total_h.

    A group's own cells put weight on it, and the cells whose pool holds it take weight off. The
    last entry of each l_h makes its influence average to 0.
    """
    att, plan = part.att, part.att.comparison
    cells = part.weights.tocsc()
    width = len(att.checkpoints)
    treated, control = cell_functionals(att)
    by_pool = _by_pool(plan.pool, cells)
    removed = np.zeros((part.weights.shape[0], width + 1))
    for h in range(len(att.sums.rows)):
        own = np.zeros_like(removed)
        if h < len(att.cohorts):
            mine = slice(h * width, (h + 1) * width)
            taken_out = control[mine].multiply(plan.own[h][:, None])
            own += (cells[:, mine] @ (treated[mine] + taken_out)).toarray()
            own[:, -1] += part.shares[h]
        is_control = h in range(*plan.members(0, len(att.sums.rows)).indices(len(att.sums.rows)))
        if is_control:
            joining = by_pool.get(0 if plan.control == "never" else h)
            if joining is not None:
                removed += (cells[:, joining] @ control[joining]).toarray()
            own -= removed
        yield h, own


def row_scores(part: Part) -> Iterator[tuple[int, Float[np.ndarray, "n K"]]]:
    """For each group, what each of its rows contributes to the errors of the contrasts."""
    att, rows = part.att, _rows(part.att)
    width = len(att.checkpoints)
    for h, functional in functionals(part):
        scores = rows.z(h) @ functional.T
        if att.adjustment is not None:
            for g in range(len(att.cohorts)):
                if is_control(att.comparison, g, h, len(att.sums.rows)).any():
                    mine = part.weights[:, g * width : (g + 1) * width]
                    slopes = slope_scores(att.comparison, att.adjustment, rows, att.control, g, h)
                    scores += (mine @ slopes.T).T
        yield h, scores


def cell_functionals(att: AttGt) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Weights of each cell on the z of its treated, and of its control rows; (G·C, C + 1) each."""
    return _on_rows(att, att.treated), _on_rows(att, att.control)


def _on_rows(att: AttGt, side: Side) -> sparse.csr_array:
    plan, (cohorts, width) = att.comparison, att.att.shape
    known = att.identified
    divisor = np.where(known, side.weight, 1.0)
    entries = (
        np.stack([np.ones_like(divisor), -plan.theta, -side.mean], axis=-1) / divisor[..., None]
    )
    entries[~known] = 0.0
    c = np.broadcast_to(np.arange(width), plan.base.shape)
    columns = np.stack([c, np.maximum(plan.base, 0), np.full_like(c, width)], axis=-1)
    return sparse.csr_array(
        (entries.ravel(), columns.ravel(), np.arange(0, 3 * cohorts * width + 1, 3)),
        shape=(cohorts * width, width + 1),
    )


@one_blas_thread
def _from_parts(kind: str, at: tuple[Any, ...], parts: tuple[Part, ...]) -> Contrast:
    merged = _merge(parts)
    estimate = sum(p.weights @ np.nan_to_num(p.att.att.ravel()) for p in merged)
    variance, df = _variance(merged)
    return Contrast(kind, at, estimate, np.sqrt(variance), df, merged)


def _merge(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Add up the weights of parts that rest on the same panel."""
    merged: dict[int, Part] = {}
    for part in parts:
        if (same := merged.get(id(part.att))) is not None:
            part = Part(part.att, same.weights + part.weights, same.shares + part.shares)
        merged[id(part.att)] = part
    return tuple(merged.values())


def _variance(
    parts: tuple[Part, ...],
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Variance of each contrast and its degrees of freedom."""
    if _closed(parts):
        shares = [((f @ m) * f).sum(axis=1) for m, f in _quadratic(parts[0])]
        by_group, clusters = np.array(shares), parts[0].att.sums.clusters
    else:
        scores, factor, group = _shared_scores(parts)
        clusters = np.bincount(group)
        by_group = np.zeros((len(clusters), scores.shape[1]))
        np.add.at(by_group, group, factor[:, None] * scores**2)
    variance = np.maximum(by_group.sum(axis=0), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = variance**2 / (by_group**2 / (clusters[:, None] - 1)).sum(axis=0)
    return variance, np.where(variance > 0, df, np.inf)


def _closed(parts: tuple[Part, ...]) -> bool:
    """Whether the variance is a quadratic form of the groups' moments."""
    return len(parts) == 1 and parts[0].att.adjustment is None


def _quadratic(
    part: Part,
) -> Iterator[tuple[Float[np.ndarray, "C1 C1"], Float[np.ndarray, "K C1"]]]:
    sums = part.att.sums
    for h, functional in functionals(part):
        yield sums.moment[h] * sums.factor[h], functional


def _shared_scores(
    parts: tuple[Part, ...],
) -> tuple[Float[np.ndarray, "n K"], Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Influence of each cluster over all parts, its factor, and the number of its group.

    A cluster that several parts hold stands once, with the sum of its influences.
    """
    keys, scores, factors, labels = [], [], [], []
    for part in parts:
        rows, sums = _rows(part.att), part.att.sums
        if len(parts) > 1 and not rows.named:
            raise NoRowsError(
                "difference of two panels: rows have no ids to match them by; pass units= to att_gt"
            )
        cohorts = np.append(part.att.cohorts, NEVER)
        for h, score in row_scores(part):
            k = rows.clusters_of(h)
            keys.append(np.stack([rows.cluster_stream[k], rows.cluster_id[k]]))
            scores.append(rows.by_cluster(score, h))
            factors.append(np.full(k.stop - k.start, sums.factor[h]))
            labels.append(np.full(k.stop - k.start, cohorts[h]))
    _, first, number = np.unique(
        np.concatenate(keys, axis=1), axis=1, return_index=True, return_inverse=True
    )
    total = np.zeros((len(first), scores[0].shape[1]))
    np.add.at(total, number, np.concatenate(scores))
    group = np.unique(np.concatenate(labels)[first], return_inverse=True)[1]
    return total, np.concatenate(factors)[first], group


def _rows(att: AttGt) -> Rows:
    if att.rows is None:
        raise NoRowsError(
            "this estimate was made from moments alone, which hold no influence functions; "
            "estimate from the rows, or use covariance()"
        )
    return att.rows


def _by_pool(
    pool: Int[np.ndarray, "G C"], cells: sparse.csc_array
) -> dict[int, Int[np.ndarray, " n"]]:
    """Cells with a weight, by the place of their pool."""
    used = np.flatnonzero(np.diff(cells.indptr))
    places = pool.ravel()[used]
    return {int(p): used[places == p] for p in np.unique(places)}


def _sparse(weights: Any, shape: tuple[int, int]) -> sparse.csr_array:
    cells = shape[0] * shape[1]
    if sparse.issparse(weights):
        matrix = sparse.csr_array(weights)
    else:
        dense = np.asarray(weights, dtype=np.float64)
        if dense.shape[-2:] != shape or dense.ndim not in (2, 3):
            raise PanelShapeError(
                f"weights: got shape {dense.shape}, expected {shape} or (contrasts, *{shape})"
            )
        matrix = sparse.csr_array(dense.reshape(-1, cells))
    if matrix.shape[1] != cells or not np.isfinite(matrix.data).all():
        raise PanelShapeError(f"weights: expected finite weights over {cells} cells")
    return matrix
