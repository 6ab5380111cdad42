"""Figures of a study: each draws one table, and estimates nothing."""

from data_order.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
