"""The estimate beside the same one at equal covariates: what they are worth in rows.

In: the estimates of a study. Out: the table `PRECISION`, one line for each run, outcome, kind of
mean and set of covariates. An effect whose standard error shrinks by `ratio` would otherwise need
1/ratio² times the rows.
"""

import logging

import polars as pl

from pythia_profile.did import AttGt, aggregate
from pythia_profile.did.estimation import effects
from pythia_profile.errors import EstimationError
from pythia_profile.profiles.estimates import Estimates
from pythia_profile.tables import PRECISION, conform

__all__ = ["covariate_sets", "side_by_side", "summary"]

log = logging.getLogger(__name__)

KINDS = ("instantaneous", "persistent", "overall")


def side_by_side(estimates: Estimates) -> pl.DataFrame:
    """Estimate each run without covariates, at equal features, and at an equal reference.

    The first set of covariates of each run is empty: the estimator of the study as it is without.
    """
    plain = estimates.settings.replace(covariates=())
    lines = []
    for one in estimates.runs:
        first: dict[str, tuple[float, float]] = {}
        known = [*one.panel.covariates.columns, *one.panel.beside]
        for names in ((), *covariate_sets(known, estimates.settings.covariates)):
            try:
                own = names == estimates.settings.covariates
                att = one.att if own else effects(one.panel, plain.replace(covariates=names))
            except EstimationError as error:
                log.warning("%s, %s: %s", one.panel.run[1], one.panel.outcome, error)
                continue
            means = _means(att)
            first = first or means
            lines += [
                {
                    **one.names,
                    "covariates": ", ".join(names),
                    "adjustment": plain.adjustment if names else "none",
                    "kind": kind,
                    "att": effect,
                    "se": error,
                    "ratio": error / first[kind][1] if first[kind][1] else None,
                }
                for kind, (effect, error) in means.items()
            ]
    return conform(pl.DataFrame(lines, schema=PRECISION.columns), PRECISION)


def summary(table: pl.DataFrame) -> str:
    """Say in a line by how much the standard errors of the means shrink, smallest first."""
    sets = table.filter(pl.col("covariates") != "").group_by("covariates", maintain_order=True)
    said = [
        f"at equal {name}, standard errors are {low:.2f} to {high:.2f} of those without"
        for (name,), lines in sets
        for low, high in [_range(lines["ratio"])]
    ]
    return "; ".join(said) or "no covariates are known"


def _range(ratios: pl.Series) -> tuple[float, float]:
    known = ratios.drop_nulls().to_numpy()
    return (float(known.min()), float(known.max())) if len(known) else (1.0, 1.0)


def covariate_sets(columns: list[str], asked: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the sets of covariates that the columns allow, and those asked for.

    Examples
    --------
    >>> covariate_sets(["length", "features.bigram"], ("base",))
    [('features', 'base'), ('base',)]
    """
    groups = {name.partition(".")[0] for name in columns if "." in name}
    known = tuple(name for name in ("features", "reference") if name in groups)
    sets = [(*known[: k + 1], "base") for k in range(len(known))]
    return [*sets, asked] if asked and asked not in sets else sets


def _means(att: AttGt) -> dict[str, tuple[float, float]]:
    """Mean over cohorts of each kind, with its standard error."""
    found = {}
    for kind in KINDS:
        try:
            mean = aggregate(att, kind).only([None])  # type: ignore[arg-type]
        except EstimationError:  # no cohort has a checkpoint after its own
            continue
        found[kind] = float(mean.estimate[0]), float(mean.se[0])
    return found
