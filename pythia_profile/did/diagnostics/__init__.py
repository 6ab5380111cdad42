"""What the effects depend on: balance, single checkpoints, other estimators, strata."""
