"""Settings of the counterfactual retraining: section `audit` of `study.toml`."""

from typing import Self

from pydantic import Field, model_validator

from pythia_profile.settings import Settings

__all__ = ["Audit"]


class Audit(Settings):
    """Which cohorts of which size are retrained without their rows; none by default.

    Examples
    --------
    >>> Audit(size="xs", cohorts=3).wanted
    True
    >>> Audit(size="xs")
    Traceback (most recent call last):
        ...
    pythia_profile.errors.SettingsError: size and cohorts go together: got 'xs' and 0
    """

    size: str = Field(
        "",
        description="size that is retrained without some cohorts; empty for none (mini suite only)",
    )
    cohorts: int = Field(0, ge=0, description="how many cohorts are left out, a retraining each")
    horizon: int = Field(
        0,
        ge=0,
        description="checkpoints after the cohort's own until which a retraining goes on; 0 for "
        "all that follow",
    )

    interference: bool = Field(
        False,
        description="whether each cohort is retrained once more, with only its unscored rows "
        "replaced: what these do to the scored rows is interference, which the estimate assumes to "
        "be none",
    )

    @property
    def wanted(self) -> bool:
        """Whether anything is retrained."""
        return bool(self.size)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.size) != (self.cohorts > 0):
            raise ValueError(f"size and cohorts go together: got '{self.size}' and {self.cohorts}")
        return self
