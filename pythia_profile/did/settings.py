"""How effects are estimated: one frozen object that every estimating function takes."""

from typing import Literal

from pydantic import Field

from pythia_profile.settings import Settings

__all__ = [
    "DEFAULT",
    "Adjustment",
    "Base",
    "ClusterBy",
    "Control",
    "Estimation",
    "Estimator",
    "MissingRule",
    "SecondReading",
]

Control = Literal["never", "not_yet", "both"]
Base = Literal["universal", "varying"]
Estimator = Literal["did", "diff", "ancova"]
Adjustment = Literal["regression", "doubly_robust"]
ClusterBy = Literal["auto", "row", "batch"]
MissingRule = Literal["error", "balanced", "available"]
SecondReading = Literal["cut", "keep", "drop"]

MOST_DRAWS = 100_000


class Estimation(Settings):
    """Settings of an estimate; `study.toml` holds them in its section `estimate`.

    Examples
    --------
    >>> Estimation(control="both").draws
    1000
    >>> Estimation(draws=0)
    Traceback (most recent call last):
        ...
    pythia_profile.errors.SettingsError: draws: got 0, expected: greater than or equal to 10
    """

    control: Control = Field(
        default="never",
        description="control rows: never (never-treated), not_yet (rows of later cohorts), both",
    )
    base: Base = Field(
        default="universal",
        description="base checkpoint: universal (the last before the cohort), or varying (for "
        "cells before treatment, the checkpoint before each)",
    )
    estimator: Estimator = Field(
        default="did",
        description="did (difference-in-differences), diff (plain difference to the controls), or "
        "ancova (changes adjusted for the base outcome)",
    )
    covariates: tuple[str, ...] = Field(
        default=(),
        description="compare rows at equal values of these: columns of covariates.parquet or of "
        "the rows, features (all that need no model), base (the outcome at the base checkpoint), "
        "sizes (the other sizes' outcomes there), reference; empty for none",
    )
    adjustment: Adjustment = Field(
        default="regression",
        description="how covariates are held equal: regression (of changes on them among the "
        "controls), or doubly_robust (by the probability of being treated as well)",
    )
    clusters: ClusterBy = Field(
        default="auto",
        description="what standard errors are clustered by: row, batch, or auto (by batch where "
        "rows were drawn by batches, so that next to none is alone in its own)",
    )
    anticipation: int = Field(
        default=0,
        ge=0,
        strict=True,
        description="checkpoints before the cohort's at which an effect may already be there",
    )
    missing: MissingRule = Field(
        default="error",
        description="what to do where a row lacks a score: error, balanced (leave the row out), "
        "or available (use what is there)",
    )
    second_reading: SecondReading = Field(
        default="cut",
        description="rows whose text is read again: cut (leave out their cells from the second "
        "reading on), keep (use all cells), or drop (leave out these rows, and those whose text "
        "had been read before)",
    )
    draws: int = Field(
        default=1000, ge=10, strict=True, le=MOST_DRAWS, description="bootstrap draws"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, strict=True, description="seed of the bootstrap")
    level: float = Field(
        default=0.95, gt=0, lt=1, description="confidence level of bands and intervals"
    )
    family: str = Field(
        default="post",
        description="cells that the simultaneous bands cover together: post (from the cohort on; "
        "cells before treatment get a band of their own), placebo, all, or path:COHORT",
    )


DEFAULT = Estimation()
"""Settings where none are given."""
