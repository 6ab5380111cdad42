"""Membership by a threshold on the loss, and the published law of how well it works.

A threshold on the loss is a weak attack: that it fails does not show that nothing is held.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import rankdata

from pythia_profile.labs.capacity.capacity_numbers import CapacityError

__all__ = ["LAW", "membership", "membership_law", "rows_of_f1"]

LAW = (1.34, -0.034, -33.14)
"""c1, c2, c3 as published."""


def membership(
    members: npt.ArrayLike, others: npt.ArrayLike, *, rate: float = 0.01
) -> dict[str, float]:
    """How well scores tell members from others; the higher the score, the likelier a member.

    Parameters
    ----------
    members, others : (n,), (m,) scores of rows, log-likelihoods for instance.
    rate : of others that may be taken for members.

    Returns
    -------
    f1 : where as many rows are called members as there are, ties by halves: n / (n + m) by chance.
    auc : share of pairs in the right order, ties a half.
    tpr : largest share of members found while at most `rate` of the others are taken for them.

    Raises
    ------
    CapacityError
        There are no members, no others, or scores that are not finite.

    Examples
    --------
    >>> membership([3.0, 2.0, 1.0, 0.0], [2.5, 0.5, -1.0, -2.0], rate=0.25)
    {'f1': 0.75, 'auc': 0.75, 'tpr': 0.75}
    """
    inside, outside = np.asarray(members, np.float64), np.asarray(others, np.float64)
    if inside.ndim != 1 or outside.ndim != 1 or not inside.size or not outside.size:
        raise CapacityError("expected scores of one or more members and others, one number a row")
    scores = np.concatenate([inside, outside])
    if not np.isfinite(scores).all():
        raise CapacityError("scores: expected finite numbers")
    ranks = rankdata(scores)
    auc = (ranks[: inside.size].sum() / inside.size - (inside.size + 1) / 2) / outside.size
    threshold = np.sort(scores)[outside.size]
    above, level = scores > threshold, scores == threshold
    # of the rows at the threshold, the share that fills the number of members
    share = (inside.size - above.sum()) / level.sum()
    hits = above[: inside.size].sum() + share * level[: inside.size].sum()
    allowed = int(np.floor(rate * outside.size + 1e-9))
    limit = np.sort(outside)[::-1][allowed] if allowed < outside.size else -np.inf
    return {
        "f1": float(hits / inside.size),
        "auc": float(auc),
        "tpr": float((inside > limit).mean()),
    }


def membership_law(
    x: npt.ArrayLike, constants: tuple[float, float, float] = LAW
) -> npt.NDArray[np.float64]:
    """F1 = ½ (1 + c1 σ(c2 (x + c3))), with x the data bits per parameter.

    As printed x is capacity ÷ rows, which turns the law round: F1 would rise with the number of
    rows. With x = rows · tokens · log2 V ÷ parameters it gives the published rows.

    Examples
    --------
    1.56e9 parameters and 171 million rows of 64 tokens, corrected and as printed (3.64 bits a
    parameter); published: F1 .55.

    >>> rows, parameters = 170_654_583, 1_556_075_200
    >>> membership_law([rows * 64 * np.log2(50257) / parameters, 3.64 * parameters / rows]).round(2)
    array([0.55, 0.83])

    Source: Morris et al. (2025), section 5; the correction is ours.
    """
    c1, c2, c3 = constants
    found: npt.NDArray[np.float64] = 0.5 * (1 + c1 * expit(c2 * (np.asarray(x, np.float64) + c3)))
    return found


def rows_of_f1(
    f1: float,
    parameters: float,
    tokens: int,
    vocabulary: int,
    constants: tuple[float, float, float] = LAW,
) -> float:
    """Rows at which the corrected law gives an F1: its inverse.

    Raises
    ------
    CapacityError
        The law gives that F1 for no number of rows.

    Examples
    --------
    >>> round(rows_of_f1(0.75, 123_702_528, 64, 50257) / 6_104_935, 2)
    0.98
    """
    c1, c2, c3 = constants
    share = (2 * f1 - 1) / c1
    x = np.log(share / (1 - share)) / c2 - c3 if 0 < share < 1 else np.nan
    if not x > 0:
        most = float(membership_law(0.0, constants))
        raise CapacityError(
            f"f1: got {f1}, expected above .5 and below {most:.3f}, the law's range"
        )
    return float(x * parameters / (tokens * np.log2(vocabulary)))
