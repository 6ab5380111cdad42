"""Dating a checkpoint by its memory: the step whose rows it remembers as just read.

In: a panel. Out: `MemoryDates`, for each checkpoint the step that its weights seem to stand at,
with an interval, whatever its label says. Exploratory: shown on the mini suite, not on published
runs.

Y at checkpoint j is predicted from the other checkpoints, by least squares among never-treated
rows, for which no label matters. Were j after s steps, the residuals of treated rows read at steps
g would follow

    x(s) = τ(s − g) − Σ_k β_k τ(c_k − g)

τ the mean effect by event time (0 before a row is read), from the other checkpoints, and β the
coefficients of the prediction. The date is the s of the largest correlation ρ of residual and x(s),
with log-likelihood −n/2 log(1 − ρ²). Once dated, checkpoints that are far from their labels (up to
a third of all) are left out of the others' predictions, and all are dated anew.

Source: rank correlation of likelihood and reading order as in Kuditipudi et al. (2025), "Blackbox
model provenance via palimpsestic membership inference", here with a curve in place of ranks.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import chi2, rankdata

from pythia_profile.did.errors import NoControlError, PanelShapeError
from pythia_profile.did.panels import Panel
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.tables import NEVER

__all__ = ["MemoryDates", "date_checkpoints"]

RIDGE = 1e-3
"""Added to the variances of the predictors, as a share of their mean."""
CANDIDATES = 128
"""Evenly spaced steps that are tried, beside the labels."""
FEWEST_CHECKPOINTS = 9
"""Of fewer, one wrong label moves the dates of too many others."""
FEWEST_ROWS = 20
"""Rows that a point of the curve rests on."""
FAR = float(chi2.ppf(0.99, 1))
"""A checkpoint is far from its label where twice the log-likelihood ratio is above this."""


@dataclass(frozen=True, slots=True, eq=False)
class MemoryDates:
    """Dates of the checkpoints of a run.

    Attributes
    ----------
    labels : (C,) steps that the checkpoints are said to stand at.
    dates : (C,) steps that they seem to.
    lower, upper : (C,) 95 % interval; its likelihood is scaled to how well labels fit as a whole.
    correlation, rank_correlation : (C,) of residuals and the memory expected at the date.
    distance : (C,) twice the log-likelihood ratio of the date and the steps nearest the label, up
        to half-way to its neighbors.
    far : (C,) whether that is more than chance gives 1 in 100 times.
    """

    labels: Int[np.ndarray, " C"]
    dates: Int[np.ndarray, " C"]
    lower: Int[np.ndarray, " C"]
    upper: Int[np.ndarray, " C"]
    correlation: Float[np.ndarray, " C"]
    rank_correlation: Float[np.ndarray, " C"]
    distance: Float[np.ndarray, " C"]
    far: Bool[np.ndarray, " C"]

    def sentences(self) -> list[str]:
        """Say which checkpoints seem to stand at other steps than their labels say."""
        wrong = np.flatnonzero(self.far)
        error = float(np.median(np.abs(self.dates - self.labels)))
        first = (
            f"{len(self.labels)} checkpoints dated by their memory (exploratory), half of them "
            f"within {error:g} steps of their labels"
        )
        return [
            f"{first}; none is far from its label" if not wrong.size else first,
            *(
                f"checkpoint {self.labels[j]} seems to hold weights after {self.dates[j]} steps "
                f"[{self.lower[j]}, {self.upper[j]}]"
                for j in wrong
            ),
        ]


@one_blas_thread
def date_checkpoints(panel: Panel) -> MemoryDates:
    """Date every checkpoint of a panel by its memory.

    Raises
    ------
    PanelShapeError
        Fewer than nine checkpoints, gaps, or treatment steps that are not known.
    NoControlError
        Fewer than twice as many never-treated rows as checkpoints, from which predictions are made.
    """
    grid, never = panel.checkpoints, panel.cohort == NEVER
    if len(grid) < FEWEST_CHECKPOINTS or panel.step is None or np.isnan(panel.y).any():
        raise PanelShapeError(
            f"dating: got {len(grid)} checkpoints and {np.isnan(panel.y).sum()} gaps, expected "
            f"{FEWEST_CHECKPOINTS} or more, no gaps, and rows with treatment steps; choose "
            "missing='balanced'"
        )
    if never.sum() < 2 * len(grid):
        raise NoControlError(
            f"dating: {never.sum()} never-treated rows, expected {2 * len(grid)} or more for "
            f"{len(grid)} checkpoints"
        )
    step = np.where(never, np.inf, panel.step.astype(np.float64))
    tried = np.unique(np.append(grid, np.linspace(grid[0], grid[-1], CANDIDATES + 1).round()))
    left_out = np.zeros(len(grid), bool)
    for _ in range(2):
        found = [_likelihoods(panel.y, step, grid, j, left_out, tried) for j in range(len(grid))]
        twice, rho, ranks = (np.stack(values) for values in zip(*found, strict=True))
        best = twice.argmax(axis=1)
        each = np.arange(len(grid))
        gap = twice[each, best][:, None] - twice
        distance = np.where(_near(grid, tried), gap, np.inf).min(axis=1)
        far = distance > FAR
        # the farthest, as one wrong label also moves the dates of checkpoints that it predicts
        left_out = far & (rankdata(-distance) <= max(1, len(grid) // 3))
    own = gap[each, np.searchsorted(tried, grid)]
    # Were the curve right, a quarter of these would be above 1.32; where it is not, more are.
    scale = max(1.0, float(np.quantile(own, 0.75)) / float(chi2.ppf(0.75, 1)))
    inside = gap <= scale * chi2.ppf(0.95, 1)
    lower = tried[inside.argmax(axis=1)]
    upper = tried[len(tried) - 1 - inside[:, ::-1].argmax(axis=1)]
    return MemoryDates(
        labels=grid,
        dates=tried[best].astype(np.int64),
        lower=lower.astype(np.int64),
        upper=upper.astype(np.int64),
        correlation=rho[each, best],
        rank_correlation=ranks[each, best],
        distance=distance,
        far=far,
    )


def _near(grid: Int[np.ndarray, " C"], tried: Float[np.ndarray, " S"]) -> Bool[np.ndarray, "C S"]:
    """Mark the steps that lie nearer to a label than half-way to the next."""
    half = (grid[1:] + grid[:-1]) / 2
    low, high = np.append(-np.inf, half), np.append(half, np.inf)
    inside: Bool[np.ndarray, "C S"] = (tried > low[:, None]) & (tried < high[:, None])
    return inside


def _likelihoods(
    y: Float[np.ndarray, "U C"],
    step: Float[np.ndarray, " U"],
    grid: Int[np.ndarray, " C"],
    j: int,
    left_out: Bool[np.ndarray, " C"],
    tried: Float[np.ndarray, " S"],
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """Twice the log-likelihood of each step for checkpoint `j`, and its two correlations."""
    others = np.flatnonzero(~left_out & (np.arange(len(grid)) != j))
    never = ~np.isfinite(step)
    centered = y - y[never].mean(axis=0)
    covariance = centered[never].T @ centered[never] / never.sum()
    among = covariance[np.ix_(others, others)]
    among = among + RIDGE * np.trace(among) / len(among) * np.eye(len(among))
    beta = np.linalg.solve(among, covariance[others, j])
    own = centered[~never]
    residual = own[:, j] - own[:, others] @ beta
    read = step[~never]
    times, effect = _curve(centered[:, others], step, grid[others])

    def memory(at: Float[np.ndarray, " s"]) -> Float[np.ndarray, "n s"]:
        since = at - read[:, None]
        return np.where(since >= 0, np.interp(since, times, effect), 0.0)

    expected = memory(tried) - (memory(grid[others].astype(np.float64)) @ beta)[:, None]
    rho = _correlations(residual, expected)
    ranks = _correlations(rankdata(residual), rankdata(expected, axis=0))
    return -len(read) * np.log1p(-(np.clip(rho, 0, 1 - 1e-12) ** 2)), rho, ranks


def _curve(
    centered: Float[np.ndarray, "U C"], step: Float[np.ndarray, " U"], grid: Int[np.ndarray, " C"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Mean effect by event time: changes since the base, of rows less those of never-treated rows.

    Finer just after a row is read, where the momentum of the optimizer delays the effect.
    """
    first = np.searchsorted(grid, step)
    rows = np.flatnonzero(np.isfinite(step) & (first > 0) & (first < len(grid)))
    change = centered[rows] - centered[rows, first[rows] - 1][:, None]
    since = grid - step[rows, None]
    after = since >= 0
    times, values = since[after], change[after]
    interval = float(np.median(np.diff(grid)))
    edges = interval * np.append([0, 1 / 8, 1 / 4, 1 / 2], 2.0 ** np.arange(16))
    number = np.searchsorted(edges, times, side="right") - 1
    count = np.bincount(number, minlength=len(edges))
    kept = np.flatnonzero(count >= FEWEST_ROWS)
    if not kept.size:
        raise PanelShapeError(
            f"dating: {len(rows)} rows read between two checkpoints, expected {FEWEST_ROWS} or more"
        )
    means = (np.bincount(number, x, len(edges))[kept] / count[kept] for x in (times, values))
    at, effect = means
    return at, np.maximum(effect, 0.0)


def _correlations(
    one: Float[np.ndarray, " n"], many: Float[np.ndarray, "n s"]
) -> Float[np.ndarray, " s"]:
    a, b = one - one.mean(), many - many.mean(axis=0)
    scale = np.sqrt((a @ a) * (b * b).sum(axis=0))
    found: Float[np.ndarray, " s"] = (a @ b) / np.where(scale > 0, scale, 1.0)
    return found
