"""Memorization profiles: what training on a batch does to a model's memory of it, and what remains.

    import pythia_profile as pp

    suite = pp.mini_suite(["xs", "s"])             # or pp.open_suite("a/folder/with/suite.toml")
    rows = pp.sample_rows(suite)                   # which rows, and the step that reads each
    scores = pp.score(suite, rows)                 # every row at every checkpoint
    effects = pp.estimate(rows, scores)            # ATT(g, c), bands, placebo tests
    pp.plot_heatmap(effects.att)
    print(pp.check(rows, scores))                  # what the effects rest on

Every stage takes polars frames and gives polars frames. Names are loaded when they are first used,
so importing the package costs next to nothing.
"""

from data_order.lazy import attach

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach(__name__, __file__)
