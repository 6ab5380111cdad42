from pythia_profile import did as did, figures as figures
from pythia_profile.checkpoints.identity import audit as audit
from pythia_profile.errors import ProfileError as ProfileError
from pythia_profile.figures.answers import (
    decay as plot_decay,
    prediction as plot_prediction,
    seeds as plot_seeds,
)
from pythia_profile.figures.comparisons import (
    agreement as plot_agreement,
    counterfactual as plot_counterfactual,
)
from pythia_profile.figures.heatmaps import (
    difference as plot_difference,
    heatmap as heatmap,
    heatmap as plot_heatmap,
)
from pythia_profile.figures.profiles import (
    event_time as event_time,
    event_time as plot_event_time,
    instantaneous as instantaneous,
    instantaneous as plot_instantaneous,
    residual as residual,
    residual as plot_residual,
)
from pythia_profile.findings.whole import study_findings as study_findings
from pythia_profile.mini.build import mini_suite as mini_suite
from pythia_profile.mini.forks import training_seeds as training_seeds
from pythia_profile.pipeline.entering import (
    Given as Given,
    export_tables as export_tables,
    import_tables as import_tables,
)
from pythia_profile.pipeline.planning import plan_study as plan_study
from pythia_profile.pipeline.running import run_all as run_study
from pythia_profile.pipeline.study_pair import compare_studies as compare_studies
from pythia_profile.pipeline.opened import (
    Study as Study,
    create_study as create_study,
    open_study as open_study,
)
from pythia_profile.pipeline.two_checkpoints import two_checkpoints as two_checkpoints
from pythia_profile.pipeline.own_run import check_suite as check_suite
from pythia_profile.profiles.agreement import agreement as agreement
from pythia_profile.profiles.diagnostics import check as check
from pythia_profile.profiles.dated import memory_dates as memory_dates
from pythia_profile.profiles.estimands import (
    EstimandPlan as EstimandPlan,
    estimands as estimands,
)
from pythia_profile.profiles.estimates import estimate as estimate
from pythia_profile.profiles.inserted import insertion_effects as insertion_effects
from pythia_profile.profiles.profile import profile as profile
from pythia_profile.profiles.two_orders import crossover as crossover
from pythia_profile.profiles.study_power import PowerPlan as PowerPlan, power as power
from pythia_profile.scoring.noise import noise_floor as noise_floor
from pythia_profile.scoring.forward import score_checkpoint as score_checkpoint
from pythia_profile.scoring.run import score as score
from pythia_profile.scoring.surprisal import token_statistics as token_statistics
from pythia_profile.study import (
    Audit as Audit,
    Estimation as Estimation,
    Sampling as Sampling,
    Scoring as Scoring,
)
from pythia_profile.suites.describe import (
    describe_size as describe_size,
    describe_suite as describe_suite,
)
from pythia_profile.suites.registry import known_suites as known_suites, open_suite as open_suite
from pythia_profile.suites.sampling import sample_rows as sample_rows
from pythia_profile.text import to_latex as to_latex, to_markdown as to_markdown

__version__: str
