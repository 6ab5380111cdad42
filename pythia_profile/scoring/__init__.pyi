from pythia_profile.scoring.forward import score_checkpoint as score_checkpoint
from pythia_profile.scoring.records import read_scores as read_scores, scored_units as scored_units
from pythia_profile.scoring.run import score as score
from pythia_profile.scoring.settings import RunOptions as RunOptions, Scoring as Scoring
from pythia_profile.scoring.surprisal import (
    TokenStatistics as TokenStatistics,
    token_statistics as token_statistics,
)
