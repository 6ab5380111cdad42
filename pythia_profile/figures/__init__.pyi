from pythia_profile.figures.answers import (
    decay as decay,
    prediction as prediction,
    seeds as seeds,
)
from pythia_profile.figures.comparisons import (
    agreement as agreement,
    counterfactual as counterfactual,
)
from pythia_profile.figures.gallery import FIGURES as FIGURES, draw_all as draw_all
from pythia_profile.figures.heatmaps import difference as difference, heatmap as heatmap
from pythia_profile.figures.profiles import (
    event_time as event_time,
    instantaneous as instantaneous,
    residual as residual,
)
from pythia_profile.figures.style import FORMATS as FORMATS, save as save
