"""One class for each thing that keeps an effect from being estimated; messages count and name.

All descend from `EstimationError`, and so from `ProfileError`, the root.
"""

from pythia_profile.errors import EstimationError


class PanelShapeError(EstimationError, ValueError):
    """Outcomes, cohorts, clusters and checkpoints do not fit together."""


class CheckpointOrderError(EstimationError, ValueError):
    """Checkpoints are not strictly ascending numbers, or fewer than two."""


class OptionError(EstimationError, ValueError):
    """A setting has a value that is not one of those known."""

    exit_code = 2


class NoControlError(EstimationError):
    """No row can serve as a control."""


class NoTreatedError(EstimationError):
    """No row is treated."""


class EarlyCohortError(EstimationError):
    """A cohort has no scored checkpoint before it, so its effect has no base."""


class SmallCohortError(EstimationError):
    """A cohort, or the control group, has one row or one cluster: no variance can be told."""


class ConstantOutcomeError(EstimationError):
    """The outcome is the same for every row and checkpoint."""


class MissingOutcomeError(EstimationError):
    """Outcomes are missing (NaN) or infinite where a balanced panel is expected."""


class DuplicateError(EstimationError):
    """A row is duplicated: two outcomes for one row and checkpoint, or one id for two rows."""


class UnbalancedPanelError(EstimationError):
    """Some rows were not scored at every checkpoint, and no rule for that was chosen."""


class ClusterError(EstimationError):
    """A cluster holds rows of more than one cohort; treatment must be constant within clusters."""


class DegenerateError(EstimationError):
    """Every cell of the family has zero or no variance."""


class EmptyFamilyError(EstimationError):
    """The family of cells that was asked for has no members."""


class NoRowsError(EstimationError):
    """The estimate was made from moments alone, and the question needs the rows."""


class CovariateError(EstimationError):
    """Covariates are missing, constant, sums of one another, or do not fit the rows."""
