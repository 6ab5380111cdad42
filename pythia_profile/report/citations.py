"""How to describe and cite a study: a paragraph of methods, and BibTeX of every method it used.

In: settings, lock file and tables. Out: plain text to copy.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

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
        f"Computed with pythia-profile {version}".rstrip() + ".",
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


def bibtex(study: Study, tables: Mapping[str, pl.DataFrame]) -> str:
    """Entries of every method that the study used, of the suite, and no others."""
    used = ["lesci2024causal", "callaway2021difference"]
    if study.estimate.covariates:
        used.append("santanna2020doubly")
    names = {
        "placebo": ["holm1979simple"],
        "sensitivity": ["rambachan2023credible"],
        "alternatives": ["goodmanbacon2021difference", "driscoll1998consistent"],
        "agreement": ["spearman1904proof"],
        "estimands": ["roth2023efficient"],
    }
    used += [key for table, keys in names.items() if _has(tables, table) for key in keys]
    used += [key for suite, key in _SUITES.items() if study.suite.startswith(suite)]
    return "\n\n".join(f"@{_ENTRIES[key].strip()}" for key in used)


def _has(tables: Mapping[str, pl.DataFrame], name: str) -> bool:
    return name in tables and not tables[name].is_empty()


_SUITES = {"pythia": "biderman2023pythia", "olmo": "groeneveld2024olmo"}
_ENTRIES = {
    "lesci2024causal": """
inproceedings{lesci2024causal,
  title = {Causal Estimation of Memorisation Profiles},
  author = {Lesci, Pietro and Meister, Clara and Hofmann, Thomas and Vlachos, Andreas and
    Pimentel, Tiago},
  booktitle = {Proceedings of the 62nd Annual Meeting of the Association for Computational
    Linguistics (Volume 1: Long Papers)},
  year = {2024},
}""",
    "callaway2021difference": """
article{callaway2021difference,
  title = {Difference-in-Differences with Multiple Time Periods},
  author = {Callaway, Brantly and Sant'Anna, Pedro H. C.},
  journal = {Journal of Econometrics},
  volume = {225},
  number = {2},
  pages = {200--230},
  year = {2021},
}""",
    "santanna2020doubly": """
article{santanna2020doubly,
  title = {Doubly Robust Difference-in-Differences Estimators},
  author = {Sant'Anna, Pedro H. C. and Zhao, Jun},
  journal = {Journal of Econometrics},
  volume = {219},
  number = {1},
  pages = {101--122},
  year = {2020},
}""",
    "holm1979simple": """
article{holm1979simple,
  title = {A Simple Sequentially Rejective Multiple Test Procedure},
  author = {Holm, Sture},
  journal = {Scandinavian Journal of Statistics},
  volume = {6},
  number = {2},
  pages = {65--70},
  year = {1979},
}""",
    "rambachan2023credible": """
article{rambachan2023credible,
  title = {A More Credible Approach to Parallel Trends},
  author = {Rambachan, Ashesh and Roth, Jonathan},
  journal = {Review of Economic Studies},
  volume = {90},
  number = {5},
  pages = {2555--2591},
  year = {2023},
}""",
    "goodmanbacon2021difference": """
article{goodmanbacon2021difference,
  title = {Difference-in-Differences with Variation in Treatment Timing},
  author = {Goodman-Bacon, Andrew},
  journal = {Journal of Econometrics},
  volume = {225},
  number = {2},
  pages = {254--277},
  year = {2021},
}""",
    "driscoll1998consistent": """
article{driscoll1998consistent,
  title = {Consistent Covariance Matrix Estimation with Spatially Dependent Panel Data},
  author = {Driscoll, John C. and Kraay, Aart C.},
  journal = {Review of Economics and Statistics},
  volume = {80},
  number = {4},
  pages = {549--560},
  year = {1998},
}""",
    "spearman1904proof": """
article{spearman1904proof,
  title = {The Proof and Measurement of Association between Two Things},
  author = {Spearman, Charles},
  journal = {The American Journal of Psychology},
  volume = {15},
  number = {1},
  pages = {72--101},
  year = {1904},
}""",
    "roth2023efficient": """
article{roth2023efficient,
  title = {Efficient Estimation for Staggered Rollout Designs},
  author = {Roth, Jonathan and Sant'Anna, Pedro H. C.},
  journal = {Journal of Political Economy Microeconomics},
  volume = {1},
  number = {4},
  pages = {669--709},
  year = {2023},
}""",
    "biderman2023pythia": """
inproceedings{biderman2023pythia,
  title = {Pythia: A Suite for Analyzing Large Language Models Across Training and Scaling},
  author = {Biderman, Stella and Schoelkopf, Hailey and Anthony, Quentin Gregory and Bradley,
    Herbie and O'Brien, Kyle and Hallahan, Eric and Khan, Mohammad Aflah and Purohit, Shivanshu
    and Prashanth, USVSN Sai and Raff, Edward and Skowron, Aviya and Sutawika, Lintang and van
    der Wal, Oskar},
  booktitle = {Proceedings of the 40th International Conference on Machine Learning},
  pages = {2397--2430},
  year = {2023},
}""",
    "groeneveld2024olmo": """
inproceedings{groeneveld2024olmo,
  title = {{OLMo}: Accelerating the Science of Language Models},
  author = {Groeneveld, Dirk and Beltagy, Iz and Walsh, Evan and others},
  booktitle = {Proceedings of the 62nd Annual Meeting of the Association for Computational
    Linguistics (Volume 1: Long Papers)},
  year = {2024},
}""",
}
"""BibTeX by key."""
