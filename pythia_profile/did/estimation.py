"""From a panel to its effects, by the settings of an estimate.

In: `Panel` and `Estimation`. Out: `AttGt`, in units of the outcome.
"""

import logging
from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Int

from pythia_profile.did.arguments import check_option, counted
from pythia_profile.did.att import AttGt, effects_of_rows
from pythia_profile.did.covariates import covariates_of
from pythia_profile.did.errors import ClusterError, ConstantOutcomeError
from pythia_profile.did.moments import RowLabels
from pythia_profile.did.panels import Panel
from pythia_profile.did.precision import precision_notes
from pythia_profile.did.settings import DEFAULT, ClusterBy, Estimation
from pythia_profile.tables import NEVER

log = logging.getLogger(__name__)


ALONE = 0.01
"""Share of rows without a second one of their batch, from which on they were drawn one by one: of
96 rows drawn over 32 batches of 16, some 4 in 100 are alone; of rows drawn by batches, none."""


def effects(panel: Panel, settings: Estimation = DEFAULT, *, precision: bool = True) -> AttGt:
    """Estimate ATT(g, c) on a panel.

    Clusters by `batch` allow for shocks that the rows of a batch share, because treatment is
    assigned by batch; rows without a batch are clusters of their own. A note says what `auto` is.

    Parameters
    ----------
    precision : whether notes say what batches and base outcomes do to it, which takes longer than
        the estimate.

    Raises
    ------
    ClusterError
        `batch`, and no row names its batch.
    ConstantOutcomeError
        No two rows, or no two checkpoints, have different outcomes.
    """
    _check_varies(panel)
    by, chosen = cluster_by(settings.clusters, panel)
    clusters = panel.cluster if by == "batch" else None
    chosen_covariates = panel.covariate_values(settings.covariates)
    covariates = covariates_of(chosen_covariates, panel.y.shape) if chosen_covariates else None
    given = RowLabels(clusters, panel.weight, panel.row_id, covariates, panel.second)
    if np.isnan(panel.y).any():  # the panel kept its gaps on purpose
        settings = settings.model_copy(update={"missing": "available"})
    att = effects_of_rows(panel.y, panel.cohort, panel.checkpoints, given, settings)
    notes = (*panel.notes, *chosen, *att.notes)
    if precision:
        notes = (*notes, *precision_notes(att, panel.cluster, settings.clusters))
    return replace(att, notes=notes)


def _check_varies(panel: Panel) -> None:
    """Refuse outcomes that tell no row, or no checkpoint, from another."""
    for axis, what in ((0, "all rows have the same value"), (1, "no row's value ever changes")):
        values = panel.y if axis == 0 else panel.y.T
        known = ~np.isnan(values).all(axis=0)
        spread = np.nanmax(values[:, known], axis=0) - np.nanmin(values[:, known], axis=0)
        if spread.size and not spread.any():
            where = "at every checkpoint " if axis == 0 else ""
            raise ConstantOutcomeError(
                f"{panel.run[1]}: outcome '{panel.outcome}': {where}{what}, so there is no effect "
                "to tell; choose another outcome, or look at how it was scored"
            )


def cluster_by(
    clusters: ClusterBy, panel: Panel
) -> tuple[Literal["row", "batch"], tuple[str, ...]]:
    """Return what the rows of a panel are clustered by, and for `auto` a note that says so."""
    check_option(clusters, ClusterBy, "clusters")
    named = panel.cluster != NEVER
    known = panel.cluster[named]
    batches = len(np.unique(known))
    if clusters == "batch" and not batches:
        raise ClusterError(
            "clusters='batch': no row names its batch, expected a column 'batch' of the rows; add "
            "it, or choose clusters='row'"
        )
    if clusters != "auto":
        return clusters, ()
    if reason := _drawn_one_by_one(known, panel.cohort[named], batches):
        return "row", (f"clusters='auto': by row, {reason}",)
    of = counted(batches, "batch", "batches")
    return "batch", (f"clusters='auto': by batch, {len(known)} rows are of {of}",)


def _drawn_one_by_one(
    batch: Int[np.ndarray, " U"], cohort: Int[np.ndarray, " U"], batches: int
) -> str:
    """Why rows are no clusters by batch; empty where they were drawn by batches."""
    if not batches:
        return "batches are not known"
    if batches == len(batch):
        return "no two rows share a batch"
    if (np.unique(batch, return_counts=True)[1] == 1).sum() >= ALONE * len(batch):
        return "rows share a batch by chance"
    pairs = np.unique(np.stack([cohort, batch]), axis=1)
    if (np.unique(pairs[0], return_counts=True)[1] == 1).any():
        return "a cohort is of one batch, whose variance nothing tells"
    return ""
