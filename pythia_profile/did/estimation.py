"""From a panel to the `ATT` table: the one call that the stage `att` of a study makes.

In: `Panel`. Out: `AttGt`, or the `ATT` table with bands, in units of the outcome.
"""

import logging
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import polars as pl
from jaxtyping import Int

from pythia_profile.did.arguments import check_option, counted
from pythia_profile.did.att import AttGt, effects_of_rows
from pythia_profile.did.diagnostics.balance import LOW_RHO, batch_icc, reliability
from pythia_profile.did.errors import ClusterError, OptionError
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.inference.bootstrap import BootstrapSpec, Process
from pythia_profile.did.inference.simultaneous import Bands, bands_of
from pythia_profile.did.moments import RowLabels
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import DEFAULT, ClusterBy, Estimation
from pythia_profile.tables import ATT, NEVER, RUN, conform

log = logging.getLogger(__name__)

NOTABLE_ICC = 0.02
"""With ten rows a batch, unclustered standard errors are then 8 % too small: (1 + 9 × .02)^-½."""


def effects(panel: Panel, settings: Estimation = DEFAULT) -> AttGt:
    """Estimate ATT(g, c) on a panel.

    Clusters by `batch` allow for shocks that the rows of a batch share, because treatment is
    assigned by batch; rows without a batch are clusters of their own. A note says what `auto` is.

    Raises
    ------
    ClusterError
        `batch`, and no row names its batch.
    """
    by, chosen = cluster_by(settings.clusters, panel.cluster)
    clusters = panel.cluster if by == "batch" else None
    given = RowLabels(clusters, panel.weight, panel.row_id)
    if np.isnan(panel.y).any():  # the panel kept its gaps on purpose
        settings = settings.model_copy(update={"missing": "available"})
    att = effects_of_rows(panel.y, panel.cohort, panel.checkpoints, given, settings)
    notes = (*panel.notes, *chosen, *att.notes, *_precision(att, panel, by))
    return replace(att, notes=notes)


def cluster_by(
    clusters: ClusterBy, batch: Int[np.ndarray, " U"]
) -> tuple[Literal["row", "batch"], tuple[str, ...]]:
    """Return what rows are clustered by, and for `auto` a note that says so.

    Parameters
    ----------
    batch : (U,) batch of each row; NEVER for rows without one.
    """
    check_option(clusters, ClusterBy, "clusters")
    known = batch[batch != NEVER]
    batches = len(np.unique(known))
    if clusters == "batch" and not batches:
        raise ClusterError(
            "clusters='batch': no row names its batch, expected a column 'batch' of the rows; add "
            "it, or choose clusters='row'"
        )
    if clusters != "auto":
        return clusters, ()
    if batches < len(known):
        return "batch", (
            f"clusters='auto': by batch, {len(known)} rows are of "
            f"{counted(batches, 'batch', 'batches')}",
        )
    reason = "no two rows share a batch" if batches else "batches are not known"
    return "row", (f"clusters='auto': by row, {reason}",)


def _precision(att: AttGt, panel: Panel, clusters: Literal["row", "batch"]) -> list[str]:
    """Say what the batches and the base do to the precision."""
    cells = att.post & (att.se > 0)
    if not cells.any():
        return []
    notes = []
    icc = batch_icc(att, panel.cluster)[cells]
    if np.isfinite(icc).any():
        share = float(np.nanmean(icc))
        note = f"intraclass correlation of changes within batches: {share:.3f}"
        if clusters == "row" and share > NOTABLE_ICC:
            note += "; if rows were drawn batch by batch, choose clusters='batch'"
        notes.append(note)
    rho = float(np.nanmedian(reliability(att)[cells]))
    note = f"correlation of outcomes with their base: {rho:.3f} (median over cells)"
    if rho < LOW_RHO:
        note += "; with rows assigned to steps at random, 'diff' and 'ancova' are more precise"
    return [*notes, note]


def estimate(
    panel: Panel,
    settings: Estimation = DEFAULT,
    *,
    multiplier: Process = "normal",
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
    att: AttGt, settings: Estimation = DEFAULT, *, multiplier: Process = "normal", workers: int = 1
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
