"""Scoring: what a checkpoint says of every sampled row, token statistics and row means.

Names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pythia_profile.scoring.rows import score_checkpoint
    from pythia_profile.scoring.run import score
    from pythia_profile.scoring.surprisal import TokenStatistics, token_statistics
    from pythia_profile.scoring.tables import read_scores
    from pythia_profile.scoring.units import ScoringSettings

_HOME = {
    "ScoringSettings": "pythia_profile.scoring.units",
    "TokenStatistics": "pythia_profile.scoring.surprisal",
    "read_scores": "pythia_profile.scoring.tables",
    "score": "pythia_profile.scoring.run",
    "score_checkpoint": "pythia_profile.scoring.rows",
    "token_statistics": "pythia_profile.scoring.surprisal",
}

__all__ = [
    "ScoringSettings",
    "TokenStatistics",
    "read_scores",
    "score",
    "score_checkpoint",
    "token_statistics",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pythia_profile.scoring' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
