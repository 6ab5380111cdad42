"""Causal effects of being read at a step, by difference-in-differences with staggered treatment.

    y (rows, checkpoints), cohorts ──► att_gt ──► bands, aggregate, placebo, sensitivity, …

Arrays in, frozen results out; this room reads no files and knows no model. Names are loaded when
they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pythia_profile.did.att import AttGt, att_gt
    from pythia_profile.did.diagnostics.alternatives import (
        Witness,
        event_study,
        naive_double_demeaned,
        twfe,
        two_by_two,
    )
    from pythia_profile.did.diagnostics.balance import (
        Gap,
        batch_icc,
        level_gap,
        reliability,
        trait_gap,
    )
    from pythia_profile.did.diagnostics.leave_one_out import CheckpointCheck, checkpoint_check
    from pythia_profile.did.diagnostics.strata import by_stratum, difference
    from pythia_profile.did.estimation import effects, estimate
    from pythia_profile.did.inference.aggregates import aggregate
    from pythia_profile.did.inference.bootstrap import Drawing, contrast_draws
    from pythia_profile.did.inference.contrasts import Contrast, contrast
    from pythia_profile.did.inference.honest import Sensitivity, breakdowns, sensitivity
    from pythia_profile.did.inference.power import Pilot, best_split, design, pilot
    from pythia_profile.did.inference.pretrends import Placebo, placebo
    from pythia_profile.did.inference.simultaneous import Bands, bands, bands_of
    from pythia_profile.did.panels import Panel, panel
    from pythia_profile.did.stream import stream_effects, stream_estimate
    from pythia_profile.tables import NEVER

_HOME = {
    "NEVER": "pythia_profile.tables",
    "AttGt": "pythia_profile.did.att",
    "Bands": "pythia_profile.did.inference.simultaneous",
    "CheckpointCheck": "pythia_profile.did.diagnostics.leave_one_out",
    "Contrast": "pythia_profile.did.inference.contrasts",
    "Drawing": "pythia_profile.did.inference.bootstrap",
    "Gap": "pythia_profile.did.diagnostics.balance",
    "Panel": "pythia_profile.did.panels",
    "Pilot": "pythia_profile.did.inference.power",
    "Placebo": "pythia_profile.did.inference.pretrends",
    "Sensitivity": "pythia_profile.did.inference.honest",
    "Witness": "pythia_profile.did.diagnostics.alternatives",
    "aggregate": "pythia_profile.did.inference.aggregates",
    "att_gt": "pythia_profile.did.att",
    "bands": "pythia_profile.did.inference.simultaneous",
    "bands_of": "pythia_profile.did.inference.simultaneous",
    "batch_icc": "pythia_profile.did.diagnostics.balance",
    "best_split": "pythia_profile.did.inference.power",
    "breakdowns": "pythia_profile.did.inference.honest",
    "by_stratum": "pythia_profile.did.diagnostics.strata",
    "checkpoint_check": "pythia_profile.did.diagnostics.leave_one_out",
    "contrast": "pythia_profile.did.inference.contrasts",
    "contrast_draws": "pythia_profile.did.inference.bootstrap",
    "design": "pythia_profile.did.inference.power",
    "difference": "pythia_profile.did.diagnostics.strata",
    "effects": "pythia_profile.did.estimation",
    "estimate": "pythia_profile.did.estimation",
    "event_study": "pythia_profile.did.diagnostics.alternatives",
    "level_gap": "pythia_profile.did.diagnostics.balance",
    "naive_double_demeaned": "pythia_profile.did.diagnostics.alternatives",
    "panel": "pythia_profile.did.panels",
    "pilot": "pythia_profile.did.inference.power",
    "placebo": "pythia_profile.did.inference.pretrends",
    "reliability": "pythia_profile.did.diagnostics.balance",
    "sensitivity": "pythia_profile.did.inference.honest",
    "stream_effects": "pythia_profile.did.stream",
    "stream_estimate": "pythia_profile.did.stream",
    "trait_gap": "pythia_profile.did.diagnostics.balance",
    "twfe": "pythia_profile.did.diagnostics.alternatives",
    "two_by_two": "pythia_profile.did.diagnostics.alternatives",
}

__all__ = [
    "NEVER",
    "AttGt",
    "Bands",
    "CheckpointCheck",
    "Contrast",
    "Drawing",
    "Gap",
    "Panel",
    "Pilot",
    "Placebo",
    "Sensitivity",
    "Witness",
    "aggregate",
    "att_gt",
    "bands",
    "bands_of",
    "batch_icc",
    "best_split",
    "breakdowns",
    "by_stratum",
    "checkpoint_check",
    "contrast",
    "contrast_draws",
    "design",
    "difference",
    "effects",
    "estimate",
    "event_study",
    "level_gap",
    "naive_double_demeaned",
    "panel",
    "pilot",
    "placebo",
    "reliability",
    "sensitivity",
    "stream_effects",
    "stream_estimate",
    "trait_gap",
    "twfe",
    "two_by_two",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pythia_profile.did' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
