from pythia_profile.scoring.rows import score_checkpoint as score_checkpoint
from pythia_profile.scoring.run import score as score
from pythia_profile.scoring.surprisal import (
    TokenStatistics as TokenStatistics,
    token_statistics as token_statistics,
)
from pythia_profile.scoring.tables import read_scores as read_scores
from pythia_profile.scoring.units import ScoringSettings as ScoringSettings
