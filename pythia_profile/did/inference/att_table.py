"""The `ATT` table: effects with their simultaneous bands, one line for each cell.

In: `Panel` and `Estimation`. Out: the table `ATT`.
"""

import logging
from typing import get_args

import numpy as np
import polars as pl

from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import OptionError
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.inference.bootstrap import BootstrapSpec
from pythia_profile.did.inference.multipliers import Multiplier
from pythia_profile.did.inference.simultaneous import Bands, bands_of
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.tables import ATT, RUN, conform

log = logging.getLogger(__name__)


def estimate(
    panel: Panel,
    settings: Estimation = DEFAULT,
    *,
    multiplier: Multiplier = "normal",
    workers: int = 1,
) -> pl.DataFrame:
    """ATT table of a panel: one line for each cohort and checkpoint, with simultaneous bands.

    The column `family` says which family of bands a cell belongs to. Critical values and notes are
    logged; a warning says where bands over single cells cannot be trusted.

    Returns
    -------
    A frame that conforms to `ATT`, with the column `family` behind; null where a cell has no
    estimate, no variance, or belongs to no family.
    """
    att = effects(panel, settings)
    found = cell_bands(att, settings, multiplier=multiplier, workers=workers)
    log_notes(att, found)
    return att_table(att, panel.run, panel.outcome, found)


def cell_bands(
    att: AttGt,
    settings: Estimation = DEFAULT,
    *,
    multiplier: Multiplier = "normal",
    workers: int = 1,
) -> list[Bands]:
    """Bands over a family of cells, and over the placebo cells where the family is `post`."""
    family = settings.family
    if isinstance(family, str) and family in get_args(Kind):
        raise OptionError(
            f"family: got '{family}', expected a family of cells: post, placebo, all or "
            f"path:COHORT; for the aggregate use bands(att, family='{family}')"
        )
    families = [family]
    if family == "post" and (att.placebo & (att.se > 0)).any():
        families.append("placebo")
    bootstrap = BootstrapSpec.of(settings, multiplier, workers)
    return bands_of([att] * len(families), bootstrap, families=families, level=settings.level)


def log_notes(att: AttGt, found: list[Bands]) -> None:
    """Log what the table cannot hold: notes of the estimate; as warnings, those of its bands."""
    warnings = {note for band in found for note in band.notes}
    for note in (*att.notes, *map(str, found)):
        log.log(logging.WARNING if note in warnings else logging.INFO, note)


def att_table(
    att: AttGt, run: tuple[str, str, int], outcome: str, bands: list[Bands]
) -> pl.DataFrame:
    """Lay out effects and bands as the `ATT` table."""
    shape = att.att.shape
    lower, upper = np.full(shape, np.nan), np.full(shape, np.nan)
    family = np.full(shape, None, dtype=object)
    for band in bands:
        lower[band.member], upper[band.member] = band.lower[band.member], band.upper[band.member]
        family[band.member] = band.family
    columns = {
        "cohort": np.repeat(att.cohorts, shape[1]),
        "checkpoint": np.tile(att.checkpoints, shape[0]),
        **{
            name: pl.Series(values.ravel(), dtype=pl.Float64).fill_nan(None)
            for name, values in (
                ("att", att.att),
                ("se", att.se),
                ("lower", lower),
                ("upper", upper),
            )
        },
        "n_treated": att.n_treated.ravel(),
        "n_control": att.n_control.ravel(),
        "family": pl.Series(family.ravel().tolist(), dtype=pl.String),
    }
    named = [pl.lit(value).alias(name) for name, value in zip(RUN, run, strict=True)]
    return conform(pl.DataFrame(columns).with_columns(*named, outcome=pl.lit(outcome)), ATT)
