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
    from pythia_profile.did.contrasts import Contrast, contrast
    from pythia_profile.did.panels import Panel, panel
    from pythia_profile.did.pretrends import Placebo, placebo
    from pythia_profile.did.simultaneous import Bands, bands
    from pythia_profile.did.table import effects, estimate
    from pythia_profile.schema import NEVER

_HOME = {
    "AttGt": "pythia_profile.did.att",
    "Bands": "pythia_profile.did.simultaneous",
    "Contrast": "pythia_profile.did.contrasts",
    "NEVER": "pythia_profile.schema",
    "Panel": "pythia_profile.did.panels",
    "Placebo": "pythia_profile.did.pretrends",
    "aggregate": "pythia_profile.did.aggregates",
    "att_gt": "pythia_profile.did.att",
    "bands": "pythia_profile.did.simultaneous",
    "contrast": "pythia_profile.did.contrasts",
    "effects": "pythia_profile.did.table",
    "estimate": "pythia_profile.did.table",
    "panel": "pythia_profile.did.panels",
    "placebo": "pythia_profile.did.pretrends",
}

__all__ = [
    "NEVER",
    "AttGt",
    "Bands",
    "Contrast",
    "Panel",
    "Placebo",
    "aggregate",
    "att_gt",
    "bands",
    "contrast",
    "effects",
    "estimate",
    "panel",
    "placebo",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'pythia_profile.did' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
