"""Causal effects of being read at a step, by difference-in-differences with staggered treatment.

    y (rows, checkpoints), cohorts ──► att_gt ──► bands, aggregate, placebo, sensitivity, …

Arrays in, frozen results out; this room reads no files and knows no model. Names are loaded when
they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pythia_profile.did.aggregates import aggregate
    from pythia_profile.did.att import AttGt, att_gt
    from pythia_profile.did.checks import Gap, batch_icc, level_gap, reliability, trait_gap
    from pythia_profile.did.contrasts import Contrast, contrast
    from pythia_profile.did.draws import Drawing, contrast_draws
    from pythia_profile.did.honest import Sensitivity, breakdowns, sensitivity
    from pythia_profile.did.leave_out import CheckpointCheck, checkpoint_check
    from pythia_profile.did.panels import Panel, panel
    from pythia_profile.did.power import Pilot, best_split, design, pilot
    from pythia_profile.did.pretrends import Placebo, placebo
    from pythia_profile.did.simultaneous import Bands, bands, bands_of
    from pythia_profile.did.strata import by_stratum, difference
    from pythia_profile.did.stream import stream_effects, stream_estimate
    from pythia_profile.did.table import effects, estimate
    from pythia_profile.did.witness import (
        Witness,
        event_study,
        naive_double_demeaned,
        twfe,
        two_by_two,
    )
    from pythia_profile.schema import NEVER

_HOME = {
    "NEVER": "pythia_profile.schema",
    "AttGt": "pythia_profile.did.att",
    "Bands": "pythia_profile.did.simultaneous",
    "CheckpointCheck": "pythia_profile.did.leave_out",
    "Contrast": "pythia_profile.did.contrasts",
    "Drawing": "pythia_profile.did.draws",
    "Gap": "pythia_profile.did.checks",
    "Panel": "pythia_profile.did.panels",
    "Pilot": "pythia_profile.did.power",
    "Placebo": "pythia_profile.did.pretrends",
    "Sensitivity": "pythia_profile.did.honest",
    "Witness": "pythia_profile.did.witness",
    "aggregate": "pythia_profile.did.aggregates",
    "att_gt": "pythia_profile.did.att",
    "bands": "pythia_profile.did.simultaneous",
    "bands_of": "pythia_profile.did.simultaneous",
    "batch_icc": "pythia_profile.did.checks",
    "best_split": "pythia_profile.did.power",
    "breakdowns": "pythia_profile.did.honest",
    "by_stratum": "pythia_profile.did.strata",
    "checkpoint_check": "pythia_profile.did.leave_out",
    "contrast": "pythia_profile.did.contrasts",
    "contrast_draws": "pythia_profile.did.draws",
    "design": "pythia_profile.did.power",
    "difference": "pythia_profile.did.strata",
    "effects": "pythia_profile.did.table",
    "estimate": "pythia_profile.did.table",
    "event_study": "pythia_profile.did.witness",
    "level_gap": "pythia_profile.did.checks",
    "naive_double_demeaned": "pythia_profile.did.witness",
    "panel": "pythia_profile.did.panels",
    "pilot": "pythia_profile.did.power",
    "placebo": "pythia_profile.did.pretrends",
    "reliability": "pythia_profile.did.checks",
    "sensitivity": "pythia_profile.did.honest",
    "stream_effects": "pythia_profile.did.stream",
    "stream_estimate": "pythia_profile.did.stream",
    "trait_gap": "pythia_profile.did.checks",
    "twfe": "pythia_profile.did.witness",
    "two_by_two": "pythia_profile.did.witness",
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
