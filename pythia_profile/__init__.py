"""Memorization profiles: what training on a batch does to a model's memory of it, and what remains.

    import pythia_profile as pp

    suite = pp.mini_suite(["xs", "s"])             # or pp.open_suite("a/folder/with/suite.toml")
    rows = pp.sample_rows(suite)                   # which rows, and the step that reads each
    scores = pp.score(suite, rows)                 # every row at every checkpoint
    effects = pp.estimate(rows, scores)            # ATT(g, c), bands, placebo tests
    pp.heatmap(effects.att)
    print(pp.check(rows, scores))                  # what the effects rest on

Every stage takes polars frames and gives polars frames. Names are loaded when they are first used,
so importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pythia_profile import did
    from pythia_profile.checkpoints.identity import audit
    from pythia_profile.errors import ProfileError
    from pythia_profile.figures.comparisons import agreement as plot_agreement
    from pythia_profile.figures.profiles import event_time, heatmap, instantaneous, residual
    from pythia_profile.mini.build import mini_suite
    from pythia_profile.pipeline.planning import plan_study
    from pythia_profile.pipeline.sampling import sample_rows
    from pythia_profile.pipeline.stages import run_all as run_study
    from pythia_profile.profiles.agreement import agreement
    from pythia_profile.profiles.diagnostics import check
    from pythia_profile.profiles.estimates import estimate_effects as estimate
    from pythia_profile.profiles.profile import profile
    from pythia_profile.profiles.study_power import power
    from pythia_profile.scoring.noise import noise_floor
    from pythia_profile.scoring.rows import score_checkpoint
    from pythia_profile.scoring.run import score
    from pythia_profile.scoring.surprisal import token_statistics
    from pythia_profile.study import Study, create_study, open_study
    from pythia_profile.suites.describe import describe_size, describe_suite
    from pythia_profile.suites.registry import known_suites, open_suite

__version__ = "0.1.0"

_HOME = {
    "ProfileError": "pythia_profile.errors",
    "Study": "pythia_profile.study",
    "agreement": "pythia_profile.profiles.agreement",
    "audit": "pythia_profile.checkpoints.identity",
    "check": "pythia_profile.profiles.diagnostics",
    "create_study": "pythia_profile.study",
    "describe_size": "pythia_profile.suites.describe",
    "describe_suite": "pythia_profile.suites.describe",
    "estimate": "pythia_profile.profiles.estimates:estimate_effects",
    "event_time": "pythia_profile.figures.profiles",
    "heatmap": "pythia_profile.figures.profiles",
    "instantaneous": "pythia_profile.figures.profiles",
    "known_suites": "pythia_profile.suites.registry",
    "mini_suite": "pythia_profile.mini.build",
    "noise_floor": "pythia_profile.scoring.noise",
    "open_study": "pythia_profile.study",
    "open_suite": "pythia_profile.suites.registry",
    "plan_study": "pythia_profile.pipeline.planning",
    "plot_agreement": "pythia_profile.figures.comparisons:agreement",
    "power": "pythia_profile.profiles.study_power",
    "profile": "pythia_profile.profiles.profile",
    "residual": "pythia_profile.figures.profiles",
    "run_study": "pythia_profile.pipeline.stages:run_all",
    "sample_rows": "pythia_profile.pipeline.sampling",
    "score": "pythia_profile.scoring.run",
    "score_checkpoint": "pythia_profile.scoring.rows",
    "token_statistics": "pythia_profile.scoring.surprisal",
}
"""Public name -> module that defines it, with the name it has there where that differs."""

__all__ = [
    "ProfileError",
    "Study",
    "__version__",
    "agreement",
    "audit",
    "check",
    "create_study",
    "describe_size",
    "describe_suite",
    "did",
    "estimate",
    "event_time",
    "heatmap",
    "instantaneous",
    "known_suites",
    "mini_suite",
    "noise_floor",
    "open_study",
    "open_suite",
    "plan_study",
    "plot_agreement",
    "power",
    "profile",
    "residual",
    "run_study",
    "sample_rows",
    "score",
    "score_checkpoint",
    "token_statistics",
]


def __getattr__(name: str) -> Any:
    if name == "did":
        return import_module("pythia_profile.did")
    if name in _HOME:
        module, _, original = _HOME[name].partition(":")
        return getattr(import_module(module), original or name)
    raise AttributeError(f"module 'pythia_profile' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
