"""How to describe and cite a study: a paragraph of methods, and BibTeX of every method it used.

In: settings, lock file and tables. Out: plain text to copy.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import polars as pl

from pythia_profile import __version__
from pythia_profile.figures.style import name_outcome
from pythia_profile.report.provenance import clustered_by
from pythia_profile.study import Study

__all__ = ["bibtex", "methods"]

_ESTIMATORS = {
    "did": "difference-in-differences: the change of read rows since the last checkpoint before "
    "them, minus that of control rows",
    "diff": "the plain difference between read rows and control rows at each checkpoint",
    "ancova": "analysis of covariance: the change of read rows since the last checkpoint before "
    "them, minus that of control rows with the same outcome there",
}
_CONTROLS = {
    "never": "rows that are never read",
    "not_yet": "rows that are read later",
    "both": "rows that are never read or are read later",
}


def methods(study: Study, lock: Mapping[str, Any], tables: Mapping[str, pl.DataFrame]) -> str:
    """Describe the study in a paragraph, with the keys of `bibtex` in brackets."""
    notes = lock.get("notes", {}).get("att", [])
    chosen, suite = study.estimate, lock.get("suite", {})
    outcomes = ", ".join(name_outcome(name) for name in study.outcomes)
    version = lock.get("versions", {}).get("pythia-profile", "")
    title = f" ({suite['title']})" if suite.get("title") else ""
    sentences = [
        f"We estimated what reading a training row does to its {outcomes} in the suite "
        f"{study.suite}{title}, sizes {', '.join(study.sizes)}, by {_ESTIMATORS[chosen.estimator]} "
        "[lesci2024causal; callaway2021difference].",
        f"Controls are {_CONTROLS[chosen.control]}; up to {study.sample.rows_per_cohort:,} rows of "
        f"each cohort and {study.sample.never_treated:,} never-treated rows were scored.",
        f"Standard errors are clustered by {clustered_by(study, notes)} and count shared controls; "
        f"{100 * chosen.level:g} % bands are simultaneous, by {chosen.draws:,} draws of a "
        "multiplier bootstrap [callaway2021difference].",
        *_more(study, tables),
        f"Computed with pythia-profile {version}".rstrip() + " [pythia_profile].",
    ]
    return " ".join(sentences)


def _more(study: Study, tables: Mapping[str, pl.DataFrame]) -> Iterator[str]:
    if study.estimate.covariates:
        yield (
            f"Covariates ({', '.join(study.estimate.covariates)}) are held equal "
            "[santanna2020doubly]."
        )
    if _has(tables, "placebo"):
        yield (
            "Tests before treatment are corrected by Holm's method [holm1979simple]; bounds under "
            "trends that are not parallel follow [rambachan2023credible]."
            if _has(tables, "sensitivity")
            else "Tests before treatment are corrected by Holm's method [holm1979simple]."
        )
    if _has(tables, "agreement"):
        yield "Correlations between sizes are corrected for attenuation [spearman1904proof]."
    if _has(tables, "counterfactual_summary"):
        yield "Estimates were compared with true effects from retraining without single cohorts."


def bibtex(study: Study | None = None, tables: Mapping[str, pl.DataFrame] | None = None) -> str:
    """Entries of this package, of every method that a study used, and of its suite; no others.

    Parameters
    ----------
    study, tables : the study; without one, what every study uses.
    """
    every, used = _entries(), [*_ALWAYS]
    if study is not None:
        used += ["santanna2020doubly"] if study.estimate.covariates else []
        used += [key for name, keys in _METHODS.items() if _has(tables or {}, name) for key in keys]
        used += [key for suite, key in _SUITES.items() if study.suite.startswith(suite)]
    return "\n\n".join(every[key] for key in used)


def _entries() -> dict[str, str]:
    """Read the entries of `references.bib`, by key."""
    text = files("pythia_profile.report").joinpath("references.bib").read_text(encoding="utf-8")
    listed = text.replace("VERSION", __version__).strip().split("\n\n")
    return {entry.partition("{")[2].partition(",")[0]: entry for entry in listed}


_ALWAYS = ("pythia_profile", "lesci2024causal", "callaway2021difference")
_METHODS = {
    "placebo": ("holm1979simple",),
    "sensitivity": ("rambachan2023credible",),
    "alternatives": ("goodmanbacon2021difference", "driscoll1998consistent"),
    "agreement": ("spearman1904proof",),
    "estimands": ("roth2023efficient",),
}
"""Table -> sources of the methods by which it is made."""
_SUITES = {
    "pythia": "biderman2023pythia",
    "polypythias": "vanderwal2025polypythias",
    "olmo-": "groeneveld2024olmo",
}
"""How names of suites begin -> their sources."""


def _has(tables: Mapping[str, pl.DataFrame], name: str) -> bool:
    return name in tables and not tables[name].is_empty()
