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
from pythia_profile.did.errors import ClusterError
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
    """
    by, chosen = cluster_by(settings.clusters, panel.cluster)
    clusters = panel.cluster if by == "batch" else None
    chosen_covariates = panel.covariate_values(settings.covariates)
    covariates = covariates_of(chosen_covariates, panel.y.shape) if chosen_covariates else None
    given = RowLabels(clusters, panel.weight, panel.row_id, covariates, panel.second)
    if np.isnan(panel.y).any():  # the panel kept its gaps on purpose
        settings = settings.model_copy(update={"missing": "available"})
    att = effects_of_rows(panel.y, panel.cohort, panel.checkpoints, given, settings)
    notes = (*panel.notes, *chosen, *att.notes)
    if precision:
        notes = (*notes, *precision_notes(att, panel.cluster, by))
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
    alone = int((np.unique(known, return_counts=True)[1] == 1).sum())
    if known.size and alone < ALONE * len(known):
        return "batch", (
            f"clusters='auto': by batch, {len(known)} rows are of "
            f"{counted(batches, 'batch', 'batches')}",
        )
    few = "no two rows share a batch" if batches == len(known) else "rows share a batch by chance"
    reason = few if batches else "batches are not known"
    return "row", (f"clusters='auto': by row, {reason}",)
