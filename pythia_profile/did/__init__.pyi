from pythia_profile.did.att import AttGt as AttGt, att_gt as att_gt
from pythia_profile.did.crossover_design import crossover as crossover
from pythia_profile.did.diagnostics.alternatives import (
    AlternativeEstimate as AlternativeEstimate,
    event_study as event_study,
    naive_double_demeaned as naive_double_demeaned,
    twfe as twfe,
    two_by_two as two_by_two,
)
from pythia_profile.did.diagnostics.balance import (
    Balance as Balance,
    baseline_balance as baseline_balance,
    covariate_balance as covariate_balance,
)
from pythia_profile.did.diagnostics.leave_one_out import (
    LeaveOneOut as LeaveOneOut,
    leave_one_out as leave_one_out,
)
from pythia_profile.did.diagnostics.strata import by_stratum as by_stratum, difference as difference
from pythia_profile.did.estimation import effects as effects
from pythia_profile.did.inference.aggregates import (
    aggregate as aggregate,
    overall_of as overall_of,
)
from pythia_profile.did.inference.att_table import estimate as estimate
from pythia_profile.did.inference.bootstrap import (
    BootstrapSpec as BootstrapSpec,
    contrast_draws as contrast_draws,
)
from pythia_profile.did.inference.combined import Combined as Combined, combine as combine
from pythia_profile.did.inference.contrasts import Contrast as Contrast, contrast as contrast
from pythia_profile.did.inference.exact_times import (
    effect_at as effect_at,
    effects_by_own_step as effects_by_own_step,
    event_time_curve as event_time_curve,
    persistence as persistence,
)
from pythia_profile.did.inference.honest import (
    Sensitivity as Sensitivity,
    breakdowns as breakdowns,
    sensitivity as sensitivity,
)
from pythia_profile.did.inference.power import (
    Pilot as Pilot,
    Planned as Planned,
    best_split as best_split,
    design as design,
    pilot as pilot,
)
from pythia_profile.did.inference.pretrends import Placebo as Placebo, placebo as placebo
from pythia_profile.did.inference.random_timing import (
    RandomizationTest as RandomizationTest,
    efficient as efficient,
    randomization_test as randomization_test,
)
from pythia_profile.did.inference.simultaneous import (
    Bands as Bands,
    bands as bands,
    bands_of as bands_of,
)
from pythia_profile.did.panels import Panel as Panel, panel as panel
from pythia_profile.did.stored import from_arrays as from_arrays, to_arrays as to_arrays
from pythia_profile.did.precision import batch_icc as batch_icc, reliability as reliability
from pythia_profile.tables import NEVER as NEVER
