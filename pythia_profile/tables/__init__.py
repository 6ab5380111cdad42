"""The tables at which the stages meet: names, columns, units, keys; and the check at each border.

A *run* is (suite, size, seed). Outcomes are in nats per token where they are log-likelihoods, and
higher always means better remembered. Extra columns are welcome everywhere and kept.
"""

from data_order.order import NEVER
from pythia_profile.tables.checked import (
    ALTERNATIVES,
    ASSIGNMENT,
    BALANCE,
    CHECKS,
    CONTRASTS,
    COUNTERFACTUAL,
    COUNTERFACTUAL_SUMMARY,
    LEAVE_ONE_OUT,
    SENSITIVITY,
)
from pythia_profile.tables.compared import (
    ACROSS,
    CROSSOVER,
    CROSSOVER_MEANS,
    INSERTIONS,
    MEMORY_DATES,
)
from pythia_profile.tables.contract import (
    RUN,
    Table,
    conform,
)
from pythia_profile.tables.estimated import (
    AGREEMENT,
    ATT,
    ESTIMANDS,
    PLACEBO,
    PRECISION,
    PROFILES,
)
from pythia_profile.tables.found import (
    BITS,
    DECAY,
    FINDINGS,
    FOUND,
    PREDICTION,
    PREDICTION_SKILL,
)
from pythia_profile.tables.scored import (
    COVARIATES,
    NOISE,
    REMEMBERED,
    ROWS,
    SCORES,
)

__all__ = [
    "ACROSS",
    "AGREEMENT",
    "ALTERNATIVES",
    "ASSIGNMENT",
    "ATT",
    "BALANCE",
    "BITS",
    "CHECKS",
    "CONTRASTS",
    "COUNTERFACTUAL",
    "COUNTERFACTUAL_SUMMARY",
    "COVARIATES",
    "CROSSOVER",
    "CROSSOVER_MEANS",
    "DECAY",
    "ESTIMANDS",
    "FINDINGS",
    "FOUND",
    "INSERTIONS",
    "LEAVE_ONE_OUT",
    "MEMORY_DATES",
    "NEVER",
    "NOISE",
    "PLACEBO",
    "PRECISION",
    "PREDICTION",
    "PREDICTION_SKILL",
    "PROFILES",
    "REMEMBERED",
    "ROWS",
    "RUN",
    "SCORES",
    "SENSITIVITY",
    "TABLES",
    "Table",
    "conform",
]

TABLES = tuple(one for one in [*globals().values()] if isinstance(one, Table))
"""Every table that a study can hold."""
