from pythia_profile.figures.comparisons import (
    agreement as agreement,
    counterfactual as counterfactual,
)
from pythia_profile.figures.gallery import draw_all as draw_all
from pythia_profile.figures.profiles import (
    event_time as event_time,
    heatmap as heatmap,
    instantaneous as instantaneous,
    residual as residual,
)
from pythia_profile.figures.style import save as save
