"""Memorization profiles of every run: instantaneous, persistent, residual, and by event time.

The curve by event time is made twice: of all cohorts, where the late event times are those of the
few early cohorts that reach them, and of a constant set of cohorts (`event_time_balanced`).

In: the tables `ROWS` and `SCORES`. Out: the table `PROFILES`. Each number is an aggregate of
ATT(g, c) with a standard error of its own, which counts that cells share their control rows.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from pythia_profile.did import AttGt, Contrast, Panel, aggregate, bands_of
from pythia_profile.did.errors import EmptyFamilyError
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.inference.bootstrap import BootstrapSpec
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.profiles.estimates import Estimates, Frame, estimates_of
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import facts_of
from pythia_profile.tables import PROFILES, conform

__all__ = [
    "BALANCED",
    "KINDS",
    "cohorts_with_common_base",
    "mean_learning_rates",
    "profile",
    "profile_lines",
]

log = logging.getLogger(__name__)

_COLUMNS = ("kind", "cohort", "event_time", "cohorts", "att", "se", "lower", "upper")
KINDS: tuple[Kind, ...] = ("instantaneous", "persistent", "residual", "event_time")
BALANCED = "event_time_balanced"
"""Kind of the curve of a constant set of cohorts."""


def profile(
    rows: Frame | Estimates,
    scores: Frame | None = None,
    settings: Estimation = DEFAULT,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
    suite: Suite | str | None = None,
) -> pl.DataFrame:
    """Aggregate the effects of every run into its profiles.

    Parameters
    ----------
    rows, scores, settings, outcomes : as in `estimate`; or in place of all, what it returned.
    suite : or its name: adds the column `learning_rate`, the mean rate over the steps that read a
        cohort.

    Returns
    -------
    The `PROFILES` table, with the number of `cohorts` that each line averages. Bands are
    simultaneous over the lines of one kind; the mean over cohorts has an interval of its own.

    Raises
    ------
    ProfileError
        As `estimate`.
    """
    found = estimates_of(rows, scores, settings, outcomes)
    known, parts = facts_of(suite) if suite is not None else None, []
    for one in found.runs:
        lines = profile_lines(one.att, found.settings)
        rates = mean_learning_rates(known, one.panel) if known else {}
        parts.append(one.named(lines).with_columns(learning_rate=_rate_of(lines, rates)))
    return conform(pl.concat(parts), PROFILES)


def profile_lines(att: AttGt, settings: Estimation) -> pl.DataFrame:
    """Lay out every kind of profile of one panel: `kind`, cohort or event time, estimate, band.

    A mean that does not exist is a line without an estimate: of one cohort there is no persistent
    effect; with rows of later cohorts as the only controls, no cohort has any at the last
    checkpoint, and there is no residual.
    """
    found = {kind: aggregate_if_any(att, kind) for kind in KINDS}
    if all(one is None for one in found.values()):
        raise EmptyFamilyError(f"profiles: none of {att.att.size} cells after treatment is known")
    curve = balanced_curve(att)
    known = [one for one in (*found.values(), curve) if one is not None]
    ends = iter(_intervals(known, settings))
    lines = [
        _no_mean(kind) if one is None else _lines(one, *next(ends)) for kind, one in found.items()
    ]
    if curve is not None:
        lines.append(_lines(curve, *next(ends)).with_columns(kind=pl.lit(BALANCED)))
    return pl.concat(lines)


def balanced_curve(att: AttGt) -> Contrast | None:
    """Mean effect by event time of the same cohorts at every event time; None where none is known.

    The cohorts are those with the most common distance to their base, and of these the half that is
    followed longest; the curve ends where the last of this half does.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, att_gt
    >>> y = [[0, 1.0, 1], [1, 2.1, 2], [0, 0, 3.0], [1, 1, 4.2], [0, 0, 0], [1, 1, 1.0]]
    >>> effect = att_gt(y, [10, 10, 20, 20, NEVER, NEVER], [0, 10, 20])
    >>> balanced_curve(effect).labels  # of the first cohort: the second has no event time 10
    (-10, 0, 10)
    """
    alike = cohorts_with_common_base(att)
    followed = sorted((att.checkpoints[-1] - np.array(alike)).tolist(), reverse=True)
    try:
        horizon = followed[(len(alike) - 1) // 2]
        return aggregate(att, "event_time", cohorts=alike, balance=horizon)
    except EmptyFamilyError:
        return None


def cohorts_with_common_base(att: AttGt) -> list[int]:
    """Cohorts whose base lies as many steps before them as that of most cohorts."""
    first = np.searchsorted(att.checkpoints, att.cohorts) - 1 - att.settings.anticipation
    distance = att.cohorts - att.checkpoints[first]
    values, counts = np.unique(distance, return_counts=True)
    chosen = att.cohorts[distance == values[np.argmax(counts)]]
    return [int(g) for g in chosen]


def aggregate_if_any(att: AttGt, kind: Kind) -> Contrast | None:
    """Aggregate effects; None, and a line in the log, where no cell belongs to the aggregate."""
    try:
        return aggregate(att, kind)
    except EmptyFamilyError as error:
        log.info("left out: %s", error)
        return None


def mean_learning_rates(suite: Suite, laid: Panel) -> dict[int, float]:
    """Mean learning rate over the steps that read each cohort of a panel, where rates are known."""
    if not suite.size(laid.run[1]).peak_lr:
        return {}
    grid = laid.checkpoints.tolist()
    return {
        cohort: float(suite.learning_rate(laid.run[1], np.arange(before + 1, cohort + 1)).mean())
        for before, cohort in pairwise(grid)
    }


def _no_mean(kind: Kind) -> pl.DataFrame:
    types = {name: PROFILES.columns.get(name, pl.Int64()) for name in _COLUMNS}
    line = pl.DataFrame({"kind": [kind], "cohorts": [0]})
    return pl.concat([pl.DataFrame(schema=types), line], how="diagonal")


def _cohorts_averaged(found: Contrast) -> list[int]:
    """Count the cohorts that have a weight in each estimate."""
    (part,) = found.parts
    line, cell = part.weights.nonzero()
    cohort = cell // len(part.att.checkpoints)
    pairs = np.unique(np.stack([line, cohort]), axis=1)
    counts: list[int] = np.bincount(pairs[0], minlength=len(found)).tolist()
    return counts


def _intervals(
    found: Sequence[Contrast], settings: Estimation
) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Lower and upper ends: bands over the lines of each kind, an interval for its mean."""
    testable = [np.array([at is not None for at in one.labels]) & (one.se > 0) for one in found]
    banded = [(one, lines) for one, lines in zip(found, testable, strict=True) if lines.any()]
    spec, level = BootstrapSpec.of(settings), settings.level
    targets, families = zip(*banded, strict=True) if banded else ((), ())
    made = iter(bands_of(targets, spec, families=families, level=level) if banded else ())
    for one, lines in zip(found, testable, strict=True):
        lower, upper = (np.array(end) for end in one.interval(level))
        if lines.any():
            band = next(made)
            lower[lines], upper[lines] = band.lower[lines], band.upper[lines]
        yield lower, upper


def _lines(
    found: Contrast, lower: npt.NDArray[np.float64], upper: npt.NDArray[np.float64]
) -> pl.DataFrame:
    labels = pl.Series(found.labels, dtype=pl.Int64), pl.Series([None] * len(found), dtype=pl.Int64)
    if found.kind == "event_time":
        labels = labels[::-1]
    return pl.DataFrame(
        {
            "kind": [found.kind] * len(found),
            **dict(zip(("cohort", "event_time"), labels, strict=True)),
            "cohorts": _cohorts_averaged(found),
            "att": found.estimate,
            "se": found.se,
            "lower": lower,
            "upper": upper,
        }
    )


def _rate_of(lines: pl.DataFrame, rates: dict[int, float]) -> pl.Series:
    return pl.Series([rates.get(cohort) for cohort in lines["cohort"]], dtype=pl.Float64)
