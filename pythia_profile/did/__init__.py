"""Causal effects of being read at a step, by difference-in-differences with staggered treatment.

    y (rows, checkpoints), cohorts ──► att_gt ──► bands, aggregate, placebo, sensitivity, …

Arrays in, frozen results out; this room reads no files and knows no model. Names are loaded when
they are first used.
"""

from data_order.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
