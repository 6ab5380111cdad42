"""Large from small: a size's effects predicted from those of smaller sizes, and how well.

In: profiles of the sizes on two disjoint halves of the rows. Out: lines of the tables `PREDICTION`
and `PREDICTION_SKILL`. A size's cohort is predicted from the smaller sizes' effects of that cohort
and from what the *other* cohorts of the size tell of how sizes go together (leave one cohort out).
Smaller sizes are taken from one half, the size itself from the other, and both ways round, so noise
that rows share between sizes helps no prediction. The methods:

    line             a straight line in the effects of one smaller size, the nearest
    scaling          the smaller sizes' common shape, at the level that a line in log parameters
                     through their means gives; takes nothing from the size itself
    rank_1, rank_2   regression on the first factors of the smaller sizes' effects
    schedule_rank_1  on the first factor and the learning rates
    selected         for each cohort, the method that does best on the others

Skill compares with two floors: the mean of the size's other cohorts, and a regression on learning
rates alone (for cells also on the rate since the cohort). It is 1 - (MSE - noise) / (MSE of the
floor - noise) with the noise of the observed half, tr(HΣ), known from the estimates; its interval
is a jackknife over cohorts.

With few cohorts, or effects that noise alone could have made, nothing is predicted and the verdict
says so. An interval holds the true effect: variance of what the method leaves, of other cohorts,
noise taken off, but not below what so many cohorts can tell from 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit

from pythia_profile.findings.targets import Target
from pythia_profile.profiles.agreement import correlation

__all__ = ["Predicted", "Skill", "leave_one_cohort_out", "predict", "skill"]

SMALL_P = 0.05
FEWEST = 6
"""Cohorts below which nothing is predicted."""
_SHUFFLES = 999


@dataclass(frozen=True, slots=True)
class Skill:
    """1 minus the mean squared error over a floor's, noise taken off both, with its interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """Predictions of one method.

    Attributes
    ----------
    method : (K,) method by which each effect is predicted.
    predicted : (2, K) for each fold.
    half_width : (2, K) half of the interval of the true effect.
    covered : (2, K) whether the interval, widened by the observation's noise, holds it.
    against_mean, against_schedule : skill over each floor; None where the floor has no error left
        to take away, or rates are not known.
    """

    method: Sequence[str]
    predicted: Float[np.ndarray, "2 K"]
    half_width: Float[np.ndarray, "2 K"]
    covered: Bool[np.ndarray, "2 K"]
    against_mean: Skill | None
    against_schedule: Skill | None


def predict(target: Target, level: float = 0.95) -> dict[str, Predicted]:
    """Predict by every method that the sources allow, and by the one selected for each cohort.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=40)
    >>> seen = 2 * truth + 1 + 0.1 * rng.normal(size=(2, 40))
    >>> cohort, none = np.arange(40), np.full(40, -1)
    >>> x = (truth + 0.1 * rng.normal(size=(2, 40)))[..., None]
    >>> target = Target(cohort, none, x, seen, np.full((2, 40), 0.1), np.zeros(2))
    >>> found = predict(target)["line"]
    >>> round(found.against_mean.value, 2), found.against_schedule
    (0.98, None)
    """
    made = _methods(target)
    losses = {name: _by_cohort(target, (target.observed - p) ** 2) for name, p in made.items()}
    total = np.stack([loss.sum(axis=0) for loss in losses.values()])
    # Each cohort's method is chosen by the others, so that the choice cannot flatter itself.
    best = (total.sum(axis=1, keepdims=True) - total).argmin(axis=0)[target.number]
    names = list(made)
    chosen = np.take_along_axis(np.stack([*made.values()]), best[None, None, :], axis=0)[0]
    floors = _floors(target)
    found = {
        name: _judged(target, [name] * len(best), p, floors, level) for name, p in made.items()
    }
    found["selected"] = _judged(target, [names[at] for at in best], chosen, floors, level)
    return found


def leave_one_cohort_out(
    x: Float[np.ndarray, "K p"], y: Float[np.ndarray, " K"], number: Int[np.ndarray, " K"]
) -> Float[np.ndarray, " K"]:
    """Predict each cohort's effects by least squares on those of the others.

    Parameters
    ----------
    number : (K,) number of each effect's cohort, ascending from 0.

    Examples
    --------
    >>> x = np.column_stack([np.ones(4), [0.0, 1, 2, 3]])
    >>> leave_one_cohort_out(x, np.array([1.0, 3, 5, 70]), np.array([0, 1, 2, 3])).round(1)[3:]
    array([7.])
    """
    scale = np.sqrt((x**2).mean(axis=0))
    x = x / np.where(scale > 0, scale, 1.0)
    starts = np.searchsorted(number, np.arange(number[-1] + 1))
    gram = np.add.reduceat(x[:, :, None] * x[:, None, :], starts)
    moment = np.add.reduceat(x * y[:, None], starts)
    inverse = np.linalg.pinv(gram.sum(axis=0) - gram, rcond=1e-10, hermitian=True)
    coefficients = np.einsum("gpq,gq->gp", inverse, moment.sum(axis=0) - moment)
    predicted: Float[np.ndarray, " K"] = (x * coefficients[number]).sum(axis=1)
    return predicted


def skill(
    error: Float[np.ndarray, " G"], floor: Float[np.ndarray, " G"], level: float = 0.95
) -> Skill | None:
    """Skill from squared errors by cohort, noise taken off; None where the floor leaves nothing.

    The interval is a jackknife of the ratio over cohorts, Student's.
    """
    if floor.sum() <= 0:
        return None
    count, ratio = len(error), error.sum() / floor.sum()
    spread = ((error - ratio * floor) ** 2).sum() * count / (count - 1)
    half = stdtrit(count - 1, (1 + level) / 2) * np.sqrt(spread) / floor.sum()
    upper = min(float(1 - ratio + half), 1.0)  # errors have no share below none
    return Skill(float(1 - ratio), float(1 - ratio - half), upper)


def shuffled_p(target: Target, seed: int) -> float:
    """P-value of the agreement with the nearest size, were the cohorts in no order.

    The mean over folds of the correlation between halves, against that with cohorts shuffled.
    """
    x, y = target.sources[:, :, -1], target.observed
    random = np.random.default_rng(seed)
    orders = np.stack([random.permutation(y.shape[1]) for _ in range(_SHUFFLES)])

    def agree(shuffled: Float[np.ndarray, "2 K B"]) -> Float[np.ndarray, " B"]:
        both = [correlation(x[f][:, None], shuffled[f]) for f in (0, 1)]
        mean: Float[np.ndarray, " B"] = np.nan_to_num((both[0] + both[1]) / 2)
        return mean

    found = agree(y[:, :, None])[0]
    drawn = agree(np.stack([y[f][orders].T for f in (0, 1)]))
    return float((1 + (drawn >= found).sum()) / (1 + _SHUFFLES))


def verdict(cohorts: int, p_value: float | None, found: Skill | None) -> str:
    """Say whether a prediction is offered: predicted, few_cohorts, noise or no_skill."""
    if cohorts < FEWEST:
        return "few_cohorts"
    if found is None or p_value is None or p_value >= SMALL_P:
        return "noise"
    return "predicted" if found.lower > 0 else "no_skill"


def lines_of(target: Target, found: Predicted) -> pl.DataFrame:
    """Lines of `PREDICTION`, one for each effect and fold."""
    mean = target.checkpoint < 0
    of_effect = pl.DataFrame(
        {
            "cohort": target.cohort,
            "checkpoint": pl.Series(target.checkpoint).set(pl.Series(mean), None),
            "method": found.method,
        }
    )
    folds = [
        of_effect.with_columns(
            fold=pl.lit(f, pl.Int64),
            predicted=found.predicted[f],
            lower=found.predicted[f] - found.half_width[f],
            upper=found.predicted[f] + found.half_width[f],
            observed=target.observed[f],
            observed_se=target.se[f],
            covered=found.covered[f],
        )
        for f in (0, 1)
    ]
    return pl.concat(folds)


def _methods(target: Target) -> dict[str, Float[np.ndarray, "2 K"]]:
    count = target.sources.shape[2]
    made = {"line": _regressed(target, lambda x: x[:, -1:])}
    if count > 1 and len(target.parameters):
        made["scaling"] = np.stack([_scaled(target, f) for f in (0, 1)])
    if count > 1:
        made["rank_1"] = _regressed(target, lambda x: _factors(x, 1))
    if count > 2:
        made["rank_2"] = _regressed(target, lambda x: _factors(x, 2))
    if target.schedule.shape[1]:
        made["schedule_rank_1"] = _regressed(
            target, lambda x: np.column_stack([target.schedule, _factors(x, 1)])
        )
    return made


def _floors(target: Target) -> tuple[Float[np.ndarray, "2 K"], Float[np.ndarray, "2 K"] | None]:
    mean = _regressed(target, lambda x: x[:, :0])
    if not target.schedule.shape[1]:
        return mean, None
    return mean, _regressed(target, lambda _: target.schedule)


def _regressed(target: Target, regressors: Any) -> Float[np.ndarray, "2 K"]:
    ones = np.ones((len(target.cohort), 1))
    return np.stack(
        [
            leave_one_cohort_out(
                np.column_stack([ones, regressors(target.sources[f])]),
                target.observed[f],
                target.number,
            )
            for f in (0, 1)
        ]
    )


def _factors(x: Float[np.ndarray, "K S"], count: int) -> Float[np.ndarray, "K r"]:
    """First principal factors of the sources; what is to be predicted has no part in them."""
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    scores: Float[np.ndarray, "K r"] = u[:, :count] * s[:count]
    return scores


def _scaled(target: Target, fold: int) -> Float[np.ndarray, " K"]:
    x, number = target.sources[fold], target.number
    starts = np.searchsorted(number, np.arange(number[-1] + 1))
    sums, counts = np.add.reduceat(x, starts), np.bincount(number)[:, None]
    means = (sums.sum(axis=0) - sums) / (counts.sum() - counts)  # of the other cohorts, (G, S)
    level, weights = scaling(means, target.parameters)
    predicted: Float[np.ndarray, " K"] = level[number] * (x * weights[number]).sum(axis=1)
    return predicted


def scaling(
    means: Float[np.ndarray, "G S"], parameters: Float[np.ndarray, " S1"]
) -> tuple[Float[np.ndarray, " G"], Float[np.ndarray, "G S"]]:
    """Level of a size by a line in log parameters, and weights that give the sources' shape.

    Parameters
    ----------
    means : mean effect of each source.
    parameters : of each source, and last of the size.

    Returns
    -------
    level : (G,) predicted mean effect of the size.
    weights : (G, S) with which the sources' effects add up to their common shape, of mean 1.

    Examples
    --------
    >>> level, weights = scaling(np.array([[1.0, 2.0]]), np.exp(np.array([1.0, 2, 4])))
    >>> level.round(6), (weights * [1.0, 2.0]).sum(axis=1)
    (array([4.]), array([1.]))
    """
    log = np.log(parameters)
    line = np.linalg.lstsq(np.column_stack([np.ones(len(log) - 1), log[:-1]]), means.T, rcond=None)
    square = (means**2).sum(axis=1, keepdims=True)
    weights = means / np.where(square > 0, square, 1.0)
    return line[0][0] + line[0][1] * log[-1], weights


def _by_cohort(target: Target, values: Float[np.ndarray, "2 K"]) -> Float[np.ndarray, "2 G"]:
    number = target.number
    return np.stack([np.bincount(number, values[f]) for f in (0, 1)])


def _judged(
    target: Target,
    method: Sequence[str],
    predicted: Float[np.ndarray, "2 K"],
    floors: tuple[Float[np.ndarray, "2 K"], Float[np.ndarray, "2 K"] | None],
    level: float,
) -> Predicted:
    noise = _by_cohort(target, target.noise).sum(axis=0)

    def errors(values: Float[np.ndarray, "2 K"]) -> Float[np.ndarray, " G"]:
        left: Float[np.ndarray, " G"] = (
            _by_cohort(target, (target.observed - values) ** 2).sum(axis=0) - noise
        )
        return left

    mean, schedule = floors
    half, covered = _intervals(target, predicted, level)
    return Predicted(
        method,
        predicted,
        half,
        covered,
        skill(errors(predicted), errors(mean), level),
        None if schedule is None else skill(errors(predicted), errors(schedule), level),
    )


def _intervals(
    target: Target, predicted: Float[np.ndarray, "2 K"], level: float
) -> tuple[Float[np.ndarray, "2 K"], Bool[np.ndarray, "2 K"]]:
    """Half-widths for the true effect, and whether the observed one lies within, noise added.

    A cohort's variance is that of the other cohorts' errors, at about as many checkpoints since the
    cohort: effects and errors differ most between its first checkpoint and later ones.
    """
    number = target.number
    count = int(number[-1]) + 1
    starts = np.searchsorted(number, np.arange(count))
    since = np.log2(1 + np.arange(len(number)) - starts[number]).astype(np.int64)
    having = np.array([len(np.unique(number[since == e])) for e in range(since.max() + 1)])
    since = np.minimum(since, max(int((having >= FEWEST).sum()) - 1, 0))  # late ones are of few
    cell = since * count + number
    size = (since.max() + 1, count)
    square = ((target.observed - predicted) ** 2).sum(axis=0)
    noise = target.noise.sum(axis=0)
    sums = [
        np.bincount(cell, v, minlength=size[0] * size[1]).reshape(size) for v in (square, noise)
    ]
    members = 2 * np.bincount(cell, minlength=size[0] * size[1]).reshape(size)
    others = np.maximum(members.sum(axis=1, keepdims=True) - members, 1)
    left, noisy = ((one.sum(axis=1, keepdims=True) - one) / others for one in sums)
    cohorts = np.maximum((members > 0).sum(axis=1, keepdims=True) - 1, 1)
    model = np.maximum(left - noisy, left * np.sqrt(2 / cohorts))
    reach = stdtrit(cohorts, (1 + level) / 2)
    common = np.maximum(target.common, 0.0)[:, None]  # rounding may go below 0
    half = (reach * np.ones(size))[since, number] * np.sqrt(model[since, number] + common)
    wide = (reach * np.ones(size))[since, number] * np.sqrt(model[since, number] + target.noise)
    return half, np.abs(target.observed - predicted) <= wide
