"""Scoring: every sampled row under a checkpoint, as token statistics and row means.

Names are loaded when they are first used.
"""

from data_order.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
